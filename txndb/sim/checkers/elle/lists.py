"""Lists: a read shows the order of all writes before it. Source: Elle §4 ("traceability") and §6.

Appends keep what is there, so of two correct reads of a key one is a prefix of the other, and the longest read *is* the
version order of the key. From it follow:

1. ww: from the writer of an element to the writer of the next.
2. wr: from the writer of the last element of a read to the reader – when it is the last append of its writer; to read
   an earlier one is G1b.
3. rw: from a reader to the writer of the element after the last it saw.
4. What committed and was never read comes after all that was: rw from readers of the longest version to each such
   append, ww from the last seen writer to it. Of a transaction of unknown outcome that somebody has seen, all appends
   count, for it committed as a whole; but only as rw, since a dirty read would show it too and then a claim of G0
   would be false.
5. A transaction that reads after its own append knows what lay below it: it read that version.

And, without any graph: reads no order explains (incompatible-order), elements twice in a list (duplicate-elements),
reads of aborted (G1a) or intermediate (G1b) appends, committed appends on top of aborted ones (dirty-update), a
transaction that contradicts itself (internal) or sees its own append before it is made (future-read), two that read
one version and both appended (lost-update).

Where reads contradict each other only the prefix they share is taken for the order. Elements nobody appended make the
verdict unknown: the history may be a part of a longer one.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import msgspec

from txndb.limits import ELLE_EXAMPLES_MAX
from txndb.sim.checkers.elle.facts import Facts, Found, Writer, show
from txndb.sim.checkers.elle.graph import RW, WR, WW, Graph
from txndb.sim.checkers.elle.txns import Txn, freeze


class Read(msgspec.Struct, frozen=True):
    """One read of a list."""

    node: int
    value: list[Any]
    below: int
    """Length of the version it read: all but the reader's own appends. -1: it or an earlier one contradicts the
    transaction's steps."""
    then_wrote: bool
    """The transaction read before it appended, and did append."""


class ListKey:
    """All reads of one key, and the version order they agree on."""

    def __init__(self, key: Hashable, reads: list[Read]) -> None:
        self.key = key
        self.reads = reads
        longest = max(reads, key=lambda read: len(read.value), default=None)
        self.longest = longest
        raw: list[Any] = longest.value if longest else []
        self.agreed = len(raw)
        """How much of `order` no read contradicts."""
        self.strays: list[tuple[Read, int]] = []
        """Reads that are no prefix of the longest, with the length of what they share."""
        for read in reads:
            if raw[: len(read.value)] != read.value:
                shared = _shared(raw, read.value)
                self.strays.append((read, shared))
                self.agreed = min(self.agreed, shared)
        self.order: list[Hashable] = [freeze(element) for element in raw]
        self.observed = set(self.order)
        for read, shared in self.strays:
            self.observed.update(freeze(element) for element in read.value[shared:])
        self.writers: list[Writer | None] = []
        """Of each agreed element, its committed writer; None when it aborted or is not known."""

    @property
    def whole(self) -> bool:
        return self.agreed == len(self.order)


def _shared(a: list[Any], b: list[Any]) -> int:
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return place
    return min(len(a), len(b))


def observe(facts: Facts) -> list[ListKey]:
    """Collect the reads of all keys that hold lists; report what needs no order; note whose writes were seen."""
    reads: dict[Hashable, list[Read]] = {key: [] for key in facts.lists}
    for txn in facts.txns:
        if txn.status == "ok":
            _reads_of(facts, txn, reads)
    keys = [ListKey(key, reads[key]) for key in facts.lists]
    for at in keys:
        for element in at.observed:
            writer = facts.writer(at.key, element)
            if writer is not None:
                facts.seen.add(writer.node)
        _duplicates(facts, at)
    return keys


class _State(msgspec.Struct):
    """What a transaction knows of a key so far: the version it read, and its own appends since."""

    base: list[Any] | None = None
    own: list[Hashable] = []
    spoilt: bool = False
    """A read contradicted these: what it and later ones show is no version the transaction's steps lead to."""


def _reads_of(facts: Facts, txn: Txn, reads: dict[Hashable, list[Read]]) -> None:
    states: dict[Hashable, _State] = {}
    writes = {mop.key for mop in txn.mops if mop.f == "append"}
    for mop in txn.mops:
        if mop.key not in facts.lists:
            continue
        state = states.setdefault(mop.key, _State())
        if mop.f == "append":
            state.own.append(mop.value)
            continue
        if mop.value is not None and not isinstance(mop.value, list | tuple):
            facts.malformed.append(
                f"{facts.name(txn.node)} read {mop.value!r} from key {show(mop.key)}: not a list"
            )
            continue
        value = list(mop.value or [])
        below = len(value) - len(state.own)
        known = state.base if state.base is not None else value[: max(below, 0)]
        if below != len(known) or value[:below] != known or [freeze(e) for e in value[below:]] != state.own:
            expected = [*(state.base if state.base is not None else ["…"]), *(show(e) for e in state.own)]
            facts.found.append(
                Found(
                    "internal",
                    f"{facts.name(txn.node)} read {_list(value)} from key {show(mop.key)}, "
                    f"but by its own steps before it should see {_list(expected)}",
                    (txn.node,),
                )
            )
            state.spoilt = True
        first = state.base is None and not state.own
        version = -1 if state.spoilt else below
        reads[mop.key].append(Read(txn.node, value, version, first and mop.key in writes))
        state.base, state.own = (value, []) if state.spoilt else (value[:below], state.own)


def _list(value: list[Any]) -> str:
    """A list as texts print it: its end, where the interesting part is."""
    shown = [str(element) for element in value[-8:]]
    return "[" + ("… " if len(value) > 8 else "") + " ".join(shown) + "]"


def _duplicates(facts: Facts, at: ListKey) -> None:
    place: dict[Hashable, int] = {}
    for n, element in enumerate(at.order):
        if element in place:
            at.agreed = min(at.agreed, n)
            if not facts.is_ambiguous(at.key, element):
                assert at.longest is not None
                text = (
                    f"{facts.name(at.longest.node)} read key {show(at.key)} with {show(element)} in it twice"
                )
                facts.found.append(
                    Found("duplicate-elements", f"{text}: {_list(at.longest.value)}", (at.longest.node,))
                )
                return
        place.setdefault(element, n)


def infer(facts: Facts, graph: Graph, at: ListKey) -> None:
    """Report what the reads of a key prove by themselves, and put the dependencies they show into the graph."""
    for element in at.order[: at.agreed]:
        writer = facts.writer(at.key, element)
        at.writers.append(writer if writer is not None and facts.committed(writer.node) else None)
    _incompatible(facts, at)
    _out_of_order(facts, at)
    _aborted(facts, at)
    _intermediate(facts, at)
    _future_reads(facts, at)
    _lost_updates(facts, at)
    unwritten = [
        e for e in at.observed if facts.writer(at.key, e) is None and not facts.is_ambiguous(at.key, e)
    ]
    if unwritten:
        examples = ", ".join(sorted(show(e) for e in unwritten)[:3])
        facts.malformed.append(f"key {show(at.key)} held what nobody in the history appended ({examples})")
    _order_edges(graph, at)
    _read_edges(facts, graph, at)
    if at.whole:
        _unread(facts, graph, at)


def _incompatible(facts: Facts, at: ListKey) -> None:
    for read, _ in at.strays[:ELLE_EXAMPLES_MAX]:
        assert at.longest is not None
        a, b = facts.name(read.node), facts.name(at.longest.node)
        text = (
            f"{a} read key {show(at.key)} as {_list(read.value)}, {b} as {_list(at.longest.value)}: "
            "neither is a prefix of the other, so one of them saw what never was"
        )
        facts.found.append(Found("incompatible-order", text, (read.node, at.longest.node)))


def _out_of_order(facts: Facts, at: ListKey) -> None:
    """Elements of one transaction stand in the list as it appended them."""
    steps: dict[int, list[Hashable]] = {}
    for element, writer in zip(at.order, at.writers, strict=False):
        if writer is not None:
            steps.setdefault(writer.node, []).append(element)
    for node, elements in steps.items():
        if len(elements) > 1:
            made = [mop.value for mop in facts.txns[node].mops if mop.f == "append" and mop.key == at.key]
            if [element for element in made if element in set(elements)] != elements:
                text = f"key {show(at.key)} holds the appends of {facts.name(node)} in another order than it made them"
                facts.found.append(Found("incompatible-order", text, (node,)))


def _aborted(facts: Facts, at: ListKey) -> None:
    """G1a: a committed transaction saw an aborted append; dirty-update: it lives on below a committed one."""
    reported = 0
    for n, element in enumerate(at.order):
        writer = facts.writer(at.key, element)
        if writer is None or not facts.failed(writer.node) or reported == ELLE_EXAMPLES_MAX:
            continue
        reported += 1
        reader = next(read for read in at.reads if len(read.value) > n and freeze(read.value[n]) == element)
        _g1a(facts, at.key, element, writer.node, reader)
        above = next((w for w in at.writers[n + 1 :] if w is not None), None)
        if above is not None:
            text = (
                f"{facts.name(writer.node)} failed, but its append of {show(element)} to key {show(at.key)} "
                f"lies below that of {facts.name(above.node)}, which committed"
            )
            facts.found.append(Found("dirty-update", text, (writer.node, above.node)))
    for read, shared in at.strays:
        for raw in read.value[shared:]:
            writer = facts.writer(at.key, freeze(raw))
            if writer is not None and facts.failed(writer.node) and reported < ELLE_EXAMPLES_MAX:
                reported += 1
                _g1a(facts, at.key, freeze(raw), writer.node, read)


def _g1a(facts: Facts, key: Hashable, element: Hashable, writer: int, read: Read) -> None:
    facts.found.append(
        Found(
            "G1a",
            f"{facts.name(read.node)} read {show(element)} in key {show(key)}: {_list(read.value)}, "
            f"but {facts.name(writer)}, which appended it, failed",
            (writer, read.node),
        )
    )


def _top(facts: Facts, at: ListKey, read: Read) -> tuple[Hashable, Writer | None]:
    """The last element of the version a read shows, and its writer."""
    length = read.below if read.below >= 0 else len(read.value)
    if length == 0:
        return None, None
    element = at.order[length - 1] if length <= at.agreed else freeze(read.value[length - 1])
    return element, facts.writer(at.key, element)


def _intermediate(facts: Facts, at: ListKey) -> None:
    reported = 0
    for read in at.reads:
        element, writer = _top(facts, at, read)
        if writer is None or writer.final or writer.node == read.node or facts.failed(writer.node):
            continue
        facts.found.append(
            Found(
                "G1b",
                f"{facts.name(read.node)} read key {show(at.key)} up to {show(element)}: {_list(read.value)}, but "
                f"{facts.name(writer.node)}, which appended that, appended more: the read is of its middle",
                (writer.node, read.node),
            )
        )
        reported += 1
        if reported == ELLE_EXAMPLES_MAX:
            return


def _future_reads(facts: Facts, at: ListKey) -> None:
    first: dict[int, int] = {}
    for place, writer in enumerate(at.writers):
        if writer is not None:
            first.setdefault(writer.node, place)
    early = [read for read in at.reads if first.get(read.node, read.below) < read.below]
    for read in early[:ELLE_EXAMPLES_MAX]:
        element = show(at.order[first[read.node]])
        text = f"{facts.name(read.node)} read {element} in key {show(at.key)} before it appended that itself"
        facts.found.append(Found("future-read", text, (read.node,)))


def _lost_updates(facts: Facts, at: ListKey) -> None:
    groups: dict[int, list[Read]] = {}
    for read in at.reads:
        if read.then_wrote and 0 <= read.below <= at.agreed:
            groups.setdefault(read.below, []).append(read)
    clashes = [group for group in groups.values() if len(group) > 1]
    for group in clashes[:ELLE_EXAMPLES_MAX]:
        names = ", ".join(facts.name(read.node) for read in group[:4])
        facts.found.append(
            Found(
                "lost-update",
                f"{names} each read key {show(at.key)} as {_list(group[0].value)} and then appended to it",
                tuple(read.node for read in group),
            )
        )


def _order_edges(graph: Graph, at: ListKey) -> None:
    before: tuple[int, Hashable] | None = None
    for element, writer in zip(at.order, at.writers, strict=False):
        if writer is None:
            continue
        if before is not None:
            graph.add(before[0], writer.node, WW, ("list", at.key, before[1], element))
        before = (writer.node, element)


def _read_edges(facts: Facts, graph: Graph, at: ListKey) -> None:
    below: list[int] = [-1]
    """Of each length, the place of the last element up to there that some transaction installed."""
    for place, writer in enumerate(at.writers):
        below.append(place if writer is not None and writer.final else below[-1])
    above: list[int] = [-1] * (len(at.writers) + 1)
    """Of each length, the place of the next element with a known writer."""
    for place in range(len(at.writers) - 1, -1, -1):
        above[place] = place if at.writers[place] is not None else above[place + 1]
    for read in at.reads:
        length = read.below if read.below >= 0 else len(read.value)
        if length > at.agreed:
            element, top = _top(facts, at, read)
            if top is not None and top.final and facts.committed(top.node):
                graph.add(top.node, read.node, WR, ("list", at.key, element, None))
            continue
        if (place := below[length]) >= 0:
            writer = at.writers[place]
            assert writer is not None
            graph.add(writer.node, read.node, WR, ("list", at.key, at.order[place], None))
        if read.below >= 0 and (place := above[length]) >= 0:
            writer = at.writers[place]
            assert writer is not None
            last = at.order[length - 1] if length else None
            graph.add(read.node, writer.node, RW, ("list", at.key, last, at.order[place]))


def _unread(facts: Facts, graph: Graph, at: ListKey) -> None:
    """Committed appends nobody saw come after everything anybody saw (rule 4)."""
    unread = {
        writer.node: element
        for element, writer in facts.writers.get(at.key, {}).items()
        if element not in at.observed and facts.committed(writer.node)
    }
    if not unread:
        return
    last = at.order[-1] if at.order else None
    top = next((writer for writer in reversed(at.writers) if writer is not None), None)
    sure = {node: element for node, element in unread.items() if facts.txns[node].status == "ok"}
    unsure = {node: element for node, element in unread.items() if node not in sure}
    if top is not None:
        for node, element in sure.items():
            graph.add(top.node, node, WW, ("list", at.key, last, element))
    known = max((n + 1 for n, writer in enumerate(at.writers) if writer is not None), default=0)
    readers = [read.node for read in at.reads if read.below >= known]
    graph.add_all(readers, sure, RW, ("list", at.key, last))
    graph.add_all((read.node for read in at.reads if read.below >= 0), unsure, RW, ("list", at.key, None))
