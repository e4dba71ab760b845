"""Monotonic: numbers that grow with the order of commits (Jepsen's `monotonic` tests of CockroachDB).

Each `add` is a transaction that reads the largest number there is and inserts a larger one; a `read` gives all numbers.
A number comes as itself, or in a row that also has the database's timestamp: an object with `val` and `sts`, or a list
that begins with them. Rows are in the order of their timestamps, as the read asked for them.

What must hold (the anomalies' names):
1. `out-of-order`: within a read, numbers rise strictly and timestamps do not fall;
2. `duplicate`: no number twice in a read, none given to two additions;
3. `lost`, `stale`: what was acknowledged, or seen by a read, is in every read that begins later;
4. `revived`: no row of a failed addition is read (known where the failure carries the row);
5. `not-monotonic`: an addition that began after another had ended, or after a read of a number had, gets a larger
   number and no smaller timestamp (not asked of numbers that the client chose: those that were invoked with);
6. `unexpected`: a read has no more numbers of unknown origin than additions had unknown outcomes – numbers below all
   that were added were there at first; none whose addition began after the read had ended;
7. `gap` (where asked for: every addition is one more than the largest): a read has no holes.

An addition may answer with its own row or, as CockroachDB's test does, with the largest row before its own. Both rise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from txndb.sim.checkers.calls import HistoryError, frozen, pair_strictly
from txndb.sim.checkers.objects import known_only, short
from txndb.sim.checkers.sets import Element, Read, missing
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Call, Op

_ROW_FIELDS_MIN = 2


class _Row(msgspec.Struct, frozen=True):
    val: int
    sts: Decimal | None = None


class _Moment(msgspec.Struct, frozen=True):
    """What was known when a call returned."""

    invoked: int
    returned: int
    row: _Row
    is_add: bool


def check(ops: Sequence[Op], *, real_time: bool = True, gapless: bool = False) -> Verdict:
    """The verdict on one sequence of numbers; unknown if it was never read.

    Without `real_time` (clocks that broke their bound) 5 is not asked for, and 3 of the last read only. `gapless` asks
    for 7. Raises `HistoryError` if it is no history of this kind.
    """
    known_only(ops, ("add", "read"))
    calls = pair_strictly(ops)
    adds = [(call, row) for call in calls if call.f == "add" and (row := _added(ops, call)) is not None]
    reads = [(call, _rows(ops, call)) for call in calls if call.f == "read" and _answered(call)]
    if not reads:
        return Verdict(None, "monotonic", note="nothing was read")
    anomalies = _duplicates(ops, adds)
    for call, rows in reads:
        anomalies += _ordered(ops, call, rows, gapless=gapless)
    anomalies += _missing(ops, adds, reads, real_time=real_time)
    anomalies += _revived(ops, reads)
    if real_time:
        anomalies += _rising(ops, adds, reads)
    anomalies += _unexpected(ops, calls, adds, reads)
    return Verdict(not anomalies, "monotonic", tuple(anomalies))


def _answered(call: Call) -> bool:
    return call.returned is not None and call.result is not None


def _row(op: Op, value: Any) -> _Row:
    fields = dict(value) if _is_object(value) else None
    if fields is not None:
        val, sts = fields.get("val"), fields.get("sts")
    elif isinstance(value, tuple) and len(value) >= _ROW_FIELDS_MIN:
        val, sts = value[0], value[1]
    else:
        val, sts = value, None
    if isinstance(val, bool) or not isinstance(val, int):
        raise HistoryError(f"operation {op.index}: {short(value)} is neither a number nor a row with one")
    try:
        return _Row(val, None if sts is None else Decimal(str(sts)))
    except InvalidOperation as error:
        raise HistoryError(f"operation {op.index}: timestamp {sts!r} is no number") from error


def _is_object(value: Any) -> bool:
    """Whether the value was a JSON object before it was frozen."""
    return isinstance(value, tuple) and all(
        isinstance(part, tuple) and len(part) == 2 and isinstance(part[0], str) for part in value
    )


def _added(ops: Sequence[Op], call: Call) -> _Row | None:
    return (
        _row(ops[call.returned], call.result)
        if call.returned is not None and call.result is not None
        else None
    )


def _rows(ops: Sequence[Op], call: Call) -> list[_Row]:
    assert call.returned is not None
    if not isinstance(call.result, tuple):
        raise HistoryError(f"operation {ops[call.returned].index}: a read gave no list")
    return [_row(ops[call.returned], value) for value in call.result]


def _ends(ops: Sequence[Op], call: Call) -> tuple[int, int]:
    assert call.returned is not None
    return ops[call.invoked].index, ops[call.returned].index


def _duplicates(ops: Sequence[Op], adds: Sequence[tuple[Call, _Row]]) -> list[Anomaly]:
    given: dict[int, Call] = {}
    anomalies = []
    for call, row in adds:
        other = given.setdefault(row.val, call)
        if other is not call:
            places = _ends(ops, other) + _ends(ops, call)
            text = f"two additions got {row.val} (index {places[1]} and {places[3]})"
            anomalies.append(Anomaly("duplicate", text, places))
    return anomalies


def _ordered(ops: Sequence[Op], call: Call, rows: Sequence[_Row], *, gapless: bool) -> list[Anomaly]:
    places = _ends(ops, call)
    for before, after in itertools.pairwise(rows):
        where = f"in the read at index {places[1]}"
        if before.val == after.val:
            return [Anomaly("duplicate", f"{before.val} is twice {where}", places)]
        if after.val < before.val:
            return [Anomaly("out-of-order", f"{after.val} comes after {before.val} {where}", places)]
        if before.sts is not None and after.sts is not None and after.sts < before.sts:
            text = f"{after.val} has timestamp {after.sts}, below {before.sts} of {before.val}, {where}"
            return [Anomaly("out-of-order", text, places)]
        if gapless and after.val != before.val + 1:
            return [Anomaly("gap", f"{after.val} follows {before.val} {where}", places)]
    return []


def _missing(
    ops: Sequence[Op],
    adds: Sequence[tuple[Call, _Row]],
    reads: Sequence[tuple[Call, Sequence[_Row]]],
    *,
    real_time: bool,
) -> list[Anomaly]:
    elements: dict[Any, Element] = {}
    for call, row in adds:
        assert call.returned is not None
        known = elements.setdefault(row.val, Element())
        known.added = min(known.added, call.returned)
    if not real_time:
        reads = [max(reads, key=lambda read: read[0].returned or 0)]
    seen = [Read(call, call.returned or 0, frozenset(row.val for row in rows)) for call, rows in reads]
    lost, stale = missing(ops, elements, seen)
    return lost + stale


def _revived(ops: Sequence[Op], reads: Sequence[tuple[Call, Sequence[_Row]]]) -> list[Anomaly]:
    """Failures whose value is a row name what must not be there; a mere number may be the client's own counter."""
    failed = {}
    for op in ops:
        if op.f == "add" and op.type == "fail" and isinstance(op.value, dict | list | tuple):
            failed[_row(op, frozen(op.value)).val] = op.index
    anomalies = []
    for call, rows in reads:
        for row in rows:
            if row.val in failed:
                places = (failed.pop(row.val), *_ends(ops, call))
                text = f"{row.val}, whose addition failed (index {places[0]}), is in the read at index {places[2]}"
                anomalies.append(Anomaly("revived", text, places))
    return anomalies


def _rising(
    ops: Sequence[Op], adds: Sequence[tuple[Call, _Row]], reads: Sequence[tuple[Call, Sequence[_Row]]]
) -> list[Anomaly]:
    """Sweep over real time with the largest row that a finished call knows of."""
    known = [
        _Moment(call.invoked, call.returned or 0, row, True) for call, row in adds if call.argument != row.val
    ]
    known += [
        _Moment(call.invoked, call.returned or 0, max(rows, key=lambda row: row.val), False)
        for call, rows in reads
        if rows
    ]
    finished = iter(sorted(known, key=lambda moment: moment.returned))
    upcoming = next(finished, None)
    largest: _Moment | None = None
    anomalies = []
    for moment in sorted((moment for moment in known if moment.is_add), key=lambda moment: moment.invoked):
        while upcoming is not None and upcoming.returned < moment.invoked:
            if largest is None or (upcoming.row.val, upcoming.is_add) > (largest.row.val, largest.is_add):
                largest = upcoming
            upcoming = next(finished, None)
        if largest is not None and _falls(largest, moment):
            places = tuple(ops[place].index for place in (largest.returned, moment.invoked, moment.returned))
            text = (
                f"the addition at index {places[1]} to {places[2]} got {_shown(moment.row)}, although "
                f"{_shown(largest.row)} was there before it began (index {places[0]})"
            )
            anomalies.append(Anomaly("not-monotonic", text, places))
    return anomalies


def _falls(before: _Moment, add: _Moment) -> bool:
    """Whether the addition did not rise above what was known. Where it has a row, that may be the largest before it."""
    if add.row.sts is not None and before.row.sts is not None and add.row.sts < before.row.sts:
        return True
    if add.row.sts is not None and not before.is_add:
        return add.row.val < before.row.val
    return add.row.val <= before.row.val


def _shown(row: _Row) -> str:
    return f"{row.val}" if row.sts is None else f"{row.val} at {row.sts}"


def _unexpected(
    ops: Sequence[Op],
    calls: Sequence[Call],
    adds: Sequence[tuple[Call, _Row]],
    reads: Sequence[tuple[Call, Sequence[_Row]]],
) -> list[Anomaly]:
    """Finding 6, where additions answer with mere numbers, which are their own."""
    if any(row.sts is not None for _, row in adds) or not adds:
        return []
    begun = {row.val: call.invoked for call, row in adds}
    lowest = min(begun)
    unknown = sum(1 for call in calls if call.f == "add" and not _answered(call))
    strange: set[int] = set()
    anomalies = []
    for call, rows in reads:
        places = _ends(ops, call)
        strange |= {row.val for row in rows if row.val not in begun and row.val > lowest}
        future = [row.val for row in rows if begun.get(row.val, -1) > (call.returned or 0)]
        if future:
            text = f"the read at index {places[1]} has {short(future)}, added only after it"
            anomalies.append(Anomaly("unexpected", text, places))
        if len(strange) > unknown:
            text = (
                f"up to the read at index {places[1]} {len(strange)} numbers were read that no addition is known to "
                f"have got, but only {unknown} additions had an unknown outcome: {short(sorted(strange))}"
            )
            return [*anomalies, Anomaly("unexpected", text, places)]
    return anomalies
