"""Runs the golden scripts of the Raft core."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.goldenlib import golden_paths, run_golden
from tests.raft.script import RaftScript


@pytest.mark.parametrize("path", golden_paths("raft"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    run_golden(path, RaftScript().handle)
