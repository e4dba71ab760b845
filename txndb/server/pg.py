"""The PostgreSQL front door: sockets and pgwire on one side, the Session API on the other.

`PgServer` listens and keeps the connections; `pg_connection.PgConnection` is one of them. A cancel request arrives on a
connection of its own and is matched here by process id and secret (PostgreSQL 15 documentation, 55.2.8).

Invariants:
1. At most `connections` sessions; one more is refused with 53300 before a session is made. Of those that are not
   logged in yet there are at most as many again, and CANCELS_MAX more for cancel requests.
2. Only loopback peers and in-process sockets are trusted without a password, unless the server was started with
   `trust_remote` (the operator's `--insecure`).
3. After `drain` nobody new is let in, and each connection ends with 57P01 as soon as it is outside a transaction, at
   the latest after the timeout.

It does not speak TLS yet: SSLRequest is answered N. Driven by asyncio; made by the node's start-up.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from typing import Final

from txndb.limits import CONNECTIONS_LEAVE_S, NodeLimits
from txndb.server.pg_connection import PgConnection
from txndb.server.pg_contract import NewSession, TypeIO
from txndb.server.pg_shapes import Shapes

BACKLOG: Final = 1024
CANCELS_MAX: Final = 16
DEFAULT_LIMITS: Final = NodeLimits()


class PgServer:
    """Accepts PostgreSQL clients and serves them from sessions that `new_session(user, database, options)` makes."""

    def __init__(
        self,
        new_session: NewSession,
        *,
        types: TypeIO | None = None,
        limits: NodeLimits = DEFAULT_LIMITS,
        trust_remote: bool = False,
    ) -> None:
        if types is None:
            from txndb.server.pg_types import SqlTypeIO

            types = SqlTypeIO()
        self.new_session = new_session
        self.shapes = Shapes(types)
        self.limits = limits
        self.trust_remote = trust_remote
        self.draining = False
        self._listener: asyncio.Server | None = None
        self._connections: dict[int, PgConnection] = {}
        self._tasks: dict[asyncio.Task[None], PgConnection] = {}
        self._next_process_id = secrets.randbelow(1 << 16) + 1

    async def start(self, host: str, port: int) -> int:
        """Listen; port 0 takes a free one. Returns the port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: PgConnection(self), host, port, backlog=BACKLOG, reuse_address=True
        )
        return int(self._listener.sockets[0].getsockname()[1])

    async def attach(self, sock: socket.socket) -> None:
        """Serve one already connected socket, such as one end of a socketpair."""
        await asyncio.get_running_loop().create_connection(lambda: PgConnection(self), sock=sock)

    @property
    def connection_count(self) -> int:
        """Sessions open now."""
        return len(self._connections)

    def register(self, connection: PgConnection) -> tuple[int, int] | None:
        """Admit a connection: its process id and cancel secret, or None when there are too many."""
        if len(self._connections) >= self.limits.connections:
            return None
        process_id = self._next_process_id
        self._next_process_id = process_id % 0x7FFFFFFF + 1
        self._connections[process_id] = connection
        return process_id, secrets.randbits(32)

    def unregister(self, process_id: int) -> None:
        """The connection is gone."""
        self._connections.pop(process_id, None)

    def is_full(self) -> bool:
        """Whether so many connections are open, logged in or not, that one more is not even heard."""
        return len(self._tasks) >= 2 * self.limits.connections + CANCELS_MAX

    def track(self, task: asyncio.Task[None], connection: PgConnection) -> None:
        """Remember a connection's task until it ends."""
        self._tasks[task] = connection
        task.add_done_callback(self._tasks.pop)

    def cancel(self, process_id: int, secret: int) -> None:
        """A CancelRequest: cancels what the named connection runs if the secret is right, and says nothing."""
        connection = self._connections.get(process_id)
        if connection is not None:
            given, kept = secret.to_bytes(4, "big"), connection.secret.to_bytes(4, "big")
            if hmac.compare_digest(given, kept):
                connection.cancel_statement()

    async def drain(self, timeout: float) -> None:
        """Stop listening, let transactions end, then end every connection with 57P01. A COMMIT that was sent is still
        waiting for its outcome then, which only the end of the node ends (rule M7): `close` is for after that."""
        self._stop_listening()
        for connection in list(self._tasks.values()):
            connection.leave_when_idle()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CONNECTIONS_LEAVE_S)

    async def close(self) -> None:
        """End every connection now."""
        self._stop_listening()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _stop_listening(self) -> None:
        self.draining = True
        if self._listener is not None:
            self._listener.close()
            self._listener = None
