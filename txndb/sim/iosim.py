"""A simulated I/O worker: blocking calls that take virtual time, one after the other, off the loop.

A call has its effect at a drawn instant between its start and the moment its result arrives, so a crash in between
finds it done or not done. A stall makes the worker late; power that is lost in the middle of a call ends the process.
Failing calls (`OSError`, `TxndbError`) fail their future; any other exception is a bug of the caller's and leaves the
loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import msgspec

from txndb.errors import TxndbError
from txndb.sim.disk import PowerLostError
from txndb.sim.loop import Incarnation, ProcessEnded

T = TypeVar("T")


class IoOptions(msgspec.Struct, frozen=True):
    """How long disk calls take in one run."""

    latency_min_us: int = 80
    latency_mean_us: int = 200
    slow: float = 0.0
    """Share of calls that take ten to a hundred times as long."""


class SimIo:
    """One worker of one process (`txndb.cluster.body.IoExecutor`)."""

    def __init__(
        self,
        incarnation: Incarnation,
        rng: Random,
        options: IoOptions,
        power_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._incarnation = incarnation
        self._loop = incarnation.loop
        self._rng = rng
        self.options = options
        self._free_us = 0
        self._power_lost = power_lost

    def stall(self, duration_us: int) -> None:
        """A fault: the disk does nothing for a while."""
        self._free_us = max(self._free_us, self._loop.now_us) + duration_us

    def run(self, call: Callable[[], T]) -> Awaitable[T]:
        rng = self._rng
        options = self.options
        latency = options.latency_min_us + int(rng.random() * 2.0 * options.latency_mean_us)
        if options.slow and rng.random() < options.slow:
            latency *= 10 + rng.randrange(90)
        start = max(self._free_us, self._loop.now_us)
        self._free_us = start + latency
        effect_us = start + int(latency * rng.random())
        future: asyncio.Future[T] = self._loop.create_future()
        context = self._incarnation.context
        self._loop.call_at_us(effect_us, self._perform, call, future, self._free_us, context=context)
        return future

    def _perform(self, call: Callable[[], T], future: asyncio.Future[T], done_us: int) -> None:
        context = self._incarnation.context
        try:
            result = call()
        except (OSError, TxndbError) as error:
            self._loop.call_at_us(done_us, _fail, future, error, context=context)
            return
        except PowerLostError:
            self._power_lost()
            raise ProcessEnded from None
        self._loop.call_at_us(done_us, _finish, future, result, context=context)


def _finish(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
