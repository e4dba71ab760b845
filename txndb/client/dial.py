"""Opening conversations: over TCP to the first host of a target that answers, or to a node inside this process.

Hosts are tried in order, starting at the one that answered last, so a program stays where it is until that host fails.
An embedded node is shared by all connections to the same directory in this process (which holds the lock on its files)
and by `Connection.clone`; it closes with the last of them.
"""

from __future__ import annotations

import socket
import threading
from typing import Final, Protocol

from txndb.client.errors import Error, OperationalError, from_node, lost
from txndb.client.target import Target
from txndb.client.wire import Wire
from txndb.errors import TxndbError

APPLICATION_NAME: Final = "txndb"
_REFUSALS_PASSED: Final = frozenset(("57P03", "57P01", "53300"))
"""A host that says this is alive but not for us now: the next one may do."""

_DEAD_HOST_OPTIONS: Final = (
    ("TCP_KEEPIDLE", 10),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 3),
)
"""A host that lost its power sends no goodbye: after about 25 s without a sign of it the wait ends. There is no
TCP_USER_TIMEOUT: it would also cut a COPY whose server is alive and holds us up."""


class EmbeddedNode(Protocol):
    """What `txndb.server.embedded.open_embedded` gives."""

    def connect(self) -> socket.socket: ...
    def close(self) -> None: ...


class Dialer(Protocol):
    """Where a connection gets its conversations from."""

    @property
    def where(self) -> str: ...
    def open(self, settings: dict[str, str]) -> Wire: ...
    def share(self) -> Dialer: ...
    def close(self) -> None: ...


class TcpDialer:
    """Conversations with the hosts of a URL."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._first = 0

    @property
    def where(self) -> str:
        """user@host:port/database of the host in use."""
        host, port = self._target.hosts[self._first]
        return f"{self._target.user}@{host}:{port}/{self._target.database}"

    def open(self, settings: dict[str, str]) -> Wire:
        """A started conversation with the first host that answers; the last refusal when none does."""
        hosts = self._target.hosts
        failure: Error | None = None
        for offset in range(len(hosts)):
            index = (self._first + offset) % len(hosts)
            try:
                wire = self._open_host(hosts[index], settings)
            except OSError as error:
                host, port = hosts[index]
                failure = lost(f"cannot connect to {host}:{port}: {error.strerror or error}", "08001")
            except OperationalError as error:
                if error.sqlstate not in _REFUSALS_PASSED and not error.sqlstate.startswith("08"):
                    raise
                failure = error
            else:
                self._first = index
                return wire
        assert failure is not None
        raise failure

    def _open_host(self, host: tuple[str, int], settings: dict[str, str]) -> Wire:
        target = self._target

        def dial() -> socket.socket:
            made = socket.create_connection(host, timeout=target.connect_timeout_s)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _DEAD_HOST_OPTIONS:
                if hasattr(socket, option):  # not every system has all of them
                    made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            return made

        sock = dial()
        wire = Wire(sock, dial)
        wire.start(target.user, target.password, {"database": target.database, **settings})
        sock.settimeout(None)
        return wire

    def share(self) -> TcpDialer:
        """For another connection to the same cluster."""
        made = TcpDialer(self._target)
        made._first = self._first
        return made

    def close(self) -> None:
        """Nothing is held."""


class _Shared:
    """One embedded node and how many connections use it."""

    def __init__(self, node: EmbeddedNode, path: str | None) -> None:
        self.node = node
        self.path = path
        self.users = 0


class EmbeddedDialer:
    """Conversations with a node inside this process."""

    # The one process-wide table: a directory is locked by the process, so its node must be found again.
    _open_paths: Final[dict[str, _Shared]] = {}
    _lock: Final = threading.Lock()

    def __init__(self, target: Target, shared: _Shared | None = None) -> None:
        self._target = target
        with self._lock:
            self._shared: _Shared | None = shared or self._find(target.path)
            self._shared.users += 1

    def _find(self, path: str | None) -> _Shared:
        found = self._open_paths.get(path) if path is not None else None
        if found is None:
            from txndb.server.embedded import open_embedded

            try:
                found = _Shared(open_embedded(path), path)
            except TxndbError as error:
                raise from_node(error) from error
            if path is not None:
                self._open_paths[path] = found
        return found

    @property
    def where(self) -> str:
        """user@embedded/database."""
        return f"{self._target.user}@embedded/{self._target.database}"

    def open(self, settings: dict[str, str]) -> Wire:
        """A started conversation with the node."""
        shared = self._shared
        if shared is None:
            raise lost("the connection is closed", "08003")
        try:
            wire = Wire(shared.node.connect(), shared.node.connect, local=True)
        except TxndbError as error:
            raise from_node(error) from error
        wire.start(self._target.user, self._target.password, {"database": self._target.database, **settings})
        return wire

    def share(self) -> EmbeddedDialer:
        """For another connection to the same node."""
        return EmbeddedDialer(self._target, self._shared)

    def close(self) -> None:
        """Let go of the node; the last one closes it."""
        with self._lock:
            shared, self._shared = self._shared, None
            if shared is None:
                return
            shared.users -= 1
            if shared.users:
                return
            if shared.path is not None:
                del self._open_paths[shared.path]
            shared.node.close()


def dialer_for(target: Target) -> Dialer:
    """The dialer a target asks for."""
    return EmbeddedDialer(target) if target.embedded else TcpDialer(target)
