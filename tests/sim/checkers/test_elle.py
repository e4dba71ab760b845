"""Elle: known verdicts on recorded histories, and each anomaly by hand, with a neighbour that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.sim.checkers.elle_histories import Mops, concurrent, one_after_another
from txndb.sim.checkers.elle import check_append, check_rw, plot
from txndb.sim.checkers.elle.judge import build
from txndb.sim.checkers.elle.levels import BELOW, canonical, holding
from txndb.sim.checkers.verdict import Verdict
from txndb.sim.history import Op

HISTORIES = Path(__file__).resolve().parents[4] / "shared" / "data" / "histories"
MANIFEST = HISTORIES / "manifest.json"


def kinds(verdict: Verdict) -> set[str]:
    return {anomaly.kind for anomaly in verdict.anomalies}


def _recorded() -> list[dict[str, Any]]:
    entries = json.loads(MANIFEST.read_text()) if MANIFEST.is_file() else []
    return [e for e in entries if e["file"].split("/")[0] in ("list-append", "rw-register")]


def _read(file: str) -> list[Op]:
    with (HISTORIES / file).open("rb") as lines:
        raw = [json.loads(line) for line in lines]
    return [Op(r["index"], r["process"], r["type"], r.get("f", "txn"), r["value"]) for r in raw]


@pytest.mark.skipif(not MANIFEST.is_file(), reason="recorded histories do not lie beside the checkout")
def test_recorded_histories_are_judged_as_their_authors_say() -> None:
    wrong = []
    entries = _recorded()
    for entry in entries:
        verdict = (check_append if "append" in entry["file"] else check_rw)(_read(entry["file"]))
        named = {kind for kind in entry["anomalies"] if " or " not in kind}
        if (
            verdict.valid is not entry["valid"]
            or not named <= kinds(verdict)
            or any(verdict.levels[level] is not holds for level, holds in entry["levels"].items())
            or (entry["valid"] and not entry["anomalies"] and verdict.anomalies)
        ):
            wrong.append((entry["file"], verdict))
    assert wrong == []
    assert {entry["valid"] for entry in entries} == {True, False}


LISTS: list[tuple[str, set[str], str, tuple[str, ...]]] = [
    # what it shows, anomalies, level that holds, concurrent transactions
    ("writes in two orders", {"G0"}, "none", ("ax1 ay1", "ax2 ay2", "rx12 ry21")),
    ("writes in one order", set(), "strict_serializable", ("ax1 ay1", "ax2 ay2", "rx12 ry12")),
    ("an aborted read", {"G1a"}, "read_uncommitted", ("!ax1", "rx1")),
    ("an unknown outcome seen", set(), "strict_serializable", ("?ax1", "rx1")),
    ("an unknown outcome not seen", set(), "strict_serializable", ("?ax1", "rx")),
    ("an intermediate read", {"G1b"}, "read_uncommitted", ("ax1 ax2", "rx1", "rx12")),
    ("a final read", set(), "strict_serializable", ("ax1 ax2", "rx12")),
    ("its own intermediate", set(), "strict_serializable", ("ax1 rx1 ax2", "rx12")),
    ("an append on another's middle", {"G0", "G1b"}, "none", ("ax1 ax2", "ax3 rx13")),
    ("information both ways", {"G1c"}, "read_uncommitted", ("ax1 ry1", "ay1 rx1")),
    ("information one way", set(), "strict_serializable", ("ax1 ry1", "ay1 rx")),
    ("read skew", {"G-single-item"}, "read_committed", ("ax1 ay1", "rx1 ry")),
    ("half of an unknown outcome", {"G-single-item"}, "read_committed", ("?ax1 ay1", "rx1 ry")),
    ("no skew", set(), "strict_serializable", ("ax1 ay1", "rx1 ry1")),
    ("write skew", {"G2-item"}, "snapshot_isolation", ("rx ay1", "ry ax1")),
    ("no write skew", set(), "strict_serializable", ("rx ay1", "ry1 ax1")),
    ("a long fork", {"G-nonadjacent-item"}, "read_committed", ("ax1", "ay1", "rx1 ry", "rx ry1")),
    ("no fork", set(), "strict_serializable", ("ax1", "ay1", "rx1 ry", "rx1 ry1")),
    ("a lost update", {"lost-update", "G-single-item"}, "read_committed", ("rx ax1", "rx ax2", "rx12")),
    ("an update after an update", set(), "strict_serializable", ("rx ax1", "rx1 ax2", "rx12")),
    ("its own append vanished", {"internal"}, "read_committed", ("ax1 rx",)),
    ("its own append at the end", set(), "strict_serializable", ("ax1 rx1",)),
    ("two reads that differ", {"internal", "G-single-item"}, "read_committed", ("rx rx1", "ax1")),
    ("two reads and an append between", set(), "strict_serializable", ("rx1 ax2 rx12", "ax1")),
    (
        "an append made, seen twice out of place",
        {"internal", "G-single-item"},
        "read_committed",
        ("ax1", "rx1 ax3 rx123 rx123", "ax2"),
    ),
    ("an append before it is made", {"future-read"}, "read_uncommitted", ("rx1 ax1",)),
    ("an aborted append below", {"G1a", "dirty-update"}, "read_uncommitted", ("!ax1", "ax2", "rx12")),
    ("reads in two orders", {"incompatible-order"}, "read_uncommitted", ("ax1", "ax2", "rx12", "rx2")),
    ("reads in one order", set(), "strict_serializable", ("ax1", "ax2", "rx12", "rx1")),
    ("appends of one out of order", {"incompatible-order", "G1b"}, "read_uncommitted", ("ax1 ax2", "rx21")),
    ("an element twice", {"duplicate-elements"}, "none", ("ax1", "rx11")),
    ("two elements", set(), "strict_serializable", ("ax1 ax1", "rx")[1:]),
]


@pytest.mark.parametrize(("shows", "found", "level", "txns"), LISTS, ids=[case[0] for case in LISTS])
def test_lists(shows: str, found: set[str], level: str, txns: tuple[str, ...]) -> None:
    verdict = check_append(concurrent(*txns))
    assert (kinds(verdict), verdict.weakest_level) == (found, level)
    assert verdict.valid is (level == "strict_serializable")


REGISTERS: list[tuple[str, set[str], str, tuple[str, ...]]] = [
    ("an aborted read", {"G1a"}, "read_uncommitted", ("!wx1", "rx1")),
    ("an unknown outcome seen", set(), "strict_serializable", ("?wx1", "rx1")),
    ("an intermediate read", {"G1b"}, "read_uncommitted", ("wx1 wx2", "rx1")),
    ("information both ways", {"G1c"}, "read_uncommitted", ("wx1 ry1", "wy1 rx1")),
    ("information one way", set(), "strict_serializable", ("wx1 ry1", "wy1 rx")),
    ("read skew", {"G-single-item"}, "read_committed", ("wx1 wy1", "rx1 ry")),
    ("half of an unknown outcome", {"G-single-item"}, "read_committed", ("?wx1 wy1", "rx1 ry")),
    ("write skew", {"G2-item"}, "snapshot_isolation", ("rx wy1", "ry wx1")),
    ("a long fork", {"G-nonadjacent-item"}, "read_committed", ("wx1", "wy1", "rx1 ry", "rx ry1")),
    ("a lost update", {"lost-update", "G2-item"}, "read_committed", ("rx wx1", "rx wx2")),
    ("an update after an update", set(), "strict_serializable", ("rx wx1", "rx1 wx2")),
    ("its own write vanished", {"internal"}, "read_committed", ("wx1 rx",)),
    ("a write before it is made", {"future-read"}, "read_uncommitted", ("rx1 wx1",)),
    (
        "writes follow reads",
        {"G1c"},
        "read_uncommitted",
        ("wx1 wy2", "rx1 wx2 wy1", "ry1 wy3", "ry2 wy1")[:2],
    ),
    ("a stale read after two steps", {"G-single-item"}, "read_committed", ("wx1", "rx1 wx2 wy1", "ry1 rx1")),
    ("a fresh read after two steps", set(), "strict_serializable", ("wx1", "rx1 wx2 wy1", "ry1 rx2")),
]
REGISTERS = [case for case in REGISTERS if case[0] != "writes follow reads"]


@pytest.mark.parametrize(("shows", "found", "level", "txns"), REGISTERS, ids=[case[0] for case in REGISTERS])
def test_registers(shows: str, found: set[str], level: str, txns: tuple[str, ...]) -> None:
    verdict = check_rw(concurrent(*txns, registers=True))
    assert (kinds(verdict), verdict.weakest_level) == (found, level)
    assert verdict.valid is (level == "strict_serializable")


def test_versions_that_each_follow_the_other_are_named() -> None:
    verdict = check_rw(concurrent("rx2 wx1", "rx1 wx2", registers=True))
    assert kinds(verdict) == {"cyclic-versions", "G1c"}
    assert verdict.levels["read_uncommitted"] and not verdict.levels["read_committed"]


def test_the_order_of_a_registers_writes_never_refutes_read_uncommitted() -> None:
    """That v follows u where somebody read u and wrote v is itself a premise of read committed."""
    verdict = check_rw(concurrent("wx1 wy4", "rx1 wx2 wy3", "ry3 wy4 wx9", registers=True)[:2])
    assert verdict.levels["read_uncommitted"]
    cycle = concurrent("wx1 ry3 wy4", "rx1 wx2 wy3", registers=True)
    verdict = check_rw(cycle)
    assert "G0" in kinds(verdict) and verdict.weakest_level == "read_uncommitted"


def test_a_stale_read_breaks_strict_serializability_alone() -> None:
    lists = one_after_another("ax1", "ax2", "rx1", "rx12")
    registers = one_after_another("wx1", "wx2", "rx1", registers=True)
    for verdict in (check_append(lists), check_rw(registers)):
        assert kinds(verdict) == {"G-single-item-realtime"}
        assert verdict.valid is True and verdict.weakest_level == "serializable"
    assert check_append(lists, level="strict-serializable").valid is False
    fresh = one_after_another("ax1", "ax2", "rx12")
    assert check_append(fresh, level="strict-serializable").valid is True


def test_a_process_that_goes_back_in_time_breaks_its_session() -> None:
    lists = one_after_another("ax1", "ax2", "rx12", "rx1", processes=[0, 1, 2, 2])
    registers = one_after_another("wx1", "wx2", "rx2", "rx1", processes=[0, 0, 2, 2], registers=True)
    for verdict in (check_append(lists), check_rw(registers)):
        assert kinds(verdict) == {"G-single-item-process"}
        assert verdict.weakest_level == "serializable" and not verdict.levels["strong_session_serializable"]
    others = check_append(one_after_another("ax1", "ax2", "rx12", "rx1", processes=[0, 1, 2, 3]))
    assert kinds(others) == {"G-single-item-realtime"} and others.levels["strong_session_serializable"]
    with_sessions = one_after_another("ax1", "ax2", "rx12", "rx1", processes=[0, 0, 2, 3])
    assert check_append(with_sessions).weakest_level == "strong_session_serializable"


def test_write_cycles_and_reads_of_the_future_in_real_time() -> None:
    assert kinds(check_append(one_after_another("ax2", "ax1", "rx12"))) == {"G0-realtime"}
    assert kinds(check_append(one_after_another("rx1", "ax1"))) == {"G1c-realtime"}
    skew = check_append(one_after_another("rx ay1", "ry ax1"))
    assert kinds(skew) == {"G2-item", "G-single-item-realtime"}
    assert skew.levels["snapshot_isolation"] and not skew.levels["strong_snapshot_isolation"]


def test_real_time_needs_invocations() -> None:
    completions = [op for op in one_after_another("ax1", "ax2", "rx1", "rx12") if op.type != "invoke"]
    verdict = check_append(completions)
    assert verdict.valid is True and verdict.weakest_level == "serializable"
    assert check_append(completions, level="strict_serializable").valid is None
    same_process = [Op(op.index, 7, op.type, op.f, op.value) for op in completions]
    assert kinds(check_append(same_process)) == {"G-single-item-process"}


def test_an_unknown_outcome_may_come_late_and_precedes_nothing() -> None:
    assert check_append(one_after_another("?ax1", "rx", "rx1")).weakest_level == "strict_serializable"
    assert kinds(check_append(one_after_another("rx1", "?ax1"))) == {"G1c-realtime"}
    never = one_after_another("ax1", "rx1")
    assert check_append([*never, Op(9, 5, "invoke", "txn", [["append", "x", 2]])]).valid is True


def test_what_a_key_that_is_read_only_holds_depends_on_the_model() -> None:
    ops = concurrent("rx", "rx")
    assert check_append(ops).valid is True and check_rw(ops).valid is True


def test_registers_may_start_with_a_value() -> None:
    verdict = check_rw(concurrent("rx0 wy1", "ry0 wx1", registers=True))
    assert kinds(verdict) == {"G2-item"} and verdict.weakest_level == "snapshot_isolation"


def test_keys_can_be_taken_to_be_linearizable() -> None:
    ops = one_after_another("wx1", "wx2", "rx1 wy1", "ry1", registers=True)
    plain, taken = check_rw(ops), check_rw(ops, linearizable_keys=True)
    assert plain.valid is True and kinds(plain) == {"G-single-item-realtime"}
    assert kinds(taken) == {"G-single-item-realtime"}
    fork = one_after_another("wx1 wy1", "wx2 wy2", registers=True)
    fork += [Op(4, 8, "ok", "txn", [["r", "x", 1], ["r", "y", 2]])]
    assert check_rw(fork).valid is True
    assert kinds(check_rw(fork, linearizable_keys=True)) == {"G-single-item"}


def test_readers_that_go_back_and_forth_contradict_any_order_of_versions() -> None:
    writes = concurrent("wx1", "wx2", registers=True)
    reads = one_after_another("rx1", "rx2", "rx1", processes=[5, 5, 5], registers=True)
    ops = [*writes, *(Op(4 + op.index, op.process, op.type, op.f, op.value) for op in reads)]
    verdict = check_rw(ops)
    assert kinds(verdict) == {"cyclic-versions-process"} and verdict.weakest_level == "serializable"
    assert "T5 met 1, then T7 2; T7 met 2, then T9 1" in verdict.anomalies[0].text


def test_malformed_histories_are_unknown_not_fatal() -> None:
    twice = check_append(concurrent("ax1", "ax1", "rx1"))
    assert (twice.valid, kinds(twice)) == (None, {"duplicate-appends"}) and "twice" in twice.note
    unwritten = check_append(concurrent("ax2", "rx12"))
    assert unwritten.valid is None and "nobody" in unwritten.note
    mixed = check_append([*concurrent("ax1", "rx1"), Op(9, 9, "ok", "txn", [["w", "x", 3]])])
    assert mixed.valid is None and "overwritten" in mixed.note
    proven = check_append(concurrent("ax1", "ax1", "ay1 az1", "ry1 rz"))
    assert proven.valid is False  # what is malformed elsewhere takes nothing from a proof
    assert check_append([]).valid is None
    assert check_append(concurrent("!ax1", "?ax2")).valid is None
    text = check_append(
        [Op(0, 0, "ok", "txn", [["r", "x", "1,2"]]), Op(1, 1, "ok", "txn", [["append", "x", 1]])]
    )
    assert text.valid is None and "not a list" in text.note


def test_what_recorders_write_is_read() -> None:
    ops: list[Op] = [
        Op(0, 0, ":invoke", "read", [[":append", [1, {"a": 1}], True]]),
        Op(0, 0, ":ok", "", [[":append", [1, {"a": 1}], True]]),
        Op(0, "nemesis", "info", "kill", None),  # type: ignore[arg-type]
        Op(0, 1, "ok", "txn", [["r", [1, {"a": 1}], [True]]]),
        Op(0, 2, "ok", "txn", [["r", [1, {"a": 1}]]]),
        Op(0, 3, "ok", "txn", "what is this"),
        Op(0, 4, "ok", "txn", [["increment", "x", 1]]),
    ]
    verdict = check_append(ops)
    assert verdict.valid is True and "2 operations are no transactions" in verdict.note
    assert (
        check_append(
            [Op(0, 0, "ok", "txn", [["append", 1, 1]]), Op(1, 0, "ok", "txn", [["r", "1", [1]]])]
        ).valid
        is None
    )


def test_lists_and_registers_may_share_a_history() -> None:
    ops = [
        Op(0, 0, "ok", "txn", [["append", "x", 1], ["w", "y", 1]]),
        Op(1, 1, "ok", "txn", [["r", "x", [1]], ["r", "y", None]]),
    ]
    assert kinds(check_append(ops)) == kinds(check_rw(ops)) == {"G-single-item"}


def test_the_counter_example_is_a_cycle_of_history_indexes_with_reasons() -> None:
    verdict = check_append(concurrent("ax1 ay1", "rx1 ry"))
    (anomaly,) = verdict.anomalies
    assert anomaly.cycle == ((2, "wr", 3), (3, "rw", 2)) and anomaly.ops == (2, 3)
    assert anomaly.text.splitlines() == [
        "T2 -wr-> T3 -rw-> T2",
        "  T2 before T3: T3 read key x with T2's 1 in it",
        "  T3 before T2: T3 read key y without T2's 1",
        "  T2 = append x 1; append y 1",
        "  T3 = r x [1]; r y nil",
    ]
    assert verdict.as_json()["anomalies"][0]["cycle"] == [[2, "wr", 3], [3, "rw", 2]]


def test_the_same_history_gives_the_same_verdict_whatever_its_indexes() -> None:
    ops = concurrent("ax1 ay1", "rx1 ry")
    renumbered = [Op(op.index * 10 + 5, op.process, op.type, op.f, op.value) for op in ops]
    assert check_append(renumbered).anomalies[0].cycle == ((25, "wr", 35), (35, "rw", 25))
    unnumbered = [Op(0, op.process, op.type, op.f, op.value) for op in ops]
    assert check_append(unnumbered).anomalies[0].cycle == ((2, "wr", 3), (3, "rw", 2))


def test_levels_form_a_lattice() -> None:
    assert all(weaker in BELOW for below in BELOW.values() for weaker in below)
    write_skew = holding(["repeatable_read"])
    assert [level for level, holds in write_skew.items() if holds] == [
        "strong_snapshot_isolation",
        "strong_session_snapshot_isolation",
        "snapshot_isolation",
        "read_committed",
        "read_uncommitted",
    ]
    assert canonical("Strong-Serializable") == "strict_serializable"
    with pytest.raises(ValueError, match="unknown isolation level 'linear'"):
        canonical("linear")


def _in_step(batches: list[Mops]) -> list[Op]:
    """Ten new clients a batch: all invoke, then all complete, each with the same steps but values of its own."""
    ops: list[Op] = []
    for number, steps in enumerate(batches):
        txns = {
            process: [[f, key, value if f == "r" else process] for f, key, value in steps]
            for process in range(number * 10, number * 10 + 10)
        }
        for kind in ("invoke", "ok"):
            ops += [Op(len(ops) + n, p, kind, "txn", done) for n, (p, done) in enumerate(txns.items())]
    return ops


def test_real_time_is_kept_by_few_edges() -> None:
    """A hundred transactions, ten at a time: its closure has 4,500 pairs, its reduction 900."""
    _, _, graph = build(_in_step([[]] * 10), "append")
    assert graph.count()["realtime"] == 9 * 10  # into hubs, from which as many lead on
    assert sum(len(targets) for targets in graph.succ) == 9 * (10 + 10)


def test_real_time_reaches_through_hubs() -> None:
    between: list[Mops] = [[["append", "y", 0]]] * 5
    ops = _in_step([[["append", "x", 0]], *between, [["r", "x", []]]])
    verdict = check_append(ops)
    assert kinds(verdict) == {"G-single-item-realtime"}
    assert {tuple(kind for _, kind, _ in anomaly.cycle) for anomaly in verdict.anomalies} == {
        ("realtime", "rw")
    }
    ops = _in_step([[["r", "x", []]], *between, [["append", "x", 0]]])
    assert check_append(ops).weakest_level == "strict_serializable"


def test_many_readers_before_many_writers_cost_a_hub() -> None:
    """Two hundred reads of nothing and two hundred appends nobody saw: 40,000 pairs."""
    appends = [f"ax{n}" for n in range(1, 201)]
    ops = concurrent(*["rx"] * 200, *appends)
    _, _, graph = build(ops, "append")
    assert sum(len(targets) for targets in graph.succ) <= 400 + 2
    assert check_append(ops).weakest_level == "strict_serializable"
    late = one_after_another(*appends, *["rx"] * 200)
    verdict = check_append(late)
    assert kinds(verdict) == {"G-single-item-realtime"}
    for anomaly in verdict.anomalies:
        assert {edge[1] for edge in anomaly.cycle} == {"rw", "realtime"} and len(anomaly.cycle) == 2


def test_cycles_are_drawn() -> None:
    ops = concurrent("ax1", "ay1", "rx1 ry", "rx ry1")
    verdict = check_append(ops)
    drawing = ElementTree.fromstring(plot.svg(verdict, ops))
    texts = [element.text or "" for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert "G-nonadjacent-item" in texts and texts.count("rw") == 2 and texts.count("wr") == 2
    assert "r x [1]" in texts and "append y 1" in texts
    dot = plot.dot(verdict, ops)
    assert dot.startswith("digraph") and dot.count(" -> ") == 4 and 'label="rw"' in dot
    assert plot.svg(verdict, ops) == plot.svg(check_append(ops), ops)
    good = concurrent("ax1", "rx1")
    assert "nothing to show" in plot.svg(check_append(good), good)


def test_drawings_quote_what_they_show() -> None:
    ops = [
        Op(0, 0, "ok", "txn", [["append", '<"&>', '"'], ["append", "y", 1]]),
        Op(1, 1, "ok", "txn", [["r", '<"&>', ['"']], ["r", "y", None]]),
    ]
    verdict = check_append(ops)
    texts = [element.text for element in ElementTree.fromstring(plot.svg(verdict, ops)).iter()]
    assert 'append <"&> "' in texts
    assert '\\"' in plot.dot(verdict, ops)
