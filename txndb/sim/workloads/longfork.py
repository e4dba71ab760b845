"""Long-fork: keys are written once each, and readers of a group of keys must agree in which order that happened.

Parallel snapshot isolation allows two readers to see two writes in opposite orders; a serializable database never
does. The keys of a group lie in several tables, so in other ranges under other leaseholders: what it hunts is a
snapshot that is not of one moment – a read timestamp not honoured at one of the ranges, a commit that shows at one
before the other (T3, S1, M3).
"""

from __future__ import annotations

from random import Random
from typing import Final

from txndb.sim.checkers import longfork
from txndb.sim.history import History
from txndb.sim.workloads.api import SqlClient, meet, wander
from txndb.sim.workloads.cells import REGISTERS, make, split_somewhere
from txndb.sim.workloads.micro import PAST, Micro, Performer, told
from txndb.sim.workloads.verdicts import findings

_FINAL_GROUPS_MAX: Final = 150
_TABLES: Final = 3
_RECENT: Final = 2
"""Groups that readers look at: those written last."""
_BURST_MAX: Final = 4
"""Reads at once: a fork shows for as long as a commit takes."""


class LongFork:
    """The workload; group g has the keys n·g … n·g + n - 1, dealt to the tables in turn."""

    model = "long-fork"

    def __init__(self, rng: Random) -> None:
        self.size = rng.choice((3, 6, 12))
        self.splits = rng.randrange(4)
        self.past = rng.choice((0.0, 0.1))
        self.performer = Performer([rng.choice(REGISTERS)(f"fork{i}") for i in range(_TABLES)])
        self._unwritten: list[int] = []
        self._groups = 0

    async def set_up(self, client: SqlClient) -> None:
        await make(client, self.performer.tables, self.splits)
        await client.single("CREATE TABLE ballast (k INT PRIMARY KEY, v INT)")

    async def operate(self, client: SqlClient) -> None:
        await wander(client, 0.2)
        await meet(client, 0.7)
        rng = client.rng
        if rng.random() < 0.4 or not self._groups:
            await self._write(client)
            return
        for _ in range(1 + rng.randrange(_BURST_MAX)):
            group = rng.randrange(max(0, self._groups - _RECENT), self._groups)
            begin = "BEGIN READ ONLY" if rng.random() < 0.7 else "BEGIN"
            if rng.random() < self.past:
                begin = PAST.format(rng.choice((1, 50, 300)))
            await self._read(client, group, begin)

    async def read_all(self, client: SqlClient) -> None:
        for group in range(max(0, self._groups - _FINAL_GROUPS_MAX), self._groups):
            await self._read(client, group, "BEGIN READ ONLY")

    def split_statement(self, rng: Random) -> str:
        return split_somewhere(self.performer.tables, rng, self._groups)

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        return self.performer.found(history) + findings(longfork.check(history.ops))

    async def _write(self, client: SqlClient) -> None:
        """Writes the keys of the newest groups, in any order."""
        rng = client.rng
        if len(self._unwritten) < self.size:
            self._unwritten += range(self._groups * self.size, (self._groups + 1) * self.size)
            self._groups += 1
        key = self._unwritten.pop(rng.randrange(len(self._unwritten)))
        micro: Micro = ["w", key, 1 + key]
        in_block, ballast = rng.random() < 0.7, rng.randrange(1000)

        async def perform() -> list[Micro]:
            if in_block:  # with a row elsewhere, so that two ranges take part and the commit takes longer
                sql = (
                    "INSERT INTO ballast (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
                )

                async def body() -> list[Micro]:
                    await client.statement(sql, (ballast, key))
                    return [await self.performer.micro(client.statement, micro, lock=False)]

                return await client.transaction(body)
            return await self.performer.alone(client, micro)

        problems = self.performer.problems
        await client.operation("write", None, [micro], lambda: told(problems, f"write {micro}", perform))

    async def _read(self, client: SqlClient, group: int, begin: str) -> None:
        keys = list(range(group * self.size, (group + 1) * self.size))
        client.rng.shuffle(keys)
        micros: list[Micro] = [["r", key, None] for key in keys]
        await client.operation("read", None, micros, lambda: self.performer.together(client, micros, begin))
