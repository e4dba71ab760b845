"""Range snapshots between nodes: a consistent view of a range, streamed out of band, installed by the store (rule P4).

The sender makes all its iterators in one step of the loop, so they see one engine state (an iterator pins its view);
the chunks are msgpack lists of pairs. The receiver collects them and hands the whole to `Store.on_snapshot`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import msgspec

from txndb.cluster.store import IncomingSnapshot
from txndb.errors import InternalError, LimitError, ProtocolError
from txndb.ids import NodeId, RangeId, ReplicaId
from txndb.limits import RANGE_BYTES_SPLIT
from txndb.raft.types import Config, SnapshotMessage
from txndb.ranges import keys
from txndb.ranges.replica import Replica
from txndb.ranges.state import read_settings
from txndb.storage.engine import Engine

CHUNK_BYTES = 256 * 1024
SNAPSHOT_BYTES_MAX = 16 * RANGE_BYTES_SPLIT

Pairs = list[tuple[bytes, bytes]]


class SnapshotHeader(msgspec.Struct, frozen=True, array_like=True):
    """What precedes the pairs: the Raft message to step when they have arrived, and the range's own state."""

    range_id: RangeId
    message: SnapshotMessage
    settings: bytes
    applied: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(SnapshotHeader).decode
_decode_pairs = msgspec.msgpack.Decoder(Pairs).decode


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
        self.header = _encode(SnapshotHeader(replica.range_id, message, settings, applied))
        self._iterators: list[Iterator[tuple[bytes, bytes]]] = [
            engine.iterate(start, end) for start, end in keys.replicated_spans(state.descriptor)
        ]

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pairs, in chunks of about `CHUNK_BYTES`."""
        chunk: Pairs = []
        size = 0
        for iterator in self._iterators:
            for key, value in iterator:
                chunk.append((key, value))
                size += len(key) + len(value)
                if size >= CHUNK_BYTES:
                    yield _encode(chunk)
                    chunk, size = [], 0
        if chunk:
            yield _encode(chunk)


async def receive(
    sender: NodeId, header: bytes, chunks: AsyncIterator[bytes]
) -> tuple[RangeId, IncomingSnapshot, SnapshotMessage]:
    """Collect a snapshot stream. Raises `ProtocolError` for bytes that are none, `LimitError` beyond the bound."""
    pairs: Pairs = []
    size = 0
    try:
        head = _decode_header(header)
        settings = read_settings(head.settings)
        async for chunk in chunks:
            size += len(chunk)
            if size > SNAPSHOT_BYTES_MAX:
                raise LimitError(f"a snapshot of more than {SNAPSHOT_BYTES_MAX} bytes from node {sender}")
            pairs += _decode_pairs(chunk)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a snapshot stream from node {sender}: {error}") from error
    incoming = IncomingSnapshot(settings.descriptor, head.settings, head.applied, head.message.config, pairs)
    return head.range_id, incoming, head.message
