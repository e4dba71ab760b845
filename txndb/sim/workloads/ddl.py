"""DDL under traffic: tables change their shape while others read and write them, and nothing is ever seen half.

One table, `items`, has rows (k, v, g) and one more column whose name and default change: `x<n>` is n in every row. Row
-1 is always there; its value is the epoch, which TRUNCATE, in one transaction with the new row -1, replaces, and which
every other row carries as `g`. `side` is dropped and made anew with two rows of one number. One client does DDL all the
time, the others read and write, through whatever indexes there are, and at times change the schema as well.

The checker is `txndb.sim.checkers.schema`. Besides, an error that only a wrong catalogue explains is a finding of its
own: an unknown table or column, a unique violation (values are unique), a unique index that was made over duplicates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

from txndb.errors import TxndbError
from txndb.sim.checkers.schema import check_schema
from txndb.sim.history import History
from txndb.sim.workloads.api import GaveUpError, SqlClient

KEYS: Final = 6
DAWDLE_S: Final = 6.0
_TOLD_CLASSES: Final = ("22", "23", "42", "XX")
"""SQLSTATE classes that no statement here may ever get."""
_EVERYTHING: Final = "SELECT * FROM items ORDER BY k"
_PUT: Final = (
    "INSERT INTO items (k, v, g) VALUES ($1, $2, $3) "
    "ON CONFLICT (k) DO UPDATE SET v = excluded.v, g = excluded.g"
)
_PUT_ALONE: Final = (
    "INSERT INTO items (k, v, g) SELECT $1::int, $2::bigint, v FROM items WHERE k = -1 "
    "ON CONFLICT (k) DO UPDATE SET v = excluded.v, g = excluded.g"
)
_INDEX_STATEMENTS: Final = (
    "CREATE INDEX IF NOT EXISTS items_v ON items (v)",
    "CREATE UNIQUE INDEX IF NOT EXISTS items_u ON items (v)",
    "CREATE INDEX IF NOT EXISTS items_g ON items (g, v)",
    "DROP INDEX IF EXISTS items_v",
    "DROP INDEX IF EXISTS items_u",
    "DROP INDEX IF EXISTS items_g",
)


class Ddl:
    """The workload."""

    model = "schema"

    def __init__(self, rng: Random) -> None:
        self.others_alter = rng.choice((0.0, 0.02, 0.15))
        self.splits = rng.randrange(3)
        self._changer: SqlClient | None = None
        self._values = 0
        self._problems: list[str] = []

    async def set_up(self, client: SqlClient) -> None:
        await client.single(
            "CREATE TABLE items (k INT PRIMARY KEY, v BIGINT NOT NULL, g BIGINT NOT NULL, x0 BIGINT NOT NULL DEFAULT 0)"
        )
        await client.single("INSERT INTO items (k, v, g) VALUES (-1, 0, 0)", writes=True)
        await client.single("CREATE TABLE side (k INT PRIMARY KEY, n BIGINT)")
        await client.single("INSERT INTO side VALUES (1, 0), (2, 0)", writes=True)
        await client.single("CREATE TABLE pairs (k INT PRIMARY KEY, d INT)")
        await client.single("INSERT INTO pairs VALUES (1, 7), (2, 7)", writes=True)
        for i in range(self.splits):
            await client.single(f"ALTER TABLE items SPLIT AT VALUES ({2 * i + 1})")

    async def operate(self, client: SqlClient) -> None:
        rng = client.rng
        if self._changer is None:
            self._changer = client
        if client is self._changer or rng.random() < self.others_alter:
            await self._change(client)
        elif rng.random() < 0.5:
            await self._look(client, rng.randrange(3))
        else:
            await self._write(client)

    async def read_all(self, client: SqlClient) -> None:
        await self._look(client, 2)

    def split_statement(self, rng: Random) -> str:
        return f"ALTER TABLE items SPLIT AT VALUES ({rng.randrange(-1, KEYS + 1)})"

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = check_schema(history.calls(), KEYS)
        return self._problems + (problems if real_time else [p for p in problems if not p.startswith("4:")])

    def _value(self) -> int:
        self._values += 1
        return self._values

    async def _operation(
        self, client: SqlClient, f: str, key: Any, value: Any, perform: Callable[[], Awaitable[Any]]
    ) -> None:
        async def told() -> Any:
            try:
                return await perform()
            except TxndbError as error:
                if error.code[:2] in _TOLD_CLASSES:
                    self._problems.append(f"{f} {key} {value}: {error.code} {error.message} {error.detail}")
                raise

        await client.operation(f, key, value, told)

    def _dawdling(self, client: SqlClient) -> Callable[[], Awaitable[None]]:
        """At times a transaction binds the catalogue, then idles until leases have ended; at its first attempt only."""
        idle = [client.rng.random() * DAWDLE_S] if client.rng.random() < 0.1 else []

        async def dawdle() -> None:
            if idle:
                await client.statement("SELECT 1")
                await asyncio.sleep(idle.pop())

        return dawdle

    # --- reading and writing

    async def _look(self, client: SqlClient, style: int) -> None:
        """Everything at one moment: alone, in a read-only block, under locks."""

        dawdle = self._dawdling(client)

        async def both_ways() -> Any:
            await dawdle()
            rows = (await client.statement(_EVERYTHING)).rows
            by_value = (await client.statement("SELECT k, v FROM items WHERE v >= $1 ORDER BY v", (0,))).rows
            probes = []
            for row in rows[-2:]:
                found = (await client.statement("SELECT k FROM items WHERE v = $1", (row[1],))).rows
                probes.append((row[0], [k for (k,) in found]))
            side = (await client.statement("SELECT k, n FROM side ORDER BY k")).rows
            return rows, by_value, probes, side

        async def perform() -> Any:
            if style == 0:
                return (await client.single(_EVERYTHING)).rows, None, [], None
            return await client.transaction(both_ways, "BEGIN READ ONLY" if style == 1 else "BEGIN")

        await self._operation(client, "look", None, None, perform)

    async def _write(self, client: SqlClient) -> None:
        rng = client.rng
        key, value, draw = rng.randrange(KEYS), self._value(), rng.random()
        dawdle = self._dawdling(client)

        async def put() -> int:
            await dawdle()
            if draw > 0.95:  # what is undone up to a savepoint leaves nothing
                await client.statement("SAVEPOINT before")
                await client.statement("TRUNCATE items")
                await client.statement("CREATE INDEX IF NOT EXISTS items_g ON items (g, v)")
                await client.statement("ROLLBACK TO SAVEPOINT before")
            rows = (await client.statement("SELECT v FROM items WHERE k = -1")).rows
            if len(rows) != 1:
                self._problems.append(f"put {key} {value}: row -1 is {rows}")
                raise GaveUpError("the table is not whole")
            await client.statement(_PUT, (key, value, rows[0][0]))
            return value

        async def perform() -> Any:
            if draw < 0.2:
                await client.single("DELETE FROM items WHERE k = $1", (key,), writes=True)
                return None
            if draw < 0.5:
                await client.single(_PUT_ALONE, (key, value), writes=True)
                return value
            return await client.transaction(put)

        await self._operation(client, "put", key, None if draw < 0.2 else value, perform)

    # --- changing the schema

    async def _change(self, client: SqlClient) -> None:
        change = client.rng.choice(
            (
                self._index,
                self._index,
                self._index,
                self._column,
                self._column,
                self._truncate,
                self._remake,
                self._undo,
            )
        )
        await change(client)

    async def _index(self, client: SqlClient) -> None:
        rng = client.rng
        draw = rng.random()
        statement = rng.choice(_INDEX_STATEMENTS)

        async def perform() -> None:
            if draw < 0.1:
                await client.single("VACUUM", writes=True)
            elif draw < 0.2:
                await self._refused_index(client)
            else:
                await client.single(statement, writes=True)

        await self._operation(client, "index", None, statement, perform)

    async def _refused_index(self, client: SqlClient) -> None:
        try:
            await client.single("CREATE UNIQUE INDEX never ON pairs (d)", writes=True)
        except TxndbError as error:
            if error.code != "23505":
                raise
        else:
            self._problems.append("a unique index was made over duplicates")

    async def _column(self, client: SqlClient) -> None:
        """Another column x, with another default, in the place of the one there is."""
        value = self._value()
        at_once = client.rng.random() < 0.5
        dawdle = self._dawdling(client)

        async def swap() -> int:
            names = (
                await client.statement(
                    "SELECT column_name FROM information_schema.columns WHERE table_name = 'items'"
                )
            ).rows
            (old,) = [name for (name,) in names if name.startswith("x")]
            drop, add = f"DROP COLUMN {old}", f"ADD COLUMN x{value} BIGINT NOT NULL DEFAULT {value}"
            if at_once:
                await client.statement(f"ALTER TABLE items {drop}, {add}")
            else:
                await client.statement(f"ALTER TABLE items {drop}")
                await client.statement(f"ALTER TABLE items {add}")
            await dawdle()
            return value

        await self._operation(client, "column", None, value, lambda: client.transaction(swap))

    async def _truncate(self, client: SqlClient) -> None:
        epoch = self._value()

        async def empty() -> int:
            await client.statement("TRUNCATE items")
            await client.statement("INSERT INTO items (k, v, g) VALUES (-1, $1, $1)", (epoch,))
            return epoch

        await self._operation(client, "truncate", None, epoch, lambda: client.transaction(empty))

    async def _remake(self, client: SqlClient) -> None:
        number = self._value()

        async def remake() -> int:
            await client.statement("DROP TABLE side")
            await client.statement("CREATE TABLE side (k INT PRIMARY KEY, n BIGINT)")
            await client.statement("INSERT INTO side VALUES (1, $1), (2, $1)", (number,))
            return number

        await self._operation(client, "side", None, number, lambda: client.transaction(remake))

    async def _undo(self, client: SqlClient) -> None:
        """DDL and DML of all sorts, rolled back: nobody ever sees any of it."""

        async def perform() -> None:
            await client.single("BEGIN")
            await client.statement("TRUNCATE items")
            await client.statement("ALTER TABLE items ADD COLUMN y BIGINT DEFAULT -7")
            await client.statement("INSERT INTO items (k, v, g) VALUES (-1, -7, -7), (2, -8, -7)")
            await client.statement("CREATE INDEX items_y ON items (y)")
            await client.statement("DROP TABLE side")
            await client.statement("ROLLBACK")

        await self._operation(client, "undo", None, None, perform)
