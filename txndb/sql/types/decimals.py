"""NUMERIC: values are `Decimal`s, arithmetic and display scales are PostgreSQL's (utils/adt/numeric.c, PG 15).

Invariants
1. A finite value has exponent <= 0, and -exponent is PostgreSQL's display scale; there is no negative zero.
2. Rounding is half away from zero. Addition and multiplication are exact; division keeps at least 16 significant
   digits by `select_div_scale`'s rule (counted in base-10000 digits, as there).
3. NaN equals NaN and is greater than everything; infinities exist.

Own contexts are used throughout: the interpreter's ambient decimal context (28 digits) never decides a result.
"""

from __future__ import annotations

import re
from decimal import (
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Overflow,
)
from typing import Final, NoReturn

from txndb.errors import sql_error
from txndb.sql.types.core import numeric_precision_scale

DIGITS_BEFORE_POINT_MAX: Final = 131_072
SCALE_MAX: Final = 16_383
RESULT_SCALE_MAX: Final = 1000
SIGNIFICANT_DIGITS_MIN: Final = 16

_EXACT: Final = Context(
    prec=2 * (DIGITS_BEFORE_POINT_MAX + SCALE_MAX),
    rounding=ROUND_HALF_UP,
    Emin=-999_999,
    Emax=DIGITS_BEFORE_POINT_MAX - 1,
    traps=[Overflow, DivisionByZero],
)
_add, _sub, _mul = _EXACT.add, _EXACT.subtract, _EXACT.multiply
_quantize = Decimal.quantize
ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)
NAN: Final = Decimal("NaN")
INFINITY: Final = Decimal("Infinity")
_QUANTA: Final = tuple(Decimal(1).scaleb(-scale) for scale in range(64))
_TEXT: Final = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*\Z", re.ASCII)
_PLAIN: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?\Z", re.ASCII)
_PLAIN_CHARACTERS_MAX: Final = 1000
_SPECIAL: Final = {
    "nan": NAN,
    "inf": INFINITY,
    "+inf": INFINITY,
    "infinity": INFINITY,
    "+infinity": INFINITY,
    "-inf": -INFINITY,
    "-infinity": -INFINITY,
}


def overflow() -> NoReturn:
    """The error of a result with more digits than the format holds."""
    raise sql_error("22003", "value overflows numeric format")


def division_by_zero() -> NoReturn:
    raise sql_error("22012", "division by zero")


def quantum(scale: int) -> Decimal:
    """10^-scale, the second argument of quantize."""
    return _QUANTA[scale] if 0 <= scale < 64 else Decimal((0, (1,), -scale))


def round_to(value: Decimal, scale: int, rounding: str = ROUND_HALF_UP) -> Decimal:
    """Round to `scale` digits after the point; a negative scale rounds before it. The scale of the result is >= 0."""
    if not value.is_finite():
        return value
    result = _quantize(value, quantum(scale), rounding, _EXACT)
    if scale < 0:
        result = _quantize(result, ONE, ROUND_DOWN, _EXACT)
    return result if result else result.copy_abs()


def scale_of(value: Decimal) -> int:
    """The display scale of a finite value."""
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def parse_numeric(text: str) -> Decimal:
    """The value of a NUMERIC literal; 22P02 when malformed."""
    if len(text) < _PLAIN_CHARACTERS_MAX and _PLAIN.match(text):
        value = Decimal(text)
        return value if value else value.copy_abs()
    match = _TEXT.match(text)
    if match is None:
        special = _SPECIAL.get(text.strip().lower())
        if special is None:
            raise sql_error("22P02", f'invalid input syntax for type numeric: "{text}"')
        return special
    return normalize(Decimal(match[1]))


def normalize(value: Decimal) -> Decimal:
    """Bring a Decimal into the form of invariant 1."""
    if not value.is_finite():
        return value
    exponent = value.as_tuple().exponent
    if value.adjusted() >= DIGITS_BEFORE_POINT_MAX and value:
        overflow()
    if isinstance(exponent, int) and (exponent > 0 or exponent < -SCALE_MAX):
        value = _quantize(value, quantum(0 if exponent > 0 else SCALE_MAX), ROUND_HALF_UP, _EXACT)
    return value if value else value.copy_abs()


def format_numeric(value: Decimal) -> str:
    """The text form, never in scientific notation."""
    text = str(value)
    if "E" in text:
        return f"{value:f}"
    return text


def apply_numeric_typmod(value: Decimal, typmod: int) -> Decimal:
    """Round to NUMERIC(p,s)'s scale; 22003 when too large."""
    if typmod < 0 or value.is_nan():
        return value
    precision, scale = numeric_precision_scale(typmod)
    if value.is_infinite():
        detail = f"A field with precision {precision}, scale {scale} cannot hold an infinite value."
        raise sql_error("22003", "numeric field overflow", detail=detail)
    if value and value.adjusted() > precision - scale:
        _field_overflow(precision, scale)
    result = round_to(value, scale)
    if result and result.adjusted() >= precision - scale:
        _field_overflow(precision, scale)
    return result


def _field_overflow(precision: int, scale: int) -> NoReturn:
    digits = precision - scale
    bound = f"10^{digits}" if digits else "1"
    detail = f"A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}."
    raise sql_error("22003", "numeric field overflow", detail=detail)


def add(a: Decimal, b: Decimal) -> Decimal:
    try:
        return _add(a, b)
    except Overflow:
        overflow()


def subtract(a: Decimal, b: Decimal) -> Decimal:
    try:
        return _sub(a, b)
    except Overflow:
        overflow()


def multiply(a: Decimal, b: Decimal) -> Decimal:
    try:
        result = _mul(a, b)
    except Overflow:
        overflow()
    return result if result else normalize(result)


def negate(value: Decimal) -> Decimal:
    return value.copy_negate() if value else value


def absolute(value: Decimal) -> Decimal:
    return value.copy_abs()


def _leading_group(value: Decimal) -> tuple[int, int]:
    """Weight and value of the first base-10000 digit; (0, 0) for zero."""
    if not value:
        return 0, 0
    adjusted = value.adjusted()
    weight = adjusted // 4
    width = adjusted - 4 * weight + 1
    digits = value.as_tuple().digits[:width]
    first = 0
    for digit in digits:
        first = first * 10 + digit
    return weight, first * 10 ** (width - len(digits))


def division_scale(a: Decimal, b: Decimal) -> int:
    """The display scale of a quotient: at least 16 significant digits, and no less than either input's scale."""
    weight_a, first_a = _leading_group(a)
    weight_b, first_b = _leading_group(b)
    weight = weight_a - weight_b - (1 if first_a <= first_b else 0)
    scale = max(SIGNIFICANT_DIGITS_MIN - weight * 4, scale_of(a), scale_of(b), 0)
    return min(scale, RESULT_SCALE_MAX)


def quotient(a: Decimal, b: Decimal, scale: int) -> Decimal:
    """a / b rounded half away from zero to `scale` digits; both finite, b not zero."""
    # One more digit, truncated, decides the rounding exactly.
    result = _EXACT.divide_int(a.scaleb(scale + 1, _EXACT), b)
    result = _quantize(result.scaleb(-scale - 1, _EXACT), quantum(scale), ROUND_HALF_UP, _EXACT)
    return result if result else result.copy_abs()


def divide(a: Decimal, b: Decimal) -> Decimal:
    if not (a.is_finite() and b.is_finite()):
        return _special_quotient(a, b)
    if not b:
        division_by_zero()
    return quotient(a, b, division_scale(a, b))


def _special_quotient(a: Decimal, b: Decimal) -> Decimal:
    if a.is_nan() or b.is_nan() or (a.is_infinite() and b.is_infinite()):
        return NAN
    if not b:
        division_by_zero()
    if b.is_infinite():
        return ZERO
    return a if b > 0 else a.copy_negate()


def modulo(a: Decimal, b: Decimal) -> Decimal:
    """The remainder with the sign of the dividend."""
    if a.is_nan() or b.is_nan() or a.is_infinite():
        if not b and not a.is_nan():
            division_by_zero()
        return NAN
    if not b:
        division_by_zero()
    if b.is_infinite():
        return a
    return normalize(_EXACT.remainder(a, b))


def integer_quotient(a: Decimal, b: Decimal) -> Decimal:
    """div(a, b): the quotient truncated to an integer."""
    if not (a.is_finite() and b.is_finite()):
        return _special_quotient(a, b)
    if not b:
        division_by_zero()
    return normalize(_EXACT.divide_int(a, b))


def ceiling(value: Decimal) -> Decimal:
    return round_to(value, 0, ROUND_CEILING)


def floor(value: Decimal) -> Decimal:
    return round_to(value, 0, ROUND_FLOOR)


def _clamped(digits: int) -> int:
    return max(-RESULT_SCALE_MAX * 2, min(RESULT_SCALE_MAX * 2, digits))


def round_sql(value: Decimal, digits: int) -> Decimal:
    return round_to(value, _clamped(digits))


def round_integer(value: Decimal) -> Decimal:
    return round_to(value, 0)


def truncate_sql(value: Decimal, digits: int) -> Decimal:
    return round_to(value, _clamped(digits), ROUND_DOWN)


def truncate_integer(value: Decimal) -> Decimal:
    return round_to(value, 0, ROUND_DOWN)


def sign(value: Decimal) -> Decimal:
    if value.is_nan():
        return value
    if not value:
        return ZERO
    return ONE if value > 0 else Decimal(-1)


def compare(a: Decimal, b: Decimal) -> int:
    """-1, 0 or 1; NaN is equal to itself and greatest."""
    if a.is_nan() or b.is_nan():
        return a.is_nan() - b.is_nan()
    return (a > b) - (a < b)


def eq(a: Decimal, b: Decimal) -> bool:
    return a == b or (a != a and b != b)


def ne(a: Decimal, b: Decimal) -> bool:
    return not (a == b or (a != a and b != b))


def lt(a: Decimal, b: Decimal) -> bool:
    if a != a or b != b:
        return a == a
    return a < b


def le(a: Decimal, b: Decimal) -> bool:
    if a != a or b != b:
        return b != b
    return a <= b


def gt(a: Decimal, b: Decimal) -> bool:
    return lt(b, a)


def ge(a: Decimal, b: Decimal) -> bool:
    return le(b, a)


def sort_key(value: Decimal) -> tuple[bool, Decimal]:
    """A key under which plain tuple comparison is NUMERIC's order."""
    return (True, ZERO) if value != value else (False, value)


def from_int(value: int) -> Decimal:
    return Decimal(value)


def from_float(value: float) -> Decimal:
    """As the cast from FLOAT8: 15 significant digits."""
    if value != value:
        return NAN
    if value in (float("inf"), float("-inf")):
        return INFINITY if value > 0 else -INFINITY
    return normalize(Decimal(f"{value:.15g}"))


def from_float4(value: float) -> Decimal:
    """As the cast from FLOAT4: 6 significant digits."""
    if value != value or value in (float("inf"), float("-inf")):
        return from_float(value)
    return normalize(Decimal(f"{value:.6g}"))


def to_int(value: Decimal, low: int, high: int, type_name: str) -> int:
    """Round to an integer within bounds; 22003 with the type's SQL name otherwise."""
    if not value.is_finite():
        what = "NaN" if value.is_nan() else "infinity"
        raise sql_error("0A000", f"cannot convert {what} to {type_name}")
    # Twenty digits before the point are more than any integer type has.
    result = int(_quantize(value, ONE, ROUND_HALF_UP, _EXACT)) if value.adjusted() < 20 else high + 1
    if not low <= result <= high:
        raise sql_error("22003", f"{type_name} out of range")
    return result


def to_float(value: Decimal) -> float:
    result = float(value)
    if result in (float("inf"), float("-inf")) and value.is_finite():
        raise sql_error("22003", f'"{format_numeric(value)}" is out of range for type double precision')
    return result


def trim_scale(value: Decimal) -> Decimal:
    """Without trailing zeros after the point."""
    if not value.is_finite():
        return value
    return normalize(value.normalize(_EXACT))


def scale_or_null(value: Decimal) -> int | None:
    """scale(x): NULL for NaN and the infinities."""
    return scale_of(value) if value.is_finite() else None


def square_root(value: Decimal, scale: int) -> Decimal:
    """The square root rounded to `scale` digits; `value` is finite and not negative."""
    digits = max(value.adjusted() // 2, 0) + scale + 8
    context = Context(prec=digits, rounding=ROUND_HALF_UP, Emin=-999_999, Emax=999_999)
    return round_to(value.sqrt(context), scale)


def from_digits(digits: int, scale: int) -> Decimal:
    """digits * 10^-scale with that display scale."""
    return Decimal(digits).scaleb(-scale, _EXACT)
