"""The bank: money is neither made nor lost, and every read is one moment of one real-time order.

Each account has a balance and a version that counts its updates. A transfer's result is what it wrote: two `(account,
balance, version)`; a read's result is all accounts as `(account, balance, version)`.

What must hold of the history (numbered as reported):
1. every read sees all accounts, the same total, and no negative balance;
2. each version of an account is written by one transfer only (else an update was lost), with one balance;
3. a read sees both sides of a transfer or neither (else a commit was torn);
4. reads are totally ordered: of any two, one saw no version older than the other's (else a snapshot was of no moment);
5. what returned before another operation was invoked is seen by it (strict serializability): versions do not go back;
6. no read sees a version that is above all that were or may have been written.

These are necessary conditions that a write skew, a lost update, a torn commit or a stale read breaks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from txndb.sim.history import Call

Row = tuple[int, int, int]


def check_bank(calls: Sequence[Call], accounts: int, total: int) -> list[str]:
    """What is wrong; empty if nothing is. Operations: `read` and `transfer`."""
    reads = [call for call in calls if call.f == "read" and call.returned is not None]
    transfers = [call for call in calls if call.f == "transfer" and call.returned is not None and call.result]
    problems = [text for read in reads if (text := check_total(read, accounts, total))]
    if problems:
        return problems
    problems += _check_unique(reads, transfers)
    problems += _check_atomic(reads, transfers)
    problems += _check_order(reads)
    problems += _check_real_time(reads, transfers, accounts)
    unknown = sum(1 for call in calls if call.f == "transfer" and call.returned is None)
    problems += _check_not_invented(reads, transfers, unknown)
    return problems


def _rows(call: Call) -> list[Row]:
    return [(int(a), int(b), int(v)) for a, b, v in call.result]


def check_total(read: Call, accounts: int, total: int) -> str:
    """Finding 1: what is wrong with one read by itself."""
    rows = _rows(read)
    if [row[0] for row in rows] != list(range(accounts)):
        return f"1: read at {read.invoked} saw accounts {[row[0] for row in rows]} instead of {accounts}"
    if (seen := sum(row[1] for row in rows)) != total:
        return f"1: read at {read.invoked} saw a total of {seen} instead of {total}"
    if any(row[1] < 0 for row in rows):
        return f"1: read at {read.invoked} saw a negative balance: {rows}"
    return ""


def _check_unique(reads: Sequence[Call], transfers: Sequence[Call]) -> list[str]:
    balances: dict[tuple[int, int], int] = {}
    problems = []
    for transfer in transfers:
        for account, balance, version in _rows(transfer):
            if (account, version) in balances:
                problems.append(f"2: version {version} of account {account} was written twice")
            balances[account, version] = balance
    for read in reads:
        for account, balance, version in _rows(read):
            if balances.setdefault((account, version), balance) != balance:
                problems.append(
                    f"2: account {account} had {balances[account, version]} at version {version}, "
                    f"the read at {read.invoked} saw {balance}"
                )
    return problems


def _check_atomic(reads: Sequence[Call], transfers: Sequence[Call]) -> list[str]:
    sides = []
    for transfer in transfers:
        (a, _, a_version), (b, _, b_version) = _rows(transfer)
        sides.append((a, a_version, b, b_version))
    problems = []
    for read in reads:
        seen = [version for _, _, version in _rows(read)]
        for a, a_version, b, b_version in sides:
            if (seen[a] >= a_version) != (seen[b] >= b_version):
                side = f"version {a_version} of {a}, {b_version} of {b}"
                problems.append(f"3: read at {read.invoked} saw half of the transfer that wrote {side}")
                break
    return problems


def _check_order(reads: Sequence[Call]) -> list[str]:
    ordered = sorted(reads, key=lambda read: sum(row[2] for row in _rows(read)))
    problems = []
    for first, second in itertools.pairwise(ordered):
        if any(a[2] > b[2] for a, b in zip(_rows(first), _rows(second), strict=True)):
            problems.append(f"4: reads at {first.invoked} and {second.invoked} fit in no order")
    return problems


def _check_real_time(reads: Sequence[Call], transfers: Sequence[Call], accounts: int) -> list[str]:
    """Sweep over real time, keeping the highest version of each account that a finished operation knows of."""
    moments: list[tuple[int, bool, Call]] = []
    for call in (*reads, *transfers):
        assert call.returned is not None
        moments.append((call.invoked, False, call))
        moments.append((call.returned, True, call))
    moments.sort(key=lambda moment: moment[0])
    known = [0] * accounts
    floor: dict[int, list[int]] = {}
    problems = []
    for _, returned, call in moments:
        if not returned:
            floor[call.invoked] = list(known)
            continue
        below = floor.pop(call.invoked)
        writes = call.f == "transfer"
        for account, _, version in _rows(call):
            if version < below[account] + writes:
                problems.append(
                    f"5: {call.f} at {call.invoked} used version {version} of account {account} "
                    f"although {below[account]} was known before"
                )
            known[account] = max(known[account], version)
    return problems


def _check_not_invented(reads: Sequence[Call], transfers: Sequence[Call], unknown: int) -> list[str]:
    """A read's versions count the transfers it saw: two each, and it saw no more than there can have been."""
    updates_max = 2 * (len(transfers) + unknown)
    problems = []
    for read in reads:
        seen = sum(row[2] for row in _rows(read))
        if seen > updates_max:
            problems.append(f"6: read at {read.invoked} saw {seen} updates, at most {updates_max} were made")
    return problems
