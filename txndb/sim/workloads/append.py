"""Append: transactions append unique elements to lists and read lists whole; what Elle reads the most from.

An element's place in a list tells the order of all its writers, so every dependency between transactions can be
inferred, and any cycle of them found: lost updates, write skew, long forks, reads of aborted or half-committed
transactions, stale reads. Hunts G0, G1a-c, G-single, G2 (items and, through scans for the next position, predicates).

Three tables, each with lists in a form drawn per seed (`txndb.sim.workloads.cells`): text, rows, rows behind an index.
Also reads in the past (AS OF SYSTEM TIME): they are serializable with all others, but not in real time; so the history
is judged twice, without them strictly and with them not.
"""

from __future__ import annotations

from random import Random

from txndb.sim.checkers.elle import levels
from txndb.sim.checkers.elle.judge import check_append
from txndb.sim.checkers.verdict import Verdict
from txndb.sim.history import History, Op
from txndb.sim.workloads.api import SqlClient, meet, wander
from txndb.sim.workloads.cells import LISTS, make, split_somewhere
from txndb.sim.workloads.micro import PAST, Keys, Micro, Performer, present, timeless, told
from txndb.sim.workloads.verdicts import findings

_TABLES = 3
_FINAL_KEYS_MAX = 240
_FINAL_KEYS_EACH = 6


class Append:
    """The workload."""

    model = "append"
    write = "append"
    kinds = LISTS

    def __init__(self, rng: Random) -> None:
        self.splits = rng.randrange(4)
        self.keys = Keys(rng.choice((2, 5, 8)), rng.choice((6, 20, 60)))
        self.length_max = rng.choice((2, 4, 6))
        self.past = rng.choice((0.0, 0.1))
        self.performer = Performer([rng.choice(self.kinds)(f"cells{i}") for i in range(_TABLES)])
        self._values = 0

    async def set_up(self, client: SqlClient) -> None:
        await make(client, self.performer.tables, self.splits)

    async def operate(self, client: SqlClient) -> None:
        await wander(client, 0.1)
        await meet(client, 0.2)
        rng = client.rng
        if rng.random() < self.past:
            await self._read_past(client)
            return
        micros = self._draw(rng)
        style = rng.random()

        async def perform() -> list[Micro]:
            if len(micros) == 1 and style < 0.7:
                return await self.performer.alone(client, micros[0])
            if style < 0.6 and all(micro[0] == "r" for micro in micros):
                return await self.performer.together(client, micros, "BEGIN READ ONLY")
            return await self.performer.together(client, micros)

        problems = self.performer.problems
        await client.operation("txn", None, micros, lambda: told(problems, f"txn {micros}", perform))

    async def read_all(self, client: SqlClient) -> None:
        first = max(0, self.keys.used - _FINAL_KEYS_MAX)
        for start in range(first, self.keys.used, _FINAL_KEYS_EACH):
            keys = range(start, min(start + _FINAL_KEYS_EACH, self.keys.used))
            await self._read(client, "txn", [["r", key, None] for key in keys], "BEGIN READ ONLY")

    def split_statement(self, rng: Random) -> str:
        return split_somewhere(self.performer.tables, rng, self.keys.used // _TABLES + 1)

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        now = present(history, "txn")
        problems = self.performer.found(history)
        problems += findings(self.judge(now, levels.STRICT if real_time else levels.SERIALIZABLE))
        if self.past and real_time:
            problems += findings(
                self.judge(timeless(history, "txn", "past"), levels.SERIALIZABLE), "with the past"
            )
        return problems

    @staticmethod
    def judge(ops: list[Op], level: str) -> Verdict:
        """The checker's verdict."""
        return check_append(ops, level=level)

    def _draw(self, rng: Random) -> list[Micro]:
        """A transaction: reads and writes in equal parts, at times of one key twice."""
        micros: list[Micro] = []
        reads_only = rng.random() < 0.2
        for _ in range(1 + rng.randrange(self.length_max)):
            key = micros[-1][1] if micros and rng.random() < 0.25 else self.keys.draw(rng)
            if reads_only or rng.random() < 0.5:
                micros.append(["r", key, None])
            else:
                self._values += 1
                self.keys.write(key)
                micros.append([self.write, key, self._values])
        return micros

    async def _read_past(self, client: SqlClient) -> None:
        rng = client.rng
        keys = sorted({self.keys.draw(rng) for _ in range(3)})
        begin = PAST.format(rng.choice((1, 50, 300, 1000)))
        await self._read(client, "past", [["r", key, None] for key in keys], begin)

    async def _read(self, client: SqlClient, f: str, micros: list[Micro], begin: str) -> None:
        await client.operation(f, None, micros, lambda: self.performer.together(client, micros, begin))
