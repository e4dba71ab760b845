"""Bound expressions compiled to Python source: once per plan, never interpreted per row.

A generated function handles a batch: `[(…) for r in rows if …]`, with parameters read into locals first. NULL is None;
a strict call tests its nullable arguments inline. A condition has two forms besides its value: an expression that is
truthy exactly when the condition is TRUE (for filters), and one for FALSE (for NOT inside them).

Invariants:
1. Each subexpression is evaluated at most once per row, arguments left to right.
2. Only names of this module's making occur in the source; values and functions come in through the namespace, so no
   text of a user's is ever compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from txndb.errors import InternalError, sql_error
from txndb.sql.plan.expr import (
    OUTER_PARAM,
    And,
    Bound,
    Call,
    Case,
    Coalesce,
    Col,
    Const,
    Extreme,
    InList,
    InSet,
    IsDistinct,
    IsTest,
    MakeArray,
    Not,
    Or,
    Param,
    Quantified,
    Subscript,
)
from txndb.sql.plan.functions import source_namespace
from txndb.sql.types.core import BOOL, RECORD
from txndb.sql.types.records import record_class

Row = tuple[Any, ...]
Batch = Callable[[Sequence[Row], Sequence[Any], Any], list[Any]]
_PLACEHOLDER = re.compile(r"\{(\d+)\}")
_SIMPLE = re.compile(r"\w+(\[\d+\])?\Z")


class Codegen:
    """Source of expressions over one row layout (column id -> slot)."""

    def __init__(
        self, layout: Mapping[int, int], param_count: int, nonnull: frozenset[int] = frozenset()
    ) -> None:
        self.layout = layout
        self.param_count = param_count
        self.nonnull = nonnull
        self.namespace: dict[str, Any] = dict(source_namespace())
        self.preamble: list[str] = []
        self._params: dict[int, str] = {}
        self._hoisted: dict[tuple[str | int, ...], list[tuple[Bound, str]]] = {}
        """Casts computed once, by name and parameters: IN with thousands of parameters has as many of them."""
        self._hoists = 0
        self._temps = 0

    # --- names

    def bind(self, value: Any, stem: str = "k") -> str:
        """A namespace name for a value."""
        name = f"{stem}_{len(self.namespace)}"
        self.namespace[name] = value
        return name

    def temp(self) -> str:
        """A fresh local."""
        self._temps += 1
        return f"t{self._temps}"

    def param(self, index: int) -> str:
        """The local that holds a parameter."""
        name = self._params.get(index)
        if name is None:
            slot = index if index < OUTER_PARAM else self.param_count + index - OUTER_PARAM
            name = self._params[index] = f"p{slot}"
            self.preamble.append(f"{name} = p[{slot}]")
        return name

    # --- values

    def nullable(self, expr: Bound) -> bool:
        """Whether the value can be NULL, as far as is known."""
        match expr:
            case Const():
                return expr.value is None
            case Col():
                return expr.id not in self.nonnull
            case IsTest() | IsDistinct() | MakeArray():
                return False
            case Call(strict=True):
                return (expr.cast is False and not expr.operator) or any(self.nullable(a) for a in expr.args)
            case And() | Or() | Not():
                return any(self.nullable(a) for a in expr.children())
        return True

    def value(self, expr: Bound) -> str:
        """An expression giving the value."""
        match expr:
            case Const():
                return self._const(expr.value)
            case Param():
                return self.param(expr.index)
            case Col():
                slot = self.layout.get(expr.id)
                if slot is None:
                    raise InternalError(f"column {expr.name} ({expr.id}) is not in the input")
                return f"r[{slot}]"
            case Call():
                return self._call(expr)
        return _VALUES[type(expr)](self, expr)

    def _const(self, value: Any) -> str:
        if value is None or value is True or value is False:
            return repr(value)
        if type(value) is int:
            return repr(value) if value >= 0 else f"({value!r})"
        return self.bind(value)

    def _hoistable(self, expr: Bound) -> bool:
        """A cast of a parameter: the same for all rows of a batch."""
        return (
            isinstance(expr, Call)
            and expr.cast
            and expr.volatility != "v"
            and all(isinstance(a, Param | Const) or self._hoistable(a) for a in expr.args)
        )

    def _call(self, expr: Call) -> str:
        if self._hoistable(expr):
            indexes = (a.index if isinstance(a, Param) else -1 for a in expr.args)
            alike = self._hoisted.setdefault((expr.name, *indexes), [])
            for known, name in alike:
                if known == expr:
                    return name
            source = self._plain_call(expr)
            name = f"h{self._hoists}"
            self._hoists += 1
            alike.append((expr, name))
            self.preamble.append(f"{name} = {source}")
            return name
        return self._plain_call(expr)

    def _plain_call(self, expr: Call) -> str:
        checks, body = self._parts(expr)
        if not checks:
            return body
        return f"(None if {' or '.join(f'({c}) is None' for c in checks)} else {body})"

    def _parts(self, expr: Call) -> tuple[list[str], str]:
        """Null checks (expressions to compare with None) and the call over checked arguments."""
        checks: list[str] = []
        names: list[str] = []
        template = expr.source
        uses = [int(m) for m in _PLACEHOLDER.findall(template)] if template is not None else []
        for i, arg in enumerate(expr.args):
            source = self.value(arg)
            name = source
            if expr.strict and self.nullable(arg):
                if _SIMPLE.match(source) and not source.startswith("r["):
                    checks.append(source)
                else:
                    name = self.temp()
                    checks.append(f"{name} := {source}")
            elif uses.count(i) > 1 and not _SIMPLE.match(source):
                name = self.temp()
                checks.append(f"({name} := ({source}),)")
            names.append(name)
        if template is not None:
            return checks, _PLACEHOLDER.sub(lambda m: names[int(m.group(1))], template)
        if expr.needs is not None:
            names.insert(0, "ctx")
        return checks, f"{self.bind(expr.fn, 'f')}({', '.join(names)})"

    def _and(self, expr: And) -> str:
        return self._chain(expr, "False", "True")

    def _or(self, expr: Or) -> str:
        return self._chain(expr, "True", "False")

    def _chain(self, expr: And | Or, stop: str, end: str) -> str:
        if not self.nullable(expr):
            word = " and " if stop == "False" else " or "
            return "(" + word.join(self.value(a) for a in expr.args) + ")"
        names, tests = [], []
        for arg in expr.args:
            name = self.temp()
            names.append(name)
            tests.append(f"({name} := {self.value(arg)}) is {stop}")
        nulls = " or ".join(f"{n} is None" for n in names)
        return f"({stop} if {' or '.join(tests)} else None if {nulls} else {end})"

    def _not(self, expr: Not) -> str:
        if not self.nullable(expr.arg):
            return f"(not {self.value(expr.arg)})"
        name = self.temp()
        return f"(None if ({name} := {self.value(expr.arg)}) is None else not {name})"

    def _is_test(self, expr: IsTest) -> str:
        word = "is not" if expr.negated else "is"
        constant = {"NULL": "None", "UNKNOWN": "None", "TRUE": "True", "FALSE": "False"}[expr.test]
        if expr.test == "NULL" and expr.arg.type.oid == RECORD.oid and isinstance(expr.arg, MakeArray):
            tests = [f"{self.value(i)} {word} None" for i in expr.arg.items]
            return f"({' and '.join(tests) or 'True'})"
        return f"({self.value(expr.arg)} {word} {constant})"

    def _is_distinct(self, expr: IsDistinct) -> str:
        left, right = self.temp(), self.temp()
        equal = Call(
            BOOL, "=", (_Raw(BOOL, left), _Raw(BOOL, right)), expr.equal.fn, expr.equal.source, False
        )
        a, b = expr.equal.args
        word = "not " if expr.negated else ""
        return (
            f"({word}((({left} := {self.value(a)}) is None) is not (({right} := {self.value(b)}) is None) "
            f"or ({left} is not None and {right} is not None and not {self._plain_call(equal)})))"
        )

    def _set_of(self, expr: InList) -> tuple[str, str]:
        """Names of the set of non-NULL items and of whether an item is NULL."""
        if all(isinstance(i, Const) for i in expr.items):
            values = [i.value for i in expr.items if isinstance(i, Const)]
            members = frozenset(v for v in values if v is not None)
            return self.bind(members, "s"), repr(any(v is None for v in values))
        name = f"s{len(self.preamble)}"
        items = ", ".join(self.value(i) for i in expr.items)
        self.preamble.append(f"{name} = {{{items}}}")
        self.preamble.append(f"{name}_null = None in {name}")
        self.preamble.append(f"{name}.discard(None)")
        return name, f"{name}_null"

    def _row_free(self, expr: InList) -> bool:
        return all(isinstance(i, Const | Param) or self._hoistable(i) for i in expr.items)

    def _in_list(self, expr: InList) -> str:
        name = self.temp()
        if not self._row_free(expr):
            items = ", ".join(self.value(i) for i in expr.items)
            return f"{self.bind(_in_values, 'f')}({self.value(expr.arg)}, ({items},))"
        members, has_null = self._set_of(expr)
        return (
            f"(None if ({name} := {self.value(expr.arg)}) is None else True if {name} in {members} "
            f"else None if {has_null} else False)"
        )

    def _in_set(self, expr: InSet) -> str:
        return f"{self.value(expr.members)}.test({self.value(expr.arg)})"

    def _case(self, expr: Case) -> str:
        # one chain without parentheses in each other: Python's parser takes some 200 of those
        source = f"({self.value(expr.otherwise)})"
        for condition, result in reversed(expr.whens):
            source = f"({self.value(result)}) if {self.truth(condition)} else {source}"
        return f"({source})"

    def _coalesce(self, expr: Coalesce) -> str:
        source = self.value(expr.args[-1])
        for arg in reversed(expr.args[:-1]):
            name = self.temp()
            source = f"({name} if ({name} := {self.value(arg)}) is not None else {source})"
        return source

    def _extreme(self, expr: Extreme) -> str:
        items = ", ".join(self.value(a) for a in expr.args)
        return f"{self.bind(_extreme, 'f')}(({items},), {expr.greatest!r}, {self.bind(expr.less, 'f')})"

    def _quantified(self, expr: Quantified) -> str:
        return (
            f"{self.bind(_quantified, 'f')}({self.value(expr.left)}, {self.value(expr.array)}, "
            f"{self.bind(expr.compare, 'f')}, {expr.all!r})"
        )

    def _make_array(self, expr: MakeArray) -> str:
        items = ", ".join(self.value(i) for i in expr.items)
        if expr.type.oid != RECORD.oid:
            return f"[{items}]"
        return f"{self.bind(record_class(tuple(i.type for i in expr.items)), 'f')}([{items}])"

    def _subscript(self, expr: Subscript) -> str:
        return (
            f"{self.bind(_subscript, 'f')}({self.value(expr.base)}, {self.value(expr.index)}, {expr.origin})"
        )

    # --- conditions

    def truth(self, expr: Bound) -> str:
        """An expression that is truthy exactly when `expr` is TRUE."""
        match expr:
            case And():
                return "(" + " and ".join(self.truth(a) for a in expr.args) + ")"
            case Or():
                return "(" + " or ".join(self.truth(a) for a in expr.args) + ")"
            case Not():
                return self.falsity(expr.arg)
            case Call(strict=True) if not self._hoistable(expr):
                checks, body = self._parts(expr)
                return "(" + " and ".join([*(f"({c}) is not None" for c in checks), body]) + ")"
            case InList() if self._row_free(expr):
                return f"({self.value(expr.arg)} in {self._set_of(expr)[0]})"
        return self.value(expr)

    def falsity(self, expr: Bound) -> str:
        """An expression that is truthy exactly when `expr` is FALSE."""
        match expr:
            case And():
                return "(" + " or ".join(self.falsity(a) for a in expr.args) + ")"
            case Or():
                return "(" + " and ".join(self.falsity(a) for a in expr.args) + ")"
            case Not():
                return self.truth(expr.arg)
            case Call(strict=True, type=type_) if type_.oid == BOOL.oid and not self._hoistable(expr):
                checks, body = self._parts(expr)
                tests = [f"({c}) is not None" for c in checks]
                return "(" + " and ".join([*tests, f"({body}) is False"]) + ")"
        return f"({self.value(expr)} is False)"

    def condition(self, conditions: Sequence[Bound]) -> str:
        """All of them TRUE."""
        return " and ".join(self.truth(c) for c in conditions) or "True"

    # --- functions

    def function(self, arguments: str, body: str) -> Any:
        """Compile `def f(arguments): preamble; return body`."""
        lines = [f"def f({arguments}):", *(f"    {line}" for line in self.preamble), f"    return {body}"]
        try:
            code = compile("\n".join(lines), "<expression>", "exec")
        except (SyntaxError, MemoryError, RecursionError):
            raise sql_error("54001", "expression is too complex", detail="It is nested too deeply.") from None
        exec(code, self.namespace)
        return self.namespace["f"]


class _Raw(Bound, frozen=True):
    """A local of the generated function."""

    name: str


def _raw(_: Codegen, expr: Any) -> str:
    name: str = expr.name
    return name


_VALUES: dict[type, Callable[[Codegen, Any], str]] = {
    And: Codegen._and,
    Or: Codegen._or,
    Not: Codegen._not,
    IsTest: Codegen._is_test,
    IsDistinct: Codegen._is_distinct,
    InList: Codegen._in_list,
    InSet: Codegen._in_set,
    Case: Codegen._case,
    Coalesce: Codegen._coalesce,
    Extreme: Codegen._extreme,
    Quantified: Codegen._quantified,
    MakeArray: Codegen._make_array,
    Subscript: Codegen._subscript,
    _Raw: _raw,
}


# --- run-time helpers of the generated code


def _in_values(value: Any, items: tuple[Any, ...]) -> bool | None:
    if value is None:
        return None
    if any(item is not None and item == value for item in items):
        return True
    return None if any(item is None for item in items) else False


def _extreme(values: tuple[Any, ...], greatest: bool, less: Callable[[Any, Any], Any]) -> Any:
    best = None
    for value in values:
        if value is None:
            continue
        if best is None or (less(best, value) if greatest else less(value, best)):
            best = value
    return best


def _quantified(left: Any, array: Any, compare: Callable[[Any, Any], Any], every: bool) -> bool | None:
    if array is None:
        return None
    if not array:
        return every
    if left is None:
        return None
    unknown = False
    for item in array:
        if item is None:
            unknown = True
            continue
        result = compare(left, item)
        if result is None:
            unknown = True
        elif bool(result) is not every:
            return not every
    return None if unknown else every


def _subscript(base: Any, index: int | None, origin: int) -> Any:
    if base is None or index is None or not origin <= index < origin + len(base):
        return None
    return base[index - origin]


# --- ready-made kinds of functions


def batch_filter(gen: Codegen, conditions: Sequence[Bound]) -> Batch:
    """`(rows, p, ctx) -> rows that pass`."""
    body = f"[r for r in rows if {gen.condition(conditions)}]"
    made: Batch = gen.function("rows, p, ctx", body)
    return made


def batch_project(gen: Codegen, exprs: Sequence[Bound], conditions: Sequence[Bound] = ()) -> Batch:
    """`(rows, p, ctx) -> tuples`, of the rows that pass if there are conditions."""
    items = ", ".join(gen.value(e) for e in exprs)
    tail = f" if {gen.condition(conditions)}" if conditions else ""
    made: Batch = gen.function("rows, p, ctx", f"[({items}{',' if exprs else ''}) for r in rows{tail}]")
    return made


def batch_value(gen: Codegen, expr: Bound) -> Batch:
    """`(rows, p, ctx) -> values`."""
    made: Batch = gen.function("rows, p, ctx", f"[{gen.value(expr)} for r in rows]")
    return made


def row_tuple(gen: Codegen, exprs: Sequence[Bound]) -> Callable[[Row, Sequence[Any], Any], Row]:
    """`(r, p, ctx) -> tuple`."""
    items = ", ".join(gen.value(e) for e in exprs)
    made: Callable[[Row, Sequence[Any], Any], Row] = gen.function(
        "r, p, ctx", f"({items}{',' if exprs else ''})"
    )
    return made


def row_condition(gen: Codegen, conditions: Sequence[Bound]) -> Callable[[Row, Sequence[Any], Any], bool]:
    """`(r, p, ctx) -> truthy when all are TRUE`."""
    made: Callable[[Row, Sequence[Any], Any], bool] = gen.function("r, p, ctx", gen.condition(conditions))
    return made
