"""What came of a run, in numbers: one `RoundReport` per workload, one `RunReport` over all.

`lost_writes` counts acknowledged writes that the last read does not show, found without any checker where the
workload only ever adds (append, set, set-full); for the others the checker's findings are what there is.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from txndb.sim.history import Op
from txndb.testing.jepsen.client import Ambiguity
from txndb.testing.jepsen.nemesis import Happening

FINAL_PROCESS: Final = 1_000_000
"""The process that reads everything at the end."""


class RoundReport(msgspec.Struct, frozen=True):
    """One workload under some nemeses."""

    ok: bool
    workload: str
    model: str
    nemesis: tuple[str, ...]
    links: str
    nodes: int
    clients: int
    seconds: float
    real_time: bool
    """Whether clocks were within their bound, so that real-time order was asked for."""
    operations: dict[str, dict[str, int]]
    """By f: how many ok, fail, info."""
    faults: dict[str, int]
    violations: list[str]
    lost_writes: int
    ambiguous: list[Ambiguity]
    longest_gap_ms: int
    """The longest time under faults in which no operation of any client was ok."""
    skipped: dict[str, str]
    counts: dict[str, int]
    failure: str = ""
    """Why the round could not be made: a failure of this machine or of the machinery."""


class RunReport(msgspec.Struct, frozen=True):
    """All rounds."""

    ok: bool
    rounds: list[RoundReport]
    operations: dict[str, int]
    faults: dict[str, int]
    violations: int
    lost_writes: int
    ambiguous: int
    longest_gap_ms: int
    skipped: dict[str, str]
    directory: str
    seed: int


def by_f(ops: Sequence[Op]) -> dict[str, dict[str, int]]:
    """How many operations of each kind had which outcome."""
    table: dict[str, dict[str, int]] = {}
    for op in ops:
        if op.type != "invoke":
            row = table.setdefault(op.f, {"ok": 0, "fail": 0, "info": 0})
            row[op.type] += 1
    return table


def longest_gap_ms(ops: Sequence[Op], from_s: float, to_s: float) -> int:
    """The longest time between two acknowledgements, from the start to the end of the faults."""
    moments = [op.time_us / 1e6 for op in ops if op.type == "ok" and from_s <= op.time_us / 1e6 <= to_s]
    marks = [from_s, *moments, to_s]
    return int(1000 * max((b - a for a, b in itertools.pairwise(marks)), default=0.0))


def fault_counts(happenings: Sequence[Happening]) -> dict[str, int]:
    """How many faults of each kind there were."""
    return dict(sorted(Counter(h.kind for h in happenings if h.kind != "note").items()))


def lost_writes(model: str, ops: Sequence[Op]) -> int:
    """See the module."""
    if model == "append":
        return _lost_elements(_appended(ops), _lists(ops))
    if model in ("set", "set-full"):
        return _lost_elements(_added(ops), _sets(ops))
    return 0


def _lost_elements(written: dict[Any, set[Any]], seen: dict[Any, set[Any]]) -> int:
    return sum(len(elements - seen[key]) for key, elements in written.items() if key in seen)


def _appended(ops: Sequence[Op]) -> dict[Any, set[Any]]:
    written: dict[Any, set[Any]] = {}
    for op in ops:
        if op.type == "ok" and op.f == "txn":
            for f, key, value in op.value:
                if f == "append":
                    written.setdefault(key, set()).add(value)
    return written


def _lists(ops: Sequence[Op]) -> dict[Any, set[Any]]:
    seen: dict[Any, set[Any]] = {}
    for op in _last_reads(ops):
        for f, key, value in op.value:
            if f == "r":
                seen[key] = set(value or ())
    return seen


def _added(ops: Sequence[Op]) -> dict[Any, set[Any]]:
    written: dict[Any, set[Any]] = {}
    for op in ops:
        if op.type == "ok" and op.f == "add":
            written.setdefault(op.key, set()).add(op.value)
    return written


def _sets(ops: Sequence[Op]) -> dict[Any, set[Any]]:
    return {op.key: set(op.value) for op in _last_reads(ops) if isinstance(op.value, list | tuple)}


def _last_reads(ops: Sequence[Op]) -> list[Op]:
    return [op for op in ops if op.process >= FINAL_PROCESS and op.type == "ok"]


def over_all(rounds: list[RoundReport], directory: str, seed: int) -> RunReport:
    """Add up."""
    operations: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for one in rounds:
        faults.update(one.faults)
        for row in one.operations.values():
            operations.update(row)
    done = {kind for one in rounds for kind in one.nemesis}
    return RunReport(
        ok=all(one.ok for one in rounds),
        rounds=rounds,
        operations=dict(sorted(operations.items())),
        faults=dict(sorted(faults.items())),
        violations=sum(len(one.violations) for one in rounds),
        lost_writes=sum(one.lost_writes for one in rounds),
        ambiguous=sum(len(one.ambiguous) for one in rounds),
        longest_gap_ms=max((one.longest_gap_ms for one in rounds), default=0),
        skipped={kind: why for one in rounds for kind, why in one.skipped.items() if kind not in done},
        directory=directory,
        seed=seed,
    )
