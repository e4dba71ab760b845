"""Latency and throughput of a run as one SVG, with bands where faults were: drawn by hand, no library.

Above: every operation as a point, when it was invoked and how long it took (logarithmic, 1 ms to 100 s), coloured
by its outcome. Below: operations completed per second, by outcome. Bands: one colour per kind of fault, named in
the legend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

import msgspec

from txndb.sim.history import Op
from txndb.testing.jepsen.nemesis import Happening

WIDTH: Final = 1100
LEFT: Final = 70
RIGHT: Final = 20
TOP: Final = 60
PANEL: Final = 240
GAP: Final = 50
HEIGHT: Final = TOP + 2 * PANEL + GAP + 50
POINTS_MAX: Final = 20_000
_OUTCOMES: Final = {"ok": "#2a7de1", "fail": "#e8a33d", "info": "#d43a8a"}
_BANDS: Final = {
    "kill": "#c0392b",
    "pause": "#8e44ad",
    "term": "#d35400",
    "disk-full": "#7f6000",
    "membership": "#16a085",
    "partition": "#2c3e50",
    "delay": "#2980b9",
    "loss": "#7fb3d5",
    "clock": "#27ae60",
    "clock-beyond": "#145a32",
}
_LATENCIES_MS: Final = (1.0, 100_000.0)


class Point(msgspec.Struct, frozen=True):
    """One completed operation."""

    from_s: float
    to_s: float
    outcome: str


def points(ops: Sequence[Op]) -> list[Point]:
    """Join invocations with their completions, in order of completion."""
    began: dict[int, int] = {}
    found = []
    for op in ops:
        if op.type == "invoke":
            began[op.process] = op.time_us
        elif op.process in began:
            found.append(Point(began.pop(op.process) / 1e6, op.time_us / 1e6, op.type))
    return found


def draw(title: str, ops: Sequence[Op], happenings: Sequence[Happening]) -> str:
    """The picture."""
    done = points(ops)
    faults = [h for h in happenings if h.kind != "note"]
    ends = [point.to_s for point in done] + [h.to_s for h in faults]
    span_s = max([*ends, 1.0])
    axes = _Axes(span_s)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
        *_legend(faults),
        *_bands(axes, faults),
        *_latency_panel(axes, done),
        *_throughput_panel(axes, done, span_s),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Axes:
    """Where seconds are."""

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        steps = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
        self.step_s = next((step for step in steps if span_s / step <= 15), 7200)

    def x(self, seconds: float) -> float:
        """A moment's place."""
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(seconds, 0.0), self.span_s) / self.span_s

    def frame(self, top: float, label: str) -> list[str]:
        """A panel's border, its name, and marks of time."""
        parts = [
            f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}" fill="none" stroke="#888"/>',
            f'<text transform="translate(16 {top + PANEL / 2}) rotate(-90)" text-anchor="middle">{label}</text>',
        ]
        for mark in range(0, int(self.span_s) + 1, self.step_s):
            x = self.x(mark)
            parts.append(
                f'<line x1="{x:.1f}" y1="{top + PANEL}" x2="{x:.1f}" y2="{top + PANEL + 4}" stroke="#888"/>'
            )
            parts.append(f'<text x="{x:.1f}" y="{top + PANEL + 16}" text-anchor="middle">{mark} s</text>')
        return parts


def _legend(faults: Sequence[Happening]) -> list[str]:
    parts, x = [], float(LEFT)
    kinds = [kind for kind in _BANDS if any(fault.kind == kind for fault in faults)]
    for name, colour, opacity in [(o, c, 1.0) for o, c in _OUTCOMES.items()] + [
        (k, _BANDS[k], 0.4) for k in kinds
    ]:
        parts.append(
            f'<rect x="{x}" y="30" width="12" height="12" fill="{colour}" fill-opacity="{opacity}"/>'
        )
        parts.append(f'<text x="{x + 16}" y="40">{name}</text>')
        x += 34 + 7 * len(name)
    return parts


def _bands(axes: _Axes, faults: Sequence[Happening]) -> list[str]:
    parts = []
    for fault in faults:
        left, right = axes.x(fault.from_s), axes.x(fault.to_s or axes.span_s)
        parts.append(
            f'<rect x="{left:.1f}" y="{TOP}" width="{max(right - left, 1.0):.1f}" height="{2 * PANEL + GAP}" '
            f'fill="{_BANDS.get(fault.kind, "#999")}" fill-opacity="0.15">'
            f"<title>{escape(fault.kind)}: {escape(fault.what)}, {fault.from_s:.1f}–{fault.to_s:.1f} s</title></rect>"
        )
    return parts


def _latency_panel(axes: _Axes, done: Sequence[Point]) -> list[str]:
    low, high = (math.log10(ms) for ms in _LATENCIES_MS)

    def y(latency_ms: float) -> float:
        share = (math.log10(min(max(latency_ms, _LATENCIES_MS[0]), _LATENCIES_MS[1])) - low) / (high - low)
        return TOP + PANEL * (1 - share)

    parts = axes.frame(TOP, "latency")
    for power in range(int(low), int(high) + 1):
        ms = 10.0**power
        text = f"{ms:g} ms" if ms < 1000 else f"{ms / 1000:g} s"
        parts.append(f'<text x="{LEFT - 6}" y="{y(ms) + 4:.1f}" text-anchor="end">{text}</text>')
        parts.append(
            f'<line x1="{LEFT}" y1="{y(ms):.1f}" x2="{WIDTH - RIGHT}" y2="{y(ms):.1f}" stroke="#eee"/>'
        )
    every = 1 + len(done) // POINTS_MAX
    kept = [p for i, p in enumerate(done) if i % every == 0 or p.outcome == "info"]
    for point in kept:
        x, top = axes.x(point.from_s), y((point.to_s - point.from_s) * 1000)
        size = 3 if point.outcome == "info" else 1.6
        parts.append(
            f'<circle cx="{x:.1f}" cy="{top:.1f}" r="{size}" fill="{_OUTCOMES.get(point.outcome, "#000")}"/>'
        )
    return parts


def _throughput_panel(axes: _Axes, done: Sequence[Point], span_s: float) -> list[str]:
    top = TOP + PANEL + GAP
    seconds = int(span_s) + 1
    rates = {outcome: [0] * seconds for outcome in _OUTCOMES}
    for point in done:
        if point.outcome in rates:
            rates[point.outcome][min(int(point.to_s), seconds - 1)] += 1
    most = max([*(max(rate) for rate in rates.values()), 1])
    parts = axes.frame(top, "operations per second")
    for share in (0.0, 0.5, 1.0):
        y = top + PANEL * (1 - share)
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * share:g}</text>')
    for outcome, colour in _OUTCOMES.items():
        line = " ".join(
            f"{axes.x(second + 0.5):.1f},{top + PANEL * (1 - rate / most):.1f}"
            for second, rate in enumerate(rates[outcome])
        )
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return parts
