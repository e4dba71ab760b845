"""The rows of the function table: argument types, result, function, strictness, volatility, needs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec

from txndb.errors import sql_error
from txndb.sql.types import (
    arrays,
    casts,
    datefns,
    decimals,
    interval,
    numbertemplates,
    numericmath,
    patterns,
    rarefunctions,
    strings,
    templates,
)
from txndb.sql.types.arithmetic import float_power, int_mod
from txndb.sql.types.context import EvalContext
from txndb.sql.types.core import SqlType
from txndb.sql.types.textio import text_formatter

Build = Callable[[tuple[SqlType, ...]], tuple[Callable[..., Any], str | None]]


class FunctionRow(msgspec.Struct, frozen=True):
    """One overload. `variadic` is the type of the repeated last argument, at least `variadic_least` times."""

    args: tuple[int, ...]
    result: int
    fn: Callable[..., Any]
    source: str | None = None
    strict: bool = True
    volatility: str = "i"
    needs: str | None = None
    build: Build | None = None
    variadic: int | None = None
    variadic_least: int = 1


Rows = Iterator[tuple[str, FunctionRow]]
_BOOL, _BYTEA, _INT8, _INT2, _INT4, _TEXT, _FLOAT4, _FLOAT8 = 16, 17, 20, 21, 23, 25, 700, 701
_BPCHAR, _DATE, _STAMP, _STAMPTZ, _INTERVAL, _NUMERIC, _UUID = 1042, 1082, 1114, 1184, 1186, 1700, 2950
_TEXTS, _ANY, _ANYARRAY, _ANYELEMENT, _ANYNONARRAY = 1009, 2276, 2277, 2283, 2776
_COMPATIBLE, _COMPATIBLE_ARRAY = 5077, 5078


def _round_half_even(value: float) -> float:
    if not math.isfinite(value):
        return value
    return math.copysign(float(round(value)), value)


def _truncated(value: float) -> float:
    return math.copysign(float(math.trunc(value)), value) if math.isfinite(value) else value


def _ceiling(value: float) -> float:
    return math.copysign(float(math.ceil(value)), value) if math.isfinite(value) else value


def _floor(value: float) -> float:
    return float(math.floor(value)) if math.isfinite(value) and value else value


def _float_sign(value: float) -> float:
    return float((value > 0) - (value < 0))  # 0 for NaN, as PostgreSQL's dsign


def _trigonometric(fn: Callable[[float], float]) -> Callable[[float], float]:
    def checked(value: float) -> float:
        if value != value:
            return value
        try:
            return fn(value)
        except ValueError:
            raise sql_error("22003", "input is out of range") from None

    return checked


def _greatest_common(check: Callable[[int], int]) -> Callable[[int, int], int]:
    return lambda a, b: check(math.gcd(a, b))


def _least_common(check: Callable[[int], int]) -> Callable[[int, int], int]:
    return lambda a, b: check(math.lcm(a, b))


def _absolute(check: Callable[[int], int]) -> Callable[[int], int]:
    return lambda value: check(abs(value))


def _math() -> Rows:
    for t, check in ((_INT2, casts.int2_of), (_INT4, casts.int4_of), (_INT8, casts.int8_of)):
        yield "abs", FunctionRow((t,), t, _absolute(check))
        yield "mod", FunctionRow((t, t), t, int_mod, "int_mod({0}, {1})")
        if t != _INT2:
            yield "gcd", FunctionRow((t, t), t, _greatest_common(check))
            yield "lcm", FunctionRow((t, t), t, _least_common(check))
    for t in (_FLOAT4, _FLOAT8):
        yield "abs", FunctionRow((t,), t, abs, "abs({0})")
    one_float: dict[str, Callable[[float], float]] = {
        "ceil": _ceiling,
        "ceiling": _ceiling,
        "floor": _floor,
        "round": _round_half_even,
        "trunc": _truncated,
        "sqrt": numericmath.float_sqrt,
        "cbrt": numericmath.float_cbrt,
        "exp": numericmath.float_exp,
        "ln": numericmath.float_ln,
        "log": numericmath.float_log10,
        "log10": numericmath.float_log10,
        "sign": _float_sign,
        "degrees": math.degrees,
        "radians": math.radians,
    }
    for name in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"):
        one_float[name] = _trigonometric(getattr(math, name))
    for name, fn in one_float.items():
        yield name, FunctionRow((_FLOAT8,), _FLOAT8, fn)
    one_numeric: dict[str, Callable[[Decimal], Decimal]] = {
        "abs": decimals.absolute,
        "ceil": decimals.ceiling,
        "ceiling": decimals.ceiling,
        "floor": decimals.floor,
        "round": decimals.round_integer,
        "trunc": decimals.truncate_integer,
        "sqrt": numericmath.sqrt,
        "exp": numericmath.exp,
        "ln": numericmath.ln,
        "log": numericmath.log10,
        "log10": numericmath.log10,
        "sign": decimals.sign,
        "trim_scale": decimals.trim_scale,
    }
    for name, numeric_fn in one_numeric.items():
        yield name, FunctionRow((_NUMERIC,), _NUMERIC, numeric_fn)
    yield from _two_argument_math()


def _two_argument_math() -> Rows:
    yield "round", FunctionRow((_NUMERIC, _INT4), _NUMERIC, decimals.round_sql)
    yield "trunc", FunctionRow((_NUMERIC, _INT4), _NUMERIC, decimals.truncate_sql)
    yield "mod", FunctionRow((_NUMERIC, _NUMERIC), _NUMERIC, decimals.modulo)
    yield "div", FunctionRow((_NUMERIC, _NUMERIC), _NUMERIC, decimals.integer_quotient)
    yield "log", FunctionRow((_NUMERIC, _NUMERIC), _NUMERIC, numericmath.log)
    yield "scale", FunctionRow((_NUMERIC,), _INT4, decimals.scale_or_null)
    yield (
        "min_scale",
        FunctionRow((_NUMERIC,), _INT4, lambda v: decimals.scale_or_null(decimals.trim_scale(v))),
    )
    for name in ("power", "pow"):
        yield name, FunctionRow((_FLOAT8, _FLOAT8), _FLOAT8, float_power)
        yield name, FunctionRow((_NUMERIC, _NUMERIC), _NUMERIC, numericmath.power)
    yield "atan2", FunctionRow((_FLOAT8, _FLOAT8), _FLOAT8, math.atan2)
    yield "pi", FunctionRow((), _FLOAT8, lambda: math.pi)
    yield "random", FunctionRow((), _FLOAT8, lambda ctx: ctx.random(), None, True, "v", "rand")


def _strings() -> Rows:
    for name in ("length", "char_length", "character_length"):
        yield name, FunctionRow((_TEXT,), _INT4, len, "len({0})")
        yield name, FunctionRow((_BPCHAR,), _INT4, lambda v: len(v.rstrip(" ")))
    yield "length", FunctionRow((_BYTEA,), _INT4, len, "len({0})")
    yield "octet_length", FunctionRow((_BYTEA,), _INT4, len, "len({0})")
    yield "bit_length", FunctionRow((_BYTEA,), _INT4, lambda v: len(v) * 8)
    for t in (_TEXT, _BPCHAR):
        yield "octet_length", FunctionRow((t,), _INT4, strings.octet_length)
    yield "bit_length", FunctionRow((_TEXT,), _INT4, lambda v: strings.octet_length(v) * 8)
    for name, fn in (("lower", strings.lower), ("upper", strings.upper), ("initcap", strings.initcap)):
        yield name, FunctionRow((_TEXT,), _TEXT, fn)
    for name, trim in (("btrim", strings.btrim), ("ltrim", strings.ltrim), ("rtrim", strings.rtrim)):
        yield name, FunctionRow((_TEXT,), _TEXT, trim)
        yield name, FunctionRow((_TEXT, _TEXT), _TEXT, trim)
        yield (
            name,
            FunctionRow(
                (_BYTEA, _BYTEA), _BYTEA, {"b": bytes.strip, "l": bytes.lstrip}.get(name[0], bytes.rstrip)
            ),
        )
    for name in ("substring", "substr"):
        yield name, FunctionRow((_TEXT, _INT4), _TEXT, strings.substring_from)
        yield name, FunctionRow((_TEXT, _INT4, _INT4), _TEXT, strings.substring)
        yield name, FunctionRow((_BYTEA, _INT4), _BYTEA, strings.substring_bytes_from)
        yield name, FunctionRow((_BYTEA, _INT4, _INT4), _BYTEA, strings.substring_bytes)
    yield "substring", FunctionRow((_TEXT, _TEXT), _TEXT, strings.substring_regex)
    yield "position", FunctionRow((_TEXT, _TEXT), _INT4, strings.strpos)
    yield "position", FunctionRow((_BYTEA, _BYTEA), _INT4, strings.byte_position)
    yield "strpos", FunctionRow((_TEXT, _TEXT), _INT4, strings.strpos)
    yield "replace", FunctionRow((_TEXT, _TEXT, _TEXT), _TEXT, strings.replace)
    yield "left", FunctionRow((_TEXT, _INT4), _TEXT, strings.left)
    yield "right", FunctionRow((_TEXT, _INT4), _TEXT, strings.right)
    for name, pad in (("lpad", strings.lpad), ("rpad", strings.rpad)):
        yield name, FunctionRow((_TEXT, _INT4), _TEXT, pad)
        yield name, FunctionRow((_TEXT, _INT4, _TEXT), _TEXT, pad)
    yield "repeat", FunctionRow((_TEXT, _INT4), _TEXT, strings.repeat)
    yield "reverse", FunctionRow((_TEXT,), _TEXT, strings.reverse)
    yield "split_part", FunctionRow((_TEXT, _TEXT, _INT4), _TEXT, strings.split_part)
    yield "ascii", FunctionRow((_TEXT,), _INT4, strings.ascii_code)
    yield "chr", FunctionRow((_INT4,), _TEXT, strings.character)
    yield "to_hex", FunctionRow((_INT4,), _TEXT, strings.to_hex4)
    yield "to_hex", FunctionRow((_INT8,), _TEXT, strings.to_hex8)
    yield "starts_with", FunctionRow((_TEXT, _TEXT), _BOOL, str.startswith)
    yield "translate", FunctionRow((_TEXT, _TEXT, _TEXT), _TEXT, strings.translate)
    yield "overlay", FunctionRow((_TEXT, _TEXT, _INT4), _TEXT, strings.overlay_whole)
    yield "overlay", FunctionRow((_TEXT, _TEXT, _INT4, _INT4), _TEXT, strings.overlay)
    yield from _quoting_and_hashing()
    yield from _matching()


def _digest(name: str) -> Callable[[bytes], bytes]:
    return lambda data: hashlib.new(name, data).digest()


def _quoting_and_hashing() -> Rows:
    yield (
        "md5",
        FunctionRow((_TEXT,), _TEXT, lambda v: hashlib.md5(v.encode(), usedforsecurity=False).hexdigest()),
    )
    yield "md5", FunctionRow((_BYTEA,), _TEXT, lambda v: hashlib.md5(v, usedforsecurity=False).hexdigest())
    for name in ("sha224", "sha256", "sha384", "sha512"):
        yield name, FunctionRow((_BYTEA,), _BYTEA, _digest(name))
    yield "encode", FunctionRow((_BYTEA, _TEXT), _TEXT, strings.encode)
    yield "decode", FunctionRow((_TEXT, _TEXT), _BYTEA, strings.decode)
    yield "quote_ident", FunctionRow((_TEXT,), _TEXT, strings.quote_ident)
    yield "quote_literal", FunctionRow((_TEXT,), _TEXT, strings.quote_literal)
    yield "quote_nullable", FunctionRow((_TEXT,), _TEXT, strings.quote_nullable, None, False)
    for name, quote in (("quote_literal", strings.quote_literal), ("quote_nullable", strings.quote_nullable)):
        strict = name == "quote_literal"
        row = FunctionRow((_ANYELEMENT,), _TEXT, quote, None, strict, "s", None, _quoting(quote))
        yield name, row
    yield "concat", FunctionRow((), _TEXT, str, None, False, "s", None, _build_concat, _ANY)
    yield "concat_ws", FunctionRow((_TEXT,), _TEXT, str, None, False, "s", None, _build_concat_ws, _ANY)
    row = FunctionRow((_TEXT,), _TEXT, str, None, False, "s", None, _build_format, _ANY, 0)
    yield "format", row
    yield "array_to_string", FunctionRow((_ANYARRAY, _TEXT), _TEXT, str, None, True, "s", None, _build_join)
    row = FunctionRow((_ANYARRAY, _TEXT, _TEXT), _TEXT, str, None, False, "s", None, _build_join)
    yield "array_to_string", row
    for args in ((_TEXT, _TEXT), (_TEXT, _TEXT, _TEXT)):
        yield "string_to_array", FunctionRow(args, _TEXTS, strings.string_to_array, None, False)


def _outputs(arg_types: tuple[SqlType, ...]) -> Callable[[EvalContext, tuple[Any, ...]], list[str | None]]:
    """A function that turns argument values into their output texts."""

    def render(ctx: EvalContext, values: tuple[Any, ...]) -> list[str | None]:
        return [
            None if v is None else text_formatter(t, ctx)(v) for t, v in zip(arg_types, values, strict=True)
        ]

    return render


def _quoting(quote: Callable[..., str]) -> Build:
    def build(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
        render = _outputs(arg_types)
        return (lambda ctx, value: quote(render(ctx, (value,))[0])), "session"

    return build


def _build_concat(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    render = _outputs(arg_types)
    return (lambda ctx, *values: "".join(t for t in render(ctx, values) if t is not None)), "session"


def _build_concat_ws(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    render = _outputs(arg_types[1:])

    def concat(ctx: EvalContext, separator: str | None, *values: Any) -> str | None:
        if separator is None:
            return None
        return separator.join(t for t in render(ctx, values) if t is not None)

    return concat, "session"


def _build_format(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    render = _outputs(arg_types[1:])

    def fill(ctx: EvalContext, template: str | None, *values: Any) -> str | None:
        return None if template is None else strings.format_sql(template, render(ctx, values))

    return fill, "session"


def _build_join(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    element = arrays.element_type(arg_types[0])

    def join(ctx: EvalContext, value: Any, separator: str | None, null: str | None = None) -> str | None:
        if value is None or separator is None:
            return None
        show = text_formatter(element, ctx)
        texts = [null if v is None else show(v) for v in arrays.flatten(value)]
        return separator.join(t for t in texts if t is not None)

    return join, "session"


def _matching() -> Rows:
    texts: list[tuple[int, ...]] = [(_TEXT,) * count for count in range(5)]
    for args in texts[3:]:
        yield "regexp_replace", FunctionRow(args, _TEXT, strings.regexp_replace)
    for args in texts[2:4]:
        yield "regexp_match", FunctionRow(args, _TEXTS, strings.regexp_match)
        yield "regexp_like", FunctionRow(args, _BOOL, strings.regexp_like)
        yield "regexp_split_to_array", FunctionRow(args, _TEXTS, strings.regexp_split_to_array)
    for args in (texts[2], (_TEXT, _TEXT, _INT4), (_TEXT, _TEXT, _INT4, _TEXT)):
        yield "regexp_count", FunctionRow(args, _INT4, strings.regexp_count)
    yield "regexp_substr", FunctionRow((_TEXT, _TEXT), _TEXT, strings.regexp_substr)
    yield "like", FunctionRow((_TEXT, _TEXT), _BOOL, patterns.like)
    yield "notlike", FunctionRow((_TEXT, _TEXT), _BOOL, patterns.not_like)
    yield "like_escape", FunctionRow((_TEXT, _TEXT), _TEXT, patterns.like_escape)
    yield "similar_to_escape", FunctionRow((_TEXT, _TEXT), _TEXT, patterns.similar_to_regex)
    yield "similar_to_escape", FunctionRow((_TEXT,), _TEXT, patterns.similar_to_regex)


def _arrays() -> Rows:
    yield "array_length", FunctionRow((_ANYARRAY, _INT4), _INT4, arrays.length)
    yield "array_upper", FunctionRow((_ANYARRAY, _INT4), _INT4, arrays.length)
    yield "array_lower", FunctionRow((_ANYARRAY, _INT4), _INT4, arrays.lower_bound)
    yield "array_ndims", FunctionRow((_ANYARRAY,), _INT4, arrays.dimensions)
    yield "cardinality", FunctionRow((_ANYARRAY,), _INT4, arrays.cardinality)
    row = FunctionRow((_COMPATIBLE_ARRAY, _COMPATIBLE), _COMPATIBLE_ARRAY, arrays.append, None, False)
    yield "array_append", row
    row = FunctionRow((_COMPATIBLE, _COMPATIBLE_ARRAY), _COMPATIBLE_ARRAY, arrays.prepend, None, False)
    yield "array_prepend", row
    pair = (_COMPATIBLE_ARRAY, _COMPATIBLE_ARRAY)
    yield "array_cat", FunctionRow(pair, _COMPATIBLE_ARRAY, arrays.concatenate, None, False)
    pair = (_COMPATIBLE_ARRAY, _COMPATIBLE)
    build = arrays.build_position
    yield "array_position", FunctionRow(pair, _INT4, len, None, False, "i", None, build)
    yield "array_position", FunctionRow((*pair, _INT4), _INT4, len, None, False, "i", None, build)
    row = FunctionRow(pair, _COMPATIBLE_ARRAY, len, None, False, "i", None, arrays.build_remove)
    yield "array_remove", row


def _temporal() -> Rows:
    d = datefns
    for name in ("now", "transaction_timestamp", "current_timestamp"):
        yield name, FunctionRow((), _STAMPTZ, d.transaction_now, None, True, "s", "txn_time")
    yield "statement_timestamp", FunctionRow((), _STAMPTZ, d.statement_now, None, True, "s", "txn_time")
    yield "clock_timestamp", FunctionRow((), _STAMPTZ, d.clock_now, None, True, "v", "clock")
    yield "localtimestamp", FunctionRow((), _STAMP, d.local_now, None, True, "s", "txn_time")
    yield "current_timestamp", FunctionRow((_INT4,), _STAMPTZ, d.rounded_now, None, True, "s", "txn_time")
    yield "localtimestamp", FunctionRow((_INT4,), _STAMP, d.rounded_local_now, None, True, "s", "txn_time")
    yield "current_date", FunctionRow((), _DATE, d.current_date, None, True, "s", "txn_time")
    yield "date_trunc", FunctionRow((_TEXT, _STAMP), _STAMP, d.date_trunc)
    yield "date_trunc", FunctionRow((_TEXT, _STAMPTZ), _STAMPTZ, d.date_trunc_tz, needs="session")
    yield "date_trunc", FunctionRow((_TEXT, _STAMPTZ, _TEXT), _STAMPTZ, d.date_trunc_in_zone)
    yield "date_trunc", FunctionRow((_TEXT, _INTERVAL), _INTERVAL, d.date_trunc_interval)
    for t, part, extract in (
        (_STAMP, d.part_timestamp, d.extract_timestamp),
        (_DATE, d.part_date, d.extract_date),
        (_INTERVAL, d.part_interval, d.extract_interval),
    ):
        yield "date_part", FunctionRow((_TEXT, t), _FLOAT8, part)
        yield "extract", FunctionRow((_TEXT, t), _NUMERIC, extract)
    yield "date_part", FunctionRow((_TEXT, _STAMPTZ), _FLOAT8, d.part_timestamptz, needs="session")
    yield "extract", FunctionRow((_TEXT, _STAMPTZ), _NUMERIC, d.extract_timestamptz, needs="session")
    yield "age", FunctionRow((_STAMP, _STAMP), _INTERVAL, interval.age)
    yield "age", FunctionRow((_STAMPTZ, _STAMPTZ), _INTERVAL, d.age_timestamptz, needs="session")
    yield "age", FunctionRow((_STAMP,), _INTERVAL, d.age_until_today, None, True, "s", "txn_time")
    yield "age", FunctionRow((_STAMPTZ,), _INTERVAL, d.age_tz_until_today, None, True, "s", "txn_time")
    yield "timezone", FunctionRow((_TEXT, _STAMPTZ), _STAMP, d.timestamptz_at_zone)
    yield "timezone", FunctionRow((_TEXT, _STAMP), _STAMPTZ, d.timestamp_at_zone)
    yield "timezone", FunctionRow((_INTERVAL, _STAMPTZ), _STAMP, d.timestamptz_at_offset)
    yield "timezone", FunctionRow((_INTERVAL, _STAMP), _STAMPTZ, d.timestamp_at_offset)
    for t in (_STAMP, _STAMPTZ):
        yield "isfinite", FunctionRow((t,), _BOOL, d.is_finite_stamp)
        yield "date_bin", FunctionRow((_INTERVAL, t, t), t, d.date_bin)
    yield "isfinite", FunctionRow((_DATE,), _BOOL, d.is_finite_date)
    yield "isfinite", FunctionRow((_INTERVAL,), _BOOL, lambda span: True)
    yield "justify_hours", FunctionRow((_INTERVAL,), _INTERVAL, interval.justify_hours)
    yield "justify_days", FunctionRow((_INTERVAL,), _INTERVAL, interval.justify_days)
    yield "justify_interval", FunctionRow((_INTERVAL,), _INTERVAL, interval.justify_interval)
    yield from _makers()


def _makers() -> Rows:
    d, parts = datefns, (_INT4,) * 5 + (_FLOAT8,)
    yield "make_date", FunctionRow((_INT4,) * 3, _DATE, d.make_date)
    yield "make_timestamp", FunctionRow(parts, _STAMP, d.make_timestamp)
    yield "make_timestamptz", FunctionRow(parts, _STAMPTZ, d.make_timestamptz, needs="session")
    for count in range(7):
        yield "make_interval", FunctionRow((_INT4,) * count, _INTERVAL, d.make_interval)
    yield "make_interval", FunctionRow((_INT4,) * 6 + (_FLOAT8,), _INTERVAL, d.make_interval)
    yield "to_timestamp", FunctionRow((_FLOAT8,), _STAMPTZ, d.from_unix_seconds)
    yield "to_timestamp", FunctionRow((_TEXT, _TEXT), _STAMPTZ, templates.to_timestamp, needs="session")
    yield "to_date", FunctionRow((_TEXT, _TEXT), _DATE, templates.to_date)
    yield "to_char", FunctionRow((_STAMP, _TEXT), _TEXT, templates.timestamp_to_char)
    yield "to_char", FunctionRow((_STAMPTZ, _TEXT), _TEXT, templates.timestamptz_to_char, needs="session")
    yield "to_char", FunctionRow((_INTERVAL, _TEXT), _TEXT, templates.interval_to_char)
    for t in (_INT4, _INT8, _NUMERIC, _FLOAT4, _FLOAT8):
        yield "to_char", FunctionRow((t, _TEXT), _TEXT, numbertemplates.number_to_char)
    yield "to_number", FunctionRow((_TEXT, _TEXT), _NUMERIC, numbertemplates.to_number)


def _uuid(ctx: EvalContext) -> bytes:
    """A random (version 4) UUID."""
    data = bytearray(ctx.random_bytes(16))
    data[6] = data[6] & 0x0F | 0x40
    data[8] = data[8] & 0x3F | 0x80
    return bytes(data)


def _build_typeof(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    oid = arg_types[0].oid
    return (lambda value: oid), None


def _others() -> Rows:
    yield "gen_random_uuid", FunctionRow((), _UUID, _uuid, None, True, "v", "rand")
    yield "pg_typeof", FunctionRow((_ANY,), 2206, len, None, False, "s", None, _build_typeof)


def _collect() -> dict[str, list[FunctionRow]]:
    table: dict[str, list[FunctionRow]] = {}
    for section in (_math(), _strings(), _arrays(), _temporal(), _others()):
        for name, row in section:
            table.setdefault(name, []).append(row)
    for name, args, result, fn in rarefunctions.rows():
        table.setdefault(name, []).append(FunctionRow(args, result, fn))
    return table


FUNCTIONS: Final = _collect()
