"""Bound expressions: names resolved to columns, operators and functions to overloads, types known everywhere.

A column is named by an id that is unique within one statement's plan, so that moving an expression to another place in
the plan never rewrites it. Equality is structural (GROUP BY matching relies on it); positions are not part of it.

Invariants:
1. After binding no expression is of type unknown, except a NULL or parameter whose type nothing determines.
2. A column of an enclosing query is a parameter numbered from `OUTER_PARAM` on, set by the `Apply` that runs it.
3. Aggregates and subqueries do not occur in a finished plan: the binder replaces them by columns of the operator
   that computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from txndb.sql.types.core import SqlType

OUTER_PARAM: Final = 1 << 17
"""Parameters from this index on are columns of enclosing queries."""


class Bound(msgspec.Struct, frozen=True):
    """Base of bound expressions."""

    type: SqlType

    def children(self) -> tuple[Bound, ...]:
        """The argument expressions."""
        return ()

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        """The same expression over other arguments."""
        return self


class Const(Bound, frozen=True):
    """A value in internal representation, None for NULL."""

    value: Any


class Untyped(Const, frozen=True):
    """A quoted literal, of unknown type: read as soon as its type is known. `position` is for that error."""

    position: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Untyped) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


class Param(Bound, frozen=True):
    """A parameter of the statement, from 0: the client's, then lifted literals; from OUTER_PARAM: outer columns."""

    index: int


class Col(Bound, frozen=True):
    """A column of some operator below."""

    id: int
    name: str = ""
    nullable: bool = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Col) and other.id == self.id

    def __hash__(self) -> int:
        return self.id


class Call(Bound, frozen=True):
    """A function, operator or cast applied to arguments. `source` is a Python template over {0}, {1}, …"""

    name: str
    args: tuple[Bound, ...]
    fn: Callable[..., Any]
    source: str | None = None
    strict: bool = True
    volatility: str = "i"
    """i(mmutable), s(table) or v(olatile)."""
    needs: str | None = None
    operator: bool = False
    cast: bool = False

    def children(self) -> tuple[Bound, ...]:
        return self.args

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return msgspec.structs.replace(self, args=children)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Call)
            and self.volatility != "v"
            and self.name == other.name
            and self.type == other.type
            and self.args == other.args
        )

    def __hash__(self) -> int:
        return hash((self.name, self.args))


class And(Bound, frozen=True):
    """Conjunction; at least two arguments."""

    args: tuple[Bound, ...]

    def children(self) -> tuple[Bound, ...]:
        return self.args

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return And(self.type, children)


class Or(Bound, frozen=True):
    """Disjunction; at least two arguments."""

    args: tuple[Bound, ...]

    def children(self) -> tuple[Bound, ...]:
        return self.args

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return Or(self.type, children)


class Not(Bound, frozen=True):
    """Negation."""

    arg: Bound

    def children(self) -> tuple[Bound, ...]:
        return (self.arg,)

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return Not(self.type, children[0])


class IsTest(Bound, frozen=True):
    """`arg IS [NOT] NULL|TRUE|FALSE|UNKNOWN`."""

    arg: Bound
    test: str
    negated: bool

    def children(self) -> tuple[Bound, ...]:
        return (self.arg,)

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return IsTest(self.type, children[0], self.test, self.negated)


class IsDistinct(Bound, frozen=True):
    """`left IS [NOT] DISTINCT FROM right`; `equal` is the equality of the two, over `children()`."""

    equal: Call
    negated: bool

    def children(self) -> tuple[Bound, ...]:
        return self.equal.args

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return IsDistinct(self.type, msgspec.structs.replace(self.equal, args=children), self.negated)


class InList(Bound, frozen=True):
    """`arg IN (items)` where all are of one type with plain Python equality."""

    arg: Bound
    items: tuple[Bound, ...]

    def children(self) -> tuple[Bound, ...]:
        return (self.arg, *self.items)

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return InList(self.type, children[0], children[1:])


class InSet(Bound, frozen=True):
    """`arg IN (subquery)`: `members` is the column an `Apply` made, holding a `MemberSet`."""

    arg: Bound
    members: Bound

    def children(self) -> tuple[Bound, ...]:
        return (self.arg, self.members)

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return InSet(self.type, children[0], children[1])


class Case(Bound, frozen=True):
    """Searched CASE: pairs of condition and result, then the ELSE (a NULL constant if none)."""

    whens: tuple[tuple[Bound, Bound], ...]
    otherwise: Bound

    def children(self) -> tuple[Bound, ...]:
        return (*(e for pair in self.whens for e in pair), self.otherwise)

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        pairs = tuple((children[i], children[i + 1]) for i in range(0, len(children) - 1, 2))
        return Case(self.type, pairs, children[-1])


class Coalesce(Bound, frozen=True):
    """The first argument that is not NULL."""

    args: tuple[Bound, ...]

    def children(self) -> tuple[Bound, ...]:
        return self.args

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return Coalesce(self.type, children)


class Extreme(Bound, frozen=True):
    """GREATEST or LEAST: NULLs are ignored. `less` compares two values of the type."""

    args: tuple[Bound, ...]
    greatest: bool
    less: Callable[[Any, Any], Any]

    def children(self) -> tuple[Bound, ...]:
        return self.args

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return msgspec.structs.replace(self, args=children)


class Quantified(Bound, frozen=True):
    """`left op ANY|ALL (array)`; `compare` is the operator's function on two non-NULL values."""

    left: Bound
    array: Bound
    compare: Callable[[Any, Any], Any]
    name: str
    all: bool

    def children(self) -> tuple[Bound, ...]:
        return (self.left, self.array)

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return msgspec.structs.replace(self, left=children[0], array=children[1])


class MakeArray(Bound, frozen=True):
    """`ARRAY[…]`, and the record of a row constructor (`type` says which)."""

    items: tuple[Bound, ...]

    def children(self) -> tuple[Bound, ...]:
        return self.items

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return MakeArray(self.type, children)


class Subscript(Bound, frozen=True):
    """`base[index]`, from 1 (from 0 for int2vector and oidvector); NULL outside."""

    base: Bound
    index: Bound
    origin: int = 1

    def children(self) -> tuple[Bound, ...]:
        return (self.base, self.index)

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        return Subscript(self.type, children[0], children[1], self.origin)


class Aggregate(Bound, frozen=True):
    """An aggregate call; the binder replaces it by a column of an `Aggregation`."""

    name: str
    args: tuple[Bound, ...]
    spec: Any
    """The `types` package's Aggregate."""
    distinct: bool = False
    filter: Bound | None = None
    order_by: tuple[tuple[Bound, bool, bool], ...] = ()

    def children(self) -> tuple[Bound, ...]:
        extra = () if self.filter is None else (self.filter,)
        return (*self.args, *extra, *(key for key, _, _ in self.order_by))

    def with_children(self, children: tuple[Bound, ...]) -> Bound:
        count = len(self.args)
        rest = children[count:]
        condition = None
        if self.filter is not None:
            condition, rest = rest[0], rest[1:]
        keys = tuple((e, d, n) for e, (_, d, n) in zip(rest, self.order_by, strict=True))
        return msgspec.structs.replace(self, args=children[:count], filter=condition, order_by=keys)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Aggregate)
            and (self.name, self.distinct, self.filter) == (other.name, other.distinct, other.filter)
            and self.args == other.args
            and self.order_by == other.order_by
        )

    def __hash__(self) -> int:
        return hash((self.name, self.args))


def walk(expr: Bound) -> Iterator[Bound]:
    """The expression and everything below it."""
    stack = [expr]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children())


def transform(expr: Bound, fn: Callable[[Bound], Bound | None]) -> Bound:
    """Rebuild top-down: where `fn` gives a replacement it is taken as is, elsewhere the children are rebuilt."""
    replaced = fn(expr)
    if replaced is not None:
        return replaced
    children = expr.children()
    if not children:
        return expr
    rebuilt = tuple(transform(child, fn) for child in children)
    if all(new is old for new, old in zip(rebuilt, children, strict=True)):
        return expr
    return expr.with_children(rebuilt)


def columns_of(expr: Bound) -> dict[int, Col]:
    """The columns an expression refers to, by id, in order of appearance."""
    return {node.id: node for node in walk(expr) if isinstance(node, Col)}


def is_volatile(expr: Bound) -> bool:
    """Whether evaluating it twice may give two values."""
    return any(isinstance(node, Call) and node.volatility == "v" for node in walk(expr))


def conjuncts(expr: Bound | None) -> list[Bound]:
    """The parts of a conjunction."""
    if expr is None:
        return []
    if isinstance(expr, And):
        return [part for arg in expr.args for part in conjuncts(arg)]
    return [expr]


class MemberSet:
    """The result of a subquery in IN or = ANY: hashed non-NULL members, and whether NULL was among them."""

    __slots__ = ("has_null", "members")

    def __init__(self, values: list[Any]) -> None:
        self.members = {v for v in values if v is not None}
        self.has_null = any(v is None for v in values)

    def test(self, value: Any) -> bool | None:
        """`value IN (members)` in three-valued logic."""
        if value is None:
            return None if self.members or self.has_null else False
        if value in self.members:
            return True
        return None if self.has_null else False
