"""Registers: a write hides what was there, so the order of versions has to be pieced together. Source: Elle §5.

Every value is written once, so a read leads to its writer; the order of a key's versions is known in part:

1. The initial value is before all others. It is nil, or – where a key was never seen nil – the one value that was read
   and never written.
2. A transaction that read u and then wrote v puts u before v (writes follow reads). Were v before u, its writer would
   both precede and follow u's, which is G1c: so an anomaly found through this rule speaks of read committed and above,
   and never of read uncommitted.
3. On the premise of a level with sessions or real time – strong session snapshot isolation or strict serializability,
   and what lies between – each key by itself moves forward for each process, or in real time: what one transaction
   met last of a key is before what a later one met first. That premise is made to refute those very levels, or
   because the caller vouches for it. Where a key contradicts it that is an anomaly of its own.

Then u before v gives ww from u's writer to v's, and rw from u's readers to v's writer; a read of v gives wr. The
versions need not be neighbours: what lies between adds more ww. A cycle of versions (cyclic-versions) is reported and
its edges are not used.

Without any graph: reads of aborted (G1a) and of intermediate writes (G1b), a transaction that contradicts itself
(internal) or sees its own write before it is made (future-read),
two that read one version and both wrote (lost-update).
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable

import msgspec

from txndb.limits import ELLE_EXAMPLES_MAX
from txndb.sim.checkers.elle.facts import Facts, Found, show
from txndb.sim.checkers.elle.graph import RW, WR, WW, Graph, components, shortest_path
from txndb.sim.checkers.elle.txns import Txn, freeze


class Touch(msgspec.Struct, frozen=True):
    """What one committed transaction did to one key."""

    node: int
    read: bool
    """It read the key before any write of its own."""
    seen: Hashable
    """What it read then."""
    wrote: bool
    value: Hashable
    """The last value it wrote."""


class RegisterKey:
    """All that committed transactions did to one key."""

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.touches: list[Touch] = []
        self.reads: list[tuple[int, Hashable]] = []
        """Every read, as (node, value), also those after a write."""
        self.initial: Hashable = None
        self.has_initial = True
        """False when nothing can be said of the initial value."""
        self.installed: dict[Hashable, int] = {}
        """Versions of committed transactions, with their writers."""
        self.readers: dict[Hashable, list[int]] = {}
        """Who read a version before any write of its own."""


def observe(facts: Facts) -> list[RegisterKey]:
    """Collect reads and writes of all keys that hold one value; note whose writes were seen."""
    keys = {key: RegisterKey(key) for key in facts.registers}
    for txn in facts.txns:
        if txn.status == "ok":
            _reads_of(facts, txn, keys)
    for at in keys.values():
        for _, value in at.reads:
            writer = facts.writer(at.key, value)
            if writer is not None:
                facts.seen.add(writer.node)
    return list(keys.values())


def _reads_of(facts: Facts, txn: Txn, keys: dict[Hashable, RegisterKey]) -> None:
    holds: dict[Hashable, Hashable] = {}
    first: dict[Hashable, Hashable] = {}
    for mop in txn.mops:
        if mop.key not in keys:
            continue
        value = freeze(mop.value)
        if mop.f == "w":
            holds[mop.key] = value
            continue
        keys[mop.key].reads.append((txn.node, value))
        if mop.key not in holds:
            first[mop.key] = value
            writer = facts.writer(mop.key, value)
            if writer is not None and writer.node == txn.node:
                text = f"{facts.name(txn.node)} read {show(value)} from key {show(mop.key)} before it wrote that itself"
                facts.found.append(Found("future-read", text, (txn.node,)))
        elif holds[mop.key] != value:
            facts.found.append(
                Found(
                    "internal",
                    f"{facts.name(txn.node)} read {show(value)} from key {show(mop.key)}, "
                    f"but by its own steps before it should see {show(holds[mop.key])}",
                    (txn.node,),
                )
            )
        holds[mop.key] = value
    wrote = {mop.key: mop.value for mop in txn.mops if mop.f == "w" and mop.key in keys}
    for key in {**first, **wrote}:
        touch = Touch(txn.node, key in first, first.get(key), key in wrote, wrote.get(key))
        keys[key].touches.append(touch)


def infer(facts: Facts, graph: Graph, at: RegisterKey, assume: tuple[str, ...]) -> None:
    """Report what the reads of a key prove by themselves, and put the dependencies they show into the graph.

    Args:
        assume: Which orders its versions are known to follow: `process`, `realtime`.
    """
    for value, writer in facts.writers.get(at.key, {}).items():
        if writer.final and facts.committed(writer.node):
            at.installed[value] = writer.node
    _initial(facts, at)
    for touch in at.touches:
        if touch.read:
            at.readers.setdefault(touch.seen, []).append(touch.node)
    _dirty_reads(facts, at)
    _lost_updates(facts, at)
    for node, value in at.reads:
        if value in at.installed:
            graph.add(at.installed[value], node, WR, ("register", at.key, value, None))
    for u, later in _versions(facts, at, assume).items():
        for v in later if u in at.installed else ():
            graph.add(at.installed[u], at.installed[v], WW, ("register", at.key, u, v))
        graph.add_all(at.readers.get(u, ()), {at.installed[v]: v for v in later}, RW, ("register", at.key, u))


def _initial(facts: Facts, at: RegisterKey) -> None:
    """Rule 1; and what was read but is neither initial nor written makes the verdict unknown."""
    values = dict.fromkeys(value for _, value in at.reads)
    unwritten = [
        v
        for v in values
        if v is not None and facts.writer(at.key, v) is None and not facts.is_ambiguous(at.key, v)
    ]
    nil_written = facts.writer(at.key, None) is not None or facts.is_ambiguous(at.key, None)
    if len(unwritten) == 1 and (nil_written or None not in values):
        at.initial = unwritten[0]
        return
    if unwritten:
        examples = ", ".join(sorted(show(v) for v in unwritten)[:3])
        facts.malformed.append(f"key {show(at.key)} held what nobody in the history wrote ({examples})")
    at.has_initial = not nil_written


def _dirty_reads(facts: Facts, at: RegisterKey) -> None:
    reported: set[Hashable] = set()
    for node, value in at.reads:
        writer = facts.writer(at.key, value)
        if writer is None or writer.node == node or value in reported or len(reported) == ELLE_EXAMPLES_MAX:
            continue
        name, key = facts.name(writer.node), show(at.key)
        if facts.failed(writer.node):
            kind, text = "G1a", f"but {name}, which wrote it, failed"
        elif not writer.final:
            kind, text = "G1b", f"but {name}, which wrote it, then wrote another value to that key"
        else:
            continue
        reported.add(value)
        read = f"{facts.name(node)} read {show(value)} from key {key}, "
        facts.found.append(Found(kind, read + text, (writer.node, node)))


def _lost_updates(facts: Facts, at: RegisterKey) -> None:
    groups: dict[Hashable, list[int]] = {}
    for touch in at.touches:
        if touch.read and touch.wrote and not facts.is_ambiguous(at.key, touch.seen):
            groups.setdefault(touch.seen, []).append(touch.node)
    clashes = [(value, nodes) for value, nodes in groups.items() if len(nodes) > 1]
    for value, nodes in clashes[:ELLE_EXAMPLES_MAX]:
        names = ", ".join(facts.name(node) for node in nodes[:4])
        text = f"{names} each read {show(value)} from key {show(at.key)} and then wrote to it"
        facts.found.append(Found("lost-update", text, tuple(nodes)))


Versions = dict[Hashable, dict[Hashable, None]]
Pair = tuple[Hashable, Hashable, int, int]
"""Two versions in order, and the transactions that met them in that order."""


def _versions(facts: Facts, at: RegisterKey, assume: tuple[str, ...]) -> Versions:
    """What comes after each version, as far as it is known: all installed ones, and the initial."""
    known: Versions = {}
    _extend(facts, at, known, _follows_reads(at), "")
    for order, pairs in (("process", _process_pairs), ("realtime", _realtime_pairs)):
        if order in assume:
            # First what writes alone tell, so that a stale read is seen as one, not as a contradiction of versions.
            blind = [msgspec.structs.replace(touch, read=False) for touch in at.touches if touch.wrote]
            _extend(facts, at, known, pairs(facts, blind), "-" + order)
            _extend(facts, at, known, pairs(facts, at.touches), "-" + order)
    return known


def _extend(facts: Facts, at: RegisterKey, known: Versions, pairs: list[Pair], suffix: str) -> None:
    """Add pairs to what is known, but for those that close a cycle."""
    trial: Versions = {u: dict(later) for u, later in known.items()}
    why: dict[tuple[Hashable, Hashable], tuple[int, int]] = {}
    versions = set(at.installed) | ({at.initial} if at.has_initial else set())
    for u, v, a, b in pairs:
        if u != v and u in versions and v in versions:
            trial.setdefault(u, {})[v] = None
            why.setdefault((u, v), (a, b))
    if at.has_initial and at.initial not in at.installed:
        for v in at.installed:
            trial.setdefault(at.initial, {})[v] = None
    number: dict[Hashable, int] = {}
    for u, later in trial.items():
        for v in (u, *later):
            number.setdefault(v, len(number))
    values = list(number)
    parts = components(range(len(values)), lambda n: [number[v] for v in trial.get(values[n], ())])
    part_of = {values[n]: p for p, part in enumerate(parts) for n in part}
    for part in parts:
        if len(part) > 1:
            inside = {values[n] for n in part}
            _cyclic(facts, at, {u: [v for v in trial[u] if v in inside] for u in inside}, why, suffix)
    for u, later in trial.items():
        fresh = known.setdefault(u, {})
        fresh.update(dict.fromkeys(v for v in later if part_of[u] != part_of[v]))
    _thin_initial(at, known)


def _cyclic(
    facts: Facts,
    at: RegisterKey,
    later: dict[Hashable, list[Hashable]],
    why: dict[tuple[Hashable, Hashable], tuple[int, int]],
    suffix: str,
) -> None:
    """Report a cycle of versions, by the transactions that show it."""
    u, v = next(pair for pair in why if pair[0] in later and pair[1] in later)
    numbers = {value: n for n, value in enumerate(later)}
    values = list(later)
    way = shortest_path(numbers[v], numbers[u], lambda n: [numbers[x] for x in later[values[n]]])
    round_trip = [u, *(values[n] for n in way)]
    links: list[str] = []
    nodes: dict[int, None] = {}
    for x, y in itertools.pairwise(round_trip):
        if (x, y) not in why:
            links.append(f"{show(x)} is before {show(y)}")
            continue
        a, b = why[x, y]
        nodes.update({a: None, b: None})
        met = (
            f"met {show(x)} and wrote {show(y)}"
            if a == b
            else f"met {show(x)}, then {facts.name(b)} {show(y)}"
        )
        links.append(f"{facts.name(a)} {met}")
    text = f"the versions of key {show(at.key)} go in a circle: " + "; ".join(links)
    facts.found.append(Found("cyclic-versions" + suffix, text, tuple(nodes)))


def _thin_initial(at: RegisterKey, known: Versions) -> None:
    """The initial value needs to lead only to versions that nothing else leads to."""
    if not at.has_initial or at.initial not in known:
        return
    led_to = {v for u, later in known.items() if u != at.initial for v in later}
    known[at.initial] = {v: None for v in known[at.initial] if v not in led_to}


def _follows_reads(at: RegisterKey) -> list[Pair]:
    return [(t.seen, t.value, t.node, t.node) for t in at.touches if t.read and t.wrote]


def _ends(touch: Touch) -> tuple[Hashable, Hashable]:
    """The first and the last version a transaction met."""
    return (touch.seen if touch.read else touch.value), (touch.value if touch.wrote else touch.seen)


def _process_pairs(facts: Facts, touches: list[Touch]) -> list[Pair]:
    last: dict[int, Touch] = {}
    pairs = []
    for touch in touches:
        process = facts.txns[touch.node].process
        if process in last:
            pairs.append((_ends(last[process])[1], _ends(touch)[0], last[process].node, touch.node))
        last[process] = touch
    return pairs


def _realtime_pairs(facts: Facts, touches: list[Touch]) -> list[Pair]:
    """As `orders.realtime_edges`, among the transactions that touched the key."""
    events: list[tuple[int, bool, Touch]] = []
    for touch in touches:
        txn = facts.txns[touch.node]
        if txn.invoked is not None:
            events.append((txn.invoked, False, touch))
        if txn.returned is not None:
            events.append((txn.returned, True, touch))
    events.sort(key=lambda event: event[0])
    frontier: dict[int, Hashable] = {}
    before: dict[int, list[int]] = {}
    pairs: list[Pair] = []
    for _, completed, touch in events:
        first, end = _ends(touch)
        if not completed:
            before[touch.node] = list(frontier)
            pairs += [(earlier, first, node, touch.node) for node, earlier in frontier.items()]
            continue
        for node in before.pop(touch.node, []):
            frontier.pop(node, None)
        frontier[touch.node] = end
    return pairs
