"""Binary form of values, both ways: PostgreSQL's wire formats (the typsend and typreceive functions).

`binary_encoder(type)` and `binary_decoder(type)` are chosen once per column. A decoder checks lengths and bounds: a
client's bytes give 22P03 or 08P01, never a crash. Not for NULL, which is a length of -1 in the message itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NoReturn

from txndb.errors import sql_error
from txndb.sql.types import calendar
from txndb.sql.types.context import DEFAULT_CONTEXT
from txndb.sql.types.core import RECORD, SqlType, element_of, find_type, format_type
from txndb.sql.types.decimals import (
    DIGITS_BEFORE_POINT_MAX,
    INFINITY,
    NAN,
    SCALE_MAX,
    format_numeric,
    from_digits,
)
from txndb.sql.types.interval import Interval
from txndb.sql.types.records import field_types
from txndb.sql.types.textio import decode_utf8, parse_text_value
from txndb.sql.types.typmods import typmod_applier

Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes], Any]

_INT2: Final = struct.Struct("!h")
_INT4: Final = struct.Struct("!i")
_UINT4: Final = struct.Struct("!I")
_INT8: Final = struct.Struct("!q")
_FLOAT4: Final = struct.Struct("!f")
_FLOAT8: Final = struct.Struct("!d")
_INTERVAL: Final = struct.Struct("!qii")
_NUMERIC_HEADER: Final = struct.Struct("!HhHH")
_ARRAY_HEADER: Final = struct.Struct("!iiI")
_ARRAY_DIMENSION: Final = struct.Struct("!ii")
_NUMERIC_POSITIVE: Final = 0x0000
_NUMERIC_NEGATIVE: Final = 0x4000
_NUMERIC_NAN: Final = 0xC000
_NUMERIC_INFINITY: Final = 0xD000
_NUMERIC_MINUS_INFINITY: Final = 0xF000
_NUMERIC_SPECIAL: Final = {
    _NUMERIC_NAN: NAN,
    _NUMERIC_INFINITY: INFINITY,
    _NUMERIC_MINUS_INFINITY: -INFINITY,
}
_WEIGHT_MAX: Final = DIGITS_BEFORE_POINT_MAX // 4 - 1
_DIMENSIONS_MAX: Final = 6
_ARRAY_ELEMENTS_MAX: Final = 0x07FFFFFF


def _bad(type_name: str) -> NoReturn:
    raise sql_error("22P03", f"incorrect binary data format for type {type_name}")


def encode_numeric(value: Decimal) -> bytes:
    """Base-10000 digits with a weight, a sign and the display scale."""
    if not value.is_finite():
        if value.is_nan():
            return _NUMERIC_HEADER.pack(0, 0, _NUMERIC_NAN, 0)
        sign_word = _NUMERIC_INFINITY if value > 0 else _NUMERIC_MINUS_INFINITY
        return _NUMERIC_HEADER.pack(0, 0, sign_word, 0x20)  # as PostgreSQL sends it
    text = format_numeric(value)
    sign = text[0] == "-"
    whole, _, fraction = text[sign:].partition(".")
    scale = len(fraction)
    if not value:
        return _NUMERIC_HEADER.pack(0, 0, _NUMERIC_POSITIVE, scale)
    weight = (len(whole) + 3) // 4 - 1
    digits = whole.rjust(4 * (weight + 1), "0") + fraction
    digits += "0" * (-len(digits) % 4)
    groups = [int(digits[at : at + 4]) for at in range(0, len(digits), 4)]
    while not groups[-1]:
        groups.pop()
    first = 0
    while not groups[first]:
        first += 1
    if first:
        groups, weight = groups[first:], weight - first
    flag = _NUMERIC_NEGATIVE if sign else _NUMERIC_POSITIVE
    return struct.pack(f"!HhHH{len(groups)}H", len(groups), weight, flag, scale, *groups)


def _joined(groups: tuple[int, ...]) -> int:
    """Base-10000 digits as one number; halved, as adding them one by one is quadratic."""
    if len(groups) > 64:
        middle = len(groups) // 2
        factor: int = 10_000 ** (len(groups) - middle)
        return _joined(groups[:middle]) * factor + _joined(groups[middle:])
    digits = 0
    for group in groups:
        digits = digits * 10_000 + group
    return digits


def decode_numeric(data: bytes) -> Decimal:
    """The inverse of `encode_numeric`; digits beyond the display scale are cut, as PostgreSQL does."""
    if len(data) < 8:
        _bad("numeric")
    count, weight, sign, scale = _NUMERIC_HEADER.unpack_from(data)
    if sign in _NUMERIC_SPECIAL:
        return _NUMERIC_SPECIAL[sign]
    if sign not in (_NUMERIC_POSITIVE, _NUMERIC_NEGATIVE):
        raise sql_error("22P03", 'invalid sign in external "numeric" value')
    if scale > SCALE_MAX:
        raise sql_error("22P03", 'invalid scale in external "numeric" value')
    if len(data) != 8 + 2 * count:
        _bad("numeric")
    groups = struct.unpack_from(f"!{count}H", data, 8)
    if groups and max(groups) > 9999:
        raise sql_error("22P03", 'invalid digit in external "numeric" value')
    digits = _joined(groups)
    if weight > _WEIGHT_MAX:
        raise sql_error("22003", "value overflows numeric format")
    missing = scale + 4 * (weight - count + 1)
    digits = digits * 10**missing if missing >= 0 else digits // 10**-missing
    return from_digits(-digits if sign == _NUMERIC_NEGATIVE else digits, scale)


def _struct_decoder(packer: struct.Struct, name: str) -> Decoder:
    unpack, size = packer.unpack, packer.size

    def decode(data: bytes) -> Any:
        if len(data) != size:
            _bad(name)
        return unpack(data)[0]

    return decode


def _decode_date(data: bytes) -> int:
    if len(data) != 4:
        _bad("date")
    days: int = _INT4.unpack(data)[0]
    if calendar.DATE_MIN <= days < calendar.DATE_END or calendar.is_infinite_date(days):
        return days
    calendar.out_of_range("date")


def _timestamp_decoder(name: str) -> Decoder:
    low, end = calendar.TIMESTAMP_MIN, calendar.TIMESTAMP_END

    def decode(data: bytes) -> int:
        if len(data) != 8:
            _bad(name)
        stamp_us: int = _INT8.unpack(data)[0]
        if low <= stamp_us < end or calendar.is_infinite(stamp_us):
            return stamp_us
        calendar.out_of_range()

    return decode


def _encode_interval(value: Interval) -> bytes:
    return _INTERVAL.pack(value.microseconds, value.days, value.months)


def _decode_interval(data: bytes) -> Interval:
    if len(data) != _INTERVAL.size:
        _bad("interval")
    micros, days, months = _INTERVAL.unpack(data)
    return Interval(months, days, micros)


def _decode_bool(data: bytes) -> bool:
    if len(data) != 1:
        _bad("boolean")
    return data != b"\0"


def _decode_uuid(data: bytes) -> bytes:
    if len(data) != 16:
        _bad("uuid")
    return bytes(data)


def _decode_text(data: bytes) -> str:
    return str(parse_text_value(decode_utf8(data), DEFAULT_CONTEXT))


def _identity(value: bytes) -> bytes:
    return value


_ENCODERS: Final[dict[int, Encoder]] = {
    16: {True: b"\1", False: b"\0"}.__getitem__,
    17: _identity,
    20: _INT8.pack,
    21: _INT2.pack,
    23: _INT4.pack,
    700: _FLOAT4.pack,
    701: _FLOAT8.pack,
    1082: _INT4.pack,
    1114: _INT8.pack,
    1184: _INT8.pack,
    1186: _encode_interval,
    1700: encode_numeric,
    2278: lambda value: b"",
    2950: _identity,
}
_DECODERS: Final[dict[int, Decoder]] = {
    16: _decode_bool,
    17: bytes,
    20: _struct_decoder(_INT8, "bigint"),
    21: _struct_decoder(_INT2, "smallint"),
    23: _struct_decoder(_INT4, "integer"),
    700: _struct_decoder(_FLOAT4, "real"),
    701: _struct_decoder(_FLOAT8, "double precision"),
    1082: _decode_date,
    1114: _timestamp_decoder("timestamp without time zone"),
    1184: _timestamp_decoder("timestamp with time zone"),
    1186: _decode_interval,
    1700: decode_numeric,
    2950: _decode_uuid,
}


def binary_encoder(sql_type: SqlType) -> Encoder:
    """Value to the bytes of the binary format."""
    found = _ENCODERS.get(sql_type.oid)
    if found is not None:
        return found
    if sql_type.kind == "str":
        return str.encode
    if sql_type.kind == "int":
        return _UINT4.pack  # oid, xid and the reg* types
    if sql_type.oid == RECORD.oid:
        return _encode_record
    element = element_of(sql_type)
    if element is not None:
        encode_element = binary_encoder(element)
        return lambda value: _encode_array(value, element.oid, encode_element)
    raise sql_error("42883", f"no binary output function available for type {format_type(sql_type.oid)}")


def binary_decoder(sql_type: SqlType) -> Decoder:
    """Bytes of the binary format to a value; the type's modifier is applied as on assignment."""
    base = _base_decoder(sql_type)
    apply = typmod_applier(sql_type, explicit=False)
    if apply is None:
        return base
    return lambda data: apply(base(data))


def _base_decoder(sql_type: SqlType) -> Decoder:
    found = _DECODERS.get(sql_type.oid)
    if found is not None:
        return found
    if sql_type.kind == "str":
        return _decode_text
    if sql_type.kind == "int":
        return _struct_decoder(_UINT4, sql_type.name)
    element = element_of(sql_type)
    if element is not None:
        return lambda data: _decode_array(data, element)
    raise sql_error("42883", f"no binary input function available for type {format_type(sql_type.oid)}")


def _encode_record(value: tuple[Any, ...]) -> bytes:
    """The count of fields, then each one's type and bytes."""
    parts = [_INT4.pack(len(value))]
    for item, type_ in zip(value, field_types(value), strict=True):
        parts.append(_UINT4.pack(type_.oid))
        if item is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            data = binary_encoder(type_)(item)
            parts += (_INT4.pack(len(data)), data)
    return b"".join(parts)


def _encode_array(value: list[Any], element_oid: int, encode: Encoder) -> bytes:
    if not value:
        return _ARRAY_HEADER.pack(0, 0, element_oid)
    dimensions: list[int] = []
    level: Any = value
    while isinstance(level, list):
        dimensions.append(len(level))
        level = level[0]
    items: list[Any] = value
    for _ in dimensions[1:]:
        items = [inner for outer in items for inner in outer]
    parts = [_ARRAY_HEADER.pack(len(dimensions), any(item is None for item in items), element_oid)]
    parts += [_ARRAY_DIMENSION.pack(length, 1) for length in dimensions]
    for item in items:
        if item is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            data = encode(item)
            parts += (_INT4.pack(len(data)), data)
    return b"".join(parts)


def _decode_array(data: bytes, expected: SqlType) -> list[Any]:
    try:
        return _read_array(data, expected)
    except struct.error:
        raise sql_error("08P01", "insufficient data left in message") from None


def _read_array(data: bytes, expected: SqlType) -> list[Any]:
    count, _, element_oid = _ARRAY_HEADER.unpack_from(data)
    if not 0 <= count <= _DIMENSIONS_MAX:
        raise sql_error("22P03", f"invalid number of dimensions: {count}")
    element = find_type(element_oid)
    if element is None or (element_oid != expected.oid and element.kind != expected.kind):
        raise sql_error("42804", "binary data has array element type that does not match the expected one")
    at, total, lengths = _ARRAY_HEADER.size, 1, []
    for _ in range(count):
        length, _lower = _ARRAY_DIMENSION.unpack_from(data, at)
        at += _ARRAY_DIMENSION.size
        total *= length
        # Each element takes at least four bytes, so a length can be checked before anything is allocated.
        if length < 0 or total > min(_ARRAY_ELEMENTS_MAX, len(data) // 4):
            raise sql_error("22P03", "invalid array flags")
        lengths.append(length)
    if not lengths or not total:
        return []
    decode, items = binary_decoder(element), []
    for _ in range(total):
        (size,) = _INT4.unpack_from(data, at)
        at += 4
        if size < -1 or at + max(size, 0) > len(data):
            raise sql_error("08P01", "insufficient data left in message")
        items.append(None if size == -1 else decode(data[at : at + size]))
        at += max(size, 0)
    for length in reversed(lengths[1:]):
        items = [items[start : start + length] for start in range(0, len(items), length)]
    return items
