"""Tables that hold one value, or one list of values, per row number: the storage under the transactional workloads.

Each kind writes and reads in one statement, and each leans on another part of the database:

| kind | holds | what it leans on |
|---|---|---|
| `Plain` | a register | the primary key; INSERT … ON CONFLICT DO UPDATE |
| `Named` | a register | a secondary index that reads go through; UPDATE, and INSERT where there was no row |
| `Distinct` | a register | a unique index on the value, whose entry every write moves |
| `Text` | a list | one row, `v || ',' || new` |
| `Rows` | a list | a row per element under a composite key; the next position is a scan's maximum |
| `Scattered` | a list | a row per element, found through an index: entries and rows lie apart |

Whoever reads sees integers (None where there is no row), or lists of integers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final, Protocol

from txndb.sim.workloads.api import QueryResult, SqlClient

Execute = Callable[[str, tuple[Any, ...]], Awaitable[QueryResult]]
"""One statement with parameters, of a transaction or alone."""


class Cells(Protocol):
    """One table of cells."""

    name: str

    def definition(self) -> tuple[str, ...]:
        """The statements that make the table."""

    async def read(self, execute: Execute, row: int, *, lock: bool = False) -> Any:
        """The cell's value; `lock`: read as a writer does (FOR UPDATE) where the kind can."""

    async def write(self, execute: Execute, row: int, value: int) -> None:
        """Set the register, or append to the list. Each value is written once."""


class Plain:
    """A register per row, by primary key."""

    def __init__(self, name: str) -> None:
        self.name = name

    def definition(self) -> tuple[str, ...]:
        return (f"CREATE TABLE {self.name} (k INT PRIMARY KEY, v BIGINT)",)

    async def read(self, execute: Execute, row: int, *, lock: bool = False) -> int | None:
        return _only(await execute(f"SELECT v FROM {self.name} WHERE k = $1{_for(lock)}", (row,)))

    async def write(self, execute: Execute, row: int, value: int) -> None:
        sql = f"INSERT INTO {self.name} (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
        await execute(sql, (row, value))


class Named:
    """A register per row; reads and updates find it by a name that is indexed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def definition(self) -> tuple[str, ...]:
        return (
            f"CREATE TABLE {self.name} (k INT PRIMARY KEY, name TEXT NOT NULL, v BIGINT)",
            f"CREATE INDEX {self.name}_name ON {self.name} (name)",
        )

    async def read(self, execute: Execute, row: int, *, lock: bool = False) -> int | None:
        return _only(await execute(f"SELECT v FROM {self.name} WHERE name = $1{_for(lock)}", (f"row {row}",)))

    async def write(self, execute: Execute, row: int, value: int) -> None:
        name = f"row {row}"
        updated = await execute(f"UPDATE {self.name} SET v = $2 WHERE name = $1", (name, value))
        if updated.tag == "UPDATE 0":
            # Outside of a transaction somebody may have come between, so this may be an update as well.
            sql = (
                f"INSERT INTO {self.name} (k, name, v) VALUES ($1, $2, $3) "
                "ON CONFLICT (k) DO UPDATE SET v = excluded.v"
            )
            await execute(sql, (row, name, value))


class Distinct:
    """A register per row with a unique index on the value: a write deletes one entry and adds another."""

    def __init__(self, name: str) -> None:
        self.name = name

    def definition(self) -> tuple[str, ...]:
        return (f"CREATE TABLE {self.name} (k INT PRIMARY KEY, v BIGINT, UNIQUE (v))",)

    async def read(self, execute: Execute, row: int, *, lock: bool = False) -> int | None:
        return _only(await execute(f"SELECT v FROM {self.name} WHERE k = $1{_for(lock)}", (row,)))

    async def write(self, execute: Execute, row: int, value: int) -> None:
        sql = f"INSERT INTO {self.name} (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
        await execute(sql, (row, value))


class Text:
    """A list per row, as text with commas."""

    def __init__(self, name: str) -> None:
        self.name = name

    def definition(self) -> tuple[str, ...]:
        return (f"CREATE TABLE {self.name} (k INT PRIMARY KEY, v TEXT NOT NULL)",)

    async def read(self, execute: Execute, row: int, *, lock: bool = False) -> list[int]:
        rows = (await execute(f"SELECT v FROM {self.name} WHERE k = $1{_for(lock)}", (row,))).rows
        return [int(part) for part in str(rows[0][0]).split(",")] if rows else []

    async def write(self, execute: Execute, row: int, value: int) -> None:
        sql = (
            f"INSERT INTO {self.name} (k, v) VALUES ($1, $2) "
            f"ON CONFLICT (k) DO UPDATE SET v = {self.name}.v || ',' || excluded.v"
        )
        await execute(sql, (row, str(value)))


class Rows:
    """A list per number, a row per element under the key (k, position)."""

    def __init__(self, name: str) -> None:
        self.name = name

    def definition(self) -> tuple[str, ...]:
        table = f"CREATE TABLE {self.name} (k INT, pos INT, v BIGINT NOT NULL, PRIMARY KEY (k, pos))"
        return (table,)

    async def read(self, execute: Execute, row: int, *, lock: bool = False) -> list[int]:
        sql = f"SELECT v FROM {self.name} WHERE k = $1 ORDER BY pos{_for(lock)}"
        return [int(found) for (found,) in (await execute(sql, (row,))).rows]

    async def write(self, execute: Execute, row: int, value: int) -> None:
        sql = (
            f"INSERT INTO {self.name} (k, pos, v) "
            f"SELECT $1::int, coalesce(max(pos), 0) + 1, $2::bigint FROM {self.name} WHERE k = $1::int"
        )
        await execute(sql, (row, value))


class Scattered:
    """A list per number; elements are keyed by their value, and a list is read through an index.

    Nothing but isolation keeps two elements from one position, so a lost update is seen and not refused.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def definition(self) -> tuple[str, ...]:
        return (
            f"CREATE TABLE {self.name} (k INT PRIMARY KEY, list INT NOT NULL, pos INT NOT NULL)",
            f"CREATE INDEX {self.name}_list ON {self.name} (list, pos)",
        )

    async def read(self, execute: Execute, row: int, *, lock: bool = False) -> list[int]:
        sql = f"SELECT k FROM {self.name} WHERE list = $1 ORDER BY pos, k{_for(lock)}"
        return [int(found) for (found,) in (await execute(sql, (row,))).rows]

    async def write(self, execute: Execute, row: int, value: int) -> None:
        sql = (
            f"INSERT INTO {self.name} (k, list, pos) "
            f"SELECT $2::int, $1::int, coalesce(max(pos), 0) + 1 FROM {self.name} WHERE list = $1::int"
        )
        await execute(sql, (row, value))


REGISTERS: Final[tuple[Callable[[str], Cells], ...]] = (Plain, Named, Distinct)
LISTS: Final[tuple[Callable[[str], Cells], ...]] = (Text, Rows, Scattered)


async def make(client: SqlClient, tables: list[Cells], splits: int) -> None:
    """Create the tables, each over `splits` + 1 ranges."""
    for cells in tables:
        for statement in cells.definition():
            await client.single(statement)
        for i in range(splits):
            await client.single(split_at(cells, 2 * i + 1))


def split_at(cells: Cells, row: int) -> str:
    """The statement that splits a table before a row number."""
    values = f"({row}, 1)" if isinstance(cells, Rows) else f"({row})"
    return f"ALTER TABLE {cells.name} SPLIT AT VALUES {values}"


def split_somewhere(tables: list[Cells], rng: Random, rows: int) -> str:
    """A statement that splits one of the tables below row number `rows`."""
    return split_at(rng.choice(tables), rng.randrange(max(rows, 2)))


def _only(result: QueryResult) -> int | None:
    rows = result.rows
    return None if not rows or rows[0][0] is None else int(rows[0][0])


def _for(lock: bool) -> str:
    return " FOR UPDATE" if lock else ""
