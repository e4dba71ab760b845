"""sqrt, exp, ln, log and power of NUMERIC and FLOAT8, with PostgreSQL's result scales and domain errors.

NUMERIC results are computed with guard digits beyond the scale that PostgreSQL's numeric.c chooses for them, then
rounded half away from zero.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final, NoReturn

from txndb.errors import sql_error
from txndb.sql.types import decimals
from txndb.sql.types.decimals import (
    INFINITY,
    NAN,
    ONE,
    RESULT_SCALE_MAX,
    SIGNIFICANT_DIGITS_MIN,
    ZERO,
    scale_of,
)

_GUARD_DIGITS: Final = 12
_LOG10_E: Final = 0.434294481903252


def _negative_sqrt() -> NoReturn:
    raise sql_error("2201F", "cannot take square root of a negative number")


def _negative_log() -> NoReturn:
    raise sql_error("2201E", "cannot take logarithm of a negative number")


def _zero_log() -> NoReturn:
    raise sql_error("2201E", "cannot take logarithm of zero")


def _overflow() -> NoReturn:
    raise sql_error("22003", "value out of range: overflow")


def float_sqrt(value: float) -> float:
    if value < 0:
        _negative_sqrt()
    return math.sqrt(value)


def float_cbrt(value: float) -> float:
    return math.cbrt(value)


def float_exp(value: float) -> float:
    try:
        result = math.exp(value)
    except OverflowError:
        _overflow()
    if result == 0 and not math.isinf(value):
        raise sql_error("22003", "value out of range: underflow")
    return result


def _logged(value: float) -> None:
    if value == 0:
        _zero_log()
    if value < 0:
        _negative_log()


def float_ln(value: float) -> float:
    _logged(value)
    return math.log(value)


def float_log10(value: float) -> float:
    _logged(value)
    return math.log10(value)


def _bounded_scale(scale: int, *least: int) -> int:
    return min(max(scale, 0, *least), RESULT_SCALE_MAX)


def _precise(digits: int) -> Context:
    return Context(
        prec=max(digits, 1) + _GUARD_DIGITS, rounding=ROUND_HALF_UP, Emin=-999_999_999, Emax=999_999_999
    )


def _weight(value: Decimal) -> int:
    """The weight of the first base-10000 digit."""
    return value.adjusted() // 4


def sqrt(value: Decimal) -> Decimal:
    if value.is_nan():
        return value
    if value < 0:
        _negative_sqrt()
    if value.is_infinite():
        return value
    # numeric_sqrt estimates the result's decimal weight from the base-10000 weight, in C integer division
    result_weight = int((_weight(value) + 1) * 4 / 2) - 1 if value else 1
    scale = _bounded_scale(SIGNIFICANT_DIGITS_MIN - result_weight, scale_of(value))
    exact = value.sqrt(_precise(scale + max(value.adjusted() // 2, 0) + 2))
    return decimals.round_to(exact, scale)


def exp(value: Decimal) -> Decimal:
    if not value.is_finite():
        return ZERO if value.is_infinite() and value < 0 else value
    weight = int(max(-2000.0, min(2000.0, float(value) * _LOG10_E)))
    scale = _bounded_scale(SIGNIFICANT_DIGITS_MIN - weight, scale_of(value))
    if float(value) > 131_072 / _LOG10_E:
        decimals.overflow()
    if float(value) < -(RESULT_SCALE_MAX + 10) / _LOG10_E:
        return decimals.round_to(ZERO, scale)
    exact = value.exp(_precise(scale + max(int(float(value) * _LOG10_E), 0) + 2))
    return decimals.round_to(exact, scale)


def _ln_weight(value: Decimal) -> int:
    """The decimal weight of ln(value), as numeric.c's estimate_ln_dweight."""
    if value <= 0:
        return 0
    if Decimal("0.9") <= value <= Decimal("1.1"):
        rest = value - ONE
        if not rest:
            return 0
        weight = _weight(rest)
        first = int(abs(rest).scaleb(-4 * weight))
        return weight * 4 + int(math.log10(first))
    estimate = abs(float(value.ln(Context(prec=17))))
    return int(math.log10(estimate))


def ln(value: Decimal) -> Decimal:
    if value.is_nan():
        return value
    if not value:
        _zero_log()
    if value < 0:
        _negative_log()
    if value.is_infinite():
        return value
    scale = _bounded_scale(SIGNIFICANT_DIGITS_MIN - _ln_weight(value), scale_of(value))
    return decimals.round_to(value.ln(_precise(scale + 8)), scale)


def log10(value: Decimal) -> Decimal:
    return log(Decimal(10), value)


def log(base: Decimal, value: Decimal) -> Decimal:
    """log(base, value)."""
    if base.is_nan() or value.is_nan():
        return NAN
    for argument in (base, value):
        if not argument:
            _zero_log()
        if argument < 0:
            _negative_log()
    if base.is_infinite() or value.is_infinite():
        if base.is_infinite():
            return NAN if value.is_infinite() else ZERO
        return INFINITY
    scale = _bounded_scale(
        SIGNIFICANT_DIGITS_MIN - (_ln_weight(value) - _ln_weight(base)), scale_of(base), scale_of(value)
    )
    context = _precise(scale + 20)
    divisor = base.ln(context)
    if not divisor:
        decimals.division_by_zero()
    return decimals.round_to(context.divide(value.ln(context), divisor), scale)


def power(base: Decimal, exponent: Decimal) -> Decimal:
    if not (base.is_finite() and exponent.is_finite()):
        return _special_power(base, exponent)
    integral = exponent == exponent.to_integral_value()
    if not base and exponent < 0:
        raise sql_error("2201F", "zero raised to a negative power is undefined")
    if base < 0 and not integral:
        raise sql_error("2201F", "a negative number raised to a non-integer power yields a complex result")
    if integral and abs(exponent) < 2**31:
        return _integer_power(base, int(exponent), scale_of(exponent))
    if not base:
        return decimals.round_to(ZERO, SIGNIFICANT_DIGITS_MIN)
    magnitude = base.copy_abs()
    logarithm = magnitude.ln(_precise(40)) * exponent
    weight = float(logarithm) * _LOG10_E
    if weight > 131_072:
        decimals.overflow()
    scale = _bounded_scale(
        SIGNIFICANT_DIGITS_MIN - int(max(weight, -2000.0)), scale_of(base), scale_of(exponent)
    )
    context = _precise(scale + max(int(weight), 0) + 20)
    result = context.exp(context.multiply(magnitude.ln(context), exponent))
    odd = base < 0 and int(exponent) % 2 == 1
    return decimals.round_to(-result if odd else result, scale)


def _integer_power(base: Decimal, exponent: int, exponent_scale: int) -> Decimal:
    scale = _bounded_scale(SIGNIFICANT_DIGITS_MIN, scale_of(base))
    if not base or exponent == 0:
        return decimals.round_to(ONE if exponent == 0 else ZERO, scale)
    weight = exponent * (math.log10(abs(float(base))) if abs(base.adjusted()) < 300 else base.adjusted())
    if weight > 131_072 + 10:
        decimals.overflow()
    context = _precise(scale + max(int(weight), 0) + 20)
    return decimals.round_to(context.power(base, exponent), scale)


def _special_power(base: Decimal, exponent: Decimal) -> Decimal:
    """Powers with NaN or an infinity, as POSIX pow()."""
    if exponent == 0 or base == 1:
        return ONE
    if base.is_nan() or exponent.is_nan():
        return NAN
    if exponent.is_infinite():
        size = base.copy_abs()
        if size == 1:
            return ONE
        return INFINITY if (size > 1) == (exponent > 0) else ZERO
    if exponent < 0:
        return ZERO
    odd = exponent == exponent.to_integral_value() and int(exponent) % 2 == 1
    if base < 0 and exponent != exponent.to_integral_value():
        raise sql_error("2201F", "a negative number raised to a non-integer power yields a complex result")
    return base if odd else INFINITY
