"""Anomalies as pictures: DOT text of cycles, and an SVG that needs no other program.

The SVG stacks one panel for each anomaly: operations in time (`txndb.sim.checkers.timeline`), or a cycle. A cycle's
transactions stand on an ellipse in its order, clockwise from the top, each a box with its steps; an arrow for each
dependency, its kind beside it in a colour of its own. All is computed from the verdict and the history, so equal
verdicts give equal files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from txndb.sim.checkers import timeline
from txndb.sim.checkers.elle.explain import steps_of
from txndb.sim.checkers.elle.txns import Txn, transactions
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Op

COLOURS = {"ww": "#8a4b08", "wr": "#0b6e4f", "rw": "#a61e1e", "process": "#5b4b8a", "realtime": "#1f5f99"}
"""Dark enough to be read on white, and apart for those who see no red or green."""
_CHAR_PX, _LINE_PX, _PAD_PX = 7, 16, 8


def dot(verdict: Verdict, ops: Sequence[Op]) -> str:
    """The cycles of a verdict as one DOT graph, a cluster for each.

    Args:
        ops: The history the verdict is of.
    """
    by_index = {txn.index: txn for txn in transactions(ops).all}
    lines = ["digraph cycles {", "  rankdir=LR;", '  node [shape=box, fontname="monospace", fontsize=10];']
    for number, anomaly in enumerate(_cyclic(verdict)):
        lines.append(f"  subgraph cluster_{number} {{")
        lines.append(f"    label={_quoted(anomaly.kind)};")
        for a, _, _ in anomaly.cycle:
            lines.append(f"    c{number}_{a} [label={_quoted(chr(10).join(_label(a, by_index)))}];")
        for a, kind, b in anomaly.cycle:
            colour = COLOURS.get(kind, "#333333")
            lines.append(
                f'    c{number}_{a} -> c{number}_{b} [label={_quoted(kind)}, color="{colour}", fontcolor="{colour}"];'
            )
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\l") + '"'


def _cyclic(verdict: Verdict) -> list[Anomaly]:
    return [anomaly for anomaly in verdict.anomalies if anomaly.cycle]


def _label(index: int, by_index: dict[int, Txn]) -> list[str]:
    """The lines of a box: the transaction's name and its steps."""
    txn = by_index.get(index)
    if txn is None:
        return [f"T{index}"]
    return [f"T{index} (process {txn.process}, {txn.status})", *steps_of(txn)]


def svg(verdict: Verdict, ops: Sequence[Op]) -> str:
    """The cycles of a verdict, and its other anomalies in time, as one SVG document.

    Args:
        ops: The history the verdict is of.
    """
    by_index = {txn.index: txn for txn in transactions(ops).all}
    panels: list[str] = []
    width, top = 320.0, 0.0
    for anomaly in verdict.anomalies:
        body, panel_width, height = (
            _panel(anomaly, by_index) if anomaly.cycle else timeline.panel(anomaly, ops)
        )
        if not body:
            continue
        panels.append(f'<g transform="translate(0 {top:.0f})">{body}</g>')
        width, top = max(width, panel_width), top + height
    if not panels:
        panels, top = ['<text x="16" y="28">nothing to show</text>'], 48.0
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{top:.0f}" '
        f'viewBox="0 0 {width:.0f} {top:.0f}" font-family="monospace" font-size="12">\n'
        f"<title>{escape(verdict.model)}: {len(verdict.anomalies)} anomalies</title>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n<defs>{_arrowheads()}</defs>\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def _arrowheads() -> str:
    return "".join(
        f'<marker id="head-{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
        for kind, colour in COLOURS.items()
    )


def _panel(anomaly: Anomaly, by_index: dict[int, Txn]) -> tuple[str, float, float]:
    """One cycle: its drawing, width and height."""
    labels = [_label(a, by_index) for a, _, _ in anomaly.cycle]
    box_w = max(len(line) for lines in labels for line in lines) * _CHAR_PX + 2 * _PAD_PX
    box_h = max(len(lines) for lines in labels) * _LINE_PX + 2 * _PAD_PX
    count = len(labels)
    # Neighbours on the ellipse must not overlap, and the arrows between them need room.
    radius_x = max(box_w * 0.75 + 60, box_w * count / math.pi * 0.62)
    radius_y = max(box_h * 0.75 + 50, box_h * count / math.pi * 0.62)
    middle_x, middle_y = radius_x + box_w / 2 + 24, radius_y + box_h / 2 + 48
    centres = []
    for place in range(count):
        angle = 2 * math.pi * place / count - math.pi / 2
        centres.append((middle_x + radius_x * math.cos(angle), middle_y + radius_y * math.sin(angle)))
    parts = [f'<text x="16" y="24" font-weight="bold">{escape(anomaly.kind)}</text>']
    for place, (_, kind, _) in enumerate(anomaly.cycle):
        parts.append(_arrow(centres[place], centres[(place + 1) % count], (box_w, box_h), kind))
    for (x, y), lines in zip(centres, labels, strict=True):
        parts.append(_box(x, y, box_w, box_h, lines))
    return "".join(parts), 2 * middle_x, 2 * middle_y - 24


def _arrow(start: tuple[float, float], end: tuple[float, float], box: tuple[float, float], kind: str) -> str:
    """A curve from box to box, bent to the left so that two opposite arrows stay apart."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    bend_x, bend_y = dy / length * min(60, length / 4), -dx / length * min(60, length / 4)
    knee = ((start[0] + end[0]) / 2 + bend_x, (start[1] + end[1]) / 2 + bend_y)
    x1, y1 = _border(start, knee, box)
    x2, y2 = _border(end, knee, box)
    colour = COLOURS.get(kind, "#333333")
    return (
        f'<path d="M{x1:.1f} {y1:.1f}Q{knee[0]:.1f} {knee[1]:.1f} {x2:.1f} {y2:.1f}" fill="none" stroke="{colour}" '
        f'stroke-width="1.6" marker-end="url(#head-{kind})"/>'
        f'<text x="{(x1 + 2 * knee[0] + x2) / 4:.1f}" y="{(y1 + 2 * knee[1] + y2) / 4 + 4:.1f}" '
        f'fill="{colour}" text-anchor="middle" stroke="#ffffff" '
        f'stroke-width="4" paint-order="stroke">{escape(kind)}</text>'
    )


def _border(
    centre: tuple[float, float], towards: tuple[float, float], box: tuple[float, float]
) -> tuple[float, float]:
    """Where the line from the centre of a box leaves it."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    scale = min(
        (box[0] / 2 + 2) / abs(dx) if dx else math.inf, (box[1] / 2 + 2) / abs(dy) if dy else math.inf, 1.0
    )
    return centre[0] + dx * scale, centre[1] + dy * scale


def _box(x: float, y: float, width: float, height: float, lines: Iterable[str]) -> str:
    left, top, bold = x - width / 2, y - height / 2, ' font-weight="bold"'
    text = "".join(
        f'<text x="{left + _PAD_PX:.1f}" y="{top + _PAD_PX + (n + 1) * _LINE_PX - 4:.1f}"'
        f"{bold if n == 0 else ''}>{escape(line)}</text>"
        for n, line in enumerate(lines)
    )
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.0f}" height="{height:.0f}" rx="4" fill="#f6f6f4" '
        f'stroke="#555555"/>{text}'
    )
