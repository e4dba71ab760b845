"""The case language of the tables in this directory: one line is one expression and PostgreSQL's answer.

    op + ; int4 '1' ; int4 '2' -> integer: 3
    fn round ; numeric '2.5' -> numeric: 3
    cast varchar(3) ; text 'abcd' -> character varying: abc
    agg sum ; int4 '1' '2' NULL -> bigint: 3

Arguments are parted by ` ; `; each is a type and a literal, `unknown` is an untyped literal, NULL is NULL. A prefix
operator has one argument; ␤ is a newline. An aggregate's argument has one literal a row. The answer is the result's
type and text (`NULL` for NULL), or `error SQLSTATE: message`.

`evaluate` computes a line's answer with txndb, `Case.sql` is the same expression for PostgreSQL. Where
PostgreSQL 15 is installed the tests ask it for every answer; TXNDB_REWRITE_GOLDEN=1 rewrites the tables from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from txndb.errors import SqlError
from txndb.sql.types import (
    RUNTIME,
    EvalContext,
    SqlType,
    cannot_cast,
    find_cast,
    format_text,
    format_type,
    lookup_type,
    parse_text,
    resolve_aggregate,
    resolve_function,
    resolve_operator,
)
from txndb.sql.types.core import UNKNOWN
from txndb.sql.types.zones import zone_by_name

NOW_US = 757_382_400_000_000
"""2024-01-01 00:00 UTC."""

_LITERAL = re.compile(r"NULL|'((?:[^']|'')*)'")


class Argument(NamedTuple):
    type_name: str
    literals: tuple[str | None, ...]


class Case(NamedTuple):
    kind: str
    name: str
    arguments: tuple[Argument, ...]

    @property
    def sql(self) -> str:
        texts = [_sql_literal(argument.type_name, argument.literals[0]) for argument in self.arguments]
        if self.kind == "cast":
            return f"select cast({texts[0]} as {self.name})"
        if self.kind == "fn":
            return f"select {self.name}({', '.join(texts)})" if texts else f"select {self.name}()"
        if self.kind == "op":
            return (
                f"select {self.name} {texts[0]}"
                if len(texts) == 1
                else f"select {texts[0]} {self.name} {texts[1]}"
            )
        rows = [
            "(" + ", ".join(_sql_literal(a.type_name, a.literals[n]) for a in self.arguments) + ")"
            for n in range(len(self.arguments[0].literals))
        ]
        names = ", ".join(f"c{n}" for n in range(len(self.arguments)))
        return f"select {self.name}({names}) from (values {', '.join(rows)}) t({names})"


def _sql_literal(type_name: str, literal: str | None) -> str:
    text = "NULL" if literal is None else "'" + literal.replace("'", "''") + "'"
    return text if type_name == "unknown" else f"cast({text} as {type_name})"


def parse_case(line: str) -> Case:
    """The expression of a line, without its answer."""
    head, *parts = line.split(" ; ")
    kind, _, name = head.strip().partition(" ")
    return Case(kind, name.strip(), tuple(_argument(part) for part in parts))


def _argument(text: str) -> Argument:
    first = _LITERAL.search(text)
    assert first is not None, text
    literals = tuple(
        None if found[0] == "NULL" else found[1].replace("''", "'").replace("␤", "\n")
        for found in _LITERAL.finditer(text)
    )
    return Argument(text[: first.start()].strip(), literals)


def context(zone: str = "UTC") -> EvalContext:
    """A session in a zone, with a fixed clock and fixed chance."""
    return EvalContext(
        zone=zone_by_name(zone),
        txn_time_us=NOW_US,
        clock_us=lambda: NOW_US,
        random=lambda: 0.5,
        random_bytes=lambda count: bytes(range(count)),
    )


def evaluate(case: Case, zone: str = "UTC") -> str:
    """The answer of txndb in the table's form."""
    ctx = context(zone)
    try:
        result, value = _compute(case, ctx)
        text = "NULL" if value is None else format_text(result, value, ctx)
        return f"{format_type(result.oid)}: {text}"
    except SqlError as error:
        return f"error {error.code}: {error.message}"


def _typed(argument: Argument, ctx: EvalContext) -> tuple[SqlType, list[Any]]:
    if argument.type_name == "unknown":
        return UNKNOWN, list(argument.literals)
    quoted = argument.type_name.startswith('"')
    sql_type = lookup_named(argument.type_name, quoted)
    values = []
    for text in argument.literals:
        value = None if text is None else parse_text(sql_type.base, text, ctx)
        values.append(coerce(sql_type.base, sql_type, value, ctx, "explicit"))
    return sql_type, values


def lookup_named(text: str, quoted: bool = False) -> SqlType:
    """A type by a name with modifiers in parentheses: numeric(10,2)."""
    found = re.fullmatch(r"([^(]*?)(?:\(([0-9, -]+)\))?((?:\[\])*)", text.strip('"'))
    assert found is not None, text
    modifiers = [int(number) for number in found[2].split(",")] if found[2] else []
    return lookup_type(found[1].strip() + found[3], modifiers, quoted=quoted)


def coerce(source: SqlType, target: SqlType, value: Any, ctx: EvalContext, how: Any) -> Any:
    """A value converted as the binder would have it done."""
    cast = find_cast(source, target, how)
    if cast is None:
        raise cannot_cast(source, target)
    if cast.fn is None or value is None:
        return value
    result = cast.fn(ctx, value) if cast.needs else cast.fn(value)
    if cast.source is not None:
        assert repr(from_source(cast.source, [value], ctx)) == repr(result)
    return result


def _compute(case: Case, ctx: EvalContext) -> tuple[SqlType, Any]:
    typed = [_typed(argument, ctx) for argument in case.arguments]
    types = [sql_type for sql_type, _ in typed]
    if case.kind == "cast":
        target = lookup_named(case.name, case.name.startswith('"'))
        return target, coerce(types[0], target, typed[0][1][0], ctx, "explicit")
    if case.kind == "agg":
        return _aggregate(case.name, types, [values for _, values in typed], ctx)
    values = [values[0] for _, values in typed]
    if case.kind == "op":
        operator = resolve_operator(case.name, types[0] if len(types) == 2 else None, types[-1])
        return operator.result, _call(operator, types, values, ctx)
    function = resolve_function(case.name, types)
    return function.result, _call(function, types, values, ctx)


def _call(resolved: Any, types: list[SqlType], values: list[Any], ctx: EvalContext) -> Any:
    values = [
        coerce(have, want, value, ctx, "implicit")
        for have, want, value in zip(types, resolved.arg_types, values, strict=True)
    ]
    if resolved.strict and any(value is None for value in values):
        return None
    expected = outcome(lambda: resolved.fn(ctx, *values) if resolved.needs else resolved.fn(*values))
    if resolved.source is not None:
        compiled = outcome(lambda: from_source(resolved.source, values, ctx))
        assert repr(compiled) == repr(expected), (resolved.source, values)
    if isinstance(expected, SqlError):
        raise expected
    return expected


def outcome(compute: Callable[[], Any]) -> Any:
    """What a computation gives, its SQL error included."""
    try:
        return compute()
    except SqlError as error:
        return error


def from_source(source: str, values: list[Any], ctx: EvalContext) -> Any:
    """A template's value, compiled as a plan would."""
    names = [f"v{n}" for n in range(len(values))]
    namespace: dict[str, Any] = {}
    code = f"def run(ctx, {', '.join(names)}):\n    return {source.format(*names)}\n"
    exec(code, dict(RUNTIME), namespace)
    return namespace["run"](ctx, *values)


def _aggregate(
    name: str, types: list[SqlType], columns: list[list[Any]], ctx: EvalContext
) -> tuple[SqlType, Any]:
    aggregate = resolve_aggregate(name, types)
    rows = []
    for row in zip(*columns, strict=True):
        converted = [
            coerce(have, want, value, ctx, "implicit")
            for have, want, value in zip(types, aggregate.arg_types, row, strict=True)
        ]
        if not (aggregate.strict and any(value is None for value in converted)):
            rows.append(converted)
    whole = aggregate.final(_folded(aggregate, rows))
    if aggregate.combine is not None and aggregate.result.kind != "float":
        middle = len(rows) // 2
        halves = aggregate.combine(_folded(aggregate, rows[:middle]), _folded(aggregate, rows[middle:]))
        assert aggregate.final(halves) == whole or whole != whole
    return aggregate.result, whole


def _folded(aggregate: Any, rows: list[list[Any]]) -> Any:
    state = aggregate.init()
    for row in rows:
        state = aggregate.step(state, *row)
    return state
