"""The table of canaries: complete, judged honestly; and those that sing soonest, caught in a few fixed seeds."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import txndb
from txndb.sim.canaries import CANARIES, Canary, Look, catcher, hunt, judge, line_of, main
from txndb.sim.cli import command
from txndb.sim.run import Request
from txndb.sim.world import Report

_SWITCH = re.compile(r'"([\w-]+)" (?:not )?in (?:[\w.]*\.)?_?canaries\b')


def test_the_table_names_every_switch_in_the_code_and_no_other() -> None:
    root = Path(txndb.__file__).parent
    found = {name for path in root.rglob("*.py") for name in _SWITCH.findall(path.read_text())}
    assert found == {canary.rule for canary in CANARIES}
    assert len(CANARIES) == len({canary.rule for canary in CANARIES})


@pytest.mark.parametrize(
    ("program", "option"), [(command, "--canary"), (main, "--rule")], ids=["txndb sim", "the hunt"]
)
def test_a_rule_that_is_none_is_refused_with_those_there_are(program: click.Command, option: str) -> None:
    done = CliRunner().invoke(program, [option, "nope"])
    assert done.exit_code == 2
    assert "no rule is called nope; there are T1, T2, " in done.stderr


def test_seeds_are_counted_from_catch_to_catch() -> None:
    by = ["", "", "checker of bank", "", "a node stopped: CorruptionError"]
    finding = judge(Canary("K1", "broken"), [Look(seed, text) for seed, text in enumerate(by)])
    assert finding.distances == [3, 2] and finding.seeds == 5 and finding.median == 2.5
    assert finding.caught_by == {"checker of bank": 1, "a node stopped: CorruptionError": 1}
    assert line_of(finding) == "| K1 | broken | checker of bank, a node stopped: CorruptionError | 2.5 |"


def test_a_canary_that_is_not_caught_says_so() -> None:
    finding = judge(Canary("K1", "broken"), [Look(1)])
    assert finding.median is None and "not caught" in line_of(finding)


@pytest.mark.parametrize(
    ("violation", "by"),
    [
        ("[rest, 9.0 s] not within 60 s: replicas of range 3 differ", "replica comparison"),
        ("[rest, 9.0 s] not within 60 s: n1 still holds [...]", "progress"),
        ("[safety, 2.0 s] election safety: n1 and n3 led range 4 in term 8", "Raft's election safety"),
        ("[safety, 2.0 s] n1 stopped itself: CorruptionError: ahead", "a node stopped: CorruptionError"),
        (
            "[safety, 2.0 s] InternalError: catalogue leases, invariant 3: …",
            "invariant of the catalogue leases",
        ),
        ("[verdict, 9.0 s] race: column t.raced_1_early was …, and is gone", "columns of racing DDL"),
        ("[verdict, 9.0 s] total is 99", "checker of bank"),
    ],
)
def test_who_noticed_is_told_by_the_words(violation: str, by: str) -> None:
    report = Report(1, False, violation, 0, 0.0, 0.0, {}, {}, {}, "")
    assert catcher(Request(workload="bank"), report) == by


def test_seeds_that_drew_nothing_of_the_rule_are_counted_and_not_run() -> None:
    canary = Canary("D3", "broken", workloads=("no such workload",))
    assert [look.by for look in hunt(canary, Request(), range(1, 500), 1)] == [""] * 499


def test_a_rule_may_be_about_what_is_done_to_the_database_as_well_as_about_traffic() -> None:
    canary = Canary("D3", "broken", workloads=("schema_race",))
    options = [Request().options(seed) for seed in range(1, 100)]
    racing = [canary.may_show(each) for each in options]
    assert racing == ["schema_race" in each.database_kinds for each in options]
    assert True in racing and False in racing


@pytest.mark.parametrize(
    "rule",
    [
        *("C3", "P1", "P6", "ack-before-persist", "stale-lease", "L1", "L2", "M3", "M4", "S1", "T2", "T4"),
        *("D6", "append-unchecked"),
    ],
)
def test_a_canary_that_sings_soon_is_heard_within_a_few_seeds(rule: str) -> None:
    canary = next(canary for canary in CANARIES if canary.rule == rule)
    looks = list(hunt(canary, Request(), range(1, 41), 1))
    assert looks[-1].by, f"{rule} was not caught in {len(looks)} seeds"


def test_with_a_workload_chosen_its_own_checker_is_seen_to_notice() -> None:
    asked = ["--rule", "sequence-unlocked", "--workload", "unique-ids", "--catches", "1", "--seeds-max", "20"]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0
    assert "| checker of unique-ids |" in done.stdout
