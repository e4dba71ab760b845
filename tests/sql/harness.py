"""A session over the in-memory store, for tests of the SQL layer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.sql.fakekv import FakeKV
from tests.sql.slt import Outcome
from txndb.errors import TxndbError
from txndb.sql import types
from txndb.sql.catalog.leases import DirectLeases
from txndb.sql.catalog.store import bootstrap_rows
from txndb.sql.exec.program import program_compiler
from txndb.sql.session.api import Result
from txndb.sql.session.services import SqlServices
from txndb.sql.session.session import Session, open_session
from txndb.sql.types.core import type_by_oid

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a fresh loop."""
    return asyncio.run(work)


class Database:
    """A store with its SQL services; sessions are opened on it."""

    def __init__(self) -> None:
        self.kv = FakeKV(program_compiler())
        self.kv.load(bootstrap_rows())
        self.services = SqlServices(
            self.kv,
            DirectLeases(),
            wall_us=self._now,
            random=lambda: 0.25,
            random_bytes=lambda count: bytes(range(count)),
        )

    def _now(self) -> int:
        self.kv.now_us += 1
        return self.kv.now_us

    async def session(self, database: str = "defaultdb", user: str = "root") -> Session:
        return await open_session(self.services, user, database)


async def outcome(session: Session, sql: str) -> Outcome:
    """Run a string through the simple protocol; the last result's rows as text."""
    last: Result | None = None
    try:
        async for result in session.simple(sql):
            last = result
    except TxndbError as error:
        return Outcome(error=error.code, message=error.message)
    if last is None or last.columns is None:
        return Outcome([])
    formats = [
        types.text_formatter(type_by_oid(c.type_oid).with_typmod(c.typmod), session.env) for c in last.columns
    ]
    return Outcome(
        [[None if v is None else f(v) for f, v in zip(formats, row, strict=True)] for row in last.rows]
    )


async def rows(session: Session, sql: str, *params: object) -> list[tuple[Any, ...]]:
    """The rows of one statement, in internal values."""
    return (await session.execute(sql, params)).rows


async def error_of(session: Session, sql: str) -> TxndbError:
    """The error that a statement must give."""
    try:
        async for _ in session.simple(sql):
            pass
    except TxndbError as error:
        return error
    raise AssertionError(f"no error from {sql}")
