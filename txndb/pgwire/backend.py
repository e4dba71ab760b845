"""What a backend (server) sends: the builders a server uses, its messages as values, the parser a client uses.

PostgreSQL 15 documentation, chapters 55.7 "Message Formats" and 55.8 "Error and Notice Message Fields". Values are
bytes in both directions; their encoders and decoders are given from outside.

The hot path is `row_encoder`: for a fixed list of column encoders it makes one function that turns rows into the bytes
of their DataRow messages, with the columns unrolled and the lengths of short values taken from a table.

Invariants:
1. A value is None or is encoded by its column's encoder to bytes; None is length -1.
2. An ErrorResponse always has severity (both forms), SQLSTATE and message; empty fields are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from txndb import limits
from txndb.pgwire.framing import (
    Decoder,
    Framer,
    Malformed,
    cstring,
    message,
    must_end,
    pack_i16,
    pack_i32,
    read_values,
    unpack_i16,
    unpack_i32,
    unpack_u16,
    unpack_u32,
    zstring,
)
from txndb.pgwire.frontend import CopyData, CopyDone

Encoder = Callable[[Any], bytes]
RowsEncoder = Callable[[Iterable[Sequence[Any]]], bytes]

AUTHENTICATION_OK: Final = message(b"R", b"\0\0\0\0")
PARSE_COMPLETE: Final = message(b"1", b"")
BIND_COMPLETE: Final = message(b"2", b"")
CLOSE_COMPLETE: Final = message(b"3", b"")
NO_DATA: Final = message(b"n", b"")
EMPTY_QUERY: Final = message(b"I", b"")
PORTAL_SUSPENDED: Final = message(b"s", b"")
COPY_DONE: Final = message(b"c", b"")
READY: Final = {status: message(b"Z", status.encode()) for status in ("I", "T", "E")}


class Column(msgspec.Struct, frozen=True):
    """One column of a RowDescription."""

    name: str
    table_oid: int
    column_no: int
    type_oid: int
    type_len: int
    typmod: int
    format: int = 0


def row_description(columns: Iterable[Column]) -> bytes:
    """RowDescription."""
    parts = [b""]
    count = 0
    for column in columns:
        count += 1
        parts.append(zstring(column.name))
        parts.append(column.table_oid.to_bytes(4, "big") + pack_i16(column.column_no))
        parts.append(column.type_oid.to_bytes(4, "big") + pack_i16(column.type_len))
        parts.append(pack_i32(column.typmod) + pack_i16(column.format))
    parts[0] = count.to_bytes(2, "big")
    return message(b"T", b"".join(parts))


def parameter_description(oids: Sequence[int]) -> bytes:
    """ParameterDescription."""
    return message(b"t", len(oids).to_bytes(2, "big") + b"".join(oid.to_bytes(4, "big") for oid in oids))


_LENGTHS: Final = tuple(pack_i32(length) for length in range(256))
"""The length words of short values: an index is cheaper than a pack."""

_UNROLLED_MAX: Final = 64


def row_encoder(encoders: Sequence[Encoder]) -> RowsEncoder:
    """A function that turns rows into the bytes of their DataRow messages, specialised for these columns."""
    if not encoders:
        empty = message(b"D", b"\0\0")
        return lambda rows: b"".join([empty for _ in rows])
    if len(encoders) > _UNROLLED_MAX:
        return _wide_row_encoder(tuple(encoders))
    count = len(encoders)
    values = ", ".join(f"v{index}" for index in range(count))
    body = []
    for index in range(count):
        body.append(
            f"        if v{index} is None:\n            b{index} = b''\n            l{index} = null\n"
            f"        else:\n            b{index} = e{index}(v{index})\n            n = len(b{index})\n"
            f"            size += n\n            l{index} = lengths[n] if n < 256 else pack(n)\n"
        )
    pieces = ", ".join(f"l{index}, b{index}" for index in range(count))
    source = (
        "def encode(rows):\n    out = []\n    extend = out.extend\n"
        f"    for {values}{',' if count == 1 else ''} in rows:\n        size = {4 + 2 + 4 * count}\n"
        + "".join(body)
        + f"        extend((b'D', lengths[size] if size < 256 else pack(size), columns, {pieces}))\n"
        "    return join(out)\n"
    )
    scope: dict[str, Any] = {f"e{index}": encoder for index, encoder in enumerate(encoders)}
    scope |= {"null": b"\xff\xff\xff\xff", "lengths": _LENGTHS, "pack": pack_i32, "join": b"".join}
    scope["columns"] = count.to_bytes(2, "big")
    exec(source, scope)
    encode: RowsEncoder = scope["encode"]
    return encode


def _wide_row_encoder(encoders: tuple[Encoder, ...]) -> RowsEncoder:
    count = len(encoders).to_bytes(2, "big")

    def encode(rows: Iterable[Sequence[Any]]) -> bytes:
        out = []
        for row in rows:
            parts = [count]
            for encoder, value in zip(encoders, row, strict=True):
                if value is None:
                    parts.append(b"\xff\xff\xff\xff")
                else:
                    raw = encoder(value)
                    parts.append(pack_i32(len(raw)))
                    parts.append(raw)
            out.append(message(b"D", b"".join(parts)))
        return b"".join(out)

    return encode


@lru_cache(maxsize=1024)
def command_complete(tag: str) -> bytes:
    """CommandComplete; the same few tags come again and again."""
    return message(b"C", zstring(tag))


def parameter_status(name: str, value: str) -> bytes:
    """ParameterStatus."""
    return message(b"S", zstring(name) + zstring(value))


def backend_key_data(process_id: int, secret: int) -> bytes:
    """BackendKeyData: what a CancelRequest must show."""
    return message(b"K", pack_i32(process_id) + secret.to_bytes(4, "big"))


def negotiate_protocol_version(minor: int, unrecognized: Sequence[str]) -> bytes:
    """NegotiateProtocolVersion: the newest minor version spoken here, and the options not known."""
    names = b"".join(zstring(name) for name in unrecognized)
    return message(b"v", pack_i32(minor) + pack_i32(len(unrecognized)) + names)


def copy_in_response(column_count: int, binary: bool = False) -> bytes:
    """CopyInResponse."""
    return message(b"G", _copy_formats(column_count, binary))


def copy_out_response(column_count: int, binary: bool = False) -> bytes:
    """CopyOutResponse."""
    return message(b"H", _copy_formats(column_count, binary))


def _copy_formats(column_count: int, binary: bool) -> bytes:
    return bytes([binary]) + column_count.to_bytes(2, "big") + pack_i16(int(binary)) * column_count


def copy_lines(lines: Iterable[bytes]) -> bytes:
    """One CopyData for each line: clients count on one message a row (55.2.6)."""
    return b"".join([b"d" + (len(line) + 4).to_bytes(4, "big") + line for line in lines])


def response(kind: bytes, fields: Iterable[tuple[str, str]]) -> bytes:
    """ErrorResponse (kind E) or NoticeResponse (kind N): one-letter codes and their texts; empty texts are left out."""
    parts = [code.encode() + text.replace("\0", "").encode() + b"\0" for code, text in fields if text]
    return message(kind, b"".join(parts) + b"\0")


# what a client reads


class Authentication(msgspec.Struct, frozen=True):
    """Any AuthenticationXYZ: 0 ok, 3 clear-text password, 5 MD5, 10 SASL, 11 continue, 12 final."""

    code: int
    data: bytes


class BackendKeyData(msgspec.Struct, frozen=True):
    """What a CancelRequest must show."""

    process_id: int
    secret: int


class CommandComplete(msgspec.Struct, frozen=True):
    """The end of a statement."""

    tag: str


class CopyResponse(msgspec.Struct, frozen=True):
    """CopyInResponse ("G"), CopyOutResponse ("H") or CopyBothResponse ("W")."""

    direction: str
    binary: bool
    formats: tuple[int, ...]


class DataRow(msgspec.Struct, frozen=True):
    """One row, values still encoded."""

    values: list[bytes | None]


class ErrorResponse(msgspec.Struct, frozen=True):
    """An error; fields by their one-letter codes."""

    fields: dict[str, str]


class NoticeResponse(msgspec.Struct, frozen=True):
    """A notice; fields by their one-letter codes."""

    fields: dict[str, str]


class NotificationResponse(msgspec.Struct, frozen=True):
    """LISTEN/NOTIFY."""

    process_id: int
    channel: str
    payload: str


class ParameterDescription(msgspec.Struct, frozen=True):
    """The parameter types of a statement."""

    oids: tuple[int, ...]


class ParameterStatus(msgspec.Struct, frozen=True):
    """A reported run-time parameter."""

    name: str
    value: str


class ReadyForQuery(msgspec.Struct, frozen=True):
    """The server waits: "I" idle, "T" in a transaction, "E" in a failed one."""

    status: str


class RowDescription(msgspec.Struct, frozen=True):
    """The columns of the rows to come."""

    columns: tuple[Column, ...]


class Negotiate(msgspec.Struct, frozen=True):
    """NegotiateProtocolVersion."""

    minor: int
    unrecognized: tuple[str, ...]


class Done(msgspec.Struct, frozen=True):
    """A message without a body, by its type: 1 parsed, 2 bound, 3 closed, n no data, I empty query, s suspended."""

    kind: str


BackendMessage = (
    Authentication
    | BackendKeyData
    | CommandComplete
    | CopyResponse
    | CopyData
    | CopyDone
    | DataRow
    | ErrorResponse
    | NoticeResponse
    | NotificationResponse
    | ParameterDescription
    | ParameterStatus
    | ReadyForQuery
    | RowDescription
    | Negotiate
    | Done
)


def _authentication(data: bytes, at: int, stop: int) -> BackendMessage:
    code = unpack_i32(data[at:stop], 0)[0]
    return Authentication(code, data[at + 4 : stop])


def _key_data(data: bytes, at: int, stop: int) -> BackendMessage:
    must_end(at + 8, stop)
    return BackendKeyData(unpack_i32(data, at)[0], unpack_u32(data, at + 4)[0])


def _command_complete(data: bytes, at: int, stop: int) -> BackendMessage:
    tag, at = cstring(data, at, stop)
    must_end(at, stop)
    return CommandComplete(tag)


def _copy_response(data: bytes, at: int, stop: int) -> BackendMessage:
    body = data[at:stop]
    count = unpack_u16(body, 1)[0]
    must_end(3 + 2 * count, len(body))
    formats = tuple(unpack_i16(body, 3 + 2 * index)[0] for index in range(count))
    return CopyResponse(chr(data[at - 5]), body[0] == 1, formats)


def _data_row(data: bytes, at: int, stop: int) -> BackendMessage:
    values, at = read_values(data, at, stop)
    must_end(at, stop)
    return DataRow(values)


def _fields(data: bytes, at: int, stop: int) -> dict[str, str]:
    if stop <= at or data[stop - 1] != 0:
        raise ValueError("no terminator")
    fields: dict[str, str] = {}
    while data[at] != 0:
        code = chr(data[at])
        # an error before the encodings are agreed may be in any encoding; what cannot be read must still be shown
        end = data.index(0, at + 1, stop)
        fields[code] = data[at + 1 : end].decode(errors="replace")
        at = end + 1
    must_end(at + 1, stop)
    return fields


def _error(data: bytes, at: int, stop: int) -> BackendMessage:
    return ErrorResponse(_fields(data, at, stop))


def _notice(data: bytes, at: int, stop: int) -> BackendMessage:
    return NoticeResponse(_fields(data, at, stop))


def _notification(data: bytes, at: int, stop: int) -> BackendMessage:
    process_id = unpack_i32(data, at)[0]
    channel, at = cstring(data, at + 4, stop)
    payload, at = cstring(data, at, stop)
    must_end(at, stop)
    return NotificationResponse(process_id, channel, payload)


def _parameter_description(data: bytes, at: int, stop: int) -> BackendMessage:
    count = unpack_u16(data, at)[0]
    at += 2
    must_end(at + 4 * count, stop)
    return ParameterDescription(tuple(unpack_u32(data, at + 4 * index)[0] for index in range(count)))


def _parameter_status(data: bytes, at: int, stop: int) -> BackendMessage:
    name, at = cstring(data, at, stop)
    value, at = cstring(data, at, stop)
    must_end(at, stop)
    return ParameterStatus(name, value)


def _ready(data: bytes, at: int, stop: int) -> BackendMessage:
    must_end(at + 1, stop)
    return ReadyForQuery(chr(data[at]))


def _row_description(data: bytes, at: int, stop: int) -> BackendMessage:
    return _read_columns(data[at:stop])


@lru_cache(maxsize=256)
def _read_columns(data: bytes) -> RowDescription:
    """A program asks the same few questions again and again: their descriptions are read once."""
    stop = len(data)
    count = unpack_u16(data, 0)[0]
    at = 2
    columns = []
    for _ in range(count):
        name, at = cstring(data, at, stop)
        if at + 18 > stop:
            raise ValueError("message too short")
        columns.append(
            Column(
                name,
                unpack_u32(data, at)[0],
                unpack_i16(data, at + 4)[0],
                unpack_u32(data, at + 6)[0],
                unpack_i16(data, at + 10)[0],
                unpack_i32(data, at + 12)[0],
                unpack_i16(data, at + 16)[0],
            )
        )
        at += 18
    must_end(at, stop)
    return RowDescription(tuple(columns))


def _negotiate(data: bytes, at: int, stop: int) -> BackendMessage:
    minor = unpack_i32(data, at)[0]
    count = unpack_i32(data, at + 4)[0]
    at += 8
    names = []
    for _ in range(count):
        name, at = cstring(data, at, stop)
        names.append(name)
    must_end(at, stop)
    return Negotiate(minor, tuple(names))


def _done(kind: str) -> Decoder[BackendMessage]:
    value = Done(kind)

    def decode(data: bytes, at: int, stop: int) -> BackendMessage:
        must_end(at, stop)
        return value

    return decode


_COPY_DONE: Final = CopyDone()

_DECODERS: Final[dict[int, Decoder[BackendMessage]]] = {
    ord("R"): _authentication,
    ord("K"): _key_data,
    ord("C"): _command_complete,
    ord("G"): _copy_response,
    ord("H"): _copy_response,
    ord("W"): _copy_response,
    ord("d"): lambda data, at, stop: CopyData(data[at:stop]),
    ord("c"): lambda data, at, stop: _COPY_DONE,
    ord("D"): _data_row,
    ord("E"): _error,
    ord("N"): _notice,
    ord("A"): _notification,
    ord("t"): _parameter_description,
    ord("S"): _parameter_status,
    ord("Z"): _ready,
    ord("T"): _row_description,
    ord("v"): _negotiate,
} | {ord(kind): _done(kind) for kind in "123nIs"}

_BOUNDS: Final = dict.fromkeys(_DECODERS, 4 * limits.MESSAGE_BYTES_MAX)


class BackendParser:
    """The client's reader of one connection."""

    __slots__ = ("_framer",)

    def __init__(self) -> None:
        self._framer: Framer[BackendMessage] = Framer(_DECODERS, _BOUNDS)

    def feed(self, data: bytes) -> list[BackendMessage | Malformed]:
        """The messages completed by `data`, in order. Never raises for a peer's bytes."""
        return self._framer.feed(data)
