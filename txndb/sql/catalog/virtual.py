"""Virtual tables: relations computed from the catalogue (pg_catalog, information_schema), planned as in-memory scans.

A registry maps (schema, name) to a `VirtualTable`. Its rows are made once per scan, from the catalogue of the statement
and what the session knows; nothing is read from storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from txndb.sql.catalog.snapshot import Catalog


class SessionParameters(Protocol):
    """The session's parameters, for pg_settings, current_setting and set_config."""

    def show(self, name: str) -> str:
        """The value as SHOW prints it; 42704 for an unknown one."""

    def described(self) -> list[tuple[str, str, str, bool]]:
        """(name, value in its unit, default, whether it is fixed) of all, by name."""

    def set_config(self, name: str, value: str | None, local: bool) -> str:
        """SET [LOCAL]; the new value."""


class SessionInfo(msgspec.Struct):
    """What functions and virtual tables may know of the session."""

    user: str
    database: str
    database_id: int
    search_path: tuple[str, ...] = ("public",)
    settings: dict[str, str] = {}
    application_name: str = ""
    backend_pid: int = 0
    parameters: SessionParameters | None = None


class VirtualColumn(msgspec.Struct, frozen=True):
    """A column of a virtual table."""

    name: str
    type_oid: int
    not_null: bool = False
    hidden: bool = False
    """Not in `*`, only by name (system columns); after the others."""


Rows = Callable[[Catalog, SessionInfo], Iterable[tuple[Any, ...]]]


class VirtualTable(msgspec.Struct, frozen=True, eq=False):
    """A relation computed from the catalogue. `oid` as PostgreSQL's where clients know it."""

    name: str
    schema: str
    columns: tuple[VirtualColumn, ...]
    rows: Rows
    oid: int = 0


class CatalogContext(msgspec.Struct, eq=False):
    """What a function that needs the catalogue gets as its first argument."""

    catalog: Catalog
    info: SessionInfo
    sequences: Any = None
    """The session's sequence state (`exec.sequences`)."""
    virtual: Any = None
    """The registry of virtual tables."""


class CatalogFunction(msgspec.Struct, frozen=True, eq=False):
    """A scalar function over the catalogue, e.g. pg_get_userbyid(oid): `fn(context, *args)`.

    `arg_oids` are exact (arguments are coerced to them); several of one name are overloads by number of arguments.
    A strict function is not called with a NULL argument. With `columns` it returns a set: `fn` gives a list of tuples.
    With `with_env` it gets the whole evaluation context instead of its session.
    """

    name: str
    arg_oids: tuple[int, ...]
    result_oid: int
    fn: Callable[..., Any]
    strict: bool = True
    columns: tuple[VirtualColumn, ...] = ()
    with_env: bool = False


class NameSource(Protocol):
    """Names of what is not in the stored catalogue: functions, and how relations are qualified."""

    def oid_of(self, kind: str, name: str) -> int:
        """The oid of a regproc or regprocedure."""

    def name_of(self, context: CatalogContext, kind: str, oid: int) -> str | None:
        """The name of a regclass, regproc or regprocedure; None when there is none."""


class VirtualSchemas:
    """The registry of virtual tables and catalogue functions: filled when a node is composed, constant afterwards."""

    def __init__(
        self, tables: Sequence[VirtualTable] = (), functions: Sequence[CatalogFunction] = ()
    ) -> None:
        self._tables: dict[tuple[str, str], VirtualTable] = {}
        self._functions: dict[tuple[str, int], CatalogFunction] = {}
        self.names: NameSource | None = None
        for table in tables:
            self.register(table)
        for function in functions:
            self.register_function(function)

    def register_function(self, function: CatalogFunction) -> None:
        """Add one function."""
        self._functions[function.name, len(function.arg_oids)] = function

    def find_function(self, name: str, arg_count: int) -> CatalogFunction | None:
        """The catalogue function of that name and number of arguments."""
        return self._functions.get((name, arg_count))

    def register(self, table: VirtualTable) -> None:
        """Add one table."""
        self._tables[table.schema, table.name] = table

    def find(self, schema: str, name: str) -> VirtualTable | None:
        """The virtual table of that schema and name."""
        return self._tables.get((schema, name))

    def tables(self) -> list[VirtualTable]:
        """All of them, in order of registration."""
        return list(self._tables.values())

    def has_schema(self, schema: str) -> bool:
        """Whether any virtual table lives in that schema."""
        return any(s == schema for s, _ in self._tables)
