"""pg_class, pg_attribute, pg_index, pg_constraint and the other catalogues that describe stored objects.

Oids are descriptors' ids. What has no id of its own – a CHECK constraint, a column's default – gets one above 2^31,
made of its table's id and its place, so that it is the same on every node and in every statement.
A column's attnum is its position + 1: positions are never reused, so neither are attnums.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from txndb.sql.catalog.descriptors import (
    PUBLIC_SCHEMA_ID,
    ROOT_ROLE_ID,
    ColumnDesc,
    IndexDesc,
    SequenceDesc,
    TableDesc,
)
from txndb.sql.catalog.names import INFORMATION_SCHEMA_OID, PG_CATALOG_OID, quote_identifier
from txndb.sql.catalog.pgcatalog.builtin import OPERATOR_CLASS_BY_TYPE, TypeFacts, read_types
from txndb.sql.catalog.pgcatalog.relations import Row, View
from txndb.sql.types.core import format_type, type_by_oid

PG_CLASS: Final = 1259
PG_ATTRDEF: Final = 2604
PG_CONSTRAINT: Final = 2606
BTREE: Final = 403
HEAP: Final = 2
UTF8: Final = 6
LOCALE: Final = "C.UTF-8"
SCHEMA_OIDS: Final = {"pg_catalog": PG_CATALOG_OID, "information_schema": INFORMATION_SCHEMA_OID}

_MADE_OIDS: Final = 1 << 31
_DEFAULTS: Final = 3 << 30
_CONSTANT: Final = re.compile(r"(?:'(?:[^']|'')*'|NULL|-[0-9.]+)\Z")
_PLACES: Final = 2048
_PLACE_MASK: Final = (1 << 30) - 1


def check_oid(table: TableDesc, place: int) -> int:
    """The oid of a table's CHECK constraint."""
    return _MADE_OIDS | ((table.id * _PLACES + place) & _PLACE_MASK)


def default_oid(table_id: int, position: int) -> int:
    """The oid of a column's default."""
    return _DEFAULTS | ((table_id * _PLACES + position) & _PLACE_MASK)


def indexes_of(table: TableDesc) -> Iterator[tuple[IndexDesc, bool]]:
    """The indexes a person made, and whether each is the primary key's."""
    if table.has_primary_key:
        yield table.primary, True
    for index in table.indexes:
        yield index, False


# --- relations


def _stored_class(oid: int, name: str, schema_id: int, kind: str) -> dict[str, Any]:
    return {
        "oid": oid,
        "relname": name,
        "relnamespace": schema_id,
        "relowner": ROOT_ROLE_ID,
        "relfilenode": oid,
        "reltuples": -1.0,
        "relpersistence": "p",
        "relkind": kind,
        "relispopulated": True,
        "relreplident": "n",
    }


def pg_class(view: View) -> Iterator[Row]:
    """Tables, sequences, indexes, and the system relations themselves."""
    for relation in view.relations:
        yield {
            **_stored_class(relation.oid, relation.name, SCHEMA_OIDS[relation.schema], relation.kind),
            "relam": HEAP if relation.kind == "r" else 0,
            "relnatts": len(relation.columns),
            "relhasrules": relation.kind == "v",
        }
    for table in view.catalog.tables(view.info.database_id):
        yield {
            **_stored_class(table.id, table.name, table.schema_id, "r"),
            "relam": HEAP,
            "relnatts": _attribute_count(table),
            "relhasindex": table.has_primary_key or bool(table.indexes),
            "relchecks": len(table.checks),
            "relreplident": "d",
        }
        for index, _ in indexes_of(table):
            yield {
                **_stored_class(index.id, index.name, table.schema_id, "i"),
                "relam": BTREE,
                "relnatts": len(index.columns),
            }
    for sequence in view.catalog.sequences(view.info.database_id):
        yield {**_stored_class(sequence.id, sequence.name, sequence.schema_id, "S"), "relnatts": 3}


def _attribute_count(table: TableDesc) -> int:
    """The highest attnum so far; a hidden row id at the end does not count."""
    last = table.columns[-1] if table.columns else None
    return table.next_position - (
        last is not None and last.hidden and last.position == table.next_position - 1
    )


def _attribute(
    facts: TypeFacts, relid: int, name: str, number: int, type_oid: int, typmod: int
) -> dict[str, Any]:
    return {
        "attrelid": relid,
        "attname": name,
        "atttypid": type_oid,
        "attlen": facts.length,
        "attnum": number,
        "attcacheoff": -1,
        "atttypmod": typmod,
        "attndims": 1 if facts.category == "A" else 0,
        "attbyval": facts.by_value,
        "attalign": facts.align,
        "attstorage": facts.storage,
        "attislocal": True,
        "attcollation": facts.collation,
        "attstattarget": -1,
    }


def pg_attribute(view: View) -> Iterator[Row]:
    """Columns; those of system relations too. Hidden row ids are not shown."""
    facts = read_types()
    for relation in view.relations:
        for number, found in enumerate(relation.columns, 1):
            row = _attribute(facts[found.type_oid], relation.oid, found.name, number, found.type_oid, -1)
            yield {**row, "attnotnull": found.not_null}
    for table in view.catalog.tables(view.info.database_id):
        for column in table.columns:
            if not column.hidden:
                row = _attribute(
                    facts[column.type_oid],
                    table.id,
                    column.name,
                    column.position + 1,
                    column.type_oid,
                    column.typmod,
                )
                has_default = default_text(column) is not None
                yield {
                    **row,
                    "attnotnull": column.not_null,
                    "atthasdef": has_default,
                    "atthasmissing": column.missing is not None,
                }
        for index, _ in indexes_of(table):
            for number, position in enumerate(index.columns, 1):
                key = table.column_at(position)
                yield _attribute(facts[key.type_oid], index.id, key.name, number, key.type_oid, key.typmod)
    for sequence in view.catalog.sequences(view.info.database_id):
        for number, (name, type_oid) in enumerate(
            (("last_value", 20), ("log_cnt", 20), ("is_called", 16)), 1
        ):
            row = _attribute(facts[type_oid], sequence.id, name, number, type_oid, -1)
            yield {**row, "attnotnull": True}


def default_text(column: ColumnDesc) -> str | None:
    """A column's default as PostgreSQL writes it back: a constant that is not a plain number names its type.

    DEFAULT NULL is none, except where a length or precision applies.
    """
    text = column.default
    if text == "NULL" and column.typmod < 0:
        return None
    if text is None or not _CONSTANT.match(text):
        return text
    quoted = f"'{text}'" if text[0] == "-" else text
    return f"{quoted}::{format_type(column.type_oid, -1)}"


def pg_attrdef(view: View) -> Iterator[Row]:
    """Defaults: `adbin` is the expression's text, which pg_get_expr gives back."""
    for table in view.catalog.tables(view.info.database_id):
        for column in table.columns:
            text = default_text(column)
            if text is not None and not column.hidden:
                yield {
                    "oid": default_oid(table.id, column.position),
                    "adrelid": table.id,
                    "adnum": column.position + 1,
                    "adbin": text,
                }


def pg_index(view: View) -> Iterator[Row]:
    """Indexes."""
    facts = read_types()
    for table in view.catalog.tables(view.info.database_id):
        for index, primary in indexes_of(table):
            types = [table.column_at(p).type_oid for p in index.columns]
            yield {
                "indexrelid": index.id,
                "indrelid": table.id,
                "indnatts": len(index.columns),
                "indnkeyatts": len(index.columns),
                "indisunique": index.unique,
                "indisprimary": primary,
                "indimmediate": True,
                "indisvalid": True,
                "indisready": True,
                "indislive": True,
                "indkey": [p + 1 for p in index.columns],
                "indcollation": [facts[t].collation for t in types],
                "indclass": [OPERATOR_CLASS_BY_TYPE.get(t, 0) for t in types],
                "indoption": [3 if down else 0 for down in index.descending],
            }


def index_definition(table: TableDesc, index: IndexDesc, schema: str) -> str:
    """CREATE INDEX as pg_get_indexdef spells it."""
    unique = "UNIQUE " if index.unique else ""
    keys = ", ".join(
        index_column(table, index, at) + (" DESC" if d else "") for at, d in enumerate(index.descending)
    )
    prefix = f"{quote_identifier(schema)}." if schema else ""
    on = prefix + quote_identifier(table.name)
    return f"CREATE {unique}INDEX {quote_identifier(index.name)} ON {on} USING btree ({keys})"


def index_column(table: TableDesc, index: IndexDesc, at: int) -> str:
    """The quoted name of an index's column."""
    return quote_identifier(table.column_at(index.columns[at]).name)


def pg_constraint(view: View) -> Iterator[Row]:
    """PRIMARY KEY, UNIQUE and CHECK constraints. A constraint that an index implements has the index's oid."""
    for table in view.catalog.tables(view.info.database_id):
        shared = {
            "connamespace": table.schema_id,
            "convalidated": True,
            "conrelid": table.id,
            "conislocal": True,
            "confupdtype": " ",
            "confdeltype": " ",
            "confmatchtype": " ",
        }
        for index, primary in indexes_of(table):
            if primary or index.constraint:
                yield {
                    **shared,
                    "oid": index.id,
                    "conname": index.name,
                    "contype": "p" if primary else "u",
                    "conindid": index.id,
                    "connoinherit": True,
                    "conkey": [p + 1 for p in index.columns],
                }
        for place, check in enumerate(table.checks):
            yield {
                **shared,
                "oid": check_oid(table, place),
                "conname": check.name,
                "contype": "c",
                "conkey": check_columns(table, check.expression),
                "conbin": check.expression,
            }


def check_columns(table: TableDesc, expression: str) -> list[int]:
    """The attnums of the columns a CHECK names."""
    from txndb.sql.parse.tokens import tokenize

    names = {token.value for token in tokenize(expression)}
    return [c.position + 1 for c in table.columns if c.name in names]


def constraint_definition(table: TableDesc, oid: int, *, pretty: bool = False) -> str | None:
    """A constraint of the table as pg_get_constraintdef spells it; `pretty` spares parentheses."""
    for index, primary in indexes_of(table):
        if index.id == oid and (primary or index.constraint):
            keys = ", ".join(index_column(table, index, at) for at in range(len(index.columns)))
            return f"{'PRIMARY KEY' if primary else 'UNIQUE'} ({keys})"
    for place, check in enumerate(table.checks):
        if check_oid(table, place) == oid:
            expression = parenthesised(check.expression)
            return f"CHECK {expression}" if pretty else f"CHECK ({expression})"
    return None


def parenthesised(expression: str) -> str:
    """The expression within one pair of parentheses."""
    depth = 0
    for at, character in enumerate(expression):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0 and at < len(expression) - 1:
            return f"({expression})"
    return expression


def pg_depend(view: View) -> Iterator[Row]:
    """A SERIAL column owns its sequence and its default uses it; indexes and constraints depend on their columns."""
    for sequence in view.catalog.sequences(view.info.database_id):
        if sequence.owner_table_id:
            owner, position = sequence.owner_table_id, sequence.owner_position
            yield _depends((PG_CLASS, sequence.id), (PG_CLASS, owner, position + 1), "a")
            yield _depends((PG_ATTRDEF, default_oid(owner, position)), (PG_CLASS, sequence.id, 0), "n")
    for table in view.catalog.tables(view.info.database_id):
        for index, primary in indexes_of(table):
            constraint = primary or index.constraint
            if constraint:
                yield _depends((PG_CLASS, index.id), (PG_CONSTRAINT, index.id, 0), "i")
            depending = (PG_CONSTRAINT if constraint else PG_CLASS, index.id)
            for position in index.columns:
                yield _depends(depending, (PG_CLASS, table.id, position + 1), "a")
        for place, check in enumerate(table.checks):
            for number in check_columns(table, check.expression):
                yield _depends((PG_CONSTRAINT, check_oid(table, place)), (PG_CLASS, table.id, number), "a")


def _depends(depending: tuple[int, int], on: tuple[int, int, int], kind: str) -> Row:
    return {
        "classid": depending[0],
        "objid": depending[1],
        "refclassid": on[0],
        "refobjid": on[1],
        "refobjsubid": on[2],
        "deptype": kind,
    }


def pg_sequence(view: View) -> Iterator[Row]:
    """Sequences' parameters."""
    for sequence in view.catalog.sequences(view.info.database_id):
        yield {
            "seqrelid": sequence.id,
            "seqtypid": sequence.type_oid,
            "seqstart": sequence.start,
            "seqincrement": sequence.increment,
            "seqmax": sequence.max_value,
            "seqmin": 1 if sequence.increment > 0 else -(2**63),
            "seqcache": 1,
        }


# --- schemas, databases, roles


def schemas(view: View) -> list[tuple[int, str, int]]:
    """(oid, name, owner) of all schemas."""
    found = [(oid, name, ROOT_ROLE_ID) for name, oid in SCHEMA_OIDS.items()]
    return found + [(s.id, s.name, s.owner_id) for s in view.catalog.schemas()]


def schema_name(view: View, oid: int) -> str:
    """A schema's name."""
    return next(
        (name for at, name, _ in schemas(view) if at == oid), "public" if oid == PUBLIC_SCHEMA_ID else ""
    )


def pg_namespace(view: View) -> Iterator[Row]:
    """Schemas."""
    for oid, name, owner in schemas(view):
        yield {"oid": oid, "nspname": name, "nspowner": owner}


def pg_database(view: View) -> Iterator[Row]:
    """Databases."""
    for database in view.catalog.databases():
        yield {
            "oid": database.id,
            "datname": database.name,
            "datdba": database.owner_id,
            "encoding": UTF8,
            "datlocprovider": "c",
            "datallowconn": True,
            "datconnlimit": -1,
            "dattablespace": 1663,
            "datcollate": "C",
            "datctype": LOCALE,
        }


def _role(role_id: int, name: str, superuser: bool) -> dict[str, Any]:
    return {
        "oid": role_id,
        "rolname": name,
        "rolsuper": superuser,
        "rolinherit": True,
        "rolcreaterole": superuser,
        "rolcreatedb": superuser,
        "rolcanlogin": True,
        "rolreplication": superuser,
        "rolconnlimit": -1,
        "rolbypassrls": superuser,
    }


def pg_authid(view: View) -> Iterator[Row]:
    """Roles."""
    for role in view.catalog.roles():
        yield _role(role.id, role.name, role.superuser)


def pg_roles(view: View) -> Iterator[Row]:
    """Roles, as everyone may see them."""
    for role in view.catalog.roles():
        yield {**_role(role.id, role.name, role.superuser), "rolpassword": "********"}


def pg_user(view: View) -> Iterator[Row]:
    """Roles that can log in."""
    for role in view.catalog.roles():
        yield {
            "usename": role.name,
            "usesysid": role.id,
            "usecreatedb": role.superuser,
            "usesuper": role.superuser,
            "userepl": role.superuser,
            "usebypassrls": role.superuser,
            "passwd": "********",
        }


def sequence_owner(view: View, sequence: SequenceDesc) -> tuple[TableDesc, str] | None:
    """The table and column that own a sequence."""
    table = view.catalog.by_id(sequence.owner_table_id)
    if not isinstance(table, TableDesc):
        return None
    return table, table.column_at(sequence.owner_position).name


def sequence_type(sequence: SequenceDesc) -> str:
    """A sequence's type, spelled."""
    return str(type_by_oid(sequence.type_oid))
