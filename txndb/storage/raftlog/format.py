"""The bytes of the Raft log files (format version 1): segment header, flush header, records; pure functions.

A segment `%016x.log` is a 64-byte header and flushes; a flush is a 64-byte header and a body of records and is the
atomic unit. All integers are big-endian.

    segment header  magic "TXRL", version u32, store id (16), segment u32, flush magic (8, random), previous segment
                    u32, previous end offset u64, previous chain u32, zeros (8), CRC u32 of all that
    flush header    flush magic (8), segment u32, own offset u64, body length u32, record count u32, attested segment
                    u32, attested offset u64, floor u32, flush number u64, previous body CRC u32, body CRC u32, CRC u32
    record          payload length u32, type u8, range u64, replica u32, index u64, term u64, payload

Invariants
1. The chain: body CRC = crc32(body, crc32(header up to the flush number, previous body CRC)); the first flush of a
   segment is seeded with the segment header's CRC. A flush that is spliced in, missing or moved breaks it.
2. A flush header is recognised by itself (magic, segment, own offset, CRC), so that `find_headers` finds it where the
   lengths before it cannot be trusted (rule P6). The magic is secret and random: stored data cannot forge a header.
3. Numbers: segments and flushes count from 1 and only grow; segment 0 = none.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final
from zlib import crc32

import msgspec

from txndb.errors import CorruptionError

VERSION: Final = 1
SEGMENT_MAGIC: Final = b"TXRL"
SEGMENT_HEADER_BYTES: Final = 64
FLUSH_HEADER_BYTES: Final = 64
FLUSH_MAGIC_BYTES: Final = 8
STORE_ID_BYTES: Final = 16
SEGMENT_NUMBER_MAX: Final = (1 << 31) - 1

ENTRY, HARD_STATE, TRUNCATE, RESET, INTENT, TOMBSTONE = 1, 2, 3, 4, 5, 6

RECORD: Final = struct.Struct(">IBQIQQ")
RECORD_BYTES: Final = RECORD.size
ENTRY_RECORD: Final = struct.Struct(">IBQIQQB")
"""A record header and the first payload byte of an entry, its kind."""
VOTE: Final = struct.Struct(">Q")
_SEGMENT: Final = struct.Struct(">4sI16sI8sIQI8x")
_FLUSH: Final = struct.Struct(">8sIQIIIQIQ")
_FLUSH_CRCS: Final = struct.Struct(">II")
_CRC: Final = struct.Struct(">I")
_NAME: Final = re.compile(r"([0-9a-f]{16})\.log")


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in the log: a segment and a byte offset in it."""

    segment: int
    offset: int


class SegmentHeader(msgspec.Struct, frozen=True, gc=False):
    version: int
    store_id: bytes
    segment: int
    flush_magic: bytes
    previous: Position
    previous_chain: int
    crc: int


class FlushHeader(msgspec.Struct, frozen=True, gc=False):
    magic: bytes
    segment: int
    offset: int
    body_bytes: int
    count: int
    attested: Position
    floor: int
    number: int
    previous_crc: int
    body_crc: int

    @property
    def end(self) -> int:
        """Where the next flush begins."""
        return self.offset + FLUSH_HEADER_BYTES + self.body_bytes


def segment_name(number: int) -> str:
    return f"{number:016x}.log"


def segment_number(name: str) -> int | None:
    """The number in a segment's file name; None for other files."""
    match = _NAME.fullmatch(name)
    return int(match[1], 16) if match else None


def pack_segment_header(
    store_id: bytes, segment: int, flush_magic: bytes, previous: Position, previous_chain: int
) -> bytes:
    head = _SEGMENT.pack(
        SEGMENT_MAGIC,
        VERSION,
        store_id,
        segment,
        flush_magic,
        previous.segment,
        previous.offset,
        previous_chain,
    )
    return head + _CRC.pack(crc32(head))


def unpack_segment_header(data: bytes) -> SegmentHeader | None:
    """The header at the start of `data`, None when it is torn or not one."""
    if len(data) < SEGMENT_HEADER_BYTES:
        return None
    (crc,) = _CRC.unpack_from(data, SEGMENT_HEADER_BYTES - 4)
    if crc32(data[: SEGMENT_HEADER_BYTES - 4]) != crc:
        return None
    magic, version, store_id, segment, flush_magic, prev_segment, prev_offset, chain = _SEGMENT.unpack_from(
        data
    )
    if magic != SEGMENT_MAGIC:
        return None
    return SegmentHeader(
        version, store_id, segment, flush_magic, Position(prev_segment, prev_offset), chain, crc
    )


def pack_flush(
    magic: bytes,
    at: Position,
    body: bytes,
    count: int,
    attested: Position,
    floor: int,
    number: int,
    previous_crc: int,
) -> tuple[bytes, int]:
    """(header, body CRC); the body CRC is the chain's next value."""
    head = _FLUSH.pack(
        magic, at.segment, at.offset, len(body), count, attested.segment, attested.offset, floor, number
    )
    body_crc = crc32(body, crc32(head, previous_crc))
    head += _FLUSH_CRCS.pack(previous_crc, body_crc)
    return head + _CRC.pack(crc32(head)), body_crc


def unpack_flush_header(data: bytes, offset: int) -> FlushHeader | None:
    """The flush header at `offset` of `data`, None when its CRC is wrong or it is cut short."""
    end = offset + FLUSH_HEADER_BYTES
    if offset < 0 or end > len(data):
        return None
    (crc,) = _CRC.unpack_from(data, end - 4)
    if crc32(data[offset : end - 4]) != crc:
        return None
    magic, segment, own, length, count, a_segment, a_offset, floor, number = _FLUSH.unpack_from(data, offset)
    previous_crc, body_crc = _FLUSH_CRCS.unpack_from(data, offset + _FLUSH.size)
    return FlushHeader(
        magic,
        segment,
        own,
        length,
        count,
        Position(a_segment, a_offset),
        floor,
        number,
        previous_crc,
        body_crc,
    )


def body_matches(header: FlushHeader, head: bytes, body: bytes) -> bool:
    """Whether `body` is what was written under `header`, whose bytes `head` begins with."""
    return (
        len(body) == header.body_bytes
        and crc32(body, crc32(head[: _FLUSH.size], header.previous_crc)) == header.body_crc
    )


def read_flush(
    data: bytes, at: Position, magic: bytes, chain: int, *, verify_body: bool = True
) -> FlushHeader | None:
    """The whole, valid flush that continues `chain` at `at.offset` of a segment's bytes, None when there is none."""
    header = unpack_flush_header(data, at.offset)
    if header is None or header.magic != magic or header.segment != at.segment or header.offset != at.offset:
        return None
    if header.previous_crc != chain or header.end > len(data):
        return None
    start = at.offset + FLUSH_HEADER_BYTES
    if verify_body and not body_matches(header, data[at.offset : start], data[start : header.end]):
        return None
    return header


def find_headers(data: bytes, segment: int, magic: bytes | None, start: int) -> Iterator[FlushHeader]:
    """Every self-consistent flush header at or after `start`, whatever lies between them. Without a `magic` (the
    segment header is lost) headers of any magic count: at worst a sound store is reported as corrupt, never the
    reverse."""
    needle = struct.pack(">II", segment, 0)  # the segment and the high half of the own offset
    at = data.find(needle, start + FLUSH_MAGIC_BYTES)
    while at >= 0:
        header = unpack_flush_header(data, at - FLUSH_MAGIC_BYTES)
        if header is not None and header.offset == at - FLUSH_MAGIC_BYTES and magic in (None, header.magic):
            yield header
        at = data.find(needle, at + 1)


def records(body: bytes, count: int) -> Iterator[tuple[int, int, int, int, int, int, int]]:
    """(position, payload length, type, range, replica, index, term) of each record of a verified body."""
    position = 0
    size = len(body)
    for _ in range(count):
        if position + RECORD_BYTES > size:
            raise CorruptionError("a flush of the raft log holds fewer records than its header says")
        length, kind, range_id, replica_id, index, term = RECORD.unpack_from(body, position)
        yield position, length, kind, range_id, replica_id, index, term
        position += RECORD_BYTES + length
    if position != size:
        raise CorruptionError("a flush of the raft log holds more bytes than its records")
