"""Row values: one msgpack array by column position, with codecs generated per table.

A row holds every column of its table, key columns included, at the column's position. NUMERIC travels as
str (scale kept); the other kinds are msgpack's own. A row written before a column was added is shorter than the table:
the codec fills it with the column's immutable missing-value (rule D8). Positions are never reused; a dropped column
stays as a position of kind "dropped", which is written as nil and read as None.

Invariants
1. decode(encode(row)) == row for rows of the declared kinds.
2. decode accepts every row with at most as many positions as the codec has; a longer one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from txndb.errors import CorruptionError

ROW_KINDS: Final = ("bool", "int", "float", "decimal", "str", "bytes", "uuid", "dropped")

RowEncoder = Callable[[Sequence[Any]], bytes]
RowDecoder = Callable[[bytes], tuple[Any, ...]]


def row_codec(kinds: Sequence[str], defaults: Sequence[Any] = ()) -> tuple[RowEncoder, RowDecoder]:
    """(encode, decode) for rows of `kinds`; `defaults[i]` is column i's missing-value (None when not given)."""
    for kind in kinds:
        if kind not in ROW_KINDS:
            raise ValueError(f"unknown row kind {kind!r}")
    missing = tuple(defaults) + (None,) * (len(kinds) - len(defaults))
    if len(missing) != len(kinds):
        raise ValueError("more missing-values than columns")
    return _make_encoder(kinds), _make_decoder(kinds, missing)


def _make_encoder(kinds: Sequence[str]) -> RowEncoder:
    pack = msgspec.msgpack.Encoder(decimal_format="string").encode
    dropped = [i for i, kind in enumerate(kinds) if kind == "dropped"]
    count = len(kinds)

    def encode(row: Sequence[Any]) -> bytes:
        if len(row) != count:
            raise ValueError(f"a row of {len(row)} columns for a table of {count}")
        return pack(row)

    def encode_without_dropped(row: Sequence[Any]) -> bytes:
        values = list(row)
        for i in dropped:
            values[i] = None
        return encode(values)

    return encode_without_dropped if dropped else encode


def _make_decoder(kinds: Sequence[str], missing: tuple[Any, ...]) -> RowDecoder:
    """Typed decoding would build the values twice; a plain decode and the few Decimals by hand are faster."""
    unpack = msgspec.msgpack.Decoder().decode
    count = len(kinds)
    lines = [
        "def decode(data):",
        "    row = unpack(data)",
        f"    if len(row) != {count}: return decode_short(row)",
    ]
    lines += _conversion_lines(kinds)
    lines.append("    return tuple(row)")

    def decode_short(row: list[Any]) -> tuple[Any, ...]:
        if len(row) > count:
            raise CorruptionError(f"a row of {len(row)} columns in a table of {count}")
        filled: list[Any] = row + list(missing[len(row) :])
        for i, kind in enumerate(kinds):
            if kind == "dropped":
                filled[i] = None
            elif kind == "decimal" and i < len(row) and filled[i] is not None:
                filled[i] = Decimal(filled[i])
        return tuple(filled)

    scope: dict[str, Any] = {"unpack": unpack, "decode_short": decode_short, "Decimal": Decimal}
    exec("\n".join(lines), scope)
    decode: RowDecoder = scope["decode"]
    return decode


def _conversion_lines(kinds: Sequence[str]) -> list[str]:
    lines = []
    for i, kind in enumerate(kinds):
        if kind == "decimal":
            lines.append(f"    if row[{i}] is not None: row[{i}] = Decimal(row[{i}])")
        elif kind == "dropped":
            lines.append(f"    row[{i}] = None")
    return lines
