"""A set-returning function as an item of a target list becomes a lateral function in FROM.

`SELECT a, unnest(b) FROM t` means `SELECT a, s.unnest FROM t, LATERAL unnest(b) AS s(unnest)`: a row of the input gives
one row of output for each of the function's rows, none if it has none. Only a whole item is lifted, and only one:
several would have to advance together. A SELECT that groups keeps it, and the binder refuses it there.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from txndb.errors import FeatureNotSupportedError
from txndb.sql.parse import ast

_ALIAS = "*set"
"""No name in a statement is spelled so."""


def lift_sets(select: ast.Select, is_set: Callable[[str, int], bool]) -> ast.Select:
    """The SELECT with its set-returning item moved to FROM."""
    found = [at for at, target in enumerate(select.targets) if _is_set(target.expr, is_set)]
    starred = any(isinstance(t.expr, ast.Star) and not t.expr.qualifier for t in select.targets)
    if not found or select.group_by or select.having is not None or (starred and select.from_ == ()):
        return select
    if len(found) > 1 or starred:
        raise FeatureNotSupportedError(
            "this use of set-returning functions in a target list is not supported",
            hint="Call them in FROM.",
            position=select.targets[found[-1]].expr.pos,
        )
    at = found[0]
    target = select.targets[at]
    call = target.expr
    assert isinstance(call, ast.FunctionCall)
    name = call.name[-1]
    item = ast.FunctionRef(
        call=call, alias=ast.Alias(name=_ALIAS, columns=(name,), pos=call.pos), lateral=True, pos=call.pos
    )
    column = ast.ColumnRef(parts=(_ALIAS, name), pos=call.pos)
    lifted = ast.Target(expr=column, alias=target.alias or name, pos=target.pos)
    return msgspec.structs.replace(
        select, targets=(*select.targets[:at], lifted, *select.targets[at + 1 :]), from_=(*select.from_, item)
    )


def _is_set(node: ast.Expr, is_set: Callable[[str, int], bool]) -> bool:
    return isinstance(node, ast.FunctionCall) and not node.star and is_set(node.name[-1], len(node.args))
