"""Simulated SQL clients: connections to gateways inside the simulator, and how clients behave on them.

A statement travels to its gateway, runs there as a task of the node's process, and its answer travels back. When the
process dies, the client sees its connection reset; when it hangs, the client gives up after its own timeout.

Transactions, retries and what the history says are `txndb.sim.recording`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from random import Random
from typing import Any, Final, TypeVar

import msgspec

from txndb.errors import TxndbError
from txndb.sim.history import History
from txndb.sim.host import QueryResult, SimHost, SqlSession
from txndb.sim.loop import VirtualLoop, settle, stack_of
from txndb.sim.recording import RecordingClient
from txndb.sim.workloads.api import ConnectionLostError as ConnectionLostError
from txndb.sim.workloads.api import GaveUpError as GaveUpError

T = TypeVar("T")
_WIRE_US: Final = 60
_NOWHERE: Final = Context()
_RARELY: Final = 0.05
"""How often a client hangs up during another statement than COMMIT, for each time that it does so during COMMIT."""


class ClientOptions(msgspec.Struct, frozen=True):
    """How clients behave in one run. Shares are per statement."""

    hang_up: float = 0.0
    """Share of COMMITs during which the client hangs up, before or after the node has answered."""
    dawdle: float = 0.0
    """Share of statements before which the client idles, its locks held."""
    dawdle_max_us: int = 50_000
    slow_reader: float = 0.0
    """Share of answers that the client takes its time to read."""


class Manners:
    """One client's behaviour and the chance that decides it; `options` may change while it runs."""

    def __init__(self, options: ClientOptions, rng: Random) -> None:
        self.options = options
        self._rng = rng

    def hang_up_after_us(self, sql: str) -> int:
        """How long after sending a statement the client hangs up; 0 = it does not."""
        share = self.options.hang_up
        if not share or self._rng.random() >= (share if sql == "COMMIT" else share * _RARELY):
            return 0
        return 1 + self._rng.randrange(self._rng.choice((200, 2_000, 20_000, 500_000)))

    def idle_us(self) -> int:
        """How long the client idles before its next statement."""
        share = self.options.dawdle
        return self._rng.randrange(self.options.dawdle_max_us) if share and self._rng.random() < share else 0

    def reading_us(self) -> int:
        """How long the client takes to read an answer."""
        share = self.options.slow_reader
        return self._rng.randrange(self.options.dawdle_max_us) if share and self._rng.random() < share else 0


class SimConnection:
    """One client's connection to one gateway's process."""

    def __init__(self, host: SimHost, timeout_us: int, manners: Manners | None = None) -> None:
        assert host.incarnation is not None
        self._incarnation = host.incarnation
        self._host = host
        self._loop: VirtualLoop = host.shared.loop
        self._timeout_us = timeout_us
        self._manners = manners
        self._session: SqlSession | None = None
        self._waiting: asyncio.Future[Any] | None = None
        self._watch = self._incarnation.watch_death(self._reset)
        self._key = host.watch_stop(self._reset)
        self.broken = not host.ready

    async def open(self) -> None:
        """Log in."""
        brain = self._host.brain
        if self.broken or brain is None:
            raise ConnectionLostError("not ready")
        self._session = await self._remote(lambda: brain.new_session("root", "defaultdb"))

    async def execute(self, sql: str, params: tuple[Any, ...] = ()) -> QueryResult:
        """Run one statement; raises the node's `TxndbError`, or `ConnectionLostError`."""
        session = self._session
        if self.broken or session is None:
            raise ConnectionLostError("the connection is closed")
        result: QueryResult
        manners = self._manners
        if manners is None:
            result = await self._remote(lambda: session.execute(sql, params))
            return result
        if self.in_transaction and (idle_us := manners.idle_us()):
            await asyncio.sleep(idle_us / 1e6)
            if self.broken:
                raise ConnectionLostError("the connection was reset while the client idled")
        hang_up_us = manners.hang_up_after_us(sql)
        result = await self._remote(lambda: session.execute(sql, params), hang_up_us)
        if reading_us := manners.reading_us():
            await asyncio.sleep(reading_us / 1e6)
        return result

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction block is open, failed or not."""
        return self._session is not None and self._session.status != "I"

    def close(self) -> None:
        """Hang up; the node notices and rolls back."""
        if not self.broken:
            self.broken = True
            self._incarnation.unwatch_death(self._watch)
            self._host.unwatch_stop(self._key)
            if self._session is not None:
                when = self._loop.now_us + _WIRE_US
                self._loop.call_at_us(when, self._hang_up, context=self._incarnation.context)

    async def _remote(self, work: Callable[[], Awaitable[T]], hang_up_us: int = 0) -> T:
        """Run something at the node; `hang_up_us`: do not wait for it longer than that, and hang up."""
        answer: asyncio.Future[T] = self._loop.create_future()
        self._waiting = answer
        now = self._loop.now_us
        self._loop.call_at_us(now + _WIRE_US, self._begin, work, answer, context=self._incarnation.context)
        patience_us = min(self._timeout_us, hang_up_us or self._timeout_us)
        timer = self._loop.call_at_us(now + patience_us, self._time_out, answer)
        try:
            return await answer
        finally:
            timer.cancel()
            self._waiting = None

    def _begin(self, work: Callable[[], Awaitable[T]], answer: asyncio.Future[T]) -> None:
        async def run() -> T:
            return await work()

        task = self._incarnation.spawn(run())
        task.add_done_callback(lambda done: self._answer(done, answer), context=self._incarnation.context)

    def _answer(self, done: asyncio.Task[T], answer: asyncio.Future[T]) -> None:
        """The node's answer sets out for the client."""
        if self._host.stopping:
            done.cancelled() or done.exception()  # the connection has ended: nobody hears of it
            return
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, TxndbError):
            where = f"n{self._host.machine}: a statement raised"
            self._loop.problems.append(f"{where} {type(error).__name__}: {error}\n{stack_of(error)}")
            error = ConnectionLostError("internal error")
        result = None if error is not None else done.result()
        self._loop.call_at_us(self._loop.now_us + _WIRE_US, settle, answer, error, result, context=_NOWHERE)

    def _reset(self) -> None:
        self.broken = True
        self._incarnation.unwatch_death(self._watch)
        self._host.unwatch_stop(self._key)
        answer = self._waiting
        if answer is not None:
            error = ConnectionLostError("connection reset")
            self._loop.call_at_us(self._loop.now_us + _WIRE_US, settle, answer, error, None, context=_NOWHERE)

    def _time_out(self, answer: asyncio.Future[Any]) -> None:
        if not answer.done():
            answer.set_exception(ConnectionLostError("no answer in time"))
            self.close()

    def _hang_up(self) -> None:
        assert self._session is not None
        self._session.cancel()
        self._incarnation.spawn(self._session.close())


class Client(RecordingClient):
    """One sequential client (`txndb.sim.workloads.api.SqlClient`) of simulated hosts."""

    def __init__(
        self,
        number: int,
        hosts: list[SimHost],
        rng: Random,
        history: History,
        count: Callable[[str], None],
        *,
        clients: int,
        timeout_us: int,
        manners: Manners | None = None,
        locking: bool = False,
    ) -> None:
        """`locking`: read under locks only, which no clock can make wrong."""
        super().__init__(number, rng, history, count, clients=clients, locking=locking)
        self._hosts = hosts
        self._timeout_us = timeout_us
        self.manners = manners
        self._loop = hosts[0].shared.loop

    async def _open(self) -> SimConnection:
        hosts = [host for host in self._hosts if not host.lost]
        host = hosts[self.rng.randrange(len(hosts))]
        fresh = SimConnection(host, self._timeout_us, self.manners)
        await fresh.open()
        return fresh

    def _now_us(self) -> int:
        return self._loop.now_us
