"""The leaseholder's reads: under locks, and as of a timestamp.

Rules K1, K2 (locked reads), S1, T2 (snapshots), R3 (spans inside the descriptor). A locked page is read first and its
locks are acquired in the same step, so that only what the page covers is locked; when they are not granted at once, the
request is dispatched again from its beginning.
"""

from __future__ import annotations

from typing import Any

from txndb.ids import Timestamp
from txndb.limits import FUTURE_US_MAX, SCAN_PAGE_BYTES_MAX, SCAN_PAGE_ROWS_MAX
from txndb.ranges import api
from txndb.ranges.lockitems import Item
from txndb.ranges.locks import EntryState, LockEntry
from txndb.ranges.parking import NEWEST, Handle, Parking
from txndb.storage import mvcc


class Reads(Parking):
    """`Get`, `Scan`, `SnapshotGet`, `SnapshotScan`."""

    def _on_get(self, request: api.Get, handle: Handle) -> api.Response | None:
        moved = self._moved(request.keys)
        if moved is not None:
            return moved
        entry = self._open(request.txn, request.token)
        if entry is None:
            return self._wounded(request.txn.attempt, "its locks were lost", request.keys[0])
        items: list[Item] = [(key, None, request.mode) for key in request.keys]
        if not self._acquire(entry, items, handle, request):
            return None
        newest = 0
        values: list[bytes | None] = []
        for key in request.keys:
            value, version = mvcc.get(self.state.engine, key, NEWEST)
            newest = max(newest, version)
            values.append(value)
        return api.Values(entry.token, values if request.want_values else [], Timestamp(newest))

    def _open(self, txn: api.TxnMeta, token: bytes) -> LockEntry | None:
        entry = self.locks.open(txn, token)
        if entry is None or entry.state is not EntryState.ACTIVE:
            return None
        if not entry.asked_us:
            entry.asked_us = self.clock.source.monotonic_us()
        return entry

    def _acquire(
        self, entry: LockEntry, items: list[Item], handle: Handle, request: api.Get | api.Scan
    ) -> bool:
        """Lock, or park the request in the lock table for as long as it may wait."""
        due_us = self.clock.source.monotonic_us() + request.wait_us if request.wait_us else 0
        granted = self.locks.acquire(entry, items, (handle, request), due_us)
        if not granted and due_us:
            self._sweep_at(due_us)
        return granted

    def _on_scan(self, request: api.Scan, handle: Handle) -> api.Response | None:
        moved = self._moved_span(request.start, request.end)
        if moved is not None:
            return moved
        entry = self._open(request.txn, request.token)
        if entry is None:
            return self._wounded(request.txn.attempt, "its locks were lost", request.start)
        page = self._page(request, NEWEST)
        # The page is read first, so that only what it covers is locked; granted within this step, it still holds.
        start, end = request.start, request.end
        if page.resume:
            start, end = (page.resume, end) if request.reverse else (start, page.resume)
        items: list[Item] = [(start, end, 1)]
        if "phantom" in self._canaries:
            items = [(key, None, 1) for key, _ in page.rows]
        if request.mode == 2:
            items += [(key, None, 2) for key, _ in page.rows]
        if not self._acquire(entry, items, handle, request):
            return None
        return api.Rows(entry.token, page.rows, page.newest, page.resume)

    def _page(self, request: api.Scan | api.SnapshotScan, at: Timestamp) -> api.Rows:
        matches = self._compile(request.program) if request.program else None
        predicate = None if matches is None else (lambda _, value: matches(value))
        limit = min(request.limit or SCAN_PAGE_ROWS_MAX, SCAN_PAGE_ROWS_MAX)
        page = mvcc.scan(
            self.state.engine,
            request.start,
            request.end,
            at,
            limit=limit,
            bytes_max=SCAN_PAGE_BYTES_MAX,
            reverse=request.reverse,
            predicate=predicate,
        )
        return api.Rows(b"", page.rows, Timestamp(page.max_version_ts), page.resume_key or b"")

    def _before_snapshot(self, request: Any, handle: Handle) -> api.Response | bool:
        """T2, GC threshold, `read_ts`: True when the snapshot may look at its keys now."""
        at = request.at
        wait_us = self.clock.wait_us_until_allowed(at)
        if wait_us > FUTURE_US_MAX:
            return api.Refused("22023", "the snapshot's timestamp is too far in the future")
        if wait_us > 0 and "T2" not in self._canaries:
            self._delay(wait_us, handle, request)
            return False
        if at < self.state.gc_threshold:
            return api.Refused("72000", "snapshot too old: the versions it needs may be collected already")
        if at > self.read_ts and "S1" not in self._canaries:
            self.read_ts = at
        return True

    def _on_snapshot_get(self, request: api.SnapshotGet, handle: Handle) -> api.Response | None:
        moved = self._moved(request.keys)
        if moved is not None:
            return moved
        ready = self._before_snapshot(request, handle)
        if ready is not True:
            return ready or None
        at = request.at
        committing = self.locks.committing
        for key in request.keys:
            entry = committing(key, None, at)
            if entry is not None and "S1" not in self._canaries:
                self._until_end_of(entry.attempt, handle, request)
                return None
        engine = self.state.engine
        return api.Values(b"", [mvcc.get(engine, key, at)[0] for key in request.keys], Timestamp(0))

    def _on_snapshot_scan(self, request: api.SnapshotScan, handle: Handle) -> api.Response | None:
        moved = self._moved_span(request.start, request.end)
        if moved is not None:
            return moved
        ready = self._before_snapshot(request, handle)
        if ready is not True:
            return ready or None
        entry = self.locks.committing(request.start, request.end, request.at)
        if entry is not None and "S1" not in self._canaries:
            self._until_end_of(entry.attempt, handle, request)
            return None
        return self._page(request, request.at)
