"""Counter: additions to numbers that are spread over several rows; no addition is lost, none counts twice.

A counter is the sum of its shards, which lie in different ranges, so a read is a snapshot over ranges. Additions
are one UPDATE, an INSERT … ON CONFLICT DO UPDATE, or a read (at times FOR UPDATE) and a write back in a
transaction. A read must lie between what was certainly added before it and what may have been added by then.

Hunts: lost updates (K1, K2, M4), commits applied twice (C2, M6), torn reads and stale ones (S1, L2).
"""

from __future__ import annotations

from random import Random
from typing import Final

from txndb.sim.checkers import counter
from txndb.sim.history import History
from txndb.sim.workloads.api import SqlClient, meet, wander
from txndb.sim.workloads.micro import told
from txndb.sim.workloads.sets import by_key, final_reads
from txndb.sim.workloads.verdicts import findings

_COUNTERS: Final = 3


class Counter:
    """The workload; each key is a counter."""

    model = "counter"

    def __init__(self, rng: Random) -> None:
        self.shards = rng.choice((1, 2, 4))
        self.splits = rng.random() < 0.8
        self.negative = rng.random() < 0.5
        self._problems: list[str] = []

    async def set_up(self, client: SqlClient) -> None:
        await client.single(
            "CREATE TABLE counters (shard INT, c INT, n BIGINT NOT NULL, PRIMARY KEY (shard, c))"
        )
        await client.single("CREATE INDEX counters_c ON counters (c)")
        for shard in range(1, self.shards if self.splits else 0):
            await client.single(f"ALTER TABLE counters SPLIT AT VALUES ({shard}, 0)")

    async def operate(self, client: SqlClient) -> None:
        await wander(client, 0.2)
        await meet(client, 0.3)
        key = client.rng.randrange(_COUNTERS)
        if client.rng.random() < 0.35:
            await self._read(client, key)
        else:
            await self._add(client, key)

    async def read_all(self, client: SqlClient) -> None:
        for key in range(_COUNTERS):
            await self._read(client, key)

    def split_statement(self, rng: Random) -> str:
        return (
            f"ALTER TABLE counters SPLIT AT VALUES ({rng.randrange(self.shards)}, {rng.randrange(_COUNTERS)})"
        )

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = list(self._problems)
        for key, ops in by_key(history).items():
            problems += findings(
                counter.check(ops if real_time else final_reads(ops, "add")), f"of key {key}"
            )
        return problems

    async def _add(self, client: SqlClient, key: int) -> None:
        rng = client.rng
        amount = 1 + rng.randrange(5)
        if self.negative and rng.random() < 0.3:
            amount = -amount
        shard, style, lock = rng.randrange(self.shards), rng.randrange(4), rng.random() < 0.5
        other, moved = rng.randrange(self.shards), rng.randrange(1000)
        upsert = (
            "INSERT INTO counters (shard, c, n) VALUES ($1, $2, $3) "
            "ON CONFLICT (shard, c) DO UPDATE SET n = counters.n + excluded.n"
        )
        update = "UPDATE counters SET n = n + $3 WHERE shard = $1 AND c = $2"
        select = f"SELECT n FROM counters WHERE shard = $1 AND c = $2{' FOR UPDATE' if lock else ''}"

        async def update_or_insert() -> None:
            if (await client.statement(update, (shard, key, amount))).tag == "UPDATE 0":
                await client.statement(upsert, (shard, key, amount))

        async def read_then_write() -> None:
            rows = (await client.statement(select, (shard, key))).rows
            if rows:
                sql = "UPDATE counters SET n = $3 WHERE shard = $1 AND c = $2"
                await client.statement(sql, (shard, key, rows[0][0] + amount))
            else:
                await client.statement(
                    "INSERT INTO counters (shard, c, n) VALUES ($1, $2, $3)", (shard, key, amount)
                )

        async def over_shards() -> None:
            await client.statement(upsert, (shard, key, amount + moved))
            await client.statement(upsert, (other, key, -moved))

        ways = (update_or_insert, read_then_write, over_shards)

        async def perform() -> int:
            if style == 0:
                await client.single(upsert, (shard, key, amount), writes=True)
            else:
                await client.transaction(ways[style - 1])
            return amount

        await client.operation("add", key, amount, lambda: told(self._problems, f"add {key}", perform))

    async def _read(self, client: SqlClient, key: int) -> None:
        style = client.rng.randrange(3)
        one = "SELECT coalesce(sum(n), 0)::bigint FROM counters WHERE c = $1"
        shard_sql = "SELECT n FROM counters WHERE shard = $1 AND c = $2"

        async def shard_by_shard() -> int:
            total = 0
            for shard in range(self.shards):
                rows = (await client.statement(shard_sql, (shard, key))).rows
                total += int(rows[0][0]) if rows else 0
            return total

        async def perform() -> int:
            if style == 0:
                return int((await client.single(one, (key,))).rows[0][0])
            return await client.transaction(shard_by_shard, "BEGIN READ ONLY" if style == 1 else "BEGIN")

        await client.operation("read", key, None, perform)
