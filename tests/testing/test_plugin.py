"""The pytest plugin, in a pytest of its own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from txndb.testing.plugin import seed_of

TESTS = """
import pytest

def test_world(txndb_world):
    connection = txndb_world.connect(autocommit=True)
    assert connection.execute("SELECT 1").fetchall() == [(1,)]
    print("seed of the world:", txndb_world.seed)

@pytest.mark.txndb(nodes=1)
def test_size(txndb_world):
    assert txndb_world.nodes == (1,)

def test_that_fails(txndb_world):
    txndb_world.crash(2)
    assert txndb_world.nodes == ()
"""


def run(directory: Path, *options: str) -> str:
    (directory / "test_it.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-s",
        "-p",
        "no:randomly",
        *options,
    ]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


def test_fixtures_seeds_and_reports(tmp_path: Path) -> None:
    out = run(tmp_path, "--txndb-seed=77")
    assert "2 passed" in out and "1 failed" in out, out
    assert "txndb: --txndb-seed=77" in out
    assert f"seed of the world: {seed_of(77, 'test_it.py::test_world')}" in out
    assert 'repeat with: pytest "test_it.py::test_that_fails" --txndb-seed=77' in out
    assert "n2 lost power" in out
    alone = run(tmp_path, "--txndb-seed=77", "test_it.py::test_world")
    assert f"seed of the world: {seed_of(77, 'test_it.py::test_world')}" in alone


def test_a_drawn_seed_is_printed(tmp_path: Path) -> None:
    assert "txndb: --txndb-seed=" in run(tmp_path, "--collect-only", "-q", "-v")
