"""Binding of queries: SELECT, VALUES and set operations to logical plans.

The order is SQL's: FROM, WHERE, GROUP BY and aggregates, HAVING, target list, DISTINCT, ORDER BY, LIMIT. Sort keys
that are not output columns travel as extra columns of the projection and are cut off after the sort.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from txndb.errors import FeatureNotSupportedError, sql_error
from txndb.sql.parse import ast
from txndb.sql.plan import functions as fns
from txndb.sql.plan.bind_expr import ExprBinder, contains_aggregate, sort_item, start_of
from txndb.sql.plan.bind_from import bind_from
from txndb.sql.plan.coerce import coerce, common_type, type_display, unify
from txndb.sql.plan.expr import Aggregate, Bound, Col, Const, Param, columns_of, transform
from txndb.sql.plan.grouping import group
from txndb.sql.plan.lift_sets import lift_sets
from txndb.sql.plan.logical import (
    Distinct,
    Filter,
    Limit,
    Logical,
    Project,
    Scan,
    SetOp,
    Sort,
    SortItem,
    ValuesRows,
    transform_up,
)
from txndb.sql.plan.scope import Scope, Statement
from txndb.sql.types.core import INT8, TEXT, UNKNOWN, SqlType


class _Target(msgspec.Struct):
    """One bound item of a target list."""

    name: str
    expr: Bound
    node: ast.Expr


class QueryBinder:
    """Binds the queries of one statement."""

    def __init__(self, statement: Statement) -> None:
        self.st = statement

    def exprs(self, scope: Scope, clause: str, *, aggregates: bool = False) -> ExprBinder:
        """A binder of expressions in `scope`."""
        return ExprBinder(self.st, scope, self.bind_query, clause=clause, aggregates=aggregates)

    def bind_query(
        self, query: ast.Query, scope: Scope, *, keep_unknown: bool = False
    ) -> tuple[Logical, list[str]]:
        """A whole query in a fresh scope (whose parent is the enclosing query's); its plan and column names.

        With `keep_unknown` untyped constants of the target list stay so, for `settle_unknown`.
        """
        if query.recursive:
            raise FeatureNotSupportedError("WITH RECURSIVE is not supported", position=query.pos)
        if query.with_ties:
            raise FeatureNotSupportedError("WITH TIES is not supported", position=query.pos)
        for i in range(len(query.with_)):
            if any(query.with_[i].name == earlier.name for earlier in query.with_[:i]):
                raise sql_error(
                    "42712",
                    f'WITH query name "{query.with_[i].name}" specified more than once',
                    position=query.with_[i].pos,
                )
            frame = {query.with_[i].name: (query.with_[i], len(self.st.ctes))}
            self.st.ctes.append(frame)
        try:
            plan, names = self._bind_body(query, scope, keep_unknown=keep_unknown)
        finally:
            for _ in query.with_:
                self.st.ctes.pop()
        if query.limit is not None or query.offset is not None:
            plan = self._limit(query, plan, scope)
        return plan, names

    def _bind_body(
        self, query: ast.Query, scope: Scope, *, keep_unknown: bool = False
    ) -> tuple[Logical, list[str]]:
        body = query.body
        if isinstance(body, ast.Select):
            return SelectBinder(self, query, body, scope, keep_unknown=keep_unknown).bind()
        if query.locking:
            strength = query.locking[0].strength
            if isinstance(body, ast.Values):
                raise sql_error("0A000", f"FOR {strength} cannot be applied to VALUES")
            raise sql_error("0A000", f"FOR {strength} is not allowed with UNION/INTERSECT/EXCEPT")
        match body:
            case ast.Values():
                plan, names = self.bind_values(body, scope)
            case ast.SetOperation():
                plan, names = self._set_operation(body, scope)
            case ast.Query():
                plan, names = self.bind_query(body, scope)
        if query.order_by:
            plan = self._sort_output(query, plan, names, scope)
        return plan, names

    def _limit(self, query: ast.Query, plan: Logical, scope: Scope) -> Logical:
        bound: list[Bound | None] = []
        for node, clause in ((query.limit, "LIMIT"), (query.offset, "OFFSET")):
            if node is None:
                bound.append(None)
                continue
            exprs = self.exprs(scope, clause)
            expr = exprs.bind_as(node, INT8, "a")
            for col in columns_of(expr):
                if exprs.applies:
                    raise FeatureNotSupportedError(
                        f"a subquery in {clause} is not supported", position=node.pos
                    )
                raise sql_error(
                    "42P10",
                    f"argument of {clause} must not contain variables",
                    position=exprs.positions.get(col, node.pos),
                )
            bound.append(expr)
        return Limit(plan.columns, plan, *bound)

    def bind_values(
        self, body: ast.Values, scope: Scope, targets: list[SqlType] | None = None
    ) -> tuple[Logical, list[str]]:
        """VALUES; the types are unified by column, except where `targets` says what INSERT wants."""
        exprs = self.exprs(scope.beside(), "VALUES")
        width = len(body.rows[0])
        rows: list[list[Bound]] = []
        for row in body.rows:
            if len(row) != width:
                raise sql_error("42601", "VALUES lists must all be the same length", position=row[0].pos)
            rows.append([exprs.bind(e) for e in row])
        for i in range(width):
            column = [row[i] for row in rows]
            if targets is None or len(rows) > 1 or column[0].type.oid != UNKNOWN.oid:
                column = unify(self.st, column, "VALUES", positions=[start_of(row[i]) for row in body.rows])
            for cells, value in zip(rows, column, strict=True):
                cells[i] = value
        names = [f"column{i + 1}" for i in range(width)]
        cols = tuple(self.st.new_col(e.type, n) for e, n in zip(rows[0], names, strict=True))
        if exprs.applies:
            return self._values_with_subqueries(exprs, rows, cols, body), names
        return ValuesRows(cols, tuple(tuple(r) for r in rows)), names

    def _values_with_subqueries(
        self, exprs: ExprBinder, rows: list[list[Bound]], cols: tuple[Col, ...], body: ast.Values
    ) -> Logical:
        if len(rows) > 1:
            raise FeatureNotSupportedError("subqueries in VALUES of several rows", position=body.pos)
        plan = exprs.take_applies(ValuesRows((), ((),)))
        return Project(cols, plan, tuple(rows[0]))

    def _set_operation(self, body: ast.SetOperation, scope: Scope) -> tuple[Logical, list[str]]:
        left, names = self._operand(body.left, scope)
        right, _ = self._operand(body.right, scope)
        if len(left.columns) != len(right.columns):
            raise sql_error(
                "42601",
                f"each {body.op} query must have the same number of columns",
                position=target_places(body.right, 1)[0],
            )
        places = target_places(body.right, len(right.columns))
        types = [
            common_type([a.type, b.type], body.op, position=place)
            for a, b, place in zip(left.columns, right.columns, places, strict=True)
        ]
        left, right = self.settle_unknown(left, types), self.settle_unknown(right, types)
        left, right = self._retype(left, types), self._retype(right, types)
        cols = tuple(self.st.new_col(t, n) for t, n in zip(types, names, strict=True))
        return SetOp(cols, body.op, body.all, left, right), names

    def _operand(self, body: ast.QueryBody, scope: Scope) -> tuple[Logical, list[str]]:
        inner = scope.beside()
        if isinstance(body, ast.Query):
            result = self.bind_query(body, inner, keep_unknown=True)
        else:
            result = self._bind_body(ast.Query(body=body, pos=body.pos), inner, keep_unknown=True)
        return result

    def settle_unknown(self, plan: Logical, types: list[SqlType]) -> Logical:
        """The plan with its untyped constants read as `types` (as text where that is not possible)."""
        if not any(c.type.oid == UNKNOWN.oid for c in plan.columns):
            return plan
        if not isinstance(plan, Project):
            exprs: list[Bound] = list(plan.columns)
            below: Logical = plan
        else:
            exprs, below = list(plan.exprs), plan.input
        cols = list(plan.columns)
        for i, (expr, type_) in enumerate(zip(exprs, types, strict=False)):
            if expr.type.oid == UNKNOWN.oid:
                known = isinstance(expr, Const | Param)
                exprs[i] = coerce(self.st, expr, type_.base if known else TEXT, "i" if known else "e")
                cols[i] = self.st.new_col(exprs[i].type, cols[i].name)
        return Project(tuple(cols), below, tuple(exprs))

    def _retype(self, plan: Logical, types: list[SqlType]) -> Logical:
        """The plan with its columns coerced to `types`."""
        if all(c.type == t for c, t in zip(plan.columns, types, strict=True)):
            return plan
        exprs = tuple(coerce(self.st, c, t, "i") for c, t in zip(plan.columns, types, strict=True))
        cols = tuple(
            c if e is c else self.st.new_col(t, c.name)
            for c, e, t in zip(plan.columns, exprs, types, strict=True)
        )
        return Project(cols, plan, exprs)

    def _sort_output(self, query: ast.Query, plan: Logical, names: list[str], scope: Scope) -> Logical:
        """ORDER BY of a set operation or VALUES: output columns only."""
        exprs = self.exprs(scope, "ORDER BY")
        items: list[SortItem] = []
        for key in query.order_by:
            col = output_column(key.expr, names, list(plan.columns))
            if col is None:
                output = Scope()
                output.add_table("", names, list(plan.columns))
                self.exprs(output, "ORDER BY").bind(key.expr)  # raises for a name that is no output column
                raise sql_error(
                    "0A000",
                    "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                    detail="Only result column names can be used, not expressions or functions.",
                    hint="Add the expression/function to every SELECT, or move the UNION into a FROM clause.",
                    position=start_of(key.expr),
                )
            items.append(sort_item(exprs, key, col))
        return Sort(plan.columns, plan, tuple(items))


def output_column(
    node: ast.Expr, names: list[str], columns: list[Col], clause: str = "ORDER BY"
) -> Col | None:
    """The output column that an ORDER BY or GROUP BY item means by position or name."""
    if isinstance(node, ast.Literal) and node.kind != "integer":
        raise sql_error("42601", f"non-integer constant in {clause}", position=node.pos)
    if isinstance(node, ast.Literal):
        assert isinstance(node.value, int)
        if not 1 <= node.value <= len(names):
            raise sql_error(
                "42P10", f"{clause} position {node.value} is not in select list", position=node.pos
            )
        return columns[node.value - 1]
    if isinstance(node, ast.ColumnRef) and len(node.parts) == 1:
        found = {c for n, c in zip(names, columns, strict=True) if n == node.parts[0]}
        if len(found) > 1:
            raise sql_error("42702", f'{clause} "{node.parts[0]}" is ambiguous', position=node.pos)
        for n, c in zip(names, columns, strict=True):
            if n == node.parts[0]:
                return c
    return None


class SelectBinder:
    """Binds one SELECT with the ORDER BY of its query."""

    def __init__(
        self,
        queries: QueryBinder,
        query: ast.Query,
        select: ast.Select,
        scope: Scope,
        *,
        keep_unknown: bool = False,
    ) -> None:
        self.keep_unknown = (
            keep_unknown and not select.distinct and not query.order_by and not select.group_by
        )
        self.queries = queries
        self.st = queries.st
        self.query = query
        self.select = lift_sets(select, lambda name, count: fns.is_set_of_values(queries.st, name, count))
        self.scope = scope
        self.exprs = queries.exprs(scope, "", aggregates=True)

    def bind(self) -> tuple[Logical, list[str]]:
        """The plan and the output columns' names."""
        select = self.select
        plan = bind_from(self.queries, select.from_, self.scope)
        if select.where is not None:
            where = self.queries.exprs(self.scope, "WHERE")
            condition = where.bind_condition(select.where, "WHERE")
            plan = where.take_applies(plan)
            plan = Filter(plan.columns, plan, (condition,))
        if self.query.locking:
            if select.distinct:
                strength = self.query.locking[0].strength
                raise sql_error("0A000", f"FOR {strength} is not allowed with DISTINCT clause")
            plan = self._lock(plan)
        targets = self._targets()
        items = self._sort_items(targets)
        having = None
        if select.having is not None:
            having = self.exprs.bind_condition(select.having, "HAVING")
        grouped = bool(select.group_by) or having is not None
        exprs = [t.expr for t in targets] + [i.expr for i in items] + ([having] if having is not None else [])
        if grouped or any(contains_aggregate(e) for e in exprs):
            if self.query.locking:
                what = "GROUP BY clause" if select.group_by else "HAVING clause"
                if not grouped:
                    what = "aggregate functions"
                strength = self.query.locking[0].strength
                raise sql_error("0A000", f"FOR {strength} is not allowed with {what}")
            keys = [self._group_key(node, targets) for node in select.group_by]
            plan, exprs = group(self.st, self.exprs, plan, keys, exprs, select)
        else:
            plan = self.exprs.take_applies(plan)
        if having is not None:
            plan = Filter(plan.columns, plan, (exprs.pop(),))
        names = [t.name for t in targets]
        return self._output(plan, names, exprs[: len(targets)], exprs[len(targets) :], items), names

    def _lock(self, plan: Logical) -> Logical:
        names: set[str] = set()
        for locking in self.query.locking:
            if locking.wait != "BLOCK":
                raise FeatureNotSupportedError(f"{locking.wait} is not supported", position=locking.pos)
            for name in locking.of:
                if not self.scope.has_table(name.name):
                    raise sql_error(
                        "42P01",
                        f'relation "{name}" in FOR {locking.strength} clause not found in FROM clause',
                        position=name.pos,
                    )
                names.add(name.name)
        exclusive = any("UPDATE" in item.strength for item in self.query.locking)

        def lock(node: Logical) -> Logical:
            if isinstance(node, Scan) and (not names or node.alias in names):
                return msgspec.structs.replace(node, lock=2 if exclusive else 1)
            return node

        locked: Logical = transform_up(plan, lock)
        return locked

    def _targets(self) -> list[_Target]:
        targets: list[_Target] = []
        for target in self.select.targets:
            if isinstance(target.expr, ast.Star):
                targets += self._star(target.expr)
                continue
            bound = self.exprs.bind(target.expr) if self.keep_unknown else self.exprs.bind_known(target.expr)
            targets.append(_Target(target.alias or output_name(target.expr), bound, target.expr))
        return targets

    def _star(self, star: ast.Star) -> list[_Target]:
        return [_Target(name, expr, star) for name, expr in expand_star(self.scope, star)]

    def _sort_items(self, targets: list[_Target]) -> list[SortItem]:
        names = [t.name for t in targets]
        items = []
        for key in self.query.order_by:
            expr = self._output_expr(key.expr, names, targets, "ORDER BY")
            items.append(sort_item(self.exprs, key, expr))
        return items

    def _output_expr(
        self, node: ast.Expr, names: list[str], targets: list[_Target], clause: str
    ) -> Bound | None:
        """What an ORDER BY item or GROUP BY position or name means, if it is an output column."""
        probes = [Col(t.expr.type, -1 - i) for i, t in enumerate(targets)]
        if clause == "ORDER BY" and isinstance(node, ast.ColumnRef) and len(node.parts) == 1:
            same = {id_ for id_, n in enumerate(names) if n == node.parts[0]}
            exprs = [targets[i].expr for i in sorted(same)]
            if exprs and all(e == exprs[0] for e in exprs):
                return exprs[0]
        col = output_column(node, names, probes, clause)
        return None if col is None else targets[-1 - col.id].expr

    def _group_key(self, node: ast.Expr, targets: list[_Target]) -> Bound:
        """GROUP BY: an input column wins over an output name (PostgreSQL's rule)."""
        if isinstance(node, ast.ColumnRef) and len(node.parts) == 1 and self.scope.lookup(node.parts):
            return self.exprs.bind(node)
        found = self._output_expr(node, [t.name for t in targets], targets, "GROUP BY")
        key = found if found is not None else self.queries.exprs(self.scope, "GROUP BY").bind_known(node)
        if contains_aggregate(key):
            raise sql_error("42803", "aggregate functions are not allowed in GROUP BY", position=node.pos)
        return key

    def _output(
        self,
        plan: Logical,
        names: list[str],
        outputs: list[Bound],
        sort_exprs: list[Bound],
        items: list[SortItem],
    ) -> Logical:
        """Projection, DISTINCT and ORDER BY."""
        exprs = list(outputs)
        cols = self._columns(names, exprs)
        keys: list[SortItem] = []
        for expr, item in zip(sort_exprs, items, strict=True):
            if isinstance(expr, Const):
                continue
            if expr not in exprs:
                if self.select.distinct and not self.select.distinct_on:
                    raise sql_error(
                        "42P10",
                        "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                        position=self.query.order_by[0].pos,
                    )
                exprs.append(expr)
                cols.append(expr if isinstance(expr, Col) else self.st.new_col(expr.type, "sort"))
            keys.append(SortItem(cols[exprs.index(expr)], item.descending, item.nulls_first))
        on = self._distinct_on(names, outputs, exprs, cols, keys)
        if tuple(cols) != plan.columns or any(e != c for e, c in zip(exprs, cols, strict=True)):
            plan = Project(tuple(cols), plan, tuple(exprs))
        if self.select.distinct and not on:
            plan = Distinct(plan.columns, plan)
        if keys:
            plan = Sort(plan.columns, plan, tuple(keys))
        if on:
            plan = Distinct(plan.columns, plan, on)
        if len(cols) > len(outputs):
            kept = tuple(cols[: len(outputs)])
            plan = Project(kept, plan, kept)
        return plan

    def _columns(self, names: list[str], exprs: list[Bound]) -> list[Col]:
        """Output columns: a plain column keeps its id unless it is already there."""
        cols: list[Col] = []
        seen: set[int] = set()
        for name, expr in zip(names, exprs, strict=True):
            if isinstance(expr, Col) and expr.id not in seen:
                col = expr
            else:
                col = self.st.new_col(expr.type, name)
            seen.add(col.id)
            cols.append(col)
        return cols

    def _distinct_on(
        self,
        names: list[str],
        outputs: list[Bound],
        exprs: list[Bound],
        cols: list[Col],
        keys: list[SortItem],
    ) -> tuple[Bound, ...]:
        on: list[Bound] = []
        for node in self.select.distinct_on:
            probes = [Col(e.type, -1 - i) for i, e in enumerate(outputs)]
            col = output_column(node, names, probes, "SELECT DISTINCT ON")
            expr = outputs[-1 - col.id] if col is not None else self.exprs.bind_known(node)
            if expr not in exprs:
                exprs.append(expr)
                cols.append(expr if isinstance(expr, Col) else self.st.new_col(expr.type, "on"))
            on.append(cols[exprs.index(expr)])
        leading = [k.expr for k in keys[: len(on)]]
        if on and any(k not in on for k in leading):
            raise sql_error(
                "42P10",
                "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
                position=self.select.distinct_on[0].pos,
            )
        return tuple(on)


def expand_star(scope: Scope, star: ast.Star) -> list[tuple[str, Bound]]:
    """The columns of `*` or `t.*`."""
    if not star.qualifier:
        if not scope.tables:
            raise sql_error("42601", "SELECT * with no tables specified is not valid", position=star.pos)
        return [(c.name, c.col) for c in scope.columns if c.starred]
    table = star.qualifier[-1]
    if not scope.has_table(table):
        raise sql_error("42P01", f'missing FROM-clause entry for table "{table}"', position=star.pos)
    return [(c.name, c.col) for c in scope.columns if c.table == table]


def target_places(body: ast.QueryBody, width: int) -> list[int]:
    """Where a query's output columns are written; its beginning where that cannot be told."""
    at = body
    while isinstance(at, ast.SetOperation | ast.Query):
        at = at.left if isinstance(at, ast.SetOperation) else at.body
    exprs: Sequence[ast.Expr] = ()
    if isinstance(at, ast.Select):
        exprs = [target.expr for target in at.targets]
    elif isinstance(at, ast.Values):
        exprs = at.rows[0]
    places = [start_of(expr) for expr in exprs[:width]]
    return places if len(places) == width else [body.pos] * width


def output_name(node: ast.Expr) -> str:
    """PostgreSQL's name for an unnamed output column."""
    return _figured_name(node)[0] or "?column?"


def _figured_name(node: ast.Expr) -> tuple[str, bool]:
    """A name and whether it is a good one: a cast's or a CASE's name gives way to none of those, only to good ones."""
    match node:
        case ast.ColumnRef():
            return node.parts[-1], True
        case ast.FunctionCall():
            return node.name[-1], True
        case ast.SqlValueFunction():
            return node.name, True
        case ast.Cast():
            inner, good = _figured_name(node.arg)
            return (inner, True) if good else (node.type.name, False)
        case ast.Case():
            inner, good = _figured_name(node.otherwise) if node.otherwise is not None else ("", False)
            return (inner, True) if good else ("case", False)
        case ast.Collate():
            return _figured_name(node.arg)
        case ast.Subscript() | ast.Slice():
            return _figured_name(node.base)
        case ast.Exists():
            return "exists", True
        case ast.ArrayExpr() | ast.ArraySubquery():
            return "array", True
        case ast.RowExpr():
            return "row", True
        case ast.FieldSelect():
            return node.field, True
        case ast.ScalarSubquery(query=ast.Query(body=ast.Select(targets=targets))) if targets:
            return targets[0].alias or output_name(targets[0].expr), True
    return "", False


__all__ = ["Aggregate", "QueryBinder", "expand_star", "fns", "output_name", "transform", "type_display"]
