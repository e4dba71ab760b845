"""The Raft log of a store: append-only segment files shared by all ranges of a node, with group commit.

Replicas queue records (`ReplicaLog`); a flush writes everything queued with one write and one fdatasync. The rules are
P1, P2, P6 and P7 of the storage chapter; `format` has the bytes, `recovery` the opening.

    loop thread   log.begin_flush() ─► pending           … queues go on filling …        log.end_flush(pending)
    worker                              pending.run(): write, fdatasync, sync the directory, unlink

Invariants
1. One flush is in flight at a time, so a flush header attests everything before it (P6).
2. What was queued before `barrier()` returned n is durable once `durable >= n` (completions name flushes, P1).
3. A segment is created after the one before it is synced, is never appended to after a restart, and keeps one
   descriptor. It is dropped when nothing pins it, what it held as the latest of its sort was rewritten in a durable
   flush, and a later durable flush carried the raised floor (P2).
4. After a failed write or sync nothing more is written: the process must end, the restart rewrites the tail (P1).

What it does not do: decide when to flush, attest or truncate; start threads. Driven by the node's store.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import Final

from txndb.errors import CorruptionError, DiskFullError, InternalError, StoreError
from txndb.limits import (
    LOG_CACHE_BYTES_MAX,
    LOG_RESERVE_BYTES,
    LOG_REWRITE_BYTES_MAX,
    LOG_ROOM_BYTES_MIN,
    LOG_SEGMENT_BYTES,
    LOG_SEGMENTS_MAX,
)
from txndb.storage.disk import Disk, File
from txndb.storage.raftlog import recovery
from txndb.storage.raftlog.format import (
    FLUSH_HEADER_BYTES,
    FLUSH_MAGIC_BYTES,
    RECORD,
    RECORD_BYTES,
    SEGMENT_HEADER_BYTES,
    STORE_ID_BYTES,
    TOMBSTONE,
    Position,
    body_matches,
    pack_flush,
    pack_segment_header,
    segment_name,
    unpack_flush_header,
    unpack_segment_header,
)
from txndb.storage.raftlog.replica import Queue, ReplicaLog
from txndb.storage.raftlog.types import LogEntry

RESERVE_NAME: Final = "reserve"
FLOOR_CHECK_FLUSHES: Final = 64
"""After truncations, the floor is looked at again at most this often."""


class Options:
    """Sizes, replaced by tests and the simulator."""

    def __init__(
        self,
        *,
        segment_bytes: int = LOG_SEGMENT_BYTES,
        segments_max: int = LOG_SEGMENTS_MAX,
        rewrite_bytes_max: int = LOG_REWRITE_BYTES_MAX,
        cache_bytes_max: int = LOG_CACHE_BYTES_MAX,
        reserve_bytes: int = LOG_RESERVE_BYTES,
        room_bytes_min: int = LOG_ROOM_BYTES_MIN,
        canaries: frozenset[str] = frozenset(),
    ) -> None:
        self.segment_bytes = segment_bytes
        self.segments_max = segments_max
        self.rewrite_bytes_max = rewrite_bytes_max
        self.cache_bytes_max = cache_bytes_max
        self.reserve_bytes = reserve_bytes
        self.room_bytes_min = room_bytes_min
        self.canaries = canaries


class Segment:
    """An open or openable segment file."""

    __slots__ = ("chain", "end", "file", "magic", "number")

    def __init__(self, number: int, magic: bytes, chain: int) -> None:
        self.number = number
        self.magic = magic
        self.chain = chain
        """The body CRC of the last flush, or the header's CRC: the seed of the next."""
        self.end = SEGMENT_HEADER_BYTES
        self.file: File | None = None


class PendingFlush:
    """One flush between `begin_flush` and `end_flush`. Only `run` may be called in another thread."""

    def __init__(self, log: RaftLog, number: int, segment: Segment, offset: int, data: bytes) -> None:
        self.number = number
        self.segment = segment
        self.end = offset + len(data)
        self.chain = 0
        self.count = 0
        self.done = False
        self.unsynced = False
        """Reported as synced without a sync: only in test builds (canaries P1 and P6)."""
        self.unlink: list[str] = []
        self.caches: list[tuple[ReplicaLog, int, int]] = []
        self._log = log
        self._offset = offset
        self._data = data

    def run(self) -> None:
        """Write and sync (blocks). An error means that the process must end: `StoreError` or `DiskFullError`."""
        log = self._log
        disk = log.disk
        segment = self.segment
        try:
            log.make_room(len(self._data))
            if segment.file is None:
                segment.file = disk.create(segment_name(segment.number))
            segment.file.pwrite(self._data, self._offset)
            if not self.unsynced:
                segment.file.fdatasync()
            if self._offset == 0:
                disk.sync_dir()
            for name in self.unlink:
                disk.unlink(name)
            log.refill_reserve()
        except OSError as error:
            raise log.poison(error) from error
        self.done = True


class RaftLog:
    """See the module. `RaftLog.open` makes one."""

    def __init__(
        self, disk: Disk, store_id: bytes, rand_bytes: Callable[[int], bytes], options: Options
    ) -> None:
        self.disk = disk
        self.store_id = store_id
        self.durable = 0
        """The number of the last durable flush."""
        self.floor = 1
        """Segments below it may be missing."""
        self.on_read_failure: Callable[[Exception], None] | None = None
        """Ends the process: entries are read in the middle of steps that could not be taken back."""
        self._rand_bytes = rand_bytes
        self._options = options
        self._failure = ""
        self._queue = Queue()
        self._replicas: dict[int, ReplicaLog] = {}
        self._tombstones: dict[int, int] = {}
        self._tombstone_segments: dict[int, int] = {}
        """Range -> the segment of its tombstone's latest record."""
        self._tombstones_queued: list[int] = []
        self._segments: dict[int, Segment] = {}
        """By number, ascending; the last one is written to."""
        self._attested = Position(0, 0)
        """Everything before it is known synced."""
        self._in_flight: PendingFlush | None = None
        self._unattested_records = False
        self._doomed: list[str] = []
        """Files that nothing needs once the next flush is durable."""
        self._floor_wanted = 0
        self._floor_after = 0
        """The floor may rise to `_floor_wanted` once flush `_floor_after` is durable."""
        self._floor_checked = 0
        self._cached: deque[tuple[ReplicaLog, int, int]] = deque()
        self._cached_bytes = 0
        self._verified: tuple[int, bytes] = (0, b"")
        """The place and body of the flush that was read last: old entries are read in runs."""
        self._has_reserve = False

    @classmethod
    def open(
        cls,
        disk: Disk,
        store_id: bytes,
        *,
        create: bool,
        rand_bytes: Callable[[int], bytes],
        options: Options | None = None,
    ) -> RaftLog:
        """Create the log in a directory without one, or recover it (blocks; everything read is durable when it
        returns). `StoreError`: missing, foreign, of another version, there already; `CorruptionError`: rot."""
        if len(store_id) != STORE_ID_BYTES:
            raise ValueError(f"a store id has {STORE_ID_BYTES} bytes")
        log = cls(disk, store_id, rand_bytes, options or Options())
        replay = recovery.Replay(log._make_replica)
        try:
            torn_is_good = "torn-tail" in log._options.canaries
            recovered = recovery.read(
                disk, None if create else store_id, replay, verify_bodies=not torn_is_good
            )
            if create:
                if recovered is not None and recovered.record_count:
                    raise StoreError("the data directory holds a raft log but no store that belongs to it")
                recovered = None  # an empty one is what a crash while creating it left
            elif recovered is None:
                raise StoreError("the raft log is missing from the data directory")
            log._begin(recovered, replay)
        except OSError as error:
            raise log.poison(error) from error
        return log

    def _make_replica(self, range_id: int, replica_id: int) -> ReplicaLog:
        return ReplicaLog(range_id, replica_id, self._queue, self)

    def _begin(self, recovered: recovery.Recovered | None, replay: recovery.Replay) -> None:
        """Write the tail (nothing, in a new log) as the first flush of a new segment, durably."""
        numbers = recovery.segment_numbers(self.disk)
        body, count, previous, chain = b"", 0, Position(0, 0), 0
        if recovered is not None:
            for number in recovered.segments:
                self._segments[number] = Segment(number, b"", 0)
            self._replicas = {replica.range_id: replica for replica in replay.replicas.values()}
            self._tombstones, self._tombstone_segments = replay.tombstones, replay.tombstone_segments
            self.floor, self.durable = recovered.floor, recovered.flush_number
            self._attested = previous = recovered.attested
            body, count, chain = recovered.tail, recovered.tail_count, recovered.attested_chain
        number = (numbers[-1] if numbers else 0) + 1
        segment, opening = self._new_segment(number, previous, chain)
        pending = self._seal_flush(segment, opening, body, count)
        pending.unsynced = "P6" in self._options.canaries
        pending.run()
        self.end_flush(pending)
        self._doomed = [segment_name(n) for n in numbers if n not in self._segments]
        if RESERVE_NAME in self.disk.list():
            self._has_reserve = True
        self.refill_reserve()

    # ---- replicas

    def replica(self, range_id: int, replica_id: int) -> ReplicaLog:
        """The log of a replica of this store; a new one becomes known with its first record."""
        replica = self._replicas.get(range_id)
        if replica is not None and replica.replica_id == replica_id:
            return replica
        if replica_id <= self._tombstones.get(range_id, 0):
            raise InternalError(f"range {range_id}: replica {replica_id} has a tombstone")
        if replica is not None and replica.exists:
            raise InternalError(
                f"range {range_id}: replica {replica.replica_id} must be buried before {replica_id}"
            )
        if replica is not None:
            replica.dead = True  # it never recorded anything; a handle to it must not begin to
        replica = self._replicas[range_id] = self._make_replica(range_id, replica_id)
        return replica

    def replicas(self) -> list[tuple[int, int]]:
        """(range id, replica id) of every replica with a record, by range id."""
        return sorted((r.range_id, r.replica_id) for r in self._replicas.values() if r.exists)

    def tombstones(self) -> dict[int, int]:
        """The highest dead replica id of each range that has one."""
        return dict(sorted(self._tombstones.items()))

    def tombstone_of(self, range_id: int) -> int:
        """The range's highest dead replica id, 0 = none."""
        return self._tombstones.get(range_id, 0)

    def bury(self, range_id: int, replica_id: int) -> None:
        """Queue a tombstone: the range's replica with this id or a lower one ends; its records are forgotten. To remove
        a replica, flush this first and delete its data then: `reconcile` finishes what a crash leaves of it."""
        if replica_id <= self._tombstones.get(range_id, 0):
            return
        self._tombstones[range_id] = replica_id
        self._queue_tombstone(range_id)
        replica = self._replicas.get(range_id)
        if replica is not None and replica.replica_id <= replica_id:
            replica.dead = True
            self._queue.dirty.pop(replica, None)
            del self._replicas[range_id]

    def _queue_tombstone(self, range_id: int) -> None:
        self._queue.add(RECORD.pack(0, TOMBSTONE, range_id, self._tombstones[range_id], 0, 0))
        self._tombstones_queued.append(range_id)

    # ---- flushing

    def has_queued(self) -> bool:
        """Whether something waits for the next flush."""
        return bool(self._queue.count or self._queue.dirty)

    def barrier(self) -> int:
        """The flush after whose completion everything queued so far is durable (compare with `durable`)."""
        return self.durable + (self._in_flight is not None) + self.has_queued()

    def needs_attest(self) -> bool:
        """Whether the log is idle and its last records are not attested: begin an attesting flush soon (P6)."""
        return self._unattested_records and self._in_flight is None and not self.has_queued()

    def begin_flush(self, *, attest: bool = False) -> PendingFlush | None:
        """Take all that is queued. None while a flush is in flight, or when nothing is queued; with `attest` an empty
        flush then attests the last one, if that is needed."""
        if self._failure:
            raise StoreError(self._failure)
        if self._in_flight is not None or not (self.has_queued() or (attest and self._unattested_records)):
            return None
        queue = self._queue
        segment, opening = self._writable_segment()
        if self._floor_wanted and self._floor_after <= self.durable:
            self.floor, self._floor_wanted = self._floor_wanted, 0
        self._maintain_floor(segment.number)
        at = segment.number << 32 | segment.end
        caches = [(replica, replica.last_index(), replica.place(at)) for replica in list(queue.dirty)]
        for range_id in self._tombstones_queued:
            self._tombstone_segments[range_id] = segment.number
        self._tombstones_queued.clear()
        body = b"".join(queue.parts)
        pending = self._seal_flush(segment, opening, body, queue.count)
        pending.caches = caches
        pending.unsynced = "P1" in self._options.canaries
        queue.parts, queue.bytes, queue.count, queue.dirty = [], 0, 0, {}
        return pending

    def _writable_segment(self) -> tuple[Segment, bytes]:
        """(segment, bytes to write before the flush): the last one, or a new one when it is full."""
        segment = self._segments[next(reversed(self._segments))]
        if segment.end + self._queue.bytes <= self._options.segment_bytes:
            return segment, b""
        self._floor_checked = 0
        return self._new_segment(segment.number + 1, Position(segment.number, segment.end), segment.chain)

    def _new_segment(self, number: int, previous: Position, chain: int) -> tuple[Segment, bytes]:
        magic = self._rand_bytes(FLUSH_MAGIC_BYTES)
        opening = pack_segment_header(self.store_id, number, magic, previous, chain)
        header = unpack_segment_header(opening)
        assert header is not None
        segment = self._segments[number] = Segment(number, magic, header.crc)
        return segment, opening

    def _seal_flush(self, segment: Segment, opening: bytes, body: bytes, count: int) -> PendingFlush:
        at = Position(segment.number, segment.end)
        number = self.durable + 1
        header, chain = pack_flush(
            segment.magic, at, body, count, self._attested, self.floor, number, segment.chain
        )
        data = b"".join((opening, header, body))
        pending = PendingFlush(self, number, segment, segment.end - len(opening), data)
        pending.chain, pending.count = chain, count
        pending.unlink = [segment_name(n) for n in self._segments if n < self.floor] + self._doomed
        self._doomed = []
        self._in_flight = pending
        return pending

    def end_flush(self, pending: PendingFlush) -> None:
        """The flush ran without an error: it is durable."""
        if pending is not self._in_flight or not pending.done:
            raise InternalError("end_flush of a flush that is not in flight or not done")
        segment = pending.segment
        segment.chain = pending.chain
        segment.end = pending.end
        self._in_flight = None
        self.durable = pending.number
        self._attested = Position(segment.number, segment.end)
        self._unattested_records = pending.count > 0
        for number in [n for n in self._segments if n < self.floor]:
            dropped = self._segments.pop(number)
            if dropped.file is not None:
                dropped.file.close()
        for item in pending.caches:
            if item[2]:
                self._cached.append(item)
                self._cached_bytes += item[2]
        while self._cached_bytes > self._options.cache_bytes_max:
            replica, last, size = self._cached.popleft()
            self._cached_bytes -= size
            replica.evict(last)

    # ---- dropping segments (P2)

    def _maintain_floor(self, current: int) -> None:
        """Queue what keeps a higher floor possible: the state records of the segments to be dropped, and short tails
        that pin the oldest ones when there are too many."""
        oldest = next(iter(self._segments))
        if self._floor_wanted or oldest >= current or oldest < self.floor:
            return
        if self._floor_checked and self.durable - self._floor_checked < FLOOR_CHECK_FLUSHES:
            return
        self._floor_checked = self.durable
        if len(self._segments) > self._options.segments_max:
            self._rewrite_short_tails(current - self._options.segments_max // 2)
        wanted = current
        for replica in self._replicas.values():
            pinned = replica.pinned_segment()
            if pinned is not None and pinned < wanted:
                wanted = pinned
        if wanted <= self.floor:
            return
        for replica in self._replicas.values():
            if "P2" not in self._options.canaries:
                replica.rewrite_state(wanted)
        for range_id, where in self._tombstone_segments.items():
            if where < wanted:
                self._queue_tombstone(range_id)
        self._floor_wanted, self._floor_after = wanted, self.durable + 1

    def _rewrite_short_tails(self, below: int) -> None:
        budget = self._options.rewrite_bytes_max
        for replica in self._replicas.values():
            pinned = replica.pinned_segment()
            if pinned is not None and pinned < below:
                size = replica.log_bytes()
                if size <= budget:
                    budget -= size
                    replica.rewrite_entries()

    # ---- reading old entries

    def read_entry(self, at: int, spot: int, index: int, term: int) -> LogEntry:
        """A durable entry, verified with the whole flush that it is in. `CorruptionError`, `StoreError`: the process
        must end, and `on_read_failure` is told first."""
        try:
            return self._read_entry(at, spot, index, term)
        except (CorruptionError, StoreError) as error:
            if self.on_read_failure is not None:
                self.on_read_failure(error)
            raise

    def _read_entry(self, at: int, spot: int, index: int, term: int) -> LogEntry:
        if self._verified[0] != at:
            self._verified = (at, self._read_body(at >> 32, at & 0xFFFFFFFF))
        body = self._verified[1]
        position, length = spot >> 32, spot & 0xFFFFFFFF
        stored = RECORD.unpack_from(body, position)
        if stored[0] != length or stored[4] != index or stored[5] != term:
            raise CorruptionError(f"the raft log's entry {index} is not where it was written")
        start = position + RECORD_BYTES
        return LogEntry(index, term, body[start], body[start + 1 : start + length])

    def _read_body(self, number: int, offset: int) -> bytes:
        segment = self._segments[number]
        try:
            if segment.file is None:
                segment.file = self.disk.open(segment_name(number))
            head = segment.file.pread(FLUSH_HEADER_BYTES, offset)
            header = unpack_flush_header(head, 0)
            if header is not None and header.segment == number and header.offset == offset:
                body = segment.file.pread(header.body_bytes, offset + FLUSH_HEADER_BYTES)
                if body_matches(header, head, body):
                    return body
        except OSError as error:
            raise self.poison(error) from error
        raise CorruptionError(
            f"the raft log is damaged at {segment_name(number)} offset {offset}",
            hint="Replace this node by a new one; its ranges have other replicas.",
        )

    # ---- space (P1)

    def has_room(self) -> bool:
        """Whether proposals may be taken: the reserve is whole and enough is free."""
        return self._has_reserve and self.disk.free_bytes() >= self._options.room_bytes_min

    def make_room(self, size: int) -> None:
        """Give up the reserve when `size` bytes would not fit (in a worker)."""
        if self._has_reserve and self.disk.free_bytes() < 2 * size:
            self.disk.unlink(RESERVE_NAME)
            self.disk.sync_dir()
            self._has_reserve = False

    def refill_reserve(self) -> None:
        """Set the reserve aside again when there is room (in a worker)."""
        options = self._options
        if self._has_reserve or self.disk.free_bytes() < options.room_bytes_min + options.reserve_bytes:
            return
        if RESERVE_NAME in self.disk.list():
            self.disk.unlink(RESERVE_NAME)
        file = self.disk.create(RESERVE_NAME)
        try:
            file.pwrite(bytes(options.reserve_bytes), 0)
            file.fdatasync()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self.disk.unlink(RESERVE_NAME)  # somebody else took the room: try again later
        else:
            self._has_reserve = True
        finally:
            file.close()

    # ---- the end

    def poison(self, error: OSError) -> StoreError | DiskFullError:
        """A write, sync or read failed: refuse everything from now on."""
        self._failure = f"the raft log failed and the node must restart: {error}"
        if error.errno == errno.ENOSPC:
            return DiskFullError(self._failure)
        return StoreError(self._failure)

    def close(self) -> None:
        """Flush and attest what is left (blocks) unless the log failed or a flush is in flight; release the files."""
        if not self._failure and self._in_flight is None:
            for _ in range(2):
                pending = self.begin_flush(attest=True)
                if pending is not None:
                    pending.run()
                    self.end_flush(pending)
        for segment in self._segments.values():
            if segment.file is not None:
                segment.file.close()
                segment.file = None
        self._failure = self._failure or "the raft log is closed"

    def validate(self) -> None:
        """Check the invariants of the log and every replica's."""
        numbers = list(self._segments)
        if numbers != sorted(numbers):
            raise CorruptionError("segments are out of order")
        for replica in self._replicas.values():
            replica.validate()
            pinned = replica.pinned_segment()
            if pinned is not None and pinned not in self._segments:
                raise CorruptionError(f"range {replica.range_id} pins a dropped segment {pinned}")
