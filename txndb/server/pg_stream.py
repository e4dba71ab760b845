"""The bytes of one PostgreSQL connection: messages in through a bounded queue, answers out as fast as they are read.

Invariants:
1. Reading pauses while QUEUE_BYTES_MAX bytes of messages wait.
2. Whoever writes waits at the transport's high-water mark (`_drain`), for at most `unread_us`: a client that leaves its
   answer unread for that long is disconnected.
3. After the connection is lost every wait ends with `GoneError`.

It does not know what messages mean. Driven by asyncio and by the task of `pg_connection.PgConnection`.
"""

from __future__ import annotations

import abc
import asyncio
import logging
from collections import deque
from typing import Any, Final

from txndb.limits import NodeLimits
from txndb.pgwire import frontend
from txndb.server.pg_contract import WireBound

QUEUE_BYTES_MAX: Final = 1024 * 1024

log = logging.getLogger(__name__)


class GoneError(Exception):
    """The client's connection is lost or the conversation is over; nothing more can be said."""


class PgStream(asyncio.Protocol, abc.ABC):
    """See the module's specification."""

    process_id: int

    def __init__(self, limits: NodeLimits) -> None:
        self._limits = limits
        self._parser = frontend.FrontendParser(limits)
        self._queue: deque[Any] = deque()
        self._queued_bytes = 0
        self._out: list[bytes] = []
        self._complete_at = -1
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing_paused = False
        self._gone = False

    @abc.abstractmethod
    def cancel_statement(self) -> None:
        """End the running statement, if there is one."""

    @abc.abstractmethod
    def _maybe_leave(self) -> None:
        """Called before each wait for a message: raises `GoneError` if the conversation is to end here."""

    # in

    def data_received(self, data: bytes) -> None:
        if self._gone:
            return
        queue = self._queue
        queue.extend(self._parser.feed(data))
        self._queued_bytes += len(data)
        if self._queued_bytes > QUEUE_BYTES_MAX and queue and not self._reading_paused:
            self._reading_paused = True
            assert self._transport is not None
            self._transport.pause_reading()
        if queue and self._waiter is not None:
            self._wake()

    def eof_received(self) -> bool:
        self._lost()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._lost()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _lost(self) -> None:
        if self._gone:
            return
        self._gone = True
        self.cancel_statement()
        self.resume_writing()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _next(self) -> Any:
        queue = self._queue
        while not queue:
            if self._gone:
                raise GoneError
            self._queued_bytes = 0
            if self._reading_paused:
                self._reading_paused = False
                assert self._transport is not None
                self._transport.resume_reading()
            self._maybe_leave()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        return queue.popleft()

    async def _next_within(self, bound: WireBound | None) -> Any:
        """The next message; the bound's error when none comes in time."""
        if bound is None or self._queue:
            return await self._next()
        seconds, error = bound
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                return await self._next()
        except TimeoutError:
            raise error from None

    # out

    def _flush(self) -> None:
        out = self._out
        if out:
            if self._transport is not None and not self._gone:
                self._transport.write(b"".join(out))
            out.clear()
            self._complete_at = -1

    async def _drain(self) -> None:
        """Wait until the client has read enough; one that leaves its answer unread is given up."""
        try:
            async with asyncio.timeout(self._limits.unread_us / 1e6):
                while self._writing_paused and not self._gone:
                    self._drained = asyncio.get_running_loop().create_future()
                    await self._drained
                    self._drained = None
        except TimeoutError:
            log.warning("connection %d: the client does not read its answer", self.process_id)
            assert self._transport is not None
            self._transport.abort()
            raise GoneError from None
        if self._gone:
            raise GoneError
