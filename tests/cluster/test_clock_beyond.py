"""A node whose clock cannot be bounded any more stops serving: as leaseholder, gateway and collector (rule T1)."""

from __future__ import annotations

import pytest

from tests.cluster.leaseworld import LeaseWorld
from txndb.errors import TxndbError
from txndb.ids import physical_us
from txndb.sim.clocks import EPOCH_US


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


def _thresholds(world: LeaseWorld) -> list[int]:
    slots = [slot for n in (1, 2, 3) for slot in world.node(n).store.slots.values()]
    return [physical_us(s.replica.state.gc_threshold) for s in slots if s.replica.state is not None]


def test_t1_a_leader_with_an_unbounded_clock_collects_nothing() -> None:
    """Its clock is far ahead and it knows: what it took for garbage would be the present."""
    world = LeaseWorld()
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY)")
    for host in world.hosts:
        host.clock.lose_bound(20_000_000)
        host.clock.jump(10_000_000)
    world.wait(3.0)
    now_us = EPOCH_US + world.loop.now_us
    assert max(_thresholds(world)) < now_us


def test_a_node_whose_clock_is_behind_the_collected_past_starts_when_it_can() -> None:
    """Clocks were ahead, nobody knew, and versions were collected; now they are right. Reading again at once, for ever,
    would keep the process from everything else."""
    world = LeaseWorld()
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY)")
    for host in world.hosts:
        host.clock.jump(10_000_000)
    world.wait(3.0)
    assert max(_thresholds(world)) > EPOCH_US + world.loop.now_us + 2_000_000
    for host in world.hosts:
        host.clock.jump(0)
    before_us = world.loop.now_us
    world.restart(2)
    assert world.loop.now_us - before_us > 2_000_000


def test_a_joiner_whose_clock_finds_its_servers_meanwhile_is_admitted() -> None:
    """Its predecessor there is gone, so E cannot be raised for it; once its error is small, it need not be."""
    world = LeaseWorld()
    host = world.hosts[2]
    host.power_off()
    host.wipe()
    host.clock.lose_bound(400_000)
    host.start()
    world.wait(3.0)
    assert not host.ready
    host.clock.lose_bound(0)
    world.wait(3.0)
    assert host.ready
    assert world.node(3).node == 4


def test_t1_a_leader_whose_clock_cannot_be_bounded_lets_others_lead() -> None:
    world = LeaseWorld()
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    first = next(n for n in (1, 2, 3) if any(r.range_id == 1 for r in world.node(n).store.leaders()))
    world.hosts[first - 1].clock.lose_bound(50_000_000)
    other = 1 + first % 3
    assert world.at(other, "INSERT INTO t VALUES (2) RETURNING k") == [(2,)]
    world.wait(3.0)
    assert not list(world.node(first).store.leaders())
    with pytest.raises(TxndbError):
        world.at(first, "SELECT k FROM t")
    world.hosts[first - 1].clock.lose_bound(0)
    assert world.at(first, "SELECT k FROM t ORDER BY k") == [(1,), (2,)]


@pytest.mark.parametrize("jump_us", [-300_000, 300_000])
def test_t1_a_clock_that_is_wrong_and_does_not_know_is_found_by_the_others(jump_us: int) -> None:
    """Each node has a host of its own, so E is ten milliseconds."""
    world = LeaseWorld(seed=3)
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    assert world.node(2).clock.error_bound_us == 10_000
    world.hosts[1].clock.jump(jump_us)
    world.wait(4.0)
    assert [world.node(n).clock.within_bound() for n in (1, 2, 3)] == [True, False, True]
    with pytest.raises(TxndbError):
        world.at(2, "SELECT k FROM t")
    assert world.at(3, "SELECT k FROM t") == [(1,)]
    world.hosts[1].clock.jump(0)
    world.wait(2.0)
    assert world.at(2, "SELECT k FROM t") == [(1,)]


def test_t1_a_node_that_reaches_too_few_to_tell_goes_on() -> None:
    """Of two that disagree either may be wrong."""
    world = LeaseWorld(seed=3)
    world.hosts[2].kill()
    world.hosts[1].clock.jump(300_000)
    world.wait(4.0)
    assert world.node(1).clock.within_bound()
    assert world.node(2).clock.within_bound()


def test_t1_clocks_that_keep_their_bound_are_never_outvoted_however_slow_the_network() -> None:
    world = LeaseWorld(seed=3)
    world.hosts[0].clock.jump(10_000)
    world.hosts[1].clock.jump(-10_000)
    world.network.slow([(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b], 300.0)
    for _ in range(10):
        world.wait(1.0)
        assert all(world.node(n).clock.within_bound() for n in (1, 2, 3))


def test_a_cluster_with_a_doubted_clock_is_not_at_rest() -> None:
    """Whoever waits for rest and then reads at every node would be refused by this one."""
    world = LeaseWorld()
    world.wait(3.0)
    assert world.node(3).pending() == []
    world.hosts[2].clock.lose_bound(10_000_000)
    assert world.node(3).pending() == ["a doubt of its clock (T1)"]
    world.hosts[2].clock.lose_bound(0)
    assert world.node(3).pending() == []
