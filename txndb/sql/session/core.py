"""A SQL session: one connection's transaction state, prepared statements, portals and settings.

A statement takes one of three ways. A cached autocommit query runs at a snapshot with no lock. A data change outside a
transaction block runs in a transaction of its own and is retried inside the server while nothing was sent (rule K6),
its age kept. Inside a block statements share the block's transaction; a failed one fails the block (25P02 until
ROLLBACK), and before an error other than 40001 is given to the client the locks are checked (rule K4).

Invariants:
1. `status` is "I" without a block, "T" in one, "E" in a failed one.
2. A statement's error leaves either no transaction or a failed block, never a half-done one that goes on.
3. Once a commit was sent the statement is no longer cancelled: the client learns the recorded outcome (rule M7).

Driven by one caller at a time (the wire server, the embedded driver, the simulator); only `cancel` may come in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from txndb.errors import (
    FeatureNotSupportedError,
    InFailedTransactionError,
    QueryCanceledError,
    RetryError,
    SqlError,
    TxndbError,
    UnavailableError,
    sql_error,
)
from txndb.ids import Timestamp, physical_us
from txndb.sql import types
from txndb.sql.catalog.leases import Age
from txndb.sql.catalog.names import CatalogNames
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.catalog.virtual import CatalogContext, SessionInfo
from txndb.sql.exec.context import ExecContext, NeedNumbers, refilled
from txndb.sql.exec.ddl import constant_row
from txndb.sql.exec.executable import Executable
from txndb.sql.exec.sequences import NeedSetval, SequenceState, set_sequence
from txndb.sql.parse import ast
from txndb.sql.session.api import ColumnInfo, Notice, Result
from txndb.sql.session.asof import as_of_timestamp
from txndb.sql.session.conflicts import describe_conflict
from txndb.sql.session.cursors import Cursor, settle_all
from txndb.sql.session.guard import Patience
from txndb.sql.session.parameters import FunctionParameters
from txndb.sql.session.planning import Planning
from txndb.sql.session.portals import Portal, PreparedStatement, settle_in
from txndb.sql.session.services import SqlServices
from txndb.sql.session.settings import Settings
from txndb.sql.session.source import Source
from txndb.sql.session.transactions import Block, reading
from txndb.sql.types.core import SqlType
from txndb.sql.types.zones import zone_by_name

T = TypeVar("T")
EPOCH_2000_US = 946_684_800_000_000
ATTEMPTS_MAX = 50

TELLS_NOTHING = (RetryError, QueryCanceledError, UnavailableError)
"""Errors that say nothing of what was read: rule K4 has nothing to check, and they are given in time."""

QUERIES = (ast.Query, ast.Insert, ast.Update, ast.Delete)


class Utilities(Protocol):
    """The statements that are not planned; given to a session when it is made."""

    async def run(
        self,
        session: SessionCore,
        node: ast.Statement,
        source: Source,
        params: Sequence[object],
        block: Block | None,
    ) -> Result:
        """Run one; `block` is the open transaction, if any."""

    def columns(self, session: SessionCore, node: ast.Statement) -> tuple[ColumnInfo, ...] | None:
        """The result columns of one, for Describe."""


class SessionCore(Planning):
    """State, transactions and the running of one statement; `Session` adds the protocols."""

    def __init__(
        self, services: SqlServices, info: SessionInfo, settings: Settings, utilities: Utilities
    ) -> None:
        super().__init__(settings)
        self.utilities = utilities
        self.services = services
        self.info = info
        self.settings = settings
        self.notices: list[Notice] = []
        self.prepared: dict[str, PreparedStatement] = {}
        self.sql_prepared: dict[str, PreparedStatement] = {}
        self.portals: dict[str, Portal] = {}
        self.cursors: dict[str, Cursor] = {}
        self.sequences = SequenceState(services.sequences)
        self.context = CatalogContext(Catalog(0, ()), info, self.sequences, services.virtual)
        self.kept_age: Age | None = None
        """Of a transaction that lost: the next BEGIN replays it (rule K3)."""
        self.local_settings: dict[str, str | None] = {}
        """What SET LOCAL replaced, put back at the end of the block."""
        self.env = types.EvalContext(
            clock_us=lambda: services.wall_us() - EPOCH_2000_US,
            random=services.random,
            random_bytes=services.random_bytes,
            names=CatalogNames(self.context),
            user=info.user,
            database=info.database,
            session=self.context,
        )
        self.parameters: dict[str, str] = {}
        info.parameters = FunctionParameters(self)
        self.settings_changed()

    # --- state

    @property
    def status(self) -> str:
        """The transaction state, as ReadyForQuery tells it."""
        if self.block is None:
            return "I"
        return "E" if self.block.failed else "T"

    def settings_changed(self) -> None:
        """Take over what other parts keep a copy of."""
        settings = self.settings
        self.parameters = settings.reported()
        self.parameters["server_version"] = self.services.server_version
        self.parameters["session_authorization"] = self.info.user
        self.env.zone = zone_by_name(settings.get("TimeZone"))
        self.take_waits(settings)
        path = [p.strip().strip('"') for p in settings.get("search_path").split(",")]
        self.info.search_path = tuple(p for p in path if p and p != "$user")
        self.info.application_name = settings.get("application_name")
        self.info.settings = settings.values
        self.env.schema = self.info.search_path[0] if self.info.search_path else ""

    def end_local_settings(self) -> None:
        """SET LOCAL ends with its transaction."""
        local, self.local_settings = self.local_settings, {}
        for name, value in local.items():
            if value is None:
                self.settings.values.pop(name, None)
            else:
                self.settings.values[name] = value
        if local:
            self.settings_changed()

    def notice(self, severity: str, sqlstate: str, message: str, hint: str = "") -> None:
        """Tell the client something beside the result."""
        self.notices.append(Notice(severity, sqlstate, message, "", hint))

    # --- running statements

    async def end(self) -> None:
        """The session is over: roll back."""
        self.end_portals()
        await self._drop_implicit()
        block, self.block = self.block, None
        if block is not None:
            await block.rollback()

    async def _statement(self, source: Source, params: Sequence[object]) -> Result:
        """One statement, in whatever transaction there is."""
        block = self.block if self.block is not None else self.implicit
        if block is None:
            return await self._alone(source, params)
        try:
            if block.failed:
                self._refuse_failed(source)
            return await self._in_block(block, source, params)
        except TxndbError as error:
            if "K6" in self.services.kv.canaries and isinstance(error, RetryError) and block.txn is not None:
                await block.txn.rollback()
                block.txn = self.services.kv.begin(block.txn.age)
                return await self._statement(source, params)
            self._locate(source, error)
            raise await self._failed(error) from None
        except RecursionError:
            raise await self._failed(sql_error("54001", "stack depth limit exceeded")) from None

    def _refuse_failed(self, source: Source) -> None:
        node = source.node if source.node is not None else self._parse(source)[0]
        if not isinstance(node, ast.Rollback | ast.RollbackTo | ast.Commit):
            raise InFailedTransactionError(
                "current transaction is aborted, commands ignored until end of transaction block"
            )

    async def _in_block(self, block: Block, source: Source, params: Sequence[object]) -> Result:
        found = self._cached(block, source)
        if found is None:
            node = self._node(source)
            if not isinstance(node, QUERIES):
                return await self.utilities.run(self, node, source, params, block)
        return await self._query(block, source, params)

    async def _alone(self, source: Source, params: Sequence[object]) -> Result:
        """One statement outside a block."""
        try:
            known = self.services.plans.get(source.text)
            if known is None:
                node = self._node(source)
                if not isinstance(node, QUERIES):
                    return await self.utilities.run(self, node, source, params, None)
                read_only = isinstance(node, ast.Query) and not node.locking
            else:
                read_only = known
            if read_only or self._reads_only:
                return await self._read(source, params)
            return await self.autocommit(lambda block: self._query(block, source, params))
        except TxndbError as error:
            self._locate(source, error)
            raise
        except RecursionError:
            raise sql_error("54001", "stack depth limit exceeded") from None

    async def _read(self, source: Source, params: Sequence[object]) -> Result:
        """An autocommit query at a snapshot."""
        for attempt in range(ATTEMPTS_MAX):
            block = self.new_block(read_only=True)
            try:
                return await self._query(block, source, params)
            except TxndbError as error:
                found = await self.true_error(block, error)
                if attempt == ATTEMPTS_MAX - 1 or not isinstance(found, RetryError):
                    raise found from None
            finally:
                block.release()
        raise AssertionError("unreachable")

    async def autocommit(
        self, work: Callable[[Block], Awaitable[Result]], *, lock_wait_us: int = 0
    ) -> Result:
        """Run `work` in a transaction of its own; retried while it loses, its age kept (rule K6), until it has waited
        for `lock_wait_us` in all (0: no bound)."""
        age: Age | None = None
        patience = Patience(lock_wait_us)
        for attempt in range(ATTEMPTS_MAX):
            block = self.new_block(age=age)
            txn = block.txn
            assert txn is not None
            age = txn.age
            try:
                return await self._once(block, work)
            except RetryError as error:
                patience.must_last(error)
                if attempt == ATTEMPTS_MAX - 1:
                    raise
        raise AssertionError("unreachable")

    async def _once(self, block: Block, work: Callable[[Block], Awaitable[Result]]) -> Result:
        """`work` in `block`, committed; what fails is rolled back, and may have seen a mixture (rule K4)."""
        try:
            result = await work(block)
        except TxndbError as error:
            try:
                found = await self.true_error(block, error)
            finally:
                await block.rollback()
            raise found from None
        except BaseException:
            await block.rollback()
            raise
        await self._commit(block)
        return result

    async def true_error(self, block: Block, error: TxndbError) -> TxndbError:
        """The error to give: what may come of a mixed view is a lost transaction (K4) if a lock was lost or the
        catalogue is not its own any more, and an unknown one if nobody can tell."""
        if isinstance(error, TELLS_NOTHING) or block.dead or block.failed:
            return error
        try:
            if block.txn is not None:
                await block.txn.check()
            block.check_lease()
        except (RetryError, UnavailableError) as found:
            return found
        return error

    @property
    def _reads_only(self) -> bool:
        """Whether a transaction that says nothing of it may not write."""
        return self.settings.get("default_transaction_read_only") == "on"

    def open_implicit(self) -> Block:
        """The transaction that a batch or a string of statements shares."""
        block = self.implicit = self.new_block(read_only=self._reads_only)
        block.start_settings = dict(self.settings.values)
        return block

    def new_block(
        self,
        *,
        explicit: bool = False,
        read_only: bool = False,
        age: Age | None = None,
        at: Timestamp | None = None,
    ) -> Block:
        """A transaction of this session, under its settings."""
        block = Block(
            self.services,
            explicit=explicit,
            read_only=read_only,
            age=age,
            at=at,
            settings=self.settings.values if not read_only or explicit else None,
        )
        block.limit_waits(self.waits.lock_us)
        return block

    async def _commit(self, block: Block) -> None:
        """Commit a block; once what decides was sent nothing cancels it (rule M7)."""
        self._committing = block
        try:
            await block.commit()
        finally:
            self._committing = None

    async def _failed(self, error: TxndbError) -> TxndbError:
        """A statement failed inside a transaction: the error to send, which K4 may turn into 40001."""
        block = self.block if self.block is not None else self.implicit
        if block is None:
            return error
        error = await self.true_error(block, error)
        if isinstance(error, RetryError):
            block.dead = True
            if block.txn is not None:
                self.kept_age = block.txn.age
        block.failed = True
        if block is self.implicit:
            await self._drop_implicit()
        elif block.dead or not block.savepoints:
            block.dead = True
            await block.rollback()
        return error

    async def _drop_implicit(self) -> None:
        block, self.implicit = self.implicit, None
        if block is not None:
            self._end_of_implicit()
            if self.settings.values != block.start_settings:
                self.settings.values = block.start_settings
                self.settings_changed()
            await block.rollback()

    def _end_of_implicit(self) -> None:
        self.cursors.clear()
        self.end_local_settings()

    async def _commit_implicit(self) -> None:
        block, self.implicit = self.implicit, None
        if block is not None:
            self._end_of_implicit()
            await self._commit(block)
            self.kept_age = None

    def _locate(self, source: Source, error: TxndbError) -> None:
        if error.position:
            error.position = source.original_position(error.position)
        if isinstance(error, RetryError) and error.key and not error.table:
            describe_conflict(error, self.context.catalog)

    # --- planning

    def _parse(self, source: Source) -> list[ast.Statement]:
        if source.node is not None:
            return [source.node]
        try:
            statements = self.services.parsed(source.text)
            if len(statements) == 1:
                source.node = statements[0]
            return statements
        except TxndbError as error:
            self._locate(source, error)
            block = self.block
            if block is not None and not block.failed:
                block.failed = True
            raise

    # --- queries

    def context_of(self, block: Block, catalog: Catalog, params: Sequence[Any]) -> ExecContext:
        """What a statement's operators run with."""
        env = self.env
        self.context.catalog = catalog
        if self.sequences.written:
            self.sequences.written.clear()
        env.statement_time_us = now = self.services.wall_us() - EPOCH_2000_US
        if block.txn is not None:
            env.txn_time_us = physical_us(block.txn.start) - EPOCH_2000_US
        elif block.explicit:
            if not block.time_us:
                block.time_us = now
            env.txn_time_us = block.time_us
        else:
            env.txn_time_us = now
        return ExecContext(block.view, params, env, catalog, block.txn, self.refill, self.sequences.drawn)

    async def refill(self, need: NeedNumbers, count: int) -> None:
        """Give a sequence function what it lacked."""
        self.sequences.give_back()
        if isinstance(need, NeedSetval):
            await set_sequence(self.services.kv, need.sequence_id, need.raw)
            self.services.sequences.forget(need.sequence_id)
            self.sequences.written.append((need.sequence_id, need.raw))
        else:
            await self.services.sequences.refill(need.sequence_id, count)

    async def _query(self, block: Block, source: Source, params: Sequence[object]) -> Result:
        catalog = block.catalog
        if catalog is None:
            catalog = await block.current_catalog()
        try:
            found = await self.planned(catalog, source, block)
        except SqlError:
            as_of = self._as_of_expression(source)
            if as_of is None or block.explicit:
                raise
            # What it names need not exist any more (S2).
            return await self._as_of(as_of, source, params, [*params, *(v.value for v in source.literals)])
        if found.plan.as_of is not None:
            if block.explicit:
                raise FeatureNotSupportedError(
                    "AS OF SYSTEM TIME on a statement inside a transaction block",
                    hint="Begin the block with BEGIN AS OF SYSTEM TIME.",
                    position=found.plan.as_of.pos,
                )
            return await self._as_of(found.plan.as_of, source, params, self._values(found, source, params))
        if not found.read_only and block.read_only:
            alone = not block.explicit and block is not self.implicit
            if alone and found.kind == "SELECT" and not self._reads_only:
                # FOR UPDATE was not visible in the text's cached kind
                return await self.autocommit(lambda b: self._query(b, source, params))
            block.write_txn(found.kind if found.kind != "SELECT" else "SELECT FOR UPDATE")
        columns = self.promised_columns(found, source)
        if not found.read_only and (self.cursors or self.portals):
            await self.settle(block)
        x = self.context_of(block, catalog, found.parameters(self._values(found, source, params)))
        count, rows = await found.run(x)
        block.check_lease()
        return Result(_tag(found.kind, count), columns, rows)

    async def settle(self, block: Block) -> None:
        """Before `block` writes: what is half read in it goes on to show it as it was."""
        await settle_all(self.cursors)
        await settle_in(self.portals.values(), block)

    async def open_cursor(
        self, node: ast.DeclareCursor, source: Source, params: Sequence[object], block: Block
    ) -> Cursor:
        """The cursor of a DECLARE, at its start."""
        catalog = await block.current_catalog()
        inner = query_of_cursor(node, source)
        found = self.executable(catalog, inner, block)
        if found.plan.as_of is not None:
            raise sql_error(
                "0A000", "AS OF SYSTEM TIME is not supported in a cursor", position=found.plan.as_of.pos
            )
        if not found.read_only:
            block.write_txn("DECLARE CURSOR … FOR UPDATE")
        x = self.context_of(block, catalog, found.parameters(self._values(found, inner, params)))
        columns = self.columns_of(found) or ()
        return Cursor(block, found.stream(x), columns, scroll=bool(node.scroll))

    def _values(self, found: Executable, source: Source, params: Sequence[object]) -> Sequence[Any]:
        """Parameters: the client's, then the literals lifted from the text, read by the types they turned out to be."""
        if not source.literals:
            if len(params) < len(found.param_types):
                raise sql_error(
                    "08P01",
                    f"bind message supplies {len(params)} parameters, "
                    f"but the statement requires {len(found.param_types)}",
                )
            return params
        values: list[Any] = list(params)
        first = len(values)
        for i, literal in enumerate(source.literals):
            value: Any = literal.value
            if literal.kind == "unknown":
                type_ = found.param_types[first + i]
                if type_.kind != "str" or type_.typmod >= 0 or type_.oid not in (25, 1043, 705):
                    try:
                        value = types.parse_text(type_, value, self.env)
                    except TxndbError as error:
                        error.position = source.placeholder_position(i)
                        raise
            values.append(value)
        return values

    def _as_of_expression(self, source: Source) -> ast.Expr | None:
        """The statement's AS OF SYSTEM TIME, by its syntax alone."""
        node = self._node(source)
        return node.body.as_of if isinstance(node, ast.Query) and isinstance(node.body, ast.Select) else None

    async def _as_of(
        self, as_of: ast.Expr, source: Source, params: Sequence[object], values: Sequence[Any]
    ) -> Result:
        """A query AS OF SYSTEM TIME: its own snapshot in the past, bound against the catalogue of then (rule S2)."""
        at = as_of_timestamp(self.services, self.env, as_of, values)
        block = self.new_block(read_only=True, at=at)
        catalog = await block.current_catalog(past=True)
        past = self.executable(catalog, source, block)
        columns = self.promised_columns(past, source)
        x = self.context_of(block, catalog, past.parameters(self._values(past, source, params)))
        count, rows = await past.run(x)
        return Result(_tag(past.kind, count), columns, rows)

    async def run_source(self, source: Source, params: Sequence[Any], block: Block | None) -> Result:
        """A query or data change found inside another statement (EXECUTE, EXPLAIN ANALYZE)."""
        if block is not None:
            return await self._query(block, source, params)
        node = self._node(source)
        if not isinstance(node, QUERIES):
            return await self.utilities.run(self, node, source, params, None)
        if self._reads_only or (isinstance(node, ast.Query) and not node.locking):
            return await self._read(source, params)
        return await self.autocommit(lambda own: self._query(own, source, params))

    async def constants(
        self, exprs: Sequence[ast.Expr], targets: Sequence[SqlType], params: Sequence[Any]
    ) -> Sequence[Any]:
        """The values of expressions without columns, as given types (EXECUTE's arguments)."""
        make = constant_row(self.context.catalog, self.info, self.services.virtual, self.env, exprs, targets)
        self.sequences.written.clear()
        self.sequences.drawn.clear()
        try:
            return make()
        except NeedNumbers as need:
            values: Sequence[Any] = await refilled(need, make, self.refill, self.sequences.drawn)
            return values

    # --- prepared statements and portals

    async def describe(self, made: PreparedStatement) -> PreparedStatement:
        """Find a prepared statement's parameter types and result columns."""
        source = made.source
        node = self._node(source)
        block = self.block if self.block is not None else self.implicit
        if block is not None and block.failed:
            self._refuse_failed(source)
        if isinstance(node, ast.DeclareCursor):
            source = query_of_cursor(node, source)
        elif not isinstance(node, QUERIES):
            made.columns = self.utilities.columns(self, node)
            made.param_types = tuple(t for t in source.param_types if t is not None)
            made.param_oids = tuple(t.oid for t in made.param_types)
            return made
        with reading(self.services, block) as used:
            catalog = await used.current_catalog()
            try:
                found = await self.planned(catalog, source, used)
            except SqlError as error:
                found = await self._described_as_of(source, error)
            made.param_types = found.param_types
            made.param_oids = tuple(t.oid for t in found.param_types)
            made.columns = made.source.told = self.columns_of(found) if source is made.source else None
            made.source.param_types = found.param_types
            made.source.kinds = made.param_oids
            if source is made.source and found.plan.as_of is None:
                self._keep(catalog, source, used, found)  # with its types it is the same plan
        return made

    async def _described_as_of(self, source: Source, error: SqlError) -> Executable:
        """The plan of a query of the past that names what is gone now; any other raises its `error`."""
        as_of = self._as_of_expression(source)
        if not isinstance(as_of, ast.Literal):
            raise error
        at = as_of_timestamp(self.services, self.env, as_of, ())
        past = self.new_block(read_only=True, at=at)
        return self.executable(await past.current_catalog(past=True), source, past)

    def close_portal(self, name: str) -> None:
        """Forget a portal; no error if there is none."""
        portal = self.portals.pop(name, None)
        if (
            portal is not None
            and portal.block is not None
            and portal.block not in (self.block, self.implicit)
        ):
            portal.block.release()

    def end_portals(self) -> None:
        """Portals end with their transaction."""
        for name in list(self.portals):
            self.close_portal(name)
        self.cursors.clear()

    async def sync(self) -> None:
        """The end of an extended batch: commits its implicit transaction, or rolls it back if a message of the batch
        was refused (`fail`)."""
        if self.implicit is not None:
            await self.guard(self._drop_implicit() if self.implicit.failed else self._commit_implicit())
        if self.block is None:
            self.end_portals()


def query_of_cursor(node: ast.DeclareCursor, source: Source) -> Source:
    """The query of a DECLARE as a source of its own."""
    inner = Source(f"CURSOR {source.text}", node=node.query, offset=source.offset)
    inner.param_types = source.param_types
    inner.kinds = source.kinds
    inner.client_params = source.client_params
    inner.absent_params = source.absent_params
    return inner


def _tag(kind: str, count: int) -> str:
    return f"INSERT 0 {count}" if kind == "INSERT" else f"{kind} {count}"
