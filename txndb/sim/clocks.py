"""A simulated node's clocks: off by a bounded, wandering error, and running at its own rate.

The wall clock's error is a triangle wave between -`amplitude_us` and +`amplitude_us` with slope `drift_ppm`, plus steps
that a fault may add; it stays within the node's stated error as long as amplitude and step together do (rule T1). The
monotonic clock runs at a slightly wrong rate (leases must allow for it: `LEASE_DRIFT_PERCENT`).

Beyond the bound there are two faults. `lose_bound`: the source says that it may be off by more than E, as a kernel does
that has lost its time servers, before it is. Then the node must stop serving. `jump`: the clock is off by far more than
E and says nothing. Then real-time order may be lost, but never data (rule T5).
"""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from txndb.sim.loop import VirtualLoop

EPOCH_US: Final = 1_700_000_000_000_000
"""Virtual time zero on a perfect wall clock."""


class ClockOptions(msgspec.Struct, frozen=True):
    """How wrong clocks are in one run."""

    error_bound_us: int = 0
    """E; 0 = all nodes share one clock."""
    drift_ppm_max: int = 0
    rate_ppm_max: int = 0
    """How wrong the monotonic clocks' rates are."""


class SimClock:
    """One node's `TimeSource`."""

    def __init__(self, loop: VirtualLoop, rng: Random, options: ClockOptions) -> None:
        self._loop = loop
        self._options = options
        bound = options.error_bound_us
        self.amplitude_us = rng.randrange(bound + 1) if bound else 0
        drift = rng.randrange(options.drift_ppm_max + 1) if self.amplitude_us else 0
        self._slope = drift / 1e6
        self._phase_us = rng.randrange(4 * self.amplitude_us + 1) if self.amplitude_us else 0
        rate = rng.randrange(-options.rate_ppm_max, options.rate_ppm_max + 1) if options.rate_ppm_max else 0
        self._rate = 1.0 + rate / 1e6
        self._boot_us = rng.randrange(10**12)
        self._step_us = 0
        self._jump_us = 0
        self._stated_us = 0

    def wall_us(self) -> int:
        now = self._loop.now_us
        if not self.amplitude_us:
            return EPOCH_US + now + self._step_us + self._jump_us
        return EPOCH_US + now + self._step_us + self._jump_us + self._wander_us(now)

    def monotonic_us(self) -> int:
        return self._boot_us + int(self._loop.now_us * self._rate)

    def leave_host(self) -> None:
        """This clock is its own in any case."""

    def error_us(self, off_host: bool = False) -> int:
        return max(self._options.error_bound_us, self._stated_us)

    @property
    def beyond(self) -> bool:
        """Whether the clock is, or says that it may be, off by more than E."""
        return bool(self._jump_us or self._stated_us)

    def lose_bound(self, stated_us: int) -> None:
        """A fault: from now on the source vouches for no less than this error; 0 ends it."""
        self._stated_us = stated_us

    def jump(self, jump_us: int) -> None:
        """A fault: be off by this much, on top of everything else; 0 ends it."""
        self._jump_us = jump_us

    def step_within_bound(self, rng: Random) -> int:
        """A fault: move the clock at once to another error that E still covers; returns the new step."""
        room = self._options.error_bound_us - self.amplitude_us
        self._step_us = rng.randrange(-room, room + 1) if room > 0 else 0
        return self._step_us

    def off_us(self) -> int:
        """How far the wall clock is from true time now."""
        return self.wall_us() - EPOCH_US - self._loop.now_us

    def _wander_us(self, now_us: int) -> int:
        amplitude = self.amplitude_us
        position = int(self._phase_us + now_us * self._slope) % (4 * amplitude)
        if position < 2 * amplitude:
            return position - amplitude
        return 3 * amplitude - position
