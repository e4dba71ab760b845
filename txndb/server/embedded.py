"""A node inside this process: its own thread, its own event loop, no listener.

    Program thread                       node thread
    driver --- one end of a socketpair   PgServer.attach(other end) -> Session -> ranges

The driver speaks pgwire over the pair as it would over a socket, so embedded and remote behave alike; nothing
listens, and the node has no peers (`NoPeers`). Memory: engine and log in memory. Directory: the same files as a node
started by `txndb start`, locked in the same way, so a program and a server never share one.

Invariants: 1. `open_embedded` returns after the node serves, or raises what kept it. 2. `close` is idempotent, ends
every connection, waits for the disk, and runs at interpreter exit if the program forgot it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from txndb.cluster.body import Receiver
from txndb.errors import ShutdownError, UnavailableError
from txndb.ids import NodeId
from txndb.server.body import ServerBody, exception_handler
from txndb.server.datadir import DataDir
from txndb.server.main import new_event_loop
from txndb.server.timesource import make_time_source

if TYPE_CHECKING:
    from txndb.cluster.node import Node
    from txndb.server.pg import PgServer

DRAIN_S: Final = 2.0


class NoPeers:
    """The `Transport` of a node that is alone."""

    def start(self, node: NodeId, incarnation: int, cluster_id: bytes, receiver: Receiver) -> None:
        return

    def set_address(self, node: NodeId, address: str) -> None:
        return

    def send(self, to: NodeId, payload: bytes) -> None:
        return

    async def call(self, address: str, method: str, payload: bytes, timeout_us: int) -> bytes:
        raise UnavailableError("an embedded node has no peers")

    async def send_snapshot(self, to: NodeId, header: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        raise UnavailableError("an embedded node has no peers")


class Embedded:
    """A running embedded node. Made by `open_embedded`; `close` it, or use it as a context manager."""

    def __init__(self, path: Path | None, event: Callable[[str], None]) -> None:
        self._path = path
        self._event = event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._pg: PgServer | None = None
        self._error: BaseException | None = None
        self._started = threading.Event()
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="txndb-embedded", daemon=True)

    def start(self) -> None:
        """Run the node; returns when it serves."""
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        atexit.register(self.close)

    def connect(self) -> socket.socket:
        """A connected socket that speaks pgwire; its other end is the node's."""
        loop, pg = self._loop, self._pg
        if loop is None or pg is None or not self._thread.is_alive():
            raise ShutdownError("the embedded node is closed")
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        try:
            asyncio.run_coroutine_threadsafe(pg.attach(theirs), loop).result()
        except RuntimeError:  # the loop was closed between the look and the call
            ours.close()
            theirs.close()
            raise ShutdownError("the embedded node is closed") from None
        return ours

    def close(self) -> None:
        """End connections, write everything, stop the thread."""
        with self._closing:
            if self._loop is not None and self._stop is not None and self._thread.is_alive():
                with contextlib.suppress(RuntimeError):  # the loop may just have ended by itself
                    self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            atexit.unregister(self.close)

    def __enter__(self) -> Embedded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as e:  # noqa: BLE001 - raised again in the program's thread, which waits for the start
            if self._started.is_set():
                self._event(f"the embedded node failed: {e}")
            self._error = e
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._loop.set_exception_handler(exception_handler(self._on_fatal))
        data = DataDir.open(self._path) if self._path is not None else None
        async with contextlib.AsyncExitStack() as stack:
            if data is not None:
                stack.callback(data.close)
            body = ServerBody(data, make_time_source("auto"), NoPeers(), self._event, self._on_fatal)
            stack.push_async_callback(body.close)
            node = await self._open_node(body)
            stack.push_async_callback(self._close_connections)
            stack.push_async_callback(node.close)
            await node.start([], "")
            from txndb.server.pg import PgServer

            self._pg = PgServer(node.new_session)
            stack.push_async_callback(self._pg.drain, DRAIN_S)
            self._started.set()
            await self._stop.wait()

    async def _close_connections(self) -> None:
        """Those that the end of the node has ended."""
        if self._pg is not None:
            await self._pg.close()

    async def _open_node(self, body: ServerBody) -> Node:
        from txndb.cluster.node import Node
        from txndb.cluster.options import NodeOptions

        return await Node.open(body, NodeOptions())

    def _on_fatal(self, error: BaseException) -> None:
        """The node may not go on, but the program may: its connections break and say so."""
        self._event(f"fatal: {error}; the embedded node stops")
        self._error = error
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)


def open_embedded(path: str | None, event: Callable[[str], None] = lambda _: None) -> Embedded:
    """Start a node in this process: in memory, or in the directory `path`. Its log lines go to `event`."""
    embedded = Embedded(Path(path) if path is not None else None, event)
    embedded.start()
    return embedded
