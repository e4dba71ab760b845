"""Envelopes: calls between members, their answers, and the messages of snapshots – a checksum around bytes, no sockets.

    envelope = protocol version u8 | CRC-32 u32 | body        (little-endian)

    call     = (method, payload)                  answer = 0 payload | 1 error

Calls and snapshots travel over gRPC, which has no checksum of its own, and TCP's sees one damaged segment in 65,536
pass. What is damaged counts as lost: `DamagedError` at whoever receives it, and at whoever waits for its answer.

In a stream (`Chain`) each checksum begins with the one before, so a message that is missing, repeated or out of place
does not match either, nor does one of another stream.

Invariants:
1. A peer's bytes raise `TxndbError`, never anything else: `DamagedError` where they are not what was sent.
2. An answer is the callee's, success or error, or it is a `DamagedError`, which says nothing of what the callee did.

Frames have the checksum of their packet (`txndb.cluster.packets`). Used by `txndb.server.rpc` on gRPC, by the simulated
network, and by `txndb.cluster.snapshots`.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import msgspec

from txndb.errors import DamagedError, InternalError, ProtocolError, SqlError, TxndbError

PROTOCOL_VERSION: Final = 2
"""What members speak with each other; 1 had no checksums around calls and snapshots."""
_HEADER: Final = struct.Struct("<BI")
_ANSWER: Final = b"\x00"
_ERROR: Final = b"\x01"
_ERROR_TEXT_CHARS_MAX: Final = 1500


class Chain:
    """The checksums of one direction of a stream, message after message; sender and receiver have one each.

    `checked` is false only in test builds, to see that damage would be noticed without it.
    """

    __slots__ = ("_checked", "_checksum")

    def __init__(self, *, checked: bool = True) -> None:
        self._checked = checked
        self._checksum = 0

    def seal(self, body: bytes) -> bytes:
        """The envelope of the stream's next message, which is not empty."""
        self._checksum = zlib.crc32(body, self._checksum)
        return _HEADER.pack(PROTOCOL_VERSION, self._checksum) + body

    def open(self, envelope: bytes) -> bytes:
        """What `seal` was given, or `DamagedError`: then nothing of the stream is to be used."""
        if len(envelope) <= _HEADER.size:
            raise DamagedError("a message of another node arrived without its end")
        version, checksum = _HEADER.unpack_from(envelope)
        if self._checked and version != PROTOCOL_VERSION:
            raise DamagedError("a message of another node is damaged, or of another version of the protocol")
        body = envelope[_HEADER.size :]
        self._checksum = zlib.crc32(body, self._checksum)
        if self._checked and checksum != self._checksum:
            raise DamagedError("a message of another node arrived damaged")
        return body


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One unary call."""

    method: str
    payload: bytes


class WireError(msgspec.Struct, frozen=True, array_like=True):
    """A `TxndbError` on its way to the caller."""

    sqlstate: str
    message: str
    detail: str = ""
    hint: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode_call = msgspec.msgpack.Decoder(Call).decode
_decode_error = msgspec.msgpack.Decoder(WireError).decode


def encode_call(method: str, payload: bytes) -> bytes:
    return Chain().seal(_encode(Call(method, payload)))


def decode_call(request: bytes, *, checked: bool = True) -> Call:
    """The call in a request. Raises `DamagedError`, or `ProtocolError` when it is none."""
    try:
        return _decode_call(Chain(checked=checked).open(request))
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ProtocolError(f"malformed call: {e}") from None


def encode_answer(payload: bytes) -> bytes:
    return Chain().seal(_ANSWER + payload)


def encode_error(error: TxndbError) -> bytes:
    """The answer that raises this error at the caller; long texts are cut."""
    return Chain().seal(_ERROR + to_wire(error))


def decode_answer(answer: bytes, *, checked: bool = True) -> bytes:
    """The callee's payload. Raises the callee's error, or `DamagedError`: what it did is not known then."""
    body = Chain(checked=checked).open(answer)
    if body.startswith(_ERROR):
        raise from_wire(body[1:])
    if not body.startswith(_ANSWER):
        raise ProtocolError("malformed answer to a call")
    return body[1:]


def to_wire(error: TxndbError) -> bytes:
    """The bytes of an error."""
    cut = _ERROR_TEXT_CHARS_MAX
    return _encode(WireError(error.code, error.message[:cut], error.detail[:cut], error.hint[:cut]))


def from_wire(data: bytes) -> TxndbError:
    """The error that `to_wire` was given, of its own class again, and marked as a peer's."""
    error = _from_wire(data)
    error.of_peer = True
    return error


def _from_wire(data: bytes) -> TxndbError:
    try:
        wire = _decode_error(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        return InternalError(f"malformed error from a peer: {e}")
    cls = _classes().get(wire.sqlstate)
    if cls is None:
        return SqlError(wire.sqlstate, wire.message, detail=wire.detail, hint=wire.hint)
    return cls(wire.message, detail=wire.detail, hint=wire.hint)


def _classes() -> dict[str, type[TxndbError]]:
    """The class to raise for each SQLSTATE: the ones code catches by class."""
    found: dict[str, type[TxndbError]] = {}
    classes: list[type[TxndbError]] = [*TxndbError.__subclasses__(), DamagedError]
    for cls in classes:
        if cls is not SqlError:
            found.setdefault(cls.sqlstate, cls)
    return found
