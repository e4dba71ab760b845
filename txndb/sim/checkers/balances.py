"""Bank as Jepsen records it: every read of all accounts sums to one total.

A `read`'s result is an object account -> balance, or a list of `[account, balance]`. `transfer` moves money; of its
value only `from` and `to` are looked at. Histories whose reads are rows `[account, balance, version]` say more and are
judged by `txndb.sim.checkers.bank`.

What must hold of each answered read, as reported: `unexpected-account` (one that is not among the accounts given, or
neither in the first read nor named by a transfer), `missing-account` (only where the accounts were given: a test may
delete empty ones), `null-balance`, `wrong-total`, `negative-balance` (unless they are allowed). The total is the first
read's, unless it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from txndb.sim.checkers.bank import check_bank
from txndb.sim.checkers.calls import HistoryError, frozen_calls
from txndb.sim.checkers.objects import known_only, short
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Op, pair

_KINDS: Final = {
    "1": "wrong-read",
    "2": "lost-update",
    "3": "torn-transfer",
    "4": "incomparable-reads",
    "5": "stale-read",
    "6": "unexpected-version",
}
_VERSIONED_FIELDS: Final = 3


def check(
    ops: Sequence[Op],
    *,
    total: int | None = None,
    accounts: Sequence[Any] | None = None,
    negative_allowed: bool = False,
) -> Verdict:
    """The verdict; unknown if there is no answered read.

    Args: `total` of all balances, found from the first read if None; `accounts` that there are, found likewise;
    `negative_allowed` says whether balances may be below zero. Raises `HistoryError` for reads of another form.
    """
    known_only(ops, ("read", "transfer"))
    reads = [op for op in ops if op.f == "read" and op.type == "ok" and op.value is not None]
    if not reads:
        return Verdict(None, "bank", note="the accounts were never read")
    if all(_is_versioned(op.value) for op in reads) and any(op.value for op in reads):
        return _check_versions(ops, reads, total)
    first = _balances(reads[0])
    expected = {str(account) for account in ({*first, *_named(ops)} if accounts is None else accounts)}
    if total is None:
        total = sum(balance for balance in first.values() if balance is not None)
    anomalies = []
    for op in reads:
        wrong = _wrong(_balances(op), total, expected, whole=accounts is not None, negative=negative_allowed)
        if wrong is not None:
            anomalies.append(Anomaly(wrong[0], f"the read at index {op.index} {wrong[1]}", (op.index,)))
    return Verdict(not anomalies, "bank", tuple(anomalies))


def _named(ops: Sequence[Op]) -> set[str]:
    """The accounts that transfers name, where they are objects with `from` and `to`."""
    transfers = [op.value for op in ops if op.f == "transfer" and isinstance(op.value, dict)]
    return {str(transfer[end]) for transfer in transfers for end in ("from", "to") if end in transfer}


def _balances(op: Op) -> dict[str, Any]:
    """Account (as text, as JSON's objects have it) -> balance."""
    value = op.value
    rows = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(rows, list | tuple) or not all(
        isinstance(r, list | tuple) and len(r) == 2 for r in rows
    ):
        raise HistoryError(f"operation {op.index}: a read of {short(value)} instead of accounts and balances")
    for _, balance in rows:
        if balance is not None and (isinstance(balance, bool) or not isinstance(balance, int | float)):
            raise HistoryError(f"operation {op.index}: balance {short(balance)} is no number")
    return {str(account): balance for account, balance in rows}


def _wrong(
    balances: dict[str, Any], total: int, expected: set[str], *, whole: bool, negative: bool
) -> tuple[str, str] | None:
    """Kind and text of what is wrong with one read, if anything is."""
    if strange := sorted(set(balances) - expected):
        return "unexpected-account", f"has accounts {', '.join(strange)}, which are none"
    if whole and (missing := sorted(expected - set(balances))):
        return "missing-account", f"lacks accounts {', '.join(missing)}"
    if nulls := sorted(account for account, balance in balances.items() if balance is None):
        return "null-balance", f"has no balance of accounts {', '.join(nulls)}"
    if (seen := sum(balances.values())) != total:
        return "wrong-total", f"sums to {seen} instead of {total}: {short(balances)}"
    below = {account: balance for account, balance in balances.items() if balance < 0}
    if below and not negative:
        return "negative-balance", f"has balances below zero: {short(below)}"
    return None


def _is_versioned(rows: Any) -> bool:
    return isinstance(rows, list | tuple) and all(_is_version(row) for row in rows)


def _is_version(row: Any) -> bool:
    return (
        isinstance(row, list | tuple)
        and len(row) == _VERSIONED_FIELDS
        and all(isinstance(part, int) and not isinstance(part, bool) for part in row)
    )


def _check_versions(ops: Sequence[Op], reads: Sequence[Op], total: int | None) -> Verdict:
    first = next(op.value for op in reads if op.value)
    for op in ops:
        rows = op.value
        if op.f == "transfer" and op.type == "ok" and rows and not _is_transfer(rows, len(first)):
            raise HistoryError(f"operation {op.index}: a transfer gave {short(rows)} instead of two rows")
    answered = [op for op in ops if op.f != "read" or op.type != "ok" or op.value is not None]
    sums = sum(row[1] for row in first) if total is None else total
    problems = check_bank(frozen_calls(pair(answered)), len(first), sums)
    anomalies = tuple(Anomaly(_KINDS[text[0]], text[3:]) for text in problems)
    return Verdict(not anomalies, "bank", anomalies, note="judged by versions")


def _is_transfer(rows: Any, accounts: int) -> bool:
    return _is_versioned(rows) and len(rows) == 2 and all(0 <= row[0] < accounts for row in rows)
