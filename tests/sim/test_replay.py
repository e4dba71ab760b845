"""Recorded runs: the explicit schedule repeats them, shrinking makes them smaller, files keep them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from txndb.errors import ProtocolError
from txndb.sim import replay as replays
from txndb.sim import soak
from txndb.sim.cli import command
from txndb.sim.options import WorldOptions, draw_options
from txndb.sim.run import replay_of, run_options, shrunk
from txndb.sim.shrink import signature
from txndb.sim.world import Report

TORN = "tests.sim.toynode:torn_parts"
TOY = "tests.sim.toynode:toy_parts"


def _options(seed: int, seconds: float = 4.0) -> WorldOptions:
    return draw_options(seed, workload="cycle", seconds=seconds)


def _failure() -> tuple[WorldOptions, Report]:
    for seed in range(1, 20):
        report, _ = run_options(_options(seed), TORN)
        if not report.ok and report.schedule:
            return _options(seed), report
    raise AssertionError("no seed fails")


@pytest.mark.parametrize("seed", [2, 5, 11])
def test_the_recorded_schedule_repeats_a_run_exactly(seed: int) -> None:
    options = msgspec.structs.replace(_options(seed), database_kinds=("split", "transfer", "restart"))
    report, _ = run_options(options, TORN)
    again, _ = run_options(msgspec.structs.replace(options, schedule=report.schedule), TORN)
    assert report.ok or again.trace_hash == report.trace_hash
    assert again.violation == report.violation


def test_a_schedule_may_be_thinned_out_and_is_followed_to_the_letter() -> None:
    options, report = _failure()
    some = report.schedule[::2]
    thinner, _ = run_options(msgspec.structs.replace(options, schedule=some), TOY)
    assert thinner.ok
    assert sum(thinner.faults.values()) <= len(some)
    none, _ = run_options(msgspec.structs.replace(options, schedule=()), TOY)
    assert none.faults == {}


def test_a_failing_run_shrinks_to_one_that_fails_in_the_same_manner() -> None:
    options, report = _failure()
    said: list[str] = []
    smaller, found = shrunk(options, report, TORN, 20.0, said.append)
    assert not found.ok
    assert signature(found.violation) == signature(report.violation)
    assert smaller.schedule == ()
    assert smaller.nodes == 3
    assert smaller.seconds < options.seconds
    assert said
    again, _ = run_options(smaller, TORN)
    assert again.trace_hash == found.trace_hash


def test_the_signature_of_a_violation_leaves_out_when_and_where() -> None:
    first = signature("[rest, 12.100 s] replicas of range 4 differ: {...}")
    assert first == signature("[verdict, 3 s] replicas of range 77 differ: {'x'}")
    assert first != signature("[rest, 12.100 s] not within 60 s: no progress")


def test_a_replay_file_gives_the_run_back(tmp_path: Path) -> None:
    options, report = _failure()
    path = replays.save(replay_of(options, report, TORN), tmp_path / "kept")
    loaded = replays.load(path)
    again, _ = run_options(loaded.options, loaded.parts)
    assert (again.violation, again.trace_hash) == (report.violation, loaded.trace_hash)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"format": 1}')
    with pytest.raises(ProtocolError, match="not a replay file"):
        replays.load(path)
    options, report = _failure()
    newer = msgspec.structs.replace(replay_of(options, report, TORN), format=99)
    with pytest.raises(ProtocolError, match="format 99"):
        replays.load(replays.save(newer, tmp_path))
    assert CliRunner().invoke(command, ["--replay", str(path)]).exit_code == 1


def test_the_command_shrinks_saves_and_replays(tmp_path: Path) -> None:
    argv = ["--seeds", "1-2", "--seconds", "3", "--workload", "cycle", "--faults", "none", "--parts", TORN]
    result = CliRunner().invoke(command, [*argv, "--shrink", "--save", str(tmp_path)])
    assert result.exit_code == 1
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["cycle-1.json", "cycle-2.json"]
    assert f"replay with: txndb sim --replay {files[1]}" in result.output
    again = CliRunner().invoke(command, ["--replay", str(files[0]), "--trace"])
    assert again.exit_code == 1
    assert "VIOLATION" in again.output
    assert "the code has changed" not in again.output


def test_pdb_stops_the_world_at_the_violation(tmp_path: Path) -> None:
    options, report = _failure()
    path = replays.save(replay_of(options, report, TORN), tmp_path)
    code = f"from txndb.sim.cli import command; command(['--replay', {str(path)!r}, '--pdb'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="p world.phase, len(world.hosts)\np error\nc\n",
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert f"('verdict', {options.nodes})" in done.stdout
    assert "(Pdb) ViolationError(" in done.stdout


def test_a_soak_tells_what_it_ran_and_keeps_what_failed(tmp_path: Path) -> None:
    argv = ["--minutes", "0.02", "--seconds", "1", "--jobs", "1", "--workload", "cycle"]
    argv += ["--save", str(tmp_path / "kept"), "--json", str(tmp_path / "report.json"), "--parts", TORN]
    result = CliRunner().invoke(soak.main, argv)
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert result.exit_code == (1 if report["violations"] else 0)
    assert report["seeds"] >= 1
    assert report["workloads"] == {"cycle": report["seeds"]}
    assert report["virtual_hours"] > 0
    assert len(list((tmp_path / "kept").glob("*.json")) if report["violations"] else []) == len(
        report["violations"]
    )
    assert f"{len(report['violations'])} violations" in result.output
