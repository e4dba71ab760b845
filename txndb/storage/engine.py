"""The `Engine` protocol: an ordered map of bytes with atomic batches, which MVCC and range state live in.

Two implementations pass one conformance suite: `txndb.storage.memory` (SortedDict) and `txndb.storage.rocks`
(RocksDB). Writes are atomic and ordered but durable only after `sync()`; after a crash an engine holds a prefix of
its batches (rule P3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

Op = tuple[int, bytes, bytes]
PUT, DELETE, DELETE_RANGE = 0, 1, 2


class WriteBatch:
    """An ordered list of operations applied atomically: `(PUT, key, value)`, `(DELETE, key, b"")`,
    `(DELETE_RANGE, start, end)`; later operations win."""

    __slots__ = ("bytes", "ops")

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.bytes = 0

    def put(self, key: bytes, value: bytes) -> None:
        self.ops.append((PUT, key, value))
        self.bytes += len(key) + len(value)

    def delete(self, key: bytes) -> None:
        self.ops.append((DELETE, key, b""))
        self.bytes += len(key)

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Remove every key in [start, end)."""
        self.ops.append((DELETE_RANGE, start, end))
        self.bytes += len(start) + len(end)


class Reader(Protocol):
    """What reads need; an `Engine` is one, and so is a pinned view of one."""

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`."""

    def iterate(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end, in order (descending with `reverse`). The view is pinned when the iterator
        is made: later writes are not seen. Close it (or exhaust it) soon; it pins memory."""


class Engine(Reader, Protocol):
    """An ordered, crash-consistent key-value store."""

    def write(self, batch: WriteBatch) -> None:
        """Apply a batch atomically; durable after the next `sync()`."""

    def sync(self) -> None:
        """Block until every earlier write is durable (call it in a worker)."""

    def checkpoint(self, path: str) -> None:
        """Write a consistent copy of the store into a new directory `path`."""

    def flush_memtables(self) -> None:
        """Write memtables out, only right after a successful `sync()` with no write between (rule P3). Blocks."""

    def needs_flush(self) -> bool:
        """Whether the write buffer has grown enough that the owner should `sync()` and `flush_memtables()`."""

    def approximate_bytes(self, start: bytes, end: bytes) -> int:
        """Roughly how many bytes the keys in [start, end) take."""

    def close(self) -> None:
        """Release files and memory; nothing unsynced is promised."""
