"""Set and set-full: every element that was added is there, from the moment its addition ended.

Elements are rows of several tables. *Set* adds them and reads all at the end: what is missing was lost, what is there
and was never added is a phantom. *Set-full* reads all the time: an element that was seen once, or whose addition was
acknowledged, may never be missing later (stale reads, lost writes, phantoms that a scan's lock missed). Reads go
through the primary key, through a secondary index, or count on both; additions are single statements, ON CONFLICT DO
NOTHING, several rows at once, or rows put in behind a savepoint that undid others.

Hunts: acknowledged writes lost to crashes and changes of leader (C1, C3, L1, T4), splits that forget rows (R1, R3),
index entries that differ from rows.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from txndb.sim.checkers import sets
from txndb.sim.history import History, Op
from txndb.sim.workloads.api import SqlClient, meet, wander
from txndb.sim.workloads.micro import told
from txndb.sim.workloads.verdicts import findings

_TABLES: Final = 2
_ADDS_PER_KEY: Final = 120
_SCATTER: Final = 7919
"""Prime: element e lies at e · 7919 mod 10,007, so that neighbours in time are not neighbours in the table."""
_PLACES: Final = 10_007


class SetWorkload:
    """Set: additions, and one read of everything at the end. Each key is a set of its own."""

    model = "set"
    reads = 0.0

    def __init__(self, rng: Random) -> None:
        self.splits = rng.randrange(4)
        self.many = rng.choice((0.0, 0.2))
        self._added = 0
        self._problems: list[str] = []

    async def set_up(self, client: SqlClient) -> None:
        for i in range(_TABLES):
            await client.single(
                f"CREATE TABLE set{i} (place INT, e INT, s INT NOT NULL, PRIMARY KEY (place, e), UNIQUE (e))"
            )
            await client.single(f"CREATE INDEX set{i}_s ON set{i} (s)")
            for part in range(1, self.splits + 1):
                at = part * _PLACES // (self.splits + 1)
                await client.single(f"ALTER TABLE set{i} SPLIT AT VALUES ({at}, 0)")

    async def operate(self, client: SqlClient) -> None:
        await wander(client, 0.2)
        await meet(client, 0.2)
        if self._added and client.rng.random() < self.reads:
            await self._read(client, (self._added - 1) // _ADDS_PER_KEY, client.rng.randrange(3))
        else:
            await self._add(client)

    async def read_all(self, client: SqlClient) -> None:
        last = self._added // _ADDS_PER_KEY
        for key in range(last + 1):
            await self._read(client, key, 1)

    def split_statement(self, rng: Random) -> str:
        return f"ALTER TABLE set{rng.randrange(_TABLES)} SPLIT AT VALUES ({rng.randrange(_PLACES)}, 0)"

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = list(self._problems)
        for key, ops in by_key(history).items():
            problems += findings(sets.check_set(ops), f"of key {key}")
        return problems

    async def _add(self, client: SqlClient) -> None:
        rng = client.rng
        element = self._added
        self._added += 1
        key, style = element // _ADDS_PER_KEY, rng.random()
        insert = f"INSERT INTO set{element % _TABLES} (place, e, s) VALUES ($1, $2, $3)"
        row = (element * _SCATTER % _PLACES, element, key)

        async def behind_savepoint() -> None:
            await client.statement("SAVEPOINT before")
            await client.statement(insert, (row[0], -1 - element, key))
            await client.statement(f"DELETE FROM set{element % _TABLES} WHERE s = $1", (key,))
            await client.statement("ROLLBACK TO SAVEPOINT before")
            await client.statement(insert, row)

        other, place = rng.randrange(element + 1), rng.randrange(_PLACES)

        async def counted() -> None:
            """Counts, and moves another element: its row gets another primary key, perhaps in another range."""
            await client.statement(f"SELECT count(*) FROM set{element % _TABLES} WHERE s = $1", (key,))
            await client.statement(
                f"UPDATE set{element % _TABLES} SET place = $2 WHERE e = $1", (other, place)
            )
            await client.statement(insert, row)

        async def perform() -> int:
            if style < 0.4:
                await client.single(insert, row, writes=True)
            elif style < 0.6:
                await client.single(f"{insert} ON CONFLICT DO NOTHING", row, writes=True)
            elif style < 0.8:
                await client.transaction(counted)
            else:
                await client.transaction(behind_savepoint)
            return element

        await client.operation("add", key, element, lambda: told(self._problems, f"add {element}", perform))

    async def _read(self, client: SqlClient, key: int, style: int) -> None:
        ways = (
            "SELECT e FROM {} WHERE s = $1",
            "SELECT e FROM {} WHERE place >= 0 AND s + 0 = $1",
            "SELECT e FROM {} WHERE s = $1 ORDER BY e DESC",
        )
        parts = [ways[style].format(f"set{i}") for i in range(_TABLES)]

        async def one_by_one() -> list[tuple[Any, ...]]:
            return [row for sql in parts for row in (await client.statement(sql, (key,))).rows]

        async def perform() -> list[int]:
            if style == 0:
                rows = (await client.single(" UNION ALL ".join(parts), (key,))).rows
            else:
                rows = await client.transaction(one_by_one, "BEGIN READ ONLY" if style == 1 else "BEGIN")
            return sorted(int(row[0]) for row in rows)

        await client.operation("read", key, None, perform)


class SetFull(SetWorkload):
    """Set-full: sets are read all the time."""

    model = "set-full"
    reads = 0.3

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = list(self._problems)
        for key, ops in by_key(history).items():
            problems += findings((sets.check_set_full if real_time else sets.check_set)(ops), f"of key {key}")
        return problems


def final_reads(ops: list[Op], writes: str) -> list[Op]:
    """Without the reads that were invoked before the last write ended: what is left tells what is there in the end."""
    last = max((i for i, op in enumerate(ops) if op.f == writes), default=-1)
    early = {op.process for op in ops[: last + 1] if op.f != writes and op.type == "invoke"}
    kept = []
    for i, op in enumerate(ops):
        if op.f != writes and op.type == "invoke" and i > last:
            early.discard(op.process)
        if op.f == writes or (i > last and op.process not in early):
            kept.append(op)
    return kept


def by_key(history: History) -> dict[Any, list[Op]]:
    """The operations of each key."""
    keys: dict[Any, list[Op]] = {}
    for op in history.ops:
        keys.setdefault(op.key, []).append(op)
    return keys
