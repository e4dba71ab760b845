"""Packets and the handshake between members: bytes <-> values, no sockets.

A connection opens with `MAGIC`, then one packet with a `Hello`; the listener answers one packet with a `Welcome`,
which accepts or says why not. After that the dialling side sends packets and the listener only reads: each pair of
members has one connection for each direction, so nobody has to settle which of two simultaneous ones survives.

    packet = body length u32 | CRC-32 of the body u32 | body        (little-endian)
    body   = (frame length u32 | frame)*

Everything sent in one turn of the event loop is one packet: one checksum, one write, one wake-up at the peer.

Invariants:
1. `PacketReader` never holds more than one packet, and a packet is at most `PACKET_BYTES_MAX`.
2. A peer's bytes raise `ProtocolError`, never anything else.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from txndb.errors import ProtocolError
from txndb.limits import FRAME_BYTES_MAX

MAGIC: Final = b"TXNF"
HTTP2_MAGIC: Final = b"PRI "
VERSION: Final = 1
HANDSHAKE_BYTES_MAX: Final = 4096
PACKET_BYTES_MAX: Final = FRAME_BYTES_MAX + 4
PACKET_HEADER: Final = struct.Struct("<II")
_FRAME_HEADER: Final = struct.Struct("<I")


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The dialling member: who it is, and whom it expects to find."""

    version: int
    cluster_id: bytes
    node: int
    incarnation: int
    to: int


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The listener's answer; `error` is empty when it accepts."""

    version: int
    node: int
    incarnation: int
    error: str = ""


_HELLO: Final = msgspec.msgpack.Decoder(Hello)
_WELCOME: Final = msgspec.msgpack.Decoder(Welcome)


def encode_packet(frames: Sequence[bytes]) -> bytes:
    """One packet holding `frames`; the caller keeps the sum within `PACKET_BYTES_MAX`."""
    parts: list[bytes] = []
    for frame in frames:
        parts.append(len(frame).to_bytes(4, "little"))
        parts.append(frame)
    body = b"".join(parts)
    return PACKET_HEADER.pack(len(body), zlib.crc32(body)) + body


def encode_hello(hello: Hello) -> bytes:
    return MAGIC + encode_packet([msgspec.msgpack.encode(hello)])


def encode_welcome(welcome: Welcome) -> bytes:
    return encode_packet([msgspec.msgpack.encode(welcome)])


def decode_hello(frame: bytes) -> Hello:
    """The hello in a frame; `ProtocolError` when it is none."""
    try:
        return _HELLO.decode(frame)
    except msgspec.DecodeError as e:
        raise ProtocolError(f"malformed peer hello: {e}") from None


def decode_welcome(frame: bytes) -> Welcome:
    """The welcome in a frame; `ProtocolError` when it is none."""
    try:
        return _WELCOME.decode(frame)
    except msgspec.DecodeError as e:
        raise ProtocolError(f"malformed answer to a peer hello: {e}") from None


class PacketReader:
    """Turns a stream of bytes into frames."""

    __slots__ = ("_buffer", "_need", "bytes_max")

    def __init__(self, bytes_max: int = PACKET_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._buffer = bytearray()
        self._need = PACKET_HEADER.size

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the frames of all packets completed by them."""
        if self._buffer:
            # A large packet arrives in many pieces: they are looked at again only once it is whole.
            self._buffer += data
            if len(self._buffer) < self._need:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        frames: list[bytes] = []
        offset, size = 0, len(data)
        self._need = PACKET_HEADER.size
        while size - offset >= PACKET_HEADER.size:
            length, checksum = PACKET_HEADER.unpack_from(data, offset)
            if length > self.bytes_max:
                raise ProtocolError(
                    f"a peer announced a packet of {length} bytes, the limit is {self.bytes_max}"
                )
            end = offset + PACKET_HEADER.size + length
            if end > size:
                self._need = end - offset
                break
            self._split(data, offset + PACKET_HEADER.size, end, checksum, frames)
            offset = end
        if offset < size:
            self._buffer += data[offset:]
        return frames

    def rest(self) -> bytes:
        """What was received and belongs to no completed packet."""
        return bytes(self._buffer)

    @staticmethod
    def _split(data: bytes, start: int, end: int, checksum: int, frames: list[bytes]) -> None:
        if zlib.crc32(memoryview(data)[start:end]) != checksum:
            raise ProtocolError("a peer's packet does not match its checksum")
        while start < end:
            if end - start < 4:
                raise ProtocolError("a peer's packet ends inside a frame header")
            (length,) = _FRAME_HEADER.unpack_from(data, start)
            start += 4
            if length > end - start:
                raise ProtocolError("a peer's frame reaches beyond its packet")
            frames.append(data[start : start + length])
            start += length
