"""Making a failing run smaller: fewer faults, a shorter time, fewer clients and nodes, kinder wires and disks.

The approach is delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002) over
the recorded schedule: leave out halves, quarters and so on down to single faults, and keep what still fails. That works
because each fault has a stream of chance of its own. Then every other option is replaced by its tamest value, one at a
time. All of it is repeated until a whole round changes nothing, or the time is over.

Invariant: what `shrink` returns was run, and failed in the same manner (`signature`) as what it was given.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from txndb.sim.clients import ClientOptions
from txndb.sim.clocks import ClockOptions
from txndb.sim.iosim import IoOptions
from txndb.sim.options import NODES_MIN, WorldOptions
from txndb.sim.world import Report

_SIGNATURE_CHARS: Final = 24
_SECONDS_MIN: Final = 0.5

Runner = Callable[[WorldOptions], Report]


def signature(violation: str) -> str:
    """What sort of violation it is: its first words, without the phase, the time and any number."""
    text = re.sub(r"^\[[^\]]*\] ", "", violation).partition("\n")[0]
    return re.sub(r"[0-9]+", "#", text)[:_SIGNATURE_CHARS]


class Shrinker:
    """One search. `run` runs a world; `say` is told what was left out; `wall_s` bounds it all."""

    def __init__(self, run: Runner, wall_s: float, say: Callable[[str], None]) -> None:
        self.runs = 0
        self._run = run
        self._say = say
        self._deadline = time.monotonic() + wall_s
        self._wanted = ""

    def shrink(self, options: WorldOptions, report: Report) -> tuple[WorldOptions, Report]:
        """The smallest options found that fail as `report`, the failed run of `options`, did; and their report."""
        self._wanted = signature(report.violation)
        best, known = options, report
        explicit = msgspec.structs.replace(options, schedule=report.schedule)
        again = self._try(explicit)
        if again is None:
            self._say(
                "the recorded schedule alone does not repeat the violation: only other options are reduced"
            )
        else:
            best, known = explicit, again
        progress = True
        while progress and not self._over():
            progress = False
            for smaller in (self._fewer_faults, self._tamer):
                found = smaller(best)
                if found is not None:
                    best, known = found
                    progress = True
        return best, known

    def _over(self) -> bool:
        return time.monotonic() > self._deadline

    def _try(self, options: WorldOptions) -> Report | None:
        """Run it; the report if it fails in the same manner."""
        self.runs += 1
        report = self._run(options)
        return report if not report.ok and signature(report.violation) == self._wanted else None

    def _fewer_faults(self, options: WorldOptions) -> tuple[WorldOptions, Report] | None:
        """Delta debugging over the schedule: leave out ever smaller pieces of it."""
        best: tuple[WorldOptions, Report] | None = None
        faults = list(options.schedule or ())
        size = len(faults)
        while size >= 1 and faults:
            start = 0
            while start < len(faults) and not self._over():
                rest = faults[:start] + faults[start + size :]
                candidate = msgspec.structs.replace(options, schedule=tuple(rest))
                report = self._try(candidate)
                if report is None:
                    start += size
                else:
                    best = candidate, report
                    faults = rest
                    self._say(f"{len(rest)} faults left")
            size //= 2
        return best

    def _tamer(self, options: WorldOptions) -> tuple[WorldOptions, Report] | None:
        """Make one option after the other tamer, as far as the run still fails."""
        best: tuple[WorldOptions, Report] | None = None
        for step in _STEPS:
            current = best[0] if best is not None else options
            for candidate in step(current):
                if candidate == current or self._over():
                    continue
                report = self._try(candidate)
                if report is not None:
                    best = candidate, report
                    self._say(_difference(current, candidate))
                    break
        return best


def _difference(before: WorldOptions, after: WorldOptions) -> str:
    names = [name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    return ", ".join(f"{name} = {getattr(after, name)}" for name in names if name != "schedule")


# --- steps: tamer options made of given ones, the boldest first


def _shorter(options: WorldOptions) -> Iterator[WorldOptions]:
    last_us = max((fault.at_us for fault in options.schedule or ()), default=0)
    for seconds in (last_us / 1e6 + _SECONDS_MIN, options.seconds / 2, options.seconds * 0.8):
        if _SECONDS_MIN <= seconds < options.seconds:
            inside = tuple(fault for fault in options.schedule or () if fault.at_us <= seconds * 1e6)
            yield msgspec.structs.replace(
                options,
                seconds=round(seconds, 3),
                schedule=inside if options.schedule is not None else None,
            )


def _fewer_clients(options: WorldOptions) -> Iterator[WorldOptions]:
    for clients in (1, 2, 3, options.clients // 2, options.clients - 1):
        if 0 < clients < options.clients:
            yield msgspec.structs.replace(options, clients=clients)


def _fewer_nodes(options: WorldOptions) -> Iterator[WorldOptions]:
    for nodes in range(NODES_MIN, options.nodes):
        yield msgspec.structs.replace(options, nodes=nodes)


def _kinder_machines(options: WorldOptions) -> Iterator[WorldOptions]:
    yield msgspec.structs.replace(options, clock=ClockOptions(), io=IoOptions())
    yield msgspec.structs.replace(options, clock=ClockOptions())
    yield msgspec.structs.replace(options, io=IoOptions())


def _kinder_clients(options: WorldOptions) -> Iterator[WorldOptions]:
    yield msgspec.structs.replace(options, client=ClientOptions())


def _kinder_wires(options: WorldOptions) -> Iterator[WorldOptions]:
    calm = {"loss": 0.0, "corrupt": 0.0, "tail": 0.0, "duplicate": 0.0}
    yield msgspec.structs.replace(
        options, network=msgspec.structs.replace(options.network, **calm, datagram=False)
    )
    yield msgspec.structs.replace(options, network=msgspec.structs.replace(options.network, **calm))


def _faster_wires(options: WorldOptions) -> Iterator[WorldOptions]:
    latency_us = min(300, options.network.latency_mean_us)
    network = msgspec.structs.replace(options.network, latency_mean_us=latency_us)
    yield msgspec.structs.replace(options, network=network)


_STEPS: Final = (
    _shorter,
    _fewer_clients,
    _fewer_nodes,
    _kinder_machines,
    _kinder_clients,
    _kinder_wires,
    _faster_wires,
)
