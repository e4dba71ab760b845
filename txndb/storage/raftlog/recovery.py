"""Opening a Raft log after any crash: find the chain of segments, verify and replay it, separate the tail (rule P6).

Segments link backwards. The newest segment whose header and first flush are valid is the head; a newer one without a
valid first flush was never acknowledged (its creation, not its records, was in flight) and is ignored – a segment that
recovery makes begins with the whole unattested tail, so what it replaces stays valid until its first flush is durable.
From the head the headers lead to the floor; each older segment ends exactly where its successor says, with the chain
value its successor says.

Invariants
1. Everything up to the attested position was known synced when a later header was written: it must be intact.
2. The first bad flush of the head ends the log – unless any header beyond it, in the head or in an ignored segment,
   attests past it: then synced bytes rotted, and `CorruptionError` stops the node with nothing touched.
3. What follows the attested position was perhaps only in the page cache. It is returned as the tail, to be written
   again into a new segment and synced before anybody acts on it.

What it does not find: rot in the one unattested flush at the end, which looks like a torn write.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from txndb.errors import CorruptionError, StoreError
from txndb.storage.disk import Disk
from txndb.storage.raftlog.format import (
    ENTRY,
    FLUSH_HEADER_BYTES,
    HARD_STATE,
    INTENT,
    RECORD_BYTES,
    RESET,
    SEGMENT_HEADER_BYTES,
    TOMBSTONE,
    TRUNCATE,
    VERSION,
    VOTE,
    FlushHeader,
    Position,
    SegmentHeader,
    find_headers,
    read_flush,
    records,
    segment_name,
    segment_number,
    unpack_segment_header,
)
from txndb.storage.raftlog.replica import ReplicaLog


class Recovered(msgspec.Struct):
    """What was read. `segments` are the chain's numbers from the floor up to the attested position."""

    segments: list[int]
    attested: Position
    attested_chain: int
    tail: bytes
    tail_count: int
    floor: int
    flush_number: int
    record_count: int


class Replay:
    """Applies records to replicas, in the order in which they were written."""

    def __init__(self, make: Callable[[int, int], ReplicaLog]) -> None:
        self.replicas: dict[tuple[int, int], ReplicaLog] = {}
        self.tombstones: dict[int, int] = {}
        self.tombstone_segments: dict[int, int] = {}
        self._make = make

    def apply(self, body: bytes, count: int, segment: int, offset: int) -> None:
        """One flush's records; it is (or will be) at `offset` of `segment`."""
        at = segment << 32 | offset
        for position, length, kind, range_id, replica_id, index, term in records(body, count):
            if kind == TOMBSTONE:
                self._bury(range_id, replica_id, segment)
                continue
            if replica_id <= self.tombstones.get(range_id, 0):
                continue
            replica = self.replicas.get((range_id, replica_id))
            if replica is None:
                replica = self.replicas[range_id, replica_id] = self._make(range_id, replica_id)
            if kind == ENTRY:
                replica.replay_entry(index, term, at, position << 32 | length)
            elif kind == HARD_STATE:
                (vote,) = VOTE.unpack_from(body, position + RECORD_BYTES)
                replica.replay_hard_state(term, vote, index, segment)
            elif kind in (TRUNCATE, RESET):
                replica.replay_truncation(index, term, kind == RESET, segment)
            elif kind == INTENT:
                replica.replay_intent(index, term, segment)
            else:
                raise CorruptionError(f"the raft log holds a record of the unknown type {kind}")

    def _bury(self, range_id: int, replica_id: int, segment: int) -> None:
        if replica_id < self.tombstones.get(range_id, 0):
            return
        self.tombstones[range_id] = replica_id
        self.tombstone_segments[range_id] = segment
        for key in [key for key in self.replicas if key[0] == range_id and key[1] <= replica_id]:
            del self.replicas[key]

    def finish(self) -> None:
        """Everything was applied: check what came out."""
        ranges: dict[int, int] = {}
        for (range_id, replica_id), replica in self.replicas.items():
            if range_id in ranges:
                raise CorruptionError(
                    f"the raft log holds replicas {ranges[range_id]} and {replica_id} of one range"
                )
            ranges[range_id] = replica_id
            replica.finish_replay()


class _Loaded:
    """A segment's bytes with the flushes found valid in them."""

    def __init__(self, number: int, data: bytes, header: SegmentHeader, verify_bodies: bool = True) -> None:
        self.number = number
        self._verify_bodies = verify_bodies
        self.data = data
        self.header = header
        self.flushes: list[FlushHeader] = []
        self.end = SEGMENT_HEADER_BYTES
        self.chain = header.crc

    def parse(self, end_max: int) -> None:
        """Take valid flushes up to `end_max` or the first bad one."""
        while self.end < end_max:
            flush = read_flush(
                self.data,
                Position(self.number, self.end),
                self.header.flush_magic,
                self.chain,
                verify_body=self._verify_bodies,
            )
            if flush is None or flush.end > end_max:
                return
            self.flushes.append(flush)
            self.end = flush.end
            self.chain = flush.body_crc

    def body(self, flush: FlushHeader) -> bytes:
        return self.data[flush.offset + FLUSH_HEADER_BYTES : flush.end]


def segment_numbers(disk: Disk) -> list[int]:
    """The numbers of the segment files there are, ascending."""
    return sorted(number for name in disk.list() if (number := segment_number(name)) is not None)


def read(
    disk: Disk, store_id: bytes | None, replay: Replay, *, verify_bodies: bool = True
) -> Recovered | None:
    """Read and verify the log of `store_id` (None: of any store) and replay it; None when there is none. The tail is
    replayed as the first flush of the segment that will follow the last number in use. Without `verify_bodies` the head
    segment's flushes are believed by their headers: the canary that accepts a torn tail, in test builds only."""
    numbers = segment_numbers(disk)
    head = _find_head(disk, store_id, numbers, verify_bodies)
    if head is None:
        return None
    floor = max(flush.floor for flush in head.flushes)
    chain = _walk_back(disk, head, numbers, floor)
    attested = max(flush.attested for flush in head.flushes)
    if attested.segment != head.number and attested != head.header.previous:
        raise CorruptionError(
            f"the raft log's file {segment_name(head.number)} does not attest what it follows"
        )
    result = Recovered([], attested, head.header.previous_chain, b"", 0, floor, head.flushes[-1].number, 0)
    tail: list[bytes] = []
    for number, end, last_crc in chain:
        segment = head if number == head.number else _load_sealed(disk, store_id, number, end, last_crc)
        if segment.number < head.number or attested.segment == head.number:
            result.segments.append(number)
        for flush in segment.flushes:
            result.record_count += flush.count
            if number == head.number and Position(number, flush.offset) >= attested:
                tail.append(segment.body(flush))
                result.tail_count += flush.count
            else:
                replay.apply(segment.body(flush), flush.count, number, flush.offset)
            if Position(number, flush.end) == attested:
                result.attested_chain = flush.body_crc
    result.tail = b"".join(tail)
    replay.apply(result.tail, result.tail_count, numbers[-1] + 1, SEGMENT_HEADER_BYTES)
    replay.finish()
    return result


def _load(disk: Disk, number: int) -> bytes:
    file = disk.open(segment_name(number))
    try:
        return file.pread(file.size(), 0)
    finally:
        file.close()


def _check_header(header: SegmentHeader, store_id: bytes | None, number: int) -> None:
    if header.version != VERSION:
        raise StoreError(
            f"the raft log has format version {header.version}, this program reads version {VERSION}"
        )
    if store_id is not None and header.store_id != store_id:
        raise StoreError("the raft log belongs to another store than the data beside it")
    if header.segment != number:
        raise CorruptionError(f"the raft log's file {segment_name(number)} holds segment {header.segment}")


def _find_head(disk: Disk, store_id: bytes | None, numbers: list[int], verify_bodies: bool) -> _Loaded | None:
    """The newest segment that was begun, verified against everything that lies beyond its end."""
    ignored: list[tuple[int, bytes, SegmentHeader | None]] = []
    for number in reversed(numbers):
        data = _load(disk, number)
        header = unpack_segment_header(data)
        if header is not None:
            _check_header(header, store_id, number)
            segment = _Loaded(number, data, header, verify_bodies)
            segment.parse(len(data))
            if segment.flushes:
                _check_end(number, data, header.flush_magic, Position(number, segment.end))
                for other, other_data, other_header in ignored:
                    _check_ignored(other, other_data, other_header, Position(number, segment.end))
                return segment
        ignored.append((number, data, header))
    for other, other_data, other_header in ignored:
        _check_ignored(other, other_data, other_header, Position(0, 0))
    return None


def _check_end(number: int, data: bytes, magic: bytes | None, end: Position) -> None:
    """Stop when a header in `data` says that more than `end` was synced once."""
    for header in find_headers(data, number, magic, end.offset if number == end.segment else 0):
        if header.attested > end:
            raise CorruptionError(
                f"the raft log is damaged at {segment_name(end.segment)} offset {end.offset}: a later flush "
                f"({segment_name(number)} offset {header.offset}) attests that it was synced",
                hint="Replace this node by a new one; its ranges have other replicas.",
            )


def _check_ignored(number: int, data: bytes, header: SegmentHeader | None, end: Position) -> None:
    """An ignored segment says, by its header or its flushes' headers, what was synced before it."""
    if header is not None and header.previous > end:
        raise CorruptionError(
            f"the raft log is damaged at {segment_name(end.segment)} offset {end.offset}: "
            f"{segment_name(number)} was begun after {header.previous.offset} was synced",
            hint="Replace this node by a new one; its ranges have other replicas.",
        )
    _check_end(number, data, header.flush_magic if header else None, end)


def _walk_back(disk: Disk, head: _Loaded, numbers: list[int], floor: int) -> list[tuple[int, int, int]]:
    """(number, end, chain value there) of the segments from the floor to the head, oldest first."""
    chain = [(head.number, head.end, head.chain)]
    present = frozenset(numbers)
    previous, last_crc = head.header.previous, head.header.previous_chain
    while previous.segment >= max(floor, 1):
        if previous.segment not in present:
            raise CorruptionError(f"the raft log's file {segment_name(previous.segment)} is missing")
        chain.append((previous.segment, previous.offset, last_crc))
        file = disk.open(segment_name(previous.segment))
        try:
            header = unpack_segment_header(file.pread(SEGMENT_HEADER_BYTES, 0))
        finally:
            file.close()
        if header is None or header.segment != previous.segment:
            raise CorruptionError(
                f"the raft log's file {segment_name(previous.segment)} has a damaged header"
            )
        previous, last_crc = header.previous, header.previous_chain
    chain.reverse()
    return chain


def _load_sealed(disk: Disk, store_id: bytes | None, number: int, end: int, last_crc: int) -> _Loaded:
    """A segment before the head: valid flushes up to exactly `end`, where the chain is `last_crc`."""
    data = _load(disk, number)
    header = unpack_segment_header(data)
    if header is None:
        raise CorruptionError(f"the raft log's file {segment_name(number)} has a damaged header")
    _check_header(header, store_id, number)
    segment = _Loaded(number, data, header)
    segment.parse(end)
    if segment.end != end or segment.chain != last_crc:
        raise CorruptionError(
            f"the raft log is damaged at {segment_name(number)} offset {segment.end}, below its end at {end}",
            hint="Replace this node by a new one; its ranges have other replicas.",
        )
    return segment
