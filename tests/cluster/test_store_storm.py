"""The store under candidates, a split, snapshots, restarts and disks in any order: one vote a term, whatever comes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from tests.cluster.storeworld import FIRST, ME, TERM, THIRD, HandIo, StoreWorld, descriptor, split
from txndb.ids import RangeId
from txndb.limits import ELECTION_MAX_US
from txndb.raft.types import KIND_NORMAL, Append, Entry
from txndb.ranges.command import encode_command
from txndb.ranges.state import RAFT_INITIAL_INDEX, RAFT_INITIAL_TERM

WHOLE = descriptor(1, b"a", b"z")
LEFT, RIGHT = descriptor(1, b"a", b"m", 2), descriptor(2, b"m", b"z", 2)
STEPS = 120
TERMS = 2
LOG = [
    Entry(RAFT_INITIAL_INDEX + 1, TERM, KIND_NORMAL, b""),
    Entry(RAFT_INITIAL_INDEX + 2, TERM, KIND_NORMAL, encode_command(split(b"m", 2))),
]


class Storm:
    """One world and its chance."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.world = StoreWorld(WHOLE)
        self.applied: dict[int, int] = {}

    def vote(self) -> None:
        """Of the right half: it may be before its split, at its birth or after."""
        self.world.ask_vote(2, self.rng.choice([FIRST, THIRD]), TERM + self.rng.randrange(TERMS))

    def append(self) -> None:
        """The leader of range 1 sends its log again, or a part of it."""
        entries = LOG[: self.rng.randrange(3)]
        commit = RAFT_INITIAL_INDEX + self.rng.randrange(len(entries) + 1)
        self.world.step(1, Append(ME, FIRST, TERM, RAFT_INITIAL_INDEX, RAFT_INITIAL_TERM, entries, commit, 0))

    def snapshot(self) -> None:
        """Of a half, from a peer that has applied the split."""
        self.world.offer(self.rng.choice([LEFT, RIGHT]), RAFT_INITIAL_INDEX + 2 + self.rng.randrange(9))

    def log(self) -> None:
        self._finish(self.world.log_calls)

    def engine(self) -> None:
        self._finish(self.world.engine_calls)

    def _finish(self, io: HandIo) -> None:
        if io.waiting:
            io.finish()

    def turn(self) -> None:
        self.world.turn()

    def wait(self) -> None:
        self.world.wait_us(self.rng.randrange(ELECTION_MAX_US))

    def restart(self) -> None:
        self.world.turn()
        self.world.restart()

    def run(self) -> None:
        steps: list[tuple[Callable[[], None], int]] = [
            (self.vote, 8),
            (self.append, 3),
            (self.snapshot, 3),
            (self.log, 6),
            (self.engine, 2),
            (self.turn, 4),
            (self.wait, 3),
            (self.restart, 1),
        ]
        choices, weights = [step for step, _ in steps], [weight for _, weight in steps]
        for step in self.rng.choices(choices, weights, k=STEPS):
            step()
            self.check()
        self.world.settle()
        self.check()

    def check(self) -> None:
        world = self.world
        assert not world.failures and not world.loop.problems
        world.store.validate()
        candidates: dict[tuple[RangeId, int], int] = {}
        for range_id, term, candidate in world.granted:
            assert candidates.setdefault((range_id, term), candidate) == candidate, "two votes in one term"
        spans = sorted((d.start, d.end) for d in world.store.descriptors())
        assert all(left[1] <= right[0] for left, right in pairwise(spans))
        for number in world.store.slots:
            assert world.applied(number) >= self.applied.get(number, 0), "what was applied is gone"
            self.applied[number] = world.applied(number)


@pytest.mark.parametrize("seed", range(60))
def test_one_vote_a_term_whatever_happens(seed: int) -> None:
    Storm(seed).run()
