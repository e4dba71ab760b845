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

Memory: `BLOCK_CACHE_BYTES` + about `FLUSH_BYTES` of memtable + table readers, to keep a node below 150 MB.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import chain, takewhile
from typing import Final, cast

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
)
from rocksdict import WriteBatch as RocksBatch

from txndb.errors import StoreError
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
        value: bytes | None = self._db.get(key)
        return value

    def iterate(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        if start >= end:
            return iter(())
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        # keeps `options` alive as long as the iterator, which only points at their bound; yields nothing
        holder = cast(
            "Iterator[tuple[bytes, bytes]]", map(cast("Callable[[None], None]", options.fill_cache), ())
        )
        if reverse:
            # the binding's set_iterate_lower_bound (0.3.29) sets the upper bound: stop here instead
            items = cast("Iterator[tuple[bytes, bytes]]", self._db.items(True, None, options))
            return takewhile(lambda pair: pair[0] >= start, chain(items, holder))
        items = cast("Iterator[tuple[bytes, bytes]]", self._db.items(False, start, options))
        return chain(items, holder)

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
        self._db.close()

    def _poison(self, what: str, error: Exception) -> StoreError:
        self._failed = f"{what} of the store in {self._path} failed: {error}"
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
        text = str(error)
        if "lock" in text.lower():
            raise StoreError(
                f"the data directory {path} is in use by another process",
                hint="Stop the other node or choose another directory.",
            ) from error
        raise StoreError(f"cannot open the store in {path}: {text}") from error


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
