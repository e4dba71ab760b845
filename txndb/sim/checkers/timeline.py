"""Operations in time, as a picture: what of a history an anomaly without a cycle is about, and what went on beside it.

A row for each process, a bar for each operation from its invocation to its completion, by their order in the history –
which is all that real time says. Operations the anomaly names are red; one whose outcome is unknown has no end. Only
what overlaps them is drawn, on the same key, and no more than fits on a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from txndb.sim.checkers.objects import short
from txndb.sim.checkers.verdict import Anomaly
from txndb.sim.history import Op

OPERATIONS_MAX = 40
"""Those that the anomaly names come first, then those that end last."""
_COLUMN_PX, _ROW_PX, _BAR_PX, _LEFT_PX, _TOP_PX, _CHAR_PX = 64, 34, 24, 110, 44, 7
_NAMED, _BESIDE = ("#f7d9d4", "#a61e1e"), ("#e8eef5", "#1f5f99")

Span = tuple[Op, Op | None]
"""An operation: its invocation, and its completion unless nobody knows it."""


def panel(anomaly: Anomaly, ops: Sequence[Op]) -> tuple[str, float, float]:
    """The drawing of one anomaly, its width and its height in pixels; empty when it names no operation of `ops`."""
    spans = _shown(anomaly, ops)
    if not spans:
        return "", 0.0, 0.0
    named = frozenset(anomaly.ops)
    moments = sorted({op.index for span in spans for op in span if op is not None})
    column = {index: place for place, index in enumerate(moments)}
    rows = {process: row for row, process in enumerate(sorted({begin.process for begin, _ in spans}))}
    width = _LEFT_PX + (len(moments) + 1) * _COLUMN_PX
    parts = [f'<text x="16" y="24" font-weight="bold">{escape(anomaly.kind)}</text>']
    for process, row in rows.items():
        y = _TOP_PX + row * _ROW_PX
        parts.append(f'<text x="16" y="{y + _BAR_PX - 8}">process {process}</text>')
        parts.append(
            f'<path d="M{_LEFT_PX} {y + _BAR_PX + 4}H{width - 16}" stroke="#dddddd" stroke-width="1"/>'
        )
    for begin, end in spans:
        left = _LEFT_PX + column[begin.index] * _COLUMN_PX
        right = width - 24 if end is None else _LEFT_PX + column[end.index] * _COLUMN_PX + _COLUMN_PX // 2
        colours = _NAMED if begin.index in named or (end is not None and end.index in named) else _BESIDE
        parts.append(_bar(left, _TOP_PX + rows[begin.process] * _ROW_PX, right - left, begin, end, colours))
    return "".join(parts), float(width), float(_TOP_PX + len(rows) * _ROW_PX + 16)


def _shown(anomaly: Anomaly, ops: Sequence[Op]) -> list[Span]:
    named = frozenset(anomaly.ops)
    spans = _spans(ops)
    about = [s for s in spans if s[0].index in named or (s[1] is not None and s[1].index in named)]
    if not about:
        return []
    first = min(begin.index for begin, _ in about)
    last = max((end if end is not None else begin).index for begin, end in about)
    keys = {repr(begin.key) for begin, _ in about}
    beside = [
        span
        for span in spans
        if span not in about
        and repr(span[0].key) in keys
        and span[0].index <= last
        and (span[1] is None or span[1].index >= first)
    ]
    beside.sort(key=lambda span: len(ops) if span[1] is None else span[1].index)
    room = max(0, OPERATIONS_MAX - len(about))
    return about[:OPERATIONS_MAX] + beside[len(beside) - min(room, len(beside)) :]


def _spans(ops: Sequence[Op]) -> list[Span]:
    """Every operation that happened or may have, in order of invocation."""
    begun: dict[int, Op] = {}
    found: dict[int, Span] = {}
    for op in ops:
        if op.type == "invoke":
            begun[op.process] = op
            found[op.index] = (op, None)
        elif (begin := begun.pop(op.process, None)) is not None:
            if op.type == "fail":
                del found[begin.index]
            else:
                found[begin.index] = (begin, op if op.type == "ok" else None)
    return list(found.values())


def _bar(x: int, y: int, width: int, begin: Op, end: Op | None, colours: tuple[str, str]) -> str:
    fill, edge = colours
    value = begin.value if end is None else end.value
    text = f"{begin.f} {short(value)}" if value is not None else begin.f
    dashes = ' stroke-dasharray="5 3"' if end is None else ""
    told = f"{text} (index {begin.index} to {end.index if end is not None else 'unknown'})"
    chars = max(1, (width - 8) // _CHAR_PX)
    shown = text if len(text) <= chars else text[: max(1, chars - 1)] + "…"
    return (
        f"<g><title>{escape(told)}</title>"
        f'<rect x="{x}" y="{y}" width="{width}" height="{_BAR_PX}" rx="3" fill="{fill}" stroke="{edge}"{dashes}/>'
        f'<text x="{x + 4}" y="{y + _BAR_PX - 8}">{escape(shown)}</text></g>'
    )
