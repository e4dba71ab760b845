"""Workloads: their traffic is what they say, their checkers are asked, and what is wrong is found – strictly or not."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from txndb.sim.checkers.models import MODELS
from txndb.sim.history import History
from txndb.sim.options import SQL_WORKLOADS, WORKLOADS
from txndb.sim.run import NODE_PARTS, Request, load_parts, run_seed
from txndb.sim.workloads import MAKERS
from txndb.sim.workloads.append import Append
from txndb.sim.world import World

DONE: dict[str, set[str]] = {
    "append": {"txn"},
    "bank": {"read", "transfer"},
    "comments": {"read", "write"},
    "counter": {"add", "read"},
    "cycle": {"read", "swap"},
    "g2": {"insert", "read"},
    "long-fork": {"read", "write"},
    "monotonic": {"add", "read"},
    "multi-register": {"txn"},
    "mutex": {"acquire", "release"},
    "register": {"cas", "is", "read", "write"},
    "rw": {"txn"},
    "sequential": {"read", "write"},
    "set": {"add", "read"},
    "set-full": {"add", "read"},
    "unique-ids": {"generate"},
}
"""What each workload's clients get done in a run without faults."""


def test_every_workload_can_be_drawn_and_its_histories_judged() -> None:
    assert set(MAKERS) == {*WORKLOADS, *SQL_WORKLOADS} == {*DONE, "ddl"}
    own = {"schema"}  # a model of the simulator alone
    assert {maker(Random(1)).model for maker in MAKERS.values()} <= {*MODELS, *own}


@pytest.mark.parametrize("workload", sorted(DONE))
def test_without_faults_everything_is_done_and_right(workload: str) -> None:
    world = World(
        Request(workload=workload, faults="none", nodes=3, seconds=2.0).options(1), load_parts(NODE_PARTS)
    )
    report = world.run()
    assert report.violation == ""
    assert {op.f for op in world.history.ops if op.type == "ok"} - {"past"} == DONE[workload]
    assert not world.workload.check(world.history, real_time=False)


@pytest.mark.parametrize(
    ("workload", "canary"),
    [
        ("append", "phantom"),
        ("comments", "phantom"),
        ("g2", "phantom"),
        ("monotonic", "K2"),
        ("multi-register", "S1"),
        ("mutex", "C3"),
        ("rw", "K2"),
        ("set-full", "S1"),
        ("unique-ids", "C3"),
    ],
)
def test_a_rule_that_is_switched_off_is_found(workload: str, canary: str) -> None:
    request = Request(seconds=4.0, workload=workload, canaries=(canary,))
    assert not all(run_seed(request, seed)[0].ok for seed in range(1, 21))


def _history(*lines: tuple[Any, ...]) -> History:
    """Lines of (process, type, f, value[, key])."""
    history = History()
    for place, (process, kind, f, value, *key) in enumerate(lines):
        history.add(process, kind, f, value, key[0] if key else None, place)
    return history


def _one(process: int, f: str, argument: Any, result: Any, key: Any = None) -> list[tuple[Any, ...]]:
    return [(process, "invoke", f, argument, key), (process, "ok", f, result, key)]


_STALE = "stale: an operation does not see what ended before it began"
_BROKEN = "broken: no serial order explains it"
WRONG: list[tuple[str, str, list[tuple[Any, ...]]]] = [
    (
        "append",
        _STALE,
        [
            *_one(0, "txn", [["append", 0, 1]], [["append", 0, 1]]),
            *_one(1, "txn", [["r", 0, None]], [["r", 0, []]]),
            *_one(1, "txn", [["r", 0, None]], [["r", 0, [1]]]),
        ],
    ),
    (
        "append",
        _BROKEN,
        [
            (0, "invoke", "txn", [["r", 0, None], ["append", 1, 1]]),
            (1, "invoke", "txn", [["r", 1, None], ["append", 0, 2]]),
            (0, "ok", "txn", [["r", 0, []], ["append", 1, 1]]),
            (1, "ok", "txn", [["r", 1, []], ["append", 0, 2]]),
            *_one(0, "txn", [["r", 0, None], ["r", 1, None]], [["r", 0, [2]], ["r", 1, [1]]]),
        ],
    ),
    (
        "rw",
        _BROKEN,
        [
            (0, "invoke", "txn", [["r", 0, None], ["w", 0, 1]]),
            (1, "invoke", "txn", [["r", 0, None], ["w", 0, 2]]),
            (0, "ok", "txn", [["r", 0, None], ["w", 0, 1]]),
            (1, "ok", "txn", [["r", 0, None], ["w", 0, 2]]),
        ],
    ),
    (
        "multi-register",
        _STALE,
        [
            *_one(0, "txn", [["w", 0, 1], ["w", 1, 2]], [["w", 0, 1], ["w", 1, 2]]),
            *_one(1, "txn", [["r", 0, None], ["r", 1, None]], [["r", 0, None], ["r", 1, None]]),
        ],
    ),
    ("counter", _BROKEN, [*_one(0, "add", 5, 5, 0), *_one(1, "read", None, 0, 0)]),
    (
        "monotonic",
        _BROKEN,
        [*_one(0, "add", None, 1, 0), *_one(1, "add", None, 1, 0), *_one(1, "read", None, [1], 0)],
    ),
    ("set", _BROKEN, [*_one(0, "add", 7, 7, 0), *_one(0, "read", None, [], 0)]),
    (
        "set-full",
        _STALE,
        [*_one(0, "add", 7, 7, 0), *_one(0, "read", None, [], 0), *_one(0, "read", None, [7], 0)],
    ),
    ("sequential", _STALE, _one(0, "read", 3, [3, [1, None]])),
    (
        "long-fork",
        _BROKEN,
        [
            (0, "invoke", "write", [["w", 0, 1]]),
            (1, "invoke", "write", [["w", 1, 2]]),
            *_one(2, "read", [["r", 0, None], ["r", 1, None]], [["r", 0, 1], ["r", 1, None]]),
            *_one(3, "read", [["r", 1, None], ["r", 0, None]], [["r", 1, 2], ["r", 0, None]]),
            (0, "ok", "write", [["w", 0, 1]]),
            (1, "ok", "write", [["w", 1, 2]]),
        ],
    ),
    (
        "comments",
        _STALE,
        [*_one(0, "write", 0, 0, 0), *_one(0, "write", 1, 1, 0), *_one(1, "read", None, [1], 0)],
    ),
    (
        "g2",
        _BROKEN,
        [
            *_one(0, "insert", [0, [1, None]], [0, [1, None]]),
            *_one(1, "insert", [0, [None, 2]], [0, [None, 2]]),
        ],
    ),
    ("g2", _BROKEN, [*_one(0, "insert", [0, [1, None]], [0, [1, None]]), *_one(1, "read", None, [0, 0])]),
    ("mutex", _BROKEN, [*_one(0, "acquire", None, None, 0), *_one(1, "acquire", None, None, 0)]),
    ("unique-ids", _BROKEN, [*_one(0, "generate", None, 1, 0), *_one(1, "generate", None, 1, 0)]),
    ("register", _STALE, [*_one(0, "write", 1, 1, (0, 0)), *_one(1, "read", None, None, (0, 0))]),
    ("register", _BROKEN, [*_one(0, "write", 1, 1, (0, 0)), *_one(1, "read", None, 9, (0, 0))]),
    (
        "register",
        _BROKEN,
        [
            *_one(0, "write", 1, 1, (0, 0)),
            *_one(0, "cas", (1, 2), True, (0, 0)),
            *_one(1, "cas", (1, 3), True, (0, 0)),
        ],
    ),
]


@pytest.mark.parametrize(
    ("workload", "how", "lines"), WRONG, ids=[f"{w}-{h.split(':')[0]}" for w, h, _ in WRONG]
)
def test_what_is_wrong_is_found(workload: str, how: str, lines: list[tuple[Any, ...]]) -> None:
    history = _history(*lines)
    assert MAKERS[workload](Random(1)).check(history)
    relaxed = MAKERS[workload](Random(1)).check(history, real_time=False)
    assert bool(relaxed) == (how == _BROKEN), relaxed


def test_reads_of_the_past_are_old_but_of_one_moment() -> None:
    seen = _one(1, "past", [["r", 0, None], ["r", 1, None]], [["r", 0, []], ["r", 1, []]])
    torn = _one(1, "past", [["r", 0, None], ["r", 1, None]], [["r", 0, [1]], ["r", 1, []]])
    both = [["append", 0, 1], ["append", 1, 2]]
    last = _one(2, "txn", [["r", 0, None], ["r", 1, None]], [["r", 0, [1]], ["r", 1, [2]]])
    for past, wrong in ((seen, False), (torn, True)):
        workload = next(made for seed in range(50) if (made := Append(Random(seed))).past)
        assert bool(workload.check(_history(*_one(0, "txn", both, both), *past, *last))) == wrong


def test_what_was_rolled_back_to_a_savepoint_may_not_be_seen() -> None:
    workload = Append(Random(1))
    workload.performer._undone.add(-1)
    found = workload.check(_history(*_one(0, "txn", [["r", 0, None]], [["r", 0, [-1]]])))
    assert any("rolled back" in text for text in found)
