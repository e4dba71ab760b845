"""The soak as a process: it tells what it ran, also when it is stopped before its time, and leaves nobody behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

BOUND_S = 60.0


def test_a_soak_that_is_stopped_says_what_it_ran_and_ends_its_workers(tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    command = [sys.executable, "-m", "txndb.sim.soak", "--minutes", "30", "--seconds", "0.3", "--jobs", "2"]
    command += ["--workload", "bank", "--faults", "none", "--json", str(report)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as soak:
        assert soak.stdout is not None and soak.stderr is not None
        assert soak.stdout.readline().startswith("soak from seed 1, 30 minutes, 2 jobs")
        soak.send_signal(signal.SIGTERM)
        out, errors = soak.communicate(timeout=BOUND_S)  # its workers hold the pipes as well: they have ended
    assert (soak.returncode, errors) == (130, "")
    assert out.startswith("stopped before its time\n") and "0 violations" in out
    assert json.loads(report.read_text())["minutes"] == 30


def test_a_soak_runs_all_its_seeds_until_its_time_is_over(tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    command = [sys.executable, "-m", "txndb.sim.soak", "--minutes", "0.05", "--seconds", "0.3", "--jobs", "1"]
    command += ["--workload", "bank", "--faults", "none", "--first-seed", "7", "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False)
    summary = json.loads(report.read_text())
    assert (done.returncode, done.stderr, summary["violations"]) == (0, "", [])
    assert summary["seeds"] >= 1 and summary["workloads"] == {"bank": summary["seeds"]}
    assert f"{summary['seeds']} seeds" in done.stdout
