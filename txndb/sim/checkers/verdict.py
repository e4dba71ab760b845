"""What a checker says of a history: one shape for all models, so that shell, soak and tests print them alike.

A verdict has three outcomes. `valid=True`: nothing in the history contradicts the model. `valid=False`: the anomalies
prove that no execution the model allows can have produced the history. `valid=None`: unknown – the checker gave up, or
the history is malformed in a way that leaves it nothing to judge by; the note says why. A checker never guesses: every
anomaly stands for a proof a person can follow, in `text`.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Anomaly(msgspec.Struct, frozen=True):
    """One proof that a history breaks its model."""

    kind: str
    """Its name in the literature where it has one: `G0`, `G-single-item`, `lost-update`, `nonlinearizable`, …"""
    text: str
    """A small counter-example in words; may hold several lines."""
    ops: tuple[int, ...] = ()
    """The history indexes of the operations that prove it."""
    cycle: tuple[tuple[int, str, int], ...] = ()
    """For a cycle of dependencies its edges (from index, `ww`|`wr`|`rw`|`process`|`realtime`, to index), in order; the
    last ends where the first starts."""


class Verdict(msgspec.Struct, frozen=True):
    """The judgement of one history under one model."""

    valid: bool | None
    """None is "unknown"."""
    model: str
    anomalies: tuple[Anomaly, ...] = ()
    weakest_level: str = ""
    """For transactional models the strongest isolation level (see `elle.levels`) that the history does not
    contradict: the level a reader may still believe in. Empty where levels mean nothing."""
    levels: dict[str, bool] = {}
    """For transactional models, every level with whether it still holds."""
    note: str = ""
    """What the verdict leaves open, or why it is unknown."""

    def as_json(self) -> dict[str, Any]:
        """The object `txndb check --json` prints: `valid` is true, false or "unknown"; empty parts are left out."""
        out: dict[str, Any] = {"valid": "unknown" if self.valid is None else self.valid, "model": self.model}
        out["anomalies"] = [_plain(anomaly) for anomaly in self.anomalies]
        if self.weakest_level:
            out["weakest_level"] = self.weakest_level
        if self.levels:
            out["levels"] = self.levels
        if self.note:
            out["note"] = self.note
        return out


def _plain(anomaly: Anomaly) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": anomaly.kind, "text": anomaly.text, "ops": list(anomaly.ops)}
    if anomaly.cycle:
        out["cycle"] = [list(edge) for edge in anomaly.cycle]
    return out
