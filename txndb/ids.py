"""The identifiers that travel through every layer, as distinct types."""

from __future__ import annotations

from typing import NewType

NodeId = NewType("NodeId", int)
"""A member of the cluster, allocated through consensus, never reused; 0 = none."""

RangeId = NewType("RangeId", int)
"""A range; range 1 holds the meta index and the system tables."""

ReplicaId = NewType("ReplicaId", int)
"""One replica of one range; never reused within its range; 0 = none."""

Timestamp = NewType("Timestamp", int)
"""Microseconds since the Unix epoch << 12 | logical counter; 8 bytes big-endian on disk."""

AttemptId = NewType("AttemptId", bytes)
"""16 bytes naming one attempt of a transaction: start timestamp (8), node (3), incarnation (2), counter (3)."""

Token = NewType("Token", bytes)
"""Names a lock-table entry: range (8), term (8), counter (8), big-endian; unknown = wounded (rule K1)."""

LOGICAL_BITS = 12
LOGICAL_MASK = (1 << LOGICAL_BITS) - 1


def make_timestamp(physical_us: int, logical: int = 0) -> Timestamp:
    """The timestamp of a physical time in microseconds since the epoch and a logical counter (< 4096)."""
    return Timestamp(physical_us << LOGICAL_BITS | logical)


def physical_us(timestamp: Timestamp) -> int:
    """The physical part of a timestamp, microseconds since the epoch."""
    return timestamp >> LOGICAL_BITS


def make_attempt_id(start: Timestamp, node: NodeId, incarnation: int, counter: int) -> AttemptId:
    """The id of a new attempt; unique because a node's HLC, incarnation and counter never repeat together."""
    return AttemptId(
        start.to_bytes(8, "big")
        + node.to_bytes(3, "big")
        + (incarnation & 0xFFFF).to_bytes(2, "big")
        + (counter & 0xFFFFFF).to_bytes(3, "big")
    )


def attempt_start(attempt: AttemptId) -> Timestamp:
    """The start timestamp inside an attempt id (compared with a range's `outcome_gc_ts`, rule M6)."""
    return Timestamp(int.from_bytes(attempt[:8], "big"))
