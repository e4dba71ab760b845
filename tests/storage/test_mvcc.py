"""Multi-version reads, writes and garbage collection against a model: a dict from key to its versions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from txndb.encoding.keys import TIMESTAMP_MAX, data_span
from txndb.storage import mvcc
from txndb.storage.engine import Engine, WriteBatch
from txndb.storage.memory import MemoryEngine
from txndb.storage.rocks import RocksEngine

KEY_END = b"\xff"


@pytest.fixture(params=["memory", "rocks"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made: Engine = MemoryEngine() if request.param == "memory" else RocksEngine(str(tmp_path / "db"))
    yield made
    made.close()


def put(engine: Engine, key: bytes, ts: int, value: bytes | None) -> None:
    batch = WriteBatch()
    if value is None:
        mvcc.delete(batch, key, ts)
    else:
        mvcc.put(batch, key, ts, value)
    engine.write(batch)


def scan_all(engine: Engine, ts: int, **options: Any) -> tuple[list[tuple[bytes, bytes]], int]:
    """Every page of a scan of everything: (rows, highest version)."""
    rows: list[tuple[bytes, bytes]] = []
    newest = 0
    start, end = b"", KEY_END
    while True:
        page = mvcc.scan(engine, start, end, ts, **options)
        rows += page.rows
        newest = max(newest, page.max_version_ts)
        if page.resume_key is None:
            return rows, newest
        if options.get("reverse"):
            assert page.resume_key < end
            end = page.resume_key
        else:
            assert page.resume_key > start
            start = page.resume_key


def test_a_read_sees_the_newest_version_at_or_below_its_timestamp(engine: Engine) -> None:
    put(engine, b"k", 10, b"a")
    put(engine, b"k", 20, None)
    put(engine, b"k", 30, b"c")
    assert mvcc.get(engine, b"k", 9) == (None, 0)
    assert mvcc.get(engine, b"k", 10) == (b"a", 10)
    assert mvcc.get(engine, b"k", 19) == (b"a", 10)
    assert mvcc.get(engine, b"k", 20) == (None, 20)
    assert mvcc.get(engine, b"k", 30) == mvcc.get(engine, b"k") == (b"c", 30)
    assert mvcc.get(engine, b"", TIMESTAMP_MAX) == mvcc.get(engine, b"k\x00") == (None, 0)


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00\x00x", b"\x01", b"\x93abc"])
def test_every_value_survives_and_none_is_a_tombstone(engine: Engine, value: bytes) -> None:
    put(engine, b"k", 1, value)
    assert mvcc.get(engine, b"k") == (value, 1)
    assert mvcc.scan(engine, b"", KEY_END).rows == [(b"k", value)]
    assert mvcc.scan(engine, b"", KEY_END, reverse=True).rows == [(b"k", value)]
    stored = mvcc.encode_value(value)
    assert stored != mvcc.TOMBSTONE and mvcc.decode_value(stored) == value


def test_a_scan_reports_the_versions_it_decided_on(engine: Engine) -> None:
    put(engine, b"a", 10, b"1")
    put(engine, b"b", 50, None)
    put(engine, b"c", 30, b"refused")
    put(engine, b"d", 90, b"later")
    for reverse in (False, True):
        page = mvcc.scan(engine, b"a", b"z", 60, reverse=reverse, predicate=lambda key, value: value == b"1")
        assert (page.rows, page.max_version_ts, page.resume_key) == ([(b"a", b"1")], 50, None)
        assert mvcc.scan(engine, b"x", b"z", 60, reverse=reverse).max_version_ts == 0


@pytest.mark.parametrize("reverse", [False, True])
def test_limits_cut_pages_that_go_on(engine: Engine, reverse: bool) -> None:
    for i in range(30):
        for version in range(1, 4):
            put(engine, b"k%02d" % i, version * 10, b"v%d" % version)
    expected = [(b"k%02d" % i, b"v2") for i in range(30)][:: -1 if reverse else 1]
    assert scan_all(engine, 25, reverse=reverse) == (expected, 20)
    for options in ({"limit": 1}, {"limit": 7}, {"bytes_max": 1}, {"bytes_max": 21}, {"examined_max": 5}):
        assert scan_all(engine, 25, reverse=reverse, **options) == (expected, 20)
    page = mvcc.scan(engine, b"", KEY_END, 25, reverse=reverse, limit=7)
    assert page.rows == expected[:7]
    page = mvcc.scan(
        engine, b"", KEY_END, 25, reverse=reverse, examined_max=10, predicate=lambda key, value: False
    )
    assert page.rows == [] and page.resume_key is not None and page.examined < 20


@pytest.mark.parametrize("reverse", [False, True])
def test_keys_with_many_versions_are_sought_not_walked(engine: Engine, reverse: bool) -> None:
    batch = WriteBatch()
    for i in range(5):
        for version in range(1, 2001):
            mvcc.put(batch, b"k%d" % i, version, b"%d" % version)
    engine.write(batch)
    for ts in (1, 1000, 2000, TIMESTAMP_MAX):
        page = mvcc.scan(engine, b"", KEY_END, ts, reverse=reverse)
        value = b"%d" % min(ts, 2000)
        assert page.rows == [(b"k%d" % i, value) for i in range(5)][:: -1 if reverse else 1]
        assert page.examined < 120
    assert mvcc.newest_version_ts(engine, b"k1", b"k3") == 2000
    assert mvcc.newest_version_ts(engine, b"x", b"y") == 0


def test_gc_keeps_a_tombstone_while_older_versions_remain(engine: Engine) -> None:
    """Otherwise a version that was deleted would come back between two calls."""
    for ts in range(1, 10):
        put(engine, b"k", ts, b"v%d" % ts)
    put(engine, b"k", 10, None)
    calls = 0
    resume: bytes | None = b""
    while resume is not None:
        batch = WriteBatch()
        page = mvcc.gc(engine, batch, resume, KEY_END, 20, rows_max=3)
        assert len(batch.ops) == page.removed <= 4
        engine.write(batch)
        assert mvcc.get(engine, b"k", 20)[0] is None
        resume = page.resume_key
        calls += 1
    assert calls > 2 and list(engine.iterate(*data_span(b"", KEY_END))) == []


def test_gc_passes_many_new_versions_and_resumes_by_key(engine: Engine) -> None:
    for i in range(6):
        for ts in range(1, 41):
            put(engine, b"k%d" % i, ts, b"v%d" % ts)
    batch = WriteBatch()
    page = mvcc.gc(engine, batch, b"", KEY_END, 5, rows_max=8)
    assert (page.removed, page.resume_key) == (8, b"k2")
    engine.write(batch)
    batch = WriteBatch()
    page = mvcc.gc(engine, batch, b"k2", KEY_END, 5, rows_max=1000)
    assert (page.removed, page.resume_key) == (16, None)
    engine.write(batch)
    assert len(list(engine.iterate(*data_span(b"", KEY_END)))) == 6 * 36
    for i in range(6):
        assert mvcc.get(engine, b"k%d" % i, 5) == (b"v5", 5)
        assert mvcc.get(engine, b"k%d" % i, 4) == (None, 0)


KEYS = st.sampled_from([b"", b"\x00", b"a", b"a\x00", b"a\x00\x01", b"a\x01", b"ab", b"b", b"b\xff", b"c"])
STAMPS = st.integers(1, 60)


class MvccMachine(RuleBasedStateMachine):
    """Versions in a dict, and both engines."""

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.engines: list[Engine] = [MemoryEngine(), RocksEngine(os.path.join(self.directory.name, "db"))]
        self.model: dict[bytes, dict[int, bytes | None]] = {}
        self.threshold = 0

    def visible(self, key: bytes, ts: int) -> tuple[bytes | None, int]:
        versions = [version for version in self.model.get(key, {}) if version <= ts]
        return (self.model[key][max(versions)], max(versions)) if versions else (None, 0)

    @rule(
        writes=st.dictionaries(
            KEYS, st.none() | st.sampled_from([b"", b"\x00z", b"v", b"value"]), max_size=5
        ),
        ts=STAMPS,
    )
    def write(self, writes: dict[bytes, bytes | None], ts: int) -> None:
        ts += self.threshold
        for engine in self.engines:
            for key, value in writes.items():
                put(engine, key, ts, value)
        for key, value in writes.items():
            self.model.setdefault(key, {})[ts] = value

    @rule(key=KEYS, first=STAMPS, count=st.integers(9, 25))
    def write_many(self, key: bytes, first: int, count: int) -> None:
        for ts in range(self.threshold + first, self.threshold + first + count):
            for engine in self.engines:
                put(engine, key, ts, b"%d" % ts)
            self.model.setdefault(key, {})[ts] = b"%d" % ts

    @rule(key=KEYS, ts=STAMPS)
    def get(self, key: bytes, ts: int) -> None:
        for engine in self.engines:
            assert mvcc.get(engine, key, self.threshold + ts) == self.visible(key, self.threshold + ts)

    @rule(
        start=KEYS,
        end=KEYS,
        ts=STAMPS,
        reverse=st.booleans(),
        limit=st.sampled_from([1, 2, 100]),
        examined_max=st.sampled_from([1, 3, 1000]),
    )
    def scan(self, start: bytes, end: bytes, ts: int, reverse: bool, limit: int, examined_max: int) -> None:
        ts += self.threshold
        decided = {key: self.visible(key, ts) for key in sorted(self.model) if start <= key < end}
        expected = [(key, value) for key, (value, _) in decided.items() if value is not None]
        for engine in self.engines:
            rows, newest, low, high = [], 0, start, end
            while True:
                page = mvcc.scan(
                    engine, low, high, ts, limit=limit, reverse=reverse, examined_max=examined_max
                )
                assert len(page.rows) <= limit
                rows += page.rows
                newest = max(newest, page.max_version_ts)
                if page.resume_key is None:
                    break
                low, high = (low, page.resume_key) if reverse else (page.resume_key, high)
            assert rows == (expected[::-1] if reverse else expected)
            assert newest == max((version for _, version in decided.values()), default=0)

    @rule(start=KEYS, end=KEYS)
    def newest(self, start: bytes, end: bytes) -> None:
        expected = max((max(v) for k, v in self.model.items() if start <= k < end and v), default=0)
        for engine in self.engines:
            assert mvcc.newest_version_ts(engine, start, end) == expected

    @precondition(lambda self: any(self.model.values()))
    @rule(raised=st.integers(0, 20), rows_max=st.sampled_from([2, 5, 1000]))
    def collect(self, raised: int, rows_max: int) -> None:
        self.threshold += raised
        removed = []
        for engine in self.engines:
            resume: bytes | None = b""
            removed.append(0)
            while resume is not None:
                batch = WriteBatch()
                page = mvcc.gc(engine, batch, resume, KEY_END, self.threshold, rows_max=rows_max)
                engine.write(batch)
                removed[-1] += page.removed
                resume = page.resume_key
        assert removed[0] == removed[1]
        for key, versions in self.model.items():
            value, newest = self.visible(key, self.threshold)
            self.model[key] = {
                ts: v
                for ts, v in versions.items()
                if ts > self.threshold or (ts == newest and value is not None)
            }

    @invariant()
    def exactly_the_versions(self) -> None:
        expected = sum(len(versions) for versions in getattr(self, "model", {}).values())
        for engine in getattr(self, "engines", []):
            assert len(list(engine.iterate(*data_span(b"", KEY_END)))) == expected

    def teardown(self) -> None:
        if hasattr(self, "engines"):
            for engine in self.engines:
                engine.close()
            self.directory.cleanup()


TestMvccMachine = MvccMachine.TestCase
TestMvccMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
