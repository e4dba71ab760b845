"""Register: reads, writes and compare-and-set of single rows through SQL; linearizable key by key.

Rows live in several tables: `reg0` is plain, `reg1` has an index on a column that names the row (reads go through it),
`reg2` has a unique index on the value itself (every write moves an index entry, and "which row holds v" is a read of
the index). Values are unique per write. Keys are retired after some operations, so that the checker's search stays
short although unknown outcomes stay open for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final

from txndb.sim.checkers.register import check_registers
from txndb.sim.history import Call, History
from txndb.sim.workloads.api import SqlClient, meet, wander

Key = tuple[int, int]
"""(table, row)"""
_TABLES: Final = 3
_KEYS_LIVE: Final = 6
_OPERATIONS_PER_KEY: Final = 120


class Register:
    """The workload."""

    model = "register"

    def __init__(self, rng: Random) -> None:
        self.splits = rng.randrange(4)
        self.onlookers = rng.random() < 0.5
        """Whether some clients only read: where a gateway is cut off, a write would keep its client for long."""
        self._values = 0
        self._invoked = 0
        self._last: dict[Key, int] = {}

    async def set_up(self, client: SqlClient) -> None:
        await client.single("CREATE TABLE reg0 (k INT PRIMARY KEY, v BIGINT)")
        await client.single("CREATE TABLE reg1 (k INT PRIMARY KEY, name TEXT NOT NULL, v BIGINT)")
        await client.single("CREATE INDEX reg1_name ON reg1 (name)")
        await client.single("CREATE TABLE reg2 (k INT PRIMARY KEY, v BIGINT, UNIQUE (v))")
        for table in range(_TABLES):
            for i in range(self.splits):
                await client.single(f"ALTER TABLE reg{table} SPLIT AT VALUES ({2 * i + 2})")

    async def operate(self, client: SqlClient) -> None:
        await wander(client, 0.1)
        rng = client.rng
        contended = rng.random() < 0.25
        if contended:
            await meet(client, 1.0)
        self._invoked += 1
        generation = self._invoked // (_OPERATIONS_PER_KEY * _KEYS_LIVE)
        key = (rng.randrange(_TABLES), generation * _KEYS_LIVE + rng.randrange(_KEYS_LIVE))
        draw = rng.random()
        if (
            contended
        ):  # those who met want one register, and most of them to be the one that replaces its value
            key = (generation % _TABLES, generation * _KEYS_LIVE)
            draw = 0.5 + draw / 2
        if draw < 0.4 or (self.onlookers and client.process % 3 == 0):
            await self._read(client, key)
        elif draw < 0.5 and key[0] == 2:
            await self._find(client, key)
        elif draw < 0.75:
            await self._write(client, key)
        else:
            await self._cas(client, key)

    async def read_all(self, client: SqlClient) -> None:
        for key in sorted(self._last):
            await self._read(client, key)

    def split_statement(self, rng: Random) -> str:
        return f"ALTER TABLE reg{rng.randrange(_TABLES)} SPLIT AT VALUES ({rng.randrange(4 * _KEYS_LIVE)})"

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        return check_registers(history.calls()) if real_time else check_unordered(history.calls())

    def _value(self, key: Key) -> int:
        self._values += 1
        self._last[key] = self._values
        return self._values

    async def _read(self, client: SqlClient, key: Key) -> None:
        table, row = key
        sql = "SELECT v FROM reg1 WHERE name = $1" if table == 1 else f"SELECT v FROM reg{table} WHERE k = $1"
        param: object = f"row {row}" if table == 1 else row
        in_transaction = client.rng.random() < 0.3

        async def perform() -> int | None:
            if in_transaction:
                rows = await client.transaction(lambda: self._rows(client, sql, param))
            else:
                rows = (await client.single(sql, (param,))).rows
            return int(rows[0][0]) if rows else None

        await client.operation("read", key, None, perform)

    async def _find(self, client: SqlClient, key: Key) -> None:
        """Whether this row holds a value written not long ago, asked of the index on values."""
        value = self._last.get(key, 1)

        async def perform() -> bool:
            rows = (await client.single("SELECT k FROM reg2 WHERE v = $1", (value,))).rows
            return any(row[0] == key[1] for row in rows)

        await client.operation("is", key, value, perform)

    async def _write(self, client: SqlClient, key: Key) -> None:
        table, row = key
        value = self._value(key)

        async def perform() -> int:
            if table == 1:
                sql = "INSERT INTO reg1 VALUES ($1, $2, $3) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
                await client.single(sql, (row, f"row {row}", value), writes=True)
            else:
                sql = f"INSERT INTO reg{table} VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
                await client.single(sql, (row, value), writes=True)
            return value

        await client.operation("write", key, value, perform)

    async def _cas(self, client: SqlClient, key: Key) -> None:
        """Several at a time expect one value: it counts as replaced when one of them was told so."""
        table, row = key
        old = self._last.get(key, 0)
        self._values += 1
        new = self._values
        by_statement = client.rng.random() < 0.5

        async def compare_then_set() -> bool:
            rows = await self._rows(client, f"SELECT v FROM reg{table} WHERE k = $1", row)
            if not rows or rows[0][0] != old:
                return False
            await client.statement(f"UPDATE reg{table} SET v = $2 WHERE k = $1", (row, new))
            return True

        async def perform() -> bool:
            if by_statement:
                sql = f"UPDATE reg{table} SET v = $3 WHERE k = $1 AND v = $2"
                done = (await client.single(sql, (row, old, new), writes=True)).tag == "UPDATE 1"
            else:
                done = await client.transaction(compare_then_set)
            if done:
                self._last[key] = new
            return done

        await client.operation("cas", key, (old, new), perform)

    @staticmethod
    async def _rows(client: SqlClient, sql: str, param: object) -> list[tuple[int, ...]]:
        return (await client.statement(sql, (param,))).rows


def check_unordered(calls: Sequence[Call]) -> list[str]:
    """What no serial order explains, whatever real time says: a value from nowhere, two compare-and-sets of one value.

    Every value is written once, so at most one compare-and-set finds it.
    """
    written: dict[Any, set[Any]] = {}
    for call in calls:
        if call.f in ("write", "cas") and call.result is not False:
            written.setdefault(call.key, set()).add(call.argument if call.f == "write" else call.argument[1])
    problems = []
    replaced: set[tuple[Any, Any]] = set()
    for call in calls:
        if call.returned is None:
            continue
        if call.f == "read" and call.result is not None and call.result not in written.get(call.key, ()):
            problems.append(f"register {call.key}: {call.result} was read and never written")
        if call.f == "cas" and call.result:
            old = (call.key, call.argument[0])
            if old in replaced:
                problems.append(f"register {call.key}: {call.argument[0]} was replaced twice")
            replaced.add(old)
    return problems
