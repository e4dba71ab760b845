"""Binding of INSERT, UPDATE and DELETE.

INSERT's source gives complete stored rows (one value per position, defaults filled in); UPDATE's and DELETE's input
rows begin with the stored row of the target, which is therefore always the leftmost scan.
"""

from __future__ import annotations

from typing import Any

import msgspec

from txndb.errors import FeatureNotSupportedError, TxndbError, sql_error
from txndb.sql.catalog.descriptors import ROWID, ColumnDesc, TableDesc
from txndb.sql.parse import ast, parse
from txndb.sql.plan.bind_expr import ExprBinder, start_of
from txndb.sql.plan.bind_from import bind_from, make_scan
from txndb.sql.plan.bind_query import QueryBinder, expand_star, output_name, target_places
from txndb.sql.plan.coerce import coerce, type_display
from txndb.sql.plan.expr import Bound, Call, Col, Const
from txndb.sql.plan.logical import Filter, Join, Logical, Project, Scan, ValuesRows
from txndb.sql.plan.scope import Scope, Statement
from txndb.sql.types.core import INT8, UNKNOWN, SqlType, type_by_oid


class Conflict(msgspec.Struct, frozen=True):
    """A bound ON CONFLICT; see `physical.ConflictClause`."""

    arbiters: tuple[int, ...]
    update: bool
    assignments: tuple[tuple[int, Bound], ...] = ()
    condition: Bound | None = None
    excluded: tuple[Col, ...] = ()


class BoundDml(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A bound INSERT, UPDATE or DELETE. `columns` are the target's live columns."""

    kind: str
    table: TableDesc
    input: Logical
    columns: tuple[Col, ...]
    assignments: tuple[tuple[int, Bound], ...] = ()
    checks: tuple[tuple[str, Bound], ...] = ()
    conflict: Conflict | None = None
    returning: tuple[Bound, ...] | None = None
    names: tuple[str, ...] = ()


def column_type(column: ColumnDesc) -> SqlType:
    """A column's type with its modifier."""
    return type_by_oid(column.type_oid).with_typmod(column.typmod)


def parse_expression(text: str) -> ast.Expr:
    """The syntax of a stored expression (a default, a CHECK), without positions: it is in nobody's statement."""
    (statement,) = parse(f"SELECT {text}")
    assert isinstance(statement, ast.Query) and isinstance(statement.body, ast.Select)
    expr = statement.body.targets[0].expr
    stack: list[object] = [expr]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack.extend(node)
        elif isinstance(node, ast.Node):
            msgspec.structs.force_setattr(node, "pos", 0)
            stack.extend(getattr(node, field) for field in node.__struct_fields__)
    return expr


def assign(st: Statement, expr: Bound, column: ColumnDesc, position: int = 0) -> Bound:
    """Coerce a value for a column, with PostgreSQL's message when it cannot be."""
    target = column_type(column)
    try:
        return coerce(st, expr, target, "a", position=position)
    except TxndbError as error:
        if error.code == "42804":
            raise sql_error(
                "42804",
                f'column "{column.name}" is of type {type_display(target)} '
                f"but expression is of type {type_display(expr.type)}",
                hint="You will need to rewrite or cast the expression.",
                position=position,
            ) from None
        raise


def no_rows(query: ast.Query, scope: Scope) -> tuple[Logical, list[str]]:
    raise FeatureNotSupportedError("cannot use subquery in this expression", position=query.pos)


def _next_rowid(context: Any) -> int:
    number: int = context.session.sequences.next_rowid()
    return number


def default_of(st: Statement, column: ColumnDesc) -> Bound:
    """A column's default value as an expression."""
    if column.hidden and column.name == ROWID:
        return Call(INT8, ROWID, (), _next_rowid, None, False, "v", "session")
    if column.default is None:
        return Const(column_type(column), None)
    binder = ExprBinder(st, Scope(), no_rows, clause="DEFAULT expressions")
    return assign(st, binder.bind(parse_expression(column.default)), column)


class DmlBinder:
    """Binds one data-changing statement."""

    def __init__(self, st: Statement) -> None:
        self.st = st
        self.queries = QueryBinder(st)

    # --- INSERT

    def insert(self, node: ast.Insert) -> BoundDml:
        """INSERT."""
        table = self._target(node.table, node.with_)
        targets = self._insert_columns(table, node)
        source = self._insert_source(table, node, targets)
        alias = node.alias or table.name
        scan = make_scan(self.st, table, alias)
        scope = self._scope(table, scan.columns, alias)
        conflict = None
        if node.on_conflict is not None:
            conflict = self._conflict(table, node.on_conflict, scope)
        returning, names = self._returning(node.returning, scope)
        return BoundDml(
            kind="INSERT",
            table=table,
            input=source,
            columns=scan.columns,
            checks=self.checks(table, scan.columns),
            conflict=conflict,
            returning=returning,
            names=names,
        )

    def _target(self, name: ast.Name, with_: tuple[ast.CommonTable, ...]) -> TableDesc:
        for i in range(len(with_)):
            self.st.ctes.append({with_[i].name: (with_[i], len(self.st.ctes))})
        return self.st.find_table(name)

    def _insert_columns(self, table: TableDesc, node: ast.Insert) -> list[ColumnDesc]:
        visible = [c for c in table.columns if not c.hidden]
        if not node.columns:
            return visible
        found: list[ColumnDesc] = []
        for name, position in zip(node.columns, node.column_positions, strict=True):
            column = table.column(name)
            if column is None or column.hidden:
                raise sql_error(
                    "42703",
                    f'column "{name}" of relation "{table.name}" does not exist',
                    position=position,
                )
            if column in found:
                raise sql_error("42701", f'column "{name}" specified more than once', position=position)
            found.append(column)
        return found

    def _insert_source(self, table: TableDesc, node: ast.Insert, targets: list[ColumnDesc]) -> Logical:
        cols = tuple(self.st.new_col(INT8, f"p{i}") for i in range(table.next_position))
        if node.source is None:
            return ValuesRows(cols, (self._stored(table, {}),))
        query = node.source
        plain = not (query.order_by or query.limit or query.offset or query.with_)
        if isinstance(query.body, ast.Values) and plain:
            return self._insert_values(table, query.body, targets, cols, node)
        plan, _ = self.queries.bind_query(query, Scope(), keep_unknown=True)
        places = target_places(query, len(plan.columns))
        self._check_width(places, targets, node)
        types = [column_type(c) for c in targets[: len(plan.columns)]]
        plan = self.queries.settle_unknown(plan, types)
        given = {
            c.position: assign(self.st, col, c, place)
            for c, col, place in zip(targets, plan.columns, places, strict=False)
            if _takes_value(c, node.overriding)
        }
        return Project(cols, plan, self._stored(table, given))

    def _insert_values(
        self,
        table: TableDesc,
        body: ast.Values,
        targets: list[ColumnDesc],
        cols: tuple[Col, ...],
        node: ast.Insert,
    ) -> Logical:
        exprs = self.queries.exprs(Scope(), "VALUES")
        rows: list[tuple[Bound, ...]] = []
        for row in body.rows:
            if len(row) != len(body.rows[0]):
                raise sql_error("42601", "VALUES lists must all be the same length", position=row[0].pos)
            self._check_width([value.pos for value in row], targets, node)
            given: dict[int, Bound] = {}
            for column, value in zip(targets, row, strict=False):
                if not isinstance(value, ast.Default) and _takes_value(column, node.overriding):
                    given[column.position] = assign(self.st, exprs.bind(value), column, start_of(value))
            rows.append(self._stored(table, given))
        if exprs.applies:
            if len(rows) > 1:
                raise FeatureNotSupportedError("subqueries in VALUES of several rows", position=body.pos)
            return Project(cols, exprs.take_applies(ValuesRows((), ((),))), rows[0])
        return ValuesRows(cols, tuple(rows))

    def _check_width(self, places: list[int], targets: list[ColumnDesc], node: ast.Insert) -> None:
        """42601 unless there are as many expressions (at `places`) as columns."""
        if node.columns and len(places) < len(targets):
            position = node.column_positions[len(places)]
            raise sql_error("42601", "INSERT has more target columns than expressions", position=position)
        if len(places) > len(targets):
            position = places[len(targets)]
            raise sql_error("42601", "INSERT has more expressions than target columns", position=position)

    def _stored(self, table: TableDesc, given: dict[int, Bound]) -> tuple[Bound, ...]:
        """One expression per position: what is given, else the default."""
        live = {c.position: c for c in table.columns}
        row: list[Bound] = []
        for position in range(table.next_position):
            column = live.get(position)
            if position in given:
                row.append(given[position])
            elif column is None:
                row.append(Const(INT8, None))
            else:
                row.append(default_of(self.st, column))
        return tuple(row)

    def _conflict(self, table: TableDesc, node: ast.OnConflict, scope: Scope) -> Conflict:
        arbiters = self._arbiters(table, node)
        if node.action == "NOTHING":
            return Conflict(arbiters, False)
        if not arbiters:
            raise sql_error(
                "42601",
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                hint="For example, ON CONFLICT (column_name).",
                position=node.pos,
            )
        excluded = make_scan(self.st, table, "excluded").columns
        both = Scope()
        both.merge(scope)
        both.merge(self._scope(table, excluded, "excluded"))
        exprs = self.queries.exprs(both, "ON CONFLICT DO UPDATE")
        assignments = self._assignments(table, node.assignments, exprs)
        condition = exprs.bind_condition(node.where, "WHERE") if node.where is not None else None
        if exprs.applies:
            raise FeatureNotSupportedError("subqueries in ON CONFLICT DO UPDATE", position=node.pos)
        return Conflict(arbiters, True, assignments, condition, excluded)

    def _arbiters(self, table: TableDesc, node: ast.OnConflict) -> tuple[int, ...]:
        unique = [i for i in (table.primary, *table.indexes) if i.unique]
        if node.constraint is not None:
            for index in unique:
                if index.name == node.constraint and index.constraint:
                    return (index.id,)
            raise sql_error(
                "42704",
                f'constraint "{node.constraint}" for table "{table.name}" does not exist',
            )
        if not node.elements:
            return ()
        if node.target_where is not None:
            raise FeatureNotSupportedError("partial indexes are not supported", position=node.pos)
        wanted: set[int] = set()
        for element in node.elements:
            column = None
            if isinstance(element.expr, ast.ColumnRef):
                column = table.column(element.expr.parts[-1])
                if column is None:
                    name = element.expr.parts[-1]
                    raise sql_error("42703", f'column "{name}" does not exist', position=element.pos)
            if column is None:
                raise FeatureNotSupportedError("index expressions are not supported", position=element.pos)
            wanted.add(column.position)
        found = tuple(i.id for i in unique if set(i.columns) == wanted)
        if not found:
            raise sql_error(
                "42P10",
                "there is no unique or exclusion constraint matching the ON CONFLICT specification",
            )
        return found

    # --- UPDATE and DELETE

    def update(self, node: ast.Update) -> BoundDml:
        """UPDATE."""
        table = self._target(node.table, node.with_)
        alias = node.alias or table.name
        scan = msgspec.structs.replace(make_scan(self.st, table, alias), lock=2)
        plan, scope = self._where(scan, table, alias, node.from_, node.where)
        exprs = self.queries.exprs(scope, "UPDATE")
        assignments = self._assignments(table, node.assignments, exprs)
        plan = exprs.take_applies(plan)
        returning, names = self._returning(node.returning, scope)
        return BoundDml(
            kind="UPDATE",
            table=table,
            input=plan,
            columns=scan.columns,
            assignments=assignments,
            checks=self.checks(table, scan.columns),
            returning=returning,
            names=names,
        )

    def delete(self, node: ast.Delete) -> BoundDml:
        """DELETE."""
        table = self._target(node.table, node.with_)
        alias = node.alias or table.name
        scan = msgspec.structs.replace(make_scan(self.st, table, alias), lock=2)
        plan, scope = self._where(scan, table, alias, node.using, node.where)
        returning, names = self._returning(node.returning, scope)
        return BoundDml(
            kind="DELETE", table=table, input=plan, columns=scan.columns, returning=returning, names=names
        )

    def _where(
        self,
        scan: Scan,
        table: TableDesc,
        alias: str,
        others: tuple[ast.FromItem, ...],
        where: ast.Expr | None,
    ) -> tuple[Logical, Scope]:
        scope = self._scope(table, scan.columns, alias)
        plan: Logical = scan
        if others:
            more = Scope()
            right = bind_from(self.queries, others, more)
            scope.merge(more)
            plan = Join((*scan.columns, *right.columns), "INNER", scan, right, ())
        if where is not None:
            exprs = self.queries.exprs(scope, "WHERE")
            condition = exprs.bind_condition(where, "WHERE")
            plan = exprs.take_applies(plan)
            plan = Filter(plan.columns, plan, (condition,))
        return plan, scope

    def _assignments(
        self, table: TableDesc, nodes: tuple[ast.Assignment, ...], exprs: ExprBinder
    ) -> tuple[tuple[int, Bound], ...]:
        made: dict[int, Bound] = {}
        for node in nodes:
            for name, value in _pairs(node):
                column = table.column(name)
                if column is None or column.hidden:
                    raise sql_error(
                        "42703",
                        f'column "{name}" of relation "{table.name}" does not exist',
                        position=node.pos,
                    )
                if column.position in made:
                    raise sql_error("42601", f'multiple assignments to same column "{name}"')
                if isinstance(value, ast.Default):
                    made[column.position] = default_of(self.st, column)
                elif column.identity == "a":
                    raise sql_error(
                        "428C9",
                        f'column "{column.name}" can only be updated to DEFAULT',
                        detail=_IDENTITY_ALWAYS.format(column.name),
                    )
                else:
                    made[column.position] = assign(self.st, exprs.bind(value), column, start_of(value))
        return tuple(made.items())

    # --- shared

    def _scope(self, table: TableDesc, columns: tuple[Col, ...], alias: str) -> Scope:
        scope = Scope()
        visible = [(c.name, col) for c, col in zip(table.columns, columns, strict=True) if not c.hidden]
        scope.add_table(alias, [n for n, _ in visible], [c for _, c in visible])
        return scope

    def checks(self, table: TableDesc, columns: tuple[Col, ...]) -> tuple[tuple[str, Bound], ...]:
        """The CHECK constraints over the table's columns."""
        if not table.checks:
            return ()
        exprs = ExprBinder(
            self.st, self._scope(table, columns, table.name), no_rows, clause="check constraints"
        )
        return tuple(
            (c.name, exprs.bind_condition(parse_expression(c.expression), "CHECK")) for c in table.checks
        )

    def _returning(
        self, targets: tuple[ast.Target, ...], scope: Scope
    ) -> tuple[tuple[Bound, ...] | None, tuple[str, ...]]:
        if not targets:
            return None, ()
        exprs = self.queries.exprs(scope, "RETURNING")
        bound: list[Bound] = []
        names: list[str] = []
        for target in targets:
            if isinstance(target.expr, ast.Star):
                for name, expr in expand_star(scope, target.expr):
                    names.append(name)
                    bound.append(expr)
                continue
            bound.append(exprs.bind_known(target.expr))
            names.append(target.alias or output_name(target.expr))
        if exprs.applies:
            raise FeatureNotSupportedError("subqueries in RETURNING", position=targets[0].pos)
        return tuple(bound), tuple(names)


_IDENTITY_ALWAYS = 'Column "{}" is an identity column defined as GENERATED ALWAYS.'


def _takes_value(column: ColumnDesc, overriding: str | None) -> bool:
    """Whether INSERT stores the value given for a column; 428C9 where none may be given."""
    if overriding == "USER":
        return not column.identity
    if column.identity == "a" and overriding is None:
        raise sql_error(
            "428C9",
            f'cannot insert a non-DEFAULT value into column "{column.name}"',
            detail=_IDENTITY_ALWAYS.format(column.name),
            hint="Use OVERRIDING SYSTEM VALUE to override.",
        )
    return True


def _pairs(node: ast.Assignment) -> list[tuple[str, ast.Expr]]:
    if not node.multiple:
        return [(node.columns[0], node.value)]
    if not isinstance(node.value, ast.RowExpr):
        if not isinstance(node.value, ast.ScalarSubquery):
            raise FeatureNotSupportedError(
                "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
                position=node.value.pos,
            )
        raise FeatureNotSupportedError("multiple-column assignment from a subquery", position=node.pos)
    if len(node.value.items) != len(node.columns):
        message = "number of columns does not match number of values"
        raise sql_error("42601", message, position=node.value.pos)
    return list(zip(node.columns, node.value.items, strict=True))


__all__ = ["UNKNOWN", "BoundDml", "Conflict", "DmlBinder", "column_type", "default_of", "parse_expression"]
