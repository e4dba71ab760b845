"""The two orders clients see: of one process, and of real time.

Process order: a process runs one transaction after another. Real time: a transaction that completed before another was
invoked comes first under *strict* serializability. That relation has O(n²) pairs; as every interval order it is the
closure of few edges: an invocation needs edges only from the transactions that completed before it and are not already
before one of those (the frontier), and with c clients the frontier holds at most about c. So 10,000 transactions of
20 clients give 200,000 edges at the worst, not 50 million. Transactions invoked one after another, with no completion
between, have one frontier and share it through a hub: clients that move in step, however many, cost next to nothing.

A transaction of unknown outcome (`info`) may take effect at any later time: edges lead to it, never from it. What
certainly failed took no effect, has no place in either order, and does not separate others.
"""

from __future__ import annotations

from txndb.sim.checkers.elle.graph import PROCESS, REALTIME, Graph


def process_edges(graph: Graph) -> None:
    """Each transaction after the one its process completed before it."""
    last: dict[int, int] = {}
    for txn in graph.txns:
        if txn.status == "fail":
            continue
        before = last.get(txn.process)
        if before is not None:
            graph.add(before, txn.node, PROCESS)
        if txn.status == "ok":
            last[txn.process] = txn.node


def realtime_edges(graph: Graph) -> None:
    """The transitive reduction of "completed before the other was invoked"."""
    events: list[tuple[int, bool, int]] = []
    for txn in graph.txns:
        if txn.status == "fail":
            continue
        if txn.invoked is not None:
            events.append((txn.invoked, False, txn.node))
        if txn.returned is not None:
            events.append((txn.returned, True, txn.node))
    frontier: dict[int, None] = {}
    before: dict[int, list[int]] = {}
    """The frontier when a transaction was invoked."""
    together: dict[int, None] = {}
    for _, completed, node in sorted(events):
        if not completed:
            together[node] = None
            before[node] = list(frontier)
            continue
        graph.add_all(frontier, together, REALTIME, ())
        together = {}
        for earlier in before.pop(node, []):
            frontier.pop(earlier, None)
        frontier[node] = None
    graph.add_all(frontier, together, REALTIME, ())
