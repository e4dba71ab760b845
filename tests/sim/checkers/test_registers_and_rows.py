"""Registers, banks with versions, rings: hand-made wrong histories, and the search against the definition."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest

from txndb.sim.checkers.bank import check_bank
from txndb.sim.checkers.cycle import check_ring
from txndb.sim.checkers.linearizability import check
from txndb.sim.checkers.register import check_key, check_registers, step
from txndb.sim.history import Call, History


def _call(f: str, argument: Any, result: Any, invoked: int, returned: int | None, key: Any = 0) -> Call:
    return Call(invoked, f, key, argument, result, invoked, returned)


def test_a_stale_read_is_not_linearizable() -> None:
    write, read = _call("write", 1, 1, 0, 1), _call("read", None, None, 2, 3)
    assert check_key([write, read]).valid is False
    assert check_registers([write, read]) == [
        "register 0 is not linearizable: no order explains read(None) -> None of process 2 at position 2"
    ]


def test_a_concurrent_read_may_see_either_value_but_not_both_ways() -> None:
    write = _call("write", 1, 1, 0, 9)
    assert check_key([write, _call("read", None, None, 1, 2)]).valid
    assert check_key([write, _call("read", None, None, 1, 2), _call("read", None, 1, 3, 4)]).valid
    back = [write, _call("read", None, 1, 1, 2), _call("read", None, None, 3, 4)]
    assert check_key(back).valid is False


def test_an_unknown_write_may_take_effect_late_or_never() -> None:
    lost = _call("write", 7, None, 0, None)
    assert check_key([lost, _call("read", None, None, 1, 2)]).valid
    assert check_key([lost, _call("read", None, None, 1, 2), _call("read", None, 7, 3, 4)]).valid
    assert check_key([lost, _call("read", None, 7, 1, 2), _call("read", None, None, 3, 4)]).valid is False


def test_a_compare_and_set_answers_truthfully() -> None:
    write = _call("write", 1, 1, 0, 1)
    assert check_key([write, _call("cas", (1, 2), True, 2, 3), _call("read", None, 2, 4, 5)]).valid
    assert check_key([write, _call("cas", (1, 2), False, 2, 3)]).valid is False
    assert check_key([write, _call("cas", (5, 2), True, 2, 3)]).valid is False
    both = [write, _call("cas", (1, 2), True, 2, 5), _call("cas", (1, 3), True, 3, 6)]
    assert check_key(both).valid is False


def test_a_lookup_by_value_answers_truthfully() -> None:
    write = _call("write", 1, 1, 0, 1)
    assert check_key([write, _call("is", 1, True, 2, 3), _call("is", 4, False, 4, 5)]).valid
    assert check_key([write, _call("is", 1, False, 2, 3)]).valid is False


def test_keys_are_judged_apart_and_unknown_reads_say_nothing() -> None:
    calls = [
        _call("write", 1, 1, 0, 1, key="a"),
        _call("read", None, None, 2, 3, key="b"),
        _call("read", None, None, 4, None, key="a"),
    ]
    assert check_registers(calls) == []


def test_the_search_gives_up_rather_than_guess() -> None:
    calls = [_call("write", n, n, n, 100 + n) for n in range(12)] + [_call("read", None, -1, 50, 200)]
    assert check(calls, None, step, steps_max=100).valid is None
    assert check(calls, None, step).valid is False


def _explained(calls: list[Call]) -> bool:
    """Linearizability by its definition: some order of all the known and some of the unknown calls fits."""
    known = [call for call in calls if call.returned is not None]
    unknown = [call for call in calls if call.returned is None]
    for size in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, size):
            for order in itertools.permutations([*known, *chosen]):
                if _fits(order):
                    return True
    return False


def _fits(order: tuple[Call, ...]) -> bool:
    state: Any = None
    for i, call in enumerate(order):
        if any(later.returned is not None and later.returned < call.invoked for later in order[i:]):
            return False
        fits, state = step(state, call)
        if not fits:
            return False
    return True


def test_the_search_agrees_with_the_definition() -> None:
    verdicts = []
    for seed in range(400):
        rng = Random(seed)
        moments = list(range(12))
        rng.shuffle(moments)
        calls = []
        for _ in range(rng.randrange(2, 6)):
            invoked, returned = sorted((moments.pop(), moments.pop()))
            f = rng.choice(("read", "write", "cas"))
            end = None if f != "read" and rng.random() < 0.2 else returned
            value = rng.choice((None, 1, 2))
            if f == "read":
                calls.append(_call(f, None, value, invoked, end))
            elif f == "write":
                calls.append(_call(f, value, value, invoked, end))
            else:
                calls.append(_call(f, (value, rng.choice((1, 2))), rng.random() < 0.5, invoked, end))
        calls.sort(key=lambda call: call.invoked)
        got = check(calls, None, step).valid
        assert got is _explained(calls), calls
        verdicts.append(got)
    assert verdicts.count(True) > 50
    assert verdicts.count(False) > 50


def test_a_ring_is_one_ring() -> None:
    assert check_ring({0: 2, 2: 1, 1: 0}, 3) == ""
    assert "length 2" in check_ring({0: 2, 2: 0, 1: 1}, 3)
    assert "missing [1]" in check_ring({0: 2, 2: 0}, 3)
    assert "length 4" in check_ring({0: 1, 1: 2, 2: 1}, 3)
    assert "leaves" in check_ring({0: 1, 1: 2, 2: 9}, 3)


def _bank(*calls: tuple[str, Any, int, int | None]) -> list[str]:
    made = [_call(f, None, result, invoked, returned) for f, result, invoked, returned in calls]
    return [text[:1] for text in check_bank(made, accounts=2, total=20)]


def test_a_bank_that_behaves_is_found_in_order() -> None:
    assert (
        _bank(
            ("read", [(0, 10, 0), (1, 10, 0)], 0, 1),
            ("transfer", ((0, 7, 1), (1, 13, 1)), 2, 5),
            ("read", [(0, 10, 0), (1, 10, 0)], 3, 4),
            ("read", [(0, 7, 1), (1, 13, 1)], 6, 7),
            ("transfer", None, 8, 9),
        )
        == []
    )


@pytest.mark.parametrize(
    ("finding", "calls"),
    [
        ("1", [("read", [(0, 10, 0), (1, 11, 0)], 0, 1)]),
        ("1", [("read", [(0, -1, 0), (1, 21, 0)], 0, 1)]),
        ("1", [("read", [(0, 20, 0)], 0, 1)]),
        ("2", [("transfer", ((0, 7, 1), (1, 13, 1)), 0, 9), ("transfer", ((0, 8, 1), (1, 12, 2)), 1, 8)]),
        ("2", [("read", [(0, 9, 1), (1, 11, 1)], 0, 9), ("transfer", ((0, 8, 1), (1, 12, 1)), 1, 8)]),
        ("3", [("transfer", ((0, 10, 1), (1, 10, 1)), 0, 9), ("read", [(0, 10, 1), (1, 10, 0)], 1, 2)]),
        ("4", [("read", [(0, 10, 1), (1, 10, 0)], 0, 9), ("read", [(0, 10, 0), (1, 10, 1)], 1, 8)]),
        ("5", [("transfer", ((0, 7, 1), (1, 13, 1)), 0, 1), ("read", [(0, 10, 0), (1, 10, 0)], 2, 3)]),
        ("5", [("read", [(0, 9, 1), (1, 11, 1)], 0, 1), ("read", [(0, 10, 0), (1, 10, 0)], 2, 3)]),
        ("6", [("read", [(0, 9, 1), (1, 11, 1)], 0, 1)]),
    ],
)
def test_each_wrong_of_a_bank_is_found(finding: str, calls: list[tuple[str, Any, int, int | None]]) -> None:
    assert finding in _bank(*calls)


def test_pairing_leaves_out_failures_and_keeps_unknown_outcomes() -> None:
    history = History()
    for process, kind, value in (
        (0, "invoke", 1),
        (1, "invoke", 2),
        (0, "fail", 1),
        (1, "info", 2),
        (0, "invoke", 3),
        (0, "ok", 4),
        (2, "invoke", 5),
    ):
        history.add(process, kind, "write", value, "k", 0)
    assert [(c.argument, c.result, c.invoked, c.returned) for c in history.calls()] == [
        (2, None, 1, None),
        (3, 4, 4, 5),
        (5, None, 6, None),
    ]
