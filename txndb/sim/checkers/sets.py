"""Sets: elements are added, reads give all of them. Operations: `add` (value: the element) and `read` (result: a list).

`set` looks at the last read only (Jepsen's set): every element whose addition returned before that read was invoked is
there, and no element is there that nobody can have added.

`set-full` looks at all reads, and decides whether the set is linearizable – exactly, without a search: reads that fit
an order are ordered by inclusion, and an addition takes effect between the last read without the element and the first
with it. So every call has a level, and the set is linearizable if and only if no call of a higher level returned before
one of a lower level was invoked. What is wrong is named as in Jepsen's set-full, per element:
- `lost`: known to be in (its addition returned, or a read with it did), missing in a read that began later, and in no
  read that began after that one;
- `stale`: missing in such a read too, but seen again later;
- `unexpected`: read, although nobody had begun to add it; `revived`: although all its additions failed;
- `duplicate`: twice in one read;
- `incomparable-reads`: of two reads each has an element that the other lacks (a long fork);
- `causal-reverse`: read without another one whose addition had ended before its own began.
An addition of unknown outcome may take effect late or never, so its element may be missing for ever, until seen.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, Final

import msgspec

from txndb.sim.checkers.calls import HistoryError, pair_strictly
from txndb.sim.checkers.objects import known_only, short
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Call, Op

_FOREVER: Final = 1 << 60
_ELEMENTS_SHOWN: Final = 10


class Element(msgspec.Struct):
    """What is known of one element's additions; positions in the history, far ahead where there is none."""

    begun: int = _FOREVER
    """The first attempt's invocation, of those that did not fail."""
    added: int = _FOREVER
    """The first acknowledgement."""
    failed: int = _FOREVER
    """The first failed attempt's invocation."""


class Read(msgspec.Struct):
    """One answered read; `call.result` is the list as it came."""

    call: Call
    returned: int
    elements: frozenset[Hashable]


def check_set(ops: Sequence[Op]) -> Verdict:
    """The verdict by the last read; unknown if there is none. Raises `HistoryError` if it is no history of a set."""
    elements, reads = _observe(ops)
    if not reads:
        return Verdict(None, "set", note="the set was never read")
    last = max(reads, key=lambda read: read.returned)
    anomalies = _not_added(ops, elements, [last])
    lost = [
        value
        for value, known in elements.items()
        if known.added < last.call.invoked and value not in last.elements
    ]
    if lost:
        anomalies.append(_named(ops, "lost", "missing in the last read, although added before", lost, last))
    return Verdict(not anomalies, "set", tuple(anomalies))


def check_set_full(ops: Sequence[Op], *, allow_stale: bool = False) -> Verdict:
    """The verdict by all reads; unknown if there is none.

    `allow_stale` accepts what only comes late (`stale`, `incomparable-reads`, `causal-reverse`), as Jepsen does by
    default: for sets that promise no more than that nothing is lost in the end.
    """
    elements, reads = _observe(ops)
    if not reads:
        return Verdict(None, "set-full", note="the set was never read")
    anomalies = _not_added(ops, elements, reads) + _duplicates(ops, reads)
    lost, stale = missing(ops, elements, reads)
    anomalies += lost
    if not allow_stale:
        anomalies += stale
        anomalies += [] if anomalies else _order(ops, elements, reads)
    return Verdict(not anomalies, "set-full", tuple(anomalies))


def _observe(ops: Sequence[Op]) -> tuple[dict[Hashable, Element], list[Read]]:
    known_only(ops, ("add", "read"))
    failed = [msgspec.structs.replace(op, type="info") if op.type == "fail" else op for op in ops]
    failures = {place for place, op in enumerate(ops) if op.type == "fail"}
    ends = {}
    open_calls: dict[int, int] = {}
    for place, op in enumerate(ops):
        if op.type == "invoke":
            open_calls[op.process] = place
        elif op.process in open_calls:
            ends[open_calls.pop(op.process)] = place
    elements: dict[Hashable, Element] = {}
    reads: list[Read] = []
    for call in pair_strictly(failed):
        if call.f == "read":
            if call.returned is not None and call.result is not None:
                if not isinstance(call.result, tuple):
                    raise HistoryError(f"operation {ops[call.returned].index}: a read gave no list")
                reads.append(Read(call, call.returned, frozenset(call.result)))
            continue
        known = elements.setdefault(call.argument, Element())
        if ends.get(call.invoked) in failures:
            known.failed = min(known.failed, call.invoked)
        else:
            known.begun = min(known.begun, call.invoked)
            known.added = min(known.added, _FOREVER if call.returned is None else call.returned)
    return elements, reads


def _not_added(ops: Sequence[Op], elements: dict[Hashable, Element], reads: Sequence[Read]) -> list[Anomaly]:
    anomalies = []
    for read in reads:
        never = [v for v in read.elements if elements.get(v, Element()).begun > read.returned]
        revived = [v for v in never if v in elements and elements[v].failed < read.returned]
        unexpected = [v for v in never if v not in revived]
        if revived:
            what = "read, although every attempt to add them failed"
            anomalies.append(_named(ops, "revived", what, revived, read))
        if unexpected:
            what = "read, although nobody had begun to add them"
            anomalies.append(_named(ops, "unexpected", what, unexpected, read))
    return anomalies


def _duplicates(ops: Sequence[Op], reads: Sequence[Read]) -> list[Anomaly]:
    anomalies = []
    for read in reads:
        if len(read.call.result) > len(read.elements):
            twice = [value for value, count in Counter(read.call.result).items() if count > 1]
            anomalies.append(_named(ops, "duplicate", "more than once in one read", twice, read))
    return anomalies


def missing(
    ops: Sequence[Op], elements: dict[Hashable, Element], reads: Sequence[Read]
) -> tuple[list[Anomaly], list[Anomaly]]:
    """Anomalies for lost and for stale elements, each by the last read that should have seen it."""
    known_since = {value: known.added for value, known in elements.items()}
    last_seen: dict[Hashable, int] = {}
    for read in reads:
        for value in read.elements:
            known_since[value] = min(known_since.get(value, _FOREVER), read.returned)
            last_seen[value] = max(last_seen.get(value, -1), read.call.invoked)
    lost: dict[int, list[Any]] = {}
    stale: dict[int, list[Any]] = {}
    latest = sorted(range(len(reads)), key=lambda i: reads[i].call.invoked, reverse=True)
    for value, since in known_since.items():
        for i in latest:
            read = reads[i]
            if read.call.invoked < since:
                break
            if value not in read.elements:
                gone = last_seen.get(value, -1) < read.call.invoked
                (lost if gone else stale).setdefault(i, []).append(value)
                break
    late = "missing in a read that began when they were known to be in, and seen later"
    never = "missing in a read that began when they were known to be in, and never seen again"
    return (
        [_named(ops, "lost", never, values, reads[i]) for i, values in sorted(lost.items())],
        [_named(ops, "stale", late, values, reads[i]) for i, values in sorted(stale.items())],
    )


def _order(ops: Sequence[Op], elements: dict[Hashable, Element], reads: Sequence[Read]) -> list[Anomaly]:
    """Whether levels and real time agree; at most one anomaly, for one is proof enough."""
    ordered = sorted(reads, key=lambda read: len(read.elements))
    for before, after in itertools.pairwise(ordered):
        if not before.elements <= after.elements:
            first, second = min(before.elements - after.elements, key=repr), after.elements - before.elements
            text = (
                f"the reads at index {ops[before.call.invoked].index} and {ops[after.call.invoked].index} fit in no "
                f"order: only the first has {short(first)}"
            )
            if second:
                text += f", only the second has {short(min(second, key=repr))}"
            return [Anomaly("incomparable-reads", text, _places(ops, before) + _places(ops, after))]
    return _levels(ops, elements, ordered)


def _levels(ops: Sequence[Op], elements: dict[Hashable, Element], ordered: Sequence[Read]) -> list[Anomaly]:
    level_of: dict[Hashable, int] = {}
    calls: list[tuple[int, int, int, str]] = []
    level = 0
    for place, read in enumerate(ordered):
        if place and read.elements != ordered[place - 1].elements:
            level += 2
        for value in read.elements:
            level_of.setdefault(value, level - 1)
        calls.append(
            (level, read.call.invoked, read.returned, f"the read at index {ops[read.call.invoked].index}")
        )
    for value, known in elements.items():
        if known.begun < _FOREVER and (value in level_of or known.added < _FOREVER):
            at = level_of.get(value, level + 1)
            calls.append((at, known.begun, known.added, f"the addition of {short(value)}"))
    calls.sort(key=lambda call: call[0])
    latest: tuple[int, int, int, str] | None = None
    waiting: list[tuple[int, int, int, str]] = []
    for call in calls:
        if waiting and waiting[0][0] < call[0]:
            latest = max([*waiting, *([latest] if latest else [])], key=lambda other: other[1])
            waiting = []
        if latest is not None and call[2] < latest[1]:
            text = f"{call[3]} ended before {latest[3]} began, but what was read puts it after"
            return [Anomaly("causal-reverse", text, (ops[call[2]].index, ops[latest[1]].index))]
        waiting.append(call)
    return []


def _named(ops: Sequence[Op], kind: str, what: str, values: Sequence[Any], read: Read) -> Anomaly:
    shown = sorted(values, key=repr)[:_ELEMENTS_SHOWN]
    more = "" if len(values) <= len(shown) else f" and {len(values) - len(shown)} more"
    names = ", ".join(short(value) for value in shown) + more
    first, last = _places(ops, read)
    return Anomaly(kind, f"{what}: {names} (read at index {first} to {last})", (first, last))


def _places(ops: Sequence[Op], read: Read) -> tuple[int, int]:
    return ops[read.call.invoked].index, ops[read.returned].index
