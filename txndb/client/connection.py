"""PEP 249 connections: transactions, prepared statements, and a new conversation when the old one was lost.

A transaction begins with the first statement after the last commit, as PEP 249 asks; its BEGIN travels in the same
packet as that statement. With `autocommit` each statement is its own transaction unless the program says BEGIN.

Invariants:
1. A statement is sent at most once: what was lost on the way is reported (08006), never repeated.
2. Between transactions a connection that the server has closed is noticed before anything is sent, and replaced by one
   to the next host. Inside a transaction the loss is an error, and so is every statement until `rollback`: the second
   half of a transaction never runs without its first.
3. One thread at a time talks; others wait for the lock (threadsafety 2).
4. Prepared statements are kept per conversation, at most STATEMENTS_MAX, the least recently used closed first. A
   statement whose prepared form the server no longer accepts is prepared again only when nothing ran.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

from txndb.client import errors
from txndb.client.cursor import Cursor, Parameters
from txndb.client.dial import APPLICATION_NAME, Dialer, dialer_for
from txndb.client.errors import DatabaseError, InterfaceError, ProgrammingError
from txndb.client.placeholders import arrange, convert
from txndb.client.target import parse_target
from txndb.client.values import BYTEA_OID, adapt, text_bytes
from txndb.client.wire import Answer, Wire
from txndb.pgwire import frontend

STATEMENTS_MAX: Final = 128
BATCH_ROWS: Final = 256
"""Rows of `executemany` sent between two reads; their answers must fit the socket's buffers."""

_STALE: Final = frozenset(("26000", "0A000"))


class _Statement:
    """A statement used in this conversation; its name on the server, empty until it is worth one."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Connection:
    """See the module's specification. Made by `connect`."""

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    def __init__(
        self, dialer: Dialer, *, paramstyle: str, autocommit: bool, settings: dict[str, str]
    ) -> None:
        self._dialer = dialer
        self._settings = settings
        self._paramstyle = paramstyle
        self._autocommit = autocommit
        self._lock = threading.RLock()
        self._closed = False
        self._statements: OrderedDict[tuple[str, tuple[int, ...]], _Statement] = OrderedDict()
        self._statement_count = 0
        self._to_close: list[bytes] = []
        self._lost = False
        self._wire = dialer.open(settings)

    # state

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closed

    @property
    def autocommit(self) -> bool:
        """Each statement commits on its own."""
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        if self.in_transaction:
            raise ProgrammingError("autocommit cannot change inside a transaction")
        self._autocommit = value

    @property
    def status(self) -> str:
        """What the server said last: "I" idle, "T" in a transaction, "E" in a failed one."""
        if self._wire.closed:
            return "E" if self._lost else "I"
        return self._wire.status

    @property
    def lost(self) -> bool:
        """The server was lost in the middle of a transaction; `rollback` starts afresh."""
        return self._lost

    @property
    def in_transaction(self) -> bool:
        """A transaction is open, failed or not."""
        return self.status != "I"

    @property
    def where(self) -> str:
        """user@host:port/database of the conversation, or user@embedded/database."""
        return self._dialer.where

    @property
    def parameters(self) -> dict[str, str]:
        """The server's reported parameters."""
        return dict(self._wire.parameters)

    @property
    def notices(self) -> list[str]:
        """The server's notices since last asked, "SEVERITY:  text"."""
        kept, self._wire.notices = self._wire.notices, []
        return [f"{fields.get('S', 'NOTICE')}:  {fields.get('M', '')}" for fields in kept]

    # PEP 249

    def cursor(self) -> Cursor:
        """A new cursor."""
        self.must_be_open()
        return Cursor(self)

    def execute(self, sql: str, parameters: Parameters | None = None) -> Cursor:
        """Shorthand: a new cursor that has executed the statement."""
        cursor = self.cursor()
        cursor.execute(sql, parameters)
        return cursor

    def commit(self) -> None:
        """Commit the open transaction; a failed one is an error (the server rolls it back).

        SQLSTATE 08007 when the answer to COMMIT was lost: whether it committed is unknown.
        """
        self.must_be_open()
        with self._lock:
            if self._lost:
                self._lost = False
                raise errors.lost("the connection was lost and the transaction with it")
            if self._wire.closed or self._wire.status == "I":
                return
            failed = self._wire.status == "E"
            try:
                self._wire.roundtrip(_COMMIT)
            except errors.OperationalError as error:
                if not self._wire.closed or failed:
                    raise
                unknown = "the connection was lost during COMMIT: committed or not is unknown"
                raise errors.OperationalError(unknown, sqlstate="08007", detail=error.message) from error
            if failed:
                raise errors.InternalError("the transaction had failed and was rolled back", sqlstate="25P02")

    def rollback(self) -> None:
        """Roll back the open transaction."""
        self.must_be_open()
        with self._lock:
            self._lost = False
            if not self._wire.closed and self._wire.status != "I":
                self._wire.roundtrip(_ROLLBACK)

    def close(self) -> None:
        """Leave; an open transaction is rolled back. Closing twice is allowed, anything else after it is an error."""
        if not self._closed:
            self._closed = True
            self._wire.close()
            self._dialer.close()

    def cancel(self) -> None:
        """From another thread: end the running statement with 57014."""
        self.must_be_open()
        self._wire.cancel()

    def clone(self) -> Connection:
        """Another connection to the same place; of an in-memory database, to the same one."""
        self.must_be_open()
        return Connection(
            self._dialer.share(),
            paramstyle=self._paramstyle,
            autocommit=self._autocommit,
            settings=self._settings,
        )

    def __enter__(self) -> Self:
        self.must_be_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or roll back after an exception, and close."""
        if self._closed:
            return
        try:
            if kind is None:
                self.commit()
            elif not self._wire.closed:
                self.rollback()
        finally:
            self.close()

    def must_be_open(self) -> None:
        """Raise when `close` was called."""
        if self._closed:
            raise InterfaceError("the connection is closed")

    # statements

    def _ready_wire(self) -> Wire:
        """The conversation to use now: a new one if the old one was lost outside a transaction."""
        self.must_be_open()
        if self._lost:
            raise errors.lost("the connection was lost and the transaction with it; roll back first")
        wire = self._wire
        if (wire.status == "I" or wire.closed) and not wire.alive():
            self._statements.clear()
            self._to_close.clear()
            wire = self._wire = self._dialer.open(self._settings)
        return wire

    def _talk(self, wire: Wire, request: bytes, extra: int) -> list[Answer]:
        """One roundtrip; `extra` answers of a BEGIN sent ahead are left out."""
        inside = extra > 0 or wire.status != "I"
        try:
            return wire.roundtrip(request, 1 + extra)[extra:]
        finally:
            if wire.closed:
                self._lost = inside

    def _begin(self, wire: Wire) -> tuple[bytes, int]:
        """The BEGIN to send ahead, and how many ReadyForQuery it adds."""
        if self._autocommit or wire.status != "I":
            return b"", 0
        return _BEGIN, 1

    def run(self, sql: str, parameters: Parameters | None) -> list[Answer]:
        """Run a statement, or without parameters several, and give all answers; what cursors are made of."""
        text_bytes(sql)
        with self._lock:
            wire = self._ready_wire()
            begin, extra = self._begin(wire)
            if parameters is None:
                return self._talk(wire, begin + frontend.query(sql), extra)
            text, sources = convert(sql, self._paramstyle)
            adapted = [adapt(value) for value in arrange(sources, parameters)]
            key = (text, tuple([oid for oid, _ in adapted]))
            idle = wire.status == "I"
            name, prefix = self._prepared(key)
            try:
                return self._talk(wire, begin + prefix + _bind(name, adapted) + _RUN, extra)
            except DatabaseError as error:
                stale = error.sqlstate in _STALE and bool(name) and not prefix
                if name and (stale or prefix):
                    del self._statements[key]
                    self._to_close.append(frontend.close("S", name))
                if not stale or not idle:
                    raise
                # invariant 4: the server forgot or outgrew the prepared form, and nothing ran
                if wire.status != "I":
                    self._talk(wire, _ROLLBACK, 0)
                name, prefix = self._prepared(key)
                return self._talk(wire, begin + prefix + _bind(name, adapted) + _RUN, extra)

    def _prepared(self, key: tuple[str, tuple[int, ...]]) -> tuple[str, bytes]:
        """The name to bind and what must be sent before: the second use of a statement prepares it."""
        statements = self._statements
        known = statements.get(key)
        if known is not None and known.name:
            statements.move_to_end(key)
            return known.name, b""
        if known is None:
            if len(statements) >= STATEMENTS_MAX:
                _, oldest = statements.popitem(last=False)
                if oldest.name:
                    self._to_close.append(frontend.close("S", oldest.name))
            statements[key] = _Statement("")
            name = ""
        else:
            statements.move_to_end(key)
            self._statement_count += 1
            name = known.name = f"txndb_{self._statement_count}"
        prefix = b"".join(self._to_close) + frontend.parse(name, *key)
        self._to_close.clear()
        return name, prefix

    def _run_batches(self, sql: str, rows: Iterable[Parameters]) -> list[Answer]:
        """One statement for many rows: prepared once, bound per row, one batch of messages per BATCH_ROWS rows.

        All or nothing: with autocommit more rows than one batch get a transaction of their own.
        """
        text_bytes(sql)
        with self._lock:
            wire = self._ready_wire()
            text, sources = convert(sql, self._paramstyle)
            own = self._autocommit and wire.status == "I"
            begin, extra = self._begin(wire)
            answers: list[Answer] = []
            batch: list[bytes] = []
            parsed: tuple[int, ...] = ()
            for adapted in ([adapt(value) for value in arrange(sources, row)] for row in rows):
                if len(batch) == BATCH_ROWS:
                    if own and not answers:
                        begin, extra = _BEGIN, 1
                    answers += self._talk(wire, begin + b"".join(batch) + frontend.SYNC, extra)
                    begin, extra = self._begin(wire)
                    batch = []
                oids = tuple([oid for oid, _ in adapted])
                parse = frontend.parse("", text, oids) if not batch or oids != parsed else b""
                parsed = oids
                batch.append(parse + _bind("", adapted) + _RUN_MANY)
            if batch:
                answers += self._talk(wire, begin + b"".join(batch) + frontend.SYNC, extra)
            return answers

    def run_many(self, sql: str, rows: Iterable[Parameters]) -> list[Answer]:
        """One statement for many rows, all or nothing, committed when autocommit says so."""
        outside = not self.in_transaction
        try:
            answers = self._run_batches(sql, rows)
        except BaseException:
            if self._autocommit and outside:
                self.rollback()
            raise
        if self._autocommit and outside:
            self.commit()
        return answers

    # COPY

    @contextlib.contextmanager
    def _noting_loss(self, wire: Wire) -> Iterator[None]:
        """A COPY during which the connection is lost loses the transaction that it is part of, or begins."""
        inside = not self._autocommit or wire.status != "I"
        try:
            yield
        finally:
            # an abandoned copy_out ends when it is collected: after `close`, or when another conversation is in use
            if wire.closed and wire is self._wire and not self._closed:
                self._lost = inside

    def copy_in(self, sql: str, chunks: Iterable[bytes]) -> str:
        """COPY … FROM STDIN with the chunks as its data; the command tag."""
        text_bytes(sql)
        with self._lock:
            wire = self._ready_wire()
            with self._noting_loss(wire):
                if not self._autocommit and wire.status == "I":
                    wire.roundtrip(_BEGIN)
                return wire.copy_in(frontend.query(sql), chunks).tag

    def copy_out(self, sql: str) -> Iterator[bytes]:
        """COPY … TO STDOUT: its data piece by piece."""
        text_bytes(sql)
        with self._lock:
            wire = self._ready_wire()
            with self._noting_loss(wire):
                if not self._autocommit and wire.status == "I":
                    wire.roundtrip(_BEGIN)
                yield from wire.copy_out(frontend.query(sql))


_BEGIN: Final = frontend.query("BEGIN")
_COMMIT: Final = frontend.query("COMMIT")
_ROLLBACK: Final = frontend.query("ROLLBACK")
_RUN: Final = frontend.describe("P", "") + frontend.execute("") + frontend.SYNC
_RUN_MANY: Final = frontend.describe("P", "") + frontend.execute("")


def _bind(name: str, adapted: list[tuple[int, bytes | None]]) -> bytes:
    formats: tuple[int, ...] = ()
    for oid, _ in adapted:
        if oid == BYTEA_OID:
            formats = tuple([1 if oid == BYTEA_OID else 0 for oid, _ in adapted])
            break
    return frontend.bind("", name, [value for _, value in adapted], formats)


def connect(
    target: str | os.PathLike[str] | None = None,
    *,
    paramstyle: str = "pyformat",
    autocommit: bool = False,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
    application_name: str = APPLICATION_NAME,
    options: Mapping[str, str] | None = None,
) -> Connection:
    """Open a connection.

    `target`: None or ":memory:" – a database in this process's memory, gone with the last connection to it; a path – a
    database in this process kept in that directory; `txndb://[user@]host[:port][,host[:port]…]/database` – a cluster,
    where the next host takes over when one fails. `options` are session parameters, as {"statement_timeout": "5s"}.
    """
    if paramstyle not in ("pyformat", "qmark"):
        raise InterfaceError(f"paramstyle {paramstyle!r} is neither pyformat nor qmark")
    parsed = parse_target(target)
    changes: dict[str, Any] = {"user": user, "password": password, "database": database}
    given = {name: value for name, value in changes.items() if value is not None}
    if given:
        import msgspec

        parsed = msgspec.structs.replace(parsed, **given)
    settings = {"application_name": application_name, "client_encoding": "UTF8", "DateStyle": "ISO"}
    settings |= dict(parsed.settings) | dict(options or {})
    for text in (parsed.user, parsed.password, parsed.database, *settings, *settings.values()):
        text_bytes(text)
    dialer = dialer_for(parsed)
    try:
        return Connection(dialer, paramstyle=paramstyle, autocommit=autocommit, settings=settings)
    except BaseException:
        dialer.close()
        raise
