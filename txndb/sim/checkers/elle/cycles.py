"""Cycles of dependencies and their names. Sources: Adya §3–4, Elle §4.1 and its Jepsen implementation's names.

A cycle of dependencies means that no order of the transactions explains the history. What it rules out hangs on its
edges:

    G0               ww alone
    G1c              ww and wr, at least one wr
    G-single         exactly one rw
    G-nonadjacent    two or more rw, no two of them next to each other
    G2               two or more rw, two of them next to each other

All rw edges here are between reads and writes of named keys, so the last three carry Adya's `-item`. `-process` or
`-realtime` is added when the cycle also needs the order of one process or of real time.

Whether a cycle of a kind exists is decided exactly, and only then is a short one searched:

1. G0, G1c, G2: any edge of the kind in question that lies inside a strong component of the graph of the edges
   allowed is on such a cycle.
2. G-single: an rw edge (a, b) with a reachable from b without rw; all edges at once (`graph.reaching`).
3. G-nonadjacent: a strong component of the product of the graph with one bit, "the last edge was rw", in which no rw
   leaves a set bit. A closed walk in the product may visit a transaction twice; one of the two walks it then falls into
   has no adjacent rw either, so a simple cycle is always left.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import msgspec

from txndb.limits import ELLE_EXAMPLES_MAX, ELLE_SEARCHES_MAX
from txndb.sim.checkers.elle.graph import (
    PROCESS,
    REALTIME,
    RW,
    VIA,
    WR,
    WW,
    Graph,
    Successors,
    components,
    reaching,
    shortest_path,
)

Edge = tuple[int, int, int]
"""From, kind, to."""

_PREFERENCE = (WW, WR, PROCESS, REALTIME, RW)


class Cycle(msgspec.Struct, frozen=True):
    """A cycle, through transactions only."""

    kind: str
    edges: tuple[Edge, ...]
    reasons: tuple[tuple[object, ...], ...]
    """Of each edge."""

    def suffixed(self, suffix: str) -> Cycle:
        """The same cycle in a graph whose edges were inferred on the premise that `suffix` names."""
        bare = self.kind.removesuffix("-process").removesuffix("-realtime")
        return msgspec.structs.replace(self, kind=bare + suffix) if suffix else self


Kept = dict[str, list[Cycle]]
"""The shortest cycles of each kind."""


def classify(edges: Iterable[Edge]) -> str:
    """The name of a cycle with these edges."""
    kinds = [kind for _, kind, _ in edges]
    anti = kinds.count(RW)
    suffix = "-realtime" if REALTIME in kinds else "-process" if PROCESS in kinds else ""
    if anti == 0:
        return ("G1c" if WR in kinds else "G0") + suffix
    if anti == 1:
        return "G-single-item" + suffix
    adjacent = any(kind == RW == kinds[place - 1] for place, kind in enumerate(kinds))
    return ("G2-item" if adjacent else "G-nonadjacent-item") + suffix


def search(graph: Graph, extra: int, *, anti: bool) -> list[Cycle]:
    """Short cycles, of each kind there is at least one.

    Args:
        extra: `PROCESS` and `REALTIME` edges to allow besides dependencies.
        anti: Also those of kind G2, which take the most time to look for.
    """
    found: Kept = {}
    everything = graph.step(WW | WR | RW | extra)
    parts = [part for part in components(range(len(graph.succ)), everything) if len(part) > 1]
    if not parts:
        return []
    inside = {node: number for number, part in enumerate(parts) for node in part}
    _through(graph, inside, WW, WW | extra, found)
    _through(graph, inside, WR, WW | WR | extra, found)
    _single(graph, inside, WW | WR | extra, found)
    _nonadjacent(graph, inside, WW | WR | extra, found)
    if anti:
        _closed(graph, _rw_inside(graph, inside), RW, WW | WR | RW | extra, inside, found)
    return [cycle for kind in sorted(found) for cycle in found[kind]]


def _within(successors: Successors, inside: dict[int, int]) -> Successors:
    """The same graph without edges between components."""
    return lambda node: [t for t in successors(node) if inside.get(t) == inside[node]]


def _rw_inside(graph: Graph, inside: dict[int, int]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in graph.edges(RW) if a in inside and inside[a] == inside.get(b)]


def _through(graph: Graph, inside: dict[int, int], needed: int, mask: int, found: Kept) -> None:
    """Cycles of edges of `mask` with at least one of kind `needed`."""
    successors = _within(graph.step(mask), inside)
    parts = [part for part in components(inside, successors) if len(part) > 1]
    part_of = {node: number for number, part in enumerate(parts) for node in part}
    edges = [(a, b) for a, b in graph.edges(needed) if a in part_of and part_of[a] == part_of.get(b)]
    _closed(graph, edges, needed, mask, part_of, found)


def _single(graph: Graph, inside: dict[int, int], mask: int, found: Kept) -> None:
    successors = _within(graph.step(mask), inside)
    parts = components(inside, successors)
    back = reaching([(b, a) for a, b in _rw_inside(graph, inside)], parts, successors)
    edges = [(a, b) for a, b in _rw_inside(graph, inside) if (b, a) in back]
    _closed(graph, edges, RW, mask, inside, found)


def _closed(
    graph: Graph, edges: list[tuple[int, int]], kind: int, mask: int, inside: dict[int, int], found: Kept
) -> None:
    """Close some of `edges`, each with the shortest way back by edges of `mask`."""
    successors = _within(graph.step(mask), inside)
    for a, b in _some(edges):
        path = shortest_path(b, a, successors)
        if path:
            pairs = itertools.pairwise(path)
            _keep(graph, [(a, kind, b), *((x, _label(graph, x, y, mask), y) for x, y in pairs)], found)


def _some(edges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """At most `ELLE_SEARCHES_MAX` of them, spread evenly."""
    step = -(-len(edges) // ELLE_SEARCHES_MAX) or 1
    return iter(edges[::step])


def _label(graph: Graph, a: int, b: int, mask: int) -> int:
    bits = graph.succ[a][b] & mask
    return next((kind for kind in _PREFERENCE if bits & kind), VIA)


def _nonadjacent(graph: Graph, inside: dict[int, int], mask: int, found: Kept) -> None:
    """Nodes of the product: twice the node, plus the bit."""

    def successors(state: int) -> list[int]:
        node, bit = state >> 1, state & 1
        out = []
        for target, bits in graph.succ[node].items():
            if inside.get(target) != inside[node]:
                continue
            if bits & VIA:
                out.append(target << 1 | bit)
            if bits & mask:
                out.append(target << 1)
            if bits & RW and not bit:
                out.append(target << 1 | 1)
        return out

    states = [node << 1 | bit for node in inside for bit in (0, 1)]
    parts = [part for part in components(states, successors) if len(part) > 1]
    part_of = {state: number for number, part in enumerate(parts) for state in part}
    edges = [
        (a, b)
        for a, b in _rw_inside(graph, inside)
        if a << 1 in part_of and part_of[a << 1] == part_of.get(b << 1 | 1)
    ]
    for a, b in _some(edges):
        path = shortest_path(b << 1 | 1, a << 1, successors)
        walk: list[Edge] = [(a, RW, b)]
        for x, y in itertools.pairwise(path):
            via = graph.succ[x >> 1][y >> 1] & VIA
            kind = VIA if via else RW if y & 1 else _label(graph, x >> 1, y >> 1, mask)
            walk.append((x >> 1, kind, y >> 1))
        _keep(graph, walk, found)


def _keep(graph: Graph, walk: list[Edge], found: Kept) -> None:
    edges, reasons = _through_hubs(graph, walk)
    start = edges.index(min(edges))
    edges, reasons = _joined(edges[start:] + edges[:start], reasons[start:] + reasons[:start])
    cycle = _simple(edges, reasons)
    same = found.setdefault(cycle.kind, [])
    if any({a for a, _, _ in cycle.edges} == {a for a, _, _ in other.edges} for other in same):
        return
    same.append(cycle)
    same.sort(key=lambda c: (len(c.edges), c.edges))
    del same[ELLE_EXAMPLES_MAX:]


Reasons = list[tuple[object, ...]]


def _through_hubs(graph: Graph, walk: list[Edge]) -> tuple[list[Edge], Reasons]:
    """The walk through transactions alone: an edge into a hub ends where the hub leads."""
    first = next(place for place, (a, _, _) in enumerate(walk) if not graph.is_hub(a))
    edges: list[Edge] = []
    reasons: Reasons = []
    for a, kind, b in walk[first:] + walk[:first]:
        if kind == VIA:
            edges[-1] = (edges[-1][0], edges[-1][1], b)
            reasons[-1] = graph.reason(a, b, VIA)
        else:
            edges.append((a, kind, b))
            reasons.append(graph.reason(a, b, kind))
    return edges, reasons


def _joined(edges: list[Edge], reasons: Reasons) -> tuple[list[Edge], Reasons]:
    """Neighbouring edges of process or real time are one, both orders being transitive."""
    out: list[Edge] = []
    why: Reasons = []
    for edge, reason in zip(edges, reasons, strict=True):
        if out and edge[1] == out[-1][1] and edge[1] in (PROCESS, REALTIME) and out[-1][0] != edge[2]:
            out[-1] = (out[-1][0], edge[1], edge[2])
        else:
            out.append(edge)
            why.append(reason)
    return out, why


def _simple(edges: list[Edge], reasons: Reasons) -> Cycle:
    """The walk itself, or where it visits a transaction twice, the better of the walks it falls into."""
    seen: dict[int, int] = {}
    for place, (a, _, _) in enumerate(edges):
        if a in seen:
            first = seen[a]
            inner = _simple(edges[first:place], reasons[first:place])
            outer = _simple(edges[place:] + edges[:first], reasons[place:] + reasons[:first])
            return min(inner, outer, key=lambda cycle: (cycle.kind.startswith("G2"), len(cycle.edges)))
        seen[a] = place
    return Cycle(classify(edges), tuple(edges), tuple(reasons))
