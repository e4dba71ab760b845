"""Logical plans: relational operators over columns named by id.

Every operator states its output columns in order. A column keeps its id from where it is made up to the root.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from txndb.sql.catalog.descriptors import TableDesc
from txndb.sql.catalog.virtual import VirtualTable
from txndb.sql.plan.expr import Aggregate, Bound, Col

JoinKind = Literal["INNER", "LEFT", "RIGHT", "FULL"]


class Logical(msgspec.Struct, frozen=True, eq=False):
    """Base of logical operators."""

    columns: tuple[Col, ...]

    def inputs(self) -> tuple[Logical, ...]:
        """The operators below."""
        return ()

    def with_inputs(self, inputs: tuple[Logical, ...]) -> Logical:
        """The same operator over other inputs (with the same columns)."""
        return self


class Scan(Logical, frozen=True, eq=False):
    """Rows of a table: `columns[i]` is the table's i-th live column. `filters` are over its columns only."""

    table: TableDesc
    alias: str
    filters: tuple[Bound, ...] = ()
    needed: frozenset[int] | None = None
    """Ids of the columns anything above reads; None: all."""
    lock: int = 0
    """0 as the view locks, 2 for the rows chosen by FOR UPDATE, UPDATE, DELETE."""


class VirtualScan(Logical, frozen=True, eq=False):
    """Rows of a virtual table."""

    table: VirtualTable
    alias: str


class FunctionScan(Logical, frozen=True, eq=False):
    """Rows made by a set-returning function in FROM.

    With `lockstep` there are several, (name, number of arguments) each: they advance together, the shorter padded with
    NULL; `args` are those of all.
    """

    name: str
    args: tuple[Bound, ...]
    ordinality: bool = False
    lockstep: tuple[tuple[str, int], ...] = ()


class ValuesRows(Logical, frozen=True, eq=False):
    """Constant rows. One row without columns is a SELECT without FROM."""

    rows: tuple[tuple[Bound, ...], ...]


class Filter(Logical, frozen=True, eq=False):
    """Rows for which every condition is true."""

    input: Logical
    conditions: tuple[Bound, ...]

    def inputs(self) -> tuple[Logical, ...]:
        return (self.input,)

    def with_inputs(self, inputs: tuple[Logical, ...]) -> Logical:
        return Filter(inputs[0].columns, inputs[0], self.conditions)


class Project(Logical, frozen=True, eq=False):
    """One output column per expression."""

    input: Logical
    exprs: tuple[Bound, ...]

    def inputs(self) -> tuple[Logical, ...]:
        return (self.input,)

    def with_inputs(self, inputs: tuple[Logical, ...]) -> Logical:
        return Project(self.columns, inputs[0], self.exprs)


class Join(Logical, frozen=True, eq=False):
    """Inner or outer join; the columns are the left's, then the right's. A cross join has no conditions."""

    kind: JoinKind
    left: Logical
    right: Logical
    conditions: tuple[Bound, ...]

    def inputs(self) -> tuple[Logical, ...]:
        return (self.left, self.right)

    def with_inputs(self, inputs: tuple[Logical, ...]) -> Logical:
        left, right = inputs
        return Join((*left.columns, *right.columns), self.kind, left, right, self.conditions)


class Aggregation(Logical, frozen=True, eq=False):
    """Groups by `keys`; the columns are the keys', then the aggregates'. Without keys: exactly one row."""

    input: Logical
    keys: tuple[Bound, ...]
    aggregates: tuple[Aggregate, ...]

    def inputs(self) -> tuple[Logical, ...]:
        return (self.input,)

    def with_inputs(self, inputs: tuple[Logical, ...]) -> Logical:
        return Aggregation(self.columns, inputs[0], self.keys, self.aggregates)


class SortItem(msgspec.Struct, frozen=True):
    """One sort key."""

    expr: Bound
    descending: bool = False
    nulls_first: bool = False


class Sort(Logical, frozen=True, eq=False):
    """Stable sort."""

    input: Logical
    items: tuple[SortItem, ...]

    def inputs(self) -> tuple[Logical, ...]:
        return (self.input,)

    def with_inputs(self, inputs: tuple[Logical, ...]) -> Logical:
        return Sort(inputs[0].columns, inputs[0], self.items)


class Limit(Logical, frozen=True, eq=False):
    """Skip `offset` rows, then at most `limit`; None: none, all."""

    input: Logical
    limit: Bound | None
    offset: Bound | None

    def inputs(self) -> tuple[Logical, ...]:
        return (self.input,)

    def with_inputs(self, inputs: tuple[Logical, ...]) -> Logical:
        return Limit(inputs[0].columns, inputs[0], self.limit, self.offset)


class Distinct(Logical, frozen=True, eq=False):
    """The first row of each combination of `on` (all columns when it is empty)."""

    input: Logical
    on: tuple[Bound, ...] = ()

    def inputs(self) -> tuple[Logical, ...]:
        return (self.input,)

    def with_inputs(self, inputs: tuple[Logical, ...]) -> Logical:
        return Distinct(inputs[0].columns, inputs[0], self.on)


class SetOp(Logical, frozen=True, eq=False):
    """UNION, INTERSECT, EXCEPT of two inputs with equally typed columns; the columns are its own."""

    op: Literal["UNION", "INTERSECT", "EXCEPT"]
    all: bool
    left: Logical
    right: Logical

    def inputs(self) -> tuple[Logical, ...]:
        return (self.left, self.right)

    def with_inputs(self, inputs: tuple[Logical, ...]) -> Logical:
        left, right = inputs
        return SetOp(self.columns, self.op, self.all, left, right)


ApplyKind = Literal["scalar", "exists", "set", "array", "list", "lateral", "lateral-left"]


class Apply(Logical, frozen=True, eq=False):
    """Runs `subplan` for each row of `input`, memoised by the outer columns it uses (so once when it uses none).

    Kinds scalar, exists, set, array and list append one column with the result as a value; lateral appends the
    subplan's columns and repeats the row per result row (with `lateral-left`, NULLs where there is none).
    `outer` pairs each column of the input that the subplan reads with the parameter it reads it as.
    """

    input: Logical
    subplan: Logical
    kind: ApplyKind
    outer: tuple[tuple[Col, int], ...]

    def inputs(self) -> tuple[Logical, ...]:
        return (self.input, self.subplan)

    def with_inputs(self, inputs: tuple[Logical, ...]) -> Logical:
        made = self.columns[len(self.input.columns) :]
        if self.kind.startswith("lateral"):
            made = inputs[1].columns
        return Apply((*inputs[0].columns, *made), inputs[0], inputs[1], self.kind, self.outer)


def transform_up(plan: Logical, fn: Any) -> Logical:
    """Rebuild bottom-up; `fn(operator)` returns its replacement (or itself)."""
    inputs = plan.inputs()
    if inputs:
        rebuilt = tuple(transform_up(child, fn) for child in inputs)
        if any(new is not old for new, old in zip(rebuilt, inputs, strict=True)):
            plan = plan.with_inputs(rebuilt)
    result: Logical = fn(plan)
    return result
