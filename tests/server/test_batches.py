"""Extended batches over the wire, put together message by message, against a node in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from txndb.pgwire import backend, frontend
from txndb.pgwire.backend import CommandComplete, DataRow, ErrorResponse, ReadyForQuery
from txndb.server.embedded import Embedded, open_embedded


class Raw:
    """A client that says exactly what a test tells it."""

    def __init__(self, embedded: Embedded) -> None:
        self.sock = embedded.connect()
        self.sock.settimeout(20)
        self.parser = backend.BackendParser()
        self.put(frontend.startup({"user": "root", "database": "defaultdb"}))

    def put(self, *data: bytes) -> list[Any]:
        """Send, and read up to ReadyForQuery."""
        self.sock.sendall(b"".join(data))
        got: list[Any] = []
        while not any(isinstance(message, ReadyForQuery) for message in got):
            more = self.sock.recv(1 << 20)
            assert more, "the server hung up"
            got += self.parser.feed(more)
        return got

    def query(self, sql: str) -> list[Any]:
        """A Query; its rows."""
        return values(self.put(frontend.query(sql)))


def batch(*texts: str) -> bytes:
    """Parse, Bind and Execute of each."""
    return b"".join(
        frontend.parse("", sql) + frontend.bind("", "", []) + frontend.execute("", 0) for sql in texts
    )


def said(messages: list[Any]) -> list[str]:
    """The tags and SQLSTATEs, in order, and the state at the end."""
    heard = []
    for message in messages:
        if isinstance(message, CommandComplete):
            heard.append(message.tag)
        elif isinstance(message, ErrorResponse):
            heard.append(message.fields["C"])
        elif isinstance(message, ReadyForQuery):
            heard.append(message.status)
    return heard


def values(messages: list[Any]) -> list[Any]:
    return [message.values for message in messages if isinstance(message, DataRow)]


@pytest.fixture
def clients() -> Iterator[tuple[Raw, Raw]]:
    with open_embedded(None) as embedded:
        made = Raw(embedded), Raw(embedded)
        made[0].query("CREATE TABLE t (a int PRIMARY KEY, b int)")
        yield made
        for client in made:
            client.sock.close()


def test_what_a_query_acknowledged_stays(clients: tuple[Raw, Raw]) -> None:
    """After messages without a Sync it is committed, with them, before ReadyForQuery says that nothing is open."""
    one, other = clients
    got = one.put(batch("INSERT INTO t VALUES (1, 1)"), frontend.query("INSERT INTO t VALUES (2, 2)"))
    assert said(got) == ["INSERT 0 1", "INSERT 0 1", "I"]
    assert said(one.put(frontend.query("SELECT 1 / 0"))) == ["22012", "I"]
    assert other.query("SELECT a FROM t ORDER BY a") == [[b"1"], [b"2"]]


def test_a_call_that_no_sync_follows_ends_the_batch_it_fails(clients: tuple[Raw, Raw]) -> None:
    one, other = clients
    function_call = b"F" + (4 + 4 + 2 + 2 + 2).to_bytes(4, "big") + bytes(10)
    assert said(one.put(batch("INSERT INTO t VALUES (1, 1)"), function_call)) == ["INSERT 0 1", "0A000", "I"]
    assert said(one.put(frontend.query("INSERT INTO t VALUES (2, 2)"))) == ["INSERT 0 1", "I"]
    assert other.query("SELECT a FROM t") == [[b"2"]]


def test_ddl_of_a_batch_that_fails_is_undone(clients: tuple[Raw, Raw]) -> None:
    one, other = clients
    texts = ("CREATE TABLE u (a int)", "INSERT INTO u VALUES (1)", "SELECT 1 / 0")
    got = one.put(batch(*texts), frontend.SYNC)
    assert said(got) == ["CREATE TABLE", "INSERT 0 1", "22012", "I"]
    assert said(other.put(frontend.query("SELECT * FROM u"))) == ["42P01", "I"]
    assert said(one.put(batch(*texts[:2]), frontend.SYNC)) == ["CREATE TABLE", "INSERT 0 1", "I"]
    assert other.query("SELECT * FROM u") == [[b"1"]]


def test_no_update_is_lost_between_the_parts_of_a_batch(clients: tuple[Raw, Raw]) -> None:
    one, other = clients
    one.query("INSERT INTO t VALUES (1, 0)")
    one.sock.sendall(batch("SELECT b FROM t WHERE a = 1") + frontend.FLUSH)
    got: list[Any] = []
    while not any(isinstance(message, CommandComplete) for message in got):
        got += one.parser.feed(one.sock.recv(1 << 20))
    assert values(got) == [[b"0"]]
    other.query("SET lock_timeout = '100ms'")
    assert said(other.put(frontend.query("UPDATE t SET b = b + 1"))) == ["55P03", "I"]
    assert said(one.put(batch("UPDATE t SET b = 1 WHERE a = 1"), frontend.SYNC)) == ["UPDATE 1", "I"]
    assert said(other.put(frontend.query("UPDATE t SET b = b + 1"))) == ["UPDATE 1", "I"]
    assert other.query("SELECT b FROM t") == [[b"2"]]


def test_rows_are_never_sent_under_an_older_description(clients: tuple[Raw, Raw]) -> None:
    one, other = clients
    insert = frontend.parse("i", "INSERT INTO t VALUES (1, 1) RETURNING *")
    select = frontend.parse("s", "SELECT * FROM t")
    assert said(one.put(insert, select, frontend.SYNC)) == ["I"]
    other.query("ALTER TABLE t ADD COLUMN z int DEFAULT 5")
    for name, rows in (("i", 0), ("s", 0), ("s", 10)):
        got = one.put(frontend.bind("", name, []), frontend.execute("", rows), frontend.SYNC)
        assert (said(got), values(got)) == (["0A000", "I"], [])
    assert other.query("SELECT * FROM t") == []
