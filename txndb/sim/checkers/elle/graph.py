"""The dependency graph: transactions as numbers, kinds of edges as bits, each edge with the reason it is there.

Six kinds of edges. `WW`, `WR` and `RW` are Adya's dependencies, `PROCESS` and `REALTIME` the orders a client can see,
and `VIA` leads out of a hub: where each of m readers comes before each of n writers, m + n edges through a hub
stand for m * n. A path passes through a hub as if it were not there: the edge into it (an `RW`) is the edge between the
transactions at its ends.

Everything is iterated in order of insertion or of numbers, so equal histories give equal answers. Strong components are
Tarjan's, without recursion; a graph is a function from a node to its successors, so that the same code serves the graph
itself and the product `cycles` builds from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from txndb.limits import ELLE_PAIRS_MAX
from txndb.sim.checkers.elle.txns import Txn

WW, WR, RW, PROCESS, REALTIME, VIA = 1, 2, 4, 8, 16, 32
NAMES = {WW: "ww", WR: "wr", RW: "rw", PROCESS: "process", REALTIME: "realtime"}
REACH_BLOCK = 8192
"""Nodes whose reachability is computed at once: bounds memory at this many bits a node."""

Successors = Callable[[int], Iterable[int]]


class Graph:
    """A graph over transactions 0..n-1 and hubs from n on."""

    def __init__(self, txns: list[Txn]) -> None:
        self.txns = txns
        self.succ: list[dict[int, int]] = [{} for _ in txns]
        self.reasons: dict[tuple[int, int, int], tuple[Any, ...]] = {}
        """Why an edge is there; the first reason found stays."""

    def add(self, a: int, b: int, kind: int, reason: tuple[Any, ...] = ()) -> None:
        """An edge; from a transaction to itself there is none."""
        if a == b:
            return
        edges = self.succ[a]
        bits = edges.get(b, 0)
        if not bits & kind:
            edges[b] = bits | kind
            if reason:
                self.reasons[a, b, kind] = reason

    def reason(self, a: int, b: int, kind: int) -> tuple[Any, ...]:
        """Why there is this edge; process and real time need no reason."""
        return self.reasons.get((a, b, kind), ())

    def add_all(
        self, sources: Iterable[int], targets: dict[int, Any], kind: int, reason: tuple[Any, ...]
    ) -> None:
        """An edge from every source to every target but itself.

        Args:
            targets: With what completes `reason` for each, where there is a reason.
        """
        reasons = {b: (*reason, last) if reason else () for b, last in targets.items()}
        outside: dict[int, None] = {}
        inside: dict[int, None] = {}
        for a in sources:
            (inside if a in targets else outside)[a] = None
        if len(outside) * len(targets) > 2 * (len(outside) + len(targets)):
            hub = len(self.succ)
            self.succ.append({})
            for a in outside:
                self.add(a, hub, kind, reason)
            for b, why in reasons.items():
                self.add(hub, b, VIA, why)
            outside = {}
        # Who is both source and target cannot use the hub, for it would lead back. More than a few of these are lost
        # updates anyway.
        for a in (*outside, *list(inside)[:ELLE_PAIRS_MAX]):
            for b, why in reasons.items():
                self.add(a, b, kind, why)

    def is_hub(self, node: int) -> bool:
        return node >= len(self.txns)

    def edges(self, mask: int) -> Iterator[tuple[int, int]]:
        for a, targets in enumerate(self.succ):
            for b, bits in targets.items():
                if bits & mask:
                    yield a, b

    def step(self, mask: int) -> Successors:
        """The successors by edges of `mask`; what enters a hub leaves it."""
        succ, mask = self.succ, mask | VIA
        return lambda node: [b for b, bits in succ[node].items() if bits & mask]

    def count(self) -> dict[str, int]:
        """Edges by kind, for reports."""
        return {name: sum(1 for _ in self.edges(bit)) for bit, name in NAMES.items()}


def components(nodes: Iterable[int], successors: Successors) -> list[list[int]]:
    """All strong components, each after those it leads to (Tarjan 1972)."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    on_stack: set[int] = set()
    stack: list[int] = []
    found: list[list[int]] = []
    for root in nodes:
        if root in order:
            continue
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(successors(root)))]
        while work:
            node, rest = work[-1]
            for target in rest:
                if target not in order:
                    order[target] = low[target] = len(order)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(successors(target))))
                    break
                if target in on_stack:
                    low[node] = min(low[node], order[target])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[node])
                if low[node] == order[node]:
                    found.append(_pop(stack, on_stack, node))
    return found


def _pop(stack: list[int], on_stack: set[int], root: int) -> list[int]:
    members = []
    while True:
        node = stack.pop()
        on_stack.discard(node)
        members.append(node)
        if node == root:
            return sorted(members)


def shortest_path(start: int, goal: int, successors: Successors) -> list[int]:
    """The nodes from `start` to `goal`, both included, breadth first; empty when there is no way."""
    before: dict[int, int] = {start: start}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        if node == goal:
            path = [node]
            while node != start:
                node = before[node]
                path.append(node)
            return path[::-1]
        for target in successors(node):
            if target not in before:
                before[target] = node
                queue.append(target)
    return []


def reaching(
    pairs: Iterable[tuple[int, int]], parts: list[list[int]], successors: Successors
) -> set[tuple[int, int]]:
    """Those of `pairs` (a, b) where b can be reached from a.

    Args:
        pairs: Questions; nodes outside `parts` reach nothing.
        parts: The strong components under `successors`, each after those it leads to.

    One pass over the edges for each `REACH_BLOCK` components asked for, a set of reachable ones being one integer.
    """
    part_of = {node: number for number, part in enumerate(parts) for node in part}
    below = [
        sorted({part_of[t] for node in part for t in successors(node) if t in part_of}) for part in parts
    ]
    wanted = [(a, b) for a, b in pairs if a in part_of and b in part_of]
    targets = sorted({part_of[b] for _, b in wanted})
    yes: set[tuple[int, int]] = set()
    for first in range(0, len(targets), REACH_BLOCK):
        bit = {part: 1 << n for n, part in enumerate(targets[first : first + REACH_BLOCK])}
        reach: list[int] = []
        for number, lower in enumerate(below):
            bits = bit.get(number, 0)
            for part in lower:
                if part != number:
                    bits |= reach[part]
            reach.append(bits)
        yes |= {(a, b) for a, b in wanted if reach[part_of[a]] & bit.get(part_of[b], 0)}
    return yes
