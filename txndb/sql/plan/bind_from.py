"""Binding of FROM: tables, virtual tables, subqueries, functions, joins and common tables."""

from __future__ import annotations

from typing import Protocol

from txndb.errors import FeatureNotSupportedError, sql_error
from txndb.sql.catalog.descriptors import TableDesc
from txndb.sql.catalog.virtual import VirtualTable
from txndb.sql.parse import ast
from txndb.sql.plan import functions as fns
from txndb.sql.plan.bind_expr import ExprBinder
from txndb.sql.plan.coerce import unify
from txndb.sql.plan.expr import Bound, Coalesce, Col
from txndb.sql.plan.logical import (
    Apply,
    Filter,
    FunctionScan,
    Join,
    Logical,
    Project,
    Scan,
    ValuesRows,
    VirtualScan,
)
from txndb.sql.plan.scope import Scope, ScopeColumn, Statement
from txndb.sql.types.core import INT8, type_by_oid


class QueryBinder(Protocol):
    """What FROM needs of the query binder."""

    st: Statement

    def bind_query(self, query: ast.Query, scope: Scope) -> tuple[Logical, list[str]]:
        """Bind a subquery."""

    def exprs(self, scope: Scope, clause: str, *, aggregates: bool = False) -> ExprBinder:
        """A binder of expressions."""


def bind_from(binder: QueryBinder, items: tuple[ast.FromItem, ...], scope: Scope) -> Logical:
    """All FROM items, cross-joined into `scope`; without any: one row without columns."""
    plan: Logical | None = None
    for item in items:
        plan = _add_item(binder, plan, item, scope, "INNER")
    return plan if plan is not None else ValuesRows((), ((),))


def _add_item(
    binder: QueryBinder, plan: Logical | None, item: ast.FromItem, scope: Scope, kind: str
) -> Logical:
    """Bind one item and cross-join it, or apply it per row if it refers to the items before it."""
    lateral = getattr(item, "lateral", False) or isinstance(item, ast.FunctionRef)
    if lateral and plan is not None and isinstance(item, ast.SubqueryRef | ast.FunctionRef):
        inner = Scope(scope)
        names = scope.beside()
        right = bind_item(binder, item, names, inner)
        scope.merge(names, position=item.pos)
        if inner.outer:
            columns = (*plan.columns, *right.columns)
            how = "lateral-left" if kind == "LEFT" else "lateral"
            return Apply(columns, plan, right, how, tuple(inner.outer.values()))  # type: ignore[arg-type]
    else:
        names = scope.beside()
        right = bind_item(binder, item, names, None)
        scope.merge(names, position=item.pos)
    if plan is None:
        return right
    return Join((*plan.columns, *right.columns), "INNER", plan, right, ())


def bind_item(binder: QueryBinder, item: ast.FromItem, scope: Scope, lateral: Scope | None) -> Logical:
    """Bind one FROM item, adding its names to `scope`; `lateral` is the scope its expressions may look into."""
    match item:
        case ast.TableRef():
            return _table(binder, item, scope)
        case ast.SubqueryRef():
            plan, names = binder.bind_query(item.query, lateral or scope.beside())
            alias = item.alias.name if item.alias else ""
            _name_columns(scope, alias, names, list(plan.columns), item.alias, item.pos)
            return plan
        case ast.FunctionRef():
            return _function(binder, item, scope, lateral)
        case ast.Join():
            return _join(binder, item, scope)
    raise FeatureNotSupportedError("this FROM item is not supported", position=item.pos)


def _name_columns(
    scope: Scope, alias: str, names: list[str], cols: list[Col], given: ast.Alias | None, position: int
) -> None:
    if given is not None and given.columns:
        if len(given.columns) > len(names):
            raise sql_error(
                "42P10",
                f'table "{alias}" has {len(names)} columns available but {len(given.columns)} columns specified',
            )
        names = [*given.columns, *names[len(given.columns) :]]
    scope.add_table(alias, names, cols, position=position)


def _table(binder: QueryBinder, item: ast.TableRef, scope: Scope) -> Logical:
    st = binder.st
    if item.name.schema is None:
        found = st.find_cte(item.name.name)
        if found is not None:
            return _common_table(binder, item, scope, *found)
    relation = st.find_relation(item.name)
    alias = item.alias.name if item.alias else item.name.name
    if isinstance(relation, VirtualTable):
        cols = [st.new_col(type_by_oid(c.type_oid), c.name, not c.not_null) for c in relation.columns]
        before = len(scope.columns)
        _name_columns(scope, alias, [c.name for c in relation.columns], cols, item.alias, item.pos)
        for named, column in zip(scope.columns[before:], relation.columns, strict=True):
            named.starred = not column.hidden
        return VirtualScan(tuple(cols), relation, alias)
    scan = make_scan(st, relation, alias)
    visible = [(c.name, col) for c, col in zip(relation.columns, scan.columns, strict=True) if not c.hidden]
    _name_columns(scope, alias, [n for n, _ in visible], [c for _, c in visible], item.alias, item.pos)
    return scan


def make_scan(st: Statement, table: TableDesc, alias: str) -> Scan:
    """A scan of a stored table with fresh columns."""
    cols = [
        st.new_col(type_by_oid(c.type_oid).with_typmod(c.typmod), c.name, not c.not_null)
        for c in table.columns
    ]
    for column, col in zip(table.columns, cols, strict=True):
        st.origins[col.id] = (table.id, column.position + 1)
    return Scan(tuple(cols), table, alias)


def _common_table(
    binder: QueryBinder, item: ast.TableRef, scope: Scope, cte: ast.CommonTable, level: int
) -> Logical:
    """A reference binds the common table's query anew, seeing only what was defined before it."""
    if not isinstance(cte.query, ast.Query):
        raise FeatureNotSupportedError(
            "data-modifying statements in WITH are not supported", position=cte.pos
        )
    st = binder.st
    saved, st.ctes = st.ctes, st.ctes[:level]
    try:
        plan, names = binder.bind_query(cte.query, Scope(None))
    finally:
        st.ctes = saved
    if len(cte.columns) > len(names):
        raise sql_error(
            "42P10",
            f'WITH query "{cte.name}" has {len(names)} columns available but {len(cte.columns)} columns specified',
            position=cte.pos,
        )
    names = [*cte.columns, *names[len(cte.columns) :]]
    alias = item.alias.name if item.alias else item.name.name
    _name_columns(scope, alias, names, list(plan.columns), item.alias, item.pos)
    return plan


def _function(binder: QueryBinder, item: ast.FunctionRef, scope: Scope, lateral: Scope | None) -> Logical:
    st = binder.st
    call = item.call
    name = call.name if isinstance(call, ast.SqlValueFunction) else call.name[-1]
    alias = item.alias.name if item.alias else name
    exprs = binder.exprs(lateral or scope.beside(), "functions in FROM")
    if isinstance(call, ast.SqlValueFunction) or not fns.is_set_returning(st, name, len(call.args)):
        value = exprs.bind_known(call)
        plan: Logical = Project((st.new_col(value.type, name),), ValuesRows((), ((),)), (value,))
        names = [alias]
    else:
        calls = fns.lockstep_calls(call, item.beside)
        bound = [fns.bind_set(st, c, [exprs.bind(a) for a in c.args], item.pos) for c in calls]
        if len(bound) > 1 and any(len(given) > 1 for *_, given in bound):
            raise FeatureNotSupportedError(
                "functions of several columns in lockstep are not supported", position=item.pos
            )
        results = [result for *_, given in bound for result in given]
        cols = [st.new_col(t, n) for t, n in results]
        if item.ordinality:
            cols.append(st.new_col(INT8, "ordinality", nullable=False))
        names = [alias if len(results) == 1 else n for _, n in results]
        args = tuple(a for _, given, _ in bound for a in given)
        lockstep = tuple((maker, len(given)) for maker, given, _ in bound) if len(bound) > 1 else ()
        plan = FunctionScan(tuple(cols), bound[0][0], args, item.ordinality, lockstep)
    if item.ordinality:
        names.append("ordinality")
    _name_columns(scope, alias, names, list(plan.columns), item.alias, item.pos)
    return exprs.take_applies(plan)


def _join(binder: QueryBinder, item: ast.Join, scope: Scope) -> Logical:
    left_scope = scope.beside()
    left = bind_item(binder, item.left, left_scope, None)
    kind = "INNER" if item.kind == "CROSS" else item.kind
    right_item = item.right
    lateral = getattr(right_item, "lateral", False) or isinstance(right_item, ast.FunctionRef)
    if lateral and kind in ("INNER", "LEFT"):
        joined = scope.beside()
        joined.merge(left_scope)
        plan = _add_item(binder, left, right_item, joined, kind)
        if isinstance(plan, Apply):
            return _lateral_condition(binder, item, scope, joined, plan, kind)
        assert isinstance(plan, Join)
        right, right_scope = plan.right, scope.beside()
        right_scope.tables = joined.tables[len(left_scope.tables) :]
        right_scope.columns = joined.columns[len(left_scope.columns) :]
    else:
        right_scope = scope.beside()
        right = bind_item(binder, right_item, right_scope, None)
    merged = scope.beside()
    merged.merge(left_scope)
    merged.merge(right_scope, position=item.pos)
    using = item.using
    if item.natural:
        rights = {c.name for c in right_scope.columns if c.starred}
        using = tuple(c.name for c in left_scope.columns if c.starred and c.name in rights)
    conditions: list[Bound] = []
    extra: list[ScopeColumn] = []
    for name in using:
        condition, column = _using(binder, name, left_scope, right_scope, kind, item.pos)
        conditions.append(condition)
        extra.append(column)
    exprs = binder.exprs(merged, "JOIN conditions")
    if item.on is not None:
        conditions.append(exprs.bind_condition(item.on, "JOIN/ON"))
    if exprs.applies and kind != "INNER":
        left = exprs.take_applies(left) if not any(outer for *_, outer in exprs.applies) else left
        if exprs.applies:
            raise FeatureNotSupportedError("a correlated subquery in an outer join's ON", position=item.pos)
    plan = Join((*left.columns, *right.columns), kind, left, right, tuple(conditions))
    if exprs.applies:
        plan = _inner_with_subqueries(exprs, left, right, conditions)
    merged.columns = [*extra, *merged.columns]
    if item.alias is not None:
        names = [c.name for c in merged.columns if c.starred]
        cols = [c.col for c in merged.columns if c.starred]
        _name_columns(
            scope, item.alias.name, names, [c for c in cols if isinstance(c, Col)], item.alias, item.pos
        )
    else:
        scope.merge(merged)
    return plan


def _inner_with_subqueries(
    exprs: ExprBinder, left: Logical, right: Logical, conditions: list[Bound]
) -> Logical:
    plan = exprs.take_applies(Join((*left.columns, *right.columns), "INNER", left, right, ()))
    return Filter(plan.columns, plan, tuple(conditions))


def _lateral_condition(
    binder: QueryBinder, item: ast.Join, scope: Scope, joined: Scope, plan: Logical, kind: str
) -> Logical:
    scope.merge(joined, position=item.pos)
    if item.on is None or (isinstance(item.on, ast.Literal) and item.on.value is True):
        return plan
    if kind == "LEFT":
        raise FeatureNotSupportedError(
            "LEFT JOIN LATERAL with a condition other than true", position=item.on.pos
        )
    exprs = binder.exprs(joined, "JOIN conditions")
    condition = exprs.bind_condition(item.on, "JOIN/ON")
    plan = exprs.take_applies(plan)
    return Filter(plan.columns, plan, (condition,))


def _using(
    binder: QueryBinder, name: str, left: Scope, right: Scope, kind: str, position: int
) -> tuple[Bound, ScopeColumn]:
    """One USING column: the equality, and the merged column; the two originals lose their unqualified name."""
    sides: list[ScopeColumn] = []
    for side, word in ((left, "left"), (right, "right")):
        found = side.lookup((name,))
        if not found:
            raise sql_error(
                "42703",
                f'column "{name}" specified in USING clause does not exist in {word} table',
            )
        if len(found) > 1:
            raise sql_error(
                "42702",
                f'common column name "{name}" appears more than once in {word} table',
            )
        sides.append(found[0])
    a, b = sides
    condition = fns.make_operator(binder.st, "=", a.col, b.col)
    for entry in sides:
        entry.unqualified = entry.starred = False
    merged: Bound = b.col if kind == "RIGHT" else a.col
    if kind == "FULL":
        pair = unify(binder.st, [a.col, b.col], "JOIN/USING", positions=[position, position])
        merged = Coalesce(pair[0].type, tuple(pair))
    return condition, ScopeColumn(name, "", merged)
