"""Transactions of micro-operations: what append, rw, multi-register and long-fork have in common.

A transaction's value is a list of `[f, key, value]`, with f "r" or a write ("w", "append"), as Elle and Jepsen
have it; a read's value is None when it is invoked and what was seen when it is ok. How it runs is drawn: alone as
one statement, in a read-only block, in a read-write block, some reads FOR UPDATE, some writes tried first under a
savepoint and undone, the reads that it begins with under a savepoint that is left before the first write (they count
all the same: rule K7). What was undone is remembered, and nobody may ever see it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random
from typing import Any, Final, TypeVar

from txndb.errors import TxndbError
from txndb.sim.history import History, Op
from txndb.sim.workloads.api import QueryResult, SqlClient
from txndb.sim.workloads.cells import Cells, Execute, Named

T = TypeVar("T")
Micro = list[Any]
"""[f, key, value]"""
_TOLD_CLASSES: Final = ("22", "23", "42", "XX")
"""SQLSTATE classes that no statement of a workload may ever get."""
PAST: Final = "BEGIN AS OF SYSTEM TIME '-{}ms'"


class Keys:
    """Keys in use: a few at a time, each retired after a number of writes."""

    def __init__(self, live: int, writes_max: int) -> None:
        self._live = list(range(live))
        self._writes = [0] * live
        self._writes_max = writes_max
        self.used = live
        """Keys 0 … used - 1 are or were in use."""

    def draw(self, rng: Random) -> int:
        """A key in use."""
        return rng.choice(self._live)

    def write(self, key: int) -> None:
        """Count a write of a key."""
        if key not in self._live:
            return
        slot = self._live.index(key)
        self._writes[slot] += 1
        if self._writes[slot] >= self._writes_max:
            self._live[slot], self._writes[slot] = self.used, 0
            self.used += 1


class Performer:
    """Runs micro-operations over tables; key k is row k // n of table k % n."""

    def __init__(self, tables: list[Cells]) -> None:
        self.tables = tables
        self.problems: list[str] = []
        self._undone: set[int] = set()
        self._bogus = 0

    async def micro(self, execute: Execute, micro: Micro, *, lock: bool) -> Micro:
        """Perform one; returns it with what was read."""
        f, key, value = micro
        cells, row = self.tables[key % len(self.tables)], key // len(self.tables)
        if f == "r":
            return [f, key, await cells.read(execute, row, lock=lock)]
        await cells.write(execute, row, value)
        return micro

    async def alone(self, client: SqlClient, micro: Micro) -> list[Micro]:
        """One micro-operation that is a transaction of its own."""
        reads = micro[0] == "r"
        if not reads and isinstance(self.tables[micro[1] % len(self.tables)], Named):
            return await self.together(client, [micro])  # a write of this kind takes two statements

        async def execute(sql: str, params: tuple[Any, ...]) -> QueryResult:
            return await client.single(sql, params, writes=not reads)

        return [await self.micro(execute, micro, lock=False)]

    async def together(self, client: SqlClient, micros: Sequence[Micro], begin: str = "BEGIN") -> list[Micro]:
        """Several in one transaction; in a read-write one some reads lock and some writes are tried before."""
        rng, writes = client.rng, begin == "BEGIN"
        lock_p, undo_p = (rng.choice((0.0, 0.3)), rng.choice((0.0, 0.0, 0.3))) if writes else (0.0, 0.0)
        locks = [rng.random() < lock_p for _ in micros]
        first_write = next((i for i, micro in enumerate(micros) if micro[0] != "r"), len(micros))
        glances = first_write if writes and rng.random() < 0.3 else 0
        undos = [micro[0] != "r" and rng.random() < undo_p for micro in micros]

        async def body() -> list[Micro]:
            done = []
            if glances:
                await client.statement("SAVEPOINT glance")
            for place, (micro, lock, undo) in enumerate(zip(micros, locks, undos, strict=True)):
                if glances and place == glances:
                    await client.statement("ROLLBACK TO SAVEPOINT glance")
                if undo:
                    await self._undo(client, micro)
                done.append(await self.micro(client.statement, micro, lock=lock))
            return done

        return await client.transaction(body, begin)

    async def _undo(self, client: SqlClient, micro: Micro) -> None:
        """Write something that is never committed."""
        self._bogus -= 1
        self._undone.add(self._bogus)
        await client.statement("SAVEPOINT before")
        await self.micro(client.statement, [micro[0], micro[1], self._bogus], lock=False)
        await client.statement("ROLLBACK TO SAVEPOINT before")

    def found(self, history: History) -> list[str]:
        """Findings that need no model: errors that cannot be, and reads of what was undone."""
        problems = list(self.problems)
        for op in history.ops:
            if op.type == "ok" and isinstance(op.value, list):
                for _, key, value in reads_of(op.value):
                    seen = value if isinstance(value, list) else [value]
                    if undone := self._undone.intersection(seen):
                        problems.append(
                            f"{op.index}: key {key} shows {sorted(undone)}, which was rolled back"
                        )
        return problems


def reads_of(micros: Iterable[Micro]) -> list[Micro]:
    """The reads of a transaction."""
    return [micro for micro in micros if micro[0] == "r"]


async def told(problems: list[str], what: str, perform: Callable[[], Awaitable[T]]) -> T:
    """Run `perform`; an error that no statement of a workload may get becomes a finding as well."""
    try:
        return await perform()
    except TxndbError as error:
        if error.code[:2] in _TOLD_CLASSES:
            problems.append(f"{what}: {error.code} {error.message} {error.detail}")
        raise


def present(history: History, f: str) -> list[Op]:
    """The history without reads of the past, which are of another real-time order: what is not `f` is left out."""
    return [op for op in history.ops if op.f == f]


def timeless(history: History, f: str, past: str) -> list[Op]:
    """The history with reads of the past as if they were reads of now: for checks that ask nothing of real time."""
    return [
        Op(op.index, op.process, op.type, f, op.value, op.key, op.time_us)
        for op in history.ops
        if op.f in (f, past)
    ]
