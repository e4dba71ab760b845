"""The handshake between members: bytes <-> values, no sockets.

A connection opens with `MAGIC`, then one packet with a `Hello`; the listener answers one packet with a `Welcome`,
which accepts or says why not. After that the dialling side sends packets and the listener only reads: each pair of
members has one connection for each direction, so nobody has to settle which of two simultaneous ones survives.

What a packet is stands in `txndb.cluster.packets`.

Invariant: a peer's bytes raise `ProtocolError`, never anything else.
"""

from __future__ import annotations

from typing import Final

import msgspec

from txndb.cluster.envelopes import PROTOCOL_VERSION
from txndb.cluster.packets import encode_packet
from txndb.errors import ProtocolError

MAGIC: Final = b"TXNF"
HTTP2_MAGIC: Final = b"PRI "
VERSION: Final = PROTOCOL_VERSION
HANDSHAKE_BYTES_MAX: Final = 4096


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


def encode_hello(hello: Hello) -> bytes:
    return MAGIC + encode_packet([msgspec.msgpack.encode(hello)])


def encode_welcome(welcome: Welcome) -> bytes:
    return encode_packet([msgspec.msgpack.encode(welcome)])


def decode_hello(frame: bytes) -> Hello:
    """The hello in a frame; `ProtocolError` when it is none."""
    try:
        return _HELLO.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ProtocolError(f"malformed peer hello: {e}") from None


def decode_welcome(frame: bytes) -> Welcome:
    """The welcome in a frame; `ProtocolError` when it is none."""
    try:
        return _WELCOME.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ProtocolError(f"malformed answer to a peer hello: {e}") from None
