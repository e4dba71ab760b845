"""A node inside this process: made, used through its socket, closed; the same directory lock as a server's."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest

from txndb.errors import ShutdownError, StoreError
from txndb.server.embedded import Embedded, open_embedded


def greet(embedded: Embedded, user: str = "root") -> bytes:
    """Say hello as a PostgreSQL client; the type of the first answer."""
    sock = embedded.connect()
    sock.settimeout(10)
    body = f"user\0{user}\0database\0defaultdb\0\0".encode()
    sock.sendall(struct.pack("!ii", 8 + len(body), 196608) + body)
    with sock:
        return sock.recv(1)


def test_a_node_in_memory_answers_and_closes() -> None:
    others = threading.enumerate()
    embedded = open_embedded(None)
    assert greet(embedded) == b"R"
    assert greet(embedded, "nobody") == b"E"
    embedded.close()
    embedded.close()
    with pytest.raises(ShutdownError):
        embedded.connect()
    assert [thread.name for thread in threading.enumerate() if thread not in others] == []


def test_a_directory_is_locked_and_comes_back(tmp_path: Path) -> None:
    for _ in range(2):
        with open_embedded(str(tmp_path)) as embedded:
            assert greet(embedded) == b"R"
            with pytest.raises(StoreError, match="is in use by another node"):
                open_embedded(str(tmp_path))


def test_several_in_one_process_are_apart() -> None:
    with open_embedded(None) as first, open_embedded(None) as second:
        assert (greet(first), greet(second)) == (b"R", b"R")


def test_what_keeps_it_from_starting_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot use the data directory"):
        open_embedded(str(tmp_path / "file"))
