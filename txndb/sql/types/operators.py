"""The operators: which exist for which types, their results, and how to compute them (PostgreSQL's pg_operator).

`resolve_operator` gives the one an expression means. `source` is a Python expression template over {0} and {1}, to be
put into the code compiled for a plan; its names are in RUNTIME, `_t` is a scratch variable of the compiled function,
and `ctx` is the EvalContext where `needs` is set. Where source is None, call `fn` (with the context first if `needs`).
Invariant: with `strict`, a NULL argument gives NULL and neither `fn` nor `source` ever sees None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from txndb.errors import SqlError, sql_error
from txndb.sql.types.core import UNKNOWN, SqlType, format_type
from txndb.sql.types.operatortable import OPERATORS, OperatorRow
from txndb.sql.types.resolve import AmbiguousError, bind_polymorphic, choose, concrete


class Operator(msgspec.Struct, frozen=True):
    """A resolved operator. `arg_types` are what the arguments must be coerced to, in order."""

    name: str
    result: SqlType
    arg_types: tuple[SqlType, ...]
    fn: Callable[..., Any]
    source: str | None = None
    strict: bool = True
    needs: str | None = None
    volatility: str = "i"


@lru_cache(maxsize=4096)
def resolve_operator(name: str, left: SqlType | None, right: SqlType | None) -> Operator:
    """The operator `left name right` (left None: prefix) means; 42883 when none, 42725 when several fit."""
    if name == "!=":
        name = "<>"
    if name in _DISTINCT:
        return _distinct(name, left or UNKNOWN, right or UNKNOWN)
    actual = tuple(t for t in (left, right) if t is not None)
    rows = [row for row in OPERATORS.get(name, ()) if len(row.args) == len(actual)]
    row = _choose(rows, actual, name, left, right)
    element = bind_polymorphic(row.args, actual)
    arg_types = tuple(concrete(oid, element, have) for oid, have in zip(row.args, actual, strict=True))
    fn, source, needs = row.fn, row.source, row.needs
    if row.build is not None:
        fn, needs = row.build(arg_types)
        source = None
    volatility = "s" if needs else "i"
    return Operator(name, concrete(row.result, element), arg_types, fn, source, row.strict, needs, volatility)


def _choose(
    rows: list[OperatorRow],
    actual: tuple[SqlType, ...],
    name: str,
    left: SqlType | None,
    right: SqlType | None,
) -> OperatorRow:
    oids = tuple(t.oid for t in actual)
    exact = _exact_oids(oids)
    for row in rows:
        if row.args == exact:
            return row
    try:
        found = choose(rows, oids)
    except AmbiguousError:
        raise _not_unique(name, left, right) from None
    if found is None:
        raise _missing(name, left, right)
    return found


def _exact_oids(oids: tuple[int, ...]) -> tuple[int, ...]:
    """For the exact match, an untyped operand is taken to be of the other's type."""
    if len(oids) == 2 and UNKNOWN.oid in oids:
        other = oids[0] if oids[1] == UNKNOWN.oid else oids[1]
        return (other, other)
    return oids


def _spelled(name: str, left: SqlType | None, right: SqlType | None) -> str:
    parts = [] if left is None else [format_type(left.oid)]
    parts.append(name)
    if right is not None:
        parts.append(format_type(right.oid))
    return " ".join(parts)


def _missing(name: str, left: SqlType | None, right: SqlType | None) -> SqlError:
    hint = "No operator matches the given name and argument types. You might need to add explicit type casts."
    if left is None:
        hint = "No operator matches the given name and argument type. You might need to add an explicit type cast."
    return sql_error("42883", f"operator does not exist: {_spelled(name, left, right)}", hint=hint)


def _not_unique(name: str, left: SqlType | None, right: SqlType | None) -> SqlError:
    hint = "Could not choose a best candidate operator. You might need to add explicit type casts."
    return sql_error("42725", f"operator is not unique: {_spelled(name, left, right)}", hint=hint)


_DISTINCT: Final = ("IS DISTINCT FROM", "IS NOT DISTINCT FROM")


def _distinct(name: str, left: SqlType, right: SqlType) -> Operator:
    """IS [NOT] DISTINCT FROM: equality in which NULL is a value. Not strict."""
    equal = resolve_operator("=", left, right)
    fn = equal.fn
    negated = name == _DISTINCT[0]
    if equal.needs:

        def with_context(ctx: Any, a: Any, b: Any) -> bool:
            same = (a is b) if a is None or b is None else fn(ctx, a, b)
            return same is not negated

        return msgspec.structs.replace(equal, name=name, fn=with_context, source=None, strict=False)

    def compare(a: Any, b: Any) -> bool:
        same = (a is b) if a is None or b is None else fn(a, b)
        return same is not negated

    source = None
    if equal.source == "({0} == {1})":
        # None == None and None != value hold in Python just as wanted here.
        source = "({0} != {1})" if negated else "({0} == {1})"
    return msgspec.structs.replace(equal, name=name, fn=compare, source=source, strict=False)
