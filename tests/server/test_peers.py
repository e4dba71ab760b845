"""A peer's connection that is lost while frames leave: what could not be sent is dropped and counted, and nobody fails.

A transport refuses writes from the instant it begins to close, a turn of the loop before its protocol hears of it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from tests.server.recorder import WAIT_S, Recorder
from txndb.cluster.packets import PacketReader
from txndb.ids import NodeId
from txndb.server.frames import MAGIC, VERSION, Welcome, encode_welcome
from txndb.server.peers import COALESCE_BYTES_MAX, WRITE_HIGH_WATER_BYTES
from txndb.server.transport import ServerTransport

CLUSTER = b"c" * 16
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Caller:
    """Node 1's transport, connected to a node 2 that is a bare socket."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received = Recorder()
        self.transport = ServerTransport(self.events.append)
        self.errors: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    async def begin(self) -> None:
        """Become a member that dials node 2."""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.errors.append(str(context)))
        await self.transport.listen("127.0.0.1", 0)
        self.transport.start(NodeId(1), 1, CLUSTER, self.received)
        self.transport.set_address(NodeId(2), self.address)

    async def answer(self, error: str = "") -> socket.socket:
        """Take the next dial and answer its hello; the other side's socket."""
        loop = asyncio.get_running_loop()
        sock, _ = await loop.sock_accept(self.listener)
        packets = PacketReader()
        hello: list[bytes] = []
        await loop.sock_recv(sock, len(MAGIC))
        while not hello:
            hello = packets.feed(await loop.sock_recv(sock, 4096))
        await loop.sock_sendall(sock, encode_welcome(Welcome(VERSION, NodeId(2), 1, error)))
        return sock

    async def connect(self) -> socket.socket:
        """Be connected to node 2."""
        await self.begin()
        sock = await self.answer()
        await self.received.until(lambda: ("up", 2) in self.received.peers)
        return sock

    def dropped(self) -> float:
        return self.transport.metrics()["txndb_peer_frames_dropped_total"]

    async def close(self) -> None:
        self.listener.close()
        await self.transport.close()


def run(story: Callable[[Caller], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        caller = Caller()
        async with asyncio.timeout(3 * WAIT_S):
            try:
                await story(caller)
            finally:
                await caller.close()
        assert not caller.errors

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


def test_a_frame_for_a_connection_that_has_begun_to_close_is_dropped() -> None:
    async def story(caller: Caller) -> None:
        sock = await caller.connect()
        caller.transport.set_address(NodeId(2), "127.0.0.1:1")  # hangs up; who sends has not heard of it yet
        caller.transport.send(NodeId(2), b"late")
        await caller.received.until(lambda: ("down", 2) in caller.received.peers)
        assert caller.dropped() == 1
        sock.close()

    run(story)


def test_a_connection_reset_under_a_flush_in_pieces_ends_the_flush() -> None:
    """The first piece beyond the high-water mark is written at once and finds the connection reset."""

    async def story(caller: Caller) -> None:
        sock = await caller.connect()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        asyncio.get_running_loop().call_soon(
            sock.close
        )  # just before the flush, so nobody has heard of it then
        count = 4 * WRITE_HIGH_WATER_BYTES // COALESCE_BYTES_MAX
        for _ in range(count):
            caller.transport.send(NodeId(2), b"z" * COALESCE_BYTES_MAX)
        await caller.received.until(lambda: ("down", 2) in caller.received.peers)
        assert 0 < caller.dropped() < count, "some were handed to the socket before it said so"

    run(story)


def test_the_refusal_of_a_node_that_is_starting_is_in_nobodys_log() -> None:
    """It ends by itself; every other refusal is logged once."""

    async def story(caller: Caller) -> None:
        await caller.begin()
        for error in ("this node is starting and not a member yet", "full", "full"):
            (await caller.answer(error)).close()
        sock = await caller.answer()
        await caller.received.until(lambda: ("up", 2) in caller.received.peers)
        refusals = [event for event in caller.events if "cannot reach" in event]
        assert refusals == [f"cannot reach node 2 at {caller.address}: full"]
        sock.close()

    run(story)
