"""A memory engine that crashes as RocksDB does: a prefix of its unsynced batches survives (rule P3).

The store outlives processes; each process opens a `CrashEngine` on it. The durable state is brought up to date lazily:
batches are kept in a list with a mark at the last sync, and only a crash replays them into the durable engine.

Invariants:
1. After a crash the engine holds exactly the first k batches written, synced <= k <= written; k is drawn.
2. `flush_memtables` comes right after a sync, with no write between (rule P3); else the driver has a bug and it raises.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from txndb.errors import StoreError, UnavailableError
from txndb.storage.engine import Engine, WriteBatch

_COPY_PAIRS: Final = 4096
_LAST: Final = b"\xff" * 64


class EngineStore:
    """What is on one machine's disk for the engine."""

    def __init__(self, new_engine: Callable[[], Engine], rng: Random) -> None:
        self._new_engine = new_engine
        self._rng = rng
        self._durable = new_engine()
        self._batches: list[WriteBatch] = []
        self._synced = 0
        self._open: CrashEngine | None = None
        self.fail_next_sync = False
        """A fault: the next sync fails, and nothing is known of what it covered (rule P1)."""

    def open(self, flush_bytes: int) -> CrashEngine:
        """Open the store as a new process; the one before must have closed it or crashed."""
        assert self._open is None, "the engine is open in another process"
        engine = self._new_engine()
        copy_engine(self._durable, engine)
        for batch in self._batches:
            engine.write(batch)
        self._open = CrashEngine(self, engine, flush_bytes)
        return self._open

    def crash(self) -> int:
        """The machine lost power or the process died: keep a prefix; returns how many batches were lost."""
        if self._open is not None:
            self._open.dead = True
            self._open = None
        written = len(self._batches)
        unsynced = written - self._synced
        draw = self._rng.randrange(4)
        kept = (0, unsynced, *(self._rng.randrange(unsynced + 1) for _ in range(2)))[draw]
        self._apply(self._synced + kept)
        self._batches.clear()
        self._synced = 0
        return unsynced - kept

    def kill(self) -> None:
        """The process died but the machine lives: what was written stays in its page cache, still unsynced."""
        if self._open is not None:
            self._open.dead = True
            self._open = None

    def wipe(self) -> None:
        """The disk is gone."""
        self.kill()
        self._durable = self._new_engine()
        self._batches.clear()
        self._synced = 0

    def copy(self, rng: Random) -> EngineStore:
        """Another machine's copy of what is on this disk now."""
        other = EngineStore(self._new_engine, rng)
        copy_engine(self._durable, other._durable)
        for batch in self._batches:
            other._durable.write(batch)
        return other

    def record(self, batch: WriteBatch) -> None:
        self._batches.append(batch)

    def mark_synced(self) -> None:
        self._synced = len(self._batches)

    def closed(self) -> None:
        self._open = None

    def _apply(self, count: int) -> None:
        """Move the first `count` batches into the durable state."""
        for batch in self._batches[:count]:
            self._durable.write(batch)
        del self._batches[:count]
        self._synced = max(0, self._synced - count)


class CrashEngine:
    """An open `EngineStore` (`txndb.storage.engine.Engine`)."""

    def __init__(self, store: EngineStore, engine: Engine, flush_bytes: int) -> None:
        self._store = store
        self._engine = engine
        self._flush_bytes = flush_bytes
        self._unflushed_bytes = 0
        self._written_since_sync = False
        self.dead = False

    def get(self, key: bytes) -> bytes | None:
        return self._engine.get(key)

    def iterate(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return self._engine.iterate(start, end, reverse=reverse)

    def write(self, batch: WriteBatch) -> None:
        self._check()
        copy = WriteBatch()
        copy.ops = list(batch.ops)
        copy.bytes = batch.bytes
        self._store.record(copy)
        self._engine.write(batch)
        self._unflushed_bytes += batch.bytes
        self._written_since_sync = True

    def sync(self) -> None:
        self._check()
        if self._store.fail_next_sync:
            self._store.fail_next_sync = False
            error = OSError(errno.EIO, "simulated sync error of the engine")
            raise StoreError("the engine cannot sync its log") from error
        self._store.mark_synced()
        self._written_since_sync = False

    def checkpoint(self, path: str) -> None:
        self._engine.checkpoint(path)

    def flush_memtables(self) -> None:
        self._check()
        assert not self._written_since_sync, "P3: a write came between the sync and the memtable flush"
        self._unflushed_bytes = 0

    def needs_flush(self) -> bool:
        return self._unflushed_bytes >= self._flush_bytes

    def approximate_bytes(self, start: bytes, end: bytes) -> int:
        return self._engine.approximate_bytes(start, end)

    def close(self) -> None:
        if not self.dead:
            self._store.closed()
            self.dead = True

    def _check(self) -> None:
        if self.dead:
            raise UnavailableError("the engine is closed")


def copy_engine(source: Engine, target: Engine) -> None:
    """Put every pair of `source` into `target`."""
    batch = WriteBatch()
    for key, value in source.iterate(b"", _LAST):
        batch.put(key, value)
        if len(batch.ops) >= _COPY_PAIRS:
            target.write(batch)
            batch = WriteBatch()
    target.write(batch)
