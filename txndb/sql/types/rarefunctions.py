"""Functions that few statements use: trigonometry in degrees, single bytes and bits, combinatorics, regular
expressions' rarer forms. The rows join the function table; what they do is PostgreSQL's, errors included.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

from txndb.errors import sql_error
from txndb.sql.types.textio import decode_utf8

FACTORIAL_MAX: Final = 32_177
"""PostgreSQL's NUMERIC holds no larger one."""


def _finite(fn: Callable[..., float]) -> Callable[..., float]:
    """The function, whose domain errors are 22003 "input is out of range"."""

    def checked(*values: float) -> float:
        try:
            return fn(*values)
        except ValueError:
            raise sql_error("22003", "input is out of range") from None

    return checked


def cot(value: float) -> float:
    """The cotangent of radians."""
    if math.isinf(value):
        raise sql_error("22003", "input is out of range")
    tangent = math.tan(value)
    return math.copysign(math.inf, tangent) if tangent == 0 else 1 / tangent


_EXACT_SINES: Final[dict[float, float]] = {
    0: 0.0,
    30: 0.5,
    90: 1.0,
    150: 0.5,
    180: 0.0,
    210: -0.5,
    270: -1.0,
    330: -0.5,
}
_EXACT_TANGENTS: Final[dict[float, float]] = {0: 0.0, 45: 1.0, 135: -1.0, 180: 0.0, 225: 1.0, 315: -1.0}


def sind(degrees: float) -> float:
    """The sine of degrees, exact where it is rational."""
    if math.isinf(degrees):
        raise sql_error("22003", "input is out of range")
    turned = math.fmod(degrees, 360.0)
    exact = _EXACT_SINES.get(turned % 360.0)
    return exact if exact is not None else math.sin(math.radians(turned))


def cosd(degrees: float) -> float:
    """The cosine of degrees, exact where it is rational."""
    return sind(math.fmod(degrees, 360.0) + 90.0) if math.isfinite(degrees) else sind(degrees)


def tand(degrees: float) -> float:
    """The tangent of degrees."""
    if math.isinf(degrees):
        raise sql_error("22003", "input is out of range")
    turned = degrees % 360.0
    exact = _EXACT_TANGENTS.get(turned)
    if exact is not None:
        return exact
    if turned in (90.0, 270.0):
        return math.inf if turned == 90.0 else -math.inf
    return math.tan(math.radians(turned))


def cotd(degrees: float) -> float:
    """The cotangent of degrees."""
    tangent = tand(degrees)
    if math.isinf(tangent):
        return 0.0
    return math.inf if tangent == 0 else 1 / tangent


def _rounded(fn: Callable[..., float]) -> Callable[..., float]:
    """An inverse function in degrees; angles that should be whole are."""

    def degrees_of(*values: float) -> float:
        found = math.degrees(fn(*values))
        return float(round(found)) if abs(found - round(found)) < 1e-12 else found

    return _finite(degrees_of)


def factorial(value: int) -> Decimal:
    """n!"""
    if value < 0:
        raise sql_error("22003", "factorial of a negative number is undefined")
    if value > FACTORIAL_MAX:
        raise sql_error("22003", "value overflows numeric format")
    return Decimal(math.factorial(value))


def width_bucket(operand: Any, low: Any, high: Any, count: int) -> int:
    """The number of the bucket of equal width that `operand` falls into, 0 and count + 1 outside."""
    if count <= 0:
        raise sql_error("2201G", "count must be greater than zero")
    if operand != operand or low != low or high != high:
        raise sql_error("2201G", "operand, lower bound, and upper bound cannot be NaN")
    if low in (math.inf, -math.inf) or high in (math.inf, -math.inf):
        raise sql_error("2201G", "lower and upper bounds must be finite")
    if low == high:
        raise sql_error("2201G", "lower bound cannot equal upper bound")
    if low < high:
        outside = 0 if operand < low else count + 1 if operand >= high else -1
    else:
        outside = 0 if operand > low else count + 1 if operand <= high else -1
    return outside if outside >= 0 else min(int((operand - low) * count / (high - low)) + 1, count)


def _byte_index(size: int, index: int) -> int:
    if not 0 <= index < size:
        raise sql_error("2202E", f"index {index} out of valid range, 0..{size - 1}")
    return index


def get_byte(value: bytes, index: int) -> int:
    """The byte at an index from 0."""
    return value[_byte_index(len(value), index)]


def set_byte(value: bytes, index: int, byte: int) -> bytes:
    """The string with another byte at an index."""
    at = _byte_index(len(value), index)
    return value[:at] + bytes((byte & 0xFF,)) + value[at + 1 :]


def get_bit(value: bytes, index: int) -> int:
    """The bit at an index from 0, each byte's lowest first."""
    at = _byte_index(len(value) * 8, index)
    return value[at // 8] >> at % 8 & 1


def set_bit(value: bytes, index: int, bit: int) -> bytes:
    """The string with another bit at an index."""
    at = _byte_index(len(value) * 8, index)
    if bit not in (0, 1):
        raise sql_error("22023", "new bit must be 0 or 1")
    old = value[at // 8]
    return set_byte(value, at // 8, old | 1 << at % 8 if bit else old & ~(1 << at % 8))


def bit_count(value: bytes) -> int:
    """How many bits are set."""
    return int.from_bytes(value).bit_count()


def overlay_bytes(value: bytes, new: bytes, start: int, length: int | None = None) -> bytes:
    """The string with a part of it replaced."""
    if start <= 0:
        raise sql_error("22011", "negative substring length not allowed")
    end = start - 1 + (len(new) if length is None else length)
    return value[: start - 1] + new + value[max(end, 0) :]


def _must_be_utf8(encoding: str) -> None:
    if encoding.upper().replace("-", "").replace("_", "") not in ("UTF8", "UNICODE"):
        raise sql_error("0A000", f'encoding "{encoding}" is not supported')


def convert_from(value: bytes, encoding: str) -> str:
    """Bytes as text."""
    _must_be_utf8(encoding)
    return decode_utf8(value)


def convert_to(value: str, encoding: str) -> bytes:
    """Text as bytes."""
    _must_be_utf8(encoding)
    return value.encode()


_FORMS: Final = ("NFC", "NFD", "NFKC", "NFKD")


def normalize_text(value: str, form: str = "NFC") -> str:
    """Unicode normalisation."""
    for known in _FORMS:
        if form.upper() == known:
            return unicodedata.normalize(known, value)
    raise sql_error("22023", f"invalid normalization form: {form}")


_FLOAT: Final = 701
_ROWS: Final[tuple[tuple[str, tuple[int, ...], int, Callable[..., Any]], ...]] = (
    ("cot", (_FLOAT,), _FLOAT, cot),
    ("asinh", (_FLOAT,), _FLOAT, math.asinh),
    ("acosh", (_FLOAT,), _FLOAT, _finite(math.acosh)),
    ("atanh", (_FLOAT,), _FLOAT, _finite(math.atanh)),
    ("sind", (_FLOAT,), _FLOAT, sind),
    ("cosd", (_FLOAT,), _FLOAT, cosd),
    ("tand", (_FLOAT,), _FLOAT, tand),
    ("cotd", (_FLOAT,), _FLOAT, cotd),
    ("asind", (_FLOAT,), _FLOAT, _rounded(math.asin)),
    ("acosd", (_FLOAT,), _FLOAT, _rounded(math.acos)),
    ("atand", (_FLOAT,), _FLOAT, _rounded(math.atan)),
    ("atan2d", (_FLOAT, _FLOAT), _FLOAT, _rounded(math.atan2)),
    ("factorial", (20,), 1700, factorial),
    ("width_bucket", (_FLOAT, _FLOAT, _FLOAT, 23), 23, width_bucket),
    ("width_bucket", (1700, 1700, 1700, 23), 23, width_bucket),
    ("get_byte", (17, 23), 23, get_byte),
    ("set_byte", (17, 23, 23), 17, set_byte),
    ("get_bit", (17, 20), 23, get_bit),
    ("set_bit", (17, 20, 23), 17, set_bit),
    ("bit_count", (17,), 20, bit_count),
    ("overlay", (17, 17, 23), 17, overlay_bytes),
    ("overlay", (17, 17, 23, 23), 17, overlay_bytes),
    ("convert_from", (17, 19), 25, convert_from),
    ("convert_to", (25, 19), 17, convert_to),
    ("normalize", (25,), 25, normalize_text),
    ("normalize", (25, 25), 25, normalize_text),
)


def rows() -> Iterator[tuple[str, tuple[int, ...], int, Callable[..., Any]]]:
    """Name, argument types, result type and function of each."""
    yield from _ROWS
