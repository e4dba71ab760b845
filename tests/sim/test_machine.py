"""Parts of a simulated machine: the crashing engine, the I/O worker, the clocks."""

from __future__ import annotations

import functools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txndb.sim.clocks import EPOCH_US, ClockOptions, SimClock
from txndb.sim.engine import EngineStore
from txndb.sim.iosim import IoOptions, SimIo
from txndb.sim.loop import Incarnation, VirtualLoop
from txndb.storage.engine import WriteBatch
from txndb.storage.memory import MemoryEngine


def _put(key: bytes, value: bytes) -> WriteBatch:
    batch = WriteBatch()
    batch.put(key, value)
    batch.put(b"twin" + key, value)
    return batch


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["write", "sync", "crash", "kill", "close"]), min_size=1, max_size=40),
    st.integers(),
)
def test_p3_a_crash_keeps_a_prefix_that_holds_all_that_was_synced(steps: list[str], seed: int) -> None:
    store = EngineStore(MemoryEngine, Random(seed))
    engine = store.open(1000)
    written = synced = 0
    for step in steps:
        if step == "write":
            engine.write(_put(b"%06d" % written, b"v"))
            written += 1
        elif step == "sync":
            engine.sync()
            synced = written
        else:
            if step == "crash":
                store.crash()
            elif step == "kill":
                store.kill()
            else:
                engine.close()
            engine = store.open(1000)
            found = [key for key, _ in engine.iterate(b"0", b"9")]
            twins = [key for key, _ in engine.iterate(b"twin", b"twio")]
            assert found == [b"%06d" % i for i in range(len(found))]
            assert [b"twin" + key for key in found] == twins
            assert len(found) <= written
            assert len(found) >= synced
            if step != "crash":
                assert len(found) == written
            written = len(found)
            synced = min(synced, written) if step != "crash" else written


def test_p3_a_crash_sometimes_loses_unsynced_batches_and_sometimes_not() -> None:
    kept = set()
    for seed in range(40):
        store = EngineStore(MemoryEngine, Random(seed))
        engine = store.open(1000)
        for i in range(3):
            engine.write(_put(b"%d" % i, b"v"))
        store.crash()
        kept.add(len(list(store.open(1000).iterate(b"0", b"9"))))
    assert kept == {0, 1, 2, 3}


def test_p3_flushing_memtables_after_an_unsynced_write_is_refused() -> None:
    engine = EngineStore(MemoryEngine, Random(1)).open(10)
    engine.write(_put(b"k", b"v" * 20))
    assert engine.needs_flush()
    with pytest.raises(AssertionError, match="P3"):
        engine.flush_memtables()
    engine.sync()
    engine.flush_memtables()
    assert not engine.needs_flush()


def test_io_calls_run_in_order_and_take_time() -> None:
    loop = VirtualLoop()
    process = Incarnation(loop, "n1")
    io = SimIo(process, Random(3), IoOptions())
    log: list[tuple[str, int]] = []

    async def main() -> None:
        first, second = io.run(lambda: log.append(("one", loop.now_us))), io.run(lambda: 2)
        assert await second == 2
        log.append(("two answered", loop.now_us))
        await first

    task = process.spawn(main())
    loop.run_until_us(1_000_000)
    task.result()
    assert [name for name, _ in log] == ["one", "two answered"]
    assert log[1][1] >= 2 * 80
    loop.bury()


def test_a_failing_io_call_fails_its_future_and_a_bug_leaves_the_loop() -> None:
    loop = VirtualLoop()
    process = Incarnation(loop, "n1")
    io = SimIo(process, Random(3), IoOptions())

    def broken() -> None:
        raise OSError(5, "Input/output error")

    async def main() -> None:
        await io.run(broken)

    task = process.spawn(main())
    loop.run_until_us(1_000_000)
    assert isinstance(task.exception(), OSError)
    pending = io.run(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.run_until_us(2_000_000)
    del pending
    loop.bury()


def test_a_crash_finds_an_io_call_done_or_not() -> None:
    outcomes = set()
    for seed in range(50):
        loop = VirtualLoop()
        process = Incarnation(loop, "n1")
        done: list[int] = []
        io = SimIo(process, Random(seed), IoOptions(latency_min_us=100, latency_mean_us=1))
        future = io.run(functools.partial(done.append, 1))
        loop.run_until_us(50)
        process.kill()
        loop.run_until_us(1000)
        outcomes.add((bool(done), future.done()))  # type: ignore[attr-defined]
        loop.bury()
    assert outcomes == {(True, False), (False, False)}


def test_a_stalled_disk_makes_calls_late() -> None:
    loop = VirtualLoop()
    process = Incarnation(loop, "n1")
    io = SimIo(process, Random(3), IoOptions())
    io.stall(2_000_000)
    finished: list[int] = []

    async def main() -> None:
        await io.run(lambda: None)
        finished.append(loop.now_us)

    process.spawn(main())
    loop.run_until_us(5_000_000)
    assert finished[0] > 2_000_000
    loop.bury()


@settings(max_examples=40, deadline=None)
@given(st.integers(), st.sampled_from([0, 200, 20_000]), st.sampled_from([100, 100_000]))
def test_t1_clocks_stay_within_their_bound_and_only_steps_go_back(seed: int, bound: int, drift: int) -> None:
    loop = VirtualLoop()
    rng = Random(seed)
    clock = SimClock(loop, rng, ClockOptions(error_bound_us=bound, drift_ppm_max=drift, rate_ppm_max=20_000))
    wall = monotonic = 0
    for step in range(100):
        loop.run_until_us(loop.now_us + rng.randrange(1_000_000))
        assert abs(clock.wall_us() - EPOCH_US - loop.now_us) <= bound
        assert clock.monotonic_us() >= monotonic
        if step % 10:
            assert clock.wall_us() >= wall
        else:
            clock.step_within_bound(rng)
        wall, monotonic = clock.wall_us(), clock.monotonic_us()
    loop.bury()
