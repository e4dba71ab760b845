"""E as members keep it: over restarts, for newcomers, through raises that break half-way (rule T1)."""

from __future__ import annotations

import msgspec

from tests.cluster.leaseworld import LeaseWorld
from txndb.cluster.identity import IDENTITY_KEY, Identity, load_identity, save_identity
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
