"""The leaseholder: golden scripts, one per rule, and what each rule's absence breaks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.goldenlib import REWRITE_VARIABLE, golden_paths, run_golden
from tests.ranges.rangescript import RangeScript
from tests.ranges.test_locks import canaries_of
from txndb.errors import InternalError

PATHS = golden_paths("leaseholder")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    run_golden(path, RangeScript().handle)


@pytest.mark.skipif(REWRITE_VARIABLE in os.environ, reason="a run without a rule must not be written down")
@pytest.mark.parametrize(
    ("path", "rule"),
    [(p, rule) for p in PATHS for rule in canaries_of(p)],
    ids=lambda value: str(value)[-24:],
)
def test_without_the_rule_the_outcome_is_wrong(path: Path, rule: str) -> None:
    with pytest.raises((AssertionError, InternalError)):
        run_golden(path, RangeScript(frozenset({rule})).handle)
