"""PEP 249 cursors: one statement's outcome at a time, rows converted as they are fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Protocol, Self

from txndb.client.errors import InterfaceError, NotSupportedError, ProgrammingError
from txndb.client.values import loader
from txndb.client.wire import Answer
from txndb.pgwire.backend import Column

Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any]
Description = tuple[tuple[str, int, None, int | None, int | None, int | None, None], ...]

_COUNTED: Final = frozenset(("INSERT", "UPDATE", "DELETE", "SELECT", "COPY", "FETCH", "MOVE", "MERGE"))


class Runs(Protocol):
    """The connection of a cursor."""

    def run(self, sql: str, parameters: Parameters | None) -> list[Answer]: ...
    def run_many(self, sql: str, rows: Iterable[Parameters]) -> list[Answer]: ...
    def must_be_open(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


class Cursor:
    """Made by `Connection.cursor`. Cursors of one connection share its transaction."""

    def __init__(self, connection: Runs) -> None:
        self._connection: Runs | None = connection
        self._answers: list[Answer] = []
        self._columns: tuple[Column, ...] | None = None
        self._loaders: list[Callable[[bytes], Any]] = []
        self._rows: list[list[bytes | None]] = []
        self._at = 0
        self._rowcount = -1
        self._tag = ""
        self.arraysize = 1
        self.lastrowid = None

    # what happened

    @property
    def connection(self) -> Runs:
        """The connection of this cursor."""
        return self._open()

    @property
    def description(self) -> Description | None:
        """Seven items a column (name, type OID, None, size, precision, scale, None), or None without a result set."""
        if self._columns is None:
            return None
        return tuple(_describe(column) for column in self._columns)

    @property
    def rowcount(self) -> int:
        """Rows of the last statement, -1 when it has no count."""
        return self._rowcount

    @property
    def rownumber(self) -> int | None:
        """The 0-based index of the next row, None without a result set."""
        return self._at if self._columns is not None else None

    @property
    def statusmessage(self) -> str:
        """The command tag of the last statement, such as INSERT 0 1."""
        return self._tag

    def _open(self) -> Runs:
        if self._connection is None:
            raise InterfaceError("the cursor is closed")
        self._connection.must_be_open()
        return self._connection

    # executing

    def execute(self, sql: str, parameters: Parameters | None = None) -> Self:
        """Run a statement; without parameters it may be several, whose results `nextset` walks through."""
        connection = self._open()
        self._forget()
        self._answers = connection.run(sql, parameters)
        self._next_answer()
        return self

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> Self:
        """Run a statement once per row of parameters; `rowcount` is the sum. Result sets are not kept."""
        connection = self._open()
        self._forget()
        answers = connection.run_many(sql, rows)
        counts = [_count(answer.tag) for answer in answers]
        self._rowcount = sum(counts) if counts and min(counts) >= 0 else (-1 if counts else 0)
        self._tag = answers[-1].tag if answers else ""
        return self

    def callproc(self, name: str, parameters: Parameters = ()) -> Parameters:
        """PEP 249's optional stored procedures; there are none."""
        raise NotSupportedError("stored procedures are not supported", sqlstate="0A000")

    def nextset(self) -> bool | None:
        """Go to the next statement's result; None when there is none."""
        self._open()
        if not self._answers:
            self._rows, self._columns = [], None
            return None
        self._next_answer()
        return True

    def setinputsizes(self, sizes: object) -> None:
        """Nothing to prepare: sizes are found when values are sent."""
        self._open()

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Nothing to prepare: large values are fetched whole."""
        self._open()

    def _forget(self) -> None:
        self._answers, self._rows, self._columns, self._tag = [], [], None, ""
        self._rowcount, self._at = -1, 0

    def _next_answer(self) -> None:
        self._at = 0
        if not self._answers:
            return
        answer = self._answers.pop(0)
        self._rows = answer.rows
        self._tag = answer.tag
        self._columns = answer.columns
        if answer.columns is not None:
            self._loaders = [loader(column.type_oid) for column in answer.columns]
            self._rowcount = len(answer.rows)
        else:
            self._rowcount = _count(answer.tag)

    # fetching

    def fetchone(self) -> Row | None:
        """The next row, or None."""
        self._must_have_rows()
        if self._at >= len(self._rows):
            return None
        row = self._rows[self._at]
        self._at += 1
        return self._load(row)

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """The next `size` (default `arraysize`) rows."""
        self._must_have_rows()
        stop = self._at + (self.arraysize if size is None else size)
        rows = self._rows[self._at : stop]
        self._at += len(rows)
        return [self._load(row) for row in rows]

    def fetchall(self) -> list[Row]:
        """The remaining rows."""
        return self.fetchmany(len(self._rows))

    def fetch_text(self) -> list[tuple[str | None, ...]]:
        """The remaining rows as the server wrote them, NULL as None: for showing, not for computing."""
        self._must_have_rows()
        rows = self._rows[self._at :]
        self._at += len(rows)
        return [tuple([None if raw is None else raw.decode() for raw in row]) for row in rows]

    def _load(self, row: list[bytes | None]) -> Row:
        return tuple(
            [None if raw is None else load(raw) for load, raw in zip(self._loaders, row, strict=True)]
        )

    def _must_have_rows(self) -> None:
        self._open()
        if self._columns is None:
            raise ProgrammingError("the last statement gave no rows")

    def __iter__(self) -> Iterator[Row]:
        self._must_have_rows()
        return self

    def __next__(self) -> Row:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    next = __next__

    def close(self) -> None:
        """Give up the cursor; using it afterwards is an error."""
        self._forget()
        self._connection = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _describe(column: Column) -> tuple[str, int, None, int | None, int | None, int | None, None]:
    size: int | None = column.type_len if column.type_len >= 0 else None
    precision = scale = None
    if column.type_oid == 1700 and column.typmod >= 4:
        precision, scale = (column.typmod - 4) >> 16 & 0xFFFF, (column.typmod - 4) & 0x7FF
    elif column.type_oid in (1042, 1043) and column.typmod >= 4:
        size = column.typmod - 4
    return column.name, column.type_oid, None, size, precision, scale, None


def _count(tag: str) -> int:
    word, _, rest = tag.partition(" ")
    number = rest.rpartition(" ")[2]
    return int(number) if word in _COUNTED and number.isdecimal() else -1
