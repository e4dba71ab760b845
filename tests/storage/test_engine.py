"""One conformance suite for both engines, and a state machine that runs them against a dict."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from txndb.errors import StoreError
from txndb.storage.engine import Engine, WriteBatch
from txndb.storage.memory import MemoryEngine
from txndb.storage.rocks import RocksEngine

ENGINES: dict[str, Callable[[Path], Engine]] = {
    "memory": lambda path: MemoryEngine(),
    "rocks": lambda path: RocksEngine(str(path / "db")),
}


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made = ENGINES[request.param](tmp_path)
    yield made
    made.close()


def write(engine: Engine, *ops: tuple[Any, ...]) -> None:
    """("put", key, value), ("delete", key) or ("delete_range", start, end), in one batch."""
    batch = WriteBatch()
    for name, *arguments in ops:
        getattr(batch, name)(*arguments)
    engine.write(batch)


def pairs(
    engine: Engine, start: bytes = b"", end: bytes = b"\xff" * 4, reverse: bool = False
) -> list[tuple[bytes, bytes]]:
    return list(engine.iterate(start, end, reverse=reverse))


def test_get_put_delete(engine: Engine) -> None:
    assert engine.get(b"a") is None
    write(engine, ("put", b"a", b"1"), ("put", b"b", b""), ("put", b"\x00", b"zero"))
    assert (engine.get(b"a"), engine.get(b"b"), engine.get(b"\x00")) == (b"1", b"", b"zero")
    write(engine, ("delete", b"a"), ("delete", b"never"))
    assert engine.get(b"a") is None


def test_spans_are_half_open_and_ordered_both_ways(engine: Engine) -> None:
    data = [(bytes([i]), b"v%d" % i) for i in range(10)]
    write(engine, *(("put", key, value) for key, value in reversed(data)))
    assert pairs(engine) == data
    assert pairs(engine, b"\x03", b"\x06") == data[3:6]
    assert pairs(engine, b"\x03", b"\x06", reverse=True) == data[3:6][::-1]
    assert pairs(engine, b"\x03\x00", b"\x06\x00") == data[4:7]
    assert pairs(engine, b"\x03\x00", b"\x06\x00", reverse=True) == data[4:7][::-1]
    assert pairs(engine, reverse=True) == data[::-1]
    assert pairs(engine, b"\x06", b"\x06") == pairs(engine, b"\x07", b"\x02") == []
    assert pairs(engine, b"\x07", b"\x02", reverse=True) == []


def test_later_operations_of_a_batch_win(engine: Engine) -> None:
    write(engine, ("put", b"a", b"1"), ("put", b"a", b"2"), ("put", b"b", b"1"), ("delete", b"b"))
    assert pairs(engine) == [(b"a", b"2")]
    write(engine, ("put", b"b", b"x"), ("delete_range", b"a", b"c"), ("put", b"b", b"y"), ("put", b"c", b"z"))
    assert pairs(engine) == [(b"b", b"y"), (b"c", b"z")]
    write(engine, ("delete_range", b"c", b"b"), ("delete_range", b"b", b"b"))
    assert pairs(engine) == [(b"b", b"y"), (b"c", b"z")]
    write(engine, ("delete_range", b"b", b"c"))
    assert pairs(engine) == [(b"c", b"z")]


@pytest.mark.parametrize("reverse", [False, True])
def test_an_iterator_pins_its_view_when_it_is_made(engine: Engine, reverse: bool) -> None:
    write(engine, *(("put", bytes([i]), b"old") for i in range(5)))
    iterator = engine.iterate(b"", b"\xff", reverse=reverse)
    started = engine.iterate(b"", b"\xff", reverse=reverse)
    first = next(started)
    write(
        engine,
        ("put", b"\x02", b"new"),
        ("delete", b"\x03"),
        ("put", b"\x09", b"new"),
        ("delete_range", b"\x00", b"\x02"),
    )
    expected = [(bytes([i]), b"old") for i in range(5)][:: -1 if reverse else 1]
    assert list(iterator) == expected
    assert [first, *started] == expected
    assert pairs(engine) == [(b"\x02", b"new"), (b"\x04", b"old"), (b"\x09", b"new")]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_bounds_of_an_iterator_outlive_the_call(engine: Engine, reverse: bool) -> None:
    """The engine must own the memory of a bound: many bounds of one length come and go while iterators are open."""
    write(engine, *(("put", b"\x04\x00\x01" + bytes([i]) * 8, b"v") for i in range(9)))
    for _ in range(3):
        opened = [engine.iterate(b"\x04", b"\x04\xff" + b"\xff" * i, reverse=reverse) for i in range(30)]
        other = [bytes([1]) * (2 + i) for i in range(30) for _ in range(20)]
        assert [len(list(iterator)) for iterator in opened] == [9] * 30
        assert len(other) == 600


def test_sync_and_memtable_flushes_change_nothing_visible(engine: Engine) -> None:
    for i in range(20):
        write(engine, ("put", b"k%02d" % i, b"v"))
        engine.sync()
        engine.flush_memtables()
    assert len(pairs(engine)) == 20 and not engine.needs_flush()


def test_a_checkpoint_is_a_consistent_copy(engine: Engine, tmp_path: Path) -> None:
    write(engine, ("put", b"a", b"1"), ("put", b"b", b"2"))
    path = str(tmp_path / "copy")
    engine.checkpoint(path)
    write(engine, ("put", b"a", b"changed"))
    copy: Engine = (
        RocksEngine(path) if isinstance(engine, RocksEngine) else MemoryEngine.open_checkpoint(path)
    )
    assert pairs(copy) == [(b"a", b"1"), (b"b", b"2")]
    copy.close()


def test_approximate_bytes_is_about_right(engine: Engine) -> None:
    value = os.urandom(200)
    for start in range(0, 30_000, 1000):
        write(engine, *(("put", b"k%06d" % i, value) for i in range(start, start + 1000)))
    whole = engine.approximate_bytes(b"k", b"l")
    tenth = engine.approximate_bytes(b"k010000", b"k013000")
    assert 30_000 * 200 < whole < 30_000 * 300
    assert 3_000 * 190 < tenth < 3_000 * 250
    assert engine.approximate_bytes(b"x", b"y") == 0


def test_a_locked_directory_gives_a_clear_error(tmp_path: Path) -> None:
    first = RocksEngine(str(tmp_path / "db"))
    with pytest.raises(StoreError, match="in use by another process"):
        RocksEngine(str(tmp_path / "db"))
    first.close()
    RocksEngine(str(tmp_path / "db")).close()


def test_rocks_keeps_what_was_written_over_a_reopening(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    for round_number in range(3):
        engine = RocksEngine(path)
        assert len(pairs(engine)) == 50 * round_number
        write(engine, *(("put", b"%d/%02d" % (round_number, i), b"v") for i in range(50)))
        engine.close()


def test_rocks_asks_for_a_flush_before_its_write_buffer_is_full(tmp_path: Path) -> None:
    """Rule P3: only the explicit flush switches memtables, so the log stays one file until then."""
    engine = RocksEngine(str(tmp_path / "db"))
    value = bytes(64 * 1024)
    written = 0
    while not engine.needs_flush():
        write(engine, ("put", b"k%06d" % written, value))
        written += 1
    logs = [name for name in os.listdir(tmp_path / "db") if name.endswith(".log")]
    assert len(logs) == 1 and 200 < written < 300
    engine.sync()
    engine.flush_memtables()
    assert not engine.needs_flush()
    assert engine.get(b"k%06d" % (written - 1)) == value
    engine.close()
    with pytest.raises(StoreError):
        RocksEngine("/dev/null/no")


KEYS = st.binary(min_size=1, max_size=2) | st.sampled_from([b"a", b"a\x00", b"a\xff", b"b"])
OPS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.binary(max_size=3)),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("delete_range"), KEYS, KEYS),
)


class EngineMachine(RuleBasedStateMachine):
    """Both engines do what a dict does; iterators keep what they saw when they were made."""

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.engines: list[Engine] = [MemoryEngine(), RocksEngine(os.path.join(self.directory.name, "db"))]
        self.model: dict[bytes, bytes] = {}
        self.open: list[tuple[list[Iterator[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]]] = []

    @rule(ops=st.lists(OPS, max_size=6))
    def write(self, ops: list[tuple[Any, ...]]) -> None:
        for engine in self.engines:
            write(engine, *ops)
        for name, key, *rest in ops:
            if name == "put":
                self.model[key] = rest[0]
            elif name == "delete":
                self.model.pop(key, None)
            else:
                for doomed in [k for k in self.model if key <= k < rest[0]]:
                    del self.model[doomed]

    @rule(start=KEYS, end=KEYS, reverse=st.booleans())
    def open_iterators(self, start: bytes, end: bytes, reverse: bool) -> None:
        expected = sorted(((k, v) for k, v in self.model.items() if start <= k < end), reverse=reverse)
        self.open.append(([e.iterate(start, end, reverse=reverse) for e in self.engines], expected))

    @rule()
    def exhaust_iterators(self) -> None:
        for iterators, expected in self.open:
            for iterator in iterators:
                assert list(iterator) == expected
        self.open.clear()

    @rule()
    def flush(self) -> None:
        for engine in self.engines:
            engine.sync()
            engine.flush_memtables()

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        for engine in self.engines:
            assert engine.get(key) == self.model.get(key)

    @invariant()
    def same_contents(self) -> None:
        for engine in getattr(self, "engines", []):
            assert pairs(engine) == sorted(self.model.items())

    def teardown(self) -> None:
        if hasattr(self, "engines"):
            self.open.clear()
            for engine in self.engines:
                engine.close()
            self.directory.cleanup()


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
