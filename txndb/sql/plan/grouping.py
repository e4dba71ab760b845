"""Grouping: splits expressions over a grouped query into what is computed before and after the aggregation."""

from __future__ import annotations

from txndb.errors import sql_error
from txndb.sql.catalog.descriptors import TableDesc
from txndb.sql.parse import ast
from txndb.sql.plan.bind_expr import ExprBinder
from txndb.sql.plan.expr import Aggregate, Bound, Col, Const, Param, columns_of, transform, walk
from txndb.sql.plan.logical import Aggregation, Filter, Join, Logical, Scan
from txndb.sql.plan.scope import Statement


def group(
    st: Statement,
    binder: ExprBinder,
    plan: Logical,
    keys: list[Bound],
    exprs: list[Bound],
    select: ast.Select,
) -> tuple[Logical, list[Bound]]:
    """Put the aggregation over `plan`; returns it and `exprs` rewritten over its columns.

    Subqueries used inside aggregates or keys run below the aggregation, the others above it.
    """
    plan = _lower_applies(binder, plan, keys, exprs)
    keys = [k for i, k in enumerate(keys) if k not in keys[:i] and not isinstance(k, Const | Param)]
    keys += _dependent_columns(plan, keys, exprs, binder)
    aggregates: list[Aggregate] = []
    for expr in exprs:
        for node in walk(expr):
            if isinstance(node, Aggregate) and node not in aggregates:
                aggregates.append(node)
    key_cols = [k if isinstance(k, Col) else st.new_col(k.type, "key") for k in keys]
    aggregate_cols = [st.new_col(a.type, a.name) for a in aggregates]
    made: Logical = Aggregation((*key_cols, *aggregate_cols), plan, tuple(keys), tuple(aggregates))

    def replace(node: Bound) -> Bound | None:
        if isinstance(node, Aggregate):
            return aggregate_cols[aggregates.index(node)]
        if isinstance(node, Const | Param):
            return node
        if node in keys:
            return key_cols[keys.index(node)]
        return None

    rewritten = [transform(expr, replace) for expr in exprs]
    known = {c.id for c in made.columns}
    known |= {col.id for col, *_ in binder.applies if col is not None}
    for expr in rewritten:
        _check_grouped(expr, known, binder, plan)
    for _, _, _, outer in binder.applies:
        for col, _ in outer:
            _check_grouped(col, known, binder, plan)
    return binder.take_applies(made), rewritten


def _lower_applies(binder: ExprBinder, plan: Logical, keys: list[Bound], exprs: list[Bound]) -> Logical:
    inside: set[int] = set()
    for key in keys:
        inside |= columns_of(key).keys()
    for expr in exprs:
        for node in walk(expr):
            if isinstance(node, Aggregate):
                inside |= columns_of(node).keys()
    above = [a for a in binder.applies if a[0] is None or a[0].id not in inside]
    binder.applies = [a for a in binder.applies if a[0] is not None and a[0].id in inside]
    plan = binder.take_applies(plan)
    binder.applies = above
    return plan


def _dependent_columns(
    plan: Logical, keys: list[Bound], exprs: list[Bound], binder: ExprBinder
) -> list[Bound]:
    """Columns used outside aggregates of tables whose whole primary key is grouped by (they depend on it)."""
    key_ids = {k.id for k in keys if isinstance(k, Col)}
    allowed: set[int] = set()
    for scan in _scans(plan):
        table: TableDesc = scan.table
        if not table.has_primary_key:
            continue
        by_position = {c.position: col for c, col in zip(table.columns, scan.columns, strict=True)}
        if all(by_position[p].id in key_ids for p in table.primary.columns):
            allowed |= {c.id for c in scan.columns}
    if not allowed:
        return []
    extra: dict[int, Bound] = {}

    def visit(node: Bound) -> None:
        if isinstance(node, Aggregate) or node in keys:
            return
        if isinstance(node, Col) and node.id in allowed:
            extra.setdefault(node.id, node)
        for child in node.children():
            visit(child)

    for expr in exprs:
        visit(expr)
    for _, _, _, outer in binder.applies:
        for col, _ in outer:
            visit(col)
    return list(extra.values())


def _scans(plan: Logical) -> list[Scan]:
    if isinstance(plan, Scan):
        return [plan]
    if isinstance(plan, Filter):
        return _scans(plan.input)
    if isinstance(plan, Join):
        return [*_scans(plan.left), *_scans(plan.right)]
    return []


def _check_grouped(expr: Bound, known: set[int], binder: ExprBinder, plan: Logical) -> None:
    for col_id, col in columns_of(expr).items():
        if col_id in known:
            continue
        name = col.name
        for entry in binder.scope.columns:
            if isinstance(entry.col, Col) and entry.col.id == col_id:
                name = f"{entry.table}.{entry.name}" if entry.table else entry.name
                break
        raise sql_error(
            "42803",
            f'column "{name}" must appear in the GROUP BY clause or be used in an aggregate function',
            position=binder.positions.get(col_id, 0),
        )
