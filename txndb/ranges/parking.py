"""What the leaseholder's parts share: its state for one term, and where requests wait.

The idea: a request is either answered at once, or parked with the reason it waits for, and dispatched again *from its
beginning* when the reason is gone; so every check is made anew after every wait (rule L2), and there is one path to
reason about. Layers: `Leaseholder` > `Commits` > `Reads` > `Parking`, each adds its handlers.

Invariants:
1. A parked request is parked in one place.
2. Whoever is parked is dispatched again when its reason ends, or answered when the term does.
3. Every wait has a bound. A wait for a lock ends with 55P03 after the time its request allows; a wait for another
   attempt's end, or for the lease, goes back to the gateway after `PARKED_US`, which asks again until its own bound.
   A split in the making and a proposal end with the term at the latest, commit waits and delays by the clock.
"""

from __future__ import annotations

import abc
import heapq
from collections.abc import Callable
from typing import Any, Protocol

from txndb.clock import Clock
from txndb.ids import AttemptId, Timestamp
from txndb.limits import PARKED_US
from txndb.ranges import api
from txndb.ranges.command import Command, SplitCommand
from txndb.ranges.locks import EntryState, LockEntry, LockTable, Waiter
from txndb.ranges.state import RangeState

NEWEST = Timestamp((1 << 63) - 1)
LEASE_POLL_US = 50_000

Handle = Any
"""Whom to answer; opaque to this module."""

Parked = tuple[Handle, api.Request]

Bounded = tuple[int, Parked]
"""What is parked until (monotonic) at most."""


class Host(Protocol):
    """What a leaseholder needs of its replica."""

    def propose(self, command: Command) -> int:
        """Append to the log; the entry's index. Raises a `TxndbError` if this is no leader (any more)."""

    def lease_valid(self) -> bool:
        """Whether the leader lease holds now, by a fresh clock (L2)."""

    def answer(self, handle: Handle, response: api.Response) -> None:
        """Send an answer."""

    def wound_notice(self, entry: LockEntry, why: api.Wounded) -> None:
        """Tell the entry's gateway that it lost."""

    def clock_trusted(self) -> bool:
        """T1: whether the clock is known to be within its error; without, nothing is served."""

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


def _cut_of(split: Proposal) -> bytes:
    assert isinstance(split.command, SplitCommand)
    return split.command.cut


class Handover:
    """Locks and `read_ts` for exactly one term: of a split's right half on the same node (R1), or of the leader before,
    whose descriptor then had this generation (L4; 0: a split's)."""

    __slots__ = ("entries", "generation", "read_ts", "term")

    def __init__(self, term: int, read_ts: Timestamp, entries: list[LockEntry], generation: int = 0) -> None:
        self.term = term
        self.read_ts = read_ts
        self.entries = entries
        self.generation = generation


class Parking(abc.ABC):
    """Fields, locks and queues of one term of leadership."""

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
        self._until_serving: list[Bounded] = []
        self._until_split: list[Parked] = []
        self._until_finished: dict[bytes, list[Bounded]] = {}
        self._sweep_us = 0
        """When the first bound of a parked request is due (monotonic); 0: nothing is bounded."""
        self._delayed: list[tuple[int, int, Parked]] = []
        self._delay_order = 0
        self._commit_waits: list[tuple[Timestamp, LockEntry | None, list[Handle], api.Response]] = []

    @abc.abstractmethod
    def handle(self, request: api.Request, handle: Handle) -> api.Response | None:
        """Answer a request now, or park it and return None (`Leaseholder.handle`)."""

    def on_lease(self) -> None:
        """The lease was renewed: those parked without one are dispatched again."""
        if self.serving and self._until_serving and self.host.lease_valid():
            self._serve_parked()

    def _serve_parked(self) -> None:
        parked, self._until_serving = self._until_serving, []
        self._redispatch([each for _, each in parked])

    def _until_lease(self, handle: Handle, request: api.Request) -> None:
        """Park a request until this leaseholder may answer; looked at again even if nothing else happens here."""
        self._until_serving.append((self._due_us(PARKED_US), (handle, request)))
        if self.serving:
            self.host.wake_in(LEASE_POLL_US)

    def _until_end_of(self, attempt: bytes, handle: Handle, request: api.Request) -> None:
        """Park a request until an attempt has ended here."""
        waiting = self._until_finished.setdefault(attempt, [])
        waiting.append((self._due_us(PARKED_US), (handle, request)))

    def _due_us(self, wait_us: int) -> int:
        """When a wait that begins now is over, by the monotonic clock; it is looked at then."""
        due_us = self.clock.source.monotonic_us() + wait_us
        self._sweep_at(due_us)
        return due_us

    def _sweep_at(self, due_us: int) -> None:
        """Look for overdue waits then (monotonic), or before."""
        if not self._sweep_us or due_us < self._sweep_us:
            self._sweep_us = due_us
            self.host.wake_in(due_us - self.clock.source.monotonic_us())

    def _end_overdue(self) -> None:
        """Answer whoever waited for too long; ask to be called for the next one."""
        now_us = self.clock.source.monotonic_us()
        if now_us >= self._sweep_us:
            overdue, next_us = self.locks.end_overdue(now_us)
            late: list[Handle] = []
            self._until_serving, due_us = self._split_overdue(self._until_serving, now_us, late)
            dues = [next_us, due_us]
            for attempt, waiting in list(self._until_finished.items()):
                self._until_finished[attempt], due_us = self._split_overdue(waiting, now_us, late)
                dues.append(due_us)
                if not self._until_finished[attempt]:
                    del self._until_finished[attempt]
            self._sweep_us = min((due_us for due_us in dues if due_us), default=0)
            for waiter in overdue:
                self.host.answer(waiter.handle[0], self._lock_timeout(waiter))
            # Whatever it was may have been proposed by an earlier sending: only the gateway knows what that means.
            again = api.NotLeaseholder(self.state.range_id, self.host.leader_hint(), True)  # type: ignore[arg-type]
            self._answer_all(late, again)
            self._drain_locks()
        if self._sweep_us:
            self.host.wake_in(self._sweep_us - now_us)

    @staticmethod
    def _split_overdue(waiting: list[Bounded], now_us: int, late: list[Handle]) -> tuple[list[Bounded], int]:
        """Those that may go on waiting, and when the first of them is due; the handles of the others go to `late`."""
        late += [parked[0] for due_us, parked in waiting if due_us <= now_us]
        left = [each for each in waiting if each[0] > now_us]
        return left, min((due_us for due_us, _ in left), default=0)

    def _lock_timeout(self, waiter: Waiter) -> api.Refused:
        blocker = self.locks.blocker(waiter)
        holder = f" behind transaction {blocker.attempt.hex()}" if blocker is not None else ""
        return api.Refused(
            "55P03",
            "canceling statement due to lock timeout",
            f"It waited for {waiter.handle[1].wait_us // 1000} ms{holder}.",
        )

    def on_time(self) -> None:
        """Time passed: commit waits that are over finish, delayed requests are dispatched again."""
        if not self.serving:
            if self._sweep_us:  # L1 may wait for a clock for long: who waits for it is told in time
                self._end_overdue()
            return
        if self._commit_waits:
            over = [not self.clock.wait_us_until_past(wait[0]) for wait in self._commit_waits]
            due = [wait for wait, is_over in zip(self._commit_waits, over, strict=True) if is_over]
            self._commit_waits = [
                wait for wait, is_over in zip(self._commit_waits, over, strict=True) if not is_over
            ]
            for _, entry, handles, response in due:
                self._finish(entry, handles, response)
        now = self.clock.source.wall_us()
        ready: list[Parked] = []
        while self._delayed and self._delayed[0][0] <= now:
            ready.append(heapq.heappop(self._delayed)[2])
        self._redispatch(ready)
        if self._until_serving:
            self.on_lease()
        if self._until_serving:
            self.host.wake_in(LEASE_POLL_US)
        if self._sweep_us:
            self._end_overdue()
        # A clock that runs slower than the loop's has not arrived yet: what is left is waited for anew.
        if self._commit_waits:
            self.host.wake_in(min(self.clock.wait_us_until_past(wait[0]) for wait in self._commit_waits))
        if self._delayed:
            self.host.wake_in(self._delayed[0][0] - self.clock.source.wall_us())

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
                wounded_by = self._wounded(entry.attempt, "", b"")
                for waiter in waiters:
                    self.host.answer(waiter.handle[0], wounded_by)
                self.host.wound_notice(entry, wounded_by)
            self._redispatch([waiter.handle for waiter in granted])

    def _wounded(self, attempt: bytes, reason: str, key: bytes) -> api.Wounded:
        """Why an attempt lost: to whom and over what if that is known, else `reason`."""
        cause = self.locks.causes.get(attempt)
        if cause is not None:
            return api.Wounded("an older transaction needed its locks", *cause)
        return api.Wounded(reason, key)

    def _moved(self, keys: list[bytes]) -> api.Moved | None:
        """R3: everything named must be inside, and left of a cut that is being made (R1)."""
        descriptor = self.state.descriptor
        for key in keys:
            if not descriptor.start <= key < descriptor.end:
                return api.Moved([descriptor])
        if self._split is not None and "R1" not in self._canaries:
            cut = _cut_of(self._split)
            if any(key >= cut for key in keys):
                return api.Moved([])
        return None

    def _moved_span(self, start: bytes, end: bytes) -> api.Moved | None:
        descriptor = self.state.descriptor
        if not (descriptor.start <= start and end <= descriptor.end):
            return api.Moved([descriptor])
        if self._split is not None and end > _cut_of(self._split) and "R1" not in self._canaries:
            return api.Moved([])
        return None

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
            self._redispatch([parked for _, parked in waiting])
