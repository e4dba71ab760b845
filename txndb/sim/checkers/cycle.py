"""The ring invariant (FoundationDB's Cycle workload): the keys form one ring that visits each of them once.

Every transaction swaps two neighbours, which keeps the ring; any lost update, dirty read or torn commit breaks it into
several rings or a tail. A read of all keys in one transaction must see one ring.
"""

from __future__ import annotations

from collections.abc import Mapping


def check_ring(successor: Mapping[int, int], keys: int) -> str:
    """What is wrong with the ring, or an empty string."""
    if sorted(successor) != list(range(keys)):
        missing = sorted(key for key in range(keys) if key not in successor)
        return f"ring of {len(successor)} keys instead of {keys}, missing {missing}"
    at, length = successor[0], 1
    while at != 0 and length <= keys:
        if at not in successor:
            return f"ring leaves the keys at {at}"
        at = successor[at]
        length += 1
    if length != keys or at != 0:
        return f"ring of length {length} instead of {keys}: {dict(sorted(successor.items()))}"
    return ""
