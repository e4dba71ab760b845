"""Packets: how frames travel between members – lengths and a checksum around bytes, no sockets and no meaning.

    packet = body length u32 | CRC-32 of the body u32 | body        (little-endian)
    body   = (frame length u32 | frame)*

Everything sent in one turn of the event loop is one packet: one checksum, one write, one wake-up at the peer. A packet
that does not match its checksum ends the connection, so a damaged frame is a lost frame: it never has an effect.

Invariants:
1. `PacketReader` never holds more than one packet, and a packet is at most `PACKET_BYTES_MAX`.
2. A peer's bytes raise `ProtocolError`, never anything else.

Used by `txndb.server.peers` on sockets, and by the simulated network on the frames that it damages.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

from txndb.errors import ProtocolError
from txndb.limits import FRAME_BYTES_MAX

PACKET_BYTES_MAX: Final = FRAME_BYTES_MAX + 4
PACKET_HEADER: Final = struct.Struct("<II")
_FRAME_HEADER: Final = struct.Struct("<I")


def encode_packet(frames: Sequence[bytes]) -> bytes:
    """One packet holding `frames`; the caller keeps the sum within `PACKET_BYTES_MAX`."""
    parts: list[bytes] = []
    for frame in frames:
        parts.append(len(frame).to_bytes(4, "little"))
        parts.append(frame)
    body = b"".join(parts)
    return PACKET_HEADER.pack(len(body), zlib.crc32(body)) + body


class PacketReader:
    """Turns a stream of bytes into frames. `checked` is false only in test builds: damage must then be seen later."""

    __slots__ = ("_buffer", "_checked", "_need", "bytes_max")

    def __init__(self, bytes_max: int = PACKET_BYTES_MAX, *, checked: bool = True) -> None:
        self.bytes_max = bytes_max
        self._checked = checked
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

    def _split(self, data: bytes, start: int, end: int, checksum: int, frames: list[bytes]) -> None:
        if self._checked and zlib.crc32(memoryview(data)[start:end]) != checksum:
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
