"""Data directories that come back on another host, and hosts that come back with another id (rule T1)."""

from __future__ import annotations

import msgspec
import pytest

from tests.cluster import leaseworld
from tests.cluster.leaseworld import LeaseWorld
from tests.cluster.test_clock_bound import AutoClock, join_request
from txndb.cluster.identity import Identity, load_identity, save_identity
from txndb.cluster.node import Node
from txndb.errors import TxndbError, UnavailableError
from txndb.ids import NodeId
from txndb.sim.brain import NodeBrain, open_node
from txndb.sim.host import Parts, SimBody

UNSYNCHRONISED_US = 1 << 62


def _parts_on(host_id: str) -> Parts:
    """A node that finds itself on this host."""

    async def open_brain(body: SimBody) -> NodeBrain:
        node = await open_node(body)
        node.options = msgspec.structs.replace(node.options, host_id=host_id)
        return NodeBrain(node)

    return Parts(open_brain)


def _start(world: LeaseWorld, number: int, host_id: str, kernel_us: int = UNSYNCHRONISED_US) -> AutoClock:
    """A new process on a host, whose source is `auto`; how far it has come after some seconds is to be looked at."""
    machine = world.hosts[number - 1]
    machine.kill()
    machine.shared = msgspec.structs.replace(machine.shared, parts=_parts_on(host_id))
    machine.clock = clock = AutoClock(machine, kernel_us)
    machine.start()
    world.wait(3.0)
    return clock


def _stop_all(world: LeaseWorld) -> None:
    for machine in world.hosts:
        machine.kill()


def _bounds(world: LeaseWorld) -> list[tuple[int, int]]:
    clocks = [world.node(n).clock for n in (1, 2, 3)]
    return [(clock.error_bound_us, clock.latest_bound_us) for clock in clocks]


def _identity(world: LeaseWorld, number: int) -> Identity:
    identity = load_identity(world.node(number).engine)
    assert identity is not None
    return identity


@pytest.mark.parametrize("number", [1, 3])
def test_t1_a_directory_that_comes_back_on_another_host_has_the_bound_raised(number: int) -> None:
    """With somebody to join through or, as the first node, without."""
    world = LeaseWorld()
    clock = _start(world, number, "elsewhere", 8_000)
    assert world.hosts[number - 1].ready
    assert _bounds(world) == [(16_000, 16_000)] * 3
    assert clock.left
    assert _identity(world, number).host_id == "elsewhere"
    assert world.at(number, "SELECT 1") == [(1,)]


def test_t1_a_moved_node_serves_nobody_while_the_bound_cannot_be_raised() -> None:
    world = LeaseWorld()
    world.hosts[0].kill()
    _start(world, 3, "elsewhere", 8_000)
    world.wait(10.0)
    assert not world.hosts[2].ready
    brain = world.hosts[2].brain
    assert brain is None or (isinstance(brain, NodeBrain) and not brain.node.clock.within_bound())
    assert world.node(2).clock.latest_bound_us == 0
    world.hosts[0].start()
    world.wait(3.0)
    assert world.hosts[2].ready
    assert _bounds(world) == [(16_000, 16_000)] * 3


def test_t1_a_moved_node_whose_clock_cannot_be_bounded_does_not_start() -> None:
    """Nor at the next try; nobody else is troubled."""
    world = LeaseWorld()
    for _ in range(2):
        errors: list[BaseException] = []
        world.hosts[2].on_fatal = lambda host, error, errors=errors: errors.append(error)  # type: ignore[misc]
        _start(world, 3, "elsewhere")
        world.wait(35.0)
        world.wait(35.0)
        assert isinstance(errors[0], TxndbError)
        assert "clocks of the members cannot be bounded" in errors[0].message
        assert world.at(1, "SELECT 1") == [(1,)]
    _start(world, 3, "host")
    assert world.hosts[2].ready


def test_t1_a_moved_node_that_reaches_nobody_does_not_start() -> None:
    world = LeaseWorld()
    _stop_all(world)
    errors: list[BaseException] = []
    world.hosts[2].on_fatal = lambda host, error: errors.append(error)
    _start(world, 3, "elsewhere", 8_000)
    world.wait(35.0)
    world.wait(35.0)
    assert isinstance(errors[0], UnavailableError)
    assert "no member says" in errors[0].message


def test_all_nodes_of_a_rebooted_host_come_back_as_they_were() -> None:
    """One after the other, and without a time daemon: they share a clock as before."""
    world = LeaseWorld()
    _stop_all(world)
    for number in (1, 2, 3):
        _start(world, number, "rebooted")
        world.wait(2.0)
    world.wait(3.0)
    assert all(machine.ready for machine in world.hosts)
    assert _bounds(world) == [(0, 0)] * 3
    assert [_identity(world, n).host_id for n in (1, 2, 3)] == ["rebooted"] * 3


def test_a_rebooted_host_does_not_wait_for_a_member_that_is_gone() -> None:
    """Another one joins in its place, on the same host."""
    world = LeaseWorld()
    _stop_all(world)
    for number in (1, 2):
        _start(world, number, "rebooted")
    world.wait(6.0)
    assert world.hosts[0].ready
    assert world.hosts[1].ready
    world.hosts[2].wipe()
    _start(world, 3, "rebooted")
    assert world.hosts[2].ready
    assert world.node(3).node == 4


def test_a_rebooted_node_that_holds_all_does_not_wait_for_one_that_never_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was admitted, and did not start."""
    monkeypatch.setattr(leaseworld, "NODES", 1)
    world = LeaseWorld()
    world.finish(world.start(world.node(1).on_call("join", join_request(world, 1, 0, "host"))))
    _start(world, 1, "rebooted")
    world.wait(5.0)
    assert world.hosts[0].ready


def test_t1_who_was_down_while_the_others_moved_has_the_bound_raised() -> None:
    world = LeaseWorld()
    _stop_all(world)
    for number in (1, 2):
        _start(world, number, "elsewhere", 8_000)
    world.wait(6.0)
    assert world.node(1).clock.latest_bound_us == 0
    _start(world, 3, "host", 8_000)
    assert world.hosts[2].ready
    assert _bounds(world) == [(16_000, 16_000)] * 3


def test_t1_all_nodes_move_to_hosts_of_their_own() -> None:
    world = LeaseWorld()
    _stop_all(world)
    for number in (1, 2, 3):
        _start(world, number, f"new{number}", 8_000)
    world.wait(3.0)
    assert all(machine.ready for machine in world.hosts)
    assert _bounds(world) == [(16_000, 16_000)] * 3


def test_between_hosts_a_node_moves_as_it_likes() -> None:
    """Its clock was not shared with anybody."""
    world = LeaseWorld(seed=3)
    world.hosts[0].kill()
    _start(world, 3, "elsewhere", 8_000)
    assert world.hosts[2].ready
    assert _identity(world, 3).host_id == "elsewhere"


def test_the_host_of_an_identity_from_before_is_the_one_announced_last() -> None:
    world = LeaseWorld()
    node: Node = world.node(3)
    save_identity(node.engine, msgspec.structs.replace(_identity(world, 3), host_id=None))
    _start(world, 3, "elsewhere", 8_000)
    assert _bounds(world) == [(16_000, 16_000)] * 3
    assert world.node(1).membership.members[NodeId(3)].host_id == "elsewhere"
