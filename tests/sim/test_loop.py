"""The virtual-time loop: order, time, death, pause and what leaves callbacks."""

from __future__ import annotations

import asyncio
import gc
import itertools

import pytest

from txndb.sim.loop import DeadlockError, Incarnation, LivelockError, ProcessEnded, VirtualLoop


def test_timers_run_in_order_of_time_then_of_making() -> None:
    loop = VirtualLoop()
    seen: list[tuple[int, str]] = []
    for delay, name in ((300, "c"), (100, "a"), (300, "d"), (200, "b")):
        loop.call_at_us(delay, lambda name=name: seen.append((loop.now_us, name)))
    loop.run_until_us(1000)
    assert seen == [(100, "a"), (200, "b"), (300, "c"), (300, "d")]
    assert loop.now_us == 1000
    loop.bury()


def test_sleep_takes_exactly_its_time_and_nothing_real() -> None:
    loop = VirtualLoop()

    async def nap() -> list[int]:
        times = [loop.now_us]
        for seconds in (3600.0, 0.000001, 0.1, 0.0):
            await asyncio.sleep(seconds)
            times.append(loop.now_us)
        return times

    assert loop.run_until_complete(nap()) == [0, 3_600_000_000, 3_600_000_001, 3_600_100_001, 3_600_100_001]
    loop.bury()


def test_a_cancelled_timer_does_not_run_nor_move_time() -> None:
    loop = VirtualLoop()
    loop.call_later(5.0, pytest.fail).cancel()
    seen: list[int] = []
    loop.call_later(1.0, lambda: seen.append(loop.now_us))
    loop.run_until_us(10_000_000)
    assert seen == [1_000_000]
    loop.bury()


def test_asyncio_timeout_and_gather_work() -> None:
    loop = VirtualLoop()

    async def main() -> tuple[list[int], int]:
        async def after(seconds: int) -> int:
            await asyncio.sleep(seconds)
            return seconds

        both = list(await asyncio.gather(after(2), after(1)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await after(9)
        return both, loop.now_us

    assert loop.run_until_complete(main()) == ([2, 1], 2_500_000)
    loop.bury()


def test_killing_an_incarnation_ends_its_tasks_without_running_finally() -> None:
    loop = VirtualLoop()
    node = Incarnation(loop, "n1")
    seen: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(10)
            seen.append("woke")
        finally:
            seen.append("finally")

    async def parent() -> None:
        asyncio.get_running_loop().create_task(child())
        loop.call_later(5, seen.append, "timer")
        await asyncio.sleep(20)
        seen.append("parent")

    node.spawn(parent())
    loop.run_until_us(1_000_000)
    deaths: list[str] = []
    node.watch_death(lambda: deaths.append("dead"))
    node.unwatch_death(node.watch_death(lambda: deaths.append("unwatched")))
    node.kill()
    node.kill()
    loop.run_until_us(60_000_000)
    assert seen == []
    assert deaths == ["dead"]
    assert not node.alive
    loop.bury()
    assert loop.problems == []


def test_a_future_resolved_from_outside_does_not_wake_the_dead() -> None:
    loop = VirtualLoop()
    node = Incarnation(loop, "n1")
    future: asyncio.Future[int] = loop.create_future()
    seen: list[int] = []

    async def wait() -> None:
        seen.append(await future)

    node.spawn(wait())
    loop.run_until_us(1)
    node.kill()
    future.set_result(1)
    loop.run_until_us(2)
    assert seen == []
    loop.bury()


def test_a_paused_incarnation_catches_up_in_order() -> None:
    loop = VirtualLoop()
    node = Incarnation(loop, "n1")
    seen: list[tuple[str, int]] = []
    for i in range(3):
        loop.call_at_us(
            100 * (i + 1), lambda i=i: seen.append((f"node{i}", loop.now_us)), context=node.context
        )
    loop.call_at_us(150, node.pause)
    loop.call_at_us(250, lambda: seen.append(("other", loop.now_us)))
    loop.call_at_us(500, node.resume)
    loop.run_until_us(1000)
    assert seen == [("node0", 100), ("other", 250), ("node1", 500), ("node2", 500)]
    loop.bury()


def test_killing_a_paused_incarnation_drops_what_it_would_have_done() -> None:
    loop = VirtualLoop()
    node = Incarnation(loop, "n1")
    node.pause()
    seen: list[str] = []
    node.call_soon(seen.append, "ran")

    async def work() -> None:
        seen.append("worked")

    node.spawn(work())
    loop.run_until_us(10)
    node.kill()
    node.resume()
    loop.run_until_us(20)
    gc.collect()
    assert seen == []
    assert loop.problems == []
    loop.bury()


def test_an_exception_in_a_callback_leaves_the_loop() -> None:
    loop = VirtualLoop()
    loop.call_at_us(7, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.run_until_us(10)
    assert loop.now_us == 7
    loop.bury()


def test_a_process_that_ends_itself_stops_there() -> None:
    loop = VirtualLoop()
    node = Incarnation(loop, "n1")
    seen: list[str] = []

    def end() -> None:
        seen.append("before")
        node.kill()
        raise ProcessEnded

    node.call_soon(end)
    node.call_soon(seen.append, "after")
    loop.run_until_us(10)
    assert seen == ["before"]
    loop.bury()


def test_a_task_made_while_the_process_dies_is_no_problem() -> None:
    loop = VirtualLoop()
    node = Incarnation(loop, "n1")
    seen: list[str] = []

    async def late() -> None:
        seen.append("ran")

    def end() -> None:
        node.kill()
        loop.create_task(late())
        raise ProcessEnded

    node.call_soon(end)
    loop.run_until_us(10)
    gc.collect()
    assert seen == []
    assert loop.problems == []
    loop.bury()


def test_a_task_exception_that_nobody_takes_is_a_problem() -> None:
    loop = VirtualLoop()

    async def fail() -> None:
        raise ValueError("lost")

    loop.create_task(fail())
    loop.run_until_us(1)
    assert len(loop.problems) == 1
    assert "ValueError: lost" in loop.problems[0]
    loop.bury()


def test_callbacks_without_end_at_one_instant_are_a_livelock() -> None:
    loop = VirtualLoop()
    loop.callbacks_at_once_max = 1000

    async def spin() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    task = loop.create_task(spin())
    with pytest.raises(LivelockError):
        loop.run_until_us(10)
    assert not task.done()
    loop.bury()


def test_running_dry_with_a_result_awaited_is_a_deadlock() -> None:
    loop = VirtualLoop()
    never: asyncio.Future[None] = loop.create_future()

    async def wait() -> None:
        await never

    task = loop.create_task(wait())
    with pytest.raises(DeadlockError):
        loop.run_forever()
    assert not task.done()
    loop.bury()


def test_the_same_program_runs_the_same_way() -> None:
    def run() -> list[tuple[int, int]]:
        loop = VirtualLoop()
        order: list[tuple[int, int]] = []

        async def worker(number: int) -> None:
            for step in range(20):
                await asyncio.sleep((number * 7 + step * 3) % 5 / 1000)
                order.append((number, loop.now_us))

        async def main() -> None:
            await asyncio.gather(*(worker(number) for number in range(10)))

        loop.run_until_complete(main())
        loop.bury()
        return order

    assert run() == run()
