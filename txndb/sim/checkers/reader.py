"""Reads a recorded history: JSON lines, one operation each, or one JSON array of them.

An operation is an object with `process`, `type` (`invoke`, `ok`, `fail`, `info`), `f`, `value`, and at will `key`,
`index`, `time` and `error`. Lines are in order of real time; where `index` is given it counts upwards. Operations of
processes that are not numbered (a nemesis) are left out. An input without a single line is an error: it is the end of
a broken pipe, not a history. What else an operation carries is not looked at.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from txndb.sim.checkers.calls import HistoryError
from txndb.sim.history import Op

_TYPES: Final = ("invoke", "ok", "fail", "info")
_ANY_F: Final = "txn"
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_history(text: bytes) -> list[Op]:
    """The operations of numbered processes, in order; raises `HistoryError` with the line at fault."""
    ops: list[Op] = []
    last = -1
    for where, raw in _objects(text):
        op = _operation(where, raw, last + 1)
        last = op.index if op is not None else _index(where, raw, last + 1)
        if op is not None:
            ops.append(op)
    return ops


def _objects(text: bytes) -> list[tuple[str, Any]]:
    if text.lstrip()[:1] == b"[":
        try:
            found = msgspec.json.decode(text)
        except _BROKEN as error:
            raise HistoryError(f"not a JSON array: {error}") from error
        return [(f"item {number}", raw) for number, raw in enumerate(found, 1)]
    objects = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                objects.append((f"line {number}", msgspec.json.decode(line)))
            except _BROKEN as error:
                raise HistoryError(f"line {number}: not JSON: {error}") from error
    if not objects:
        raise HistoryError("the input is empty")
    return objects


def _operation(where: str, raw: Any, index_min: int) -> Op | None:
    if not isinstance(raw, dict):
        raise HistoryError(f"{where}: not an operation, which is a JSON object")
    for field in ("process", "type"):
        if field not in raw:
            raise HistoryError(f"{where}: an operation without {field!r}")
    process, kind = raw["process"], _name(raw["type"])
    if kind not in _TYPES:
        raise HistoryError(f"{where}: type {kind!r} is none of {', '.join(_TYPES)}")
    if not isinstance(process, int) or isinstance(process, bool):
        return None
    f = _name(raw.get("f")) or _ANY_F
    if not isinstance(f, str):
        raise HistoryError(f"{where}: f is {f!r} instead of a name")
    index = _index(where, raw, index_min)
    return Op(index, process, kind, f, raw.get("value"), raw.get("key"), error=raw.get("error"))


def _name(value: Any) -> Any:
    """A name without the colon that keywords keep when a history is turned from EDN into JSON."""
    return value.removeprefix(":") if isinstance(value, str) else value


def _index(where: str, raw: dict[str, Any], index_min: int) -> int:
    index = raw.get("index", index_min)
    if not isinstance(index, int) or isinstance(index, bool):
        raise HistoryError(f"{where}: index is {index!r} instead of a number")
    if index < index_min:
        raise HistoryError(
            f"{where}: index {index} is not above the one before: lines are in order of real time"
        )
    return index
