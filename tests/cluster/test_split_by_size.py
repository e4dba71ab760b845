"""A range that has outgrown its size is split where about half of its bytes are; nothing is lost by it."""

from __future__ import annotations

import pytest

from tests.cluster.leaseworld import LeaseWorld


def test_a_range_that_grows_is_split_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txndb.cluster.upkeep.RANGE_BYTES_SPLIT", 40_000)
    world = LeaseWorld()
    connection = world.connect(1)
    world.execute(connection, "CREATE TABLE t (k int PRIMARY KEY, v text)")
    for first in range(0, 400, 50):
        values = ", ".join(f"({k}, repeat('x', 300))" for k in range(first, first + 50))
        world.execute(connection, f"INSERT INTO t VALUES {values}")
    for _ in range(100):
        ranges = world.execute(connection, "SHOW RANGES FROM TABLE t")
        if len(ranges) >= 3:
            break
        world.wait(0.2)
    assert len(ranges) >= 3, ranges
    expected = [(400, sum(range(400)), 400 * 300)]
    for number in (1, 2, 3):
        assert world.at(number, "SELECT count(*), sum(k), sum(length(v)) FROM t") == expected
