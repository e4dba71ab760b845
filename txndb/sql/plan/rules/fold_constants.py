"""Constant folding: immutable calls over constants are computed, AND and OR lose their neutral arguments.

A call that raises is left as it is: whether its error is due is known only when it is reached (CASE, empty tables).
"""

from __future__ import annotations

import msgspec

from txndb.errors import TxndbError
from txndb.sql.plan.expr import And, Bound, Call, Const, Not, Or
from txndb.sql.plan.logical import Filter, Join, Logical, Project, Scan, transform_up
from txndb.sql.types.core import BOOL


def fold(expr: Bound) -> Bound:
    """One expression, bottom-up."""
    children = expr.children()
    if children:
        folded = tuple(fold(c) for c in children)
        if any(a is not b for a, b in zip(folded, children, strict=True)):
            expr = expr.with_children(folded)
    match expr:
        case Call(volatility="i", needs=None) if all(isinstance(a, Const) for a in expr.args):
            return _evaluate(expr)
        case And():
            return _connect(expr, True)
        case Or():
            return _connect(expr, False)
        case Not(arg=Const(value=value)):
            return Const(BOOL, None if value is None else not value)
    return expr


def _evaluate(call: Call) -> Bound:
    values = [a.value for a in call.args if isinstance(a, Const)]
    if call.strict and any(v is None for v in values):
        return Const(call.type, None)
    try:
        return Const(call.type, call.fn(*values))
    except TxndbError:
        return call


def _connect(expr: And | Or, neutral: bool) -> Bound:
    kept: list[Bound] = []
    for arg in expr.args:
        if isinstance(arg, Const) and arg.value is not None:
            if bool(arg.value) is neutral:
                continue
            return Const(BOOL, not neutral)
        kept.append(arg)
    if not kept:
        return Const(BOOL, neutral)
    if len(kept) == 1:
        return kept[0]
    return expr if len(kept) == len(expr.args) else type(expr)(BOOL, tuple(kept))


def fold_constants(plan: Logical) -> Logical:
    """The rule: folds every expression of filters, projections, joins and scans."""
    return transform_up(plan, _fold_node)


def _fold_node(node: Logical) -> Logical:
    match node:
        case Filter():
            return msgspec.structs.replace(node, conditions=tuple(fold(c) for c in node.conditions))
        case Project():
            return msgspec.structs.replace(node, exprs=tuple(fold(e) for e in node.exprs))
        case Join():
            return msgspec.structs.replace(node, conditions=tuple(fold(c) for c in node.conditions))
        case Scan():
            return msgspec.structs.replace(node, filters=tuple(fold(f) for f in node.filters))
    return node
