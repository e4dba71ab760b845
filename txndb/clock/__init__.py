"""Hybrid logical clock and bounded time.

Sources: Kulkarni et al., "Logical Physical Clocks" (2014), §3.1 for the HLC; Corbett et al., "Spanner" (OSDI 2012), §3
and §4.2 for the bounded interval and commit wait. A clock reads physical time only through the `TimeSource` given to
it, so the same code runs under virtual time.

Invariants:
1. `now()` never returns a value twice, nor a smaller one than before, on one node.
2. `earliest() <= true time <= latest()` while the node's own clock error is at most `latest_bound_us`, which is never
   above `error_bound_us` (rule T1).
3. `monotonic_us()` counts while the machine is suspended, so a lease can be judged by it (rule L2).

Commit wait is a value here (`wait_us_until_past`), never a sleep: the caller owns the waiting.
"""

from __future__ import annotations

from typing import Protocol

from txndb.ids import LOGICAL_BITS, LOGICAL_MASK, Timestamp


class TimeSource(Protocol):
    """What a body gives: physical time, a suspend-counting monotonic clock, and the node's own error."""

    def wall_us(self) -> int:
        """Microseconds since the Unix epoch by this node's clock."""

    def monotonic_us(self) -> int:
        """Microseconds of a clock that never steps and counts while suspended. Read fresh, never cached."""

    def error_us(self, off_host: bool = False) -> int:
        """This node's own bound on its clock's error, in microseconds (0 where all members share one clock); with
        `off_host` what it would be if they did not."""

    def leave_host(self) -> None:
        """Members on other hosts exist: stop claiming a shared clock."""


class Clock:
    """One node's HLC with the cluster-wide error bound E.

    `error_bound_us` is E: a replicated setting, raised before a second host joins (rule T1). While it is being raised
    `latest_bound_us` may still be the old, smaller one: timestamps used are bounded by it, waits by E.
    """

    def __init__(self, source: TimeSource, error_bound_us: int = 0) -> None:
        self.source = source
        self.error_bound_us = error_bound_us
        self.latest_bound_us = error_bound_us
        self.outvoted = False
        """Most members' clocks contradict this one (`txndb.cluster.clockwatch`)."""
        self.placed = True
        """False until a node that starts knows whether this is the clock of before (`txndb.cluster.whereabouts`)."""
        self._last = Timestamp(0)

    def now(self) -> Timestamp:
        """The next HLC value: above every value returned or observed before."""
        wall = self.source.wall_us() << LOGICAL_BITS
        last = self._last
        self._last = now = Timestamp(wall if wall > last else last + 1)
        return now

    def observe(self, timestamp: Timestamp) -> None:
        """Take note of a timestamp seen in a message; later `now()` values are above it."""
        if timestamp > self._last:
            self._last = timestamp

    def latest(self) -> Timestamp:
        """The highest value true time may have now."""
        return Timestamp((self.source.wall_us() + self.latest_bound_us) << LOGICAL_BITS | LOGICAL_MASK)

    def earliest(self) -> Timestamp:
        """The lowest value true time may have now."""
        return Timestamp((self.source.wall_us() - self.error_bound_us) << LOGICAL_BITS)

    def interval(self) -> tuple[Timestamp, Timestamp]:
        """`(earliest, latest)` of one reading of the node's clock."""
        wall = self.source.wall_us()
        return (
            Timestamp((wall - self.error_bound_us) << LOGICAL_BITS),
            Timestamp((wall + self.latest_bound_us) << LOGICAL_BITS | LOGICAL_MASK),
        )

    def within_bound(self) -> bool:
        """Whether the node's own error is within E, as far as its source and the other members can tell; a node that is
        not must stop serving (rule T1). While E is raised, within the smaller one: beyond it `latest()` may be past."""
        return self.placed and not self.outvoted and self.source.error_us() <= self.latest_bound_us

    def wait_us_until_past(self, timestamp: Timestamp) -> int:
        """Commit wait: microseconds until `earliest()` is past `timestamp`, 0 if it is already (rule T3)."""
        if self.earliest() > timestamp:
            return 0
        return (timestamp >> LOGICAL_BITS) + 1 + self.error_bound_us - self.source.wall_us()

    def wait_us_until_allowed(self, timestamp: Timestamp) -> int:
        """Microseconds until `latest()` reaches `timestamp`, 0 if it has: rule T2's wait before using it."""
        if timestamp <= self.latest():
            return 0
        return (timestamp >> LOGICAL_BITS) - self.latest_bound_us - self.source.wall_us()
