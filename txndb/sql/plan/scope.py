"""Names in scope while binding, and what all binders of one statement share."""

from __future__ import annotations

from typing import Any

import msgspec

from txndb.errors import sql_error
from txndb.sql.catalog.descriptors import PUBLIC_SCHEMA_ID, TableDesc
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.catalog.virtual import SessionInfo, VirtualSchemas, VirtualTable
from txndb.sql.parse import ast
from txndb.sql.plan.expr import OUTER_PARAM, Bound, Col, Param
from txndb.sql.types.core import UNKNOWN, SqlType


class ScopeColumn(msgspec.Struct):
    """One name in a scope. A column merged by USING is also there under its tables' names, not unqualified."""

    name: str
    table: str
    col: Bound
    unqualified: bool = True
    starred: bool = True


class Statement:
    """Shared by all binders of one statement: the catalogue, parameters and counters."""

    def __init__(
        self,
        catalog: Catalog,
        info: SessionInfo,
        virtual: VirtualSchemas,
        param_types: list[SqlType | None],
        context: Any,
    ) -> None:
        self.catalog = catalog
        self.info = info
        self.virtual = virtual
        self.param_types = param_types
        self.context = context
        """The EvalContext for reading literals whose text depends on the session (time zone, names)."""
        self.context_used = False
        """Set when a literal's value depended on the context: such a plan holds for this session's settings only."""
        self.absent_params = 0
        """`$1` to this one are not given (the simple protocol has no parameters; lifted literals come after)."""
        self.all_typed = False
        """Whether a parameter whose type nothing determines is an error (42P18)."""
        self.outer_count = 0
        self._columns = 0
        self.ctes: list[dict[str, tuple[ast.CommonTable, int]]] = []
        self.origins: dict[int, tuple[int, int]] = {}
        """Column id -> (table id, column number from 1), for result descriptions."""

    def new_col(self, type_: SqlType, name: str, nullable: bool = True) -> Col:
        """A column id nobody uses yet."""
        self._columns += 1
        return Col(type_, self._columns, name, nullable)

    def new_outer(self) -> int:
        """A parameter for a column of an enclosing query."""
        self.outer_count += 1
        return OUTER_PARAM + self.outer_count - 1

    def param(self, index: int, position: int = 0) -> Param:
        """The client's parameter `$index` (from 1); 42P02 where the client gives none."""
        if index < 1 or index <= self.absent_params:
            raise sql_error("42P02", f"there is no parameter ${index}", position=position)
        while len(self.param_types) < index:
            self.param_types.append(None)
        return Param(self.param_types[index - 1] or UNKNOWN, index - 1)

    def find_cte(self, name: str) -> tuple[ast.CommonTable, int] | None:
        """The innermost common table of that name, and its level (what it may see lies below)."""
        for frame in reversed(self.ctes):
            if name in frame:
                return frame[name]
        return None

    def find_relation(self, name: ast.Name) -> TableDesc | VirtualTable:
        """The table, by name and search path; pg_catalog is searched first."""
        if name.database is not None and name.database != self.info.database:
            raise sql_error(
                "0A000", f'cross-database references are not implemented: "{name}"', position=name.pos
            )
        for schema in self._schemas(name):
            virtual = self.virtual.find(schema, name.name)
            if virtual is not None:
                return virtual
            found = self.catalog.schema(schema)
            if found is None:
                continue
            table = self.catalog.table(self.info.database_id, name.name, found.id)
            if table is not None:
                return table
        raise sql_error("42P01", f'relation "{name}" does not exist', position=name.pos)

    def find_table(self, name: ast.Name) -> TableDesc:
        """A stored table; 42501 for one of the system's."""
        found = self.find_relation(name)
        if isinstance(found, VirtualTable):
            raise sql_error(
                "42501", f'permission denied: "{found.name}" is a system catalog', position=name.pos
            )
        return found

    def _schemas(self, name: ast.Name) -> tuple[str, ...]:
        if name.schema is not None:
            return (name.schema,)
        return ("pg_catalog", *self.info.search_path)


def target_schema_id(statement_catalog: Catalog, info: SessionInfo, name: ast.Name) -> int:
    """The schema in which an object of that name is created."""
    schema = name.schema or (info.search_path[0] if info.search_path else "public")
    if schema == "public":
        return PUBLIC_SCHEMA_ID
    found = statement_catalog.schema(schema)
    if found is None:
        if schema in ("pg_catalog", "information_schema"):
            raise sql_error("42501", f'permission denied to create "{name}"', position=name.pos)
        raise sql_error("3F000", f'schema "{schema}" does not exist', position=name.pos)
    return found.id


class Scope:
    """The columns of a FROM clause; `parent` is the enclosing query's scope."""

    def __init__(self, parent: Scope | None = None) -> None:
        self.parent = parent
        self.columns: list[ScopeColumn] = []
        self.tables: list[str] = []
        self.outer: dict[int, tuple[Col, int]] = {}
        """Columns of the parent that this query reads: column id -> (column, parameter)."""

    def beside(self) -> Scope:
        """Another scope of the same query: what it reads of the parent, the query reads."""
        made = Scope(self.parent)
        made.outer = self.outer
        return made

    def add_table(self, alias: str, names: list[str], cols: list[Col], *, position: int = 0) -> None:
        """A FROM item under one alias."""
        if alias and alias in self.tables:
            raise sql_error("42712", f'table name "{alias}" specified more than once')
        self.tables.append(alias)
        for name, col in zip(names, cols, strict=True):
            self.columns.append(ScopeColumn(name, alias, col))

    def merge(self, other: Scope, *, position: int = 0) -> None:
        """The columns of another FROM item beside these."""
        for table in other.tables:
            if table and table in self.tables:
                raise sql_error("42712", f'table name "{table}" specified more than once')
        self.tables += other.tables
        self.columns += other.columns

    def lookup(self, parts: tuple[str, ...]) -> list[ScopeColumn]:
        """The columns of this scope that the name means."""
        if len(parts) == 1:
            return [c for c in self.columns if c.name == parts[0] and c.unqualified]
        table, name = parts[-2], parts[-1]
        return [c for c in self.columns if c.name == name and c.table == table]

    def has_table(self, alias: str) -> bool:
        """Whether a FROM item has that alias."""
        return alias in self.tables
