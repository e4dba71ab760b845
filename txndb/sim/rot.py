"""Damage to a Raft log's files that opening it must find, and how to tell (rule P6).

Everything before the highest attested position of the headers on a disk was known synced: if any byte of it, from the
floor on, has changed, the node must stop at open and touch nothing. What follows may be taken for a torn write – a
documented limit –, so a machine on which only that was damaged is replaced instead of restarted.

It reads the files with the very functions of `txndb.storage.raftlog.format`, and judges nothing itself.
"""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from txndb.sim.disk import SimDisk
from txndb.storage.raftlog.format import (
    SEGMENT_HEADER_BYTES,
    Position,
    find_headers,
    segment_number,
    unpack_segment_header,
)

_BYTES_MAX: Final = 4


class Attested(msgspec.Struct, frozen=True):
    """Up to where the headers of a disk's log say that it was synced, and where the log begins."""

    floor: int
    end: Position
    spans: tuple[tuple[str, int, int], ...]
    """(file, start, end) of the bytes that opening must verify."""


def attested(disk: SimDisk) -> Attested | None:
    """What the log on a disk vouches for; None when there is nothing yet."""
    segments = {n: name for name in disk.list() if (n := segment_number(name)) is not None}
    floor, end = 1, Position(0, 0)
    ends: dict[int, int] = {}
    for number, name in sorted(segments.items()):
        data = disk.contents(name)
        header = unpack_segment_header(data)
        if header is not None:
            ends[header.previous.segment] = header.previous.offset
        for flush in find_headers(data, number, header.flush_magic if header else None, SEGMENT_HEADER_BYTES):
            floor = max(floor, flush.floor)
            end = max(end, flush.attested)
    spans = []
    for number, name in sorted(segments.items()):
        if floor <= number <= end.segment:
            stop = end.offset if number == end.segment else ends.get(number, 0)
            if stop > 0:
                spans.append((name, 0, stop))
    return Attested(floor, end, tuple(spans)) if spans else None


def holds_records(disk: SimDisk) -> bool:
    """Whether the log on a disk has anything to say; one that never got a record is like none."""
    for name in disk.list():
        number = segment_number(name)
        if number is not None:
            data = disk.contents(name)
            header = unpack_segment_header(data)
            magic = header.flush_magic if header else None
            if any(flush.count for flush in find_headers(data, number, magic, SEGMENT_HEADER_BYTES)):
                return True
    return False


def damage(disk: SimDisk, rng: Random) -> str:
    """Change a few bytes where opening must find them; says where, empty when there is no such place."""
    known = attested(disk)
    if known is None:
        return ""
    name, start, end = known.spans[rng.randrange(len(known.spans))]
    offset = start + rng.randrange(end - start)
    size = min(1 + rng.randrange(_BYTES_MAX), end - offset)
    disk.rot(name, offset, size)
    return f"{size} bytes of {name} at {offset}"


def is_found_at_open(disk: SimDisk) -> bool:
    """Whether the write that went elsewhere is missing from a place that is vouched for."""
    if disk.misdirected is None:
        return False
    name, offset, end = disk.misdirected
    known = attested(disk)
    number = segment_number(name)
    if known is None or number is None or name not in disk.list():
        return False
    return any(name == span and offset < stop and end <= stop for span, _, stop in known.spans)
