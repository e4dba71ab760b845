"""One sequential client without its body: transactions with retries, and honest records of what was answered.

Who derives from it says how a connection is opened and what time it is: `txndb.sim.clients` in the simulator,
`txndb.testing.jepsen.client` over the wire. What the history says is the same for both.

What the history says follows from what a client can know (invariants):
1. `ok` only after the commit was acknowledged.
2. `fail` when the transaction's COMMIT was never sent, the node answered with an error other than "outcome unknown", or
   the operation itself found that there was nothing to do (`RefusedError`).
3. `info` otherwise: the connection broke or timed out while a COMMIT, or a single statement that writes, was under way.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final, Protocol, TypeVar

from txndb.errors import OutcomeUnknownError, RetryError, TxndbError
from txndb.sim.history import History
from txndb.sim.workloads.api import ConnectionLostError, GaveUpError, QueryResult, RefusedError

T = TypeVar("T")
_ATTEMPTS_MAX: Final = 30


class OpenConnection(Protocol):
    """A client's connection to a gateway."""

    @property
    def broken(self) -> bool:
        """Whether it is of no more use."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction block is open, failed or not."""

    async def execute(self, sql: str, params: tuple[Any, ...] = ()) -> QueryResult:
        """Run one statement; raises the node's `TxndbError`, or `ConnectionLostError`."""

    def close(self) -> None:
        """Hang up."""


class RecordingClient(ABC):
    """One sequential client (`txndb.sim.workloads.api.SqlClient`)."""

    def __init__(
        self,
        number: int,
        rng: Random,
        history: History,
        count: Callable[[str], None],
        *,
        clients: int,
        locking: bool = False,
    ) -> None:
        """`clients`: how many there are, hence by how much a retired process number grows. `locking`: read under locks
        only, which no clock can make wrong."""
        self.process = number
        self.rng = rng
        self.operations_ok = 0
        self._history = history
        self._count = count
        self._clients = clients
        self._locking = locking
        self._connection: OpenConnection | None = None
        self._commit_sent = False

    @abstractmethod
    async def _open(self) -> OpenConnection:
        """A connection to any gateway; `ConnectionLostError` when it cannot be had."""

    @abstractmethod
    def _now_us(self) -> int:
        """The time that the history shows."""

    def _on_unknown(self, error: OutcomeUnknownError) -> None:
        """The gateway answered that it does not know whether the transaction committed."""
        self._count("outcome_unknown")

    async def operation(self, f: str, key: Any, value: Any, perform: Callable[[], Awaitable[Any]]) -> bool:
        """Record one operation around `perform`, whose result becomes the `ok` value; returns whether it was ok."""
        self._history.add(self.process, "invoke", f, value, key, self._now_us())
        self._commit_sent = False
        try:
            result = await perform()
        except (ConnectionLostError, OutcomeUnknownError) as error:
            if isinstance(error, OutcomeUnknownError):
                self._on_unknown(error)
            self._drop()
            self._finish("info" if self._commit_sent else "fail", f, value, key, _told(error))
            return False
        except RefusedError as error:
            self.operations_ok += 1
            self._count("refused")
            self._finish("fail", f, value, key, _told(error))
            return False
        except (TxndbError, GaveUpError) as error:
            self._count(f"error_{error.code}" if isinstance(error, TxndbError) else "gave_up")
            self._drop()
            self._finish("fail", f, value, key, _told(error))
            return False
        self.operations_ok += 1
        self._finish("ok", f, result, key)
        return True

    async def transaction(self, body: Callable[[], Awaitable[T]], begin: str = "BEGIN") -> T:
        """Run `body` between BEGIN and COMMIT, replaying it on the same connection when it loses (40001)."""
        if self._locking and begin == "BEGIN READ ONLY":
            begin = "BEGIN"
        for attempt in range(_ATTEMPTS_MAX):
            connection = await self._connected()
            try:
                await connection.execute(begin)
                result = await body()
                self._commit_sent = True
                if (await connection.execute("COMMIT")).tag != "COMMIT":
                    self._commit_sent = False
                    raise GaveUpError("COMMIT rolled back")
                return result
            except RetryError:
                self._commit_sent = False
                self._count("retry")
                if connection.in_transaction:
                    await connection.execute("ROLLBACK")
                await asyncio.sleep(self.rng.random() * min(0.2, 0.002 * (1 << attempt)))
        raise GaveUpError(f"{_ATTEMPTS_MAX} attempts lost")

    async def single(self, sql: str, params: tuple[Any, ...] = (), *, writes: bool = False) -> QueryResult:
        """One statement as a transaction of its own, retried when it loses."""
        if self._locking and sql.startswith("SELECT"):
            return await self.transaction(lambda: self.statement(sql, params))
        for attempt in range(_ATTEMPTS_MAX):
            try:
                connection = await self._connected()
                self._commit_sent = writes
                return await connection.execute(sql, params)
            except RetryError:
                self._commit_sent = False
                self._count("retry")
                await asyncio.sleep(self.rng.random() * min(0.2, 0.002 * (1 << attempt)))
        raise GaveUpError(f"{_ATTEMPTS_MAX} attempts lost")

    async def statement(self, sql: str, params: tuple[Any, ...] = ()) -> QueryResult:
        """One statement of the open transaction; it cannot go on over another connection."""
        if self._connection is None:
            raise ConnectionLostError("the transaction's connection is gone")
        return await self._connection.execute(sql, params)

    async def leave(self) -> None:
        """Hang up; the next transaction goes to any gateway."""
        self._drop()

    def close(self) -> None:
        self._drop()

    async def _connected(self) -> OpenConnection:
        if self._connection is None or self._connection.broken:
            self._connection = None
            self._connection = await self._open()
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _finish(self, kind: str, f: str, value: Any, key: Any, error: str | None = None) -> None:
        self._history.add(self.process, kind, f, value, key, self._now_us(), error)
        self._count(kind)
        if kind == "info":
            self.process += self._clients


def _told(error: Exception) -> str:
    """What the history says of an operation that was not ok."""
    return f"{error.code}: {error}" if isinstance(error, TxndbError) else f"{type(error).__name__}: {error}"
