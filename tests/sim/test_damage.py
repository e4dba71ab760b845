"""Damage under way: calls whose answer is lost for their caller, snapshots that are refused and sent again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from tests.cluster.leaseworld import LeaseWorld, bury_worlds
from tests.cluster.test_rejoin import applied, fall_behind
from tests.sim.test_network import Member, Net
from txndb.errors import DamagedError
from txndb.sim.network import NetworkOptions, damaged

BAD = NetworkOptions(corrupt=1.0)


@pytest.fixture(autouse=True)
def no_world_is_left() -> Iterator[None]:
    yield
    bury_worlds()


def test_damage_always_changes_something() -> None:
    rng = Random(1)
    for size in range(1, 300):
        message = rng.randbytes(size)
        assert damaged(rng, message) != message


# -- calls -----------------------------------------------------------------------------------------------------


def _counting(member: Member) -> list[str]:
    """The methods that this member executes, from now on."""
    executed: list[str] = []
    serve = member.on_call

    async def on_call(method: str, payload: bytes) -> bytes:
        executed.append(method)
        return await serve(method, payload)

    member.on_call = on_call  # type: ignore[method-assign]
    return executed


@pytest.mark.parametrize("answer_only", [False, True], ids=["request", "answer"])
def test_a_damaged_call_has_an_unknown_outcome(answer_only: bool) -> None:
    """The caller is told the same whether it was executed or not: a `DamagedError`, never the callee's words."""
    net = Net(NetworkOptions())
    caller, callee = net.members
    executed = _counting(callee)
    if not answer_only:
        net.network.options = BAD
    task = caller.incarnation.spawn(caller.transport.call("h2", "hang", b"p", 1_000_000))
    net.run(0.01)
    net.network.options = BAD
    if callee.hang is not None:
        callee.incarnation.call_soon(callee.hang.set_result, None)
    net.run(0.01)
    assert type(task.exception()) is DamagedError
    assert executed == (["hang"] if answer_only else [])
    assert net.loop.problems == []
    net.loop.bury()


def test_an_error_that_arrives_damaged_is_no_error_of_the_callee() -> None:
    net = Net(NetworkOptions())
    caller = net.members[0]
    failures = set()
    for _ in range(50):
        net.network.options = NetworkOptions(corrupt=0.02)
        task = caller.incarnation.spawn(caller.transport.call("h2", "fail", b"p", 1_000_000))
        net.run(0.1)
        failures.add(type(task.exception()).__name__)
    assert failures == {"InternalError", "DamagedError"}
    assert net.loop.problems == []
    net.loop.bury()


def test_nodes_restart_and_serve_although_much_of_what_they_ask_arrives_damaged() -> None:
    world = LeaseWorld(seed=3)  # hosts of their own: they compare clocks too
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    world.network.options = NetworkOptions(corrupt=0.01)
    for number in (1, 2, 3, 2, 1):
        world.restart(number)
        world.wait(2.0)
    world.network.options = NetworkOptions()
    world.wait(2.0)
    counts = world.network.trace.counts
    assert counts["call_corrupt"] and counts["answer_corrupt"] and counts["frame_corrupt"]
    assert [world.at(number, "SELECT v FROM t") for number in (1, 2, 3)] == [[(1,)]] * 3


# -- snapshots -------------------------------------------------------------------------------------------------


def _behind(world: LeaseWorld, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    return fall_behind(world, monkeypatch)


def _said(world: LeaseWorld) -> list[str]:
    """What nodes said of snapshots that failed."""
    return [line for line in world.network.trace.story if "snapshot of range" in line]


def _harm(
    world: LeaseWorld, monkeypatch: pytest.MonkeyPatch, which: int, harm: Callable[[bytes], bytes]
) -> list[str]:
    """Change one message of the next snapshot: 0 is its header. Returns what crosses the wires of it."""
    wire, seen = world.network.wire, list[str]()

    def chosen(message: bytes, what: str) -> bytes:
        seen.append(what)
        return harm(message) if len(seen) - 1 == which else wire(message, what)

    monkeypatch.setattr(world.network, "wire", chosen)
    return seen


def _same_state(world: LeaseWorld, one: int, other: int) -> bool:
    """Whether range 1 is the same on both when both have applied the same."""
    for _ in range(500):
        if applied(world, one) == applied(world, other):
            return world.node(one).replica_digests()[1] == world.node(other).replica_digests()[1]
        world.wait(0.01)
    raise AssertionError("one stays behind")


@pytest.mark.parametrize("which", range(4), ids=["header", "chunk", "end", "answer"])
@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_damaged_under_way_is_refused_and_sent_again(
    monkeypatch: pytest.MonkeyPatch, which: int, seed: int
) -> None:
    world = LeaseWorld()
    leader, away = _behind(world, monkeypatch)
    seen = _harm(world, monkeypatch, which, lambda message: damaged(Random(seed), message))
    world.rejoin(away)
    for _ in range(5_000):
        if _said(world):
            break
        world.wait(0.001)
    assert "arrived" in _said(world)[0] or "damaged" in _said(world)[0]
    if which < 3:
        assert applied(world, away) < applied(world, leader), "a damaged snapshot was installed"
    world.wait(5)
    # What lost only its answer is there: a heartbeat says so.
    assert seen.count("answer") == (2 if which < 3 else 1), "it was not sent again"
    assert seen.count("snapshot") >= (4 if which < 3 else 3)
    assert _same_state(world, leader, away)


def test_without_the_check_replicas_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary `frames-unchecked`: what the comparison of replicas would find."""
    world = LeaseWorld("frames-unchecked")
    leader, away = _behind(world, monkeypatch)
    _harm(world, monkeypatch, 1, lambda chunk: chunk[:-1] + bytes([chunk[-1] ^ 1]))
    world.rejoin(away)
    world.wait(5)
    assert not _same_state(world, leader, away)
