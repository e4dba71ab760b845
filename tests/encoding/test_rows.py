"""Row codecs: round trips, short rows, dropped columns."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txndb.encoding.rows import row_codec
from txndb.errors import CorruptionError

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False),
    "decimal": st.decimals(allow_nan=False),
    "str": st.text(),
    "bytes": st.binary(),
    "uuid": st.binary(min_size=16, max_size=16),
}


@st.composite
def _typed_row(draw: st.DrawFn) -> tuple[list[str], tuple[Any, ...]]:
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=6))
    return kinds, tuple(draw(st.none() | VALUES[kind]) for kind in kinds)


@settings(deadline=None)
@given(_typed_row())
def test_round_trip(case: tuple[list[str], tuple[Any, ...]]) -> None:
    kinds, row = case
    encode, decode = row_codec(kinds)
    back = decode(encode(row))
    assert back == row
    assert [type(value) for value in back] == [type(value) for value in row]


def test_the_scale_of_a_decimal_and_its_nan_survive() -> None:
    encode, decode = row_codec(["decimal", "decimal"])
    one, nan = decode(encode((Decimal("1.500"), Decimal("NaN"))))
    assert str(one) == "1.500" and nan.is_nan()


@settings(deadline=None)
@given(_typed_row(), st.integers(0, 6))
def test_short_rows_are_filled_with_the_missing_values(
    case: tuple[list[str], tuple[Any, ...]], length: int
) -> None:
    kinds, row = case
    length = min(length, len(kinds))
    encode_old, _ = row_codec(kinds[:length])
    _, decode = row_codec(kinds, row)
    assert decode(encode_old(row[:length])) == row


def test_dropped_columns_read_as_null_and_are_not_written() -> None:
    encode_old, _ = row_codec(["int", "str", "decimal"])
    encode, decode = row_codec(["int", "dropped", "decimal", "int"], [None, None, None, 7])
    assert decode(encode_old((1, "secret", Decimal("2.0")))) == (1, None, Decimal("2.0"), 7)
    data = encode((1, "secret", None, 2))
    assert b"secret" not in data and decode(data) == (1, None, None, 2)


def test_wrong_lengths_are_refused() -> None:
    encode, decode = row_codec(["int"])
    with pytest.raises(ValueError, match="columns"):
        encode((1, 2))
    longer, _ = row_codec(["int", "int"])
    with pytest.raises(CorruptionError):
        decode(longer((1, 2)))
    with pytest.raises(ValueError, match="missing"):
        row_codec(["int"], [1, 2])
