"""The transport over real sockets on ephemeral loopback ports: frames, calls, snapshots, and what goes wrong."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import pytest
import uvloop

from tests.server.recorder import WAIT_S, Recorder
from txndb.cluster.envelopes import Chain, decode_answer
from txndb.cluster.packets import PacketReader
from txndb.errors import DamagedError, RetryError, SqlError, UnavailableError
from txndb.ids import NodeId
from txndb.limits import PEER_QUEUE_BYTES_MAX
from txndb.server import rpc
from txndb.server.frames import MAGIC, VERSION, Hello, decode_welcome, encode_hello
from txndb.server.peers import Local, Peer
from txndb.server.rpc import RpcClient, SnapshotHead
from txndb.server.transport import ServerTransport

CLUSTER = b"c" * 16


class Member:
    """A transport, what it received, and its address."""

    def __init__(self, node: int) -> None:
        self.node = NodeId(node)
        self.events: list[str] = []
        self.received = Recorder()
        self.transport = ServerTransport(self.events.append)
        self.address = ""

    async def listen(self, port: int = 0) -> Member:
        self.address = f"127.0.0.1:{await self.transport.listen('127.0.0.1', port)}"
        return self

    def start(self, incarnation: int = 1, cluster: bytes = CLUSTER) -> Member:
        self.transport.start(self.node, incarnation, cluster, self.received)
        return self


async def pair() -> tuple[Member, Member]:
    """Two connected members."""
    a, b = (await Member(1).listen()).start(), (await Member(2).listen()).start()
    a.transport.set_address(b.node, b.address)
    b.transport.set_address(a.node, a.address)
    await a.received.until(lambda: ("up", 2) in a.received.peers)
    await b.received.until(lambda: ("up", 1) in b.received.peers)
    return a, b


async def close(*members: Member) -> None:
    for member in members:
        await member.transport.close()


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(3 * WAIT_S):
            await story()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = address.split(":")
    return await asyncio.open_connection(host, int(port))


async def answer_to(member: Member, hello: Hello) -> str:
    """The error a listener answers a hello with."""
    reader, writer = await dial(member.address)
    writer.write(encode_hello(hello))
    frames: list[bytes] = []
    packets = PacketReader()
    while not frames:
        frames = packets.feed(await reader.read(4096))
    writer.close()
    return decode_welcome(frames[0]).error


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closes the connection."""
    try:
        return await reader.read(1) == b""
    except ConnectionResetError:
        return True


def test_frames_arrive_in_order_both_ways_and_large_ones_whole() -> None:
    async def story() -> None:
        a, b = await pair()
        sent = [b"", b"x" * 3_000_000, *(b"%d" % i for i in range(5000)), b"y" * 300_000]
        for frame in sent:
            a.transport.send(b.node, frame)
        b.transport.send(a.node, b"back")
        await b.received.until(lambda: len(b.received.frames) >= len(sent))
        await a.received.until(lambda: len(a.received.frames) >= 1)
        assert b.received.frames == [(1, frame) for frame in sent]
        assert a.received.frames == [(2, b"back")]
        await close(a, b)

    run(story)


def test_a_restarted_peer_is_reached_again_at_its_address() -> None:
    async def story() -> None:
        a, b = await pair()
        port = int(b.address.rpartition(":")[2])
        await b.transport.close()
        await a.received.until(lambda: a.received.peers == [("up", 2), ("down", 2)])
        a.transport.send(b.node, b"lost")
        assert a.transport.metrics()["txndb_peer_frames_dropped_total"] == 1
        again = (await Member(2).listen(port)).start(incarnation=2)
        await a.received.until(lambda: a.received.peers == [("up", 2), ("down", 2), ("up", 2)])
        a.transport.send(b.node, b"found")
        await again.received.until(lambda: again.received.frames == [(NodeId(1), b"found")])
        await close(a, again)

    run(story)


def test_a_peer_that_moved_is_reached_at_its_new_address() -> None:
    async def story() -> None:
        a, b = await pair()
        moved = (await Member(2).listen()).start(incarnation=2)
        a.transport.set_address(b.node, moved.address)
        await a.received.until(lambda: a.received.peers == [("up", 2), ("down", 2), ("up", 2)])
        a.transport.send(b.node, b"there")
        await moved.received.until(lambda: moved.received.frames == [(NodeId(1), b"there")])
        await close(a, b, moved)

    run(story)


@pytest.mark.parametrize("bad", ["[::1]", "db..example:7433", "x" * 70 + ":7433", "h\u00e9..:5", "a\0b:5"])
def test_an_address_that_is_none_is_said_and_left_out(bad: str) -> None:
    """A member's row may hold it: the node that reads it must start, and reach the others."""

    async def story() -> None:
        a, b = (await Member(1).listen()).start(), (await Member(2).listen()).start()
        a.transport.set_address(b.node, bad)
        assert [line for line in a.events if "cannot reach node 2" in line and "is not an address" in line]
        a.transport.set_address(b.node, b.address)
        await a.received.until(lambda: ("up", 2) in a.received.peers)
        await close(a, b)

    run(story)


def test_a_name_that_the_resolver_does_not_take_ends_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dial raises `UnicodeError`, which is no `OSError`; the member is dialled again when it moves."""
    monkeypatch.setattr("txndb.server.peers.parse_address", lambda address: address.rsplit(":", 1))

    async def story() -> None:
        b = (await Member(2).listen()).start()
        complained, received = asyncio.Event(), Recorder()
        local = Local(NodeId(1), 1, CLUSTER, received, lambda _: complained.set())
        peer = Peer(local, b.node, "db..example:7433")
        async with asyncio.timeout(WAIT_S):
            await complained.wait()
        peer.set_address(b.address)
        await received.until(lambda: ("up", 2) in received.peers)
        await peer.close()
        await close(b)

    run(story)


def test_a_full_queue_drops_and_counts() -> None:
    async def story() -> None:
        a, b = await pair()
        frame = b"z" * (PEER_QUEUE_BYTES_MAX // 4)
        for _ in range(6):
            a.transport.send(b.node, frame)
        assert a.transport.metrics()["txndb_peer_frames_dropped_total"] == 3
        await b.received.until(lambda: len(b.received.frames) == 3)
        await close(a, b)

    run(story)


@pytest.mark.parametrize(
    ("hello", "error"),
    [
        (Hello(VERSION + 1, CLUSTER, 7, 1, 1), f"version {VERSION + 1} is not spoken here"),
        (Hello(VERSION, b"other", 7, 1, 1), "node 7 belongs to cluster"),
        (Hello(VERSION, CLUSTER, 7, 1, 3), "this is node 1, not node 3"),
        (Hello(VERSION, CLUSTER, 1, 1, 1), "node id 1 is this node's own"),
        (Hello(VERSION, CLUSTER, 2, 4, 1), "incarnation 4 of node 2 is dead"),
    ],
)
def test_a_wrong_hello_is_refused_with_its_reason(hello: Hello, error: str) -> None:
    async def story() -> None:
        member = (await Member(1).listen()).start()
        assert await answer_to(member, Hello(VERSION, CLUSTER, 2, 5, 1)) == ""
        assert error in await answer_to(member, hello)
        assert any(error in line for line in member.events)
        await close(member)

    run(story)


def test_nothing_is_accepted_before_the_node_is_a_member() -> None:
    async def story() -> None:
        member, caller = await Member(1).listen(), await Member(2).listen()
        assert "not a member yet" in await answer_to(member, Hello(VERSION, CLUSTER, 2, 1, 1))
        with pytest.raises(UnavailableError, match="not a member yet"):
            await caller.transport.call(member.address, "echo", b"", 5_000_000)
        await close(member, caller)

    run(story)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 64,
        MAGIC + b"\xff" * 64,
        MAGIC + b"\x05\x00\x00\x00\x00\x00\x00\x00hello",
        encode_hello(Hello(VERSION, CLUSTER, 2, 1, 1)) + b"\xff" * 8,
        encode_hello(Hello(VERSION, CLUSTER, 2, 1, 1)) + b"\x04\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00",
    ],
)
def test_garbage_closes_the_connection_and_only_that(garbage: bytes) -> None:
    async def story() -> None:
        a, b = await pair()
        reader, writer = await dial(a.address)
        writer.write(garbage)
        while not await is_closed(reader):
            pass
        writer.close()
        b.transport.send(a.node, b"still here")
        await a.received.until(lambda: (NodeId(2), b"still here") in a.received.frames)
        await close(a, b)

    run(story)


def test_silent_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txndb.server.transport.UNIDENTIFIED_MAX", 2)

    async def story() -> None:
        member = (await Member(1).listen()).start()
        silent = [await dial(member.address) for _ in range(2)]
        reader, writer = await dial(member.address)
        assert await is_closed(reader)
        for w in [writer, *(w for _, w in silent)]:
            w.close()
        await close(member)

    run(story)


def test_a_half_open_connection_is_dropped_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txndb.server.transport.IDENTIFY_TIMEOUT_S", 0.05)
    monkeypatch.setattr("txndb.server.peers.HANDSHAKE_TIMEOUT_S", 0.05)

    async def story() -> None:
        member = (await Member(1).listen()).start()
        for opening in (b"", MAGIC[:2], MAGIC, MAGIC + b"\x09\x00"):
            reader, writer = await dial(member.address)
            writer.write(opening)
            assert await is_closed(reader)
            writer.close()
        await close(member)

    run(story)


def test_calls_answer_and_errors_keep_their_class() -> None:
    async def story() -> None:
        a, b = await pair()

        def call(method: str, payload: bytes) -> Awaitable[bytes]:
            return a.transport.call(b.address, method, payload, 5_000_000)

        assert await call("echo", b"p" * 1_000_000) == b"p" * 1_000_000
        with pytest.raises(RetryError) as retry:
            await call("retry", b"")
        assert (retry.value.message, retry.value.detail, retry.value.hint) == ("lost", "why", "again")
        with pytest.raises(SqlError) as unknown:
            await call("nonsense", b"")
        assert unknown.value.code == "42883"
        with pytest.raises(UnavailableError, match="did not answer in time"):
            await a.transport.call(b.address, "hang", b"", 50_000)
        with pytest.raises(UnavailableError, match="no node answers at"):
            await a.transport.call("127.0.0.1:1", "echo", b"", 2_000_000)
        await close(a, b)

    run(story)


def test_a_call_that_fails_ends_no_other_call_and_no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share a channel, and to close it would cancel them all. Also when the channel is replaced."""
    monkeypatch.setattr("txndb.server.rpc.SILENT_CALLS_MAX", 2)

    async def story() -> None:
        a, b = await pair()
        go_on = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            await go_on.wait()
            yield b"two"

        def call(method: str, timeout_us: int) -> Awaitable[bytes]:
            return a.transport.call(b.address, method, b"p", timeout_us)

        waiting = asyncio.ensure_future(call("wait", 20_000_000))
        snapshot = asyncio.ensure_future(a.transport.send_snapshot(b.node, b"head", chunks()))
        await b.received.until(lambda: "wait" in b.received.calls)
        for _ in range(3):
            with pytest.raises(UnavailableError, match="did not answer in time"):
                await call("hang", 50_000)
        assert await call("echo", 5_000_000) == b"p"
        go_on.set()
        b.received.until_released.set()
        assert (await waiting, await snapshot) == (b"p", b"2")
        await close(a, b)

    run(story)


def test_a_call_on_a_channel_that_is_closed_is_unavailable_not_cancelled() -> None:
    """Whoever calls was not cancelled: a node's tasks would end without a word."""

    async def story() -> None:
        a, b = await pair()
        client = RpcClient()
        calling = asyncio.ensure_future(client.call(b.address, "hang", b"", 20_000_000))
        await b.received.until(lambda: b.received.calls == ["hang"])
        await client.close()
        with pytest.raises(UnavailableError, match="was closed during a call"):
            await calling
        cancelled = asyncio.ensure_future(client.call(b.address, "hang", b"", 20_000_000))
        await b.received.until(lambda: b.received.calls == ["hang"] * 2)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await client.close()
        await close(a, b)

    run(story)


def test_a_damaged_call_is_not_executed_and_a_damaged_answer_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        a, b = await pair()
        for coder in ("encode_call", "encode_answer"):
            with monkeypatch.context() as wires:
                encode = getattr(rpc, coder)
                wires.setattr(rpc, coder, lambda *sent, encode=encode: flipped(encode(*sent)))
                with pytest.raises(DamagedError):
                    await a.transport.call(b.address, "echo", b"p", 5_000_000)
                assert b.received.calls == ([] if coder == "encode_call" else ["echo"])
        assert await a.transport.call(b.address, "echo", b"p", 5_000_000) == b"p"
        await close(a, b)

    run(story)


def test_a_damaged_head_of_a_snapshot_is_refused() -> None:
    async def story() -> None:
        import grpc.aio

        member = (await Member(1).listen()).start()
        head = Chain().seal(msgspec.msgpack.encode(SnapshotHead(CLUSTER, 2, 1, b"head")))
        async with grpc.aio.insecure_channel(member.address) as channel:
            stream = channel.stream_stream("/txndb.Node/Snapshot")
            assert decode_answer([reply async for reply in stream(iter([head]))][-1]) == b"0"
            reply = [reply async for reply in stream(iter([flipped(head)]))][-1]
            with pytest.raises(DamagedError):
                decode_answer(reply)
        assert len(member.received.snapshots) == 1
        await close(member)

    run(story)


def flipped(message: bytes) -> bytes:
    """A message of which one bit changed on the way."""
    return message[:-1] + bytes([message[-1] ^ 4])


def test_snapshots_stream_and_end_early_with_the_receivers_error() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for i in range(40):
            yield bytes([i]) * 100_000

    async def story() -> None:
        a, b = await pair()
        assert await a.transport.send_snapshot(b.node, b"head", chunks()) == b"40"
        sender, header, received = b.received.snapshots[0]
        assert (sender, header, len(received), received[39][:1]) == (1, b"head", 40, b"\x27")
        b.received.refuse_snapshot_after = 2
        with pytest.raises(RetryError, match="enough"):
            await a.transport.send_snapshot(b.node, b"head", chunks())
        with pytest.raises(UnavailableError, match="address of node 9"):
            await a.transport.send_snapshot(NodeId(9), b"", chunks())
        await close(a, b)

    run(story)


def test_a_silent_snapshot_sender_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txndb.server.rpc.STREAM_IDLE_S", 0.1)

    async def story() -> None:
        a, b = await pair()

        async def silent() -> AsyncIterator[bytes]:
            yield b"one"
            await b.received.until(lambda: bool(b.received.failures))
            yield b"two"

        with pytest.raises(UnavailableError):
            await a.transport.send_snapshot(b.node, b"head", silent())
        assert "the sender of a snapshot was silent" in str(b.received.failures[0])
        await close(a, b)

    run(story)


def test_the_health_service_follows_the_node() -> None:
    async def story() -> None:
        import grpc.aio
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        member = (await Member(1).listen()).start()
        async with grpc.aio.insecure_channel(member.address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            statuses = [(await check(health_pb2.HealthCheckRequest())).status]
            await member.transport.set_serving(True)
            statuses.append((await check(health_pb2.HealthCheckRequest())).status)
        assert statuses == [
            health_pb2.HealthCheckResponse.NOT_SERVING,
            health_pb2.HealthCheckResponse.SERVING,
        ]
        await close(member)

    run(story)


def test_an_address_in_use_is_not_bound_twice() -> None:
    async def story() -> None:
        a, b = await Member(1).listen(), Member(2)
        with pytest.raises(OSError) as error:
            await b.listen(int(a.address.rpartition(":")[2]))
        assert error.value.errno == errno.EADDRINUSE
        await close(a)

    run(story)
