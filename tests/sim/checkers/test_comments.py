"""Causal reverse by hand, and against the definition."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from txndb.sim.checkers import comments
from txndb.sim.checkers.calls import HistoryError
from txndb.sim.checkers.verdict import Verdict
from txndb.sim.history import Op


def history(*lines: tuple[int, str, str, Any], key: Any = None) -> list[Op]:
    return [Op(n, process, kind, f, value, key) for n, (process, kind, f, value) in enumerate(lines)]


def write(process: int, value: Any, outcome: str = "ok") -> list[tuple[int, str, str, Any]]:
    return [(process, "invoke", "write", value), (process, outcome, "write", value)]


def read(process: int, value: Any) -> list[tuple[int, str, str, Any]]:
    return [(process, "invoke", "read", None), (process, "ok", "read", value)]


def check(*parts: list[tuple[int, str, str, Any]]) -> Verdict:
    return comments.check(history(*(line for part in parts for line in part)))


def test_a_later_write_without_an_earlier_one() -> None:
    verdict = check(write(0, 1), write(1, 2), read(2, [2]))
    assert verdict.valid is False
    (anomaly,) = verdict.anomalies
    assert anomaly.kind == "causal-reverse" and anomaly.ops == (1, 3, 5)
    assert anomaly.text == (
        "the read at 5 saw 2 (written at 3) and not 1, whose write had completed (at 1) before that one began"
    )


def test_an_earlier_one_without_a_later() -> None:
    assert check(write(0, 1), write(1, 2), read(2, [1])).valid is True
    assert check(write(0, 1), write(1, 2), read(2, [2, 1])).valid is True
    assert check(write(0, 1), write(1, 2), read(2, [])).valid is True  # stale, which others judge


def test_overlapping_writes_may_be_seen_in_any_order() -> None:
    one, two = write(0, 1), write(1, 2)
    for lines in ([one[0], two[0], one[1], two[1]], [one[0], two[0], two[1], one[1]]):
        assert check(lines, read(2, [2])).valid is True
        assert check(lines, read(2, [1])).valid is True


def test_unknown_and_failed_writes() -> None:
    assert check(write(0, 1, "info"), write(1, 2), read(2, [2])).valid is True
    assert check(write(0, 1), write(1, 2, "info"), read(2, [2])).valid is False
    assert check(write(0, 1, "fail"), write(1, 2), read(2, [2])).valid is True
    seen = check(write(0, 1, "fail"), write(1, 2), read(2, [1, 2]))
    assert [a.kind for a in seen.anomalies] == ["G1a"]
    never = check(write(0, 1), read(2, [1, 9]))
    assert [a.kind for a in never.anomalies] == ["unwritten-read"]


def test_keys_are_judged_apart() -> None:
    def keyed(key: str, at: int, lines: list[tuple[int, str, str, Any]]) -> list[Op]:
        return [Op(at + n, p, kind, f, v, key) for n, (p, kind, f, v) in enumerate(lines)]

    apart = [*keyed("a", 0, write(0, 1)), *keyed("b", 2, write(1, 2)), *keyed("b", 4, read(2, [2]))]
    assert comments.check(apart).valid is True
    same = [*keyed("b", 0, write(0, 1)), *keyed("b", 2, write(1, 2)), *keyed("b", 4, read(2, [2]))]
    same[-1].key = None  # a completion without a key has its invocation's
    assert comments.check(same).valid is False


def test_nothing_read_is_unknown() -> None:
    assert check(write(0, 1)).valid is None


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([*write(0, 1), *write(1, 1)], "the id 1 is written twice"),
        ([(0, "ok", "write", 1)], "completes what it did not invoke"),
        ([(0, "invoke", "transfer", 1)], "comments know no 'transfer'"),
        ([*read(0, 5)], "a read of 5 instead of a list"),
    ],
)
def test_other_histories_are_named(lines: list[tuple[int, str, str, Any]], says: str) -> None:
    with pytest.raises(HistoryError, match=says):
        check(lines)


def test_agrees_with_the_definition() -> None:
    """w2 seen, w1 not seen, w1 completed before w2 was invoked."""
    outcomes = set()
    for seed in range(300):
        rng = Random(seed)
        moments = rng.sample(range(1000), 16)
        times = {n: sorted(moments[2 * n : 2 * n + 2]) for n in range(8)}
        events = [
            (at, n, kind)
            for n, span in times.items()
            for at, kind in zip(span, ("invoke", "ok"), strict=True)
        ]
        lines = [(n, kind, "write", n) for _, n, kind in sorted(events)]
        seen = rng.sample(range(8), rng.randint(1, 7)) if seed % 2 else list(range(rng.randint(1, 8)))
        reverse = any(times[w1][1] < times[w2][0] for w2 in seen for w1 in range(8) if w1 not in seen)
        assert check(lines, read(20, seen)).valid is not reverse
        outcomes.add(reverse)
    assert outcomes == {True, False}
