"""gRPC between nodes: unary calls (join, admin, debug), snapshot streams, and the standard health service.

Generic handlers and msgspec payloads, so there is no generated code:

    /txndb.Node/Call      unary         call -> answer
    /txndb.Node/Snapshot  both streams  SnapshotHead, then chunks; each is acknowledged when the receiver took it, and
                                        the last message is the receiver's answer
    /grpc.health.v1.Health

Calls, answers and heads travel in envelopes (`txndb.cluster.envelopes`), whose checksum finds damage; a snapshot's
header and chunks have checksums of their own (`txndb.cluster.snapshots`). A `TxndbError` is an answer too and is
raised again, with its class, at the caller; everything else that goes wrong is `UnavailableError` there.

Invariants: 1. Every call has a deadline and every step of a stream has one (`STREAM_IDLE_S`): a silent peer ends it.
2. Flow control: a chunk is asked of the sender only when the receiver took the one before.

The server listens on a private address (see `listen_address`): `txndb.server.transport` hands it the connections that
arrive on the node's one --rpc address. grpc is imported when the first of these objects is made, not with this
module.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import msgspec

from txndb.cluster.envelopes import (
    Chain,
    decode_answer,
    decode_call,
    encode_answer,
    encode_call,
    encode_error,
)
from txndb.errors import DamagedError, ProtocolError, TxndbError, UnavailableError
from txndb.ids import NodeId
from txndb.limits import FRAME_BYTES_MAX

STREAM_IDLE_S: Final = 15.0
SILENT_CALLS_MAX: Final = 3
"""After so many calls in a row without an answer a new connection is tried: the old one may lead nowhere."""
_CALL: Final = "/txndb.Node/Call"
_SNAPSHOT: Final = "/txndb.Node/Snapshot"
_ACK: Final = b"\x00"


class CallReceiver(Protocol):
    """Who answers calls (the brain's `Receiver`, of which this is the part used here)."""

    async def on_call(self, method: str, payload: bytes) -> bytes: ...
    async def on_snapshot(self, sender: NodeId, header: bytes, chunks: AsyncIterator[bytes]) -> bytes: ...


class SnapshotHead(msgspec.Struct, frozen=True, array_like=True):
    """The first message of a snapshot stream."""

    cluster_id: bytes
    sender: int
    to: int
    header: bytes


def load_grpc() -> Any:
    """Import grpc, quiet and without its fork handlers (a node never forks)."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    import grpc.aio

    return grpc


def listen_address() -> str:
    """A private address for the gRPC server behind the node's port: nothing is left behind by a killed process."""
    if sys.platform == "linux":
        return f"unix-abstract:txndb-{os.getpid()}-{secrets.token_hex(8)}"
    return "127.0.0.1:0"


_OPTIONS: Final = (
    ("grpc.max_receive_message_length", FRAME_BYTES_MAX),
    ("grpc.max_send_message_length", FRAME_BYTES_MAX),
    ("grpc.enable_http_proxy", 0),
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 256),
)


class RpcServer:
    """The gRPC side of a node."""

    def __init__(self) -> None:
        self.receiver: CallReceiver | None = None
        self.cluster_id = b""
        self.node = NodeId(0)
        self._grpc = load_grpc()
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc

        self._health_pb = health_pb2
        self._health = health.aio.HealthServicer()
        self._server = self._grpc.aio.server(options=_OPTIONS)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((self._handlers(),))

    def _handlers(self) -> Any:
        handlers = {
            "Call": self._grpc.unary_unary_rpc_method_handler(self._on_call),
            "Snapshot": self._grpc.stream_stream_rpc_method_handler(self._on_snapshot),
        }
        return self._grpc.method_handlers_generic_handler("txndb.Node", handlers)

    async def start(self) -> str | tuple[str, int]:
        """Listen; returns what asyncio connects to: a socket path (abstract) or (host, port)."""
        address = listen_address()
        port = self._server.add_insecure_port(address)
        await self.set_serving(False)
        await self._server.start()
        kind, _, name = address.partition(":")
        return f"\0{name}" if kind == "unix-abstract" else ("127.0.0.1", port)

    async def set_serving(self, serving: bool) -> None:
        """What the health service says."""
        statuses = self._health_pb.HealthCheckResponse
        await self._health.set("", statuses.SERVING if serving else statuses.NOT_SERVING)

    async def close(self, grace_s: float) -> None:
        """End running calls, after a grace period."""
        await self._server.stop(grace_s)

    async def _on_call(self, request: bytes, context: Any) -> bytes:
        try:
            call = decode_call(request)
            if self.receiver is None:
                raise UnavailableError("this node is starting and not a member yet")
            return encode_answer(await self.receiver.on_call(call.method, call.payload))
        except DamagedError as e:  # as a status: that, a caller of another version understands too
            await context.abort(self._grpc.StatusCode.DATA_LOSS, e.message)
            return b""
        except TxndbError as e:
            return encode_error(e)

    async def _on_snapshot(self, _requests: AsyncIterator[bytes], context: Any) -> None:
        messages = self._messages(context)
        try:
            head = msgspec.msgpack.decode(Chain().open(await anext(messages)), type=SnapshotHead)
            if self.receiver is None or head.cluster_id != self.cluster_id or head.to != self.node:
                raise UnavailableError(f"this is not node {head.to} of that cluster")
            answer = await self.receiver.on_snapshot(NodeId(head.sender), head.header, messages)
            reply = encode_answer(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, StopAsyncIteration) as e:
            reply = encode_error(ProtocolError(f"malformed snapshot stream: {e}"))
        except TxndbError as e:
            reply = encode_error(e)
        await context.write(reply)

    async def _messages(self, context: Any) -> AsyncIterator[bytes]:
        """The stream's messages, each acknowledged when the next is asked for."""
        while True:
            try:
                async with asyncio.timeout(STREAM_IDLE_S):
                    message = await context.read()
            except TimeoutError:
                raise UnavailableError(
                    f"the sender of a snapshot was silent for {STREAM_IDLE_S:g} s"
                ) from None
            if message is self._grpc.aio.EOF:
                return
            yield message
            await context.write(_ACK)


class _Channel:
    """A connection to an address, and who uses it.

    Closing it cancels every call on it. So one that is to be replaced is closed by the last that uses it.
    """

    def __init__(self, channel: Any) -> None:
        self.grpc = channel
        self.users = 0
        self.silent_calls = 0


class RpcClient:
    """Calls to other nodes, by address; one channel for each."""

    def __init__(self) -> None:
        self._grpc = load_grpc()
        self._channels: dict[str, _Channel] = {}
        self._replaced: dict[_Channel, None] = {}

    async def call(self, address: str, method: str, payload: bytes, timeout_us: int) -> bytes:
        """Unary call; raises the callee's error, or `UnavailableError`."""
        async with self._channel(address) as channel:
            stub = channel.grpc.unary_unary(_CALL)
            answer = await stub(encode_call(method, payload), timeout=timeout_us / 1e6)
        return decode_answer(answer)

    async def send_snapshot(self, address: str, head: SnapshotHead, chunks: AsyncIterator[bytes]) -> bytes:
        """Stream a snapshot; raises the receiver's error, or `UnavailableError`."""
        async with self._channel(address) as channel:
            call = channel.grpc.stream_stream(_SNAPSHOT)()
            try:
                reply = await self._exchange(call, Chain().seal(msgspec.msgpack.encode(head)))
                async for chunk in chunks:
                    if reply != _ACK:
                        break
                    reply = await self._exchange(call, chunk)
                else:
                    if reply == _ACK:
                        await call.done_writing()
                        reply = await self._exchange(call, None)
            except TimeoutError:
                raise UnavailableError(
                    f"the receiver of a snapshot was silent for {STREAM_IDLE_S:g} s"
                ) from None
            finally:
                call.cancel()
        return decode_answer(reply)

    async def close(self) -> None:
        """Close all channels."""
        channels = [*self._channels.values(), *self._replaced]
        self._channels, self._replaced = {}, {}
        for channel in channels:
            await channel.grpc.close()

    async def _exchange(self, call: Any, message: bytes | None) -> bytes:
        """Send a message (if any), wait for what the receiver says next."""
        async with asyncio.timeout(STREAM_IDLE_S):
            if message is not None:
                await call.write(message)
            reply = await call.read()
        if reply is self._grpc.aio.EOF:
            raise UnavailableError("the receiver of a snapshot ended the stream without an answer")
        return bytes(reply)

    @asynccontextmanager
    async def _channel(self, address: str) -> AsyncIterator[_Channel]:
        """The channel to an address, for one call: grpc's errors come out as ours."""
        channel = self._channels.get(address)
        if channel is None:
            channel = _Channel(self._grpc.aio.insecure_channel(address, options=_OPTIONS))
            self._channels[address] = channel
        channel.users += 1
        try:
            yield channel
            channel.silent_calls = 0
        except self._grpc.aio.AioRpcError as e:
            raise self._failure(address, channel, e) from None
        except asyncio.CancelledError:
            # grpc says it also of a call whose channel was closed; only who was cancelled itself may end by it.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise UnavailableError(f"the connection to {address} was closed during a call") from None
        finally:
            channel.users -= 1
            if channel in self._replaced and not channel.users:
                del self._replaced[channel]
                await channel.grpc.close()

    def _failure(self, address: str, channel: _Channel, error: Any) -> TxndbError:
        codes = self._grpc.StatusCode
        if error.code() == codes.DATA_LOSS:
            return DamagedError(f"a call to {address} arrived damaged, or in another version of the protocol")
        if error.code() == codes.DEADLINE_EXCEEDED:
            channel.silent_calls += 1
            if channel.silent_calls >= SILENT_CALLS_MAX:
                self._replace(address, channel)
            return UnavailableError(f"the node at {address} did not answer in time")
        if error.code() == codes.UNAVAILABLE:
            # A channel that failed backs off by itself for up to two minutes; a fresh one dials at once.
            self._replace(address, channel)
        return UnavailableError(f"no node answers at {address}", detail=str(error.details() or "")[:500])

    def _replace(self, address: str, channel: _Channel) -> None:
        """The next call gets a new channel; the calls that use the old one go on."""
        if self._channels.get(address) is channel:
            del self._channels[address]
            self._replaced[channel] = None
