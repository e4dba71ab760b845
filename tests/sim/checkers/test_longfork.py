"""Long forks by hand, and against orders of writes."""

from __future__ import annotations

from random import Random

import pytest

from tests.sim.checkers.elle_histories import concurrent
from txndb import limits
from txndb.sim.checkers import longfork
from txndb.sim.history import Op


def reads(*groups: dict[int, int | None]) -> list[Op]:
    return [Op(i, i, "ok", "read", [["r", k, v] for k, v in group.items()]) for i, group in enumerate(groups)]


def test_two_branches_of_history() -> None:
    ops = concurrent("wx1", "wy1", "rx1 ry", "rx ry1", registers=True)
    verdict = longfork.check(ops)
    assert verdict.valid is False
    (fork,) = verdict.anomalies
    assert fork.kind == "long-fork" and fork.ops == (6, 7)
    assert fork.text == "T6 saw the write of key x and not that of y; T7 saw that of y and not that of x"


def test_one_branch() -> None:
    ops = concurrent("wx1", "wy1", "rx1 ry", "rx1 ry1", "rx ry", registers=True)
    assert longfork.check(ops).valid is True


def test_reads_need_not_be_of_the_same_keys() -> None:
    assert longfork.check(reads({1: 1, 2: None, 3: None}, {1: None, 2: 1})).valid is False
    assert longfork.check(reads({1: 1, 2: None, 3: None}, {1: None, 3: 1})).valid is False
    assert longfork.check(reads({1: 1, 2: None}, {3: None, 4: 1})).valid is True
    assert longfork.check(reads({1: 1, 2: None}, {1: 1, 3: None})).valid is True


def test_what_was_not_read_says_nothing() -> None:
    ops = concurrent("wx1", "wy1", "rx1 ry", "?rx ry1", "!rx ry1", registers=True)
    verdict = longfork.check(ops)
    assert verdict.valid is None and verdict.note == "fewer than two reads committed"


def test_a_write_of_unknown_outcome_may_be_seen_or_not() -> None:
    assert longfork.check(concurrent("?wx1", "rx1", "rx", registers=True)).valid is True


def test_reads_of_what_failed_or_never_was() -> None:
    failed = longfork.check(concurrent("!wx1", "rx1", "rx1", registers=True))
    assert [(a.kind, a.ops) for a in failed.anomalies] == [("G1a", (3, 5))]
    never = longfork.check(concurrent("wx1", "rx2", "rx1", registers=True))
    assert [a.kind for a in never.anomalies] == ["unwritten-read"] and never.valid is False


def test_a_key_written_twice_cannot_be_judged() -> None:
    verdict = longfork.check(concurrent("wx1", "wx2", "wy1", "rx1 ry", "rx ry1", registers=True))
    assert verdict.valid is None and "written more than once" in verdict.note
    retried = longfork.check(concurrent("!wx1", "wx2", "wy1", "rx2 ry", "rx ry1", registers=True))
    assert retried.valid is False


def test_too_many_pairs_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longfork, "LONG_FORK_PAIRS_MAX", 2)
    verdict = longfork.check(reads({1: 1, 2: 1}, {1: 1, 3: 1}, {2: 1, 3: 1}, {1: 1, 4: 1}))
    assert verdict.valid is None and "not all reads" in verdict.note
    assert limits.LONG_FORK_PAIRS_MAX > 2


def test_states_of_one_history_never_fork_and_swapped_answers_mostly_do() -> None:
    caught = 0
    for seed in range(100):
        rng = Random(seed)
        order = rng.sample(range(6), 6)
        groups = []
        for _ in range(20):
            visible = set(order[: rng.randint(0, 6)])
            keys = rng.sample(range(6), rng.randint(2, 6))
            groups.append({key: 1 if key in visible else None for key in keys})
        assert longfork.check(reads(*groups)).valid is True
        spoilt = next(g for g in groups if len(set(g.values())) == 2)
        for key in spoilt:
            spoilt[key] = None if spoilt[key] else 1
        caught += longfork.check(reads(*groups)).valid is False
    assert caught >= 90
