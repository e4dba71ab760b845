"""Extended batches: what is one transaction, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.harness import Database, error_of, rows, run_async
from txndb.errors import RetryError, SqlError, TxndbError
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


async def _failing(session: Session, *texts: str) -> str:
    """A batch of them up to its Sync; the SQLSTATE of the last, which must fail."""
    for sql in texts[:-1]:
        await _put(session, sql)
    with pytest.raises(TxndbError) as caught:
        await _put(session, texts[-1])
    session.fail(caught.value)
    await session.sync()
    assert (session.status, session.implicit) == ("I", None)
    return caught.value.code


async def _tables(session: Session) -> list[Any]:
    return [row[1] for row in await rows(session, "SHOW TABLES")]


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        (["CREATE TABLE u (a int)", "INSERT INTO u VALUES (1)", "SELECT 1 / 0"], "22012"),
        (["DROP TABLE t", "SELECT 1 / 0"], "22012"),
        (["TRUNCATE t", "SELECT 1 / 0"], "22012"),
        (["EXECUTE ins(5)", "INSERT INTO t VALUES (1, 1)"], "23505"),
        (["SELECT 1", "EXECUTE ins(5)", "SELECT nope"], "42703"),
        (["EXPLAIN ANALYZE INSERT INTO t VALUES (5, 5)", "SELECT 1 / 0"], "22012"),
        (["INSERT INTO t VALUES (5, 5)", "VACUUM"], "25001"),
    ],
)
def test_nothing_stays_of_a_batch_that_fails(texts: list[str], code: str) -> None:
    async def run() -> None:
        db, session = await _with_table()
        await session.execute("INSERT INTO t VALUES (1, 1)")
        await session.execute("PREPARE ins AS INSERT INTO t VALUES ($1, 0)")
        assert await _failing(session, *texts) == code
        assert await _tables(session) == ["t"]
        assert await _seen(db) == [(1,)]

    run_async(run())


def test_a_copy_in_a_batch_goes_with_it() -> None:
    async def run() -> None:
        db, session = await _with_table()
        copy: Any = (await _put(session, "COPY t FROM STDIN")).copy
        await copy.write(b"1\t1\n")
        await copy.finish()
        assert await _failing(session, "SELECT 1 / 0") == "22012"
        assert await _seen(db) == []

    run_async(run())


def test_a_setting_of_a_batch_that_fails_is_taken_back() -> None:
    async def run() -> None:
        _db, session = await _with_table()
        await _failing(session, "SET application_name = 'x'", "SELECT 1 / 0")
        assert await rows(session, "SHOW application_name") == [("",)]
        await _put(session, "SET application_name = 'x'")
        await session.sync()
        assert await rows(session, "SHOW application_name") == [("x",)]

    run_async(run())


@pytest.mark.parametrize("max_rows", [0, 5])
def test_what_a_batch_read_first_holds_when_it_writes(max_rows: int) -> None:
    """Its SELECT may have been answered, at a Flush: a write that came in between must not be lost."""

    async def run() -> None:
        db, session = await _with_table()
        await session.execute("INSERT INTO t VALUES (1, 0)")
        assert (await _put(session, "SELECT b FROM t WHERE a = 1", max_rows=max_rows)).rows == [(0,)]
        await (await db.session()).execute("UPDATE t SET b = b + 1")
        with pytest.raises(RetryError):
            await _put(session, "UPDATE t SET b = 1 WHERE a = 1")
        await session.sync()

    run_async(run())


def test_what_controls_transactions_or_runs_alone_opens_none() -> None:
    async def run() -> None:
        _db, session = await _with_table()
        for sql in ("VACUUM", "SET TRANSACTION READ ONLY", "COMMIT", "DISCARD ALL"):
            await _put(session, sql)
            assert session.implicit is None, sql
        for sql in ("SAVEPOINT s", "DECLARE c CURSOR FOR SELECT 1"):
            assert await _failing(session, sql) == "25P01"
        await _put(session, "BEGIN READ ONLY")
        await session.sync()
        assert (await rows(session, "SHOW transaction_read_only"), session.status) == ([("on",)], "T")

    run_async(run())


def test_a_statement_before_its_sync_runs_alone() -> None:
    async def run() -> None:
        db, session = await _with_table()
        for sql in ("SELECT a FROM t", "CREATE TABLE u (a int)", "INSERT INTO t VALUES (1, 1)"):
            await _put(session, sql, final=True)
            assert session.implicit is None
        await _put(session, "SELECT a FROM t", max_rows=1, final=True)
        assert session.implicit is None
        assert await _seen(db) == [(1,)]

    run_async(run())


def test_a_read_only_default_holds_for_batches_and_strings_of_statements() -> None:
    async def run() -> None:
        db, session = await _with_table()
        await session.execute("INSERT INTO t VALUES (1, 1)")
        await session.execute("PREPARE ins AS INSERT INTO t VALUES ($1, 0)")
        await session.execute("SET default_transaction_read_only = on")
        for sql in (
            "INSERT INTO t VALUES (2, 2)",
            "EXECUTE ins(2)",
            "TRUNCATE t",
            "SELECT a FROM t FOR UPDATE",
        ):
            assert await _failing(session, "SELECT a FROM t", sql) == "25006", sql
            assert (await error_of(session, f"SELECT 1; {sql}")).code == "25006", sql
            assert (await error_of(session, sql)).code == "25006", sql
        assert (await _put(session, "SELECT a FROM t")).rows == [(1,)]
        await session.sync()
        await session.execute("SET default_transaction_read_only = off")
        await _put(session, "SELECT 1")
        await _put(session, "INSERT INTO t VALUES (2, 2)")
        await session.sync()
        assert await _seen(db) == [(1,), (2,)]

    run_async(run())


_GONE = "cached plan must not change result type"


@pytest.mark.parametrize("max_rows", [0, 10])
@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("change", ["ADD COLUMN z int DEFAULT 9", "DROP COLUMN b", "RENAME COLUMN b TO c"])
@pytest.mark.parametrize(
    "sql",
    ["SELECT * FROM t", "INSERT INTO t VALUES (5) RETURNING *", "SELECT * FROM t AS OF SYSTEM TIME '-1us'"],
)
def test_what_would_give_other_columns_than_told_does_not_run(
    sql: str, change: str, final: bool, max_rows: int
) -> None:
    async def run() -> None:
        db, session = await _with_table()
        await session.execute("INSERT INTO t VALUES (1, 1)")
        await session.prepare("p", sql)
        other = await db.session()
        await other.execute(f"ALTER TABLE t {change}")
        session.bind("", "p")
        with pytest.raises(SqlError, match=_GONE) as caught:
            await session.run_portal("", max_rows, final=final)
        assert caught.value.code == "0A000"
        session.fail(caught.value)
        await session.sync()
        assert await _seen(db) == [(1,)]
        session.close_prepared("p")
        await session.prepare("p", sql)
        session.bind("", "p")
        told = (await session.run_portal("", max_rows, final=final)).columns
        assert told == session.prepared["p"].columns
        await session.sync()

    run_async(run())


def test_what_gives_the_columns_told_of_runs_whatever_else_changed() -> None:
    async def run() -> None:
        db, session = await _with_table()
        await session.prepare("p", "SELECT * FROM t")
        for sql in (
            "DROP TABLE t",
            "CREATE TABLE t (a int PRIMARY KEY, b int)",
            "INSERT INTO t VALUES (1, 1)",
        ):
            await (await db.session()).execute(sql)
        session.bind("", "p")
        result = await session.run_portal("", final=True)
        assert (result.rows, result.columns) == ([(1, 1)], session.prepared["p"].columns)

    run_async(run())


def test_execute_of_a_name_that_means_another_statement_does_not_run() -> None:
    async def run() -> None:
        db, session = await _with_table()
        await session.execute("PREPARE ins AS INSERT INTO t VALUES ($1) RETURNING a")
        await session.prepare("p", "EXECUTE ins(1)")
        await session.execute("DEALLOCATE ins")
        await session.execute("PREPARE ins AS INSERT INTO t VALUES ($1) RETURNING a, b")
        session.bind("", "p")
        with pytest.raises(SqlError, match=_GONE):
            await session.run_portal("", final=True)
        assert await _seen(db) == []

    run_async(run())


def test_execute_is_refused_where_its_table_has_changed() -> None:
    async def run() -> None:
        db, session = await _with_table()
        await session.execute("PREPARE ins AS INSERT INTO t VALUES ($1) RETURNING *")
        await (await db.session()).execute("ALTER TABLE t ADD COLUMN z int")
        assert (await error_of(session, "EXECUTE ins(1)")).code == "0A000"
        assert await _seen(db) == []

    run_async(run())
