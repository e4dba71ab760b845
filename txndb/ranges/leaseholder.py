"""The leaseholder's side of a range: what a leader with a valid lease answers, for one term.

A pure step machine: requests, applied effects and the passing of time in; answers, proposals and timers out. Rules L1,
L2, C2, C3, K1–K5, M1–M7, S1, R1–R4 and T2–T6 of the transaction protocol are implemented here, each named where it is.

The idea: a request is either answered at once, or parked with the reason it waits for, and dispatched again *from its
beginning* when the reason is gone; so every check is made anew after every wait (L2), and there is one path to reason
about. Whatever is proposed is remembered by log index until it has applied.

Invariants (checked by `validate`):
1. Nothing is answered from the state before `serving`, nor without a valid lease checked after the last effect (L2).
2. `read_ts` never falls; every bound fixed here is above it and above `max_applied_ts` when it is fixed (M3).
3. An entry is PROPOSED exactly while a proposal names it (C3).
4. A parked request is parked in one place.

It does not replicate, read clocks of its own, or reach the network. Driven by `txndb.ranges.replica`, one instance per
term of leadership.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Protocol

from txndb.clock import Clock
from txndb.errors import InternalError, TxndbError
from txndb.ids import AttemptId, NodeId, Timestamp
from txndb.limits import SCAN_PAGE_BYTES_MAX, SCAN_PAGE_ROWS_MAX
from txndb.ranges import api
from txndb.ranges.command import (
    AbortCommand,
    Command,
    DecideCommand,
    ForgetCommand,
    OnePhaseCommand,
    PrepareCommand,
    ResolveCommand,
    SplitCommand,
)
from txndb.ranges.descriptor import RangeDescriptor, make_replica_id, node_of
from txndb.ranges.locks import EntryState, Item, LockEntry, LockTable
from txndb.ranges.state import Effect, PrepareRecord, RangeState, Verdict
from txndb.storage import mvcc

NEWEST = Timestamp((1 << 63) - 1)

Handle = Any
"""Whom to answer; opaque to this module."""

Parked = tuple[Handle, api.Request]


class Host(Protocol):
    """What a leaseholder needs of its replica."""

    def propose(self, command: Command) -> int:
        """Append to the log; the entry's index. Raises a `TxndbError` if this is no leader (any more)."""

    def lease_valid(self) -> bool:
        """Whether the leader lease holds now, by a fresh clock (L2)."""

    def answer(self, handle: Handle, response: api.Response) -> None:
        """Send an answer."""

    def wound_notice(self, entry: LockEntry) -> None:
        """Tell the entry's gateway that it lost."""

    def wake_in(self, delay_us: int) -> None:
        """Call `on_time` again in about this long."""

    def leader_hint(self) -> int:
        """The replica id of the leader as far as known, 0 if unknown."""


class Proposal:
    """What was proposed at one log index, and who waits for it."""

    __slots__ = ("attempt", "command", "entry", "handles")

    def __init__(self, command: Command, attempt: AttemptId, entry: LockEntry | None) -> None:
        self.command = command
        self.attempt = attempt
        self.entry = entry
        self.handles: list[Handle] = []


class Handover:
    """What survives on the same node from the left half of a split, for exactly one term (rules R1, L4)."""

    __slots__ = ("entries", "read_ts", "term")

    def __init__(self, term: int, read_ts: Timestamp, entries: list[LockEntry]) -> None:
        self.term = term
        self.read_ts = read_ts
        self.entries = entries


class Leaseholder:
    """One term of leadership of one range."""

    def __init__(
        self,
        host: Host,
        state: RangeState,
        clock: Clock,
        term: int,
        compile_program: Callable[[bytes], Callable[[bytes], bool]],
        canaries: frozenset[str],
    ) -> None:
        self.host = host
        self.state = state
        self.clock = clock
        self.term = term
        self.locks = LockTable(state.range_id, term, canaries)
        self.read_ts = Timestamp(0)
        self.serving = False
        self.frozen = False
        """Leadership is being handed over: nothing is served any more in this term (L4)."""
        self._compile = compile_program
        self._canaries = canaries
        self._proposals: dict[int, Proposal] = {}
        self._by_attempt: dict[bytes, Proposal] = {}
        self._split: Proposal | None = None
        self._until_serving: list[Parked] = []
        self._until_split: list[Parked] = []
        self._until_finished: dict[bytes, list[Parked]] = {}
        self._delayed: list[tuple[int, int, Parked]] = []
        self._delay_order = 0
        self._commit_waits: list[tuple[Timestamp, LockEntry | None, list[Handle], api.Response]] = []
        self._handlers: dict[type, Callable[[Any, Handle], api.Response | None]] = {
            api.Get: self._on_get,
            api.Scan: self._on_scan,
            api.SnapshotGet: self._on_snapshot_get,
            api.SnapshotScan: self._on_snapshot_scan,
            api.OnePhase: self._on_one_phase,
            api.Prepare: self._on_prepare,
            api.Validate: self._on_validate,
            api.Decide: self._on_decide,
            api.Resolve: self._on_resolve,
            api.Recover: self._on_recover,
            api.Forget: self._on_forget,
            api.Release: self._on_release,
            api.SplitAt: self._on_split_at,
            api.Describe: self._on_describe,
            api.Check: self._on_check,
        }

    # -- beginning and end of a term -----------------------------------------------------------------------

    def maybe_serve(self, handover: Handover | None) -> bool:
        """L1: called once the term's own no-op has applied, and again by `on_time`, until serving."""
        if self.serving:
            return True
        wait_us = self.clock.wait_us_until_past(self.state.max_applied_ts)
        if wait_us > 0 and "L1" not in self._canaries:
            self.host.wake_in(wait_us)
            return False
        handed = {e.attempt: e for e in handover.entries} if handover is not None else {}
        for attempt, record in self.state.prepares.items():
            if attempt not in handed and "L1-locks" not in self._canaries:
                self._adopt_record(record)
        if handover is not None:
            self.read_ts = handover.read_ts
            for entry in handover.entries:
                self._adopt_handed(entry)
        else:
            self.read_ts = Timestamp(self.clock.latest() + (2 * self.clock.error_bound_us << 12))
            if "L1" in self._canaries:
                self.read_ts = Timestamp(0)
        self.serving = True
        self._redispatch(self._take(self._until_serving))
        return True

    def _adopt_record(self, record: PrepareRecord) -> None:
        self.locks.adopt_prepared(record.txn, record.bound, [key for key, _ in record.writes])

    def _adopt_handed(self, entry: LockEntry) -> None:
        """R1: the same token on the same node; a proposed entry without a record died with its proposal."""
        if entry.state is EntryState.PREPARED and entry.attempt not in self.state.prepares:
            return
        if entry.state is EntryState.PROPOSED:
            return
        self.locks.adopt(entry)
        if entry.state is EntryState.COMMITTING:
            self._after_commit_wait(entry.bound, entry, [], api.Ok())

    def stop(self) -> None:
        """The term is over: everyone is answered (L4); what was proposed may yet commit."""
        self.serving = False
        no = api.NotLeaseholder(self.state.range_id, self.host.leader_hint())  # type: ignore[arg-type]
        unknown = api.NotLeaseholder(self.state.range_id, self.host.leader_hint(), True)  # type: ignore[arg-type]
        for handle, _ in self._parked():
            self.host.answer(handle, no)
        for waiter in self.locks.waiters():
            self.host.answer(waiter.handle[0], no)
        for proposal in self._proposals.values():
            for handle in proposal.handles:
                self.host.answer(handle, unknown)
        for _, _, handles, _ in self._commit_waits:
            for handle in handles:
                self.host.answer(handle, unknown)
        self._until_serving, self._until_split, self._delayed, self._commit_waits = [], [], [], []
        self._until_finished, self._proposals, self._by_attempt = {}, {}, {}

    def _parked(self) -> list[Parked]:
        found = self._until_serving + self._until_split + [parked for _, _, parked in self._delayed]
        for waiting in self._until_finished.values():
            found += waiting
        return found

    # -- requests ------------------------------------------------------------------------------------------

    def handle(self, request: api.Request, handle: Handle) -> api.Response | None:
        """Answer a request now, or park it and return None; then `Host.answer` follows."""
        if self.frozen:
            return api.NotLeaseholder(self.state.range_id, self.host.leader_hint())  # type: ignore[arg-type]
        if not self.serving:
            self._until_serving.append((handle, request))
            return None
        try:
            response = self._handlers[type(request)](request, handle)
        except TxndbError as error:
            response = api.Refused(error.code, error.message, error.detail)
        if self.locks.wounded or self.locks.granted:
            self._drain_locks()
        if response is None:
            return None
        if not self.host.lease_valid() and "L2" not in self._canaries:
            # L2: checked after the last effect. The lease may come back by an acknowledgement under way; if not, the
            # leader steps down and everyone parked is answered.
            self._until_serving.append((handle, request))
            return None
        return response

    def on_lease(self) -> None:
        """The lease was renewed: those parked without one are dispatched again."""
        if self.serving and self._until_serving and self.host.lease_valid():
            self._redispatch(self._take(self._until_serving))

    def on_time(self) -> None:
        """Time passed: commit waits that are over finish, delayed requests are dispatched again."""
        if not self.serving:
            return
        if self._commit_waits:
            due = [w for w in self._commit_waits if not self.clock.wait_us_until_past(w[0])]
            self._commit_waits = [w for w in self._commit_waits if self.clock.wait_us_until_past(w[0])]
            for _, entry, handles, response in due:
                self._finish(entry, handles, response)
        now = self.clock.source.wall_us()
        ready: list[Parked] = []
        while self._delayed and self._delayed[0][0] <= now:
            ready.append(heapq.heappop(self._delayed)[2])
        self._redispatch(ready)

    def _redispatch(self, parked: list[Parked]) -> None:
        for handle, request in parked:
            response = self.handle(request, handle)
            if response is not None:
                self.host.answer(handle, response)

    @staticmethod
    def _take(parked: list[Parked]) -> list[Parked]:
        taken = parked[:]
        parked.clear()
        return taken

    def _delay(self, delay_us: int, handle: Handle, request: api.Request) -> None:
        self._delay_order += 1
        due = self.clock.source.wall_us() + delay_us
        heapq.heappush(self._delayed, (due, self._delay_order, (handle, request)))
        self.host.wake_in(delay_us)

    def _drain_locks(self) -> None:
        locks = self.locks
        while locks.wounded or locks.granted:
            wounded, locks.wounded = locks.wounded, []
            granted, locks.granted = locks.granted, []
            for entry, waiters in wounded:
                for waiter in waiters:
                    self.host.answer(waiter.handle[0], api.Wounded("an older transaction needs its locks"))
                self.host.wound_notice(entry)
            self._redispatch([waiter.handle for waiter in granted])

    def _moved(self, keys: list[bytes]) -> api.Moved | None:
        """R3: everything named must be inside, and left of a cut that is being made (R1)."""
        descriptor = self.state.descriptor
        for key in keys:
            if not descriptor.start <= key < descriptor.end:
                return api.Moved([descriptor])
        if self._split is not None and "R1" not in self._canaries:
            cut = self._split.command.cut  # type: ignore[union-attr]
            if any(key >= cut for key in keys):
                return api.Moved([])
        return None

    def _moved_span(self, start: bytes, end: bytes) -> api.Moved | None:
        descriptor = self.state.descriptor
        if not (descriptor.start <= start and end <= descriptor.end):
            return api.Moved([descriptor])
        if self._split is not None and end > self._split.command.cut and "R1" not in self._canaries:  # type: ignore[union-attr]
            return api.Moved([])
        return None

    # -- reads ---------------------------------------------------------------------------------------------

    def _on_get(self, request: api.Get, handle: Handle) -> api.Response | None:
        moved = self._moved(request.keys)
        if moved is not None:
            return moved
        entry = self._open(request.txn, request.token)
        if entry is None:
            return api.Wounded("its locks were lost", request.keys[0])
        items: list[Item] = [(key, None, request.mode) for key in request.keys]
        if not self.locks.acquire(entry, items, (handle, request)):
            return None
        newest = 0
        values: list[bytes | None] = []
        for key in request.keys:
            value, version = mvcc.get(self.state.engine, key, NEWEST)
            newest = max(newest, version)
            values.append(value)
        return api.Values(entry.token, values if request.want_values else [], Timestamp(newest))

    def _open(self, txn: api.TxnMeta, token: bytes) -> LockEntry | None:
        entry = self.locks.open(txn, token)  # type: ignore[arg-type]
        if entry is None or entry.state is not EntryState.ACTIVE:
            return None
        if not entry.asked_us:
            entry.asked_us = self.clock.source.monotonic_us()
        return entry

    def _on_scan(self, request: api.Scan, handle: Handle) -> api.Response | None:
        moved = self._moved_span(request.start, request.end)
        if moved is not None:
            return moved
        entry = self._open(request.txn, request.token)
        if entry is None:
            return api.Wounded("its locks were lost", request.start)
        page = self._page(request, NEWEST)
        # The page is read first, so that only what it covers is locked; granted within this step, it still holds.
        start, end = request.start, request.end
        if page.resume:
            start, end = (page.resume, end) if request.reverse else (start, page.resume)
        items: list[Item] = [(start, end, 1)]
        if request.mode == 2:
            items += [(key, None, 2) for key, _ in page.rows]
        if not self.locks.acquire(entry, items, (handle, request)):
            return None
        return api.Rows(entry.token, page.rows, page.newest, page.resume)

    def _page(self, request: api.Scan | api.SnapshotScan, at: Timestamp) -> api.Rows:
        matches = self._compile(request.program) if request.program else None
        predicate = None if matches is None else (lambda _, value: matches(value))
        limit = min(request.limit or SCAN_PAGE_ROWS_MAX, SCAN_PAGE_ROWS_MAX)
        page = mvcc.scan(
            self.state.engine,
            request.start,
            request.end,
            at,
            limit=limit,
            bytes_max=SCAN_PAGE_BYTES_MAX,
            reverse=request.reverse,
            predicate=predicate,
        )
        return api.Rows(b"", page.rows, Timestamp(page.max_version_ts), page.resume_key or b"")

    def _before_snapshot(self, request: Any, handle: Handle) -> api.Response | bool:
        """T2, GC threshold, `read_ts`: True when the snapshot may look at its keys now."""
        at = request.at
        wait_us = self.clock.wait_us_until_allowed(at)
        if wait_us > 0 and "T2" not in self._canaries:
            self._delay(wait_us, handle, request)
            return False
        if at < self.state.gc_threshold:
            return api.Refused("72000", "snapshot too old: the versions it needs may be collected already")
        if at > self.read_ts and "S1" not in self._canaries:
            self.read_ts = at
        return True

    def _on_snapshot_get(self, request: api.SnapshotGet, handle: Handle) -> api.Response | None:
        moved = self._moved(request.keys)
        if moved is not None:
            return moved
        ready = self._before_snapshot(request, handle)
        if ready is not True:
            return ready or None
        at = request.at
        committing = self.locks.committing
        for key in request.keys:
            entry = committing(key, None, at)
            if entry is not None and "S1" not in self._canaries:
                self._until_finished.setdefault(entry.attempt, []).append((handle, request))
                return None
        engine = self.state.engine
        return api.Values(b"", [mvcc.get(engine, key, at)[0] for key in request.keys], Timestamp(0))

    def _on_snapshot_scan(self, request: api.SnapshotScan, handle: Handle) -> api.Response | None:
        moved = self._moved_span(request.start, request.end)
        if moved is not None:
            return moved
        ready = self._before_snapshot(request, handle)
        if ready is not True:
            return ready or None
        entry = self.locks.committing(request.start, request.end, request.at)
        if entry is not None and "S1" not in self._canaries:
            self._until_finished.setdefault(entry.attempt, []).append((handle, request))
            return None
        return self._page(request, request.at)

    # -- commit --------------------------------------------------------------------------------------------

    def _known_outcome(self, attempt: AttemptId, anchor: bytes, handle: Handle) -> api.Response | bool:
        """C2: outcome first, then in-flight. True: neither; False: parked."""
        if not self.state.descriptor.contains(anchor):
            return True
        record = self.state.outcome(attempt, anchor)
        if record is not None and "C2" not in self._canaries:
            answer = api.Outcome(record.status, record.at, record.participants)
            if self.clock.wait_us_until_past(record.at) and "T3" not in self._canaries:
                self._after_commit_wait(record.at, None, [handle], answer)  # T3: the answer makes it visible
                return False
            return answer
        proposal = self._by_attempt.get(attempt)
        if proposal is not None and isinstance(
            proposal.command, OnePhaseCommand | DecideCommand | AbortCommand
        ):
            proposal.handles.append(handle)
            return False
        return True

    def _bound(self, candidate: Timestamp) -> Timestamp:
        """M3, T5: above the candidate's floor, every read here and every version here."""
        if "T5" in self._canaries:
            return max(candidate, Timestamp(self.read_ts + 1))
        if "M3" in self._canaries:
            return candidate
        return Timestamp(max(candidate, self.read_ts + 1, self.state.max_applied_ts + 1))

    def _covered(self, entry: LockEntry, locks: list[api.Span], writes: list[api.Write]) -> bool:
        """R3, K2: the token covers every span read, and every key to be written is locked exclusively."""
        if "R3" in self._canaries:
            return True
        for start, end in locks:
            if not entry.covers(start, end):
                return False
        return all(entry.holds_exclusive(key) for key, _ in writes)

    def _commit_checks(
        self, request: api.OnePhase | api.Prepare, handle: Handle
    ) -> tuple[LockEntry, Timestamp] | api.Response | None:
        """What 1PC and prepare share: R3, C2, K1, split in the making, bound and T2; the entry and its bound."""
        keys = [key for key, _ in request.writes] + [start for start, _ in request.locks]
        moved = self._moved(keys)
        for start, end in request.locks:
            if moved is None and end is not None:
                moved = self._moved_span(start, end)
        if moved is not None:
            return moved
        entry = self.locks.find(request.txn.attempt, request.token)
        if entry is None:
            return api.Wounded("its locks were lost", request.anchor)
        if entry.state is not EntryState.ACTIVE:
            proposal = self._by_attempt.get(entry.attempt)
            if proposal is not None:
                proposal.handles.append(handle)
            else:
                self._until_finished.setdefault(entry.attempt, []).append((handle, request))
            return None
        if not self._covered(entry, request.locks, request.writes):
            return api.Wounded("its locks do not cover what it commits", request.anchor)
        if self._split is not None and "R1" not in self._canaries:
            self._until_split.append((handle, request))
            return None
        bound = self._bound(request.candidate)
        wait_us = self.clock.wait_us_until_allowed(bound)
        if wait_us > 0 and "T2" not in self._canaries:
            self._delay(wait_us, handle, request)
            return None
        return entry, bound

    def _on_one_phase(self, request: api.OnePhase, handle: Handle) -> api.Response | None:
        known = self._known_outcome(request.txn.attempt, request.anchor, handle)
        if known is not True:
            return known or None
        checked = self._commit_checks(request, handle)
        if not isinstance(checked, tuple):
            return checked
        entry, bound = checked
        if request.not_before > bound:
            bound = request.not_before
        if bound > request.not_after:  # D1: the catalogue lease does not reach the final c
            self._end_entry(entry)
            return api.Wounded("its catalogue lease ended before its commit timestamp", request.anchor)
        command = OnePhaseCommand(
            self.term,
            self.state.descriptor.generation,
            request.txn.attempt,
            bound,
            request.anchor,
            request.writes,
        )
        self._propose_entry(command, entry, bound, [key for key, _ in request.writes], handle)
        return None

    def _on_prepare(self, request: api.Prepare, handle: Handle) -> api.Response | None:
        known = self._known_outcome(request.txn.attempt, request.anchor, handle)
        if known is not True:
            return known or None
        record = self.state.prepares.get(request.txn.attempt)
        if record is not None:
            return api.Prepared(record.bound)
        checked = self._commit_checks(request, handle)
        if not isinstance(checked, tuple):
            return checked
        entry, bound = checked
        command = PrepareCommand(
            self.term,
            self.state.descriptor.generation,
            request.txn,
            bound,
            request.anchor,
            request.writes,
        )
        self._propose_entry(command, entry, bound, [key for key, _ in request.writes], handle)
        return None

    def _propose_entry(
        self, command: Command, entry: LockEntry, bound: Timestamp, keys: list[bytes], handle: Handle
    ) -> None:
        """C3: from here on the entry counts as prepared."""
        self._propose(command, entry.attempt, entry, handle)
        if "C3" not in self._canaries:
            entry.state = EntryState.PROPOSED
            entry.bound = bound
        entry.writes = frozenset(keys)

    def _propose(
        self, command: Command, attempt: AttemptId, entry: LockEntry | None, handle: Handle | None
    ) -> Proposal:
        index = self.host.propose(command)
        proposal = Proposal(command, attempt, entry)
        if handle is not None:
            proposal.handles.append(handle)
        self._proposals[index] = proposal
        self._by_attempt[attempt] = proposal
        return proposal

    def _on_validate(self, request: api.Validate, handle: Handle) -> api.Response | None:
        moved = self._moved([start for start, _ in request.locks])
        for start, end in request.locks:
            if moved is None and end is not None:
                moved = self._moved_span(start, end)
        if moved is not None:
            return moved
        entry = self.locks.find(request.txn.attempt, request.token)
        if entry is None or not self._covered(entry, request.locks, []):
            if "M4" not in self._canaries:
                return api.Wounded("its read locks were lost", request.locks[0][0])
        wait_us = self.clock.wait_us_until_allowed(request.at)
        if wait_us > 0 and "T2" not in self._canaries:
            self._delay(wait_us, handle, request)
            return None
        if request.at > self.read_ts and "M4" not in self._canaries:
            self.read_ts = request.at
        return api.Ok()

    def _on_decide(self, request: api.Decide, handle: Handle) -> api.Response | None:
        moved = self._moved([request.anchor])
        if moved is not None:
            return moved
        attempt = request.txn.attempt
        known = self._known_outcome(attempt, request.anchor, handle)
        if known is not True:
            return known or None
        if attempt not in self.state.prepares:
            return api.Wounded("its prepare record at the anchor is gone", request.anchor)
        if attempt in self._by_attempt:
            self._until_finished.setdefault(attempt, []).append((handle, request))
            return None
        wait_us = self.clock.wait_us_until_allowed(request.at)
        if wait_us > 0 and "T2" not in self._canaries:
            self._delay(wait_us, handle, request)
            return None
        command = DecideCommand(
            self.term,
            self.state.descriptor.generation,
            attempt,
            request.at,
            request.anchor,
            request.participants,
        )
        self._propose(command, attempt, self.locks.entries.get(attempt), handle)
        return None

    def _on_resolve(self, request: api.Resolve, handle: Handle) -> api.Response | None:
        descriptor = self.state.descriptor
        if not any(descriptor.contains(key) for key in request.keys):
            return api.Moved([descriptor])
        if self._split is not None:
            self._until_split.append((handle, request))
            return None
        attempt = request.attempt
        proposal = self._by_attempt.get(attempt)
        if proposal is not None:
            self._until_finished.setdefault(attempt, []).append((handle, request))
            return None
        entry = self.locks.entries.get(attempt)
        if attempt not in self.state.prepares:
            if entry is not None and entry.state is EntryState.COMMITTING:
                self._until_finished.setdefault(attempt, []).append((handle, request))
                return None
            if entry is not None and entry.state is EntryState.ACTIVE and not request.at:
                self._end_entry(entry)
            return api.Resolved(descriptor.start, descriptor.end)
        command = ResolveCommand(self.term, descriptor.generation, attempt, request.at)
        self._propose(command, attempt, entry, handle)
        return None

    def _on_recover(self, request: api.Recover, handle: Handle) -> api.Response | None:
        moved = self._moved([request.anchor])
        if moved is not None:
            return moved
        known = self._known_outcome(request.attempt, request.anchor, handle)
        if known is not True:
            return known or None
        if request.attempt in self._by_attempt:
            self._until_finished.setdefault(request.attempt, []).append((handle, request))
            return None
        if self.state.too_old(request.attempt):
            return api.Outcome(api.UNKNOWN_TOO_OLD, Timestamp(0), [])  # M6
        command = AbortCommand(self.term, self.state.descriptor.generation, request.attempt, request.anchor)
        self._propose(command, request.attempt, self.locks.entries.get(request.attempt), handle)
        return None

    def _on_forget(self, request: api.Forget, handle: Handle) -> api.Response | None:
        moved = self._moved([request.anchor])
        if moved is not None:
            return moved
        if request.attempt in self._by_attempt:
            self._until_finished.setdefault(request.attempt, []).append((handle, request))
            return None
        record = self.state.outcome(request.attempt, request.anchor)
        if record is None or not record.participants:
            return api.Ok()
        command = ForgetCommand(self.term, self.state.descriptor.generation, request.attempt, request.anchor)
        self._propose(command, request.attempt, None, handle)
        return None

    def _on_release(self, request: api.Release, handle: Handle) -> api.Response | None:
        entry = self.locks.entries.get(request.txn.attempt)
        if entry is not None and entry.state is EntryState.ACTIVE:
            if not request.token or request.token == entry.token:
                self._end_entry(entry)
        return api.Ok()

    def _on_check(self, request: api.Check, handle: Handle) -> api.Response | None:
        moved = self._moved([request.key])
        if moved is not None:
            return moved
        entry = self.locks.find(request.txn.attempt, request.token)
        return api.Ok() if entry is not None else api.Wounded("its locks were lost", request.key)

    def _on_describe(self, request: api.Describe, handle: Handle) -> api.Response | None:
        descriptor = self.state.descriptor
        if not descriptor.contains(request.key):
            return api.Moved([descriptor])
        size = sum(self.state.engine.approximate_bytes(start, end) for start, end in self.state.spans()[-1:])
        return api.Description(descriptor, self.state.replica_id, size)

    # -- splits --------------------------------------------------------------------------------------------

    def _on_split_at(self, request: api.SplitAt, handle: Handle) -> api.Response | None:
        descriptor = self.state.descriptor
        if not descriptor.contains(request.key):
            return api.Moved([descriptor])
        if request.key == descriptor.start:
            return api.Ok()
        if self._split is not None:
            self._until_split.append((handle, request))
            return None
        replicas = tuple(make_replica_id(node_of(r), 1) for r in descriptor.replicas)
        command = SplitCommand(self.term, descriptor.generation, request.key, request.right_id, replicas)
        split_id = AttemptId(b"split" + request.right_id.to_bytes(8, "big"))
        self._split = self._propose(command, split_id, None, handle)
        for waiter in self.locks.waiters():  # R1: parked waiters touching the right half
            if any((end or start + b"\0") > request.key for start, end, _ in waiter.items):
                for theirs in self.locks.waiters_of(waiter.entry):
                    self.host.answer(theirs.handle[0], api.Moved([]))
                self.locks.cancel_wait(waiter.entry)
        return None

    def on_split_applied(self, right: RangeDescriptor, first_term: int) -> Handover:
        """Clip the lock table at the cut; what the right half's replica on this node may take over (R1)."""
        for waiter in self.locks.waiters():
            if any((end or start + b"\0") > right.start for start, end, _ in waiter.items):
                self.host.answer(waiter.handle[0], api.Moved([]))
                self.locks.cancel_wait(waiter.entry)
        entries = self.locks.split(right.start)
        return Handover(first_term, self.read_ts, entries)

    # -- what was proposed has applied ---------------------------------------------------------------------

    def on_applied(self, effect: Effect) -> None:
        """An entry applied; complete the proposal made at its index in this term."""
        proposal = self._proposals.pop(effect.index, None)
        if proposal is None:
            return
        if self._by_attempt.get(proposal.attempt) is proposal:
            del self._by_attempt[proposal.attempt]
        if effect.term != self.term or effect.verdict is Verdict.OTHER_TERM:
            raise InternalError("a proposal of this term was replaced while the leader still leads")
        if effect.verdict is Verdict.OTHER_GENERATION:
            self._on_rejected(proposal)
        else:
            self._completions[type(proposal.command)](self, proposal, effect)
        if proposal is self._split:
            self._split = None
            self._redispatch(self._take(self._until_split))
        self._wake_finished(proposal.attempt)

    def _on_rejected(self, proposal: Proposal) -> None:
        """The descriptor changed under the proposal: certainly not applied (R5)."""
        entry = proposal.entry
        if entry is not None and entry.state is EntryState.PROPOSED:
            entry.state, entry.bound = EntryState.ACTIVE, Timestamp(0)
        for handle in proposal.handles:
            self.host.answer(handle, api.Moved([self.state.descriptor]))

    def _complete_outcome(self, proposal: Proposal, effect: Effect) -> None:
        """1PC, decision, abort: the outcome that stands now, shown after commit wait (T3)."""
        entry = proposal.entry
        if entry is not None and self.locks.entries.get(entry.attempt) is not entry:
            entry = self.locks.entries.get(entry.attempt)
        record = effect.outcome
        if record is None:  # too old, or no prepare record any more
            if entry is not None and entry.state is EntryState.PROPOSED:
                entry.state, entry.bound = EntryState.ACTIVE, Timestamp(0)
                self._end_entry(entry)
            status: api.Response = api.Outcome(api.UNKNOWN_TOO_OLD, Timestamp(0), [])
            if effect.verdict is Verdict.NO_RECORD:
                status = api.Wounded("its prepare record at the anchor is gone")
            self._answer_all(proposal.handles, status)
            return
        descriptor = self.state.descriptor
        answer = api.Outcome(record.status, record.at, record.participants, descriptor.start, descriptor.end)
        if entry is not None:
            entry.state = EntryState.COMMITTING
            entry.bound = record.at or Timestamp(1)
        self._after_commit_wait(record.at, entry, proposal.handles, answer)

    def _complete_prepare(self, proposal: Proposal, effect: Effect) -> None:
        entry = proposal.entry
        if effect.outcome is not None or effect.verdict is Verdict.TOO_OLD:
            if entry is not None:
                entry.state, entry.bound = EntryState.ACTIVE, Timestamp(0)
                self._end_entry(entry)
            self._answer_all(proposal.handles, api.Wounded("it was aborted by recovery"))
            return
        if entry is not None:
            entry.state = EntryState.PREPARED
            assert isinstance(proposal.command, PrepareCommand)
            entry.bound = proposal.command.bound
        assert isinstance(proposal.command, PrepareCommand)
        self._answer_all(proposal.handles, api.Prepared(proposal.command.bound))

    def _complete_resolve(self, proposal: Proposal, effect: Effect) -> None:
        assert isinstance(proposal.command, ResolveCommand)
        descriptor = self.state.descriptor
        entry = self.locks.entries.get(proposal.attempt)
        at = proposal.command.at
        if entry is not None:
            entry.state = EntryState.COMMITTING
            entry.bound = at or entry.bound or Timestamp(1)
        self._after_commit_wait(at, entry, proposal.handles, api.Resolved(descriptor.start, descriptor.end))

    def _complete_plain(self, proposal: Proposal, effect: Effect) -> None:
        self._answer_all(proposal.handles, api.Ok())

    _completions: dict[type, Callable[[Leaseholder, Proposal, Effect], None]] = {
        OnePhaseCommand: _complete_outcome,
        DecideCommand: _complete_outcome,
        AbortCommand: _complete_outcome,
        PrepareCommand: _complete_prepare,
        ResolveCommand: _complete_resolve,
        ForgetCommand: _complete_plain,
        SplitCommand: _complete_plain,
    }

    def _after_commit_wait(
        self, at: Timestamp, entry: LockEntry | None, handles: list[Handle], response: api.Response
    ) -> None:
        wait_us = self.clock.wait_us_until_past(at)
        if wait_us > 0 and "T3" not in self._canaries:
            self._commit_waits.append((at, entry, handles, response))
            self.host.wake_in(wait_us)
        else:
            self._finish(entry, handles, response)

    def _finish(self, entry: LockEntry | None, handles: list[Handle], response: api.Response) -> None:
        self._answer_all(handles, response)
        if entry is not None:
            entry.state, entry.bound = EntryState.ACTIVE, Timestamp(0)
            self._end_entry(entry)

    def _answer_all(self, handles: list[Handle], response: api.Response) -> None:
        for handle in handles:
            self.host.answer(handle, response)

    def _end_entry(self, entry: LockEntry) -> None:
        for waiter in self.locks.waiters_of(entry):
            self.host.answer(waiter.handle[0], api.Wounded("it has ended"))
        self.locks.release(entry)
        self._drain_locks()
        self._wake_finished(entry.attempt)

    def _wake_finished(self, attempt: bytes) -> None:
        waiting = self._until_finished.pop(attempt, None)
        if waiting:
            self._redispatch(waiting)

    # -- liveness of gateways (K5, M7) ---------------------------------------------------------------------

    def entries_to_ask(self, older_than_us: int) -> list[LockEntry]:
        """Entries whose gateway was not heard about since `older_than_us` (monotonic); proposed ones end by themselves."""
        return [
            e
            for e in self.locks.entries.values()
            if e.asked_us < older_than_us and e.state in (EntryState.ACTIVE, EntryState.PREPARED)
        ]

    def drop_dead(self, attempt: AttemptId) -> PrepareRecord | None:
        """K5: the gateway has forgotten this attempt, or is dead: an unproposed entry goes, a prepared one's record is
        returned for recovery (M7)."""
        entry = self.locks.entries.get(attempt)
        if entry is not None and entry.state is EntryState.ACTIVE:
            self._end_entry(entry)
            return None
        if attempt in self._by_attempt:
            return None
        return self.state.prepares.get(attempt)

    def nodes_asked(self) -> list[NodeId]:
        """The gateways that hold entries here, each once, in order."""
        return sorted({e.txn.gateway for e in self.locks.entries.values()})

    def validate(self) -> None:
        """Raise `InternalError` if an invariant of the module docstring does not hold."""
        self.locks.validate()
        proposed = {p.attempt for p in self._proposals.values() if p.entry is not None}
        for entry in self.locks.entries.values():
            if entry.state is EntryState.PROPOSED and entry.attempt not in proposed:
                raise InternalError(f"invariant 3: {entry} without a proposal in range {self.state.range_id}")
            if entry.state is EntryState.PREPARED and entry.attempt not in self.state.prepares:
                if entry.attempt not in self._by_attempt:
                    raise InternalError(
                        f"{entry} is prepared without a record in range {self.state.range_id}"
                    )
