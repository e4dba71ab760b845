"""What \\d, \\dt and \\l ask: queries on pg_catalog that txndb and PostgreSQL both answer."""

from __future__ import annotations

from typing import Final

from txndb.client import Connection, Error

TABLES: Final = """\
SELECT n.nspname AS "Schema", c.relname AS "Name",
  CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'other' END AS "Type",
  pg_catalog.pg_get_userbyid(c.relowner) AS "Owner"
FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ({kinds}) AND n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema'
  AND n.nspname !~ '^pg_toast'
ORDER BY 1, 2"""

DATABASES: Final = """\
SELECT d.datname AS "Name", pg_catalog.pg_get_userbyid(d.datdba) AS "Owner"
FROM pg_catalog.pg_database d ORDER BY 1"""

_FIND: Final = """\
SELECT c.oid, n.nspname, c.relname
FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND c.relkind IN ('r', 'v', 'S', 'i', 'p') ORDER BY n.nspname = 'public' DESC, 2"""

_COLUMNS: Final = """\
SELECT a.attname AS "Column", pg_catalog.format_type(a.atttypid, a.atttypmod) AS "Type",
  CASE WHEN a.attnotnull THEN 'not null' ELSE '' END AS "Nullable",
  COALESCE(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') AS "Default"
FROM pg_catalog.pg_attribute a
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum"""

_INDEXES: Final = """\
SELECT i.relname, x.indisprimary, x.indisunique, pg_catalog.pg_get_indexdef(x.indexrelid)
FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
WHERE x.indrelid = {oid} ORDER BY x.indisprimary DESC, 1"""

_CHECKS: Final = """\
SELECT r.conname, pg_catalog.pg_get_constraintdef(r.oid, true)
FROM pg_catalog.pg_constraint r WHERE r.conrelid = {oid} AND r.contype = 'c' ORDER BY 1"""

_NAMES: Final = """\
SELECT c.relname, a.attname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind = 'r' AND n.nspname = 'public' AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY 1, a.attnum"""


def find_table(conn: Connection, name: str) -> tuple[int, str] | None:
    """The OID and the title of a table, or None. `name` may be quoted or qualified."""
    schema, _, bare = name.rpartition(".")
    rows = conn.execute(_FIND, (_fold(bare),)).fetchall()
    for oid, found_schema, found in rows:
        if not schema or found_schema == _fold(schema):
            return int(oid), f'Table "{found_schema}.{found}"'
    return None


def _fold(name: str) -> str:
    if len(name) >= 2 and name[0] == name[-1] == '"':
        return name[1:-1].replace('""', '"')
    return name.lower()


def columns_query(oid: int) -> str:
    """The columns of a table."""
    return _COLUMNS.format(oid=oid)


def footer(conn: Connection, oid: int) -> str:
    """The indexes and check constraints of a table, as psql lists them."""
    lines = []
    indexes = conn.execute(_INDEXES.format(oid=oid)).fetchall()
    if indexes:
        lines.append("Indexes:")
    for name, primary, unique, definition in indexes:
        kind = "PRIMARY KEY, " if primary else "UNIQUE, " if unique else ""
        method = str(definition).partition(" USING ")[2] or str(definition)
        lines.append(f'    "{name}" {kind}{method}')
    checks = conn.execute(_CHECKS.format(oid=oid)).fetchall()
    if checks:
        lines.append("Check constraints:")
    lines += [f'    "{name}" {definition}' for name, definition in checks]
    return "".join(f"{line}\n" for line in lines)


def names(conn: Connection) -> dict[str, list[str]]:
    """The tables of schema public and their columns, for completion; none when the server cannot say now."""
    try:
        rows = conn.execute(_NAMES).fetchall()
    except Error:
        return {}
    tables: dict[str, list[str]] = {}
    for table, column in rows:
        tables.setdefault(str(table), []).append(str(column))
    return tables
