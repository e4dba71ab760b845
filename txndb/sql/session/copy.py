"""COPY FROM STDIN and TO STDOUT.

COPY FROM is one INSERT in batches: the lines of each batch are parsed, checked and buffered together, all in one
transaction (the block's, or one of its own that commits at the end). What it read cannot be asked for again, so a
lost transaction is 40001 to the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from txndb.errors import FeatureNotSupportedError, QueryCanceledError, RetryError, TxndbError, sql_error
from txndb.sql import types
from txndb.sql.exec.ddl import find_table
from txndb.sql.exec.dml import Insert
from txndb.sql.exec.executable import Executable
from txndb.sql.exec.operators import Constant, Rows
from txndb.sql.parse import ast
from txndb.sql.session.api import Result
from txndb.sql.session.copyformat import CsvParser, Fields, TextParser, csv_row, text_row
from txndb.sql.session.core import SessionCore
from txndb.sql.session.source import Source
from txndb.sql.session.transactions import Block
from txndb.sql.session.waits import Bound

BATCH_ROWS = 1000


async def start_copy(session: SessionCore, node: ast.Copy, block: Block | None) -> Result:
    """COPY: the result tells the caller to feed or to drain."""
    if node.options.format == "binary":
        raise FeatureNotSupportedError("COPY in binary format is not supported yet", position=node.pos)
    if node.options.encoding is not None and node.options.encoding.upper() not in ("UTF8", "UTF-8"):
        raise FeatureNotSupportedError("COPY with another encoding than UTF8", position=node.pos)
    if node.direction == "FROM":
        return await _copy_from(session, node, block)
    return await _copy_to(session, node, block)


# --- FROM


async def _copy_from(session: SessionCore, node: ast.Copy, block: Block | None) -> Result:
    if node.where is not None:
        raise FeatureNotSupportedError("COPY FROM … WHERE is not supported", position=node.pos)
    assert node.table is not None
    own = block is None
    used = block if block is not None else session.new_block()
    try:
        used.write_txn("COPY FROM")
        catalog = await used.current_catalog()
        table = find_table(catalog, session.info, node.table)
        names = node.columns or tuple(c.name for c in table.columns if not c.hidden)
        row = tuple(ast.Param(index=i) for i in range(1, len(names) + 1))
        insert = ast.Insert(
            table=node.table,
            alias=None,
            columns=names,
            column_positions=(0,) * len(names),
            overriding="SYSTEM",
            source=ast.Query(body=ast.Values(rows=(row,))),
            pos=node.pos,
        )
        key = f"COPY {node.table} ({', '.join(names)})"
        found = session.executable(catalog, Source(key, node=insert), used)
    except BaseException:
        if own:
            await used.rollback()
        raise
    return Result("COPY", copy=CopyFrom(session, node, used, own, found, table.name, names))


class CopyFrom:
    """Takes the data."""

    def __init__(
        self,
        session: SessionCore,
        node: ast.Copy,
        block: Block,
        own: bool,
        found: Executable,
        table: str,
        names: Sequence[str],
    ) -> None:
        self.session = session
        self.since_s = asyncio.get_running_loop().time()
        self.block = block
        self.own = own
        self.then: Callable[[], Awaitable[None]] | None = None
        self.table = table
        self.names = names
        assert isinstance(found.operator, Insert)
        self.insert = found.operator
        assert isinstance(self.insert.source, Constant)
        self.make = self.insert.source.make
        self.parsers = [types.text_parser(t) for t in found.param_types]
        self.parser = (CsvParser if node.options.format == "csv" else TextParser)(node.options)
        self.count = 0
        self.pending: Rows = []
        assert block.catalog is not None
        self.x = session.context_of(block, block.catalog, ())

    @property
    def column_count(self) -> int:
        """Number of columns of a line."""
        return len(self.names)

    def bound(self) -> Bound | None:
        """How long the next data may take to come, and the error to end with."""
        return self.session.running_bound(self.since_s)

    async def write(self, chunk: bytes) -> None:
        """Take a chunk; errors end the COPY and fail its transaction."""
        await self._guarded(self._take(self.parser.feed, chunk, False))

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await self.session.guard(work, self.since_s)
        except TxndbError:
            if self.own:
                await self.block.rollback()  # an interruption came from outside: nobody else would
            raise

    async def _take(self, feed: Any, chunk: bytes, last: bool) -> None:
        try:
            for fields in feed(chunk, last=last):
                await self._row(fields)
                if len(self.pending) >= BATCH_ROWS:
                    await self._flush()
        except TxndbError as error:
            raise await self._fail(error) from None

    async def _row(self, fields: Fields) -> None:
        if len(fields) != len(self.names):
            if len(fields) > len(self.names):
                raise sql_error("22P04", "extra data after last expected column", detail=self._where())
            raise sql_error(
                "22P04", f'missing data for column "{self.names[len(fields)]}"', detail=self._where()
            )
        env = self.x.env
        try:
            values = [None if f is None else p(f, env) for f, p in zip(fields, self.parsers, strict=True)]
        except TxndbError as error:
            error.detail = error.detail or self._where()
            raise
        x = self.x.with_params(values)
        self.pending += await x.call(self.make, ())

    def _where(self) -> str:
        return f"COPY {self.table}, line {self.parser.line}"

    async def _flush(self) -> None:
        rows, self.pending = self.pending, []
        if rows:
            await self.insert.insert(rows, self.x)
            self.count += len(rows)

    async def finish(self) -> str:
        """The end of the data: the command tag."""
        await self._guarded(self._finish())
        return f"COPY {self.count}"

    async def _finish(self) -> None:
        await self._take(self.parser.feed, b"", True)
        try:
            await self._flush()
        except TxndbError as error:
            raise await self._fail(error) from None
        if self.own:
            await self.session._commit(self.block)
        elif self.then is not None:
            await self.then()

    async def abort(self, message: str) -> None:
        """The client gave up, or took too long."""
        raise await self._fail(QueryCanceledError(f"COPY from stdin failed: {message}"))

    async def _fail(self, error: TxndbError) -> TxndbError:
        if self.own:
            try:
                found = await self.session.true_error(self.block, error)
            finally:
                await self.block.rollback()
            if found is not error and isinstance(found, RetryError):
                return RetryError("COPY lost its transaction to a conflict", detail=error.message)
            return found
        return await self.session._failed(error)


# --- TO


async def _copy_to(session: SessionCore, node: ast.Copy, block: Block | None) -> Result:
    query = node.query
    if query is None:
        assert node.table is not None
        targets = tuple(ast.Target(expr=ast.ColumnRef(parts=(c,))) for c in node.columns) or (
            ast.Target(expr=ast.Star()),
        )
        body = ast.Select(targets=targets, from_=(ast.TableRef(name=node.table),))
        query = ast.Query(body=body, pos=node.pos)
    if not isinstance(query, ast.Query):
        raise FeatureNotSupportedError("COPY of a data-changing statement", position=node.pos)
    statement_block = session.new_block(read_only=True) if block is None else block
    catalog = await statement_block.current_catalog()
    # planned under no text of its own: the syntax alone says what it is
    found = session.executable(catalog, Source(repr(query), node=query), statement_block)
    if found.plan.as_of is not None:
        raise FeatureNotSupportedError("COPY of a query AS OF SYSTEM TIME", position=node.pos)
    return Result("COPY", copy=CopyTo(session, node.options, statement_block, block is None, found))


class CopyTo:
    """Gives the data."""

    def __init__(
        self, session: SessionCore, options: ast.CopyOptions, block: Block, own: bool, found: Executable
    ) -> None:
        self.session = session
        self.since_s = asyncio.get_running_loop().time()
        self.options = options
        self.block = block
        self.own = own
        self.then: Callable[[], Awaitable[None]] | None = None
        self.found = found
        self.tag = "COPY 0"

    @property
    def column_count(self) -> int:
        """Number of columns of a line."""
        return len(self.found.output or ())

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        session, block = self.session, self.block
        output = self.found.output or ()
        names = [c.name for c in output]
        formatters = [types.text_formatter(c.type, session.env) for c in output]
        csv = self.options.format == "csv"
        line = csv_row(self.options, formatters, names) if csv else text_row(self.options, formatters)
        count = 0
        assert block.catalog is not None
        x = session.context_of(block, block.catalog, self.found.parameters(()))
        try:
            if self.options.header:
                head: list[Any] = [str] * len(names)
                first = csv_row(self.options, head, names) if csv else text_row(self.options, head)
                yield [(first(names) + "\n").encode()]
            stream = self.found.stream(x)
            while (batch := await session.guard(anext(stream, None), self.since_s)) is not None:
                block.check_lease()
                count += len(batch)
                yield [(line(row) + "\n").encode() for row in batch]
            block.check_lease()
        except TxndbError as error:
            raise await session._failed(await session.true_error(block, error)) from None
        finally:
            if self.own:
                block.release()
        if self.then is not None:
            await session.guard(self.then(), self.since_s)
        self.tag = f"COPY {count}"
