"""Anomalies in words: a cycle as a sentence for each edge, a transaction as its steps."""

from __future__ import annotations

from typing import Any

from txndb.sim.checkers.elle.cycles import Cycle
from txndb.sim.checkers.elle.facts import show
from txndb.sim.checkers.elle.graph import NAMES, PROCESS, REALTIME, RW, WR, WW
from txndb.sim.checkers.elle.txns import Mop, Txn
from txndb.sim.checkers.verdict import Anomaly

STEPS_MAX = 8
ELEMENTS_MAX = 8


def anomaly(cycle: Cycle, txns: list[Txn]) -> Anomaly:
    """A cycle as an anomaly: the round trip, a reason for each edge, the transactions' steps."""
    names = {a: f"T{txns[a].index}" for a, _, _ in cycle.edges}
    trip = names[cycle.edges[0][0]] + "".join(f" -{NAMES[kind]}-> {names[b]}" for _, kind, b in cycle.edges)
    lines = [trip]
    if cycle.kind.endswith(("-process", "-realtime")) and any(
        r and r[0] == "register" for r in cycle.reasons
    ):
        lines.append("  (versions of a key are taken in the order in which its clients met them)")
    for (a, kind, b), reason in zip(cycle.edges, cycle.reasons, strict=True):
        lines.append(f"  {names[a]} before {names[b]}: {_because(kind, names[a], names[b], reason, txns[a])}")
    for a, _, _ in cycle.edges:
        lines.append(f"  {names[a]} = {steps(txns[a])}")
    edges = tuple((txns[a].index, NAMES[kind], txns[b].index) for a, kind, b in cycle.edges)
    return Anomaly(cycle.kind, "\n".join(lines), tuple(txns[a].index for a, _, _ in cycle.edges), edges)


def _because(kind: int, a: str, b: str, reason: tuple[Any, ...], first: Txn) -> str:
    if kind == PROCESS:
        return f"process {first.process} ran {a}, then {b}"
    if kind == REALTIME:
        return f"{a} had completed when {b} was invoked"
    family, key, u, v = reason
    at = f"key {show(key)}"
    if family == "list":
        return {
            WW: f"{b} appended {show(v)} to {at} after {a}'s {show(u)}",
            WR: f"{b} read {at} with {a}'s {show(u)} in it",
            RW: f"{a} read {at} without {b}'s {show(v)}" + ("" if u is None else f", up to {show(u)}"),
        }[kind]
    return {
        WW: f"{b} wrote {show(v)} to {at}, a later version than {a}'s {show(u)}",
        WR: f"{b} read {a}'s {show(u)} from {at}",
        RW: f"{a} read {show(u)} from {at}, an earlier version than {b}'s {show(v)}",
    }[kind]


def steps(txn: Txn) -> str:
    """The steps of a transaction in one line, shortened."""
    return "; ".join(steps_of(txn)) + ("" if txn.status == "ok" else f" ({txn.status})")


def steps_of(txn: Txn) -> list[str]:
    """The first steps of a transaction, and how many more there are."""
    shown = [step(mop) for mop in txn.mops[:STEPS_MAX]]
    return shown if len(txn.mops) <= STEPS_MAX else [*shown, f"… {len(txn.mops) - STEPS_MAX} more"]


def step(mop: Mop) -> str:
    """One step, as `r x [1 2]`, `append x 3`, `w x 4`."""
    if mop.f != "r":
        return f"{mop.f} {show(mop.key)} {show(mop.value)}"
    if not isinstance(mop.value, list | tuple):
        return f"r {show(mop.key)} {'nil' if mop.value is None else mop.value}"
    end = " ".join(str(element) for element in mop.value[-ELEMENTS_MAX:])
    return f"r {show(mop.key)} [{'… ' if len(mop.value) > ELEMENTS_MAX else ''}{end}]"
