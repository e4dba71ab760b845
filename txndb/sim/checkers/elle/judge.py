"""The two checkers: a history in, the anomalies it proves and the isolation level that still holds out.

    check_append    transactions that append to lists and read them
    check_rw        transactions that write and read registers, every value written once

Both judge every key by what is done to it, so a history that holds both is judged by either; they differ in what they
take a key for that is only ever read.

`valid` says whether the level asked for still holds; serializability, when none is named. Anomalies that break only
stronger levels are reported all the same, and `weakest_level` tells how far the history can be believed. An unknown
verdict means that nothing contradicts the level asked for, but the history is malformed, has no committed transaction,
or lacks what that level speaks of (invocations, for real time).

Order of work: transactions; what reads prove by themselves; the dependency graph; its cycles; then, as long as
a level above still stands, cycles with process order, and with real time. For these the graph of registers is built
anew, with the versions of each key in the order the level in question promises (`registers`, rule 3): so a stale read
is found though nothing but time tells which of two blind writes came first.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from txndb.limits import ELLE_SHOWN_MAX
from txndb.sim.checkers.elle import explain, levels, lists, registers
from txndb.sim.checkers.elle.cycles import Cycle, search
from txndb.sim.checkers.elle.facts import Facts, Found
from txndb.sim.checkers.elle.graph import PROCESS, REALTIME, Graph
from txndb.sim.checkers.elle.levels import RULES_OUT
from txndb.sim.checkers.elle.orders import process_edges, realtime_edges
from txndb.sim.checkers.elle.txns import Txns, transactions
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Op


def check_append(ops: Sequence[Op], *, level: str = levels.SERIALIZABLE) -> Verdict:
    """Judge a history of transactions over lists: `[["append", k, v], ["r", k, [v, …]], …]`.

    Args:
        ops: The history in real-time order.
        level: The isolation level that `valid` is about; see `levels`.

    Raises:
        ValueError: There is no such level.
    """
    return _judge(ops, "append", levels.canonical(level), ())


def check_rw(
    ops: Sequence[Op],
    *,
    level: str = levels.SERIALIZABLE,
    sequential_keys: bool = False,
    linearizable_keys: bool = False,
) -> Verdict:
    """Judge a history of transactions over registers: `[["w", k, v], ["r", k, v], …]`.

    Args:
        ops: The history in real-time order.
        level: The isolation level that `valid` is about; see `levels`.
        sequential_keys: Take it that each process sees each key move forward only.
        linearizable_keys: Take it that each key by itself is linearizable.

    Raises:
        ValueError: There is no such level.
    """
    assume = (("process",) if sequential_keys else ()) + (("realtime",) if linearizable_keys else ())
    return _judge(ops, "rw", levels.canonical(level), assume)


def build(ops: Sequence[Op], model: str, assume: tuple[str, ...] = ()) -> tuple[Txns, Facts, Graph]:
    """The transactions, what their reads prove by themselves, and the dependency graph with all orders."""
    txns = transactions(ops)
    facts = Facts(txns, model)
    graph = Graph(txns.all)
    list_keys, register_keys = lists.observe(facts), registers.observe(facts)
    for list_key in list_keys:
        lists.infer(facts, graph, list_key)
    for register_key in register_keys:
        registers.infer(facts, graph, register_key, assume)
    process_edges(graph)
    realtime_edges(graph)
    return txns, facts, graph


class _Stage(msgspec.Struct, frozen=True):
    """A search for cycles, and the levels it can refute: those below serializability's kind, and serializability's."""

    extra: int
    assume: tuple[str, ...]
    snapshot: str
    serializable: str
    suffix: str


_STAGES = (
    _Stage(0, (), levels.SNAPSHOT, levels.SERIALIZABLE, ""),
    _Stage(PROCESS, ("process",), levels.SESSION_SNAPSHOT, levels.SESSION_SERIALIZABLE, "-process"),
    _Stage(PROCESS | REALTIME, ("process", "realtime"), levels.STRONG_SNAPSHOT, levels.STRICT, "-realtime"),
)


_CIRCLES = ("cyclic-versions-process", "cyclic-versions-realtime")


def _judge(ops: Sequence[Op], model: str, level: str, assume: tuple[str, ...]) -> Verdict:
    txns, facts, graph = build(ops, model, assume)
    circles = [found for found in facts.found if found.kind in _CIRCLES]
    facts.found = [found for found in facts.found if found.kind not in _CIRCLES]
    dead = {out for found in facts.found for out in RULES_OUT[found.kind]}
    cycles: list[Cycle] = []
    for stage in _STAGES:
        holds = levels.holding(dead)
        if stage.extra and not (holds[stage.snapshot] or holds[stage.serializable]):
            continue
        suffix = ""
        if facts.registers and not set(stage.assume) <= set(assume):
            suffix = stage.suffix
            _, premised, graph = build(ops, model, (*assume, *stage.assume))
            circles += [found for found in premised.found if found.kind == "cyclic-versions" + suffix]
        for cycle in search(graph, stage.extra, anti=not stage.extra or holds[stage.serializable]):
            named = cycle.suffixed(suffix)
            ruled_out = _ruled_out(named)
            if not stage.extra or any(holds[out] for out in ruled_out):
                cycles.append(named)
                dead.update(ruled_out)
        holds = levels.holding(dead)
        for found in circles:
            # Where a cycle of transactions says the same it says it more clearly.
            if found.kind == "cyclic-versions" + stage.suffix and any(
                holds[o] for o in RULES_OUT[found.kind]
            ):
                facts.found.append(found)
                dead.update(RULES_OUT[found.kind])
    return _verdict(txns, facts, cycles, dead, model, level)


def _ruled_out(cycle: Cycle) -> tuple[str, ...]:
    if cycle.kind == "G0" and any(reason[0] == "register" for reason in cycle.reasons):
        # The order of a register's versions is inferred on the premise of read committed (`registers`, rule 2).
        return (levels.READ_COMMITTED,)
    return RULES_OUT[cycle.kind]


def _shown(txns: Txns, facts: Facts) -> tuple[list[Anomaly], list[str]]:
    """The first anomalies of each kind that need no graph, and notes of how many there are."""
    kinds: dict[str, list[Found]] = {}
    for found in facts.found:
        kinds.setdefault(found.kind, []).append(found)
    anomalies = [
        Anomaly(found.kind, found.text, tuple(txns.all[node].index for node in found.nodes))
        for same in kinds.values()
        for found in same[:ELLE_SHOWN_MAX]
    ]
    more = [f"{len(same)} of {kind}" for kind, same in kinds.items() if len(same) > ELLE_SHOWN_MAX]
    return anomalies, more


def _verdict(
    txns: Txns, facts: Facts, cycles: list[Cycle], dead: set[str], model: str, level: str
) -> Verdict:
    anomalies, more = _shown(txns, facts)
    anomalies += [explain.anomaly(cycle, txns.all) for cycle in cycles]
    anomalies.sort(key=lambda anomaly: levels.severity(anomaly.kind), reverse=True)
    holds = levels.holding(dead)
    committed = sum(1 for txn in txns.all if txn.status == "ok")
    notes = list(dict.fromkeys(facts.malformed))[:3]
    if len(set(facts.malformed)) > 3:
        notes.append(f"and {len(set(facts.malformed)) - 3} more")
    notes += more
    if committed == 0:
        notes.append("no transaction committed: nothing to judge")
    if not txns.timed:
        notes.append("no invocations: real-time order is not judged")
    if txns.skipped:
        notes.append(f"{txns.skipped} operations are no transactions and were left out")
    if holds[level] and dead:
        notes.append(f"judged as {level}: what is reported rules out stronger levels only")
    if facts.malformed or not committed or (level == levels.STRICT and not txns.timed):
        valid = None if holds[level] else False
    else:
        valid = holds[level]
    processes = [txn.process for txn in txns.all if txn.status == "ok"]
    named = levels.weakest(holds, sessions=len(set(processes)) < len(processes), real_time=txns.timed)
    return Verdict(
        valid, model, tuple(anomalies), named if committed or dead else "", holds, "; ".join(notes)
    )
