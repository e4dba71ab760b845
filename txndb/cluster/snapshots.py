"""Range snapshots between nodes: a consistent view of a range, streamed out of band, installed by the store (rule P4).

The sender makes all its iterators in one step of the loop, so they see one engine state (an iterator pins its view);
the chunks are msgpack lists of pairs, the last one is how many pairs there were. Header and chunks are a chain of
checksums from here to there, whatever carries them (`txndb.cluster.envelopes`). The receiver collects them and hands
the whole to `Store.on_snapshot`.

Invariants:
1. What `receive` returns is what `OutgoingSnapshot` saw, all of it; anything else raises, and is sent again.
2. Raft is told the end of each sending that `SnapshotSender` began, however it ended, for it waits for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Protocol

import msgspec

from txndb.cluster.body import Body
from txndb.cluster.envelopes import Chain
from txndb.cluster.store import IncomingSnapshot, Store
from txndb.errors import DamagedError, InternalError, LimitError, ProtocolError, UnavailableError
from txndb.ids import NodeId, RangeId, ReplicaId
from txndb.limits import RANGE_BYTES_SPLIT
from txndb.raft.types import Config, SnapshotMessage
from txndb.ranges import keys
from txndb.ranges.descriptor import node_of
from txndb.ranges.replica import Replica
from txndb.ranges.state import read_settings
from txndb.storage.engine import Engine

CHUNK_BYTES = 256 * 1024
SNAPSHOT_BYTES_MAX = 16 * RANGE_BYTES_SPLIT
SNAPSHOT_TIMEOUT_S = 30.0

Pairs = list[tuple[bytes, bytes]]


class SnapshotHeader(msgspec.Struct, frozen=True, array_like=True):
    """What precedes the pairs: the Raft message to step when they have arrived, and the range's own state."""

    range_id: RangeId
    message: SnapshotMessage
    settings: bytes
    applied: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(SnapshotHeader).decode
_decode_chunk: Callable[[bytes], Pairs | int] = msgspec.msgpack.Decoder(Pairs | int).decode


class OutgoingSnapshot:
    """A consistent view of a range, made in one step."""

    def __init__(self, engine: Engine, replica: Replica, to: ReplicaId) -> None:
        state = replica.state
        settings = engine.get(keys.settings_key(replica.range_id))
        applied = engine.get(keys.applied_key(replica.range_id))
        if state is None or settings is None or applied is None:
            raise InternalError(f"range {replica.range_id} has no state to send")
        config = Config(tuple(sorted(state.descriptor.replicas)))
        self.index = state.applied_index
        message = SnapshotMessage(
            to, replica.replica_id, replica.raft.term, state.applied_index, state.applied_term, config
        )
        self._chain = Chain()
        self.header = self._chain.seal(_encode(SnapshotHeader(replica.range_id, message, settings, applied)))
        self._iterators: list[Iterator[tuple[bytes, bytes]]] = [
            engine.iterate(start, end) for start, end in keys.replicated_spans(state.descriptor)
        ]

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pairs, in chunks of about `CHUNK_BYTES`, and their number. To be asked for once."""
        chunk: Pairs = []
        size = count = 0
        seal = self._chain.seal
        for iterator in self._iterators:
            for key, value in iterator:
                chunk.append((key, value))
                size += len(key) + len(value)
                if size >= CHUNK_BYTES:
                    count += len(chunk)
                    yield seal(_encode(chunk))
                    chunk, size = [], 0
        if chunk:
            yield seal(_encode(chunk))
        yield seal(_encode(count + len(chunk)))


class SnapshotHost(Protocol):
    """What sending snapshots needs of its node."""

    body: Body
    engine: Engine

    @property
    def store(self) -> Store:
        """The replicas; asked for when there are some."""

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine as a task of the node."""


class SnapshotSender:
    """The snapshots that one node is sending, one to a replica at a time."""

    def __init__(self, host: SnapshotHost) -> None:
        self._host = host
        self.under_way: dict[tuple[RangeId, ReplicaId], asyncio.Task[bool]] = {}
        self._stopped = False

    def stop(self) -> None:
        """Begin and report nothing any more; whoever owns the tasks ends them."""
        self._stopped = True

    def start(self, replica: Replica, to: ReplicaId) -> None:
        """A follower needs a snapshot."""
        key = (replica.range_id, to)
        if key in self.under_way or self._stopped:
            return
        outgoing = OutgoingSnapshot(self._host.engine, replica, to)
        task = self._host.spawn(self._send(replica, to, outgoing), f"snapshot r{replica.range_id}")
        self.under_way[key] = task
        # Not the coroutine's business: a task that is cancelled before its first step never enters it.
        task.add_done_callback(lambda done: self._on_over(replica, to, outgoing.index, done))

    def on_peer_down(self, peer: NodeId) -> None:
        """A connection broke: the answers of what is sent there will not come any more."""
        for (_, to), task in list(self.under_way.items()):
            if node_of(to) == peer:
                task.cancel()

    async def _send(self, replica: Replica, to: ReplicaId, outgoing: OutgoingSnapshot) -> bool:
        """Stream it; whether the receiver took it."""
        body = self._host.body
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
                answer = await body.transport.send_snapshot(node_of(to), outgoing.header, outgoing.chunks())
            return answer == b"ok"
        except (UnavailableError, ProtocolError, LimitError, TimeoutError) as error:
            body.event(f"snapshot of range {replica.range_id} to node {node_of(to)}: {error}")
            return False

    def _on_over(self, replica: Replica, to: ReplicaId, index: int, done: asyncio.Task[bool]) -> None:
        """Whatever came of it, Raft is told: it sends this peer nothing else meanwhile."""
        del self.under_way[replica.range_id, to]
        if not self._stopped:
            taken = not done.cancelled() and done.exception() is None and done.result()
            replica.raft.report_snapshot(to, taken, index)
            self._host.store.mark(replica)


async def receive(
    sender: NodeId, header: bytes, chunks: AsyncIterator[bytes], *, checked: bool = True
) -> tuple[RangeId, IncomingSnapshot, SnapshotMessage]:
    """Collect a snapshot stream. Raises `DamagedError` for anything but what was sent, `ProtocolError` for bytes that
    are none, `LimitError` beyond the bound. `checked` is false only in test builds."""
    chain = Chain(checked=checked)
    try:
        head = _decode_header(chain.open(header))
        settings = read_settings(head.settings)
        pairs = await _collect(sender, chain, chunks, checked=checked)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a snapshot stream from node {sender}: {error}") from error
    incoming = IncomingSnapshot(settings.descriptor, head.settings, head.applied, head.message.config, pairs)
    return head.range_id, incoming, head.message


async def _collect(sender: NodeId, chain: Chain, chunks: AsyncIterator[bytes], *, checked: bool) -> Pairs:
    """All pairs of a stream, when the last chunk has said how many there are."""
    pairs: Pairs = []
    size = 0
    count: int | None = None
    async for chunk in chunks:
        size += len(chunk)
        if size > SNAPSHOT_BYTES_MAX:
            raise LimitError(f"a snapshot of more than {SNAPSHOT_BYTES_MAX} bytes from node {sender}")
        found = _decode_chunk(chain.open(chunk))
        if checked and count is not None:
            raise DamagedError(f"a snapshot from node {sender} goes on after its end")
        if isinstance(found, int):
            count = found
        else:
            pairs += found
    if checked and count != len(pairs):
        raise DamagedError(f"a snapshot from node {sender} arrived without its end")
    return pairs
