"""Values survive their text and binary forms, both ways, for every type; psycopg's own codecs agree."""

from __future__ import annotations

import datetime
import decimal
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format

from txndb.errors import SqlError
from txndb.sql.types import (
    SqlType,
    binary_decoder,
    binary_encoder,
    group_key,
    lookup_type,
    sort_key,
    text_decoder,
    text_encoder,
    type_by_oid,
)
from txndb.sql.types.calendar import DATE_END, DATE_MIN, TIMESTAMP_END, TIMESTAMP_MIN
from txndb.sql.types.interval import Interval
from txndb.sql.types.textio import to_single

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
NUMERIC = st.one_of(
    st.builds(
        lambda digits, scale: Decimal(digits).scaleb(-scale, decimal.Context(prec=200)),
        st.integers(-(10**30), 10**30),
        st.integers(0, 40),
    ).map(lambda d: d if d else d.copy_abs()),
    st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity")]),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int4": INT32,
    "int8": INT64,
    "oid": st.integers(0, 2**32 - 1),
    "float8": st.floats(),
    "float4": st.floats(width=32),
    "numeric": NUMERIC,
    "text": TEXT,
    "varchar": TEXT,
    "bytea": st.binary(max_size=40),
    "uuid": st.binary(min_size=16, max_size=16),
    "date": st.one_of(st.integers(DATE_MIN, DATE_END - 1), st.sampled_from([2**31 - 1, -(2**31)])),
    "timestamp": st.one_of(
        st.integers(TIMESTAMP_MIN, TIMESTAMP_END - 1), st.sampled_from([2**63 - 1, -(2**63)])
    ),
    "timestamptz": st.one_of(st.integers(TIMESTAMP_MIN, TIMESTAMP_END - 1), st.just(2**63 - 1)),
    "interval": st.builds(Interval, INT32, INT32, INT64),
    "int4[]": st.lists(st.one_of(INT32, st.none()), max_size=5),
    "text[]": st.lists(st.one_of(TEXT, st.none()), max_size=5),
    "bool[]": st.lists(st.lists(st.booleans(), min_size=2, max_size=2), max_size=3),
}


def same(sql_type: SqlType, a: Any, b: Any) -> bool:
    """Equal as the type sees it, and printed alike."""
    key = group_key(sql_type)
    equal = a == b if key is None else key(a) == key(b)
    return equal and text_encoder(sql_type)(a) == text_encoder(sql_type)(b)


@pytest.mark.parametrize("name", VALUES)
def test_text_and_binary_round_trip(name: str) -> None:
    sql_type = lookup_type(name)
    to_text, from_text = text_encoder(sql_type), text_decoder(sql_type)
    to_binary, from_binary = binary_encoder(sql_type), binary_decoder(sql_type)

    @settings(max_examples=60, deadline=None)
    @given(VALUES[name])
    def check(value: Any) -> None:
        assert same(sql_type, from_text(to_text(value)), value)
        assert same(sql_type, from_binary(to_binary(value)), value)

    check()


@pytest.mark.parametrize("name", VALUES)
def test_foreign_bytes_give_sql_errors_only(name: str) -> None:
    sql_type = lookup_type(name)
    codecs = (
        (binary_decoder(sql_type), binary_encoder(sql_type)),
        (text_decoder(sql_type), text_encoder(sql_type)),
    )

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=40))
    def check(data: bytes) -> None:
        for decode, encode in codecs:
            try:
                value = decode(data)
            except SqlError as error:
                assert error.code[:2] in ("22", "08", "42"), error.message
            else:
                assert same(sql_type, decode(encode(value)), value)

    check()


PYTHON_VALUES: tuple[Any, ...] = (
    True,
    7,
    -(2**40),
    1.5,
    float("inf"),
    Decimal("0"),
    Decimal("-12345.6789000"),
    Decimal("1E-20"),
    Decimal("10000"),
    Decimal("99990000.0001"),
    "héllo",
    b"\x00\xff",
    uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    datetime.date(2024, 2, 29),
    datetime.date(1, 1, 1),
    datetime.datetime(2024, 2, 29, 13, 14, 15, 678901),
    datetime.datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=datetime.UTC),
    datetime.timedelta(days=3, seconds=7, microseconds=9),
    [1, None, 3],
    ["a", 'b"c', "NULL", ""],
)


FORMS = [
    (form, value)
    for form in (Format.TEXT, Format.BINARY)
    for value in PYTHON_VALUES
    if form is Format.BINARY
    or not isinstance(value, bytes)  # without a connection escaped for non-standard strings
]


@pytest.mark.parametrize(("form", "value"), FORMS, ids=lambda part: repr(getattr(part, "name", part)))
def test_psycopg_reads_what_is_written_and_writes_what_is_read(value: Any, form: Format) -> None:
    transformer = Transformer()
    dumper = transformer.get_dumper(value, PyFormat.from_pq(form))
    oid = dumper.oid or 25
    if isinstance(value, list):
        oid = 1009 if isinstance(value[0], str) else oid
    sql_type = type_by_oid(oid)
    data = bytes(dumper.dump(value) or b"")
    internal = (binary_decoder if form is Format.BINARY else text_decoder)(sql_type)(data)
    encoded = (binary_encoder if form is Format.BINARY else text_encoder)(sql_type)(internal)
    assert transformer.get_loader(oid, form).load(encoded) == value


@pytest.mark.parametrize("name", ["float8", "numeric", "interval", "int4[]", "char", "text"])
def test_sort_keys_and_group_keys_agree(name: str) -> None:
    sql_type = lookup_type(name)
    order, equal = sort_key(sql_type) or (lambda v: v), group_key(sql_type) or (lambda v: v)
    values = VALUES.get(name, st.text("a ", max_size=4))

    @settings(max_examples=60, deadline=None)
    @given(values, values)
    def check(a: Any, b: Any) -> None:
        assert (order(a) == order(b)) == (equal(a) == equal(b))
        assert hash(equal(a)) == hash(equal(a))
        assert (order(a) < order(b)) + (order(b) < order(a)) + (order(a) == order(b)) == 1

    check()


def test_nan_is_greatest_and_equals_itself() -> None:
    for name, nan, rest in (
        ("float8", float("nan"), [float("inf"), -1.0]),
        ("numeric", Decimal("NaN"), [Decimal(1)]),
    ):
        order, equal = sort_key(lookup_type(name)), group_key(lookup_type(name))
        assert order is not None and equal is not None
        assert max([*rest, nan], key=order) is nan
        assert equal(nan) == equal(type(nan)("nan"))


def test_float4_texts_are_the_shortest_that_read_back() -> None:
    encode, decode = text_encoder(lookup_type("real")), text_decoder(lookup_type("real"))

    @settings(max_examples=200, deadline=None)
    @given(st.floats(width=32, allow_nan=False, allow_infinity=False))
    def check(value: float) -> None:
        text = encode(value)
        assert decode(text) == value == to_single(float(text))
        assert len(text) <= 15

    check()
