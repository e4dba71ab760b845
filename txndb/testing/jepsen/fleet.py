"""The node processes of one run, and everything that is done to them.

A node is *up*, *starting*, *paused*, *down* (a fault ended it, and it comes back) or *gone* (stopped for good, or
never to be asked again). The fleet writes down when each node was disturbed, so that a client can tell whether its
gateway lived all the while.

A node may end itself while it starts (it found no quorum), with a full disk, or because its clock is further off
than the bound it was given. It is then started again. A node that ends itself without such a cause is a finding.

Invariants
1. `close` ends every process, mount and network of the run, whatever happened before.
2. Methods block, and are called by one thread at a time, except `gateways` and `undisturbed`, which any thread may
call.
"""

from __future__ import annotations

import enum
import itertools
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from txndb.errors import DiskFullError, StoreError, UnavailableError
from txndb.server.localcluster import LocalNode
from txndb.testing.cluster import faked_clock, write_offset
from txndb.testing.jepsen.disk import SmallDisk
from txndb.testing.jepsen.links import Links

_TRACE: Final = "Traceback "
_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT")
_RAISED: Final = re.compile(r"[A-Za-z_][\w.]*(:|$)")
_MEANT: Final = (StoreError, DiskFullError, UnavailableError)
READY_TIMEOUT_S: Final = 45.0


class State(enum.Enum):
    """See the module."""

    UP = "up"
    STARTING = "starting"
    PAUSED = "paused"
    DOWN = "down"
    GONE = "gone"


@dataclass
class Member:
    """One node. `disturbances`: (from, to) in monotonic seconds; `to` is 0 while it lasts."""

    number: int
    process: LocalNode
    door: str
    state: State = State.DOWN
    disk: SmallDisk | None = None
    clock: Path | None = None
    excuse: str = ""
    """Why the node may end itself at the moment."""
    disturbances: list[tuple[float, float]] = field(default_factory=list)


class Setup(msgspec.Struct, frozen=True):
    """How nodes are made. `error_us`: what `--clock` vouches for. `faked_clocks`: with libfaketime. `small_disks`:
    which nodes have one."""

    error_us: int = 2_000
    faked_clocks: bool = False
    small_disks: frozenset[int] = frozenset()


class Fleet:
    """See the module. `make_links` is given a function that tells each node's process."""

    def __init__(
        self,
        directory: Path,
        make_links: Callable[[Callable[[], dict[int, int]]], Links],
        setup: Setup,
        note: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.setup = setup
        self.problems: list[str] = []
        self.links = make_links(self._pids)
        self._members: dict[int, Member] = {}
        self._note = note
        self._closed = False

    # --- the life of nodes

    def start(self, nodes: int) -> None:
        """Found the cluster with node 1, then let the others join. Raises `StoreError` when one does not come up."""
        for number in range(1, nodes + 1):
            self._make(number)
        for number in range(1, nodes + 1):
            self._spawn(self._members[number])
            if number == 1:
                self._must_be_ready(self._members[1])
        for number in range(2, nodes + 1):
            self._must_be_ready(self._members[number])

    def add(self) -> int:
        """A node more joins; its number. It may fail to come up under faults, and is then tried again by `mend`."""
        number = max(self._members) + 1
        self._make(number)
        self.revive([number])
        return number

    def revive(self, numbers: Sequence[int]) -> bool:
        """Start nodes that are down, all at once, for alone each may find no quorum; whether all of them serve. One
        that ends itself meanwhile is noted, no more."""
        down = [self._members[n] for n in numbers if self._members[n].state is State.DOWN]
        for member in down:
            self._spawn(member)
        for member in down:
            try:
                self._must_be_ready(member)
            except StoreError as error:
                self._note(f"node {member.number} did not come up: {error}")
                member.process.kill()
                member.state = State.DOWN
        return all(self._members[n].state is State.UP for n in numbers)

    def kill(self, number: int) -> None:
        """SIGKILL."""
        member = self._members[number]
        self._disturb(member, State.DOWN)
        member.process.kill()

    def stop(self, number: int, *, forever: bool = False) -> int:
        """SIGTERM, and wait for the end; the exit code. `forever`: it never comes back."""
        member = self._members[number]
        self._disturb(member, State.GONE if forever else State.DOWN)
        return member.process.stop()

    def pause(self, number: int) -> None:
        """SIGSTOP."""
        member = self._members[number]
        self._disturb(member, State.PAUSED)
        self._signal(member, signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """SIGCONT."""
        member = self._members[number]
        if member.state is State.PAUSED:
            self._signal(member, signal.SIGCONT)
            self._calm(member, State.UP)

    def skew(self, number: int, offset_us: int) -> None:
        """Set a node's wall clock off; needs a setup with `faked_clocks`."""
        clock = self._members[number].clock
        if clock is None:
            raise ValueError(f"the clock of node {number} cannot be moved")
        write_offset(clock, offset_us)

    def fill_disk(self, number: int) -> None:
        """Leave no byte on a node's small disk; it may end itself, now and until it was started with room."""
        member = self._members[number]
        assert member.disk is not None
        member.excuse = "disk full"
        member.disk.fill()

    def release_disk(self, number: int) -> None:
        """Room again; a node that ended itself stays down until `mend`."""
        disk = self._members[number].disk
        assert disk is not None
        disk.release()

    def excuse(self, number: int, why: str) -> None:
        """From now on a node may end itself, or ("") may not."""
        self._members[number].excuse = why

    def mend(self) -> bool:
        """Start every node that is down, and notice those that ended themselves; whether all serve that should."""
        self.notice()
        return self.revive([n for n in self.numbers() if self.state(n) is not State.PAUSED])

    def notice(self) -> None:
        """Nodes that have ended themselves are down."""
        for member in self._members.values():
            if member.state is State.UP and not member.process.is_running:
                process = member.process.process
                code = process.returncode if process is not None else None
                member.process.kill()  # only its pipes are left
                self._disturb(member, State.DOWN)
                text = f"node {member.number} ended itself ({code}): {member.process.last_log_line()[:300]}"
                self._note(text)
                if not member.excuse:
                    self.problems.append(text)

    def heal(self) -> None:
        """Undo every fault but a stop for good; nodes that are down are started by `mend`."""
        self.links.heal()
        for member in self._members.values():
            if member.clock is not None:
                write_offset(member.clock, 0)
            if member.disk is not None:
                member.disk.release()
            self.resume(member.number)

    def close(self) -> None:
        """End everything that was started; nothing can be started afterwards."""
        self._closed = True
        for member in self._members.values():
            if member.process.is_running:
                self._signal(member, signal.SIGCONT)
            member.process.kill()
        for member in self._members.values():
            if member.disk is not None:
                member.disk.close()
        self.links.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what is known of it

    def numbers(self, *states: State) -> list[int]:
        """The nodes in these states; all that are not gone if none is named."""
        wanted = states or tuple(state for state in State if state is not State.GONE)
        return [member.number for member in self._members.values() if member.state in wanted]

    def state(self, number: int) -> State:
        """What a node is at the moment."""
        return self._members[number].state

    def running(self) -> list[LocalNode]:
        """The processes that serve."""
        return [member.process for member in self._members.values() if member.state is State.UP]

    def leaders(self) -> list[int]:
        """The nodes that hold leases, the one with most of them first, as the nodes themselves say."""
        counts: dict[int, int] = {}
        for member in self._members.values():
            if member.state is State.UP:
                counts[member.number] = self._leases(member)
        return sorted((n for n, count in counts.items() if count), key=lambda n: (-counts[n], n))

    def log_paths(self) -> list[tuple[int, Path]]:
        """Each node's log."""
        return [(member.number, member.process.log_path) for member in self._members.values()]

    def gateways(self) -> list[tuple[int, str, int]]:
        """Number, host and port of every node that has served and is meant to serve again."""
        found = []
        for member in list(self._members.values()):
            if member.state is not State.GONE and member.process.ready is not None:
                host, _, port = member.process.ready.sql.rpartition(":")
                found.append((member.number, host, int(port)))
        return found

    def undisturbed(self, node: int, since_s: float) -> bool:
        """Whether the node's process ran, unharmed and reachable, from `since_s` (monotonic) until now."""
        member = self._members[node]
        if member.state is not State.UP or not member.process.is_running:
            return False
        return all(ended and ended < since_s for _, ended in member.disturbances)

    # --- inside

    def _make(self, number: int) -> None:
        home = self.directory / f"node{number}"
        place = self.links.place(number)
        own = [*place.options, "--advertise", place.advertise]
        own += ["--clock", f"fixed:{self.setup.error_us}", "--drain-seconds", "5"]
        clock = home / "clock" if self.setup.faked_clocks else None
        environment = faked_clock(clock) if clock is not None else None
        disk = SmallDisk(home / "data") if number in self.setup.small_disks else None
        process = LocalNode(
            number,
            home,
            own,
            rpc=place.rpc,
            sql=place.sql,
            http=place.http,
            environment=environment,
            prefix=place.prefix,
        )
        self._members[number] = Member(number, process, place.advertise, disk=disk, clock=clock)

    def _spawn(self, member: Member) -> None:
        others = [m.door for m in self._members.values() if m.process.ready is not None and m is not member]
        if self._closed:
            raise StoreError("the run is over")
        member.state = State.STARTING
        member.process.spawn(others)

    def _must_be_ready(self, member: Member) -> None:
        member.process.wait_ready(READY_TIMEOUT_S)
        self._calm(member, State.UP)

    def _disturb(self, member: Member, state: State) -> None:
        member.state = state
        if not member.disturbances or member.disturbances[-1][1]:
            member.disturbances.append((time.monotonic(), 0.0))

    def _calm(self, member: Member, state: State) -> None:
        member.state = state
        if member.disturbances and not member.disturbances[-1][1]:
            member.disturbances[-1] = (member.disturbances[-1][0], time.monotonic())

    def _leases(self, member: Member) -> int:
        try:
            status = member.process.status()
        except OSError:  # it does not answer, so it leads nothing that we could know of
            return 0
        return sum(1 for one in status["ranges"] if one["leads"])

    @staticmethod
    def _signal(member: Member, number: signal.Signals) -> None:
        process = member.process.process
        if process is not None and process.poll() is None:
            os.kill(process.pid, number)

    def _pids(self) -> dict[int, int]:
        return {
            member.number: member.process.process.pid
            for member in list(self._members.values())
            if member.process.process is not None and member.process.is_running
        }


def tracebacks(paths: Sequence[tuple[int, Path]]) -> list[str]:
    """The first unhandled exception of each node's log: in a node, that is a fault of ours.

    Errors that a node means to end with (a disk that is full, no quorum at its start) are none: whether it may end is
    judged by `Fleet.notice`.
    """
    found = []
    for number, path in paths:
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        faults = (
            fault for at, line in enumerate(lines) if line.startswith(_TRACE) and (fault := _fault(lines, at))
        )
        first = next(faults, "")
        if first:
            found.append(f"node {number} logged a traceback: {first}")
    return found


def _fault(lines: list[str], at: int) -> str:
    """What a traceback that begins there says, with the line before it; empty if the node meant it."""
    block = list(itertools.takewhile(lambda line: not _STAMP.match(line), lines[at:]))
    raised = [line for line in block if _RAISED.match(line) and not line.startswith(_TRACE)]
    last = raised[-1] if raised else block[-1]
    if any(last.startswith(f"{kind.__module__}.{kind.__qualname__}") for kind in _MEANT):
        return ""
    return f"{lines[at - 1][:200] if at else ''} … {last[:300]}"
