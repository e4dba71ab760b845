"""Rule P3 on the real engine: after a crash RocksDB holds a prefix of its batches, and everything synced."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import pytest

from txndb.errors import CorruptionError, StoreError
from txndb.storage.engine import WriteBatch
from txndb.storage.rocks import FORCED_FLUSH_BYTES, RocksEngine


def _write(engine: RocksEngine, number: int) -> None:
    """Batch n: its own pair, and the counter that every batch overwrites (as an applied index is)."""
    batch = WriteBatch()
    batch.put(b"batch/%06d" % number, bytes(40))
    batch.put(b"applied", b"%d" % number)
    engine.write(batch)


def _batches(path: Path) -> int:
    """How many batches the store in a copied directory holds; they must be the first ones."""
    engine = RocksEngine(str(path))
    keys = [key for key, _ in engine.iterate(b"batch/", b"batch0")]
    assert keys == [b"batch/%06d" % i for i in range(1, len(keys) + 1)]
    assert int(engine.get(b"applied") or b"0") == len(keys)
    engine.close()
    return len(keys)


def _newest_log(path: Path) -> Path:
    return max(path.glob("*.log"))


def _flush(engine: RocksEngine, path: Path) -> None:
    """Switch the memtable and wait until the background flush dropped the old log, so that a copy is of one moment."""
    engine.flush_memtables()
    while len(list(path.glob("*.log"))) > 1:
        os.sched_yield()


def test_p3_a_torn_log_leaves_a_prefix_of_the_batches(tmp_path: Path) -> None:
    source = tmp_path / "db"
    engine = RocksEngine(str(source))
    rng = Random(3)
    found = set()
    flushed = 0
    for number in range(1, 401):
        _write(engine, number)
        if number == 250:
            engine.sync()
            _flush(engine, source)
            flushed = number
        if number % 25 == 0:
            copy = tmp_path / f"copy{number}"
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("LOCK"))
            log = _newest_log(copy)
            size = log.stat().st_size
            os.truncate(log, rng.randint(0, size))
            count = _batches(copy)
            assert flushed <= count <= number
            found.add(count)
    engine.close()
    assert len(found) > 8


def test_p3_a_write_that_fills_the_buffer_is_synced_before_the_memtable_is_switched(tmp_path: Path) -> None:
    """Nobody called `flush_memtables`: the write did, and everything in the old log is durable."""
    source = tmp_path / "db"
    engine = RocksEngine(str(source))
    big = WriteBatch()
    for number in range(2 + FORCED_FLUSH_BYTES // 1_000_000):
        big.put(b"big/%03d" % number, bytes(1_000_000))
    _write(engine, 1)
    engine.write(big)
    assert not engine.needs_flush()
    while len(list(source.glob("*.log"))) > 1:
        os.sched_yield()
    _write(engine, 2)
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("LOCK"))
    os.truncate(_newest_log(copy), 0)
    assert _batches(copy) == 1
    engine.close()


def test_p3_writes_between_sync_and_flush_are_synced_before_the_switch(tmp_path: Path) -> None:
    """The memtable is switched with everything in it durable, even if a write came in between."""
    source = tmp_path / "db"
    engine = RocksEngine(str(source))
    _write(engine, 1)
    engine.sync()
    _write(engine, 2)
    _flush(engine, source)
    _write(engine, 3)
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("LOCK"))
    os.truncate(_newest_log(copy), 0)
    assert _batches(copy) == 2
    engine.close()


def test_large_tables_keep_their_index_in_pieces_that_the_cache_can_hold(tmp_path: Path) -> None:
    """One index block for two million rows outgrows a shard of the block cache: each seek read all of it again."""
    engine = RocksEngine(str(tmp_path / "engine"))
    _write(engine, 1)
    engine.close()
    options = max((tmp_path / "engine").glob("OPTIONS-*")).read_text()
    assert "index_type=kTwoLevelIndexSearch" in options
    assert "partition_filters=true" in options
    assert "pin_top_level_index_and_filter=true" in options


def test_a_damaged_store_says_that_it_is_damaged(tmp_path: Path) -> None:
    source = tmp_path / "db"
    engine = RocksEngine(str(source))
    _write(engine, 1)
    engine.sync()
    _flush(engine, source)
    engine.close()
    path = next(source.glob("*.sst"))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(CorruptionError, match=r"is damaged: Corruption: .*") as caught:
        RocksEngine(str(source))
    assert "\n" not in caught.value.message
    assert "Replace this node" in caught.value.hint


def test_a_store_that_is_open_elsewhere_says_so(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    with pytest.raises(StoreError, match="is in use by another process"):
        RocksEngine(str(tmp_path / "db"))
    engine.close()


def test_a_damaged_block_is_an_error_and_never_the_end_of_a_scan(tmp_path: Path) -> None:
    source = tmp_path / "db"
    engine = RocksEngine(str(source))
    batch = WriteBatch()
    rng = Random(1)
    for number in range(4000):
        batch.put(b"%06d" % number, rng.randbytes(100))
    engine.write(batch)
    engine.sync()
    _flush(engine, source)
    engine.close()
    path = next(source.glob("*.sst"))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    engine = RocksEngine(str(source))
    for reverse in (False, True):
        scan = engine.iterate(b"0", b"1", reverse=reverse)
        with pytest.raises(CorruptionError, match="is damaged: Corruption"):
            list(scan)
    with pytest.raises(CorruptionError, match="is damaged: Corruption"):
        for number in range(4000):
            assert engine.get(b"%06d" % number) is not None
    engine.close()


def test_a_close_that_cannot_write_is_a_store_error(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    _write(engine, 1)
    engine.sync()
    shutil.rmtree(tmp_path / "db")
    with pytest.raises(StoreError, match=r"the close of the store in .* failed: IO error"):
        engine.close()
