"""A connection from this program to a node of a simulated cluster: the real driver, the real front door, virtual time.

    driver --send--> Link --60 us--> PgConnection (in the node's process) --write--> NodeTransport --60 us--> Link

The driver's conversation (`txndb.client.wire.Wire`) blocks in `recv`; here that lets virtual time pass until an answer
is there. Between two calls of the driver the world stands still.

Invariants
1. What happens depends on the world's seed and on what the program does, never on the real clock.
2. A node that dies resets its connections; one that is paused or cut off from its peers is waited for, at most
   `answer_bound_us` of virtual time.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, cast

from txndb.client.errors import lost
from txndb.client.wire import Wire
from txndb.pgwire import frontend
from txndb.server.pg import PgServer
from txndb.server.pg_connection import PgConnection
from txndb.sim.host import SimHost
from txndb.sim.loop import VirtualLoop
from txndb.testing.retryfilter import RetryFilter

WIRE_US: Final = 60
ANSWER_BOUND_US: Final = 120_000_000
_NOWHERE: Final = Context()


class NodeTransport(asyncio.Transport):
    """The node's end: what it writes arrives at the link a little later."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._link.arrive(bytes(data))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._link.arrive(b"")

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        """A program that waits for an answer sends nothing."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The link takes everything at once."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 0) if name == "peername" else default


class Link:
    """The program's end, with the few methods of a socket that the driver uses."""

    def __init__(
        self,
        host: SimHost,
        server: PgServer,
        advance: Callable[[], None],
        failures: RetryFilter,
        answer_bound_us: int = ANSWER_BOUND_US,
    ) -> None:
        assert host.incarnation is not None
        self._loop: VirtualLoop = host.shared.loop
        self._incarnation = host.incarnation
        self._advance = advance
        self._filter = failures
        self._bound_us = answer_bound_us
        self._received = bytearray()
        self._ended = False
        self._closed = False
        self._watch = self._incarnation.watch_death(self._reset)
        self._protocol = PgConnection(server)
        self._at_node(self._protocol.connection_made, NodeTransport(self))

    @property
    def is_alive(self) -> bool:
        """Whether the node has said neither goodbye nor anything else unasked."""
        return not self._ended and not self._received

    def sendall(self, data: bytes) -> None:
        """The bytes set out for the node."""
        if self._ended or self._closed:
            raise ConnectionResetError(errno.ECONNRESET, "the connection was reset by the node")
        onward, back = self._filter.from_client(data)
        self._received += back
        if onward:
            self._at_node(self._protocol.data_received, onward)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """What has arrived; virtual time passes until something has. With `flags` (MSG_DONTWAIT) it does not."""
        limit_us = self._loop.now_us + self._bound_us
        while not self._received and not self._ended and not flags:
            if self._loop.now_us >= limit_us:
                raise TimeoutError(errno.ETIMEDOUT, "no answer within the bound of virtual time")
            self._advance()
        if not self._received:
            if flags and not self._ended:
                raise BlockingIOError(errno.EAGAIN, "nothing has arrived")
            return b""
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def close(self) -> None:
        """Hang up; the node notices and rolls back."""
        if not self._closed:
            self._closed = True
            self._incarnation.unwatch_death(self._watch)
            self._at_node(self._protocol.connection_lost, None)

    def arrive(self, data: bytes) -> None:
        """The node wrote (or, with nothing, closed): that is here after the wire's delay."""
        self._loop.call_at_us(self._loop.now_us + WIRE_US, self._take, data, context=_NOWHERE)

    def _take(self, data: bytes) -> None:
        if not data:
            self._ended = True
        elif not self._closed:
            self._received += self._filter.from_server(data)

    def _reset(self) -> None:
        self._loop.call_at_us(self._loop.now_us + WIRE_US, self._take, b"", context=_NOWHERE)

    def _at_node(self, callback: Callable[..., object], *args: Any) -> None:
        when_us = self._loop.now_us + WIRE_US
        self._loop.call_at_us(when_us, callback, *args, context=self._incarnation.context)


class SimulatedWire(Wire):
    """The driver's conversation over a link."""

    def __init__(self, link: Link, dial: Callable[[], Link]) -> None:
        super().__init__(cast(Any, link), cast(Any, dial))
        self._link = link
        self._dial_link = dial

    def alive(self) -> bool:
        """Whether the node still listens."""
        if not self.closed and not self._link.is_alive:
            self._drop()
        return not self.closed

    def cancel(self) -> None:
        """End what runs here with 57014."""
        link = self._dial_link()
        link.sendall(frontend.cancel_request(*self._key))
        link.recv(1)
        link.close()

    def close(self) -> None:
        """Leave; the server rolls back what is open."""
        self._drop()

    def _send(self, data: bytes) -> None:
        if self.closed:
            raise lost("the connection is closed", "08003")
        try:
            self._link.sendall(data)
        except OSError as error:
            self._drop()
            raise lost(f"the connection was lost: {error.strerror or error}") from error
