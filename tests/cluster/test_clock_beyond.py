"""A node whose clock cannot be bounded any more stops serving: as a leaseholder, and as a gateway (rule T1)."""

from __future__ import annotations

import pytest

from tests.cluster.leaseworld import LeaseWorld
from txndb.errors import TxndbError


@pytest.mark.parametrize(
    "read", ["SELECT v FROM t ORDER BY k", "SELECT v FROM t WHERE k = 1", "BEGIN READ ONLY"]
)
def test_t1_a_gateway_with_an_unbounded_clock_makes_no_snapshots(read: str) -> None:
    """Its clock is three seconds slow and it knows: a snapshot at its time would miss what was committed since."""
    world = LeaseWorld()
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1), (2, 1)")
    world.at(1, "ALTER TABLE t SPLIT AT VALUES (2)")
    world.at(3, "SELECT v FROM t")
    world.wait(2.0)
    world.hosts[2].clock.lose_bound(10_000_000)
    world.hosts[2].clock.jump(-3_000_000)
    world.at(1, "UPDATE t SET v = 2")
    try:
        seen = world.at(3, *([read, "SELECT v FROM t ORDER BY k"] if read.startswith("BEGIN") else [read]))
    except TxndbError as error:
        assert error.code == "57P03"
    else:
        assert set(seen) == {(2,)}
