"""DDL: statements that change descriptors, run inside an ordinary read-write transaction (rules D2, D7, D8).

Each gives the changed catalogue, which the rest of its transaction uses at once; others see it after COMMIT, when the
leases on the old version were revoked. Data that loses its descriptor (DROP, TRUNCATE, a rewritten index) is not
deleted in the transaction: a garbage row is left under the system prefix, and `collect_garbage` deletes in chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from txndb.encoding.keys import decode_element, decode_table_prefix, index_prefix, prefix_end
from txndb.errors import FeatureNotSupportedError, RetryError, sql_error
from txndb.sql import types
from txndb.sql.catalog.descriptors import (
    PUBLIC_SCHEMA_ID,
    ColumnDesc,
    DatabaseDesc,
    Descriptor,
    IndexDesc,
    SequenceDesc,
    TableDesc,
)
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.catalog.store import (
    allocate_ids,
    garbage_key,
    garbage_span,
    parse_garbage_key,
    sequence_key,
    write_changes,
)
from txndb.sql.catalog.virtual import SessionInfo, VirtualSchemas
from txndb.sql.exec.codegen import Codegen, row_tuple
from txndb.sql.exec.context import ExecContext
from txndb.sql.exec.table import table_codec
from txndb.sql.parse import ast
from txndb.sql.plan.bind_dml import assign, no_rows
from txndb.sql.plan.bind_expr import ExprBinder
from txndb.sql.plan.coerce import coerce
from txndb.sql.plan.scope import Scope, Statement
from txndb.sql.types.core import SqlType, type_by_oid
from txndb.txn.api import KV, Lock, Txn

GARBAGE_CHUNK_KEYS = 2000


class DdlContext:
    """What a DDL statement works with: its transaction, and the catalogue as it changes."""

    def __init__(
        self, kv: KV, txn: Txn, x: ExecContext, info: SessionInfo, virtual: VirtualSchemas, env: Any
    ) -> None:
        self.kv = kv
        self.txn = txn
        self.x = x
        self.info = info
        self.virtual = virtual
        self.env = env
        self.catalog: Catalog = x.catalog
        self.changed = False
        self.notices: list[tuple[str, str, str]] = []
        self.garbage: list[tuple[int, int]] = []

    def statement(self) -> Statement:
        """For binding expressions."""
        return Statement(self.catalog, self.info, self.virtual, [], self.env)

    def apply(self, put: Sequence[Descriptor], dropped: Sequence[int] = ()) -> None:
        """Change descriptors: in the transaction and in the catalogue it goes on with."""
        write_changes(self.txn, put, dropped)
        self.catalog = self.catalog.with_changes(put, dropped)
        self.changed = True

    def discard(self, table: TableDesc, index: IndexDesc) -> None:
        """The index's data has no descriptor any more."""
        self.txn.put(garbage_key(table.id, index.id), b"\x01")
        self.garbage.append((table.id, index.id))

    def note(self, message: str, code: str = "00000") -> None:
        """A NOTICE."""
        self.notices.append(("NOTICE", code, message))


class Outcome(msgspec.Struct):
    """What a DDL statement did. `catalog` None: nothing changed."""

    tag: str
    catalog: Catalog | None
    notices: list[tuple[str, str, str]]
    garbage: list[tuple[int, int]]


# --- looking things up


def must_be_here(info: SessionInfo, name: ast.Name) -> None:
    """0A000 for a name in another database."""
    if name.database is not None and name.database != info.database:
        raise sql_error(
            "0A000", f'cross-database references are not implemented: "{name}"', position=name.pos
        )


def _schema_id(catalog: Catalog, info: SessionInfo, name: ast.Name) -> int:
    must_be_here(info, name)
    schema = name.schema
    if schema is None:
        return PUBLIC_SCHEMA_ID
    found = catalog.schema(schema)
    return found.id if found is not None else 0


def find_table(catalog: Catalog, info: SessionInfo, name: ast.Name) -> TableDesc:
    """A stored table by name; 42P01."""
    table = maybe_table(catalog, info, name)
    if table is None:
        raise sql_error("42P01", f'relation "{name}" does not exist', position=name.pos)
    return table


def maybe_table(catalog: Catalog, info: SessionInfo, name: ast.Name) -> TableDesc | None:
    """A stored table by name, or None; 42809 if the name is another kind of relation's."""
    schema_id = _schema_id(catalog, info, name)
    found = catalog.relation(info.database_id, name.name, schema_id)
    if found is None and catalog.index(info.database_id, name.name, schema_id) is not None:
        raise sql_error("42809", f'"{name.name}" is not a table', position=name.pos)
    if isinstance(found, SequenceDesc):
        raise sql_error("42809", f'"{name.name}" is not a table', position=name.pos)
    return found


# --- databases


async def create_database(c: DdlContext, node: ast.CreateDatabase) -> str:
    """CREATE DATABASE."""
    if c.catalog.database(node.name) is not None:
        if node.if_not_exists:
            c.note(f'database "{node.name}" already exists, skipping', "42P04")
            return "CREATE DATABASE"
        raise sql_error("42P04", f'database "{node.name}" already exists')
    role = c.catalog.role(c.info.user)
    c.apply([DatabaseDesc(await allocate_ids(c.kv, 1), node.name, role.id if role is not None else 10)])
    return "CREATE DATABASE"


def _drop_database(c: DdlContext, name: ast.Name, if_exists: bool) -> None:
    found = c.catalog.database(name.name)
    if found is None:
        if not if_exists:
            raise sql_error("3D000", f'database "{name.name}" does not exist')
        c.note(f'database "{name.name}" does not exist, skipping')
        return
    if found.id == c.info.database_id:
        raise sql_error("55006", "cannot drop the currently open database")
    if found.name in ("defaultdb", "postgres"):
        raise sql_error("55006", f'database "{found.name}" cannot be dropped')
    dropped = [found.id]
    for table in c.catalog.tables(found.id):
        dropped.append(table.id)
        _discard_all(c, table)
    for sequence in c.catalog.sequences(found.id):
        dropped.append(sequence.id)
        c.txn.delete(sequence_key(sequence.id))
    c.apply([], dropped)


# --- DROP and TRUNCATE


def _discard_all(c: DdlContext, table: TableDesc) -> None:
    for index in (table.primary, *table.indexes):
        c.discard(table, index)


async def drop(c: DdlContext, node: ast.Drop) -> str:
    """DROP TABLE, INDEX, DATABASE, SEQUENCE."""
    for name in node.names:
        match node.kind:
            case "TABLE":
                _drop_table(c, name, node.if_exists)
            case "INDEX":
                _drop_index(c, name, node.if_exists)
            case "DATABASE":
                _drop_database(c, name, node.if_exists)
            case _:
                raise FeatureNotSupportedError(f"DROP {node.kind} is not supported", position=node.pos)
    return f"DROP {node.kind}"


def _drop_table(c: DdlContext, name: ast.Name, if_exists: bool) -> None:
    table = maybe_table(c.catalog, c.info, name)
    if table is None:
        _missing_schema(c, name, if_exists)
        if not if_exists:
            raise sql_error("42P01", f'table "{name.name}" does not exist')
        c.note(f'table "{name.name}" does not exist, skipping')
        return
    dropped = [table.id]
    for column in table.columns:
        if column.sequence_id:
            dropped.append(column.sequence_id)
            c.txn.delete(sequence_key(column.sequence_id))
    _discard_all(c, table)
    c.apply([], dropped)


def _missing_schema(c: DdlContext, name: ast.Name, if_exists: bool) -> None:
    """3F000 if the name's schema does not exist, which IF EXISTS forgives; 42501 for a table of the system's."""
    if c.virtual.find(name.schema or "pg_catalog", name.name) is not None:
        raise sql_error("42501", f'permission denied: "{name.name}" is a system catalog')
    if not if_exists and name.schema is not None and c.catalog.schema(name.schema) is None:
        raise sql_error("3F000", f'schema "{name.schema}" does not exist')


def _drop_index(c: DdlContext, name: ast.Name, if_exists: bool) -> None:
    found = c.catalog.index(c.info.database_id, name.name, _schema_id(c.catalog, c.info, name))
    if found is None:
        if c.catalog.relation(c.info.database_id, name.name, _schema_id(c.catalog, c.info, name)) is not None:
            raise sql_error("42809", f'"{name.name}" is not an index')
        _missing_schema(c, name, if_exists)
        if not if_exists:
            raise sql_error("42704", f'index "{name.name}" does not exist')
        c.note(f'index "{name.name}" does not exist, skipping')
        return
    table, index = found
    if index.constraint or index.id == table.primary.id:
        raise sql_error(
            "2BP01",
            f"cannot drop index {index.name} because constraint {index.name} on table {table.name} requires it",
            hint=f"You can drop constraint {index.name} on table {table.name} instead.",
        )
    c.discard(table, index)
    kept = tuple(i for i in table.indexes if i.id != index.id)
    c.apply([msgspec.structs.replace(table, indexes=kept)])


async def truncate(c: DdlContext, node: ast.Truncate) -> str:
    """TRUNCATE: every index gets a new id, so that its old data is garbage."""
    for name in node.tables:
        if maybe_table(c.catalog, c.info, name) is None:
            _missing_schema(c, name, if_exists=True)
        table = find_table(c.catalog, c.info, name)
        first = await allocate_ids(c.kv, 1 + len(table.indexes))
        _discard_all(c, table)
        primary = msgspec.structs.replace(table.primary, id=first)
        indexes = tuple(
            msgspec.structs.replace(index, id=first + i) for i, index in enumerate(table.indexes, 1)
        )
        table = msgspec.structs.replace(table, primary=primary, indexes=indexes)
        if node.restart_identity:
            table = await _restart_identity(c, table)
        c.apply([table])
    return "TRUNCATE TABLE"


async def _restart_identity(c: DdlContext, table: TableDesc) -> TableDesc:
    """New ids for the table's sequences: the blocks that nodes still have of the old ones are nobody's any more."""
    columns: list[ColumnDesc] = []
    for column in table.columns:
        sequence = c.catalog.by_id(column.sequence_id) if column.sequence_id else None
        if isinstance(sequence, SequenceDesc):
            fresh = await allocate_ids(c.kv, 1)
            c.txn.delete(sequence_key(sequence.id))
            c.apply([msgspec.structs.replace(sequence, id=fresh)], [sequence.id])
            column = msgspec.structs.replace(column, sequence_id=fresh)
        columns.append(column)
    return msgspec.structs.replace(table, columns=tuple(columns))


async def collect_garbage(kv: KV, chunks_max: int = 0) -> int:
    """Delete data that no descriptor names, in chunks of a transaction each; returns the number of keys deleted.

    `chunks_max` bounds the work (0: all).
    """
    deleted = chunks = 0
    row_key = start = b""
    while not chunks_max or chunks < chunks_max:
        if not start:
            snapshot = kv.snapshot()
            found: list[bytes] = []
            async for batch in snapshot.scan(*garbage_span(), limit=1):
                found += [key for key, _ in batch]
            if not found:
                return deleted
            row_key = found[0]
            start = index_prefix(*parse_garbage_key(row_key))
        keys = await _collect_chunk(kv, row_key, start)
        deleted += len(keys)
        # each chunk goes on behind the last one: from the beginning it would read every tombstone left so far
        start = keys[-1] if len(keys) == GARBAGE_CHUNK_KEYS else b""
        chunks += 1
    return deleted


async def _collect_chunk(kv: KV, row_key: bytes, start: bytes) -> list[bytes]:
    """Delete a chunk of what `row_key` names, from `start` on, and the garbage row after the last; the keys."""
    txn = kv.begin()
    try:
        keys: list[bytes] = []
        (row,) = await txn.get([row_key], Lock.EXCLUSIVE)  # an index that is being filled has its row locked
        if row is None:
            await txn.rollback()
            return []
        end = prefix_end(index_prefix(*parse_garbage_key(row_key)))
        async for batch in txn.scan(start, end, limit=GARBAGE_CHUNK_KEYS):
            keys += [key for key, _ in batch]
        for key in keys:
            txn.delete(key)
        if len(keys) < GARBAGE_CHUNK_KEYS:
            txn.delete(row_key)
        await txn.commit()
        return keys
    except RetryError:
        await txn.rollback()
        return []
    except BaseException:
        await txn.rollback()
        raise


# --- constants, spans and splits


def constant_row(
    catalog: Catalog,
    info: SessionInfo,
    virtual: VirtualSchemas,
    env: Any,
    exprs: Sequence[ast.Expr],
    targets: Sequence[SqlType],
) -> Callable[[], Sequence[Any]]:
    """Computes the values of expressions without columns and parameters."""
    st = Statement(catalog, info, virtual, [], env)
    binder = ExprBinder(st, Scope(), no_rows, clause="this expression")
    bound = [coerce(st, binder.bind(e), t, "a", position=e.pos) for e, t in zip(exprs, targets, strict=True)]
    return partial(row_tuple(Codegen({}, 0), bound), (), (), env)


def span_of(catalog: Catalog, info: SessionInfo, name: ast.Name, kind: str) -> tuple[TableDesc, bytes, bytes]:
    """A table's or index's table and key span."""
    if kind == "INDEX":
        found = catalog.index(info.database_id, name.name, _schema_id(catalog, info, name))
        if found is None:
            raise sql_error("42704", f'index "{name}" does not exist', position=name.pos)
        table, index = found
    else:
        table = find_table(catalog, info, name)
        index = table.primary
    start = index_prefix(table.id, index.id)
    return table, start, prefix_end(start)


def split_keys(
    catalog: Catalog, info: SessionInfo, virtual: VirtualSchemas, node: ast.AlterTable, x: ExecContext
) -> list[bytes]:
    """The keys at which ALTER TABLE … SPLIT AT splits: prefixes of the primary key's or index's columns."""
    table, start, _ = span_of(catalog, info, node.table, node.kind)
    codec = table_codec(catalog, table)
    place = decode_table_prefix(start)
    assert place is not None
    index = codec.index_codec(place[1])
    keys: list[bytes] = []
    for action in node.actions:
        assert isinstance(action, ast.SplitAt)
        for row in action.rows:
            if len(row) > len(index.columns):
                raise sql_error(
                    "42601", "SPLIT AT has more values than the index has columns", position=node.pos
                )
            st = Statement(catalog, info, virtual, [], x.env)
            binder = ExprBinder(st, Scope(), no_rows, clause="SPLIT AT")
            bound = [
                assign(st, binder.bind(e), table.column_at(p), e.pos)
                for e, p in zip(row, index.columns, strict=False)
            ]
            values = row_tuple(Codegen({}, len(x.params)), bound)((), x.params, x.env)
            keys.append(index.encoder(len(values))(index.normalize(values)))
    return keys


def key_text(catalog: Catalog, table: TableDesc, key: bytes) -> str | None:
    """A range boundary for people: NULL at the ends of the key space, `/table/index/values` inside."""
    place = decode_table_prefix(key)
    if place is None:
        return None if key in (b"", b"\xff") else key.hex()
    table_id, index_id, at = place
    found = catalog.by_id(table_id)
    name = found.name if isinstance(found, TableDesc) else str(table_id)
    parts = [name, str(index_id)]
    if isinstance(found, TableDesc):
        index = next((i for i in (found.primary, *found.indexes) if i.id == index_id), None)
        if index is not None:
            parts[1] = index.name
            for position, descending in zip(index.columns, index.descending, strict=True):
                if at >= len(key):
                    break
                value, at = decode_element(key, at, descending)
                type_ = type_by_oid(found.column_at(position).type_oid)
                parts.append("NULL" if value is None else types.format_text(type_, value))
    return "/" + "/".join(parts)


def object_rows(catalog: Catalog, info: SessionInfo, node: ast.ShowObjects) -> list[tuple[Any, ...]]:
    """SHOW TABLES, DATABASES, SCHEMAS, COLUMNS, INDEXES."""
    match node.kind:
        case "TABLES":
            tables = sorted(catalog.tables(info.database_id), key=lambda t: t.name)
            return [("public", t.name, "table") for t in tables]
        case "DATABASES":
            return [(d.name,) for d in sorted(catalog.databases(), key=lambda d: d.name)]
        case "SCHEMAS":
            return [(s.name,) for s in sorted(catalog.schemas(), key=lambda s: s.name)]
    assert node.table is not None
    table = find_table(catalog, info, node.table)
    if node.kind == "COLUMNS":
        return [
            (
                c.name,
                str(type_by_oid(c.type_oid).with_typmod(c.typmod)),
                "NO" if c.not_null else "YES",
                c.default,
            )
            for c in table.columns
            if not c.hidden
        ]
    rows: list[tuple[Any, ...]] = []
    for index in ((table.primary,) if table.has_primary_key else ()) + table.indexes:
        names = ", ".join(
            table.column_at(p).name + (" DESC" if d else "")
            for p, d in zip(index.columns, index.descending, strict=True)
        )
        rows.append((table.name, index.name, names, "t" if index.unique else "f"))
    return rows
