"""Comments: whoever sees a comment sees all that were written before it was begun.

Writers insert numbered comments into several tables, one transaction each; readers read all tables in one transaction.
If one comment's insertion ended before another's began, no reader may see the second without the first. Serializability
alone allows it (the "causal reverse"); strict serializability does not. CockroachDB was caught with it by Jepsen's
workload of this name.

Hunts: commit wait and clock bounds (T1, T2, T3), snapshots that one of the ranges does not honour (S1).
"""

from __future__ import annotations

from random import Random
from typing import Final

from txndb.sim.checkers import comments
from txndb.sim.history import History
from txndb.sim.workloads.api import SqlClient, meet, wander
from txndb.sim.workloads.micro import told
from txndb.sim.workloads.sets import by_key
from txndb.sim.workloads.verdicts import findings

_TABLES: Final = 4
_WRITES_PER_KEY: Final = 40


class Comments:
    """The workload; each key is a thread of comments."""

    model = "comments"

    def __init__(self, rng: Random) -> None:
        self.splits = rng.randrange(3)
        self.in_block = rng.choice((0.0, 0.5))
        self._written = 0
        self._problems: list[str] = []

    async def set_up(self, client: SqlClient) -> None:
        for i in range(_TABLES):
            await client.single(f"CREATE TABLE comment{i} (id INT PRIMARY KEY, thread INT NOT NULL)")
            await client.single(f"CREATE INDEX comment{i}_thread ON comment{i} (thread)")
            for part in range(self.splits):
                await client.single(f"ALTER TABLE comment{i} SPLIT AT VALUES ({40 * part + 20})")

    async def operate(self, client: SqlClient) -> None:
        await wander(client, 0.3)
        await meet(client, 0.3)
        if not self._written or client.rng.random() < 0.5:
            await self._write(client)
        else:
            await self._read(client, (self._written - 1) // _WRITES_PER_KEY)

    async def read_all(self, client: SqlClient) -> None:
        last = self._written // _WRITES_PER_KEY
        for key in range(last + 1):
            await self._read(client, key)

    def split_statement(self, rng: Random) -> str:
        return f"ALTER TABLE comment{rng.randrange(_TABLES)} SPLIT AT VALUES ({rng.randrange(200)})"

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = list(self._problems)
        if real_time:  # the anomaly is one of real time
            for key, ops in by_key(history).items():
                problems += findings(comments.check(ops), f"of key {key}")
        return problems

    async def _write(self, client: SqlClient) -> None:
        number = self._written
        self._written += 1
        key = number // _WRITES_PER_KEY
        sql = f"INSERT INTO comment{client.rng.randrange(_TABLES)} (id, thread) VALUES ($1, $2)"
        in_block = client.rng.random() < self.in_block

        async def perform() -> int:
            if in_block:
                await client.transaction(lambda: client.statement(sql, (number, key)))
            else:
                await client.single(sql, (number, key), writes=True)
            return number

        await client.operation("write", key, number, lambda: told(self._problems, f"write {number}", perform))

    async def _read(self, client: SqlClient, key: int) -> None:
        rng = client.rng
        order = rng.sample(range(_TABLES), _TABLES)
        begin = rng.choice(("BEGIN READ ONLY", "BEGIN READ ONLY", "BEGIN"))

        async def all_tables() -> list[int]:
            seen: list[int] = []
            for i in order:
                rows = (await client.statement(f"SELECT id FROM comment{i} WHERE thread = $1", (key,))).rows
                seen += [int(row[0]) for row in rows]
            return sorted(seen)

        await client.operation("read", key, None, lambda: client.transaction(all_tables, begin))
