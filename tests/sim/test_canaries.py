"""The table of canaries: complete, and judged honestly."""

from __future__ import annotations

import re
from pathlib import Path

import txndb
from txndb.sim.canaries import CANARIES, Canary, catcher, judge, line_of
from txndb.sim.run import Request
from txndb.sim.world import Report

_SWITCH = re.compile(r'"([\w-]+)" (?:not )?in (?:[\w.]*\.)?_?canaries\b')


def test_the_table_names_every_switch_in_the_code_and_no_other() -> None:
    root = Path(txndb.__file__).parent
    found = {name for path in root.rglob("*.py") for name in _SWITCH.findall(path.read_text())}
    assert found == {canary.rule for canary in CANARIES}
    assert len(CANARIES) == len({canary.rule for canary in CANARIES})


def _report(seed: int, violation: str) -> Report:
    return Report(seed, not violation, violation, 0, 0.0, 0.0, {}, {}, {}, "")


def test_seeds_are_counted_from_catch_to_catch() -> None:
    texts = ["", "", "total is 99", "", "n1 stopped itself: CorruptionError: ahead"]
    request = Request(workload="bank", canaries=("K1",))
    reports = (_report(seed, text) for seed, text in enumerate(texts))
    finding = judge(Canary("K1", "broken"), request, reports)
    assert finding.distances == [3, 2] and finding.seeds == 5 and finding.median == 2.5
    assert finding.caught_by == {"checker of bank": 1, "a node stopped: CorruptionError": 1}
    assert line_of(finding) == "| K1 | broken | checker of bank, a node stopped: CorruptionError | 2.5 |"


def test_a_canary_that_is_not_caught_says_so() -> None:
    request = Request(workload="bank", canaries=("K1",))
    finding = judge(Canary("K1", "broken"), request, iter([_report(1, "")]))
    assert finding.median is None and "not caught" in line_of(finding)
    assert catcher(request, _report(1, "replicas of range 3 differ")) == "replica comparison"
