"""SET TRANSACTION never undoes what the client was told of, and refuses what PostgreSQL refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.harness import Database, error_of, outcome, rows, run_async
from txndb.sql.catalog.leases import CatalogLease
from txndb.sql.session.session import Session
from txndb.txn.api import ReadView

READ_WRITE = "SET TRANSACTION READ WRITE"
READ_ONLY = "SET TRANSACTION READ ONLY"


async def _session() -> Session:
    session = await Database().session()
    await session.execute("CREATE TABLE t (a int PRIMARY KEY, b int)")
    await session.execute("PREPARE ins AS INSERT INTO t VALUES ($1, $2)")
    return session


async def _copied(session: Session) -> None:
    copy: Any = (await session.execute("COPY t FROM STDIN")).copy
    await copy.write(b"1\t1\n")
    await copy.finish()


async def _write(session: Session, how: str) -> None:
    if how == "COPY":
        await _copied(session)
    else:
        await session.execute(how)


WRITES = ("EXECUTE ins(1, 1)", "EXPLAIN ANALYZE INSERT INTO t VALUES (1, 1)", "COPY")


@pytest.mark.parametrize("mode", [READ_WRITE, READ_ONLY])
@pytest.mark.parametrize("how", WRITES)
def test_what_was_written_before_it_is_committed(how: str, mode: str) -> None:
    async def run() -> tuple[list[str], list[Any]]:
        session = await _session()
        await session.execute("BEGIN")
        await _write(session, how)
        tags = [(await session.execute(sql)).tag for sql in (mode, "COMMIT")]
        return tags, await rows(session, "SELECT a FROM t")

    assert run_async(run()) == (["SET", "COMMIT"], [(1,)])


def test_what_a_script_wrote_before_its_block_is_committed() -> None:
    async def run() -> list[Any]:
        session = await _session()
        await outcome(session, f"EXECUTE ins(9, 9); BEGIN; {READ_WRITE}; COMMIT")
        return await rows(session, "SELECT a FROM t")

    assert run_async(run()) == [(9,)]


@pytest.mark.parametrize("mode", [READ_WRITE, READ_ONLY])
def test_savepoints_and_cursors_stay(mode: str) -> None:
    async def run() -> list[Any]:
        session = await _session()
        await outcome(session, "INSERT INTO t VALUES (1, 1), (2, 2)")
        for sql in ("BEGIN", "SAVEPOINT s", mode, "ROLLBACK TO s"):
            await session.execute(sql)
        await session.execute("DECLARE c CURSOR FOR SELECT a FROM t ORDER BY a")
        assert session.block is not None
        attempt = session.block.txn
        await session.execute(mode)
        assert session.block.txn is attempt
        return [await rows(session, "FETCH c"), await rows(session, "FETCH c")]

    assert run_async(run()) == [[(1,)], [(2,)]]


@pytest.mark.parametrize("mode", [READ_WRITE, READ_ONLY])
def test_a_half_read_portal_keeps_its_transaction(mode: str) -> None:
    async def run() -> list[Any]:
        session = await _session()
        await outcome(session, "INSERT INTO t VALUES (1, 1), (2, 2)")
        await session.execute("BEGIN")
        await session.prepare("p", "SELECT a FROM t ORDER BY a")
        session.bind("c", "p")
        first = (await session.run_portal("c", 1)).rows
        assert session.block is not None
        attempt = session.block.txn
        await session.execute(mode)
        assert session.block.txn is attempt
        return [first, (await session.run_portal("c", 1)).rows]

    assert run_async(run()) == [[(1,)], [(2,)]]


def test_read_only_after_a_write_refuses_the_next_and_is_shown() -> None:
    async def run() -> tuple[list[Any], list[str], list[Any]]:
        session = await _session()
        for sql in ("BEGIN", "EXECUTE ins(1, 1)", READ_ONLY):
            await session.execute(sql)
        shown = await rows(session, "SHOW transaction_read_only")
        codes = []
        for sql in ("EXECUTE ins(2, 2)", "CREATE TABLE u (a int)", "SELECT a FROM t FOR UPDATE"):
            await session.execute("ROLLBACK")
            await session.execute("BEGIN")
            await session.execute("SELECT a FROM t")
            await session.execute(READ_ONLY)
            codes.append((await error_of(session, sql)).code)
        await session.execute("ROLLBACK")
        return shown, codes, await rows(session, "SELECT a FROM t")

    assert run_async(run()) == ([("on",)], ["25006"] * 3, [])


def test_read_only_of_an_inner_level_ends_with_it() -> None:
    """As in PostgreSQL, both where the level is rolled back and where it is released."""

    async def run() -> list[Any]:
        session = await _session()
        await session.execute("BEGIN")
        for number, end in enumerate(("ROLLBACK TO s", "RELEASE s")):
            for sql in ("SAVEPOINT s", READ_ONLY, end, f"EXECUTE ins({number}, 0)"):
                await session.execute(sql)
        await session.execute("COMMIT")
        return await rows(session, "SELECT a FROM t ORDER BY a")

    assert run_async(run()) == [(0,), (1,)]


@pytest.mark.parametrize(
    ("before", "sql", "code"),
    [
        (("BEGIN READ ONLY",), READ_WRITE, ""),
        (("BEGIN READ ONLY", "SELECT a FROM t"), READ_WRITE, "25001"),
        (("BEGIN READ ONLY", "EXPLAIN SELECT a FROM t"), READ_WRITE, "25001"),
        (("BEGIN READ ONLY", "DECLARE c CURSOR FOR SELECT a FROM t"), READ_WRITE, "25001"),
        (("BEGIN READ ONLY", "SAVEPOINT s"), READ_WRITE, "25001"),
        (("BEGIN", "SELECT a FROM t", READ_ONLY), READ_WRITE, "25001"),
        (("BEGIN", "SAVEPOINT s", READ_ONLY), READ_WRITE, "25001"),
        (("BEGIN", READ_ONLY, "SAVEPOINT s"), READ_WRITE, "25001"),
        (("BEGIN", "SELECT a FROM t"), READ_WRITE, ""),
        (("BEGIN", "EXECUTE ins(1, 1)"), "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "25001"),
        (("BEGIN", "SAVEPOINT s"), "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "25001"),
        (("BEGIN", "EXECUTE ins(1, 1)"), "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", ""),
        (("BEGIN",), "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", ""),
    ],
)
def test_what_postgresql_refuses_is_refused(before: tuple[str, ...], sql: str, code: str) -> None:
    async def run() -> str:
        session = await _session()
        for earlier in before:
            await session.execute(earlier)
        return (await outcome(session, sql)).error or ""

    assert run_async(run()) == code


def test_s2_as_of_binds_against_the_catalogue_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """With that of now every statement would be 40001 once the catalogue had changed since."""

    async def run() -> list[Any]:
        session = await _session()
        acquire_at, asked = session.services.leases.acquire_at, []

        async def watched(view: ReadView) -> CatalogLease:
            asked.append(await acquire_at(view))
            return asked[0]

        monkeypatch.setattr(session.services.leases, "acquire_at", watched)
        await session.execute("BEGIN")
        await session.execute("SET TRANSACTION AS OF SYSTEM TIME '-1us'")
        await session.execute("SELECT a FROM t")
        assert session.block is not None
        return [len(asked), session.block.lease is asked[0]]

    assert run_async(run()) == [1, True]
