"""Finding ranges when what a node remembers of them is out of date."""

from __future__ import annotations

from tests.cluster.leaseworld import LeaseWorld
from txndb.encoding.keys import KEY_MAX, KEY_MIN
from txndb.ids import NodeId, RangeId
from txndb.ranges.descriptor import RangeDescriptor, make_replica_id
from txndb.txn.routing import RangeCache


def test_a_node_that_knows_only_a_lost_replica_of_range_1_asks_the_others() -> None:
    """It joined when node 1 held range 1 alone, heard of no change since, and node 1 is gone for good."""
    world = LeaseWorld()
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    world.hosts[0].kill()
    node = world.node(3)
    node.cache = node.sender.cache = RangeCache()
    first = make_replica_id(NodeId(1), 1)
    node.cache.insert(RangeDescriptor(RangeId(1), KEY_MIN, KEY_MAX, (first,), 1, 2))
    assert world.at(3, "SELECT k FROM t FOR UPDATE") == [(1,)]
