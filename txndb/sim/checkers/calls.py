"""From a history's operations to what a checker works on: hashable values, keys apart, calls with their answers.

A history that cannot be read as its model wants raises `HistoryError`, with the index of the operation at fault: that
is a broken file or the wrong model, not an anomaly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Call, Op, pair

_NOTES_SHOWN: Final = 3


class HistoryError(Exception):
    """The history is not one of this model; the text says where and why."""


def frozen(value: Any) -> Any:
    """The value with its lists as tuples and its objects as sorted tuples of pairs, so that it can be hashed."""
    if isinstance(value, list | tuple):
        return tuple(frozen(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted(((key, frozen(item)) for key, item in value.items()), key=repr))
    return value


def frozen_calls(calls: Iterable[Call]) -> list[Call]:
    """The calls with hashable keys, arguments and results."""
    return [
        msgspec.structs.replace(
            call, key=frozen(call.key), argument=frozen(call.argument), result=frozen(call.result)
        )
        for call in calls
    ]


def pair_strictly(ops: Sequence[Op]) -> list[Call]:
    """Calls whose positions are places in `ops`; a completion without its invocation raises `HistoryError`."""
    open_processes: set[int] = set()
    for op in ops:
        if op.type == "invoke":
            open_processes.add(op.process)
        elif op.process in open_processes:
            open_processes.discard(op.process)
        else:
            raise HistoryError(f"operation {op.index}: process {op.process} completes what it did not invoke")
    return frozen_calls(pair(list(ops)))


def by_key(ops: Sequence[Op]) -> dict[Any, list[Op]]:
    """The operations of each key, in order; a completion without a key has its invocation's."""
    keys: dict[Any, list[Op]] = {}
    invoked: dict[int, Any] = {}
    for op in ops:
        key = frozen(op.key)
        if op.type == "invoke":
            invoked[op.process] = key
        elif key is None:
            key = invoked.get(op.process)
        keys.setdefault(key, []).append(op)
    return keys


def with_keys_split(ops: Sequence[Op], *, reads: frozenset[str], wanted: bool | None) -> list[Op]:
    """Take values `[key, value]` apart, as histories of several independent objects have them.

    Args: `wanted` says whether values are such; None: find out. They are if every operation's value is a list of two
    and every read is invoked with `[key, null]` – a read of a single object is invoked with null. The result's keys are
    `Op.key`; where the operations have keys already nothing is taken apart.
    """
    if wanted is False or any(op.key is not None for op in ops):
        return list(ops)
    if wanted is None and not _looks_keyed(ops, reads):
        return list(ops)
    apart = []
    for op in ops:
        if op.value is None and op.type != "ok":
            apart.append(op)
            continue
        if not _is_pair(op.value):
            raise HistoryError(
                f"operation {op.index}: {op.f} has the value {op.value!r} instead of [key, value]"
            )
        apart.append(msgspec.structs.replace(op, key=op.value[0], value=op.value[1]))
    return apart


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _looks_keyed(ops: Sequence[Op], reads: frozenset[str]) -> bool:
    read = False
    for op in ops:
        if op.type == "invoke" and op.f in reads:
            if not _is_pair(op.value) or op.value[1] is not None or isinstance(op.value[0], list | dict):
                return False
            read = True
        elif not (_is_pair(op.value) or (op.value is None and op.type != "ok")):
            return False
    return read


def judge_each_key(ops: Sequence[Op], model: str, judge: Callable[[list[Op]], Verdict]) -> Verdict:
    """One verdict from the verdicts on each key's operations: an object is right if each of its keys is."""
    anomalies: list[Anomaly] = []
    notes = []
    valid: bool | None = True
    for key, part in by_key(ops).items():
        verdict = judge(part)
        name = "" if key is None else f"key {key!r}: "
        anomalies += [msgspec.structs.replace(found, text=name + found.text) for found in verdict.anomalies]
        if verdict.note:
            notes.append(name + verdict.note)
        if verdict.valid is False or (verdict.valid is None and valid):
            valid = verdict.valid
    if len(notes) > _NOTES_SHOWN:
        notes[_NOTES_SHOWN:] = [f"and so of {len(notes) - _NOTES_SHOWN} more keys"]
    return Verdict(valid, model, tuple(anomalies), note="; ".join(notes))
