"""The rows of the operator table: argument types, result, function, source template.

Comparisons of types whose values order by themselves in Python are templates without a call; integer arithmetic is a
template whose overflow branch calls out. Cross-type comparisons that PostgreSQL has (int2/int4/int8, float4/float8,
date/timestamp/timestamptz, name/text) are rows of their own.
"""

from __future__ import annotations

import operator as op
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from txndb.sql.types import arithmetic, arrays, casts, decimals, interval, numericmath, patterns
from txndb.sql.types.arithmetic import float_add, float_div, float_mul, float_sub, single
from txndb.sql.types.casts import find_cast
from txndb.sql.types.core import TEXT, SqlType

Build = Callable[[tuple[SqlType, ...]], tuple[Callable[..., Any], str | None]]


class OperatorRow(msgspec.Struct, frozen=True):
    """One overload. `build` makes the function of a polymorphic one from its actual argument types."""

    args: tuple[int, ...]
    result: int
    fn: Callable[..., Any]
    source: str | None = None
    needs: str | None = None
    build: Build | None = None
    strict: bool = True


Rows = Iterator[tuple[str, OperatorRow]]

_COMPARISONS: Final = {"=": op.eq, "<>": op.ne, "<": op.lt, "<=": op.le, ">": op.gt, ">=": op.ge}
_PYTHON: Final = {"=": "==", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_WORDS: Final = {"=": "eq", "<>": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_BOOL: Final = 16
_INTS: Final = (21, 23, 20)
_WIDTH_NAMES: Final = {21: "int2", 23: "int4", 20: "int8"}
_BOUNDS: Final = {21: (-(2**15), 2**15 - 1), 23: (-(2**31), 2**31 - 1), 20: (-(2**63), 2**63 - 1)}
_CHECKS: Final = {21: casts.int2_of, 23: casts.int4_of, 20: casts.int8_of}
_BITS: Final = {21: 16, 23: 32, 20: 64}
_NATURAL: Final = (16, 17, 18, 19, 20, 21, 23, 25, 26, 1082, 1114, 1184, 2950)
"""Types whose values compare by themselves."""


def _natural_comparisons() -> Rows:
    pairs = [(t, t) for t in _NATURAL]
    pairs += [(a, b) for a in _INTS for b in _INTS if a != b]
    pairs += [(19, 25), (25, 19)]
    for symbol, fn in _COMPARISONS.items():
        for pair in pairs:
            yield symbol, OperatorRow(pair, _BOOL, fn, "({0} " + _PYTHON[symbol] + " {1})")
    for symbol in ("=", "<>"):
        for pair in ((28, 28), (28, 23)):
            yield symbol, OperatorRow(pair, _BOOL, _COMPARISONS[symbol], "({0} " + _PYTHON[symbol] + " {1})")


def _keyed(test: Callable[[Any, Any], bool], left: Callable[[Any], Any], right: Callable[[Any], Any]) -> Any:
    return lambda a, b: test(left(a), right(b))


def _other_comparisons() -> Rows:
    for symbol, fn in _COMPARISONS.items():
        word = _WORDS[symbol]
        float_fn, decimal_fn = getattr(arithmetic, "float_" + word), getattr(decimals, word)
        for pair in ((701, 701), (700, 700), (700, 701), (701, 700)):
            yield symbol, OperatorRow(pair, _BOOL, float_fn, f"float_{word}({{0}}, {{1}})")
        yield symbol, OperatorRow((1700, 1700), _BOOL, decimal_fn, f"numeric_{word}({{0}}, {{1}})")
        stripped = "({0}.rstrip(' ') " + _PYTHON[symbol] + " {1}.rstrip(' '))"
        yield (
            symbol,
            OperatorRow((1042, 1042), _BOOL, _keyed(fn, casts.strip_blanks, casts.strip_blanks), stripped),
        )
        spans = _keyed(fn, interval.sort_key, interval.sort_key)
        text = f"(interval_key({{0}}) {_PYTHON[symbol]} interval_key({{1}}))"
        yield symbol, OperatorRow((1186, 1186), _BOOL, spans, text)
        yield symbol, OperatorRow((2277, 2277), _BOOL, fn, None, None, arrays.comparer(fn))
        yield symbol, OperatorRow((30, 30), _BOOL, fn, "({0} " + _PYTHON[symbol] + " {1})")
        yield symbol, OperatorRow((2249, 2249), _BOOL, fn)
        yield from _temporal_comparisons(symbol, fn)


def _temporal_comparisons(symbol: str, fn: Callable[[Any, Any], bool]) -> Rows:
    of_date = arithmetic.date_as_timestamp
    yield symbol, OperatorRow((1082, 1114), _BOOL, _keyed(fn, of_date, arrays.identity))
    yield symbol, OperatorRow((1114, 1082), _BOOL, _keyed(fn, arrays.identity, of_date))
    for local, lift in ((1082, arithmetic.date_as_timestamptz), (1114, arithmetic.timestamp_as_timestamptz)):
        yield symbol, OperatorRow((local, 1184), _BOOL, _lifted_left(fn, lift), None, "session")
        yield symbol, OperatorRow((1184, local), _BOOL, _lifted_right(fn, lift), None, "session")


def _lifted_left(fn: Callable[[Any, Any], bool], lift: Callable[[Any, Any], Any]) -> Callable[..., bool]:
    return lambda ctx, a, b: fn(lift(ctx, a), b)


def _lifted_right(fn: Callable[[Any, Any], bool], lift: Callable[[Any, Any], Any]) -> Callable[..., bool]:
    return lambda ctx, a, b: fn(a, lift(ctx, b))


def _checked(fn: Callable[..., int], check: Callable[[int], int]) -> Callable[..., int]:
    return lambda *args: check(fn(*args))


def _bounded(expression: str, oid: int) -> str:
    low, high = _BOUNDS[oid]
    return f"(_t if {low} <= (_t := {expression}) <= {high} else {_WIDTH_NAMES[oid]}_overflow())"


def _int_arithmetic() -> Rows:
    for a in _INTS:
        for b in _INTS:
            result = max(a, b, key=lambda oid: _BITS[oid])
            check = _CHECKS[result]
            for symbol, fn in (("+", op.add), ("-", op.sub), ("*", op.mul)):
                source = _bounded(f"{{0}} {symbol} {{1}}", result)
                yield symbol, OperatorRow((a, b), result, _checked(fn, check), source)
            name = f"{_WIDTH_NAMES[result]}_div"
            yield "/", OperatorRow((a, b), result, getattr(arithmetic, name), name + "({0}, {1})")
    for t in _INTS:
        yield "%", OperatorRow((t, t), t, arithmetic.int_mod, "int_mod({0}, {1})")
        yield "&", OperatorRow((t, t), t, op.and_, "({0} & {1})")
        yield "|", OperatorRow((t, t), t, op.or_, "({0} | {1})")
        yield "#", OperatorRow((t, t), t, op.xor, "({0} ^ {1})")
        yield "~", OperatorRow((t,), t, op.invert, "(~{0})")
        yield "<<", OperatorRow((t, 23), t, arithmetic.shifter(_BITS[t], True))
        yield ">>", OperatorRow((t, 23), t, arithmetic.shifter(_BITS[t], False))
        yield "-", OperatorRow((t,), t, _checked(op.neg, _CHECKS[t]), _bounded("-{0}", t))
        yield "+", OperatorRow((t,), t, op.pos, "{0}")
        yield "@", OperatorRow((t,), t, _checked(abs, _CHECKS[t]), _bounded("abs({0})", t))


def _float_and_numeric() -> Rows:
    names = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
    fns = {"+": float_add, "-": float_sub, "*": float_mul, "/": float_div}
    for symbol, fn in fns.items():
        source = f"float_{names[symbol]}({{0}}, {{1}})"
        for pair in ((701, 701), (700, 701), (701, 700)):
            yield symbol, OperatorRow(pair, 701, fn, source)
        yield symbol, OperatorRow((700, 700), 700, single(fn))
    numeric = {"+": decimals.add, "-": decimals.subtract, "*": decimals.multiply, "/": decimals.divide}
    for symbol, decimal_fn in numeric.items():
        yield symbol, OperatorRow((1700, 1700), 1700, decimal_fn, f"numeric_{names[symbol]}({{0}}, {{1}})")
    yield "%", OperatorRow((1700, 1700), 1700, decimals.modulo, "numeric_mod({0}, {1})")
    yield "^", OperatorRow((701, 701), 701, arithmetic.float_power, "float_power({0}, {1})")
    yield "^", OperatorRow((1700, 1700), 1700, numericmath.power)
    for t in (700, 701):
        yield "-", OperatorRow((t,), t, op.neg, "(-{0})")
        yield "+", OperatorRow((t,), t, op.pos, "{0}")
        yield "@", OperatorRow((t,), t, abs, "abs({0})")
    yield "|/", OperatorRow((701,), 701, numericmath.float_sqrt)
    yield "||/", OperatorRow((701,), 701, numericmath.float_cbrt)
    yield "-", OperatorRow((1700,), 1700, decimals.negate, "numeric_neg({0})")
    yield "+", OperatorRow((1700,), 1700, arrays.identity, "{0}")
    yield "@", OperatorRow((1700,), 1700, decimals.absolute, "{0}.copy_abs()")


def _temporal_arithmetic() -> Rows:
    a = arithmetic
    yield "+", OperatorRow((1082, 23), 1082, a.date_add, "date_add({0}, {1})")
    yield "+", OperatorRow((23, 1082), 1082, lambda count, days: a.date_add(days, count))
    yield "-", OperatorRow((1082, 23), 1082, a.date_sub, "date_sub({0}, {1})")
    yield "-", OperatorRow((1082, 1082), 23, a.date_diff, "date_diff({0}, {1})")
    yield "+", OperatorRow((1082, 1186), 1114, a.date_add_interval)
    yield "+", OperatorRow((1186, 1082), 1114, lambda span, days: a.date_add_interval(days, span))
    yield "-", OperatorRow((1082, 1186), 1114, a.date_sub_interval)
    yield "+", OperatorRow((1114, 1186), 1114, interval.add_to_timestamp)
    yield "+", OperatorRow((1186, 1114), 1114, lambda span, stamp: interval.add_to_timestamp(stamp, span))
    yield "-", OperatorRow((1114, 1186), 1114, a.timestamp_sub_interval)
    yield "+", OperatorRow((1184, 1186), 1184, a.timestamptz_add_interval, None, "session")
    yield (
        "+",
        OperatorRow(
            (1186, 1184), 1184, lambda c, span, t: a.timestamptz_add_interval(c, t, span), None, "session"
        ),
    )
    yield "-", OperatorRow((1184, 1186), 1184, a.timestamptz_sub_interval, None, "session")
    yield "-", OperatorRow((1114, 1114), 1186, interval.between)
    yield "-", OperatorRow((1184, 1184), 1186, interval.between)
    yield "+", OperatorRow((1186, 1186), 1186, interval.add)
    yield "-", OperatorRow((1186, 1186), 1186, interval.subtract)
    yield "-", OperatorRow((1186,), 1186, interval.negate)
    yield "*", OperatorRow((1186, 701), 1186, interval.scale)
    yield "*", OperatorRow((701, 1186), 1186, lambda factor, span: interval.scale(span, factor))
    yield "/", OperatorRow((1186, 701), 1186, interval.divide)


def _text_rows() -> Rows:
    yield "||", OperatorRow((25, 25), 25, op.add, "({0} + {1})")
    yield "||", OperatorRow((17, 17), 17, op.add, "({0} + {1})")
    yield "||", OperatorRow((25, 2776), 25, op.add, None, None, _build_text_any)
    yield "||", OperatorRow((2776, 25), 25, op.add, None, None, _build_any_text)
    tests = {
        "~~": (patterns.like, "like({0}, {1})"),
        "!~~": (patterns.not_like, "not_like({0}, {1})"),
        "~~*": (patterns.ilike, "ilike({0}, {1})"),
        "!~~*": (patterns.not_ilike, "not_ilike({0}, {1})"),
        "~": (patterns.regex_match, "regex_match({0}, {1})"),
        "!~": (patterns.regex_no_match, "regex_no_match({0}, {1})"),
        "~*": (patterns.regex_imatch, "regex_imatch({0}, {1})"),
        "!~*": (patterns.regex_no_imatch, "regex_no_imatch({0}, {1})"),
    }
    for symbol, (fn, source) in tests.items():
        for left in (25, 1042, 19):
            yield symbol, OperatorRow((left, 25), _BOOL, fn, source)
    yield "~~", OperatorRow((17, 17), _BOOL, patterns.bytea_like)
    yield "!~~", OperatorRow((17, 17), _BOOL, lambda value, pattern: not patterns.bytea_like(value, pattern))
    yield "^@", OperatorRow((25, 25), _BOOL, str.startswith, "{0}.startswith({1})")


def _as_text(sql_type: SqlType) -> tuple[Callable[..., str], str | None]:
    cast = find_cast(sql_type, TEXT, "explicit")
    if cast is None or cast.fn is None:
        return arrays.identity, None
    return cast.fn, cast.needs


def _build_text_any(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    convert, needs = _as_text(arg_types[1])
    if needs:
        return (lambda ctx, a, b: a + convert(ctx, b)), needs
    return (lambda a, b: a + convert(b)), None


def _build_any_text(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    convert, needs = _as_text(arg_types[0])
    if needs:
        return (lambda ctx, a, b: convert(ctx, a) + b), needs
    return (lambda a, b: convert(a) + b), None


def _array_rows() -> Rows:
    yield "||", OperatorRow((5078, 5078), 5078, arrays.concatenate, strict=False)
    yield "||", OperatorRow((5078, 5077), 5078, arrays.append, strict=False)
    yield "||", OperatorRow((5077, 5078), 5078, arrays.prepend, strict=False)
    yield "@>", OperatorRow((2277, 2277), _BOOL, op.ge, None, None, arrays.build_contains)
    yield "<@", OperatorRow((2277, 2277), _BOOL, op.le, None, None, arrays.build_contained)
    yield "&&", OperatorRow((2277, 2277), _BOOL, op.and_, None, None, arrays.build_overlaps)


def _collect() -> dict[str, list[OperatorRow]]:
    table: dict[str, list[OperatorRow]] = {}
    for section in (
        _natural_comparisons(),
        _other_comparisons(),
        _int_arithmetic(),
        _float_and_numeric(),
        _temporal_arithmetic(),
        _text_rows(),
        _array_rows(),
    ):
        for name, row in section:
            table.setdefault(name, []).append(row)
    return table


OPERATORS: Final = _collect()
