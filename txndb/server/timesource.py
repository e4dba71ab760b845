"""Real time: the wall clock, a monotonic clock that counts while suspended, and this node's own clock error.

Three sources of the error (rule T1):
- `fixed:US` – the operator vouches for a bound in microseconds.
- `kernel` – `adjtimex(2)`: the kernel's `maxerror`, which its time daemon keeps and which grows by 500 ppm between
  updates. Where the kernel does not say that it is synchronised there is no bound: `UNBOUNDED_US`.
- `auto` (default) – zero while every member runs on one host, hence on one clock; `leave_host()` is called before a
member
  on another host is admitted, and from then on it is `kernel`.

Invariants: 1. `monotonic_us` never steps and counts suspended time. 2. A source never reports less than the error it
can vouch for: not knowing is `UNBOUNDED_US`, never zero.

It does not compare itself with E: `Clock.within_bound` does. Driven by the clock of one node.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
import time
from pathlib import Path
from typing import Final

from txndb.errors import StoreError

UNBOUNDED_US: Final = 1 << 62
"""The error of a clock nobody vouches for."""

_MONOTONIC: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_STA_UNSYNC: Final = 0x0040
_STA_NANO: Final = 0x2000
_TIME_ERROR: Final = 5


class _Timeval(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_usec", ctypes.c_long)]


class _Timex(ctypes.Structure):
    """`struct timex` of <sys/timex.h>; the tail is reserved space."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", _Timeval),
        ("tick", ctypes.c_long),
        ("reserved", ctypes.c_long * 32),
    ]


class KernelClock:
    """Asks the kernel how far its clock may be off."""

    def __init__(self) -> None:
        self._adjtimex = None
        if sys.platform == "linux":
            libc = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
            self._adjtimex = libc.adjtimex

    def error_us(self) -> int:
        """The kernel's bound, `UNBOUNDED_US` where it is not synchronised or cannot be asked."""
        if self._adjtimex is None:
            return UNBOUNDED_US
        timex = _Timex()
        state = self._adjtimex(ctypes.byref(timex))
        if state < 0 or state == _TIME_ERROR or timex.status & _STA_UNSYNC:
            return UNBOUNDED_US
        return int(timex.maxerror)


class SystemTime:
    """The `TimeSource` of a real node."""

    def __init__(self, fixed_us: int | None, kernel: KernelClock | None) -> None:
        self._fixed_us = fixed_us
        self._kernel = kernel
        self._shares_host = False
        """Whether the fixed error holds only while all members share one clock."""

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_us(self) -> int:
        return time.clock_gettime_ns(_MONOTONIC) // 1000

    def error_us(self, off_host: bool = False) -> int:
        if self._fixed_us is not None and not (off_host and self._shares_host):
            return self._fixed_us
        return self._kernel.error_us() if self._kernel is not None else UNBOUNDED_US

    def leave_host(self) -> None:
        """A member on another host is about to join: an `auto` source stops claiming a shared clock."""


class AutoTime(SystemTime):
    """`auto`: no error of its own while all members share this host's clock, the kernel's bound after that."""

    def __init__(self) -> None:
        super().__init__(0, KernelClock())
        self._shares_host = True

    def leave_host(self) -> None:
        self._fixed_us = None


def make_time_source(spec: str) -> SystemTime:
    """Build the source that `--clock` names: `auto`, `kernel` or `fixed:MICROSECONDS`."""
    if spec == "auto":
        return AutoTime()
    if spec == "kernel":
        kernel = KernelClock()
        if kernel.error_us() == UNBOUNDED_US:
            raise StoreError(
                "--clock kernel: the kernel does not say that its clock is synchronised",
                hint="Run a time daemon, or vouch for a bound with --clock fixed:MICROSECONDS.",
            )
        return SystemTime(None, kernel)
    kind, _, value = spec.partition(":")
    if kind == "fixed" and value.isdecimal():
        return SystemTime(int(value), None)
    raise StoreError(f"--clock {spec}: expected auto, kernel or fixed:MICROSECONDS")


def host_id() -> str:
    """Names the host whose clock this process reads: two members with one host id share one clock. Containers of one
    host share it too; a reboot changes it. Empty where the platform cannot tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
