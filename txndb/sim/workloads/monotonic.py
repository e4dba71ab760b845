"""Monotonic: every addition is one more than the largest number so far, wherever that number lies.

A transaction reads the maximum over several tables – a backward scan of an index each – and inserts the next
number into one of them. Numbers are therefore given in the order of commits: two additions never get one number (a
phantom that the scan's lock missed, a lost update), and one that began after another ended gets a larger one (a
stale read under lock). A read sees all numbers up to some largest, without gaps, and none that is older than what
was known.

Hunts: phantoms (K2), reads of a leaseholder that is none (L2, L4), read locks not validated at the end (M4).
"""

from __future__ import annotations

from random import Random
from typing import Final

from txndb.sim.checkers import monotonic
from txndb.sim.history import History
from txndb.sim.workloads.api import SqlClient, meet, wander
from txndb.sim.workloads.micro import told
from txndb.sim.workloads.sets import by_key
from txndb.sim.workloads.verdicts import findings

_TABLES: Final = 3
_ADDS_PER_KEY: Final = 80


class Monotonic:
    """The workload; each key counts by itself."""

    model = "monotonic"

    def __init__(self, rng: Random) -> None:
        self.splits = rng.randrange(4)
        self.live = rng.choice((1, 3))
        self.indexed = rng.random() < 0.6
        self._invoked = 0
        self._problems: list[str] = []

    async def set_up(self, client: SqlClient) -> None:
        for i in range(_TABLES):
            if self.indexed:
                await client.single(
                    f"CREATE TABLE mono{i} (k INT PRIMARY KEY, g INT NOT NULL, v INT NOT NULL)"
                )
                await client.single(f"CREATE INDEX mono{i}_v ON mono{i} (g, v DESC)")
            else:
                await client.single(f"CREATE TABLE mono{i} (g INT, v INT, k INT, PRIMARY KEY (g, v, k))")
            for part in range(self.splits):
                await client.single(self._split(i, 40 * part + 20))

    async def operate(self, client: SqlClient) -> None:
        await wander(client, 0.2)
        await meet(client, 0.3)
        key = self._key(client.rng)
        if client.rng.random() < 0.3:
            await self._read(client, key)
        else:
            await self._add(client, key)

    async def read_all(self, client: SqlClient) -> None:
        last = self._generation() * self.live + self.live
        for key in range(last):
            await self._read(client, key)

    def split_statement(self, rng: Random) -> str:
        return self._split(rng.randrange(_TABLES), rng.randrange(200))

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = list(self._problems)
        for key, ops in by_key(history).items():
            problems += findings(monotonic.check(ops, real_time=real_time, gapless=True), f"of key {key}")
        return problems

    def _split(self, table: int, at: int) -> str:
        values = f"({at})" if self.indexed else f"({at // 20}, {at}, 0)"
        return f"ALTER TABLE mono{table} SPLIT AT VALUES {values}"

    def _generation(self) -> int:
        return self._invoked // (self.live * _ADDS_PER_KEY)

    def _key(self, rng: Random) -> int:
        return self._generation() * self.live + rng.randrange(self.live)

    async def _add(self, client: SqlClient, key: int) -> None:
        rng = client.rng
        self._invoked += 1
        unique, target = self._invoked, rng.randrange(_TABLES)
        order = rng.sample(range(_TABLES), _TABLES)
        by_order = rng.random() < 0.5

        async def add() -> int:
            largest = 0
            for i in order:
                if by_order:
                    sql = f"SELECT v FROM mono{i} WHERE g = $1 ORDER BY v DESC LIMIT 1"
                else:
                    sql = f"SELECT coalesce(max(v), 0) FROM mono{i} WHERE g = $1"
                rows = (await client.statement(sql, (key,))).rows
                largest = max(largest, int(rows[0][0]) if rows else 0)
            insert = f"INSERT INTO mono{target} (k, g, v) VALUES ($1, $2, $3)"
            await client.statement(insert, (unique, key, largest + 1))
            return largest + 1

        async def perform() -> int:
            return await client.transaction(add)

        await client.operation("add", key, None, lambda: told(self._problems, f"add {key}", perform))

    async def _read(self, client: SqlClient, key: int) -> None:
        style = client.rng.randrange(3)
        parts = [f"SELECT v FROM mono{i} WHERE g = $1" for i in range(_TABLES)]

        async def one_by_one() -> list[int]:
            return [int(row[0]) for sql in parts for row in (await client.statement(sql, (key,))).rows]

        async def perform() -> list[int]:
            if style == 0:
                rows = (await client.single(" UNION ALL ".join(parts), (key,))).rows
                return sorted(int(row[0]) for row in rows)
            return sorted(await client.transaction(one_by_one, "BEGIN READ ONLY" if style == 1 else "BEGIN"))

        await client.operation("read", key, None, perform)
