"""Large transactions in parts, made small: every write of every transaction is a part of its own."""

from __future__ import annotations

import pytest

from txndb.sim.run import Request, run_seed


@pytest.mark.parametrize("seed", [9, 28, 46])
def test_a_split_between_the_parts_of_a_transaction(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """What is resolved already is no write any more when a split divides the locks (rule R4)."""
    monkeypatch.setattr("txndb.txn.commit.ENTRY_WRITES_MAX", 1)
    report, _ = run_seed(Request(seconds=3), seed)
    assert report.ok, report.violation
