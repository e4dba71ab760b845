"""The lock table: golden scripts, what each rule's absence breaks, and a Hypothesis state machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.goldenlib import REWRITE_VARIABLE, golden_paths, run_golden
from tests.ranges.lockscript import LockScript, make_txn
from txndb.errors import InternalError
from txndb.ids import RangeId
from txndb.ranges.lockitems import EXCLUSIVE, SHARED
from txndb.ranges.locks import REBUILD_POINTS_MIN, LockTable

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


def test_a_bulk_load_lets_go_of_its_locks_and_of_no_other() -> None:
    """Many locks are dropped at once: others' points stay, shared ones too, and the table stays in order."""
    table = LockTable(RangeId(1), 1)
    load, other = table.open(make_txn("load", 1), b""), table.open(make_txn("other", 2), b"")
    assert load is not None
    assert other is not None
    keys = [b"%06d" % i for i in range(2 * REBUILD_POINTS_MIN)]
    assert table.acquire(load, [(key, None, EXCLUSIVE) for key in keys[1:]], "load")
    assert table.acquire(load, [(keys[0], None, SHARED)], "load")
    assert table.acquire(other, [(keys[0], None, SHARED), (b"x", None, EXCLUSIVE)], "other")
    table.release(load)
    table.validate()
    late = table.open(make_txn("late", 3), b"")
    assert late is not None
    assert table.acquire(late, [(keys[0], keys[-1] + b"z", SHARED)], "late")
    assert not table.acquire(late, [(b"x", None, SHARED)], "late again")
    table.validate()
