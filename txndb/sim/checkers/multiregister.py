"""Multi-register: transactions that read and write several registers at once, linearizable as one object.

An operation's value is `[["r", key, value], ["w", key, value], …]`; a read's value is null when it is invoked. Its
steps take effect in order and together. What Elle infers from dependencies is here searched for: one order of the
transactions, in real time, that explains every read.

Keys that no transaction connects are objects apart, so the search is by groups of connected keys. Keep them small.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

import msgspec

from txndb.sim.checkers.calls import HistoryError, frozen, pair_strictly
from txndb.sim.checkers.linearizability import STEPS_MAX
from txndb.sim.checkers.objects import Object, judge_calls, short
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Call, Op

_READS: Final = ("r", "read")
_WRITES: Final = ("w", "write")


def _prepare(ops: Sequence[Op], *, null_unknown: bool) -> list[Call]:
    """Calls whose argument and result are `((f, key, value), ...)`, f being `r` or `w`; a result's reads that say
    nothing are left out."""
    for op in ops:
        if op.value is None and op.type != "invoke":
            continue
        if not isinstance(op.value, list | tuple) or not all(_is_step(part) for part in op.value):
            where = f"operation {op.index}: {op.value!r}"
            raise HistoryError(f'{where} instead of a list of ["r", key, value] and ["w", key, value]')
    calls = []
    for call in pair_strictly(ops):
        writes = tuple(("w", k, v) for f, k, v in call.argument if f in _WRITES)
        if call.returned is None:
            if writes:
                calls.append(msgspec.structs.replace(call, argument=writes))
            continue
        told = writes if call.result is None else call.result
        steps = tuple(("w" if f in _WRITES else "r", k, v) for f, k, v in told)
        steps = tuple(part for part in steps if part[0] == "w" or part[2] is not None or not null_unknown)
        if steps:
            calls.append(msgspec.structs.replace(call, argument=writes, result=steps))
    return calls


def _is_step(part: Any) -> bool:
    return isinstance(part, list | tuple) and len(part) == 3 and part[0] in (*_READS, *_WRITES)


def check(
    ops: Sequence[Op], initial: Any = None, *, null_unknown: bool = False, steps_max: int = STEPS_MAX
) -> Verdict:
    """`initial` is every register's first value, or an object that names each key's (others begin as null)."""
    valid: bool | None = True
    anomalies: list[Anomaly] = []
    notes: list[str] = []
    for keys, calls in _connected(_prepare(ops, null_unknown=null_unknown)):
        kind = register_group(keys)
        first = tuple(frozen(_first_value(initial, key)) for key in keys)
        verdict = judge_calls(ops, calls, kind, first, steps_max)
        anomalies += verdict.anomalies
        notes += [verdict.note] * bool(verdict.note)
        if verdict.valid is False or (verdict.valid is None and valid):
            valid = verdict.valid
    return Verdict(valid, "multi-register", tuple(anomalies), note="; ".join(notes))


def _first_value(initial: Any, key: Any) -> Any:
    if isinstance(initial, dict):
        return initial.get(key, initial.get(str(key)))
    return initial


def _touched(call: Call) -> list[Any]:
    return [k for _, k, _ in (call.argument if call.returned is None else call.result)]


def _connected(calls: Sequence[Call]) -> list[tuple[list[Any], list[Call]]]:
    """The calls in groups that share no key, each with its keys."""
    leader: dict[Any, Any] = {}

    def find(key: Any) -> Any:
        leader.setdefault(key, key)
        while leader[key] != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for call in calls:
        first, *others = _touched(call)
        for key in [first, *others]:
            leader[find(key)] = find(first)
    groups: dict[Any, tuple[list[Any], list[Call]]] = {}
    for key in leader:
        groups.setdefault(find(key), ([], []))[0].append(key)
    for call in calls:
        groups[find(_touched(call)[0])][1].append(call)
    return list(groups.values())


def register_group(keys: Sequence[Any]) -> Object:
    """The object that registers of these keys are together; its state has their values in that order."""
    places = {key: place for place, key in enumerate(keys)}

    def step(state: Any, call: Call) -> tuple[bool, Hashable]:
        values = list(state)
        for f, key, value in call.argument if call.returned is None else call.result:
            if f == "w":
                values[places[key]] = value
            elif values[places[key]] != value:
                return False, state
        return True, tuple(values)

    def show(state: Any) -> str:
        return ", ".join(f"{key}={short(value)}" for key, value in zip(keys, state, strict=True))

    return Object("multi-register", step, lambda call: not call.argument, lambda ops: [], show)
