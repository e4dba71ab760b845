"""Filters that run where the rows are: a scan's `program` bytes, and their compilation at the leaseholder.

A program is msgspec-encoded: the row's kinds and missing-values, the conditions as nested arrays with columns by slot,
and the parameters' values. Only immutable operators and casts that need no session are expressed; whatever else a scan
has to check stays at the gateway (then there is no program at all, so that LIMIT stays right).

Invariants:
1. A program is deterministic: equal bytes give equal answers on every node.
2. An error raised by a condition is the SQL error of the statement, as if it had been evaluated at the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from txndb.encoding.rows import row_codec
from txndb.errors import InternalError
from txndb.sql import types
from txndb.sql.exec.codegen import Codegen, row_tuple
from txndb.sql.exec.table import IndexCodec, TableCodec
from txndb.sql.plan.expr import And, Bound, Call, Col, Const, InList, IsTest, Not, Or, Param
from txndb.sql.types.core import BOOL, type_by_oid
from txndb.txn.api import Predicate

SHAPES_KEPT: Final = 512
PROGRAMS_KEPT: Final = 512

_PLAIN_KINDS: Final = ("int", "bool", "str", "bytes", "uuid", "decimal", "float")
_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode = msgspec.msgpack.Decoder().decode


class NotExpressible(Exception):
    """The filter cannot run away from the gateway."""


def make_program(
    table: TableCodec,
    index: IndexCodec,
    layout: dict[int, int],
    filters: Sequence[Bound],
    gen: Codegen,
) -> Callable[[Sequence[Any], Any], bytes] | None:
    """`(p, ctx) -> program` for the filters over the index's entries, or None if they cannot be expressed."""
    values: list[Bound] = []
    try:
        conditions = [_write(f, layout, values) for f in filters]
    except NotExpressible:
        return None
    if index.primary:
        kinds, missing = table.kinds, [_plain(v) for v in table.missing]
    else:
        kinds, missing = tuple(table.kinds[p] for p in index.stored), []
    shape = _encode([kinds, missing, conditions])
    parameters = row_tuple(gen, values)
    value_kinds = [v.type.kind for v in values]
    forms = any(v.type.has_forms for v in values)
    cache: dict[Any, bytes] = {}

    def program(p: Sequence[Any], ctx: Any) -> bytes:
        given = parameters((), p, ctx)
        key = repr(given) if forms else given
        found = cache.get(key)
        if found is None:
            found = _encode([shape, value_kinds, [_plain(v) for v in given]])
            if len(cache) >= PROGRAMS_KEPT:
                cache.clear()
            cache[key] = found
        return found

    return program


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value


def _unplain(value: Any, kind: str) -> Any:
    return Decimal(value) if kind == "decimal" and value is not None else value


def _is_free(expr: Bound) -> bool:
    """No column in it: its value is computed once, at the gateway."""
    if isinstance(expr, Col):
        return False
    if isinstance(expr, Call) and expr.volatility == "v":
        raise NotExpressible
    return all([_is_free(c) for c in expr.children()])


def _write(expr: Bound, layout: dict[int, int], values: list[Bound]) -> Any:
    if isinstance(expr, Const | Param) or (isinstance(expr, Call) and expr.cast and _is_free(expr)):
        if expr.type.kind not in _PLAIN_KINDS:
            raise NotExpressible
        values.append(expr)
        return ["p", len(values) - 1, expr.type.oid, expr.type.typmod]
    match expr:
        case Col():
            return ["c", layout[expr.id], expr.type.oid, expr.type.typmod]
        case And():
            return ["and", *(_write(a, layout, values) for a in expr.args)]
        case Or():
            return ["or", *(_write(a, layout, values) for a in expr.args)]
        case Not():
            return ["not", _write(expr.arg, layout, values)]
        case IsTest():
            return ["is", expr.test, expr.negated, _write(expr.arg, layout, values)]
        case InList() if all(_is_free(i) for i in expr.items):
            return ["in", *(_write(a, layout, values) for a in (expr.arg, *expr.items))]
        case Call(needs=None, volatility="i", strict=True):
            return _write_call(expr, layout, values)
    raise NotExpressible


def _write_call(expr: Call, layout: dict[int, int], values: list[Bound]) -> Any:
    args = [_write(a, layout, values) for a in expr.args]
    if expr.cast:
        if expr.type.typmod >= 0 and expr.type.oid == expr.args[0].type.oid:
            raise NotExpressible
        return ["cast", expr.type.oid, expr.type.typmod, *args]
    if expr.operator:
        arg_types = [a.type for a in expr.args]
        left, right = (None, arg_types[0]) if len(arg_types) == 1 else (arg_types[0], arg_types[1])
        if types.resolve_operator(expr.name, left, right).fn is not expr.fn:
            raise NotExpressible
        return ["op", expr.name, *args]
    raise NotExpressible


def _read(node: list[Any]) -> Bound:
    match node:
        case ["p", int(index), int(oid), int(typmod)]:
            return Param(type_by_oid(oid).with_typmod(typmod), index)
        case ["c", int(slot), int(oid), int(typmod)]:
            return Col(type_by_oid(oid).with_typmod(typmod), slot)
        case ["and", *args]:
            return And(BOOL, tuple(_read(a) for a in args))
        case ["or", *args]:
            return Or(BOOL, tuple(_read(a) for a in args))
        case ["not", arg]:
            return Not(BOOL, _read(arg))
        case ["is", str(test), bool(negated), arg]:
            return IsTest(BOOL, _read(arg), test, negated)
        case ["in", arg, *items]:
            return InList(BOOL, _read(arg), tuple(_read(i) for i in items))
        case ["op", str(name), *args]:
            return _read_operator(name, [_read(a) for a in args])
        case ["cast", int(oid), int(typmod), arg]:
            return _read_cast(_read(arg), oid, typmod)
    raise InternalError(f"unknown filter node {node!r}")


def _read_operator(name: str, args: list[Bound]) -> Bound:
    left, right = (None, args[0].type) if len(args) == 1 else (args[0].type, args[1].type)
    found = types.resolve_operator(name, left, right)
    return Call(
        found.result, name, tuple(args), found.fn, found.source, found.strict, "i", found.needs, operator=True
    )


def _read_cast(arg: Bound, oid: int, typmod: int) -> Bound:
    target = type_by_oid(oid).with_typmod(typmod)
    found = types.find_cast(arg.type, target, "explicit")
    if found is None:
        raise InternalError(f"no cast from {arg.type} to {target}")
    if found.fn is None:
        return Call(target, "relabel", (arg,), lambda v: v, "{0}", cast=True)
    return Call(target, "cast", (arg,), found.fn, found.source, True, "i", found.needs, cast=True)


class ProgramCompiler:
    """Compiles programs; keeps generated code by shape and bound predicates by program."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, Callable[[Sequence[Any]], Predicate]] = {}
        self._programs: dict[bytes, Predicate] = {}

    def __call__(self, program: bytes) -> Predicate:
        found = self._programs.get(program)
        if found is None:
            shape, kinds, values = _decode(program)
            make = self._shapes.get(shape)
            if make is None:
                make = _compile_shape(shape)
                if len(self._shapes) >= SHAPES_KEPT:
                    self._shapes.clear()
                self._shapes[shape] = make
            found = make([_unplain(v, k) for v, k in zip(values, kinds, strict=True)])
            if len(self._programs) >= PROGRAMS_KEPT:
                self._programs.clear()
            self._programs[program] = found
        return found


def _compile_shape(shape: bytes) -> Callable[[Sequence[Any]], Predicate]:
    kinds, missing, nodes = _decode(shape)
    _, decode = row_codec(kinds, [_unplain(v, k) for v, k in zip(missing, kinds, strict=False)])
    conditions = [_read(n) for n in nodes]
    gen = Codegen({slot: slot for slot in range(len(kinds))}, 1 << 16)
    source = gen.condition(conditions)
    lines = ["def make(p):", *(f"    {line}" for line in gen.preamble)]
    lines += [
        "    def test(data):",
        "        r = decode(data)",
        f"        return {source}",
        "    return test",
    ]
    gen.namespace["decode"] = decode
    gen.namespace["ctx"] = types.DEFAULT_CONTEXT
    exec(compile("\n".join(lines), "<filter>", "exec"), gen.namespace)
    made: Callable[[Sequence[Any]], Predicate] = gen.namespace["make"]
    return made


def program_compiler() -> ProgramCompiler:
    """The `ProgramCompiler` a node injects into its ranges; one per node."""
    return ProgramCompiler()
