"""CREATE TABLE and CREATE INDEX: descriptors from syntax."""

from __future__ import annotations

from typing import Any

import msgspec

from txndb.errors import FeatureNotSupportedError, sql_error
from txndb.sql.catalog.descriptors import ROWID, CheckDesc, ColumnDesc, IndexDesc, SequenceDesc, TableDesc
from txndb.sql.catalog.names import quote_identifier
from txndb.sql.catalog.store import allocate_ids
from txndb.sql.exec.backfill import backfill_index
from txndb.sql.exec.ddl import DdlContext, find_table, must_be_here
from txndb.sql.parse import ast
from txndb.sql.plan.bind_dml import assign, column_type, default_of, no_rows, parse_expression
from txndb.sql.plan.bind_expr import COLLATIONS, ExprBinder, start_of
from txndb.sql.plan.coerce import resolve_type_name
from txndb.sql.plan.deparse import deparse
from txndb.sql.plan.expr import Bound, Col
from txndb.sql.plan.logical import Logical
from txndb.sql.plan.scope import Scope, target_schema_id
from txndb.sql.types.core import INT4, INT8, lookup_type, type_by_oid

NAME_BYTES_MAX = 63
_SERIAL = {"serial": 23, "serial4": 23, "bigserial": 20, "serial8": 20, "smallserial": 21, "serial2": 21}
_SYSTEM_COLUMNS = frozenset((ROWID, "ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"))
_STORABLE = (16, 17, 19, 20, 21, 23, 25, 26, 700, 701, 1042, 1043, 1082, 1114, 1184, 1700, 2950)


class _Table:
    """A table under construction."""

    def __init__(self, c: DdlContext, name: str, schema_id: int, table_id: int) -> None:
        self.c = c
        self.name = name
        self.schema_id = schema_id
        self.id = table_id
        self.columns: list[ColumnDesc] = []
        self.primary: IndexDesc | None = None
        self.indexes: list[IndexDesc] = []
        self.checks: list[CheckDesc] = []
        self.sequences: list[SequenceDesc] = []
        self.taken: set[str] = {name}

    def position(self, column: str, at: int = 0) -> int:
        for found in self.columns:
            if found.name == column:
                return found.position
        raise sql_error("42703", f'column "{column}" named in key does not exist', position=at)


def choose_name(c: DdlContext, schema_id: int, parts: list[str], suffix: str, taken: set[str]) -> str:
    """PostgreSQL's generated names: table_column_suffix, with a number if it is taken."""
    base = "_".join(parts)
    number = 0
    while True:
        tail = f"_{suffix}{number or ''}"
        name = base.encode()[: NAME_BYTES_MAX - len(tail)].decode(errors="ignore") + tail
        if name not in taken and not c.catalog.name_taken(c.info.database_id, schema_id, name):
            taken.add(name)
            return name
        number += 1


def check_name_free(c: DdlContext, schema_id: int, name: str, taken: set[str]) -> None:
    """42P07 if a relation has that name."""
    if name in taken or c.catalog.name_taken(c.info.database_id, schema_id, name):
        raise sql_error("42P07", f'relation "{name}" already exists')
    taken.add(name)


async def create_table(c: DdlContext, node: ast.CreateTable) -> str:
    """CREATE TABLE."""
    if node.persistence == "TEMPORARY":
        raise FeatureNotSupportedError("temporary tables are not supported", position=node.pos)
    if node.tablespace not in (None, "pg_default"):
        raise sql_error("42704", f'tablespace "{node.tablespace}" does not exist')
    must_be_here(c.info, node.name)
    schema_id = target_schema_id(c.catalog, c.info, node.name)
    name = node.name.name
    if node.if_not_exists and c.catalog.name_taken(c.info.database_id, schema_id, name):
        c.note(f'relation "{name}" already exists, skipping', "42P07")
        return "CREATE TABLE"
    count = 2 + len(node.columns) * 3 + len(node.constraints)
    first = await allocate_ids(c.kv, count)
    ids = iter(range(first, first + count))
    table = _Table(c, name, schema_id, next(ids))
    for column in node.columns:
        _add_column(table, column, ids)
    for column in node.columns:
        for constraint in column.constraints:
            _column_constraint(table, column, constraint, ids)
    for constraint in node.constraints:
        _table_constraint(table, constraint, ids)
    if c.catalog.name_taken(c.info.database_id, schema_id, name):
        raise sql_error("42P07", f'relation "{name}" already exists')
    made = _finish(table, next(ids))
    c.apply([made, *table.sequences])
    _validate(c, node, made)
    return "CREATE TABLE"


def storable_type(c: DdlContext, node: ast.TypeName) -> tuple[int, int, bool]:
    """(type oid, typmod, whether SERIAL) of a column definition; 0A000 for types that cannot be stored yet."""
    serial = _SERIAL.get(node.name) if len(node.parts) == 1 else None
    if serial is not None:
        return serial, -1, True
    type_ = resolve_type_name(c.statement(), node)
    if type_.oid not in _STORABLE:
        raise FeatureNotSupportedError(f"columns of type {type_} are not supported yet", position=node.pos)
    return type_.oid, type_.typmod, False


def make_column(
    c: DdlContext, table_name: str, definition: ast.ColumnDef, position: int
) -> tuple[ColumnDesc, bool]:
    """A column's descriptor without its default, and whether it is SERIAL."""
    if definition.name in _SYSTEM_COLUMNS:
        raise sql_error("42701", f'column name "{definition.name}" conflicts with a system column name')
    oid, typmod, serial = storable_type(c, definition.type)
    _check_collation(definition, oid)
    not_null = serial
    said: bool | None = None
    identity = ""
    for constraint in definition.constraints:
        if isinstance(constraint, ast.NotNull):
            if (said is not None and said is constraint.negated) or (serial and constraint.negated):
                raise sql_error(
                    "42601",
                    f'conflicting NULL/NOT NULL declarations for column "{definition.name}" '
                    f'of table "{table_name}"',
                    position=0 if serial else constraint.pos,
                )
            said = not constraint.negated
            not_null = not_null or said
        elif isinstance(constraint, ast.Generated):
            if constraint.expr is not None:
                raise FeatureNotSupportedError("generated columns are not supported", position=constraint.pos)
            serial = not_null = True
            identity = "a" if constraint.always else "d"
    return ColumnDesc(position, definition.name, oid, typmod, not_null, identity=identity), serial


def _check_collation(definition: ast.ColumnDef, type_oid: int) -> None:
    """Text has the collation "C" and no other."""
    collation = definition.collation
    if collation is None:
        return
    if type_by_oid(type_oid).category != "S":
        raise sql_error(
            "42804",
            f"collations are not supported by type {type_by_oid(type_oid)}",
            position=collation.pos,
        )
    if collation.name not in COLLATIONS:
        raise sql_error(
            "42704", f'collation "{collation}" for encoding "UTF8" does not exist', position=collation.pos
        )


def add_sequence(
    c: DdlContext,
    table_name: str,
    schema_id: int,
    column: ColumnDesc,
    sequence_id: int,
    table_id: int,
    taken: set[str],
) -> tuple[ColumnDesc, SequenceDesc]:
    """A SERIAL column's sequence and default."""
    name = choose_name(c, schema_id, [table_name, column.name], "seq", taken)
    limits = {21: 2**15 - 1, 23: 2**31 - 1}
    sequence = SequenceDesc(
        sequence_id,
        c.info.database_id,
        schema_id,
        name,
        column.type_oid,
        max_value=limits.get(column.type_oid, 2**63 - 1),
        owner_table_id=table_id,
        owner_position=column.position,
    )
    text = quote_identifier(name).replace("'", "''")
    default = f"nextval('{text}'::regclass)"
    return msgspec.structs.replace(column, default=default, sequence_id=sequence_id, not_null=True), sequence


def _add_column(table: _Table, definition: ast.ColumnDef, ids: Any) -> None:
    if any(c.name == definition.name for c in table.columns):
        raise sql_error("42701", f'column "{definition.name}" specified more than once')
    column, serial = make_column(table.c, table.name, definition, len(table.columns))
    if serial:
        column, sequence = add_sequence(
            table.c, table.name, table.schema_id, column, next(ids), table.id, table.taken
        )
        table.sequences.append(sequence)
    for constraint in definition.constraints:
        if isinstance(constraint, ast.DefaultValue):
            if column.default is not None:
                raise sql_error(
                    "42601",
                    f'multiple default values specified for column "{column.name}" of table "{table.name}"',
                    position=0 if serial else constraint.pos,
                )
            column = msgspec.structs.replace(column, default=deparse(constraint.expr))
    table.columns.append(column)


def _column_constraint(table: _Table, definition: ast.ColumnDef, node: ast.Constraint, ids: Any) -> None:
    match node:
        case ast.PrimaryKey():
            _key(table, node.name, (definition.name,), True, ids, node.pos)
        case ast.Unique():
            _refuse_nulls_not_distinct(node)
            _key(table, node.name, (definition.name,), False, ids, node.pos)
        case ast.Check():
            _check(table, node, [definition.name])
        case ast.ForeignKey():
            raise FeatureNotSupportedError("foreign keys are not supported yet", position=node.pos)


def _table_constraint(table: _Table, node: ast.Constraint, ids: Any) -> None:
    match node:
        case ast.PrimaryKey():
            _key(table, node.name, node.columns, True, ids, node.pos)
        case ast.Unique():
            _refuse_nulls_not_distinct(node)
            _key(table, node.name, node.columns, False, ids, node.pos)
        case ast.Check():
            _check(table, node, [])
        case ast.ForeignKey():
            raise FeatureNotSupportedError("foreign keys are not supported yet", position=node.pos)
        case _:
            raise FeatureNotSupportedError("this constraint is not supported", position=node.pos)


def _refuse_nulls_not_distinct(node: ast.Unique) -> None:
    if not node.nulls_distinct:
        raise FeatureNotSupportedError("NULLS NOT DISTINCT is not supported", position=node.pos)


def _key(table: _Table, name: str | None, columns: tuple[str, ...], primary: bool, ids: Any, at: int) -> None:
    positions = tuple(table.position(column, at) for column in columns)
    if len(set(positions)) != len(positions):
        raise sql_error("42701", "a column appears twice in a key constraint", position=at)
    if primary and table.primary is not None:
        raise sql_error(
            "42P16", f'multiple primary keys for table "{table.name}" are not allowed', position=at
        )
    if name is None:
        parts = [table.name] if primary else [table.name, *columns]
        name = choose_name(table.c, table.schema_id, parts, "pkey" if primary else "key", table.taken)
    else:
        check_name_free(table.c, table.schema_id, name, table.taken)
    index = IndexDesc(next(ids), name, positions, (False,) * len(positions), True, True)
    if primary:
        table.primary = index
        table.columns = [
            msgspec.structs.replace(c, not_null=True) if c.position in positions else c for c in table.columns
        ]
    else:
        table.indexes.append(index)


def _check(table: _Table, node: ast.Check, columns: list[str]) -> None:
    taken = {check.name for check in table.checks}
    name = node.name
    if name is None:
        if not columns:
            columns = check_columns(node.expr, [c.name for c in table.columns])
        name = check_name(table.name, columns, taken)
    elif name in taken:
        raise sql_error("42710", f'constraint "{name}" for relation "{table.name}" already exists')
    table.checks.append(CheckDesc(name, node.text or deparse(node.expr)))


def check_columns(expr: ast.Expr, names: list[str]) -> list[str]:
    """The column a generated name is made of: the only one the expression uses, else none."""
    found: list[str] = []

    def visit(node: Any) -> None:
        if isinstance(node, ast.ColumnRef):
            if node.parts[-1] in names and node.parts[-1] not in found:
                found.append(node.parts[-1])
        elif isinstance(node, ast.Node):
            for field in node.__struct_fields__:
                visit(getattr(node, field))
        elif isinstance(node, tuple):
            for item in node:
                visit(item)

    visit(expr)
    return found if len(found) == 1 else []


def check_name(table: str, columns: list[str], taken: set[str]) -> str:
    """table_column_check, or table_check; numbered if taken."""
    number = 0
    while True:
        name = "_".join([table, *columns, f"check{number or ''}"])
        if name not in taken:
            return name
        number += 1


def _finish(table: _Table, fallback_id: int) -> TableDesc:
    columns = list(table.columns)
    primary = table.primary
    if primary is None:
        position = len(columns)
        columns.append(ColumnDesc(position, ROWID, INT8.oid, -1, True, hidden=True))
        primary = IndexDesc(fallback_id, f"{table.name}_rowid", (position,), (False,), True)
    return TableDesc(
        table.id,
        table.c.info.database_id,
        table.schema_id,
        table.name,
        tuple(columns),
        len(columns),
        primary,
        table.primary is not None,
        tuple(table.indexes),
        tuple(table.checks),
    )


def _validate(c: DdlContext, node: ast.CreateTable, table: TableDesc) -> None:
    """Bind every default and CHECK as it is written, so that their errors name their place in the statement; then as
    it is stored."""
    st = c.statement()
    given = [constraint for definition in node.columns for constraint in definition.constraints]
    for definition in node.columns:
        column = table.column(definition.name)
        assert column is not None
        for constraint in definition.constraints:
            if isinstance(constraint, ast.DefaultValue):
                binder = ExprBinder(st, Scope(), no_rows, clause="DEFAULT expressions")
                assign(st, binder.bind(constraint.expr), column, start_of(constraint.expr))
    binder = _check_binder(c, table)
    for constraint in (*given, *node.constraints):
        if isinstance(constraint, ast.Check):
            binder.bind_condition(constraint.expr, "CHECK")
    for column in table.columns:
        default_of(st, column)
    bind_checks(c, table)


def _no_subquery(query: ast.Query, scope: Scope) -> tuple[Logical, list[str]]:
    raise sql_error("0A000", "cannot use subquery in check constraint", position=query.pos)


def _check_binder(c: DdlContext, table: TableDesc) -> ExprBinder:
    scope = Scope()
    cols = [Col(column_type(col), col.position, col.name) for col in table.columns]
    scope.add_table(table.name, [col.name for col in table.columns], cols)
    return ExprBinder(c.statement(), scope, _no_subquery, clause="check constraints")


def bind_checks(c: DdlContext, table: TableDesc) -> list[Bound]:
    """The CHECK conditions over the table's columns (ids = positions)."""
    binder = _check_binder(c, table)
    return [binder.bind_condition(parse_expression(check.expression), "CHECK") for check in table.checks]


# --- CREATE INDEX


def index_columns(
    table: TableDesc, elements: tuple[ast.IndexElement, ...]
) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Key columns and directions of an index definition."""
    positions: list[int] = []
    for element in elements:
        expr = element.expr
        if isinstance(expr, ast.Collate) and expr.collation.name in COLLATIONS:
            expr = expr.arg
        if not isinstance(expr, ast.ColumnRef):
            raise FeatureNotSupportedError("index expressions are not supported yet", position=element.pos)
        column = table.column(expr.parts[-1])
        if column is None or column.hidden:
            raise sql_error("42703", f'column "{expr.parts[-1]}" does not exist', position=expr.pos)
        if element.nulls is not None and (element.nulls == "FIRST") is not element.descending:
            raise FeatureNotSupportedError(
                "only the default order of NULLs is supported in indexes", position=element.pos
            )
        if column.position in positions:
            raise FeatureNotSupportedError("a column appears twice in the index", position=element.pos)
        positions.append(column.position)
    return tuple(positions), tuple(e.descending for e in elements)


async def create_index(c: DdlContext, node: ast.CreateIndex) -> str:
    """CREATE INDEX, with the backfill in the same transaction (rule D7)."""
    if node.method != "btree":
        raise FeatureNotSupportedError(f'access method "{node.method}" is not supported', position=node.pos)
    if node.where is not None:
        raise FeatureNotSupportedError("partial indexes are not supported yet", position=node.where.pos)
    if node.include:
        raise FeatureNotSupportedError("INCLUDE columns are not supported yet", position=node.pos)
    if not node.nulls_distinct:
        raise FeatureNotSupportedError("NULLS NOT DISTINCT is not supported", position=node.pos)
    table = find_table(c.catalog, c.info, node.table)
    positions, descending = index_columns(table, node.elements)
    taken: set[str] = set()
    if node.name is None:
        names = [table.column_at(p).name for p in positions]
        name = choose_name(c, table.schema_id, [table.name, *names], "idx", taken)
    else:
        name = node.name
        if node.if_not_exists and c.catalog.name_taken(c.info.database_id, table.schema_id, name):
            c.note(f'relation "{name}" already exists, skipping', "42P07")
            return "CREATE INDEX"
        check_name_free(c, table.schema_id, name, taken)
    index = IndexDesc(await allocate_ids(c.kv, 1), name, positions, descending, node.unique)
    await backfill_index(c, table, index)
    c.apply([msgspec.structs.replace(table, indexes=(*table.indexes, index))])
    return "CREATE INDEX"


__all__ = ["INT4", "create_index", "create_table", "lookup_type", "type_by_oid"]
