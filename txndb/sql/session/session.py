"""The session of one connection: the simple protocol, the extended protocol, and how a session is opened.

What a statement does is in `core`; what is not planned in `utility`. The server, the embedded driver and the simulator
drive this class; a portal with a row limit keeps its operators running between calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from txndb.errors import TxndbError, sql_error
from txndb.sql.catalog.virtual import SessionInfo
from txndb.sql.parse import ast
from txndb.sql.session.api import ColumnInfo, Result
from txndb.sql.session.core import SessionCore
from txndb.sql.session.planning import must_fit
from txndb.sql.session.portals import Portal, PreparedStatement
from txndb.sql.session.services import SqlServices
from txndb.sql.session.settings import Settings
from txndb.sql.session.source import Source, make_source
from txndb.sql.session.transactions import reading
from txndb.sql.session.turns import TURN_CHARS, parsed_in_turns
from txndb.sql.session.utility import UtilityStatements, stands_apart
from txndb.sql.types.core import type_by_oid


class Session(SessionCore):
    """One connection's session."""

    # --- the simple protocol

    async def execute(self, sql: str, params: Sequence[object] = ()) -> Result:
        """One statement with parameters in internal representation; a transaction of its own outside a block."""
        return await self.guard(self._statement(make_source(self.services, sql, lift=not params), params))

    async def simple(self, sql: str) -> AsyncIterator[Result]:
        """The simple protocol: one statement, or several in one transaction. A transaction that extended messages
        without a Sync left open ends with it, as in PostgreSQL: nobody would know of it any more."""
        try:
            source = make_source(self.services, sql, lift=True)
            if len(sql) > TURN_CHARS and source.node is None:
                await self._parse_in_turns(source)
            alone = self.services.plans.get(source.text) is not None
            if alone or len(statements := self._parse(source)) == 1:
                yield await self.guard(self._last(source))
            elif statements:
                async for result in self._script(sql):
                    yield result
            else:
                await self.guard(self._commit_implicit())
        except BaseException:
            await self._drop_implicit()
            raise
        finally:
            if self.block is None and self.portals:
                self.end_portals()

    async def _last(self, source: Source) -> Result:
        """The last statement of a string: the implicit transaction is committed before its result is given, or as the
        end of its COPY, so that the client never hears of a success that is not one."""
        result = await self._statement(source, ())
        if self.implicit is not None:
            if result.copy is None:
                await self._commit_implicit()
            else:
                result.copy.then = self._commit_implicit
        return result

    async def _parse_in_turns(self, source: Source) -> None:
        """Find a long text's syntax while others run; what is wrong with it `_parse` says again, in its place."""
        with suppress(TxndbError):
            statements = await parsed_in_turns(source.text)
            if len(statements) == 1:
                source.node = statements[0]
            else:
                self.services.syntax.put(source.text, statements)

    async def _script(self, sql: str) -> AsyncIterator[Result]:
        """Several statements: one implicit transaction, unless they open and close one themselves."""
        statements = self.services.parsed(sql)
        for node in statements:
            source = Source(sql[node.pos - 1 : node.end], node=node, offset=0)
            control = isinstance(node, ast.Begin | ast.Commit | ast.Rollback)
            if self.block is None and self.implicit is None and not control:
                self.open_implicit()
            last = node is statements[-1]
            yield await self.guard(self._last(source) if last else self._statement(source, ()))

    # --- extended protocol

    async def prepare(self, name: str, sql: str, param_oids: Sequence[int] = ()) -> PreparedStatement:
        """Parse and plan a statement under a name ("" is replaced each time)."""
        try:
            made = await self.guard(self._prepare(name, sql, param_oids))
        except TxndbError as error:
            raise await self._failed(error) from None
        self.prepared[name] = made
        return made

    async def _prepare(self, name: str, sql: str, param_oids: Sequence[int]) -> PreparedStatement:
        if name and name in self.prepared:
            raise sql_error("42P05", f'prepared statement "{name}" already exists')
        source = make_source(self.services, sql, lift=False)
        source.param_types = tuple(type_by_oid(oid) if oid else None for oid in param_oids)
        source.kinds = tuple(param_oids)
        source.client_params = True
        if len(sql) > TURN_CHARS:
            statements = await parsed_in_turns(sql)
        else:
            statements = self.services.parsed(sql)
        if not statements:
            source.empty = True
            return PreparedStatement(name, source)
        self._one(source, statements)
        return await self.describe(PreparedStatement(name, source))

    def bind(self, portal: str, prepared_name: str, params: Sequence[object] = ()) -> Portal:
        """A portal over a prepared statement, with parameters in internal representation."""
        prepared = self.prepared.get(prepared_name)
        if prepared is None:
            named = f'prepared statement "{prepared_name}" does not exist'
            raise sql_error("26000", named if prepared_name else "unnamed prepared statement does not exist")
        if len(params) != len(prepared.param_oids):
            raise sql_error(
                "08P01",
                f"bind message supplies {len(params)} parameters, but prepared statement "
                f'"{prepared_name}" requires {len(prepared.param_oids)}',
            )
        if portal and portal in self.portals:
            raise sql_error("42P03", f'cursor "{portal}" already exists')
        if isinstance(prepared.source.node, ast.FetchCursor):  # the name may mean another cursor by now
            prepared.columns = self.utilities.columns(self, prepared.source.node)
        block = self.block if self.block is not None else self.implicit
        depth = len(block.savepoints) if block is not None else 0
        made = self.portals[portal] = Portal(portal, prepared, params, depth)
        return made

    def cursor_columns(self, name: str) -> tuple[ColumnInfo, ...] | None:
        """The columns of a cursor of DECLARE; None if there is none of that name."""
        cursor = self.cursors.get(name)
        return None if cursor is None else cursor.columns

    async def run_portal(self, portal: str, max_rows: int = 0, *, final: bool = False) -> Result:
        """Run or go on with a portal. `final`: a Sync follows at once, so that what nothing came before may commit,
        and be retried, right here. Anything else is a part of the batch's transaction."""
        found = self.portals.get(portal)
        if found is None:
            raise sql_error("34000", f'portal "{portal}" does not exist')
        return await self.guard(self._run_portal(found, max_rows, final))

    async def _run_portal(self, portal: Portal, max_rows: int, final: bool) -> Result:
        source = portal.prepared.source
        if source.empty:
            return Result("")
        if portal.block is not None and portal.block.failed:
            self._refuse_failed(source)
        if portal.stream is not None:
            return await self._continue(portal, max_rows)
        if portal.done:
            raise sql_error("55000", f'portal "{portal.name}" cannot be run anymore')
        node = self._node(source)
        if not final and self.block is None and self.implicit is None and not stands_apart(node):
            self.open_implicit()
        if max_rows and isinstance(node, ast.Query):
            return await self._start_stream(portal, max_rows)
        portal.done = True
        if isinstance(node, ast.Execute):  # the name may mean another statement by now
            must_fit(self.utilities.columns(self, node), portal.columns)
        return await self._statement(source, portal.params)

    async def _start_stream(self, portal: Portal, max_rows: int) -> Result:
        block = self.block if self.block is not None else self.implicit
        try:
            if block is None:  # a Sync follows: what locks nothing needs no transaction
                locking = bool(getattr(self._node(portal.prepared.source), "locking", ()))
                block = self.open_implicit() if locking else self.new_block(read_only=True)
            if block.failed:
                self._refuse_failed(portal.prepared.source)
            portal.block = block
            catalog = await block.current_catalog()
            found = self.executable(catalog, portal.prepared.source, block)
            if not found.read_only and block in (self.block, self.implicit):
                block.write_txn("SELECT FOR UPDATE")
            if found.plan.as_of is not None:
                result = await self._query(block, portal.prepared.source, portal.params)
                portal.columns = result.columns
                portal.buffer, rest = result.rows, iter(())
                portal.stream = _batches(rest)
            else:
                portal.columns = self.promised_columns(found, portal.prepared.source)
                x = self.context_of(block, catalog, found.parameters(portal.params))
                portal.stream = found.stream(x)
            return await self._continue(portal, max_rows)
        except TxndbError as error:
            self._locate(portal.prepared.source, error)
            raise await self._failed(error) from None

    async def _continue(self, portal: Portal, max_rows: int) -> Result:
        assert portal.stream is not None
        try:
            while not portal.done and (not max_rows or len(portal.buffer) <= max_rows):
                try:
                    portal.buffer = portal.buffer + await anext(portal.stream)
                    if portal.block is not None:
                        portal.block.check_lease()
                except StopAsyncIteration:
                    portal.done = True
                    if portal.block is not None and portal.block not in (self.block, self.implicit):
                        portal.block.check_lease()
                        portal.block.release()
        except BaseException as error:
            portal.stream, portal.done, portal.buffer = None, True, []  # the query is over, not at its end
            if not isinstance(error, TxndbError):
                raise
            if portal.block is not None:
                error = await self.true_error(portal.block, error)
            raise await self._failed(error) from None
        count = max_rows or len(portal.buffer)
        rows, portal.buffer = portal.buffer[:count], portal.buffer[count:]
        suspended = bool(portal.buffer) or not portal.done
        portal.count += len(rows)
        return Result(f"SELECT {len(rows)}", portal.columns, rows, suspended)

    def close_prepared(self, name: str) -> None:
        """Forget a prepared statement; no error if there is none."""
        self.prepared.pop(name, None)

    def fail(self, error: TxndbError) -> None:
        """A protocol-level error occurred: the transaction, if any, has failed."""
        if self.block is not None:
            self.block.failed = True
        if self.implicit is not None:
            self.implicit.failed = True

    async def close(self) -> None:
        """The connection ended."""
        await self.end()


async def _batches(rest: Any) -> AsyncIterator[list[Any]]:
    for batch in rest:
        yield batch


async def open_session(
    services: SqlServices, user: str, database: str, options: dict[str, str] | None = None
) -> Session:
    """A session for a role and a database; 28000 for an unknown role, 3D000 for an unknown database."""
    with reading(services, None) as block:
        catalog = await block.current_catalog()
    if catalog.role(user) is None:
        raise sql_error("28000", f'role "{user}" does not exist')
    found = catalog.database(database)
    if found is None:
        raise sql_error("3D000", f'database "{database}" does not exist')
    settings = Settings(services.settings)
    for name, value in (options or {}).items():
        settings.defaults[name.lower()] = settings.check(name, value)
    pid = services.next_pid
    services.next_pid += 1
    return Session(
        services, SessionInfo(user, database, found.id, backend_pid=pid), settings, UtilityStatements()
    )


__all__ = ["Portal", "PreparedStatement", "Session", "open_session"]
