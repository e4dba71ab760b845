"""Catalogue names to oids and back, for the reg* types."""

from __future__ import annotations

import re

from txndb.errors import SqlError, sql_error
from txndb.sql.catalog.descriptors import SchemaDesc, SequenceDesc, TableDesc
from txndb.sql.catalog.virtual import CatalogContext
from txndb.sql.types.core import find_type, format_type, lookup_type

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")
_PART = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^."\s]+))\s*(\.|\Z)')

PG_CATALOG_OID = 11
INFORMATION_SCHEMA_OID = 13000


def quote_identifier(name: str) -> str:
    """The name as it can be read back."""
    return name if _PLAIN.match(name) else '"' + name.replace('"', '""') + '"'


def split_name(text: str) -> list[str]:
    """The parts of a possibly qualified and quoted name, folded."""
    parts: list[str] = []
    at = 0
    while True:
        found = _PART.match(text, at)
        if found is None:
            raise sql_error("42602", "invalid name syntax")
        parts.append(found[1].replace('""', '"') if found[1] is not None else found[2].lower())
        at = found.end()
        if not found[3]:
            return parts


class CatalogNames:
    """`Names` of the types package over a session's catalogue; the context's catalogue may change under it."""

    def __init__(self, context: CatalogContext) -> None:
        self.context = context

    def oid_of(self, kind: str, name: str) -> int:
        """The oid of a name of that kind."""
        if name.isdigit():
            return int(name)
        if name == "-":
            return 0
        match kind:
            case "regclass":
                return self._relation(name)
            case "regtype":
                return lookup_type(name.lower()).oid
            case "regnamespace":
                return self._schema(split_name(name)[-1])
            case "regrole":
                role = self.context.catalog.role(split_name(name)[-1])
                if role is None:
                    raise sql_error("42704", f'role "{name}" does not exist')
                return role.id
        source = self.context.virtual.names if self.context.virtual is not None else None
        if source is not None:
            return int(source.oid_of(kind, name))
        raise self._no_function(name)

    def _no_function(self, name: str) -> SqlError:
        return sql_error("42883", f'function "{name}" does not exist')

    def _schema(self, name: str) -> int:
        fixed = {"pg_catalog": PG_CATALOG_OID, "information_schema": INFORMATION_SCHEMA_OID}.get(name)
        if fixed is not None:
            return fixed
        found = self.context.catalog.schema(name)
        if found is None:
            raise sql_error("3F000", f'schema "{name}" does not exist')
        return found.id

    def _relation(self, text: str) -> int:
        context = self.context
        parts = split_name(text)
        schemas = (parts[-2],) if len(parts) > 1 else ("pg_catalog", *context.info.search_path)
        for schema in schemas:
            virtual = context.virtual.find(schema, parts[-1]) if context.virtual is not None else None
            if virtual is not None:
                return int(virtual.oid)
            found = context.catalog.schema(schema)
            if found is None:
                continue
            relation = context.catalog.relation(context.info.database_id, parts[-1], found.id)
            if relation is not None:
                return relation.id
            index = context.catalog.index(context.info.database_id, parts[-1], found.id)
            if index is not None:
                return index[1].id
        raise sql_error("42P01", f'relation "{text}" does not exist')

    def name_of(self, kind: str, oid: int) -> str | None:
        """The name of an oid, None when unknown."""
        source = self.context.virtual.names if self.context.virtual is not None else None
        if source is not None and kind in ("regclass", "regproc", "regprocedure"):
            found_name: str | None = source.name_of(self.context, kind, oid)
            return found_name
        match kind:
            case "regclass":
                return self._relation_name(oid)
            case "regtype":
                return format_type(oid) if find_type(oid) is not None else None
            case "regnamespace":
                if oid == PG_CATALOG_OID:
                    return "pg_catalog"
                if oid == INFORMATION_SCHEMA_OID:
                    return "information_schema"
                found = self.context.catalog.by_id(oid)
                return quote_identifier(found.name) if isinstance(found, SchemaDesc) else None
            case "regrole":
                role = self.context.catalog.by_id(oid)
                return quote_identifier(role.name) if role is not None else None
        return None

    def _relation_name(self, oid: int) -> str | None:
        catalog = self.context.catalog
        found = catalog.by_id(oid)
        if isinstance(found, TableDesc | SequenceDesc):
            return quote_identifier(found.name)
        for table in catalog.tables(self.context.info.database_id):
            for index in (table.primary, *table.indexes):
                if index.id == oid:
                    return quote_identifier(index.name)
        if self.context.virtual is not None:
            for virtual in self.context.virtual.tables():
                if virtual.oid == oid:
                    prefix = "" if virtual.schema == "pg_catalog" else f"{virtual.schema}."
                    return f"{prefix}{virtual.name}"
        return None
