"""The bounds of a node: how they are given, and what each answers when it is exceeded (`docs/operating.md`)."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from txndb.limits import CEILINGS, NodeLimits
from txndb.server.config import ConfigError, parse_limits, parse_settings
from txndb.server.localcluster import LocalCluster

BOUND_S = 30
SMALL = {
    "connections": "4",
    "startup": "300ms",
    "unread": "300ms",
    "message_bytes": "256kB",
    "statement_bytes": "64kB",
    "parameters": "10",
    "prepared_statements": "5",
    "transaction_bytes": "100kB",
    "transaction_locks": "500",
    "lock_wait": "100ms",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a node with small bounds, and a table."""
    options = [f"--limit={name}={value}" for name, value in SMALL.items()]
    options.append("--set=idle_in_transaction_session_timeout=20s")
    with LocalCluster(tmp_path_factory.mktemp("limits"), 1, options) as cluster:
        with psycopg.connect(cluster.nodes[0].url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (k INT PRIMARY KEY, v TEXT)")
            connection.execute("INSERT INTO t SELECT k, 'v' FROM generate_series(1, 450) AS k")
        yield cluster.nodes[0].url


@pytest.fixture
def client(small: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(small, autocommit=True) as connection:
        yield connection


def _refused(connection: psycopg.Connection, sql: str, sqlstate: str, parameters: list[object]) -> str:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(sql, parameters or None)
    assert caught.value.sqlstate == sqlstate
    assert connection.execute("SELECT 1").fetchone() == (1,), "the connection goes on"
    return str(caught.value)


def test_a_statement_that_is_too_long(client: psycopg.Connection) -> None:
    text = "x" * 70_000
    assert "more than the 65536 allowed" in _refused(client, f"SELECT '{text}'", "54000", [])
    assert "more than the 65536 allowed" in _refused(client, f"SELECT '{text}', %s", "54000", [1])


def test_a_message_that_is_too_long(client: psycopg.Connection) -> None:
    assert "more than the 262144 allowed" in _refused(client, "SELECT %s", "54000", ["x" * 300_000])


def test_too_much_copy_data_in_one_message(client: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error) as caught, client.cursor().copy("COPY t FROM STDIN") as copy:
        client.pgconn.put_copy_data(b"1000\t" + b"x" * 300_000 + b"\n")
        copy.write(b"1001\tv\n")
    assert caught.value.sqlstate == "54000"
    assert client.execute("SELECT count(*) FROM t WHERE k >= 1000").fetchone() == (0,)


def test_too_many_parameters(client: psycopg.Connection) -> None:
    sql = f"SELECT {', '.join(['%s::int'] * 11)}"
    assert "at most 10 parameters" in _refused(client, sql, "54000", list(range(11)))
    assert client.execute("SELECT %s::int, %s::int", [1, 2]).fetchone() == (1, 2)


def test_too_many_prepared_statements(client: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error) as caught:
        for i in range(6):
            client.execute(f"SELECT {i}", prepare=True)
    assert caught.value.sqlstate == "54000"


def test_a_transaction_that_writes_too_much(client: psycopg.Connection) -> None:
    sql = "UPDATE t SET v = repeat('x', 1000)"
    assert "may write at most 102400 bytes" in _refused(client, sql, "54000", [])
    assert client.execute("SELECT count(*) FROM t WHERE v = 'v'").fetchone() == (450,)


def test_a_transaction_that_locks_too_much(client: psycopg.Connection) -> None:
    with client.transaction():
        client.execute("SELECT k FROM t WHERE k < 400 FOR UPDATE")
    sql = "INSERT INTO t SELECT k, 'v' FROM generate_series(1001, 1600) AS k"
    assert "at most 500 locks" in _refused(client, sql, "54000", [])
    assert client.execute("SELECT count(*) FROM t").fetchone() == (450,)


def test_a_wait_for_a_lock(small: str, client: psycopg.Connection) -> None:
    with psycopg.connect(small) as holder:
        holder.execute("UPDATE t SET v = 'w' WHERE k = 1")
        assert client.execute("SHOW lock_timeout").fetchone() == ("0",)
        _refused(client, "UPDATE t SET v = 'x' WHERE k = 1", "55P03", [])
        client.execute("SET lock_timeout = '10s'")  # what is set holds, also where it is longer
        with client.transaction(), pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("SET LOCAL statement_timeout = '400ms'")
            client.execute("UPDATE t SET v = 'x' WHERE k = 1")
        holder.rollback()


def test_too_many_connections(small: str) -> None:
    open_ones = [psycopg.connect(small) for _ in range(4)]
    try:
        with pytest.raises(psycopg.OperationalError, match="sorry, too many clients already"):
            psycopg.connect(small)
        open_ones.pop().close()
        _until_admitted(small).close()
    finally:
        for each in open_ones:
            each.close()


def _until_admitted(url: str) -> psycopg.Connection:
    """Connect, as often as it takes until the place of one that hung up is given back."""
    for _ in range(1000):
        try:
            return psycopg.connect(url)
        except psycopg.OperationalError:
            continue
    raise AssertionError("no place was given back")


def _sockets(url: str, count: int) -> list[socket.socket]:
    address = url.split("@")[1].split("/")[0].split(":")
    made = [socket.create_connection((address[0], int(address[1])), timeout=BOUND_S) for _ in range(count)]
    for sock in made:
        sock.settimeout(BOUND_S)
    return made


def _all_of(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def test_a_start_up_that_takes_too_long(small: str) -> None:
    (silent,) = _sockets(small, 1)
    with silent:
        silent.sendall(b"\0\0")
        said = _all_of(silent)
    assert b"C57014\0" in said and b"canceling authentication due to timeout" in said


def test_a_start_up_packet_that_is_too_large(small: str) -> None:
    (large,) = _sockets(small, 1)
    with large:
        large.sendall(struct.pack("!ii", 10_001, 196608))
        said = _all_of(large)
    assert b"SFATAL\0" in said and b"C08P01\0" in said


def test_too_many_connections_that_never_log_in(small: str) -> None:
    silent = _sockets(small, 30)
    refused = [said for said in map(_all_of, silent) if b"C53300\0" in said]
    for sock in silent:
        sock.close()
    assert len(refused) >= 6  # 2 * 4 + 16 are heard
    _until_admitted(small).close()


def test_a_client_that_does_not_read_its_answer(small: str, client: psycopg.Connection) -> None:
    """It is given up with its locks; what it left unread is bounded by the sockets' buffers."""
    (sock,) = _sockets(small, 1)
    with sock:
        body = b"user\0root\0database\0defaultdb\0\0"
        sock.sendall(struct.pack("!ii", 8 + len(body), 196608) + body)
        sql = b"BEGIN; UPDATE t SET v = 'mine' WHERE k = 1; SELECT repeat('x', 10000) FROM generate_series(1, 5000)\0"
        sock.sendall(b"Q" + struct.pack("!i", 4 + len(sql)) + sql)
        client.execute("SET lock_timeout = '20s'")
        client.execute("UPDATE t SET v = 'v' WHERE k = 1")
        assert client.execute("SELECT v FROM t WHERE k = 1").fetchone() == ("v",)


def test_session_parameters_have_the_nodes_defaults(client: psycopg.Connection) -> None:
    name = "idle_in_transaction_session_timeout"
    assert client.execute(f"SHOW {name}").fetchone() == ("20s",)
    client.execute(f"SET {name} = 0")
    client.execute(f"RESET {name}")
    assert client.execute(f"SHOW {name}").fetchone() == ("20s",)


def test_limits_are_read_with_their_units() -> None:
    found = parse_limits(["connections=7", "message_bytes=1MB", "lock_wait=1.5s", "transaction_bytes=2048"])
    assert found == NodeLimits(
        connections=7, message_bytes=1 << 20, lock_wait_us=1_500_000, transaction_bytes=2048
    )
    assert parse_limits(["lock_wait=0"]).lock_wait_us == 0
    assert parse_limits([]) == NodeLimits()
    for name, ceiling in CEILINGS.items():
        assert getattr(NodeLimits(), name) <= ceiling


@pytest.mark.parametrize(
    "text",
    [
        *("colour=3", "connections", "connections=0", "connections=3s", "lock_wait=5", "lock_wait=-1s"),
        *("message_bytes=1TB", "message_bytes=10GB", "parameters=65536", "transaction_bytes=2GB"),
    ],
)
def test_limits_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--limit {text}"):
        parse_limits([text])


@pytest.mark.parametrize("text", ["no_such=1", "statement_timeout", "statement_timeout=soon", "jit=maybe"])
def test_settings_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--set {text}"):
        parse_settings([text])


def test_a_refused_limit_ends_the_start_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "txndb.server", "start", "--data", str(tmp_path / "d")]
    done = subprocess.run(
        [*command, "--limit", "connections=0"], capture_output=True, text=True, timeout=BOUND_S, check=False
    )
    assert (done.returncode, done.stderr) == (1, "txndb: --limit connections=0: expected 1 … any.\n")
