"""to_char of numbers and to_number: numeric template patterns (PostgreSQL manual, "Template Patterns for Numeric
Formatting"): 9 0 . , D G S MI PL SG PR FM TH/th EEEE RN L V and quoted text.

The sign takes one place before the number unless the template puts it elsewhere; a number too wide shows as #.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from txndb.errors import sql_error
from txndb.sql.types import decimals

_PIECE: Final = re.compile(
    r'"(?P<quoted>(?:[^"\\]|\\.)*)"?'
    r"|(?P<mark>EEEE|eeee|FM|fm|SG|sg|MI|mi|PL|pl|PR|pr|TH|th|RN|rn|[9.,0DdGgSsLlVvBb])|(?P<other>.)",
    re.DOTALL,
)
_ROMAN: Final = (
    (1000, "M"),
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
)
_ROMAN_WIDTH: Final = 15


class _Template(NamedTuple):
    pieces: tuple[tuple[str, str], ...]
    before: int
    after: int
    after_zero: int
    shift: int
    first_zero: int
    fill: bool
    marks: frozenset[str]


@lru_cache(maxsize=256)
def _parse(template: str) -> _Template:
    """Cut a template into (kind, text) pieces and count its digit places."""
    pieces: list[tuple[str, str]] = []
    before = after = after_zero = shift = 0
    first_zero, fill, point, shifted = -1, True, False, False
    for found in _PIECE.finditer(template):
        if found.lastgroup != "mark":
            text = found["quoted"] if found["quoted"] is not None else found[0]
            pieces.append(("text", re.sub(r"\\(.)", r"\1", text)))
            continue
        mark = found[0] if found[0] == "th" else found[0].upper()
        mark = {"D": ".", "G": ","}.get(mark, mark)
        if mark == "B":
            continue
        if mark == "FM":
            fill = False
        elif mark in "90":
            if ("PR", "") in pieces:
                raise sql_error("42601", f'"{mark}" must be ahead of "PR"')
            if mark == "0" and first_zero < 0 and not point:
                first_zero = before
            after, before, shift = after + point, before + (not point), shift + shifted
            after_zero = after if mark == "0" and point else after_zero
            pieces.append(("digit", "after" if point else "before"))
        elif mark == "V":
            shifted = True
        else:
            if mark == ".":
                if point:
                    raise sql_error("42601", "multiple decimal points")
                point = True
            pieces.append((mark, ""))
    marks = frozenset(kind for kind, _ in pieces)
    return _Template(tuple(pieces), before, after, after_zero, shift, first_zero, fill, marks)


def number_to_char(value: Decimal | float | int, template: str) -> str:
    """to_char(number, template)."""
    parsed = _parse(template)
    if isinstance(value, float):
        number = decimals.from_float(value)
    else:
        number = Decimal(value)
    if "RN" in parsed.marks:
        return _roman(number, parsed.fill, "rn" in template)
    if "EEEE" in parsed.marks:
        return _scientific(number, parsed)
    if parsed.shift:
        number = decimals.multiply(number, Decimal(10) ** parsed.shift)
    return _positional(number, parsed)


def _roman(number: Decimal, fill: bool, lower: bool) -> str:
    value = int(decimals.round_integer(number)) if number.is_finite() else 0
    if not 1 <= value <= 3999:
        return "#" * _ROMAN_WIDTH
    text = ""
    for size, letters in _ROMAN:
        text, value = text + letters * (value // size), value % size
    text = text.lower() if lower else text
    return text.rjust(_ROMAN_WIDTH) if fill else text


def _scientific(number: Decimal, parsed: _Template) -> str:
    if not number.is_finite():
        return " #" + "#" * (parsed.before + parsed.after)
    text = f"{float(number):.{parsed.after}e}" if not number else f"{number:.{parsed.after}e}"
    mantissa, exponent = text.split("e")
    sign = "" if mantissa.startswith("-") or not parsed.fill else " "
    return f"{sign}{mantissa}e{exponent[0]}{int(exponent[1:]):02d}"


def _digits(number: Decimal, parsed: _Template) -> tuple[str, str]:
    """The digits before (padded to the template's places, '' when they do not fit) and after the point."""
    if not number.is_finite():
        return "", ""
    rounded = decimals.round_to(number.copy_abs(), parsed.after)
    whole, _, fraction = decimals.format_numeric(rounded).partition(".")
    whole = "" if whole == "0" else whole
    if len(whole) > parsed.before:
        return "#" * parsed.before, "#" * parsed.after
    return whole.rjust(parsed.before), fraction


def _positional(number: Decimal, parsed: _Template) -> str:
    if number.is_finite():
        before, after = _digits(number, parsed)
    else:
        before, after = "#" * parsed.before, "#" * parsed.after
        if number.is_nan() and parsed.before >= 3:
            before, after = "NaN".rjust(parsed.before), ""
    negative = number.is_signed() and any(character not in "0 " for character in before + after)
    if parsed.first_zero >= 0:
        before = before[: parsed.first_zero] + before[parsed.first_zero :].replace(" ", "0")
    elif before and not before.strip() and (not parsed.after or (not parsed.fill and not number)):
        # zero in a template of 9s: one 0 shows in the last place
        before = before[:-1] + "0"
    if not parsed.fill:
        after = after[: parsed.after_zero] + after[parsed.after_zero :].rstrip("0")
    return _Writer(parsed, before, after, negative).write()


class _Writer:
    """Lays the digits out over the template's pieces."""

    def __init__(self, parsed: _Template, before: str, after: str, negative: bool) -> None:
        self.parsed = parsed
        self.digits = {"before": iter(before), "after": iter(after)}
        self.all_digits = before + after
        self.negative = negative
        self.blank = " " if parsed.fill else ""
        self.started = False
        self.out: list[str] = []
        self.trailing_s = "S" in parsed.marks and parsed.pieces[0][0] != "S"

    def write(self) -> str:
        for kind, text in self.parsed.pieces:
            if kind == "digit":
                self._digit(next(self.digits[text], ""))
            elif kind == ".":
                self._start()
                self.out.append(".")
            elif kind == ",":
                self.out.append("," if self.started else self.blank)
            else:
                self.out.append(self._decoration(kind, text))
        if "PR" in self.parsed.marks:
            self.out.append(">" if self.negative else self.blank)
        return "".join(self.out)

    def _digit(self, character: str) -> None:
        if character and character != " ":
            self._start()
            self.out.append(character)
        elif character:
            self.out.append(self.blank)

    def _start(self) -> None:
        """The sign goes right before the first digit or point that shows."""
        if self.started:
            return
        self.started = True
        marks = self.parsed.marks
        if "PR" in marks:
            self.out.append("<" if self.negative else self.blank)
        elif "S" in marks:
            if not self.trailing_s:
                self.out.append("-" if self.negative else "+")
        elif not marks & {"MI", "SG"}:
            self.out.append("-" if self.negative else self.blank)

    def _decoration(self, kind: str, text: str) -> str:
        if kind == "text":
            return text
        if kind == "MI":
            return "-" if self.negative else self.blank
        if kind == "PL":
            return self.blank if self.negative else "+"
        if kind == "SG" or (kind == "S" and self.trailing_s):
            return "-" if self.negative else "+"
        if kind in ("TH", "th") and not self.negative:
            return _ordinal(self.all_digits, kind)
        return self.blank if kind == "L" else ""


def _ordinal(digits: str, kind: str) -> str:
    if "#" in digits:
        return ""
    number = int(digits) % 100 if digits.strip().isdigit() else 0
    ending = "th" if 10 < number < 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return ending.upper() if kind == "TH" else ending


def to_number(text: str, template: str) -> Decimal:
    """to_number: the digits, sign and point of a text; group separators and other characters are skipped."""
    if not re.search("[0-9]", text):
        raise sql_error("22P02", 'invalid input syntax for type numeric: " "')
    negative = "-" in text or ("<" in text and "PR" in template.upper())
    kept = re.sub(r"[^0-9.]", "", text)
    whole, point, fraction = kept.partition(".")
    parsed = _parse(template)
    fraction = fraction.replace(".", "")[: parsed.after] if point else ""
    number = decimals.parse_numeric(f"{whole or '0'}.{fraction}" if fraction else whole or "0")
    if parsed.shift:
        number = decimals.divide(number, Decimal(10) ** parsed.shift)
    return decimals.negate(number) if negative else number
