"""Unique ids: whoever asks for a number gets one that nobody else gets. Operation: `generate` (result: the id)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from txndb.sim.checkers.calls import frozen
from txndb.sim.checkers.objects import known_only, short
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Op


def check(ops: Sequence[Op]) -> Verdict:
    """The verdict; anomalies are `duplicate`. An id whose operation has an unknown outcome was told to nobody."""
    known_only(ops, ("generate",))
    given: dict[Hashable, list[int]] = {}
    for op in ops:
        if op.type == "ok":
            given.setdefault(frozen(op.value), []).append(op.index)
    anomalies = [
        Anomaly("duplicate", f"id {short(value)} was given {len(places)} times", tuple(places))
        for value, places in given.items()
        if len(places) > 1
    ]
    return Verdict(not anomalies, "unique-ids", tuple(anomalies))
