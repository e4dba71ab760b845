"""Where a range's own records stand in the engine (the map of the key space is `txndb.encoding.keys`)."""

from __future__ import annotations

from txndb.encoding.keys import (
    RANGE_LOCAL,
    anchored_key,
    anchored_span,
    data_span,
    decode_anchored_key,
    prefix_end,
    range_key,
)
from txndb.ids import AttemptId, RangeId, ReplicaId
from txndb.ranges.descriptor import SEQUENCE_BITS, RangeDescriptor, node_of

__all__ = ["prefix_end"]


def settings_key(range_id: RangeId) -> bytes:
    """The cold part of the range's state."""
    return range_key(range_id, b"s")


def applied_key(range_id: RangeId) -> bytes:
    """The hot part of the range's state."""
    return range_key(range_id, b"a")


def replica_key(range_id: RangeId) -> bytes:
    """This store's replica id (8 bytes); not part of a snapshot."""
    return range_key(range_id, b"r")


def prepare_prefix(range_id: RangeId) -> bytes:
    """All prepare records of a range."""
    return range_key(range_id, b"p")


def prepare_key(range_id: RangeId, attempt: AttemptId, part: int) -> bytes:
    """One part of a prepare record."""
    return range_key(range_id, b"p" + attempt + part.to_bytes(4, "big"))


def decode_prepare_part(key: bytes) -> int:
    """The part number of a prepare record's key."""
    return int.from_bytes(key[-4:], "big")


def decision_prefix(range_id: RangeId) -> bytes:
    """All records of decisions that participants have yet to resolve."""
    return range_key(range_id, b"d")


def decision_key(range_id: RangeId, attempt: AttemptId) -> bytes:
    """One record of an unfinished decision."""
    return range_key(range_id, b"d" + attempt)


def outcome_key(anchor: bytes, attempt: AttemptId) -> bytes:
    """An outcome record; it follows its anchor key (rule R1)."""
    return anchored_key(anchor, attempt)


def outcome_span(start: bytes, end: bytes) -> tuple[bytes, bytes]:
    """All outcome records anchored in [start, end)."""
    return anchored_span(start, end)


def decode_outcome_key(key: bytes) -> tuple[bytes, bytes]:
    """(anchor, attempt) of an outcome record's key."""
    return decode_anchored_key(key)


def sequence_of(replica: ReplicaId) -> int:
    """The sequence inside a replica id."""
    return replica >> SEQUENCE_BITS


def same_node(a: ReplicaId, b: ReplicaId) -> bool:
    """Whether two replica ids live on one node."""
    return node_of(a) == node_of(b)


def replicated_spans(descriptor: RangeDescriptor) -> list[tuple[bytes, bytes]]:
    """The engine spans that hold a range's replicated records, beside its settings and applied state."""
    prepares, decisions = prepare_prefix(descriptor.range_id), decision_prefix(descriptor.range_id)
    return [
        (prepares, prefix_end(prepares)),
        (decisions, prefix_end(decisions)),
        anchored_span(descriptor.start, descriptor.end),
        data_span(descriptor.start, descriptor.end),
    ]


def range_ids_span() -> tuple[bytes, bytes]:
    """The engine span of every range-local key, to find the store's ranges at open."""
    return RANGE_LOCAL, prefix_end(RANGE_LOCAL)


def decode_range_id(key: bytes) -> tuple[RangeId, bytes]:
    """(range id, name) of a range-local key."""
    return RangeId(int.from_bytes(key[1:9], "big")), key[9:]
