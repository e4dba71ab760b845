"""Idle ranges sleep: no heartbeats, no lease; who needs one wakes it, and a leader that is gone is found out (L3)."""

from __future__ import annotations

import pytest

from tests.cluster.leaseworld import LeaseWorld
from txndb.ids import RangeId
from txndb.sim.run import Request, run_seed


@pytest.fixture(autouse=True)
def sleep_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sooner than the simulated nodes' garbage collection comes round."""
    monkeypatch.setattr("txndb.ranges.replica.QUIESCE_TICKS", 6)


def asleep(world: LeaseWorld, number: int) -> list[bool]:
    return [slot.replica.raft.quiesced for slot in world.node(number).store.slots.values()]


def leader_of_range_1(world: LeaseWorld) -> int:
    return next(n for n in (1, 2, 3) if any(r.range_id == 1 for r in world.node(n).store.leaders()))


def idle_world() -> LeaseWorld:
    world = LeaseWorld()
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    for _ in range(600):  # the catalogue lease is let go of first
        if all(all(asleep(world, n)) for n in (1, 2, 3)):
            return world
        world.wait(0.1)
    raise AssertionError("the cluster does not come to rest")


def test_l3_a_sleeping_range_has_no_lease_before_a_new_quorum_round() -> None:
    world = idle_world()
    leader = leader_of_range_1(world)
    raft = world.node(leader).store.slots[RangeId(1)].replica.raft
    assert raft.lease_until_us == 0
    world.isolate(leader)  # without a round it must not answer, however it is asked
    replica = world.node(leader).store.slots[RangeId(1)].replica
    assert not replica.lease_valid()
    assert raft.lease_until_us == 0
    world.rejoin(leader)
    assert world.at(leader, "SELECT v FROM t") == [(1,)]


def test_an_idle_cluster_sleeps_and_a_statement_wakes_it() -> None:
    world = idle_world()
    assert world.at(2, "SELECT v FROM t") == [(1,)]
    assert not all(asleep(world, leader_of_range_1(world)))


def test_a_leader_killed_in_its_sleep_is_replaced() -> None:
    world = idle_world()
    leader = leader_of_range_1(world)
    other = 1 + leader % 3
    world.hosts[leader - 1].kill()
    assert world.at(other, "INSERT INTO t VALUES (2, 2) RETURNING v") == [(2,)]


def test_a_leader_killed_in_its_sleep_is_replaced_although_nobody_asks() -> None:
    """Its peers sleep as well: who loses the connection to it wakes them."""
    world = idle_world()
    leader = leader_of_range_1(world)
    world.hosts[leader - 1].kill()
    world.wait(5)
    others = [n for n in (1, 2, 3) if n != leader]
    assert any(r.range_id == 1 for n in others for r in world.node(n).store.leaders())


def test_a_leader_cut_off_in_its_sleep_is_replaced() -> None:
    world = idle_world()
    leader = leader_of_range_1(world)
    other = 1 + leader % 3
    world.isolate(leader)
    assert world.at(other, "INSERT INTO t VALUES (2, 2) RETURNING v") == [(2,)]


@pytest.mark.parametrize("seed", [3, 7, 12])
def test_sleep_at_every_chance(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr("txndb.ranges.replica.QUIESCE_TICKS", 1)
    report, _ = run_seed(Request(seconds=4), seed)
    assert report.ok, report.violation
