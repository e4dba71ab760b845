"""Physical plans: what the executor builds its operators from.

An operator's rows are tuples; `layout` says in which slot a column is. Columns that an operator passes on stay where
they are, so that most operators copy nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from txndb.sql.catalog.descriptors import IndexDesc, TableDesc
from txndb.sql.catalog.virtual import VirtualTable
from txndb.sql.plan.expr import Aggregate, Bound, Col
from txndb.sql.plan.logical import ApplyKind, JoinKind, SortItem


class Physical(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Base of physical operators. `ordering` is what the rows are known to be sorted by."""

    layout: dict[int, int]
    width: int
    nonnull: frozenset[int] = frozenset()
    rows: float = 1.0
    """Estimated number of rows."""
    ordering: tuple[tuple[int, bool], ...] = ()
    """(column id, descending), NULLs last ascending and first descending."""
    fixed: frozenset[int] = frozenset()
    """Columns with one value in all rows."""

    def inputs(self) -> tuple[Physical, ...]:
        """The operators below."""
        return ()


class Bounds(msgspec.Struct, frozen=True):
    """Which part of an index: the first columns equal to `equal` (`in_list` gives several values for the last of
    them), and a range of the column after them."""

    equal: tuple[Bound, ...] = ()
    in_list: tuple[Bound, ...] | None = None
    low: Bound | None = None
    low_inclusive: bool = True
    high: Bound | None = None
    high_inclusive: bool = True

    @property
    def prefix_count(self) -> int:
        """Number of leading columns with known values."""
        return len(self.equal) + (self.in_list is not None)


class IndexScan(Physical, frozen=True, eq=False, kw_only=True):
    """Rows of a table through one of its indexes; `covering` when the index's entries hold all that is needed.

    Rows are stored rows (slot = position), or index entries when covering a secondary index.
    """

    table: TableDesc
    index: IndexDesc
    alias: str
    bounds: Bounds
    filters: tuple[Bound, ...] = ()
    columns: tuple[Col, ...] = ()
    point: bool = False
    """All columns of a unique index are given: gets, not scans."""
    covering: bool = True
    reverse: bool = False
    limit: tuple[Bound, ...] = ()
    """At most their sum of rows that pass is wanted; (): all."""
    lock: int = 0


class VirtualRows(Physical, frozen=True, eq=False, kw_only=True):
    """Rows of a virtual table."""

    table: VirtualTable


class FunctionRows(Physical, frozen=True, eq=False, kw_only=True):
    """Rows made by a set-returning function, or by several in lockstep."""

    name: str
    args: tuple[Bound, ...]
    ordinality: bool = False
    lockstep: tuple[tuple[str, int], ...] = ()


class ConstantRows(Physical, frozen=True, eq=False, kw_only=True):
    """Rows of expressions without columns."""

    exprs: tuple[tuple[Bound, ...], ...]


class FilterRows(Physical, frozen=True, eq=False, kw_only=True):
    """Rows that pass."""

    input: Physical
    conditions: tuple[Bound, ...]

    def inputs(self) -> tuple[Physical, ...]:
        return (self.input,)


class ProjectRows(Physical, frozen=True, eq=False, kw_only=True):
    """New rows, one slot per expression."""

    input: Physical
    exprs: tuple[Bound, ...]

    def inputs(self) -> tuple[Physical, ...]:
        return (self.input,)


class HashJoin(Physical, frozen=True, eq=False, kw_only=True):
    """The right input is hashed on its keys, the left one probes. Rows: left slots, then right slots."""

    kind: JoinKind
    left: Physical
    right: Physical
    left_keys: tuple[Bound, ...]
    right_keys: tuple[Bound, ...]
    conditions: tuple[Bound, ...]
    """Besides the equalities; part of the join condition."""

    def inputs(self) -> tuple[Physical, ...]:
        return (self.left, self.right)


class LookupJoin(Physical, frozen=True, eq=False, kw_only=True):
    """For each batch of left rows the matching rows of a table are fetched through an index (`inner.bounds` are over
    left columns). Kinds INNER and LEFT."""

    kind: JoinKind
    left: Physical
    inner: IndexScan
    conditions: tuple[Bound, ...]

    def inputs(self) -> tuple[Physical, ...]:
        return (self.left, self.inner)


class LoopJoin(Physical, frozen=True, eq=False, kw_only=True):
    """Every left row with every right row."""

    kind: JoinKind
    left: Physical
    right: Physical
    conditions: tuple[Bound, ...]

    def inputs(self) -> tuple[Physical, ...]:
        return (self.left, self.right)


class HashAggregate(Physical, frozen=True, eq=False, kw_only=True):
    """Groups by hash; `ordered` when the input is sorted by the keys, so that groups are finished as they end."""

    input: Physical
    keys: tuple[Bound, ...]
    aggregates: tuple[Aggregate, ...]
    ordered: bool = False

    def inputs(self) -> tuple[Physical, ...]:
        return (self.input,)


class SortRows(Physical, frozen=True, eq=False, kw_only=True):
    """Stable sort; with `limit` only the first rows, their sum in number, are wanted."""

    input: Physical
    items: tuple[SortItem, ...]
    limit: tuple[Bound, ...] = ()

    def inputs(self) -> tuple[Physical, ...]:
        return (self.input,)


class LimitRows(Physical, frozen=True, eq=False, kw_only=True):
    """Skips `offset` rows, then passes `limit`."""

    input: Physical
    limit: Bound | None
    offset: Bound | None

    def inputs(self) -> tuple[Physical, ...]:
        return (self.input,)


class DistinctRows(Physical, frozen=True, eq=False, kw_only=True):
    """First row of each combination of `keys`."""

    input: Physical
    keys: tuple[Bound, ...]

    def inputs(self) -> tuple[Physical, ...]:
        return (self.input,)


class SetOperation(Physical, frozen=True, eq=False, kw_only=True):
    """UNION, INTERSECT, EXCEPT over compact rows."""

    op: str
    all: bool
    left: Physical
    right: Physical
    types: tuple[Any, ...] = ()

    def inputs(self) -> tuple[Physical, ...]:
        return (self.left, self.right)


class ApplyRows(Physical, frozen=True, eq=False, kw_only=True):
    """A subplan per row; see `logical.Apply`."""

    input: Physical
    subplan: Physical
    kind: ApplyKind
    outer: tuple[tuple[Col, int], ...]

    def inputs(self) -> tuple[Physical, ...]:
        return (self.input, self.subplan)


class OutputColumn(msgspec.Struct, frozen=True):
    """A column of a statement's result. `table_id` and `position` (from 1) when it is a table's column."""

    name: str
    type: Any
    table_id: int = 0
    position: int = 0


class ConflictClause(msgspec.Struct, frozen=True):
    """ON CONFLICT: `arbiters` are unique indexes' ids (() = any). For DO UPDATE, expressions are over the existing
    row (slots 0..) and the row proposed (slots from the table's width on)."""

    arbiters: tuple[int, ...]
    update: bool
    assignments: tuple[tuple[int, Bound], ...] = ()
    condition: Bound | None = None
    layout: dict[int, int] = {}


class InsertPlan(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """INSERT: the source's rows are complete stored rows. `layout` is the table's columns' (slot = position)."""

    table: TableDesc
    source: Physical
    layout: dict[int, int]
    checks: tuple[tuple[str, Bound], ...] = ()
    conflict: ConflictClause | None = None
    returning: tuple[Bound, ...] | None = None


class UpdatePlan(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """UPDATE: the input's rows start with the stored row; assigned values are over the whole input row."""

    table: TableDesc
    input: Physical
    layout: dict[int, int]
    assignments: tuple[tuple[int, Bound], ...]
    checks: tuple[tuple[str, Bound], ...] = ()
    returning: tuple[Bound, ...] | None = None


class DeletePlan(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """DELETE: the input's rows start with the stored row."""

    table: TableDesc
    input: Physical
    layout: dict[int, int]
    returning: tuple[Bound, ...] | None = None


Root = Physical | InsertPlan | UpdatePlan | DeletePlan


class Plan(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A planned statement."""

    root: Root
    output: tuple[OutputColumn, ...] | None
    """None: no rows are returned."""
    slots: tuple[int, ...] = ()
    """Where the output columns are in the root's rows."""
    param_types: tuple[Any, ...] = ()
    outer_count: int = 0
    kind: str = "SELECT"
    locks: bool = False
    """Has FOR UPDATE: not read-only."""
    as_of: Any = None
    session_dependent: bool = False
    """Literals were read under this session's settings: not to be shared."""
