"""What leaseholders promise, watched over all machines of a world while it runs.

A stale read or a rewritten past becomes visible to clients only where three or four things coincide. What makes it
possible is visible at once to somebody who sees every leaseholder's every answer: the answer of a leader that another
one has already succeeded, a new leader that may write below what an old one has shown, a bound below a read. So each
replica of a simulated node is a `WatchedReplica`, which tells a world's `Promises` what its leaseholder does.

The promises, of one range:

1. Answers to reads come in order of terms: none is fixed in a term after one of a later term (rules L2, L3, L4).
2. `read_ts` never falls, whoever leads and whatever half a split made of it: whoever reads or commits does so no lower
   than anybody read before (rules L1, L4, R1). With clocks beyond E this is what is lost (rule T5).
3. A bound that is proposed lies above all that was read (promise 2) and above all that has applied here (rules M3, T5).
4. No timestamp is used that lies above the leaseholder's own `latest` (rule T2).
5. What was read or validated at a timestamp counts as read there: `read_ts` is not below it (rules S1, M4).
6. The right half of a split knows of every version it has: its `max_applied_ts` is that of the left (rule T4).

It decides nothing and changes nothing: a run is the same with and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from txndb.ids import RangeId, Timestamp
from txndb.raft.types import Entry
from txndb.ranges import api
from txndb.ranges.command import Command, DecideCommand, OnePhaseCommand, PrepareCommand
from txndb.ranges.leaseholder import Handle, Leaseholder
from txndb.ranges.replica import Replica
from txndb.ranges.state import Effect, RangeState


class Promises:
    """What was promised in one world, over restarts and changes of leaders."""

    def __init__(self, problem: Callable[[str], None], *, clocks_hold: bool) -> None:
        """`problem` is told what is wrong; `clocks_hold`: no clock is ever off by more than E."""
        self._problem = problem
        self._clocks_hold = clocks_hold
        self._terms: dict[RangeId, tuple[int, str]] = {}
        """Range -> the latest term in which a read was answered, and by whom."""
        self._read_ts: dict[RangeId, Timestamp] = {}
        """Range -> the highest timestamp at which it may have been read."""

    def on_answer(self, name: str, holder: Leaseholder) -> None:
        """A read was answered, or reads were validated (promises 1 and 2)."""
        range_id = holder.state.range_id
        term, other = self._terms.get(range_id, (0, ""))
        if holder.term < term:
            self._problem(
                f"promises: {name} answers for range {range_id} in term {holder.term} after {other} in term {term}"
            )
        self._terms[range_id] = (holder.term, name)
        self._keeps_read_ts(name, holder)
        # No more than `latest` was used (rule T2): a new leader's `read_ts` begins above what anybody can have read.
        read = min(holder.read_ts, holder.clock.latest())
        if read > self._read_ts.get(range_id, 0):
            self._read_ts[range_id] = read

    def on_bound(self, name: str, holder: Leaseholder, bound: Timestamp) -> None:
        """A bound is being fixed by its proposal (promise 3). What is proposed by a leader that has been succeeded, and
        does not know yet, never commits: its successor was elected without it."""
        if holder.term >= self._terms.get(holder.state.range_id, (0, ""))[0]:
            self._keeps_read_ts(name, holder)
        highest = max(holder.read_ts, holder.state.max_applied_ts)
        if bound <= highest:
            self._problem(
                f"promises: {name} fixes bound {bound} in range {holder.state.range_id}, where {highest} was read "
                "or has applied"
            )

    def on_use(self, name: str, holder: Leaseholder, at: Timestamp) -> None:
        """A timestamp is being used by a leaseholder (promise 4)."""
        if at > holder.clock.latest():
            self._problem(
                f"promises: {name} uses {at} in range {holder.state.range_id}, above its latest {holder.clock.latest()}"
            )

    def on_read(self, name: str, holder: Leaseholder, at: Timestamp) -> None:
        """A snapshot or a validation at a timestamp was answered (promises 4 and 5)."""
        self.on_use(name, holder, at)
        if at > holder.read_ts:
            self._problem(
                f"promises: {name} answers for {at} in range {holder.state.range_id}, which counts as read up to "
                f"{holder.read_ts} only"
            )

    def on_split(
        self, name: str, left: RangeId, right: RangeId, known: Timestamp, applied: Timestamp
    ) -> None:
        """A split applied: the right half knows of `applied`, and the left knew of `known` before (promise 6)."""
        if applied < known:
            self._problem(
                f"promises: range {right} begins on {name} with versions up to {applied}; range {left} had {known}"
            )
        self._read_ts.setdefault(right, self._read_ts.get(left, Timestamp(0)))

    def _keeps_read_ts(self, name: str, holder: Leaseholder) -> None:
        promised = self._read_ts.get(holder.state.range_id, 0)
        if self._clocks_hold and holder.read_ts < promised:
            self._problem(
                f"promises: {name} serves range {holder.state.range_id} in term {holder.term} from {holder.read_ts} "
                f"on, and {promised} was read"
            )


class WatchedReplica(Replica):
    """A replica that tells what its leaseholder promises."""

    def __init__(self, promises: Promises, name: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._promises = promises
        self._name = name
        self._known = Timestamp(0)
        """`max_applied_ts` before the entries that are being applied."""

    def propose(self, command: Command) -> int:
        index = super().propose(command)
        holder = self.leaseholder
        if holder is not None and isinstance(command, OnePhaseCommand | PrepareCommand | DecideCommand):
            at = command.bound if isinstance(command, PrepareCommand) else command.at
            self._promises.on_use(self._name, holder, at)
            if not isinstance(command, DecideCommand):
                self._promises.on_bound(self._name, holder, at)
        return index

    def handle(self, request: api.Request, handle: Handle) -> api.Response | None:
        holder = self.leaseholder
        response = super().handle(request, handle)
        if holder is not None and isinstance(response, api.Values | api.Rows | api.Ok):
            if isinstance(request, api.SnapshotGet | api.SnapshotScan | api.Validate):
                self._promises.on_read(self._name, holder, request.at)
            if isinstance(response, api.Values | api.Rows) or isinstance(request, api.Validate):
                self._promises.on_answer(self._name, holder)
        return response

    def answer(self, handle: Handle, response: api.Response) -> None:
        if self.leaseholder is not None and isinstance(response, api.Values | api.Rows):
            self._promises.on_answer(self._name, self.leaseholder)
        super().answer(handle, response)

    def apply(self, entries: Sequence[Entry]) -> None:
        self._known = self.state.max_applied_ts if self.state is not None else Timestamp(0)
        super().apply(entries)

    def _on_split(self, leaseholder: Leaseholder | None, effect: Effect) -> None:
        right, state = effect.right, self.state
        assert right is not None and state is not None
        born = RangeState.load(state.engine, right.range_id)
        applied = born.max_applied_ts if born is not None else Timestamp(0)
        self._promises.on_split(self._name, self.range_id, right.range_id, self._known, applied)
        super()._on_split(leaseholder, effect)
