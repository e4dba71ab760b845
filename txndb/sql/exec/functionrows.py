"""Set-returning functions in FROM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

from txndb.errors import sql_error
from txndb.sql import types
from txndb.sql.exec.codegen import Row
from txndb.sql.plan.functions import CATALOG_ROWS
from txndb.sql.types.core import INTERVAL, TIMESTAMP, SqlType, lookup_type

Maker = Callable[[Any, Sequence[Any], Any], list[Row]]


def function_rows(
    parts: Sequence[tuple[str, int]],
    args: Callable[[Any, Sequence[Any], Any], Row],
    arg_types: list[SqlType],
    ordinality: bool,
) -> Maker:
    """`(_, p, ctx) -> rows` of the functions, (name, number of arguments) each; a NULL argument gives none."""

    def rows_of(name: str, values: Row, types_: list[SqlType], ctx: Any) -> list[Row]:
        if None in values:
            return []
        return values[0] if name == CATALOG_ROWS else [(v,) for v in _values(name, values, types_, ctx)]

    def make(_: Any, p: Sequence[Any], ctx: Any) -> list[Row]:
        values = args((), p, ctx)
        made: list[list[Row]] = []
        at = 0
        for name, count in parts:
            made.append(rows_of(name, values[at : at + count], arg_types[at : at + count], ctx))
            at += count
        rows = made[0] if len(made) == 1 else _in_lockstep(made)
        return [(*r, i) for i, r in enumerate(rows, 1)] if ordinality else rows

    return make


def _in_lockstep(made: list[list[Row]]) -> list[Row]:
    """Rows side by side; each function gives one column here."""
    return [tuple(r[0] for r in row) for row in zip_longest(*made, fillvalue=(None,))]


def _values(name: str, values: Row, arg_types: list[SqlType], ctx: Any) -> Iterator[Any]:
    if name == "unnest":
        yield from _flatten(values[0])
    elif name == "generate_subscripts":
        first = 0 if arg_types[0].oid in (22, 30) else 1
        yield from range(first, first + len(values[0])) if values[1] == 1 else ()
    elif len(values) == 3 and arg_types[2].oid == INTERVAL.oid:
        yield from _stamps(values, arg_types, ctx)
    else:
        yield from _series(values)


def _flatten(items: list[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, list):
            yield from _flatten(item)
        else:
            yield item


def _series(values: Row) -> Iterator[Any]:
    current, stop = values[0], values[1]
    step = values[2] if len(values) > 2 else 1
    if step == 0:
        raise sql_error("22023", "step size cannot equal zero")
    while current <= stop if step > 0 else current >= stop:
        yield current
        current += step


def _stamps(values: Row, arg_types: list[SqlType], ctx: Any) -> Iterator[int]:
    current, stop, step = values
    add = types.resolve_operator("+", arg_types[0], lookup_type("interval"))
    zero = TIMESTAMP
    plain = types.resolve_operator("+", zero, lookup_type("interval"))
    forward = plain.fn(0, step)
    if forward == 0:
        raise sql_error("22023", "step size cannot equal zero")
    while current <= stop if forward > 0 else current >= stop:
        yield current
        current = add.fn(ctx, current, step) if add.needs else add.fn(current, step)
