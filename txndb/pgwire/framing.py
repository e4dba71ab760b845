"""Cutting a byte stream into PostgreSQL messages: type byte, length, body. Shared by both roles.

PostgreSQL 15 documentation, chapter 55 (Frontend/Backend Protocol), "Message Formats". A message is one type byte,
a big-endian length that counts itself, and a body. Only the first message of a frontend has no type byte.

Invariants:
1. What is kept between two calls of `feed` is less than one message, and no message is longer than its bound: memory
   is bounded by the bounds in `txndb.limits` whatever the peer sends.
2. A body that cannot be read is one `Malformed` message in its place in the stream (`fatal` False): the stream itself
   is still in step. So is one that is longer than its bound, once the peer is known: its bytes are dropped as they
   come. A length or type that cannot be right loses the step: one fatal `Malformed`, then nothing more.
3. `feed` never raises for a peer's bytes.

It does not know what messages mean, and reads no socket: `server.pg` and `client.connection` drive it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from txndb.errors import ProtocolError, TxndbError, sql_error

unpack_u32 = struct.Struct("!I").unpack_from
unpack_i32 = struct.Struct("!i").unpack_from
unpack_u16 = struct.Struct("!H").unpack_from
unpack_i16 = struct.Struct("!h").unpack_from
pack_i32 = struct.Struct("!i").pack
pack_i16 = struct.Struct("!h").pack
pack_header: Final = struct.Struct("!cI").pack

HEADER_BYTES: Final = 5
DROP_BYTES_MAX: Final = 0x3FFFFFFF
"""PostgreSQL's own bound on a message: beyond it the length is not one."""

M = TypeVar("M")
Decoder = Callable[[bytes, int, int], M]
"""Reads the body data[start:stop] into a message; ValueError, IndexError or struct.error mean it cannot be read."""


class Malformed(msgspec.Struct, frozen=True):
    """A message that could not be read, of type `kind`. After a fatal one the parser stays silent."""

    error: TxndbError
    fatal: bool
    kind: str = ""


def message(kind: bytes, body: bytes) -> bytes:
    """One message with its type byte and length."""
    return pack_header(kind, len(body) + 4) + body


def cstring(data: bytes, start: int, stop: int) -> tuple[str, int]:
    """The zero-terminated string at `start` and the position after it."""
    end = data.index(0, start, stop)
    return data[start:end].decode(), end + 1


def zstring(text: str) -> bytes:
    """A string as the protocol sends it; a zero inside would end it early, which no text can express."""
    raw = text.encode()
    if 0 in raw:
        raise sql_error("22021", "a text sent to a PostgreSQL peer cannot contain a zero character")
    return raw + b"\0"


def read_values(data: bytes, at: int, stop: int) -> tuple[list[bytes | None], int]:
    """The counted values of a row or of a Bind, -1 in place of a length for NULL, and the position after them."""
    count = unpack_u16(data, at)[0]
    at += 2
    values: list[bytes | None] = []
    append = values.append
    for _ in range(count):
        size = unpack_i32(data, at)[0]
        at += 4
        if size >= 0:
            append(data[at : at + size])
            at += size
        elif size == -1:
            append(None)
        else:
            raise ValueError("negative size")
        if at > stop:
            raise ValueError("message too short")
    return values, at


def must_end(at: int, stop: int) -> None:
    """A body must be used up exactly; too short or too long is a violation."""
    if at != stop:
        raise ValueError("message has the wrong length")


def unreadable(kind: int, error: Exception) -> TxndbError:
    """The error for a body that its decoder could not read."""
    if isinstance(error, UnicodeDecodeError):
        bad = " ".join(f"0x{byte:02x}" for byte in error.object[error.start : error.start + 1])
        return sql_error("22021", f'invalid byte sequence for encoding "UTF8": {bad}')
    return ProtocolError(f"invalid message format in message type {chr(kind)!r}")


class Framer(Generic[M]):
    """Cuts a stream and decodes each body by its type. `bounds` gives the largest length field per type."""

    __slots__ = ("_bounds", "_buffer", "_dead", "_decoders", "_drop_max", "_dropping", "_need")

    def __init__(self, decoders: dict[int, Decoder[M]], bounds: dict[int, int]) -> None:
        self._decoders = decoders
        self._bounds = bounds
        self._buffer = bytearray()
        self._need = HEADER_BYTES
        self._dead = False
        self._drop_max = 0
        self._dropping = 0

    def widen(self, bounds: dict[int, int]) -> None:
        """The peer is known: other bounds hold, and a message beyond its bound ends the message, not the stream."""
        self._bounds = bounds
        self._drop_max = DROP_BYTES_MAX

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an unfinished message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[M | Malformed]:
        """The messages completed by `data`, in order."""
        buffer = self._buffer
        if self._dropping:
            dropped = min(self._dropping, len(data))
            self._dropping -= dropped
            data = data[dropped:]
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return []
            data = bytes(buffer)
            buffer.clear()
        if self._dead:
            return []
        out: list[M | Malformed] = []
        at = 0
        end = len(data)
        bounds = self._bounds
        self._need = HEADER_BYTES
        while end - at >= HEADER_BYTES:
            kind = data[at]
            length = unpack_u32(data, at + 1)[0]
            stop = at + 1 + length
            if not 4 <= length <= bounds.get(kind, 0):
                out.append(self._out_of_step(kind, length))
                if self._dead:
                    return out
                self._dropping = max(stop - end, 0)
                at = min(stop, end)
                continue
            if stop > end:
                self._need = 1 + length
                break
            try:
                out.append(self._decoders[kind](data, at + HEADER_BYTES, stop))
            except (ValueError, IndexError, struct.error) as error:
                out.append(Malformed(unreadable(kind, error), False, chr(kind)))
            at = stop
        if at < end:
            buffer += data[at:] if at else data
        return out

    def _out_of_step(self, kind: int, length: int) -> Malformed:
        bound = self._bounds.get(kind, 0)
        if bound > 4 and 4 <= length <= self._drop_max:
            text = f"message of type {chr(kind)!r} has {length} bytes, more than the {bound} allowed"
            return Malformed(sql_error("54000", text), False, chr(kind))
        self._dead = True
        if not bound:
            return Malformed(ProtocolError(f"invalid message type {kind}"), True)
        if length < 4:
            return Malformed(ProtocolError("invalid message length"), True)
        text = f"message of type {chr(kind)!r} has {length} bytes, more than the {bound} allowed"
        return Malformed(sql_error("54000", text), True)
