"""The ring invariant (FoundationDB's Cycle workload): the keys form one ring that visits each of them once.

Every transaction swaps two neighbours, which keeps the ring; any lost update, dirty read or torn commit breaks it into
several rings or a tail. A read of all keys in one transaction must see one ring.

In a recorded history a `read`'s result is a list of `[key, next]`, or an object; `swap` is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from txndb.sim.checkers.calls import HistoryError, frozen
from txndb.sim.checkers.objects import known_only, short
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Op


def check(ops: Sequence[Op], keys: int | None = None) -> Verdict:
    """The verdict on all reads; anomalies are `broken-ring`. Unknown if the ring was never read.

    `keys` says how many there are; if None, all that any read saw. Raises `HistoryError` for reads of another form.
    """
    known_only(ops, ("read", "swap"))
    reads = [(op, _pairs(op)) for op in ops if op.f == "read" and op.type == "ok" and op.value is not None]
    if not reads:
        return Verdict(None, "cycle", note="the ring was never read")
    names = sorted({key for _, pairs in reads for key, _ in pairs}, key=lambda key: (len(key), key))
    if keys is not None:
        names += [f"?{missing}" for missing in range(len(names), keys)]
    number = {name: place for place, name in enumerate(names)}
    anomalies = []
    for op, pairs in reads:
        numbered = {number[key]: number.get(after, -1) for key, after in pairs}
        problem = check_ring(numbered, keys or len(names))
        if not problem and len(pairs) > len(numbered):
            problem = "a key is there twice"
        if problem:
            text = f"the read at index {op.index}: {problem} ({short(pairs)})"
            anomalies.append(Anomaly("broken-ring", text, (op.index,)))
    return Verdict(not anomalies, "cycle", tuple(anomalies))


def _pairs(op: Op) -> list[tuple[str, str]]:
    """(key, successor), both as text."""
    pairs: Any = list(op.value.items()) if isinstance(op.value, dict) else op.value
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(p, list | tuple) and len(p) == 2 for p in pairs
    ):
        raise HistoryError(f"operation {op.index}: a read of {short(op.value)} instead of [[key, next], …]")
    return [(str(frozen(key)), str(frozen(after))) for key, after in pairs]


def check_ring(successor: Mapping[int, int], keys: int) -> str:
    """What is wrong with the ring, or an empty string."""
    if not successor:
        return "no ring at all: no keys were read"
    if sorted(successor) != list(range(keys)):
        missing = sorted(key for key in range(keys) if key not in successor)
        return f"ring of {len(successor)} keys instead of {keys}, missing {missing}"
    at, length = successor[0], 1
    while at != 0 and length <= keys:
        if at not in successor:
            return f"ring leaves the keys at {at}"
        at = successor[at]
        length += 1
    if length != keys or at != 0:
        return f"ring of length {length} instead of {keys}: {dict(sorted(successor.items()))}"
    return ""
