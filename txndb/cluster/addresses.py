"""What an address is: "host:port", as options give it and as members tell it to each other."""

from __future__ import annotations

import ipaddress

from txndb.errors import ProtocolError


def parse_address(address: str) -> tuple[str, int]:
    """Split "host:port" (IPv6 in brackets); `ProtocolError` when it is not that, or when nobody could look the host
    up: a resolver does not answer for such a name, it raises what no caller expects of a dial."""
    host, colon, port = address.rpartition(":")
    host = host.strip("[]")
    if not colon or not (port.isascii() and port.isdecimal()) or len(port) > 5 or int(port) > 65_535:
        raise ProtocolError(f'"{address}" is not an address: expected HOST:PORT')
    if host and not _can_be_looked_up(host):
        raise ProtocolError(f'"{address}" is not an address: "{host}" is not the name of a host')
    return host or "127.0.0.1", int(port)


def _can_be_looked_up(host: str) -> bool:
    if not host.isprintable() or " " in host:
        return False
    try:
        if ":" in host:
            ipaddress.IPv6Address(host)
        else:
            host.encode("idna")
    except ValueError:  # UnicodeError is one: an empty label, or one of more than 63 letters
        return False
    return True
