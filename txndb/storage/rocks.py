"""The durable engine: RocksDB through rocksdict in raw mode (bytes in, bytes out).

Writes go to RocksDB's own log unsynced (a synced write would hold the interpreter's lock through the fsync) and become
durable by `sync()`, which runs in a worker. Rule P3 governs memtables: RocksDB recovers to a prefix of its batches only
within one log file, so a memtable may be switched only when everything written before is synced.

Invariants
1. The memtable is switched by `flush_memtables` alone, under a lock that holds writes off between the sync and the
   switch. The write buffer is four times larger than the size at which `needs_flush` asks; should the owner not keep
   up, or one batch be as large, the write itself syncs and switches before RocksDB would at the next one.
2. One column family, RocksDB's log always on; recovery yields a prefix of the batches.
3. A failed write or sync raises `StoreError` and poisons the engine: the process must end (rule P1).
4. An iterator pins its view when it is made; `Snapshot` is not used (its iterators do not honour it).
5. The read options of an iterator live as long as it does: rocksdict 0.3.29 gives RocksDB a pointer into the bound's
   bytes, which only the options keep; without them a scan ends at whatever that memory holds next, without an error.
6. A scan ends at the end of its span or with an error. The binding's `items` ends silently at a damaged block; its raw
   iterators say so, and cost about the same.

Memory: `BLOCK_CACHE_BYTES` + about `FLUSH_BYTES` of memtable + table readers, to keep a node below 150 MB.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Final

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
)
from rocksdict import WriteBatch as RocksBatch

from txndb.errors import CorruptionError, StoreError, TxndbError
from txndb.storage.engine import DELETE, PUT, WriteBatch

BLOCK_CACHE_BYTES: Final = 16 * 1024 * 1024
FLUSH_BYTES: Final = 16 * 1024 * 1024
WRITE_BUFFER_BYTES: Final = 4 * FLUSH_BYTES
FORCED_FLUSH_BYTES: Final = 5 * FLUSH_BYTES // 2
OP_OVERHEAD_BYTES: Final = 48
"""What a memtable entry takes beside key and value (skip list node, sequence number), roughly."""
APPROXIMATE_PAIRS_MAX: Final = 10_000
LOG_TOTAL_BYTES_MAX: Final = 1 << 40
"""Out of reach: a total log size above this bound would make RocksDB switch memtables itself."""


class RocksEngine:
    """An `Engine` in the directory `path`, which is created when missing."""

    def __init__(self, path: str) -> None:
        self._db = _open(path)
        self._path = path
        self._lock = threading.Lock()
        self._unflushed_bytes = 0
        self._writes = 0
        self._synced_writes = 0
        self._failed = ""

    # ---- reading

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:  # the binding raises plain Exception
            raise _unreadable(self._path, error) from error
        return value

    def iterate(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        if start >= end:
            return iter(())
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        at = self._db.iter(options)  # the view is pinned here, before the first pair is asked for
        return self._backward(at, start, options) if reverse else self._forward(at, start, options)

    def _forward(self, at: RdictIter, start: bytes, options: ReadOptions) -> Iterator[tuple[bytes, bytes]]:
        """`options` is kept for as long as `at` lives."""
        valid, key, value, following = at.valid, at.key, at.value, at.next
        at.seek(start)
        while valid():
            yield key(), value()
            following()
        self._must_be_at_the_end(at)

    def _backward(self, at: RdictIter, start: bytes, options: ReadOptions) -> Iterator[tuple[bytes, bytes]]:
        """The binding's set_iterate_lower_bound (0.3.29) sets the upper bound: `start` is looked for here instead."""
        valid, key, value, preceding = at.valid, at.key, at.value, at.prev
        at.seek_to_last()
        while valid():
            found = key()
            if found < start:
                return
            yield found, value()
            preceding()
        self._must_be_at_the_end(at)

    def _must_be_at_the_end(self, at: RdictIter) -> None:
        """An iterator that cannot read on is as invalid as one at the end of its span."""
        try:
            at.status()
        except Exception as error:  # the binding raises plain Exception
            raise _unreadable(self._path, error) from error

    # ---- writing

    def write(self, batch: WriteBatch) -> None:
        native = RocksBatch(raw_mode=True)
        put = native.put
        for kind, key, value in batch.ops:
            if kind == PUT:
                put(key, value)
            elif kind == DELETE:
                native.delete(key)
            elif key < value:
                native.delete_range(key, value)
        with self._lock:
            if self._failed:
                raise StoreError(self._failed)
            try:
                self._db.write(native)
            except Exception as error:  # the binding raises plain Exception
                raise self._poison("a write", error) from error
            self._writes += 1
            self._unflushed_bytes += batch.bytes + OP_OVERHEAD_BYTES * len(batch.ops)
            if self._unflushed_bytes >= FORCED_FLUSH_BYTES:
                self._switch_memtable()

    def sync(self) -> None:
        if self._failed:
            raise StoreError(self._failed)
        writes = self._writes
        if writes == self._synced_writes:
            return
        try:
            self._db.flush_wal(True)
        except Exception as error:  # the binding raises plain Exception
            raise self._poison("a sync", error) from error
        self._synced_writes = max(self._synced_writes, writes)

    def flush_memtables(self) -> None:
        """Switch the memtable; RocksDB writes it out in the background. Holds writes off for the (small) rest of the
        sync, so the caller calls `sync()` just before."""
        with self._lock:
            self._switch_memtable()

    def _switch_memtable(self) -> None:
        """Sync, then switch; the caller holds the lock, so that no write comes between (P3)."""
        self.sync()
        try:
            self._db.flush(False)
        except Exception as error:  # the binding raises plain Exception
            raise self._poison("a memtable flush", error) from error
        self._unflushed_bytes = 0

    def needs_flush(self) -> bool:
        return self._unflushed_bytes >= FLUSH_BYTES

    def checkpoint(self, path: str) -> None:
        """RocksDB switches the memtable to make a checkpoint, so writes are held off from its sync to its end."""
        with self._lock:
            self.sync()
            try:
                Checkpoint(self._db).create_checkpoint(path)
            except Exception as error:  # the binding raises plain Exception
                raise StoreError(f"cannot write a checkpoint of {self._path} to {path}: {error}") from error
            self._unflushed_bytes = 0

    def approximate_bytes(self, start: bytes, end: bytes) -> int:
        """Exact for a small span. For others the binding has no GetApproximateSizes: each table file counts by the
        share of its key interval inside the span (keys read as fractions), the memtable by the same total share."""
        total = 0
        for count, (key, value) in enumerate(self.iterate(start, end)):
            if count >= APPROXIMATE_PAIRS_MAX:
                return max(total, self._estimate_bytes(start, end))
            total += len(key) + len(value)
        return total

    def _estimate_bytes(self, start: bytes, end: bytes) -> int:
        inside = everything = 0.0
        for file in self._db.live_files():
            first, last, size = file["start_key"], file["end_key"], file["size"]
            if not isinstance(first, bytes) or not isinstance(last, bytes):
                continue
            everything += size
            if first < end and last >= start:
                inside += size * _overlap_share(first, last, start, end)
        share = inside / everything if everything else 1.0
        return int(inside + share * self._unflushed_bytes)

    def close(self) -> None:
        """Sync what can be synced and release the directory's lock."""
        if not self._failed:
            self.sync()
        try:
            self._db.close()
        except Exception as error:  # the binding raises plain Exception
            raise self._poison("the close", error) from error

    def _poison(self, what: str, error: Exception) -> StoreError:
        self._failed = f"{what} of the store in {self._path} failed: {_words(error)}"
        return StoreError(self._failed)


def _overlap_share(first: bytes, last: bytes, start: bytes, end: bytes) -> float:
    """Which share of [first, last] lies in [start, end), the keys read as numbers after their common prefix."""
    skip = 0
    while skip < len(first) and skip < len(last) and first[skip] == last[skip]:
        skip += 1

    def number(key: bytes) -> int:
        return int.from_bytes(key[skip : skip + 8].ljust(8, b"\x00"), "big")

    low, high = number(max(first, start)), number(min(last, end))
    width = number(last) - number(first)
    return 1.0 if width == 0 else min(1.0, max(0.0, (high - low) / width))


def _open(path: str) -> Rdict:
    try:
        return Rdict(path, _options())
    except Exception as error:  # the binding raises plain Exception
        text = _words(error)
        if text.startswith("Corruption"):
            raise _unreadable(path, error) from error
        if re.search(r"\block\b", text, re.IGNORECASE):  # not the block of a damaged table
            raise StoreError(
                f"the data directory {path} is in use by another process",
                hint="Stop the other node or choose another directory.",
            ) from error
        raise StoreError(f"cannot open the store in {path}: {text}") from error


def _words(error: Exception) -> str:
    """The binding's message on one line."""
    return " ".join(str(error).split())


def _unreadable(path: str, error: Exception) -> TxndbError:
    """The error for what RocksDB could not read."""
    text = _words(error)
    if text.startswith("Corruption"):
        return CorruptionError(
            f"the store in {path} is damaged: {text}",
            hint="Replace this node by a new one; its ranges have other replicas.",
        )
    return StoreError(f"a read of the store in {path} failed: {text}")


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(4)
    options.set_max_total_wal_size(LOG_TOTAL_BYTES_MAX)
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1024 * 1024)
    options.set_compression_type(DBCompressionType.lz4())
    table = BlockBasedOptions()
    table.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    table.set_bloom_filter(10, False)
    table.set_cache_index_and_filter_blocks(True)
    # One index block a file outgrows a shard of the cache (512 KiB) at about two million rows; from then on every
    # seek reads and decompresses it anew, 260 µs instead of 4. In partitions of 4 KiB it stays cached.
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_metadata_block_size(4096)
    table.set_pin_top_level_index_and_filter(True)
    options.set_block_based_table_factory(table)
    return options
