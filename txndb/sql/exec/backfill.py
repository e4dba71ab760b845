"""Filling a new index from a table's rows, and rewriting a table under a new primary key.

The primary span is read through the DDL's own transaction, so it stays locked (shared) until commit and own writes are
included (rule D7). A small index is buffered in the transaction. A larger one is written by side transactions, chunk by
chunk, under an index id that no committed descriptor names: nobody reads it before the descriptor commits, and a
garbage row written first takes it away if that never happens. The DDL deletes that garbage row when it commits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from txndb.errors import LimitError, RetryError, sql_error
from txndb.sql import types
from txndb.sql.catalog.descriptors import IndexDesc, TableDesc
from txndb.sql.catalog.store import garbage_key
from txndb.sql.exec.ddl import DdlContext
from txndb.sql.exec.table import Row, TableCodec
from txndb.txn.api import KV

BUFFERED_ROWS_MAX = 2000
CHUNK_ROWS = 2000
BACKFILL_ROWS_MAX = 5_000_000

Write = tuple[bytes, bytes]


class IndexWriter:
    """Writes entries of indexes that nobody reads yet; small amounts within the transaction."""

    def __init__(self, c: DdlContext, table: TableDesc, index_ids: tuple[int, ...]) -> None:
        self.c = c
        self.table = table
        self.index_ids = index_ids
        self.pending: list[Write] = []
        self.count = 0
        self.side = False

    async def add(self, writes: list[Write]) -> None:
        """Take one row's entries."""
        self.pending += writes
        self.count += 1
        if self.count > BACKFILL_ROWS_MAX:
            raise LimitError(f"more than {BACKFILL_ROWS_MAX} rows cannot be indexed by one statement")
        if len(self.pending) >= (CHUNK_ROWS if self.side else BUFFERED_ROWS_MAX):
            await self._flush()

    async def _flush(self) -> None:
        if not self.side:
            self.side = True
            marks = [(garbage_key(self.table.id, i), b"\x01") for i in self.index_ids]
            await write_aside(self.c.kv, marks)
            # Locked until the DDL ends: else a collector takes the new entries for garbage.
            await self.c.txn.lock([key for key, _ in marks])
        await write_aside(self.c.kv, self.pending)
        self.pending = []

    async def finish(self) -> None:
        """Write the rest; the descriptor may commit afterwards."""
        if not self.side:
            for key, value in self.pending:
                self.c.txn.put(key, value)
            return
        if self.pending:
            await self._flush()
        for index_id in self.index_ids:
            self.c.txn.delete(garbage_key(self.table.id, index_id))


async def write_aside(kv: KV, writes: list[Write]) -> None:
    """One transaction of its own."""
    age = None
    while True:
        txn = kv.begin(age)
        age = txn.age
        try:
            for key, value in writes:
                txn.put(key, value)
            await txn.commit()
            return
        except RetryError:
            await txn.rollback()
        except BaseException:
            await txn.rollback()
            raise


def _duplicate(codec: TableCodec, index: IndexDesc, row: Row) -> Exception:
    names = ", ".join(codec.table.column_at(p).name for p in index.columns)
    values = []
    for position in index.columns:
        type_ = codec.types[position]
        values.append(
            "null" if row[position] is None or type_ is None else types.format_text(type_, row[position])
        )
    return sql_error(
        "23505",
        f'could not create unique index "{index.name}"',
        detail=f"Key ({names})=({', '.join(values)}) is duplicated.",
        schema="public",
        table=codec.table.name,
        constraint=index.name,
    )


async def each_row(c: DdlContext, codec: TableCodec, fn: Callable[[list[Row]], Any]) -> None:
    """Call `await fn(rows)` for batches of all rows, own writes included."""
    reads = c.kv.snapshot() if "D7" in c.kv.canaries else c.txn
    async for batch in reads.scan(codec.primary.start, codec.primary.end):
        await fn([codec.decode(value) for _, value in batch])


async def backfill_index(c: DdlContext, table: TableDesc, index: IndexDesc) -> None:
    """Entries of `index` for all rows of the table."""
    with_index = msgspec.structs.replace(table, indexes=(index,))
    codec = TableCodec(with_index)
    entries = codec.secondary[0]
    writer = IndexWriter(c, table, (index.id,))
    seen: set[bytes] = set()

    async def fill(rows: list[Row]) -> None:
        for row in rows:
            key, value = codec.entry(entries, row)
            if index.unique:
                if key in seen:
                    raise _duplicate(codec, index, row)
                seen.add(key)
            await writer.add([(key, value)])

    await each_row(c, codec, fill)
    await writer.finish()


async def rewrite_table(c: DdlContext, old: TableDesc, new: TableDesc) -> None:
    """All rows of `old` under the (new) primary key and index ids of `new`; same positions."""
    source, target = TableCodec(old), TableCodec(new)
    ids = (new.primary.id, *(i.id for i in new.indexes))
    writer = IndexWriter(c, new, ids)
    seen: set[bytes] = set()
    columns = [(p, new.column_at(p).name) for p in new.primary.columns]

    async def fill(rows: list[Row]) -> None:
        for row in rows:
            for position, name in columns:
                if row[position] is None:
                    raise sql_error(
                        "23502",
                        f'column "{name}" of relation "{new.name}" contains null values',
                        schema="public",
                        table=new.name,
                        column=name,
                    )
            if len(row) != target.width:
                raise AssertionError("a rewrite keeps positions")
            key = target.key_of(row)
            if key in seen:
                raise _duplicate(target, new.primary, row)
            seen.add(key)
            writes = [(key, target.encode(row)), *(target.entry(i, row) for i in target.secondary)]
            await writer.add(writes)

    await each_row(c, source, fill)
    await writer.finish()
