"""Range descriptors: which keys a range holds, who its replicas are, and how often that has changed.

A replica's id carries its node (`make_replica_id`), so that a Raft configuration alone says where to send. The truth
about a range is in its own replicated state; everything else that holds a descriptor holds an index of it.
"""

from __future__ import annotations

import msgspec

from txndb.ids import NodeId, RangeId, ReplicaId

SEQUENCE_BITS = 20


def make_replica_id(node: NodeId, sequence: int) -> ReplicaId:
    """The id of a node's `sequence`-th replica of a range; sequences are never reused within the range."""
    return ReplicaId(sequence << SEQUENCE_BITS | node)


def node_of(replica: ReplicaId) -> NodeId:
    """The node that holds a replica."""
    return NodeId(replica & ((1 << SEQUENCE_BITS) - 1))


class RangeDescriptor(msgspec.Struct, frozen=True, array_like=True):
    """Keys [start, end) and their replicas. Generation grows with every change of either."""

    range_id: RangeId
    start: bytes
    end: bytes
    replicas: tuple[ReplicaId, ...]
    generation: int
    next_sequence: int

    def contains(self, key: bytes) -> bool:
        """Whether the key is in the range."""
        return self.start <= key < self.end

    def contains_span(self, start: bytes, end: bytes) -> bool:
        """Whether all of [start, end) is in the range."""
        return self.start <= start and end <= self.end

    def nodes(self) -> tuple[NodeId, ...]:
        """The nodes that hold replicas, in the order of `replicas`."""
        return tuple(node_of(r) for r in self.replicas)

    def replica_on(self, node: NodeId) -> ReplicaId | None:
        """The replica a node holds, if any."""
        for replica in self.replicas:
            if node_of(replica) == node:
                return replica
        return None
