"""Python values to parameters and results to Python values, by type OID; PEP 249's type objects and constructors.

Parameters travel as text with a type OID where Python's type says it (str and None leave it to the server), bytes as
binary. Results arrive as text. Integers take the smallest of int4, int8 and numeric that holds them, so that functions
declared for integer are found.

| Python | PostgreSQL |
|---|---|
| bool int float Decimal | boolean, integer or bigint or numeric, double precision, numeric |
| str bytes/bytearray/memoryview UUID | untyped text, bytea, uuid |
| date datetime (naive, aware) timedelta | date, timestamp, timestamptz, interval |
| list/tuple | array of the first element's type |

Results: the same the other way; time zones as fixed offsets; arrays as lists; any other type as str. Dates outside
Python's years 1–9999 (infinity too) raise DataError when fetched: no Python value means them.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from txndb.client.errors import DataError, NotSupportedError

BYTEA_OID: Final = 17

Adapted = tuple[int, bytes | None]


def _int(value: int) -> Adapted:
    if -0x80000000 <= value <= 0x7FFFFFFF:
        return 23, b"%d" % value
    if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        return 20, b"%d" % value
    return 1700, str(value).encode()


def text_bytes(text: str) -> bytes:
    """A text as the server takes it: UTF-8 without zeros; `DataError` for one that this cannot express."""
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        lone = ord(text[error.start])
        raise DataError(f"UTF-8 text cannot contain the surrogate U+{lone:04X}", sqlstate="22021") from None
    if 0 in raw:
        raise DataError("PostgreSQL text cannot contain a zero character", sqlstate="22021")
    return raw


def _str(value: str) -> Adapted:
    return 0, text_bytes(value)


def _datetime(value: datetime.datetime) -> Adapted:
    return (1114 if value.tzinfo is None else 1184), value.isoformat(" ").encode()


def _timedelta(value: datetime.timedelta) -> Adapted:
    return 1186, f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds".encode()


def _list(value: list[Any] | tuple[Any, ...]) -> Adapted:
    oid = 0
    parts = []
    for item in value:
        item_oid, raw = adapt(item)
        if raw is None:
            parts.append("NULL")
            continue
        oid = max(oid, item_oid)
        text = "\\x" + raw.hex() if item_oid == BYTEA_OID else raw.decode()
        if isinstance(item, list | tuple):
            parts.append(text)
        else:
            parts.append('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
    nested = bool(value) and isinstance(value[0], list | tuple)
    return (oid if nested else _ARRAY_OF.get(oid, 0)), ("{" + ",".join(parts) + "}").encode()


_ARRAY_OF: Final = {
    16: 1000,
    17: 1001,
    20: 1016,
    23: 1007,
    25: 1009,
    701: 1022,
    1082: 1182,
    1114: 1115,
    1184: 1185,
    1700: 1231,
    2950: 2951,
}

_ADAPTERS: Final[dict[type, Callable[[Any], Adapted]]] = {
    int: _int,
    str: _str,
    bool: lambda value: (16, b"t" if value else b"f"),
    float: lambda value: (701, repr(value).encode()),
    Decimal: lambda value: (1700, str(value).encode()),
    bytes: lambda value: (BYTEA_OID, value),
    bytearray: lambda value: (BYTEA_OID, bytes(value)),
    memoryview: lambda value: (BYTEA_OID, bytes(value)),
    datetime.datetime: _datetime,
    datetime.date: lambda value: (1082, value.isoformat().encode()),
    datetime.timedelta: _timedelta,
    datetime.time: lambda value: (1083, value.isoformat().encode()),
    UUID: lambda value: (2950, str(value).encode()),
    list: _list,
    tuple: _list,
    type(None): lambda value: (0, None),
}


def adapt(value: object) -> Adapted:
    """The type OID (0 = let the server choose) and the bytes of a parameter; bytea is binary, all else text."""
    adapter = _ADAPTERS.get(type(value))
    if adapter is None:
        for base in type(value).__mro__:
            if base in _ADAPTERS:
                return _ADAPTERS[base](value)
        raise NotSupportedError(f"cannot send a value of type {type(value).__name__}", sqlstate="0A000")
    return adapter(value)


# results


def _load_bytes(raw: bytes) -> bytes:
    if raw[:2] != b"\\x":
        raise DataError(f"bytea output is not hexadecimal: {raw[:20]!r}")
    return bytes.fromhex(raw[2:].decode())


def _load_date(raw: bytes) -> datetime.date:
    try:
        return datetime.date.fromisoformat(raw.decode())
    except ValueError:
        raise DataError(f"no Python date means {raw.decode()}", sqlstate="22008") from None


def _load_timestamp(raw: bytes) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(raw.decode())
    except ValueError:
        raise DataError(f"no Python datetime means {raw.decode()}", sqlstate="22008") from None


_INTERVAL: Final = re.compile(
    r"(?:(-?\+?\d+) years? ?)?(?:(-?\+?\d+) mons? ?)?(?:(-?\+?\d+) days? ?)?"
    r"(?:([-+]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?$"
)


def _load_interval(raw: bytes) -> datetime.timedelta:
    found = _INTERVAL.match(raw.decode())
    if found is None:
        raise DataError(f"no Python timedelta means {raw.decode()}", sqlstate="22015")
    years, months, days, sign, hours, minutes, seconds, fraction = found.groups()
    day_count = int(years or 0) * 365 + int(months or 0) * 30 + int(days or 0)
    clock = datetime.timedelta(
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=int(seconds or 0),
        microseconds=int((fraction or "0").ljust(6, "0")),
    )
    return datetime.timedelta(days=day_count) + (-clock if sign == "-" else clock)


_ARRAY_TOKEN: Final = re.compile(r'[{},]|"((?:[^"\\]|\\.)*)"|[^{},"]+')


def _load_array(element: Callable[[bytes], Any]) -> Callable[[bytes], list[Any]]:
    def load(raw: bytes) -> list[Any]:
        root: list[Any] = []
        stack = [root]
        text = raw.decode()
        for token in _ARRAY_TOKEN.finditer(text[text.index("{") :]):
            piece = token[0]
            if piece == "{":
                inner: list[Any] = []
                stack[-1].append(inner)
                stack.append(inner)
            elif piece == "}":
                stack.pop()
            elif token[1] is not None:
                stack[-1].append(element(re.sub(r"\\(.)", r"\1", token[1]).encode()))
            elif piece != ",":
                stack[-1].append(None if piece == "NULL" else element(piece.encode()))
        loaded: list[Any] = root[0]
        return loaded

    return load


_LOADERS: Final[dict[int, Callable[[bytes], Any]]] = {
    16: lambda raw: raw == b"t",
    17: _load_bytes,
    20: int,
    21: int,
    23: int,
    26: int,
    700: float,
    701: float,
    1082: _load_date,
    1083: lambda raw: datetime.time.fromisoformat(raw.decode()),
    1114: _load_timestamp,
    1184: _load_timestamp,
    1186: _load_interval,
    1700: lambda raw: Decimal(raw.decode()),
    2950: lambda raw: UUID(raw.decode()),
}
_ARRAY_LOADERS: Final = {
    array: _load_array(_LOADERS.get(oid, bytes.decode)) for oid, array in _ARRAY_OF.items()
}
_VECTORS: Final = {1005: 21, 1028: 26, 1015: 1043, 1014: 1042, 1003: 19, 1021: 700, 1002: 18}
_ALL_LOADERS: Final = (
    _LOADERS
    | _ARRAY_LOADERS
    | {a: _load_array(_LOADERS.get(oid, bytes.decode)) for a, oid in _VECTORS.items()}
)


def loader(type_oid: int) -> Callable[[bytes], Any]:
    """The function from a result's text form to its Python value."""
    found: Callable[[bytes], Any] = _ALL_LOADERS.get(type_oid, bytes.decode)
    return found


# PEP 249's constructors and type objects

Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime


def DateFromTicks(ticks: float) -> datetime.date:
    """A date from seconds since the epoch, local time."""
    return Date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> datetime.time:
    """A time from seconds since the epoch, local time."""
    return Time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> datetime.datetime:
    """A timestamp from seconds since the epoch, local time."""
    return Timestamp(*time.localtime(ticks)[:6])


def Binary(value: bytes | bytearray | memoryview | str) -> bytes:
    """A binary value."""
    return value.encode() if isinstance(value, str) else bytes(value)


class TypeObject:
    """A PEP 249 type object: equal to every type code (OID) it covers."""

    def __init__(self, name: str, oids: tuple[int, ...]) -> None:
        self._name = name
        self._oids = frozenset(oids)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            return other in self._oids
        return self is other

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return self._name


STRING: Final = TypeObject("STRING", (18, 19, 25, 1042, 1043, 705, 2275))
BINARY: Final = TypeObject("BINARY", (17,))
NUMBER: Final = TypeObject("NUMBER", (20, 21, 23, 700, 701, 1700))
DATETIME: Final = TypeObject("DATETIME", (1082, 1083, 1114, 1184, 1186))
ROWID: Final = TypeObject("ROWID", (26,))
