"""An old entry that cannot be read ends the node at once: it is needed in the middle of a step (rules P1, P6)."""

from __future__ import annotations

import pytest

from tests.cluster.leaseworld import LeaseWorld
from txndb.errors import CorruptionError, StoreError
from txndb.ids import RangeId
from txndb.sim import rot
from txndb.sim.loop import ProcessEnded


@pytest.mark.parametrize("fault", ["rot", "read"])
def test_p6_a_leader_that_cannot_read_an_old_entry_stops(fault: str) -> None:
    """As when a follower that was away asks for what the leader has on disk only."""
    world = LeaseWorld()
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY)", "INSERT INTO t VALUES (1), (2), (3)")
    world.restart(2)  # what it holds from before is on its disk only
    world.wait(1.0)
    host = world.hosts[1]
    errors: list[BaseException] = []
    host.on_fatal = lambda host, error: errors.append(error)
    if fault == "read":
        host.disk.fail_next("read")
    else:
        known = rot.attested(host.disk)
        assert known is not None
        for name, start, end in known.spans:
            host.disk.rot(name, start, end - start)
    log = world.node(2).store.slots[RangeId(1)].log
    with pytest.raises(ProcessEnded):
        log.entries(log.first_index(), log.first_index() + 1)
    assert not host.alive
    assert isinstance(errors[0], StoreError if fault == "read" else CorruptionError)
