"""A checker's verdict as a workload's findings: one line each, and "unknown" is a finding too.

A history that a checker gives up on is a workload that draws too much: it must be made smaller, not be called good.
"""

from __future__ import annotations

from txndb.sim.checkers.verdict import Verdict


def findings(verdict: Verdict, what: str = "") -> list[str]:
    """What is wrong; empty if the history is valid. `what` names the part of the history judged."""
    name = f"{verdict.model} {what}".rstrip()
    if verdict.valid is None:
        return [f"{name}: undecided: {verdict.note}"]
    if verdict.valid:
        return []
    lines = [f"{name}: {anomaly.kind}: {anomaly.text}" for anomaly in verdict.anomalies]
    return lines or [f"{name}: invalid: {verdict.note}"]
