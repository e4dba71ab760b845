"""What a session gives its caller: results, column descriptions, notices, COPY under way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from txndb.errors import TxndbError
from txndb.sql.plan.physical import OutputColumn


class ColumnInfo(msgspec.Struct, frozen=True):
    """One column of a result, as RowDescription needs it. `table_oid` and `column_no` are 0 for expressions."""

    name: str
    type_oid: int
    typmod: int = -1
    type_len: int = -1
    table_oid: int = 0
    column_no: int = 0


class Notice(msgspec.Struct, frozen=True):
    """A message beside the result."""

    severity: str
    sqlstate: str
    message: str
    detail: str = ""
    hint: str = ""


class CopyIn(Protocol):
    """COPY FROM STDIN under way: data in chunks of any size, then `finish` or `abort`."""

    then: Callable[[], Awaitable[None]] | None
    """What its end does last: commit the transaction that it is the last statement of."""

    @property
    def column_count(self) -> int:
        """Number of columns of a line."""

    def bound(self) -> tuple[float, TxndbError] | None:
        """How many seconds the next data may take to come, and the error to end with; None: no bound."""

    async def write(self, chunk: bytes) -> None:
        """Take a chunk."""

    async def finish(self) -> str:
        """The end of the data; the command tag."""

    async def abort(self, message: str) -> None:
        """The client gave up: raises 57014 with its message."""


class CopyOut(Protocol):
    """COPY TO STDOUT under way."""

    tag: str
    then: Callable[[], Awaitable[None]] | None
    """As that of `CopyIn`."""

    @property
    def column_count(self) -> int:
        """Number of columns of a line."""

    def __aiter__(self) -> AsyncIterator[list[bytes]]:
        """Batches of lines, one for each row (in CSV with the breaks it quotes); `tag` is right after the last."""


class Result(msgspec.Struct):
    """The outcome of one statement; values are internal ones."""

    tag: str
    columns: tuple[ColumnInfo, ...] | None = None
    rows: list[tuple[Any, ...]] = []
    suspended: bool = False
    copy: CopyIn | CopyOut | None = None


class Prepared(Protocol):
    """A prepared statement."""

    @property
    def param_oids(self) -> Sequence[int]:
        """Types of its parameters."""

    @property
    def columns(self) -> tuple[ColumnInfo, ...] | None:
        """Its result's columns, None if it gives no rows."""


def column_infos(output: tuple[OutputColumn, ...] | None) -> tuple[ColumnInfo, ...] | None:
    """A plan's output as the client sees it."""
    if output is None:
        return None
    return tuple(
        ColumnInfo(c.name, c.type.oid, c.type.typmod, c.type.length, c.table_id, c.position) for c in output
    )
