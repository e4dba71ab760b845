"""pg_catalog and information_schema: virtual tables and functions that describe the catalogue as PostgreSQL 15 does.

Clients (psql, drivers, object mappers) ask these relations what exists. Every relation PostgreSQL 15 has is here with
its columns; those about what is not supported are empty. Nothing is read from storage: rows come from the
statement's catalogue and the session.

Invariants
1. Oids of types, system relations and operator classes are PostgreSQL's; those of stored objects are their ids.
2. Rows do not depend on the node that makes them.

Driven by the planner, which finds tables and functions in the registry that `system_schemas` makes, once a node.
Reference: PostgreSQL 15 documentation, chapters 37 and 54.
"""

from __future__ import annotations

from typing import Final

from txndb.sql.catalog.pgcatalog import builtin, infoschema, objects, views
from txndb.sql.catalog.pgcatalog.builtin import Builtins, Function
from txndb.sql.catalog.pgcatalog.functions import catalog_functions, function_functions
from txndb.sql.catalog.pgcatalog.names import BuiltinNames
from txndb.sql.catalog.pgcatalog.relations import Maker, read_relations, virtual_table
from txndb.sql.catalog.virtual import VirtualSchemas

_MAKERS: Final[dict[str, Maker]] = {
    "pg_am": builtin.pg_am,
    "pg_attrdef": objects.pg_attrdef,
    "pg_attribute": objects.pg_attribute,
    "pg_authid": objects.pg_authid,
    "pg_cast": builtin.pg_cast,
    "pg_class": objects.pg_class,
    "pg_collation": builtin.pg_collation,
    "pg_constraint": objects.pg_constraint,
    "pg_database": objects.pg_database,
    "pg_depend": objects.pg_depend,
    "pg_index": objects.pg_index,
    "pg_indexes": views.pg_indexes,
    "pg_language": builtin.pg_language,
    "pg_namespace": objects.pg_namespace,
    "pg_opclass": builtin.pg_opclass,
    "pg_operator": builtin.pg_operator,
    "pg_opfamily": builtin.pg_opfamily,
    "pg_roles": objects.pg_roles,
    "pg_sequence": objects.pg_sequence,
    "pg_sequences": views.pg_sequences,
    "pg_shadow": objects.pg_user,
    "pg_stat_all_indexes": views.pg_stat_user_indexes,
    "pg_stat_all_tables": views.pg_stat_user_tables,
    "pg_stat_database": views.pg_stat_database,
    "pg_stat_user_indexes": views.pg_stat_user_indexes,
    "pg_stat_user_tables": views.pg_stat_user_tables,
    "pg_statio_user_tables": views.pg_stat_user_tables,
    "pg_statio_all_tables": views.pg_stat_user_tables,
    "pg_tables": views.pg_tables,
    "pg_tablespace": builtin.pg_tablespace,
    "pg_timezone_names": views.pg_timezone_names,
    "pg_user": objects.pg_user,
    "pg_views": views.pg_views,
    "check_constraints": infoschema.info_check_constraints,
    "columns": infoschema.info_columns,
    "constraint_column_usage": infoschema.info_constraint_column_usage,
    "constraint_table_usage": infoschema.info_constraint_table_usage,
    "enabled_roles": infoschema.info_enabled_roles,
    "information_schema_catalog_name": infoschema.info_catalog_name,
    "key_column_usage": infoschema.info_key_column_usage,
    "schemata": infoschema.info_schemata,
    "sequences": infoschema.info_sequences,
    "table_constraints": infoschema.info_table_constraints,
    "tables": infoschema.info_tables,
    "views": infoschema.info_views,
}
_SESSION_MAKERS: Final[dict[str, Maker]] = {
    "pg_settings": views.pg_settings,
    "pg_stat_activity": views.pg_stat_activity,
}


def system_schemas() -> VirtualSchemas:
    """The registry of a node: every system relation and catalogue function."""
    functions = catalog_functions()
    builtins = Builtins(Function(0, f.name, f.arg_oids, f.result_oid, "f", f.strict, "s") for f in functions)
    makers = {
        **_MAKERS,
        "pg_aggregate": builtins.pg_aggregate,
        "pg_proc": builtins.pg_proc,
        "pg_type": builtins.pg_type,
    }
    relations = read_relations()
    tables = []
    for relation in relations:
        session_maker = _SESSION_MAKERS.get(relation.name)
        maker = session_maker or makers.get(relation.name)
        tables.append(virtual_table(relation, relations, maker, per_session=session_maker is not None))
    registry = VirtualSchemas(tables, [*functions, *function_functions(builtins)])
    registry.names = BuiltinNames(builtins)
    return registry


__all__ = ["system_schemas"]
