"""Linearizability of registers, key by key: a history is linearizable if each key's is (Herlihy & Wing 1990, §3.4).

Operations: `read` (result: the value, None if there is none), `write` (argument: the value), `cas` (argument: [old,
new]; result False = refused) and `is` (argument: a value; result: whether the register held it – a lookup through an
index). A `read` or `is` without a known result says nothing and is left out.

Recorded histories come in two dialects. In `register` (etcd's histories, and ours) null is a value, and a failed
compare-and-set is an answer: the value differed. In `cas-register` (Knossos') a read of null was no answer, and every
failure says "did not happen".
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import msgspec

from txndb.sim.checkers.calls import HistoryError, frozen
from txndb.sim.checkers.linearizability import STEPS_MAX, Judgement, check
from txndb.sim.checkers.objects import Object, answered, judge, known_only
from txndb.sim.checkers.verdict import Verdict
from txndb.sim.history import Call, Op


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
        keys.setdefault(frozen(call.key), []).append(call)
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


def settle(ops: Sequence[Op]) -> list[Op]:
    """Failed compare-and-sets as what they say in the history as a whole (of all keys).

    A failure means that the value differed: it becomes an `ok` with False. It says nothing if it carries an `error`, or
    where some `cas` of the history was answered `ok` with true or false: then that is the answer, and a failure did not
    happen; it gets an error.
    """
    answers = any(op.f == "cas" and op.type == "ok" and isinstance(op.value, bool) for op in ops)
    settled = []
    for op in ops:
        if op.f == "cas" and op.type == "fail" and op.error is None:
            said = {"error": "did not happen"} if answers else {"type": "ok", "value": False}
            settled.append(msgspec.structs.replace(op, **said))
        else:
            settled.append(op)
    return settled


def prepare(ops: Sequence[Op], *, null_unknown: bool) -> list[Call]:
    """The calls that say something; a failure did not happen. `null_unknown`: a read of null was no answer."""
    known_only(ops, ("read", "write", "cas", "is"))
    for op in ops:
        if op.f == "cas" and op.type == "invoke" and not _is_pair(op.value):
            raise HistoryError(f"operation {op.index}: cas of {op.value!r} instead of [old, new]")
    calls = answered(ops, ("read", "is"))
    return [call for call in calls if call.f != "read" or call.result is not None or not null_unknown]


def check_history(
    ops: Sequence[Op],
    initial: Hashable = None,
    *,
    model: str = "register",
    null_unknown: bool | None = None,
    steps_max: int = STEPS_MAX,
) -> Verdict:
    """The verdict on one register in the dialect `model` names; `null_unknown` None is the dialect's own.

    The part of one key is to be settled with the history it is from.
    """
    knossos = model == "cas-register"
    reads = partial(prepare, null_unknown=knossos if null_unknown is None else null_unknown)
    return judge(ops if knossos else settle(ops), Object(model, step, pure, reads), initial, steps_max)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2
