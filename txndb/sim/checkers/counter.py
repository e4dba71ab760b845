"""Counter: a number that is added to and read.

Operations: `add` (value: the number, negative ones too) and `read` (result: the sum).

What must hold, cheapest first:
1. bounds (Jepsen's counter): a read lies between the least and the greatest sum that the adds allow – those that
   returned before it was invoked count, those under way beside it or of unknown outcome may count, from their
   invocation on for ever; failed ones never do. Anomaly `out-of-bounds`;
2. the counter is linearizable: all reads together fit one order of the adds. Reads that go back and forth although each
   is within bounds break this. Anomaly `nonlinearizable`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

from txndb.sim.checkers.calls import HistoryError
from txndb.sim.checkers.linearizability import STEPS_MAX
from txndb.sim.checkers.objects import Object, answered, judge_calls, known_only
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Call, Op


def check(
    ops: Sequence[Op], initial: float = 0, *, bounds_only: bool = False, steps_max: int = STEPS_MAX
) -> Verdict:
    """The verdict on one counter. `bounds_only` leaves out 2: for counters that promise no more."""
    calls = COUNTER.prepare(ops)
    reads = [call for call in calls if call.f == "read"]
    anomalies = check_bounds(ops, calls, initial)
    if anomalies:
        return Verdict(False, "counter", tuple(anomalies))
    if not reads:
        return Verdict(None, "counter", note="the counter was never read")
    if bounds_only:
        return Verdict(True, "counter", note="bounds only")
    return judge_calls(ops, calls, COUNTER, initial, steps_max)


def check_bounds(ops: Sequence[Op], calls: Sequence[Call], initial: float) -> list[Anomaly]:
    """Finding 1, in one sweep over real time."""
    moments: list[tuple[int, bool, Call]] = []
    for call in calls:
        moments.append((call.invoked, False, call))
        if call.returned is not None:
            moments.append((call.returned, True, call))
    moments.sort(key=lambda moment: moment[0])
    certain_down: float
    certain_down = certain_up = begun_down = begun_up = 0
    certain: dict[int, tuple[float, float]] = {}
    anomalies = []
    for _, returned, call in moments:
        if call.f == "add":
            down, up = min(call.argument, 0), max(call.argument, 0)
            if returned:
                certain_down, certain_up = certain_down + down, certain_up + up
            else:
                begun_down, begun_up = begun_down + down, begun_up + up
        elif not returned:
            certain[call.invoked] = (certain_down, certain_up)
        else:
            down, up = certain.pop(call.invoked)
            low, high = initial + up + begun_down, initial + down + begun_up
            if not low <= call.result <= high:
                anomalies.append(_anomaly(ops, call, low, high))
    return anomalies


def _anomaly(ops: Sequence[Op], read: Call, low: float, high: float) -> Anomaly:
    assert read.returned is not None
    first, last = ops[read.invoked].index, ops[read.returned].index
    text = f"the read at index {first} to {last} gave {read.result}, which is not between {low} and {high}"
    return Anomaly("out-of-bounds", text, (first, last))


def _prepare(ops: Sequence[Op]) -> list[Call]:
    known_only(ops, ("add", "read"))
    for op in ops:
        asked = op.type == "invoke" and op.f == "add"
        told = op.type == "ok" and op.f == "read"
        number = isinstance(op.value, int | float) and not isinstance(op.value, bool)
        if (asked or (told and op.value is not None)) and not number:
            raise HistoryError(f"operation {op.index}: {op.f} with {op.value!r} instead of a number")
    return [call for call in answered(ops, ("read",)) if call.f != "read" or call.result is not None]


def _step(state: Any, call: Call) -> tuple[bool, Hashable]:
    return (state == call.result, state) if call.f == "read" else (True, state + call.argument)


COUNTER: Final = Object("counter", _step, lambda call: call.f == "read", _prepare)
