"""Mutex: locks as applications build them, a row whose holder is set where it was NULL, or a row that is there or not.

`UPDATE … SET holder = me WHERE k = $1 AND holder IS NULL`, or INSERT … ON CONFLICT DO NOTHING, acquires; the reverse
releases. Each lock must be linearizable: acquired when free, released when held. It is the smallest thing that breaks
when two nodes believe to lead one range (L2, L3, L4), when a commit is applied twice or lost (C2, C3), or when two
updates of one row, or two insertions of one key, overlap (K1, K2).

Holding spans several transactions of one client. A release that finds another holder is a finding of its own. Locks are
retired after some operations, since an acquisition with an unknown outcome may hold one for ever.
"""

from __future__ import annotations

from random import Random
from typing import Final

from txndb.sim.checkers import mutex
from txndb.sim.history import History
from txndb.sim.workloads.api import RefusedError, SqlClient, meet, wander
from txndb.sim.workloads.micro import told
from txndb.sim.workloads.sets import by_key
from txndb.sim.workloads.verdicts import findings

_TABLES: Final = 2
"""In table 0 a lock is a row whose holder is set, in table 1 a row that is there."""
_OPERATIONS_PER_KEY: Final = 60
_LOCKS_MAX: Final = 400


class Mutex:
    """The workload; each key is a lock, row k of table k % 2."""

    model = "mutex"

    def __init__(self, rng: Random) -> None:
        self.live = rng.choice((1, 2, 4))
        self.splits = rng.randrange(3)
        self._invoked = 0
        self._tokens = 0
        self._held: dict[SqlClient, tuple[int, int]] = {}
        self._problems: list[str] = []

    async def set_up(self, client: SqlClient) -> None:
        for i in range(_TABLES):
            await client.single(f"CREATE TABLE lock{i} (k INT PRIMARY KEY, holder INT, grants INT NOT NULL)")
            await client.single(f"CREATE INDEX lock{i}_holder ON lock{i} (holder)")
            if i == 0:
                rows = ", ".join(f"({k}, NULL, 0)" for k in range(_LOCKS_MAX))
                await client.single(f"INSERT INTO lock0 (k, holder, grants) VALUES {rows}", writes=True)
            for part in range(self.splits):
                await client.single(f"ALTER TABLE lock{i} SPLIT AT VALUES ({2 * part + 1})")

    async def operate(self, client: SqlClient) -> None:
        await wander(client, 0.2)
        await meet(client, 0.6)
        held = self._held.pop(client, None)
        if held is not None:
            await self._release(client, *held)
            return
        self._invoked += 1
        generation = self._invoked // (self.live * _OPERATIONS_PER_KEY)
        key = min(generation * self.live, _LOCKS_MAX - self.live) + client.rng.randrange(self.live)
        await self._acquire(client, key)

    async def read_all(self, client: SqlClient) -> None:
        """Whoever still holds a lock releases it."""
        for key, token in list(self._held.values()):
            await self._release(client, key, token)
        self._held.clear()

    def split_statement(self, rng: Random) -> str:
        return f"ALTER TABLE lock{rng.randrange(_TABLES)} SPLIT AT VALUES ({rng.randrange(20)})"

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = list(self._problems)
        for key, ops in by_key(history).items():
            if real_time:
                problems += findings(mutex.check(ops), f"of key {key}")
                continue
            acquired = sum(op.f == "acquire" and op.type == "ok" for op in ops)
            released = sum(op.f == "release" and op.type in ("ok", "info") for op in ops)
            if acquired > released + 1:
                problems.append(f"lock {key} was acquired {acquired} times and released {released} times")
        return problems

    async def _acquire(self, client: SqlClient, key: int) -> None:
        self._tokens += 1
        token, table = self._tokens, f"lock{key % _TABLES}"
        style = client.rng.randrange(3)
        insert = f"INSERT INTO {table} (k, holder, grants) VALUES ($1, $2, 1)"
        update = f"UPDATE {table} SET holder = $2, grants = grants + 1 WHERE k = $1 AND holder IS NULL"

        async def look_first() -> bool:
            rows = (
                await client.statement(f"SELECT holder FROM {table} WHERE k = $1 FOR UPDATE", (key,))
            ).rows
            if rows and rows[0][0] is not None:
                return False
            if not rows:
                await client.statement(insert, (key, token))
                return True
            sql = f"UPDATE {table} SET holder = $2, grants = grants + 1 WHERE k = $1"
            await client.statement(sql, (key, token))
            return True

        async def perform() -> None:
            if style == 0:
                got = await client.transaction(look_first)
            elif key % _TABLES:
                sql = f"{insert} ON CONFLICT (k) DO NOTHING"
                got = (await client.single(sql, (key, token), writes=True)).tag == "INSERT 0 1"
            else:
                got = (await client.single(update, (key, token), writes=True)).tag == "UPDATE 1"
            if not got:
                raise RefusedError("it is held")

        if await client.operation(
            "acquire", key, None, lambda: told(self._problems, f"acquire {key}", perform)
        ):
            self._held[client] = (key, token)

    async def _release(self, client: SqlClient, key: int, token: int) -> None:
        by_holder = client.rng.random() < 0.5
        where = "holder = $2 AND k = $1" if by_holder else "k = $1 AND holder = $2"
        sql = (
            f"DELETE FROM lock1 WHERE {where}"
            if key % _TABLES
            else f"UPDATE lock0 SET holder = NULL WHERE {where}"
        )

        async def perform() -> None:
            if (await client.single(sql, (key, token), writes=True)).tag not in ("UPDATE 1", "DELETE 1"):
                self._problems.append(f"lock {key} was not held by {token} when it released it")
                raise RefusedError("it was not ours")

        done = await client.operation(
            "release", key, None, lambda: told(self._problems, f"release {key}", perform)
        )
        if not done and client in self._held:
            del self._held[client]
