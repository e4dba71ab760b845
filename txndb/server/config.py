"""What a node is started with: addresses, data directory, time source – checked before anything is opened.

An address is HOST:PORT. Without a port, or with port 0, a free one is taken and remembered in the data directory, so
that a restart comes back where its peers and clients look for it. Without the option at all the well-known port is
tried first.

There is no TLS yet: a listener that other machines can reach is refused unless the operator says `--insecure`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from txndb.cluster.addresses import parse_address
from txndb.errors import ProtocolError, SqlError, StoreError
from txndb.limits import CEILINGS, DRAIN_S, NodeLimits
from txndb.sql.session.settings import Settings

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORTS: Final = {"sql": 7432, "rpc": 7433, "http": 7480}


class ConfigError(StoreError, sqlstate="F0000"):
    """The node was started with options that do not make sense."""


@dataclass(frozen=True)
class Listener:
    """Where to listen. `port` 0: any free port. `fallback`: any free one too if `port` is taken."""

    host: str
    port: int
    fallback: bool = False


@dataclass(frozen=True)
class ServerConfig:
    """The options of one node; `data_dir` is None for a node that lives in memory only."""

    data_dir: Path | None
    sql: str | None = None
    rpc: str | None = None
    http: str | None = None
    advertise: str | None = None
    join: tuple[str, ...] = ()
    locality: dict[str, str] = field(default_factory=dict)
    insecure: bool = False
    clock: str = "auto"
    store: str = "rocksdb"
    ready_file: Path | None = None
    drain_timeout_s: float = DRAIN_S
    limits: NodeLimits = field(default_factory=NodeLimits)
    settings: dict[str, str] = field(default_factory=dict)
    """What session parameters are at this node where the client does not say."""
    stop_with_stdin: bool = False
    """Stop when standard input ends: a node then never outlives the program that started it."""

    def listeners(self, remembered: dict[str, str]) -> dict[str, Listener]:
        """The three listeners, with what the data directory remembers filled in; `ConfigError` if one may not be."""
        found = {name: self._listener(name, remembered.get(name)) for name in DEFAULT_PORTS}
        if not self.insecure:
            for name, listener in found.items():
                if not is_loopback(listener.host):
                    raise ConfigError(
                        f"--{name} {listener.host} can be reached from other machines, and there is no TLS yet",
                        hint="Listen on 127.0.0.1, or pass --insecure if the network is trusted.",
                    )
        return found

    def _listener(self, name: str, remembered: str | None) -> Listener:
        given: str | None = getattr(self, name)
        if given is None:
            if remembered is not None:
                return Listener(*parse_address(remembered))
            return Listener(DEFAULT_HOST, DEFAULT_PORTS[name], fallback=True)
        try:
            host, port = parse_address(given if ":" in given else f"{given}:0")
        except ProtocolError as e:
            raise ConfigError(f"--{name}: {e.message}") from None
        if port == 0 and remembered is not None:
            old_host, old_port = parse_address(remembered)
            if old_host == host:
                return Listener(host, old_port)
        return Listener(host, port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_advertise(text: str) -> str:
    """Check "host" or "host:port": what other members would be told, and would have to dial."""
    try:
        _, port = parse_address(text if ":" in text else f"{text}:{DEFAULT_PORTS['rpc']}")
    except ProtocolError as e:
        raise ConfigError(f"--advertise: {e.message}") from None
    if port == 0 or text.startswith(":") or not text:
        raise ConfigError(f'--advertise: "{text}" is not an address that others can dial')
    return text


def parse_locality(text: str) -> dict[str, str]:
    """Parse "region=eu,zone=a"; the order is kept, outermost first."""
    locality: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not (key and equals and value) or key in locality:
            raise ConfigError(f"--locality {text}: expected KEY=VALUE,… with each key once")
        locality[key] = value
    return locality


_NUMBER: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)\Z")
_BYTES: Final = {"": 1, "B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3}
_US: Final = {"us": 1, "ms": 1000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000}


def parse_limits(texts: Sequence[str]) -> NodeLimits:
    """Parse NAME=VALUE each: `connections=200`, `transaction_bytes=16MB`, `lock_wait=30s`. `ConfigError` for a name
    that there is not, or a value that is no number of its unit or beyond what other parts rely on."""
    known = {name.removesuffix("_us"): name for name in NodeLimits.__struct_fields__}
    given: dict[str, int] = {}
    for text in texts:
        name, _, value = text.partition("=")
        key = known.get(name)
        if key is None:
            raise ConfigError(f"--limit {text}: there is no such limit", hint=f"Limits: {', '.join(known)}.")
        units = _US if key.endswith("_us") else _BYTES if key.endswith("_bytes") else {"": 1}
        found = _NUMBER.match(value)
        if found is None or (found[2] not in units and (found[1], found[2]) != ("0", "")):
            names = ", ".join(unit for unit in units if unit)
            raise ConfigError(f"--limit {text}: expected a number{f' with a unit: {names}' if names else ''}")
        number = int(float(found[1]) * units.get(found[2], 1))
        if number > CEILINGS.get(key, number) or (number == 0 and key != "lock_wait_us"):
            raise ConfigError(f"--limit {text}: expected 1 … {CEILINGS.get(key, 'any')}")
        given[key] = number
    return NodeLimits(**given)


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """Parse PARAMETER=VALUE each, as SET takes it."""
    settings = Settings({})
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: expected PARAMETER=VALUE")
        try:
            found[name.strip().lower()] = settings.check(name.strip(), value.strip())
        except SqlError as e:
            raise ConfigError(f"--set {text}: {e.message}") from None
    return found


def parse_join(text: str) -> tuple[str, ...]:
    """Parse "host:port,host:port"; the default port may be left out."""
    addresses = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        address = part if ":" in part else f"{part}:{DEFAULT_PORTS['rpc']}"
        try:
            parse_address(address)
        except ProtocolError as e:
            raise ConfigError(f"--join: {e.message}") from None
        addresses.append(address)
    return tuple(addresses)
