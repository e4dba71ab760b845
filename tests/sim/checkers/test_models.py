"""Each model by hand: a history for each of its anomalies, and a neighbour that has none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.checkers.scripts import script
from txndb.sim.checkers.calls import HistoryError
from txndb.sim.checkers.models import ALIASES, MODELS, Options, judge


def _kinds(model: str, text: str, **options: Any) -> list[str]:
    verdict = judge(script(text), model, Options(**options))
    assert verdict.valid is not None, verdict.note
    assert verdict.valid == (not verdict.anomalies)
    return [found.kind for found in verdict.anomalies]


def _unknown(model: str, text: str, **options: Any) -> str:
    verdict = judge(script(text), model, Options(**options))
    assert verdict.valid is None
    return verdict.note


# registers, in two dialects

_STALE = "0 invoke write 1; 0 ok write 1; 1 invoke read; 1 ok read null"


def test_null_is_a_value_of_a_register_and_no_answer_of_a_cas_register() -> None:
    assert _kinds("register", _STALE) == ["nonlinearizable"]
    assert _kinds("register", _STALE, null_unknown=True) == []
    assert _kinds("cas-register", _STALE) == []
    assert _kinds("cas-register", _STALE, null_unknown=False) == ["nonlinearizable"]


def test_a_failed_cas_is_an_answer_of_a_register_and_nothing_of_a_cas_register() -> None:
    refused = "0 invoke write 1; 0 ok write 1; 1 invoke cas [1, 2]; 1 fail cas [1, 2]"
    assert _kinds("register", refused) == ["nonlinearizable"]
    assert _kinds("register", refused + " error") == []
    assert _kinds("cas-register", refused) == []
    assert _kinds("register", "0 invoke write 3; 0 ok write 3; 1 invoke cas [1, 2]; 1 fail cas [1, 2]") == []


def test_a_register_that_answers_a_cas_with_true_or_false_fails_only_when_nothing_happened() -> None:
    answered = "0 invoke write 1; 0 ok write 1; 1 invoke cas [1, 2]; 1 fail cas [1, 2]; 2 invoke cas [1, 3]; 2 ok cas "
    assert _kinds("register", answered + "true") == []
    assert _kinds("register", answered + "false") == ["nonlinearizable"]


def test_what_a_failed_cas_says_is_read_from_the_whole_history() -> None:
    other_key = (
        "0 invoke write key=1 1; 0 ok write key=1 1; 1 invoke cas key=1 [1, 2]; 1 fail cas key=1 [1, 2]; "
    )
    answered = other_key + "2 invoke cas key=2 [1, 3]; 2 ok cas key=2 false"
    assert _kinds("register", answered) == []
    assert _kinds("register", other_key) == ["nonlinearizable"]


def test_a_register_begins_as_told() -> None:
    read = "0 invoke read; 0 ok read 0"
    assert _kinds("register", read) == ["nonlinearizable"]
    assert _kinds("register", read, initial=0) == []
    assert _kinds("cas-register", read) == []
    assert _kinds("cas-register", read, initial=None) == ["nonlinearizable"]


def test_keys_are_objects_apart_whether_beside_the_value_or_in_it() -> None:
    beside = '0 invoke write key="a" 1; 0 ok write key="a" 1; 1 invoke read key="b"; 1 ok read key="b" 1'
    assert _kinds("register", beside) == ["nonlinearizable"]
    inside = "0 invoke write [5, 1]; 0 ok write [5, 1]; 1 invoke read [6, null]; 1 ok read [6, 1]"
    assert _kinds("register", inside) == ["nonlinearizable"]
    assert _kinds("register", inside.replace("6", "5")) == []
    whole = "0 invoke write [5, 1]; 0 ok write [5, 1]; 1 invoke read; 1 ok read [5, 1]"
    assert _kinds("register", whole) == []
    with pytest.raises(HistoryError, match="instead of"):
        judge(script(whole.replace("write [5, 1]", "write 5")), "register", Options(keyed=True))


def test_an_unknown_write_may_be_seen_late_and_a_failed_one_never() -> None:
    late = "0 invoke write 1; 0 info write 1; 1 invoke read; 1 ok read null; 2 invoke read; 2 ok read 1"
    assert _kinds("register", late) == []
    assert _kinds("register", late.replace("info", "fail")) == ["nonlinearizable"]
    again = late + "; 3 invoke read; 3 ok read null"
    assert _kinds("register", again) == ["nonlinearizable"]


def test_the_counter_example_names_the_read_what_was_possible_and_what_overlaps() -> None:
    text = "0 invoke write 7; 1 invoke write 1; 1 ok write 1; 2 invoke read; 2 ok read 3; 0 ok write 7"
    (found,) = judge(script(text), "register").anomalies
    assert found.text.splitlines() == [
        "no order explains read = 3 by process 2 (index 3 to 4)",
        "what had returned by then leaves only: 1",
        "what overlaps it, or may still have taken effect:",
        "  write(7) = 7 by process 0 (index 0 to 5)",
    ]
    assert found.ops == (0, 3, 4, 5)


def test_the_search_is_bounded() -> None:
    text = "".join(f"{n} invoke write {n};" for n in range(12))
    text += "".join(f"{n} ok write {n};" for n in range(12)) + "12 invoke read; 12 ok read 99"
    assert _unknown("register", text, steps_max=50).startswith("undecided after 50 steps")
    assert _kinds("register", text) == ["nonlinearizable"]


def test_notes_of_many_keys_are_cut() -> None:
    text = "".join(f"{n} invoke add key={n} 1; {n} ok add key={n} 1;" for n in range(9))
    note = _unknown("counter", text)
    assert note.startswith("key 0: the counter was never read; key 1:")
    assert note.endswith("and so of 6 more keys")


# other linearizable objects


def test_kv_appends_are_in_one_order() -> None:
    text = (
        '0 invoke append key="k" "x"; 1 invoke append key="k" "y"; 0 ok append key="k" "x"; 1 ok append key="k" "y"; '
        '2 invoke get key="k"; 2 ok get key="k" "yx"; 3 invoke get key="k"; 3 ok get key="k" '
    )
    assert _kinds("kv", text + '"yx"') == []
    assert _kinds("kv", text + '"xy"') == ["nonlinearizable"]
    assert _kinds("kv", text + '"y"') == ["nonlinearizable"]
    assert _kinds("kv", '0 invoke get key="k"; 0 ok get key="k"') == []
    assert _kinds("kv", '0 invoke get key="k"; 0 ok get key="k" "z"') == ["nonlinearizable"]
    assert _kinds("kv", '0 invoke get key="k"; 0 ok get key="k" "z"', initial="z") == []


def test_a_mutex_is_held_by_one() -> None:
    twice = "0 invoke acquire; 1 invoke acquire; 0 ok acquire; 1 ok acquire"
    assert _kinds("mutex", twice) == ["nonlinearizable"]
    assert _kinds("mutex", twice.replace("1 ok", "1 fail")) == []
    assert _kinds("mutex", twice.replace("1 ok", "1 info")) == []
    released = (
        "0 invoke acquire; 0 ok acquire; 1 invoke acquire; 0 invoke release; 1 ok acquire; 0 ok release"
    )
    assert _kinds("mutex", released) == []
    assert _kinds("mutex", "0 invoke release; 0 ok release") == ["nonlinearizable"]
    assert _kinds("mutex", "0 invoke release; 0 ok release", initial=True) == []


def test_a_multi_register_is_read_at_one_moment() -> None:
    text = (
        '0 invoke txn [["w", "x", 1], ["w", "y", 1]]; 1 invoke txn [["r", "x", null], ["r", "y", null]]; '
        "0 ok txn; 1 ok txn "
    )
    assert _kinds("multi-register", text + '[["r", "x", 1], ["r", "y", 1]]') == []
    assert _kinds("multi-register", text + '[["r", "x", null], ["r", "y", null]]') == []
    assert _kinds("multi-register", text + '[["r", "x", 1], ["r", "y", null]]') == ["nonlinearizable"]
    assert _kinds("multi-register", text + '[["r", "x", 1], ["r", "y", null]]', null_unknown=True) == []
    assert _kinds("multi-register", text + '[["r", "x", 0], ["r", "y", 9]]', initial={"x": 0, "y": 9}) == []
    own = '0 invoke txn [["w", "x", 1], ["r", "x", null]]; 0 ok txn [["w", "x", 1], ["r", "x", 2]]'
    assert _kinds("multi-register", own) == ["nonlinearizable"]
    assert _kinds("multi-register", own.replace("2]", "1]")) == []


def test_registers_that_no_transaction_connects_are_judged_apart() -> None:
    text = '0 invoke txn [["w", "x", 1]]; 0 ok txn; 1 invoke txn [["r", "y", null]]; 1 ok txn [["r", "y", 3]]'
    (found,) = judge(script(text), "multi-register").anomalies
    assert "y=None" in found.text
    assert "x=" not in found.text


def test_a_counter_is_within_bounds_and_goes_one_way() -> None:
    text = "0 invoke add 2; 0 ok add 2; 1 invoke add 3; 2 invoke read; 2 ok read "
    assert [_kinds("counter", text + number) for number in ("2", "5")] == [[], []]
    assert [_kinds("counter", text + number) for number in ("1", "6")] == [
        ["out-of-bounds"],
        ["out-of-bounds"],
    ]
    assert _kinds("counter", text + "3") == ["nonlinearizable"]
    assert _kinds("counter", text + "3", bounds_only=True) == []
    back = text + "5; 3 invoke read; 3 ok read 2"
    assert _kinds("counter", back) == ["nonlinearizable"]
    assert _kinds("counter", back, bounds_only=True) == []
    assert _kinds("counter", back.replace("1 invoke add 3;", "")) == ["out-of-bounds"]


def test_a_counter_counts_failures_never_unknown_ones_perhaps_and_goes_down_too() -> None:
    unknown = "0 invoke add -2; 0 info add -2; 1 invoke read; 1 ok read "
    assert _kinds("counter", unknown + "-2") == []
    assert _kinds("counter", unknown + "0") == []
    assert _kinds("counter", unknown.replace("info", "fail") + "-2") == ["out-of-bounds"]
    assert _kinds("counter", unknown.replace("info", "ok") + "0") == ["out-of-bounds"]
    assert "never read" in _unknown("counter", "0 invoke add 1; 0 ok add 1")


# sets

_ADDED = "0 invoke add 1; 0 ok add 1; "


def test_a_set_keeps_what_was_added() -> None:
    assert _kinds("set", _ADDED + "1 invoke read; 1 ok read [1]") == []
    assert _kinds("set", _ADDED + "1 invoke read; 1 ok read []") == ["lost"]
    assert _kinds("set", _ADDED + "1 invoke read; 1 ok read [1, 2]") == ["unexpected"]
    assert _kinds("set", _ADDED.replace(" ok ", " fail ") + "1 invoke read; 1 ok read [1]") == ["revived"]
    assert _kinds("set", _ADDED.replace(" ok ", " info ") + "1 invoke read; 1 ok read [1]") == []
    assert _kinds("set", _ADDED.replace(" ok ", " info ") + "1 invoke read; 1 ok read []") == []
    assert "never read" in _unknown("set", _ADDED)
    beside = "0 invoke add 1; 1 invoke read; 0 ok add 1; 1 ok read []"
    assert _kinds("set", beside) == []
    assert _kinds("set", "1 invoke read; 1 ok read [1]; " + _ADDED) == ["unexpected"]


def test_a_set_full_is_linearizable() -> None:
    stale = _ADDED + "1 invoke read; 1 ok read []; 2 invoke read; 2 ok read [1]"
    assert _kinds("set", stale) == []
    assert _kinds("set-full", stale) == ["stale"]
    assert _kinds("set-full", stale, allow_stale=True) == []
    lost = _ADDED + "1 invoke read; 1 ok read [1]; 2 invoke read; 2 ok read []"
    assert _kinds("set-full", lost) == ["lost"]
    assert _kinds("set-full", lost, allow_stale=True) == ["lost"]
    seen_then_not = lost.replace("0 ok add 1;", "")
    assert _kinds("set-full", seen_then_not) == ["lost"]
    assert _kinds("set-full", _ADDED + "1 invoke read; 1 ok read [1, 1]") == ["duplicate"]
    assert "never read" in _unknown("set-full", _ADDED)


def test_reads_of_a_set_full_fit_one_order() -> None:
    fork = "0 invoke add 1; 1 invoke add 2; 2 invoke read; 3 invoke read; 2 ok read [1]; 3 ok read [2]"
    assert _kinds("set-full", fork) == ["incomparable-reads"]
    assert _kinds("set-full", fork, allow_stale=True) == []
    assert _kinds("set-full", fork.replace("[2]", "[1, 2]")) == []
    reverse = "3 invoke read; 0 invoke add 1; 0 ok add 1; 1 invoke add 2; 1 ok add 2; 3 ok read "
    assert _kinds("set-full", reverse + "[2]") == ["causal-reverse"]
    assert [_kinds("set-full", reverse + seen) for seen in ("[]", "[1]", "[1, 2]")] == [[], [], []]


def test_a_set_with_keys_in_its_values() -> None:
    text = "0 invoke add [7, 1]; 0 ok add [7, 1]; 1 invoke read [7, null]; 1 ok read [7, [1]]"
    assert _kinds("set-full", text) == []
    assert _kinds("set-full", text.replace("[7, [1]]", "[7, []]")) == ["lost"]


# bank

_READ = '0 invoke read; 0 ok read {"0": 10, "1": 10}; 1 invoke read; 1 ok read '


@pytest.mark.parametrize(
    ("balances", "options", "kinds"),
    [
        ('{"0": 3, "1": 17}', {}, []),
        ("[[0, 3], [1, 17]]", {}, []),
        ('{"0": 3, "1": 18}', {}, ["wrong-total"]),
        ('{"0": -3, "1": 23}', {}, ["negative-balance"]),
        ('{"0": -3, "1": 23}', {"negative_allowed": True}, []),
        ('{"0": null, "1": 20}', {}, ["null-balance"]),
        ('{"0": 3, "2": 17}', {}, ["unexpected-account"]),
        ('{"0": 20}', {}, []),
        ('{"0": 20}', {"accounts": ("0", "1")}, ["missing-account"]),
        ('{"0": 3, "1": 17}', {"total": 21}, ["wrong-total", "wrong-total"]),
    ],
)
def test_each_wrong_of_a_bank_is_found(balances: str, options: dict[str, Any], kinds: list[str]) -> None:
    assert _kinds("bank", _READ + balances, **options) == kinds


def test_an_account_that_a_transfer_names_may_appear_later() -> None:
    text = (
        '0 invoke transfer {"from": 0, "to": 2, "amount": 3}; 0 info transfer; '
        + _READ
        + '{"0": 3, "1": 10, "2": 7}'
    )
    assert _kinds("bank", text) == []
    assert _kinds("bank", text.replace('"to": 2', '"to": 1')) == ["unexpected-account"]


def test_a_bank_with_versions_is_judged_by_them() -> None:
    text = (
        "0 invoke transfer; 0 ok transfer [[0, 7, 1], [1, 13, 1]]; 1 invoke read; 1 ok read "
        "[[0, 7, 1], [1, 13, 1]]; 2 invoke read; 2 ok read "
    )
    assert _kinds("bank", text + "[[0, 7, 1], [1, 13, 1]]") == []
    assert _kinds("bank", text + "[[0, 10, 0], [1, 10, 0]]") == ["stale-read", "stale-read"]
    assert _kinds("bank", text + "[[0, 7, 1], [1, 14, 1]]") == ["wrong-read"]
    assert "never read" in _unknown("bank", "0 invoke transfer; 0 ok transfer null")


# numbers


@pytest.mark.parametrize(
    ("reads", "kinds"),
    [
        ("[0, 1, 2]", []),
        ("[0, 2, 1]", ["out-of-order"]),
        ("[0, 1, 1, 2]", ["duplicate"]),
        ("[0, 1]", ["lost"]),
        ("[0, 1, 2, 3]", ["unexpected"]),
    ],
)
def test_each_wrong_of_a_monotonic_read_is_found(reads: str, kinds: list[str]) -> None:
    text = "0 invoke add; 0 ok add 1; 1 invoke add; 1 ok add 2; 2 invoke read; 2 ok read "
    assert _kinds("monotonic", text + reads) == kinds


def test_additions_rise_with_real_time() -> None:
    read = "; 9 invoke read; 9 ok read [0, 1, 2, 3]"
    falling = "0 invoke add; 0 ok add 2; 1 invoke add; 1 ok add 1; 2 invoke add; 2 info add"
    assert _kinds("monotonic", falling + read) == ["not-monotonic"]
    beside = "0 invoke add; 1 invoke add; 0 ok add 2; 1 ok add 1; 2 invoke add; 2 info add"
    assert _kinds("monotonic", beside + read) == []
    twice = "0 invoke add; 0 ok add 1; 1 invoke add; 1 ok add 1; 9 invoke read; 9 ok read [0, 1]"
    assert _kinds("monotonic", twice) == ["duplicate", "not-monotonic"]
    known = (
        "0 invoke add; 0 ok add 1; 9 invoke read; 9 ok read [0, 1, 5]; 1 invoke add; 1 ok add 2; 2 invoke add"
    )
    assert "not-monotonic" in _kinds("monotonic", known)
    chosen = "0 invoke add 2; 0 ok add 2; 1 invoke add 1; 1 ok add 1; 9 invoke read; 9 ok read [1, 2]"
    assert _kinds("monotonic", chosen) == []


def test_a_number_seen_once_is_seen_again_and_holes_are_found_where_asked_for() -> None:
    text = "0 invoke add; 9 invoke read; 9 ok read [1]; 8 invoke read; 8 ok read []; "
    assert _kinds("monotonic", text + "7 invoke read; 7 ok read [1]; 0 ok add 1") == ["stale"]
    assert _kinds("monotonic", text + "0 ok add 1") == ["lost"]
    hole = "0 invoke add; 0 ok add 1; 1 invoke add; 1 ok add 3; 2 invoke read; 2 ok read [1, 3]"
    assert _kinds("monotonic", hole) == []
    assert _kinds("monotonic", hole, gapless=True) == ["gap"]
    assert "nothing was read" in _unknown("monotonic", "0 invoke add; 0 ok add 1")


def test_rows_with_timestamps() -> None:
    text = '0 invoke add 1; 0 ok add {"val": -1, "sts": "0"}; 1 invoke add 2; 1 fail add {"val": 9, "sts": "3"}; '
    read = '2 invoke read; 2 ok read [{"val": -1, "sts": "0"}, {"val": 0, "sts": "7.1"}'
    assert _kinds("monotonic", text + read + "]") == []
    assert _kinds("monotonic", text + read + ', {"val": 1, "sts": "7.0"}]') == ["out-of-order"]
    assert _kinds("monotonic", text + read + ', {"val": 9, "sts": "8"}]') == ["revived"]
    assert _kinds("monotonic", text + '2 invoke read; 2 ok read [[0, "7.1"]]') == ["lost"]
    later = '3 invoke add 3; 3 ok add {"val": 0, "sts": "7.1"}; 4 invoke add 4; 4 ok add {"val": -1, "sts": "0"}; '
    assert _kinds("monotonic", later + read + "]") == ["not-monotonic"]


def test_ids_are_given_once() -> None:
    text = "0 invoke generate; 0 ok generate 1; 1 invoke generate; 1 ok generate "
    assert _kinds("unique-ids", text + "2") == []
    assert _kinds("unique-ids", text + "1") == ["duplicate"]
    assert _kinds("unique-ids", text.replace("0 ok generate 1", "0 info generate 1") + "1") == []


# order


def test_who_saw_the_later_saw_the_earlier() -> None:
    text = "0 invoke write 5; 0 ok write 5; 1 invoke read 5; 1 ok read "
    assert [
        _kinds("sequential", text + f"[5, {seen}]")
        for seen in ('["5_1", "5_0"]', '[null, "5_0"]', "[null, null]")
    ] == [[], [], []]
    assert _kinds("sequential", text + '[5, ["5_1", null]]') == ["out-of-order"]
    assert _kinds("sequential", text + '[5, [null, "5_1", null, "5_0"]]') == ["out-of-order"]
    assert _kinds("sequential", "0 invoke read key=1; 0 ok read key=1 [2, null, 0]") == ["out-of-order"]
    assert "nothing was read" in _unknown("sequential", "0 invoke write 5; 0 ok write 5")


def test_a_ring_stays_one() -> None:
    text = "0 invoke swap 0; 0 ok swap null; 1 invoke read; 1 ok read "
    assert _kinds("cycle", text + "[[0, 1], [1, 2], [2, 0]]") == []
    assert _kinds("cycle", text + '{"0": "2", "1": "0", "2": "1"}') == []
    assert _kinds("cycle", text + "[[0, 1], [1, 0], [2, 2]]") == ["broken-ring"]
    assert _kinds("cycle", text + "[[0, 1], [1, 2], [2, 1]]") == ["broken-ring"]
    assert _kinds("cycle", text + "[[0, 1], [1, 2], [2, 7]]") == ["broken-ring"]
    assert _kinds("cycle", text + "[[0, 1], [1, 0]]") == []
    assert _kinds("cycle", text + "[]") == ["broken-ring"]
    assert _kinds("cycle", text + "[[0, 1], [1, 0]]", keys=3) == ["broken-ring"]
    fewer = "; 2 invoke read; 2 ok read [[0, 1], [1, 0]]"
    assert _kinds("cycle", text + "[[0, 1], [1, 2], [2, 0]]" + fewer) == ["broken-ring"]
    assert _kinds("cycle", text + "[[0, 1], [1, 2], [2, 0], [2, 0]]") == ["broken-ring"]
    assert "never read" in _unknown("cycle", "0 invoke swap 0; 0 ok swap null")


_ROWS = "[[-1, 0, 0, 5], [0, 7, 0, 5]]"
_SIDE = "[[1, 3], [2, 3]]"


@pytest.mark.parametrize(
    ("look", "kinds"),
    [
        (f"[{_ROWS}, [[-1, 0], [0, 7]], [[0, [0]]], {_SIDE}]", []),
        (f"[{_ROWS}, null, [], null]", []),
        ("[[[0, 7, 0, 5]], null, [], null]", ["half-altered"]),
        ("[[[-1, 0, 0, 5], [0, 7, 0]], null, [], null]", ["half-altered"]),
        ("[[[-1, 0, 0, 5], [0, 7, 1, 5]], null, [], null]", ["half-altered"]),
        (f"[{_ROWS}, [[-1, 0]], [], null]", ["index-differs"]),
        (f"[{_ROWS}, null, [[0, []]], null]", ["index-differs"]),
        (f"[{_ROWS}, null, [], [[1, 3], [2, 4]]]", ["side-differs"]),
        ("[[[-1, 0, 0, 5], [0, 8, 0, 5]], null, [], null]", ["nonlinearizable"]),
        ("[[[-1, 0, 0, 6], [0, 7, 0, 6]], null, [], null]", ["nonlinearizable"]),
    ],
)
def test_each_wrong_of_a_table_that_changes_is_found(look: str, kinds: list[str]) -> None:
    text = (
        "0 invoke put key=0 7; 0 ok put key=0 7; 0 invoke column 5; 0 ok column 5; 0 invoke side 3; 0 ok side 3; "
        "0 invoke index; 0 ok index; 1 invoke look; 1 ok look "
    )
    assert _kinds("schema", text + look) == kinds
    assert "nobody looked" in _unknown("schema", text.partition("; 1 invoke look")[0])


def test_what_goes_into_a_queue_comes_out_once() -> None:
    text = "0 invoke enqueue 1; 0 ok enqueue 1; 1 invoke enqueue 2; 1 ok enqueue 2; 2 invoke dequeue; 2 ok dequeue 1; "
    assert _kinds("total-queue", text + "3 invoke drain; 3 ok drain [2]") == []
    assert _kinds("total-queue", text + "3 invoke drain; 3 ok drain []") == ["lost"]
    assert _kinds("total-queue", text + "3 invoke drain; 3 ok drain [2, 1]") == ["duplicate"]
    assert _kinds("total-queue", text + "3 invoke drain; 3 ok drain [2, 3]") == ["unexpected"]
    failed = text.replace("0 ok enqueue", "0 fail enqueue")
    assert _kinds("total-queue", failed + "3 invoke drain; 3 ok drain [2]") == ["revived"]
    assert "may have taken" in _unknown("total-queue", text + "3 invoke dequeue; 3 info dequeue")
    assert "may have taken" in _unknown("total-queue", text + "3 invoke drain; 3 info drain")


# all of them


@pytest.mark.parametrize(
    ("model", "text", "complaint"),
    [
        ("register", "0 invoke swap 1", "operation 0: no operation 'swap'"),
        ("register", "0 invoke cas 1", "instead of \\[old, new\\]"),
        ("register", "0 ok read 1", "process 0 completes what it did not invoke"),
        ("kv", "0 invoke put 5", "instead of a string"),
        ("counter", '0 invoke add "x"', "instead of a number"),
        ("multi-register", "0 invoke txn 5", "instead of a list"),
        ("multi-register", '0 invoke txn [["x", 1, 2]]', "instead of a list"),
        ("set", "0 invoke read; 0 ok read 5", "gave no list"),
        ("monotonic", "0 invoke read; 0 ok read 5", "gave no list"),
        ("monotonic", '0 invoke read; 0 ok read ["x"]', "neither a number nor a row"),
        ("monotonic", '0 invoke read; 0 ok read [[1, "x"]]', "timestamp"),
        ("sequential", "0 invoke read; 0 ok read 5", "instead of \\[key"),
        ("cycle", "0 invoke read; 0 ok read 5", "instead of \\[\\[key"),
        ("bank", "0 invoke read; 0 ok read 5", "instead of accounts"),
        ("bank", '0 invoke read; 0 ok read {"0": "x"}', "is no number"),
        (
            "bank",
            "0 invoke transfer; 0 ok transfer 5; 0 invoke read; 0 ok read [[0, 1, 1]]",
            "instead of two rows",
        ),
        ("schema", "0 invoke look; 0 ok look 5", "without its four parts"),
        ("total-queue", "0 invoke drain; 0 ok drain 5", "gave no list"),
    ],
)
def test_a_history_of_another_form_is_refused(model: str, text: str, complaint: str) -> None:
    with pytest.raises(HistoryError, match=complaint):
        judge(script(text), model)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_history_without_operations_is_never_wrong(model: str) -> None:
    assert not judge([], model).anomalies


def test_models_have_other_names_too() -> None:
    assert set(ALIASES.values()) <= set(MODELS)
    assert judge([], "list-append").model == "append"


def test_the_first_values_of_objects_are_of_their_kind() -> None:
    for model, text in (("kv", "0 invoke get; 0 ok get"), ("counter", "0 invoke read; 0 ok read 1")):
        with pytest.raises(HistoryError, match="the initial value"):
            judge(script(text), model, Options(initial=[1]))
