"""A small real session for tests of the front door: sqlite3 answers, the Session API's states around it.

`FakeSession` follows the plan's Session API closely enough for clients: explicit transactions, failed state,
portals with row limits, COPY of one text column, cancel of `SELECT hang()`. Types are those of the Python values.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from txndb.errors import InFailedTransactionError, QueryCanceledError, SqlError, TxndbError, sql_error
from txndb.sql.session.api import ColumnInfo, Notice, Result


class Prepared(msgspec.Struct):
    sql: str
    param_oids: tuple[int, ...]
    columns: tuple[ColumnInfo, ...] | None


class Portal(msgspec.Struct):
    prepared: Prepared
    params: list[Any]
    columns: tuple[ColumnInfo, ...] | None
    rows: list[tuple[Any, ...]] | None = None
    at: int = 0


class CopyIn:
    column_count = 1
    then: Callable[[], Awaitable[None]] | None = None

    def __init__(self, session: FakeSession, table: str) -> None:
        self._session = session
        self._table = table
        self._data = b""

    def bound(self) -> tuple[float, TxndbError] | None:
        return None

    async def write(self, chunk: bytes) -> None:
        self._data += chunk
        if b"bad" in chunk:
            raise sql_error("22P04", "bad COPY data")

    async def finish(self) -> str:
        lines = self._data.decode().splitlines()
        self._session.db.executemany(f"INSERT INTO {self._table} VALUES (?)", [(line,) for line in lines])
        return f"COPY {len(lines)}"

    async def abort(self, message: str) -> None:
        self._data = b""


class CopyOut:
    column_count = 1
    then: Callable[[], Awaitable[None]] | None = None
    tag = ""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        yield [str(row[0]).encode() + b"\n" for row in self._rows]
        self.tag = f"COPY {len(self._rows)}"


_OIDS = {int: 20, float: 701, str: 25, bytes: 17}


class FakeSession:
    """See the module's docstring. `fail_sync` makes the next commit at Sync fail, `hang_on` a statement hang."""

    def __init__(self, options: dict[str, str]) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.status = "I"
        self.parameters = {"TimeZone": "UTC", "application_name": options.get("application_name", "")}
        self.notices: list[Notice] = []
        self.options = options
        self.fail_sync: TxndbError | None = None
        self.failures: list[TxndbError] = []
        self.closed = False
        self.hang_on = ""
        self.env = None
        self.finals: list[bool] = []
        self.hanging = asyncio.Event()
        self._hang: asyncio.Future[None] | None = None
        self._prepared: dict[str, Prepared] = {}
        self._portals: dict[str, Portal] = {}

    async def simple(self, sql: str) -> AsyncIterator[Result]:
        for part in sql.split(";"):
            if part.strip():
                yield await self.execute(part.strip())

    async def execute(self, sql: str, params: Sequence[Any] = ()) -> Result:
        word = sql.split()[0].upper()
        if self.status == "E" and word not in ("ROLLBACK", "COMMIT"):
            raise InFailedTransactionError("current transaction is aborted")
        if word == "SET":
            _, name, _, value = sql.split()
            self.parameters[name] = value.strip("'")
            return Result("SET")
        if word == "NOTICE":
            self.notices.append(Notice("NOTICE", "00000", "look here", hint="there"))
            return Result("NOTICE")
        if word == "COPY":
            table = sql.split()[1]
            if "TO" in sql:
                return Result("", copy=CopyOut(self.db.execute(f"SELECT * FROM {table}").fetchall()))
            return Result("", copy=CopyIn(self, table))
        if "hang()" in sql or word == self.hang_on:
            await self._wait()
        return self._run(word, sql, params)

    def _run(self, word: str, sql: str, params: Sequence[Any]) -> Result:
        try:
            cursor = self.db.execute(sql.replace("$", "?"), params)
        except sqlite3.Error as error:
            raise self._failed(sql_error("42601", str(error), position=1)) from error
        if word == "BEGIN":
            self.status = "T"
        elif word in ("COMMIT", "ROLLBACK"):
            self.status = "I"
        if cursor.description is None:
            return Result(f"INSERT 0 {cursor.rowcount}" if word == "INSERT" else word)
        rows = cursor.fetchall()
        columns = self._columns(cursor.description, rows)
        return Result(f"SELECT {len(rows)}", columns, rows)

    def _columns(self, description: Any, rows: list[tuple[Any, ...]]) -> tuple[ColumnInfo, ...]:
        first = rows[0] if rows else (None,) * len(description)
        return tuple(
            ColumnInfo(d[0], _OIDS.get(type(value), 25)) for d, value in zip(description, first, strict=True)
        )

    def _failed(self, error: SqlError) -> SqlError:
        if self.status == "T":
            self.status = "E"
        return error

    async def _wait(self) -> None:
        self._hang = asyncio.get_running_loop().create_future()
        self.hanging.set()
        try:
            await self._hang
        finally:
            self._hang = None
            self.hanging.clear()

    async def prepare(self, name: str, sql: str, param_oids: Sequence[int]) -> Prepared:
        count = sum(f"${number}" in sql for number in range(1, 10))
        oids = tuple(oid or 25 for oid in param_oids) + (25,) * (count - len(param_oids))
        columns = None
        if sql.upper().startswith("SELECT"):
            try:
                cursor = self.db.execute(sql.replace("$", "?"), (None,) * count)
            except sqlite3.Error as error:
                raise self._failed(sql_error("42601", str(error), position=1)) from error
            columns = self._columns(cursor.description, cursor.fetchall())
        self._prepared[name] = Prepared(sql, oids, columns)
        return self._prepared[name]

    def bind(self, portal: str, prepared_name: str, params: Sequence[Any]) -> Portal:
        prepared = self._prepared[prepared_name]
        self._portals[portal] = Portal(prepared, list(params), prepared.columns)
        return self._portals[portal]

    async def run_portal(self, portal: str, max_rows: int = 0, *, final: bool = False) -> Result:
        self.finals.append(final)
        found = self._portals[portal]
        if found.rows is None:
            result = await self.execute(found.prepared.sql, found.params)
            if result.columns is None:
                return result
            found.rows = result.rows
            if len(result.columns) != len(found.columns or ()):
                found.columns = result.columns
        stop = found.at + max_rows if max_rows else len(found.rows)
        rows = found.rows[found.at : stop]
        found.at += len(rows)
        suspended = bool(max_rows) and len(rows) == max_rows
        return Result(f"SELECT {len(rows)}", found.columns, rows, suspended)

    def close_prepared(self, name: str) -> None:
        self._prepared.pop(name, None)

    def cursor_columns(self, name: str) -> None:
        """No cursors here."""
        return

    def close_portal(self, name: str) -> None:
        self._portals.pop(name, None)

    async def sync(self) -> None:
        if self.fail_sync is not None:
            error, self.fail_sync = self.fail_sync, None
            raise error

    def fail(self, error: TxndbError) -> None:
        self.failures.append(error)
        if self.status == "T":
            self.status = "E"

    def idle_bound(self) -> tuple[float, TxndbError] | None:
        return None

    def cancel(self) -> None:
        if self._hang is not None and not self._hang.done():
            self._hang.set_exception(QueryCanceledError("canceling statement due to user request"))

    async def close(self) -> None:
        self.closed = True
        self.db.close()


class FakeTypes:
    """Wire forms for the types of `FakeSession`; binary for int8 alone."""

    def bound(self, type_oid: int) -> bool:
        return False

    def encoder(
        self, type_oid: int, typmod: int, wire_format: int, time_zone: str, env: Any
    ) -> Callable[[Any], bytes]:
        if wire_format:
            return _binary_int if type_oid == 20 else _text
        return _hex if type_oid == 17 else _text

    def decoder(self, type_oid: int, wire_format: int, time_zone: str, env: Any) -> Callable[[bytes], Any]:
        if type_oid in (20, 21, 23):
            return _from_binary_int if wire_format else _int
        if type_oid == 17 and not wire_format:
            return _from_hex
        return bytes.decode if type_oid != 17 else bytes


def _text(value: Any) -> bytes:
    return str(value).encode()


def _hex(value: bytes) -> bytes:
    return b"\\x" + value.hex().encode()


def _from_hex(raw: bytes) -> bytes:
    return bytes.fromhex(raw[2:].decode())


def _int(raw: bytes) -> int:
    try:
        return int(raw)
    except ValueError:
        text = f'invalid input syntax for type bigint: "{raw.decode()}"'
        raise sql_error("22P02", text) from None


def _binary_int(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def _from_binary_int(raw: bytes) -> int:
    return int.from_bytes(raw, "big", signed=True)
