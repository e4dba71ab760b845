"""Predicate anti-dependencies by hand."""

from __future__ import annotations

from typing import Any

import pytest

from txndb.sim.checkers import g2
from txndb.sim.checkers.calls import HistoryError
from txndb.sim.history import Op


def inserts(*outcomes: tuple[str, Any, Any]) -> list[Op]:
    """Each a kind of completion, a key and a pair of ids."""
    ops: list[Op] = []
    for process, (kind, key, ids) in enumerate(outcomes):
        ops.append(Op(len(ops), process, "invoke", "insert", [key, ids]))
        ops.append(Op(len(ops), process, kind, "insert", [key, ids]))
    return ops


def test_two_inserts_that_rule_each_other_out() -> None:
    verdict = g2.check(inserts(("ok", 7, [1, None]), ("ok", 7, [None, 2]), ("ok", 8, [3, None])))
    assert verdict.valid is False and verdict.note == "1 of 2 keys"
    (anomaly,) = verdict.anomalies
    assert anomaly.kind == "G2" and anomaly.ops == (1, 3)
    assert anomaly.cycle == ((1, "rw", 3), (3, "rw", 1))
    assert anomaly.text.startswith("T1 and T3 inserted rows of key 7")


def test_one_of_two() -> None:
    assert g2.check(inserts(("ok", 7, [1, None]), ("fail", 7, [None, 2]), ("ok", 8, [None, 4]))).valid is True


def test_an_unknown_outcome_proves_nothing() -> None:
    assert g2.check(inserts(("ok", 7, [1, None]), ("info", 7, [None, 2]))).valid is True
    assert g2.check(inserts(("info", 7, [1, None]), ("fail", 7, [None, 2]))).valid is None


def test_keys_of_any_kind() -> None:
    twice = inserts(("ok", ["a", 1], [1, None]), ("ok", ["a", 1], [None, 2]))
    assert g2.check(twice).valid is False
    apart = [
        Op(n, n, "ok", "insert", ids, key)
        for n, (key, ids) in enumerate([("a", [1, None]), ("b", [None, 2])])
    ]
    assert g2.check(apart).valid is True
    apart[1].key = "a"
    assert g2.check(apart).valid is False


@pytest.mark.parametrize("value", [7, [7], [7, 8], [7, [1, 2]], [7, [None, None]], None, "ab"])
def test_other_values_are_named(value: Any) -> None:
    with pytest.raises(HistoryError, match=r"operation 4: an insert of .* instead of \[key, \[a, b\]\]"):
        g2.check([Op(4, 0, "ok", "insert", value)])
