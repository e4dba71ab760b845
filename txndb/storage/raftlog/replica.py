"""One replica's log: what its Raft core reads and queues; all I/O but verified reads of old entries happens in flushes.

The queue holds encoded records of all replicas in the order they were made; `RaftLog.begin_flush` takes it. Per entry
three machine words are kept: its term, where its flush is (segment << 32 | offset), where it is in the flush's body
(position << 32 | payload length). Recent entries are cached as objects; what is not yet durable always is.

Invariants
1. The log holds the indexes (truncation index, last index], contiguous; `_terms` and `_spot` have one word for each,
   `_at` one for each but the queued ones at the end.
2. `_at` never decreases along the log, so the first word names the oldest segment the replica pins (rule P2).
3. The cache is the suffix [`_cache_first`, last index]; every entry below it is durable at its `_at`.

Driven by the node's loop thread only.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, Protocol

from txndb.errors import CorruptionError, InternalError
from txndb.storage.raftlog.format import (
    ENTRY,
    ENTRY_RECORD,
    HARD_STATE,
    INTENT,
    RECORD,
    RECORD_BYTES,
    RESET,
    TRUNCATE,
    VOTE,
)
from txndb.storage.raftlog.types import LogEntry

NO_LIMIT: Final = 1 << 62
QUEUED: Final = -1


class Owner(Protocol):
    """What a replica's log needs of the store's log."""

    def read_entry(self, at: int, spot: int, index: int, term: int) -> LogEntry:
        """The verified durable entry at a place; `CorruptionError` when the bytes are not what was written."""

    def bury(self, range_id: int, replica_id: int) -> None:
        """Queue a tombstone."""


class Queue:
    """Encoded records waiting for the next flush."""

    __slots__ = ("bytes", "count", "dirty", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.bytes = 0
        self.count = 0
        self.dirty: dict[ReplicaLog, None] = {}
        """Replicas with something queued, in order of their first record (a dict is an ordered set)."""

    def add(self, record: bytes) -> None:
        """Queue a whole record."""
        self.parts.append(record)
        self.bytes += len(record)
        self.count += 1


class ReplicaLog:
    """The log and hard state of one replica of one range. Made by `RaftLog.replica`."""

    def __init__(self, range_id: int, replica_id: int, queue: Queue, owner: Owner) -> None:
        self.range_id = range_id
        self.replica_id = replica_id
        self.term_number = 0
        self.vote = 0
        self.commit = 0
        self.exists = False
        """Whether anything of this replica was ever recorded."""
        self.truncation: tuple[int, int] = (0, 0)
        self.truncation_known = False
        """Whether a truncation point or a reset was recorded (rule P5: a split's replay sets only a missing one)."""
        self.intent: tuple[int, int] | None = None
        self.dead = False
        self._queue = queue
        self._owner = owner
        self._start = 1  # the index of the first word of the arrays; truncation index + 1 (but for recovery)
        self._terms: array[int] = array("Q")
        self._at: array[int] = array("Q")
        self._spot: array[int] = array("Q")
        self._cache: list[LogEntry] = []
        self._cache_first = 1
        self._cache_new_bytes = 0
        self._hard_written: tuple[int, int, int] | None = None
        # the segment of the latest record of each sort, 0 = none, QUEUED = not yet in one: what a dropped segment
        # must not take with it (P2)
        self._hard_segment = 0
        self._truncation_segment = 0
        self._intent_segment = 0

    # ---- reading

    def first_index(self) -> int:
        """The first index held (truncation index + 1)."""
        return self.truncation[0] + 1

    def last_index(self) -> int:
        """The last index held; the truncation index when the log is empty."""
        return self._start + len(self._terms) - 1

    def term(self, index: int) -> int:
        """The term of an entry or of the truncation point; 0 where the log does not know it."""
        offset = index - self._start
        if 0 <= offset < len(self._terms):
            return self._terms[offset]
        return self.truncation[1] if index == self.truncation[0] else 0

    def hard_state(self) -> tuple[int, int, int]:
        """(term, vote, commit), the latest given; durable as the flushes go."""
        return self.term_number, self.vote, self.commit

    def entries(self, low: int, high: int, bytes_max: int = NO_LIMIT) -> list[LogEntry]:
        """The entries low <= index < high, as many as `bytes_max` of data allows but at least one. Queued ones are
        included; old ones are read and verified (`CorruptionError`)."""
        if low < self._start or high > self.last_index() + 1:
            raise InternalError(
                f"range {self.range_id}: entries [{low}, {high}) of a log with "
                f"[{self.first_index()}, {self.last_index()}]"
            )
        result: list[LogEntry] = []
        size = 0
        for index in range(low, min(high, self._cache_first)):
            offset = index - self._start
            size += (self._spot[offset] & 0xFFFFFFFF) - 1
            if size > bytes_max and result:
                return result
            result.append(
                self._owner.read_entry(self._at[offset], self._spot[offset], index, self._terms[offset])
            )
        if high <= self._cache_first:
            return result
        cached = self._cache[max(0, low - self._cache_first) : high - self._cache_first]
        if bytes_max >= NO_LIMIT:
            return result + cached if result else cached
        for entry in cached:
            size += len(entry.data)
            if size > bytes_max and result:
                break
            result.append(entry)
        return result

    def log_bytes(self) -> int:
        """The bytes of all entries held."""
        return sum(word & 0xFFFFFFFF for word in self._spot) + RECORD_BYTES * len(self._spot)

    # ---- queueing

    def append(self, entries: Sequence[LogEntry]) -> None:
        """Queue entries; they follow the last one or overwrite a conflicting suffix above the truncation point."""
        if not entries:
            return
        self._check_alive()
        first = entries[0].index
        last = self._start + len(self._terms) - 1
        if first <= last:
            self._cut(first)
        elif first != last + 1:
            raise InternalError(f"range {self.range_id}: entry {first} appended after {last}")
        self._add(entries)
        self._cache.extend(entries)
        if self.last_index() != entries[-1].index:
            raise InternalError(f"range {self.range_id}: appended entries are not contiguous")

    def _add(self, entries: Sequence[LogEntry]) -> None:
        """Encode entries into the queue and note where they will be."""
        queue = self._queue
        parts = queue.parts
        terms, spot = self._terms, self._spot
        range_id, replica_id, pack = self.range_id, self.replica_id, ENTRY_RECORD.pack
        position = begin = queue.bytes
        for entry in entries:
            data = entry.data
            length = len(data) + 1
            parts.append(pack(length, ENTRY, range_id, replica_id, entry.index, entry.term, entry.kind))
            parts.append(data)
            terms.append(entry.term)
            spot.append(position << 32 | length)
            position += RECORD_BYTES + length
        queue.bytes = position
        queue.count += len(entries)
        self._cache_new_bytes += position - begin
        self._touch()

    def _cut(self, first: int) -> None:
        """Forget the entries from `first` on."""
        if first <= self.truncation[0]:
            raise InternalError(f"range {self.range_id}: entry {first} is below the truncation point")
        offset = first - self._start
        del self._terms[offset:], self._spot[offset:], self._at[offset:]
        if first >= self._cache_first:
            del self._cache[first - self._cache_first :]
        else:
            self._cache.clear()
            self._cache_first = first

    def set_hard_state(self, term: int, vote: int, commit: int) -> None:
        """Remember the hard state. A new term or vote is queued; a commit index alone goes with the replica's next
        flush (it is a hint: at open the commit index is at least the applied one)."""
        self._check_alive()
        if term != self.term_number or vote != self.vote:
            self.term_number = term
            self.vote = vote
            self._touch()
        self.commit = commit

    def truncate(self, index: int, term: int) -> None:
        """Queue the removal of all entries up to `index`; the engine is durable there (rule P3). Lower: no effect."""
        self._check_alive()
        if index <= self.truncation[0]:
            return
        if self.term(index) != term or index > self.last_index():
            raise InternalError(
                f"range {self.range_id}: truncation to {index} of term {term}, which is not in the log"
            )
        self._drop_prefix(index)
        self._set_truncation(TRUNCATE, index, term)

    def reset(self, index: int, term: int) -> None:
        """Queue the replacement of the whole log by the truncation point (index, term): a snapshot is in the engine,
        durably (rule P4), or a replica begins there (rule P5). The hard state stays."""
        self._check_alive()
        del self._terms[:], self._spot[:], self._at[:]
        self._cache.clear()
        self._start = self._cache_first = index + 1
        self._set_truncation(RESET, index, term)

    def snapshot_intent(self, index: int, term: int) -> None:
        """Queue the note that a snapshot at (index, term) is about to replace data and log (rule P4)."""
        self._check_alive()
        self.intent = (index, term)
        self._queue.add(RECORD.pack(0, INTENT, self.range_id, self.replica_id, index, term))
        self._intent_segment = QUEUED
        self._touch()

    def tombstone(self, replica_id: int) -> None:
        """Queue the end of all replicas of the range with this id or a lower one."""
        self._owner.bury(self.range_id, replica_id)

    # ---- for RaftLog

    def _check_alive(self) -> None:
        if self.dead:
            raise InternalError(f"range {self.range_id}: replica {self.replica_id} has a tombstone")

    def _touch(self) -> None:
        self.exists = True
        self._queue.dirty[self] = None

    def _set_truncation(self, kind: int, index: int, term: int) -> None:
        self.truncation = (index, term)
        self.truncation_known = True
        if self.intent is not None and self.intent[0] <= index:
            self.intent = None
        self._queue.add(RECORD.pack(0, kind, self.range_id, self.replica_id, index, term))
        self._truncation_segment = QUEUED
        self._touch()

    def _drop_prefix(self, index: int) -> None:
        """Forget the entries up to `index`, which is in the log."""
        count = index + 1 - self._start
        del self._terms[:count], self._spot[:count], self._at[:count]
        self._start = index + 1
        if self._cache_first <= index:
            del self._cache[: index + 1 - self._cache_first]
            self._cache_first = index + 1

    def place(self, at: int) -> int:
        """A flush at `at` takes everything queued: queue the hard state if it changed and place the new entries.
        Returns the bytes of newly cached entries."""
        if (self.term_number, self.vote, self.commit) != self._hard_written:
            self._write_hard_state()
        segment = at >> 32
        if self._hard_segment == QUEUED:
            self._hard_segment = segment
        if self._truncation_segment == QUEUED:
            self._truncation_segment = segment
        if self._intent_segment == QUEUED:
            self._intent_segment = segment
        count = len(self._terms) - len(self._at)
        if count:
            self._at.extend(array("Q", [at]) * count)
        new_bytes = self._cache_new_bytes
        self._cache_new_bytes = 0
        return new_bytes

    def _write_hard_state(self) -> None:
        self._hard_written = (self.term_number, self.vote, self.commit)
        self._hard_segment = QUEUED
        record = RECORD.pack(
            VOTE.size, HARD_STATE, self.range_id, self.replica_id, self.commit, self.term_number
        )
        self._queue.add(record + VOTE.pack(self.vote))

    def evict(self, last: int) -> None:
        """Drop cached entries up to `last`; called when no flush is in flight, so that what is placed is durable."""
        count = min(last, self._start + len(self._at) - 1) + 1 - self._cache_first
        if count > 0:
            del self._cache[:count]
            self._cache_first += count

    def pinned_segment(self) -> int | None:
        """The oldest segment that holds an entry of this log."""
        return self._at[0] >> 32 if self._at else None

    def rewrite_entries(self) -> None:
        """Queue the whole log again, to release the segments it pins; it is cached until durable."""
        entries = self.entries(self._start, self.last_index() + 1)
        del self._terms[:], self._spot[:], self._at[:]
        self._cache = entries
        self._cache_first = self._start
        self._add(entries)

    def rewrite_state(self, below: int) -> None:
        """Queue again what segments under `below` hold as the latest of its sort (rule P2)."""
        if 0 < self._hard_segment < below:
            self._write_hard_state()
            self._touch()
        if 0 < self._truncation_segment < below:
            self._set_truncation(TRUNCATE, *self.truncation)
        if self.intent is not None and 0 < self._intent_segment < below:
            self.snapshot_intent(*self.intent)

    # ---- for recovery: records in the order they were written, the oldest perhaps missing

    def replay_entry(self, index: int, term: int, at: int, spot: int) -> None:
        """An entry record. What was dropped below the floor may leave any start, but no gap after it."""
        last = self._start + len(self._terms) - 1
        if not self._terms or index < self._start:
            del self._terms[:], self._spot[:], self._at[:]
            self._start = index
        elif index <= last:
            offset = index - self._start
            del self._terms[offset:], self._spot[offset:], self._at[offset:]
        elif index != last + 1:
            raise CorruptionError(f"the raft log of range {self.range_id} has entry {index} after {last}")
        self.exists = True
        self._terms.append(term)
        self._spot.append(spot)
        self._at.append(at)

    def replay_truncation(self, index: int, term: int, reset: bool, segment: int) -> None:
        """A truncation or reset record."""
        count = len(self._terms) if reset else max(0, index + 1 - self._start)
        del self._terms[:count], self._spot[:count], self._at[:count]
        if reset or index >= self._start:
            self._start = index + 1
        self.truncation = (index, term)
        self.truncation_known = self.exists = True
        self._truncation_segment = segment
        if self.intent is not None and self.intent[0] <= index:
            self.intent = None

    def replay_hard_state(self, term: int, vote: int, commit: int, segment: int) -> None:
        self.term_number, self.vote, self.commit = self._hard_written = (term, vote, commit)
        self._hard_segment = segment
        self.exists = True

    def replay_intent(self, index: int, term: int, segment: int) -> None:
        self.intent = (index, term)
        self._intent_segment = segment
        self.exists = True

    def finish_replay(self) -> None:
        """All records were replayed: what is left must be a log."""
        self._cache_first = self.last_index() + 1
        self.validate()

    def validate(self) -> None:
        """Raise `CorruptionError` where the invariants do not hold."""
        name = f"the raft log of range {self.range_id}"
        if self._start != self.truncation[0] + 1:
            raise CorruptionError(
                f"{name} begins at {self._start} above its truncation point {self.truncation[0]}"
            )
        if len(self._spot) != len(self._terms) or len(self._at) > len(self._terms):
            raise CorruptionError(f"{name} has {len(self._terms)} terms for {len(self._spot)} entries")
        if self._cache_first + len(self._cache) != self.last_index() + 1 or self._cache_first < self._start:
            raise CorruptionError(f"{name} caches from {self._cache_first}, not up to {self.last_index()}")
        if self._cache_first > self._start + len(self._at):
            raise CorruptionError(f"{name} does not cache its queued entries")
