"""Types by name, casts by context, overloads and their errors, common types: the parts the binder drives."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.types.cases import context, from_source
from txndb.errors import SqlError
from txndb.sql.types import (
    FunctionRow,
    common_type,
    find_cast,
    format_type,
    is_aggregate,
    lookup_type,
    parse_text,
    resolve_aggregate,
    resolve_function,
    resolve_operator,
    text_formatter,
)
from txndb.sql.types.core import (
    BOOL,
    BPCHAR,
    CHAR_INTERNAL,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    INTERVAL,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    VARCHAR,
    all_types,
    numeric_precision_scale,
)
from txndb.sql.types.interval import fields_typmod, parse_interval


@pytest.mark.parametrize(
    ("name", "modifiers", "shown"),
    [
        ("int", (), "integer"),
        ("bigint", (), "bigint"),
        ("decimal", (10, 2), "numeric(10,2)"),
        ("numeric", (7,), "numeric(7,0)"),
        ("numeric", (2, -3), "numeric(2,-3)"),
        ("character varying", (10,), "character varying(10)"),
        ("char", (), "character(1)"),
        ("character", (5,), "character(5)"),
        ("bpchar", (), "bpchar"),
        ("timestamp with time zone", (3,), "timestamp(3) with time zone"),
        ("timestamptz", (), "timestamp with time zone"),
        ("double precision", (), "double precision"),
        ("float", (24,), "real"),
        ("float", (25,), "double precision"),
        ("int4[]", (), "integer[]"),
        ("varchar[]", (3,), "character varying(3)[]"),
        ("int[][]", (), "integer[]"),
        ("interval", (3,), "interval(3)"),
        ("oidvector", (), "oidvector"),
    ],
)
def test_type_names(name: str, modifiers: tuple[int, ...], shown: str) -> None:
    found = lookup_type(name, modifiers)
    assert format_type(found.oid, found.typmod) == shown


def test_quoted_char_is_the_internal_type() -> None:
    assert lookup_type("char", quoted=True) == CHAR_INTERNAL
    assert format_type(18) == '"char"'
    assert (format_type(1042), format_type(0), format_type(999_999)) == ("character", "-", "???")


@pytest.mark.parametrize(
    ("name", "modifiers", "state", "message"),
    [
        ("nosuch", (), "42704", 'type "nosuch" does not exist'),
        ("varchar", (0,), "22023", "length for type varchar must be at least 1"),
        ("char", (10485761,), "22023", "length for type char cannot exceed 10485760"),
        ("numeric", (1001,), "22023", "NUMERIC precision 1001 must be between 1 and 1000"),
        ("numeric", (5, 1001), "22023", "NUMERIC scale 1001 must be between -1000 and 1000"),
        ("numeric", (1, 2, 3), "22023", "invalid NUMERIC type modifier"),
        ("int", (3,), "42601", 'type modifier is not allowed for type "int4"'),
    ],
)
def test_bad_type_names(name: str, modifiers: tuple[int, ...], state: str, message: str) -> None:
    with pytest.raises(SqlError) as raised:
        lookup_type(name, modifiers)
    assert (raised.value.code, raised.value.message) == (state, message)


def test_every_typmod_decodes_to_what_was_written() -> None:
    for precision in (1, 5, 1000):
        for scale in (-1000, -1, 0, 3, 1000):
            assert numeric_precision_scale(lookup_type("numeric", (precision, scale)).typmod) == (
                precision,
                scale,
            )


@pytest.mark.parametrize(
    ("source", "target", "least"),
    [
        (INT4, INT8, "implicit"),
        (INT8, INT4, "assignment"),
        (INT4, NUMERIC, "implicit"),
        (NUMERIC, INT4, "assignment"),
        (NUMERIC, FLOAT8, "implicit"),
        (FLOAT8, NUMERIC, "assignment"),
        (INT4, BOOL, "explicit"),
        (INT4, TEXT, "assignment"),
        (TEXT, INT4, "explicit"),
        (VARCHAR, TEXT, "implicit"),
        (TEXT, VARCHAR, "implicit"),
        (BPCHAR, TEXT, "implicit"),
        (DATE, TIMESTAMPTZ, "implicit"),
        (TIMESTAMPTZ, TIMESTAMP, "assignment"),
        (UNKNOWN, DATE, "implicit"),
        (BOOL, INT8, None),
        (DATE, INT4, None),
        (INT2, DATE, None),
    ],
)
def test_cast_contexts(source: Any, target: Any, least: str | None) -> None:
    allowed = [c for c in ("implicit", "assignment", "explicit") if find_cast(source, target, c) is not None]
    order = ["implicit", "assignment", "explicit"]
    assert allowed == ([] if least is None else order[order.index(least) :])


def test_assignment_refuses_what_an_explicit_cast_cuts() -> None:
    target = lookup_type("varchar", (3,))
    assigned, explicit = find_cast(TEXT, target, "assignment"), find_cast(TEXT, target, "explicit")
    assert assigned is not None and assigned.fn is not None
    assert explicit is not None and explicit.fn is not None
    assert assigned.fn("ab") == "ab" and assigned.fn("abc  ") == "abc" and explicit.fn("abcd") == "abc"
    with pytest.raises(SqlError) as raised:
        assigned.fn("abcd")
    assert (raised.value.code, raised.value.message) == (
        "22001",
        "value too long for type character varying(3)",
    )
    padded = find_cast(TEXT, lookup_type("char", (4,)), "assignment")
    assert padded is not None and padded.fn is not None
    assert padded.fn("ab") == "ab  "


def test_numeric_overflow_tells_the_bound() -> None:
    cast = find_cast(NUMERIC, lookup_type("numeric", (3, 1)), "assignment")
    assert cast is not None and cast.fn is not None
    with pytest.raises(SqlError) as raised:
        cast.fn(parse_text(NUMERIC, "99.95"))
    assert raised.value.code == "22003"
    expected = "A field with precision 3, scale 1 must round to an absolute value less than 10^2."
    assert raised.value.detail == expected


def test_errors_name_the_types_and_give_hints() -> None:
    with pytest.raises(SqlError) as raised:
        resolve_operator("+", INT4, TEXT)
    assert raised.value.message == "operator does not exist: integer + text"
    hint = "No operator matches the given name and argument types. You might need to add explicit type casts."
    assert raised.value.hint == hint
    with pytest.raises(SqlError) as raised:
        resolve_operator("+", UNKNOWN, UNKNOWN)
    assert (raised.value.code, raised.value.message) == ("42725", "operator is not unique: unknown + unknown")
    with pytest.raises(SqlError) as raised:
        resolve_function("nosuch", [INT4, VARCHAR])
    assert raised.value.message == "function nosuch(integer, character varying) does not exist"
    with pytest.raises(SqlError) as raised:
        resolve_aggregate("sum", [TEXT])
    assert (raised.value.code, raised.value.message) == ("42883", "function sum(text) does not exist")


def test_is_distinct_from_treats_null_as_a_value() -> None:
    for name, want in (("IS DISTINCT FROM", True), ("IS NOT DISTINCT FROM", False)):
        for types, a, b in (
            ((INT4, INT8), 1, 2),
            ((FLOAT8, FLOAT8), 1.0, 2.0),
            ((TIMESTAMP, TIMESTAMPTZ), 1, 2),
        ):
            found = resolve_operator(name, *types)
            assert not found.strict and found.result == BOOL

            def call(x: Any, y: Any, found: Any = found) -> Any:
                if found.source is not None:
                    return from_source(found.source, [x, y], context())
                return found.fn(context(), x, y) if found.needs else found.fn(x, y)

            assert [call(a, b), call(a, None), call(None, b)] == [want] * 3
            assert [call(a, a), call(None, None)] == [not want] * 2


def test_common_types() -> None:
    assert common_type([INT4, NUMERIC, UNKNOWN], "CASE") == NUMERIC
    assert common_type([UNKNOWN, UNKNOWN], "UNION") == TEXT
    assert common_type([DATE, TIMESTAMPTZ, TIMESTAMP], "VALUES") == TIMESTAMPTZ
    assert common_type([FLOAT4, NUMERIC], "CASE") == FLOAT4
    assert common_type([lookup_type("varchar", (3,))] * 2, "CASE").typmod == 7
    assert common_type([lookup_type("varchar", (3,)), lookup_type("varchar", (5,))], "CASE") == VARCHAR
    with pytest.raises(SqlError) as raised:
        common_type([INT4, TEXT], "CASE")
    assert (raised.value.code, raised.value.message) == (
        "42804",
        "CASE types integer and text cannot be matched",
    )


def test_functions_of_the_session_need_a_context() -> None:
    ctx = context("Europe/Berlin")
    show = text_formatter(TIMESTAMPTZ, ctx)
    now = resolve_function("now", [])
    assert (now.needs, now.volatility, show(now.fn(ctx))) == ("txn_time", "s", "2024-01-01 01:00:00+01")
    assert resolve_function("current_date", []).fn(ctx) == parse_text(DATE, "2024-01-01")
    assert resolve_function("clock_timestamp", []).needs == "clock"
    assert resolve_function("random", []).fn(ctx) == 0.5
    made = resolve_function("gen_random_uuid", [])
    assert made.volatility == "v" and made.fn(ctx).hex() == "000102030405460788090a0b0c0d0e0f"
    assert parse_text(DATE, "tomorrow", ctx) == parse_text(DATE, "2024-01-02")
    assert parse_text(TIMESTAMP, "now", ctx) == parse_text(TIMESTAMP, "2024-01-01 01:00")


def test_a_catalogue_adds_functions() -> None:
    more = {
        "answer": [FunctionRow((), INT4.oid, lambda: 42)],
        "length": [FunctionRow((INT4.oid,), INT4.oid, abs)],
    }
    assert resolve_function("answer", [], more).fn() == 42
    assert resolve_function("length", [INT4], more).fn is abs
    assert resolve_function("length", [UNKNOWN], more).arg_types[0] in (TEXT, INT4)
    with pytest.raises(SqlError):
        resolve_function("answer", [])


def test_variadic_arguments_keep_their_types() -> None:
    found = resolve_function("concat_ws", [UNKNOWN, INT4, BOOL, UNKNOWN])
    assert [t.name for t in found.arg_types] == ["text", "int4", "bool", "unknown"]
    assert not found.strict and found.fn(context(), "-", 1, True, None) == "1-t"


def test_count_star_and_aggregate_names() -> None:
    count = resolve_aggregate("count", [])
    assert count.final(count.step(count.step(count.init()))) == 2
    assert is_aggregate("string_agg") and not is_aggregate("length")


def test_interval_fields_choose_the_unit_and_cut() -> None:
    assert text_formatter(INTERVAL)(parse_interval("5", fields_typmod("day"))) == "5 days"
    assert text_formatter(INTERVAL)(parse_interval("1:30:59", fields_typmod("hour to minute"))) == "01:30:00"
    assert (
        text_formatter(INTERVAL)(parse_interval("1 year 2 mons 3 days", fields_typmod("year to month")))
        == "1 year 2 mons"
    )


def test_every_type_has_a_name_that_finds_it() -> None:
    for sql_type in all_types():
        assert lookup_type(sql_type.name, quoted=True) == sql_type
