"""Operators, functions and aggregates as bound expressions: the planner's door to `txndb.sql.types`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from txndb.errors import FeatureNotSupportedError, sql_error
from txndb.sql import types
from txndb.sql.parse import ast
from txndb.sql.plan.coerce import coerce, common_type, type_display
from txndb.sql.plan.expr import Aggregate, Bound, Call, Const, InList, Untyped
from txndb.sql.plan.scope import Statement
from txndb.sql.types.core import (
    BOOL,
    INT4,
    INT8,
    NAME,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    SqlType,
    element_of,
    type_by_oid,
)

INT4_MAX: Final = 2**31 - 1


def source_namespace() -> Mapping[str, Any]:
    """The names that `source` templates refer to."""
    return types.RUNTIME


def literal(node: ast.Literal) -> Bound:
    """A constant; integers are of the first of int4 and int8 they fit in, as in PostgreSQL."""
    value = node.value
    match node.kind:
        case "integer":
            assert isinstance(value, int)
            return Const(INT4 if -INT4_MAX - 1 <= value <= INT4_MAX else INT8, value)
        case "numeric":
            return Const(NUMERIC, value)
        case "boolean":
            return Const(BOOL, value)
        case "string":
            return Untyped(UNKNOWN, value, node.pos)
        case "null":
            return Const(UNKNOWN, None)
    raise FeatureNotSupportedError("bit string literals are not supported", position=node.pos)


def negative_literal(node: ast.Literal) -> Bound | None:
    """`-literal` as a constant, so that the smallest integers can be written."""
    if node.kind == "integer":
        assert isinstance(node.value, int)
        value = -node.value
        return Const(INT4 if -INT4_MAX - 1 <= value <= INT4_MAX else INT8, value)
    if node.kind == "numeric":
        assert isinstance(node.value, Decimal)
        if node.value == 2**63:
            return Const(INT8, -(2**63))
        return Const(NUMERIC, -node.value)
    return None


def make_operator(st: Statement, name: str, left: Bound | None, right: Bound) -> Bound:
    """The operator's call with its arguments coerced."""
    found = types.resolve_operator(name, left.type if left is not None else None, right.type)
    args = (right,) if left is None else (left, right)
    coerced = tuple(
        coerce(st, a, t, "i") if a.type.oid != t.oid else a
        for a, t in zip(args, found.arg_types, strict=True)
    )
    return Call(
        found.result,
        found.name,
        coerced,
        found.fn,
        found.source,
        found.strict,
        found.volatility,
        found.needs,
        True,
    )


def binary_callable(st: Statement, call: Call) -> Callable[[Any, Any], Any]:
    """The operator as a function of two values of the operands' types (casts of the operands included)."""
    if call.needs is not None:
        raise FeatureNotSupportedError(f"operator {call.name} is not supported here")
    fn = call.fn
    casts = []
    for arg in call.args:
        casts.append(arg.fn if isinstance(arg, Call) and arg.cast and arg.needs is None else None)
    left, right = casts
    if left is None and right is None:
        return fn

    def compare(a: Any, b: Any) -> Any:
        return fn(left(a) if left is not None else a, right(b) if right is not None else b)

    return compare


def plain_equality(type_: SqlType) -> bool:
    """Whether values of the type are equal exactly when they are equal (and hashable) in Python."""
    return type_.kind in ("bool", "int", "str", "bytes", "uuid", "decimal", "float") and type_.oid != 1042


def in_list(st: Statement, arg: Bound, items: list[Bound]) -> Bound | None:
    """`arg IN (items)` as a hashed test, if all meet in one type with plain equality; else None."""
    if arg.type.oid == UNKNOWN.oid and all(i.type.oid == UNKNOWN.oid for i in items):
        target = TEXT
    else:
        target = common_type([arg.type, *(i.type for i in items)], "IN")
    make_operator(st, "=", Const(target, None), Const(target, None))
    if not plain_equality(target):
        return None
    target = target.base
    return InList(BOOL, coerce(st, arg, target, "i"), tuple(coerce(st, i, target, "i") for i in items))


# --- functions


def make_function(st: Statement, name: str, args: list[Bound], schema: tuple[str, ...]) -> Bound:
    """The function's call with its arguments coerced."""
    if schema and schema[-1] not in ("pg_catalog", "public", "information_schema"):
        raise sql_error("3F000", f'schema "{schema[-1]}" does not exist')
    found = st.virtual.find_function(name, len(args))
    if found is not None:
        if found.columns:
            raise FeatureNotSupportedError(f"{name}() returns a set, which is supported in FROM only")
        return _catalog_call(st, name, args, found)
    resolved = types.resolve_function(name, [a.type for a in args])
    coerced = tuple(
        coerce(st, a, t, "i") if a.type.oid != t.oid else a
        for a, t in zip(args, resolved.arg_types, strict=True)
    )
    return Call(
        resolved.result,
        name,
        coerced,
        resolved.fn,
        resolved.source,
        resolved.strict,
        resolved.volatility[0],
        resolved.needs,
    )


def _catalog_call(st: Statement, name: str, args: list[Bound], found: Any) -> Bound:
    fn = found.fn

    def with_session(context: Any, *values: Any) -> Any:
        return fn(context.session, *values)

    coerced = []
    for arg, oid in zip(args, found.arg_oids, strict=True):
        target = type_by_oid(oid)
        if target.category == "P":
            coerced.append(coerce(st, arg, TEXT, "i") if arg.type.oid == UNKNOWN.oid else arg)
        else:
            coerced.append(coerce(st, arg, target, "a"))
    result = type_by_oid(found.result_oid)
    volatility = "v" if name in ("nextval", "setval", "set_config") else "s"
    called = fn if found.with_env else with_session
    return Call(result, name, tuple(coerced), called, None, found.strict, volatility, "session")


def value_function(st: Statement, node: ast.SqlValueFunction) -> Bound:
    """`current_timestamp` and its kin."""
    name = node.name
    if name in ("current_user", "user", "session_user", "current_role", "system_user"):
        return Const(NAME, st.info.user)
    if name == "current_catalog":
        return Const(NAME, st.info.database)
    if name == "current_schema":
        return make_function(st, "current_schema", [], ())
    call = make_function(st, {"current_timestamp": "now"}.get(name, name), [], ())
    if node.precision is not None and call.type.oid in (TIMESTAMP.oid, TIMESTAMPTZ.oid):
        return coerce(st, call, call.type.with_typmod(min(node.precision, 6)), "e")
    return call


# --- aggregates


def is_aggregate(name: str) -> bool:
    """Whether an aggregate of that name exists."""
    return types.is_aggregate(name)


def make_aggregate(
    st: Statement,
    node: ast.FunctionCall,
    args: list[Bound],
    condition: Bound | None,
    order: tuple[tuple[Bound, bool, bool], ...],
) -> Bound:
    """An aggregate call."""
    name = node.name[-1]
    if not args and not node.star:
        raise sql_error(
            "42809", f"{name}(*) must be used to call a parameterless aggregate function", position=node.pos
        )
    found = types.resolve_aggregate(name, [a.type for a in args])
    coerced = tuple(
        coerce(st, a, t, "i") if a.type.oid != t.oid else a
        for a, t in zip(args, found.arg_types, strict=True)
    )
    return Aggregate(found.result, name, coerced, found, node.distinct, condition, order)


# --- functions in FROM

SET_RETURNING: Final = frozenset(("generate_series", "unnest", "generate_subscripts"))
CATALOG_ROWS: Final = "catalog rows"
"""The executor's name for a set-returning catalogue function: its one argument is the list of rows."""


def is_set_returning(st: Statement, name: str, count: int) -> bool:
    """Whether a call returns a set."""
    found = st.virtual.find_function(name, count)
    return name in SET_RETURNING if found is None else bool(found.columns)


def is_set_of_values(st: Statement, name: str, count: int) -> bool:
    """Whether a call returns a set of rows of one column."""
    found = st.virtual.find_function(name, count)
    return name in SET_RETURNING if found is None else len(found.columns) == 1


def catalog_rows(
    st: Statement, name: str, args: list[Bound]
) -> tuple[tuple[Bound, ...], list[tuple[SqlType, str]]] | None:
    """The argument and result columns of a set-returning catalogue function; None when it is another function."""
    found = st.virtual.find_function(name, len(args))
    if found is None or not found.columns:
        return None
    return (_catalog_call(st, name, args, found),), [(type_by_oid(c.type_oid), c.name) for c in found.columns]


def lockstep_calls(call: ast.FunctionCall, beside: tuple[ast.FunctionCall, ...]) -> list[ast.FunctionCall]:
    """The functions of a FROM item; `unnest(a, b)` is two."""
    if call.name[-1] == "unnest" and len(call.args) > 1:
        return [msgspec.structs.replace(call, args=(arg,)) for arg in call.args]
    return [call, *beside]


Results = list[tuple[SqlType, str]]


def bind_set(
    st: Statement, call: ast.FunctionCall, given: list[Bound], position: int
) -> tuple[str, tuple[Bound, ...], Results]:
    """A set-returning function: the executor's name for it, its arguments and result columns."""
    name = call.name[-1]
    rows = catalog_rows(st, name, given)
    if rows is not None:
        return CATALOG_ROWS, *rows
    return name, *set_returning(st, name, given, position)


def set_returning(
    st: Statement, name: str, args: list[Bound], position: int
) -> tuple[tuple[Bound, ...], list[tuple[SqlType, str]]]:
    """A set-returning function's coerced arguments and result columns."""
    if name == "unnest" and len(args) == 1:
        element = element_of(args[0].type)
        if element is None:
            raise sql_error(
                "42883", f"function unnest({type_display(args[0].type)}) does not exist", position=position
            )
        return tuple(args), [(element, "unnest")]
    if name == "generate_subscripts" and len(args) in (2, 3):
        target = [args[0], *(coerce(st, a, INT4, "i") for a in args[1:])]
        return tuple(target), [(INT4, name)]
    if name == "generate_series" and len(args) in (2, 3):
        if args[0].type.category == "D" or (len(args) == 3 and args[2].type.oid == 1186):
            stamp = TIMESTAMPTZ if any(a.type.oid == 1184 for a in args[:2]) else TIMESTAMP
            bounds = [coerce(st, a, stamp, "i") for a in args[:2]]
            step = coerce(st, args[2], type_by_oid(1186), "i") if len(args) == 3 else None
            return tuple([*bounds, *([step] if step is not None else [])]), [(stamp, name)]
        target_type = common_type([a.type for a in args], name)
        if target_type.oid not in (20, 23, 1700):
            target_type = INT4 if target_type.oid in (21, 25) else target_type
        if target_type.oid in (20, 23, 1700):
            return tuple(coerce(st, a, target_type, "i") for a in args), [(target_type, name)]
    names = ", ".join(type_display(a.type) for a in args)
    raise sql_error("42883", f"function {name}({names}) does not exist", position=position)
