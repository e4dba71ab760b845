"""Indexes stay in step with their tables, and filters at the leaseholder answer as filters at the gateway do."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.sql.harness import Database, outcome, rows, run_async
from txndb.encoding.keys import prefix_end, table_prefix
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.exec.ddl import collect_garbage
from txndb.sql.exec.table import TableCodec
from txndb.sql.session.session import Session

STATEMENTS = (
    "INSERT INTO t VALUES ({a}, {b}, '{c}') ON CONFLICT DO NOTHING",
    "INSERT INTO t VALUES ({a}, {b}, '{c}'), ({b}, {a}, NULL)",
    "INSERT INTO t VALUES ({a}, {b}, '{c}') ON CONFLICT (a) DO UPDATE SET b = excluded.b, c = t.c || 'x'",
    "UPDATE t SET b = {b} WHERE a = {a}",
    "UPDATE t SET a = {b} WHERE a = {a}",
    "UPDATE t SET c = NULL WHERE b > {b}",
    "UPDATE t SET a = a + 1 WHERE b < {b}",
    "DELETE FROM t WHERE a = {a}",
    "DELETE FROM t WHERE b = {b}",
    "DELETE FROM t WHERE c = '{c}'",
)


async def _catalog(db: Database) -> Catalog:
    return (await db.services.leases.acquire(None, db.kv.snapshot())).catalog


async def _entries(db: Database, start: bytes, end: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    async for batch in db.kv.snapshot().scan(start, end):
        found.update(batch)
    return found


async def _check_indexes(db: Database) -> int:
    """Every index holds exactly the entries of the table's rows; returns the number of rows."""
    catalog = await _catalog(db)
    table = catalog.tables(100)[0]
    codec = TableCodec(table)
    primary = await _entries(db, codec.primary.start, codec.primary.end)
    stored = [codec.decode(v) for v in primary.values()]
    assert list(primary) == [codec.key_of(r) for r in stored]
    for index in codec.secondary:
        wanted = dict(codec.entry(index, r) for r in stored)
        assert await _entries(db, index.start, index.end) == wanted
    return len(stored)


@pytest.mark.parametrize("seed", range(8))
def test_indexes_follow_random_changes(seed: int) -> None:
    async def run() -> None:
        db = Database()
        session = await db.session()
        await session.execute("CREATE TABLE t (a int PRIMARY KEY, b int, c text, UNIQUE (b, c))")
        await session.execute("CREATE INDEX t_c ON t (c DESC, a)")
        draw = random.Random(seed)
        for _ in range(120):
            text = draw.choice(STATEMENTS).format(
                a=draw.randrange(12), b=draw.randrange(12), c=draw.choice("pqr")
            )
            result = await outcome(session, text)
            assert result.error in ("", "23505", "21000"), (text, result)
        assert await _check_indexes(db) > 0
        await _compare_paths(session, draw)

    run_async(run())


async def _compare_paths(session: Session, draw: random.Random) -> None:
    """A query gives the same through an index as over all rows (no index serves `b + 0`)."""
    for _ in range(30):
        a, b, c = draw.randrange(12), draw.randrange(12), draw.choice("pqr")
        for fast, slow in (
            (f"b = {b}", f"b + 0 = {b}"),
            (f"c = '{c}' AND a > {a}", f"c || '' = '{c}' AND a + 0 > {a}"),
            (f"c > '{c}'", f"c || '' > '{c}'"),
            (f"c <= '{c}'", f"c || '' <= '{c}'"),
            (f"b IN ({a}, {b}) AND c IS NULL", f"b + 0 IN ({a}, {b}) AND c || '' IS NULL"),
            (f"a BETWEEN {a} AND {b}", f"a + 0 BETWEEN {a} AND {b}"),
        ):
            query = "SELECT a, b, c FROM t WHERE {} ORDER BY a"
            assert await rows(session, query.format(fast)) == await rows(session, query.format(slow))


EQUAL_BUT_DIFFERENT = (
    "UPDATE e SET x = 1.000, f = '-0', c = 2.00 WHERE id = 1",
    "UPDATE e SET x = v.x, f = v.f FROM (VALUES (1, 1.0000, '-0'::float8)) v (id, x, f) WHERE v.id = e.id",
    "UPDATE e SET id = 1.00 WHERE id = 1",
    "UPDATE e SET id = 1.00, x = NULL, u = NULL WHERE id = 1",
    "UPDATE e SET u = 5.0 WHERE id = 1",
    "INSERT INTO e VALUES (1.00, 0, 0) ON CONFLICT (id) DO UPDATE SET x = 1.00, f = '-0', id = excluded.id",
    "INSERT INTO e VALUES (2.0, 0, 0, 5.00) ON CONFLICT (u) DO UPDATE SET u = excluded.u",
)


@pytest.mark.parametrize("change", EQUAL_BUT_DIFFERENT)
def test_an_equal_value_of_another_form_is_an_index_change(change: str) -> None:
    """1.0 = 1.000 and 0 = -0, and both are shown as they were written, by every index that holds them."""

    async def run() -> None:
        db = Database()
        session = await db.session()
        await session.execute(
            "CREATE TABLE e (id numeric PRIMARY KEY, x numeric, f float8, u numeric UNIQUE, c numeric, y int)",
        )
        for column in "xfcy":
            await session.execute(f"CREATE INDEX e_{column} ON e ({column})")
        await session.execute("INSERT INTO e VALUES (1, 1.0, 0, 5, 2.0, 7), (3, 1.0, 0, 6, 2, 7)")
        assert (await session.execute(change)).tag in ("UPDATE 1", "INSERT 0 1")
        assert await _check_indexes(db) == 2

    run_async(run())


def test_an_equal_value_of_another_form_is_no_other_key() -> None:
    async def run() -> None:
        db = Database()
        session = await db.session()
        await session.execute("CREATE TABLE k (id numeric PRIMARY KEY, u float8 UNIQUE)")
        await session.execute("INSERT INTO k VALUES (1, 0), (2, 5)")
        assert (await session.execute("UPDATE k SET id = id * 1.00, u = -u WHERE id = 1")).tag == "UPDATE 1"
        for taken in ("u = '-0'", "id = 1.000"):
            assert (await outcome(session, f"UPDATE k SET {taken} WHERE id = 2")).error == "23505"
        assert await _check_indexes(db) == 2

    run_async(run())


def test_index_made_later_equals_index_made_first() -> None:
    async def run() -> int:
        db = Database()
        session = await db.session()
        await session.execute("CREATE TABLE t (a int, b int, c text)")
        await session.execute("INSERT INTO t SELECT g, g % 7, 'v' || g % 11 FROM generate_series(1, 5000) g")
        await session.execute("CREATE INDEX t_b ON t (b, c)")
        await session.execute("ALTER TABLE t ADD PRIMARY KEY (a)")
        return await _check_indexes(db)

    assert run_async(run()) == 5000


def test_failed_backfill_leaves_garbage_that_is_collected() -> None:
    async def run() -> tuple[str, int, int]:
        db = Database()
        session = await db.session()
        await session.execute("CREATE TABLE t (a int PRIMARY KEY, b int)")
        await session.execute("INSERT INTO t SELECT g, g % 4500 FROM generate_series(1, 5000) g")
        failed = (await outcome(session, "CREATE UNIQUE INDEX t_b ON t (b)")).error
        table = (await _catalog(db)).tables(100)[0]
        span = (table_prefix(table.id), prefix_end(table_prefix(table.id)))
        before = len(await _entries(db, *span))
        await collect_garbage(db.kv)
        return failed, before, len(await _entries(db, *span))

    failed, before, after = run_async(run())
    assert failed == "23505"
    assert before > after == 5000


def test_dropped_and_truncated_data_is_collected() -> None:
    async def run() -> int:
        db = Database()
        session = await db.session()
        await session.execute("CREATE TABLE t (a int PRIMARY KEY, b int UNIQUE)")
        await session.execute("INSERT INTO t SELECT g, g FROM generate_series(1, 300) g")
        await session.execute("TRUNCATE t")
        await session.execute("INSERT INTO t VALUES (1, 1)")
        table = (await _catalog(db)).tables(100)[0]
        await session.execute("DROP TABLE t")
        await session.execute("VACUUM")
        return len(await _entries(db, table_prefix(table.id), prefix_end(table_prefix(table.id))))

    assert run_async(run()) == 0


CONDITIONS = (
    "i > 3 AND t LIKE 'a%'",
    "i IS NULL OR n > 1.5",
    "NOT (i > 3)",
    "i IN (1, 2, NULL)",
    "i NOT IN (1, 2)",
    "n = 2",
    "f < 2.5 AND f > -1",
    "t || 'x' = 'abx'",
    "(i > 2) IS NOT TRUE",
    "d >= '2024-01-03'",
    "b IS FALSE",
    "i + 1 = 4 OR i - 1 = 4",
    "n::int = 2",
)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_filter_at_the_leaseholder_equals_filter_at_the_gateway(condition: str) -> None:
    """`random() < 2` keeps the second query's condition out of the scan."""

    async def run() -> tuple[list[Any], list[Any], bool]:
        session = await Database().session()
        await session.execute(
            "CREATE TABLE x (k int PRIMARY KEY, i int, t text, n numeric, f float8, d date, b bool)"
        )
        await session.execute(
            "INSERT INTO x SELECT g, nullif(g % 7, 5), chr(96 + g % 3) || chr(97 + g % 2), g / 4.0, g / 3.0 - 2, "
            "date '2024-01-01' + g, g % 3 = 0 FROM generate_series(1, 40) g"
        )
        near = await rows(session, f"SELECT k FROM x WHERE {condition} ORDER BY k")
        far = await rows(
            session,
            f"SELECT k FROM (SELECT *, random() AS r FROM x) y WHERE ({condition}) AND r < 2 ORDER BY k",
        )
        limited = await rows(session, f"SELECT k FROM x WHERE {condition} ORDER BY k LIMIT 3")
        return near, far, limited == near[:3]

    near, far, limited = run_async(run())
    assert near == far
    assert near
    assert limited


def test_error_in_a_filter_is_the_statement_error() -> None:
    async def run() -> str:
        session = await Database().session()
        await session.execute("CREATE TABLE x (k int PRIMARY KEY, i int)")
        await session.execute("INSERT INTO x VALUES (1, 0)")
        return (await outcome(session, "SELECT k FROM x WHERE 10 / i > 1")).error

    assert run_async(run()) == "22012"


def test_k2_locks_of_data_changes() -> None:
    """INSERT locks the keys it checks, UPDATE by key the row, all exclusively, before commit."""

    async def run() -> list[int]:
        db = Database()
        session = await db.session()
        await session.execute("CREATE TABLE t (a int PRIMARY KEY, b int UNIQUE, c int)")
        counts = []
        await session.execute("BEGIN")
        assert session.block is not None
        txn: Any = session.block.txn
        await session.execute("INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)")
        counts.append(len(txn.locked))
        await session.execute("COMMIT")
        await session.execute("BEGIN")
        assert session.block is not None
        txn = session.block.txn
        await session.execute("UPDATE t SET c = 5 WHERE a = 1")
        counts.append(len(txn.locked))
        await session.execute("SELECT * FROM t WHERE a = 2 FOR UPDATE")
        counts.append(len(txn.locked))
        await session.execute("ROLLBACK")
        return counts

    assert run_async(run()) == [4, 1, 2]
