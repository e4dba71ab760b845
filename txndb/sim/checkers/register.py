"""Linearizability of registers, key by key: a history is linearizable if each key's is (Herlihy & Wing 1990, §3.4).

Operations: `read` (result: the value, None if there is none), `write` (argument: the value), `cas` (argument: [old,
new]; result False = refused) and `is` (argument: a value; result: whether the register held it – a lookup through an
index). A `read` or `is` without a known result says nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from txndb.sim.checkers.linearizability import STEPS_MAX, Judgement, check
from txndb.sim.history import Call


def step(state: Any, call: Call) -> tuple[bool, Hashable]:
    """The register's sequential behaviour."""
    if call.f == "read":
        return state == call.result, state
    if call.f == "write":
        return True, call.argument
    if call.f == "cas":
        old, new = call.argument
        if call.returned is None:
            return True, (new if state == old else state)
        if call.result is False:
            return state != old, state
        return state == old, new
    if call.f == "is":
        return (state == call.argument) == call.result, state
    raise ValueError(f"a register has no operation {call.f!r}")


def pure(call: Call) -> bool:
    """Whether the call changes no value."""
    return call.f in ("read", "is") or (call.f == "cas" and call.result is False)


def by_key(calls: Sequence[Call]) -> dict[Any, list[Call]]:
    """The calls that say something, per key."""
    keys: dict[Any, list[Call]] = {}
    for call in calls:
        if call.returned is None and call.f in ("read", "is"):
            continue
        keys.setdefault(call.key, []).append(call)
    return keys


def check_key(calls: Sequence[Call], initial: Hashable = None, steps_max: int = STEPS_MAX) -> Judgement:
    """The verdict on one key's calls."""
    return check(calls, initial, step, steps_max, pure)


def check_registers(calls: Sequence[Call], initial: Hashable = None) -> list[str]:
    """One line per key that is not linearizable."""
    problems = []
    for key, part in by_key(calls).items():
        verdict = check_key(part, initial)
        if verdict.valid is None:
            problems.append(f"register {key}: undecided after the step bound, {len(part)} calls")
        elif not verdict.valid:
            problems.append(
                f"register {key} is not linearizable: no order explains {_describe(verdict.stuck)}"
            )
    return problems


def _describe(call: Call | None) -> str:
    if call is None:
        return "its calls"
    return (
        f"{call.f}({call.argument!r}) -> {call.result!r} of process {call.process} at position {call.invoked}"
    )
