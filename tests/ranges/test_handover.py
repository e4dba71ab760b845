"""What a lease transfer carries (L4): whole, bounded, and nothing for bytes that are none."""

from __future__ import annotations

from tests.ranges.lockscript import make_txn
from txndb.ids import Timestamp, Token
from txndb.ranges import handover
from txndb.ranges.handover import decode_handover, encode_handover
from txndb.ranges.lockitems import EXCLUSIVE, SHARED
from txndb.ranges.locks import EntryState, LockEntry


def _entry(points: int = 2) -> LockEntry:
    entry = LockEntry(make_txn("A", 7), Token(b"token"))
    entry.state, entry.bound = EntryState.PREPARED, Timestamp(99)
    entry.points = {b"k%d" % i: EXCLUSIVE for i in range(points)}
    entry.spans = [(b"a", b"f", SHARED)]
    entry.writes = frozenset((b"k0",))
    return entry


def test_everything_arrives() -> None:
    sent = _entry()
    found = decode_handover(encode_handover(4, Timestamp(55), [sent]), 8)
    assert found is not None
    assert (found.term, found.generation, found.read_ts) == (8, 4, 55)
    (entry,) = found.entries
    for name in ("txn", "token", "state", "bound", "points", "spans", "writes", "age", "attempt"):
        assert getattr(entry, name) == getattr(sent, name), name


def test_bytes_that_are_none_are_no_handover() -> None:
    good = encode_handover(4, Timestamp(55), [_entry()])
    for cut in range(len(good)):
        assert decode_handover(good[:cut], 8) is None
    assert decode_handover(b"\x93\x01\x02\xa1x", 8) is None


def test_too_many_locks_are_not_handed_over() -> None:
    assert encode_handover(1, Timestamp(0), [_entry(handover.HANDOVER_LOCKS_MAX + 1)]) == b""
