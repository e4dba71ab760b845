"""nextval() wherever an expression may stand, with no numbers at hand: each row draws one, and only one.

The sequence is a serial column's. A fresh one has no block of numbers on the node, and a block holds fewer than these
tables have rows.
"""

from __future__ import annotations

import pytest

from tests.sql.harness import Database, outcome, run_async
from txndb.sql.exec.sequences import BLOCK_NUMBERS
from txndb.sql.session.session import Session

ROWS = 3 * BLOCK_NUMBERS + 8
N = "nextval('n_s_seq')"
U = "ON CONFLICT (x) DO UPDATE SET"

SETUP = (
    "CREATE TABLE n (s serial)",
    "CREATE TABLE g (x int PRIMARY KEY, y int)",
    "CREATE TABLE h (x int PRIMARY KEY, y int)",
    f"INSERT INTO g SELECT i, i FROM generate_series(1, {ROWS}) i",
    f"INSERT INTO h SELECT i, i FROM generate_series(1, {ROWS}) i",
    "CREATE TABLE checked (x int CHECK (nextval('n_s_seq') > 0))",
    "CREATE TABLE upserted (x int PRIMARY KEY, y int CHECK (nextval('n_s_seq') > 0))",
    "PREPARE p (int) AS SELECT $1",
)

PLACES = (
    ("filter", f"SELECT count(*) FROM g WHERE {N} > 0", ROWS, ROWS),
    ("filter of all rows at once", f"SELECT x FROM g WHERE {N} > 0 AND x > {ROWS - 1}", ROWS, None),
    ("filter below a projection", f"SELECT max(z) FROM (SELECT x + 0 AS z FROM g WHERE {N} > 0) q", ROWS, ROWS),
    ("filter under EXISTS", f"SELECT EXISTS (SELECT FROM g WHERE {N} = 5)", "t", None),
    ("limit", f"SELECT count(*) FROM (SELECT x FROM g ORDER BY x LIMIT {N}) q", 1, 1),
    ("limit of a sort", f"SELECT count(*) FROM (SELECT x FROM g ORDER BY y LIMIT {N}) q", 1, 1),
    ("offset", f"SELECT x FROM g ORDER BY x OFFSET {N} + {ROWS - 2}", ROWS, 1),
    ("sort", f"SELECT x FROM g ORDER BY {N} DESC LIMIT 1", ROWS, ROWS),
    ("sort by two", f"SELECT x FROM g ORDER BY x - x, {N} DESC LIMIT 1", ROWS, ROWS),
    ("distinct", f"SELECT count(*) FROM (SELECT DISTINCT {N} FROM g) q", ROWS, ROWS),
    ("distinct on", f"SELECT count(*) FROM (SELECT DISTINCT ON (x + 0 * {N}) x FROM g) q", ROWS, None),
    ("aggregate's argument", f"SELECT sum({N}) FROM g", ROWS * (ROWS + 1) // 2, ROWS),
    ("aggregate's filter", f"SELECT count(*) FILTER (WHERE {N} > 8) FROM g", ROWS - 8, ROWS),
    ("aggregate's order", f"SELECT (array_agg(x ORDER BY {N} DESC))[1] FROM g", ROWS, ROWS),
    ("group", f"SELECT count(*) FROM (SELECT count(*) FROM g GROUP BY x + 0 * {N}) q", ROWS, None),
    ("having", f"SELECT count(*) FROM g HAVING {N} > 0", ROWS, 1),
    ("join's keys", f"SELECT count(*) FROM g JOIN h ON g.y + 0 * {N} = h.y", ROWS, ROWS),
    ("join's condition", f"SELECT count(*) FROM g JOIN h ON g.y = h.y AND g.y + h.y < {N} * 9", ROWS, ROWS),
    ("outer join", f"SELECT count(h.y) FROM g LEFT JOIN h ON g.y = h.y AND g.y + h.y < {N} * 9", ROWS, ROWS),
    ("full join", f"SELECT count(h.y) FROM g FULL JOIN h ON g.y = h.y AND g.y + h.y < {N} * 9", ROWS, ROWS),
    ("join of all", f"SELECT count(*) FROM g LEFT JOIN (SELECT 1 AS one) o ON {N} > g.x - 1", ROWS, ROWS),
    ("join by lookup", f"SELECT count(h.y) FROM h JOIN (VALUES (3)) v (a) ON h.x = v.a AND h.y < {N} + v.a", 1, 1),
    ("function in FROM", f"SELECT count(*) FROM generate_series(1, {N} + 4)", 5, 1),
    ("set operation", f"SELECT count(*) FROM (SELECT {N} FROM g EXCEPT SELECT 1) q", ROWS - 1, ROWS),
    ("subquery", f"SELECT sum((SELECT {N} + 0 * g.x)) FROM g", ROWS * (ROWS + 1) // 2, ROWS),
    ("update's filter", f"UPDATE g SET y = 0 WHERE {N} > {ROWS - 1} RETURNING x", ROWS, ROWS),
    ("update", f"UPDATE g SET y = {N} WHERE x = 1 RETURNING y", 1, 1),
    ("update's returning", f"WITH u AS (SELECT 1) UPDATE g SET y = 0 WHERE x = 4 RETURNING {N}", 1, 1),
    ("delete's filter", f"DELETE FROM g WHERE {N} > {ROWS - 1} RETURNING x", ROWS, ROWS),
    ("delete's returning", f"DELETE FROM g WHERE x = 4 RETURNING {N}", 1, 1),
    ("insert's returning", f"INSERT INTO g VALUES (0, 0) RETURNING {N}", 1, 1),
    ("conflict's filter", f"INSERT INTO g VALUES (3) {U} y = 0 WHERE {N} > 0 RETURNING y", 0, 1),
    ("conflict's change", f"INSERT INTO g VALUES (3) {U} y = {N} RETURNING y", 1, 1),
    ("conflict's returning", f"INSERT INTO g VALUES (3) {U} y = 7 RETURNING {N}", 1, 1),
    ("check at insert", "INSERT INTO checked VALUES (5) RETURNING x", 5, 1),
    ("execute", f"EXECUTE p ({N} + 1)", 2, 1),
    ("setval in a filter", "SELECT count(*) FROM g WHERE setval('n_s_seq', 700) = 700", ROWS, 700),
)  # fmt: skip


async def _session() -> Session:
    session = await Database().session()
    for text in SETUP:
        done = await outcome(session, text)
        assert not done.error, (text, done)
    return session


async def _value(session: Session, sql: str) -> str | None:
    """The only value of a statement's only row."""
    found = await outcome(session, sql)
    assert not found.error, found
    assert found.rows is not None
    ((value,),) = found.rows
    return value


@pytest.mark.parametrize(("sql", "value", "drawn"), [p[1:] for p in PLACES], ids=[p[0] for p in PLACES])
def test_numbers_run_out(sql: str, value: int | str, drawn: int | None) -> None:
    """The answer is as if numbers never ran out, and the next number follows the last one used."""

    async def run() -> None:
        session = await _session()
        assert await _value(session, sql) == str(value)
        following = await _value(session, f"SELECT {N}")
        assert following is not None
        if drawn is not None:
            assert int(following) == drawn + 1

    run_async(run())


def test_numbers_run_out_in_checks() -> None:
    async def run() -> None:
        session = await _session()
        for text in (
            f"INSERT INTO checked SELECT x FROM g WHERE {N} > 0",
            f"UPDATE checked SET x = {N}",
            "ALTER TABLE g ADD CHECK (nextval('n_s_seq') > 0)",
            "INSERT INTO upserted VALUES (1, 1), (2, 2)",
            f"INSERT INTO upserted SELECT x, 3 FROM h WHERE {N} > 0 ON CONFLICT (x) DO UPDATE SET y = 4",
            f"ALTER TABLE h ADD COLUMN z int DEFAULT {N}",
        ):
            assert not (await outcome(session, text)).error, text
        assert await _value(session, "SELECT count(DISTINCT x) FROM checked") == str(ROWS)
        assert await _value(session, "SELECT count(*) FROM upserted WHERE y = 4") == "2"
        assert await _value(session, "SELECT count(DISTINCT z) FROM h") == str(ROWS)

    run_async(run())


def test_numbers_run_out_in_a_cursor() -> None:
    async def run() -> None:
        session = await _session()
        assert not (await outcome(session, "BEGIN")).error
        assert not (await outcome(session, f"DECLARE c CURSOR FOR SELECT x FROM g WHERE {N} > 0")).error
        found = (await outcome(session, "FETCH 100 c")).rows or []
        found += (await outcome(session, "FETCH ALL c")).rows or []
        assert sorted(int(x or 0) for (x,) in found) == list(range(1, ROWS + 1))

    run_async(run())


def test_where_nobody_can_wait_for_numbers_only_the_statement_fails() -> None:
    async def run() -> None:
        session = await _session()
        assert (await outcome(session, f"ALTER TABLE g SPLIT AT VALUES ({N})")).error == "0A000"
        assert await _value(session, "SELECT 1") == "1"

    run_async(run())
