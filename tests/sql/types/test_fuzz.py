"""Whatever text comes in, the answer is a value or a SQL error: no other exception, no unbounded work."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txndb.errors import SqlError
from txndb.sql.types import find_cast, format_text, lookup_type, parse_text, resolve_function
from txndb.sql.types.core import INTERVAL, UNKNOWN
from txndb.sql.types.interval import fields_typmod
from txndb.sql.types.patterns import ilike_matcher, like_matcher, regex_match

from .cases import context

ALPHABETS = {
    "date": "0123456789-/. JanBC,MondayT",
    "timestamp": "0123456789-:. TZ+JanBCpm,/now",
    "timestamptz": "0123456789-:. TZ+JanESTpm/",
    "interval": "0123456789-:. +PYMDTHSdaysmonhour ago@",
    "numeric": "0123456789.-+eENaInfity_ ",
    "float8": "0123456789.-+eENaInfityx ",
    "int4": "0123456789-+ _",
    "bool": "truefalsyno10 ",
    "uuid": "0123456789abcdef-{}",
    "bytea": "\\x0123456789abcdef'",
    "int4[]": '{},"\\ 0123NUL[:]=',
    "text[]": '{},"\\ abNULL',
}


@pytest.mark.parametrize("name", ALPHABETS)
def test_input_is_a_value_or_an_error(name: str) -> None:
    sql_type, ctx = lookup_type(name), context("Europe/Berlin")

    @settings(max_examples=300, deadline=None)
    @given(st.text(ALPHABETS[name], max_size=30))
    def check(text: str) -> None:
        try:
            value = parse_text(sql_type, text, ctx)
        except SqlError as error:
            assert error.code[:2] in ("22", "54")
        else:
            shown = format_text(sql_type, value, ctx)
            assert format_text(sql_type, parse_text(sql_type, shown, ctx), ctx) == shown

    check()


def test_patterns_and_templates_are_values_or_errors() -> None:
    ctx = context()
    to_char = [
        resolve_function("to_char", [lookup_type(t), lookup_type("text")]) for t in ("timestamptz", "numeric")
    ]
    to_date = resolve_function("to_date", [lookup_type("text"), lookup_type("text")])
    number = parse_text(lookup_type("numeric"), "-1234.567")

    @settings(max_examples=300, deadline=None)
    @given(
        st.text("ab%_\\", max_size=8),
        st.text("ab.*+?[]()^$\\d{,1}|-:alph", max_size=8),
        st.text('YMDHISTF9024.,SGPRLEVB"\\- ', max_size=12),
    )
    def check(like: str, regex: str, template: str) -> None:
        calls = (
            lambda: like_matcher(like)("abab"),
            lambda: ilike_matcher(like)("ABAB"),
            lambda: regex_match("abab", regex),
            lambda: to_char[0].fn(ctx, 757_382_400_000_000, template),
            lambda: to_char[1].fn(number, template),
            lambda: to_date.fn("2024-02-29", template),
        )
        for call in calls:
            try:
                call()
            except SqlError as error:
                assert error.code[:2] in ("22", "42", "0A", "54")

    check()


def test_arrays_nest_six_deep_at_most() -> None:
    assert parse_text(lookup_type("int4[]"), "{{{{{{1}}}}}}") == [[[[[[1]]]]]]
    for depth in (7, 100_000):
        with pytest.raises(SqlError) as raised:
            parse_text(lookup_type("int4[]"), "{" * depth + "1" + "}" * depth)
        assert raised.value.code == "54000"


def test_interval_modifiers_choose_the_unit_of_an_untyped_literal() -> None:
    cast = find_cast(UNKNOWN, INTERVAL.with_typmod(fields_typmod("day")), "explicit")
    assert cast is not None and cast.fn is not None
    assert format_text(INTERVAL, cast.fn("5")) == "5 days"
