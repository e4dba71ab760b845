"""The order of key bytes is the order of tuples; round trips; the key space."""

from __future__ import annotations

import functools
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from txndb.encoding import keys

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int": st.integers(keys.INT_MIN, keys.INT_MAX)
    | st.integers(-300, 70_000)
    | st.builds(
        lambda e, d: min(keys.INT_MAX, max(keys.INT_MIN, d + 2**e)), st.integers(0, 63), st.integers(-2, 2)
    ),
    "float": st.floats(),
    "decimal": st.decimals()
    | st.builds(lambda d, e: Decimal(d).scaleb(e), st.integers(-1050, 1050), st.integers(-6, 6)),
    "str": st.text() | st.text(alphabet="\x00\x01\x02a\xff", max_size=4),
    "bytes": st.binary() | st.lists(st.sampled_from([0, 1, 2, 255]), max_size=4).map(bytes),
    "uuid": st.binary(min_size=16, max_size=16),
}


def _rank(kind: str, value: Any) -> Any:
    """Sorts as PostgreSQL orders the values of a kind."""
    if kind in ("float", "decimal"):
        is_nan = value.is_nan() if isinstance(value, Decimal) else math.isnan(value)
        return (1, 0) if is_nan else (0, value)
    return value.encode() if kind == "str" else value


def _compare(
    kinds: tuple[str, ...], descending: tuple[bool, ...], a: tuple[Any, ...], b: tuple[Any, ...]
) -> int:
    for kind, desc, x, y in zip(kinds, descending, a, b, strict=True):
        if x is None or y is None:
            sign = (x is None) - (y is None)
        else:
            left, right = _rank(kind, x), _rank(kind, y)
            sign = (left > right) - (left < right)
        if sign:
            return -sign if desc else sign
    return 0


@st.composite
def _schema_and_rows(draw: st.DrawFn) -> tuple[tuple[str, ...], tuple[bool, ...], list[tuple[Any, ...]]]:
    kinds = tuple(draw(st.lists(st.sampled_from(keys.KINDS), min_size=1, max_size=3)))
    descending = tuple(draw(st.lists(st.booleans(), min_size=len(kinds), max_size=len(kinds))))
    row = st.tuples(*(st.none() | VALUES[kind] for kind in kinds))
    return kinds, descending, draw(st.lists(row, min_size=2, max_size=5))


@settings(deadline=None)
@given(_schema_and_rows())
@example((("float",), (False,), [(0.0,), (-0.0,)]))
@example((("decimal",), (True,), [(Decimal("1.0"),), (Decimal("1.00"),)]))
@example((("decimal",), (False,), [(Decimal("1E+5"),), (Decimal("99999"),)]))
def test_order_of_bytes_is_order_of_tuples(
    case: tuple[tuple[str, ...], tuple[bool, ...], list[tuple[Any, ...]]],
) -> None:
    kinds, descending, rows = case
    encode = keys.key_encoder(kinds, descending, b"prefix")
    for a in rows:
        for b in rows:
            x, y = encode(a), encode(b)
            assert (x > y) - (x < y) == _compare(kinds, descending, a, b)
            assert x == y or not y.startswith(x)


@settings(deadline=None)
@given(_schema_and_rows())
def test_round_trip_and_interpreted_encoder_agree(
    case: tuple[tuple[str, ...], tuple[bool, ...], list[tuple[Any, ...]]],
) -> None:
    kinds, descending, rows = case
    encode = keys.key_encoder(kinds, descending, b"\x10p")
    decode = keys.key_decoder(descending)
    for row in rows:
        data = encode(row)
        assert data == b"\x10p" + keys.encode_key(kinds, row, descending)
        back = decode(data, 2)
        assert _compare(kinds, descending, row, back) == 0
        assert [type(value) for value in back] == [type(value) for value in row]
        assert keys.decode_key(data, descending, 2) == back or any(value != value for value in back)


@settings(deadline=None)
@given(st.lists(st.tuples(st.none() | VALUES["int"], st.none() | VALUES["str"]), min_size=2, max_size=6))
def test_a_shorter_key_is_a_prefix_and_bounds_its_span(rows: list[tuple[Any, ...]]) -> None:
    short, full = keys.key_encoder(("int",)), keys.key_encoder(("int", "str"))
    for row in rows:
        prefix = short(row[:1])
        assert full(row).startswith(prefix)
        for other in rows:
            inside = prefix <= full(other) < keys.prefix_end(prefix)
            assert inside == (other[0] == row[0])


def test_integers_outside_64_bits_and_short_uuids_are_refused() -> None:
    for value in (keys.INT_MAX + 1, keys.INT_MIN - 1):
        with pytest.raises(OverflowError):
            keys.key_encoder(("int",))((value,))
    with pytest.raises(ValueError, match="16 bytes"):
        keys.encode_uuid(b"short")
    with pytest.raises(ValueError, match="kind"):
        keys.key_encoder(("jsonb",))


@settings(deadline=None)
@given(st.binary(max_size=12), st.booleans())
def test_decoding_arbitrary_bytes_ends_in_a_value_or_a_value_error(data: bytes, desc: bool) -> None:
    try:
        value, end = keys.decode_element(data, 0, desc)
    except (ValueError, IndexError):
        return
    assert 0 < end <= len(data) and (
        value is None or isinstance(value, bool | int | float | Decimal | str | bytes)
    )


USER_KEYS = st.binary(max_size=4) | st.lists(st.sampled_from([0, 1, 2, 0xFE]), max_size=5).map(bytes)
STAMPS = st.integers(0, keys.TIMESTAMP_MAX) | st.integers(0, 3)


@settings(deadline=None)
@given(USER_KEYS, STAMPS, USER_KEYS, STAMPS)
def test_versions_of_different_keys_never_interleave(a: bytes, ts_a: int, b: bytes, ts_b: int) -> None:
    x, y = keys.data_key(a, ts_a), keys.data_key(b, ts_b)
    assert (x < y) == ((a, -ts_a) < (b, -ts_b))
    assert keys.decode_data_key(x) == (a, ts_a)


@settings(deadline=None)
@given(USER_KEYS, USER_KEYS, USER_KEYS, STAMPS, st.binary(max_size=3))
def test_spans_hold_exactly_their_keys(key: bytes, start: bytes, end: bytes, ts: int, suffix: bytes) -> None:
    low, high = keys.data_span(start, end)
    assert (low <= keys.data_key(key, ts) < high) == (start <= key < end)
    low, high = keys.anchored_span(start, end)
    anchored = keys.anchored_key(key, suffix)
    assert (low <= anchored < high) == (start <= key < end)
    assert keys.decode_anchored_key(anchored) == (key, suffix)


def test_the_key_space_is_divided_as_documented() -> None:
    user = [
        keys.META + b"x",
        keys.SYSTEM + b"x",
        keys.index_prefix(1, 1),
        keys.index_prefix(1, 2),
        keys.index_prefix(300, 1),
    ]
    assert user == sorted(user) and all(keys.KEY_MIN < key < keys.KEY_MAX for key in user)
    engine = [
        keys.store_key(b"\xff" * 9),
        keys.range_key(2**63, b"\xff"),
        keys.anchored_key(b"\xff\xff", b"\xff"),
        keys.data_key(b"", 5),
    ]
    assert engine == sorted(engine)
    assert keys.table_prefix(300) < keys.index_prefix(300, 9) < keys.prefix_end(keys.table_prefix(300))
    low, high = keys.range_span(7)
    assert low <= keys.range_key(7, b"") and keys.range_key(7, b"\xff" * 5) < high <= keys.range_key(8, b"")
    assert keys.decode_table_prefix(keys.index_prefix(300, 2) + b"\x28") == (
        300,
        2,
        len(keys.index_prefix(300, 2)),
    )
    assert keys.decode_table_prefix(keys.META) is None


@settings(deadline=None)
@given(st.binary(max_size=4), st.binary(max_size=5))
def test_prefix_end_is_the_first_key_after_the_prefix(prefix: bytes, key: bytes) -> None:
    if prefix.strip(b"\xff"):
        assert (prefix <= key < keys.prefix_end(prefix)) == key.startswith(prefix)


def test_nulls_are_last_ascending_and_first_descending() -> None:
    ascending, descending = keys.key_encoder(("int",)), keys.key_encoder(("int",), (True,))
    values = [None, keys.INT_MIN, -1, 0, keys.INT_MAX]
    order = functools.partial(sorted, reverse=False)
    assert order(values, key=lambda v: ascending((v,))) == [keys.INT_MIN, -1, 0, keys.INT_MAX, None]
    assert order(values, key=lambda v: descending((v,))) == [None, keys.INT_MAX, 0, -1, keys.INT_MIN]
    assert ascending((keys.INT_MAX,)) < keys.NULL == ascending((None,))
