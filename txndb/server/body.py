"""The real body: what `txndb.cluster.body.Body` names, on this machine.

Two workers: one for the Raft log, whose syncs everybody waits for, one for the engine's, which may be long (none
for a node in
memory). Engine
and disk are
chosen by the configuration: RocksDB and files, or memory for both – a log that outlived its engine could not be
opened (P7).
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from txndb.clock import TimeSource
from txndb.cluster.body import IoExecutor, Rand, Transport
from txndb.errors import CorruptionError, InternalError, StoreError
from txndb.server.datadir import DataDir
from txndb.server.io import InlineIo, ThreadIo
from txndb.server.memdisk import MemoryDisk
from txndb.server.timesource import SystemTime
from txndb.storage.disk import Disk
from txndb.storage.engine import Engine

EXIT_FATAL: Final = 3


def stderr_event(message: str) -> None:
    """One line of a node's log, with the time in UTC."""
    now_ns = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 1_000_000_000))
    sys.stderr.write(f"{stamp}.{now_ns // 1_000_000 % 1000:03d}Z {message}\n")
    sys.stderr.flush()


def end_process(error: BaseException) -> None:
    """Stop here and now: what the disk holds may not be what was written, so nothing more is sent or said."""
    stderr_event(f"fatal: {error or type(error).__name__}; the node stops")
    os._exit(EXIT_FATAL)


def exception_handler(
    fatal: Callable[[BaseException], None],
) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """What the loop does with an exception nobody caught.

    In a callback, or of a kind that says that state is wrong, it is fatal: a step that ended half-way must not be
    followed by others (rule P1 for a failed write). One of a connection or of a forgotten task is that connection's
    or task's end.
    """

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        loop.default_exception_handler(context)
        if error is None or isinstance(error, asyncio.CancelledError):
            return
        in_callback = "handle" in context and not {"transport", "protocol", "future", "task"} & context.keys()
        if in_callback or isinstance(error, StoreError | CorruptionError | InternalError | AssertionError):
            fatal(error)

    return handle


class Chance:
    """The operating system's chance."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def randrange(self, stop: int) -> int:
        return self._random.randrange(stop)


class ServerBody:
    """Everything a real node is given. `data` None: all of it in memory."""

    def __init__(
        self,
        data: DataDir | None,
        source: SystemTime,
        transport: Transport,
        event: Callable[[str], None] = stderr_event,
        fatal: Callable[[BaseException], None] = end_process,
    ) -> None:
        self._workers: tuple[ThreadIo | InlineIo, ...] = (
            (InlineIo(), InlineIo()) if data is None else (ThreadIo("txndb-log"), ThreadIo("txndb-engine"))
        )
        self.time: TimeSource = source
        self.transport = transport
        self.log_io: IoExecutor = self._workers[0]
        self.engine_io: IoExecutor = self._workers[1]
        self.rand: Rand = Chance()
        self._data = data
        self._event = event
        self._fatal = fatal
        self.log_disk: Disk = self._open_disk()

    def open_engine(self) -> Engine:
        """Open the node's engine, creating it if it is missing."""
        if self._data is None:
            from txndb.storage.memory import MemoryEngine

            return MemoryEngine()
        from txndb.storage.rocks import RocksEngine

        return RocksEngine(str(self._data.engine_path))

    def event(self, message: str) -> None:
        self._event(message)

    def fatal(self, error: BaseException) -> None:
        self._fatal(error)

    async def close(self) -> None:
        """End the workers, after what they were given."""
        for worker in self._workers:
            await worker.close()

    def _open_disk(self) -> Disk:
        if self._data is None:
            return MemoryDisk()
        from txndb.server.files import OsDisk

        return OsDisk(str(self._data.log_path))
