"""Objects whose histories must be linearizable: how one is described to the search, and a verdict in words.

A call that failed did not happen. A call of unknown outcome may take effect at any time after its invocation, or never.
A read that was not answered says nothing. What each object does is in a module of its name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final

import msgspec

from txndb.sim.checkers.calls import HistoryError, pair_strictly
from txndb.sim.checkers.linearizability import STEPS_MAX, Judgement, Pure, Step, check
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Call, Op

_OVERLAPPING_SHOWN: Final = 8
_VALUE_SHOWN: Final = 120


class Object(msgspec.Struct, frozen=True):
    """One kind of object."""

    model: str
    step: Step
    pure: Pure
    prepare: Callable[[Sequence[Op]], list[Call]]
    """The calls that say something; raises `HistoryError` for what the object does not know."""
    show: Callable[[Any], str] = lambda state: short(state)
    """A state in words."""


def judge(ops: Sequence[Op], kind: Object, initial: Hashable, steps_max: int = STEPS_MAX) -> Verdict:
    """The verdict on one object's operations; anomalies are `nonlinearizable`."""
    return judge_calls(ops, kind.prepare(ops), kind, initial, steps_max)


def judge_calls(
    ops: Sequence[Op], calls: Sequence[Call], kind: Object, initial: Hashable, steps_max: int = STEPS_MAX
) -> Verdict:
    """The same for calls already prepared; their positions are places in `ops`."""
    found = check(calls, initial, kind.step, steps_max, kind.pure)
    if found.valid is None:
        return Verdict(None, kind.model, note=f"undecided after {steps_max} steps with {len(calls)} calls")
    if found.valid:
        return Verdict(True, kind.model)
    return Verdict(False, kind.model, (_anomaly(ops, calls, kind, found),))


def _anomaly(ops: Sequence[Op], calls: Sequence[Call], kind: Object, found: Judgement) -> Anomaly:
    stuck = found.stuck
    if stuck is None or stuck.returned is None:
        return Anomaly("nonlinearizable", f"no order explains the {len(calls)} calls")
    beside = [
        call
        for call in calls
        if call.invoked < stuck.returned
        and (call.returned is None or call.returned > stuck.invoked)
        and call.invoked != stuck.invoked
    ]
    lines = [f"no order explains {_describe(ops, stuck)}"]
    if found.states:
        states = sorted(kind.show(state) for state in found.states)
        lines.append(f"what had returned by then leaves only: {'; '.join(states)}")
    if beside:
        lines.append("what overlaps it, or may still have taken effect:")
        lines += [f"  {_describe(ops, call)}" for call in beside[-_OVERLAPPING_SHOWN:]]
    shown = [stuck, *beside[-_OVERLAPPING_SHOWN:]]
    places = {place for call in shown for place in (call.invoked, call.returned) if place is not None}
    return Anomaly("nonlinearizable", "\n".join(lines), tuple(ops[place].index for place in sorted(places)))


def _describe(ops: Sequence[Op], call: Call) -> str:
    asked = call.f if call.argument is None else f"{call.f}({short(call.argument)})"
    if call.returned is None:
        return f"{asked} by process {call.process}, outcome unknown (index {ops[call.invoked].index})"
    where = f"index {ops[call.invoked].index} to {ops[call.returned].index}"
    return f"{asked} = {short(call.result)} by process {call.process} ({where})"


def short(value: Any) -> str:
    """The value as Python writes it, cut when it is long."""
    text = repr(value)
    return text if len(text) <= _VALUE_SHOWN else f"{text[:_VALUE_SHOWN]}…"


def known_only(ops: Sequence[Op], operations: Iterable[str]) -> None:
    """Raise `HistoryError` for an operation that the object does not have."""
    for op in ops:
        if op.f not in operations:
            raise HistoryError(f"operation {op.index}: no operation {op.f!r}, only {', '.join(operations)}")


def answered(ops: Sequence[Op], reads: Sequence[str]) -> list[Call]:
    """The calls without reads that nothing is known of; positions are places in `ops`."""
    return [call for call in pair_strictly(ops) if call.returned is not None or call.f not in reads]
