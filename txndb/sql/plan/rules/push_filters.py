"""Predicate pushdown: every condition moves as close to the rows as its columns allow.

Through projections (by substitution, if nothing volatile is involved), to the sides of joins, below subqueries that it
does not use, below grouping when it is over the keys only; at last into scans, where access paths and the filters at
the leaseholder come from. Never below LIMIT or DISTINCT ON, never to the padded side of an outer join.
"""

from __future__ import annotations

import msgspec

from txndb.sql.plan.expr import Bound, Col, Const, columns_of, conjuncts, is_volatile, transform
from txndb.sql.plan.logical import (
    Aggregation,
    Apply,
    Distinct,
    Filter,
    Join,
    Logical,
    Project,
    Scan,
    Sort,
    transform_up,
)


def push_filters(plan: Logical) -> Logical:
    """The rule."""
    return transform_up(plan, _visit)


def _visit(node: Logical) -> Logical:
    if isinstance(node, Filter):
        parts = [part for condition in node.conditions for part in conjuncts(condition)]
        return push(node.input, parts)
    if isinstance(node, Join):
        return _join(node, [])
    return node


def _filter(node: Logical, conditions: list[Bound]) -> Logical:
    conditions = [c for c in conditions if not (isinstance(c, Const) and c.value is True)]
    return Filter(node.columns, node, tuple(conditions)) if conditions else node


def push(node: Logical, conditions: list[Bound]) -> Logical:
    """The operator with the conditions applied as deep as possible."""
    if not conditions:
        return node
    match node:
        case Scan():
            stay = [c for c in conditions if is_volatile(c) or isinstance(c, Const)]
            down = [c for c in conditions if c not in stay]
            return _filter(msgspec.structs.replace(node, filters=(*node.filters, *down)), stay)
        case Filter():
            return push(node.input, [*conjuncts_of(node), *conditions])
        case Project():
            return _project(node, conditions)
        case Join():
            return _join(node, conditions)
        case Apply():
            return _apply(node, conditions)
        case Aggregation():
            return _aggregation(node, conditions)
        case Sort():
            return node.with_inputs((push(node.input, conditions),))
        case Distinct(on=()):
            return node.with_inputs((push(node.input, conditions),))
    return _filter(node, conditions)


def conjuncts_of(node: Filter) -> list[Bound]:
    """A filter's conditions, flattened."""
    return [part for condition in node.conditions for part in conjuncts(condition)]


def _project(node: Project, conditions: list[Bound]) -> Logical:
    made = {c.id: e for c, e in zip(node.columns, node.exprs, strict=True)}
    down, stay = [], []
    for condition in conditions:
        used = [made[i] for i in columns_of(condition) if i in made]
        if any(is_volatile(e) for e in used):
            stay.append(condition)
            continue
        down.append(transform(condition, lambda n: made.get(n.id) if isinstance(n, Col) else None))
    return _filter(node.with_inputs((push(node.input, down),)), stay)


def _apply(node: Apply, conditions: list[Bound]) -> Logical:
    below = {c.id for c in node.input.columns}
    down = [c for c in conditions if columns_of(c).keys() <= below and not is_volatile(c)]
    stay = [c for c in conditions if c not in down]
    return _filter(node.with_inputs((push(node.input, down), node.subplan)), stay)


def _aggregation(node: Aggregation, conditions: list[Bound]) -> Logical:
    keys = {c.id: e for c, e in zip(node.columns, node.keys, strict=False)}
    down, stay = [], []
    for condition in conditions:
        used = columns_of(condition).keys()
        if node.keys and used and used <= keys.keys() and not is_volatile(condition):
            down.append(transform(condition, lambda n: keys.get(n.id) if isinstance(n, Col) else None))
        else:
            stay.append(condition)
    return _filter(node.with_inputs((push(node.input, down),)), stay)


def _join(node: Join, above: list[Bound]) -> Logical:
    """Conditions from above and the join's own, each to where it may go."""
    left_ids = {c.id for c in node.left.columns}
    right_ids = {c.id for c in node.right.columns}
    to_left: list[Bound] = []
    to_right: list[Bound] = []
    own: list[Bound] = []
    stay: list[Bound] = []
    for condition in above:
        used = columns_of(condition).keys()
        if is_volatile(condition):
            stay.append(condition)
        elif used <= left_ids and used and node.kind in ("INNER", "LEFT"):
            to_left.append(condition)
        elif used <= right_ids and used and node.kind in ("INNER", "RIGHT"):
            to_right.append(condition)
        elif node.kind == "INNER" and used:
            own.append(condition)
        else:
            stay.append(condition)
    for condition in [p for c in node.conditions for p in conjuncts(c)]:
        used = columns_of(condition).keys()
        if used and used <= left_ids and node.kind in ("INNER", "RIGHT"):
            to_left.append(condition)
        elif used and used <= right_ids and node.kind in ("INNER", "LEFT"):
            to_right.append(condition)
        else:
            own.append(condition)
    left, right = push(node.left, to_left), push(node.right, to_right)
    return _filter(Join(node.columns, node.kind, left, right, tuple(own)), stay)
