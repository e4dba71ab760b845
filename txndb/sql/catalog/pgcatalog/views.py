"""The views of pg_catalog: pg_tables, pg_indexes, pg_sequences, pg_settings, pg_stat_activity, …"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from txndb.sql.catalog.descriptors import ROOT_ROLE_ID
from txndb.sql.catalog.pgcatalog.objects import (
    index_definition,
    indexes_of,
    schema_name,
)
from txndb.sql.catalog.pgcatalog.relations import Row, View

_MEMORY: Final = re.compile(r"(\d+)(kB|MB|GB)\Z")
_KILOBYTES: Final = {"kB": 1, "MB": 1 << 10, "GB": 1 << 20}


def _owner(view: View) -> str:
    role = view.catalog.by_id(ROOT_ROLE_ID)
    return role.name if role is not None else "root"


def pg_tables(view: View) -> Iterator[Row]:
    """Tables."""
    owner = _owner(view)
    for relation in view.relations:
        if relation.kind == "r":
            yield {"schemaname": relation.schema, "tablename": relation.name, "tableowner": owner}
    for table in view.catalog.tables(view.info.database_id):
        yield {
            "schemaname": schema_name(view, table.schema_id),
            "tablename": table.name,
            "tableowner": owner,
            "hasindexes": table.has_primary_key or bool(table.indexes),
            "hasrules": False,
            "hastriggers": False,
            "rowsecurity": False,
        }


def pg_views(view: View) -> Iterator[Row]:
    """Views: the system's."""
    owner = _owner(view)
    for relation in view.relations:
        if relation.kind == "v":
            yield {"schemaname": relation.schema, "viewname": relation.name, "viewowner": owner}


def pg_indexes(view: View) -> Iterator[Row]:
    """Indexes with their definitions."""
    for table in view.catalog.tables(view.info.database_id):
        schema = schema_name(view, table.schema_id)
        for index, _ in indexes_of(table):
            yield {
                "schemaname": schema,
                "tablename": table.name,
                "indexname": index.name,
                "indexdef": index_definition(table, index, schema),
            }


def pg_sequences(view: View) -> Iterator[Row]:
    """Sequences. The last value is kept outside the catalogue and is not shown."""
    for sequence in view.catalog.sequences(view.info.database_id):
        yield {
            "schemaname": schema_name(view, sequence.schema_id),
            "sequencename": sequence.name,
            "sequenceowner": _owner(view),
            "data_type": sequence.type_oid,
            "start_value": sequence.start,
            "min_value": 1 if sequence.increment > 0 else -(2**63),
            "max_value": sequence.max_value,
            "increment_by": sequence.increment,
            "cycle": False,
            "cache_size": 1,
        }


def pg_stat_user_tables(view: View) -> Iterator[Row]:
    """Tables; nothing is counted."""
    for table in view.catalog.tables(view.info.database_id):
        yield {"relid": table.id, "schemaname": schema_name(view, table.schema_id), "relname": table.name}


def pg_stat_user_indexes(view: View) -> Iterator[Row]:
    """Indexes; nothing is counted."""
    for table in view.catalog.tables(view.info.database_id):
        for index, _ in indexes_of(table):
            yield {
                "relid": table.id,
                "indexrelid": index.id,
                "schemaname": schema_name(view, table.schema_id),
                "relname": table.name,
                "indexrelname": index.name,
            }


def pg_stat_database(view: View) -> Iterator[Row]:
    """Databases; nothing is counted."""
    for database in view.catalog.databases():
        yield {"datid": database.id, "datname": database.name}


def pg_settings(view: View) -> Iterator[Row]:
    """The session's parameters."""
    parameters = view.info.parameters
    if parameters is None:
        return
    for name, told, default, fixed in parameters.described():
        memory = _MEMORY.match(told)
        value = str(int(memory[1]) * _KILOBYTES[memory[2]]) if memory is not None else told
        number = value.lstrip("-").isdigit()
        switch = value in ("on", "off")
        yield {
            "name": name,
            "setting": value,
            "unit": "kB" if memory is not None else "ms" if name.endswith("_timeout") else None,
            "context": "internal" if fixed else "user",
            "vartype": "bool" if switch else "integer" if number else "string",
            "source": "default" if told == default else "session",
            "boot_val": default,
            "reset_val": default,
            "pending_restart": False,
        }


def pg_stat_activity(view: View) -> Iterator[Row]:
    """This session; those of others are not seen from here."""
    info = view.info
    role = view.catalog.role(info.user)
    yield {
        "datid": info.database_id,
        "datname": info.database,
        "pid": info.backend_pid,
        "usesysid": role.id if role is not None else None,
        "usename": info.user,
        "application_name": info.application_name,
        "state": "active",
        "backend_type": "client backend",
    }


def pg_timezone_names(view: View) -> Iterator[Row]:
    """The zone every server knows; named zones come from the host's database and are not listed."""
    yield {"name": "UTC", "abbrev": "UTC", "is_dst": False}
