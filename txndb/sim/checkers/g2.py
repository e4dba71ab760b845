"""Predicate anti-dependencies (Jepsen's `adya` workload, G2): of two inserts that rule each other out one may succeed.

For each key two transactions run. Each reads, by a predicate over two tables, whether there is a row of that key, and
only if there is none inserts its own: one into the first table (`[key, [a_id, null]]`), the other into the second
(`[key, [null, b_id]]`). Under serializability one of them comes second and sees the other's row. Both succeed only if
each read before the other wrote: two anti-dependencies through a predicate, Adya's G2, which snapshot isolation and
locks on rows alone (that do not exist yet) allow.

    {"process": 0, "type": "ok", "f": "insert", "value": [7, [1, null]]}

A failed insert saw a row, or did nothing; one of unknown outcome proves nothing. With keys in `key` the value is the
pair alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from txndb.limits import ELLE_EXAMPLES_MAX
from txndb.sim.checkers.calls import HistoryError
from txndb.sim.checkers.elle.facts import show
from txndb.sim.checkers.elle.txns import freeze
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Op


def check(ops: Sequence[Op]) -> Verdict:
    """The verdict; unknown when no insert succeeded.

    Raises:
        HistoryError: A successful insert whose value is no `[key, [a, b]]`.
    """
    inserted: dict[Hashable, list[int]] = {}
    for op in ops:
        if op.f == "insert" and op.type == "ok":
            inserted.setdefault(_key(op), []).append(op.index)
    if not inserted:
        return Verdict(None, "g2", note="no insert succeeded")
    doubles = [(key, indexes) for key, indexes in inserted.items() if len(indexes) > 1]
    anomalies = tuple(_anomaly(key, indexes) for key, indexes in doubles[:ELLE_EXAMPLES_MAX])
    note = f"{len(doubles)} of {len(inserted)} keys" if doubles else ""
    return Verdict(not doubles, "g2", anomalies, note=note)


def _key(op: Op) -> Hashable:
    value = op.value
    if op.key is not None and _is_ids(value):
        return freeze(op.key)
    if isinstance(value, list | tuple) and len(value) == 2 and _is_ids(value[1]):
        return freeze(value[0])
    raise HistoryError(f"operation {op.index}: an insert of {value!r} instead of [key, [a, b]]")


def _is_ids(value: object) -> bool:
    """A pair of which one is an id and the other nil."""
    return isinstance(value, list | tuple) and len(value) == 2 and (value[0] is None) != (value[1] is None)


def _anomaly(key: Hashable, indexes: list[int]) -> Anomaly:
    names = " and ".join(f"T{index}" for index in indexes[:4])
    text = f"{names} inserted rows of key {show(key)}, each only if there was none: each read before the others wrote"
    a, b = indexes[:2]
    return Anomaly("G2", text, tuple(indexes), ((a, "rw", b), (b, "rw", a)))
