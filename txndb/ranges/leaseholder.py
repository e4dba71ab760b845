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

from collections.abc import Callable
from typing import Any

from txndb.clock import Clock
from txndb.errors import InternalError, TxndbError, UnavailableError
from txndb.ids import AttemptId, Timestamp
from txndb.ranges import api
from txndb.ranges.commits import Commits
from txndb.ranges.handover import encode_handover
from txndb.ranges.locks import EntryState, LockEntry
from txndb.ranges.parking import LEASE_POLL_US, Handle, Handover, Host, Parked
from txndb.ranges.state import Prepared, RangeState

__all__ = ["Handle", "Handover", "Host", "Leaseholder"]


class Leaseholder(Commits):
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
        super().__init__(host, state, clock, term, compile_program, canaries)
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
        }

    # -- beginning and end of a term -----------------------------------------------------------------------

    def maybe_serve(self, handover: Handover | None) -> bool:
        """L1: called once the term's own no-op has applied, and again by `on_time`, until serving."""
        if self.serving:
            return True
        if not self.host.clock_trusted():
            # T1: by a doubtful clock `read_ts` would begin below what was read.
            self.host.wake_in(LEASE_POLL_US)
            return False
        wait_us = self.clock.wait_us_until_past(self.state.max_applied_ts)
        if wait_us > 0 and "L1" not in self._canaries:
            self.host.wake_in(wait_us)
            return False
        if handover is not None and handover.generation not in (0, self.state.descriptor.generation):
            handover = None  # a split applied in between: the locks are of other borders
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
        self._serve_parked()
        return True

    def _adopt_record(self, record: Prepared) -> None:
        self.locks.adopt_prepared(record.txn, record.bound, [key for key, _ in record.writes])

    def _adopt_handed(self, entry: LockEntry) -> None:
        """R1, L4: the same token. What the log has brought about meanwhile stands: a record makes an entry prepared, by
        the record's bound; without one, what was proposed or prepared has an outcome or died with its proposal."""
        record = self.state.prepares.get(entry.attempt)
        if record is not None:
            entry.state, entry.bound = EntryState.PREPARED, record.bound
            entry.writes = frozenset(key for key, _ in record.writes)
        elif entry.state in (EntryState.PREPARED, EntryState.PROPOSED):
            return
        self.locks.adopt(entry)
        if entry.state is EntryState.COMMITTING:
            self._after_commit_wait(entry.bound, entry, [], api.Ok())

    def freeze(self) -> bytes:
        """L4, in the step that gives up the lease: what the next term's leader begins with. Nothing more is answered in
        this one."""
        if not self.serving or self.frozen:
            return b""
        self.frozen = True
        return encode_handover(
            self.state.descriptor.generation, self.read_ts, list(self.locks.entries.values())
        )

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
        found = self._until_split + [parked for _, _, parked in self._delayed]
        for waiting in (self._until_serving, *self._until_finished.values()):
            found += [parked for _, parked in waiting]
        return found

    # -- requests ------------------------------------------------------------------------------------------

    def handle(self, request: api.Request, handle: Handle) -> api.Response | None:
        """Answer a request now, or park it and return None; then `Host.answer` follows."""
        if self.frozen:
            return api.NotLeaseholder(self.state.range_id, self.host.leader_hint())  # type: ignore[arg-type]
        if not self.serving or not self.host.clock_trusted():  # L1, T1
            self._until_lease(handle, request)
            return None
        try:
            response = self._handlers[type(request)](request, handle)
        except UnavailableError:
            # No leader any more, or one that hands over (L4): certainly nothing was proposed, so ask again.
            response = api.NotLeaseholder(self.state.range_id, self.host.leader_hint())  # type: ignore[arg-type]
        except TxndbError as error:
            response = api.Refused(error.code, error.message, error.detail)
        if self.locks.wounded or self.locks.granted:
            self._drain_locks()
        if response is None:
            return None
        if not self.host.lease_valid() and "L2" not in self._canaries:
            # L2: checked after the last effect. The lease may come back by an acknowledgement under way; if not, the
            # leader steps down and everyone parked is answered.
            self._until_lease(handle, request)
            return None
        return response

    # -- liveness of gateways (K5, M7) ---------------------------------------------------------------------

    def entries_to_ask(self, older_than_us: int) -> list[LockEntry]:
        """Entries whose gateway was not heard about since `older_than_us` (monotonic); proposed ones end alone."""
        return [
            e
            for e in self.locks.entries.values()
            if e.asked_us < older_than_us and e.state in (EntryState.ACTIVE, EntryState.PREPARED)
        ]

    def drop_dead(self, attempt: AttemptId) -> Prepared | None:
        """K5: the gateway has forgotten this attempt, or is dead: an unproposed entry goes, a prepared one's record is
        returned for recovery (M7)."""
        entry = self.locks.entries.get(attempt)
        if entry is not None and entry.state is EntryState.ACTIVE:
            self._end_entry(entry)
            return None
        if attempt in self._by_attempt:
            return None
        return self.state.prepares.get(attempt)

    def is_at_rest(self) -> bool:
        """Whether nothing is locked, proposed or waited for."""
        return (
            self.serving
            and not self.locks.entries
            and not self._proposals
            and not self._commit_waits
            and not self._parked()
        )

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
