"""Total queue (Jepsen's): what goes in comes out, in whatever order.

Operations: `enqueue` (value: the element), `dequeue` (result: the element) and `drain` (result: a list), which is many
dequeues in one. Every element whose enqueue was acknowledged is dequeued, nothing is dequeued that nobody enqueued
(`unexpected`, or `revived` if every attempt failed), and nothing more often than it was enqueued (`duplicate`). The
history must end with the queue drained. A dequeue of unknown outcome may have taken one element away, a drain any
number: an element is `lost` only if more are missing than that explains, otherwise the verdict is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from txndb.sim.checkers.calls import HistoryError, frozen, pair_strictly
from txndb.sim.checkers.objects import known_only, short
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Op


def check(ops: Sequence[Op]) -> Verdict:
    """The verdict on a queue from which everything was taken at the end."""
    known_only(ops, ("enqueue", "dequeue", "drain"))
    calls = pair_strictly(ops)
    enqueues = [call for call in calls if call.f == "enqueue"]
    attempted = {frozen(op.value) for op in ops if op.f == "enqueue" and op.type == "invoke"}
    possible = Counter(call.argument for call in enqueues)
    acknowledged = Counter(call.argument for call in enqueues if call.returned is not None)
    taken: Counter[Hashable] = Counter()
    places: dict[Hashable, list[int]] = {}
    for op in ops:
        for value in _taken(op):
            taken[value] += 1
            places.setdefault(value, []).append(op.index)
    anomalies = []
    for value, count in taken.items():
        if count > possible[value]:
            kind = "duplicate" if possible[value] else "revived" if value in attempted else "unexpected"
            text = f"{short(value)} was dequeued {count} times and enqueued at most {possible[value]} times"
            anomalies.append(Anomaly(kind, text, tuple(places[value])))
    missing = list((acknowledged - taken).elements())
    silent = [call.f for call in calls if call.returned is None and call.f != "enqueue"]
    if "drain" not in silent and len(missing) > len(silent):
        text = f"enqueued and never dequeued: {short(missing)}"
        anomalies.append(Anomaly("lost", text))
    elif missing and not anomalies:
        note = f"{short(missing)} never came out, and dequeues of unknown outcome may have taken them"
        return Verdict(None, "total-queue", note=note)
    return Verdict(not anomalies, "total-queue", tuple(anomalies))


def _taken(op: Op) -> list[Any]:
    if op.type != "ok" or op.f == "enqueue" or op.value is None:
        return []
    if op.f == "dequeue":
        return [frozen(op.value)]
    if not isinstance(op.value, list | tuple):
        raise HistoryError(f"operation {op.index}: a drain gave no list")
    return [frozen(value) for value in op.value]
