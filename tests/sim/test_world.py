"""Whole worlds with a toy brain: clean when it behaves, found out when it does not, the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.sim.toynode import toy_parts
from txndb.sim.cli import command
from txndb.sim.nemesis import CATALOGUE
from txndb.sim.options import (
    CATEGORIES,
    EVENT_FAULTS,
    LATER_FAULTS,
    RAFT_FAULTS,
    WORKLOADS,
    draw_options,
)
from txndb.sim.world import Report, World

TOY = "tests.sim.toynode:toy_parts"


def _run(seed: int, bug: str = "", workload: str = "", faults: str = "all", seconds: float = 5.0) -> Report:
    options = draw_options(seed, workload=workload, faults=faults, seconds=seconds)
    return World(options, toy_parts(bug)).run()


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_correct_brain_passes_under_all_faults(seed: int, workload: str) -> None:
    report = _run(seed, workload=workload)
    assert report.violation == ""
    assert report.ok
    assert report.operations["ok"] > 50
    assert report.virtual_s > 5


@pytest.mark.parametrize(
    ("bug", "workload", "finding"),
    [
        ("lost-update", "bank", "total"),
        ("lost-update", "cycle", "ring"),
        ("lost-update", "register", "not linearizable"),
        ("torn", "cycle", "ring"),
        ("stale-read", "bank", "known before"),
        ("stale-read", "register", "not linearizable"),
    ],
)
def test_a_wrong_brain_is_found_out(bug: str, workload: str, finding: str) -> None:
    seen = []
    for seed in range(1, 7):
        seen.append(_run(seed, bug, workload, faults="none", seconds=3).violation)
        if finding in seen[-1]:
            break
    assert finding in seen[-1], seen


def test_one_seed_gives_one_trace_in_any_process() -> None:
    hashes = {}
    for hash_seed in ("0", "4711"):
        argv = ["--seed", "3", "--seconds", "3", "--json", "--parts", TOY]
        code = f"from txndb.sim.cli import command; command({argv!r})"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            check=True,
            timeout=60,
        )
        report = json.loads(done.stdout)
        hashes[hash_seed] = (report["trace_hash"], report["events"], report["virtual_s"])
    assert len(set(hashes.values())) == 1, hashes


def test_other_seeds_give_other_traces() -> None:
    assert len({_run(seed, seconds=1).trace_hash for seed in range(1, 5)}) == 4


def test_faults_are_drawn_only_from_the_categories_asked_for() -> None:
    used = {category: 0 for category in CATEGORIES}
    for seed in range(60):
        none = draw_options(seed, faults="none")
        assert none.fault_kinds == ()
        assert not none.network.datagram and none.network.loss == 0
        assert none.clock.error_bound_us == 0
        everything = draw_options(seed, faults="all")
        assert everything.workload == none.workload
        assert everything.nodes == none.nodes
        used["net"] += everything.network.datagram
        used["clock"] += everything.clock.error_bound_us > 0
        used["crash"] += "power" in everything.fault_kinds
        used["disk"] += "stall" in everything.fault_kinds
        crashes = {*EVENT_FAULTS["crash"], *LATER_FAULTS["crash"], *RAFT_FAULTS["crash"]}
        assert set(draw_options(seed, faults="crash").fault_kinds) <= crashes
    assert all(5 < count < 55 for count in used.values()), used


def test_every_fault_that_may_be_drawn_is_in_the_catalogue_and_drawn() -> None:
    drawn = {kind for seed in range(400) for kind in draw_options(seed).fault_kinds}
    assert sorted(drawn) == sorted(CATALOGUE)


def _command(*argv: str) -> Result:
    return CliRunner().invoke(command, [*argv, "--parts", TOY])


def test_the_command_prints_seed_and_options_first_and_exits_0() -> None:
    result = _command("--seed", "2", "--seconds", "1", "--workload", "cycle", "--nodes", "5")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("seed 2 commit ")
    options = json.loads(lines[1].removeprefix("options "))
    assert (options["workload"], options["nodes"], options["seconds"]) == ("cycle", 5, 1.0)
    assert "seed      2 ok" in lines[-1]


def test_the_command_gives_json_with_the_agreed_fields() -> None:
    result = _command("--seeds", "1-3", "--seconds", "1", "--json", "--faults", "net,clock")
    assert result.exit_code == 0, result.output
    reports = [json.loads(line) for line in result.output.splitlines()]
    assert [report["seed"] for report in reports] == [1, 2, 3]
    for report in reports:
        assert {"ok", "violation", "events", "virtual_s", "wall_s", "faults", "trace_hash"} <= set(report)


def test_the_command_exits_1_on_a_violation_with_the_line_that_replays_it() -> None:
    argv = ["--seed", "1", "--seconds", "5", "--workload", "cycle", "--faults", "none"]
    result = CliRunner().invoke(command, [*argv, "--parts", "tests.sim.toynode:torn_parts"])
    assert result.exit_code == 1
    assert "VIOLATION" in result.output
    last = result.output.splitlines()[-1]
    line = "replay with: txndb sim --seed 1 --faults none --seconds 5 --workload cycle"
    assert last == f"{line} --parts tests.sim.toynode:torn_parts"


@pytest.mark.parametrize(
    "argv", [["--faults", "fire"], ["--faults", "all,net"], ["--seeds", "9-1"], ["--nodes", "2"]]
)
def test_the_command_refuses_nonsense(argv: list[str]) -> None:
    assert _command(*argv).exit_code == 2
