"""Coercion of bound expressions, and type names to types.

An untyped literal is read by its type's input function here, and an error has the literal's position; where reading
needs the session (time zone, catalogue names) it becomes a cast evaluated when the plan runs. A cast of a typed
constant that fails is left to be evaluated when it is reached, and its error has no position, as in PostgreSQL. An
untyped parameter takes the first type asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from txndb.errors import TxndbError, sql_error
from txndb.sql.parse import ast
from txndb.sql.plan.expr import Bound, Call, Const, MakeArray, Param, Untyped
from txndb.sql.plan.scope import Statement
from txndb.sql.types import resolve
from txndb.sql.types.casts import Cast, Context, cannot_cast, find_cast
from txndb.sql.types.core import INTERVAL, RECORD, TEXT, UNKNOWN, SqlType, array_of, element_of, lookup_type

_CONTEXTS: dict[str, Context] = {"i": "implicit", "a": "assignment", "e": "explicit"}


def type_display(type_: SqlType) -> str:
    """A type's name in messages."""
    return str(type_.base)


def coerce(st: Statement, expr: Bound, target: SqlType, context: str, *, position: int = 0) -> Bound:
    """The expression as `target`; 42846 (42804 in assignments) if there is no cast in that context."""
    source = expr.type
    if source == target:
        return expr
    if context == "e" and source.oid == target.oid and target.typmod < 0:
        # the value stays, its modifier is forgotten
        return Call(target, f"relabel {target.oid}", (expr,), _same, "{0}", True, "i", None, False, True)
    if source.oid == UNKNOWN.oid:
        done = _coerce_unknown(st, expr, target, context, position)
        if done is not None:
            return done
    if isinstance(expr, MakeArray) and target.element and expr.type.oid != RECORD.oid:
        element = element_of(target)
        assert element is not None
        items = tuple(coerce(st, item, element, context, position=position) for item in expr.items)
        return MakeArray(target, items)
    found = find_cast(source, target, _CONTEXTS[context])
    if found is None:
        raise _no_cast(source, target, context, position)
    return apply_cast(expr, target, found)


def _no_cast(source: SqlType, target: SqlType, context: str, position: int) -> Exception:
    if context == "e":
        error = cannot_cast(source, target)
        if position:
            error.position = position  # type: ignore[attr-defined]
        return error
    return sql_error(
        "42804",
        f"expression is of type {type_display(source)} but {type_display(target)} is needed",
        hint="You will need to rewrite or cast the expression.",
        position=position,
    )


def _coerce_unknown(st: Statement, expr: Bound, target: SqlType, context: str, position: int) -> Bound | None:
    if isinstance(expr, Param):
        if expr.index < len(st.param_types):
            if st.param_types[expr.index] is None:
                st.param_types[expr.index] = target.base
            known = Param(st.param_types[expr.index] or target.base, expr.index)
        else:
            known = Param(target.base, expr.index)
        return coerce(st, known, target, context, position=position)
    if isinstance(expr, Const) and expr.value is None:
        return Const(target, None)
    if isinstance(expr, Untyped) and target.typmod >= 0 and target.oid != INTERVAL.oid:
        # the modifier is applied by a second cast: its error has no position
        return coerce(st, coerce(st, expr, target.base, context), target, context, position=position)
    return None


def apply_cast(expr: Bound, target: SqlType, cast: Cast) -> Bound:
    """A cast as a call; evaluated now when it is of a constant and needs nothing."""
    if cast.fn is None:
        return retype(expr, target)
    fn = cast.fn
    if isinstance(expr, Untyped):
        fn = _located(fn, expr.position)
    if isinstance(expr, Const) and cast.needs is None and cast.volatility == "i":
        try:
            return Const(target, None if expr.value is None else fn(expr.value))
        except TxndbError:
            if isinstance(expr, Untyped):
                raise
    return Call(
        target,
        f"cast {expr.type.oid} {target.oid}",
        (expr,),
        fn,
        cast.source,
        True,
        cast.volatility,
        cast.needs,
        False,
        True,
    )


def _located(fn: Callable[..., Any], position: int) -> Callable[..., Any]:
    """The function, whose errors have a position."""

    def read(*values: Any) -> Any:
        try:
            return fn(*values)
        except TxndbError as error:
            error.position = error.position or position
            raise

    return read


def _same(value: object) -> object:
    return value


def retype(expr: Bound, target: SqlType) -> Bound:
    """The same value under another type."""
    if isinstance(expr, Const):
        return Const(target, expr.value)
    if expr.type.oid == target.oid and target.typmod < 0 and not isinstance(expr, Param):
        return expr
    return Call(target, f"relabel {target.oid}", (expr,), _same, "{0}", True, "i", None, False, True)


def common_type(types: Sequence[SqlType], what: str, *, position: int = 0) -> SqlType:
    """The type that several expressions meet in."""
    try:
        return resolve.common_type(types, what)
    except TxndbError as error:
        error.position = error.position or position
        raise


def unify(st: Statement, exprs: list[Bound], what: str, *, positions: Sequence[int] = ()) -> list[Bound]:
    """All expressions as their common type. `positions` are theirs: an error names the first that does not fit."""
    types = [e.type for e in exprs]
    target = TEXT
    if any(t.oid != UNKNOWN.oid for t in types):
        try:
            target = resolve.common_type(types, what)
        except TxndbError as error:
            error.position = error.position or _misfit(types, what, positions)
            raise
    return [coerce(st, e, target, "i") for e in exprs]


def _misfit(types: Sequence[SqlType], what: str, positions: Sequence[int]) -> int:
    for count, position in enumerate(positions, 1):
        try:
            resolve.common_type(types[:count], what)
        except TxndbError:
            return position
    return 0


def resolve_type_name(st: Statement, name: ast.TypeName) -> SqlType:
    """The type a statement spells; 42704 when there is none."""
    modifiers = [m.value for m in name.modifiers if isinstance(m, ast.Literal) and isinstance(m.value, int)]
    if len(modifiers) != len(name.modifiers):
        raise sql_error("42601", "type modifiers must be simple constants or identifiers", position=name.pos)
    if len(name.parts) > 1 and name.parts[0] == "public":
        raise sql_error("42704", f'type "{".".join(name.parts)}" does not exist', position=name.pos)
    if len(name.parts) > 1 and name.parts[0] != "pg_catalog":
        raise sql_error("3F000", f'schema "{name.parts[0]}" does not exist', position=name.pos)
    try:
        # ("bpchar" is the parser's name for CHAR, which has a length; "char" in quotes is the one-byte type)
        found = lookup_type(name.name, modifiers, quoted=True)
    except TxndbError as error:
        error.position = error.position or name.pos
        raise
    return array_of(found.base).with_typmod(found.typmod) if name.array_dims else found
