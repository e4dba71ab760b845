"""The real front door on an ephemeral loopback port, served from a thread, over `FakeSession`s."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.pgwire.fakesession import FakeSession, FakeTypes
from txndb.errors import sql_error
from txndb.server.main import new_event_loop
from txndb.server.pg import PgServer

T = TypeVar("T")
BOUND_S = 20.0


class Serving:
    """A running server: its port, its sessions, and a way to call into its loop."""

    def __init__(self, **options: Any) -> None:
        self.sessions: list[FakeSession] = []
        self.server = PgServer(self._new_session, types=FakeTypes(), **options)
        self.port = 0
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="serving")
        self._thread.start()

    def _new_session(self, user: str, database: str, options: dict[str, str]) -> FakeSession:
        if user not in ("root", "postgres"):
            raise sql_error("28000", f'role "{user}" does not exist')
        if database != "defaultdb":
            raise sql_error("3D000", f'database "{database}" does not exist')
        self.sessions.append(FakeSession(options))
        return self.sessions[-1]

    def start(self) -> None:
        """Listen."""
        self.port = self.call(lambda: self.server.start("127.0.0.1", 0))

    def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine in the server's loop and wait for it."""

        async def run() -> T:
            return await make()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(BOUND_S)

    def stop(self) -> None:
        """End every connection and the thread."""
        self.call(self.server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """For the driver."""
        return f"txndb://root@127.0.0.1:{self.port}/defaultdb"


@contextmanager
def serving(**options: Any) -> Iterator[Serving]:
    """A server for the time of a with block."""
    made = Serving(**options)
    try:
        made.start()
        yield made
    finally:
        made.stop()
