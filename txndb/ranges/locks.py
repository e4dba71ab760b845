"""The lock table of one range: shared and exclusive point and span locks with wound-wait.

Rosenkrantz, Stearns, Lewis, "System Level Concurrency Control for Distributed Database Systems" (1978), §3 for
wound-wait; rules K1–K7, C3, S1, R1 and R4 of the transaction protocol bind it. In memory only, at the leaseholder; what
must survive a leader change is in prepare records, from which `adopt_prepared` rebuilds entries.

The idea: one `LockEntry` per attempt at this range, named by a token. A request asks for items; whatever conflicts is
either wounded (younger and not yet proposed) or waited for, in one queue ordered by age.

Invariants (checked by `validate`):
1. No two entries hold conflicting locks on overlapping keys.
2. An entry is in `entries` exactly while it holds a token; losing any lock involuntarily kills the whole entry (K1).
3. No waiter is granted past an older conflicting waiter (K3).
4. An entry that is proposed or prepared is never wounded (C3), and never waits (K2).
5. Every waiter conflicts with some older or unwoundable holder, or some older waiter.

It does not decide about timestamps, and it knows no time: the replica drives it, after every call it drains `wounded`
and `granted`.
"""

from __future__ import annotations

import enum
from bisect import insort
from collections.abc import Iterable, Iterator
from typing import Any

from sortedcontainers import SortedDict

from txndb.errors import InternalError, LimitError
from txndb.ids import RangeId, Timestamp, Token
from txndb.limits import LOCK_WAITERS_MAX
from txndb.ranges.api import TxnMeta
from txndb.ranges.lockitems import EXCLUSIVE, SHARED, Item, ItemSet, items_conflict

CAUSES_KEPT = 1024
REBUILD_POINTS_MIN = 1024

Age = tuple[int, bytes]


class EntryState(enum.IntEnum):
    """Where an attempt stands at this range; only ACTIVE entries can be wounded or dropped."""

    ACTIVE = 0
    PROPOSED = 1
    """A 1PC or prepare was proposed and has not applied (rule C3)."""
    PREPARED = 2
    COMMITTING = 3
    """Its writes are applied, commit wait is not over (rule T3)."""


class LockEntry:
    """One attempt's locks at this range."""

    __slots__ = ("age", "asked_us", "attempt", "bound", "points", "spans", "state", "token", "txn", "writes")

    def __init__(self, txn: TxnMeta, token: Token) -> None:
        self.txn = txn
        self.attempt = txn.attempt
        self.age: Age = (txn.age_ts, txn.age_id)
        self.token = token
        self.state = EntryState.ACTIVE
        self.bound = Timestamp(0)
        """b of a prepare or c of a 1PC: readers at s >= bound wait. Invariant: 0 while ACTIVE."""
        self.points: dict[bytes, int] = {}
        self.spans: list[tuple[bytes, bytes, int]] = []
        self.writes: frozenset[bytes] = frozenset()
        """The keys a proposed or prepared entry writes here."""
        self.asked_us = 0
        """When the gateway was last known to hold this attempt (monotonic)."""

    def __repr__(self) -> str:
        return f"<{self.attempt.hex()[-6:]} {self.state.name}>"

    def covers(self, start: bytes, end: bytes | None) -> bool:
        """Whether a lock of this entry (any mode) covers the point `start` or the whole span [start, end)."""
        if end is None:
            if start in self.points:
                return True
            return any(s <= start < e for s, e, _ in self.spans)
        return any(s <= start and end <= e for s, e, _ in self.spans)

    def holds_exclusive(self, key: bytes) -> bool:
        """Whether `key` is locked EXCLUSIVE by this entry."""
        if self.points.get(key) == EXCLUSIVE:
            return True
        return any(mode == EXCLUSIVE and s <= key < e for s, e, mode in self.spans)


class Waiter:
    """A parked request: what it wants, and the handle its driver knows it by."""

    __slots__ = ("_wanted", "due_us", "entry", "handle", "items", "order")

    def __init__(self, entry: LockEntry, items: list[Item], handle: Any, due_us: int = 0) -> None:
        self.entry = entry
        self.items = items
        self.handle = handle
        self.order = entry.age
        self.due_us = due_us
        """When the driver ends the wait (monotonic); 0: never."""
        self._wanted: ItemSet | None = None

    @property
    def wanted(self) -> ItemSet:
        """`items`, summarised once: most requests meet neither a span nor a waiter, and need no summary."""
        if self._wanted is None:
            self._wanted = ItemSet(self.items)
        return self._wanted

    def __lt__(self, other: Waiter) -> bool:
        return self.order < other.order


class PointLock:
    """Who holds one key: one exclusive holder or several shared ones."""

    __slots__ = ("exclusive", "shared")

    def __init__(self) -> None:
        self.exclusive: LockEntry | None = None
        self.shared: list[LockEntry] = []


class LockTable:
    """All lock entries of one range in one term of leadership."""

    def __init__(self, range_id: RangeId, term: int, canaries: frozenset[str] = frozenset()) -> None:
        self.range_id = range_id
        self.term = term
        self.entries: dict[bytes, LockEntry] = {}
        self.wounded: list[tuple[LockEntry, list[Waiter]]] = []
        """Killed involuntarily since last drained, each with the requests it had waiting."""
        self.causes: dict[bytes, tuple[bytes, bytes]] = {}
        """Of the last attempts wounded: over which key, and for whom; only for the words of their errors."""
        self.granted: list[Waiter] = []
        """Waiters granted since last drained."""
        self._points: SortedDict = SortedDict()
        self._spans: list[tuple[bytes, bytes, int, LockEntry]] = []
        self._waiters: list[Waiter] = []
        self._counter = 0
        self._canaries = canaries

    # -- entries -------------------------------------------------------------------------------------------

    def _new_token(self) -> Token:
        self._counter += 1
        return Token(
            self.range_id.to_bytes(8, "big") + self.term.to_bytes(8, "big") + self._counter.to_bytes(8, "big")
        )

    def open(self, txn: TxnMeta, token: bytes) -> LockEntry | None:
        """The entry a request names, created for an attempt's first request; None: wounded (K1)."""
        entry = self.entries.get(txn.attempt)
        if token:
            if entry is not None and entry.token == token:
                return entry
            if "K1" not in self._canaries:
                return None
        if entry is None:
            entry = self.entries[txn.attempt] = LockEntry(txn, self._new_token())
        return entry

    def find(self, attempt: bytes, token: bytes) -> LockEntry | None:
        """The entry with exactly this token; None: unknown, so wounded (K1)."""
        entry = self.entries.get(attempt)
        if entry is None or entry.token != token:
            return None
        return entry

    # -- acquiring -----------------------------------------------------------------------------------------

    def acquire(self, entry: LockEntry, items: list[Item], handle: Any, due_us: int = 0) -> bool:
        """Lock `items` for an ACTIVE entry: True if granted now, False if queued under `handle`, where it stays until
        `end_overdue` finds it over.

        Raises `LimitError` when too many requests wait.
        """
        if entry.state is not EntryState.ACTIVE:
            raise InternalError("a proposed or prepared transaction asked for a lock")  # K2
        missing = self._missing(entry, items)
        if not missing:
            return True
        wounded_before = len(self.wounded)
        if len(self._waiters) >= LOCK_WAITERS_MAX:  # before anyone is wounded for a request that is refused
            raise LimitError(f"more than {LOCK_WAITERS_MAX} requests wait for locks of range {self.range_id}")
        request = Waiter(entry, missing, handle, due_us)
        blocked = self._settle_conflicts(request) or self._older_waits(request)
        if not blocked:
            self._grant(entry, missing)
        else:
            insort(self._waiters, request)
        if len(self.wounded) != wounded_before:
            self.pump()
        return not blocked

    def _older_waits(self, request: Waiter) -> bool:
        """Whether an older conflicting waiter must go first (K3)."""
        for waiter in self._waiters:
            if waiter.order >= request.order:
                return False
            if self._waits_conflict(waiter, request):
                return True
        return False

    def _waits_conflict(self, a: Waiter, b: Waiter) -> bool:
        if "K3" in self._canaries:
            return False
        return a.wanted.conflicts(b.wanted)

    def _settle_conflicts(self, request: Waiter, waited: bool = False) -> bool:
        """Wound every younger ACTIVE holder in the way (K3); whether any other holder remains. `waited`: the request is
        looked at again."""
        blocked = False
        may_wound = not waited or "K3" not in self._canaries
        entry = request.entry
        for holder, key in self._in_the_way(request):
            if holder is entry or self.entries.get(holder.attempt) is not holder:
                continue  # itself, or found twice (a span and a point) and wounded by the first
            if holder.state is EntryState.ACTIVE and entry.age < holder.age and may_wound:
                self.wound(holder, entry, key)
            else:
                blocked = True
        return blocked

    def _in_the_way(self, request: Waiter) -> Iterator[tuple[LockEntry, bytes]]:
        """Entries whose locks conflict with the request (the asker itself may be among them), in a stable order, and
        over which key. Held spans are walked once, not once for each of the thousands of items of a page."""
        for item in request.items:
            for holder in self._holders_of_points(item):
                yield holder, item[0]
        if not self._spans:
            return
        wanted = request.wanted
        low, high = wanted.low, wanted.high
        for s, e, m, holder in self._spans:  # a wound in between replaces the list
            if s < high and low < e:
                key = wanted.meets(s, e, m)
                if key is not None:
                    yield holder, key

    def _holders(self, item: Item) -> list[LockEntry]:
        """Entries whose locks conflict with `item` (the asker itself may be among them), in a stable order."""
        found = self._holders_of_points(item)
        for s, e, m, holder in self._spans:
            if items_conflict(item, (s, e, m)):
                found.append(holder)
        return found

    def _holders_of_points(self, item: Item) -> list[LockEntry]:
        start, end, mode = item
        found: list[LockEntry] = []
        if end is None:
            lock = self._points.get(start)
            if lock is not None:
                self._point_holders(lock, mode, found)
            return found
        for key in self._points.irange(start, end, inclusive=(True, False)):
            self._point_holders(self._points[key], mode, found)
        return found

    @staticmethod
    def _point_holders(lock: PointLock, mode: int, found: list[LockEntry]) -> None:
        if lock.exclusive is not None:
            found.append(lock.exclusive)
        if mode == EXCLUSIVE:
            found.extend(lock.shared)

    @staticmethod
    def _missing(entry: LockEntry, items: list[Item]) -> list[Item]:
        """The items that no lock of the entry covers yet."""
        points = entry.points
        # Scans lock spans shared and rows exclusive: none of the many spans of a long transaction covers a row.
        exclusive = [span for span in entry.spans if span[2] == EXCLUSIVE]
        missing: list[Item] = []
        for item in items:
            start, end, mode = item
            spans = exclusive if mode == EXCLUSIVE else entry.spans
            if end is not None:
                held = any(s <= start and end <= e for s, e, _ in spans)
            else:
                held = points.get(start, 0) >= mode or any(s <= start < e for s, e, _ in spans)
            if not held:
                missing.append(item)
        return missing

    def _grant(self, entry: LockEntry, items: Iterable[Item]) -> None:
        points = entry.points
        for start, end, mode in items:
            if end is not None:
                entry.spans.append((start, end, mode))
                self._spans.append((start, end, mode, entry))
                continue
            held = points.get(start, 0)
            if held >= mode:
                continue
            lock = self._points.get(start)
            if lock is None:
                lock = self._points[start] = PointLock()
            if mode == EXCLUSIVE:
                if held == SHARED:
                    lock.shared.remove(entry)
                lock.exclusive = entry
            else:
                lock.shared.append(entry)
            points[start] = mode

    # -- letting go ----------------------------------------------------------------------------------------

    def release(self, entry: LockEntry) -> None:
        """Drop an entry with all its locks, by its owner's wish or at its end; grants who can go on."""
        if self.entries.get(entry.attempt) is not entry:
            return
        self._remove(entry)
        self.pump()

    def wound(self, entry: LockEntry, winner: LockEntry, key: bytes) -> None:
        """Kill an ACTIVE entry for `winner`, who wants `key` (K1, K3); its waiting requests are reported in `wounded`.
        The caller pumps."""
        if entry.state is not EntryState.ACTIVE:
            raise InternalError("a proposed or prepared transaction cannot be wounded")  # C3
        waiters = self.waiters_of(entry)
        self._remove(entry)
        self.causes[entry.attempt] = (key, winner.attempt)
        if len(self.causes) > CAUSES_KEPT:
            del self.causes[next(iter(self.causes))]
        self.wounded.append((entry, waiters))

    def _remove(self, entry: LockEntry) -> None:
        del self.entries[entry.attempt]
        if self._waiters:
            self._waiters = [w for w in self._waiters if w.entry is not entry]
        free: list[bytes] = []
        for key, mode in entry.points.items():
            lock = self._points[key]
            if mode == EXCLUSIVE:
                lock.exclusive = None
            else:
                lock.shared.remove(entry)
            if lock.exclusive is None and not lock.shared:
                free.append(key)
        self._forget(free)
        if entry.spans:
            self._spans = [held for held in self._spans if held[3] is not entry]
        entry.points = {}
        entry.spans = []

    def _forget(self, free: list[bytes]) -> None:
        """Drop points that nobody holds. One by one a bulk load's 300,000 took a second, and its leader the lease."""
        if len(free) < REBUILD_POINTS_MIN or 2 * len(free) < len(self._points):
            for key in free:
                del self._points[key]
            return
        held = dict(self._points)
        for key in free:
            del held[key]
        self._points = SortedDict(held)

    def reactivate(self, entry: LockEntry) -> None:
        """What was proposed for an entry certainly did not happen (R5): it may be wounded again, by who waits (K3)."""
        entry.state, entry.bound, entry.writes = EntryState.ACTIVE, Timestamp(0), frozenset()
        self.pump()

    def cancel_wait(self, entry: LockEntry) -> None:
        """Withdraw an entry's waiting requests; its locks stay."""
        self._waiters = [w for w in self._waiters if w.entry is not entry]
        self.pump()

    def end_overdue(self, now_us: int) -> tuple[list[Waiter], int]:
        """Withdraw the waiters whose time is over; they, and when the next is due (0: none). An entry that holds
        nothing and waits for nothing goes with its last waiter."""
        over = [w for w in self._waiters if w.due_us and w.due_us <= now_us]
        if over:
            self._waiters = [w for w in self._waiters if not (w.due_us and w.due_us <= now_us)]
            for waiter in over:
                entry = waiter.entry
                if not (entry.points or entry.spans or self.waiters_of(entry)):
                    if self.entries.get(entry.attempt) is entry:  # not if it went with another of its waiters
                        self._remove(entry)
            self.pump()
        return over, min((w.due_us for w in self._waiters if w.due_us), default=0)

    def blocker(self, waiter: Waiter) -> LockEntry | None:
        """Who holds what a waiter wants, for the words of its error."""
        for item in waiter.items:
            for holder in self._holders(item):
                if holder is not waiter.entry:
                    return holder
        return None

    def pump(self) -> None:
        """Grant waiters in order of age, wounding anew (K3: wounding is re-evaluated at every grant)."""
        if not self._waiters:
            return
        again = True
        while again:
            again = False
            passed: list[Waiter] = []
            for waiter in self._waiters:
                before = len(self.wounded)
                blocked = self._settle_conflicts(waiter, waited=True) or any(
                    older.entry is not waiter.entry and self._waits_conflict(older, waiter)
                    for older in passed
                )
                if not blocked:
                    self._take(waiter)
                if not blocked or len(self.wounded) != before:
                    again = True  # the queue changed under the loop: start over
                    break
                passed.append(waiter)

    def _take(self, waiter: Waiter) -> None:
        self._waiters.remove(waiter)
        self._grant(waiter.entry, waiter.items)
        self.granted.append(waiter)

    # -- what readers and recovery ask ---------------------------------------------------------------------

    def committing(self, start: bytes, end: bytes | None, at: Timestamp) -> LockEntry | None:
        """An entry that is committing at or below `at` on a key of the point or span: a snapshot waits (S1)."""
        if end is None:
            lock = self._points.get(start)
            if lock is not None:
                holder = lock.exclusive
                if holder is not None and holder.state is not EntryState.ACTIVE and holder.bound <= at:
                    return holder  # type: ignore[no-any-return]
        else:
            for key in self._points.irange(start, end, inclusive=(True, False)):
                holder = self._points[key].exclusive
                if holder is not None and holder.state is not EntryState.ACTIVE and holder.bound <= at:
                    return holder  # type: ignore[no-any-return]
        for s, e, m, entry in self._spans:
            if m == EXCLUSIVE and entry.state is not EntryState.ACTIVE and entry.bound <= at:
                if (s <= start < e) if end is None else (s < end and start < e):
                    return entry
        return None

    def adopt_prepared(self, txn: TxnMeta, bound: Timestamp, writes: Iterable[bytes]) -> LockEntry:
        """Rebuild the entry of a prepare record: exclusive on its writes (L1); its reads are not locked."""
        entry = LockEntry(txn, self._new_token())
        entry.state = EntryState.PREPARED
        entry.bound = bound
        keys = sorted(writes)
        entry.writes = frozenset(keys)
        self.entries[entry.attempt] = entry
        self._grant(entry, [(key, None, EXCLUSIVE) for key in keys])
        return entry

    def waiters(self) -> Iterator[Waiter]:
        """Everyone who waits, oldest first."""
        return iter(tuple(self._waiters))

    def waiters_of(self, entry: LockEntry) -> list[Waiter]:
        """The requests of one entry that wait."""
        if not self._waiters:
            return []
        return [w for w in self._waiters if w.entry is entry]

    # -- splits --------------------------------------------------------------------------------------------

    def split(self, cut: bytes) -> list[LockEntry]:
        """Clip every entry at `cut`; the clipped right parts are returned as entries under the same token (R1).

        A prepared entry of which a half holds no write becomes an ACTIVE reader there (R4); of one that committed
        already such a half needs no lock any more: `max_applied_ts` of both halves is above its reads. Waiters touch
        the left only (the caller has answered the others), so they stay; who was made a reader may be wounded now.
        """
        right: list[LockEntry] = []
        waiters = self._waiters
        for entry in list(self.entries.values()):
            twin = LockEntry(entry.txn, entry.token)
            twin.state, twin.bound, twin.asked_us = entry.state, entry.bound, entry.asked_us
            left_items: list[Item] = [(k, None, m) for k, m in entry.points.items() if k < cut]
            twin.points = {k: m for k, m in entry.points.items() if k >= cut}
            for s, e, m in entry.spans:
                if s < cut:
                    left_items.append((s, min(e, cut), m))
                if e > cut:
                    twin.spans.append((max(s, cut), e, m))
            twin.writes = frozenset(k for k in sorted(entry.writes) if k >= cut)
            has_right = bool(twin.points or twin.spans)
            self._remove(entry)
            entry.writes = frozenset(k for k in sorted(entry.writes) if k < cut)
            waits = any(w.entry is entry for w in waiters)
            if (left_items or waits or not has_right) and self._outlives_split(entry):
                self.entries[entry.attempt] = entry
                self._grant(entry, left_items)
            if has_right and self._outlives_split(twin):
                right.append(twin)
        self._waiters = waiters
        self.pump()
        return right

    def _outlives_split(self, half: LockEntry) -> bool:
        """R4: a half without a write is an unprepared reader, or, where it committed, nothing."""
        if half.state is EntryState.ACTIVE or half.writes or "R4" in self._canaries:
            return True
        if half.state is EntryState.COMMITTING:
            return False
        half.state, half.bound = EntryState.ACTIVE, Timestamp(0)
        return True

    def adopt(self, entry: LockEntry) -> None:
        """Take over an entry handed from another table of the same node under its token (R1)."""
        items: list[Item] = [(k, None, m) for k, m in entry.points.items()]
        items += [(s, e, m) for s, e, m in entry.spans]
        entry.points, entry.spans = {}, []
        self.entries[entry.attempt] = entry
        self._grant(entry, items)

    # -- invariants ----------------------------------------------------------------------------------------

    @staticmethod
    def _blocks(holder: LockEntry, waiter: Waiter) -> bool:
        if holder is waiter.entry:
            return False
        return holder.state is not EntryState.ACTIVE or holder.age <= waiter.order

    def validate(self) -> None:
        """Raise `InternalError` if an invariant of the module docstring does not hold."""
        held: list[tuple[Item, LockEntry]] = []
        for entry in self.entries.values():
            held += [((k, None, m), entry) for k, m in entry.points.items()]
            held += [((s, e, m), entry) for s, e, m in entry.spans]
            if entry.state is not EntryState.ACTIVE and self.waiters_of(entry):
                raise InternalError(f"invariant 4: {entry} waits")
            if entry.state is EntryState.ACTIVE and entry.bound:
                raise InternalError(f"{entry} is active with a bound")
        for i, (item, entry) in enumerate(held):
            for other_item, other in held[i + 1 :]:
                if other is not entry and items_conflict(item, other_item):
                    raise InternalError(f"invariant 1: {entry} and {other} conflict")
        older: list[Waiter] = []
        for waiter in self._waiters:
            if self.entries.get(waiter.entry.attempt) is not waiter.entry:
                raise InternalError("invariant 2: a waiter without an entry")
            blocked = any(
                self._blocks(h, waiter) for item in waiter.items for h in self._holders(item)
            ) or any(o.entry is not waiter.entry and self._waits_conflict(o, waiter) for o in older)
            if not blocked:
                raise InternalError(f"invariant 5: {waiter.entry} waits for nobody")
            older.append(waiter)
        for key, lock in self._points.items():
            for holder in ([lock.exclusive] if lock.exclusive is not None else []) + lock.shared:
                if key not in holder.points or self.entries.get(holder.attempt) is not holder:
                    raise InternalError(f"invariant 2: a lock on {key.hex()} has no entry")
