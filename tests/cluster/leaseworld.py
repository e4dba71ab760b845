"""Three real nodes in the simulator, without chance: sessions on each, links cut and nodes paused by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from txndb.cluster.node import Node
from txndb.sim.brain import NodeBrain, node_parts
from txndb.sim.clients import SimConnection
from txndb.sim.host import Machinery, SimHost
from txndb.sim.loop import VirtualLoop
from txndb.sim.nemesis import both
from txndb.sim.network import Network, NetworkOptions
from txndb.sim.seeds import derive
from txndb.sim.trace import Trace

T = TypeVar("T")
LEASE_US = 4_000_000
OUTCOME_TTL_US = 10_000_000
NODES = 3


_unburied: list[VirtualLoop] = []


def bury_worlds() -> None:
    """End every world there was: what it left unfinished would else be collected, and clean up, inside another one."""
    while _unburied:
        _unburied.pop().bury()


class LeaseWorld:
    """The cluster; `run` lets virtual time pass until something is done."""

    def __init__(self, *canaries: str, seed: int = 1) -> None:
        """A `seed` divisible by three puts each node on a host of its own."""
        bury_worlds()
        self.loop = VirtualLoop()
        _unburied.append(self.loop)
        self.network = Network(self.loop, derive(1, "net"), NetworkOptions(), Trace(), canaries)
        self.hosts = Machinery(
            network=self.network,
            parts=node_parts(),
            seed=seed,
            machines=NODES,
            engine_flush_bytes=1_000_000,
            canaries=canaries,
            catalog_lease_us=LEASE_US,
            outcome_ttl_us=OUTCOME_TTL_US,
        ).hosts()
        for host in self.hosts:
            host.start()
            self._until_ready(host)
        self._until(lambda: all(self.node(n).replica_digests() for n in range(1, NODES + 1)))

    def run(self, work: Coroutine[Any, Any, T], bound_s: float = 60.0) -> T:
        """Virtual time passes until `work` is done."""
        task = self.loop.create_task(work)
        limit_us = self.loop.now_us + int(bound_s * 1e6)
        while not task.done():
            assert self.loop.now_us < limit_us, "not done in time"
            self.loop.run_until_us(self.loop.now_us + 10_000)
            assert not self.loop.problems, self.loop.problems
        return task.result()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something that is waited for later."""
        return self.loop.create_task(work)

    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    def finish(self, task: asyncio.Task[T], bound_s: float = 60.0) -> T:
        """Wait for something begun with `start`; its error is raised here."""

        async def joined() -> T:
            return await task

        return self.run(joined(), bound_s)

    def _until_ready(self, host: SimHost) -> None:
        self._until(lambda: host.ready)

    def _until(self, done: Callable[[], bool]) -> None:
        for _ in range(3000):
            if done():
                return
            self.loop.run_until_us(self.loop.now_us + 10_000)
        raise AssertionError("not within 30 s")

    def node(self, number: int) -> Node:
        brain = self.hosts[number - 1].brain
        assert isinstance(brain, NodeBrain)
        return brain.node

    def connect(self, number: int) -> SimConnection:
        """A session at a node."""
        connection = SimConnection(self.hosts[number - 1], 60_000_000)
        self.run(connection.open())
        return connection

    def execute(self, connection: SimConnection, *statements: str) -> list[tuple[Any, ...]]:
        """Statements one after the other; the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        for sql in statements:
            rows = self.run(connection.execute(sql)).rows
        return rows

    def at(self, number: int, *statements: str) -> list[tuple[Any, ...]]:
        """The same in a session of its own."""
        return self.execute(self.connect(number), *statements)

    def restart(self, number: int) -> None:
        """kill -9 and start again."""
        host = self.hosts[number - 1]
        host.kill()
        host.start()
        self._until_ready(host)

    def pause(self, number: int) -> None:
        incarnation = self.hosts[number - 1].incarnation
        assert incarnation is not None
        incarnation.pause()

    def resume(self, number: int) -> None:
        incarnation = self.hosts[number - 1].incarnation
        assert incarnation is not None
        incarnation.resume()

    def isolate(self, number: int) -> None:
        self.network.block([link for n in range(1, NODES + 1) if n != number for link in both(number, n)])

    def rejoin(self, number: int) -> None:
        self.network.unblock([link for n in range(1, NODES + 1) if n != number for link in both(number, n)])

    async def connect_later(self, number: int, sql: str) -> list[tuple[Any, ...]]:
        """Connect and run one statement, for `start`: connecting may have to wait as well."""
        connection = SimConnection(self.hosts[number - 1], 60_000_000)
        await connection.open()
        return (await connection.execute(sql)).rows
