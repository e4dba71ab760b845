"""ALTER TABLE."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from txndb.errors import FeatureNotSupportedError, sql_error, words_of
from txndb.sql import types
from txndb.sql.catalog.descriptors import CheckDesc, ColumnDesc, IndexDesc, TableDesc
from txndb.sql.catalog.store import allocate_ids, sequence_key
from txndb.sql.exec.backfill import backfill_index, each_row, rewrite_table
from txndb.sql.exec.codegen import Codegen, row_tuple
from txndb.sql.exec.ddl import DdlContext, maybe_table
from txndb.sql.exec.ddl_create import (
    add_sequence,
    bind_checks,
    check_columns,
    check_name,
    check_name_free,
    choose_name,
    make_column,
)
from txndb.sql.exec.table import Row, TableCodec, column_type
from txndb.sql.parse import ast
from txndb.sql.plan.bind_dml import default_of
from txndb.sql.plan.deparse import deparse
from txndb.sql.plan.expr import Bound, is_volatile

Action = Callable[[DdlContext, TableDesc, Any], Awaitable[TableDesc]]


async def alter_table(c: DdlContext, node: ast.AlterTable) -> str:
    """ALTER TABLE: its actions one after the other."""
    if node.kind == "INDEX":
        raise FeatureNotSupportedError("ALTER INDEX is not supported yet", position=node.pos)
    table = maybe_table(c.catalog, c.info, node.table)
    if table is None:
        if node.if_exists:
            c.note(f'relation "{node.table.name}" does not exist, skipping')
            return "ALTER TABLE"
        raise sql_error("42P01", f'relation "{node.table}" does not exist', position=node.table.pos)
    for action in node.actions:
        handler = _ACTIONS.get(type(action))
        if handler is None:
            raise FeatureNotSupportedError(
                f"ALTER TABLE: {words_of(action)} is not supported yet", position=action.pos
            )
        changed = await handler(c, table, action)
        if changed is not table:
            c.apply([changed])
            table = changed
    return "ALTER TABLE"


def _column(table: TableDesc, name: str) -> ColumnDesc:
    column = table.column(name)
    if column is None or column.hidden:
        raise sql_error("42703", f'column "{name}" of relation "{table.name}" does not exist')
    return column


def _with_column(table: TableDesc, column: ColumnDesc) -> TableDesc:
    columns = tuple(column if old.position == column.position else old for old in table.columns)
    return msgspec.structs.replace(table, columns=columns)


async def _add_column(c: DdlContext, table: TableDesc, action: ast.AddColumn) -> TableDesc:
    definition = action.column
    if table.column(definition.name) is not None:
        if action.if_not_exists:
            c.note(f'column "{definition.name}" of relation "{table.name}" already exists, skipping', "42701")
            return table
        raise sql_error("42701", f'column "{definition.name}" of relation "{table.name}" already exists')
    column, serial = make_column(c, table.name, definition, table.next_position)
    if serial:
        column, sequence = add_sequence(
            c, table.name, table.schema_id, column, await allocate_ids(c.kv, 1), table.id, set()
        )
        c.apply([sequence])
    later: list[ast.Constraint] = []
    for constraint in definition.constraints:
        if isinstance(constraint, ast.DefaultValue):
            if column.default is not None:
                raise sql_error(
                    "42601",
                    f'multiple default values specified for column "{column.name}" of table "{table.name}"',
                    position=0 if serial else constraint.pos,
                )
            column = msgspec.structs.replace(column, default=deparse(constraint.expr))
        elif isinstance(constraint, ast.PrimaryKey | ast.Unique):
            later.append(msgspec.structs.replace(constraint, columns=(definition.name,)))
        elif isinstance(constraint, ast.Check | ast.ForeignKey):
            later.append(constraint)
    default = _own_default(c, column)
    each = default is not None and is_volatile(default)
    if default is not None and not each:
        column = msgspec.structs.replace(column, missing=_missing(c, column, default))
    if column.not_null and column.missing is None and not each:
        await _refuse_nulls(c, table, column)
    changed = msgspec.structs.replace(
        table, columns=(*table.columns, column), next_position=table.next_position + 1
    )
    if default is not None and each:
        await _fill_column(c, table, changed, default)
    for constraint in later:
        c.apply([changed])
        changed = await _add_constraint(c, changed, ast.AddConstraint(constraint=constraint))
    return changed


def _own_default(c: DdlContext, column: ColumnDesc) -> Bound | None:
    """The column's default as an expression over the catalogue as it is now, its own sequence included."""
    if column.default is None:
        return None
    c.env.session.catalog = c.catalog
    return default_of(c.statement(), column)


def _missing(c: DdlContext, column: ColumnDesc, default: Bound) -> str | None:
    """D8: the default is evaluated once; older rows have that value for ever."""
    (value,) = row_tuple(Codegen({}, 0), (default,))((), (), c.env)
    return None if value is None else types.format_text(column_type(column), value)


async def _fill_column(c: DdlContext, old: TableDesc, new: TableDesc, default: Bound) -> None:
    """A volatile default is evaluated for each row: all are rewritten, in this transaction and under its limit."""
    column = new.columns[-1]
    source, target = TableCodec(old), TableCodec(new)
    gen = Codegen({}, 0)
    make = gen.function("rows, p, ctx", f"[(*r, {gen.value(default)}) for r in rows]")
    changed: list[Row] = []

    async def fill(rows: list[Row]) -> None:
        made: list[Row] = await c.x.call(make, rows)
        if column.not_null and any(row[-1] is None for row in made):
            raise _contains_nulls(new, column)
        changed.extend(made)

    await each_row(c, source, fill)
    for row in changed:
        c.txn.put(target.key_of(row), target.encode(row))


async def _refuse_nulls(c: DdlContext, table: TableDesc, column: ColumnDesc) -> None:
    """23502 if there are rows and the column is NULL in them."""
    codec = TableCodec(table)
    old = column.position < table.next_position

    async def look(rows: list[Row]) -> None:
        if not old or any(row[column.position] is None for row in rows):
            raise _contains_nulls(table, column)

    await each_row(c, codec, look)


def _contains_nulls(table: TableDesc, column: ColumnDesc) -> Exception:
    return sql_error(
        "23502",
        f'column "{column.name}" of relation "{table.name}" contains null values',
        schema="public",
        table=table.name,
        column=column.name,
    )


async def _drop_column(c: DdlContext, table: TableDesc, action: ast.DropColumn) -> TableDesc:
    column = table.column(action.name)
    if column is None or column.hidden:
        if action.if_exists:
            c.note(f'column "{action.name}" of relation "{table.name}" does not exist, skipping')
            return table
        raise sql_error("42703", f'column "{action.name}" of relation "{table.name}" does not exist')
    if column.position in table.primary.columns:
        raise FeatureNotSupportedError(
            "dropping a primary key column is not supported yet", position=action.pos
        )
    kept: list[IndexDesc] = []
    for index in table.indexes:
        if column.position in index.columns:
            c.discard(table, index)
        else:
            kept.append(index)
    names = [col.name for col in table.columns]
    checks = tuple(k for k in table.checks if column.name not in _check_uses(k, names))
    if column.sequence_id:
        c.txn.delete(sequence_key(column.sequence_id))
        c.apply([], [column.sequence_id])
    return msgspec.structs.replace(
        table,
        columns=tuple(col for col in table.columns if col.position != column.position),
        indexes=tuple(kept),
        checks=checks,
    )


def _check_uses(check: CheckDesc, names: list[str]) -> list[str]:
    from txndb.sql.plan.bind_dml import parse_expression

    expr = parse_expression(check.expression)
    return [n for n in names if check_columns(expr, [n])]


async def _add_constraint(c: DdlContext, table: TableDesc, action: ast.AddConstraint) -> TableDesc:
    match action.constraint:
        case ast.PrimaryKey() as node:
            return await _add_primary_key(c, table, node)
        case ast.Unique() as node:
            return await _add_unique(c, table, node)
        case ast.Check() as node:
            return await _add_check(c, table, node)
        case ast.ForeignKey() as node:
            raise FeatureNotSupportedError("foreign keys are not supported yet", position=node.pos)
    raise FeatureNotSupportedError("this constraint is not supported", position=action.pos)


def _key_positions(table: TableDesc, columns: tuple[str, ...], at: int) -> tuple[int, ...]:
    positions = []
    for name in columns:
        column = table.column(name)
        if column is None or column.hidden:
            raise sql_error(
                "42703", f'column "{name}" of relation "{table.name}" does not exist', position=at
            )
        positions.append(column.position)
    return tuple(positions)


async def _add_primary_key(c: DdlContext, table: TableDesc, node: ast.PrimaryKey) -> TableDesc:
    """The rows are rewritten under the new key; indexes, whose entries name the key, as well."""
    if node.using_index is not None:
        raise FeatureNotSupportedError("USING INDEX is not supported", position=node.pos)
    if table.has_primary_key:
        raise sql_error(
            "42P16", f'multiple primary keys for table "{table.name}" are not allowed', position=node.pos
        )
    positions = _key_positions(table, node.columns, node.pos)
    taken: set[str] = set()
    if node.name is None:
        name = choose_name(c, table.schema_id, [table.name], "pkey", taken)
    else:
        name = node.name
        check_name_free(c, table.schema_id, name, taken)
    first = await allocate_ids(c.kv, 1 + len(table.indexes))
    primary = IndexDesc(first, name, positions, (False,) * len(positions), True, True)
    columns = tuple(
        msgspec.structs.replace(col, not_null=True) if col.position in positions else col
        for col in table.columns
        if not col.hidden
    )
    indexes = tuple(msgspec.structs.replace(index, id=first + i) for i, index in enumerate(table.indexes, 1))
    changed = msgspec.structs.replace(
        table, columns=columns, primary=primary, has_primary_key=True, indexes=indexes
    )
    await rewrite_table(c, table, changed)
    for index in (table.primary, *table.indexes):
        c.discard(table, index)
    return changed


async def _add_unique(c: DdlContext, table: TableDesc, node: ast.Unique) -> TableDesc:
    if node.using_index is not None or not node.nulls_distinct:
        raise FeatureNotSupportedError("this form of UNIQUE is not supported", position=node.pos)
    positions = _key_positions(table, node.columns, node.pos)
    taken: set[str] = set()
    if node.name is None:
        name = choose_name(c, table.schema_id, [table.name, *node.columns], "key", taken)
    else:
        name = node.name
        check_name_free(c, table.schema_id, name, taken)
    index = IndexDesc(await allocate_ids(c.kv, 1), name, positions, (False,) * len(positions), True, True)
    await backfill_index(c, table, index)
    return msgspec.structs.replace(table, indexes=(*table.indexes, index))


async def _add_check(c: DdlContext, table: TableDesc, node: ast.Check) -> TableDesc:
    taken = {k.name for k in table.checks}
    if node.name is not None and node.name in taken:
        raise sql_error("42710", f'constraint "{node.name}" for relation "{table.name}" already exists')
    names = [col.name for col in table.columns]
    name = node.name or check_name(table.name, check_columns(node.expr, names), taken)
    check = CheckDesc(name, node.text or deparse(node.expr))
    changed = msgspec.structs.replace(table, checks=(*table.checks, check))
    (condition,) = bind_checks(c, msgspec.structs.replace(table, checks=(check,)))
    gen = Codegen({col.position: col.position for col in table.columns}, 0)
    violating = gen.function("rows, p, ctx", f"[r for r in rows if {gen.falsity(condition)}]")

    async def look(rows: list[Row]) -> None:
        if await c.x.call(violating, rows):
            raise sql_error(
                "23514",
                f'check constraint "{name}" of relation "{table.name}" is violated by some row',
                schema="public",
                table=table.name,
                constraint=name,
            )

    await each_row(c, TableCodec(table), look)
    return changed


async def _drop_constraint(c: DdlContext, table: TableDesc, action: ast.DropConstraint) -> TableDesc:
    for index in table.indexes:
        if index.name == action.name and index.constraint:
            c.discard(table, index)
            return msgspec.structs.replace(table, indexes=tuple(i for i in table.indexes if i is not index))
    if any(k.name == action.name for k in table.checks):
        return msgspec.structs.replace(table, checks=tuple(k for k in table.checks if k.name != action.name))
    if table.has_primary_key and table.primary.name == action.name:
        raise FeatureNotSupportedError("dropping a primary key is not supported yet", position=action.pos)
    if action.if_exists:
        c.note(f'constraint "{action.name}" of relation "{table.name}" does not exist, skipping')
        return table
    raise sql_error("42704", f'constraint "{action.name}" of relation "{table.name}" does not exist')


async def _set_default(c: DdlContext, table: TableDesc, action: ast.SetDefault) -> TableDesc:
    column = _column(table, action.column)
    default = deparse(action.expr) if action.expr is not None else None
    column = msgspec.structs.replace(column, default=default)
    default_of(c.statement(), column)
    return _with_column(table, column)


async def _set_not_null(c: DdlContext, table: TableDesc, action: ast.SetNotNull) -> TableDesc:
    column = _column(table, action.column)
    if not action.not_null:
        if table.has_primary_key and column.position in table.primary.columns:
            raise sql_error("42P16", f'column "{column.name}" is in a primary key')
    elif not column.not_null:
        await _refuse_nulls(c, table, column)
    return _with_column(table, msgspec.structs.replace(column, not_null=action.not_null))


async def _rename_table(c: DdlContext, table: TableDesc, action: ast.RenameTable) -> TableDesc:
    check_name_free(c, table.schema_id, action.new, set())
    return msgspec.structs.replace(table, name=action.new)


async def _rename_column(c: DdlContext, table: TableDesc, action: ast.RenameColumn) -> TableDesc:
    column = _column(table, action.old)
    if table.column(action.new) is not None:
        raise sql_error("42701", f'column "{action.new}" of relation "{table.name}" already exists')
    if table.checks and any(column.name in _check_uses(k, [column.name]) for k in table.checks):
        raise FeatureNotSupportedError(
            "renaming a column used by a CHECK is not supported", position=action.pos
        )
    return _with_column(table, msgspec.structs.replace(column, name=action.new))


_ACTIONS: dict[type, Action] = {
    ast.AddColumn: _add_column,
    ast.DropColumn: _drop_column,
    ast.AddConstraint: _add_constraint,
    ast.DropConstraint: _drop_constraint,
    ast.SetDefault: _set_default,
    ast.SetNotNull: _set_not_null,
    ast.RenameTable: _rename_table,
    ast.RenameColumn: _rename_column,
}

__all__ = ["add_sequence", "alter_table"]
