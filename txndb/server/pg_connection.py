"""One PostgreSQL connection: a protocol that queues parsed messages and one task that answers them in order.

PostgreSQL 15 documentation, chapter 55.2 "Message Flow" (start-up, simple and extended query, COPY, termination).

                socket --data_received--> FrontendParser --> queue --> task --> handlers --> out --write--> socket

Invariants:
1. Messages are answered in order by one task; answers gather in `_out` and leave in one write per ReadyForQuery, Flush,
   COPY turn, OUT_BYTES_FLUSH bytes of rows, or OUT_PIECES_FLUSH answers of a batch without Sync.
2. Memory is bounded (`pg_stream`): messages wait in a bounded queue, and who does not read stops their statement.
3. After an error in an extended batch everything up to the next Sync is skipped (55.2.3) and the session's transaction
   has failed; each Sync and each Query is answered by exactly one ReadyForQuery.
4. If the commit at Sync fails, the CommandComplete still in `_out` is withdrawn: the client sees the error instead.
5. However the connection ends, its session is closed (rolled back) and its place is given back.

It does not interpret SQL or values. Driven by asyncio and the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, Protocol, cast

from txndb.errors import (
    InternalError,
    LimitError,
    ProtocolError,
    SessionTimeoutError,
    ShutdownError,
    TxndbError,
    sql_error,
)
from txndb.limits import NodeLimits
from txndb.pgwire import backend, frontend
from txndb.pgwire.framing import Malformed
from txndb.server.pg_contract import NewSession, WireBound, WirePrepared, WireResult, WireSession
from txndb.server.pg_shapes import Shape, Shapes
from txndb.server.pg_startup import (
    error_response,
    greeting,
    must_be_local,
    notice_response,
    session_options,
    too_many_clients,
    tune_socket,
)
from txndb.server.pg_stream import GoneError, PgStream

OUT_BYTES_FLUSH: Final = 64 * 1024
COPY_CHUNK_BYTES: Final = 64 * 1024
OUT_PIECES_FLUSH: Final = 256
ROWS_PER_CHUNK: Final = 256

log = logging.getLogger(__name__)


class Server(Protocol):
    """What a connection needs of the server that accepted it (`pg.PgServer`)."""

    shapes: Shapes
    new_session: NewSession
    trust_remote: bool
    draining: bool
    limits: NodeLimits

    def register(self, connection: PgConnection) -> tuple[int, int] | None: ...
    def unregister(self, process_id: int) -> None: ...
    def is_full(self) -> bool: ...
    def track(self, task: asyncio.Task[None], connection: PgConnection) -> None: ...
    def cancel(self, process_id: int, secret: int) -> None: ...


class _Statement:
    """A prepared statement as the wire knows it."""

    __slots__ = ("prepared", "sql")

    def __init__(self, sql: str, prepared: WirePrepared) -> None:
        self.sql = sql
        self.prepared = prepared


class PgConnection(PgStream):
    """See the module's specification. One per socket; the server is its only owner."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.limits)
        self._server = server
        self._leaving = False
        self._skipping = False
        self._session: WireSession | None = None
        self._statements: dict[str, _Statement] = {}
        self._portals: dict[str, tuple[_Statement, tuple[int, ...]]] = {}
        self._reported: dict[str, str] = {}
        self._startup_timer: asyncio.TimerHandle | None = None
        self.process_id = 0
        self.secret = 0

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses of asyncio's
        if self._server.is_full():
            self._gone = True
            self._transport.write(error_response(too_many_clients(), "FATAL"))
            self._transport.close()
            return
        tune_socket(transport.get_extra_info("socket"))
        loop = asyncio.get_running_loop()
        self._startup_timer = loop.call_later(self._limits.startup_us / 1e6, self._startup_over)
        task = loop.create_task(self._serve())
        self._server.track(task, self)
        task.add_done_callback(self._ended)

    def _startup_over(self) -> None:
        assert self._transport is not None
        self._write_last(sql_error("57014", "canceling authentication due to timeout"))
        self._transport.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The task is over; a fault of ours ends this connection loudly and no other."""
        assert self._transport is not None
        if self._startup_timer is not None:
            self._startup_timer.cancel()
        if not task.cancelled() and task.exception() is not None:
            log.error("connection %d ended by a fault", self.process_id, exc_info=task.exception())
            self._write_last(InternalError("internal error; the node's log has the details"))
        elif task.cancelled():
            self._write_last(ShutdownError("terminating connection due to administrator command"))
        self._transport.close()

    def _write_last(self, error: TxndbError) -> None:
        if not self._gone and self._transport is not None and not self._transport.is_closing():
            self._transport.write(error_response(error, "FATAL"))

    # the server's side

    def cancel_statement(self) -> None:
        """End the running statement with 57014; nothing happens when none runs."""
        if self._session is not None:
            self._session.cancel()

    def leave_when_idle(self) -> None:
        """The node drains: end with 57P01 at the next moment outside a transaction."""
        self._leaving = True
        self._wake()

    def _maybe_leave(self) -> None:
        if self._leaving and (self._session is None or self._session.status == "I"):
            self._end_with(ShutdownError("terminating connection due to administrator command"))

    # the task

    async def _serve(self) -> None:
        try:
            try:
                if await self._start_up():
                    await self._converse()
            except GoneError:
                return
        finally:
            try:
                if self._session is not None:
                    await self._session.close()
            except (
                TxndbError
            ) as error:  # a rollback that found no quorum: the locks die with the gateway's entry
                log.warning("connection %d: rollback at its end failed: %s", self.process_id, error)
            finally:
                if self.process_id:
                    self._server.unregister(self.process_id)

    async def _next_while_idle(self, bound: WireBound) -> Any:
        """The next message of a client that was answered: it may be silent for as long as its settings say."""
        try:
            return await self._next_within(bound)
        except SessionTimeoutError as error:
            self._end_with(error)

    def _end_with(self, error: TxndbError) -> NoReturn:
        """The last word to this client."""
        self._out.append(error_response(error, "FATAL"))
        self._flush()
        raise GoneError

    def _say(self, error: TxndbError) -> None:
        """An error of a statement; some end the connection."""
        if isinstance(error, SessionTimeoutError):
            self._end_with(error)
        self._out.append(error_response(error))

    async def _start_up(self) -> bool:
        """Everything before the first ReadyForQuery. False when the connection was for something else or refused."""
        while True:
            message = await self._next()
            if isinstance(message, frontend.SSLRequest | frontend.GSSENCRequest):
                self._out.append(b"N")
                self._flush()
            elif isinstance(message, frontend.CancelRequest):
                self._server.cancel(message.process_id, message.secret)
                return False
            else:
                break
        try:
            if isinstance(message, Malformed):
                raise message.error
            assert isinstance(message, frontend.Startup)
            await self._admit(message)
        except TxndbError as error:
            self._out.append(error_response(error, "FATAL"))
            self._flush()
            return False
        if self._startup_timer is not None:
            self._startup_timer.cancel()
        self._flush()
        return True

    async def _admit(self, message: frontend.Startup) -> None:
        server = self._server
        user = message.parameters.get("user", "")
        if not user:
            raise sql_error("28000", "no PostgreSQL user name specified in startup packet")
        assert self._transport is not None
        if not server.trust_remote:
            must_be_local(self._transport.get_extra_info("peername"))
        if server.draining:
            raise sql_error("57P03", "the database system is shutting down")
        place = server.register(self)
        if place is None:
            raise too_many_clients()
        self.process_id, self.secret = place
        database, options, unknown = session_options(message.parameters)
        if message.minor > 0 or unknown:
            self._out.append(backend.negotiate_protocol_version(0, unknown))
        made = server.new_session(user, database, options)
        self._session = await made if inspect.isawaitable(made) else made
        self._parser.trusted()
        self._reported = dict(self._session.parameters)
        self._out.append(greeting(user, self._reported, self.process_id, self.secret))
        self._notices()
        self._out.append(backend.READY[self._session.status])

    async def _converse(self) -> None:
        handlers = _HANDLERS
        queue = self._queue
        session = self._session
        assert session is not None
        while True:
            if queue:
                message = queue.popleft()
            else:
                bound = session.idle_bound()
                message = await (self._next() if bound is None else self._next_while_idle(bound))
            kind = type(message)
            if self._skipping and kind not in _NOT_SKIPPED and not (kind is Malformed and message.fatal):
                continue
            if kind is frontend.Terminate:
                return
            try:
                pending = handlers[kind](self, message)
                if pending is not None:
                    await pending
            except TxndbError as error:
                self._extended_error(error)
            except RecursionError:
                self._extended_error(LimitError("statement is nested too deeply"))
            except MemoryError:
                self._extended_error(sql_error("53200", "out of memory"))
            if len(self._out) > OUT_PIECES_FLUSH:
                self._flush()
            if self._writing_paused:
                await self._drain()

    # extended protocol

    def _extended_error(self, error: TxndbError) -> None:
        """Any error of an extended batch: the session's transaction fails with it, whoever found it."""
        assert self._session is not None
        self._skipping = True
        self._session.fail(error)
        self._say(error)

    async def _on_parse(self, message: frontend.Parse) -> None:
        assert self._session is not None
        name = message.name
        bounds = self._limits
        if len(self._statements) >= bounds.prepared_statements and name not in self._statements:
            raise LimitError(f"more than {bounds.prepared_statements} prepared statements")
        prepared = await self._session.prepare(name, message.sql, message.param_oids)
        if len(prepared.param_oids) > bounds.parameters:
            self._session.close_prepared(name)
            raise LimitError(f"a statement may have at most {bounds.parameters} parameters")
        self._statements[name] = _Statement(message.sql, prepared)
        self._out.append(backend.PARSE_COMPLETE)

    def _on_bind(self, message: frontend.Bind) -> None:
        session = self._session
        assert session is not None
        statement = self._statements.get(message.statement)
        if statement is None:
            named = f'prepared statement "{message.statement}" does not exist'
            raise sql_error(
                "26000", named if message.statement else "unnamed prepared statement does not exist"
            )
        oids = statement.prepared.param_oids
        params = self._server.shapes.parameters(oids, message.param_formats, message.params, session)
        session.bind(message.portal, message.statement, params)
        self._portals[message.portal] = (statement, message.result_formats)
        self._out.append(backend.BIND_COMPLETE)

    def _portal_shape(self, name: str) -> Shape | None:
        assert self._session is not None
        found = self._portals.get(name)
        if found is None:
            declared = self._session.cursor_columns(
                name
            )  # a cursor of DECLARE can be described, as a portal can
            if declared is None:
                raise sql_error("34000", f'portal "{name}" does not exist')
            return self._server.shapes.shape(f"CURSOR {name}", declared, (), self._session)
        statement, formats = found
        columns = statement.prepared.columns
        if columns is None:
            return None
        return self._server.shapes.shape(statement.sql, columns, formats, self._session)

    def _on_describe(self, message: frontend.Describe) -> None:
        assert self._session is not None
        if message.kind == "P":
            shape = self._portal_shape(message.name)
            self._out.append(backend.NO_DATA if shape is None else shape.description)
            return
        statement = self._statements.get(message.name)
        if statement is None:
            text = f'prepared statement "{message.name}" does not exist'
            raise sql_error("26000", text)
        self._out.append(backend.parameter_description(statement.prepared.param_oids))
        columns = statement.prepared.columns
        if columns is None:
            self._out.append(backend.NO_DATA)
        else:
            self._out.append(self._server.shapes.shape(statement.sql, columns, (), self._session).description)

    async def _on_execute(self, message: frontend.Execute) -> None:
        assert self._session is not None
        shape = self._portal_shape(message.portal)
        queue = self._queue
        final = bool(queue) and type(queue[0]) is frontend.Sync
        result = await self._session.run_portal(message.portal, message.max_rows, final=final)
        if shape is not None and result.rows:
            self._must_be_as_described(message.portal, result)
        await self._send(result, shape)

    def _must_be_as_described(self, portal: str, result: WireResult) -> None:
        """Rows of other columns than the client was told cannot be sent. The session looks before it runs a statement;
        what is left is a cursor that another took the name of."""
        columns = self._portals[portal][0].prepared.columns
        if result.columns is columns or result.columns == columns:
            return
        if not result.tag.startswith("SELECT"):  # it ran: 0A000 would invite the client to run it again
            raise InternalError("the columns of the result changed while the statement ran")
        raise sql_error("0A000", "cached plan must not change result type")

    def _on_close(self, message: frontend.Close) -> None:
        assert self._session is not None
        if message.kind == "S":
            self._statements.pop(message.name, None)
            self._session.close_prepared(message.name)
        else:
            self._portals.pop(message.name, None)
            self._session.close_portal(message.name)
        self._out.append(backend.CLOSE_COMPLETE)

    def _on_flush(self, message: frontend.Flush) -> None:
        self._flush()

    async def _on_sync(self, message: frontend.Sync) -> None:
        assert self._session is not None
        self._skipping = False
        try:
            await self._session.sync()
        except TxndbError as error:
            self._withdraw_complete()
            self._say(error)
        self._ready()

    def _withdraw_complete(self) -> None:
        if self._complete_at >= 0:
            self._out[self._complete_at] = b""

    def _ready(self) -> None:
        session = self._session
        assert session is not None
        if session.notices:
            self._notices()
        if session.parameters != self._reported:
            self._report_parameters()
        if session.status == "I" and self._portals:
            self._portals.clear()
        self._out.append(backend.READY[session.status])
        self._flush()

    def _report_parameters(self) -> None:
        assert self._session is not None
        now = self._session.parameters
        for name, value in now.items():
            if self._reported.get(name) != value:
                self._out.append(backend.parameter_status(name, value))
        self._reported = dict(now)

    def _notices(self) -> None:
        assert self._session is not None
        for notice in self._session.notices:
            self._out.append(notice_response(notice))
        self._session.notices.clear()

    # simple protocol

    async def _on_query(self, message: frontend.Query) -> None:
        session = self._session
        assert session is not None
        self._skipping = False
        answered = len(self._out)
        results = session.simple(message.sql)
        try:
            async for result in results:
                columns = result.columns
                shape = None
                if columns is not None:
                    shape = self._server.shapes.shape(message.sql, columns, (), session)
                    self._out.append(shape.description)
                await self._send(result, shape)
                answered = -1
            if answered >= 0:
                self._out.append(backend.EMPTY_QUERY)
        except TxndbError as error:
            self._simple_error(error)
        except RecursionError:
            self._simple_error(LimitError("statement is nested too deeply"))
        except MemoryError:
            self._simple_error(sql_error("53200", "out of memory"))
        finally:
            close = getattr(results, "aclose", None)
            if close is not None:
                with contextlib.suppress(TxndbError):  # a rollback nobody heard of: it was answered already
                    await close()
        self._ready()

    def _simple_error(self, error: TxndbError) -> None:
        """An error of a Query; it may be one of the answer, which the session knows nothing of."""
        assert self._session is not None
        self._session.fail(error)
        self._say(error)

    # results

    async def _send(self, result: WireResult, shape: Shape | None) -> None:
        """The rows and the end of one statement."""
        assert self._session is not None
        out = self._out
        if self._session.notices:
            self._notices()
        if result.copy is not None:
            await self._copy(result.copy)
            return
        rows = result.rows
        if shape is not None and rows:
            if len(rows) <= ROWS_PER_CHUNK:
                chunk = shape.encode(rows)
                out.append(chunk)
                if len(chunk) >= OUT_BYTES_FLUSH:
                    self._flush()
            else:
                await self._send_many(rows, shape)
        if result.suspended:
            out.append(backend.PORTAL_SUSPENDED)
            return
        tag = result.tag
        self._complete_at = len(out)
        out.append(backend.command_complete(tag) if tag else backend.EMPTY_QUERY)

    async def _send_many(self, rows: Any, shape: Shape) -> None:
        size = 0
        for start in range(0, len(rows), ROWS_PER_CHUNK):
            chunk = shape.encode(rows[start : start + ROWS_PER_CHUNK])
            self._out.append(chunk)
            size += len(chunk)
            if size >= OUT_BYTES_FLUSH:
                size = 0
                self._flush()
                if self._writing_paused:
                    await self._drain()

    async def _copy(self, copy: Any) -> None:
        out = self._out
        if hasattr(copy, "write"):
            out.append(backend.copy_in_response(copy.column_count))
            self._flush()
            tag = await self._copy_in(copy)
        else:
            out.append(backend.copy_out_response(copy.column_count))
            size = 0
            async for lines in copy:
                out.append(chunk := backend.copy_lines(lines))
                size += len(chunk)
                if size >= OUT_BYTES_FLUSH:
                    size = 0
                    self._flush()
                    await self._drain()
            out.append(backend.COPY_DONE)
            tag = copy.tag
        self._complete_at = len(out)
        out.append(backend.command_complete(tag))

    async def _copy_in(self, copy: Any) -> str:
        """Read CopyData until the client ends it. Flush and Sync mean nothing here (55.2.6)."""
        while True:
            try:
                message = await self._next_within(copy.bound())
            except GoneError:
                await self._give_up(copy, "connection lost")
                raise
            except TxndbError as error:
                await self._give_up(copy, error.message)
                raise
            kind = type(message)
            if kind is frontend.CopyData:
                await copy.write(self._with_more_data(message.data))
                await asyncio.sleep(0)  # a bulk load must not keep the node from its heartbeats
            elif kind is frontend.CopyDone:
                tag: str = await copy.finish()
                return tag
            elif kind is frontend.CopyFail:
                await self._give_up(copy, message.reason)
                raise sql_error("57014", f"COPY from stdin failed: {message.reason}")
            elif kind is frontend.Terminate:
                await self._give_up(copy, "connection closed")
                raise GoneError
            elif kind not in (frontend.Flush, frontend.Sync):
                await self._give_up(copy, "unexpected message")
                raise (
                    message.error
                    if kind is Malformed
                    else ProtocolError("unexpected message during COPY from stdin")
                )

    def _with_more_data(self, data: bytes) -> bytes:
        """The data with what else has arrived: clients send a message a line, and a call each is too dear."""
        queue = self._queue
        parts = [data]
        size = len(data)
        while queue and type(queue[0]) is frontend.CopyData and size < COPY_CHUNK_BYTES:
            more = queue.popleft().data
            parts.append(more)
            size += len(more)
        return b"".join(parts)

    @staticmethod
    async def _give_up(copy: Any, reason: str) -> None:
        """Tell the session that its COPY failed; it answers with the error, which the caller words itself."""
        with contextlib.suppress(TxndbError):
            await copy.abort(reason)

    # what is none of the above

    def _on_stray_copy(self, message: object) -> None:
        """What a client still sent of a COPY that had already failed: ignored (55.2.6)."""

    async def _on_malformed(self, message: Malformed) -> None:
        if message.fatal:
            self._end_with(message.error)
        if message.kind == "Q":  # a simple query is not followed by Sync: it is answered on its own
            await self._answer_alone(message.error)
            return
        raise message.error

    async def _answer_alone(self, error: TxndbError) -> None:
        """An error that no Sync follows: it ends what extended messages without one left open."""
        assert self._session is not None
        self._session.fail(error)
        with contextlib.suppress(TxndbError):
            await self._session.sync()
        self._out.append(error_response(error))
        self._ready()

    def _on_unexpected(self, message: object) -> None:
        raise ProtocolError(f"unexpected message: {type(message).__name__}")

    async def _on_function_call(self, message: object) -> None:
        await self._answer_alone(sql_error("0A000", "fast-path function calls are not supported"))


Handler = Callable[[PgConnection, Any], Awaitable[None] | None]

_NOT_SKIPPED: Final = frozenset((frontend.Sync, frontend.Terminate))
_HANDLERS: Final[dict[type, Handler]] = {
    frontend.Parse: PgConnection._on_parse,
    frontend.Bind: PgConnection._on_bind,
    frontend.Describe: PgConnection._on_describe,
    frontend.Execute: PgConnection._on_execute,
    frontend.Close: PgConnection._on_close,
    frontend.Flush: PgConnection._on_flush,
    frontend.Sync: PgConnection._on_sync,
    frontend.Query: PgConnection._on_query,
    frontend.CopyData: PgConnection._on_stray_copy,
    frontend.CopyDone: PgConnection._on_stray_copy,
    frontend.CopyFail: PgConnection._on_stray_copy,
    frontend.FunctionCall: PgConnection._on_function_call,
    frontend.Password: PgConnection._on_unexpected,
    Malformed: PgConnection._on_malformed,
}
