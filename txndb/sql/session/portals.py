"""Prepared statements, and portals: statements bound to their parameters.

Rows of a portal with a row limit come from the store when they are asked for, as a cursor's do (`cursors`).

Invariants:
1. A portal shows its transaction as it was when the first rows were asked for: before the transaction writes, the rows
   still to come are read (`settle`), at most `CURSOR_ROWS_MAX` of them.
2. A portal ends with its transaction, or with the savepoint after which it was bound.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Any

from txndb.errors import sql_error
from txndb.limits import CURSOR_ROWS_MAX
from txndb.sql.session.api import ColumnInfo, Result
from txndb.sql.session.source import Source
from txndb.sql.session.transactions import Block
from txndb.sql.types.core import SqlType


class PreparedStatement:
    """A prepared statement: its text, syntax and what the client was told."""

    __slots__ = ("columns", "name", "param_oids", "param_types", "source")

    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self.source = source
        self.param_types: tuple[SqlType, ...] = ()
        self.param_oids: tuple[int, ...] = ()
        self.columns: tuple[ColumnInfo, ...] | None = None


class Portal:
    """A bound statement, perhaps half read."""

    __slots__ = (
        "block",
        "buffer",
        "columns",
        "count",
        "depth",
        "done",
        "name",
        "params",
        "prepared",
        "result",
        "stream",
    )

    def __init__(self, name: str, prepared: PreparedStatement, params: Sequence[Any], depth: int = 0) -> None:
        self.name = name
        self.prepared = prepared
        self.params = params
        self.columns = prepared.columns
        self.stream: AsyncIterator[list[Any]] | None = None
        self.buffer: list[Any] = []
        self.count = 0
        self.done = False
        self.block: Block | None = None
        self.depth = depth
        """How many savepoints were open when it was bound."""
        self.result: Result | None = None

    async def settle(self) -> None:
        """Read what is left: its transaction is about to write (invariant 1)."""
        stream, block = self.stream, self.block
        if stream is None or block is None or self.done:
            return
        rows = list(self.buffer)
        try:
            async for batch in stream:
                block.check_lease()
                rows += batch
                if len(rows) > CURSOR_ROWS_MAX:
                    raise sql_error(
                        "54000", f"a portal would hold more than {CURSOR_ROWS_MAX} rows at once in memory"
                    )
            block.check_lease()
        except BaseException:
            self.stream, self.done, self.buffer = None, True, []  # the query is over, not at its end
            raise
        self.buffer, self.done = rows, True

    async def close(self) -> None:
        """End the query."""
        stream, self.stream, self.done = self.stream, None, True
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


async def settle_in(portals: Iterable[Portal], block: Block) -> None:
    """Before `block` writes."""
    for portal in portals:
        if portal.block is block:
            await portal.settle()


async def drop_after(portals: dict[str, Portal], depth: int) -> None:
    """ROLLBACK TO: portals bound when more than `depth` savepoints were open are gone."""
    for name in [n for n, p in portals.items() if p.depth > depth]:
        await portals.pop(name).close()


def keep_released(portals: Iterable[Portal], depth: int) -> None:
    """RELEASE: portals bound after the savepoint are the outer level's."""
    for portal in portals:
        portal.depth = min(portal.depth, depth)
