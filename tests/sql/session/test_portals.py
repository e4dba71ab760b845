"""Portals with a row limit: what they show of their transaction, and when they end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.fakekv import FakeTxn
from tests.sql.harness import Database, error_of, rows, run_async
from txndb.errors import SqlError
from txndb.sql.session.session import Session

COUNT = 1000
"""More rows than the store gives at once."""
ROWS = [(a, a) for a in range(1, COUNT + 1)]


async def _session() -> Session:
    session = await Database().session()
    await session.execute("CREATE TABLE t (id int PRIMARY KEY, a int)")
    await session.execute(f"INSERT INTO t SELECT g, g FROM generate_series(1, {COUNT}) g")
    await session.execute("PREPARE negate AS UPDATE t SET a = -a")
    return session


async def _open(session: Session, name: str = "c", sql: str = "SELECT id, a FROM t") -> list[Any]:
    """A portal of which two rows were asked for."""
    await session.prepare("", sql)
    session.bind(name, "")
    return (await session.run_portal(name, 2)).rows


async def _rest(session: Session, name: str = "c") -> list[Any]:
    """Its other rows, a hundred at a time."""
    found: list[Any] = []
    while True:
        result = await session.run_portal(name, 100)
        found += result.rows
        if not result.suspended:
            return found


async def _code(session: Session, name: str = "c") -> str:
    with pytest.raises(SqlError) as caught:
        await session.run_portal(name, 2)
    return caught.value.code


async def _write(session: Session, sql: str) -> None:
    copy: Any = (await session.execute(sql)).copy
    if copy is not None:
        await copy.write(f"{COUNT + 1}\t0\n".encode())
        await copy.finish()


WRITES = (
    "UPDATE t SET a = -a",
    "UPDATE t SET id = id + 100000 WHERE id <= 3",
    "DELETE FROM t WHERE id > 10",
    "EXECUTE negate",
    "EXPLAIN ANALYZE UPDATE t SET a = -a",
    "COPY t FROM STDIN",
    "TRUNCATE t",
    "DROP TABLE t",
)


@pytest.mark.parametrize("write", WRITES)
def test_a_portal_shows_its_block_as_it_was(write: str) -> None:
    async def run() -> list[Any]:
        session = await _session()
        await session.execute("BEGIN")
        first = await _open(session)
        await _write(session, write)
        return first + await _rest(session)

    assert run_async(run()) == ROWS


def test_a_portal_shows_its_implicit_transaction_as_it_was() -> None:
    async def run() -> list[Any]:
        session = await _session()
        await session.prepare("", "UPDATE t SET a = a WHERE id = 1")
        session.bind("", "")
        await session.run_portal("")
        first = await _open(session)
        await session.prepare("", "UPDATE t SET a = -a")
        session.bind("", "")
        await session.run_portal("")
        return first + await _rest(session)

    assert run_async(run()) == ROWS


def test_a_portal_opened_before_the_savepoint_outlives_it() -> None:
    async def run() -> list[Any]:
        session = await _session()
        await session.execute("BEGIN")
        first = await _open(session)
        for sql in ("SAVEPOINT s", "UPDATE t SET a = -a", "ROLLBACK TO s", "DELETE FROM t"):
            await session.execute(sql)
        return first + await _rest(session)

    assert run_async(run()) == ROWS


def test_a_portal_ends_with_the_savepoint_before_it() -> None:
    """Half read, over a table that the rollback undoes, and not read at all."""

    async def run() -> tuple[list[str], int]:
        session = await _session()
        for sql in ("BEGIN", "SAVEPOINT s", "CREATE TABLE u (id int PRIMARY KEY, a int)"):
            await session.execute(sql)
        await session.execute("INSERT INTO u SELECT id, a FROM t")
        await session.execute("UPDATE t SET a = -a")
        await _open(session)
        await _open(session, "d", "SELECT id, a FROM u")
        await session.prepare("", "SELECT id, a FROM t")
        session.bind("unread", "")
        await session.execute("ROLLBACK TO s")
        codes = [await _code(session, name) for name in ("c", "d", "unread")]
        return codes, len(await _open(session))

    assert run_async(run()) == (["34000"] * 3, 2)


def test_a_portal_bound_after_a_released_savepoint_is_the_outer_levels() -> None:
    async def run() -> tuple[list[Any], str]:
        session = await _session()
        for sql in ("BEGIN", "SAVEPOINT outer_level", "SAVEPOINT inner_level"):
            await session.execute(sql)
        first = await _open(session)
        for sql in ("RELEASE inner_level", "SAVEPOINT other", "ROLLBACK TO other"):
            await session.execute(sql)
        found = first + await _rest(session)
        await session.execute("ROLLBACK TO outer_level")
        return found, await _code(session)

    assert run_async(run()) == (ROWS, "34000")


def test_rows_to_keep_for_a_portal_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txndb.sql.session.portals.CURSOR_ROWS_MAX", COUNT // 2)

    async def run() -> tuple[str, str, list[Any]]:
        session = await _session()
        await session.execute("BEGIN")
        await _open(session)
        await session.execute("SAVEPOINT s")
        code = (await error_of(session, "UPDATE t SET a = -a")).code
        await session.execute("ROLLBACK TO s")
        return code, await _code(session), await rows(session, "SELECT id, a FROM t WHERE id = 1")

    assert run_async(run()) == ("54000", "55000", [(1, 1)])


@pytest.mark.parametrize("change", ["INSERT INTO t VALUES (0, 0)", "ALTER TABLE t ADD COLUMN b int"])
def test_d1_d2_a_block_with_a_suspended_portal_commits_under_its_lease(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the lease its commit is bound by no catalogue, and DDL asks nobody to give up the old one."""

    async def run() -> tuple[bool, list[bool]]:
        session = await _session()
        revoked: list[bool] = []

        async def revoke(txn: Any, held: Any) -> None:
            revoked.append(held is lease)

        monkeypatch.setattr(session.services.leases, "revoke", revoke)
        await session.execute("BEGIN")
        await session.execute(change)
        await _open(session)
        assert session.block is not None
        lease, txn = session.block.lease, session.block.txn
        assert isinstance(txn, FakeTxn)
        await session.execute("COMMIT")
        return txn.not_after is not None, revoked

    assert run_async(run()) == (True, [True] if change.startswith("ALTER") else [])
