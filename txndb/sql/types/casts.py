"""Casts: which type converts to which, in which context, and by which function (PostgreSQL's pg_cast).

Contexts are ordered: implicit < assignment < explicit. Beyond the table, text converts to every type explicitly and
every type to text on assignment through the text forms; untyped literals convert implicitly by the input function;
arrays convert as their elements do.
Invariant: `Cast.fn is None` means that the value needs no change. A cast with `needs` takes the context first.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from txndb.errors import sql_error
from txndb.sql.types import calendar, decimals
from txndb.sql.types.context import DEFAULT_CONTEXT, EvalContext
from txndb.sql.types.core import REG_OIDS, UNKNOWN, SqlType, element_of, find_type, format_type
from txndb.sql.types.textio import text_formatter, text_parser, to_single
from txndb.sql.types.typmods import typmod_applier

Context = Literal["implicit", "assignment", "explicit"]
Convert = Callable[..., Any]
_RANK: Final = {"implicit": 0, "assignment": 1, "explicit": 2}


class Cast(msgspec.Struct, frozen=True):
    """How to convert. `source` is a template over {0} in the names of RUNTIME; `needs` as of a function."""

    fn: Convert | None = None
    source: str | None = None
    needs: str | None = None
    volatility: str = "i"


def int2_of(value: int) -> int:
    """A number as SMALLINT, or 22003."""
    if -32768 <= value <= 32767:
        return value
    raise sql_error("22003", "smallint out of range")


def int4_of(value: int) -> int:
    """A number as INT, or 22003."""
    if -2147483648 <= value <= 2147483647:
        return value
    raise sql_error("22003", "integer out of range")


def int8_of(value: int) -> int:
    """A number as BIGINT, or 22003."""
    if -9223372036854775808 <= value <= 9223372036854775807:
        return value
    raise sql_error("22003", "bigint out of range")


def oid_of_int4(value: int) -> int:
    """A signed 32-bit number as OID."""
    return value & 0xFFFFFFFF


def oid_of_int8(value: int) -> int:
    """A BIGINT as OID, or 22003."""
    if 0 <= value <= 0xFFFFFFFF:
        return value
    raise sql_error("22003", "OID out of range")


def int4_of_oid(value: int) -> int:
    """An OID as a signed 32-bit number."""
    return value - 2**32 if value >= 2**31 else value


def _float_to_int(check: Callable[[int], int], name: str) -> Convert:
    def convert(value: float) -> int:
        if value != value or value in (float("inf"), float("-inf")):
            raise sql_error("22003", f"{name} out of range")
        return check(round(value))

    return convert


def _numeric_to_int(low: int, high: int, name: str) -> Convert:
    return lambda value: decimals.to_int(value, low, high, name)


def bool_text(value: bool) -> str:
    """The cast of BOOL to text, which is not its output form."""
    return "true" if value else "false"


def strip_blanks(value: str) -> str:
    """CHAR(n) to text drops the padding."""
    return value.rstrip(" ")


def numeric_to_float4(value: Decimal) -> float:
    return to_single(decimals.to_float(value))


def date_to_timestamptz(ctx: EvalContext, days: int) -> int:
    """Midnight in the session's zone."""
    if calendar.is_infinite_date(days):
        return calendar.date_to_timestamp(days)
    return calendar.from_zone(calendar.date_to_timestamp(days), ctx.zone)


def timestamp_to_timestamptz(ctx: EvalContext, local_us: int) -> int:
    return calendar.from_zone(local_us, ctx.zone)


def timestamptz_to_timestamp(ctx: EvalContext, stamp_us: int) -> int:
    return calendar.to_zone(stamp_us, ctx.zone)


def timestamptz_to_date(ctx: EvalContext, stamp_us: int) -> int:
    return calendar.timestamp_to_date(calendar.to_zone(stamp_us, ctx.zone))


def char_to_int4(value: str) -> int:
    """The signed code of an internal "char"."""
    code = value.encode()[0] if value else 0
    return code - 256 if code > 127 else code


def int4_to_char(value: int) -> str:
    """An internal "char" of a code."""
    if not -128 <= value <= 127:
        raise sql_error("22003", '"char" out of range')
    return chr(value) if value > 0 else ""


_I2, _I4, _I8 = (-(2**15), 2**15 - 1), (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
_SESSION: Final = "session"
_VECTORS: Final = frozenset((22, 30))

# (source, target) -> (context, function, source template, needs)
_TABLE: Final[dict[tuple[int, int], tuple[Context, Convert | None, str | None, str | None]]] = {
    (21, 23): ("implicit", None, None, None),
    (21, 20): ("implicit", None, None, None),
    (23, 20): ("implicit", None, None, None),
    (23, 21): ("assignment", int2_of, "int2_of({0})", None),
    (20, 21): ("assignment", int2_of, "int2_of({0})", None),
    (20, 23): ("assignment", int4_of, "int4_of({0})", None),
    **{(i, 701): ("implicit", float, "float({0})", None) for i in (20, 21, 23)},
    **{(i, 700): ("implicit", lambda v: to_single(float(v)), None, None) for i in (20, 21, 23)},
    **{(i, 1700): ("implicit", Decimal, "Decimal({0})", None) for i in (20, 21, 23)},
    (700, 701): ("implicit", None, None, None),
    (701, 700): ("assignment", to_single, None, None),
    **{
        (f, t): ("assignment", _float_to_int(check, name), None, None)
        for f in (700, 701)
        for t, check, name in ((21, int2_of, "smallint"), (23, int4_of, "integer"), (20, int8_of, "bigint"))
    },
    (701, 1700): ("assignment", decimals.from_float, None, None),
    (700, 1700): ("assignment", decimals.from_float4, None, None),
    (1700, 701): ("implicit", decimals.to_float, "numeric_to_float({0})", None),
    (1700, 700): ("implicit", numeric_to_float4, None, None),
    (1700, 21): ("assignment", _numeric_to_int(*_I2, "smallint"), None, None),
    (1700, 23): ("assignment", _numeric_to_int(*_I4, "integer"), None, None),
    (1700, 20): ("assignment", _numeric_to_int(*_I8, "bigint"), None, None),
    (16, 23): ("explicit", int, "int({0})", None),
    (23, 16): ("explicit", bool, "({0} != 0)", None),
    (16, 25): ("assignment", bool_text, None, None),
    (16, 1042): ("assignment", bool_text, None, None),
    (16, 1043): ("assignment", bool_text, None, None),
    (18, 23): ("explicit", char_to_int4, None, None),
    (23, 18): ("explicit", int4_to_char, None, None),
    (25, 1042): ("implicit", None, None, None),
    (25, 1043): ("implicit", None, None, None),
    (1043, 25): ("implicit", None, None, None),
    (1043, 1042): ("implicit", None, None, None),
    (1042, 25): ("implicit", strip_blanks, "{0}.rstrip(' ')", None),
    (1042, 1043): ("implicit", strip_blanks, "{0}.rstrip(' ')", None),
    (1042, 19): ("implicit", lambda v: v.rstrip(" ").encode()[:63].decode(errors="ignore"), None, None),
    **{
        (s, 19): ("implicit", lambda v: v.encode()[:63].decode(errors="ignore"), None, None)
        for s in (25, 1043)
    },
    (19, 25): ("implicit", None, None, None),
    (19, 1042): ("assignment", None, None, None),
    (19, 1043): ("assignment", None, None, None),
    **{(s, 18): ("assignment", lambda v: v[:1], "{0}[:1]", None) for s in (25, 1042, 1043)},
    (18, 25): ("implicit", None, None, None),
    (18, 1042): ("assignment", None, None, None),
    (18, 1043): ("assignment", None, None, None),
    (194, 25): ("implicit", None, None, None),
    (1082, 1114): ("implicit", calendar.date_to_timestamp, "date_to_timestamp({0})", None),
    (1082, 1184): ("implicit", date_to_timestamptz, None, _SESSION),
    (1114, 1082): ("assignment", calendar.timestamp_to_date, "timestamp_to_date({0})", None),
    (1114, 1184): ("implicit", timestamp_to_timestamptz, None, _SESSION),
    (1184, 1114): ("assignment", timestamptz_to_timestamp, None, _SESSION),
    (1184, 1082): ("assignment", timestamptz_to_date, None, _SESSION),
    (21, 26): ("implicit", oid_of_int4, None, None),
    (23, 26): ("implicit", oid_of_int4, None, None),
    (20, 26): ("implicit", oid_of_int8, None, None),
    (26, 23): ("assignment", int4_of_oid, None, None),
    (26, 20): ("assignment", None, None, None),
    **{(r, 26): ("implicit", None, None, None) for r in sorted(REG_OIDS)},
    **{(26, r): ("implicit", None, None, None) for r in sorted(REG_OIDS)},
    **{(i, r): ("implicit", oid_of_int4, None, None) for r in sorted(REG_OIDS) for i in (21, 23)},
    **{(20, r): ("implicit", oid_of_int8, None, None) for r in sorted(REG_OIDS)},
    **{(r, 23): ("assignment", int4_of_oid, None, None) for r in sorted(REG_OIDS)},
    **{(r, 20): ("assignment", None, None, None) for r in sorted(REG_OIDS)},
    (24, 2202): ("implicit", None, None, None),
    (2202, 24): ("implicit", None, None, None),
    (22, 1005): ("implicit", None, None, None),
    (30, 1028): ("implicit", None, None, None),
}
_TEXT_NEEDS_SESSION: Final = frozenset((1082, 1114, 1184)) | REG_OIDS
_OUTPUT_NEEDS_SESSION: Final = frozenset((1184, 2249)) | REG_OIDS


@lru_cache(maxsize=4096)
def find_cast(source: SqlType, target: SqlType, context: Context = "explicit") -> Cast | None:
    """How a value of one type becomes one of another in a context; None = it does not."""
    base = _base_cast(source, target, context)
    if base is None or target.typmod < 0 or (source.oid == target.oid and source.typmod == target.typmod):
        return base
    apply = typmod_applier(target, explicit=context == "explicit")
    if apply is None:
        return base
    if base.fn is None:
        return Cast(apply)
    convert = base.fn
    if base.needs:
        return Cast(lambda ctx, value: apply(convert(ctx, value)), None, base.needs, base.volatility)
    return Cast(lambda value: apply(convert(value)), None, None, base.volatility)


def _base_cast(source: SqlType, target: SqlType, context: Context) -> Cast | None:
    if source.oid == target.oid:
        return Cast()
    if source.oid == UNKNOWN.oid:
        return _input_cast(target)
    row = _TABLE.get((source.oid, target.oid))
    if row is not None and _RANK[row[0]] <= _RANK[context]:
        return Cast(row[1], row[2], row[3], "s" if row[3] else "i")
    if source.oid in (25, 1043) and target.oid == 2205:
        return _input_cast(target)
    if source.element and target.element and not {source.oid, target.oid} & _VECTORS:
        return _array_cast(source, target, context)
    if target.category == "S" and context != "implicit" and source.category != "S":
        return _output_cast(source)
    if source.category == "S" and context == "explicit" and target.category not in "PS":
        return _input_cast(target)
    return None


def _input_cast(target: SqlType) -> Cast | None:
    if target.category == "P" and target.oid not in (2275, 2278):
        return None
    parse = text_parser(target if target.oid == 1186 else target.base)
    element = find_type(target.element)
    if target.oid in _TEXT_NEEDS_SESSION or (element is not None and element.oid in _TEXT_NEEDS_SESSION):
        return Cast(lambda ctx, text: parse(text, ctx), None, _SESSION, "s")
    if target.category == "S" and target.oid != 19:
        return Cast()
    return Cast(lambda text: parse(text, DEFAULT_CONTEXT))


def _output_cast(source: SqlType) -> Cast:
    element = find_type(source.element)
    if source.oid in _OUTPUT_NEEDS_SESSION or (element is not None and element.oid in _OUTPUT_NEEDS_SESSION):
        return Cast(lambda ctx, value: text_formatter(source, ctx)(value), None, _SESSION, "s")
    formatter = text_formatter(source)
    return Cast(formatter, "str({0})" if formatter is str else None)


def _array_cast(source: SqlType, target: SqlType, context: Context) -> Cast | None:
    source_element, target_element = element_of(source), element_of(target)
    if source_element is None or target_element is None:
        return None
    inner = find_cast(source_element, target_element, context)
    if inner is None or inner.fn is None:
        return inner
    convert = inner.fn
    if inner.needs:
        return Cast(lambda ctx, value: _each(value, lambda item: convert(ctx, item)), None, inner.needs, "s")
    return Cast(lambda value: _each(value, convert), None, None, inner.volatility)


def _each(value: list[Any], convert: Convert) -> list[Any]:
    return [None if v is None else _each(v, convert) if isinstance(v, list) else convert(v) for v in value]


def cannot_cast(source: SqlType, target: SqlType) -> Exception:
    """The error of an impossible explicit cast."""
    return sql_error("42846", f"cannot cast type {format_type(source.oid)} to {format_type(target.oid)}")


@lru_cache(maxsize=8192)
def can_coerce(source_oid: int, target_oid: int) -> bool:
    """Whether an argument of one type is accepted where another is declared (implicit context)."""
    if source_oid in (target_oid, UNKNOWN.oid):
        return True
    if target_oid in (2276, 2283, 5077):
        return True
    source, target = find_type(source_oid), find_type(target_oid)
    if source is None or target is None:
        return False
    if target_oid == 2776:
        return not source.element
    if target_oid in (2277, 5078):
        return bool(source.element)
    return find_cast(source, target, "implicit") is not None


def all_casts() -> list[tuple[int, int, Context, bool]]:
    """(source, target, context, whether the value changes) of every row of the table, for pg_cast."""
    return [(source, target, row[0], row[1] is not None) for (source, target), row in _TABLE.items()]
