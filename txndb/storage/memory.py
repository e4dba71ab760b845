"""The in-memory engine: a `SortedDict`, for embedded databases without a path, the simulator and tests.

Invariants
1. Same observable behaviour as `txndb.storage.rocks` (one conformance suite).
2. An iterator pins its view: writes made while it is open do not show in it. The first
   write while iterators are open makes each of them copy its remaining span first (rare: scans do not await).

What it does not do: survive the process. `sync` has nothing to do; `image` and `from_image` copy the contents.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator

import msgspec
from sortedcontainers import SortedDict

from txndb.errors import StoreError
from txndb.storage.engine import DELETE, PUT, WriteBatch

_IMAGE_NAME = "image.msgpack"


class MemoryEngine:
    """An `Engine` that lives in this process."""

    def __init__(self) -> None:
        self._map: SortedDict[bytes, bytes] = SortedDict()
        self._open: weakref.WeakSet[_Scan] = weakref.WeakSet()
        self._closed = False

    # ---- reading

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._map.get(key)
        return value

    def iterate(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        if start >= end:
            return iter(())
        scan = _Scan(self._map, start, end, reverse)
        self._open.add(scan)
        return scan

    # ---- writing

    def write(self, batch: WriteBatch) -> None:
        if self._closed:
            raise StoreError("the engine is closed")
        if self._open:
            for scan in list(self._open):
                scan.pin()
            self._open.clear()
        data = self._map
        for kind, key, value in batch.ops:
            if kind == PUT:
                data[key] = value
            elif kind == DELETE:
                data.pop(key, None)
            else:
                for doomed in list(data.irange(key, value, inclusive=(True, False))):
                    del data[doomed]

    def sync(self) -> None:
        """Nothing to do."""

    def flush_memtables(self) -> None:
        """Nothing to do."""

    def needs_flush(self) -> bool:
        return False

    def checkpoint(self, path: str) -> None:
        os.makedirs(path)
        with open(os.path.join(path, _IMAGE_NAME), "wb") as file:
            file.write(msgspec.msgpack.encode(self.image()))

    @classmethod
    def open_checkpoint(cls, path: str) -> MemoryEngine:
        """The engine a `checkpoint` wrote."""
        with open(os.path.join(path, _IMAGE_NAME), "rb") as file:
            pairs = msgspec.msgpack.decode(file.read(), type=list[tuple[bytes, bytes]])
        return cls.from_image(pairs)

    def image(self) -> list[tuple[bytes, bytes]]:
        """All pairs, in order."""
        return list(self._map.items())

    @classmethod
    def from_image(cls, pairs: list[tuple[bytes, bytes]]) -> MemoryEngine:
        """An engine holding `pairs`."""
        engine = cls()
        engine._map.update(pairs)
        return engine

    def approximate_bytes(self, start: bytes, end: bytes) -> int:
        """Exact up to sampling: at most 256 pairs are weighed."""
        data = self._map
        low: int = data.bisect_left(start)
        high: int = data.bisect_left(end)
        count = high - low
        if count <= 0:
            return 0
        step = max(1, count // 256)
        keys = data.keys()
        sample = [keys[i] for i in range(low, high, step)]
        return sum(len(key) + len(data[key]) for key in sample) * count // len(sample)

    def close(self) -> None:
        self._closed = True


class _Scan:
    """An iterator over a span that survives writes by copying what is left of it just before the first one."""

    __slots__ = ("__weakref__", "_items", "_keys", "_map")

    def __init__(self, data: SortedDict[bytes, bytes], start: bytes, end: bytes, reverse: bool) -> None:
        self._map: SortedDict[bytes, bytes] = data
        self._keys: Iterator[bytes] = data.irange(start, end, inclusive=(True, False), reverse=reverse)
        self._items: Iterator[tuple[bytes, bytes]] | None = None

    def __iter__(self) -> _Scan:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        if self._items is not None:
            return next(self._items)
        key = next(self._keys)
        return key, self._map[key]

    def pin(self) -> None:
        """Copy the rest of the span: the map is about to change."""
        if self._items is None:
            data = self._map
            self._items = iter([(key, data[key]) for key in self._keys])
