"""What a leader hands over with its lease: `read_ts` and the lock table, as bytes in TimeoutNow (rule L4).

Without it every transfer would kill the transactions that hold locks in the range and push every timestamp above
`latest + 2E`. It is made in the step that gives the lease up, after which that leader answers nothing more in its term,
so it is exactly what the next term may begin with, and only that one.

A peer's bytes: what does not decode, or was made under another descriptor, counts as no hand-over. One that would be
too large is not sent: locks may always be lost (K1).
"""

from __future__ import annotations

from typing import Final

import msgspec

from txndb.ids import Timestamp, Token
from txndb.ranges.api import TxnMeta
from txndb.ranges.locks import EntryState, LockEntry
from txndb.ranges.parking import Handover

HANDOVER_BYTES_MAX: Final = 1024 * 1024
HANDOVER_LOCKS_MAX: Final = 20_000


class HandedEntry(msgspec.Struct, frozen=True, array_like=True):
    """A `LockEntry`."""

    txn: TxnMeta
    token: bytes
    state: int
    bound: Timestamp
    points: list[tuple[bytes, int]]
    spans: list[tuple[bytes, bytes, int]]
    writes: list[bytes]


class HandedTable(msgspec.Struct, frozen=True, array_like=True):
    """A `Handover`, and the descriptor's generation it was made under."""

    generation: int
    read_ts: Timestamp
    entries: list[HandedEntry]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(HandedTable).decode


def encode_handover(generation: int, read_ts: Timestamp, entries: list[LockEntry]) -> bytes:
    """The bytes for TimeoutNow; b"" if they would be too many."""
    if sum(len(e.points) + len(e.spans) for e in entries) > HANDOVER_LOCKS_MAX:
        return b""
    handed = [
        HandedEntry(
            e.txn, e.token, int(e.state), e.bound, list(e.points.items()), list(e.spans), sorted(e.writes)
        )
        for e in entries
    ]
    payload = _encode(HandedTable(generation, read_ts, handed))
    return payload if len(payload) <= HANDOVER_BYTES_MAX else b""


def decode_handover(payload: bytes, term: int) -> Handover | None:
    """Inverse of `encode_handover`, for a leader of `term`; None for bytes that are none."""
    try:
        table = _decode(payload)
        entries = [_entry(handed) for handed in table.entries]
    except (msgspec.DecodeError, ValueError):
        return None
    return Handover(term, table.read_ts, entries, table.generation)


def _entry(handed: HandedEntry) -> LockEntry:
    entry = LockEntry(handed.txn, Token(handed.token))
    entry.state = EntryState(handed.state)
    entry.bound = handed.bound
    entry.points = dict(handed.points)
    entry.spans = list(handed.spans)
    entry.writes = frozenset(handed.writes)
    return entry
