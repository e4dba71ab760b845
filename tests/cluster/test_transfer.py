"""Lease transfers (L4): locks go along under their tokens, and only by a transfer, only for one term."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cluster.leaseworld import NODES, LeaseWorld
from txndb.errors import RetryError
from txndb.ids import NodeId
from txndb.ranges import api
from txndb.ranges.replica import Replica


@pytest.fixture
def world() -> Iterator[LeaseWorld]:
    made = LeaseWorld()
    made.at(1, "CREATE TABLE t (k INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 10), (2, 20)")
    made.wait(1.0)
    yield made
    made.loop.bury()
    made.loop.close()


def _leader(world: LeaseWorld) -> tuple[int, Replica]:
    for number in range(1, NODES + 1):
        if world.hosts[number - 1].alive:
            for replica in world.node(number).store.leaders():
                if replica.leaseholder is not None and replica.leaseholder.serving:
                    return number, replica
    raise AssertionError("nobody leads")


def _in_process(world: LeaseWorld, number: int, work: Callable[[], object]) -> None:
    incarnation = world.hosts[number - 1].incarnation
    assert incarnation is not None
    incarnation.call_soon(work)


def _transfer(world: LeaseWorld) -> tuple[int, int]:
    """Move the lease of the only range to the next node; both nodes' numbers."""
    number, replica = _leader(world)
    assert replica.state is not None
    target = number % NODES + 1
    request = api.TransferLease(replica.state.descriptor.start, NodeId(target))
    _in_process(world, number, lambda: replica.handle(request, None))
    world.wait(0.3)
    assert _leader(world)[0] == target
    return number, target


def test_a_transaction_goes_on_over_a_transfer(world: LeaseWorld) -> None:
    user, other = world.connect(1), world.connect(2)
    world.execute(user, "BEGIN", "UPDATE t SET v = v + 1 WHERE k = 1", "SELECT v FROM t WHERE k = 2")
    _transfer(world)
    waiting = world.start(other.execute("UPDATE t SET v = v + 100 WHERE k = 1"))
    world.wait(0.3)
    assert not waiting.done(), "the row is still locked"
    _transfer(world)
    world.execute(user, "UPDATE t SET v = v + 1 WHERE k = 2", "COMMIT")
    world.finish(waiting)
    assert world.at(3, "SELECT v FROM t ORDER BY k") == [(111,), (21,)]


def test_locks_die_with_a_leader_that_did_not_hand_over(world: LeaseWorld) -> None:
    number, _ = _leader(world)
    user = world.connect(number % NODES + 1)
    world.execute(user, "BEGIN", "UPDATE t SET v = v + 1 WHERE k = 1")
    world.hosts[number - 1].kill()
    with pytest.raises(RetryError):
        world.execute(user, "COMMIT")


def test_a_handover_is_of_no_use_in_a_later_term(world: LeaseWorld) -> None:
    number, replica = _leader(world)
    assert replica.leaseholder is not None
    user = world.connect(number % NODES + 1)
    world.execute(user, "BEGIN", "UPDATE t SET v = v + 1 WHERE k = 1")
    target = number % NODES + 1
    heir = world.node(target).store.slots[replica.range_id].replica
    seen: list[int] = []
    step = heir.step

    def late(message: object) -> None:
        """TimeoutNow is heard, but the hand-over is one for the term before."""
        step(message)  # type: ignore[arg-type]
        if heir.handover is not None:
            seen.append(heir.handover.term)
            heir.handover.term -= 1  # of a term that is over

    heir.step = late  # type: ignore[method-assign]
    _transfer(world)
    assert seen
    with pytest.raises(RetryError):
        world.execute(user, "COMMIT")
