"""A node's settings, as the body gives them and its parts read them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from txndb.limits import (
    APPEND_BYTES_MAX,
    CATALOG_LEASE_US,
    ELECTION_MAX_US,
    ELECTION_MIN_US,
    GC_EVERY_US,
    GC_TTL_US,
    HEARTBEAT_US,
    LOG_COMPACT_EVERY_US,
    LOG_KEEP_ENTRIES,
    LOG_SEGMENT_BYTES,
    LOG_TRUNCATE_ENTRIES_MIN,
    OUTCOME_TTL_US,
    NodeLimits,
)
from txndb.ranges.replica import Replica


class RaftOptions(msgspec.Struct, frozen=True):
    """Sizes and times of Raft and its log, small in the simulator: what happens rarely in a long life is then met in a
    short one. Each is described with its default in `txndb.limits`. The election times and the heartbeat must be the
    same on every node of a cluster (rule L3)."""

    compact_every_us: int = LOG_COMPACT_EVERY_US
    truncate_entries_min: int = LOG_TRUNCATE_ENTRIES_MIN
    keep_entries: int = LOG_KEEP_ENTRIES
    segment_bytes: int = LOG_SEGMENT_BYTES
    append_bytes_max: int = APPEND_BYTES_MAX
    heartbeat_us: int = HEARTBEAT_US
    election_min_us: int = ELECTION_MIN_US
    election_max_us: int = ELECTION_MAX_US


class NodeOptions(msgspec.Struct, frozen=True):
    """A node's settings. `canaries` switches rules off in test builds; `error_bound_us` is E of a new cluster."""

    locality: dict[str, str] = {}
    host_id: str = ""
    error_bound_us: int = 0
    gc_every_us: int = GC_EVERY_US
    gc_ttl_us: int = GC_TTL_US
    outcome_ttl_us: int = OUTCOME_TTL_US
    catalog_lease_us: int = CATALOG_LEASE_US
    raft: RaftOptions = RaftOptions()
    limits: NodeLimits = NodeLimits()
    settings: dict[str, str] = {}
    """What session parameters are here where the client does not say."""
    canaries: frozenset[str] = frozenset()
    new_replica: Callable[..., Replica] = Replica
    """What makes a replica; the simulator's ones are watched."""
