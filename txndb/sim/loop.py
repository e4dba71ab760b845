"""A deterministic asyncio event loop over virtual time, with processes that can be killed and paused.

What it is: an `asyncio` loop without a selector. Callbacks run first in, first out; when none is ready the clock jumps
to the next timer; timers of one instant run in the order they were made. Time is whole microseconds. Nothing here
depends on hashes, addresses or the real clock, so one program with one seed runs the same way every time. (The
approach is FoundationDB's simulator: Zhou et al., SIGMOD 2021, §4.)

A simulated process is an `Incarnation`. Its code runs in `contextvars` contexts that carry it, and asyncio hands the
context on to every task, timer and future callback made there, so the loop can tell whose a callback is.

Invariants:
1. Virtual time never goes back, and never moves while a callback is ready.
2. After `Incarnation.kill` no callback, timer or task step of that incarnation runs, `finally` blocks included: its
   tasks are kept, unfinished, in the loop's graveyard until `bury`.
3. Callbacks of a paused incarnation run after `resume`, in the order in which they became due.
4. An exception that leaves a callback leaves `run_until_us` too: in a simulation it is a violation.
5. At one instant no more than `callbacks_at_once_max` callbacks run; beyond that it is a livelock, and reported.

What it does not do: sockets, signals, subprocesses, threads (`call_soon_threadsafe` is `call_soon`, an executor is
refused). Driven by `txndb.sim.world` and by tests.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import heapq
import sys
import warnings
import weakref
from asyncio import base_events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Final, TypeVar

T = TypeVar("T")

CALLBACKS_AT_ONCE_MAX: Final = 2_000_000
_RUNNING, _PAUSED, _DEAD = 0, 1, 2


class LivelockError(AssertionError):
    """Callbacks keep scheduling each other without time passing."""


class DeadlockError(AssertionError):
    """Nothing is left to run although a result is still awaited."""


class ProcessEnded(BaseException):
    """Unwinds the callback in which a process ended itself."""


class Incarnation:
    """One life of one simulated process: everything it schedules dies with it."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.state = _RUNNING
        self.deferred: deque[_Handle] = deque()
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.on_death: dict[int, Callable[[], None]] = {}
        self._death_key = 0
        self.context = Context()
        self.context.run(INCARNATION.set, self)

    @property
    def alive(self) -> bool:
        return self.state != _DEAD

    @property
    def paused(self) -> bool:
        return self.state == _PAUSED

    def call_soon(self, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        """Run a callback as this process."""
        return self.loop.call_soon(callback, *args, context=self.context)

    def spawn(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine as a task of this process."""
        return self.loop.create_task(coro, context=self.context.copy())

    def watch_death(self, callback: Callable[[], None]) -> int:
        """Call back (outside of the process) when it is killed; returns a key for `unwatch_death`."""
        self._death_key += 1
        self.on_death[self._death_key] = callback
        return self._death_key

    def unwatch_death(self, key: int) -> None:
        self.on_death.pop(key, None)

    def kill(self) -> None:
        """End the process as `kill -9` does: nothing it scheduled runs again."""
        if self.state == _DEAD:
            return
        self.state = _DEAD
        self.loop.graveyard.extend(self.tasks)  # first: a deferred callback may hold a task's only reference
        self.deferred.clear()
        self.loop.graveyard_of.append(self)
        watchers, self.on_death = self.on_death, {}
        for callback in watchers.values():
            callback()

    def pause(self) -> None:
        """Stop the process as SIGSTOP does."""
        if self.state == _RUNNING:
            self.state = _PAUSED

    def resume(self) -> None:
        """Let a paused process go on: first what became due meanwhile, in order."""
        if self.state == _PAUSED:
            self.state = _RUNNING
            self.loop.requeue(self.deferred)
            self.deferred.clear()


INCARNATION: Final[contextvars.ContextVar[Incarnation]] = contextvars.ContextVar("INCARNATION")


class _Handle(asyncio.TimerHandle):
    """A scheduled callback; built without the base class's bookkeeping, which this loop does not use."""

    __slots__ = ()

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self._repr = None
        self._scheduled = False
        self._when = 0.0

    def cancel(self) -> None:
        """Forget the callback; the loop skips the handle when it comes up."""
        self._cancelled = True
        self._callback = None
        self._args = ()


class VirtualLoop(base_events.BaseEventLoop):
    """The loop. `now_us` is the virtual time in microseconds since the start."""

    def __init__(self) -> None:
        super().__init__()
        self.set_debug(False)
        self.now_us = 0
        self.callbacks_run = 0
        self.callbacks_at_once_max = CALLBACKS_AT_ONCE_MAX
        self.graveyard: list[asyncio.Task[Any]] = []
        self.graveyard_of: list[Incarnation] = []
        self.problems: list[str] = []
        self.on_instant: Callable[[int, int], None] | None = None
        """Told (virtual time, callbacks run so far) before time moves: part of the trace."""
        self.after_event: Callable[[Incarnation], None] | None = None
        """Told after every callback of a process that still lives."""
        self._queue: deque[_Handle] = deque()
        self._timers: list[tuple[int, int, _Handle]] = []
        self._timer_seq = 0
        self._buried = False
        self._stop = False

    # --- what asyncio asks of a loop -------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now_us / 1e6

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        handle = _Handle(callback, args, context if context is not None else contextvars.copy_context())
        if not self._buried:
            self._queue.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at_us(
        self, when_us: int, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        """Run a callback at a virtual time in microseconds, never before the next turn of the loop."""
        handle = _Handle(callback, args, context if context is not None else contextvars.copy_context())
        if not self._buried:
            self._timer_seq += 1
            heapq.heappush(self._timers, (max(when_us, self.now_us), self._timer_seq, handle))
            handle._when = when_us / 1e6
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        return self.call_at_us(_ceil_us(when), callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        return self.call_at_us(self.now_us + _ceil_us(delay), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are skipped when they come up."""

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        if self._buried:
            coro.close()
            raise RuntimeError("the simulation is over")
        if context is None:
            context = contextvars.copy_context()
        task = asyncio.Task(coro, loop=self, name=_TASK if name is None else str(name), context=context)
        incarnation = context.get(INCARNATION)
        if incarnation is not None:
            incarnation.tasks.add(task)
            if not incarnation.alive:  # made while the callback in which the process died unwinds
                self.graveyard.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Errors nobody took, such as a task's exception never retrieved: recorded as problems."""
        if not self._buried:
            error = context.get("exception")
            cause = f": {type(error).__name__}: {error}\n{stack_of(error)}" if error is not None else ""
            self.problems.append(f"{context.get('message')}{cause}")

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> Any:
        raise RuntimeError("no threads in virtual time: use the body's IoExecutor")

    def _process_events(self, event_list: list[Any]) -> None:
        """There is no selector."""

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        if not self._buried:
            self.call_soon(self.create_task, agen.aclose())

    def __del__(self) -> None:
        """Nothing of the system is held, so there is nothing to close."""

    def stop(self) -> None:
        self._stop = True

    def run_forever(self) -> None:
        """Run until `stop()`; running dry before that is a deadlock."""
        if not self._drive(None):
            raise DeadlockError(f"nothing left to run at {self.now_us} us")

    # --- what a simulation asks -----------------------------------------------------------------------------------

    def run_until_us(self, until_us: int) -> None:
        """Run everything due up to and including `until_us`, then set the clock to it; `stop()` ends it early."""
        if not self._drive(until_us):
            self.now_us = max(self.now_us, until_us)

    def requeue(self, handles: deque[_Handle]) -> None:
        """Put back what was deferred."""
        self._queue.extend(handles)

    def bury(self) -> None:
        """End the simulation: nothing scheduled runs any more, and unfinished tasks go without a word."""
        self._buried = True
        self._queue.clear()
        self._timers.clear()
        unfinished = [*self.graveyard, *asyncio.all_tasks(self)]
        for task in unfinished:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        hook = sys.unraisablehook
        sys.unraisablehook = _ignore_unraisable
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.graveyard.clear()
                self.graveyard_of.clear()
                while unfinished:
                    _Closer(unfinished.pop().get_coro())
                gc.collect(0)
        finally:
            sys.unraisablehook = hook
        self._closed = True

    def _drive(self, until_us: int | None) -> bool:
        """Run callbacks and timers; True when stopped, False when out of work up to `until_us`."""
        self._check_running()  # type: ignore[attr-defined]
        old_hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook,  # type: ignore[attr-defined]
            finalizer=self._asyncgen_finalizer_hook,
        )
        asyncio._set_running_loop(self)
        try:
            while True:
                self._run_ready()
                if self._stop:
                    self._stop = False
                    return True
                if not self._advance(until_us):
                    return False
        finally:
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*old_hooks)

    def _run_ready(self) -> None:
        """Run callbacks until none is ready at this instant."""
        queue = self._queue
        pop = queue.popleft
        get_incarnation = INCARNATION
        after_event = self.after_event
        ran = 0
        handle: Any = None
        callback: Any = None
        while queue and not self._stop:
            handle = pop()
            callback = handle._callback
            if callback is None:
                continue
            context = handle._context
            incarnation = context.get(get_incarnation)
            if incarnation is not None and incarnation.state:
                if incarnation.state == _PAUSED:
                    incarnation.deferred.append(handle)
                continue
            ran += 1
            try:
                context.run(callback, *handle._args)
            except ProcessEnded:
                assert incarnation is not None and not incarnation.alive
            if after_event is not None and incarnation is not None and incarnation.alive:
                after_event(incarnation)
            if ran > self.callbacks_at_once_max:
                raise LivelockError(f"{ran} callbacks at {self.now_us} us, the last of them {callback!r}")
        # The traceback of a task's exception may keep this frame, and so the task: nobody would hear of it.
        handle = callback = None
        self.callbacks_run += ran

    def _advance(self, until_us: int | None) -> bool:
        """Move time to the next timer and make that instant's timers ready; False if there is none in time."""
        timers = self._timers
        while timers and timers[0][2]._callback is None:
            heapq.heappop(timers)
        if not timers:
            return False
        now = timers[0][0]
        if until_us is not None and now > until_us:
            return False
        if self.on_instant is not None:
            self.on_instant(self.now_us, self.callbacks_run)
        self.now_us = now
        append = self._queue.append
        pop = heapq.heappop
        while timers and timers[0][0] == now:
            append(pop(timers)[2])
        return True


_TASK: Final = "task"


def _ceil_us(seconds: float) -> int:
    """Seconds as whole microseconds, rounded up (with room for float noise), so that nothing fires early."""
    scaled = seconds * 1e6 - 1e-3
    whole = int(scaled)
    return whole if whole >= scaled else whole + 1


class _Closer:
    """Closes a coroutine when dropped, for what leaves `__del__` goes to the unraisable hook, whatever it is."""

    def __init__(self, coro: Any) -> None:
        self._coro = coro

    def __del__(self) -> None:
        self._coro.close()


def _ignore_unraisable(unraisable: Any) -> None:
    """What code of dead processes raises while it is thrown away is of no interest."""


def stack_of(error: BaseException) -> str:
    """Where an unexpected error came from, innermost last."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f"  {code.co_filename.rpartition('txndb/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return "\n".join(lines[-12:])


def settle(answer: asyncio.Future[Any], error: BaseException | None, result: Any) -> None:
    """Give a future its outcome unless it has one (its waiter may have been cancelled)."""
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
