"""Multi-version reads and writes over a `Reader`: every version of a user key is one engine pair, newest first.

Layout: `txndb.encoding.keys.data_key`. A tombstone is the empty encoding; a value is stored as it is, with one 00 byte
before it when it is empty or begins with 00 (rows never do), so that most values are neither copied nor framed.

Invariants
1. `get(key, ts)` and `scan(…, ts)` see, of each key, the newest version with timestamp <= ts, and no tombstone.
2. `max_version_ts` of a page is the highest timestamp of the versions it decided on, tombstones and rows that the
   predicate refused included (rule T5: a commit goes above every version its transaction saw).
3. GC removes only versions that no read at or above the threshold can see, and a tombstone only together with every
   version below it.

Keys with many versions cost a seek, not a walk: after `WALK_MAX` versions of one key the iterator is made anew. Calls
do not await, so the view is one view on one thread; a reader in a worker uses timestamps at which nothing is written.

What it does not do: conflicts, locks, intents (prepared writes are the lock table's records); timestamps are given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from txndb.encoding.keys import DATA, TIMESTAMP_MAX, data_key, data_span
from txndb.errors import CorruptionError
from txndb.limits import SCAN_PAGE_BYTES_MAX, SCAN_PAGE_ROWS_MAX
from txndb.storage.engine import Reader, WriteBatch

WALK_MAX: Final = 8
"""Versions of one key that are walked over before the iterator seeks (a seek costs about as much as ten steps)."""
SCAN_EXAMINED_MAX: Final = 65_536
"""Pairs one page looks at before it returns what it has, so that a selective predicate does not hold the loop."""

TOMBSTONE: Final = b""
_ESCAPE: Final = b"\x00"
_LATEST: Final = b"\x00" * 8
_AFTER_VERSIONS: Final = b"\x02"
"""In place of the key terminator's last byte (01): above all versions of the key, below every other later key."""

Predicate = Callable[[bytes, bytes], bool]


class ScanPage(msgspec.Struct, gc=False):
    """`rows` are (key, value), in scan order. `resume_key` is None at the end of the span, else where the next page
    goes on: its `start`, or with `reverse` its `end`. A page may be short, even empty, and still have one."""

    rows: list[tuple[bytes, bytes]]
    max_version_ts: int
    resume_key: bytes | None
    examined: int


class GcPage(msgspec.Struct, gc=False):
    """What one call of `gc` put into its batch, and where the next one goes on (None: the span is done)."""

    removed: int
    resume_key: bytes | None


# ---- writing -------------------------------------------------------------------------------------------------------


def encode_value(value: bytes) -> bytes:
    """A value as stored, never equal to `TOMBSTONE`."""
    if value and value[0]:
        return value
    return _ESCAPE + value


def decode_value(stored: bytes) -> bytes:
    """The inverse of `encode_value`; `stored` is not a tombstone."""
    return stored if stored[0] else stored[1:]


def put(batch: WriteBatch, key: bytes, ts: int, value: bytes) -> None:
    """Write a version."""
    batch.put(data_key(key, ts), value if value and value[0] else _ESCAPE + value)


def delete(batch: WriteBatch, key: bytes, ts: int) -> None:
    """Write a tombstone."""
    batch.put(data_key(key, ts), TOMBSTONE)


# ---- points --------------------------------------------------------------------------------------------------------


def get(reader: Reader, key: bytes, ts: int = TIMESTAMP_MAX) -> tuple[bytes | None, int]:
    """(value, version timestamp) of the newest version at or below `ts`; (None, ts of the tombstone) or (None, 0)."""
    raw = DATA + key.replace(b"\x00", b"\x00\xff") + b"\x00\x01"
    start = raw + (TIMESTAMP_MAX - ts).to_bytes(8, "big")
    for engine_key, stored in reader.iterate(start, raw[:-1] + _AFTER_VERSIONS):
        version_ts = TIMESTAMP_MAX - int.from_bytes(engine_key[-8:], "big")
        if not stored:
            return None, version_ts
        return (stored if stored[0] else stored[1:]), version_ts
    return None, 0


# ---- scans ---------------------------------------------------------------------------------------------------------


def scan(
    reader: Reader,
    start: bytes,
    end: bytes,
    ts: int = TIMESTAMP_MAX,
    *,
    limit: int = SCAN_PAGE_ROWS_MAX,
    bytes_max: int = SCAN_PAGE_BYTES_MAX,
    reverse: bool = False,
    predicate: Predicate | None = None,
    examined_max: int = SCAN_EXAMINED_MAX,
) -> ScanPage:
    """A page of the rows visible at `ts` with start <= key < end, in key order or descending with `reverse`. It ends
    after `limit` rows, at `bytes_max` of keys and values (at least one row is returned) or after `examined_max` pairs.
    `predicate(key, value)` refuses rows; they count as examined only."""
    if reverse:
        return _scan_reverse(reader, start, end, ts, limit, bytes_max, predicate, examined_max)
    return _scan_forward(reader, start, end, ts, limit, bytes_max, predicate, examined_max)


def _scan_forward(
    reader: Reader,
    start: bytes,
    end: bytes,
    ts: int,
    limit: int,
    bytes_max: int,
    predicate: Predicate | None,
    examined_max: int,
) -> ScanPage:
    low, high = data_span(start, end)
    stamp = _LATEST if ts >= TIMESTAMP_MAX else (TIMESTAMP_MAX - ts).to_bytes(8, "big")
    rows: list[tuple[bytes, bytes]] = []
    newest = b"\xff" * 8
    decided = b""
    examined = walked = size = 0
    resume: bytes | None = None
    iterator = reader.iterate(low, high)
    while (pair := next(iterator, None)) is not None:
        engine_key, stored = pair
        raw = engine_key[:-8]
        version = engine_key[-8:]
        examined += 1
        if raw == decided:
            walked += 1
            if walked >= WALK_MAX:
                walked = 0
                iterator = reader.iterate(raw[:-1] + _AFTER_VERSIONS, high)
            continue
        if version < stamp:  # newer than the snapshot
            walked += 1
            if walked >= WALK_MAX:
                walked = 0
                iterator = reader.iterate(raw + stamp, high)
            if examined >= examined_max:
                resume = raw[1:-2].replace(b"\x00\xff", b"\x00")
                if resume > start:  # else the page would make no progress
                    break
                resume = None
            continue
        decided = raw
        walked = 0
        if version < newest:
            newest = version
        if stored:
            key = raw[1:-2].replace(b"\x00\xff", b"\x00")
            value = stored if stored[0] else stored[1:]
            if predicate is None or predicate(key, value):
                rows.append((key, value))
                size += len(key) + len(value)
        if len(rows) >= limit or size >= bytes_max or examined >= examined_max:
            resume = raw[1:-2].replace(b"\x00\xff", b"\x00") + b"\x00"
            break
    if resume is not None and resume >= end:
        resume = None
    return ScanPage(rows, TIMESTAMP_MAX - int.from_bytes(newest, "big"), resume, examined)


def _scan_reverse(
    reader: Reader,
    start: bytes,
    end: bytes,
    ts: int,
    limit: int,
    bytes_max: int,
    predicate: Predicate | None,
    examined_max: int,
) -> ScanPage:
    """Descending, a key's versions come oldest first, so a key is decided by its last suitable version."""
    low, high = data_span(start, end)
    stamp = _LATEST if ts >= TIMESTAMP_MAX else (TIMESTAMP_MAX - ts).to_bytes(8, "big")
    rows: list[tuple[bytes, bytes]] = []
    newest = b"\xff" * 8
    examined = size = 0
    iterator = reader.iterate(low, high, reverse=True)
    pair = next(iterator, None)
    while pair is not None:
        raw = pair[0][:-8]
        version: bytes | None = None
        stored = TOMBSTONE
        walked = 0
        while pair is not None and pair[0][:-8] == raw:
            examined += 1
            walked += 1
            if walked > WALK_MAX:
                version, stored = _newest_at(reader, raw, stamp)
                iterator = reader.iterate(low, raw, reverse=True)
                pair = next(iterator, None)
                break
            if pair[0][-8:] >= stamp:
                version, stored = pair[0][-8:], pair[1]
            pair = next(iterator, None)
        if version is not None:
            newest = min(newest, version)
        key = raw[1:-2].replace(b"\x00\xff", b"\x00")
        if stored:
            value = stored if stored[0] else stored[1:]
            if predicate is None or predicate(key, value):
                rows.append((key, value))
                size += len(key) + len(value)
        if pair is not None and (len(rows) >= limit or size >= bytes_max or examined >= examined_max):
            return ScanPage(rows, TIMESTAMP_MAX - int.from_bytes(newest, "big"), key, examined)
    return ScanPage(rows, TIMESTAMP_MAX - int.from_bytes(newest, "big"), None, examined)


def _newest_at(reader: Reader, raw: bytes, stamp: bytes) -> tuple[bytes | None, bytes]:
    """(inverted timestamp, stored value) of the newest version not newer than `stamp`."""
    for engine_key, stored in reader.iterate(raw + stamp, raw[:-1] + _AFTER_VERSIONS):
        return engine_key[-8:], stored
    return None, TOMBSTONE


def newest_version_ts(reader: Reader, start: bytes, end: bytes) -> int:
    """The highest timestamp of any version, tombstones included, of the keys in [start, end); 0 when there is none."""
    low, high = data_span(start, end)
    newest = b"\xff" * 8
    decided = b""
    walked = 0
    iterator = reader.iterate(low, high)
    while (pair := next(iterator, None)) is not None:
        raw = pair[0][:-8]
        if raw != decided:
            decided = raw
            walked = 0
            if pair[0][-8:] < newest:
                newest = pair[0][-8:]
            continue
        walked += 1
        if walked >= WALK_MAX:
            iterator = reader.iterate(raw[:-1] + _AFTER_VERSIONS, high)
    return TIMESTAMP_MAX - int.from_bytes(newest, "big")


# ---- garbage collection --------------------------------------------------------------------------------------------


def gc(
    reader: Reader, batch: WriteBatch, start: bytes, end: bytes, threshold_ts: int, *, rows_max: int
) -> GcPage:
    """Put into `batch` the deletion of versions in [start, end) that no read at or above `threshold_ts` sees, at most
    about `rows_max` of them; apply the batch before the next call. A pure function of the span's data and the
    arguments, so every replica that runs it at one log index removes the same."""
    if rows_max < 2:
        raise ValueError("rows_max must be at least 2")
    low, high = data_span(start, end)
    stamp = (TIMESTAMP_MAX - threshold_ts).to_bytes(8, "big")
    removed = examined = walked = 0
    decided = b""
    tombstone = (
        b""  # the engine key of the decided key's tombstone while everything below it is being removed
    )
    iterator = reader.iterate(low, high)
    while (pair := next(iterator, None)) is not None:
        engine_key, stored = pair
        raw = engine_key[:-8]
        examined += 1
        if raw != decided:
            if tombstone:
                batch.delete(tombstone)
                removed += 1
                tombstone = b""
            if removed >= rows_max or examined > SCAN_EXAMINED_MAX:
                return GcPage(removed, _user_key(raw))
            if engine_key[-8:] < stamp:  # newer than the threshold: kept
                walked += 1
                if walked >= WALK_MAX:
                    walked = 0
                    iterator = reader.iterate(raw + stamp, high)
                continue
            decided = raw
            walked = 0
            tombstone = b"" if stored else engine_key
            continue
        if removed >= rows_max:  # the tombstone stays: it still hides older versions
            return GcPage(removed, _user_key(raw))
        batch.delete(engine_key)
        removed += 1
    if tombstone:
        batch.delete(tombstone)
        removed += 1
    return GcPage(removed, None)


def _user_key(raw: bytes) -> bytes:
    if len(raw) < 3 or raw[-2:] != b"\x00\x01":
        raise CorruptionError(f"an engine key without a terminator: {raw.hex()}")
    return raw[1:-2].replace(b"\x00\xff", b"\x00")
