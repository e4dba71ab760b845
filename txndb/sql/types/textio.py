"""Text form of values, both ways: literals, the text format of the wire, COPY, casts to and from text.

`text_parser(type)` and `text_formatter(type, ctx)` give functions on `str`; `text_decoder` and `text_encoder` on
UTF-8 bytes. Each is chosen once per column, so that no value pays for a dispatch. A parser applies the type's modifier
as an assignment does. Messages and SQLSTATEs are those of PostgreSQL's input functions.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Final, NoReturn

from txndb.errors import sql_error
from txndb.sql.types import calendar, dateparse, decimals, interval
from txndb.sql.types.arraytext import format_array, format_record, format_vector, parse_array, parse_vector
from txndb.sql.types.context import DEFAULT_CONTEXT, EvalContext
from txndb.sql.types.core import NAME_BYTES_MAX, RECORD, REG_OIDS, SqlType, find_type, format_type
from txndb.sql.types.records import field_types
from txndb.sql.types.typmods import typmod_applier

Parser = Callable[[str, EvalContext], Any]
Formatter = Callable[[Any], str]

_INTEGER: Final = re.compile(r"\s*([+-]?)0*([0-9]+)\s*\Z", re.ASCII)
_FLOAT: Final = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*\Z", re.ASCII)
_FLOAT_SPECIAL: Final = {
    "nan": float("nan"),
    "inf": float("inf"),
    "+inf": float("inf"),
    "infinity": float("inf"),
    "+infinity": float("inf"),
    "-inf": float("-inf"),
    "-infinity": float("-inf"),
}
_FLOAT4_MAX: Final = 3.4028235677973366e38
_FLOAT4_TINY: Final = 7.006492321624086e-46
_UUID: Final = re.compile(
    r"\{?([0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4})\}?\Z",
    re.ASCII | re.IGNORECASE,
)
_INT_BOUNDS: Final = {
    21: (-(2**15), 2**15 - 1, "smallint"),
    23: (-(2**31), 2**31 - 1, "integer"),
    20: (-(2**63), 2**63 - 1, "bigint"),
    26: (-(2**31), 2**32 - 1, "oid"),
    28: (-(2**31), 2**32 - 1, "xid"),
}
_BOOL_TEXTS: Final = {"t": True, "f": False, "true": True, "false": False}
_BOOL_WORDS: Final = (
    ("true", True),
    ("false", False),
    ("yes", True),
    ("no", False),
    ("on", True),
    ("off", False),
)


def invalid_syntax(type_name: str, text: str) -> NoReturn:
    """22P02, the error of most input functions."""
    raise sql_error("22P02", f'invalid input syntax for type {type_name}: "{text}"')


def _int_parser(oid: int) -> Parser:
    low, high, name = _INT_BOUNDS[oid]
    wraps = oid in (26, 28)
    safe = len(str(high))

    def parse(text: str, ctx: EvalContext) -> int:
        if len(text) < safe and text.isdigit() and text.isascii():
            return int(text)
        match = _INTEGER.match(text)
        if match is None:
            invalid_syntax(name, text)
        # Twenty digits are already too many for an int64; int() itself refuses thousands of them.
        value = int(match[1] + match[2]) if len(match[2]) <= 20 else high + 1
        if not low <= value <= high:
            raise sql_error("22003", f'value "{text}" is out of range for type {name}')
        return value + 2**32 if wraps and value < 0 else value

    return parse


def parse_bool(text: str, ctx: EvalContext) -> bool:
    """A unique prefix of true, false, yes, no, on, off; or 1, 0."""
    if text in _BOOL_TEXTS:
        return _BOOL_TEXTS[text]
    word = text.strip().lower()
    if word in ("1", "0"):
        return word == "1"
    if word and word != "o":
        for name, value in _BOOL_WORDS:
            if name.startswith(word):
                return value
    invalid_syntax("boolean", text)


def parse_float(text: str, ctx: EvalContext) -> float:
    """FLOAT8; 22003 where the value over- or underflows."""
    if _FLOAT.match(text) is None:
        special = _FLOAT_SPECIAL.get(text.strip().lower())
        if special is None:
            invalid_syntax("double precision", text)
        return special
    value = float(text)
    if value in (float("inf"), float("-inf")) or (value == 0 and _has_nonzero_digit(text)):
        raise sql_error("22003", f'"{text.strip()}" is out of range for type double precision')
    return value


def _has_nonzero_digit(text: str) -> bool:
    return re.search("[1-9]", re.split("[eE]", text)[0]) is not None


def parse_float4(text: str, ctx: EvalContext) -> float:
    """FLOAT4, rounded to single precision."""
    if _FLOAT.match(text) is None:
        special = _FLOAT_SPECIAL.get(text.strip().lower())
        if special is None:
            invalid_syntax("real", text)
        return special
    value = float(text)
    if abs(value) >= _FLOAT4_MAX or (abs(value) <= _FLOAT4_TINY and _has_nonzero_digit(text)):
        raise sql_error("22003", f'"{text.strip()}" is out of range for type real')
    return to_single(value)


def to_single(value: float) -> float:
    """The nearest single-precision value; 22003 on overflow."""
    try:
        return float(struct.unpack("!f", struct.pack("!f", value))[0])
    except OverflowError:
        raise sql_error("22003", "value out of range: overflow") from None


def parse_text_value(text: str, ctx: EvalContext) -> str:
    """TEXT and its kin hold any character but NUL."""
    if "\0" in text:
        raise sql_error("22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    return text


def parse_name(text: str, ctx: EvalContext) -> str:
    """NAME: cut to 63 bytes at a character."""
    if len(text) * 4 <= NAME_BYTES_MAX:
        return text
    return text.encode()[:NAME_BYTES_MAX].decode(errors="ignore")


def parse_char_internal(text: str, ctx: EvalContext) -> str:
    return text[:1]


def parse_numeric(text: str, ctx: EvalContext) -> Any:
    return decimals.parse_numeric(text)


def parse_interval(text: str, ctx: EvalContext) -> Any:
    return interval.parse_interval(text)


def parse_bytea(text: str, ctx: EvalContext) -> bytes:
    """Hex (`\\x…`) or escape format."""
    if text.startswith("\\x"):
        return parse_hex(text[2:])
    if "\\" not in text:
        return text.encode()
    out, data, at = bytearray(), text.encode(), 0
    while at < len(data):
        if data[at] != 0x5C:
            out.append(data[at])
            at += 1
        elif data[at + 1 : at + 2] == b"\\":
            out.append(0x5C)
            at += 2
        elif re.match(rb"[0-3][0-7][0-7]", data[at + 1 : at + 4]):
            out.append(int(data[at + 1 : at + 4], 8))
            at += 4
        else:
            raise sql_error("22P02", "invalid input syntax for type bytea")
    return bytes(out)


def parse_hex(digits: str) -> bytes:
    """Hexadecimal digits, white space between pairs allowed; 22023 otherwise."""
    try:
        return bytes.fromhex(digits)
    except ValueError:
        for character in digits:
            if character not in "0123456789abcdefABCDEF \n\t\r":
                raise sql_error("22023", f'invalid hexadecimal digit: "{character}"') from None
        raise sql_error("22023", "invalid hexadecimal data: odd number of digits") from None


def parse_uuid(text: str, ctx: EvalContext) -> bytes:
    """Any of PostgreSQL's groupings, with or without braces."""
    match = _UUID.match(text)
    if match is None or text.startswith("{") != text.endswith("}"):
        invalid_syntax("uuid", text)
    return bytes.fromhex(match[1].replace("-", ""))


def _reg_parser(kind: str) -> Parser:
    def parse(text: str, ctx: EvalContext) -> int:
        if text == "-":
            return 0
        if text.isascii() and text.isdigit():
            return int(text)
        if ctx.names is None:
            raise sql_error("0A000", f"{kind} needs a catalog to resolve {text!r}")
        return ctx.names.oid_of(kind, text)

    return parse


def parse_void(text: str, ctx: EvalContext) -> str:
    return ""


def _array_parser(array: SqlType) -> Parser:
    element = find_type(array.element)
    if element is None:
        raise sql_error("42704", f"type with OID {array.element} does not exist")
    parse_element = text_parser(element)
    if array.oid in (22, 30):
        return lambda text, ctx: parse_vector(text, lambda item: parse_element(item, ctx))
    return lambda text, ctx: parse_array(text, lambda item: parse_element(item, ctx))


_PARSERS: Final[dict[int, Parser]] = {
    16: parse_bool,
    17: parse_bytea,
    18: parse_char_internal,
    19: parse_name,
    20: _int_parser(20),
    21: _int_parser(21),
    23: _int_parser(23),
    25: parse_text_value,
    26: _int_parser(26),
    28: _int_parser(28),
    194: parse_text_value,
    700: parse_float4,
    701: parse_float,
    705: parse_text_value,
    1033: parse_text_value,
    1042: parse_text_value,
    1043: parse_text_value,
    1082: dateparse.parse_date,
    1114: dateparse.parse_timestamp,
    1184: dateparse.parse_timestamptz,
    1186: parse_interval,
    1700: parse_numeric,
    2275: parse_text_value,
    2278: parse_void,
    2950: parse_uuid,
}


def text_parser(sql_type: SqlType) -> Parser:
    """The input function of a type; it applies the type's modifier as an assignment does."""
    base = _base_parser(sql_type)
    if sql_type.typmod < 0:
        return base
    if sql_type.oid == 1186:
        # The modifier also says what a bare number counts: INTERVAL '5' DAY.
        return lambda text, ctx: interval.parse_interval(text, sql_type.typmod)
    apply = typmod_applier(sql_type, explicit=False)
    if apply is None:
        return base
    return lambda text, ctx: apply(base(text, ctx))


def _base_parser(sql_type: SqlType) -> Parser:
    found = _PARSERS.get(sql_type.oid)
    if found is not None:
        return found
    if sql_type.oid in REG_OIDS:
        return _reg_parser(sql_type.name)
    if sql_type.element:
        return _array_parser(sql_type)
    if sql_type.oid == 2249:
        raise sql_error("0A000", "input of anonymous composite types is not implemented")
    raise sql_error("0A000", f"cannot accept a value of type {format_type(sql_type.oid)}")


def parse_text(sql_type: SqlType, text: str, ctx: EvalContext = DEFAULT_CONTEXT) -> Any:
    """One literal's value; for many of one type take `text_parser`."""
    return text_parser(sql_type)(text, ctx)


# --- output


def format_float(value: float) -> str:
    """The shortest text that reads back the same (extra_float_digits 1), with PostgreSQL's choice of exponent form."""
    text = repr(value)
    if text.endswith(".0"):
        text = text[:-2]
        if len(text) >= 16 and abs(value) >= 1e15:
            return _exponential(text)
        return text
    if "n" in text:
        return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")
    return text


def _exponential(digits: str) -> str:
    """An integer text of 16 digits in exponent form."""
    sign = "-" if digits.startswith("-") else ""
    digits = digits.lstrip("-")
    exponent = len(digits) - 1
    fraction = digits[1:].rstrip("0")
    return f"{sign}{digits[0]}{'.' + fraction if fraction else ''}e+{exponent:02d}"


def format_float4(value: float) -> str:
    """As `format_float` at single precision."""
    if value != value or value in (float("inf"), float("-inf")) or value == 0:
        return format_float(value)
    texts = (f"{value:.{digits}e}" for digits in range(9))
    text = next(t for t in texts if abs(float(t)) < _FLOAT4_MAX and to_single(float(t)) == value)
    mantissa, _, exponent_text = text.partition("e")
    exponent = int(exponent_text)
    if exponent < -4 or exponent >= 6:
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    plain = f"{float(text):.{max(0, 8 - exponent)}f}" if exponent < 8 else f"{float(text):.0f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def format_bool(value: bool) -> str:
    return "t" if value else "f"


def format_bytea(value: bytes) -> str:
    return "\\x" + value.hex()


def format_uuid(value: bytes) -> str:
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def format_identity(value: str) -> str:
    return value


_FORMATTERS: Final[dict[int, Formatter]] = {
    16: format_bool,
    17: format_bytea,
    700: format_float4,
    701: format_float,
    1082: calendar.format_date,
    1114: calendar.format_timestamp,
    1186: interval.format_interval,
    1700: decimals.format_numeric,
    2950: format_uuid,
    2278: lambda value: "",
}


def text_formatter(sql_type: SqlType, ctx: EvalContext = DEFAULT_CONTEXT) -> Formatter:
    """The output function of a type, for one session (its time zone, its catalogue)."""
    found = _FORMATTERS.get(sql_type.oid)
    if found is not None:
        return found
    if sql_type.oid == 1184:
        return lambda value: calendar.format_timestamptz(value, ctx.zone)
    if sql_type.oid == RECORD.oid:
        return lambda value: format_record(_field_texts(value, ctx))
    if sql_type.oid in REG_OIDS:
        return _reg_formatter(sql_type, ctx)
    if sql_type.element:
        element = find_type(sql_type.element)
        format_element = text_formatter(element, ctx) if element is not None else str
        if sql_type.oid in (22, 30):
            return lambda value: format_vector(value, format_element)
        return lambda value: format_array(value, format_element)
    return str if sql_type.kind == "int" else format_identity


def _field_texts(value: tuple[Any, ...], ctx: EvalContext) -> list[str | bool | None]:
    return [
        item if item is None or isinstance(item, bool) else text_formatter(type_, ctx)(item)
        for item, type_ in zip(value, field_types(value), strict=True)
    ]


def _reg_formatter(sql_type: SqlType, ctx: EvalContext) -> Formatter:
    kind = sql_type.name

    def render(value: int) -> str:
        if value == 0:
            return "-"
        name = ctx.names.name_of(kind, value) if ctx.names is not None else None
        if name is None and kind == "regtype" and find_type(value) is not None:
            return format_type(value)
        return str(value) if name is None else name

    return render


def format_text(sql_type: SqlType, value: Any, ctx: EvalContext = DEFAULT_CONTEXT) -> str:
    """One value's text; for many of one type take `text_formatter`."""
    return text_formatter(sql_type, ctx)(value)


def _encode_int(value: int) -> bytes:
    return b"%d" % value


_ENCODERS: Final[dict[int, Callable[[Any], bytes]]] = {
    16: {True: b"t", False: b"f"}.__getitem__,
    17: lambda value: b"\\x" + value.hex().encode(),
}


def text_encoder(sql_type: SqlType, ctx: EvalContext = DEFAULT_CONTEXT) -> Callable[[Any], bytes]:
    """Value to the bytes of the text format. Not for NULL."""
    found = _ENCODERS.get(sql_type.oid)
    if found is not None:
        return found
    formatter = text_formatter(sql_type, ctx)
    if formatter is str:
        return _encode_int
    if formatter is format_identity:
        return str.encode
    return lambda value: formatter(value).encode()


def text_decoder(sql_type: SqlType, ctx: EvalContext = DEFAULT_CONTEXT) -> Callable[[bytes], Any]:
    """Bytes of the text format to a value. Not for NULL."""
    parser = text_parser(sql_type)
    if parser is parse_text_value:
        return _decode_text

    def decode(data: bytes) -> Any:
        try:
            text = str(data, "utf-8")
        except UnicodeDecodeError:
            text = decode_utf8(data)  # raises
        return parser(text, ctx)

    return decode


def _decode_text(data: bytes) -> str:
    text = decode_utf8(data)
    return text if b"\0" not in data else str(parse_text_value(text, DEFAULT_CONTEXT))


def decode_utf8(data: bytes) -> str:
    """The text of client bytes; 22021 names the first bytes that are not UTF-8."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        bad = " ".join(f"0x{byte:02x}" for byte in data[error.start : max(error.end, error.start + 1)])
        raise sql_error("22021", f'invalid byte sequence for encoding "UTF8": {bad}') from None
