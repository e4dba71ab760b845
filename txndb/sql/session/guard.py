"""Running a session's statements so that a cancel request or a timeout ends them, and never a commit that was sent.

One statement runs at a time, as a part of the task that called it. To end it that task is cancelled, with the reason
kept aside; where the statement gives up, the reason is raised instead.

Invariants:
1. Once what decides a transaction was sent, nothing is interrupted: the caller learns the recorded outcome (rule M7).
2. A reason that ends the session leaves no transaction behind.
"""

from __future__ import annotations

import abc
import asyncio
import math
from collections.abc import Awaitable
from typing import Any, TypeVar

from txndb.errors import LockTimeoutError, QueryCanceledError, RetryError, SessionTimeoutError, TxndbError
from txndb.sql.session.settings import Settings
from txndb.sql.session.transactions import Block
from txndb.sql.session.waits import Bound, Waits

T = TypeVar("T")


class Patience:
    """For how long a statement is tried again in the server: for `lock_wait_us` from now on (0: no bound)."""

    def __init__(self, lock_wait_us: int) -> None:
        self._until_s = asyncio.get_running_loop().time() + lock_wait_us / 1e6 if lock_wait_us else math.inf

    def must_last(self, lost: RetryError) -> None:
        """`LockTimeoutError` where it has waited for long enough, with what it lost to last."""
        if asyncio.get_running_loop().time() >= self._until_s:
            raise LockTimeoutError(detail=lost.detail) from None


class Interruptible(abc.ABC):
    """What of a session can be interrupted, and by what."""

    def __init__(self, settings: Settings) -> None:
        self.block: Block | None = None
        self.implicit: Block | None = None
        """The transaction of an extended batch or of a string of statements, until sync or its end."""
        self.waits = Waits(settings)
        self._task: asyncio.Task[Any] | None = None
        self._cancelled: TxndbError | None = None
        """Why the running statement was interrupted."""
        self._committing: Block | None = None

    @abc.abstractmethod
    async def _failed(self, error: TxndbError) -> TxndbError:
        """A statement failed inside a transaction: the error to send."""

    @abc.abstractmethod
    async def end(self) -> None:
        """The session is over: roll back."""

    def take_waits(self, settings: Settings) -> None:
        """The settings changed: what runs from here on waits as they say."""
        self.waits = Waits(settings)
        for block in (self.block, self.implicit):
            if block is not None:
                block.limit_waits(self.waits.lock_us)

    async def guard(self, work: Awaitable[T], since_s: float = 0.0) -> T:
        """Run a statement so that `cancel` and the timeouts end it. `since_s`: when it began, by the loop's clock, if
        this is not its first part."""
        self._task = asyncio.current_task()
        self._cancelled = None
        timer = None
        waits = self.waits
        if waits.statement_s or waits.transaction_s:
            bound = self.running_bound(since_s)
            if bound is not None:
                loop = asyncio.get_running_loop()
                timer = loop.call_later(max(bound[0], 0.0), self._interrupt, bound[1])
        try:
            return await work
        except asyncio.CancelledError:
            error = self._cancelled
            if error is None or self._task is None:
                raise
            self._task.uncancel()
            if isinstance(error, SessionTimeoutError):
                await self.end()
                raise error from None
            raise await self._failed(error) from None
        finally:
            self._task = None
            if timer is not None:
                timer.cancel()

    def running_bound(self, since_s: float = 0.0) -> Bound | None:
        """How long the statement that began then, by the loop's clock (0: now), may go on, and what ends it."""
        running_s = asyncio.get_running_loop().time() - since_s if since_s else 0.0
        return self.waits.running(running_s, self._transaction_s())

    def idle_bound(self) -> Bound | None:
        """How long the caller may leave the session without a statement, and what ends it."""
        if not self.waits.bounds_silence:
            return None
        in_transaction = self.block is not None or self.implicit is not None
        return self.waits.idle(in_transaction, self._transaction_s())

    def _transaction_s(self) -> float:
        """For how long there has been a transaction, as far as a timeout of it asks."""
        block = self.block if self.block is not None else self.implicit
        if block is None or not self.waits.transaction_s:
            return 0.0
        now_s = asyncio.get_running_loop().time()
        if not block.seen_s:
            block.seen_s = now_s
        return now_s - block.seen_s

    def cancel(self) -> None:
        """From another task: the running statement ends with 57014, unless its commit was already sent."""
        self._interrupt(QueryCanceledError("canceling statement due to user request"))

    def _interrupt(self, error: TxndbError) -> None:
        sealed = self._committing is not None and self._committing.is_sealed
        if self._task is not None and not sealed and self._cancelled is None:
            self._cancelled = error
            self._task.cancel()
