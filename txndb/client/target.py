"""What `connect` is given: in memory, a directory, or hosts of a cluster."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from txndb.client.errors import InterfaceError

DEFAULT_PORT: Final = 7432
DEFAULT_USER: Final = "root"
DEFAULT_DATABASE: Final = "defaultdb"
CONNECT_TIMEOUT_S: Final = 10.0
_PORT_MAX: Final = 65535
_SCHEMES: Final = ("txndb://", "postgresql://", "postgres://")


class Target(msgspec.Struct, frozen=True):
    """Where to connect. No hosts: embedded, in memory when `path` is None."""

    hosts: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    user: str = DEFAULT_USER
    password: str = ""
    database: str = DEFAULT_DATABASE
    settings: tuple[tuple[str, str], ...] = ()
    connect_timeout_s: float | None = CONNECT_TIMEOUT_S

    @property
    def embedded(self) -> bool:
        """The database runs in this process."""
        return not self.hosts


def parse_target(target: str | os.PathLike[str] | None) -> Target:
    """None or ":memory:" = in memory, a URL = a cluster, anything else = a directory."""
    if target is None or target == ":memory:":
        return Target()
    text = os.fspath(target)
    for scheme in _SCHEMES:
        if text.startswith(scheme):
            return _parse_url(text[len(scheme) :], scheme)
    if "://" in text:
        raise InterfaceError(
            f"unknown kind of target {text!r}: use txndb://host:port/database or a directory"
        )
    try:
        return Target(path=os.path.realpath(text))
    except ValueError as error:  # a zero, or half of a surrogate pair
        raise InterfaceError(f"{text!r} cannot be a directory: {error}") from None


def _parse_url(rest: str, scheme: str) -> Target:
    rest, _, query = rest.partition("?")
    authority, _, database = rest.partition("/")
    credentials, at, host_list = authority.rpartition("@")
    user, _, password = credentials.partition(":") if at else ("", "", "")
    settings = []
    timeout: float | None = CONNECT_TIMEOUT_S
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "connect_timeout":
            timeout = _timeout(value)
        elif name != "sslmode":
            settings.append((name, value))
        elif value in ("require", "verify-ca", "verify-full"):
            raise InterfaceError(f"sslmode={value} is not supported: the server does not speak TLS yet")
    hosts = tuple(_host(part, scheme) for part in host_list.split(",")) if host_list else (_host("", scheme),)
    return Target(
        hosts=hosts,
        user=unquote(user) or DEFAULT_USER,
        password=unquote(password),
        database=unquote(database) or DEFAULT_DATABASE,
        settings=tuple(settings),
        connect_timeout_s=timeout,
    )


def _timeout(text: str) -> float | None:
    """Seconds; None, which is no limit, for 0 (as in libpq)."""
    if not text.isdecimal():
        raise InterfaceError(f"connect_timeout={text} is not a whole number of seconds")
    return float(text) or None


def _host(part: str, scheme: str) -> tuple[str, int]:
    default = DEFAULT_PORT if scheme == "txndb://" else 5432
    if part.startswith("["):
        host, _, port = part[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = part.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) <= _PORT_MAX):
        raise InterfaceError(f"{port!r} is not a port")
    return unquote(host) or "127.0.0.1", int(port) if port else default
