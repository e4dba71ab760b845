"""`SimulatedCluster`: a whole cluster inside this program, under virtual time, spoken to with the ordinary driver.

    with SimulatedCluster(nodes=3, seed=7) as world:
        connection = world.connect()
        connection.execute("CREATE TABLE t (a INT PRIMARY KEY)")
        world.crash(1)
        ...

The nodes are the real ones; their clocks, disks, network and processes are the simulator's (`txndb.sim`). Time passes
only while the program waits for an answer or in `wait`, so seconds of fail-over cost milliseconds, and the same program
with the same seed sees the same course of events.

Invariants
1. Nodes are numbered from 1. A node that was crashed stays down until `restart` or `heal`.
2. `heal` ends every fault and returns when all nodes serve again.
3. The world belongs to one thread.

What is simulated is what surrounds the database. An application's own clock, threads and sleeps are real and unknown
to it. Used by `plugin` as the fixture `txndb_world`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Self

from txndb.client.connection import Connection
from txndb.client.dial import APPLICATION_NAME
from txndb.client.errors import OperationalError, lost
from txndb.client.wire import Wire
from txndb.errors import TxndbError
from txndb.server.pg import PgServer
from txndb.sim.brain import NodeBrain, node_parts
from txndb.sim.clocks import ClockOptions
from txndb.sim.host import Machinery, SimHost
from txndb.sim.loop import VirtualLoop
from txndb.sim.network import Link as NetworkLink
from txndb.sim.network import Network, NetworkOptions
from txndb.sim.seeds import derive
from txndb.sim.trace import Trace
from txndb.testing.link import Link, SimulatedWire
from txndb.testing.retryfilter import FailurePlan, RetryFilter

STEP_US: Final = 1_000
READY_BOUND_US: Final = 60_000_000
ERROR_BOUND_US: Final = 5_000
"""E of a world with more than one clock: `skew` stays within it."""


class WorldError(AssertionError):
    """The simulated cluster itself failed: an unhandled exception in a node, or one that did not come up in time."""


class SimulatedCluster:
    """See the module. `error_bound_us` is E, the clock error the cluster is told to expect."""

    def __init__(self, nodes: int = 3, seed: int = 1, *, error_bound_us: int = ERROR_BOUND_US) -> None:
        if nodes < 1:
            raise ValueError("a cluster has at least one node")
        self.seed = seed
        self.failures = FailurePlan()
        self._loop = VirtualLoop()
        self._trace = Trace()
        calm = NetworkOptions()
        self._network = Network(self._loop, derive(seed, "network"), calm, self._trace)
        self._calm = calm
        self._hosts = Machinery(
            network=self._network,
            parts=node_parts(),
            seed=seed,
            machines=nodes,
            clock=ClockOptions(error_bound_us=error_bound_us),
        ).hosts()
        self._servers: dict[int, tuple[int, PgServer]] = {}
        """By node: the boot it belongs to, and the front door."""
        for host in self._hosts:
            host.start()
            self._until_ready(host)
        self._until(self._replicated, "ranges have too few replicas")

    def _replicated(self) -> bool:
        wanted = min(3, len(self._hosts))
        counts: dict[int, int] = {}
        for host in self._hosts:
            if host.brain is not None:
                for range_id in host.brain.replica_digests():
                    counts[range_id] = counts.get(range_id, 0) + 1
        return bool(counts) and all(count >= wanted for count in counts.values())

    # --- what a program uses

    @property
    def nodes(self) -> tuple[int, ...]:
        """The numbers of all nodes."""
        return tuple(host.machine for host in self._hosts)

    @property
    def now_s(self) -> float:
        """Virtual seconds since the world began."""
        return self._loop.now_us / 1e6

    @property
    def story(self) -> list[str]:
        """What happened lately, a line each with its virtual time."""
        return list(self._trace.story)

    def connect(
        self,
        node: int = 0,
        *,
        database: str = "defaultdb",
        user: str = "root",
        paramstyle: str = "pyformat",
        autocommit: bool = False,
    ) -> Connection:
        """A connection of the PEP 249 driver to a node, or to the first one that serves. When its node is lost it goes
        on at another one, as with a URL of several hosts. `OperationalError` when no node answers."""
        order = [node, *(n for n in self.nodes if n != node)] if node else list(self.nodes)
        dialer = _Dialer(self, order, user, database)
        settings = {"application_name": APPLICATION_NAME}
        return Connection(dialer, paramstyle=paramstyle, autocommit=autocommit, settings=settings)

    def wait(self, seconds: float) -> None:
        """Let virtual time pass."""
        self._advance(int(seconds * 1e6))

    # --- faults

    def partition(self, *groups: Sequence[int]) -> None:
        """Cut the network between groups of nodes; nodes not named are one more group."""
        named = [n for group in groups for n in group]
        rest = [n for n in self.nodes if n not in named]
        parts = [list(group) for group in groups if group] + ([rest] if rest else [])
        for number in named:
            self._host(number)
        links: list[NetworkLink] = [
            (a, b)
            for i, one in enumerate(parts)
            for j, other in enumerate(parts)
            if i != j
            for a in one
            for b in other
        ]
        self._network.block(links)

    def crash(self, node: int) -> None:
        """Power loss: the process is gone, and what it had not synced perhaps too."""
        self._host(node).power_off()

    def kill(self, node: int) -> None:
        """kill -9: the process is gone, its machine stays."""
        self._host(node).kill()

    def restart(self, node: int) -> None:
        """Start a node again; returns when it serves."""
        host = self._host(node)
        if host.alive:
            host.kill()
        host.start()
        self._until_ready(host)

    def pause(self, node: int) -> None:
        """Stop a process as SIGSTOP does: nothing in it runs, its connections stay."""
        incarnation = self._host(node).incarnation
        if incarnation is not None and incarnation.alive:
            incarnation.pause()

    def resume(self, node: int) -> None:
        """Let a paused process go on."""
        incarnation = self._host(node).incarnation
        if incarnation is not None:
            incarnation.resume()

    def skew(self, node: int, offset_us: int) -> None:
        """Set a node's wall clock off by so much. Beyond E the node's clock lies to it: data stays right, the order of
        real time may not (what the cluster then promises is in `docs/guarantees.md`)."""
        self._host(node).clock.jump(offset_us)

    def force_retry_errors(self, count: int, at: int = 1) -> FailurePlan:
        """The next `count` transaction blocks fail with 40001 at their statement number `at`; see `retryfilter`."""
        self.failures.fail(count, at)
        return self.failures

    def heal(self) -> None:
        """End every fault; returns when all nodes serve."""
        self._network.heal(self._calm)
        self.failures.fail(0)
        for host in self._hosts:
            host.clock.jump(0)
            if host.incarnation is not None:
                host.incarnation.resume()
            if not host.alive:
                host.start()
        self._until(lambda: all(host.ready for host in self._hosts), "nodes are not ready")

    def validate(self) -> None:
        """Check the invariants of every running node; raises `InternalError`."""
        for host in self._hosts:
            if host.ready and host.brain is not None and host.incarnation is not None:
                host.incarnation.context.copy().run(host.brain.validate)

    def close(self) -> None:
        """The world ends; open connections are dead."""
        for host in self._hosts:
            host.kill()
        self._loop.bury()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside

    def dial(self, node: int) -> Link:
        """A fresh connection to a node's front door; `OSError` when it does not serve."""
        host = self._host(node)
        brain = host.brain
        if not host.ready or not isinstance(brain, NodeBrain):
            raise ConnectionRefusedError(f"node {node} does not serve")
        boot, server = self._servers.get(node, (0, None))
        if server is None or boot != host.boots:
            server = PgServer(brain.node.new_session)
            self._servers[node] = (host.boots, server)
        return Link(host, server, lambda: self._advance(STEP_US), RetryFilter(self.failures))

    def _host(self, node: int) -> SimHost:
        if not 1 <= node <= len(self._hosts):
            raise ValueError(f"there is no node {node}; the nodes are 1 to {len(self._hosts)}")
        return self._hosts[node - 1]

    def _advance(self, duration_us: int) -> None:
        self._loop.run_until_us(self._loop.now_us + duration_us)
        if self._loop.problems:
            raise WorldError(f"seed {self.seed}: {self._loop.problems[0]}")

    def _until_ready(self, host: SimHost) -> None:
        self._until(lambda: host.ready, f"node {host.machine} is not ready")

    def _until(self, done: Callable[[], bool], otherwise: str) -> None:
        limit_us = self._loop.now_us + READY_BOUND_US
        while not done():
            if self._loop.now_us >= limit_us:
                raise WorldError(f"seed {self.seed}: {otherwise} within {READY_BOUND_US // 1_000_000} s")
            self._advance(10 * STEP_US)


class _Dialer:
    """Opens the driver's conversations: the nodes in order, starting with the one that answered last."""

    def __init__(self, world: SimulatedCluster, order: list[int], user: str, database: str) -> None:
        self._world = world
        self._order = order
        self._user = user
        self._database = database

    @property
    def where(self) -> str:
        return f"{self._user}@node{self._order[0]}/{self._database}"

    def open(self, settings: dict[str, str]) -> Wire:
        failure: OperationalError | None = None
        for node in list(self._order):
            try:
                wire = SimulatedWire(self._world.dial(node), partial(self._world.dial, node))
                wire.start(self._user, "", {"database": self._database, **settings})
            except (OSError, TxndbError) as error:
                failure = lost(f"cannot connect to node {node}: {error}", "08001")
            except OperationalError as error:
                if error.sqlstate not in ("57P03", "57P01", "53300") and not error.sqlstate.startswith("08"):
                    raise
                failure = error
            else:
                self._order.remove(node)
                self._order.insert(0, node)
                return wire
        assert failure is not None
        raise failure

    def share(self) -> _Dialer:
        return _Dialer(self._world, list(self._order), self._user, self._database)

    def close(self) -> None:
        """Nothing is held."""


__all__ = ["SimulatedCluster", "WorldError"]
