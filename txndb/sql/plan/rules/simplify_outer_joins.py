"""Outer to inner join: a WHERE condition that no row of NULLs passes makes the padding rows of a LEFT JOIN useless."""

from __future__ import annotations

import msgspec

from txndb.sql.plan.expr import And, Bound, Call, Col, IsTest, columns_of, conjuncts
from txndb.sql.plan.logical import Filter, Join, Logical, transform_up


def simplify_outer_joins(plan: Logical) -> Logical:
    """The rule."""
    return transform_up(plan, _simplify)


def _simplify(node: Logical) -> Logical:
    if not (isinstance(node, Filter) and isinstance(node.input, Join)):
        return node
    join = node.input
    if join.kind not in ("LEFT", "RIGHT"):
        return node
    padded = join.right if join.kind == "LEFT" else join.left
    ids = frozenset(c.id for c in padded.columns)
    if any(_rejects_null(c, ids) for condition in node.conditions for c in conjuncts(condition)):
        inner = msgspec.structs.replace(join, kind="INNER")
        return msgspec.structs.replace(node, input=inner)
    return node


def _rejects_null(condition: Bound, ids: frozenset[int]) -> bool:
    """Whether it cannot be TRUE when all of the columns `ids` are NULL."""
    match condition:
        case And():
            return any(_rejects_null(a, ids) for a in condition.args)
        case IsTest(test="NULL", negated=True, arg=Col(id=id_)):
            return id_ in ids
        case Call(operator=True, strict=True):
            return any(_null_with(a, ids) for a in condition.args)
    return False


def _null_with(expr: Bound, ids: frozenset[int]) -> bool:
    if isinstance(expr, Col):
        return expr.id in ids
    if isinstance(expr, Call) and expr.strict and (expr.operator or expr.cast):
        return bool(columns_of(expr)) and any(_null_with(a, ids) for a in expr.args)
    return False
