"""The real `Transport`: one listening address for a node's frames and its gRPC services.

The first four bytes of a connection tell what it is: `TXNF` opens a peer connection (`txndb.server.peers`), `PRI ` is
the preface of HTTP/2 (RFC 9113, §3.4), and such a connection is spliced to the gRPC server, which listens on a
private address. So an operator names, opens and publishes one address, and a member is known by one address
everywhere. Only calls and snapshots pay for the splice, never the frames of the hot path.

Invariants:
1. At most `UNIDENTIFIED_MAX` connections have not said yet what they are, each for at most `IDENTIFY_TIMEOUT_S`.
2. A splice reads from one side no faster than the other side takes it.
3. Before `start` no frame and no call is accepted; calls by address work from the beginning.

Driven by `txndb.server.main`: `listen`, then the node's `start`, at the end `close`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

from txndb.cluster.addresses import parse_address
from txndb.cluster.body import Receiver
from txndb.errors import ProtocolError, UnavailableError
from txndb.ids import NodeId
from txndb.server.frames import HTTP2_MAGIC, MAGIC
from txndb.server.peers import Incoming, IncomingRegistry, Local, Peer
from txndb.server.rpc import RpcClient, RpcServer, SnapshotHead

UNIDENTIFIED_MAX: Final = 256
IDENTIFY_TIMEOUT_S: Final = 5.0
SPLICE_HIGH_WATER_BYTES: Final = 256 * 1024
RPC_GRACE_S: Final = 0.5


class _Splice(asyncio.Protocol):
    """One end of a spliced pair; what it receives goes out at the other end."""

    def __init__(self, other: _Splice | None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None
        self.pending: list[bytes] = []

    def attach(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=SPLICE_HIGH_WATER_BYTES)
        if self.pending:
            transport.write(b"".join(self.pending))
            self.pending.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.attach(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is not None and other.transport is not None:
            other.transport.write(data)
        elif other is not None:
            other.pending.append(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        other, self.other = self.other, None
        if other is not None and other.transport is not None:
            other.other = None
            other.transport.close()


class _Unidentified(asyncio.Protocol):
    """A fresh connection until its first four bytes are there."""

    def __init__(self, owner: ServerTransport) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._seen = b""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        if len(self._owner.unidentified) >= UNIDENTIFIED_MAX:
            transport.abort()
            return
        self._owner.unidentified[self] = transport
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(IDENTIFY_TIMEOUT_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._seen += data
        if len(self._seen) < len(MAGIC):
            return
        self._settle()
        if self._seen.startswith(MAGIC):
            incoming = Incoming(self._owner.registry, self._transport)
            self._transport.set_protocol(incoming)
            incoming.data_received(self._seen)
        elif self._seen.startswith(HTTP2_MAGIC):
            self._owner.splice(self._transport, self._seen)
        else:
            self._owner.event("closed a connection to the --rpc address that is neither a peer's nor gRPC")
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._settle()

    def _settle(self) -> None:
        self._owner.unidentified.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()


class ServerTransport:
    """Frames between members and calls by address, over real sockets."""

    def __init__(self, event: Callable[[str], None]) -> None:
        self.event = event
        self.unidentified: dict[_Unidentified, asyncio.Transport] = {}
        self.registry = IncomingRegistry(event, self._on_sign_of_life)
        self.peers: dict[NodeId, Peer] = {}
        self._addresses: dict[NodeId, str] = {}
        self._local: Local | None = None
        self._listener: asyncio.Server | None = None
        self._rpc_server: RpcServer | None = None
        self._rpc_address: str | tuple[str, int] = ""
        self._rpc_client = RpcClient()
        self._splices: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> int:
        """Bind the node's one address; returns the port. Raises `OSError` when it cannot be bound."""
        self._rpc_server = RpcServer()
        self._rpc_address = await self._rpc_server.start()
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(lambda: _Unidentified(self), host, port)
        except OSError:
            await self.close()
            raise
        return int(self._listener.sockets[0].getsockname()[1])

    def start(self, node: NodeId, incarnation: int, cluster_id: bytes, receiver: Receiver) -> None:
        """Begin to accept and make peer connections as this member."""
        self._local = self.registry.local = Local(node, incarnation, cluster_id, receiver, self.event)
        if self._rpc_server is not None:
            self._rpc_server.cluster_id = cluster_id
            self._rpc_server.node = node
            self._rpc_server.receiver = receiver
        for peer, address in self._addresses.items():
            self._connect(peer, address)

    def set_address(self, node: NodeId, address: str) -> None:
        """Tell where a member listens; a connection to it is kept from now on.

        What is no address is left out and said: it may stand in a member's row since an older version took it, and
        one member that cannot be reached must not keep the others from starting.
        """
        try:
            parse_address(address)
        except ProtocolError as e:
            self.event(f"cannot reach node {node}: {e.message}")
            return
        self._addresses[node] = address
        self._connect(node, address)

    def send(self, to: NodeId, payload: bytes) -> None:
        """Queue one frame; dropped and counted when the peer is down or its queue full."""
        peer = self.peers.get(to)
        if peer is not None:
            peer.send(payload)

    async def call(self, address: str, method: str, payload: bytes, timeout_us: int) -> bytes:
        """Unary call to whoever listens at `address`."""
        return await self._rpc_client.call(address, method, payload, timeout_us)

    async def send_snapshot(self, to: NodeId, header: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        """Stream a snapshot to a member."""
        address, local = self._addresses.get(to), self._local
        if address is None or local is None:
            raise UnavailableError(f"the address of node {to} is not known")
        head = SnapshotHead(local.cluster_id, local.node, to, header)
        return await self._rpc_client.send_snapshot(address, head, chunks)

    async def set_serving(self, serving: bool) -> None:
        """What the gRPC health service answers."""
        if self._rpc_server is not None:
            await self._rpc_server.set_serving(serving)

    def metrics(self) -> dict[str, float]:
        """Counters for /metrics."""
        peers = self.peers.values()
        return {
            "txndb_peers_connected": float(sum(peer.is_up for peer in peers)),
            "txndb_peer_frames_dropped_total": float(sum(peer.dropped_frames for peer in peers)),
            "txndb_peer_sent_bytes_total": float(sum(peer.sent_bytes for peer in peers)),
        }

    async def close(self) -> None:
        """Hang up everything and stop listening."""
        if self._listener is not None:
            self._listener.close()
        for transport in list(self.unidentified.values()):
            transport.abort()
        for peer in list(self.peers.values()):
            await peer.close()
        self.peers.clear()
        self.registry.close()
        await self._rpc_client.close()
        if self._rpc_server is not None:
            await self._rpc_server.close(RPC_GRACE_S)
        for task in list(self._splices):
            task.cancel()
        if self._listener is not None:
            await self._listener.wait_closed()

    def splice(self, transport: asyncio.Transport, seen: bytes) -> None:
        """Join a connection that speaks HTTP/2 to the gRPC server (invariant 2)."""
        outer, inner = _Splice(None), _Splice(None)
        outer.other, inner.other = inner, outer
        transport.pause_reading()
        transport.set_protocol(outer)
        outer.attach(transport)
        inner.pending.append(seen)
        task = asyncio.get_running_loop().create_task(self._join(transport, inner))
        self._splices.add(task)
        task.add_done_callback(self._splices.discard)

    async def _join(self, transport: asyncio.Transport, inner: _Splice) -> None:
        loop = asyncio.get_running_loop()
        try:
            if isinstance(self._rpc_address, str):
                # Connected by hand: uvloop takes no abstract name, which begins with a zero byte.
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.setblocking(False)
                await loop.sock_connect(sock, self._rpc_address)
                await loop.create_unix_connection(lambda: inner, sock=sock)
            else:
                await loop.create_connection(lambda: inner, *self._rpc_address)
        except OSError as e:
            self.event(f"cannot reach this node's own gRPC server: {e}")
            transport.abort()
            return
        if inner.other is None:  # the caller hung up meanwhile
            if inner.transport is not None:
                inner.transport.close()
            return
        transport.resume_reading()

    def _connect(self, node: NodeId, address: str) -> None:
        local = self._local
        if local is None or node == local.node:
            return
        peer = self.peers.get(node)
        if peer is None:
            self.peers[node] = Peer(local, node, address)
        else:
            peer.set_address(address)

    def _on_sign_of_life(self, node: NodeId) -> None:
        peer = self.peers.get(node)
        if peer is not None:
            peer.kick()
