"""PostgreSQL's timeouts over real connections: what each ends, with which error, and what is left afterwards."""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Iterator

import psycopg
import pytest

import txndb
from txndb.server.embedded import open_embedded

BOUND_S = 30


@pytest.fixture
def table(node_url: str) -> Iterator[str]:
    """The URL of a node with a table of two rows."""
    with psycopg.connect(node_url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS waits")
        connection.execute("CREATE TABLE waits (k INT PRIMARY KEY, v INT)")
        connection.execute("INSERT INTO waits VALUES (1, 10), (2, 20)")
    yield node_url


def _holder(url: str) -> psycopg.Connection:
    """An older transaction that holds row 1 and idles."""
    holder = psycopg.connect(url)
    holder.execute("UPDATE waits SET v = 11 WHERE k = 1")
    return holder


def _sqlstate(connection: psycopg.Connection, sql: str) -> str | None:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(sql)
    return caught.value.sqlstate


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE waits SET v = 0 WHERE k = 1",
        "SELECT v FROM waits WHERE k = 1 FOR UPDATE",
        "INSERT INTO waits VALUES (1, 1)",
        "DELETE FROM waits",
        "CREATE INDEX ON waits (v)",
    ],
)
def test_lock_timeout_ends_the_wait_with_55p03_and_the_statement_alone(table: str, statement: str) -> None:
    with _holder(table) as holder, psycopg.connect(table, autocommit=True) as waiter:
        waiter.execute("SET lock_timeout = '50ms'")
        assert _sqlstate(waiter, statement) == "55P03"
        assert waiter.execute("SELECT v FROM waits ORDER BY k").fetchall() == [(10,), (20,)]
        holder.commit()
        assert waiter.execute("SELECT v FROM waits ORDER BY k").fetchall() == [(11,), (20,)]
        waiter.execute("UPDATE waits SET v = v + 1 WHERE k = 1")
        assert waiter.execute("SELECT v FROM waits WHERE k = 1").fetchone() == (12,)


def test_lock_timeout_says_how_long_and_behind_whom(table: str) -> None:
    with _holder(table) as holder, psycopg.connect(table, autocommit=True) as waiter:
        waiter.execute("SET lock_timeout = 50")
        with pytest.raises(psycopg.errors.LockNotAvailable) as caught:
            waiter.execute("UPDATE waits SET v = 0 WHERE k = 1")
        assert caught.value.diag.message_primary == "canceling statement due to lock timeout"
        detail = caught.value.diag.message_detail or ""
        assert detail.startswith("It waited for 50 ms behind transaction ")
        holder.rollback()


def test_set_local_holds_for_the_block(table: str) -> None:
    with _holder(table) as holder, psycopg.connect(table) as waiter:
        waiter.execute("SET LOCAL lock_timeout = '30ms'")
        waiter.execute("SAVEPOINT s")
        assert _sqlstate(waiter, "UPDATE waits SET v = 0 WHERE k = 1") == "55P03"
        waiter.execute("ROLLBACK TO SAVEPOINT s")
        waiter.execute("UPDATE waits SET v = 22 WHERE k = 2")
        assert waiter.execute("SHOW lock_timeout").fetchone() == ("30ms",)
        waiter.commit()
        assert waiter.execute("SHOW lock_timeout").fetchone() == ("0",)
        waiter.rollback()
        holder.commit()
    with psycopg.connect(table) as after:
        assert after.execute("SELECT v FROM waits ORDER BY k").fetchall() == [(11,), (22,)]


def test_a_wait_that_was_given_up_leaves_the_queue(table: str) -> None:
    """Who came later is not kept waiting by one that is gone, and its lock is not taken in its absence."""
    with _holder(table) as holder, psycopg.connect(table) as gone, psycopg.connect(table) as after:
        gone.execute("SET LOCAL lock_timeout = '30ms'")
        gone.execute("SAVEPOINT s")
        assert _sqlstate(gone, "UPDATE waits SET v = 0 WHERE k = 1") == "55P03"
        holder.commit()
        after.execute("SET LOCAL lock_timeout = '5s'")
        after.execute("UPDATE waits SET v = 12 WHERE k = 1")
        after.commit()


def test_statement_timeout_ends_a_lock_wait_with_57014(table: str) -> None:
    with _holder(table) as holder, psycopg.connect(table) as waiter:
        waiter.execute("SET LOCAL statement_timeout = '0.05 s'")
        assert _sqlstate(waiter, "UPDATE waits SET v = 0 WHERE k = 1") == "57014"
        waiter.rollback()
        holder.commit()


def test_statement_timeout_ends_a_commit_that_waits_for_older_users_of_the_catalogue(table: str) -> None:
    with psycopg.connect(table) as older, psycopg.connect(table, autocommit=True) as ddl:
        older.execute("SELECT v FROM waits WHERE k = 1 FOR UPDATE")
        ddl.execute("SET statement_timeout = '100ms'")
        began_s = time.monotonic()
        assert _sqlstate(ddl, "CREATE TABLE IF NOT EXISTS waits_more (k INT)") == "57014"
        assert time.monotonic() - began_s < 5
        older.execute("UPDATE waits SET v = 12 WHERE k = 1")
        older.commit()
        ddl.execute("CREATE TABLE IF NOT EXISTS waits_more (k INT)")
        ddl.execute("DROP TABLE waits_more")


def test_statement_timeout_ends_copy_from_a_silent_client(table: str) -> None:
    with psycopg.connect(table, autocommit=True) as connection:
        connection.execute("SET statement_timeout = '200ms'")
        copying = connection.cursor().copy("COPY waits FROM STDIN")
        with pytest.raises(psycopg.errors.QueryCanceled), copying as copy:
            copy.write(b"3\t30\n")
            connection.pgconn.flush()
            assert _readable(connection), "the server did not wait for the client"
        connection.execute("SET statement_timeout = 0")
        assert connection.execute("SELECT count(*) FROM waits").fetchone() == (2,)


def _readable(connection: psycopg.Connection) -> bool:
    return bool(select.select([connection.fileno()], [], [], BOUND_S)[0])


@pytest.mark.parametrize(
    ("setting", "sqlstate", "begin"),
    [
        ("idle_in_transaction_session_timeout", "25P03", True),
        ("idle_session_timeout", "57P05", False),
        ("transaction_timeout", "25P04", True),
    ],
)
def test_idle_timeouts_end_the_session_and_free_its_locks(
    table: str, setting: str, sqlstate: str, begin: bool
) -> None:
    with psycopg.connect(table, autocommit=True) as idle, psycopg.connect(table, autocommit=True) as other:
        idle.execute(f"SET {setting} = '100ms'")
        if begin:
            idle.execute("BEGIN")
            idle.execute("UPDATE waits SET v = 0 WHERE k = 1")
        assert _readable(idle)
        assert _sqlstate(idle, "SELECT 1") == sqlstate
        assert idle.closed
        other.execute("SET lock_timeout = '5s'")
        other.execute("UPDATE waits SET v = v + 1 WHERE k = 1")
        assert other.execute("SELECT v FROM waits WHERE k = 1").fetchone() == (11,)


def test_idle_in_transaction_does_not_end_a_session_outside_one(table: str) -> None:
    with psycopg.connect(table, autocommit=True) as connection:
        connection.execute("SET idle_in_transaction_session_timeout = '20ms'")
        connection.execute("SET idle_session_timeout = '200ms'")
        began_s = time.monotonic()
        assert _readable(connection)
        assert time.monotonic() - began_s > 0.1
        assert _sqlstate(connection, "SELECT 1") == "57P05"


def test_transaction_timeout_ends_a_statement_under_way(table: str) -> None:
    with _holder(table) as holder, psycopg.connect(table) as waiter:
        waiter.execute("SET LOCAL transaction_timeout = '100ms'")
        assert _sqlstate(waiter, "UPDATE waits SET v = 0 WHERE k = 1") == "25P04"
        assert waiter.closed
        holder.commit()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("'5s'", "5s"),
        ("'100ms'", "100ms"),
        ("1500", "1500ms"),
        ("60000", "1min"),
        ("'1.5 min'", "90s"),
        ("'2h'", "2h"),
        ("'1d'", "1d"),
        ("0", "0"),
        ("DEFAULT", "0"),
    ],
)
def test_show_prints_the_largest_whole_unit(node_url: str, value: str, shown: str) -> None:
    with psycopg.connect(node_url, autocommit=True) as connection:
        for name in (
            "lock_timeout",
            "statement_timeout",
            "idle_in_transaction_session_timeout",
            "idle_session_timeout",
            "transaction_timeout",
        ):
            connection.execute(f"SET {name} = {value}")
            assert connection.execute(f"SHOW {name}").fetchone() == (shown,)


def test_an_embedded_node_keeps_the_same_bounds() -> None:
    with txndb.connect() as holder:
        holder.execute("CREATE TABLE waits (k INT PRIMARY KEY, v INT)")
        holder.execute("INSERT INTO waits VALUES (1, 10)")
        holder.commit()
        holder.execute("UPDATE waits SET v = 11 WHERE k = 1")
        with holder.clone() as waiter:
            waiter.execute("SET lock_timeout = '50ms'")
            waiter.commit()
            with pytest.raises(txndb.OperationalError) as caught:
                waiter.execute("UPDATE waits SET v = 0 WHERE k = 1")
            assert caught.value.sqlstate == "55P03"
            waiter.rollback()
        holder.commit()


def test_an_embedded_node_ends_idle_sessions() -> None:
    body = b"user\0root\0database\0defaultdb\0options\0-c idle_session_timeout=50ms\0\0"
    with open_embedded(None) as embedded, embedded.connect() as sock:
        sock.settimeout(BOUND_S)
        sock.sendall(struct.pack("!ii", 8 + len(body), 196608) + body)
        received = b"".join(iter(lambda: sock.recv(4096), b""))
        assert b"SFATAL\0" in received and b"C57P05\0" in received
