"""The operator: what people do to a running database, drawn from the seed, while the nemesis does its own.

Ranges are split at random keys, leases are transferred, nodes are restarted gracefully: hand over, hang up, close,
start – sometimes with the power lost right after the close, which must have left nothing to lose. Tables of whatever
workload runs get and lose indexes and columns (`txndb.sim.schemaactor`), two people change one table while the gateway
of one of them sleeps (`txndb.sim.schemarace`), and the past is read again and again while versions are collected
(`txndb.sim.pastreader`).

It has a schedule of its own, so that with or without it the nemesis draws the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Final

from txndb.errors import TxndbError
from txndb.sim.clients import Client, ConnectionLostError, GaveUpError
from txndb.sim.cuts import CUTS
from txndb.sim.host import SimHost
from txndb.sim.nemesis.scene import Scene
from txndb.sim.pastreader import PastReader
from txndb.sim.schedule import Schedule
from txndb.sim.schemaactor import SchemaActor
from txndb.sim.schemarace import SchemaRace
from txndb.sim.trace import Trace
from txndb.sim.workloads import Workload

STOP_S: Final = 15.0
"""A graceful stop may take this long; then the process is killed, as a service manager does."""
SPLITS_MAX: Final = 12
SPLIT_CLIENT, SCHEMA_CLIENT, PAST_CLIENT = 20_000, 30_000, 40_000
"""Numbers of the operator's clients."""


class Operator:
    """Acts until cancelled."""

    def __init__(
        self,
        hosts: list[SimHost],
        schedule: Schedule,
        trace: Trace,
        workload: Workload,
        client: Callable[[int], Client],
        problem: Callable[[str], None],
    ) -> None:
        self._hosts = hosts
        self._schedule = schedule
        self._trace = trace
        self._workload = workload
        self._client = client
        self._splits = 0
        self._schema = SchemaActor(client, SCHEMA_CLIENT, trace, problem)
        self._race = SchemaRace(hosts, trace, problem)
        self._past = PastReader(client, PAST_CLIENT, trace, problem)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._actions: dict[str, Callable[[Random], Awaitable[None]]] = {
            "split": self._split,
            "transfer": self._transfer,
            "restart": self._restart,
            "schema": self._schema.act,
            "schema_race": self._race.act,
            "old_read": self._past.act,
            **{kind: partial(self._split_at_work, kind) for kind in CUTS},
        }

    async def run(self) -> None:
        """One action after another, when the schedule says so, until cancelled. One of a kind at a time: an action
        that is due while the one before it still goes on is left out."""
        try:
            while True:
                act = await self._schedule.next()
                running = self._busy.get(act.kind)
                if running is not None and running.done():
                    running.result()
                if running is None or running.done():
                    self._trace.counts[f"fault_{act.kind}"] += 1
                    chance = self._schedule.chance(act)
                    task = asyncio.get_running_loop().create_task(self._act(act.kind, chance))
                    self._busy[act.kind] = task
        finally:
            for task in self._busy.values():
                task.cancel()

    async def finish(self) -> None:
        """What is still under way has ended, and raised what it had to raise."""
        for done in await asyncio.gather(*self._busy.values(), return_exceptions=True):
            if isinstance(done, Exception):
                raise done

    async def check(self, client: Client) -> list[str]:
        """What is wrong, on a cluster at rest, with what was done here."""
        problems = await self._race.check(client)
        if any(act.kind == "schema" for act in self._schedule.taken):
            problems += await self._schema.check(client)
        return problems

    async def _act(self, kind: str, rng: Random) -> None:
        await self._actions[kind](rng)

    async def _split(self, rng: Random) -> None:
        if self._splits >= SPLITS_MAX:
            return
        self._splits += 1
        client = self._client(SPLIT_CLIENT + self._splits)
        try:
            await client.single(self._workload.split_statement(rng))
        except (TxndbError, ConnectionLostError, GaveUpError):
            self._trace.counts["split_refused"] += 1
        finally:
            client.close()

    async def _split_at_work(self, kind: str, rng: Random) -> None:
        """A split where chance hardly puts one (`txndb.sim.cuts`)."""
        host = rng.choice(self._hosts)
        if (
            self._splits < SPLITS_MAX
            and host.ready
            and host.incarnation is not None
            and host.brain is not None
        ):
            self._splits += 1
            host.incarnation.spawn(host.brain.split_at_work(kind))

    async def _transfer(self, rng: Random) -> None:
        host, draw = rng.choice(self._hosts), rng.randrange(1 << 32)
        if host.ready and host.incarnation is not None and host.brain is not None:
            host.incarnation.call_soon(host.brain.transfer_lease, draw)

    async def _restart(self, rng: Random) -> None:
        host, then_power = rng.choice(self._hosts), rng.random() < 0.5
        if not host.ready:
            return
        try:
            await asyncio.wait_for(host.stop(), STOP_S)
        except TimeoutError:
            self._trace.counts["stop_too_long"] += 1
        if then_power:
            host.power_off()
        Scene.start(host)
