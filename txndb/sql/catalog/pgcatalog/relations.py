"""The system relations' shapes, and how a row written as a mapping becomes a tuple.

The columns are data (`relations.tables`): name, type and nullability of each system catalogue and view. A maker gives
the rows of one relation as mappings with the columns that say something; the others are NULL, or where the column is
NOT NULL its type's nothing (0, false, '').

Invariants
1. A mapping names only columns that the relation has (checked when the row is made).
2. Rows that depend on nothing but the catalogue are made once per catalogue version and database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from txndb.errors import InternalError
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.catalog.virtual import SessionInfo, VirtualColumn, VirtualTable
from txndb.sql.types.core import SqlType, all_types, type_by_oid

_DATA: Final = Path(__file__).with_name("relations.tables")
_TABLEOID: Final = VirtualColumn("tableoid", 26, True, True)
_NOTHING: Final[dict[str, Any]] = {"int": 0, "bool": False, "str": "", "float": 0.0, "array": []}


class Relation(msgspec.Struct, frozen=True):
    """A system relation: `kind` is its relkind."""

    schema: str
    name: str
    kind: str
    oid: int
    columns: tuple[VirtualColumn, ...]


class View(msgspec.Struct, frozen=True, eq=False):
    """What a maker of rows sees: the statement's catalogue, the session, and the shapes of all system relations."""

    catalog: Catalog
    info: SessionInfo
    relations: tuple[Relation, ...]


Row = Mapping[str, Any]
Maker = Callable[[View], Iterable[Row]]


@lru_cache(maxsize=1)
def read_relations() -> tuple[Relation, ...]:
    """All relations of the data file."""
    types = {t.name: t.oid for t in all_types()}
    found: list[Relation] = []
    head: list[str] = []
    for line in _DATA.read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            head = line.split()
            continue
        schema, name = head[0].split(".")
        columns = tuple(_column(word, types) for word in line.split())
        found.append(Relation(schema, name, head[1], int(head[2]), columns))
    return tuple(found)


def _column(word: str, types: Mapping[str, int]) -> VirtualColumn:
    name, type_name = word.rstrip("!").split(":")
    return VirtualColumn(name, types[type_name], word.endswith("!"))


def _default(column: VirtualColumn) -> Any:
    sql_type: SqlType = type_by_oid(column.type_oid)
    return _NOTHING.get(sql_type.kind) if column.not_null else None


def packer(relation: Relation) -> Callable[[Row], tuple[Any, ...]]:
    """The function from a mapping to the relation's tuple."""
    slots = {column.name: at for at, column in enumerate(relation.columns)}
    template = [_default(column) for column in relation.columns]
    hidden = (relation.oid,) if relation.kind == "r" else ()

    def pack(row: Row) -> tuple[Any, ...]:
        values = template.copy()
        for name, value in row.items():
            at = slots.get(name)
            if at is None:
                raise InternalError(f"{relation.schema}.{relation.name} has no column {name}")
            values[at] = value
        return (*values, *hidden)

    return pack


def _no_rows(catalog: Catalog, info: SessionInfo) -> Iterable[tuple[Any, ...]]:
    return ()


def virtual_table(
    relation: Relation, relations: tuple[Relation, ...], maker: Maker | None, *, per_session: bool = False
) -> VirtualTable:
    """The relation as a virtual table; without a maker it is empty. `per_session` rows are made for each scan."""
    columns = (*relation.columns, _TABLEOID) if relation.kind == "r" else relation.columns
    if maker is None:
        return VirtualTable(relation.name, relation.schema, columns, _no_rows, relation.oid)
    pack = packer(relation)
    make = maker

    def rows(catalog: Catalog, info: SessionInfo) -> Iterable[tuple[Any, ...]]:
        view = View(catalog, info, relations)
        if per_session:
            return [pack(row) for row in make(view)]
        key = ("pgcatalog", relation.oid, info.database_id)
        made: Any = catalog.derived.get(key)
        if made is None:
            made = catalog.derived[key] = [pack(row) for row in make(view)]
        return made  # type: ignore[no-any-return]

    return VirtualTable(relation.name, relation.schema, columns, rows, relation.oid)
