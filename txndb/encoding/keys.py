"""Order-preserving keys: tuples of SQL values as bytes whose order is the tuples' order, and the map of the key space.

The idea is FoundationDB's tuple layer ("Developer Guide: Data Modeling", tuples) with typed columns: a column has one
kind, an element is a tag byte and a body, and no element is a proper prefix of another, so elements are concatenated.

Elements, ascending (a descending column inverts every byte of its elements):
    bool     10 false, 11 true
    int      64-bit signed; tag 28+k, the k = 0..8 shortest big-endian bytes; negative: tag 27-k, ~n's bytes inverted
    float    38, then IEEE 754 with the sign bit flipped (all bits when negative); -0 = 0, NaN above infinity
    decimal  40, class (1 -inf, 2 negative, 3 zero, 4 positive, 5 inf, 6 NaN), then for 2 and 4 the decimal exponent as
             an int element and base-100 digits + 1 ended by 00, all inverted when negative; equal numbers have one key
    str      50, UTF-8 with 00 -> 01 01 and 01 -> 01 02, ended by 00 (order of code points)
    bytes    51, as str
    uuid     58, 16 bytes
    NULL     F0: last ascending, first descending, as PostgreSQL

Invariants
1. encode(a) < encode(b) exactly when a < b in the order above; equal values have equal bytes.
2. No encoded tuple of kinds K is a proper prefix of another of kinds K; the encoding of a tuple's first n elements is a
   prefix of its encoding, so `prefix_end` bounds a span of it.

The engine's key space, by first byte:
    01 name                                store-local
    02 range id (8 bytes) name             range-local, replicated with the range's state, not versioned
    03 escaped user key 00 01 suffix       local, but addressed by a user key (outcome records follow their anchor key)
    04 escaped user key 00 01 inverted ts  MVCC data; 00 -> 00 FF inside the key, so versions of different keys never
                                           interleave whatever the keys are (one may be a prefix of another)
User keys, by first byte: 05 meta, 08 system, 10 tables (`index_prefix`); `KEY_MIN` <= user key < `KEY_MAX`.

What it does not do: collations other than "C"; scale of a Decimal (1.0 and 1.00 are one key; the row keeps it).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

KINDS: Final = ("bool", "int", "float", "decimal", "str", "bytes", "uuid")

STORE_LOCAL: Final = b"\x01"
RANGE_LOCAL: Final = b"\x02"
ANCHORED: Final = b"\x03"
DATA: Final = b"\x04"

META: Final = b"\x05"
"""The index of ranges; all of it lies in range 1, where everybody looks for it."""
META_END: Final = bytes((META[0] + 1,))
SYSTEM: Final = b"\x08"
CLUSTER: Final = SYSTEM + b"cluster\0"
"""The cluster's own rows: members, counters, catalogue leases."""
TABLES: Final = b"\x10"
KEY_MIN: Final = b""
KEY_MAX: Final = b"\xff"
"""Above every user key: the end of the last range."""

TIMESTAMP_MAX: Final = (1 << 64) - 1

NULL_BYTE: Final = 0xF0
NULL: Final = b"\xf0"
"""An ascending NULL element; `prefix + NULL` ends the span of an ascending column's non-null values."""
NULL_DESC: Final = b"\x0f"

INT_MIN: Final = -(1 << 63)
INT_MAX: Final = (1 << 63) - 1

_INVERT: Final = bytes(255 - i for i in range(256))
_POS: Final = tuple(bytes([0x28 + k]) for k in range(9))
_NEG: Final = tuple(bytes([0x27 - k]) for k in range(9))
_ALL_ONES: Final = tuple((1 << (8 * k)) - 1 for k in range(9))
_FLOAT: Final = struct.Struct(">Bd")
_NAN_KEY: Final = b"\x38" + b"\xff" * 8
_SMALL_MAX: Final = 1024

Encoder = Callable[[Sequence[Any]], bytes]
Decoder = Callable[[bytes, int], tuple[Any, ...]]


# ---- elements ------------------------------------------------------------------------------------------------------


def encode_int(value: int) -> bytes:
    """A 64-bit int element; `OverflowError` outside."""
    if value >= 0:
        if value > INT_MAX:
            raise OverflowError(f"key integer {value} does not fit in 64 bits")
        size = (value.bit_length() + 7) >> 3
        return _POS[size] + value.to_bytes(size, "big")
    if value < INT_MIN:
        raise OverflowError(f"key integer {value} does not fit in 64 bits")
    value = ~value
    size = (value.bit_length() + 7) >> 3
    return _NEG[size] + (_ALL_ONES[size] - value).to_bytes(size, "big")


_SMALL: Final = tuple(encode_int(i) for i in range(_SMALL_MAX))


def encode_bool(value: bool) -> bytes:
    return b"\x11" if value else b"\x10"


def encode_float(value: float) -> bytes:
    if value != value:
        return _NAN_KEY
    if value > 0.0:
        tag_and_bits = _FLOAT.pack(0x38, value)
        return b"\x38" + bytes((tag_and_bits[1] | 0x80,)) + tag_and_bits[2:]
    if value == 0.0:
        return b"\x38\x80\x00\x00\x00\x00\x00\x00\x00"
    return b"\x38" + _FLOAT.pack(0x38, value)[1:].translate(_INVERT)


def encode_decimal(value: Decimal) -> bytes:
    if not value.is_finite():
        if value.is_nan():
            return b"\x40\x06"
        return b"\x40\x01" if value < 0 else b"\x40\x05"
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text = bytes(digits).rstrip(b"\x00")
    if not text:
        return b"\x40\x03"
    if len(text) & 1:
        pairs = text + b"\x00"
    else:
        pairs = text
    # 0.d1d2d3... * 10**point: the point orders numbers of one sign before their digits do
    body = encode_int(exponent + len(digits)) + bytes(
        10 * high + low + 1 for high, low in zip(pairs[::2], pairs[1::2], strict=True)
    )
    if sign:
        return b"\x40\x02" + body.translate(_INVERT) + b"\xff"
    return b"\x40\x04" + body + b"\x00"


def encode_str(value: str) -> bytes:
    return b"\x50" + value.encode().replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01") + b"\x00"


def encode_bytes(value: bytes) -> bytes:
    return b"\x51" + value.replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01") + b"\x00"


def encode_uuid(value: bytes) -> bytes:
    if len(value) != 16:
        raise ValueError("a uuid has 16 bytes")
    return b"\x58" + value


_ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "bool": encode_bool,
    "int": encode_int,
    "float": encode_float,
    "decimal": encode_decimal,
    "str": encode_str,
    "bytes": encode_bytes,
    "uuid": encode_uuid,
}


# ---- tuples --------------------------------------------------------------------------------------------------------


def key_encoder(kinds: Sequence[str], descending: Sequence[bool] = (), prefix: bytes = b"") -> Encoder:
    """An encoder of tuples whose elements have `kinds` (of `KINDS`), generated once per index: the result is
    `prefix` and the elements. `descending` may be empty (all ascending). Encoders for a shorter list of kinds yield
    prefixes of the longer ones' keys. Raises `OverflowError`, `ValueError` for values a kind cannot hold."""
    flags = tuple(descending) or (False,) * len(kinds)
    if len(flags) != len(kinds):
        raise ValueError("one direction per kind")
    names = [f"v{i}" for i in range(len(kinds))]
    lines = ["def encode(values):"]
    if names:
        lines.append(f"    {', '.join(names)}, = values")
    for name, kind, desc in zip(names, kinds, flags, strict=True):
        lines += _element_source(name, kind, desc)
    lines.append(f"    return {' + '.join(['prefix', *names])}")
    scope: dict[str, Any] = {f"encode_{kind}": encoder for kind, encoder in _ENCODERS.items()}
    scope.update(prefix=prefix, NULL=NULL, NULL_DESC=NULL_DESC, SMALL=_SMALL, INVERT=_INVERT)
    exec("\n".join(lines), scope)
    encode: Encoder = scope["encode"]
    return encode


def _element_source(name: str, kind: str, desc: bool) -> list[str]:
    """The generated lines that replace the local `name` by its element."""
    if kind not in _ENCODERS:
        raise ValueError(f"unknown key kind {kind!r}")
    invert = ".translate(INVERT)" if desc else ""
    lines = [f"    if {name} is None: {name} = {'NULL_DESC' if desc else 'NULL'}"]
    if kind == "int":
        lines.append(f"    elif 0 <= {name} < {_SMALL_MAX}: {name} = SMALL[{name}]{invert}")
    lines.append(f"    else: {name} = encode_{kind}({name}){invert}")
    return lines


def encode_key(kinds: Sequence[str], values: Sequence[Any], descending: Sequence[bool] = ()) -> bytes:
    """One tuple's key, interpreted (tests, tools, rare keys); hot paths keep a `key_encoder`."""
    flags = tuple(descending) or (False,) * len(kinds)
    parts = []
    for kind, value, desc in zip(kinds, values, flags, strict=True):
        element = NULL if value is None else _ENCODERS[kind](value)
        parts.append(element.translate(_INVERT) if desc else element)
    return b"".join(parts)


def key_decoder(descending: Sequence[bool]) -> Decoder:
    """A decoder `(key, offset) -> values` of as many elements as there are directions."""
    flags = tuple(descending)

    def decode(key: bytes, offset: int = 0) -> tuple[Any, ...]:
        values = []
        for desc in flags:
            value, offset = decode_element(key, offset, desc)
            values.append(value)
        return tuple(values)

    return decode


def decode_key(key: bytes, descending: Sequence[bool], offset: int = 0) -> tuple[Any, ...]:
    """The values of a key's elements from `offset` on; bool, int, float, Decimal, str, bytes (a uuid too) or None."""
    return key_decoder(descending)(key, offset)


def decode_element(key: bytes, offset: int, desc: bool = False) -> tuple[Any, int]:
    """One element at `offset`: its value and where it ends. `ValueError` when there is none."""
    if offset >= len(key):
        raise ValueError("the key ends before its element")
    flip = 0xFF if desc else 0
    tag = key[offset] ^ flip
    offset += 1
    if 0x1F <= tag <= 0x30:
        return _decode_int(key, offset, tag, flip)
    if tag == 0x50 or tag == 0x51:
        end = key.index(flip, offset)
        raw = key[offset:end].translate(_INVERT) if desc else key[offset:end]
        raw = raw.replace(b"\x01\x01", b"\x00").replace(b"\x01\x02", b"\x01")
        return raw.decode() if tag == 0x50 else raw, end + 1
    if tag == NULL_BYTE:
        return None, offset
    if tag == 0x10 or tag == 0x11:
        return tag == 0x11, offset
    if tag == 0x38 or tag == 0x58:
        end = offset + (8 if tag == 0x38 else 16)
        raw = key[offset:end].translate(_INVERT) if desc else key[offset:end]
        if len(raw) != end - offset:
            raise ValueError("the key ends inside an element")
        return (_decode_float(raw) if tag == 0x38 else raw), end
    if tag == 0x40:
        return _decode_decimal(key, offset, flip)
    raise ValueError(f"unknown key tag {tag:#x}")


def _decode_int(key: bytes, offset: int, tag: int, flip: int) -> tuple[int, int]:
    size = tag - 0x28 if tag >= 0x28 else 0x27 - tag
    end = offset + size
    if end > len(key):
        raise ValueError("the key ends inside an element")
    value = int.from_bytes(key[offset:end], "big")
    if flip:
        value ^= _ALL_ONES[size]
    return (value if tag >= 0x28 else ~(value ^ _ALL_ONES[size])), end


def _decode_float(raw: bytes) -> float:
    bits = int.from_bytes(raw, "big")
    if bits == 0xFFFFFFFFFFFFFFFF:
        return float("nan")
    bits = bits ^ (1 << 63) if bits >> 63 else bits ^ 0xFFFFFFFFFFFFFFFF
    value: float = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
    return value


_SPECIAL: Final = {1: Decimal("-Infinity"), 3: Decimal(0), 5: Decimal("Infinity"), 6: Decimal("NaN")}


def _decode_decimal(key: bytes, offset: int, flip: int) -> tuple[Decimal, int]:
    kind = key[offset] ^ flip
    offset += 1
    if kind in _SPECIAL:
        return _SPECIAL[kind], offset
    if kind != 2 and kind != 4:
        raise ValueError(f"unknown decimal class {kind}")
    inner = flip ^ (0xFF if kind == 2 else 0)
    point, offset = _decode_int(key, offset + 1, key[offset] ^ inner, inner)
    end = key.index(inner, offset)
    digits = "".join(f"{(byte ^ inner) - 1:02d}" for byte in key[offset:end])
    stripped = digits.rstrip("0")
    sign = 1 if kind == 2 else 0
    return Decimal((sign, tuple(map(int, stripped)), point - len(stripped))), end + 1


# ---- the key space -------------------------------------------------------------------------------------------------


def prefix_end(prefix: bytes) -> bytes:
    """The smallest key above every key that starts with `prefix`; `KEY_MAX` for b"" and all-FF prefixes."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return KEY_MAX
    return stripped[:-1] + bytes((stripped[-1] + 1,))


def index_prefix(table_id: int, index_id: int) -> bytes:
    """Where the entries of a table's index live: user keys `TABLES table index columns…`."""
    return TABLES + encode_int(table_id) + encode_int(index_id)


def table_prefix(table_id: int) -> bytes:
    """Where all of a table lives."""
    return TABLES + encode_int(table_id)


def decode_table_prefix(key: bytes) -> tuple[int, int, int] | None:
    """(table id, index id, offset of the first column) of a user key under `TABLES`, None for any other key."""
    if key[:1] != TABLES:
        return None
    try:
        table_id, offset = decode_element(key, 1)
        index_id, offset = decode_element(key, offset)
    except ValueError:
        return None
    return table_id, index_id, offset


def store_key(name: bytes) -> bytes:
    """An engine key of the store itself."""
    return STORE_LOCAL + name


def range_key(range_id: int, name: bytes) -> bytes:
    """An engine key of a range's own state."""
    return RANGE_LOCAL + range_id.to_bytes(8, "big") + name


def range_span(range_id: int) -> tuple[bytes, bytes]:
    """The engine span of all of a range's own state."""
    start = RANGE_LOCAL + range_id.to_bytes(8, "big")
    return start, prefix_end(start)


def anchored_key(user_key: bytes, suffix: bytes) -> bytes:
    """An engine key that belongs to `user_key` and moves with it when its range is split."""
    return ANCHORED + user_key.replace(b"\x00", b"\x00\xff") + b"\x00\x01" + suffix


def anchored_span(start: bytes, end: bytes) -> tuple[bytes, bytes]:
    """The engine span of all anchored keys of user keys in [start, end)."""
    return ANCHORED + start.replace(b"\x00", b"\x00\xff"), ANCHORED + end.replace(b"\x00", b"\x00\xff")


def decode_anchored_key(key: bytes) -> tuple[bytes, bytes]:
    """(user key, suffix) of an anchored engine key."""
    end = key.index(b"\x00\x01", 1)
    return key[1:end].replace(b"\x00\xff", b"\x00"), key[end + 2 :]


def data_key(user_key: bytes, timestamp: int) -> bytes:
    """The engine key of one version of a user key; newer versions sort first."""
    return (
        DATA
        + user_key.replace(b"\x00", b"\x00\xff")
        + b"\x00\x01"
        + (TIMESTAMP_MAX - timestamp).to_bytes(8, "big")
    )


def data_span(start: bytes, end: bytes) -> tuple[bytes, bytes]:
    """The engine span of all versions of user keys in [start, end)."""
    return DATA + start.replace(b"\x00", b"\x00\xff"), DATA + end.replace(b"\x00", b"\x00\xff")


def decode_data_key(key: bytes) -> tuple[bytes, int]:
    """(user key, timestamp) of a versioned engine key."""
    return key[1:-10].replace(b"\x00\xff", b"\x00"), TIMESTAMP_MAX - int.from_bytes(key[-8:], "big")
