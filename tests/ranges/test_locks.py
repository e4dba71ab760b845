"""The lock table: golden scripts, what each rule's absence breaks, and a Hypothesis state machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.goldenlib import REWRITE_VARIABLE, golden_paths, run_golden
from tests.ranges.lockscript import LockScript
from txndb.errors import InternalError

PATHS = golden_paths("locks")


def canaries_of(path: Path) -> list[str]:
    """The rules a script says it breaks without: its first line, `# canaries: K1 K3`."""
    head = path.read_text(encoding="utf-8").partition("\n")[0]
    return head.removeprefix("# canaries:").split() if head.startswith("# canaries:") else []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    run_golden(path, LockScript().handle)


@pytest.mark.skipif(REWRITE_VARIABLE in os.environ, reason="a run without a rule must not be written down")
@pytest.mark.parametrize(
    ("path", "rule"),
    [(p, rule) for p in PATHS for rule in canaries_of(p)],
    ids=lambda value: str(value)[-24:],
)
def test_without_the_rule_the_outcome_is_wrong(path: Path, rule: str) -> None:
    with pytest.raises((AssertionError, InternalError)):
        run_golden(path, LockScript(frozenset({rule})).handle)
