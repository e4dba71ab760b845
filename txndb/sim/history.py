"""The history of a run: what clients asked for and what they were told, in order of virtual time.

Operations come in pairs, in the form Jepsen made common (and `docs/testing.md` explains): `invoke`, then `ok` (it
happened, with its result), `fail` (it certainly did not happen) or `info` (nobody knows). After an `info` the process
number is never used again, for the operation may still take effect at any later time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class Op(msgspec.Struct):
    """One line of a history."""

    index: int
    process: int
    type: str
    f: str
    value: Any = None
    key: Any = None
    time_us: int = 0
    error: Any = None
    """What a client was told, where the history was recorded with it; None otherwise."""


class Call(msgspec.Struct, frozen=True):
    """An invocation with its completion. `returned` is None when the outcome is unknown (or never came)."""

    process: int
    f: str
    key: Any
    argument: Any
    result: Any
    invoked: int
    returned: int | None
    """Positions in the history: smaller means earlier in real time."""


class History:
    """Collects operations; positions in `ops` are the real-time order."""

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def add(
        self, process: int, kind: str, f: str, value: Any, key: Any, time_us: int, error: str | None = None
    ) -> Op:
        op = Op(len(self.ops), process, kind, f, value, key, time_us, error)
        self.ops.append(op)
        return op

    def calls(self) -> list[Call]:
        """Every operation that happened or may have happened, in order of invocation; failed ones are left out."""
        return pair(self.ops)


def load(lines: Iterable[bytes]) -> list[Op]:
    """Read a history from JSON lines; lines of other than numbered processes (a nemesis) are left out."""
    ops: list[Op] = []
    for line in lines:
        raw: dict[str, Any] = msgspec.json.decode(line)
        if isinstance(raw["process"], int):
            ops.append(Op(len(ops), raw["process"], raw["type"], raw["f"], raw.get("value"), raw.get("key")))
    return ops


def pair(ops: list[Op]) -> list[Call]:
    """Join invocations with their completions."""
    open_calls: dict[int, int] = {}
    calls: list[Call | None] = []
    for position, op in enumerate(ops):
        if op.type == "invoke":
            open_calls[op.process] = len(calls)
            calls.append(Call(op.process, op.f, op.key, op.value, None, position, None))
            continue
        slot = open_calls.pop(op.process, None)
        if slot is None:
            continue
        call = calls[slot]
        assert call is not None
        if op.type == "ok":
            calls[slot] = msgspec.structs.replace(call, result=op.value, returned=position)
        elif op.type == "fail":
            calls[slot] = None
    return [call for call in calls if call is not None]
