"""Connections to the other members: one outgoing connection for each, kept up, and the incoming ones.

Outgoing, per member: connect, handshake, send; when it is lost, dial again after a back-off of 50 ms doubling to 1
s, at once when
that member has just dialled us. Frames queued in one turn of the loop leave in one write.

Invariants:
1. `Peer.send` never blocks and keeps at most `PEER_QUEUE_BYTES_MAX` bytes: a frame that does not fit, or for a member
   that is not connected, is dropped and counted.
2. Up and down are reported in alternation, up first; up only after the listener proved to be the expected member of
the
   same cluster. Frames of one connection arrive in order, none twice; those under way when it is lost may be lost.
3. Of two incoming connections of one member the one of the older incarnation is refused or closed.

It does not authenticate (TLS comes with a later issue) and knows nothing of what the frames mean. A paused or
unplugged peer is found by the kernel (keep-alive, TCP_USER_TIMEOUT), a slow one by Raft. Driven by
`txndb.server.transport`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

from txndb.cluster.addresses import parse_address
from txndb.cluster.packets import PACKET_BYTES_MAX, PacketReader, encode_packet
from txndb.errors import ProtocolError
from txndb.ids import NodeId
from txndb.limits import PEER_QUEUE_BYTES_MAX
from txndb.server.frames import (
    HANDSHAKE_BYTES_MAX,
    MAGIC,
    VERSION,
    Hello,
    Welcome,
    decode_hello,
    decode_welcome,
    encode_hello,
    encode_welcome,
)

CONNECT_TIMEOUT_S: Final = 2.0
HANDSHAKE_TIMEOUT_S: Final = 5.0
BACKOFF_MIN_S: Final = 0.05
BACKOFF_MAX_S: Final = 1.0
COALESCE_BYTES_MAX: Final = 256 * 1024
WRITE_HIGH_WATER_BYTES: Final = 1024 * 1024
DEAD_PEER_MS: Final = 3000
"""After this long without an acknowledgement the kernel gives a connection up."""
_STARTING: Final = "this node is starting and not a member yet"
"""The one refusal that ends by itself: it is in nobody's log."""


class FrameReceiver(Protocol):
    """Where frames go (the brain's `Receiver`, of which this is the part used here)."""

    def on_message(self, sender: NodeId, payload: bytes) -> None: ...
    def on_peer_up(self, peer: NodeId) -> None: ...
    def on_peer_down(self, peer: NodeId) -> None: ...


class Local:
    """Who this node is, once it is a member, and where its frames and log lines go."""

    def __init__(
        self,
        node: NodeId,
        incarnation: int,
        cluster_id: bytes,
        receiver: FrameReceiver,
        event: Callable[[str], None],
    ) -> None:
        self.node = node
        self.incarnation = incarnation
        self.cluster_id = cluster_id
        self.receiver = receiver
        self.event = event


def tune_socket(transport: asyncio.Transport) -> None:
    """No Nagle delay, and let the kernel find dead peers: that costs no wake-up of ours."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 1),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", DEAD_PEER_MS),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


class _Outgoing(asyncio.Protocol):
    """One connection to a member, from the dial to its loss."""

    def __init__(self, hello: Hello) -> None:
        loop = asyncio.get_running_loop()
        self.hello = hello
        self.welcome: asyncio.Future[Welcome] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.writable = True
        self.on_writable: Callable[[], None] | None = None
        self.transport: asyncio.Transport | None = None
        self._reader = PacketReader(HANDSHAKE_BYTES_MAX)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        tune_socket(transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        transport.write(encode_hello(self.hello))

    def data_received(self, data: bytes) -> None:
        try:
            if self.welcome.done():
                raise ProtocolError("a listener sent more than its answer to the hello")
            for frame in self._reader.feed(data):
                self.welcome.set_result(decode_welcome(frame))
                break
        except ProtocolError as e:
            self._fail(e)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self.on_writable is not None:
            self.on_writable()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ProtocolError(f"the connection was closed{f': {error}' if error else ''}"))
        if not self.lost.done():
            self.lost.set_result(None)

    def _fail(self, error: ProtocolError) -> None:
        if not self.welcome.done():
            self.welcome.set_exception(error)
            self.welcome.exception()  # the waiter may have given up already
        if self.transport is not None:
            self.transport.abort()


class Peer:
    """The way to one member."""

    def __init__(self, local: Local, node: NodeId, address: str) -> None:
        self.node = node
        self.address = address
        self.dropped_frames = 0
        self.sent_bytes = 0
        self._local = local
        self._loop = asyncio.get_running_loop()
        self._connection: _Outgoing | None = None
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._flush_scheduled = False
        self._kick = asyncio.Event()
        self._last_complaint = ""
        self._task = self._loop.create_task(self._run(), name=f"peer-{node}")

    @property
    def is_up(self) -> bool:
        return self._connection is not None

    def send(self, payload: bytes) -> None:
        """Queue a frame for this turn's packet, or drop it (invariant 1)."""
        size = len(payload) + 4
        if (
            self._connection is None
            or size > PACKET_BYTES_MAX
            or self._queued_bytes + size > PEER_QUEUE_BYTES_MAX
        ):
            self.dropped_frames += 1
            return
        self._queue.append(payload)
        self._queued_bytes += size
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def set_address(self, address: str) -> None:
        """The member moved: drop the old connection and dial the new address."""
        if address != self.address:
            self.address = address
            if self._connection is not None and self._connection.transport is not None:
                self._connection.transport.abort()
            self.kick()

    def kick(self) -> None:
        """Dial now instead of waiting for the back-off: the member showed a sign of life."""
        if self._connection is None:
            self._kick.set()

    async def close(self) -> None:
        """Send what is queued and hang up."""
        self._flush()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _flush(self) -> None:
        self._flush_scheduled = False
        connection = self._connection
        # A transport closes before its protocol hears of the loss, and refuses writes from then on.
        if connection is None or connection.transport is None or connection.transport.is_closing():
            self._drop_queue()
            return
        if not connection.writable or not self._queue:
            return
        queue, self._queue = self._queue, []
        self.sent_bytes += self._queued_bytes
        if self._queued_bytes <= COALESCE_BYTES_MAX:
            self._queued_bytes = 0
            connection.transport.write(encode_packet(queue))
            return
        self._queued_bytes = 0
        self._flush_in_pieces(connection, queue)

    def _flush_in_pieces(self, connection: _Outgoing, queue: list[bytes]) -> None:
        """Large queues leave as several packets, and stop where the socket's buffer is full."""
        assert connection.transport is not None
        begin, size = 0, 0
        for i, frame in enumerate(queue):
            if size and size + len(frame) + 4 > COALESCE_BYTES_MAX:
                connection.transport.write(encode_packet(queue[begin:i]))
                begin, size = i, 0
                if not connection.writable or connection.transport.is_closing():
                    break
            size += len(frame) + 4
        rest = queue[begin:]
        if connection.transport.is_closing():
            self.dropped_frames += len(rest)
        elif connection.writable:
            connection.transport.write(encode_packet(rest))
        else:
            left = sum(len(frame) + 4 for frame in rest)
            self._queue[:0] = rest
            self._queued_bytes += left
            self.sent_bytes -= left

    def _drop_queue(self) -> None:
        self.dropped_frames += len(self._queue)
        self._queue.clear()
        self._queued_bytes = 0

    async def _run(self) -> None:
        backoff_s = BACKOFF_MIN_S
        while True:
            self._kick.clear()
            try:
                connection = await self._dial()
            except (OSError, TimeoutError, ProtocolError, UnicodeError) as e:
                # UnicodeError: what a resolver says of a name that no host can have. The member may yet move.
                self._complain(str(e) or type(e).__name__)
            else:
                backoff_s = BACKOFF_MIN_S
                await self._stay(connection)
            try:
                async with asyncio.timeout(backoff_s):
                    await self._kick.wait()
            except TimeoutError:
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def _dial(self) -> _Outgoing:
        """Connect and shake hands; an error says what the other side objects to."""
        local = self._local
        hello = Hello(VERSION, local.cluster_id, local.node, local.incarnation, self.node)
        connection = _Outgoing(hello)
        host, port = parse_address(self.address)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._loop.create_connection(lambda: connection, host, port)
                welcome = await connection.welcome
            if welcome.error:
                raise ProtocolError(welcome.error)
            if welcome.node != self.node:
                raise ProtocolError(f"node {welcome.node} answers there, not node {self.node}")
        except BaseException:
            if connection.transport is not None:
                connection.transport.abort()
            raise
        return connection

    async def _stay(self, connection: _Outgoing) -> None:
        """Report up, wait for the loss, report down."""
        local = self._local
        self._last_complaint = ""
        self._connection = connection
        connection.on_writable = self._flush
        local.event(f"connected to node {self.node} at {self.address}")
        local.receiver.on_peer_up(self.node)
        try:
            await connection.lost
        finally:
            self._connection = None
            self._drop_queue()
            if connection.transport is not None:
                connection.transport.close()
            local.receiver.on_peer_down(self.node)
        local.event(f"lost the connection to node {self.node} at {self.address}")

    def _complain(self, message: str) -> None:
        """One log line for each new reason, not one for each attempt."""
        if message not in (self._last_complaint, _STARTING):
            self._last_complaint = message
            self._local.event(f"cannot reach node {self.node} at {self.address}: {message}")


class Incoming(asyncio.Protocol):
    """A connection that a member made to us, after its first four bytes were `MAGIC`."""

    def __init__(self, registry: IncomingRegistry, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.node = NodeId(0)
        self.incarnation = 0
        self._registry = registry
        self._reader = PacketReader(HANDSHAKE_BYTES_MAX)
        self._prefix = len(MAGIC)
        self._receiver: FrameReceiver | None = None
        tune_socket(transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HANDSHAKE_TIMEOUT_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._prefix:
            data = data[self._prefix :]
            self._prefix = 0
        try:
            frames = self._reader.feed(data)
            if self._receiver is None:
                frames = self._shake(frames)
        except ProtocolError as e:
            self._registry.event(f"closed the connection of {self._who()}: {e}")
            self.transport.abort()
            return
        receiver = self._receiver
        if receiver is not None:
            node = self.node
            for frame in frames:
                receiver.on_message(node, frame)

    def connection_lost(self, error: Exception | None) -> None:
        self._deadline.cancel()
        self._registry.forget(self)

    def _shake(self, frames: list[bytes]) -> list[bytes]:
        if not frames:
            return []
        hello = decode_hello(frames[0])
        self._deadline.cancel()
        error = self._registry.refusal(hello)
        local = self._registry.local
        node, incarnation = (local.node, local.incarnation) if local else (0, 0)
        self.transport.write(encode_welcome(Welcome(VERSION, node, incarnation, error)))
        if error or local is None:
            if local is not None:
                self._registry.event(f"refused the connection of node {hello.node} ({self._who()}): {error}")
            self.transport.close()
            return []
        self.node, self.incarnation = NodeId(hello.node), hello.incarnation
        self._reader.bytes_max = PACKET_BYTES_MAX
        self._receiver = local.receiver
        self._registry.accept(self)
        return frames[1:]

    def _who(self) -> str:
        peer = self.transport.get_extra_info("peername")
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a peer"


class IncomingRegistry:
    """The incoming connections of a node and the rule by which they are accepted."""

    def __init__(self, event: Callable[[str], None], on_sign_of_life: Callable[[NodeId], None]) -> None:
        self.event = event
        self.local: Local | None = None
        self._on_sign_of_life = on_sign_of_life
        self._connections: dict[Incoming, None] = {}
        self._incarnations: dict[NodeId, int] = {}

    def refusal(self, hello: Hello) -> str:
        """Why a hello is not acceptable; empty when it is."""
        local = self.local
        if hello.version != VERSION:
            return f"peer protocol version {hello.version} is not spoken here, {VERSION} is"
        if local is None:
            return _STARTING
        if hello.cluster_id != local.cluster_id:
            return (
                f"node {hello.node} belongs to cluster {hello.cluster_id.hex()}, "
                f"this node to cluster {local.cluster_id.hex()}"
            )
        if hello.to != local.node:
            return f"this is node {local.node}, not node {hello.to}"
        if hello.node == local.node or hello.node <= 0:
            return f"node id {hello.node} is this node's own or none"
        known = self._incarnations.get(NodeId(hello.node), 0)
        if hello.incarnation < known:
            return f"incarnation {hello.incarnation} of node {hello.node} is dead, {known} was seen"
        return ""

    def accept(self, connection: Incoming) -> None:
        """Register a connection; older ones of the same member are closed (invariant 3)."""
        for other in [c for c in self._connections if c.node == connection.node]:
            other.transport.abort()
        self._connections[connection] = None
        self._incarnations[connection.node] = connection.incarnation
        self._on_sign_of_life(connection.node)

    def forget(self, connection: Incoming) -> None:
        self._connections.pop(connection, None)

    def close(self) -> None:
        for connection in list(self._connections):
            connection.transport.abort()
