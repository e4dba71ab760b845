"""Arithmetic and comparison of integers, floats and dates, with PostgreSQL's errors.

Integer results are checked against their width (22003), division truncates toward zero, the remainder has the sign of
the dividend. Floats over- and underflow to errors, NaN equals NaN and is greatest. These are the functions that
operator templates name; those that need no check are written in the templates themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NoReturn

from txndb.errors import sql_error
from txndb.sql.types import calendar
from txndb.sql.types.casts import int2_of, int4_of, int8_of
from txndb.sql.types.context import EvalContext
from txndb.sql.types.decimals import division_by_zero
from txndb.sql.types.interval import Interval, add_to_timestamp, add_to_timestamptz, negate
from txndb.sql.types.textio import to_single

_INFINITY: Final = float("inf")


def int2_overflow() -> NoReturn:
    raise sql_error("22003", "smallint out of range")


def int4_overflow() -> NoReturn:
    raise sql_error("22003", "integer out of range")


def int8_overflow() -> NoReturn:
    raise sql_error("22003", "bigint out of range")


def int_divider(check: Callable[[int], int]) -> Callable[[int, int], int]:
    """Division of one integer width."""

    def divide(a: int, b: int) -> int:
        if a >= 0 and b > 0:
            return a // b
        if b == 0:
            division_by_zero()
        quotient = abs(a) // abs(b)
        return check(quotient if (a < 0) == (b < 0) else -quotient)

    return divide


int2_div: Final = int_divider(int2_of)
int4_div: Final = int_divider(int4_of)
int8_div: Final = int_divider(int8_of)


def int_mod(a: int, b: int) -> int:
    """The remainder, signed as the dividend."""
    if a >= 0 and b > 0:
        return a % b
    if b == 0:
        division_by_zero()
    remainder = abs(a) % abs(b)
    return remainder if a >= 0 else -remainder


def shifter(bits: int, left: bool) -> Callable[[int, int], int]:
    """Shifts of one width: the count is taken modulo the machine's word, the result wraps."""
    mask = 63 if bits == 64 else 31
    half, full = 1 << bits - 1, 1 << bits

    def shift(value: int, count: int) -> int:
        result = value << (count & mask) if left else value >> (count & mask)
        return (result + half) % full - half

    return shift


def _float_checked(result: float, a: float, b: float) -> float:
    if math.isinf(result) and not (math.isinf(a) or math.isinf(b)):
        raise sql_error("22003", "value out of range: overflow")
    return result


def float_add(a: float, b: float) -> float:
    return _float_checked(a + b, a, b)


def float_sub(a: float, b: float) -> float:
    return _float_checked(a - b, a, b)


def float_mul(a: float, b: float) -> float:
    result = a * b
    if result == 0 and a != 0 and b != 0:
        raise sql_error("22003", "value out of range: underflow")
    return _float_checked(result, a, b)


def float_div(a: float, b: float) -> float:
    if b == 0:
        if a != a:
            return a
        division_by_zero()
    result = a / b
    if result == 0 and a != 0 and not math.isinf(b):
        raise sql_error("22003", "value out of range: underflow")
    return _float_checked(result, a, a)


def single(operation: Callable[[float, float], float]) -> Callable[[float, float], float]:
    """A FLOAT4 operation: the FLOAT8 one, rounded to single precision."""
    return lambda a, b: to_single(operation(a, b))


def float_power(a: float, b: float) -> float:
    """a ^ b with PostgreSQL's special cases."""
    if a != a:
        return 1.0 if b == 0 else a
    if b != b:
        return 1.0 if a == 1 else b
    if a == 0 and b < 0:
        raise sql_error("2201F", "zero raised to a negative power is undefined")
    if a < 0 and not math.isinf(b) and b != math.floor(b):
        raise sql_error("2201F", "a negative number raised to a non-integer power yields a complex result")
    try:
        result = math.pow(a, b)
    except OverflowError:
        raise sql_error("22003", "value out of range: overflow") from None
    if result == 0 and a != 0 and not math.isinf(a) and not math.isinf(b):
        raise sql_error("22003", "value out of range: underflow")
    return result


def float_eq(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)


def float_ne(a: float, b: float) -> bool:
    return not (a == b or (a != a and b != b))


def float_lt(a: float, b: float) -> bool:
    return a < b or (b != b and a == a)


def float_le(a: float, b: float) -> bool:
    return a <= b or b != b


def float_gt(a: float, b: float) -> bool:
    return float_lt(b, a)


def float_ge(a: float, b: float) -> bool:
    return float_le(b, a)


def float_sort_key(value: float) -> tuple[bool, float]:
    """A key under which plain tuple comparison is FLOAT8's order."""
    return (True, 0.0) if value != value else (False, value)


def date_add(days: int, count: int) -> int:
    if calendar.is_infinite_date(days):
        return days
    return calendar.checked_date(days + count)


def date_sub(days: int, count: int) -> int:
    if calendar.is_infinite_date(days):
        return days
    return calendar.checked_date(days - count)


def date_diff(a: int, b: int) -> int:
    if calendar.is_infinite_date(a) or calendar.is_infinite_date(b):
        raise sql_error("22008", "cannot subtract infinite dates")
    return a - b


def date_add_interval(days: int, span: Interval) -> int:
    return add_to_timestamp(calendar.date_to_timestamp(days), span)


def date_sub_interval(days: int, span: Interval) -> int:
    return add_to_timestamp(calendar.date_to_timestamp(days), negate(span))


def timestamp_sub_interval(stamp_us: int, span: Interval) -> int:
    return add_to_timestamp(stamp_us, negate(span))


def timestamptz_add_interval(ctx: EvalContext, stamp_us: int, span: Interval) -> int:
    return add_to_timestamptz(stamp_us, span, ctx.zone)


def timestamptz_sub_interval(ctx: EvalContext, stamp_us: int, span: Interval) -> int:
    return add_to_timestamptz(stamp_us, negate(span), ctx.zone)


def date_as_timestamp(days: int) -> int:
    """A date for comparison with timestamps: beyond their range it is an infinity."""
    if days * calendar.DAY_US >= calendar.TIMESTAMP_END:
        return calendar.INFINITY
    if calendar.is_infinite_date(days):
        return calendar.MINUS_INFINITY
    return days * calendar.DAY_US


def date_as_timestamptz(ctx: EvalContext, days: int) -> int:
    """As `date_as_timestamp`, at midnight in the session's zone."""
    return timestamp_as_timestamptz(ctx, date_as_timestamp(days))


def timestamp_as_timestamptz(ctx: EvalContext, local_us: int) -> int:
    """A local time for comparison with instants; never out of range."""
    if calendar.is_infinite(local_us):
        return local_us
    return local_us - ctx.zone.offset_of_local(local_us) * calendar.SECOND_US
