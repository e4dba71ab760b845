"""Projection pruning: scans learn which of their columns anything above reads, so that an index may cover them.

Projections also drop expressions nobody reads, unless they are volatile.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from txndb.sql.plan.expr import Bound, columns_of, is_volatile
from txndb.sql.plan.logical import (
    Aggregation,
    Apply,
    Distinct,
    Filter,
    Join,
    Logical,
    Project,
    Scan,
    SetOp,
    Sort,
)


def prune_columns(plan: Logical) -> Logical:
    """The rule: everything the root gives is needed."""
    return _prune(plan, {c.id for c in plan.columns})


def _used(exprs: Iterable[Bound]) -> set[int]:
    return {i for e in exprs for i in columns_of(e)}


def _prune(node: Logical, needed: set[int]) -> Logical:
    match node:
        case Scan():
            return msgspec.structs.replace(node, needed=frozenset(needed & {c.id for c in node.columns}))
        case Project():
            return _project(node, needed)
        case Filter():
            return node.with_inputs((_prune(node.input, needed | _used(node.conditions)),))
        case Join():
            below = needed | _used(node.conditions)
            return node.with_inputs((_prune(node.left, below), _prune(node.right, below)))
        case Aggregation():
            return node.with_inputs((_prune(node.input, _used((*node.keys, *node.aggregates))),))
        case Sort():
            return node.with_inputs((_prune(node.input, needed | _used(i.expr for i in node.items)),))
        case Distinct():
            kept = needed | (_used(node.on) if node.on else {c.id for c in node.columns})
            return node.with_inputs((_prune(node.input, kept),))
        case SetOp():
            return node.with_inputs(tuple(_prune(i, {c.id for c in i.columns}) for i in node.inputs()))
        case Apply():
            outer = {c.id for c, _ in node.outer}
            subplan = _prune(node.subplan, {c.id for c in node.subplan.columns})
            return node.with_inputs((_prune(node.input, needed | outer), subplan))
    inputs = node.inputs()
    return node.with_inputs(tuple(_prune(i, needed) for i in inputs)) if inputs else node


def _project(node: Project, needed: set[int]) -> Logical:
    kept = [(c, e) for c, e in zip(node.columns, node.exprs, strict=True) if c.id in needed or is_volatile(e)]
    below = _prune(node.input, _used(e for _, e in kept))
    return Project(tuple(c for c, _ in kept), below, tuple(e for _, e in kept))
