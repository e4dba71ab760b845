"""E as members keep it: over restarts, for newcomers, through raises that break half-way (rule T1)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from tests.cluster.leaseworld import LeaseWorld
from txndb.cluster.clockbound import WIDEN_EARLIEST, WIDEN_LATEST
from txndb.cluster.envelopes import PROTOCOL_VERSION
from txndb.cluster.identity import IDENTITY_KEY, Identity, load_identity, save_identity
from txndb.cluster.membership import decode_join_response, encode_join
from txndb.cluster.messages import JoinRequest
from txndb.errors import UnavailableError
from txndb.ids import NodeId
from txndb.sim.clocks import SimClock
from txndb.sim.host import SimHost
from txndb.sim.seeds import derive
from txndb.storage.engine import WriteBatch
from txndb.storage.memory import MemoryEngine


class AutoClock(SimClock):
    """What `--clock auto` is in one process: it claims a shared clock until it leaves its host."""

    def __init__(self, host: SimHost, kernel_us: int) -> None:
        super().__init__(host.shared.loop, derive(1, "auto", host.machine), host.shared.clock)
        self.kernel_us = kernel_us
        self.left = False

    def leave_host(self) -> None:
        self.left = True

    def error_us(self, off_host: bool = False) -> int:
        return self.kernel_us if self.left or off_host else 0


def _restart(world: LeaseWorld, number: int, kernel_us: int) -> AutoClock:
    """kill -9, and a new process whose source is `auto`."""
    host = world.hosts[number - 1]
    host.kill()
    host.clock = clock = AutoClock(host, kernel_us)
    host.start()
    world.wait(3.0)
    return clock


def test_t1_a_clock_that_left_its_host_does_not_claim_it_again_after_a_restart() -> None:
    """Each node has a host of its own; the kernel of one vouches for nothing that E covers when its node comes back."""
    world = LeaseWorld(seed=3)
    clock = _restart(world, 2, 5_000_000)
    assert not world.hosts[1].ready
    clock.kernel_us = 5_000
    world.wait(2.0)
    assert world.hosts[1].ready
    assert world.node(1).membership.members[NodeId(2)].incarnation == world.node(2).incarnation


def test_nodes_of_one_host_share_its_clock_after_a_restart_too() -> None:
    """No time daemon is needed there."""
    world = LeaseWorld()
    clock = _restart(world, 2, 1 << 62)
    assert not clock.left
    assert world.hosts[1].ready


def test_t1_a_newcomer_on_another_host_is_held_to_its_kernels_error() -> None:
    world = LeaseWorld(seed=3)
    newcomer = world.hosts[2].duplicate()
    newcomer.wipe()
    newcomer.clock = clock = AutoClock(newcomer, 40_000)
    newcomer.start()
    world.wait(3.0)
    assert newcomer.ready
    assert [world.node(n).clock.latest_bound_us for n in (1, 2, 3)] == [80_000] * 3
    assert clock.left
    assert clock.error_us() == 40_000


def join_request(world: LeaseWorld, admitting: int, error_us: int, host_id: str = "elsewhere") -> bytes:
    cluster_id = world.node(admitting).cluster_id
    return encode_join(
        JoinRequest(
            PROTOCOL_VERSION, cluster_id, NodeId(0), 1, "10.0.0.99:7000", "", "", host_id, error_us, error_us
        )
    )


def _admit(world: LeaseWorld, admitting: int, error_us: int) -> asyncio.Task[bytes]:
    """Ask a member to admit a node of another host, which never starts."""
    return world.start(world.node(admitting).on_call("join", join_request(world, admitting, error_us)))


def _before_step(world: LeaseWorld, number: int, step: int, do: Callable[[], Awaitable[None]]) -> None:
    """Do something when the first call of a step arrives at a node, before it is taken."""
    bound = world.node(number).clock_bound
    take, done = bound.on_call, False

    async def on_call(payload: bytes) -> bytes:
        nonlocal done
        if not done and msgspec.msgpack.decode(payload)[0] == step:
            done = True
            await do()
        return await take(payload)

    bound.on_call = on_call  # type: ignore[method-assign]


async def _break() -> None:
    raise UnavailableError("the connection broke")


def _bounds(world: LeaseWorld) -> list[tuple[int, int]]:
    clocks = [world.node(n).clock for n in (1, 2, 3)]
    return [(clock.error_bound_us, clock.latest_bound_us) for clock in clocks]


@pytest.mark.parametrize("step", [WIDEN_EARLIEST, WIDEN_LATEST])
@pytest.mark.parametrize("again", [1, 2, 3])
def test_t1_a_raise_that_broke_half_way_is_not_taken_for_complete(step: int, again: int) -> None:
    """Whoever admits at the next try, a member that the first one reached or one that it did not."""
    world = LeaseWorld()
    _before_step(world, 3, step, _break)
    with pytest.raises(UnavailableError):
        world.finish(_admit(world, 1, 5_000))
    world.finish(_admit(world, again, 5_000))
    assert _bounds(world) == [(10_000, 10_000)] * 3


def test_t1_a_raise_does_not_pass_by_a_member_that_another_one_admits_meanwhile() -> None:
    world = LeaseWorld()
    first = world.finish(
        _admit(world, 1, 5_000)
    )  # E is settled: who needs no more is admitted without a raise
    assert decode_join_response(first).latest_bound_us == 10_000
    for n in (1, 2, 3):
        world.node(n).membership.members.pop(NodeId(4), None)
    admitted: list[bytes] = []

    async def admit_another() -> None:
        admitted.append(await world.node(1).on_call("join", join_request(world, 1, 5_000)))

    _before_step(world, 3, WIDEN_EARLIEST, admit_another)
    raising = _admit(world, 2, 20_000)
    with pytest.raises(UnavailableError):  # it reached everybody but the one admitted meanwhile
        world.finish(raising)
    narrowest = decode_join_response(admitted[0])
    assert all(latest <= narrowest.error_bound_us for _, latest in _bounds(world))


def test_t1_who_is_admitted_after_a_step_is_told_of_it() -> None:
    world = LeaseWorld()
    world.finish(_admit(world, 1, 5_000))
    for n in (1, 2, 3):
        world.node(n).membership.members.pop(NodeId(4), None)
    admitted: list[bytes] = []

    async def admit_another() -> None:
        admitted.append(await world.node(1).on_call("join", join_request(world, 1, 5_000)))

    _before_step(world, 3, WIDEN_LATEST, admit_another)
    with pytest.raises(UnavailableError):
        world.finish(_admit(world, 2, 20_000))
    assert decode_join_response(admitted[0]).error_bound_us == 40_000


def test_t1_raises_beside_each_other_lower_nothing() -> None:
    world = LeaseWorld()
    joining = [_admit(world, n, error_us) for n, error_us in ((1, 20_000), (2, 30_000), (3, 25_000))]
    seen = _bounds(world)
    while not all(task.done() for task in joining):
        world.loop.run_until_us(world.loop.now_us + 50)
        bounds = _bounds(world)
        assert all(a <= c and b <= d for (a, b), (c, d) in zip(seen, bounds, strict=True))
        assert max(latest for _, latest in bounds) <= min(earliest for earliest, _ in bounds)
        for n in (1, 2, 3):
            identity = load_identity(world.node(n).engine)
            assert identity is not None
            assert identity.latest_bound_us >= bounds[n - 1][1]
        seen = bounds
    assert [task.exception() for task in joining].count(None) > 0


def test_t1_a_restarted_member_takes_over_a_bound_that_passed_it_by() -> None:
    world = LeaseWorld(seed=3)
    node = world.node(3)
    identity = load_identity(node.engine)
    assert identity is not None
    narrow = msgspec.structs.replace(identity, error_bound_us=1_000, latest_bound_us=1_000)
    save_identity(node.engine, narrow)
    world.restart(3)
    world.wait(2.0)
    assert _bounds(world) == [(10_000, 10_000)] * 3


def test_a_clock_that_a_settled_bound_covers_is_admitted_without_all_members() -> None:
    world = LeaseWorld()
    world.finish(_admit(world, 1, 5_000))
    world.hosts[2].kill()
    for n in (1, 2):
        world.finish(_admit(world, n, 10_000))
    with pytest.raises(UnavailableError):
        world.finish(_admit(world, 1, 10_001))


def test_an_identity_from_before_hosts_were_kept_is_read() -> None:
    """E was needed only where members do without a shared clock."""
    for bound_us in (0, 10_000):
        engine = MemoryEngine()
        save_identity(engine, Identity(b"s", b"c", NodeId(2), 7, bound_us, bound_us))
        written = engine.get(IDENTITY_KEY)
        assert written is not None
        batch = WriteBatch()
        batch.put(IDENTITY_KEY, msgspec.msgpack.encode(msgspec.msgpack.decode(written)[:6]))
        engine.write(batch)
        identity = load_identity(engine)
        assert identity is not None
        assert (identity.incarnation, identity.left_host) == (7, bound_us > 0)
        assert identity.settled_bound_us == bound_us
