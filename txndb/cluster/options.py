"""A node's settings, as the body gives them and its parts read them."""

from __future__ import annotations

import msgspec

from txndb.limits import CATALOG_LEASE_US, GC_EVERY_US, GC_TTL_US, OUTCOME_TTL_US, NodeLimits


class NodeOptions(msgspec.Struct, frozen=True):
    """A node's settings. `canaries` switches rules off in test builds; `error_bound_us` is E of a new cluster."""

    locality: dict[str, str] = {}
    host_id: str = ""
    error_bound_us: int = 0
    gc_every_us: int = GC_EVERY_US
    gc_ttl_us: int = GC_TTL_US
    outcome_ttl_us: int = OUTCOME_TTL_US
    catalog_lease_us: int = CATALOG_LEASE_US
    limits: NodeLimits = NodeLimits()
    settings: dict[str, str] = {}
    """What session parameters are here where the client does not say."""
    canaries: frozenset[str] = frozenset()
