"""Transactions out of a history: invocations joined with completions, micro-operations in one form.

Takes what real recorders write: histories with completions only, processes that are no numbers (a nemesis, left out),
operations whose value is no transaction (left out and counted), EDN's colons before names, keys and values of any JSON
type. An operation that was invoked and never completed is `info`. A transaction that certainly failed keeps its writes,
for somebody may have seen them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import msgspec

from txndb.sim.history import Op

_NAMES = {"r": "r", "read": "r", "append": "append", "w": "w", "write": "w"}


class Mop(msgspec.Struct, frozen=True):
    """One step of a transaction. `value` of a read is as it was recorded, of a write it is frozen."""

    f: str
    """`r`, `append` or `w`."""
    key: Hashable
    value: Any


class Txn(msgspec.Struct):
    """One transaction, as far as the clients know."""

    node: int
    """Its number in the graph: transactions are numbered in order of completion."""
    index: int
    """The history index it is known by: of its completion, else of its invocation."""
    process: int
    status: str
    """`ok`, `fail` or `info`."""
    mops: tuple[Mop, ...]
    invoked: int | None
    """Position in the history; None when the history has no invocation of it."""
    returned: int | None
    """Position of an `ok` or `fail`; None when the outcome is unknown, for then it may yet take effect."""


class Txns(msgspec.Struct):
    """All transactions of a history."""

    all: list[Txn]
    skipped: int
    """Operations that are no transactions."""

    @property
    def timed(self) -> bool:
        """Whether the history has invocations: without them there is no real-time order to judge."""
        return any(txn.invoked is not None for txn in self.all)


def freeze(value: Any) -> Hashable:
    """`value` as something hashable, keeping `True` and `1` apart (Python takes them for equal, JSON does not)."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list | tuple):
        return tuple(freeze(part) for part in value)
    if isinstance(value, dict):
        return tuple(sorted((str(key), freeze(part)) for key, part in value.items()))
    assert isinstance(value, Hashable)
    return value


def thaw(value: Hashable) -> Any:
    """What to print for a frozen value."""
    if isinstance(value, tuple):
        if len(value) == 2 and value[0] == "bool":
            return value[1]
        return [thaw(part) for part in value]
    return value


def transactions(ops: Sequence[Op]) -> Txns:
    """Join invocations with completions.

    Args:
        ops: The history in real-time order. Indexes that are not unique are replaced by positions.
    """
    unique = len({op.index for op in ops}) == len(ops)
    running: dict[int, int] = {}
    found: list[tuple[int, int | None, int | None]] = []
    skipped = 0
    for position, op in enumerate(ops):
        if not isinstance(op.process, int):
            continue
        kind = op.type.lstrip(":")
        if kind == "invoke":
            if op.process in running:
                found.append((running[op.process], running[op.process], None))
            running[op.process] = position
        elif kind in ("ok", "fail", "info"):
            found.append((position, running.pop(op.process, None), position))
        else:
            skipped += 1
    found += [(position, position, None) for position in running.values()]
    out: list[Txn] = []
    for known_by, invoked, completed in sorted(found):
        txn = _txn(ops, invoked, completed)
        if txn is None:
            skipped += 1
            continue
        txn.node = len(out)
        txn.index = ops[known_by].index if unique else known_by
        out.append(txn)
    return Txns(out, skipped)


def _txn(ops: Sequence[Op], invoked: int | None, completed: int | None) -> Txn | None:
    status = "info" if completed is None else ops[completed].type.lstrip(":")
    mops = None if completed is None else _mops(ops[completed].value)
    if mops is None and invoked is not None:
        mops = _mops(ops[invoked].value)
        if status == "ok" and mops is not None and any(mop.f == "r" for mop in mops):
            return None  # it read something, and nobody wrote down what
    if mops is None:
        return None
    at = completed if completed is not None else invoked
    assert at is not None
    returned = None if status == "info" else completed
    return Txn(0, 0, ops[at].process, status, mops, invoked, returned)


def _mops(value: Any) -> tuple[Mop, ...] | None:
    """The steps of a transaction, or None when `value` is no transaction."""
    if not isinstance(value, list | tuple):
        return None
    mops: list[Mop] = []
    for step in value:
        if not isinstance(step, list | tuple) or not 2 <= len(step) <= 3:
            return None
        f = _NAMES.get(step[0].lstrip(":")) if isinstance(step[0], str) else None
        if f is None:
            return None
        result = step[2] if len(step) == 3 else None
        mops.append(Mop(f, freeze(step[1]), result if f == "r" else freeze(result)))
    return tuple(mops)
