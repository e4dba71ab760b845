"""INSERT, UPDATE and DELETE: constraint checks, index maintenance, ON CONFLICT, RETURNING.

Invariants:
1. Every key whose absence is checked is read EXCLUSIVE first, in one get for all rows of the statement (rule K2).
2. Nothing is buffered before all checks of the statement have passed; a failing statement leaves no write behind.
   The error is that of the first row that fails, as if rows were checked and written one by one (PostgreSQL's way).
3. An index entry is written exactly when its row is: one that is the same to the byte is left alone. Equal values do
   not tell: 1.0 = 1.000 and 0 = -0, and each is read back as it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec

from txndb.errors import InternalError, SqlError, sql_error
from txndb.limits import KEY_BYTES_MAX, ROW_BYTES_MAX
from txndb.sql import types
from txndb.sql.catalog.descriptors import IndexDesc
from txndb.sql.exec.build import Builder
from txndb.sql.exec.codegen import Batch, Codegen, Row, batch_project
from txndb.sql.exec.context import ExecContext
from txndb.sql.exec.operators import Operator, Rows
from txndb.sql.exec.table import IndexCodec, TableCodec, table_codec
from txndb.sql.plan.expr import Bound
from txndb.sql.plan.physical import ConflictClause, DeletePlan, InsertPlan, UpdatePlan
from txndb.txn.api import Lock, Txn

Write = tuple[bytes, bytes]


class DmlResult(msgspec.Struct):
    """Rows affected, and RETURNING's rows."""

    count: int
    rows: Rows | None = None


def _size_check(key: bytes, value: bytes) -> None:
    if len(key) > KEY_BYTES_MAX:
        raise sql_error("54000", f"index row size {len(key)} exceeds maximum {KEY_BYTES_MAX}")
    if len(value) > ROW_BYTES_MAX:
        raise sql_error("54000", f"row is too big: size {len(value)}, maximum size {ROW_BYTES_MAX}")


class Constraints:
    """NOT NULL and CHECK of a table."""

    def __init__(
        self, codec: TableCodec, layout: dict[int, int], checks: Sequence[tuple[str, Bound]], params: int
    ):
        self.codec = codec
        table = codec.table
        self.not_null = tuple((c.position, c.name) for c in table.columns if c.not_null)
        self.checks: list[tuple[str, Batch]] = []
        for name, expr in checks:
            gen = Codegen(layout, params)
            body = f"[r for r in rows if {gen.falsity(expr)}]"
            self.checks.append((name, gen.function("rows, p, ctx", body)))

    async def first_violation(self, rows: Rows, x: ExecContext) -> tuple[int, SqlError] | None:
        """The first row that violates one, by its number, and its error."""
        try:
            await self._test(rows, x)
        except SqlError as error:
            for i in range(len(rows) - 1):
                try:
                    await self._test(rows[i : i + 1], x)
                except SqlError as own:
                    return i, own
            return len(rows) - 1, error
        return None

    async def test(self, rows: Rows, x: ExecContext) -> None:
        """Raise for the first row that violates one."""
        found = await self.first_violation(rows, x)
        if found is not None:
            raise found[1]

    async def _test(self, rows: Rows, x: ExecContext) -> None:
        for position, name in self.not_null:
            for row in rows:
                if row[position] is None:
                    raise self._null(row, name)
        for name, violating in self.checks:
            bad = await x.call(violating, rows)
            if bad:
                table = self.codec.table.name
                raise sql_error(
                    "23514",
                    f'new row for relation "{table}" violates check constraint "{name}"',
                    detail=self._failing(bad[0]),
                    schema="public",
                    table=table,
                    constraint=name,
                )

    def _null(self, row: Row, name: str) -> SqlError:
        table = self.codec.table.name
        return sql_error(
            "23502",
            f'null value in column "{name}" of relation "{table}" violates not-null constraint',
            detail=self._failing(row),
            schema="public",
            table=table,
            column=name,
        )

    def _failing(self, row: Row) -> str:
        parts = []
        for column in self.codec.table.columns:
            if not column.hidden:
                parts.append(_text(self.codec, column.position, row[column.position]))
        return f"Failing row contains ({', '.join(parts)})."


def _text(codec: TableCodec, position: int, value: Any) -> str:
    type_ = codec.types[position]
    if value is None or type_ is None:
        return "null"
    return types.format_text(type_, value)


def unique_violation(codec: TableCodec, index: IndexDesc, row: Row) -> SqlError:
    """23505 in PostgreSQL's words."""
    table = codec.table
    names = ", ".join(table.column_at(p).name for p in index.columns)
    values = ", ".join(_text(codec, p, row[p]) for p in index.columns)
    return sql_error(
        "23505",
        f'duplicate key value violates unique constraint "{index.name}"',
        detail=f"Key ({names})=({values}) already exists.",
        schema="public",
        table=table.name,
        constraint=index.name,
    )


def _txn(x: ExecContext) -> Txn:
    if x.txn is None:
        raise InternalError("a data change outside a read-write transaction")
    return x.txn


class _Returning:
    """RETURNING over stored rows."""

    def __init__(self, exprs: tuple[Bound, ...] | None, layout: dict[int, int], params: int) -> None:
        self.make = None if exprs is None else batch_project(Codegen(layout, params), exprs)

    async def result(self, count: int, rows: Rows, x: ExecContext) -> DmlResult:
        """The statement's result for the rows it wrote."""
        return DmlResult(count, None if self.make is None else await x.call(self.make, rows))


class Insert:
    """INSERT."""

    def __init__(self, builder: Builder, plan: InsertPlan) -> None:
        self.codec = table_codec(builder.catalog, plan.table)
        self.source: Operator = builder.build(plan.source)
        self.constraints = Constraints(self.codec, plan.layout, plan.checks, builder.param_count)
        self.returning = _Returning(plan.returning, plan.layout, builder.param_count)
        self.unique = tuple(c for c in self.codec.secondary if c.unique)
        self.conflict = None
        if plan.conflict is not None:
            self.conflict = OnConflict(self, plan.conflict, builder.param_count)

    async def run(self, x: ExecContext) -> DmlResult:
        """Insert all rows of the source."""
        rows = await self.source.collect(x)
        return await self.insert(rows, x)

    async def insert(self, rows: Rows, x: ExecContext) -> DmlResult:
        """Insert stored rows."""
        bad = await self.constraints.first_violation(rows, x)
        if bad is not None:
            rows = rows[: bad[0]]  # these come first, and may fail first
        if self.conflict is not None:
            return await self.conflict.insert(rows, x, bad[1] if bad is not None else None)
        txn = _txn(x)
        codec = self.codec
        key_of = codec.key_of
        keys = [key_of(row) for row in rows]
        entries = [[codec.entry(c, row) for c in codec.secondary] for row in rows] if codec.secondary else []
        await self._check_absent(txn, rows, keys, entries)
        if bad is not None:
            raise bad[1]
        encode = codec.encode
        for key, row in zip(keys, rows, strict=True):
            value = encode(row)
            if len(value) > ROW_BYTES_MAX or len(key) > KEY_BYTES_MAX:
                _size_check(key, value)
            txn.put(key, value)
        for row_entries in entries:
            for key, value in row_entries:
                _size_check(key, value)
                txn.put(key, value)
        return await self.returning.result(len(rows), rows, x)

    async def _check_absent(
        self, txn: Txn, rows: Rows, keys: list[bytes], entries: list[list[Write]]
    ) -> None:
        """23505 for a key that exists or occurs twice; all are locked by one get."""
        has_primary_key = self.codec.table.has_primary_key
        checked: list[bytes] = []
        owners: list[tuple[int, IndexCodec]] | None = None
        if self.unique:
            owners = []
            places = [i for i, c in enumerate(self.codec.secondary) if c.unique]
            for at, row_entries in enumerate(entries):
                if has_primary_key:
                    checked.append(keys[at])
                    owners.append((at, self.codec.primary))
                for place in places:
                    index = self.codec.secondary[place]
                    if None not in [rows[at][p] for p in index.columns]:
                        checked.append(row_entries[place][0])
                        owners.append((at, index))
        elif has_primary_key:
            checked = keys
        if not checked:
            return
        found = await txn.get(checked, Lock.EXCLUSIVE)
        seen: set[bytes] | None = set() if len(checked) > 1 else None
        for i, value in enumerate(found):
            if value is not None or (seen is not None and checked[i] in seen):
                at, index = (i, self.codec.primary) if owners is None else owners[i]
                raise unique_violation(self.codec, index.index, rows[at])
            if seen is not None:
                seen.add(checked[i])


class OnConflict:
    """ON CONFLICT DO NOTHING and DO UPDATE: row by row, each seeing the rows before it."""

    def __init__(self, insert: Insert, clause: ConflictClause, params: int) -> None:
        self.insert_of = insert
        self.clause = clause
        codec = insert.codec
        indexes = [codec.primary] if codec.table.has_primary_key else []
        indexes += insert.unique
        self.arbiters = [c for c in indexes if not clause.arbiters or c.id in clause.arbiters]
        self.others = [c for c in indexes if c not in self.arbiters]
        self.make: Batch | None = None
        self.keep: Batch | None = None
        if clause.update:
            gen = Codegen(clause.layout, params)
            given = dict(clause.assignments)
            cells = [gen.value(given[p]) if p in given else f"r[{p}]" for p in range(codec.width)]
            self.make = gen.function("rows, p, ctx", f"[({', '.join(cells)},) for r in rows]")
            if clause.condition is not None:
                gen = Codegen(clause.layout, params)
                self.keep = gen.function(
                    "rows, p, ctx", f"[r for r in rows if {gen.truth(clause.condition)}]"
                )

    def _keys(self, row: Row, indexes: Sequence[IndexCodec]) -> list[tuple[IndexCodec, bytes]]:
        codec = self.insert_of.codec
        made = []
        for index in indexes:
            if index.primary:
                made.append((index, codec.key_of(row)))
            elif None not in [row[p] for p in index.columns]:
                made.append((index, codec.entry(index, row)[0]))
        return made

    async def insert(self, rows: Rows, x: ExecContext, after: SqlError | None) -> DmlResult:
        """Insert, skip or update each row; then raise `after`, which is the next row's error."""
        txn = _txn(x)
        codec = self.insert_of.codec
        wanted = [k for row in rows for _, k in self._keys(row, [*self.arbiters, *self.others])]
        await txn.get(list(dict.fromkeys(wanted)), Lock.EXCLUSIVE)
        mark = txn.savepoint()
        touched: set[bytes] = set()
        written: Rows = []
        try:
            for row in rows:
                done = await self._one(row, touched, txn, x)
                if done is not None:
                    touched.add(codec.key_of(done))
                    written.append(done)
            if after is not None:
                raise after
        except SqlError:
            txn.rollback_to(mark)
            raise
        return await self.insert_of.returning.result(len(written), written, x)

    async def _one(self, row: Row, touched: set[bytes], txn: Txn, x: ExecContext) -> Row | None:
        codec = self.insert_of.codec
        existing = await self._existing(row, txn)
        if existing is None:
            for index, key in self._keys(row, self.others):
                (value,) = await txn.get([key], Lock.EXCLUSIVE)
                if value is not None:
                    raise unique_violation(codec, index.index, row)
            write_row(codec, txn, row)
            return row
        if self.make is None:
            return None
        if codec.key_of(existing) in touched:
            raise sql_error(
                "21000",
                "ON CONFLICT DO UPDATE command cannot affect row a second time",
                hint="Ensure that no rows proposed for insertion within the same command have duplicate "
                "constrained values.",
            )
        both = [existing + row]
        if self.keep is not None and not await x.call(self.keep, both):
            return None
        (changed,) = await x.call(self.make, both)
        await self.insert_of.constraints.test([changed], x)
        await replace_rows(codec, txn, [existing], [changed])
        return changed  # type: ignore[no-any-return]

    async def _existing(self, row: Row, txn: Txn) -> Row | None:
        """The first row in conflict on an arbiter."""
        codec = self.insert_of.codec
        for index, key in self._keys(row, self.arbiters):
            (value,) = await txn.get([key], Lock.EXCLUSIVE)
            if value is None:
                continue
            if not index.primary:
                entry = index.decode(value)
                primary = codec.primary_key_of_values([entry[s] for s in index.pk_slots])
                (value,) = await txn.get([primary], Lock.EXCLUSIVE)
                if value is None:
                    raise InternalError(f"index {index.index.name} has an entry without a row")
            return codec.decode(value)
        return None


def write_row(codec: TableCodec, txn: Txn, row: Row) -> None:
    """Put a row and its index entries."""
    writes = [(codec.key_of(row), codec.encode(row)), *(codec.entry(c, row) for c in codec.secondary)]
    for key, value in writes:
        _size_check(key, value)
        txn.put(key, value)


def delete_row(codec: TableCodec, txn: Txn, row: Row) -> None:
    """Delete a row and its index entries."""
    txn.delete(codec.key_of(row))
    for index in codec.secondary:
        txn.delete(codec.entry(index, row)[0])


async def replace_rows(codec: TableCodec, txn: Txn, old: Rows, new: Rows) -> None:
    """Write changed rows over old ones, keeping every index in step."""
    key_of, encode = codec.key_of, codec.encode
    moved = _moved(codec, old, new)
    await _check_moves(codec, txn, old, new, moved)
    moved_set = dict.fromkeys(moved)
    deletes: list[bytes] = []
    puts: list[Write] = []
    for i, (before, after) in enumerate(zip(old, new, strict=True)):
        key = key_of(after)
        if i in moved_set:
            deletes.append(key_of(before))
        puts.append((key, encode(after)))
        for index in codec.secondary:
            if _untouched(before, after, index.stored):
                continue
            had, entry = codec.entry(index, before), codec.entry(index, after)
            if had == entry:
                continue
            if had[0] != entry[0]:
                deletes.append(had[0])
            puts.append(entry)
    for key in deletes:
        txn.delete(key)
    for key, value in puts:
        _size_check(key, value)
        txn.put(key, value)


def _untouched(before: Row, after: Row, positions: Sequence[int]) -> bool:
    """Nothing was assigned to these columns: the very same values. Cheaper than to encode both, and never wrong."""
    return all(before[p] is after[p] for p in positions)


def _moved(codec: TableCodec, old: Rows, new: Rows) -> list[int]:
    """The numbers of the rows whose primary key changes."""
    primary, key_of = codec.table.primary.columns, codec.key_of
    return [
        i
        for i, (before, after) in enumerate(zip(old, new, strict=True))
        if not _untouched(before, after, primary) and key_of(before) != key_of(after)
    ]


async def check_moves(codec: TableCodec, txn: Txn, old: Rows, new: Rows) -> None:
    """23505 if a changed unique key is taken."""
    await _check_moves(codec, txn, old, new, _moved(codec, old, new))


async def _check_moves(codec: TableCodec, txn: Txn, old: Rows, new: Rows, moved: list[int]) -> None:
    """23505 if a changed unique key is taken when its row's turn comes.

    Judged row by row, as PostgreSQL does: a key is free once the row that had it was changed, so that what is unique
    in the end (SET id = id + 1) is refused in some orders of rows.
    """
    unique = [index for index in codec.secondary if index.unique]
    moved_set = set(moved)
    steps: list[tuple[bytes, bytes | None, int, IndexCodec]] = []
    for i, (before, after) in enumerate(zip(old, new, strict=True)):
        if i in moved_set:
            steps.append((codec.key_of(before), codec.key_of(after), i, codec.primary))
        for index in unique:
            if _untouched(before, after, index.columns):
                continue
            had, key = codec.entry(index, before)[0], codec.entry(index, after)[0]
            if had != key:
                wanted = key if None not in [after[p] for p in index.columns] else None
                steps.append((had, wanted, i, index))
    keys = [wanted for _, wanted, _, _ in steps if wanted is not None]
    if not keys:
        return
    taken = {
        k for k, value in zip(keys, await txn.get(keys, Lock.EXCLUSIVE), strict=True) if value is not None
    }
    for _, turn in groupby(steps, key=lambda step: step[2]):
        row_steps = list(turn)
        taken.difference_update(had for had, _, _, _ in row_steps)
        for _, wanted, i, index in row_steps:
            if wanted is not None:
                if wanted in taken:
                    raise unique_violation(codec, index.index, new[i])
                taken.add(wanted)


class Update:
    """UPDATE."""

    def __init__(self, builder: Builder, plan: UpdatePlan) -> None:
        self.codec = table_codec(builder.catalog, plan.table)
        self.input: Operator = builder.build(plan.input)
        self.joined = plan.input.width > self.codec.width
        gen = Codegen(plan.input.layout, builder.param_count, plan.input.nonnull)
        given = dict(plan.assignments)
        cells = [gen.value(given[p]) if p in given else f"r[{p}]" for p in range(self.codec.width)]
        self.make: Batch = gen.function("rows, p, ctx", f"[({', '.join(cells)},) for r in rows]")
        self.constraints = Constraints(self.codec, plan.layout, plan.checks, builder.param_count)
        self.returning = _Returning(plan.returning, plan.input.layout, builder.param_count)
        assigned = frozenset(given)
        keyed = {p for c in (self.codec.primary, *self.codec.secondary) for p in (*c.columns, *c.stored)}
        self.in_place = not assigned & keyed
        """No index is touched: rows are rewritten where they are."""

    async def run(self, x: ExecContext) -> DmlResult:
        """Update all rows of the input."""
        txn = _txn(x)
        codec = self.codec
        old = await self.input.collect(x)
        if self.joined:
            old = _first_of_each(codec, old)
        if not old:
            return await self.returning.result(0, [], x)
        new = await x.call(self.make, old)
        width = codec.width
        bad = await self.constraints.first_violation(new, x)
        if bad is not None:
            count = bad[0]
            if not self.in_place:
                await check_moves(codec, txn, [r[:width] for r in old[:count]], new[:count])
            raise bad[1]
        if self.in_place:
            key_of, encode = codec.key_of, codec.encode
            for row in new:
                value = encode(row)
                if len(value) > ROW_BYTES_MAX:
                    _size_check(b"", value)
                txn.put(key_of(row), value)
        else:
            await replace_rows(codec, txn, [r[:width] for r in old] if self.joined else old, new)
        if self.joined and self.returning.make is not None:
            new = [n + o[width:] for n, o in zip(new, old, strict=True)]
        return await self.returning.result(len(new), new, x)


class Delete:
    """DELETE."""

    def __init__(self, builder: Builder, plan: DeletePlan) -> None:
        self.codec = table_codec(builder.catalog, plan.table)
        self.input: Operator = builder.build(plan.input)
        self.joined = plan.input.width > self.codec.width
        self.returning = _Returning(plan.returning, plan.input.layout, builder.param_count)

    async def run(self, x: ExecContext) -> DmlResult:
        """Delete all rows of the input."""
        txn = _txn(x)
        rows = await self.input.collect(x)
        if self.joined:
            rows = _first_of_each(self.codec, rows)
        for row in rows:
            delete_row(self.codec, txn, row)
        return await self.returning.result(len(rows), rows, x)


def _first_of_each(codec: TableCodec, rows: Rows) -> Rows:
    """A joined target row is changed once, by its first match."""
    kept: dict[bytes, Row] = {}
    for row in rows:
        kept.setdefault(codec.key_of(row), row)
    return list(kept.values())
