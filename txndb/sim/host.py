"""A simulated machine: a disk, an engine and a clock that outlive processes, and the process that runs on it.

`SimHost.start` boots a node as a new incarnation; `kill` ends it (the page cache survives), `power_off` ends it and
loses unsynced writes. `SimBody` is what the node is given (`txndb.cluster.body.Body`). The brain comes through a
factory, so tests can put something simple in its place.

Invariants:
1. At most one incarnation of a host is alive.
2. A new incarnation sees of its predecessor only what disk and engine kept.
3. `fatal` ends the process at once; whether that was allowed is judged by `on_fatal`.
4. A machine that lost synced data never starts a process on what is left as if nothing had happened: it is `damage`d,
   and the process must refuse, or it is wiped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final, Protocol

import msgspec

from txndb.clock import TimeSource
from txndb.cluster.body import IoExecutor, Rand, Transport
from txndb.cluster.options import RaftOptions
from txndb.errors import TxndbError
from txndb.limits import CATALOG_LEASE_US, OUTCOME_TTL_US
from txndb.sim.clocks import ClockOptions, SimClock
from txndb.sim.disk import PowerLostError, SimDisk
from txndb.sim.engine import EngineStore
from txndb.sim.iosim import IoOptions, SimIo
from txndb.sim.loop import Incarnation, ProcessEnded, VirtualLoop, settle
from txndb.sim.network import Network, SimTransport
from txndb.sim.promises import Promises
from txndb.sim.rot import is_found_at_open
from txndb.sim.seeds import derive
from txndb.sim.trace import Trace
from txndb.storage.disk import Disk
from txndb.storage.engine import Engine
from txndb.storage.memory import MemoryEngine

CLONE_MACHINE: Final = 100
"""Machines that hold a copy of machine n's data are numbered n + 100, n + 200 and so on."""


class QueryResult(Protocol):
    """What the simulator reads of a statement's result."""

    @property
    def tag(self) -> str: ...

    @property
    def rows(self) -> list[tuple[Any, ...]]: ...


class SqlSession(Protocol):
    """What the simulator uses of a session (`txndb.sql.session`)."""

    @property
    def status(self) -> str: ...

    async def execute(self, sql: str, params: tuple[Any, ...] = ()) -> QueryResult: ...

    def cancel(self) -> None: ...

    async def close(self) -> None: ...


class Brain(Protocol):
    """What the simulator uses of a node (`txndb.cluster.node.Node`)."""

    async def start(self, join: list[str], advertise: str) -> None: ...

    async def new_session(self, user: str, database: str) -> SqlSession: ...

    async def drain(self) -> None: ...

    async def close(self) -> None: ...

    def transfer_lease(self, draw: int) -> None:
        """Hand the lease of one range led here, if any, to one of its replicas, as drawn."""

    def validate(self) -> None: ...

    async def split_at_work(self, kind: str) -> None:
        """Split a range led here where a transaction is at work, of a kind of `txndb.sim.cuts`, if one comes soon."""

    def handed(self) -> dict[int, int]:
        """Per range a leader has handed over to this node, which does not serve it yet: the term that is for."""

    def leads(self) -> list[int]:
        """The ranges this node holds the lease of, in order."""

    def raft_logs(self) -> dict[int, dict[int, tuple[int, bytes]]]:
        """Per range held here: index -> (term, payload) of every entry in its Raft log."""

    def reigns(self) -> dict[int, int]:
        """Per range whose Raft leader this node is, lease or not: the term."""

    def leases(self) -> list[int]:
        """The ranges whose lease this node holds at this instant, by its own clock."""

    def applied(self, after: dict[int, int]) -> dict[int, list[tuple[int, int]]]:
        """Per range held here: (index, term) of the entries applied above the index in `after`; reads no disk."""

    def replica_digests(self) -> dict[int, tuple[int, bytes]]:
        """Per range this node holds a replica of: (applied index, hash of its whole state)."""

    def pending(self) -> list[str]:
        """Locks, transactions and waiters still held; empty when the cluster is at rest."""


class Parts(msgspec.Struct, frozen=True):
    """What machines are put together from: the brain under test, their disks and engines."""

    open_brain: Callable[[SimBody], Awaitable[Brain]]
    new_disk: Callable[[Random], SimDisk] = SimDisk
    new_engine: Callable[[], Engine] = MemoryEngine


class Machinery(msgspec.Struct, frozen=True):
    """What all hosts of one world share. What is not given is calm and usual."""

    network: Network
    parts: Parts
    seed: int
    machines: int
    clock: ClockOptions = ClockOptions()
    io: IoOptions = IoOptions()
    engine_flush_bytes: int = 4_000_000
    canaries: tuple[str, ...] = ()
    catalog_lease_us: int = CATALOG_LEASE_US
    outcome_ttl_us: int = OUTCOME_TTL_US
    raft: RaftOptions = RaftOptions()
    promises: Promises | None = None
    """Who is told what leaseholders promise."""

    @property
    def loop(self) -> VirtualLoop:
        return self.network.loop

    @property
    def trace(self) -> Trace:
        return self.network.trace

    def hosts(self) -> list[SimHost]:
        """The world's machines, still off: the first begins a cluster, the others join it there."""
        first = [address_of(1)]
        return [SimHost(self, n, [] if n == 1 else first) for n in range(1, self.machines + 1)]


class SimRand:
    """A node's chance."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def randrange(self, stop: int) -> int:
        return self._rng.randrange(stop)


class SimBody:
    """Everything one incarnation of a node is given."""

    def __init__(self, host: SimHost, incarnation: Incarnation, boot: int) -> None:
        shared = host.shared
        self.host = host
        self.incarnation = incarnation
        self.time: TimeSource = host.clock
        self.transport: Transport = SimTransport(shared.network, host.machine, host.address, incarnation)
        log_rng = derive(shared.seed, "log_io", host.machine, boot)
        engine_rng = derive(shared.seed, "engine_io", host.machine, boot)
        self.workers = (
            SimIo(incarnation, log_rng, shared.io, host.power_off),
            SimIo(incarnation, engine_rng, shared.io, host.power_off),
        )
        self.log_io: IoExecutor = self.workers[0]
        self.engine_io: IoExecutor = self.workers[1]
        self.log_disk: Disk = host.disk
        self.rand: Rand = SimRand(derive(shared.seed, "node", host.machine, boot))
        self.clock_error_bound_us = shared.clock.error_bound_us

    def open_engine(self) -> Engine:
        return self.host.store.open(self.host.shared.engine_flush_bytes)

    def event(self, message: str) -> None:
        self.host.note(message)

    def fatal(self, error: BaseException) -> None:
        if self.incarnation is self.host.incarnation:
            self.host.fatal(error)
        raise ProcessEnded


class SimHost:
    """One machine."""

    def __init__(self, shared: Machinery, machine: int, seeds: list[str]) -> None:
        self.shared = shared
        self.machine = machine
        self.address = address_of(machine)
        self.seeds = seeds
        self.disk = shared.parts.new_disk(derive(shared.seed, "disk", machine))
        self.store = EngineStore(shared.parts.new_engine, derive(shared.seed, "engine", machine))
        self.clock = SimClock(shared.loop, derive(shared.seed, "clock", machine), shared.clock)
        self.boots = 0
        self.incarnation: Incarnation | None = None
        self.body: SimBody | None = None
        self.brain: Brain | None = None
        self.ready = False
        self.stopping = False
        """A graceful stop is under way: connections are gone, what statements still raise is nobody's."""
        self.lost = False
        """The machine is gone for good."""
        self.bereft = False
        """The machine whose synced data may be damaged or lost in this run."""
        self.gone_for_good = False
        """Whether it is lost when its data is, rather than replaced by an empty one."""
        self.suspect = False
        """Something on its disk is not what was written: the node may find that and stop."""
        self.damage = ""
        """What the node must find at its next start, which must then fail."""
        self.copies = 0
        self._on_stop: dict[int, Callable[[], None]] = {}
        self._stop_key = 0
        self.on_ready: Callable[[SimHost], None] = lambda host: None
        self.on_fatal: Callable[[SimHost, BaseException], None] = lambda host, error: None
        self.on_end: Callable[[SimHost], None] = lambda host: None
        """Called before a process ends, while it can still be looked at."""

    @property
    def alive(self) -> bool:
        return self.incarnation is not None and self.incarnation.alive

    def note(self, message: str) -> None:
        self.shared.trace.note(self.shared.loop.now_us, f"n{self.machine} {message}")

    def start(self) -> None:
        """Boot a node on this machine."""
        assert not self.alive, "one process at a time"
        assert not self.lost, "the machine is gone"
        if self.disk.misdirected is not None and not self.damage:
            self._judge_misdirected()
        self.boots += 1
        self.stopping = False
        self.note(f"boots ({self.boots})")
        incarnation = self.incarnation = Incarnation(self.shared.loop, f"n{self.machine}.{self.boots}")
        body = self.body = SimBody(self, incarnation, self.boots)
        incarnation.call_soon(lambda: incarnation.spawn(self._run(body)))

    def kill(self) -> None:
        """kill -9: the process is gone, the page cache stays."""
        if self.alive:
            self._end("killed")
            self.store.kill()
            self.disk.kill()

    def wipe(self) -> None:
        """The machine lost everything it had: whatever starts here joins as a new member (rule P7)."""
        assert not self.alive
        self.disk.wipe()
        self.store.wipe()
        self.damage, self.suspect = "", False
        self.clock.jump(0)  # a new machine's clock is set before it joins
        self.clock.lose_bound(0)
        machines = range(1, self.shared.machines + 1)
        self.seeds = [address_of(machine) for machine in machines if machine != self.machine]

    def duplicate(self) -> SimHost:
        """Another machine with a copy of this one's data as it is now, beside it on the network."""
        self.copies += 1
        machine = self.machine + CLONE_MACHINE * self.copies
        copy = SimHost(self.shared, machine, [self.address, *self.seeds])
        copy.disk = self.disk.copy(derive(self.shared.seed, "disk", machine))
        copy.store = self.store.copy(derive(self.shared.seed, "engine", machine))
        return copy

    def _judge_misdirected(self) -> None:
        """A write went astray. Opening must notice where its place is attested; else it may look like a torn write, the
        one kind of rot that cannot be found (rule P6): then the machine is replaced."""
        if is_found_at_open(self.disk):
            self.damage = "with a write gone astray"
        else:
            self.note("is replaced: a write went astray that nothing vouches for")
            self.wipe()

    def watch_stop(self, callback: Callable[[], None]) -> int:
        """Call back (outside of the process) when it hangs up in a graceful stop; a key for `unwatch_stop`."""
        self._stop_key += 1
        self._on_stop[self._stop_key] = callback
        return self._stop_key

    def unwatch_stop(self, key: int) -> None:
        self._on_stop.pop(key, None)

    async def stop(self) -> None:
        """A graceful stop, as SIGTERM makes one: hand leases over, hang up, close; the process has ended."""
        incarnation, brain = self.incarnation, self.brain
        if incarnation is None or brain is None or not self.ready:
            return
        self.note("stops")
        try:
            await _forwarded(incarnation, brain.drain)
            if incarnation is not self.incarnation or not incarnation.alive:
                return  # the nemesis was faster
            self.ready, self.stopping = False, True
            watchers, self._on_stop = self._on_stop, {}
            for hang_up in watchers.values():
                hang_up()
            await _forwarded(incarnation, brain.close)
        except (TxndbError, OSError) as error:  # a disk that failed is met by whoever closes
            if incarnation is self.incarnation:
                self.fatal(error)
        finally:
            if incarnation is self.incarnation:
                self.kill()

    def power_off(self) -> None:
        """Power loss: what was not synced may be gone."""
        if self.alive:
            self._end("lost power")
        lost = self.store.crash()
        self.disk.crash()
        if lost:
            self.note(f"engine lost {lost} batches")

    def fatal(self, error: BaseException) -> None:
        """The node itself could not go on."""
        if self.alive:
            self._end(f"stopped: {type(error).__name__}: {error}")
            self.store.kill()
            self.disk.kill()
            self.on_fatal(self, error)

    def _end(self, how: str) -> None:
        self.note(how)
        assert self.incarnation is not None
        self.on_end(self)
        self.incarnation.kill()
        self.brain = None
        self.body = None
        self.ready = False

    async def _run(self, body: SimBody) -> None:
        try:
            self.brain = brain = await self.shared.parts.open_brain(body)
            await brain.start(self.seeds, self.address)
        except (TxndbError, OSError) as error:
            self.fatal(error)
            return
        except PowerLostError:
            self.power_off()
            return
        self.ready = True
        self.note("is ready")
        self.on_ready(self)


async def _forwarded(incarnation: Incarnation, work: Callable[[], Awaitable[None]]) -> None:
    """Run something as a task of a process and wait for it from outside, or for the process to die."""
    over = asyncio.get_running_loop().create_future()

    async def run() -> None:
        try:
            await work()
        except (TxndbError, OSError) as error:
            settle(over, error, None)
        else:
            settle(over, None, None)

    watch = incarnation.watch_death(lambda: settle(over, None, None))
    try:
        incarnation.spawn(run())
        await over
    finally:
        incarnation.unwatch_death(watch)


def address_of(machine: int) -> str:
    """Where a machine's node listens."""
    return f"10.0.0.{machine}:7000"
