"""A node that was away for longer than the others keep log entries or versions, and comes back."""

from __future__ import annotations

import pytest

from tests.cluster.leaseworld import LeaseWorld
from txndb.cluster.options import RaftOptions
from txndb.ids import RangeId

KEPT_S = 10
"""Longer than the simulated nodes keep versions."""


@pytest.fixture
def world() -> LeaseWorld:
    world = LeaseWorld()
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    return world


def leader_of_range_1(world: LeaseWorld) -> int:
    return next(n for n in (1, 2, 3) if any(r.range_id == 1 for r in world.node(n).store.leaders()))


def follower(world: LeaseWorld) -> int:
    return 1 + leader_of_range_1(world) % 3


def applied(world: LeaseWorld, number: int) -> int:
    state = world.node(number).store.slots[RangeId(1)].replica.state
    return state.applied_index if state is not None else 0


def test_a_start_that_waits_longer_than_versions_are_kept_serves_in_the_end(world: LeaseWorld) -> None:
    """It asks for a lease, not for the rows of when it began to wait."""
    away = follower(world)
    host = world.hosts[away - 1]
    host.kill()
    world.isolate(away)
    host.start()
    world.wait(KEPT_S)
    assert not host.ready
    world.rejoin(away)
    for _ in range(100):
        if not host.ready:
            world.wait(0.1)
    assert world.at(away, "SELECT v FROM t") == [(1,)]


def test_a_look_at_the_catalogue_that_waits_so_long_is_made_anew(world: LeaseWorld) -> None:
    """The last step of a start: does the cluster have its first rows?"""
    away = follower(world)
    world.isolate(away)
    look = world.start(world.node(away).sql.start())
    world.wait(KEPT_S)
    assert not look.done()
    world.rejoin(away)
    world.finish(look)


def fall_behind(world: LeaseWorld, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """(leader, follower) of range 1; the follower is cut off and will need a snapshot."""
    leader, away = leader_of_range_1(world), follower(world)
    monkeypatch.setattr(world.node(leader).store, "_raft_options", RaftOptions(keep_entries=0))
    world.isolate(away)
    writer = world.connect(leader)
    for k in range(300):
        world.execute(writer, f"INSERT INTO t VALUES ({k + 2}, 0)")
    log = world.node(leader).store.slots[RangeId(1)].log
    for _ in range(200):
        if log.first_index() > applied(world, away):
            break
        world.wait(0.1)
    assert log.first_index() > applied(world, away) + 1
    return leader, away


@pytest.mark.parametrize("answer_only", [False, True], ids=["stream", "answer"])
def test_a_peer_whose_snapshot_or_its_answer_is_lost_is_served_again_at_once(
    world: LeaseWorld, monkeypatch: pytest.MonkeyPatch, answer_only: bool
) -> None:
    """Raft sends a peer nothing else while a snapshot is under way: that it is lost must be said."""
    leader, away = fall_behind(world, monkeypatch)
    writer = world.connect(leader)
    world.rejoin(away)
    under_way = world.node(leader).snapshots.under_way
    for _ in range(50_000):
        if under_way:
            break
        world.loop.run_until_us(world.loop.now_us + 100)
    assert under_way
    if answer_only:
        world.network.block([(away, leader)])
    else:
        world.isolate(away)
    for _ in range(100):
        if away not in world.node(leader).live_peers:
            break
        world.wait(0.1)
    assert away not in world.node(leader).live_peers
    world.rejoin(away)
    world.execute(writer, "INSERT INTO t VALUES (1000, 0)")
    wanted = applied(world, leader)
    world.wait(5)
    assert applied(world, away) >= wanted
