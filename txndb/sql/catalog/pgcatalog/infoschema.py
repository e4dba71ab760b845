"""information_schema: the SQL standard's view of the same catalogue.

System schemas are listed too, as in PostgreSQL; what is not supported (foreign keys, views, routines, domains) has no
rows. Reference: ISO/IEC 9075-11.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from txndb.sql.catalog.descriptors import IndexDesc, TableDesc
from txndb.sql.catalog.pgcatalog.objects import (
    check_columns,
    default_text,
    indexes_of,
    schema_name,
    schemas,
    sequence_type,
)
from txndb.sql.catalog.pgcatalog.objects import parenthesised as in_parentheses
from txndb.sql.catalog.pgcatalog.relations import Row, View
from txndb.sql.types.core import character_length, find_type, format_type, numeric_precision_scale

_BITS: Final = {21: 16, 23: 32, 20: 64, 700: 24, 701: 53}
_CHARACTER_OCTETS_MAX: Final = 1 << 30
_TEMPORAL: Final = frozenset((1082, 1114, 1184, 1186))


def info_schemata(view: View) -> Iterator[Row]:
    """Schemas."""
    for _, name, owner in schemas(view):
        role = view.catalog.by_id(owner)
        yield {
            "catalog_name": view.info.database,
            "schema_name": name,
            "schema_owner": role.name if role is not None else None,
        }


def _table_row(view: View, schema: str, name: str, kind: str, insertable: str) -> Row:
    return {
        "table_catalog": view.info.database,
        "table_schema": schema,
        "table_name": name,
        "table_type": kind,
        "is_insertable_into": insertable,
        "is_typed": "NO",
    }


def info_tables(view: View) -> Iterator[Row]:
    """Tables, and the system's tables and views."""
    for relation in view.relations:
        kind = "VIEW" if relation.kind == "v" else "BASE TABLE"
        yield _table_row(view, relation.schema, relation.name, kind, "NO")
    for table in view.catalog.tables(view.info.database_id):
        yield _table_row(view, schema_name(view, table.schema_id), table.name, "BASE TABLE", "YES")


def info_views(view: View) -> Iterator[Row]:
    """Views: the system's."""
    for relation in view.relations:
        if relation.kind == "v":
            yield {
                "table_catalog": view.info.database,
                "table_schema": relation.schema,
                "table_name": relation.name,
                "check_option": "NONE",
                "is_updatable": "NO",
                "is_insertable_into": "NO",
                "is_trigger_updatable": "NO",
                "is_trigger_deletable": "NO",
                "is_trigger_insertable_into": "NO",
            }


def _sizes(type_oid: int, typmod: int) -> dict[str, Any]:
    """The columns that say how large values are."""
    if type_oid in (1042, 1043):
        length = character_length(typmod)
        if length < 0:
            return {"character_octet_length": _CHARACTER_OCTETS_MAX}
        return {"character_maximum_length": length, "character_octet_length": 4 * length}
    if type_oid == 25:
        return {"character_octet_length": _CHARACTER_OCTETS_MAX}
    if type_oid in _BITS:
        scale = None if type_oid in (700, 701) else 0
        return {"numeric_precision": _BITS[type_oid], "numeric_precision_radix": 2, "numeric_scale": scale}
    if type_oid == 1700:
        precision, scale = numeric_precision_scale(typmod) if typmod >= 0 else (None, None)
        return {"numeric_precision": precision, "numeric_precision_radix": 10, "numeric_scale": scale}
    if type_oid in _TEMPORAL:
        return {"datetime_precision": 0 if type_oid == 1082 else typmod if typmod >= 0 else 6}
    return {}


def _column_row(
    view: View, schema: str, table: str, name: str, number: int, type_oid: int, typmod: int
) -> dict[str, Any]:
    found = find_type(type_oid)
    array = found is not None and found.category == "A" and bool(found.element) and type_oid not in (22, 30)
    return {
        "table_catalog": view.info.database,
        "table_schema": schema,
        "table_name": table,
        "column_name": name,
        "ordinal_position": number,
        "data_type": "ARRAY" if array else "character" if type_oid == 1042 else format_type(type_oid),
        **_sizes(type_oid, typmod),
        "udt_catalog": view.info.database,
        "udt_schema": "pg_catalog",
        "udt_name": found.name if found is not None else None,
        "dtd_identifier": str(number),
        "is_self_referencing": "NO",
        "is_identity": "NO",
        "identity_cycle": "NO",
        "is_generated": "NEVER",
    }


def info_columns(view: View) -> Iterator[Row]:
    """Columns."""
    for relation in view.relations:
        for number, found in enumerate(relation.columns, 1):
            row = _column_row(view, relation.schema, relation.name, found.name, number, found.type_oid, -1)
            yield {**row, "is_nullable": "NO" if found.not_null else "YES", "is_updatable": "NO"}
    for table in view.catalog.tables(view.info.database_id):
        schema = schema_name(view, table.schema_id)
        for column in table.columns:
            if not column.hidden:
                row = _column_row(
                    view, schema, table.name, column.name, column.position + 1, column.type_oid, column.typmod
                )
                yield {
                    **row,
                    "column_default": default_text(column),
                    "is_nullable": "NO" if column.not_null else "YES",
                    "is_updatable": "YES",
                }


def _constraints(table: TableDesc) -> Iterator[tuple[str, str, list[int]]]:
    """(name, type, attnums) of the constraints, NOT NULL ones included, as the standard has them."""
    for index, primary in indexes_of(table):
        if primary or index.constraint:
            yield index.name, "PRIMARY KEY" if primary else "UNIQUE", _numbers(index)
    for check in table.checks:
        yield check.name, "CHECK", check_columns(table, check.expression)
    for column in table.columns:
        if column.not_null and not column.hidden:
            yield _not_null_name(table, column.position + 1), "CHECK", [column.position + 1]


def _numbers(index: IndexDesc) -> list[int]:
    return [position + 1 for position in index.columns]


def _not_null_name(table: TableDesc, number: int) -> str:
    return f"{table.schema_id}_{table.id}_{number}_not_null"


def _constraint_row(view: View, table: TableDesc, name: str) -> dict[str, Any]:
    return {
        "constraint_catalog": view.info.database,
        "constraint_schema": schema_name(view, table.schema_id),
        "constraint_name": name,
    }


def _table_of(view: View, table: TableDesc) -> dict[str, Any]:
    return {
        "table_catalog": view.info.database,
        "table_schema": schema_name(view, table.schema_id),
        "table_name": table.name,
    }


def info_table_constraints(view: View) -> Iterator[Row]:
    """Constraints."""
    for table in view.catalog.tables(view.info.database_id):
        for name, kind, _ in _constraints(table):
            yield {
                **_constraint_row(view, table, name),
                **_table_of(view, table),
                "constraint_type": kind,
                "is_deferrable": "NO",
                "initially_deferred": "NO",
                "enforced": "YES",
                "nulls_distinct": "YES" if kind == "UNIQUE" else None,
            }


def info_check_constraints(view: View) -> Iterator[Row]:
    """CHECK constraints and NOT NULL."""
    for table in view.catalog.tables(view.info.database_id):
        for check in table.checks:
            yield {
                **_constraint_row(view, table, check.name),
                "check_clause": f"({in_parentheses(check.expression)})",
            }
        for column in table.columns:
            if column.not_null and not column.hidden:
                name = _not_null_name(table, column.position + 1)
                yield {**_constraint_row(view, table, name), "check_clause": f"{column.name} IS NOT NULL"}


def info_key_column_usage(view: View) -> Iterator[Row]:
    """Columns of PRIMARY KEY and UNIQUE constraints."""
    for table in view.catalog.tables(view.info.database_id):
        for name, kind, numbers in _constraints(table):
            if kind != "CHECK":
                for at, number in enumerate(numbers, 1):
                    yield {
                        **_constraint_row(view, table, name),
                        **_table_of(view, table),
                        "column_name": table.column_at(number - 1).name,
                        "ordinal_position": at,
                    }


def info_constraint_column_usage(view: View) -> Iterator[Row]:
    """Columns that constraints name."""
    for table in view.catalog.tables(view.info.database_id):
        for name, kind, numbers in _constraints(table):
            if kind == "CHECK" and name.endswith("_not_null"):
                continue
            for number in numbers:
                column = table.column_at(number - 1).name
                yield {**_constraint_row(view, table, name), **_table_of(view, table), "column_name": column}


def info_constraint_table_usage(view: View) -> Iterator[Row]:
    """Tables that keys belong to."""
    for table in view.catalog.tables(view.info.database_id):
        for name, kind, _ in _constraints(table):
            if kind != "CHECK":
                yield {**_constraint_row(view, table, name), **_table_of(view, table)}


def info_sequences(view: View) -> Iterator[Row]:
    """Sequences."""
    for sequence in view.catalog.sequences(view.info.database_id):
        yield {
            "sequence_catalog": view.info.database,
            "sequence_schema": schema_name(view, sequence.schema_id),
            "sequence_name": sequence.name,
            "data_type": sequence_type(sequence),
            "numeric_precision": _BITS[sequence.type_oid],
            "numeric_precision_radix": 2,
            "numeric_scale": 0,
            "start_value": str(sequence.start),
            "minimum_value": "1" if sequence.increment > 0 else str(-(2**63)),
            "maximum_value": str(sequence.max_value),
            "increment": str(sequence.increment),
            "cycle_option": "NO",
        }


def info_catalog_name(view: View) -> Iterator[Row]:
    """The database."""
    yield {"catalog_name": view.info.database}


def info_enabled_roles(view: View) -> Iterator[Row]:
    """Roles."""
    for role in view.catalog.roles():
        yield {"role_name": role.name}
