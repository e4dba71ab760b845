"""What a frontend (client) sends: its messages as values, the parser a server uses, the builders a client uses.

PostgreSQL 15 documentation, chapter 55.7 "Message Formats". `FrontendParser.feed(bytes)` gives messages; functions
named after the messages give bytes. Parameter values stay bytes: what they mean is not this layer's business.

Invariants:
1. The first message has no type byte and at most `STARTUP_BYTES_MAX` bytes; SSLRequest and GSSENCRequest are answered
   and followed by another first message; the parser goes on to typed messages after `Startup` alone.
2. Statements are bounded by `statement_bytes`, other messages by `message_bytes`, messages of fixed size by that size
   (`framing` invariant 1). Before `trusted()` was called no message may exceed UNTRUSTED_BYTES_MAX.
3. Counts in a body are never trusted for an allocation: each counted item must be there.
"""

from __future__ import annotations

from typing import Final

import msgspec

from txndb import limits
from txndb.errors import ProtocolError
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
    unreadable,
    zstring,
)

PROTOCOL_3_0: Final = 196608
CANCEL_CODE: Final = 80877102
SSL_CODE: Final = 80877103
GSSENC_CODE: Final = 80877104

STARTUP_BYTES_MAX: Final = 10_000
UNTRUSTED_BYTES_MAX: Final = 10_000

TEXT: Final = 0
BINARY: Final = 1


class SSLRequest(msgspec.Struct, frozen=True):
    """The client asks for TLS; the answer is one byte, S or N."""


class GSSENCRequest(msgspec.Struct, frozen=True):
    """The client asks for GSSAPI encryption; the answer is one byte."""


class CancelRequest(msgspec.Struct, frozen=True):
    """Cancel the running statement of another connection; never answered."""

    process_id: int
    secret: int


class Startup(msgspec.Struct, frozen=True):
    """The first real message: protocol version and run-time parameters."""

    major: int
    minor: int
    parameters: dict[str, str]


class Password(msgspec.Struct, frozen=True):
    """Any of PasswordMessage, SASLInitialResponse, SASLResponse: which one depends on what was asked."""

    data: bytes


class Query(msgspec.Struct, frozen=True):
    """Simple protocol: a string of statements."""

    sql: str


class Parse(msgspec.Struct, frozen=True):
    """Prepare a statement; param_oids may be shorter than the parameters, 0 = unspecified."""

    name: str
    sql: str
    param_oids: tuple[int, ...]


class Bind(msgspec.Struct, frozen=True):
    """Make a portal of a statement. Formats: none = all text, one = for all, else one each."""

    portal: str
    statement: str
    param_formats: tuple[int, ...]
    params: list[bytes | None]
    result_formats: tuple[int, ...]


class Describe(msgspec.Struct, frozen=True):
    """Describe a statement (kind "S") or a portal ("P")."""

    kind: str
    name: str


class Execute(msgspec.Struct, frozen=True):
    """Run a portal; max_rows 0 = no limit."""

    portal: str
    max_rows: int


class Close(msgspec.Struct, frozen=True):
    """Close a statement (kind "S") or a portal ("P")."""

    kind: str
    name: str


class Sync(msgspec.Struct, frozen=True):
    """The end of an extended batch."""


class Flush(msgspec.Struct, frozen=True):
    """Send what is buffered."""


class CopyData(msgspec.Struct, frozen=True):
    """A piece of COPY data, either direction."""

    data: bytes


class CopyDone(msgspec.Struct, frozen=True):
    """The end of COPY data, either direction."""


class CopyFail(msgspec.Struct, frozen=True):
    """The client gives up its COPY FROM STDIN."""

    reason: str


class FunctionCall(msgspec.Struct, frozen=True):
    """The obsolete fast-path call; parsed only to be refused in step."""


class Terminate(msgspec.Struct, frozen=True):
    """The client leaves."""


FirstMessage = SSLRequest | GSSENCRequest | CancelRequest | Startup
FrontendMessage = (
    FirstMessage
    | Password
    | Query
    | Parse
    | Bind
    | Describe
    | Execute
    | Close
    | Sync
    | Flush
    | CopyData
    | CopyDone
    | CopyFail
    | FunctionCall
    | Terminate
)

_SYNC: Final = Sync()
_FLUSH: Final = Flush()
_COPY_DONE: Final = CopyDone()
_TERMINATE: Final = Terminate()
_FUNCTION_CALL: Final = FunctionCall()


def _query(data: bytes, at: int, stop: int) -> FrontendMessage:
    sql, at = cstring(data, at, stop)
    must_end(at, stop)
    return Query(sql)


def _parse(data: bytes, at: int, stop: int) -> FrontendMessage:
    name, at = cstring(data, at, stop)
    sql, at = cstring(data, at, stop)
    count = unpack_u16(data, at)[0]
    at += 2
    must_end(at + 4 * count, stop)
    oids = tuple(unpack_u32(data, at + 4 * index)[0] for index in range(count)) if count else ()
    return Parse(name, sql, oids)


def _formats(data: bytes, at: int) -> tuple[tuple[int, ...], int]:
    count = unpack_i16(data, at)[0]
    at += 2
    if count == 0:
        return (), at
    if count == 1:
        formats: tuple[int, ...] = (unpack_i16(data, at)[0],)
    elif count < 0:
        raise ValueError("negative count")
    else:
        formats = tuple(unpack_i16(data, at + 2 * index)[0] for index in range(count))
    for code in formats:
        if code not in (TEXT, BINARY):
            raise ValueError("unsupported format code")
    return formats, at + 2 * count


def _bind(data: bytes, at: int, stop: int) -> FrontendMessage:
    portal, at = cstring(data, at, stop)
    statement, at = cstring(data, at, stop)
    param_formats, at = _formats(data, at)
    params, at = read_values(data, at, stop)
    result_formats, at = _formats(data, at)
    must_end(at, stop)
    return Bind(portal, statement, param_formats, params, result_formats)


def _target(data: bytes, at: int, stop: int) -> tuple[str, str]:
    kind = data[at : at + 1].decode()
    if kind not in ("S", "P"):
        raise ValueError("invalid target")
    name, at = cstring(data, at + 1, stop)
    must_end(at, stop)
    return kind, name


def _describe(data: bytes, at: int, stop: int) -> FrontendMessage:
    return Describe(*_target(data, at, stop))


def _close(data: bytes, at: int, stop: int) -> FrontendMessage:
    return Close(*_target(data, at, stop))


def _execute(data: bytes, at: int, stop: int) -> FrontendMessage:
    portal, at = cstring(data, at, stop)
    max_rows = unpack_i32(data, at)[0]
    must_end(at + 4, stop)
    return Execute(portal, max(max_rows, 0))


def _copy_fail(data: bytes, at: int, stop: int) -> FrontendMessage:
    reason, at = cstring(data, at, stop)
    must_end(at, stop)
    return CopyFail(reason)


_DECODERS: Final[dict[int, Decoder[FrontendMessage]]] = {
    ord("Q"): _query,
    ord("P"): _parse,
    ord("B"): _bind,
    ord("D"): _describe,
    ord("E"): _execute,
    ord("C"): _close,
    ord("S"): lambda data, at, stop: _SYNC,
    ord("H"): lambda data, at, stop: _FLUSH,
    ord("d"): lambda data, at, stop: CopyData(data[at:stop]),
    ord("c"): lambda data, at, stop: _COPY_DONE,
    ord("f"): _copy_fail,
    ord("F"): lambda data, at, stop: _FUNCTION_CALL,
    ord("X"): lambda data, at, stop: _TERMINATE,
    ord("p"): lambda data, at, stop: Password(data[at:stop]),
}

_SMALL: Final = dict.fromkeys(map(ord, "DECfFp"), UNTRUSTED_BYTES_MAX)
_EMPTY: Final = dict.fromkeys(map(ord, "SHcX"), 4)


def _bounds(message_bytes: int, statement_bytes: int) -> dict[int, int]:
    """The largest length field per type; a statement's message holds its name and terminators as well."""
    statements = dict.fromkeys(map(ord, "QP"), min(statement_bytes, message_bytes))
    return {**statements, **dict.fromkeys(map(ord, "Bd"), message_bytes), **_SMALL, **_EMPTY}


_BOUNDS: Final = _bounds(limits.MESSAGE_BYTES_MAX, limits.STATEMENT_BYTES_MAX)
_UNTRUSTED_BOUNDS: Final = {kind: min(bound, UNTRUSTED_BYTES_MAX) for kind, bound in _BOUNDS.items()}


class FrontendParser:
    """The server's reader of one connection. Starts at the untyped first message."""

    __slots__ = ("_bounds", "_dead", "_first", "_framer", "_started")

    def __init__(self, bounds: limits.NodeLimits | None = None) -> None:
        self._bounds = _BOUNDS if bounds is None else _bounds(bounds.message_bytes, bounds.statement_bytes)
        self._first = bytearray()
        self._started = False
        self._dead = False
        self._framer: Framer[FrontendMessage] = Framer(_DECODERS, _UNTRUSTED_BOUNDS)

    def trusted(self) -> None:
        """The peer was authenticated: from now on full-size messages are allowed."""
        self._framer.widen(self._bounds)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an unfinished message."""
        return len(self._first) + self._framer.buffered_bytes

    def feed(self, data: bytes) -> list[FrontendMessage | Malformed]:
        """The messages completed by `data`, in order. Never raises for a peer's bytes."""
        if self._started:
            return self._framer.feed(data)
        if self._dead:
            return []
        out: list[FrontendMessage | Malformed] = []
        self._first += data
        while not self._started and not self._dead and len(self._first) >= 4:
            size = unpack_u32(self._first, 0)[0]
            if not 8 <= size <= STARTUP_BYTES_MAX:
                self._dead = True
                out.append(Malformed(ProtocolError("invalid length of startup packet"), True))
                break
            if len(self._first) < size:
                break
            body = bytes(self._first[4:size])
            del self._first[:size]
            out.append(self._first_message(body))
        if self._dead:
            self._first.clear()
        elif self._started and self._first:
            rest = bytes(self._first)
            self._first.clear()
            out += self._framer.feed(rest)
        return out

    def _first_message(self, body: bytes) -> FirstMessage | Malformed:
        code = unpack_u32(body, 0)[0]
        if code == SSL_CODE and len(body) == 4:
            return SSLRequest()
        if code == GSSENC_CODE and len(body) == 4:
            return GSSENCRequest()
        if code == CANCEL_CODE and len(body) == 12:
            self._dead = True
            return CancelRequest(unpack_i32(body, 4)[0], unpack_u32(body, 8)[0])
        if code >> 16 != 3:
            self._dead = True
            text = f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}: server supports 3.0"
            return Malformed(ProtocolError(text), True)
        try:
            parameters = _startup_parameters(body)
        except ValueError as error:
            self._dead = True
            return Malformed(unreadable(ord("!"), error), True)
        self._started = True
        return Startup(3, code & 0xFFFF, parameters)


def _startup_parameters(body: bytes) -> dict[str, str]:
    if len(body) < 5 or body[-1] != 0:
        raise ValueError("no terminator")
    parts = body[4:-1].split(b"\0")
    if parts.pop() != b"" or len(parts) % 2:
        raise ValueError("a name without a value")
    texts = [part.decode() for part in parts]
    return dict(zip(texts[::2], texts[1::2], strict=True))


# builders, the client's side


def startup(parameters: dict[str, str]) -> bytes:
    """StartupMessage for protocol 3.0."""
    pairs = b"".join(zstring(name) + zstring(value) for name, value in parameters.items())
    body = pack_i32(PROTOCOL_3_0) + pairs + b"\0"
    return pack_i32(len(body) + 4) + body


def ssl_request() -> bytes:
    """SSLRequest."""
    return pack_i32(8) + pack_i32(SSL_CODE)


def cancel_request(process_id: int, secret: int) -> bytes:
    """CancelRequest, sent over a connection of its own."""
    return pack_i32(16) + pack_i32(CANCEL_CODE) + pack_i32(process_id) + secret.to_bytes(4, "big")


def password(data: bytes) -> bytes:
    """PasswordMessage or a SASL response; a clear-text password brings its own terminator."""
    return message(b"p", data)


def query(sql: str) -> bytes:
    """Query."""
    return message(b"Q", zstring(sql))


def parse(name: str, sql: str, param_oids: tuple[int, ...] = ()) -> bytes:
    """Parse."""
    oids = b"".join(oid.to_bytes(4, "big") for oid in param_oids)
    return message(b"P", zstring(name) + zstring(sql) + len(param_oids).to_bytes(2, "big") + oids)


def bind(
    portal: str,
    statement: str,
    params: list[bytes | None],
    param_formats: tuple[int, ...] = (),
    result_formats: tuple[int, ...] = (),
) -> bytes:
    """Bind; formats: none = all text, one = for all, else one each."""
    parts = [
        zstring(portal),
        zstring(statement),
        _format_codes(param_formats),
        len(params).to_bytes(2, "big"),
    ]
    for value in params:
        if value is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            parts.append(pack_i32(len(value)))
            parts.append(value)
    parts.append(_format_codes(result_formats))
    return message(b"B", b"".join(parts))


def _format_codes(formats: tuple[int, ...]) -> bytes:
    return pack_i16(len(formats)) + b"".join(pack_i16(code) for code in formats)


def describe(kind: str, name: str) -> bytes:
    """Describe a statement ("S") or portal ("P")."""
    return message(b"D", kind.encode() + zstring(name))


def execute(portal: str, max_rows: int = 0) -> bytes:
    """Execute."""
    return message(b"E", zstring(portal) + pack_i32(max_rows))


def close(kind: str, name: str) -> bytes:
    """Close a statement ("S") or portal ("P")."""
    return message(b"C", kind.encode() + zstring(name))


def copy_data(data: bytes) -> bytes:
    """CopyData, either direction."""
    return message(b"d", data)


def copy_fail(reason: str) -> bytes:
    """CopyFail."""
    return message(b"f", zstring(reason))


SYNC: Final = message(b"S", b"")
FLUSH: Final = message(b"H", b"")
COPY_DONE: Final = message(b"c", b"")
TERMINATE: Final = message(b"X", b"")
