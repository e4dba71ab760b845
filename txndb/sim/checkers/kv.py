"""Key-value store of strings, linearizable key by key: `get` (result: the string), `put` (value: the new string) and
`append` (value: what is put at the end). A key that nobody wrote holds the empty string, and null means that too.

The history is of one key; `calls.judge_each_key` takes the keys apart. Reads of a key that is only appended to fix the
order of all that came before, which is what makes this object so sharp (porcupine's `kv` model).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

from txndb.sim.checkers.calls import HistoryError
from txndb.sim.checkers.linearizability import STEPS_MAX
from txndb.sim.checkers.objects import Object, answered, judge, known_only
from txndb.sim.checkers.verdict import Verdict
from txndb.sim.history import Call, Op


def check(ops: Sequence[Op], initial: str = "", steps_max: int = STEPS_MAX) -> Verdict:
    """The verdict on one key."""
    return judge(ops, KV, initial, steps_max)


def _prepare(ops: Sequence[Op]) -> list[Call]:
    known_only(ops, ("get", "put", "append"))
    for op in ops:
        text = op.type == "invoke" and op.f != "get"
        if (text or op.value is not None) and not isinstance(op.value, str):
            raise HistoryError(f"operation {op.index}: {op.f} with {op.value!r} instead of a string")
    return answered(ops, ("get",))


def _step(state: Any, call: Call) -> tuple[bool, Hashable]:
    if call.f == "get":
        return state == (call.result or ""), state
    return True, (call.argument if call.f == "put" else state + call.argument)


KV: Final = Object("kv", _step, lambda call: call.f == "get", _prepare)
