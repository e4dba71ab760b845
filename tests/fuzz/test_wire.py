"""Bytes on a real node's ports: an error or a closed connection, never a crash, a hang or memory without bound.

A conversation is a start-up (valid or not) and messages with valid, mutated or random bodies; lengths may lie. After
each one the node must answer a new client, and its memory must not have grown beyond a bound.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import budget
from txndb.cluster.packets import encode_packet
from txndb.server.frames import VERSION, Hello, encode_hello
from txndb.server.localcluster import LocalCluster

BOUND_S = 20.0
GROWTH_BYTES_MAX = 60_000_000
_QUERIES = (
    b"SELECT 1", b"SELECT $1::int", b"BEGIN", b"COMMIT", b"ROLLBACK", b"COPY fuzz FROM STDIN", b"COPY fuzz TO STDOUT",
    b"CREATE TABLE IF NOT EXISTS fuzz (a INT)", b"SELECT 1; SELECT 2", b"", b"nonsense",
    b"INSERT INTO fuzz VALUES ($1)",
    b"SET client_encoding = 'SQL_ASCII'", b"SAVEPOINT s", b"SELECT '\xff'", b"PREPARE p AS SELECT 1", b"DEALLOCATE ALL",
)  # fmt: skip


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def startup(rng: Random) -> bytes:
    draw = rng.random()
    body = b"user\0root\0database\0defaultdb\0\0"
    if draw < 0.75:
        return struct.pack("!II", len(body) + 8, 196608) + body
    if draw < 0.85:
        return struct.pack("!II", 8, rng.choice((80877103, 80877104, 80877102, 0, 131072)))
    if draw < 0.93:
        return struct.pack("!II", rng.randrange(2**32), 196608) + body
    return rng.randbytes(rng.randrange(200))


def one_message(rng: Random) -> bytes:
    name = rng.choice((b"", b"a", b"b"))
    query = rng.choice(_QUERIES)
    valid = rng.choice(
        (
            (b"Q", query + b"\0"),
            (b"P", name + b"\0" + query + b"\0" + struct.pack("!H", 0)),
            (b"P", name + b"\0" + query + b"\0" + struct.pack("!HI", 1, rng.choice((23, 25, 0, 4294967295)))),
            (
                b"B",
                name
                + b"\0"
                + name
                + b"\0"
                + struct.pack("!HHiH", 0, 1, 1, 0)[:8]
                + b"7"
                + struct.pack("!H", 0),
            ),
            (b"B", name + b"\0" + name + b"\0" + struct.pack("!HHH", 0, 0, 0)),
            (b"D", rng.choice(b"SP").to_bytes(1, "big") + name + b"\0"),
            (b"E", name + b"\0" + struct.pack("!i", rng.choice((0, 1, -1)))),
            (b"C", rng.choice(b"SP").to_bytes(1, "big") + name + b"\0"),
            (b"H", b""),
            (b"S", b""),
            (b"d", rng.randbytes(rng.randrange(40))),
            (b"c", b""),
            (b"f", b"no\0"),
            (b"F", rng.randbytes(20)),
            (b"p", b"secret\0"),
        )
    )
    kind, body = valid
    draw = rng.random()
    if draw < 0.6:
        return message(kind, body)
    if draw < 0.8:
        damaged = bytearray(body or b"\0")
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        return message(kind, bytes(damaged))
    if draw < 0.9:
        return message(kind, body[: rng.randrange(len(body) + 1)])
    if draw < 0.96:
        return kind + struct.pack("!I", rng.choice((0, 3, 4, 2**31 - 1, 2**32 - 1, 100))) + body
    return rng.randbytes(rng.randrange(1, 60))


def converse(host: str, port: int, data: bytes) -> int:
    """Send everything, hang up the sending side and read to the end; the count of bytes answered."""
    answered = 0
    with socket.create_connection((host, port), timeout=BOUND_S) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(65_536):
                answered += len(piece)
        except (ConnectionError, BrokenPipeError):
            pass
    return answered


def resident_bytes(pid: int) -> int:
    """The resident set of a process."""
    text = Path(f"/proc/{pid}/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Two members, so that one has a peer to be confused about."""
    with LocalCluster(tmp_path_factory.mktemp("fuzz"), 2) as made:
        yield made


def survives(cluster: LocalCluster, before: list[int]) -> None:
    """Every node is the process it was, serves, has not grown without bound and complained of no internal error."""
    for node, memory in zip(cluster.nodes, before, strict=True):
        assert node.is_running, node.last_log_line()
        with psycopg.connect(node.url, autocommit=True) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert resident_bytes(node.info.pid) < memory + GROWTH_BYTES_MAX
        assert "Traceback" not in node.log_path.read_text("utf-8", "replace")


def host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@pytest.mark.process
def test_conversations_of_a_confused_client(cluster: LocalCluster) -> None:
    before = [resident_bytes(node.info.pid) for node in cluster.nodes]
    host, port = host_and_port(cluster.nodes[0].info.sql)

    @budget(60)
    @given(st.integers(0, 2**32))
    def attack(seed: int) -> None:
        rng = Random(seed)
        converse(host, port, startup(rng) + b"".join(one_message(rng) for _ in range(rng.randrange(12))))

    attack()
    survives(cluster, before)


def peer_bytes(rng: Random, cluster_id: bytes) -> bytes:
    """What somebody confused may send: hellos of nobody, packets that are damaged, frames of nothing.

    It never speaks for node 2 with the cluster's own id: who knows that and lies can do harm, until there is TLS
    (`docs/guarantees.md`).
    """
    node = rng.choice((1, 3, 77, 0, -1, 2**63 - 1))
    identity = cluster_id if rng.random() < 0.7 else rng.randbytes(16)
    data = encode_hello(
        Hello(rng.choice((VERSION, 0, 99)), identity, node, rng.randrange(2**40), rng.choice((1, 2)))
    )
    for _ in range(rng.randrange(5)):
        frames = [msgspec.msgpack.encode([[rng.randrange(12), rng.randrange(2**62), rng.randbytes(20)]])]
        frames += [rng.randbytes(rng.randrange(200)) for _ in range(rng.randrange(3))]
        packet = bytearray(encode_packet(frames))
        if rng.random() < 0.4:
            packet[rng.randrange(len(packet))] ^= 1 << rng.randrange(8)
        data += packet[: rng.randrange(len(packet))] if rng.random() < 0.2 else packet
    if rng.random() < 0.2:
        data = rng.choice(
            (b"TXNF", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"")
        ) + rng.randbytes(300)
    return data


@pytest.mark.process
def test_bytes_on_the_port_for_members(cluster: LocalCluster) -> None:
    before = [resident_bytes(node.info.pid) for node in cluster.nodes]
    target = cluster.nodes[0].info
    host, port = host_and_port(target.rpc)

    @budget(60)
    @given(st.integers(0, 2**32))
    def attack(seed: int) -> None:
        converse(host, port, peer_bytes(Random(seed), bytes.fromhex(target.cluster_id)))

    attack()
    survives(cluster, before)


@pytest.mark.process
def test_bytes_on_the_http_port(cluster: LocalCluster) -> None:
    before = [resident_bytes(node.info.pid) for node in cluster.nodes]
    host, port = host_and_port(cluster.nodes[0].info.http)
    for data in (
        b"GET / HTTP/9\r\n\r\n",
        b"\0" * 1000,
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        converse(host, port, data)
    survives(cluster, before)
