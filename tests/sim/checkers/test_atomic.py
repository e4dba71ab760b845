"""Objects that are right by construction are judged right, whatever overlaps, fails and crashes.

And the other way round: for tiny histories the fast deciders agree with the definition of linearizability.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.checkers import atomic
from txndb.sim.checkers import counter, kv, linearizability, multiregister, mutex, sets
from txndb.sim.checkers.calls import frozen_calls
from txndb.sim.checkers.linearizability import STEPS_MAX, Pure, Step
from txndb.sim.checkers.models import judge
from txndb.sim.checkers.register import check_history, pure, step
from txndb.sim.history import Call, Op, pair

_seeds = st.integers(min_value=0, max_value=1 << 32)


@pytest.mark.parametrize("model", sorted(atomic.ALL))
@settings(max_examples=40, deadline=None)
@given(
    seed=_seeds,
    calls=st.sampled_from((4, 15, 40)),
    clients=st.integers(2, 5),
    crash=st.sampled_from((0.0, 0.1)),
)
def test_an_atomic_object_is_never_found_wrong(
    model: str, seed: int, calls: int, clients: int, crash: float
) -> None:
    ops = atomic.simulate(atomic.ALL[model](), Random(seed), calls=calls, clients=clients, crashes=crash)
    verdict = judge(ops, model)
    assert verdict.valid is not False, verdict.anomalies
    if crash == 0.0 and any(op.f != "add" for op in ops):
        reads = any(op.type == "ok" and op.f in ("read", "get", "drain") for op in ops)
        assert verdict.valid or not reads


@settings(max_examples=60, deadline=None)
@given(seed=_seeds, crash=st.sampled_from((0.0, 0.1)))
def test_rows_with_timestamps_that_rise_are_never_found_wrong(seed: int, crash: float) -> None:
    ops = atomic.simulate(atomic.timestamped(), Random(seed), calls=30, crashes=crash)
    assert judge(ops, "monotonic").valid


def _explained(calls: Sequence[Call], initial: Any, do: Step) -> bool:
    """Linearizability by its definition: some order of all the known and some of the unknown calls fits."""
    known = [call for call in calls if call.returned is not None]
    unknown = [call for call in calls if call.returned is None]
    for size in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, size):
            if any(_fits(order, initial, do) for order in itertools.permutations([*known, *chosen])):
                return True
    return False


def _fits(order: Sequence[Call], state: Any, do: Step) -> bool:
    for i, call in enumerate(order):
        if any(later.returned is not None and later.returned < call.invoked for later in order[i:]):
            return False
        fits, state = do(state, call)
        if not fits:
            return False
    return True


def _some_calls(rng: Random, draw: Callable[[Random], tuple[str, Any, Any]]) -> list[Call]:
    """A tiny history with results out of the air; `draw` gives operation, argument, result."""
    moments = list(range(12))
    rng.shuffle(moments)
    calls = []
    for process in range(rng.randrange(2, 6)):
        invoked, returned = sorted((moments.pop(), moments.pop()))
        f, argument, result = draw(rng)
        end = None if rng.random() < 0.2 else returned
        calls.append(Call(process, f, None, argument, None if end is None else result, invoked, end))
    return sorted(calls, key=lambda call: call.invoked)


def _draw_register(rng: Random) -> tuple[str, Any, Any]:
    value = rng.choice((None, 1, 2))
    cas = ("cas", (value, rng.choice((1, 2))), rng.random() < 0.5)
    return rng.choice((("read", None, value), ("write", value, value), cas))


def _draw_kv(rng: Random) -> tuple[str, Any, Any]:
    part = rng.choice("ab")
    return rng.choice(
        (("get", None, rng.choice(("", "a", "ab", "ba"))), ("put", part, part), ("append", part, part))
    )


def _draw_counter(rng: Random) -> tuple[str, Any, Any]:
    return rng.choice((("read", None, rng.randrange(4)), ("add", rng.choice((1, 2, -1)), None)))


def _draw_multi(rng: Random) -> tuple[str, Any, Any]:
    reads = tuple(("r", key, rng.choice((None, 1, 2))) for key in "xy")
    writes = tuple(("w", key, rng.choice((1, 2))) for key in rng.choice(("x", "y", "xy")))
    return rng.choice(
        (("txn", (), reads), ("txn", writes, writes), ("txn", writes[:1], (reads[1], writes[0])))
    )


_MULTI = multiregister.register_group(("x", "y"))


@pytest.mark.parametrize(
    ("draw", "initial", "do", "leaves"),
    [
        (_draw_register, None, step, pure),
        (_draw_kv, "", kv.KV.step, kv.KV.pure),
        (_draw_counter, 0, counter.COUNTER.step, counter.COUNTER.pure),
        (
            lambda rng: (rng.choice(("acquire", "release")), None, None),
            False,
            mutex.MUTEX.step,
            mutex.MUTEX.pure,
        ),
        (_draw_multi, (None, None), _MULTI.step, _MULTI.pure),
    ],
    ids=("register", "kv", "counter", "mutex", "multi-register"),
)
def test_both_searches_agree_with_the_definition(
    draw: Callable[[Random], tuple[str, Any, Any]], initial: Any, do: Step, leaves: Pure
) -> None:
    verdicts = []
    for seed in range(300):
        calls = _some_calls(Random(seed), draw)
        want = _explained(calls, initial, do)
        for decide in (linearizability.sweep, linearizability.search, linearizability.check):
            assert decide(calls, initial, do, STEPS_MAX, leaves).valid is want, calls
            assert decide(calls, initial, do, STEPS_MAX).valid is want, calls
        verdicts.append(want)
    assert verdicts.count(True) > 25
    assert verdicts.count(False) > 25


def _set_step(state: Any, call: Call) -> tuple[bool, Any]:
    return (True, state | {call.argument}) if call.f == "add" else (state == frozenset(call.result), state)


def _perturbed(ops: list[Op], rng: Random) -> list[Op]:
    """One answered read changed a little, or two that follow each other exchanged."""
    reads = [place for place, op in enumerate(ops) if op.type == "ok" and op.f == "read"]
    if rng.random() < 0.4 and len(reads) > 1:
        at = rng.randrange(len(reads) - 1)
        a, b = ops[reads[at]], ops[reads[at + 1]]
        ops[reads[at]] = msgspec.structs.replace(a, value=b.value)
        ops[reads[at + 1]] = msgspec.structs.replace(b, value=a.value)
    elif reads:
        at = rng.choice(reads)
        value = list(ops[at].value)
        if value and rng.random() < 0.7:
            value.pop(rng.randrange(len(value)))
        else:
            value.append(rng.randrange(1, 12))
        ops[at] = msgspec.structs.replace(ops[at], value=value)
    return ops


def test_set_full_decides_linearizability_exactly() -> None:
    verdicts = []
    for seed in range(600):
        rng = Random(seed)
        ops = atomic.simulate(atomic.growing_set(), rng, calls=8, clients=4, crashes=0.1)
        ops = _perturbed(ops, rng)
        calls = [call for call in frozen_calls(pair(ops)) if call.f == "add" or call.returned is not None]
        if any(len(set(call.result)) < len(call.result) for call in calls if call.f == "read"):
            continue  # an element twice in one read is an anomaly of its own
        want = linearizability.check(calls, frozenset(), _set_step).valid
        assert sets.check_set_full(ops).valid is want, ops
        verdicts.append(want)
    assert verdicts.count(True) > 100
    assert verdicts.count(False) > 100


def test_a_counter_within_bounds_may_still_fit_no_order() -> None:
    verdicts = []
    for seed in range(400):
        rng = Random(seed)
        ops = atomic.simulate(atomic.counter(), rng, calls=7, clients=4, crashes=0.1)
        reads = [place for place, op in enumerate(ops) if op.type == "ok" and op.f == "read"]
        at = rng.choice(reads)
        ops[at] = msgspec.structs.replace(ops[at], value=ops[at].value + rng.choice((-1, 0, 1)))
        calls = [call for call in pair(ops) if call.f == "add" or call.returned is not None]
        want = linearizability.check(calls, 0, counter.COUNTER.step).valid
        assert counter.check(ops).valid is want, ops
        if counter.check(ops, bounds_only=True).valid is False:
            assert not want
        verdicts.append((counter.check(ops, bounds_only=True).valid, want))
    assert {(True, True), (True, False), (False, False)} == set(verdicts)


def test_registers_with_one_answer_changed_are_mostly_found() -> None:
    found = 0
    for seed in range(200):
        rng = Random(seed)
        ops = atomic.simulate(atomic.register(0), rng, calls=40, clients=3, crashes=0.02)
        ops = [op for op in ops if op.key in (None, 0)]
        reads = [place for place, op in enumerate(ops) if op.type == "ok" and op.f == "read"]
        if reads:
            at = rng.choice(reads)
            ops[at] = msgspec.structs.replace(ops[at], value=9)
            found += check_history(ops, 0, model="cas-register").valid is False
    assert found > 190
