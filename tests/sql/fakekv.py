"""A real key-value store in memory behind `txndb.txn.api`, for tests of the SQL layer: one process, no replication.

Versions are kept by timestamp, so snapshots are real. Conflicts are found at commit (first committer wins): a
transaction fails with `RetryError` if a key or span that it read was written by another since it started.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence

from sortedcontainers import SortedDict

from txndb.errors import RetryError
from txndb.ids import Timestamp, make_timestamp
from txndb.limits import NodeLimits
from txndb.txn.api import KeyValue, Lock, Predicate

BATCH = 256
START_US = 1_780_000_000_000_000


class FakeKV:
    """The store. `compile_program` is what a node would inject."""

    def __init__(self, compile_program: Callable[[bytes], Predicate] | None = None) -> None:
        self.canaries: frozenset[str] = frozenset()
        self.data: SortedDict[bytes, list[tuple[int, bytes | None]]] = SortedDict()
        self.compile_program = compile_program
        self.limits = NodeLimits()
        self.now_us = START_US
        self.ids = 0
        self.commits = 0
        self.requests = 0
        self.fail_commits = 0
        """So many commits fail with RetryError."""

    def tick(self) -> Timestamp:
        self.now_us += 1
        return make_timestamp(self.now_us)

    def load(self, rows: list[tuple[bytes, bytes]]) -> None:
        ts = self.tick()
        for key, value in rows:
            self.write(key, value, ts)

    def write(self, key: bytes, value: bytes | None, ts: int) -> None:
        self.data.setdefault(key, []).append((ts, value))

    def read(self, key: bytes, ts: int) -> bytes | None:
        versions = self.data.get(key)
        if versions is None:
            return None
        if versions[-1][0] <= ts:
            newest: bytes | None = versions[-1][1]
            return newest
        at = bisect_right(versions, ts, key=lambda v: v[0])
        return versions[at - 1][1] if at else None

    def latest_ts(self, key: bytes) -> int:
        versions = self.data.get(key)
        return versions[-1][0] if versions else 0

    def begin(self, age: tuple[Timestamp, bytes] | None = None) -> FakeTxn:
        self.ids += 1
        return FakeTxn(self, age or (self.tick(), self.ids.to_bytes(16, "big")))

    def snapshot(self, at: Timestamp | None = None) -> FakeSnapshot:
        return FakeSnapshot(self, at)

    def test(self, program: bytes) -> Predicate | None:
        if not program:
            return None
        assert self.compile_program is not None, "no program compiler was injected"
        return self.compile_program(program)


class FakeSnapshot:
    def __init__(self, kv: FakeKV, at: Timestamp | None) -> None:
        self.kv = kv
        self.at = at

    @property
    def timestamp(self) -> Timestamp | None:
        return self.at

    def fix(self) -> Timestamp:
        if self.at is None:
            self.at = self.kv.tick()
        return self.at

    async def get(self, keys: Sequence[bytes], lock: Lock = Lock.SHARED) -> list[bytes | None]:
        self.kv.requests += 1
        ts = self.fix()
        return [self.kv.read(k, ts) for k in keys]

    async def scan(
        self,
        start: bytes,
        end: bytes,
        *,
        lock: Lock = Lock.SHARED,
        limit: int = 0,
        reverse: bool = False,
        program: bytes = b"",
    ) -> AsyncIterator[list[KeyValue]]:
        self.kv.requests += 1
        ts = self.fix()
        test = self.kv.test(program)
        batch: list[KeyValue] = []
        count = 0
        for key in list(self.kv.data.irange(start, end, inclusive=(True, False), reverse=reverse)):
            value = self.kv.read(key, ts)
            if value is None or (test is not None and not test(value)):
                continue
            batch.append((key, value))
            count += 1
            if limit and count >= limit:
                break
            if len(batch) >= BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


class FakeTxn:
    def __init__(self, kv: FakeKV, age: tuple[Timestamp, bytes]) -> None:
        self.kv = kv
        self._age = age
        self._start = kv.tick()
        self.writes: SortedDict[bytes, bytes | None] = SortedDict()
        self.undo: list[tuple[bytes, bool, bytes | None]] = []
        self.keys_read: dict[bytes, None] = {}
        self.spans_read: list[tuple[bytes, bytes]] = []
        self.locked: dict[bytes, Lock] = {}
        self.done = False
        self.sealed = False
        self.newest = Timestamp(0)
        self.lock_wait_us = 0
        self.not_after: int | None = None

    @property
    def start(self) -> Timestamp:
        return self._start

    @property
    def age(self) -> tuple[Timestamp, bytes]:
        return self._age

    async def get(self, keys: Sequence[bytes], lock: Lock = Lock.SHARED) -> list[bytes | None]:
        self.kv.requests += 1
        self._check_lost()
        out: list[bytes | None] = []
        for key in keys:
            if lock is Lock.EXCLUSIVE:
                self.locked[key] = lock
            self.keys_read[key] = None
            out.append(self.writes[key] if key in self.writes else self.kv.read(key, self._start))
        return out

    async def scan(
        self,
        start: bytes,
        end: bytes,
        *,
        lock: Lock = Lock.SHARED,
        limit: int = 0,
        reverse: bool = False,
        program: bytes = b"",
    ) -> AsyncIterator[list[KeyValue]]:
        self.kv.requests += 1
        self._check_lost()
        self.spans_read.append((start, end))
        test = self.kv.test(program)
        keys = {k: None for k in self.kv.data.irange(start, end, inclusive=(True, False))}
        keys.update((k, None) for k in self.writes.irange(start, end, inclusive=(True, False)))
        batch: list[KeyValue] = []
        count = 0
        for key in sorted(keys, reverse=reverse):
            value = self.writes[key] if key in self.writes else self.kv.read(key, self._start)
            if value is None or (test is not None and not test(value)):
                continue
            if lock is Lock.EXCLUSIVE:
                self.locked[key] = lock
            batch.append((key, value))
            count += 1
            if limit and count >= limit:
                break
            if len(batch) >= BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def put(self, key: bytes, value: bytes) -> None:
        self._write(key, value)

    def delete(self, key: bytes) -> None:
        self._write(key, None)

    def _write(self, key: bytes, value: bytes | None) -> None:
        assert not self.done
        self.undo.append((key, key in self.writes, self.writes.get(key)))
        self.writes[key] = value

    async def lock(self, keys: Sequence[bytes]) -> None:
        self.kv.requests += 1
        self._check_lost()
        self.locked.update((key, Lock.EXCLUSIVE) for key in keys)

    def savepoint(self) -> int:
        return len(self.undo)

    def rollback_to(self, savepoint: int) -> None:
        self._check_lost()
        while len(self.undo) > savepoint:
            key, had, value = self.undo.pop()
            if had:
                self.writes[key] = value
            else:
                del self.writes[key]

    def limit_commit(self, not_before: Timestamp, not_after: Timestamp) -> None:
        self.not_after = min(self.not_after, not_after) if self.not_after is not None else not_after

    async def check(self) -> None:
        self._check_lost()

    def _check_lost(self) -> None:
        if self.kv.commits and self._lost():
            self.done = True
            raise RetryError("a row this transaction read was changed by another", detail="test store")

    def _lost(self) -> bool:
        if any(self.kv.latest_ts(k) > self._start for k in self.keys_read):
            return True
        for start, end in self.spans_read:
            if any(
                self.kv.latest_ts(k) > self._start
                for k in self.kv.data.irange(start, end, inclusive=(True, False))
            ):
                return True
        return False

    async def commit(self) -> Timestamp:
        assert not self.done
        self._check_lost()
        self.done = True
        if not self.writes:
            return Timestamp(0)
        if self.kv.fail_commits:
            self.kv.fail_commits -= 1
            raise RetryError("the test store was told to fail", detail="test store")
        ts = self.kv.tick()
        for key, value in self.writes.items():
            self.kv.write(key, value, ts)
        self.kv.commits += 1
        return ts

    async def rollback(self) -> None:
        self.done = True
