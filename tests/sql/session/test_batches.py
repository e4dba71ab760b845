"""Extended batches: what is one transaction, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.harness import Database, error_of, rows, run_async
from txndb.errors import RetryError, SqlError
from txndb.sql.session.api import Result
from txndb.sql.session.session import Session


async def _with_table() -> tuple[Database, Session]:
    db = Database()
    session = await db.session()
    await session.execute("CREATE TABLE t (a int PRIMARY KEY, b int)")
    return db, session


async def _put(session: Session, sql: str, *, max_rows: int = 0, final: bool = False) -> Result:
    """Parse, Bind and Execute; no Sync."""
    await session.prepare("", sql)
    session.close_portal("")
    session.bind("", "")
    return await session.run_portal("", max_rows, final=final)


async def _query(session: Session, sql: str) -> list[str]:
    """The tags that a Query is answered with."""
    return [result.tag async for result in session.simple(sql)]


async def _seen(db: Database) -> list[Any]:
    """What another session finds."""
    return await rows(await db.session(), "SELECT a FROM t ORDER BY a")


@pytest.mark.parametrize("text", ["INSERT INTO t VALUES (2, 2)", "SELECT 1; INSERT INTO t VALUES (2, 2)"])
def test_a_query_ends_the_transaction_of_messages_without_a_sync(text: str) -> None:
    async def run() -> None:
        db, session = await _with_table()
        await _put(session, "INSERT INTO t VALUES (1, 1)")
        assert (await _query(session, text))[-1] == "INSERT 0 1"
        assert (session.status, session.implicit, session.portals) == ("I", None, {})
        await error_of(session, "SELECT 1 / 0")
        assert await _seen(db) == [(1,), (2,)]

    run_async(run())


def test_an_empty_query_ends_it_too() -> None:
    async def run() -> None:
        db, session = await _with_table()
        await _put(session, "INSERT INTO t VALUES (1, 1)")
        assert await _query(session, " ;") == []
        assert await _seen(db) == [(1,)]

    run_async(run())


@pytest.mark.parametrize("text", ["SELECT 1 / 0", "SELEC", "SELECT 1; SELECT 1 / 0"])
def test_a_query_that_fails_takes_it_back(text: str) -> None:
    async def run() -> None:
        db, session = await _with_table()
        await _put(session, "INSERT INTO t VALUES (1, 1)")
        await error_of(session, text)
        assert session.implicit is None
        await _query(session, "INSERT INTO t VALUES (2, 2)")
        assert await _seen(db) == [(2,)]

    run_async(run())


def test_a_query_whose_commit_fails_gives_no_result() -> None:
    async def run() -> None:
        db, session = await _with_table()
        await _put(session, "INSERT INTO t VALUES (1, 1)")
        db.kv.fail_commits = 1
        given: list[str] = []
        with pytest.raises(RetryError):
            async for result in session.simple("INSERT INTO t VALUES (2, 2)"):
                given.append(result.tag)
        assert (given, await _seen(db)) == ([], [])

    run_async(run())


@pytest.mark.parametrize("text", ["COPY t FROM STDIN", "SELECT 1; COPY t FROM STDIN"])
def test_the_end_of_a_copy_is_its_commit(text: str) -> None:
    """A failure to commit is the failure of the COPY: its completion must not have been said."""

    async def copied(session: Session) -> str:
        tag = ""
        async for result in session.simple(text):
            copy: Any = result.copy
            if copy is not None:
                await copy.write(b"2\t2\n")
                tag = await copy.finish()
        return tag

    async def run() -> None:
        db, session = await _with_table()
        await _put(session, "INSERT INTO t VALUES (1, 1)")
        db.kv.fail_commits = 1
        with pytest.raises(RetryError):
            await copied(session)
        assert (session.implicit, await _seen(db)) == (None, [])
        await _put(session, "INSERT INTO t VALUES (1, 1)")
        assert await copied(session) == "COPY 1"
        assert await _seen(db) == [(1,), (2,)]

    run_async(run())


def test_a_copy_out_commits_before_its_end_is_told() -> None:
    async def run() -> None:
        db, session = await _with_table()
        await _put(session, "INSERT INTO t VALUES (1, 1)")
        async for result in session.simple("COPY t TO STDOUT"):
            copy: Any = result.copy
            assert [lines async for lines in copy] == [[b"1\t1\n"]]
            assert (copy.tag, await _seen(db)) == ("COPY 1", [(1,)])

    run_async(run())


def test_a_begin_makes_a_block_of_it() -> None:
    async def run() -> None:
        _db, session = await _with_table()
        await _put(session, "INSERT INTO t VALUES (1, 1)")
        await _query(session, "BEGIN")
        assert session.status == "T"
        with pytest.raises(SqlError, match="division by zero"):
            await _query(session, "SELECT 1 / 0")
        assert session.status == "E"
        await _query(session, "ROLLBACK")
        assert await rows(session, "SELECT a FROM t") == []

    run_async(run())
