"""What a lock request asks for: points and spans in a mode, and the summary by which two requests are compared.

A page of a scan that locks its rows is one span and up to 4096 points. Comparing such requests item by item takes 16
million steps, more than a lease lasts; so each is summarised once, and two summaries are compared by their bounds, by
the points they share, and by bisection of each span into the other's sorted points.

Invariant: `ItemSet.conflicts` is true exactly where `items_conflict` is for some pair of items.

It knows no transactions: that a request does not conflict with its own entry is the lock table's business.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

SHARED, EXCLUSIVE = 1, 2

Item = tuple[bytes, bytes | None, int]
"""(key, None, mode) for a point, (start, end, mode) for a span."""


def items_conflict(a: Item, b: Item) -> bool:
    """Whether two items of different entries overlap in conflicting modes."""
    if a[2] == SHARED and b[2] == SHARED:
        return False
    a_start, a_end, _ = a
    b_start, b_end, _ = b
    if a_end is None:
        return a_start == b_start if b_end is None else b_start <= a_start < b_end
    if b_end is None:
        return a_start <= b_start < a_end
    return a_start < b_end and b_start < a_end


class ItemSet:
    """The items of one request, in the form that comparisons need."""

    __slots__ = ("_exclusive", "_keys", "high", "low", "points", "spans")

    def __init__(self, items: Iterable[Item]) -> None:
        self.points: dict[bytes, int] = {}
        """Each point in its strongest mode."""
        self.spans: list[tuple[bytes, bytes, int]] = []
        """Few: a request of a scan has one."""
        points = self.points
        for start, end, mode in items:
            if end is not None:
                self.spans.append((start, end, mode))
            elif points.get(start, 0) < mode:
                points[start] = mode
        self._keys = sorted(points)
        self._exclusive = [key for key in self._keys if points[key] == EXCLUSIVE]
        starts = [s for s, _, _ in self.spans] + self._keys[:1]
        ends = [e for _, e, _ in self.spans] + [key + b"\0" for key in self._keys[-1:]]
        self.low = min(starts, default=b"")
        """No item begins below it."""
        self.high = max(ends, default=b"")
        """Every item ends at or below it."""

    def conflicts(self, other: ItemSet) -> bool:
        """Whether an item of this request and one of the other overlap in conflicting modes."""
        if not (self.low < other.high and other.low < self.high):
            return False
        fewer, more = (self, other) if len(self.points) <= len(other.points) else (other, self)
        theirs = more.points
        for key, mode in fewer.points.items():
            held = theirs.get(key)
            if held is not None and (mode == EXCLUSIVE or held == EXCLUSIVE):
                return True
        return any(other.meets(s, e, m) is not None for s, e, m in self.spans) or any(
            self._meets_points(s, e, m) is not None for s, e, m in other.spans
        )

    def meets(self, start: bytes, end: bytes, mode: int) -> bytes | None:
        """Where an item conflicts with the span [start, end): the start of one that does."""
        for s, e, m in self.spans:
            if s < end and start < e and (mode == EXCLUSIVE or m == EXCLUSIVE):
                return s
        return self._meets_points(start, end, mode)

    def _meets_points(self, start: bytes, end: bytes, mode: int) -> bytes | None:
        keys = self._keys if mode == EXCLUSIVE else self._exclusive
        at = bisect_left(keys, start)
        return keys[at] if at < len(keys) and keys[at] < end else None
