"""Who does harm: faults of every kind, drawn one after another in two lanes, written down with their times.

One lane hurts processes (kill, pause, term, disk-full, membership), the other what surrounds them (partition,
delay, loss, clock), so that faults of the two overlap and no two threads touch the same process. Between faults
there are pauses, for much goes wrong when things come back.

Invariants
1. A fault that began is ended by its lane, or by `Fleet.heal`.
2. A node stopped for good is one of a minority, and only one is per run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final, TextIO

import msgspec

from txndb.testing.jepsen.fleet import Fleet, State
from txndb.testing.jepsen.links import halves
from txndb.testing.proxy import Link

HOLD_S: Final = (0.5, 6.0)
PAUSE_S: Final = (0.2, 2.5)
_DELAYS_S: Final = (0.02, 0.1, 0.3)
_LOSSES: Final = (2, 10, 30)
_WITHIN: Final = 0.9
"""Share of E that a clock is moved by at most, where the bound is to hold."""


class Happening(msgspec.Struct):
    """One fault, or (`kind` "note") something that happened. Seconds since the run began; `to_s` 0: it has no end
    yet."""

    from_s: float
    to_s: float
    kind: str
    what: str


class Journal:
    """What the nemesis did, in memory and as JSON lines in a file. Any thread may write."""

    def __init__(self, path: Path, began_s: float) -> None:
        """`began_s`: monotonic seconds that times count from."""
        self.happenings: list[Happening] = []
        self._began_s = began_s
        self._lock = threading.Lock()
        self._file: TextIO = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed by `close`

    def now_s(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self._began_s, 3)

    def note(self, text: str) -> None:
        """Something happened that is no fault."""
        now = self.now_s()
        self._keep(Happening(now, now, "note", text))
        self._write("note", "note", text)

    def begin(self, kind: str, what: str) -> Happening:
        """A fault begins."""
        happening = Happening(self.now_s(), 0.0, kind, what)
        self._keep(happening)
        self._write("begin", kind, what)
        return happening

    def end(self, happening: Happening) -> None:
        """A fault has ended."""
        happening.to_s = self.now_s()
        self._write("end", happening.kind, happening.what)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _keep(self, happening: Happening) -> None:
        with self._lock:
            self.happenings.append(happening)

    def _write(self, event: str, kind: str, what: str) -> None:
        line = msgspec.json.encode({"time_s": self.now_s(), "event": event, "kind": kind, "what": what})
        with self._lock:
            self._file.write(line.decode() + "\n")
            self._file.flush()


class Scene:
    """What faults are drawn with. `wait` returns early when the run is to stop."""

    def __init__(self, fleet: Fleet, rng: Random, stop: threading.Event, journal: Journal) -> None:
        self.fleet = fleet
        self.rng = rng
        self.journal = journal
        self.ended_for_good = False
        self.added = False
        self._stop = stop

    def hold(self) -> None:
        """Let a fault last."""
        self.wait(self.rng.uniform(*HOLD_S))

    def wait(self, seconds: float) -> None:
        """Wait, at most until the run is to stop."""
        self._stop.wait(seconds)

    @property
    def is_over(self) -> bool:
        return self._stop.is_set()

    def victims(self, count: int) -> list[int]:
        """Nodes that serve; half of the time the busiest leader is the first of them."""
        serving = self.fleet.numbers(State.UP)
        chosen = self.rng.sample(serving, min(count, len(serving)))
        if chosen and self.rng.random() < 0.5:
            leaders = [n for n in self.fleet.leaders() if n in serving]
            if leaders:
                chosen = [leaders[0], *[n for n in chosen if n != leaders[0]]][: len(chosen)]
        return chosen

    def few(self) -> int:
        """How many nodes are hurt at once: mostly one, at times two, rarely all."""
        draw = self.rng.random()
        everybody = len(self.fleet.numbers())
        return 1 if draw < 0.65 or everybody < 3 else 2 if draw < 0.92 else everybody

    @contextmanager
    def fault(self, kind: str, what: str) -> Iterator[None]:
        """Write down that a fault lasts."""
        happening = self.journal.begin(kind, what)
        try:
            yield
        finally:
            self.journal.end(happening)


# --- processes


def kill(scene: Scene) -> None:
    """SIGKILL some nodes, and start them again."""
    victims = scene.victims(scene.few())
    with scene.fault("kill", f"nodes {victims}"):
        for node in victims:
            scene.fleet.kill(node)
        scene.hold()
        scene.fleet.revive(victims)


def term(scene: Scene) -> None:
    """SIGTERM: a node drains, hands its leases over and ends; then it starts again."""
    for node in scene.victims(1):
        with scene.fault("term", f"node {node}"):
            code = scene.fleet.stop(node)
            if code:
                scene.fleet.problems.append(f"node {node} ended with {code} on SIGTERM")
            scene.wait(scene.rng.uniform(0, 2))
            scene.fleet.revive([node])


def pause(scene: Scene) -> None:
    """SIGSTOP some nodes for a while: they come back with old ideas."""
    victims = scene.victims(scene.few())
    with scene.fault("pause", f"nodes {victims}"):
        try:
            for node in victims:
                scene.fleet.pause(node)
            scene.hold()
        finally:
            for node in victims:
                scene.fleet.resume(node)


def disk_full(scene: Scene) -> None:
    """No byte is left on a node's disk; later there is room again."""
    small = sorted(scene.fleet.setup.small_disks & set(scene.fleet.numbers(State.UP)))
    if not small:
        return
    node = scene.rng.choice(small)
    with scene.fault("disk-full", f"node {node}"):
        scene.fleet.fill_disk(node)
        scene.hold()
        scene.fleet.release_disk(node)
        scene.fleet.notice()
        scene.fleet.revive([node])
    if scene.fleet.state(node) is State.UP:
        scene.fleet.excuse(node, "")


def membership(scene: Scene) -> None:
    """A node joins; then one is stopped for good, once."""
    if not scene.added:
        scene.added = True
        with scene.fault("membership", "a node joins"):
            number = scene.fleet.add()
        scene.journal.note(f"node {number} has joined: {scene.fleet.state(number).value}")
    elif not scene.ended_for_good and len(scene.fleet.numbers(State.UP)) >= 4:
        scene.ended_for_good = True
        small = scene.fleet.setup.small_disks
        node = next((n for n in scene.victims(9) if n not in small), 0)
        if node:
            with scene.fault("membership", f"node {node} is stopped for good"):
                scene.fleet.stop(node, forever=True)
                scene.hold()


# --- what surrounds them


def partition(scene: Scene) -> None:
    """Links are cut: halves, one node alone, the busiest leader alone, one way only, a ring, two halves with a
    bridge."""
    name, links = draw_partition(scene.rng, scene.fleet.numbers(), scene.fleet.leaders)
    with scene.fault("partition", name):
        scene.fleet.links.block(links)
        try:
            scene.hold()
        finally:
            scene.fleet.links.unblock(links)


def draw_partition(
    rng: Random, nodes: Sequence[int], leaders: Callable[[], list[int]]
) -> tuple[str, list[Link]]:
    """A partition's name, and the links it cuts."""
    shuffled = rng.sample(list(nodes), len(nodes))
    kind = rng.choice(("halves", "isolate", "leader", "one way", "ring", "bridge"))
    if kind == "halves":
        middle = len(shuffled) // 2
        return f"{sorted(shuffled[:middle])} from the others", halves(shuffled[:middle], shuffled[middle:])
    if kind == "ring":
        size = len(shuffled)
        ring = {(shuffled[i], shuffled[(i + step) % size]) for i in range(size) for step in (-1, 1)}
        links = [(a, b) for a in shuffled for b in shuffled if a != b and (a, b) not in ring]
        return f"ring {shuffled}", links
    if kind == "bridge":
        bridge, *rest = shuffled
        middle = len(rest) // 2
        return f"bridge {bridge}, halves {rest[:middle]} and {rest[middle:]}", halves(
            rest[:middle], rest[middle:]
        )
    alone = shuffled[0]
    if kind == "leader":
        alone = next((node for node in leaders() if node in shuffled), alone)
    others = [node for node in shuffled if node != alone]
    if kind == "one way":
        inwards = rng.random() < 0.5
        links = [(other, alone) if inwards else (alone, other) for other in others]
        return f"node {alone} {'hears' if inwards else 'is heard by'} nobody", links
    return f"node {alone} alone{' (leader)' if kind == 'leader' else ''}", halves([alone], others)


def delay(scene: Scene) -> None:
    """What nodes say to each other takes longer."""
    links = _some_links(scene)
    seconds = scene.rng.choice(_DELAYS_S)
    with scene.fault("delay", f"{seconds * 1000:g} ms on {len(links)} links"):
        scene.fleet.links.delay(links, seconds)
        try:
            scene.hold()
        finally:
            scene.fleet.links.delay(links, 0)


def loss(scene: Scene) -> None:
    """Packets are lost."""
    links = _some_links(scene)
    percent = scene.rng.choice(_LOSSES)
    with scene.fault("loss", f"{percent} % on {len(links)} links"):
        scene.fleet.links.lose(links, percent)
        try:
            scene.hold()
        finally:
            scene.fleet.links.lose(links, 0)


def _some_links(scene: Scene) -> list[Link]:
    """All links, or those of one node."""
    nodes = scene.fleet.numbers()
    if scene.rng.random() < 0.4:
        return [(a, b) for a in nodes for b in nodes if a != b]
    one = scene.rng.choice(nodes)
    return halves([one], [node for node in nodes if node != one])


def clock(scene: Scene) -> None:
    """Clocks step, within the bound that nodes were told."""
    bound = int(scene.fleet.setup.error_us * _WITHIN)
    nodes = scene.fleet.numbers()
    chosen = scene.rng.sample(nodes, scene.rng.randrange(1, len(nodes) + 1))
    offsets = {node: scene.rng.randrange(-bound, bound + 1) for node in chosen}
    with scene.fault(
        "clock", ", ".join(f"node {n} {us / 1000:+.1f} ms" for n, us in sorted(offsets.items()))
    ):
        for node, offset_us in offsets.items():
            scene.fleet.skew(node, offset_us)
        scene.hold()
        for node in offsets:
            scene.fleet.skew(node, 0)


def clock_beyond(scene: Scene) -> None:
    """One clock lies: it is further off than the bound. The node may end itself; nothing may be lost."""
    bound = scene.fleet.setup.error_us
    node = scene.rng.choice(scene.fleet.numbers())
    offset_us = scene.rng.choice((-1, 1)) * bound * scene.rng.choice((2, 10, 100, 1000))
    scene.fleet.excuse(node, "clock")
    with scene.fault("clock-beyond", f"node {node} {offset_us / 1000:+.0f} ms"):
        scene.fleet.skew(node, offset_us)
        scene.hold()
        scene.fleet.skew(node, 0)


Fault = Callable[[Scene], None]
PROCESS_FAULTS: Final[dict[str, Fault]] = {
    "kill": kill,
    "pause": pause,
    "term": term,
    "disk-full": disk_full,
    "membership": membership,
}
OUTER_FAULTS: Final[dict[str, Fault]] = {
    "partition": partition,
    "delay": delay,
    "loss": loss,
    "clock": clock,
    "clock-beyond": clock_beyond,
}
NEMESES: Final = (*PROCESS_FAULTS, *OUTER_FAULTS)


class Nemesis:
    """Both lanes, each in a thread of its own, from `start` to `stop`."""

    def __init__(self, fleet: Fleet, kinds: Sequence[str], seed: int, journal: Journal) -> None:
        self.failure: BaseException | None = None
        """What ended a lane before its time: a failure of the machinery, not of the database."""
        self._stop = threading.Event()
        self._threads = []
        for lane, faults in (("processes", PROCESS_FAULTS), ("surroundings", OUTER_FAULTS)):
            chosen = [faults[kind] for kind in faults if kind in kinds]
            scene = Scene(fleet, Random(f"{seed} {lane}"), self._stop, journal)
            is_first = faults is PROCESS_FAULTS
            if chosen or is_first:
                thread = threading.Thread(
                    target=self._lane, args=(scene, chosen, is_first), name=f"nemesis-{lane}"
                )
                self._threads.append(thread)

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No more faults; returns when the last one has ended."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _lane(self, scene: Scene, faults: list[Fault], mends: bool) -> None:
        """One after another, each kind once before any comes a second time. `mends`: also start what ended itself."""
        bag: list[Fault] = []
        try:
            while not scene.is_over:
                scene.wait(scene.rng.uniform(*PAUSE_S))
                if scene.is_over:
                    return
                if mends:
                    scene.fleet.mend()
                if not bag:
                    bag = scene.rng.sample(faults, len(faults))
                if bag:
                    bag.pop()(scene)
        except Exception as error:  # noqa: BLE001 - a thread's failure is raised by the run that started it
            self.failure = error
