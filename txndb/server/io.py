"""`IoExecutor`: one worker thread that runs blocking calls in order, off the event loop.

One thread and one queue instead of `concurrent.futures`: a flush costs a queue put, a future and one wake-up of the
loop,
and completions that gather while the loop is busy share a wake-up.

Invariants:
1. Calls run in the order of `run`, one at a time.
2. Completions arrive on the loop's thread, in the same order.
3. After `close()` returns every accepted call has run.

`InlineIo` is the same contract for a disk in memory, where a worker would cost more than the work: the call runs at
once, its completion arrives in the loop's next turn, so that what gathers in a turn still shares one flush.

It does not retry, time out or cancel a call: a cancelled waiter leaves its call running (a write that was begun must
end). Driven by the Raft log's and the engine's owners.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple["asyncio.Future[Any]", Callable[[], Any]]
_Done = tuple["asyncio.Future[Any]", Any, BaseException | None]


class ThreadIo:
    """The real `IoExecutor`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[_Done] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a call; await the result."""
        if self._closed:
            raise RuntimeError("the I/O worker is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((future, call))
        return future

    async def close(self) -> None:
        """Run what was accepted, then end the thread."""
        if self._closed:
            return
        last = self.run(lambda: None)
        self._closed = True
        await last
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        jobs, done = self._jobs, self._done
        while (job := jobs.get()) is not None:
            future, call = job
            try:
                result, error = call(), None
            except BaseException as e:  # noqa: BLE001 - it is raised again where the call was awaited
                result, error = None, e
            # Append, then look: with another completion before it in the queue a drain is scheduled or running, and
            # that drain looks again after it removed the other one.
            done.append((future, result, error))
            if len(done) == 1:
                self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            self._done.clear()  # the loop is closed: nobody waits any more

    def _drain(self) -> None:
        done = self._done
        while done:
            # Removed only after it is delivered: while it stays, the worker relies on this loop to look again.
            future, result, error = done[0]
            if not future.done():
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
            done.popleft()


class InlineIo:
    """An `IoExecutor` without a worker, for calls that do not block."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Run a call now; await the result, in the next turn."""
        future: asyncio.Future[T] = self._loop.create_future()
        try:
            result = call()
        except BaseException as e:  # noqa: BLE001 - it is raised again where the call was awaited
            self._loop.call_soon(_fail, future, e)
        else:
            self._loop.call_soon(_succeed, future, result)
        return future

    async def close(self) -> None:
        """Nothing is left to end."""


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
