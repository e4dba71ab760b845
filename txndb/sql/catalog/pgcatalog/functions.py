"""Functions that read the catalogue: pg_get_indexdef, format_type, *_is_visible, has_*_privilege, …

Each gets the session's `CatalogContext` first. Roles are superusers, so that a privilege on an object that exists is
always held. Sizes are unknown here, for data is spread over ranges: NULL, never a guess. There are no comments,
triggers, rules, views or partitions to describe: NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from txndb.errors import SqlError, sql_error
from txndb.sql.catalog.descriptors import IndexDesc, SequenceDesc, TableDesc
from txndb.sql.catalog.names import CatalogNames, quote_identifier
from txndb.sql.catalog.pgcatalog.builtin import Builtins, type_names
from txndb.sql.catalog.pgcatalog.objects import (
    SCHEMA_OIDS,
    check_oid,
    constraint_definition,
    index_column,
    index_definition,
    indexes_of,
)
from txndb.sql.catalog.virtual import CatalogContext, CatalogFunction, VirtualColumn, VirtualTable
from txndb.sql.parse.keywords import KEYWORDS, RESERVED, TYPE_OR_FUNCTION
from txndb.sql.types.context import EvalContext
from txndb.sql.types.core import format_type

_ANY: Final = 2276
_BOOL, _NAME, _INT8, _INT4, _TEXT, _OID = 16, 19, 20, 23, 25, 26
_REGCLASS, _REGTYPE, _REGPROC, _REGNAMESPACE, _REGROLE = 2205, 2206, 24, 4089, 4096
_UTF8: Final = 6
_EPOCH_2000_US: Final = 946_684_800_000_000

Relation = tuple[str, str]
"""Schema and name."""


def relations_by_oid(context: CatalogContext) -> dict[int, Relation]:
    """Schema and name of every relation, index and system relation of the session's database."""
    catalog, database_id = context.catalog, context.info.database_id
    key = ("pgcatalog relations", database_id)
    found: Any = catalog.derived.get(key)
    if found is None:
        names = {s.id: s.name for s in catalog.schemas()}
        found = {t.oid: (t.schema, t.name) for t in _virtual_tables(context)}
        for table in catalog.tables(database_id):
            schema = names.get(table.schema_id, "")
            found[table.id] = (schema, table.name)
            for index, _ in indexes_of(table):
                found[index.id] = (schema, index.name)
        for sequence in catalog.sequences(database_id):
            found[sequence.id] = (names.get(sequence.schema_id, ""), sequence.name)
        catalog.derived[key] = found
    return found  # type: ignore[no-any-return]


def _virtual_tables(context: CatalogContext) -> list[VirtualTable]:
    return list(context.virtual.tables()) if context.virtual is not None else []


def _path(context: CatalogContext) -> tuple[str, ...]:
    path = context.info.search_path
    return path if "pg_catalog" in path else ("pg_catalog", *path)


def table_is_visible(context: CatalogContext, oid: int) -> bool | None:
    """Whether the unqualified name means this relation."""
    by_oid = relations_by_oid(context)
    found = by_oid.get(oid)
    if found is None:
        return None
    schema, name = found
    for candidate in _path(context):
        if candidate == schema:
            return True
        if _exists(context, candidate, name):
            return False
    return False


def _exists(context: CatalogContext, schema: str, name: str) -> bool:
    if context.virtual is not None and context.virtual.find(schema, name) is not None:
        return True
    found = context.catalog.schema(schema)
    return found is not None and context.catalog.name_taken(context.info.database_id, found.id, name)


def relation_name(context: CatalogContext, oid: int) -> str | None:
    """A relation's name, qualified where the search path does not find it; None when there is none."""
    found = relations_by_oid(context).get(oid)
    if found is None:
        return None
    name = quote_identifier(found[1])
    return name if table_is_visible(context, oid) else f"{quote_identifier(found[0])}.{name}"


def _visible(context: CatalogContext, oid: int) -> bool:
    """Types, functions and operators are all in pg_catalog, which is always searched."""
    return True


# --- definitions


def _find_index(context: CatalogContext, oid: int) -> tuple[TableDesc, IndexDesc] | None:
    found = relations_by_oid(context).get(oid)
    schema = context.catalog.schema(found[0]) if found is not None else None
    if found is None or schema is None:
        return None
    return context.catalog.index(context.info.database_id, found[1], schema.id)


def _index_definition(context: CatalogContext, oid: int) -> str | None:
    found = _find_index(context, oid)
    if found is None:
        return None
    return index_definition(*found, relations_by_oid(context)[oid][0])


def _index_part(context: CatalogContext, oid: int, column: int, pretty: bool) -> str | None:
    found = _find_index(context, oid)
    if found is None:
        return None
    table, index = found
    if column == 0:
        schema = relations_by_oid(context)[oid][0]
        return index_definition(table, index, "" if pretty and table_is_visible(context, oid) else schema)
    return index_column(table, index, column - 1) if 0 < column <= len(index.columns) else ""


def _tables_by_constraint(context: CatalogContext) -> dict[int, TableDesc]:
    """The table of every constraint, by the constraint's oid."""
    key = ("pgcatalog constraints", context.info.database_id)
    found: Any = context.catalog.derived.get(key)
    if found is None:
        found = {}
        for table in context.catalog.tables(context.info.database_id):
            oids = [index.id for index, primary in indexes_of(table) if primary or index.constraint]
            oids += [check_oid(table, at) for at in range(len(table.checks))]
            found.update((oid, table) for oid in oids)
        context.catalog.derived[key] = found
    return found  # type: ignore[no-any-return]


def _constraint(context: CatalogContext, oid: int, pretty: bool = False) -> str | None:
    table = _tables_by_constraint(context).get(oid)
    return constraint_definition(table, oid, pretty=pretty) if table is not None else None


def _serial_sequence(context: CatalogContext, table_name: str, column_name: str) -> str | None:
    oid = CatalogNames(context).oid_of("regclass", table_name)
    table = context.catalog.by_id(oid)
    column = table.column(column_name) if isinstance(table, TableDesc) else None
    if column is None or column.hidden:
        raise sql_error("42703", f'column "{column_name}" of relation "{table_name}" does not exist')
    sequence = context.catalog.by_id(column.sequence_id)
    if not isinstance(sequence, SequenceDesc):
        return None
    schema, name = relations_by_oid(context)[sequence.id]
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"


def _text_itself(context: CatalogContext, expression: str, *rest: Any) -> str:
    return expression


def _role_name(context: CatalogContext, oid: int) -> str:
    role = context.catalog.by_id(oid)
    return role.name if role is not None else f"unknown (OID={oid})"


# --- names to oids


def _to_reg(kind: str) -> Callable[[CatalogContext, str], int | None]:
    def look_up(context: CatalogContext, name: str) -> int | None:
        try:
            return CatalogNames(context).oid_of(kind, name)
        except SqlError:
            return None

    return look_up


# --- privileges


def _may_use_relation(context: CatalogContext, *args: Any) -> bool | None:
    """(relation, privilege) or (role, relation, privilege), the relation by name or oid."""
    relation = args[-2]
    if isinstance(relation, str):
        CatalogNames(context).oid_of("regclass", relation)
        return True
    return True if relation in relations_by_oid(context) else None


def _may_use_column(context: CatalogContext, *args: Any) -> bool | None:
    return _may_use_relation(context, *args[:-1])


def _may_use_schema(context: CatalogContext, *args: Any) -> bool | None:
    schema = args[-2]
    if isinstance(schema, str):
        if schema not in SCHEMA_OIDS and context.catalog.schema(schema) is None:
            raise sql_error("3F000", f'schema "{schema}" does not exist')
        return True
    return True if schema in SCHEMA_OIDS.values() or context.catalog.by_id(schema) is not None else None


def _may_use_database(context: CatalogContext, *args: Any) -> bool | None:
    database = args[-2]
    if isinstance(database, str):
        if context.catalog.database(database) is None:
            raise sql_error("3D000", f'database "{database}" does not exist')
        return True
    return True if context.catalog.by_id(database) is not None else None


def _may(context: CatalogContext, *args: Any) -> bool:
    return True


# --- the session


def _current_schema(context: CatalogContext) -> str | None:
    return next((s for s in context.info.search_path if context.catalog.schema(s) is not None), None)


def _current_schemas(context: CatalogContext, implicit: bool) -> list[str]:
    stored = [
        s for s in context.info.search_path if context.catalog.schema(s) is not None or s in SCHEMA_OIDS
    ]
    return ["pg_catalog", *stored] if implicit and "pg_catalog" not in stored else stored


def _setting(context: CatalogContext, name: str, missing_ok: bool = False) -> str | None:
    parameters = context.info.parameters
    if parameters is not None:
        try:
            return parameters.show(name)
        except SqlError:
            if missing_ok:
                return None
            raise
    if missing_ok:
        return None
    raise sql_error("42704", f'unrecognized configuration parameter "{name}"')


def _set_config(
    context: CatalogContext, name: str | None, value: str | None, local: bool | None
) -> str | None:
    parameters = context.info.parameters
    if name is None or parameters is None:
        raise sql_error("22004", "SET requires parameter name")
    return parameters.set_config(name, value, bool(local))


def _version(context: CatalogContext) -> str:
    number = _setting(context, "server_version", True) or "15.0"
    return f"PostgreSQL {number} (txndb)" if "txndb" not in number else f"PostgreSQL {number}"


_SIZES: Final = (
    ("bytes", 1),
    ("kB", 1 << 10),
    ("MB", 1 << 20),
    ("GB", 1 << 30),
    ("TB", 1 << 40),
    ("PB", 1 << 50),
)


def size_text(size: int) -> str:
    """pg_size_pretty: the largest unit that leaves fewer than 10240, rounded half away from zero."""
    magnitude, sign = abs(size), "-" if size < 0 else ""
    for name, unit in _SIZES:
        if unit == 1:
            if magnitude < 10 * 1024:
                return f"{sign}{magnitude} {name}"
            continue
        rounded = (magnitude * 2 // unit + 1) // 2
        if rounded < 10 * 1024 or name == "PB":
            return f"{sign}{rounded} {name}"
    raise AssertionError("the last unit takes everything")


def _nothing(context: CatalogContext, *args: Any) -> None:
    return None


def _constant(value: Any) -> Callable[..., Any]:
    return lambda context, *args: value


Rows = Iterator[CatalogFunction]


def _described() -> Rows:
    f = CatalogFunction
    yield f("format_type", (_OID, _INT4), _TEXT, _format_type, strict=False)
    yield f("pg_get_userbyid", (_OID,), _NAME, _role_name)
    yield f("pg_get_expr", (_TEXT, _OID), _TEXT, _text_itself)
    yield f("pg_get_expr", (_TEXT, _OID, _BOOL), _TEXT, _text_itself)
    yield f("pg_get_indexdef", (_OID,), _TEXT, _index_definition)
    yield f("pg_get_indexdef", (_OID, _INT4, _BOOL), _TEXT, _index_part)
    yield f("pg_get_constraintdef", (_OID,), _TEXT, _constraint)
    yield f("pg_get_constraintdef", (_OID, _BOOL), _TEXT, _constraint)
    yield f("pg_get_serial_sequence", (_TEXT, _TEXT), _TEXT, _serial_sequence)
    for name in ("pg_get_viewdef", "pg_get_triggerdef", "pg_get_ruledef"):
        yield f(name, (_ANY,), _TEXT, _nothing)
        yield f(name, (_ANY, _BOOL), _TEXT, _nothing)
    for name in ("pg_get_partkeydef", "pg_get_statisticsobjdef_columns", "pg_get_functiondef"):
        yield f(name, (_OID,), _TEXT, _nothing)
    for name in ("pg_get_function_sqlbody", "pg_get_partition_constraintdef", "pg_get_statisticsobjdef"):
        yield f(name, (_OID,), _TEXT, _nothing)
    yield f("obj_description", (_OID,), _TEXT, _nothing)
    yield f("obj_description", (_OID, _NAME), _TEXT, _nothing)
    yield f("shobj_description", (_OID, _NAME), _TEXT, _nothing)
    yield f("col_description", (_OID, _INT4), _TEXT, _nothing)
    yield f("pg_relation_is_publishable", (_REGCLASS,), _BOOL, _publishable)
    yield f("pg_table_is_visible", (_OID,), _BOOL, table_is_visible)
    for kind in ("type", "function", "operator", "opclass", "opfamily", "collation", "conversion"):
        yield f(f"pg_{kind}_is_visible", (_OID,), _BOOL, _visible)
    for kind in ("statistics_obj", "ts_config", "ts_dict", "ts_parser", "ts_template"):
        yield f(f"pg_{kind}_is_visible", (_OID,), _BOOL, _visible)


def _format_type(context: CatalogContext, oid: int | None, typmod: int | None) -> str | None:
    return None if oid is None else format_type(oid, typmod)


def _publishable(context: CatalogContext, oid: int) -> bool | None:
    if oid not in relations_by_oid(context):
        return None
    return isinstance(context.catalog.by_id(oid), TableDesc)


def _transaction_number(env: EvalContext) -> int:
    """A number of the transaction: its start in microseconds, so that later ones are larger. Not an xid."""
    return env.now_us() + _EPOCH_2000_US


def _of_session() -> Rows:
    f = CatalogFunction
    yield f("current_database", (), _NAME, lambda context: context.info.database)
    yield f("current_schema", (), _NAME, _current_schema)
    yield f("current_schemas", (_BOOL,), 1003, _current_schemas)
    yield f("version", (), _TEXT, _version)
    yield f("pg_backend_pid", (), _INT4, lambda context: context.info.backend_pid)
    yield f("current_setting", (_TEXT,), _TEXT, _setting)
    yield f("current_setting", (_TEXT, _BOOL), _TEXT, _setting)
    yield f("set_config", (_TEXT, _TEXT, _BOOL), _TEXT, _set_config, strict=False)
    for name in ("txid_current", "pg_current_xact_id"):
        yield f(name, (), _INT8, _transaction_number, with_env=True)
    for name in ("txid_current_if_assigned", "pg_current_xact_id_if_assigned"):
        yield f(name, (), _INT8, _nothing)
    yield f("pg_is_in_recovery", (), _BOOL, _constant(False))
    yield f("pg_my_temp_schema", (), _OID, _constant(0))
    yield f("pg_is_other_temp_schema", (_OID,), _BOOL, _constant(False))
    yield f("pg_trigger_depth", (), _INT4, _constant(0))
    yield f("pg_blocking_pids", (_INT4,), 1007, _constant([]))
    yield f("pg_tablespace_location", (_OID,), _TEXT, _constant(""))
    yield f("pg_encoding_to_char", (_INT4,), _NAME, lambda context, code: "UTF8" if code == _UTF8 else "")
    yield f("pg_char_to_encoding", (_NAME,), _INT4, _encoding_number)
    yield f("getdatabaseencoding", (), _NAME, _constant("UTF8"))
    yield f(
        "pg_client_encoding", (), _NAME, lambda context: _setting(context, "client_encoding", True) or "UTF8"
    )
    for name in ("inet_server_addr", "inet_client_addr"):
        yield f(name, (), _TEXT, _nothing)
    for name in ("inet_server_port", "inet_client_port"):
        yield f(name, (), _INT4, _nothing)
    for name, result in (("regclass", _REGCLASS), ("regtype", _REGTYPE), ("regproc", _REGPROC)):
        yield f(f"to_{name}", (_TEXT,), result, _to_reg(name))
    yield f("to_regprocedure", (_TEXT,), 2202, _to_reg("regprocedure"))
    yield f("to_regnamespace", (_TEXT,), _REGNAMESPACE, _to_reg("regnamespace"))
    yield f("to_regrole", (_TEXT,), _REGROLE, _to_reg("regrole"))


def _encoding_number(context: CatalogContext, name: str) -> int:
    return _UTF8 if name.upper().replace("-", "").replace("_", "") in ("UTF8", "UNICODE") else -1


def _privileges() -> Rows:
    checks: tuple[tuple[tuple[str, ...], Callable[..., bool | None]], ...] = (
        (("table", "sequence", "any_column"), _may_use_relation),
        (("schema",), _may_use_schema),
        (("database",), _may_use_database),
        (("function", "type", "language", "tablespace", "server", "foreign_data_wrapper"), _may),
    )
    for kinds, check in checks:
        for kind in kinds:
            yield CatalogFunction(f"has_{kind}_privilege", (_ANY, _TEXT), _BOOL, check)
            yield CatalogFunction(f"has_{kind}_privilege", (_ANY, _ANY, _TEXT), _BOOL, check)
    yield CatalogFunction("has_column_privilege", (_ANY, _ANY, _TEXT), _BOOL, _may_use_column)
    yield CatalogFunction("has_column_privilege", (_ANY, _ANY, _ANY, _TEXT), _BOOL, _may_use_column)
    yield CatalogFunction("pg_has_role", (_ANY, _TEXT), _BOOL, _may)
    yield CatalogFunction("pg_has_role", (_ANY, _ANY, _TEXT), _BOOL, _may)


def _sizes() -> Rows:
    yield CatalogFunction("pg_size_pretty", (_INT8,), _TEXT, lambda context, size: size_text(size))
    for name in ("pg_table_size", "pg_relation_size", "pg_total_relation_size", "pg_indexes_size"):
        yield CatalogFunction(name, (_REGCLASS,), _INT8, _nothing)
    yield CatalogFunction("pg_relation_size", (_REGCLASS, _TEXT), _INT8, _nothing)
    yield CatalogFunction("pg_database_size", (_ANY,), _INT8, _nothing)
    yield CatalogFunction("pg_tablespace_size", (_ANY,), _INT8, _nothing)


def _options(context: CatalogContext, options: list[str]) -> list[tuple[str, str | None]]:
    parts = [option.partition("=") for option in options]
    return [(name, value if given else None) for name, given, value in parts]


def _expanded(context: CatalogContext, items: list[Any]) -> list[tuple[Any, int]]:
    return [(item, at) for at, item in enumerate(items, 1)]


def _keywords(context: CatalogContext) -> list[tuple[str, str, bool, str]]:
    words = {"U": "unreserved", "C": "unreserved (cannot be function or type name)"}
    words |= {"T": "reserved (can be function or type name)", "R": "reserved"}
    return [(word, code, True, words[code]) for word, code in keyword_categories()]


def keyword_categories() -> list[tuple[str, str]]:
    """(key word, its category's letter), by word."""
    found = []
    for word in sorted(KEYWORDS):
        letter = "R" if word in RESERVED else "T" if word in TYPE_OR_FUNCTION else "U"
        found.append((word.lower(), letter))
    return found


def _sets() -> Rows:
    """Functions that return sets."""
    c = VirtualColumn
    relid = (c("relid", _REGCLASS),)
    options = (c("option_name", _TEXT), c("option_value", _TEXT))
    words = (c("word", _TEXT), c("catcode", 18), c("barelabel", _BOOL), c("catdesc", _TEXT))
    acl = (c("grantor", _OID), c("grantee", _OID), c("privilege_type", _TEXT), c("is_grantable", _BOOL))
    yield CatalogFunction("pg_partition_ancestors", (_REGCLASS,), 2249, _constant([]), columns=relid)
    yield CatalogFunction("pg_options_to_table", (1009,), 2249, _options, columns=options)
    yield CatalogFunction("aclexplode", (1034,), 2249, _constant([]), columns=acl)
    yield CatalogFunction("pg_get_keywords", (), 2249, _keywords, columns=words)
    pair = (c("x", _OID), c("n", _INT4))
    yield CatalogFunction("_pg_expandarray", (22,), 2249, _expanded, columns=pair)


def catalog_functions() -> list[CatalogFunction]:
    """All but those that describe functions."""
    return [*_described(), *_of_session(), *_privileges(), *_sizes(), *_sets()]


def function_functions(builtins: Builtins) -> list[CatalogFunction]:
    """Those that describe functions."""

    def result(context: CatalogContext, oid: int) -> str | None:
        found = builtins.by_oid.get(oid)
        if found is None:
            return None
        return ("SETOF " if found.returns_set else "") + type_names((found.result,))

    def arguments(context: CatalogContext, oid: int) -> str | None:
        found = builtins.by_oid.get(oid)
        if found is None:
            return None
        if not found.variadic:
            return type_names(found.args)
        return ", ".join(
            part for part in (type_names(found.args[:-1]), f"VARIADIC {type_names(found.args[-1:])}") if part
        )

    return [
        CatalogFunction("pg_get_function_result", (_OID,), _TEXT, result),
        CatalogFunction("pg_get_function_arguments", (_OID,), _TEXT, arguments),
        CatalogFunction("pg_get_function_identity_arguments", (_OID,), _TEXT, arguments),
    ]
