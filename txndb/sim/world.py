"""A world: some machines, a network, clients and a nemesis, all drawn from one seed, run to a verdict.

The course of a run (TigerBeetle's VOPR and FoundationDB's simulator do the same):

1. *boot*: the nodes start and join, on a calm network; the workload makes its tables.
2. *safety*: clients work while the nemesis breaks things. Nothing wrong may be seen.
3. *heal*: everything works again; within `PROGRESS_US` every client must complete an operation.
4. *rest*: clients stop; within `QUIESCE_US` locks and transactions are gone, replicas are equal byte by byte, and
   their Raft logs match (Raft's log matching property, Ongaro §3.5).
5. *verdict*: everything is read once more, and the checker judges the whole history.

A violation is: a checker's finding, an exception that leaves a callback or a task unseen, a failed `validate()` (looked
at ten times a second, in some small runs after every event), a node that stops itself without cause or serves although
its data is damaged, or a phase that does not end within its bound. The first one ends the run.

Invariant: the run depends on its options only. Its trace hash is the proof.
"""

from __future__ import annotations

import asyncio
import gc
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Final

import msgspec

from txndb.errors import CorruptionError, DiskFullError, StoreError, TxndbError, UnavailableError
from txndb.limits import REPLICATION_FACTOR
from txndb.sim.clients import Client, ClientOptions, ConnectionLostError, GaveUpError, Manners
from txndb.sim.history import History
from txndb.sim.host import Machinery, Parts, SimHost
from txndb.sim.loop import Incarnation, ProcessEnded, VirtualLoop, stack_of
from txndb.sim.nemesis import Nemesis
from txndb.sim.nemesis.scene import Scene
from txndb.sim.network import Network
from txndb.sim.operator import Operator
from txndb.sim.options import Fault, WorldOptions, calm
from txndb.sim.promises import Promises
from txndb.sim.safety import RaftWatch
from txndb.sim.schedule import Schedule
from txndb.sim.seeds import derive
from txndb.sim.trace import Trace
from txndb.sim.workloads import MAKERS, Workload

BOOT_US: Final = 60_000_000
PROGRESS_US: Final = 60_000_000
STOP_US: Final = 90_000_000
QUIESCE_US: Final = 60_000_000
PATIENCE_US: Final = 30_000_000
VALIDATE_US: Final = 100_000
COLLECT_US: Final = 5_000_000
"""Garbage is collected at fixed virtual times, since finalizers are code that runs."""
RESTART_US: Final = 500_000


class ViolationError(Exception):
    """Something that must not happen did."""


class Report(msgspec.Struct, frozen=True):
    """What came of one seed."""

    seed: int
    ok: bool
    violation: str
    events: int
    virtual_s: float
    wall_s: float
    faults: dict[str, int]
    counts: dict[str, int]
    operations: dict[str, int]
    trace_hash: str
    schedule: tuple[Fault, ...] = ()
    """What nemesis and operator did; kept of failed runs only."""


class World:
    """One run of one seed."""

    def __init__(
        self,
        options: WorldOptions,
        parts: Parts,
        *,
        echo: bool = False,
        on_violation: Callable[[World, Exception], None] | None = None,
    ) -> None:
        """`on_violation` is called while everything stands as it stood at the violation."""
        self.options = options
        self._on_violation = on_violation
        self.loop = VirtualLoop()
        self.trace = Trace(echo=echo)
        self.loop.on_instant = self.trace.instant
        self.history = History()
        wires = derive(options.seed, "network")
        self.network = Network(self.loop, wires, calm(options), self.trace, options.canaries)
        self.hosts = self._machinery(parts).hosts()
        for host in self.hosts:
            host.on_fatal = self._on_fatal
            host.on_ready = self._on_ready
            host.on_end = self._on_end
        if options.validate_every_event:
            self.loop.after_event = self._validate_event
        self.workload: Workload = MAKERS[options.workload](derive(options.seed, "workload"))
        self._schedules = (
            Schedule(self.loop, options, "nemesis", options.fault_kinds, options.fault_every_us),
            Schedule(self.loop, options, "operator", options.database_kinds, options.database_every_us),
        )
        scene = Scene(self.loop, self.hosts, self.network, options, derive(options.seed, "scene"))
        self.nemesis = Nemesis(scene, self._schedules[0])
        self.operator = Operator(
            self.hosts,
            self._schedules[1],
            self.trace,
            self.workload,
            self._client,
            self.loop.problems.append,
        )
        self._raft_watch = RaftWatch()
        self.phase = "boot"
        self._stopping = False
        self._clients: list[Client] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._think_us = derive(options.seed, "think").choice((50_000, 150_000, 400_000))

    def _machinery(self, parts: Parts) -> Machinery:
        options = self.options
        return Machinery(
            network=self.network,
            parts=parts,
            seed=options.seed,
            machines=options.nodes,
            clock=options.clock,
            io=options.io,
            engine_flush_bytes=options.engine_flush_bytes,
            canaries=options.canaries,
            catalog_lease_us=options.catalog_lease_us,
            outcome_ttl_us=options.outcome_ttl_us,
            raft=options.raft,
            promises=Promises(self.loop.problems.append, clocks_hold=options.real_time_holds),
        )

    # --- the run --------------------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Run to the verdict."""
        started = time.perf_counter()
        violation = ""
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._drive(self._course())
        except ViolationError as error:
            violation = str(error)
            self._stop_at(error)
        except Exception as error:  # noqa: BLE001 - whatever leaves a callback is what the simulator looks for
            violation = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-8)}"
            self._stop_at(error)
        finally:
            if collecting:
                gc.enable()
        if violation:
            violation = f"[{self.phase}, {self.loop.now_us / 1e6:.3f} s] {violation}"
        report = self._report(violation, time.perf_counter() - started)
        self.loop.bury()
        return report

    def _stop_at(self, error: Exception) -> None:
        if self._on_violation is not None:
            self._on_violation(self, error)

    def _report(self, violation: str, wall_s: float) -> Report:
        counts = dict(sorted(self.trace.counts.items()))
        outcomes = {
            kind: sum(1 for op in self.history.ops if op.type == kind) for kind in ("ok", "fail", "info")
        }
        return Report(
            seed=self.options.seed,
            ok=not violation,
            violation=violation,
            events=self.loop.callbacks_run,
            virtual_s=self.loop.now_us / 1e6,
            wall_s=wall_s,
            faults={k.removeprefix("fault_"): n for k, n in counts.items() if k.startswith("fault_")},
            counts={k: n for k, n in counts.items() if not k.startswith("fault_")},
            operations=outcomes,
            trace_hash=self.trace.digest(),
            schedule=self.schedule() if violation else (),
        )

    def schedule(self) -> tuple[Fault, ...]:
        """What nemesis and operator have done so far, in order of time."""
        taken = [fault for schedule in self._schedules for fault in schedule.taken]
        return tuple(sorted(taken, key=lambda fault: fault.at_us))

    def _drive(self, course: Coroutine[Any, Any, None]) -> None:
        """Run the course to its end, looking at every machine's invariants on the way."""
        main = self.loop.create_task(course)
        collect_us = COLLECT_US
        while not main.done():
            self.loop.run_until_us(self.loop.now_us + VALIDATE_US)
            self._look()
            if self.loop.now_us >= collect_us:
                gc.collect()
                collect_us += COLLECT_US
        main.result()

    def _look(self) -> None:
        if self.loop.problems:
            raise ViolationError(self.loop.problems[0])
        for task in self._tasks:
            if task.done():
                task.result()
        for host in self.hosts:
            if host.ready and host.brain is not None and host.incarnation is not None:
                host.incarnation.context.copy().run(host.brain.validate)
            if wrong := self._raft_watch.look(host):
                raise ViolationError(wrong)
        if wrong := self._raft_watch.compare_leases(self.hosts):
            raise ViolationError(wrong)

    def _on_end(self, host: SimHost) -> None:
        """What a process knew last is seen before it is gone."""
        if wrong := self._raft_watch.look(host):
            self.loop.problems.append(wrong)
        self._raft_watch.forget(host.machine)

    def _validate_event(self, incarnation: Incarnation) -> None:
        """One callback of a process has run: only its machine's state can have changed."""
        for host in self.hosts:
            if host.incarnation is incarnation and host.ready and host.brain is not None:
                incarnation.context.copy().run(host.brain.validate)
                return

    async def _course(self) -> None:
        options = self.options
        await self._boot()
        self._enter("safety")
        self.network.options = options.network
        for number in range(options.clients):
            self._clients.append(self._client(number))
        tasks = self._tasks = [self.loop.create_task(self._work(client)) for client in self._clients]
        harm = self.loop.create_task(self.nemesis.run())
        administration = self.loop.create_task(self.operator.run())
        self._tasks.append(administration)
        await asyncio.sleep(options.seconds)
        harm.cancel()
        self._tasks.remove(administration)
        administration.cancel()
        await asyncio.gather(administration, return_exceptions=True)
        await self.operator.finish()
        self._enter("heal")
        for client in self._clients:
            if client.manners is not None:
                client.manners.options = ClientOptions()
        await self.nemesis.heal()
        await self._require_progress()
        self._stopping = True
        await self._until(lambda: all(task.done() for task in tasks), STOP_US, "clients still wait")
        self._enter("rest")
        await self._until(lambda: not self._unrest(), QUIESCE_US, self._unrest)
        self._enter("verdict")
        await self._read_all()
        problems = await self._check_schema()
        await self._until(lambda: not self._unrest(), QUIESCE_US, self._unrest)
        self._compare_logs()
        problems += self.workload.check(self.history, real_time=options.real_time_holds)
        if problems:
            raise ViolationError("; ".join(problems[:3]))

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self.trace.note(self.loop.now_us, f"phase {phase}")

    async def _until(
        self, done: Callable[[], bool], bound_us: int, otherwise: str | Callable[[], str]
    ) -> None:
        """Wait, within a bound, for something to be so."""
        limit = self.loop.now_us + bound_us
        while not done():
            if self.loop.now_us > limit:
                text = otherwise if isinstance(otherwise, str) else otherwise()
                raise ViolationError(f"not within {bound_us / 1e6:.0f} s: {text}")
            await asyncio.sleep(0.02)

    async def _until_ready(self, host: SimHost) -> None:
        await self._until(lambda: host.ready, BOOT_US, f"n{host.machine} is not ready")

    # --- phases ---------------------------------------------------------------------------------------------------

    async def _boot(self) -> None:
        for host in self.hosts:
            host.start()
            await self._until_ready(host)
        client = self._client(-1)
        await self._until(lambda: not self._unrest(), BOOT_US, self._unrest)
        await self._until(lambda: not self._thin(), BOOT_US, self._thin)
        await self.workload.set_up(client)
        client.close()

    async def _require_progress(self) -> None:
        before = [client.operations_ok for client in self._clients]

        def stuck() -> str:
            numbers = [n for n, c in enumerate(self._clients) if c.operations_ok <= before[n]]
            return f"no progress of clients {numbers}" if numbers else ""

        await self._until(lambda: not self._not_ready(), PROGRESS_US, self._not_ready)
        await self._until(lambda: not stuck(), PROGRESS_US, stuck)

    def _not_ready(self) -> str:
        missing = [host.machine for host in self.hosts if not host.ready and not host.lost]
        return f"not ready: {missing}" if missing else ""

    def _unrest(self) -> str:
        """What still keeps the cluster from rest: held locks, or replicas that differ."""
        digests: dict[int, dict[tuple[int, bytes], list[int]]] = {}
        for host in self.hosts:
            if host.lost:
                continue
            if not host.ready or host.brain is None:
                return f"n{host.machine} is not ready"
            pending = host.brain.pending()
            if pending:
                return f"n{host.machine} still holds {pending[:3]}"
            for range_id, state in host.brain.replica_digests().items():
                digests.setdefault(range_id, {}).setdefault(state, []).append(host.machine)
        for range_id, states in sorted(digests.items()):
            if len(states) > 1:
                known = {
                    str(nodes): (applied, digest.hex()[:8]) for (applied, digest), nodes in states.items()
                }
                return f"replicas of range {range_id} differ: {known}"
        return ""

    def _compare_logs(self) -> None:
        """Log matching: where two logs have an entry of one index and term, it and all before it are the same."""
        seen: dict[int, list[tuple[int, dict[int, tuple[int, bytes]]]]] = {}
        for host in self.hosts:
            if host.brain is None or not host.ready:
                continue
            try:
                logs = host.brain.raft_logs()
            except (TxndbError, ProcessEnded):
                if host.suspect:
                    continue  # it found what was done to its disk
                raise
            for range_id, log in logs.items():
                for other, known in seen.setdefault(range_id, []):
                    index = first_mismatch(log, known)
                    if index:
                        raise ViolationError(
                            f"log matching: n{host.machine} and n{other} differ at index {index} of range {range_id}"
                        )
                seen[range_id].append((host.machine, log))

    def _thin(self) -> str:
        """Ranges with fewer replicas than there should be."""
        counts: Counter[int] = Counter()
        for host in self.hosts:
            if host.brain is not None:
                counts.update(host.brain.replica_digests().keys())
        wanted = min(REPLICATION_FACTOR, len(self.hosts))
        thin = sorted(range_id for range_id, count in counts.items() if count < wanted)
        return f"ranges {thin} have too few replicas" if thin else ""

    async def _read_all(self) -> None:
        client = self._client(10_000)
        before = len(self.history.ops)
        await self.workload.read_all(client)
        client.close()
        bad = [op for op in self.history.ops[before:] if op.type in ("fail", "info")]
        if bad:
            raise ViolationError(f"the last read failed on a healed cluster: {bad[0]}")

    async def _check_schema(self) -> list[str]:
        client = self._client(10_001)
        try:
            return await self.operator.check(client)
        except (TxndbError, ConnectionLostError, GaveUpError) as error:
            raise ViolationError(f"indexes cannot be read on a healed cluster: {error}") from error
        finally:
            client.close()

    # --- clients --------------------------------------------------------------------------------------------------

    def _client(self, number: int) -> Client:
        drawn = 0 <= number < self.options.clients
        return Client(
            number,
            self.hosts,
            derive(self.options.seed, "client", number),
            self.history,
            self._count,
            clients=self.options.clients,
            # Whoever looks at the healed cluster is patient: a clock that was ahead makes its node wait (rule T2).
            timeout_us=self.options.client_timeout_us
            if drawn
            else max(PATIENCE_US, self.options.client_timeout_us),
            manners=Manners(self.options.client, derive(self.options.seed, "manners", number))
            if drawn
            else None,
            locking=not self.options.real_time_holds,
        )

    def _count(self, what: str) -> None:
        self.trace.counts[what] += 1

    async def _work(self, client: Client) -> None:
        rng: Random = client.rng
        while not self._stopping:
            before = client.operations_ok
            await self.workload.operate(client)
            pause = rng.random() * 2.0 * self._think_us
            if client.operations_ok == before:
                pause += 20_000
            await asyncio.sleep(pause / 1e6)
        client.close()

    # --- nodes that stop themselves -------------------------------------------------------------------------------

    def _on_ready(self, host: SimHost) -> None:
        if host.damage:
            self.loop.problems.append(f"n{host.machine} serves {host.damage}")

    def _on_fatal(self, host: SimHost, error: BaseException) -> None:
        """A node ended itself: allowed for want of a quorum at start, after an injected disk error, when it found what
        was done to its data, and while its clock cannot be bounded."""
        if (host.damage or host.suspect) and isinstance(error, CorruptionError | StoreError):
            self.trace.counts["damage_found"] += 1
            self.network.later(RESTART_US, self._replace, host)
            return
        from_disk = isinstance(error, OSError | DiskFullError) or isinstance(error.__cause__, OSError)
        unsure = host.clock.beyond and isinstance(error, StoreError)
        if (from_disk or unsure or isinstance(error, UnavailableError)) and self.phase != "boot":
            self.trace.counts["self_stop"] += 1
            self.network.later(RESTART_US, self._restart, host)
        else:
            text = f"{type(error).__name__}: {error}\n{stack_of(error)}"
            self.loop.problems.append(f"n{host.machine} stopped itself: {text}")

    def _restart(self, host: SimHost) -> None:
        Scene.start(host)

    def _replace(self, host: SimHost) -> None:
        """A node found its data damaged: its machine is replaced by an empty one, or is gone for good."""
        if not host.alive:
            host.wipe()
            host.lost = host.gone_for_good
            Scene.start(host)


def first_mismatch(log: dict[int, tuple[int, bytes]], other: dict[int, tuple[int, bytes]]) -> int:
    """The index at which two logs break the log matching property; 0 if they keep it."""
    common = sorted(log.keys() & other.keys())
    agreed = max((index for index in common if log[index][0] == other[index][0]), default=0)
    return next((index for index in common if index <= agreed and log[index] != other[index]), 0)
