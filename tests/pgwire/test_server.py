"""The front door over real sockets: message flow, errors, pipelining, COPY, cancel, limits, shutdown.

References are to PostgreSQL 15's documentation, chapter 55.2.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.pgwire.serving import BOUND_S, Serving, serving
from txndb.errors import RetryError
from txndb.limits import NodeLimits
from txndb.pgwire import backend, frontend
from txndb.pgwire.backend import CommandComplete, DataRow, Done, ErrorResponse, ReadyForQuery
from txndb.pgwire.framing import Malformed
from txndb.server.pg_stream import QUEUE_BYTES_MAX


@pytest.fixture
def server() -> Iterator[Serving]:
    with serving() as made:
        yield made


class Raw:
    """A client that says exactly what a test tells it."""

    def __init__(
        self, port: int, user: str = "root", database: str = "defaultdb", start: bool = True
    ) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=BOUND_S)
        self.parser = backend.BackendParser()
        self.key = (0, 0)
        if start:
            self.send(frontend.startup({"user": user, "database": database}))
            for message in self.until_ready():
                if isinstance(message, backend.BackendKeyData):
                    self.key = (message.process_id, message.secret)

    def send(self, *data: bytes) -> None:
        self.sock.sendall(b"".join(data))

    def read(self) -> list[Any]:
        """What one receive brings; nothing at the end."""
        data = self.sock.recv(1 << 20)
        return self.parser.feed(data) if data else []

    def until_ready(self, count: int = 1) -> list[Any]:
        """Messages up to the count-th ReadyForQuery, or to the end of the connection."""
        got: list[Any] = []
        while sum(isinstance(message, ReadyForQuery) for message in got) < count:
            more = self.read()
            if not more:
                return got
            got += more
        return got

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


@pytest.fixture
def raw(server: Serving) -> Iterator[Raw]:
    with Raw(server.port) as made:
        yield made


def codes(messages: list[Any]) -> list[str]:
    return [message.fields["C"] for message in messages if isinstance(message, ErrorResponse)]


def extended(sql: str, *params: bytes | None, rows: int = 0) -> bytes:
    return (
        frontend.parse("", sql)
        + frontend.bind("", "", list(params))
        + frontend.describe("P", "")
        + frontend.execute("", rows)
    )


def test_simple_query_gives_each_statement_in_order(raw: Raw) -> None:
    raw.send(frontend.query("SELECT 1; SELECT 'x', NULL"))
    got = raw.until_ready()
    assert [m.values for m in got if isinstance(m, DataRow)] == [[b"1"], [b"x", None]]
    assert got[-1] == ReadyForQuery("I")


def test_an_empty_query_is_answered_as_such(raw: Raw) -> None:
    raw.send(frontend.query("  ;"))
    assert raw.until_ready() == [Done("I"), ReadyForQuery("I")]


def test_an_extended_batch_is_answered_by_one_write(raw: Raw) -> None:
    raw.send(extended("SELECT 5"), frontend.SYNC)
    assert raw.read() == [
        Done("1"),
        Done("2"),
        backend.RowDescription((backend.Column("5", 0, 0, 20, -1, -1),)),
        DataRow([b"5"]),
        CommandComplete("SELECT 1"),
        ReadyForQuery("I"),
    ]


def test_after_an_error_everything_up_to_sync_is_skipped(raw: Raw) -> None:
    """Reference: 55.2.3."""
    raw.send(
        extended("SELEC"),
        frontend.query("SELECT 1"),
        extended("SELECT 2"),
        frontend.SYNC,
        extended("SELECT 3"),
    )
    raw.send(frontend.SYNC)
    got = raw.until_ready(2)
    assert codes(got) == ["42601"]
    assert [m.values for m in got if isinstance(m, DataRow)] == [[b"3"]]


def test_a_failed_commit_at_sync_withdraws_the_completion(server: Serving, raw: Raw) -> None:
    server.sessions[0].fail_sync = RetryError("lost against another transaction", detail="which")
    raw.send(extended("SELECT 5"), frontend.SYNC)
    got = raw.until_ready()
    assert codes(got) == ["40001"]
    assert not any(isinstance(message, CommandComplete) for message in got)


def test_a_portal_is_suspended_at_its_row_limit(raw: Raw) -> None:
    raw.send(
        extended("SELECT 1 UNION SELECT 2 UNION SELECT 3", rows=2), frontend.execute("", 2), frontend.SYNC
    )
    got = raw.until_ready()
    assert [m.values for m in got if isinstance(m, DataRow)] == [[b"1"], [b"2"], [b"3"]]
    assert [m for m in got if m == Done("s")] == [Done("s")]


def test_the_session_is_told_when_a_sync_follows_at_once(server: Serving, raw: Raw) -> None:
    one = frontend.bind("", "", []) + frontend.execute("")
    raw.send(frontend.parse("", "SELECT 1"), one, one, frontend.SYNC)
    raw.until_ready()
    assert server.sessions[0].finals == [False, True]


def test_rows_of_other_columns_than_described_are_0a000(raw: Raw) -> None:
    raw.send(frontend.query("CREATE TABLE t (a)"), frontend.query("INSERT INTO t VALUES (1)"))
    raw.send(frontend.parse("s", "SELECT * FROM t"), frontend.SYNC)
    run = frontend.bind("", "s", []) + frontend.execute("") + frontend.SYNC
    raw.send(run, frontend.query("ALTER TABLE t ADD COLUMN b DEFAULT 'x'"), run)
    got = raw.until_ready(6)
    assert codes(got) == ["0A000"]
    assert [m.values for m in got if isinstance(m, DataRow)] == [[b"1"]]


UNSENDABLE = "SELECT x'00' UNION ALL SELECT 5"
"""Its column is bytea by its first row."""


def test_a_value_that_cannot_be_sent_is_an_error_of_its_statement(server: Serving, raw: Raw) -> None:
    raw.send(frontend.query(UNSENDABLE))
    got = raw.until_ready()
    assert (codes(got), got[-1]) == (["XX000"], ReadyForQuery("I"))
    raw.send(extended(UNSENDABLE), frontend.SYNC, extended("SELECT 3"), frontend.SYNC)
    got = raw.until_ready(2)
    assert codes(got) == ["XX000"]
    assert [m.values for m in got if isinstance(m, DataRow)] == [[b"3"]]
    raw.send(frontend.query("BEGIN"), frontend.query(UNSENDABLE))
    got = raw.until_ready(2)
    assert (codes(got), got[-1]) == (["XX000"], ReadyForQuery("E"))


@pytest.mark.parametrize(("fault", "code"), [(MemoryError, "53200"), (RecursionError, "54000")])
def test_a_query_too_large_to_run_is_answered_and_fails_its_block(
    server: Serving, raw: Raw, fault: type[Exception], code: str
) -> None:
    def too_large(word: str, sql: str, params: Any) -> Any:
        raise fault

    raw.send(frontend.query("BEGIN"))
    raw.until_ready()
    server.sessions[0]._run = too_large  # type: ignore[method-assign]
    raw.send(frontend.query("SELECT 1"))
    got = raw.until_ready()
    assert (codes(got), got[-1]) == ([code], ReadyForQuery("E"))


def test_a_long_batch_is_answered_before_its_sync(raw: Raw) -> None:
    """The answers of a batch without Sync are bounded: they leave in pieces."""
    one = frontend.bind("", "", []) + frontend.execute("")
    raw.send(frontend.parse("", "SELECT 1"), one * 1000)
    got = raw.read()
    assert got[0] == Done("1")
    raw.send(frontend.SYNC)
    got += raw.until_ready()
    assert sum(message == DataRow([b"1"]) for message in got) == 1000


def test_binary_results_and_parameters(raw: Raw) -> None:
    raw.send(frontend.parse("", "SELECT $1", (20,)), frontend.describe("S", ""))
    raw.send(frontend.bind("", "", [(7).to_bytes(8, "big")], (1,), (0,)), frontend.execute(""), frontend.SYNC)
    got = raw.until_ready()
    assert backend.ParameterDescription((20,)) in got
    assert DataRow([b"7"]) in got


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (frontend.bind("", "nowhere", []), "26000"),
        (frontend.execute("nowhere"), "34000"),
        (frontend.describe("S", "nowhere"), "26000"),
        (frontend.parse("", "SELECT $1") + frontend.bind("", "", []), "08P01"),
        (frontend.parse("", "SELECT $1", (20,)) + frontend.bind("", "", [b"x"]), "22P02"),
        (frontend.parse("", "SELECT $1") + frontend.bind("", "", [b"x"], (0, 1)), "08P01"),
        (b"B\0\0\0\6zz", "08P01"),
        (frontend.password(b""), "08P01"),
    ],
)
def test_refusals_found_at_the_door(server: Serving, raw: Raw, request_: bytes, code: str) -> None:
    raw.send(frontend.query("BEGIN"), request_, frontend.execute(""), frontend.SYNC)
    got = raw.until_ready(2)
    assert codes(got) == [code]
    assert got[-1] == ReadyForQuery("E"), "the session's transaction failed with it"
    assert code in [error.code for error in server.sessions[0].failures]


def test_a_simple_query_that_is_not_utf8_is_answered(raw: Raw) -> None:
    raw.send(b"Q\0\0\0\6\xff\0", frontend.query("SELECT 1"))
    got = raw.until_ready(2)
    assert codes(got) == ["22021"]
    assert DataRow([b"1"]) in got


def test_bytes_out_of_step_end_the_connection(raw: Raw) -> None:
    raw.send(b"?\0\0\0\4")
    got = raw.until_ready()
    assert got[0].fields["S"] == "FATAL"
    assert raw.read() == []


@pytest.mark.parametrize(
    ("user", "database", "code"),
    [("mallory", "defaultdb", "28000"), ("root", "nowhere", "3D000"), ("", "", "28000")],
)
def test_unknown_roles_and_databases_are_refused(
    server: Serving, user: str, database: str, code: str
) -> None:
    with Raw(server.port, start=False) as client:
        client.send(frontend.startup({"user": user, "database": database}))
        assert codes(client.until_ready()) == [code]
    assert server.call(lambda: asyncio.sleep(0, server.server.connection_count)) == 0


def test_one_connection_too_many_is_53300_and_a_place_is_given_back() -> None:
    with serving(limits=NodeLimits(connections=1)) as server:
        with Raw(server.port), Raw(server.port, start=False) as second:
            second.send(frontend.startup({"user": "root", "database": "defaultdb"}))
            assert codes(second.until_ready()) == ["53300"]
        server.call(lambda: _until(lambda: server.sessions[0].closed))
        with Raw(server.port) as third:
            assert third.key != (0, 0)


async def _until(condition: Any) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - conditions of code that knows no events of ours
            await asyncio.sleep(0)


def test_encryption_requests_are_answered_no(server: Serving) -> None:
    with Raw(server.port, start=False) as client:
        client.send(frontend.ssl_request())
        assert client.sock.recv(1) == b"N"
        client.send(frontend.startup({"user": "root", "database": "defaultdb"}))
        assert client.until_ready()[-1] == ReadyForQuery("I")


def test_start_up_settings_reach_the_session(server: Serving) -> None:
    with Raw(server.port, start=False) as client:
        options = "-c statement_timeout=5s --search-path=a\\ b"
        start = {
            "user": "root",
            "database": "defaultdb",
            "application_name": "me",
            "options": options,
            "_pq_.x": "1",
        }
        client.send(frontend.startup(start))
        got = client.until_ready()
    assert server.sessions[0].options == {
        "application_name": "me",
        "statement_timeout": "5s",
        "search_path": "a b",
    }
    assert backend.Negotiate(0, ("_pq_.x",)) in got
    reported = {m.name: m.value for m in got if isinstance(m, backend.ParameterStatus)}
    assert reported["application_name"] == "me"
    assert reported["session_authorization"] == "root"
    assert "crdb_version" not in reported


def test_a_changed_parameter_is_reported(raw: Raw) -> None:
    raw.send(frontend.query("SET TimeZone = 'Asia/Tokyo'"))
    assert backend.ParameterStatus("TimeZone", "Asia/Tokyo") in raw.until_ready()


def test_notices_come_before_the_completion(raw: Raw) -> None:
    raw.send(frontend.query("NOTICE me"))
    got = raw.until_ready()
    assert isinstance(got[0], backend.NoticeResponse)
    assert got[0].fields == {"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": "look here", "H": "there"}


def test_cancel_needs_the_right_secret(server: Serving, raw: Raw) -> None:
    raw.send(frontend.query("SELECT hang()"))
    server.call(lambda: _until(lambda: server.sessions[0].hanging.is_set()))
    process_id, secret = raw.key
    for guess in (secret ^ 1, secret):
        with Raw(server.port, start=False) as other:
            other.send(frontend.cancel_request(process_id, guess))
            assert other.read() == []
        if guess != secret:
            assert server.sessions[0].hanging.is_set()
    assert codes(raw.until_ready()) == ["57014"]


def test_a_lost_client_ends_its_statement_and_session(server: Serving) -> None:
    with Raw(server.port) as client:
        client.send(frontend.query("SELECT hang()"))
        server.call(lambda: _until(lambda: server.sessions[0].hanging.is_set()))
    server.call(lambda: _until(lambda: server.sessions[0].closed))
    assert server.server.connection_count == 0


def test_copy_both_ways(raw: Raw) -> None:
    raw.send(frontend.query("CREATE TABLE t (a)"), frontend.query("COPY t FROM STDIN"))
    raw.send(frontend.copy_data(b"1\n2"), frontend.copy_data(b"2\n"), frontend.FLUSH, frontend.COPY_DONE)
    assert CommandComplete("COPY 2") in raw.until_ready(2)
    raw.send(frontend.query("COPY t TO STDOUT"))
    got = raw.until_ready()
    assert [m.data for m in got if isinstance(m, frontend.CopyData)] == [b"1\n", b"22\n"]
    assert CommandComplete("COPY 2") in got


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frontend.copy_fail("why not"), "57014"),
        (frontend.copy_data(b"bad") + frontend.copy_data(b"more") + frontend.COPY_DONE, "22P04"),
        (frontend.query("SELECT 1"), "08P01"),
    ],
)
def test_a_failed_copy_is_one_error_and_the_rest_is_ignored(raw: Raw, data: bytes, code: str) -> None:
    raw.send(frontend.query("CREATE TABLE t (a)"), frontend.query("COPY t FROM STDIN"), data)
    assert codes(raw.until_ready(2)) == [code]
    raw.send(frontend.query("SELECT 1"))
    assert DataRow([b"1"]) in raw.until_ready()


def test_a_client_that_sends_without_reading_is_held_up(server: Serving, raw: Raw) -> None:
    """Reading stops at the queue's bound, and everything is answered once the client reads."""
    raw.send(frontend.query("SELECT hang()"))
    server.call(lambda: _until(lambda: server.sessions[0].hanging.is_set()))
    query = frontend.query("SELECT '" + "x" * 60_000 + "'")
    raw.sock.settimeout(0.2)
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            sent += raw.sock.send(query[sent % len(query) :])  # what did not go last time goes first
    assert sent > QUEUE_BYTES_MAX
    raw.sock.settimeout(BOUND_S)
    server._loop.call_soon_threadsafe(server.sessions[0].cancel)
    got = raw.until_ready(sent // len(query))
    assert sum(isinstance(message, DataRow) for message in got) >= sent // len(query) - 1


def test_many_rows_reach_a_slow_reader(raw: Raw) -> None:
    count = 40_000
    series = f"WITH RECURSIVE s(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM s WHERE a < {count})"
    raw.send(frontend.query(f"{series} SELECT a, '{'y' * 200}' FROM s"))
    got = raw.until_ready()
    values = [m.values[0] for m in got if isinstance(m, DataRow)]
    assert values == [b"%d" % number for number in range(1, count + 1)]


def test_drain_ends_idle_connections_at_once_and_others_after_their_transaction(server: Serving) -> None:
    with Raw(server.port) as idle, Raw(server.port) as busy:
        busy.send(frontend.query("BEGIN"))
        busy.until_ready()
        draining = asyncio.run_coroutine_threadsafe(server.server.drain(BOUND_S), server._loop)
        assert codes(idle.until_ready()) == ["57P01"]
        busy.send(frontend.query("COMMIT"))
        got = busy.until_ready(2)
        assert CommandComplete("COMMIT") in got
        assert codes(got) == ["57P01"]
        draining.result(BOUND_S)
    with pytest.raises(OSError):
        Raw(server.port)


def test_close_ends_a_transaction_with_57p01(server: Serving) -> None:
    with Raw(server.port) as busy:
        busy.send(frontend.query("BEGIN"))
        busy.until_ready()
        server.call(server.server.close)
        assert codes(busy.until_ready()) == ["57P01"]
    assert server.sessions[0].closed


def test_psycopg_pipeline_prepared_and_errors(server: Serving) -> None:
    where = f"host=127.0.0.1 port={server.port} user=root dbname=defaultdb"
    with psycopg.connect(where, autocommit=True, prepare_threshold=1) as conn:
        for number in range(5):
            assert conn.execute("SELECT %s", (str(number),)).fetchone() == (str(number),)
        with conn.pipeline():
            results = [conn.execute("SELECT 4") for _ in range(50)]
            assert [cursor.fetchone() for cursor in results] == [(4,)] * 50
        with pytest.raises(psycopg.errors.SyntaxError) as caught:
            conn.execute("SELEC")
        assert caught.value.diag.statement_position == "1"
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_garbage_never_stops_the_server(server: Serving) -> None:
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\xff" * 64, frontend.startup({"user": "root"})[:9]):
        with Raw(server.port, start=False) as client:
            client.send(data)
            client.sock.shutdown(socket.SHUT_WR)
            assert all(isinstance(m, ErrorResponse | Malformed) for m in client.until_ready())
    with Raw(server.port) as client:
        client.send(frontend.query("SELECT 1"))
        assert DataRow([b"1"]) in client.until_ready()
