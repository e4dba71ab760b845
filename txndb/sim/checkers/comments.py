"""Causal reverse (Jepsen's `comments`): a later write is seen, an earlier one, long completed, is not.

Clients insert ids, each in a transaction of its own, into several tables; readers read all of them in one transaction.
When the insert of w1 completed before that of w2 was invoked, real time puts w1 first, and whoever sees w2 must see
w1. A database can be serializable and break this: it is free to order transactions against real time. Strict
serializability, and the commit timestamps this database waits for, forbid it. On a page of comments it is the answer
without the question.

    {"process": 0, "type": "ok", "f": "write", "value": 3}
    {"process": 1, "type": "ok", "f": "read", "value": [1, 3]}

An id whose insert failed must not be seen (`G1a`), nor one that nobody inserted (`unwritten-read`). What has an unknown
outcome may be seen or not, but counts as completed never. Operations with keys are judged key by key.

How it is decided: a read that saw the ids S must contain every id whose insert completed before the latest invocation
among S; with ids in order of completion these are a prefix, so a read costs as much as it has ids.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence

import msgspec

from txndb.limits import ELLE_EXAMPLES_MAX
from txndb.sim.checkers.calls import HistoryError
from txndb.sim.checkers.elle.facts import show
from txndb.sim.checkers.elle.txns import freeze
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Op

_WRITES = ("write", "add", "insert")


class Insert(msgspec.Struct):
    """One id. Positions are places in the history."""

    id: Hashable
    index: int
    """The history index it is known by."""
    invoked: int
    completed: int | None = None
    failed: bool = False


def check(ops: Sequence[Op]) -> Verdict:
    """The verdict; unknown when nothing was read.

    Raises:
        HistoryError: An operation that is neither read nor write, a read of no list, an id written twice.
    """
    inserts = _inserts(ops)
    done: dict[Hashable, list[Insert]] = {}
    for (key, _), insert in inserts.items():
        if insert.completed is not None:
            done.setdefault(key, []).append(insert)
    for group in done.values():
        group.sort(key=lambda insert: insert.completed or 0)
    reads = _reads(ops)
    anomalies = [a for key, read in reads for a in _judge(key, read, inserts, done.get(key, []))]
    if anomalies:
        shown = _some(anomalies)
        note = f"{len(anomalies)} in all" if len(anomalies) > len(shown) else ""
        return Verdict(False, "comments", tuple(shown), note=note)
    return Verdict(True if reads else None, "comments", note="" if reads else "nothing was read")


def _some(anomalies: list[Anomaly]) -> list[Anomaly]:
    """The first of each kind."""
    kinds: dict[str, list[Anomaly]] = {}
    for anomaly in anomalies:
        kinds.setdefault(anomaly.kind, []).append(anomaly)
    return [anomaly for kind in sorted(kinds) for anomaly in kinds[kind][:ELLE_EXAMPLES_MAX]]


def _reads(ops: Sequence[Op]) -> list[tuple[Hashable, Op]]:
    """Answered reads with their keys; a completion without a key has its invocation's."""
    asked: dict[int, Hashable] = {}
    reads = []
    for op in ops:
        if op.f == "read" and op.type == "invoke":
            asked[op.process] = freeze(op.key)
        elif op.f == "read" and op.type == "ok" and op.value is not None:
            key = freeze(op.key) if op.key is not None else asked.get(op.process)
            reads.append((key, op))
    return reads


def _inserts(ops: Sequence[Op]) -> dict[tuple[Hashable, Hashable], Insert]:
    inserts: dict[tuple[Hashable, Hashable], Insert] = {}
    running: dict[int, Insert] = {}
    for position, op in enumerate(ops):
        if op.f not in (*_WRITES, "read"):
            raise HistoryError(f"operation {op.index}: comments know no {op.f!r}, only read and write")
        if op.f == "read":
            continue
        if op.type == "invoke":
            name = (freeze(op.key), freeze(op.value))
            if name in inserts:
                raise HistoryError(f"operation {op.index}: the id {op.value!r} is written twice")
            running[op.process] = inserts[name] = Insert(name[1], op.index, position)
            continue
        insert = running.pop(op.process, None)
        if insert is None:
            raise HistoryError(f"operation {op.index}: process {op.process} completes what it did not invoke")
        insert.index = op.index
        insert.completed = position if op.type == "ok" else None
        insert.failed = op.type == "fail"
    return inserts


def _judge(
    key: Hashable, read: Op, inserts: dict[tuple[Hashable, Hashable], Insert], completed: list[Insert]
) -> list[Anomaly]:
    if not isinstance(read.value, list | tuple):
        raise HistoryError(f"operation {read.index}: a read of {read.value!r} instead of a list of ids")
    ids = [freeze(one) for one in read.value]
    anomalies: list[Anomaly] = []
    latest: Insert | None = None
    for one in ids:
        insert = inserts.get((key, one))
        if insert is None:
            text = f"the read at {read.index} saw {show(one)}, which nobody wrote"
            anomalies.append(Anomaly("unwritten-read", text, (read.index,)))
            continue
        if insert.failed:
            text = f"the read at {read.index} saw {show(one)}, whose write at {insert.index} failed"
            anomalies.append(Anomaly("G1a", text, (insert.index, read.index)))
        if latest is None or insert.invoked > latest.invoked:
            latest = insert
    if latest is not None:
        before = bisect_left(completed, latest.invoked, key=lambda insert: insert.completed or 0)
        seen = set(ids)
        missed = [insert for insert in completed[:before] if insert.id not in seen]
        if missed:
            text = (
                f"the read at {read.index} saw {show(latest.id)} (written at {latest.index}) and not "
                f"{show(missed[0].id)}, whose write had completed (at {missed[0].index}) before that one began"
            )
            indexes = (missed[0].index, latest.index, read.index)
            anomalies.append(Anomaly("causal-reverse", text, indexes))
    return anomalies
