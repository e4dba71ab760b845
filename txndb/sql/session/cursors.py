"""SQL cursors: DECLARE, FETCH, MOVE, CLOSE.

A cursor is a query under way in its transaction, which FETCH reads further, and a place in its rows:

    0        1 … n          n + 1
    before   on a row       after the last

Rows come from the store when a FETCH asks for them. A cursor declared SCROLL keeps those it has read; another one keeps
the row it stands on and goes forward only (PostgreSQL lets some of its plans go backward, and says not to rely on it).

Invariants:
1. A cursor shows its transaction as it was at DECLARE: before the transaction writes, the rows still to come are read
   (`settle`), at most `CURSOR_ROWS_MAX` of them.
2. A cursor ends with its transaction, or with the savepoint after which it was declared.
WITH HOLD and BINARY are refused.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from txndb.errors import FeatureNotSupportedError, SqlError, TxndbError, sql_error
from txndb.limits import CURSOR_ROWS_MAX
from txndb.sql.parse import ast
from txndb.sql.session.api import ColumnInfo, Result
from txndb.sql.session.transactions import Block

Row = tuple[Any, ...]


class Cursor:
    """One cursor. `place` as in the picture; `rows[0]` is row number `first`, read and kept."""

    __slots__ = ("block", "broken", "columns", "depth", "first", "place", "rows", "scroll", "stream")

    def __init__(
        self,
        block: Block,
        stream: AsyncIterator[list[Any]],
        columns: tuple[ColumnInfo, ...],
        *,
        scroll: bool,
    ) -> None:
        self.block = block
        self.stream: AsyncIterator[list[Any]] | None = stream
        self.columns = columns
        self.scroll = scroll
        self.depth = len(block.savepoints)
        """How many savepoints were open at DECLARE."""
        self.broken = False
        """Its query failed or was interrupted: only CLOSE is left."""
        self.place = 0
        self.first = 1
        self.rows: list[Row] = []

    @property
    def read_count(self) -> int:
        """How many rows were read so far."""
        return self.first + len(self.rows) - 1

    async def fetch(self, node: ast.FetchCursor) -> list[Row]:
        """The rows a FETCH or MOVE passes, in its direction; 55000 for a direction this cursor cannot go."""
        count = node.count
        match node.direction:
            case "NEXT":
                return await self._forward(1)
            case "PRIOR":
                return await self._backward(1)
            case "FIRST":
                return await self._absolute(1)
            case "LAST":
                return await self._absolute(-1)
            case "ABSOLUTE":
                return await self._absolute(count or 0)
            case "RELATIVE":
                return await self._relative(count or 0)
        if node.direction == "BACKWARD":
            backward = count is None or count > 0
            return await (self._backward(count) if backward else self._forward(-(count or 0)))
        forward = count is None or count >= 0
        return await (self._forward(count) if forward else self._backward(-(count or 0)))

    async def _forward(self, count: int | None) -> list[Row]:
        if count == 0:
            return self._current()
        await self._read(None if count is None else self.place + count)
        end = self.read_count if count is None else min(self.place + count, self.read_count)
        passed = self.rows[self.place + 1 - self.first : end + 1 - self.first]
        short = count is None or len(passed) < count
        self.place = self.read_count + 1 if short else end
        self._forget()
        return passed

    async def _backward(self, count: int | None) -> list[Row]:
        self._must_scroll()
        low = 1 if count is None else max(self.place - count, 1)
        passed = self.rows[low - 1 : max(self.place - 1, 0)]
        short = count is None or len(passed) < count
        self.place = 0 if short else low
        return passed[::-1]

    async def _absolute(self, row: int) -> list[Row]:
        if row < 0:
            self._must_scroll()
            await self._read(None)
            row = max(self.read_count + 1 + row, 0)
        elif row <= self.place and self.place:
            self._must_scroll()
        return await self._to(row)

    async def _relative(self, by: int) -> list[Row]:
        if by < 0:
            self._must_scroll()
        return self._current() if by == 0 else await self._to(max(self.place + by, 0))

    async def _to(self, row: int) -> list[Row]:
        """Stand on a row, given by its number."""
        await self._read(row)
        self.place = min(row, self.read_count + 1)
        passed = self._current()
        self._forget()
        return passed

    def _current(self) -> list[Row]:
        at = self.place - self.first
        return self.rows[at : at + 1] if at >= 0 else []

    def _must_scroll(self) -> None:
        if not self.scroll:
            raise sql_error(
                "55000",
                "cursor can only scan forward",
                hint="Declare it with SCROLL option to enable backward scan.",
            )

    def _forget(self) -> None:
        """Drop the rows that a cursor which only goes forward has left behind."""
        if not self.scroll and self.place > self.first:
            del self.rows[: self.place - self.first]
            self.first = self.place

    async def _read(self, until: int | None) -> None:
        """Read on to row number `until` (None: all)."""
        while self.stream is not None and (until is None or self.read_count < until):
            try:
                self.rows += await anext(self.stream)
                self.block.check_lease()
            except StopAsyncIteration:
                self.stream = None
                self.block.check_lease()
            except BaseException:
                self.broken = True  # whatever stopped the query ended it: it would seem to have no more rows
                raise
            if len(self.rows) > CURSOR_ROWS_MAX:
                raise sql_error(
                    "54000", f"a cursor would hold more than {CURSOR_ROWS_MAX} rows at once in memory"
                )

    async def settle(self) -> None:
        """Read what is left: the transaction is about to write (invariant 1)."""
        await self._read(None)

    async def close(self) -> None:
        """End the query."""
        stream, self.stream = self.stream, None
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


def must_be_supported(node: ast.DeclareCursor) -> None:
    """0A000 for the kinds of cursors that are not there."""
    for wrong, what in ((node.hold, "WITH HOLD"), (node.binary, "BINARY")):
        if wrong:
            raise FeatureNotSupportedError(f"{what} cursors are not supported", position=node.pos)


def find(cursors: dict[str, Cursor], name: str) -> Cursor:
    """A cursor by its name; 34000 without, 55000 for one whose query failed."""
    found = cursors.get(name)
    if found is None:
        raise sql_error("34000", f'cursor "{name}" does not exist')
    if found.broken:
        raise sql_error("55000", f'portal "{name}" cannot be run')
    return found


async def run_fetch(cursors: dict[str, Cursor], node: ast.FetchCursor) -> Result:
    """FETCH or MOVE."""
    cursor = find(cursors, node.name)
    try:
        rows = await cursor.fetch(node)
    except TxndbError as error:
        cursor.broken = not (isinstance(error, SqlError) and error.code == "55000")
        raise
    if node.move:
        return Result(f"MOVE {len(rows)}")
    return Result(f"FETCH {len(rows)}", cursor.columns, rows)


async def close(cursors: dict[str, Cursor], name: str) -> None:
    """CLOSE of one."""
    found = cursors.pop(name, None)
    if found is None:
        raise sql_error("34000", f'cursor "{name}" does not exist')
    await found.close()


async def settle_all(cursors: dict[str, Cursor]) -> None:
    """Before a transaction writes."""
    for cursor in cursors.values():
        if not cursor.broken:
            await cursor.settle()


async def drop_after(cursors: dict[str, Cursor], depth: int) -> None:
    """ROLLBACK TO: cursors declared when more than `depth` savepoints were open are gone."""
    for name in [n for n, c in cursors.items() if c.depth > depth]:
        await close(cursors, name)


def keep_released(cursors: dict[str, Cursor], depth: int) -> None:
    """RELEASE: cursors declared after the savepoint are the outer level's."""
    for cursor in cursors.values():
        cursor.depth = min(cursor.depth, depth)
