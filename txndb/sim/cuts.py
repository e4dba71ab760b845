"""Where to split a range so that it hurts: keys that transactions under way hold, seen from inside a node.

Splits at random keys hardly ever meet a transaction in the milliseconds that matter: between its prepare and its end
(rules R3 and R4), or just before it commits, so that its command and the split's are in the log one after the other
(rules C1 and R1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from txndb.cluster.store import Store
from txndb.encoding.keys import META_END
from txndb.ids import RangeId
from txndb.ranges.lockitems import EXCLUSIVE
from txndb.ranges.locks import EntryState, LockEntry


def of_prepared(store: Store) -> bytes:
    """A key that has all writes of a prepared transaction on one side, and another lock of it alone on the other; empty
    if there is none."""
    for _, entry in _entries(store):
        if entry.state is EntryState.PREPARED and entry.writes:
            first, last = min(entry.writes), max(entry.writes)
            if any(start < first for start in (*entry.points, *(start for start, _, _ in entry.spans))):
                return first
            cut = min((key for key in entry.points if key > last), default=b"")
            if cut:
                return cut
    return b""


def of_writing(store: Store) -> bytes:
    """The first key that a transaction is going to write, unless its range may not be split there; else empty."""
    for range_id, entry in _entries(store):
        if entry.state is EntryState.ACTIVE:
            cut = min((key for key, mode in entry.points.items() if mode == EXCLUSIVE), default=b"")
            state = store.slots[range_id].replica.state
            if state is not None and cut >= META_END and cut > state.descriptor.start:
                return cut
    return b""


def _entries(store: Store) -> Iterator[tuple[RangeId, LockEntry]]:
    for replica in store.leaders():
        if replica.leaseholder is not None:
            for entry in replica.leaseholder.locks.entries.values():
                yield replica.range_id, entry


CUTS: Final[dict[str, Callable[[Store], bytes]]] = {
    "split_prepared": of_prepared,
    "split_writing": of_writing,
}
"""By the operator's act."""
