"""A table that changes its shape: every read is of one catalogue and one moment, DDL is serialized with everything.

Operations: `put` (key; argument: the row's value, None if it was deleted), `column` (argument: the new column's
default, which all rows have), `truncate` (argument: the epoch that begins), `side` (argument: the number in the table
made anew), `look` (result: all rows; the same by value; single look-ups by value; the rows of `side` – the latter three
None or empty in a read of one statement).

What must hold (numbered as reported):
1. a look is whole: row -1 is there, all rows have four columns, the epoch of row -1, and one value in the last column;
2. primary key and indexes agree within a transaction;
3. `side` has its two rows, with one number;
4. each row, the epoch, the last column's value and the number in `side` are linearizable registers, to which TRUNCATE
   writes as well: so DDL is strictly serializable with reads and writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from txndb.sim.checkers.calls import HistoryError, pair_strictly
from txndb.sim.checkers.register import check_key
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Call, Op

WIDTH = 4
LOOK_PARTS = 4
KEYS_MAX = 100_000
_KINDS: Final = {"1": "half-altered", "2": "index-differs", "3": "side-differs", "4": "nonlinearizable"}


def check(ops: Sequence[Op]) -> Verdict:
    """The verdict on a recorded history; unknown if nobody looked.

    The keys are those that were put. Other operations, DDL that leaves no trace in the rows, are not looked at.
    """
    calls = pair_strictly(ops)
    looks = [call for call in calls if call.f == "look" and call.returned is not None]
    if not looks:
        return Verdict(None, "schema", note="nobody looked")
    for look in looks:
        if not _is_look(look.result):
            raise HistoryError(f"operation {ops[look.returned or 0].index}: a look without its four parts")
    puts = [call for call in calls if call.f == "put"]
    for put in puts:
        if not isinstance(put.key, int) or not 0 <= put.key < KEYS_MAX:
            raise HistoryError(f"operation {ops[put.invoked].index}: a put whose key is {put.key!r}")
    keys = 1 + max((put.key for put in puts), default=-1)
    anomalies = []
    for text in check_schema(calls, keys):
        number = text.partition(": ")[2][:1] if text.startswith("look at") else text[:1]
        anomalies.append(Anomaly(_KINDS[number], text))
    return Verdict(not anomalies, "schema", tuple(anomalies))


def _is_look(result: Any) -> bool:
    if not (isinstance(result, tuple) and len(result) == LOOK_PARTS):
        return False
    rows, by_value, probes, side = result
    return all(
        isinstance(part, tuple) and all(isinstance(row, tuple) and len(row) >= fields for row in part)
        for part, fields in ((rows, 1), (by_value or (), 2), (probes, 2), (side or (), 2))
    ) and all(isinstance(found, tuple) for _, found, *_ in probes)


def check_schema(calls: Sequence[Call], keys: int) -> list[str]:
    """What is wrong; empty if nothing is."""
    looks = [call for call in calls if call.f == "look" and call.returned is not None]
    problems = [f"look at {look.invoked}: {text}" for look in looks if (text := check_look(look.result))]
    if problems:
        return problems
    for name, initial, part in _registers(calls, keys):
        verdict = check_key(part, initial)
        if not verdict.valid:
            how = "is not linearizable" if verdict.valid is False else "is undecided"
            stuck = verdict.stuck
            what = (
                "" if stuck is None else f": {stuck.f} {stuck.argument} -> {stuck.result} at {stuck.invoked}"
            )
            problems.append(f"4: {name} {how}{what}")
    return problems


def check_look(result: Any) -> str:
    """Findings 1 to 3: what is wrong with one look by itself."""
    rows, by_value, probes, side = result
    if not rows or rows[0][0] != -1:
        return f"1: row -1 is missing in {rows}"
    if any(len(row) != WIDTH for row in rows):
        return f"1: a table half altered: {rows}"
    if any(row[2] != rows[0][1] or row[3] != rows[0][3] for row in rows):
        return f"1: rows of several epochs or columns: {rows}"
    by_key = sorted(((row[0], row[1]) for row in rows), key=repr)
    if by_value is not None and sorted(by_value, key=repr) != by_key:
        return f"2: by value {by_value}, by key {rows}"
    if any(list(found) != [key] for key, found in probes):
        return f"2: look-ups by value found {probes} in {rows}"
    if side is not None and ([row[0] for row in side] != [1, 2] or side[0][1] != side[1][1]):
        return f"3: side is {side}"
    return ""


def _registers(calls: Sequence[Call], keys: int) -> list[tuple[str, Any, list[Call]]]:
    """The registers, each with its first value and the calls on it."""
    rows: list[list[Call]] = [[] for _ in range(keys)]
    epoch: list[Call] = []
    column: list[Call] = []
    side: list[Call] = []
    for call in calls:
        if call.f == "put":
            rows[call.key].append(_write(call, call.argument))
        elif call.f == "truncate":
            epoch.append(_write(call, call.argument))
            for part in rows:
                part.append(_write(call, None))
        elif call.f in ("column", "side"):
            (column if call.f == "column" else side).append(_write(call, call.argument))
        elif call.f == "look" and call.returned is not None:
            seen, _, _, seen_side = call.result
            values = {row[0]: row[1] for row in seen}
            for key, part in enumerate(rows):
                part.append(_read(call, values.get(key)))
            epoch.append(_read(call, seen[0][1]))
            column.append(_read(call, seen[0][3]))
            if seen_side is not None:
                side.append(_read(call, seen_side[0][1]))
    named = [(f"row {key}", None, part) for key, part in enumerate(rows)]
    return [*named, ("the epoch", 0, epoch), ("the column", 0, column), ("side", 0, side)]


def _write(call: Call, value: Any) -> Call:
    return msgspec.structs.replace(call, f="write", argument=value)


def _read(call: Call, value: Any) -> Call:
    return msgspec.structs.replace(call, f="read", argument=None, result=value)
