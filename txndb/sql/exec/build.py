"""Physical plans to running operators: expressions are compiled here, once per plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from txndb.errors import InternalError
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.exec import operators as ops
from txndb.sql.exec.aggregate import aggregate_operator
from txndb.sql.exec.codegen import (
    Batch,
    Codegen,
    batch_filter,
    batch_project,
    batch_value,
    row_condition,
    row_tuple,
)
from txndb.sql.exec.constantrows import CHUNK_ROWS, LongRows, plain_rows
from txndb.sql.exec.functionrows import function_rows
from txndb.sql.exec.join import HashJoin, LoopJoin
from txndb.sql.exec.program import make_program
from txndb.sql.exec.scan import BoundsCode, LookupJoin, PointScan, SpanScan, VirtualScan
from txndb.sql.exec.table import TableCodec, table_codec
from txndb.sql.plan import physical as ph
from txndb.sql.plan.expr import OUTER_PARAM, Bound, Col, Const, is_volatile
from txndb.sql.types import group_key, sort_key
from txndb.sql.types.core import BOOL
from txndb.txn.api import Lock


class Builder:
    """Builds the operators of one plan. `param_count`: the client's and lifted parameters, before outer columns."""

    def __init__(self, catalog: Catalog, param_count: int) -> None:
        self.catalog = catalog
        self.param_count = param_count
        self.unfinished: list[LongRows] = []
        """What is compiled in turns, or when it first runs."""

    def gen(self, node: ph.Physical | None = None) -> Codegen:
        """A code generator over an operator's rows."""
        if node is None:
            return Codegen({}, self.param_count)
        return Codegen(node.layout, self.param_count, node.nonnull)

    def build(self, node: ph.Physical) -> ops.Operator:
        """The operator of a physical node."""
        return _BUILDERS[type(node)](self, node)

    # --- leaves

    def _scan(self, node: ph.IndexScan) -> ops.Operator:
        table = table_codec(self.catalog, node.table)
        index = table.index_codec(node.index.id)
        lock = Lock(max(Lock.SHARED, node.lock))
        bounds = self.bounds(table, node, self.gen())
        if node.point and index.primary:
            keep = batch_filter(self.gen(node), node.filters) if node.filters else None
            return PointScan(table, bounds, keep, lock)
        lookup = not node.covering
        program = None
        if node.filters and not lookup and not node.point:
            program = make_program(table, index, node.layout, node.filters, self.gen())
        keep = None
        if node.filters and program is None:
            keep = batch_filter(self.gen(node), node.filters)
        limit = row_tuple(self.gen(), node.limit) if node.limit else None
        return SpanScan(
            table,
            index,
            bounds,
            point=node.point,
            lookup=lookup,
            reverse=node.reverse,
            keep=keep,
            program=program,
            limit=limit,
            lock=lock,
        )

    def bounds(self, table: TableCodec, node: ph.IndexScan, gen: Codegen) -> BoundsCode:
        """An index scan's bounds, compiled over the rows `gen` knows."""
        index = table.index_codec(node.index.id)
        b = node.bounds
        values = row_tuple(_fresh(gen), b.equal)
        list_values = row_tuple(_fresh(gen), b.in_list) if b.in_list is not None else None
        range_values = None
        if b.low is not None or b.high is not None:
            null = Const(BOOL, None)
            flags = (Const(BOOL, b.low is not None), Const(BOOL, b.high is not None))
            range_values = row_tuple(_fresh(gen), (b.low or null, b.high or null, *flags))
        return BoundsCode(index, b, values, list_values, range_values)

    def _virtual(self, node: ph.VirtualRows) -> ops.Operator:
        return VirtualScan(node.table.rows)

    def _function(self, node: ph.FunctionRows) -> ops.Operator:
        args = row_tuple(self.gen(), node.args)
        types = [a.type for a in node.args]
        parts = node.lockstep or ((node.name, len(types)),)
        return ops.Constant(function_rows(parts, args, types, node.ordinality))

    def _constant(self, node: ph.ConstantRows) -> ops.Operator:
        return ops.Constant(self.constant(node.exprs))

    def constant(self, exprs: Sequence[Sequence[Bound]]) -> Callable[[Any, Sequence[Any], Any], list[Any]]:
        """`(_, p, ctx) -> rows` of expressions without columns."""
        plain = plain_rows(exprs, self.param_count)
        if plain is not None:
            return plain
        rows = LongRows(exprs, self.gen)
        if len(exprs) > CHUNK_ROWS:
            self.unfinished.append(rows)
        return rows

    # --- rows to rows

    def _filter(self, node: ph.FilterRows) -> ops.Operator:
        return ops.Filter(self.build(node.input), batch_filter(self.gen(node.input), node.conditions))

    def _project(self, node: ph.ProjectRows) -> ops.Operator:
        below = node.input
        if isinstance(below, ph.FilterRows):
            made = batch_project(self.gen(below.input), node.exprs, below.conditions)
            return ops.Project(self.build(below.input), made)
        return ops.Project(self.build(below), batch_project(self.gen(below), node.exprs))

    def _limit(self, node: ph.LimitRows) -> ops.Operator:
        null = Const(BOOL, None)
        bounds = row_tuple(self.gen(), (node.limit or null, node.offset or null))
        return ops.Limit(self.build(node.input), bounds)

    def _sort(self, node: ph.SortRows) -> ops.Operator:
        wanted = row_tuple(self.gen(), node.limit) if node.limit else None
        numeric = all(
            i.expr.type.kind in ("int", "bool") and sort_key(i.expr.type) is None for i in node.items
        )
        ascending = all(not i.descending and not i.nulls_first for i in node.items)
        keys = [(self._sort_key(node.input, i), i.descending) for i in node.items]
        single = None
        if len(keys) == 1 and not node.items[0].descending:
            single = keys[0][0]
        elif numeric or ascending:
            single = self._combined_key(node)
        return ops.Sort(self.build(node.input), keys, single, wanted)

    def _combined_key(self, node: ph.SortRows) -> Batch:
        """All keys as one tuple; numbers of descending keys are negated."""
        gen = self.gen(node.input)
        parts = []
        for item in node.items:
            name = gen.temp()
            key = sort_key(item.expr.type)
            value = f"{gen.bind(key, 'key')}({name})" if key is not None else name
            if item.descending:
                value = f"-{value}"
            null = "0" if item.nulls_first else "2"
            parts.append(f"({null}, 0) if ({name} := {gen.value(item.expr)}) is None else (1, {value})")
        made: Batch = gen.function("rows, p, ctx", f"[({', '.join(parts)},) for r in rows]")
        return made

    def _sort_key(self, below: ph.Physical, item: Any) -> Batch:
        """Keys that sort NULLs where wanted, also when the order is reversed."""
        gen = self.gen(below)
        name = gen.temp()
        key = sort_key(item.expr.type)
        value = f"{gen.bind(key, 'key')}({name})" if key is not None else name
        first = item.nulls_first != item.descending
        null = "(0, 0)" if first else "(2, 0)"
        body = f"[{null} if ({name} := {gen.value(item.expr)}) is None else (1, {value}) for r in rows]"
        made: Batch = gen.function("rows, p, ctx", body)
        return made

    def _distinct(self, node: ph.DistinctRows) -> ops.Operator:
        return ops.Distinct(self.build(node.input), self.group_keys(node.input, node.keys))

    def group_keys(self, below: ph.Physical, exprs: Sequence[Bound], *, join: bool = False) -> Batch:
        """Hashable keys, equal exactly when SQL's grouping says so. For joins: None if any part is NULL."""
        gen = self.gen(below)
        parts: list[str] = []
        names: list[str] = []
        for expr in exprs:
            source = gen.value(expr)
            name = gen.temp()
            names.append(name)
            key = group_key(expr.type)
            if key is not None:
                source = f"(None if ({name} := {source}) is None else {gen.bind(key, 'key')}({name}))"
            parts.append(source)
        if len(parts) == 1:
            body = parts[0]
        elif not join:
            body = f"({', '.join(parts)},)" if parts else "()"
        else:
            checks = " or ".join(f"({n} := {s}) is None" for n, s in zip(names, parts, strict=True))
            body = f"None if {checks} else ({', '.join(names)})"
        made: Batch = gen.function("rows, p, ctx", f"[{body} for r in rows]")
        return made

    def _set_op(self, node: ph.SetOperation) -> ops.Operator:
        columns = {slot: column for column, slot in node.left.layout.items()}
        keys = [Col(node.types[slot], columns[slot]) for slot in range(node.width)]
        key = self.group_keys(node.left, keys)
        return ops.SetOperation(node.op, node.all, self.build(node.left), self.build(node.right), key)

    def _aggregate(self, node: ph.HashAggregate) -> ops.Operator:
        key = self.group_keys(node.input, node.keys) if node.keys else None
        return aggregate_operator(self, node, self.build(node.input), key)

    def _apply(self, node: ph.ApplyRows) -> ops.Operator:
        outer = None
        if node.outer:
            outer = batch_project(self.gen(node.input), [c for c, _ in node.outer])
        slots = [self.param_count + index - OUTER_PARAM for _, index in node.outer]
        return ops.Apply(
            self.build(node.input),
            self.build(node.subplan),
            node.kind,
            outer,
            slots,
            node.subplan.width,
            forms=any(c.type.has_forms for c, _ in node.outer),
        )

    # --- joins

    def _condition(self, node: ph.Physical, conditions: Sequence[Bound]) -> Any:
        if not conditions:
            return None
        gen = Codegen(node.layout, self.param_count)
        return row_condition(gen, conditions)

    def _hash_join(self, node: ph.HashJoin) -> ops.Operator:
        return HashJoin(
            self.build(node.left),
            self.build(node.right),
            kind=node.kind,
            left_key=self.group_keys(node.left, node.left_keys, join=True),
            right_key=self.group_keys(node.right, node.right_keys, join=True),
            left_width=node.left.width,
            right_width=node.right.width,
            condition=self._condition(node, node.conditions),
            volatile=any(map(is_volatile, node.conditions)),
        )

    def _loop_join(self, node: ph.LoopJoin) -> ops.Operator:
        return LoopJoin(
            self.build(node.left),
            self.build(node.right),
            kind=node.kind,
            left_width=node.left.width,
            right_width=node.right.width,
            condition=self._condition(node, node.conditions),
            volatile=any(map(is_volatile, node.conditions)),
        )

    def _lookup_join(self, node: ph.LookupJoin) -> ops.Operator:
        inner = node.inner
        table = table_codec(self.catalog, inner.table)
        index = table.index_codec(inner.index.id)
        return LookupJoin(
            self.build(node.left),
            table,
            index,
            self.bounds(table, inner, self.gen(node.left)),
            kind=node.kind,
            point=inner.point,
            lookup=not inner.covering,
            inner_width=inner.width,
            condition=self._condition(node, node.conditions),
            volatile=any(map(is_volatile, node.conditions)),
            lock=Lock(max(Lock.SHARED, inner.lock)),
        )


def _fresh(gen: Codegen) -> Codegen:
    return Codegen(gen.layout, gen.param_count, gen.nonnull)


def _unknown(_: Builder, node: Any) -> ops.Operator:
    raise InternalError(f"no operator for {type(node).__name__}")


_BUILDERS: dict[type, Callable[[Builder, Any], ops.Operator]] = {
    ph.IndexScan: Builder._scan,
    ph.VirtualRows: Builder._virtual,
    ph.FunctionRows: Builder._function,
    ph.ConstantRows: Builder._constant,
    ph.FilterRows: Builder._filter,
    ph.ProjectRows: Builder._project,
    ph.LimitRows: Builder._limit,
    ph.SortRows: Builder._sort,
    ph.DistinctRows: Builder._distinct,
    ph.SetOperation: Builder._set_op,
    ph.HashAggregate: Builder._aggregate,
    ph.ApplyRows: Builder._apply,
    ph.HashJoin: Builder._hash_join,
    ph.LoopJoin: Builder._loop_join,
    ph.LookupJoin: Builder._lookup_join,
    ph.Physical: _unknown,
}

__all__ = ["Builder", "batch_value"]
