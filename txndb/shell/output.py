"""Results as text: aligned table, CSV, JSON, vertical; errors with a caret under the position."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Final

import msgspec
from prompt_toolkit.utils import get_cwidth

from txndb.client import NUMBER, Cursor, DataError, Error

NULL: Final = "NULL"
FORMATS: Final = ("table", "csv", "json", "vertical")
_PANEL_WIDTH_MAX: Final = 60

_encode_json: Final = msgspec.json.Encoder(decimal_format="number").encode

TextRow = tuple[str | None, ...]


def format_result(cursor: Cursor, style: str) -> str:
    """The rows of the cursor's current result, with a final newline."""
    description = cursor.description
    assert description is not None
    names = [column[0] for column in description]
    if style == "json":
        return _json(cursor, names)
    rows = cursor.fetch_text()
    if style == "csv":
        return _csv(names, rows)
    if style == "vertical":
        return _vertical(names, rows)
    return _table(names, [column[1] == NUMBER for column in description], rows)


def _csv(names: list[str], rows: list[TextRow]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return out.getvalue()


def _json(cursor: Cursor, names: list[str]) -> str:
    """An array of objects, one a line, with every column, also of a name that another one has.

    What JSON or Python cannot hold (NaN, infinity, bytes, intervals) is the server's text, as in row_to_json."""
    keys = [_encode_json(name).decode() for name in names]
    lines = []
    raw = list(cursor._rows[cursor._at :])
    for values in raw:
        texts = [None if value is None else value.decode() for value in values]
        try:
            row: Sequence[object] | None = cursor.fetchone()
        except DataError:
            row = texts
        assert row is not None
        shown = [text if _is_text_only(value) else value for value, text in zip(row, texts, strict=True)]
        members = zip(keys, shown, strict=True)
        pairs = ",".join([f"{key}:{_encode_json(value).decode()}" for key, value in members])
        lines.append(f"  {{{pairs}}}")
    return "[\n" + ",\n".join(lines) + ("\n]\n" if lines else "]\n")


def _is_text_only(value: object) -> bool:
    """JSON has no form of its own for this value."""
    if isinstance(value, list):
        return any(map(_is_text_only, value))
    if isinstance(value, float | Decimal):
        return not math.isfinite(value)
    return isinstance(value, bytes | timedelta)


def _vertical(names: list[str], rows: list[TextRow]) -> str:
    width = max((get_cwidth(name) for name in names), default=0)
    out = []
    for number, row in enumerate(rows, 1):
        head = f"-[ RECORD {number} ]"
        out.append(head + "-" * max(0, min(_PANEL_WIDTH_MAX, width + 20) - len(head)) + "\n")
        for name, value in zip(names, row, strict=True):
            lines = (NULL if value is None else value).split("\n")
            out.append(f"{_pad(name, width)} | {lines[0]}\n")
            out += [f"{' ' * width} | {line}\n" for line in lines[1:]]
    return "".join(out) + _row_count(len(rows))


def _table(names: list[str], right: list[bool], rows: list[TextRow]) -> str:
    cells = [[(NULL if value is None else value).split("\n") for value in row] for row in rows]
    widths = [get_cwidth(name) for name in names]
    for row in cells:
        for index, lines in enumerate(row):
            for line in lines:
                if len(line) > widths[index] or not line.isascii():
                    widths[index] = max(widths[index], get_cwidth(line))
    out = [" | ".join(_center(name, width) for name, width in zip(names, widths, strict=True)).rstrip()]
    pads: list[Callable[[str, int], str]] = [_pad_left if number else _pad for number in right]
    for row in cells:
        for depth in range(max((len(lines) for lines in row), default=1)):
            shown = [lines[depth] if depth < len(lines) else "" for lines in row]
            padded = [pad(text, width) for pad, text, width in zip(pads, shown, widths, strict=True)]
            out.append(" | ".join(padded).rstrip())
    lines = [f" {line}" if line else "" for line in out]
    lines.insert(1, "-" + "-+-".join("-" * width for width in widths) + "-")
    return "\n".join(lines) + "\n" + _row_count(len(rows))


def _row_count(count: int) -> str:
    return f"({count} row{'' if count == 1 else 's'})\n"


def _pad(text: str, width: int) -> str:
    return text + " " * (width - get_cwidth(text))


def _pad_left(text: str, width: int) -> str:
    return " " * (width - get_cwidth(text)) + text


def _center(text: str, width: int) -> str:
    missing = width - get_cwidth(text)
    return " " * (missing // 2) + text + " " * (missing - missing // 2)


def format_error(error: Error, sql: str) -> str:
    """An error as psql shows it: message, the line with a caret, detail, hint, SQLSTATE."""
    severity = error.fields.get("S", "ERROR")
    out = [f"{severity}:  {error.message}"]
    if 0 < error.position <= len(sql) + 1:
        out += _caret(sql, error.position)
    if error.detail:
        out.append(f"DETAIL:  {error.detail}")
    if error.hint:
        out.append(f"HINT:  {error.hint}")
    if error.sqlstate:
        out.append(f"SQLSTATE: {error.sqlstate}")
    return "\n".join(out) + "\n"


def _caret(sql: str, position: int) -> list[str]:
    before = sql[: position - 1]
    line_number = before.count("\n") + 1
    start = before.rfind("\n") + 1
    end = sql.find("\n", start)
    line = sql[start : end if end >= 0 else len(sql)].replace("\t", " ")
    head = f"LINE {line_number}: "
    return [head + line, " " * (len(head) + get_cwidth(line[: position - 1 - start])) + "^"]
