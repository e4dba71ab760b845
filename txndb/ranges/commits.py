"""The leaseholder's side of commits, outcomes and splits: what it proposes, and what follows when that has applied.

Rules C2, C3, D1, K2, M1–M7, R1, R3, R4, T2, T3 and T5 of the transaction protocol. Whatever is proposed is remembered
by log index until it has applied; until then its transaction counts as prepared (C3).

Invariants:
1. Every bound fixed here is above `read_ts` and above `max_applied_ts` when it is fixed (M3).
2. An entry is PROPOSED exactly while a proposal names it (C3).
"""

from __future__ import annotations

from collections.abc import Callable

from txndb.encoding.keys import META_END
from txndb.errors import InternalError
from txndb.ids import AttemptId, Timestamp
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
from txndb.ranges.locks import EntryState, LockEntry
from txndb.ranges.parking import Handle, Handover, Proposal
from txndb.ranges.reads import Reads
from txndb.ranges.state import Effect, Verdict


class Commits(Reads):
    """`OnePhase`, `Prepare`, `Validate`, `Decide`, `Resolve`, `Recover`, `Forget`, `Release`, `SplitAt`."""

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
        """M3, T5: above every read here and every version here, and not below the candidate."""
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
            if not entry.covers(start, end) and (end is None or "phantom" not in self._canaries):
                return False
        return "K2" in self._canaries or all(entry.holds_exclusive(key) for key, _ in writes)

    def _commit_checks(
        self, request: api.OnePhase | api.Prepare, candidate: Timestamp, kind: type[Command], handle: Handle
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
            return self._wounded(request.txn.attempt, "its locks were lost", request.anchor)
        if entry.state is EntryState.ACTIVE and self.state.too_old(entry.attempt):
            self._end_entry(entry)  # M6: apply would refuse it
            return api.Wounded(api.OUTLIVED)
        another_part = entry.state is EntryState.PREPARED and kind is PrepareCommand
        if entry.state is not EntryState.ACTIVE and not another_part:
            proposal = self._by_attempt.get(entry.attempt)
            if proposal is not None and isinstance(proposal.command, kind):  # C2: the same is in flight
                proposal.handles.append(handle)
            else:
                self._until_end_of(entry.attempt, handle, request)
            return None
        if not self._covered(entry, request.locks, request.writes):
            return api.Wounded("its locks do not cover what it commits", request.anchor)
        if self._split is not None and "R1" not in self._canaries:
            self._until_split.append((handle, request))
            return None
        bound = self._bound(candidate)
        wait_us = self.clock.wait_us_until_allowed(bound)
        if wait_us > 0 and "T2" not in self._canaries:
            self._delay(wait_us, handle, request)
            return None
        return entry, bound

    def _on_one_phase(self, request: api.OnePhase, handle: Handle) -> api.Response | None:
        known = self._known_outcome(request.txn.attempt, request.anchor, handle)
        if known is not True:
            return known or None
        candidate = max(request.candidate, request.not_before)  # D1
        checked = self._commit_checks(request, candidate, OnePhaseCommand, handle)
        if not isinstance(checked, tuple):
            return checked
        entry, bound = checked
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
        moved = self._moved([key for key, _ in request.writes])
        if moved is not None:
            return moved  # R3: a record of before a split holds its half only
        prepared = self.state.prepares.get(request.txn.attempt)
        if prepared is not None and not prepared.missing(request.writes):
            return api.Prepared(prepared.bound)
        checked = self._commit_checks(request, request.candidate, PrepareCommand, handle)
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
        self._withdraw(
            entry, api.Wounded("its commit has begun")
        )  # a statement that was given up while it waited
        if "C3" not in self._canaries:
            entry.state = EntryState.PROPOSED
            entry.bound = entry.bound or bound  # of the first part: it is the lowest
        entry.writes = entry.writes.union(keys)

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
                return self._wounded(request.txn.attempt, "its read locks were lost", request.locks[0][0])
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
            self._until_end_of(attempt, handle, request)
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
            self._until_end_of(attempt, handle, request)
            return None
        entry = self.locks.entries.get(attempt)
        if attempt not in self.state.prepares:
            if entry is not None and entry.state is EntryState.COMMITTING:
                self._until_end_of(attempt, handle, request)
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
            self._until_end_of(request.attempt, handle, request)
            return None
        if self.state.too_old(request.attempt) and request.attempt not in self.state.prepares:
            return api.Outcome(api.UNKNOWN_TOO_OLD, Timestamp(0), [])  # M6
        command = AbortCommand(self.term, self.state.descriptor.generation, request.attempt, request.anchor)
        self._propose(command, request.attempt, self.locks.entries.get(request.attempt), handle)
        return None

    def _on_forget(self, request: api.Forget, handle: Handle) -> api.Response | None:
        moved = self._moved([request.anchor])
        if moved is not None:
            return moved
        if request.attempt in self._by_attempt:
            self._until_end_of(request.attempt, handle, request)
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
        if request.key < META_END:
            return api.Refused("0A000", "the index of ranges must stay in one range")
        if self._split is not None:
            self._until_split.append((handle, request))
            return None
        replicas = tuple(make_replica_id(node_of(r), 1) for r in descriptor.replicas)
        command = SplitCommand(self.term, descriptor.generation, request.key, request.right_id, replicas)
        split_id = AttemptId(b"split" + request.right_id.to_bytes(8, "big"))
        self._split = self._propose(command, split_id, None, handle)
        self._withdraw_right_of(request.key, api.Moved([]))
        return None

    def _withdraw_right_of(self, cut: bytes, response: api.Response) -> None:
        """R1: whoever waits for locks that touch the right half is answered."""
        for waiter in self.locks.waiters():
            if any((end or start + b"\0") > cut for start, end, _ in waiter.items):
                self._withdraw(waiter.entry, response)

    def _withdraw(self, entry: LockEntry, response: api.Response) -> None:
        """Answer an entry's waiting requests; its locks stay."""
        waiting = self.locks.waiters_of(entry)
        if waiting:
            self.locks.cancel_wait(entry)
            for waiter in waiting:
                self.host.answer(waiter.handle[0], response)

    def on_split_applied(self, right: RangeDescriptor, first_term: int) -> Handover:
        """Clip the lock table at the cut; what the right half's replica on this node may take over (R1)."""
        self._withdraw_right_of(right.start, api.Moved([right]))
        entries = self.locks.split(right.start)
        self._drain_locks()
        for entry in entries:  # who is waited for may be gone from here: look again, at the keys left
            self._wake_finished(entry.attempt)
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
            if entry.attempt in self.state.prepares:
                entry.state = EntryState.PREPARED  # by its earlier parts
            else:
                self.locks.reactivate(entry)
        for handle in proposal.handles:
            self.host.answer(handle, api.Moved([self.state.descriptor]))
        self._drain_locks()

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
        done = (descriptor.start, descriptor.end)
        if proposal.attempt in self.state.prepares:  # in parts: they are resolved one by one
            entry, done = None, (b"", b"")
        answer = api.Outcome(record.status, record.at, record.participants, *done)
        if entry is not None:
            entry.state = EntryState.COMMITTING
            entry.bound = record.at or Timestamp(1)
        self._after_commit_wait(record.at, entry, proposal.handles, answer)

    def _complete_prepare(self, proposal: Proposal, effect: Effect) -> None:
        entry = proposal.entry
        if effect.outcome is not None or effect.verdict is Verdict.TOO_OLD:
            if entry is not None and entry.attempt in self.state.prepares:
                entry.state = EntryState.PREPARED  # by its earlier parts: recovery ends it (M7)
            elif entry is not None:
                entry.state, entry.bound = EntryState.ACTIVE, Timestamp(0)
                self._end_entry(entry)
            why = api.OUTLIVED if effect.outcome is None else "it was aborted by recovery"
            self._answer_all(proposal.handles, api.Wounded(why))
            return
        if entry is not None:
            entry.state = EntryState.PREPARED
        assert isinstance(proposal.command, PrepareCommand)
        self._answer_all(proposal.handles, api.Prepared(proposal.command.bound))

    def _complete_resolve(self, proposal: Proposal, effect: Effect) -> None:
        assert isinstance(proposal.command, ResolveCommand)
        descriptor = self.state.descriptor
        entry = self.locks.entries.get(proposal.attempt)
        at = proposal.command.at
        if effect.resume:  # the next part's turn comes when it is asked for; its keys stay locked
            if entry is not None:  # what is resolved is no write any more: a split goes by what is left (R4)
                entry.writes = frozenset(key for key in sorted(entry.writes) if key >= effect.resume)
            self._after_commit_wait(at, None, proposal.handles, api.Resolved(descriptor.start, effect.resume))
            return
        if entry is not None:
            entry.state = EntryState.COMMITTING
            entry.bound = at or entry.bound or Timestamp(1)
        self._after_commit_wait(at, entry, proposal.handles, api.Resolved(descriptor.start, descriptor.end))

    def _complete_plain(self, proposal: Proposal, effect: Effect) -> None:
        self._answer_all(proposal.handles, api.Ok())

    _completions: dict[type, Callable[[Commits, Proposal, Effect], None]] = {
        OnePhaseCommand: _complete_outcome,
        DecideCommand: _complete_outcome,
        AbortCommand: _complete_outcome,
        PrepareCommand: _complete_prepare,
        ResolveCommand: _complete_resolve,
        ForgetCommand: _complete_plain,
        SplitCommand: _complete_plain,
    }
