"""A set-returning function as an item of a target list becomes a lateral function in FROM.

`SELECT a, unnest(b) FROM t` means `SELECT a, s.unnest FROM t, LATERAL unnest(b) AS s(unnest)`: a row of the input gives
one row of output for each of the function's rows, none if it has none. Several advance together, the shorter padded
with NULL. Only a whole item is lifted; a SELECT that groups keeps it, and the binder refuses it there.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from txndb.errors import FeatureNotSupportedError
from txndb.sql.parse import ast

_ALIAS = "*set"
"""No name in a statement is spelled so."""


def lift_sets(select: ast.Select, is_set: Callable[[str, int], bool]) -> ast.Select:
    """The SELECT with its set-returning items moved to FROM."""
    calls = {
        at: target.expr
        for at, target in enumerate(select.targets)
        if isinstance(target.expr, ast.FunctionCall) and _is_set(target.expr, is_set)
    }
    if not calls or select.group_by or select.having is not None:
        return select
    first, *others = calls.values()
    if any(isinstance(t.expr, ast.Star) and not t.expr.qualifier for t in select.targets):
        raise FeatureNotSupportedError(
            "a set-returning function beside * in a target list is not supported",
            hint="Call it in FROM, or qualify the star.",
            position=first.pos,
        )
    names = {at: f"set {at}" for at in calls}
    alias = ast.Alias(name=_ALIAS, columns=tuple(names.values()), pos=first.pos)
    item = ast.FunctionRef(call=first, alias=alias, lateral=True, beside=tuple(others), pos=first.pos)
    targets = list(select.targets)
    for at, call in calls.items():
        column = ast.ColumnRef(parts=(_ALIAS, names[at]), pos=call.pos)
        alias_name = targets[at].alias or call.name[-1]
        targets[at] = ast.Target(expr=column, alias=alias_name, pos=targets[at].pos)
    return msgspec.structs.replace(select, targets=tuple(targets), from_=(*select.from_, item))


def _is_set(node: ast.FunctionCall, is_set: Callable[[str, int], bool]) -> bool:
    return not node.star and is_set(node.name[-1], len(node.args))
