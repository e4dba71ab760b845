"""The catalogue as one immutable value, at one version; what binding and planning read.

Invariants:
1. A `Catalog` never changes; a change makes a new one (`with_changes`).
2. `private` marks a catalogue with uncommitted DDL of one transaction: what is derived from it ends with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from txndb.errors import sql_error
from txndb.sql.catalog.descriptors import (
    PUBLIC_SCHEMA_ID,
    DatabaseDesc,
    Descriptor,
    IndexDesc,
    RoleDesc,
    SchemaDesc,
    SequenceDesc,
    TableDesc,
)

Relation = TableDesc | SequenceDesc


class Catalog:
    """All descriptors at one version, with look-ups by name and id."""

    __slots__ = (
        "_databases",
        "_indexes",
        "_relations",
        "_roles",
        "_schemas",
        "derived",
        "descriptors",
        "private",
        "version",
    )

    def __init__(self, version: int, descriptors: Iterable[Descriptor], *, private: bool = False) -> None:
        self.version = version
        self.private = private
        self.descriptors: Mapping[int, Descriptor] = {
            d.id: d for d in sorted(descriptors, key=lambda d: d.id)
        }
        self.derived: dict[object, object] = {}
        """A memo for values computed from this catalogue (codecs, virtual rows), dropped with it."""
        self._databases: dict[str, DatabaseDesc] = {}
        self._schemas: dict[str, SchemaDesc] = {}
        self._roles: dict[str, RoleDesc] = {}
        self._relations: dict[tuple[int, int, str], Relation] = {}
        self._indexes: dict[tuple[int, int, str], tuple[TableDesc, IndexDesc]] = {}
        for descriptor in self.descriptors.values():
            self._enter(descriptor)

    def _enter(self, descriptor: Descriptor) -> None:
        match descriptor:
            case DatabaseDesc():
                self._databases[descriptor.name] = descriptor
            case SchemaDesc():
                self._schemas[descriptor.name] = descriptor
            case RoleDesc():
                self._roles[descriptor.name] = descriptor
            case TableDesc(database_id=database, schema_id=schema):
                self._relations[database, schema, descriptor.name] = descriptor
                for index in (descriptor.primary, *descriptor.indexes):
                    if index is not descriptor.primary or descriptor.has_primary_key:
                        self._indexes[database, schema, index.name] = (descriptor, index)
            case SequenceDesc():
                self._relations[descriptor.database_id, descriptor.schema_id, descriptor.name] = descriptor

    def database(self, name: str) -> DatabaseDesc | None:
        """The database of that name."""
        return self._databases.get(name)

    def schema(self, name: str) -> SchemaDesc | None:
        """The schema of that name."""
        return self._schemas.get(name)

    def role(self, name: str) -> RoleDesc | None:
        """The role of that name."""
        return self._roles.get(name)

    def relation(self, database_id: int, name: str, schema_id: int = PUBLIC_SCHEMA_ID) -> Relation | None:
        """The table or sequence of that name."""
        return self._relations.get((database_id, schema_id, name))

    def table(self, database_id: int, name: str, schema_id: int = PUBLIC_SCHEMA_ID) -> TableDesc | None:
        """The table of that name."""
        found = self._relations.get((database_id, schema_id, name))
        return found if isinstance(found, TableDesc) else None

    def index(
        self, database_id: int, name: str, schema_id: int = PUBLIC_SCHEMA_ID
    ) -> tuple[TableDesc, IndexDesc] | None:
        """The index of that name, with its table."""
        return self._indexes.get((database_id, schema_id, name))

    def by_id(self, object_id: int) -> Descriptor | None:
        """Whatever has that id."""
        return self.descriptors.get(object_id)

    def table_by_id(self, table_id: int) -> TableDesc:
        """The table of that id; 42P01 if there is none (it was dropped)."""
        found = self.descriptors.get(table_id)
        if not isinstance(found, TableDesc):
            raise sql_error("42P01", f"relation with OID {table_id} does not exist")
        return found

    def name_taken(self, database_id: int, schema_id: int, name: str) -> bool:
        """Whether a table, sequence or index of that name exists (they share one name space)."""
        key = (database_id, schema_id, name)
        return key in self._relations or key in self._indexes

    def tables(self, database_id: int) -> list[TableDesc]:
        """The database's tables, by id."""
        return [
            d for d in self.descriptors.values() if isinstance(d, TableDesc) and d.database_id == database_id
        ]

    def sequences(self, database_id: int) -> list[SequenceDesc]:
        """The database's sequences, by id."""
        return [
            d
            for d in self.descriptors.values()
            if isinstance(d, SequenceDesc) and d.database_id == database_id
        ]

    def databases(self) -> list[DatabaseDesc]:
        """All databases, by id."""
        return [d for d in self.descriptors.values() if isinstance(d, DatabaseDesc)]

    def schemas(self) -> list[SchemaDesc]:
        """All stored schemas, by id."""
        return [d for d in self.descriptors.values() if isinstance(d, SchemaDesc)]

    def roles(self) -> list[RoleDesc]:
        """All roles, by id."""
        return [d for d in self.descriptors.values() if isinstance(d, RoleDesc)]

    def with_changes(self, put: Iterable[Descriptor], dropped: Iterable[int]) -> Catalog:
        """This catalogue with descriptors replaced, added and removed; private to its transaction."""
        merged = dict(self.descriptors)
        for object_id in dropped:
            merged.pop(object_id, None)
        for descriptor in put:
            merged[descriptor.id] = descriptor
        return Catalog(self.version, merged.values(), private=True)
