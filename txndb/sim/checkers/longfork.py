"""Long fork (Jepsen's `long-fork`): do all readers see writes to different keys appear in one order?

Every key is written at most once, each write a transaction of its own; a read reads several keys in one transaction.
Under snapshot isolation the states of a database follow one another, so of two reads one sees all that the other sees.
Two reads of which each saw a write the other did not – T3 sees x and not y, T4 sees y and not x – saw two branches of
history: that is what parallel snapshot isolation allows and snapshot isolation does not.

    {"process": 0, "type": "ok", "f": "write", "value": [["w", 10, 1]]}
    {"process": 1, "type": "ok", "f": "read", "value": [["r", 10, 1], ["r", 11, null]]}

Only committed reads say anything; a write of unknown outcome may or may not appear. Reads need not be of the same keys:
they are compared in those they share. To see what failed is `G1a`, to see what nobody wrote `unwritten-read`. The
verdict is unknown when a key is written twice, for then "seen" and "not seen" no longer tell states apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence

import msgspec

from txndb.limits import ELLE_EXAMPLES_MAX, LONG_FORK_PAIRS_MAX
from txndb.sim.checkers.elle.facts import show
from txndb.sim.checkers.elle.txns import Txn, freeze, transactions
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Op


class Read(msgspec.Struct, frozen=True):
    """What one transaction read, keys as bits."""

    index: int
    keys: int
    seen: int


def check(ops: Sequence[Op]) -> Verdict:
    """The verdict on a history of writes and reads of groups of keys; unknown when fewer than two reads committed."""
    txns = transactions(ops).all
    bits: dict[Hashable, int] = {}
    for txn in txns:
        for mop in txn.mops:
            bits.setdefault(mop.key, 1 << len(bits))
    twice, anomalies = _writes(txns)
    reads = [read for read in (_read(txn, bits) for txn in txns) if read is not None]
    names = {bit: key for key, bit in bits.items()}
    forks, all_compared = _forks(reads)
    anomalies += [_fork(a, b, names) for a, b in forks]
    note = ""
    if twice:
        note = f"key {show(twice[0])} is written more than once: forks of it cannot be told"
    elif not all_compared:
        note = f"not all reads of different keys were compared: more than {LONG_FORK_PAIRS_MAX} pairs"
    elif len(reads) < 2:
        note = "fewer than two reads committed"
    if anomalies and not twice:
        return Verdict(False, "long-fork", tuple(anomalies), note=note)
    return Verdict(None if note else True, "long-fork", tuple(anomalies), note=note)


def _writes(txns: Sequence[Txn]) -> tuple[list[Hashable], list[Anomaly]]:
    """Keys written twice, and reads of what was not written."""
    wrote: dict[Hashable, dict[Hashable, Txn]] = {}
    twice: dict[Hashable, None] = {}
    for txn in txns:
        for mop in txn.mops:
            if mop.f != "r":
                if mop.key in wrote and txn.status != "fail":
                    live = [other for other in wrote[mop.key].values() if other.status != "fail"]
                    twice.update({mop.key: None} if live else {})
                wrote.setdefault(mop.key, {})[mop.value] = txn
    anomalies: dict[tuple[Hashable, Hashable], Anomaly] = {}
    for txn in txns:
        for mop in txn.mops if txn.status == "ok" else ():
            if mop.f != "r" or mop.value is None or not wrote:
                continue
            value = freeze(mop.value)
            writer = wrote.get(mop.key, {}).get(value)
            read = f"T{txn.index} read {show(value)} from key {show(mop.key)}"
            if writer is None:
                anomalies[mop.key, value] = Anomaly(
                    "unwritten-read", f"{read}, which nobody wrote", (txn.index,)
                )
            elif writer.status == "fail":
                anomalies[mop.key, value] = Anomaly(
                    "G1a", f"{read}, but T{writer.index}, which wrote it, failed", (writer.index, txn.index)
                )
    return list(twice), list(anomalies.values())[:ELLE_EXAMPLES_MAX]


def _read(txn: Txn, bits: dict[Hashable, int]) -> Read | None:
    if txn.status != "ok" or not any(mop.f == "r" for mop in txn.mops):
        return None
    own = {mop.key for mop in txn.mops if mop.f != "r"}
    keys = seen = 0
    for mop in txn.mops:
        if mop.f == "r" and mop.key not in own:
            keys |= bits[mop.key]
            seen |= bits[mop.key] if mop.value is not None else 0
    return Read(txn.index, keys, seen) if keys else None


def _forks(reads: Sequence[Read]) -> tuple[list[tuple[Read, Read]], bool]:
    """Some pairs of reads that contradict each other, and whether all pairs were looked at."""
    groups: dict[int, dict[int, Read]] = {}
    for read in reads:
        groups.setdefault(read.keys, {}).setdefault(read.seen, read)
    found: list[tuple[Read, Read]] = []
    for group in groups.values():
        # Sorted by size, states that follow one another each contain the one before.
        chain = sorted(group.values(), key=lambda read: (read.seen.bit_count(), read.index))
        found += [(a, b) for a, b in itertools.pairwise(chain) if a.seen & ~b.seen]
    distinct = [read for group in groups.values() for read in group.values()]
    pairs = 0
    for place, a in enumerate(distinct if len(groups) > 1 else ()):
        for b in distinct[place + 1 :]:
            if a.keys == b.keys or not a.keys & b.keys:
                continue
            pairs += 1
            if pairs > LONG_FORK_PAIRS_MAX:
                return found[:ELLE_EXAMPLES_MAX], False
            if a.seen & b.keys & ~b.seen and b.seen & a.keys & ~a.seen:
                found.append((a, b))
    return found[:ELLE_EXAMPLES_MAX], True


def _fork(a: Read, b: Read, names: dict[int, Hashable]) -> Anomaly:
    only_a, only_b = a.seen & b.keys & ~b.seen, b.seen & a.keys & ~a.seen
    x, y = (show(names[mask & -mask]) for mask in (only_a, only_b))
    text = f"T{a.index} saw the write of key {x} and not that of {y}; T{b.index} saw that of {y} and not that of {x}"
    return Anomaly("long-fork", text, (a.index, b.index))
