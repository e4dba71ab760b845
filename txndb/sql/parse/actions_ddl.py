"""Parser actions for definitions: CREATE, DROP, ALTER, TRUNCATE."""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import msgspec

from txndb.errors import sql_error
from txndb.sql.parse import ast
from txndb.sql.parse.actions_expr import unsupported
from txndb.sql.parse.actions_query import QueryActions, Row
from txndb.sql.parse.tokens import Token


class TableOption(NamedTuple):
    parameters: list[ast.StorageParameter]
    tablespace: str | None = None


class IndexName(NamedTuple):
    name: str
    if_not_exists: bool


class Collation(NamedTuple):
    """COLLATE among a column's constraints."""

    name: ast.Name


class DdlActions(QueryActions):
    # --- CREATE TABLE

    def create_table(
        self,
        pos: int,
        persistence: Any,
        if_not_exists: bool | None,
        name: ast.Name,
        elements: list[ast.ColumnDef | list[ast.Constraint]] | None,
        options: list[TableOption],
    ) -> ast.CreateTable:
        columns = tuple(e for e in elements or () if isinstance(e, ast.ColumnDef))
        constraints = tuple(c for e in elements or () if isinstance(e, list) for c in e)
        return ast.CreateTable(
            name,
            columns,
            constraints,
            bool(if_not_exists),
            persistence or "PERMANENT",
            tuple(p for o in options for p in o.parameters),
            next((o.tablespace for o in options if o.tablespace), None),
            pos=pos,
        )

    def unlogged(self, pos: int) -> str:
        return "UNLOGGED"

    def temp_word(self, pos: int) -> None:
        return None

    def temporary(self, pos: int, _word: None) -> str:
        return "TEMPORARY"

    def option_with(self, pos: int, parameters: list[ast.StorageParameter]) -> TableOption:
        return TableOption(parameters)

    def option_ignored(self, pos: int, *_: object) -> TableOption:
        return TableOption([])

    def on_commit(self, pos: int) -> None:
        return None

    def option_tablespace(self, pos: int, name: Token) -> TableOption:
        return TableOption([], name.value)

    def storage_parameter(self, pos: int, name: list[str], value: str | None) -> ast.StorageParameter:
        return ast.StorageParameter(".".join(name), value, pos=pos)

    def column_def(
        self, pos: int, name: Token, type_: ast.TypeName, items: list[Any] | None
    ) -> ast.ColumnDef:
        collations = [i.name for i in items or () if isinstance(i, Collation)]
        constraints = tuple(i for i in items or () if isinstance(i, ast.Constraint))
        if len(collations) > 1:
            raise sql_error("42601", "multiple COLLATE clauses not allowed", position=collations[1].pos)
        return ast.ColumnDef(name.value, type_, constraints, collations[0] if collations else None, pos=pos)

    def column_collate(self, pos: int, name: ast.Name) -> Collation:
        return Collation(msgspec.structs.replace(name, pos=pos))

    def named_constraint(self, pos: int, name: Token, constraint: ast.Constraint) -> ast.Constraint:
        return msgspec.structs.replace(constraint, name=name.value, pos=pos)

    def not_null(self, pos: int) -> ast.Constraint:
        return ast.NotNull(None, pos=pos)

    def null_allowed(self, pos: int) -> ast.Constraint:
        return ast.NotNull(None, True, pos=pos)

    def default_value(self, pos: int, expr: ast.Expr) -> ast.Constraint:
        return ast.DefaultValue(None, expr, pos=pos)

    def column_unique(self, pos: int, distinct: bool | None, _with: None) -> ast.Constraint:
        return ast.Unique(None, nulls_distinct=distinct is not False, pos=pos)

    def column_primary(self, pos: int, _with: None) -> ast.Constraint:
        return ast.PrimaryKey(None, pos=pos)

    def check(
        self, pos: int, opening: Token, expr: ast.Expr, closing: Token, _inherit: None
    ) -> ast.Constraint:
        return ast.Check(None, expr, self.sql[opening.end : closing.start].strip(), pos=pos)

    def column_references(
        self, pos: int, table: ast.Name, referenced: list[str] | None, actions: list[Any] | None
    ) -> ast.Constraint:
        return self.foreign_key(pos, [], table, referenced, actions)

    def foreign_key(
        self,
        pos: int,
        columns: list[str],
        table: ast.Name,
        referenced: list[str] | None,
        actions: list[tuple[str, str]] | None,
    ) -> ast.Constraint:
        chosen = dict(actions or ())
        return ast.ForeignKey(
            None,
            tuple(columns),
            table,
            tuple(referenced or ()),
            chosen.get("DELETE"),
            chosen.get("UPDATE"),
            pos=pos,
        )

    def match_kind(self, pos: int) -> None:
        return None

    def reference_match(self, pos: int, _kind: None) -> tuple[str, str]:
        return ("MATCH", "")

    def reference_delete(self, pos: int, effect: str) -> tuple[str, str]:
        return ("DELETE", effect)

    def reference_update(self, pos: int, effect: str) -> tuple[str, str]:
        return ("UPDATE", effect)

    def effect_no_action(self, pos: int) -> str:
        return "NO ACTION"

    def effect_restrict(self, pos: int) -> str:
        return "RESTRICT"

    def effect_cascade(self, pos: int) -> str:
        return "CASCADE"

    def effect_set_null(self, pos: int) -> str:
        return "SET NULL"

    def effect_set_default(self, pos: int) -> str:
        return "SET DEFAULT"

    def identity(self, pos: int, always: bool) -> ast.Constraint:
        return ast.Generated(None, always, pos=pos)

    def generated(self, pos: int, always: bool, expr: ast.Expr) -> ast.Constraint:
        if not always:
            raise sql_error(
                "42601", "for a generated column, GENERATED ALWAYS must be specified", position=pos
            )
        return ast.Generated(None, True, expr, pos=pos)

    def attribute_deferrable(self, pos: int) -> NoReturn:
        unsupported("deferrable constraints are", pos)

    def attribute_ignored(self, pos: int) -> None:
        return None

    def named_table_constraint(
        self, pos: int, name: Token, constraint: ast.Constraint, _attributes: object
    ) -> list[ast.Constraint]:
        return [self.named_constraint(pos, name, constraint)]

    def plain_table_constraint(
        self, pos: int, constraint: ast.Constraint, _attributes: object
    ) -> list[ast.Constraint]:
        return [constraint]

    def table_primary_key(self, pos: int, columns: list[str], _with: None, _space: None) -> ast.Constraint:
        return ast.PrimaryKey(None, tuple(columns), pos=pos)

    def table_unique(
        self, pos: int, distinct: bool | None, columns: list[str], _with: None, _space: None
    ) -> ast.Constraint:
        return ast.Unique(None, tuple(columns), distinct is not False, pos=pos)

    def table_primary_index(self, pos: int, index: Token) -> ast.Constraint:
        return ast.PrimaryKey(None, (), index.value, pos=pos)

    def table_unique_index(self, pos: int, index: Token) -> ast.Constraint:
        return ast.Unique(None, (), True, index.value, pos=pos)

    # --- CREATE INDEX, CREATE DATABASE

    def create_index(
        self,
        pos: int,
        unique: bool | None,
        concurrently: bool | None,
        name: IndexName | None,
        table: ast.Name,
        method: str | None,
        elements: list[ast.IndexElement],
        include: list[str] | None,
        nulls_distinct: bool | None,
        _with: None,
        _space: None,
        where: ast.Expr | None,
    ) -> ast.CreateIndex:
        return ast.CreateIndex(
            table,
            tuple(elements),
            name.name if name else None,
            bool(unique),
            bool(concurrently),
            name is not None and name.if_not_exists,
            method or "btree",
            tuple(include or ()),
            where,
            nulls_distinct is not False,
            pos=pos,
        )

    def index_name(self, pos: int, name: Token) -> IndexName:
        return IndexName(name.value, False)

    def index_name_if(self, pos: int, _if: bool, name: Token) -> IndexName:
        return IndexName(name.value, True)

    def index_element(
        self, pos: int, expr: ast.Expr, descending: bool | None, nulls: Any
    ) -> ast.IndexElement:
        return ast.IndexElement(expr, bool(descending), nulls, pos=pos)

    def index_column(self, pos: int, parts: list[str]) -> ast.Expr:
        return ast.ColumnRef(tuple(parts), pos=pos)

    def index_collate(self, pos: int, parts: list[str], collation: ast.Name) -> ast.Expr:
        return ast.Collate(self.index_column(pos, parts), collation, pos=pos)

    def create_database(
        self,
        pos: int,
        if_not_exists: bool | None,
        name: Token,
        options: list[ast.StorageParameter] | None,
    ) -> ast.CreateDatabase:
        return ast.CreateDatabase(name.value, tuple(options or ()), bool(if_not_exists), pos=pos)

    def database_option(self, pos: int, name: str, value: str) -> ast.StorageParameter:
        return ast.StorageParameter(name, value, pos=pos)

    def word_tablespace(self, pos: int) -> str:
        return "tablespace"

    def word_encoding(self, pos: int) -> str:
        return "encoding"

    # --- DROP, TRUNCATE

    def drop(
        self,
        pos: int,
        kind: Any,
        _concurrently: bool | None,
        if_exists: bool | None,
        names: list[ast.Name],
        cascade: bool | None,
    ) -> ast.Drop:
        if kind == "DATABASE" and (len(names) > 1 or len(names[0].parts) > 1 or cascade is not None):
            raise self.fail(None)
        return ast.Drop(kind, tuple(names), bool(if_exists), bool(cascade), pos=pos)

    def drop_kind(self, pos: int, word: Token) -> str:
        return word.kind

    def truncate(
        self, pos: int, tables: list[ast.Name], restart: bool | None, cascade: bool | None
    ) -> ast.Truncate:
        return ast.Truncate(tuple(tables), bool(restart), bool(cascade), pos=pos)

    # --- ALTER

    def alter_table(
        self,
        pos: int,
        if_exists: bool | None,
        table: ast.Name,
        actions: list[ast.AlterAction],
        kind: Any = "TABLE",
    ) -> ast.AlterTable:
        for action in actions:
            renames = isinstance(action, ast.RenameTable | ast.RenameColumn | ast.RenameConstraint)
            if (renames and len(actions) > 1) or (
                kind == "INDEX" and not isinstance(action, ast.RenameTable)
            ):
                raise self.fail(action.pos)
        return ast.AlterTable(table, tuple(actions), bool(if_exists), kind, pos=pos)

    def alter_index(
        self, pos: int, if_exists: bool | None, table: ast.Name, actions: list[ast.AlterAction]
    ) -> ast.AlterTable:
        return self.alter_table(pos, if_exists, table, actions, "INDEX")

    def split_table(
        self, pos: int, if_exists: bool | None, table: ast.Name, rows: list[Row], kind: Any = "TABLE"
    ) -> ast.AlterTable:
        action = ast.SplitAt(tuple(tuple(row) for row in rows), pos=pos)
        return ast.AlterTable(table, (action,), bool(if_exists), kind, pos=pos)

    def split_index(
        self, pos: int, if_exists: bool | None, table: ast.Name, rows: list[Row]
    ) -> ast.AlterTable:
        return self.split_table(pos, if_exists, table, rows, "INDEX")

    def add_column(self, pos: int, column: ast.ColumnDef) -> ast.AlterAction:
        return ast.AddColumn(column, pos=pos)

    def add_column_if(self, pos: int, _if: bool, column: ast.ColumnDef) -> ast.AlterAction:
        return ast.AddColumn(column, True, pos=pos)

    def add_constraint(self, pos: int, constraints: list[ast.Constraint]) -> ast.AlterAction:
        return ast.AddConstraint(constraints[0], pos=pos)

    def drop_column(
        self, pos: int, if_exists: bool | None, name: Token, cascade: bool | None
    ) -> ast.AlterAction:
        return ast.DropColumn(name.value, bool(if_exists), bool(cascade), pos=pos)

    def drop_constraint(
        self, pos: int, if_exists: bool | None, name: Token, cascade: bool | None
    ) -> ast.AlterAction:
        return ast.DropConstraint(name.value, bool(if_exists), bool(cascade), pos=pos)

    def set_default(self, pos: int, column: Token, expr: ast.Expr) -> ast.AlterAction:
        return ast.SetDefault(column.value, expr, pos=pos)

    def drop_default(self, pos: int, column: Token) -> ast.AlterAction:
        return ast.SetDefault(column.value, None, pos=pos)

    def set_not_null(self, pos: int, column: Token) -> ast.AlterAction:
        return ast.SetNotNull(column.value, True, pos=pos)

    def drop_not_null(self, pos: int, column: Token) -> ast.AlterAction:
        return ast.SetNotNull(column.value, False, pos=pos)

    def set_type(
        self, pos: int, column: Token, type_: ast.TypeName, using: ast.Expr | None
    ) -> ast.AlterAction:
        return ast.SetType(column.value, type_, using, pos=pos)

    def rename_column(self, pos: int, old: Token, new: Token) -> ast.AlterAction:
        return ast.RenameColumn(old.value, new.value, pos=pos)

    def rename_constraint(self, pos: int, old: Token, new: Token) -> ast.AlterAction:
        return ast.RenameConstraint(old.value, new.value, pos=pos)

    def rename_table(self, pos: int, new: Token) -> ast.AlterAction:
        return ast.RenameTable(new.value, pos=pos)

    # --- refusals

    def unsupported_create_as(self, pos: int, *_: object) -> NoReturn:
        unsupported("CREATE TABLE AS is", pos)

    def unsupported_partition(self, pos: int, *_: object) -> NoReturn:
        unsupported("PARTITION is", pos)

    def unsupported_inherits(self, pos: int, *_: object) -> NoReturn:
        unsupported("INHERITS is", pos)

    def unsupported_like(self, pos: int, *_: object) -> NoReturn:
        unsupported("LIKE in CREATE TABLE is", pos)

    def unsupported_exclude(self, pos: int, *_: object) -> NoReturn:
        unsupported("EXCLUDE constraints are", pos)

    def unsupported_opclass(self, pos: int, *_: object) -> NoReturn:
        unsupported("operator classes are", pos)
