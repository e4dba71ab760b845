"""Scalar functions: the resolver, and what a resolved function tells the compiler.

`resolve_function(name, arg_types)` finds the overload PostgreSQL would call; 42883 and 42725 as there. `strict`: any
NULL argument gives NULL without a call. `needs` (txn_time, clock, rand, session): the EvalContext is the first
argument. `source`: a Python template over {0}, {1}, … in the names of RUNTIME. Special forms (COALESCE, NULLIF, CASE,
GREATEST, LEAST) are the binder's.
A catalogue adds its own functions by passing `more`, rows by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from txndb.errors import sql_error
from txndb.sql.types.arrays import identity
from txndb.sql.types.casts import find_cast
from txndb.sql.types.core import SqlType, all_types, format_type
from txndb.sql.types.functiontable import FUNCTIONS, FunctionRow
from txndb.sql.types.resolve import AmbiguousError, bind_polymorphic, choose, concrete


class Function(msgspec.Struct, frozen=True):
    """A resolved function. `arg_types` are what the arguments, variadic ones included, must be coerced to."""

    name: str
    result: SqlType
    arg_types: tuple[SqlType, ...]
    fn: Callable[..., Any]
    source: str | None = None
    strict: bool = True
    volatility: str = "i"
    needs: str | None = None


Rows = Mapping[str, Sequence[FunctionRow]]
_NO_ROWS: Final[Rows] = {}


@lru_cache(maxsize=4096)
def _resolve_builtin(name: str, arg_types: tuple[SqlType, ...]) -> Function:
    return _resolve(name, arg_types, FUNCTIONS.get(name, ()))


def resolve_function(name: str, arg_types: Sequence[SqlType], more: Rows = _NO_ROWS) -> Function:
    """The function a call means. `more` are functions of the caller's, searched along with the built-in ones."""
    extra = more.get(name)
    if not extra:
        return _resolve_builtin(name, tuple(arg_types))
    return _resolve(name, tuple(arg_types), (*FUNCTIONS.get(name, ()), *extra))


def function_exists(name: str) -> bool:
    """Whether any built-in scalar function has this name."""
    return name in FUNCTIONS


def _expanded(row: FunctionRow, count: int) -> FunctionRow | None:
    """A row with its variadic argument repeated to `count` arguments."""
    if row.variadic is None:
        return row if len(row.args) == count else None
    if count < len(row.args) + row.variadic_least:
        return None
    return msgspec.structs.replace(row, args=row.args + (row.variadic,) * (count - len(row.args)))


def _resolve(name: str, actual: tuple[SqlType, ...], rows: Sequence[FunctionRow]) -> Function:
    candidates = [row for row in (_expanded(r, len(actual)) for r in rows) if row is not None]
    oids = tuple(t.oid for t in actual)
    row = next((c for c in candidates if c.args == oids), None)
    if row is None:
        converted = _type_function(name, actual)
        if converted is not None:
            return converted
        try:
            row = choose(candidates, oids)
        except AmbiguousError:
            raise not_unique(name, actual) from None
    if row is None:
        raise missing(name, actual)
    element = bind_polymorphic(row.args, actual)
    arg_types = tuple(concrete(oid, element, have) for oid, have in zip(row.args, actual, strict=True))
    fn, source, needs, volatility = row.fn, row.source, row.needs, row.volatility
    if row.build is not None:
        fn, needs_built = row.build(arg_types)
        source, needs = None, needs_built or needs
    if needs == "session" and volatility == "i":
        volatility = "s"
    result = concrete(row.result, element)
    return Function(name, result, arg_types, fn, source, row.strict, volatility, needs)


def _type_function(name: str, actual: tuple[SqlType, ...]) -> Function | None:
    """`int4(x)`, `text(x)`, `date('…')`: a call of one argument by a type's name is a cast, where it is trivial
    or goes through text."""
    target = _TYPE_NAMES.get(name)
    if target is None or len(actual) != 1:
        return None
    cast = find_cast(actual[0], target, "explicit")
    if cast is None:
        return None
    fn = cast.fn or identity
    source = cast.source if cast.fn is not None else "{0}"
    return Function(name, target, (actual[0],), fn, source, True, cast.volatility, cast.needs)


def _type_names() -> dict[str, SqlType]:
    return {t.name: t for t in all_types() if t.category not in "PXA" and t.name not in ("interval",)}


_TYPE_NAMES: Final = _type_names()


def signature(name: str, arg_types: Sequence[SqlType]) -> str:
    """name(type, …) as error messages spell it."""
    return f"{name}({', '.join(format_type(t.oid) for t in arg_types)})"


def missing(name: str, arg_types: Sequence[SqlType]) -> Exception:
    """42883 for a function call."""
    hint = "No function matches the given name and argument types. You might need to add explicit type casts."
    return sql_error("42883", f"function {signature(name, arg_types)} does not exist", hint=hint)


def not_unique(name: str, arg_types: Sequence[SqlType]) -> Exception:
    """42725 for a function call."""
    hint = "Could not choose a best candidate function. You might need to add explicit type casts."
    return sql_error("42725", f"function {signature(name, arg_types)} is not unique", hint=hint)
