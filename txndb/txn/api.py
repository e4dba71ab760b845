"""The key-value API that SQL speaks, implemented by `txndb.txn.coordinator` (and by test fakes).

Keys are MVCC user keys (`txndb.encoding.keys`), values are opaque bytes. A scan's `program` is an opaque, deterministic
filter over a pair's value, evaluated where the rows are: the node compiles it with the `ProgramCompiler` it was given.

Errors: `RetryError` (40001) when the attempt lost, `UnavailableError`, `LockTimeoutError`, `SnapshotTooOldError`,
`LimitError`, `OutcomeUnknownError` (only from `commit`).
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from txndb.ids import Timestamp
from txndb.limits import NodeLimits

KeyValue = tuple[bytes, bytes]
Predicate = Callable[[bytes], bool]
ProgramCompiler = Callable[[bytes], Predicate]
"""Compiles a scan's `program` bytes into a predicate over an encoded value; caches inside."""


class Lock(enum.IntEnum):
    """What a read locks. Snapshots never lock; read-write transactions lock SHARED at least."""

    NONE = 0
    SHARED = 1
    EXCLUSIVE = 2


class ReadView(Protocol):
    """What can be read from, by a snapshot or inside a read-write transaction (own writes overlaid)."""

    async def get(self, keys: Sequence[bytes], lock: Lock = Lock.SHARED) -> list[bytes | None]:
        """Values at `keys`, in their order; a snapshot ignores `lock`."""

    def scan(
        self,
        start: bytes,
        end: bytes,
        *,
        lock: Lock = Lock.SHARED,
        limit: int = 0,
        reverse: bool = False,
        program: bytes = b"",
    ) -> AsyncIterator[list[KeyValue]]:
        """Pairs in [start, end) that pass `program`, in key order (descending with `reverse`), in batches; at most
        `limit` pairs in all when it is not 0. In a transaction the whole span read is locked SHARED, and with
        `lock=EXCLUSIVE` each returned key EXCLUSIVE as well (rule K2)."""


class Snapshot(ReadView, Protocol):
    """A read-only transaction at one timestamp: no locks, no commit."""

    @property
    def timestamp(self) -> Timestamp | None:
        """The snapshot's timestamp; None until the first read fixed it."""


class Txn(ReadView, Protocol):
    """One attempt of a read-write transaction. Writes are buffered here until `commit`."""

    lock_wait_us: int
    """A request for locks waits this long, then fails with `LockTimeoutError` (55P03); 0: no bound."""

    @property
    def sealed(self) -> bool:
        """Whether what decides was sent: from then on only the recorded outcome counts (rule M7)."""

    @property
    def start(self) -> Timestamp:
        """The attempt's start timestamp (now(), CURRENT_TIMESTAMP)."""

    @property
    def age(self) -> tuple[Timestamp, bytes]:
        """(first start timestamp, id): kept over retries, orders wound-wait (rule K3)."""

    @property
    def newest(self) -> Timestamp:
        """The newest version read or overwritten: it will commit above it (rule T5)."""

    def put(self, key: bytes, value: bytes) -> None:
        """Buffer a write. The key need not be locked before; `commit` locks what is not (rule K2)."""

    def delete(self, key: bytes) -> None:
        """Buffer a deletion."""

    async def lock(self, keys: Sequence[bytes]) -> None:
        """Lock keys EXCLUSIVE without reading them."""

    def savepoint(self) -> int:
        """A mark in the write buffer."""

    def rollback_to(self, savepoint: int) -> None:
        """Undo buffered writes after the mark; locks are kept (rule K2). `RetryError` if the attempt is known to have
        lost one (rule K7)."""

    def limit_commit(self, not_before: Timestamp, not_after: Timestamp) -> None:
        """Require not_before <= c <= not_after of the commit timestamp (rule D1); the narrowest wins."""

    async def check(self) -> None:
        """Raise `RetryError` if any lock was lost: to be awaited before a non-40001 error is sent (rule K4)."""

    async def commit(self) -> Timestamp:
        """Commit; returns c (0 if nothing was written). After an error other than `OutcomeUnknownError` nothing of it
        happened."""

    async def rollback(self) -> None:
        """Drop the attempt and its locks. Never raises for a lost connection; idempotent."""


class KV(Protocol):
    """A node's door to the key space. `canaries` are rules switched off in a test build."""

    @property
    def canaries(self) -> frozenset[str]: ...

    @property
    def limits(self) -> NodeLimits:
        """The node's bounds on transactions."""

    def begin(self, age: tuple[Timestamp, bytes] | None = None) -> Txn:
        """Start an attempt; `age` is given when a transaction is replayed."""

    def snapshot(self, at: Timestamp | None = None) -> Snapshot:
        """A lock-free view: at `at` (AS OF SYSTEM TIME), else at a fresh timestamp with every earlier commit."""
