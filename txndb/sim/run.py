"""Running seeds: one here, many over several processes."""

from __future__ import annotations

import importlib
import itertools
import pdb
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import msgspec

from txndb.sim.host import Parts
from txndb.sim.options import WorldOptions, draw_options
from txndb.sim.replay import FORMAT, Replay
from txndb.sim.shrink import Shrinker
from txndb.sim.world import Report, ViolationError, World

WALL_SECONDS_MAX: Final = 120
NODE_PARTS: Final = "txndb.sim.brain:node_parts"


class Request(msgspec.Struct, frozen=True):
    """What was asked for on the command line; empty or zero = drawn from the seed."""

    faults: str = "all"
    workload: str = ""
    nodes: int = 0
    seconds: float = 10.0
    canaries: tuple[str, ...] = ()
    parts: str = NODE_PARTS

    def options(self, seed: int) -> WorldOptions:
        return draw_options(
            seed,
            faults=self.faults,
            workload=self.workload,
            nodes=self.nodes,
            seconds=self.seconds,
            canaries=self.canaries,
            sql=self.parts == NODE_PARTS,
        )

    def replay_line(self, seed: int) -> str:
        """The one line that repeats a run."""
        line = f"txndb sim --seed {seed} --faults {self.faults} --seconds {self.seconds:g}"
        if self.workload:
            line += f" --workload {self.workload}"
        if self.nodes:
            line += f" --nodes {self.nodes}"
        for canary in self.canaries:
            line += f" --canary {canary}"
        if self.parts != NODE_PARTS:
            line += f" --parts {self.parts}"
        return line


def load_parts(name: str) -> Parts:
    """The parts that `module:function` makes."""
    module, _, function = name.partition(":")
    make: Callable[[], Parts] = getattr(importlib.import_module(module), function)
    return make()


class HangError(Exception):
    """One callback ran for longer than a whole run may take: an endless loop in the brain."""


def _hang(number: int, frame: object) -> None:
    raise HangError(f"no end within {WALL_SECONDS_MAX} real seconds")


def run_seed(request: Request, seed: int, echo: bool = False) -> tuple[Report, list[str]]:
    """Run one seed; also returns the story (its last lines, or all of it with `echo`)."""
    return run_options(request.options(seed), request.parts, echo=echo)


def run_options(
    options: WorldOptions, parts: str, *, echo: bool = False, debug: bool = False
) -> tuple[Report, list[str]]:
    """Run what is written out; `debug`: stop in the debugger at a violation.

    Virtual time cannot end a loop without awaits, so real time does, with the stack as the violation.
    """
    world = World(options, load_parts(parts), echo=echo, on_violation=stop_in_debugger if debug else None)
    watched = threading.current_thread() is threading.main_thread() and not debug
    if watched:
        before = signal.signal(signal.SIGALRM, _hang)
        signal.alarm(WALL_SECONDS_MAX)
    try:
        report = world.run()
    finally:
        if watched:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
    return report, list(world.trace.story) if echo or not report.ok else []


def stop_in_debugger(world: World, error: Exception) -> None:
    """Stop the world where it is: every machine, task and frame on the wire stands as it stood at the violation.

    `world` and `error` are in scope; an exception that left a callback is shown where it was raised (`up` leads to
    `World.run`, whose `self` is the world).
    """
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    debugger = pdb.Pdb()
    if isinstance(error, ViolationError) or error.__traceback__ is None:
        debugger.set_trace(sys._getframe())
    else:
        debugger.reset()
        debugger.interaction(None, error.__traceback__)


def run_seeds(
    request: Request, seeds: Iterable[int], jobs: int
) -> Generator[tuple[Report, list[str]], None, None]:
    """Run seeds, `jobs` at a time in processes of their own; results come as they are ready."""
    if jobs == 1:
        for seed in seeds:
            yield run_seed(request, seed)
        return
    todo = iter(seeds)
    with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver"), max_tasks_per_child=50) as pool:
        running: list[Future[tuple[Report, list[str]]]] = []
        try:
            while True:
                for seed in itertools.islice(todo, 2 * jobs - len(running)):
                    running.append(pool.submit(run_seed, request, seed))
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in [future for future in running if future in done]:
                    running.remove(future)
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


def shrunk(
    options: WorldOptions, report: Report, parts: str, wall_s: float, say: Callable[[str], None]
) -> tuple[WorldOptions, Report]:
    """Make a failed run smaller, for at most about `wall_s` real seconds."""
    shrinker = Shrinker(lambda smaller: run_options(smaller, parts)[0], wall_s, say)
    return shrinker.shrink(options, report)


def replay_of(options: WorldOptions, report: Report, parts: str) -> Replay:
    """What repeats a failed run wherever this code is."""
    explicit = msgspec.structs.replace(options, schedule=report.schedule)
    return Replay(FORMAT, commit(), parts, report.violation, report.trace_hash, explicit)


def commit() -> str:
    """The commit of the checkout this code runs from, or the package's version."""
    git = Path(__file__).resolve().parents[2] / ".git"
    head = git / "HEAD"
    if not head.is_file():
        return "unknown"
    text = head.read_text().strip()
    if not text.startswith("ref: "):
        return text[:12]
    ref = git / text.removeprefix("ref: ")
    return ref.read_text().strip()[:12] if ref.is_file() else "unknown"
