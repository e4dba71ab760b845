"""COPY's text and csv formats: bytes to fields and back (PostgreSQL manual, COPY, "File Formats").

A parser takes chunks of any size and gives complete rows of fields: str, or None for NULL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from txndb.errors import sql_error
from txndb.sql.parse import ast

Fields = list[str | None]

_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_NEEDS_ESCAPE = re.compile(r"[\b\f\n\r\t\v\\]")
_NAMES = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}


def _unescape(found: re.Match[str]) -> str:
    text = found[1]
    if text[0] == "x" and len(text) > 1:
        return chr(int(text[1:], 16))
    if text[0] in "01234567":
        return chr(int(text, 8) & 0xFF)
    return _ESCAPES.get(text, text)


class TextParser:
    """The text format: one line a row, fields by delimiter, backslash escapes, `\\.` ends the data."""

    def __init__(self, options: ast.CopyOptions) -> None:
        self.delimiter = options.delimiter if options.delimiter is not None else "\t"
        self.null = options.null if options.null is not None else "\\N"
        self.skip = 1 if options.header else 0
        self.rest = b""
        self.ended = False
        self.line = 0

    def feed(self, chunk: bytes, *, last: bool = False) -> list[Fields]:
        """The rows completed by a chunk; `last`: what is left is a row."""
        data = self.rest + chunk
        lines = data.split(b"\n")
        self.rest = lines.pop()
        if last and self.rest:
            lines.append(self.rest)
            self.rest = b""
        rows: list[Fields] = []
        for raw in lines:
            if self.ended:
                break
            self.line += 1
            text = decode(raw.removesuffix(b"\r"), self.line)
            if text == "\\.":
                self.ended = True
                break
            if self.skip:
                self.skip -= 1
                continue
            rows.append(self._fields(text))
        return rows

    def _fields(self, line: str) -> Fields:
        null = self.null
        parts = line.split(self.delimiter)
        if "\\" not in line:
            return [None if p == null else p for p in parts]
        # a delimiter after a backslash belongs to the field
        joined: list[str] = []
        for part in parts:
            if joined and _ends_in_escape(joined[-1]):
                joined[-1] += self.delimiter + part
            else:
                joined.append(part)
        return [None if p == null else _ESCAPE.sub(_unescape, p) if "\\" in p else p for p in joined]


def _ends_in_escape(text: str) -> bool:
    count = len(text) - len(text.rstrip("\\"))
    return count % 2 == 1


class CsvParser:
    """The csv format: quoted fields may hold delimiters and newlines; an unquoted empty field is NULL."""

    def __init__(self, options: ast.CopyOptions) -> None:
        self.delimiter = options.delimiter if options.delimiter is not None else ","
        self.null = options.null if options.null is not None else ""
        self.quote = options.quote if options.quote is not None else '"'
        self.escape = options.escape if options.escape is not None else self.quote
        self.skip = 1 if options.header else 0
        self.rest = b""
        self.ended = False
        self.line = 0

    def feed(self, chunk: bytes, *, last: bool = False) -> list[Fields]:
        """The rows completed by a chunk; `last`: what is left is a row."""
        self.rest += chunk
        rows: list[Fields] = []
        while not self.ended:
            end = self._row_end(last)
            if end < 0:
                break
            raw, self.rest = self.rest[:end], self.rest[end + 1 :]
            self.line += 1
            text = decode(raw.removesuffix(b"\r"), self.line)
            if text == "\\.":
                self.ended = True
            elif self.skip:
                self.skip -= 1
            else:
                rows.append(self._fields(text))
        return rows

    def _row_end(self, last: bool) -> int:
        """Offset of the newline that ends the first row; -1 if it is not complete."""
        quote = self.quote.encode()
        at = 0
        while True:
            end = self.rest.find(b"\n", at)
            if end < 0:
                complete = last and bool(self.rest)
                if complete and self.rest.count(quote) % 2:
                    raise sql_error("22P04", "unterminated CSV quoted field")
                return len(self.rest) if complete else -1
            if self.rest.count(quote, 0, end) % 2 == 0:
                return end
            at = end + 1

    def _fields(self, line: str) -> Fields:
        if self.quote not in line:
            return [None if p == self.null else p for p in line.split(self.delimiter)]
        fields: Fields = []
        field: list[str] = []
        quoted = inside = False
        at = 0
        while at < len(line):
            char = line[at]
            if inside:
                following = line[at + 1 : at + 2]
                if char == self.escape and following in (self.quote, self.escape) and following:
                    field.append(following)
                    at += 1
                elif char == self.quote:
                    inside = False
                else:
                    field.append(char)
            elif char == self.quote:
                inside = quoted = True
            elif char == self.delimiter:
                fields.append(self._field(field, quoted))
                field, quoted = [], False
            else:
                field.append(char)
            at += 1
        if inside:
            raise sql_error("22P04", "unterminated CSV quoted field")
        fields.append(self._field(field, quoted))
        return fields

    def _field(self, parts: list[str], quoted: bool) -> str | None:
        text = "".join(parts)
        return None if not quoted and text == self.null else text


def decode(raw: bytes, line: int) -> str:
    """A line's text; 22021 for what is not UTF-8."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        bad = " ".join(f"0x{b:02x}" for b in raw[error.start : error.start + 1])
        raise sql_error(
            "22021", f'invalid byte sequence for encoding "UTF8": {bad}', detail=f"line {line}"
        ) from None
    if "\0" in text:
        raise sql_error("22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    return text


Formatter = Callable[[object], str]
RowFormatter = Callable[[Sequence[object]], str]


def text_row(options: ast.CopyOptions, formatters: Sequence[Formatter]) -> RowFormatter:
    """A row in the text format, without the newline."""
    delimiter = options.delimiter if options.delimiter is not None else "\t"
    null = options.null if options.null is not None else "\\N"

    def escape(text: str) -> str:
        if _NEEDS_ESCAPE.search(text):
            text = _NEEDS_ESCAPE.sub(lambda m: _NAMES[m[0]], text)
        return text.replace(delimiter, "\\" + delimiter) if delimiter != "\t" else text

    def row(values: Sequence[object]) -> str:
        return delimiter.join(
            null if v is None else escape(f(v)) for f, v in zip(formatters, values, strict=True)
        )

    return row


def csv_row(options: ast.CopyOptions, formatters: Sequence[Formatter], names: Sequence[str]) -> RowFormatter:
    """A row in the csv format, without the newline."""
    delimiter = options.delimiter if options.delimiter is not None else ","
    null = options.null if options.null is not None else ""
    quote = options.quote if options.quote is not None else '"'
    escape = options.escape if options.escape is not None else quote
    forced = [options.force_quote == ("*",) or n in options.force_quote for n in names]
    single = len(names) == 1

    def field(text: str, force: bool) -> str:
        needs = force or text == null or (single and text == "\\.")
        if not needs and not any(c in text for c in (delimiter, quote, "\n", "\r")):
            return text
        if escape != quote:
            text = text.replace(escape, escape + escape)
        return quote + text.replace(quote, escape + quote) + quote

    def row(values: Sequence[object]) -> str:
        return delimiter.join(
            null if v is None else field(f(v), force)
            for f, v, force in zip(formatters, values, forced, strict=True)
        )

    return row
