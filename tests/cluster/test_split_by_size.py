"""A range that has outgrown its size is split where about half of its bytes are; nothing is lost by it."""

from __future__ import annotations

import pytest

from tests.cluster.leaseworld import LeaseWorld
from txndb.encoding.keys import KEY_MAX, META, META_END
from txndb.errors import SqlError
from txndb.txn.routing import meta_key


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


def test_the_index_of_ranges_is_never_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Range 1 is where everybody looks for it: a node that knows no other range could not find the second half."""
    world = LeaseWorld()
    node, process = world.node(1), world.hosts[0].incarnation
    assert process is not None
    for cut in (META, meta_key(KEY_MAX)):
        with pytest.raises(SqlError, match="the index of ranges must stay in one range"):
            world.finish(process.spawn(node.upkeep.split(cut)))
    monkeypatch.setattr("txndb.cluster.upkeep.RANGE_BYTES_SPLIT", 1)
    monkeypatch.setattr(node.upkeep, "_middle", lambda start, end: META)
    (first,) = [slot.replica for slot in node.store.slots.values() if slot.replica.range_id == 1]
    world.finish(process.spawn(node.upkeep._maybe_split(first)))
    world.wait(1.0)
    assert first.state is not None and first.state.descriptor.end == META_END
