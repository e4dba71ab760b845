"""Unmodified PostgreSQL clients against a node: psql 15, psycopg 3, pgbench in its three protocol modes."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

BOUND_S = 240

pytestmark = pytest.mark.process


def run(program: str, *arguments: str, stdin: str | None = None) -> str:
    """Run a client; its standard output. Anything but success is a failure that shows what it said."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian: postgresql-client, postgresql-contrib)")
    environment = {**os.environ, "PGCONNECT_TIMEOUT": "10", "PSQLRC": "/dev/null"}
    done = subprocess.run(
        [program, *arguments], input=stdin, capture_output=True, text=True, timeout=BOUND_S, env=environment
    )
    assert done.returncode == 0, f"{program} {arguments} said {done.stderr}"
    return done.stdout


@pytest.fixture
def url(node_url: str) -> Iterator[str]:
    yield node_url
    with psycopg.connect(node_url, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS clients")


def psql(url: str, sql: str, *options: str) -> str:
    return run("psql", url, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", *options, stdin=sql)


def test_psql_runs_scripts(url: str) -> None:
    script = (
        "CREATE TABLE clients (a int PRIMARY KEY, b text);\nCOPY clients FROM STDIN;\n1\tone\n2\t\\N\n\\.\n"
    )
    psql(url, script)
    assert psql(url, "SELECT * FROM clients ORDER BY a", "-A", "-t") == "1|one\n2|\n"
    assert psql(url, "COPY clients TO STDOUT (FORMAT csv)") == "1,one\n2,\n"
    transaction = (
        "BEGIN; UPDATE clients SET b = 'two' WHERE a = 2; COMMIT; SELECT b FROM clients WHERE a = 2;"
    )
    assert psql(url, transaction, "-q", "-A", "-t") == "two\n"


def test_psql_describes_a_table(url: str) -> None:
    psql(url, "CREATE TABLE clients (a int PRIMARY KEY, b varchar(7) NOT NULL DEFAULT 'x', CHECK (a > 0))")
    psql(url, "CREATE INDEX clients_b ON clients (b)")
    shown = psql(url, "\\d clients")
    for line in (
        r'Table "public.clients"',
        r"a +\| integer +\| +\| not null",
        r"b +\| character varying\(7\) +\| +\| not null \| 'x'::character varying",
        r'"clients_pkey" PRIMARY KEY, btree \(a\)',
        r'"clients_b" btree \(b\)',
        r'"clients_a_check" CHECK \(a > 0\)',
    ):
        assert re.search(line, shown), f"{line} is missing in {shown}"
    assert "clients" in psql(url, "\\dt")
    assert "defaultdb" in psql(url, "\\l")


def test_psql_shows_errors_in_place(url: str) -> None:
    if shutil.which("psql") is None:
        pytest.skip("psql is not installed (Debian: postgresql-client)")
    done = subprocess.run(
        ["psql", url, "-X", "-c", "SELECT nothing"], capture_output=True, text=True, timeout=BOUND_S
    )
    assert done.returncode == 1
    assert 'column "nothing" does not exist\nLINE 1: SELECT nothing\n               ^' in done.stderr


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_values_return_as_sent(url: str, binary: bool) -> None:
    columns = {
        "s smallint": 7,
        "i int": -(2**31),
        "l bigint": 2**62,
        "f float8": 0.1,
        "n numeric(10,2)": Decimal("12345.60"),
        "t text": "ünï",
        "o bool": True,
        "y bytea": b"\0\xff",
        "d date": datetime.date(2026, 2, 28),
        "p timestamp": datetime.datetime(2026, 2, 28, 1, 2, 3, 456),
        "z timestamptz": datetime.datetime(2026, 2, 28, 1, 2, 3, tzinfo=datetime.UTC),
        "u uuid": UUID(int=5),
    }
    marks = ", ".join(["%b" if binary else "%s"] * len(columns))
    with psycopg.connect(url) as conn, conn.cursor(binary=binary) as cursor:
        cursor.execute(f"CREATE TABLE clients ({', '.join(columns)})")
        for _ in range(7):  # beyond psycopg's threshold for preparing
            cursor.execute(f"INSERT INTO clients VALUES ({marks})", tuple(columns.values()))
        cursor.execute("SELECT * FROM clients")
        assert cursor.fetchall() == [tuple(columns.values())] * 7


def test_psycopg_pipeline_copy_and_server_errors(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE TABLE clients (a int PRIMARY KEY, b text)")
        with conn.cursor().copy("COPY clients FROM STDIN") as copy:
            for number in range(1000):
                copy.write_row((number, str(number)))
        with conn.cursor().copy("COPY (SELECT * FROM clients ORDER BY a) TO STDOUT") as copy:
            assert list(copy.rows()) == [(str(number), str(number)) for number in range(1000)]
        with conn.pipeline(), conn.transaction():
            for number in range(100):
                conn.execute("UPDATE clients SET b = %s WHERE a = %s", ("new", number))
        assert conn.execute("SELECT count(*) FROM clients WHERE b = 'new'").fetchone() == (100,)
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            conn.execute("INSERT INTO clients VALUES (1, '')")
        assert caught.value.diag.constraint_name == "clients_pkey"
        assert caught.value.diag.table_name == "clients"


def test_pgbench_in_all_modes(node_url: str) -> None:
    run("pgbench", "-i", "-s", "1", "-q", node_url)
    assert psql(node_url, "SELECT count(*), sum(abalance) FROM pgbench_accounts", "-A", "-t") == "100000|0\n"
    for mode in ("simple", "extended", "prepared"):
        for script in ("tpcb-like", "simple-update", "select-only"):
            shown = run(
                "pgbench", "-M", mode, "-b", script, "-c", "4", "-t", "10", "--max-tries=100", node_url
            )
            assert "number of transactions actually processed: 40/40" in shown, f"{mode} {script}: {shown}"
            assert "number of failed transactions: 0" in shown
    balances = (
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)"
    )
    run("pgbench", "-i", "-I", "dtg", "-s", "1", "-q", node_url)
    run("pgbench", "-b", "tpcb-like", "-c", "4", "-t", "10", "--max-tries=100", "-n", node_url)
    assert psql(node_url, balances, "-A", "-t") == "t\n"
    psql(node_url, "DROP TABLE pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers")
