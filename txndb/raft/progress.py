"""A leader's view of one peer: what it holds, what was sent to it, and how much more may be.

Reference: Ongaro's dissertation §3.5 (nextIndex, matchIndex), §10.2.1 (pipelining).

    PROBE ----- accepted -----> REPLICATE        PROBE: one append at a time, to find where the logs meet
      ^  ^------ rejected --------'  |           REPLICATE: a window of appends under way
      |                              |           SNAPSHOT: its next entry is gone here; wait for the driver
      '--- reported --- SNAPSHOT <---'

Invariants:
1. match < next.
2. `inflight` is empty unless REPLICATE, and its last indexes ascend; `inflight_bytes` is what it sums to.
Driven by `txndb.raft.replication`.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

from txndb.ids import ReplicaId


class State(IntEnum):
    """How appends are sent to a peer."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Progress:
    """One peer of a leader."""

    __slots__ = (
        "acked_us",
        "active_us",
        "inflight",
        "inflight_bytes",
        "match",
        "next",
        "probe_sent",
        "replica",
        "round",
        "state",
    )

    def __init__(self, replica: ReplicaId, next_index: int, now_us: int) -> None:
        self.replica = replica
        self.match = 0
        self.next = next_index
        self.state = State.PROBE
        self.probe_sent = False
        """PROBE: one append is under way."""
        self.inflight: deque[tuple[int, int, int]] = deque()
        """REPLICATE: (last index, sent_us, bytes) of each append not answered yet."""
        self.inflight_bytes = 0
        self.acked_us = -1
        """The latest own send time that the peer has acknowledged: the lease's measure."""
        self.active_us = now_us
        """When anything was last heard from it: check-quorum's measure."""
        self.round = 0
        """The latest read-index round that it has acknowledged."""

    def may_send(self, inflight_max: int, bytes_max: int) -> bool:
        """Whether an append with entries may go out now; where none is under way, of any size."""
        if self.state is State.REPLICATE:
            return len(self.inflight) < inflight_max and self.inflight_bytes < bytes_max
        return self.state is State.PROBE and not self.probe_sent

    def sent(self, index: int, now_us: int, size: int) -> None:
        """REPLICATE: an append of so many bytes that ends at `index` goes out."""
        self.inflight.append((index, now_us, size))
        self.inflight_bytes += size
        self.next = index + 1

    def accepted(self, index: int) -> bool:
        """The peer durably matches up to `index`; returns whether that was news."""
        inflight = self.inflight
        while inflight and inflight[0][0] <= index:
            self.inflight_bytes -= inflight.popleft()[2]
        if self.state is State.PROBE:
            self.state = State.REPLICATE
            self.probe_sent = False
            self.next = max(self.match, index) + 1
        if index <= self.match:
            return False
        self.match = index
        if self.next <= index:
            self.next = index + 1
        return True

    def probe(self, next_index: int) -> None:
        """Start over at `next_index`, one append at a time."""
        self.state = State.PROBE
        self.probe_sent = False
        self._forget_inflight()
        self.next = max(next_index, self.match + 1)

    def await_snapshot(self) -> None:
        """Send nothing until the driver reports."""
        self.state = State.SNAPSHOT
        self._forget_inflight()

    def _forget_inflight(self) -> None:
        self.inflight.clear()
        self.inflight_bytes = 0

    def validate(self, last_index: int) -> None:
        """Assert the invariants."""
        assert self.match < self.next <= last_index + 1, "invariant 1: match < next <= last + 1"
        assert self.match <= last_index
        assert self.state is State.REPLICATE or not self.inflight, "invariant 2"
        indexes = [index for index, _, _ in self.inflight]
        assert indexes == sorted(indexes), "invariant 2: in order"
        assert self.inflight_bytes == sum(size for _, _, size in self.inflight), "invariant 2: the bytes"


def quorum_value(values: list[int]) -> int:
    """The highest value that a majority reaches; sorts `values`. 0 when there are none."""
    if not values:
        return 0
    values.sort()
    return values[(len(values) - 1) >> 1]
