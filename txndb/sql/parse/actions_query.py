"""Parser actions for queries and data changes."""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

from txndb.errors import sql_error
from txndb.sql.parse import ast
from txndb.sql.parse.actions_expr import ExprActions, unsupported
from txndb.sql.parse.tokens import Token


class Tail(NamedTuple):
    """One clause after a query's body: ORDER, LIMIT, OFFSET, FETCH or LOCK."""

    clause: str
    pos: int
    value: Any
    with_ties: bool = False


class With(NamedTuple):
    recursive: bool
    tables: list[ast.CommonTable]


class Source(NamedTuple):
    """What INSERT inserts."""

    columns: list[ast.Name]
    query: ast.Query | None
    overriding: Any = None


class ConflictTarget(NamedTuple):
    elements: list[ast.IndexElement]
    where: ast.Expr | None
    constraint: str | None


Row = list[ast.Expr]


class QueryActions(ExprActions):
    # --- queries

    def query_plain(self, pos: int, body: ast.QueryBody) -> ast.Query:
        return ast.Query(body, pos=pos)

    def query_with(self, pos: int, with_: With, body: ast.QueryBody) -> ast.Query:
        return self.query_with_tail(pos, with_, body, [])

    def query_tail(self, pos: int, body: ast.QueryBody, tails: list[Tail]) -> ast.Query:
        return self.query_with_tail(pos, None, body, tails)

    def query_with_tail(
        self, pos: int, with_: With | None, body: ast.QueryBody, tails: list[Tail]
    ) -> ast.Query:
        order_by: tuple[ast.SortKey, ...] = ()
        limit: ast.Expr | None = None
        offset: ast.Expr | None = None
        with_ties = False
        locking: list[ast.Locking] = []
        seen: list[str] = []
        for tail in tails:
            clause = "LIMIT" if tail.clause == "FETCH" else tail.clause
            if clause == "ORDER" and seen:
                raise self.fail(tail.pos)
            if clause in seen and clause != "LOCK":
                raise sql_error("42601", f"multiple {clause} clauses not allowed", position=tail.pos)
            seen.append(clause)
            if clause == "ORDER":
                order_by = tail.value
            elif clause == "LIMIT":
                limit, with_ties = tail.value, tail.with_ties
            elif clause == "OFFSET":
                offset = tail.value
            else:
                locking.append(tail.value)
        if with_ties and not order_by:
            raise sql_error("42601", "WITH TIES cannot be specified without ORDER BY clause", position=pos)
        ctes = tuple(with_.tables) if with_ else ()
        recursive = with_ is not None and with_.recursive
        return ast.Query(body, ctes, order_by, limit, offset, with_ties, tuple(locking), recursive, pos=pos)

    def set_distinct(self, pos: int) -> bool:
        return False

    def set_all(self, pos: int) -> bool:
        return True

    def union_op(self, pos: int, word: Token) -> Token:
        return word

    def intersect(self, pos: int, left: ast.QueryBody, all_: bool, right: ast.QueryBody) -> ast.SetOperation:
        return ast.SetOperation("INTERSECT", all_, left, right, pos=pos)

    def set_operation(
        self, pos: int, left: ast.QueryBody, word: Token, all_: bool, right: ast.QueryBody
    ) -> ast.SetOperation:
        op = "UNION" if word.kind == "UNION" else "EXCEPT"
        return ast.SetOperation("UNION" if op == "UNION" else "EXCEPT", all_, left, right, pos=pos)

    def with_clause(self, pos: int, recursive: Token | None, tables: list[ast.CommonTable]) -> With:
        return With(recursive is not None, tables)

    def common_table(
        self, pos: int, name: Token, columns: list[str] | None, materialized: bool | None, query: Any
    ) -> ast.CommonTable:
        return ast.CommonTable(name.value, tuple(columns or ()), query, materialized, pos=pos)

    def tail_order(self, pos: int, keys: list[ast.SortKey]) -> Tail:
        return Tail("ORDER", pos, tuple(keys))

    def tail_limit(self, pos: int, count: ast.Expr | None) -> Tail:
        return Tail("LIMIT", pos, count)

    def tail_offset(self, pos: int, count: ast.Expr, _word: None) -> Tail:
        return Tail("OFFSET", pos, count)

    def tail_fetch(self, pos: int, _first: None, count: ast.Expr | None, _rows: None, ties: bool) -> Tail:
        return Tail("FETCH", pos, count or ast.Literal("integer", 1, pos=pos), ties)

    def tail_lock(self, pos: int, strength: Any, of: list[ast.Name] | None, wait: Any) -> Tail:
        return Tail("LOCK", pos, ast.Locking(strength, tuple(of or ()), wait or "BLOCK", pos=pos))

    def row_word(self, pos: int) -> None:
        return None

    def first_word(self, pos: int) -> None:
        return None

    def lock_update(self, pos: int) -> str:
        return "UPDATE"

    def lock_no_key_update(self, pos: int) -> str:
        return "NO KEY UPDATE"

    def lock_share(self, pos: int) -> str:
        return "SHARE"

    def lock_key_share(self, pos: int) -> str:
        return "KEY SHARE"

    def lock_nowait(self, pos: int) -> str:
        return "NOWAIT"

    def lock_skip(self, pos: int) -> str:
        return "SKIP LOCKED"

    def sort_key(self, pos: int, expr: ast.Expr, descending: bool | None, nulls: Any) -> ast.SortKey:
        return ast.SortKey(expr, bool(descending), nulls, pos=pos)

    def sort_using(self, pos: int, op: Token) -> bool:
        if op.value not in ("<", ">"):
            raise sql_error("42809", f"operator {op.value} is not a valid ordering operator", position=pos)
        return op.value == ">"

    def nulls_first(self, pos: int) -> str:
        return "FIRST"

    def nulls_last(self, pos: int) -> str:
        return "LAST"

    def select(
        self,
        pos: int,
        distinct: list[ast.Expr] | None,
        targets: list[ast.Target] | None,
        from_: list[ast.FromItem] | None,
        as_of: ast.Expr | None,
        where: ast.Expr | None,
        group_by: list[ast.Expr] | None,
        having: ast.Expr | None,
        window: None,
    ) -> ast.Select:
        return ast.Select(
            tuple(targets or ()),
            tuple(from_ or ()),
            where,
            tuple(group_by or ()),
            having,
            distinct is not None,
            tuple(distinct or ()),
            as_of,
            pos=pos,
        )

    def distinct_plain(self, pos: int) -> Row:
        return []

    def distinct_on(self, pos: int, keys: Row) -> Row:
        return keys

    def target_plain(self, pos: int, expr: ast.Expr) -> ast.Target:
        return ast.Target(expr, pos=pos)

    def target_alias(self, pos: int, expr: ast.Expr, alias: Token) -> ast.Target:
        return ast.Target(expr, alias.value, pos=pos)

    def target_star(self, pos: int) -> ast.Target:
        return ast.Target(ast.Star(pos=pos), pos=pos)

    def group_by(self, pos: int, items: Row) -> Row:
        return items

    def values(self, pos: int, rows: list[Row]) -> ast.Values:
        width = len(rows[0])
        for row in rows:
            if len(row) != width:
                where = row[0].pos
                raise sql_error("42601", "VALUES lists must all be the same length", position=where)
        return ast.Values(tuple(tuple(row) for row in rows), pos=pos)

    def table_command(self, pos: int, name: ast.Name) -> ast.Select:
        return ast.Select(
            (ast.Target(ast.Star(pos=pos), pos=pos),), (ast.TableRef(name, pos=name.pos),), pos=pos
        )

    # --- FROM

    def alias(self, pos: int, name: Token, columns: list[str] | None) -> ast.Alias:
        return ast.Alias(name.value, tuple(columns or ()), pos=pos)

    def table_relation(self, pos: int, name: ast.Name, alias: ast.Alias | None) -> ast.FromItem:
        return ast.TableRef(name, alias, pos=pos)

    def table_function(
        self, pos: int, call: Any, ordinality: bool | None = None, alias: ast.Alias | None = None
    ) -> Any:
        return ast.FunctionRef(call, alias, False, bool(ordinality), pos=pos)

    def table_function_lateral(
        self, pos: int, _lateral: Token, call: Any, ordinality: bool | None, alias: ast.Alias | None
    ) -> ast.FromItem:
        return ast.FunctionRef(call, alias, True, bool(ordinality), pos=pos)

    def table_query(self, pos: int, query: ast.Query, alias: ast.Alias | None) -> ast.FromItem:
        return self._subquery(pos, query, alias, False)

    def table_query_lateral(
        self, pos: int, _lateral: Token, query: ast.Query, alias: ast.Alias | None
    ) -> ast.FromItem:
        return self._subquery(pos, query, alias, True)

    def _subquery(self, pos: int, query: ast.Query, alias: ast.Alias | None, lateral: bool) -> ast.FromItem:
        if alias is None:
            what = "VALUES" if isinstance(query.body, ast.Values) else "subquery"
            example = "VALUES ..." if what == "VALUES" else "SELECT ..."
            hint = f"For example, FROM ({example}) [AS] foo."
            raise sql_error("42601", f"{what} in FROM must have an alias", hint=hint, position=pos)
        return ast.SubqueryRef(query, alias, lateral, pos=pos)

    def table_join(self, pos: int, join: ast.Join, alias: ast.Alias | None) -> ast.FromItem:
        if alias is None:
            return join
        return ast.Join(
            join.kind, join.left, join.right, join.on, join.using, join.natural, alias, pos=join.pos
        )

    def join_cross(self, pos: int, left: ast.FromItem, right: ast.FromItem) -> ast.Join:
        return ast.Join("CROSS", left, right, pos=pos)

    def join_qualified(
        self, pos: int, left: ast.FromItem, kind: Any, right: ast.FromItem, condition: ast.Expr | list[str]
    ) -> ast.Join:
        if isinstance(condition, list):
            return ast.Join(kind, left, right, using=tuple(condition), pos=pos)
        return ast.Join(kind, left, right, condition, pos=pos)

    def join_natural(self, pos: int, left: ast.FromItem, kind: Any, right: ast.FromItem) -> ast.Join:
        return ast.Join(kind, left, right, natural=True, pos=pos)

    def join_inner(self, pos: int) -> str:
        return "INNER"

    def join_left(self, pos: int) -> str:
        return "LEFT"

    def join_right(self, pos: int) -> str:
        return "RIGHT"

    def join_full(self, pos: int) -> str:
        return "FULL"

    def join_on(self, pos: int, condition: ast.Expr) -> ast.Expr:
        return condition

    def join_using(self, pos: int, columns: list[str]) -> list[str]:
        return columns

    # --- INSERT, UPDATE, DELETE

    def insert(
        self,
        pos: int,
        with_: With | None,
        table: ast.Name,
        alias: Token | None,
        source: Source,
        on_conflict: ast.OnConflict | None,
        returning: list[ast.Target] | None,
    ) -> ast.Insert:
        return ast.Insert(
            table,
            alias.value if alias else None,
            tuple(column.name for column in source.columns),
            tuple(column.pos for column in source.columns),
            source.query,
            on_conflict,
            tuple(returning or ()),
            tuple(with_.tables) if with_ else (),
            source.overriding,
            pos=pos,
        )

    def insert_source(self, pos: int, query: ast.Query) -> Source:
        return Source([], query)

    def insert_overriding(self, pos: int, overriding: str, query: ast.Query) -> Source:
        return Source([], query, overriding)

    def insert_column(self, pos: int, name: str) -> ast.Name:
        return ast.Name((name,), pos=pos)

    def insert_columns(self, pos: int, columns: list[ast.Name], query: ast.Query) -> Source:
        return Source(columns, query)

    def insert_columns_overriding(
        self, pos: int, columns: list[ast.Name], overriding: str, query: ast.Query
    ) -> Source:
        return Source(columns, query, overriding)

    def insert_default(self, pos: int) -> Source:
        return Source([], None)

    def overriding(self, pos: int, word: Token) -> str:
        return word.kind

    def conflict_nothing(self, pos: int, target: ConflictTarget | None) -> ast.OnConflict:
        elements, where, constraint = target or ConflictTarget([], None, None)
        return ast.OnConflict("NOTHING", tuple(elements), where, constraint, pos=pos)

    def conflict_update(
        self,
        pos: int,
        target: ConflictTarget | None,
        assignments: list[ast.Assignment],
        where: ast.Expr | None,
    ) -> ast.OnConflict:
        if target is None:
            raise sql_error(
                "42601",
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                hint="For example, ON CONFLICT (column_name).",
                position=pos,
            )
        elements, target_where, constraint = target
        return ast.OnConflict(
            "UPDATE", tuple(elements), target_where, constraint, tuple(assignments), where, pos=pos
        )

    def conflict_elements(
        self, pos: int, elements: list[ast.IndexElement], where: ast.Expr | None
    ) -> ConflictTarget:
        return ConflictTarget(elements, where, None)

    def conflict_constraint(self, pos: int, name: Token) -> ConflictTarget:
        return ConflictTarget([], None, name.value)

    def update(
        self,
        pos: int,
        with_: With | None,
        table: ast.Name,
        alias: str | None,
        assignments: list[ast.Assignment],
        from_: list[ast.FromItem] | None,
        where: ast.Expr | None,
        returning: list[ast.Target] | None,
    ) -> ast.Update:
        return ast.Update(
            table,
            alias,
            tuple(assignments),
            tuple(from_ or ()),
            where,
            tuple(returning or ()),
            tuple(with_.tables) if with_ else (),
            pos=pos,
        )

    def assign_one(self, pos: int, column: Token, value: ast.Expr) -> ast.Assignment:
        return ast.Assignment((column.value,), value, pos=pos)

    def assign_many(self, pos: int, columns: list[str], value: ast.Expr) -> ast.Assignment:
        if isinstance(value, ast.RowExpr) and len(value.items) != len(columns):
            message = "number of columns does not match number of values"
            raise sql_error("42601", message, position=value.pos)
        if not isinstance(value, ast.RowExpr | ast.ScalarSubquery):
            raise sql_error(
                "0A000",
                "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
                position=value.pos,
            )
        return ast.Assignment(tuple(columns), value, True, pos=pos)

    def delete(
        self,
        pos: int,
        with_: With | None,
        table: ast.Name,
        alias: str | None,
        using: list[ast.FromItem] | None,
        where: ast.Expr | None,
        returning: list[ast.Target] | None,
    ) -> ast.Delete:
        return ast.Delete(
            table,
            alias,
            tuple(using or ()),
            where,
            tuple(returning or ()),
            tuple(with_.tables) if with_ else (),
            pos=pos,
        )

    # --- refusals

    def unsupported_grouping(self, pos: int, *_: object) -> NoReturn:
        unsupported("GROUPING SETS, ROLLUP and CUBE are", pos)

    def unsupported_sample(self, pos: int, *_: object) -> NoReturn:
        unsupported("TABLESAMPLE is", pos)

    def unsupported_assignment(self, pos: int, *_: object) -> NoReturn:
        unsupported("assignment to an element or a field of a column is", pos)
