"""The part of the syntax tree that queries and data changes are made of: names, types, expressions, FROM, SELECT,
INSERT, UPDATE, DELETE. Read it through `ast`, whose head states the invariants."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal as Lit

import msgspec


class Node(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Base of all nodes."""

    pos: int = 0

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, f) == getattr(other, f) for f in self.__struct_fields__ if f not in _SPAN)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, f) for f in self.__struct_fields__ if f not in _SPAN)))


_SPAN = ("pos", "end")


class Expr(Node, frozen=True, eq=False):
    """Anything that has a value."""


class Statement(Node, frozen=True, eq=False, kw_only=True):
    """A whole statement. Its source text is `sql[pos - 1 : end]` of the string given to `parse`."""

    end: int = 0


# --- names and types -------------------------------------------------------------------------------------------


class Name(Node, frozen=True, eq=False):
    """A possibly qualified name of a table, index, database, type or sequence: ("s", "t")."""

    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.parts[-1]

    @property
    def schema(self) -> str | None:
        return self.parts[-2] if len(self.parts) > 1 else None

    @property
    def database(self) -> str | None:
        return self.parts[-3] if len(self.parts) > 2 else None

    def __str__(self) -> str:
        return ".".join(self.parts)


class TypeName(Node, frozen=True, eq=False):
    """A type as written. `parts` holds PostgreSQL's canonical name for standard spellings: `integer` and `int` give
    ("int4",), `double precision` ("float8",), `character varying` ("varchar",), `char` ("bpchar",) with modifier 1 if
    none, `timestamp with time zone` ("timestamptz",), `decimal` ("numeric",); others are as written, folded."""

    parts: tuple[str, ...]
    modifiers: tuple[Expr, ...] = ()
    array_dims: int = 0
    fields: str | None = None
    """Of an interval: "year", "day to second", …"""

    @property
    def name(self) -> str:
        return self.parts[-1]


# --- expressions -----------------------------------------------------------------------------------------------


class Literal(Expr, frozen=True, eq=False):
    """A constant. `integer` (fits int8) has an int, `numeric` a Decimal, `string` and `bit` (digits of b'…', x'…'
    expanded) a str, `boolean` a bool, `null` None. An untyped `string` is of type unknown, as in PostgreSQL."""

    kind: Lit["integer", "numeric", "string", "bit", "boolean", "null"]
    value: int | Decimal | str | bool | None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Literal):
            return NotImplemented
        return self.kind == other.kind and str(self.value) == str(other.value)

    def __hash__(self) -> int:
        return hash((self.kind, str(self.value)))


class Param(Expr, frozen=True, eq=False):
    """`$index`, from 1."""

    index: int


class ColumnRef(Expr, frozen=True, eq=False):
    """`a`, `t.a`, `s.t.a`: also a whole-row reference `t`, which only the binder can tell."""

    parts: tuple[str, ...]


class Star(Expr, frozen=True, eq=False):
    """`*` or `t.*` in a target list or RETURNING."""

    qualifier: tuple[str, ...] = ()


class Default(Expr, frozen=True, eq=False):
    """DEFAULT as a value in INSERT … VALUES, UPDATE … SET and SET."""


class Unary(Expr, frozen=True, eq=False):
    """A prefix operator: `-`, `+`, `~`, `@`, `|/`, …"""

    op: str
    arg: Expr


class Binary(Expr, frozen=True, eq=False):
    """A binary operator: arithmetic, comparison (`<>` also for `!=`), `||`, `~*`, `->>`, …"""

    op: str
    left: Expr
    right: Expr


class BoolOp(Expr, frozen=True, eq=False):
    """A chain of AND or of OR, flattened: two arguments or more."""

    op: Lit["AND", "OR"]
    args: tuple[Expr, ...]


class Not(Expr, frozen=True, eq=False):
    arg: Expr


class IsTest(Expr, frozen=True, eq=False):
    """`arg IS [NOT] test`; also ISNULL and NOTNULL."""

    arg: Expr
    test: Lit["NULL", "TRUE", "FALSE", "UNKNOWN"]
    negated: bool = False


class IsDistinct(Expr, frozen=True, eq=False):
    """`left IS DISTINCT FROM right`; negated: IS NOT DISTINCT FROM."""

    left: Expr
    right: Expr
    negated: bool = False


LikeKind = Lit["LIKE", "ILIKE", "SIMILAR TO"]


class Like(Expr, frozen=True, eq=False):
    kind: LikeKind
    arg: Expr
    pattern: Expr
    escape: Expr | None = None
    negated: bool = False


class Between(Expr, frozen=True, eq=False):
    arg: Expr
    low: Expr
    high: Expr
    symmetric: bool = False
    negated: bool = False


class InList(Expr, frozen=True, eq=False):
    arg: Expr
    items: tuple[Expr, ...]
    negated: bool = False


class InSubquery(Expr, frozen=True, eq=False):
    arg: Expr
    query: Query
    negated: bool = False


class QuantifiedArray(Expr, frozen=True, eq=False):
    """`left op ANY (array)`, `left op ALL (array)`; SOME is ANY. `op` may be LIKE, ILIKE, NOT LIKE, NOT ILIKE."""

    op: str
    quantifier: Lit["ANY", "ALL"]
    left: Expr
    array: Expr


class QuantifiedSubquery(Expr, frozen=True, eq=False):
    op: str
    quantifier: Lit["ANY", "ALL"]
    left: Expr
    query: Query


class Exists(Expr, frozen=True, eq=False):
    query: Query


class ScalarSubquery(Expr, frozen=True, eq=False):
    query: Query


class ArraySubquery(Expr, frozen=True, eq=False):
    """`ARRAY(SELECT …)`."""

    query: Query


class ArrayExpr(Expr, frozen=True, eq=False):
    """`ARRAY[…]`; nested brackets are nested ArrayExprs."""

    items: tuple[Expr, ...]


class Subscript(Expr, frozen=True, eq=False):
    """`base[index]`."""

    base: Expr
    index: Expr


class Slice(Expr, frozen=True, eq=False):
    """`base[lower:upper]`."""

    base: Expr
    lower: Expr | None
    upper: Expr | None


class FieldSelect(Expr, frozen=True, eq=False):
    """`(base).field`; `(base).*` has field "*"."""

    base: Expr
    field: str


class RowExpr(Expr, frozen=True, eq=False):
    """`ROW(…)` or `(a, b, …)`."""

    items: tuple[Expr, ...]


class When(Node, frozen=True, eq=False):
    condition: Expr
    result: Expr


class Case(Expr, frozen=True, eq=False):
    operand: Expr | None
    whens: tuple[When, ...]
    otherwise: Expr | None = None


class Cast(Expr, frozen=True, eq=False):
    """`CAST(a AS t)`, `a::t`, `t 'literal'`."""

    arg: Expr
    type: TypeName


class Collate(Expr, frozen=True, eq=False):
    arg: Expr
    collation: Name


class NamedArg(Expr, frozen=True, eq=False):
    """`name => value` in a function call."""

    name: str
    value: Expr


class FunctionCall(Expr, frozen=True, eq=False):
    """A call, aggregate or not (`count(*)` has `star`). COALESCE, NULLIF, GREATEST and LEAST are calls by that name."""

    name: tuple[str, ...]
    args: tuple[Expr, ...] = ()
    distinct: bool = False
    star: bool = False
    variadic: bool = False
    order_by: tuple[SortKey, ...] = ()
    filter: Expr | None = None


class SqlValueFunction(Expr, frozen=True, eq=False):
    """`current_date`, `current_time`, `current_timestamp`, `localtime`, `localtimestamp`, `current_user`, `user`,
    `session_user`, `system_user`, `current_role`, `current_catalog`, `current_schema`: names in lower case."""

    name: str
    precision: int | None = None


# --- queries ---------------------------------------------------------------------------------------------------


class SortKey(Node, frozen=True, eq=False):
    """One item of ORDER BY. `nulls` None: PostgreSQL's rule (last ascending, first descending)."""

    expr: Expr
    descending: bool = False
    nulls: Lit["FIRST", "LAST"] | None = None


class Target(Node, frozen=True, eq=False):
    """One item of a target list or of RETURNING."""

    expr: Expr
    alias: str | None = None


class Alias(Node, frozen=True, eq=False):
    name: str
    columns: tuple[str, ...] = ()


class FromItem(Node, frozen=True, eq=False):
    pass


class TableRef(FromItem, frozen=True, eq=False):
    name: Name
    alias: Alias | None = None


class SubqueryRef(FromItem, frozen=True, eq=False):
    query: Query
    alias: Alias | None = None
    lateral: bool = False


class FunctionRef(FromItem, frozen=True, eq=False):
    """`generate_series(1, 3) AS g(n)`; `ordinality`: WITH ORDINALITY."""

    call: FunctionCall | SqlValueFunction
    alias: Alias | None = None
    lateral: bool = False
    ordinality: bool = False
    beside: tuple[FunctionCall, ...] = ()
    """More functions that advance together with the first, the shorter padded with NULL."""


class Join(FromItem, frozen=True, eq=False):
    """CROSS has neither condition. `using` is () without USING. A joined table in parentheses may have an alias."""

    kind: Lit["INNER", "LEFT", "RIGHT", "FULL", "CROSS"]
    left: FromItem
    right: FromItem
    on: Expr | None = None
    using: tuple[str, ...] = ()
    natural: bool = False
    alias: Alias | None = None


class Locking(Node, frozen=True, eq=False):
    strength: Lit["UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE"]
    of: tuple[Name, ...] = ()
    wait: Lit["BLOCK", "NOWAIT", "SKIP LOCKED"] = "BLOCK"


class CommonTable(Node, frozen=True, eq=False):
    """One WITH item; the query may be a data-changing statement. `materialized` None: not said."""

    name: str
    columns: tuple[str, ...]
    query: Query | Insert | Update | Delete
    materialized: bool | None = None


class Select(Node, frozen=True, eq=False):
    """SELECT … without the clauses that belong to the whole query. `distinct_on` () with `distinct`: plain DISTINCT."""

    targets: tuple[Target, ...]
    from_: tuple[FromItem, ...] = ()
    where: Expr | None = None
    group_by: tuple[Expr, ...] = ()
    having: Expr | None = None
    distinct: bool = False
    distinct_on: tuple[Expr, ...] = ()
    as_of: Expr | None = None
    """AS OF SYSTEM TIME, after FROM."""


class Values(Node, frozen=True, eq=False):
    rows: tuple[tuple[Expr, ...], ...]


class SetOperation(Node, frozen=True, eq=False):
    """An operand with its own ORDER BY, LIMIT or WITH (in parentheses) is a Query; a bare one is its body."""

    op: Lit["UNION", "INTERSECT", "EXCEPT"]
    all: bool
    left: QueryBody
    right: QueryBody


class Query(Statement, frozen=True, eq=False):
    """A SELECT, VALUES, TABLE t (as SELECT *) or set operation with what applies to its result."""

    body: QueryBody
    with_: tuple[CommonTable, ...] = ()
    order_by: tuple[SortKey, ...] = ()
    limit: Expr | None = None
    offset: Expr | None = None
    with_ties: bool = False
    locking: tuple[Locking, ...] = ()
    recursive: bool = False


QueryBody = Select | Values | SetOperation | Query


# --- data changes ----------------------------------------------------------------------------------------------


class Assignment(Node, frozen=True, eq=False):
    """`a = e` has one column; `(a, b) = (e, f)` has a RowExpr value, `(a, b) = (SELECT …)` a ScalarSubquery."""

    columns: tuple[str, ...]
    value: Expr
    multiple: bool = False
    """Written in the parenthesised form."""


class IndexElement(Node, frozen=True, eq=False):
    """A column of an index or of a conflict target (`ColumnRef`), or an expression."""

    expr: Expr
    descending: bool = False
    nulls: Lit["FIRST", "LAST"] | None = None


class OnConflict(Node, frozen=True, eq=False):
    """`action` NOTHING or UPDATE; a target is elements (with `target_where`) or a constraint, or neither."""

    action: Lit["NOTHING", "UPDATE"]
    elements: tuple[IndexElement, ...] = ()
    target_where: Expr | None = None
    constraint: str | None = None
    assignments: tuple[Assignment, ...] = ()
    where: Expr | None = None


class Insert(Statement, frozen=True, eq=False):
    """`source` None: DEFAULT VALUES. `columns` () : not given."""

    table: Name
    alias: str | None
    columns: tuple[str, ...]
    column_positions: tuple[int, ...]
    source: Query | None
    on_conflict: OnConflict | None = None
    returning: tuple[Target, ...] = ()
    with_: tuple[CommonTable, ...] = ()
    overriding: Lit["SYSTEM", "USER"] | None = None


class Update(Statement, frozen=True, eq=False):
    table: Name
    alias: str | None
    assignments: tuple[Assignment, ...]
    from_: tuple[FromItem, ...] = ()
    where: Expr | None = None
    returning: tuple[Target, ...] = ()
    with_: tuple[CommonTable, ...] = ()


class Delete(Statement, frozen=True, eq=False):
    table: Name
    alias: str | None
    using: tuple[FromItem, ...] = ()
    where: Expr | None = None
    returning: tuple[Target, ...] = ()
    with_: tuple[CommonTable, ...] = ()
