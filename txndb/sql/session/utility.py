"""Statements that are not planned: transaction control, settings, DDL, prepared statements, COPY, EXPLAIN, SHOW."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from txndb.errors import FeatureNotSupportedError, InternalError, RetryError, TxndbError, sql_error, words_of
from txndb.sql.catalog.names import quote_identifier
from txndb.sql.exec import ddl
from txndb.sql.exec.ddl_run import run_ddl
from txndb.sql.parse import ast
from txndb.sql.parse.keywords import words
from txndb.sql.plan.coerce import resolve_type_name
from txndb.sql.plan.explain import explain
from txndb.sql.session import cursors, portals
from txndb.sql.session.api import ColumnInfo, Result
from txndb.sql.session.asof import as_of_timestamp
from txndb.sql.session.copy import start_copy
from txndb.sql.session.core import SessionCore
from txndb.sql.session.portals import PreparedStatement
from txndb.sql.session.settings import display_name
from txndb.sql.session.source import Source
from txndb.sql.session.transactions import Block, reading

Handler = Callable[[SessionCore, Any, Source, Sequence[object], Block | None], Awaitable[Result]]
_TEXT = 25
_INT8 = 20


def _text_columns(*names: str) -> tuple[ColumnInfo, ...]:
    return tuple(ColumnInfo(name, _TEXT) for name in names)


class UtilityStatements:
    """Runs them."""

    async def run(
        self,
        session: SessionCore,
        node: ast.Statement,
        source: Source,
        params: Sequence[object],
        block: Block | None,
    ) -> Result:
        """Run one; `block` is the open transaction, if any."""
        handler = _HANDLERS.get(type(node))
        if handler is None:
            raise FeatureNotSupportedError(f"{words_of(node)} is not supported yet", position=node.pos)
        writing = isinstance(node, _WRITING) and not (isinstance(node, ast.Copy) and node.direction == "TO")
        if writing and block is None and session.settings.values.get("default_transaction_read_only") == "on":
            what = _WORDS.get(type(node), "COPY FROM")
            raise sql_error("25006", f"cannot execute {what} in a read-only transaction")
        if block is not None and (what := _runs_alone(node)):
            raise sql_error("25001", f"{what} cannot run inside a transaction block")
        if writing and block is not None:
            await session.settle(block)
        try:
            return await handler(session, node, source, params, block)
        except TxndbError as error:
            if error.code in _UNLOCATED.get(type(node), ()) and not getattr(node, "query", None):
                error.position = 0  # PostgreSQL gives none here
            if isinstance(node, ast.SetParameter) and error.code == "0A000":
                error.position = node.pos
            raise

    def columns(self, session: SessionCore, node: ast.Statement) -> tuple[ColumnInfo, ...] | None:
        """The result columns of a statement that is not planned, for Describe."""
        match node:
            case ast.ShowParameter(name="all"):
                return _text_columns("name", "setting", "description")
            case ast.ShowParameter():
                return _text_columns(display_name(node.name))
            case ast.Explain():
                return _text_columns("QUERY PLAN")
            case ast.ShowRanges():
                return _RANGES_COLUMNS
            case ast.ShowObjects():
                return _objects_columns(node)
            case ast.Execute():
                found = session.sql_prepared.get(node.name) or session.prepared.get(node.name)
                return found.columns if found is not None else None
            case ast.FetchCursor():
                cursor = session.cursors.get(node.name)
                return cursor.columns if cursor is not None and not node.move else None
        return None


# --- transaction control


def _mode_block(session: SessionCore, modes: ast.TransactionModes, params: Sequence[object]) -> Block:
    read_only = modes.read_only
    if read_only is None:
        read_only = session.settings.get("default_transaction_read_only") == "on"
    at = None
    if modes.as_of is not None:
        at = as_of_timestamp(session.services, session.env, modes.as_of, params)
        read_only = True
    age, session.kept_age = session.kept_age, None
    return session.new_block(
        explicit=True,
        read_only=read_only,
        age=None if read_only else age,
        at=at,
    )


async def _begin(
    session: SessionCore, node: ast.Begin, _s: Source, params: Any, block: Block | None
) -> Result:
    tag = "START TRANSACTION" if node.start else "BEGIN"
    if block is not None and block is session.block:
        session.notice("WARNING", "25001", "there is already a transaction in progress")
        return Result(tag)
    if block is not None:
        block.explicit = True
        session.block, session.implicit = block, None
        return Result(tag)
    session.block = _mode_block(session, node.modes, params)
    await _bind_past(session.block)
    return Result(tag)


async def _bind_past(block: Block) -> None:
    """A transaction of the past is bound against the catalogue of then, from its first statement on (rule S2)."""
    if block.snapshot is not None and block.snapshot.timestamp is not None:
        await block.current_catalog(past=True)


def _end(session: SessionCore, *, keep_settings: bool) -> Block:
    block = session.block
    if block is None:
        raise InternalError("no transaction block to end")
    session.end_portals()  # while it is the session's block: a portal gives back the lease of any other, not this one's
    session.block = None
    if not keep_settings:
        session.settings.values = dict(block.start_settings)
    session.end_local_settings()
    if not keep_settings:
        session.settings_changed()
    return block


async def _commit(session: SessionCore, node: ast.Commit, _s: Source, _p: Any, block: Block | None) -> Result:
    _take_implicit(session, "COMMIT", node.chain)
    if session.block is None:
        return Result("COMMIT")
    failed, read_only = session.block.failed, session.block.read_only
    ended = _end(session, keep_settings=not failed)
    if failed:
        await ended.rollback()
        _chain(session, node.chain, read_only)
        return Result("ROLLBACK")
    try:
        await session._commit(ended)
    except RetryError:
        if ended.txn is not None:
            session.kept_age = ended.txn.age
        raise
    _chain(session, node.chain, read_only)
    return Result("COMMIT")


def _take_implicit(session: SessionCore, what: str, chain: bool) -> None:
    """Without a block it is the implicit transaction, if any, that ends, with a warning."""
    if session.block is not None:
        return
    if chain:
        raise sql_error("25P01", f"{what} AND CHAIN can only be used in transaction blocks")
    session.notice("WARNING", "25P01", "there is no transaction in progress")
    session.block, session.implicit = session.implicit, None


def _chain(session: SessionCore, chain: bool, read_only: bool) -> None:
    """AND CHAIN: the next transaction begins at once, with the modes of the last."""
    if chain:
        session.block = session.new_block(explicit=True, read_only=read_only)


async def _rollback(
    session: SessionCore, node: ast.Rollback, _s: Source, _p: Any, block: Block | None
) -> Result:
    _take_implicit(session, "ROLLBACK", node.chain)
    if session.block is None:
        return Result("ROLLBACK")
    read_only = session.block.read_only
    ended = _end(session, keep_settings=False)
    await ended.rollback()
    _chain(session, node.chain, read_only)
    return Result("ROLLBACK")


def _in_block(block: Block | None, session: SessionCore, what: str) -> Block:
    if block is None or session.block is None:
        raise sql_error("25P01", f"{what} can only be used in transaction blocks")
    return block


async def _savepoint(
    session: SessionCore, node: ast.Savepoint, _s: Source, _p: Any, block: Block | None
) -> Result:
    _in_block(block, session, "SAVEPOINT").savepoint(node.name, session.settings.values)
    return Result("SAVEPOINT")


async def _release(
    session: SessionCore, node: ast.Release, _s: Source, _p: Any, block: Block | None
) -> Result:
    found = _in_block(block, session, "RELEASE SAVEPOINT")
    found.release_savepoint(node.name)
    cursors.keep_released(session.cursors, len(found.savepoints))
    portals.keep_released(session.portals.values(), len(found.savepoints))
    return Result("RELEASE")


async def _rollback_to(
    session: SessionCore, node: ast.RollbackTo, _s: Source, _p: Any, block: Block | None
) -> Result:
    found = _in_block(block, session, "ROLLBACK TO SAVEPOINT")
    session.settings.values = dict(found.rollback_to(node.name))
    session.settings_changed()
    await cursors.drop_after(session.cursors, len(found.savepoints) - 1)
    await portals.drop_after(session.portals, len(found.savepoints) - 1)
    return Result("ROLLBACK")


async def _set_transaction(
    session: SessionCore, node: ast.SetTransaction, _s: Source, params: Any, block: Block | None
) -> Result:
    modes = node.modes
    if node.session:
        if modes.read_only is not None:
            session.settings.set("default_transaction_read_only", "on" if modes.read_only else "off")
            session.settings_changed()
        return Result("SET")
    if session.block is None:
        session.notice("WARNING", "25P01", "SET TRANSACTION can only be used in transaction blocks")
        return Result("SET")
    _must_keep_isolation(session.block, modes)
    await _set_access_mode(session, session.block, modes, params)
    return Result("SET")


def _must_keep_isolation(block: Block, modes: ast.TransactionModes) -> None:
    """25001 where PostgreSQL refuses another level; each is served as SERIALIZABLE, as SHOW says."""
    if modes.isolation is None or modes.isolation == "serializable":
        return
    if block.started:
        raise sql_error("25001", "SET TRANSACTION ISOLATION LEVEL must be called before any query")
    if block.savepoints:
        raise sql_error("25001", "SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction")


async def _set_access_mode(
    session: SessionCore, block: Block, modes: ast.TransactionModes, params: Sequence[object]
) -> None:
    """READ ONLY, READ WRITE or AS OF. A transaction in which something ran, or that has savepoints, is never replaced:
    that would undo what the client was told of."""
    if modes.as_of is None and modes.read_only in (None, block.read_only):
        return
    if not block.started and not block.savepoints:
        session.block = _mode_block(session, modes, params)
        session.block.start_settings = block.start_settings
        session.block.seen_s = block.seen_s
        await block.rollback()
        await _bind_past(session.block)
    elif modes.as_of is not None:
        raise sql_error("25001", "AS OF SYSTEM TIME must be set before any query")
    elif modes.read_only:
        block.writes_refused = True  # which PostgreSQL allows at any time
    elif block.savepoints:
        raise sql_error("25001", "cannot set transaction read-write mode inside a read-only transaction")
    else:
        raise sql_error("25001", "transaction read-write mode must be set before any query")


# --- settings


async def _set(
    session: SessionCore, node: ast.SetParameter, _s: Source, _p: Any, block: Block | None
) -> Result:
    name = node.name
    value = _set_value(node)
    if node.local:
        if session.block is None:
            if session.implicit is None:
                session.notice("WARNING", "25P01", "SET LOCAL can only be used in transaction blocks")
                return Result("SET")
        session.local_settings.setdefault(name, session.settings.values.get(name))
    else:
        session.local_settings.pop(name, None)
    if name in ("transaction_read_only", "transaction_isolation", "transaction_deferrable"):
        session.settings.check(name, value or "")
        return Result("SET")
    session.settings.set(name, value)
    session.settings_changed()
    return Result("SET")


def _set_value(node: ast.SetParameter) -> str | None:
    if not node.values:
        return None
    if node.name == "search_path":
        return ", ".join(quote_identifier(v) for v in node.values)
    return ", ".join(node.values)


async def _reset(session: SessionCore, node: ast.ResetParameter, _s: Source, _p: Any, _b: Any) -> Result:
    if node.name is None:
        session.settings.reset_all()
    else:
        session.settings.set(node.name, None)
    session.settings_changed()
    return Result("RESET")


async def _show(
    session: SessionCore, node: ast.ShowParameter, _s: Source, _p: Any, block: Block | None
) -> Result:
    if node.name == "all":
        rows: list[tuple[Any, ...]] = [(n, v, "") for n, v in session.settings.all()]
        return Result("SHOW", _text_columns("name", "setting", "description"), rows)
    value = session.settings.show(node.name)
    if node.name == "transaction_read_only" and block is not None:
        value = "on" if block.read_only else "off"
    if node.name == "session_authorization":
        value = session.info.user
    if node.name == "server_version":
        value = session.services.server_version
    return Result("SHOW", _text_columns(display_name(node.name)), [(value,)])


# --- DDL


async def _ddl(
    session: SessionCore, node: ast.Statement, source: Source, _p: Any, block: Block | None
) -> Result:
    if block is not None:
        return await _ddl_in(session, node, source, block)
    # An older user of the catalogue wounds it with each renewal of its lease: all of that is one wait for a lock.
    wait_us = session.waits.lock_us or session.services.kv.limits.lock_wait_us
    return await session.autocommit(lambda own: _ddl_in(session, node, source, own), lock_wait_us=wait_us)


async def _ddl_in(session: SessionCore, node: ast.Statement, source: Source, block: Block) -> Result:
    txn = block.write_txn(_WORDS.get(type(node), "DDL"))
    catalog = await block.current_catalog()
    x = session.context_of(block, catalog, ())
    context = ddl.DdlContext(session.services.kv, txn, x, session.info, session.services.virtual, session.env)
    outcome = await run_ddl(context, node)
    for severity, code, message in outcome.notices:
        session.notice(severity, code, message)
    if outcome.catalog is not None:
        block.set_catalog(outcome.catalog)
        block.garbage += outcome.garbage
    return Result(outcome.tag)


_WORDS: dict[type, str] = {
    ast.CreateTable: "CREATE TABLE",
    ast.CreateIndex: "CREATE INDEX",
    ast.Drop: "DROP",
    ast.AlterTable: "ALTER TABLE",
    ast.Truncate: "TRUNCATE TABLE",
    ast.CreateDatabase: "CREATE DATABASE",
}


async def _alter(
    session: SessionCore, node: ast.AlterTable, source: Source, p: Any, block: Block | None
) -> Result:
    splits = [a for a in node.actions if isinstance(a, ast.SplitAt)]
    if not splits:
        return await _ddl(session, node, source, p, block)
    if len(splits) != len(node.actions):
        raise FeatureNotSupportedError("SPLIT AT cannot be combined with other actions", position=node.pos)
    with reading(session.services, block) as used:
        catalog = await used.current_catalog()
        x = session.context_of(used, catalog, p)
        keys = ddl.split_keys(catalog, session.info, session.services.virtual, node, x)
    for key in keys:
        await session.services.admin.split(key)
    return Result("ALTER TABLE" if node.kind == "TABLE" else "ALTER INDEX")


async def _vacuum(session: SessionCore, node: Any, _s: Source, _p: Any, block: Block | None) -> Result:
    vacuum = isinstance(node, ast.Vacuum)
    with reading(session.services, block) as used:
        catalog = await used.current_catalog()
        _check_options("VACUUM" if vacuum else "ANALYZE", node.options, _VACUUM_OPTIONS)
        for target in node.targets:
            table = ddl.find_table(catalog, session.info, target.table)
            for name in target.columns:
                if table.column(name) is None:
                    raise sql_error("42703", f'column "{name}" of relation "{table.name}" does not exist')
    if vacuum and block is None:
        await ddl.collect_garbage(session.services.kv)
    return Result("VACUUM" if vacuum else "ANALYZE")


# --- EXPLAIN and SHOW


_EXPLAIN_OPTIONS = words("analyze verbose costs settings buffers wal timing summary format")
_VACUUM_OPTIONS = words(
    """full freeze verbose analyze disable_page_skipping skip_locked index_cleanup process_toast truncate parallel
    buffer_usage_limit"""
)


def _check_options(what: str, options: Sequence[ast.UtilityOption], known: frozenset[str]) -> None:
    for option in options:
        if option.name not in known:
            raise sql_error("42601", f'unrecognized {what} option "{option.name}"', position=option.pos)


async def _explain(
    session: SessionCore, node: ast.Explain, source: Source, params: Any, block: Block | None
) -> Result:
    inner = node.statement
    if not isinstance(inner, ast.Query | ast.Insert | ast.Update | ast.Delete):
        raise FeatureNotSupportedError("EXPLAIN of this statement is not supported", position=inner.pos)
    _check_options("EXPLAIN", node.options, _EXPLAIN_OPTIONS)
    options = {o.name: (o.value or "on").lower() for o in node.options}
    if options.get("format", "text") not in ("text", "xml", "json", "yaml"):
        raise sql_error(
            "22023",
            f'unrecognized value for EXPLAIN option "format": "{options["format"]}"',
            position=next(o.pos for o in node.options if o.name == "format"),
        )
    if options.get("format", "text") != "text":
        raise FeatureNotSupportedError(
            f"EXPLAIN (FORMAT {options['format']}) is not supported", position=node.pos
        )
    wrapped = Source(f"EXPLAINED {source.text}", node=inner)
    wrapped.param_types = source.param_types
    with reading(session.services, block) as used:
        catalog = await used.current_catalog()
        found = session.executable(catalog, wrapped, used)
    lines = explain(found.plan)
    if node.analyze or options.get("analyze") in ("on", "true"):
        run = Source(f"EXPLAINED {source.text}", node=inner)
        run.param_types = source.param_types
        before = session.services.wall_us()
        result = await session.run_source(run, params, block)
        spent_us = session.services.wall_us() - before
        lines = [*lines, f"Rows: {result.tag.split()[-1]}", f"Execution Time: {spent_us / 1000:.3f} ms"]
    return Result("EXPLAIN", _text_columns("QUERY PLAN"), [(line,) for line in lines])


_RANGES_COLUMNS = (
    ColumnInfo("range_id", _INT8),
    ColumnInfo("start_key", _TEXT),
    ColumnInfo("end_key", _TEXT),
    ColumnInfo("leaseholder", _INT8),
    ColumnInfo("replicas", _TEXT),
)


async def _show_ranges(
    session: SessionCore, node: ast.ShowRanges, _s: Source, _p: Any, block: Block | None
) -> Result:
    with reading(session.services, block) as used:
        catalog = await used.current_catalog()
    table, start, end = ddl.span_of(catalog, session.info, node.name, node.kind)
    rows: list[tuple[Any, ...]] = []
    for range_id, low, high, leader, replicas in await session.services.admin.ranges(start, end):
        names = "{" + ",".join(str(r) for r in replicas) + "}"
        rows.append(
            (range_id, ddl.key_text(catalog, table, low), ddl.key_text(catalog, table, high), leader, names)
        )
    return Result(f"SHOW {len(rows)}", _RANGES_COLUMNS, rows)


def _objects_columns(node: ast.ShowObjects) -> tuple[ColumnInfo, ...]:
    names = {
        "TABLES": ("schema_name", "table_name", "type"),
        "DATABASES": ("database_name",),
        "SCHEMAS": ("schema_name",),
        "COLUMNS": ("column_name", "data_type", "is_nullable", "column_default"),
        "INDEXES": ("table_name", "index_name", "columns", "unique"),
    }[node.kind]
    return _text_columns(*names)


async def _show_objects(
    session: SessionCore, node: ast.ShowObjects, _s: Source, _p: Any, block: Block | None
) -> Result:
    with reading(session.services, block) as used:
        catalog = await used.current_catalog()
    rows = ddl.object_rows(catalog, session.info, node)
    return Result(f"SHOW {len(rows)}", _objects_columns(node), rows)


# --- prepared statements


async def _prepare(
    session: SessionCore, node: ast.Prepare, source: Source, _p: Any, block: Block | None
) -> Result:
    if node.name in session.sql_prepared:
        raise sql_error("42P05", f'prepared statement "{node.name}" already exists')
    given = tuple(resolve_type_name(None, t) for t in node.types)  # type: ignore[arg-type]
    inner = Source(f"PREPARED {source.text}", node=node.statement)
    inner.param_types = given
    inner.kinds = tuple(t.oid for t in given)
    inner.client_params = True
    session.sql_prepared[node.name] = await session.describe(PreparedStatement(node.name, inner))
    return Result("PREPARE")


async def _execute(
    session: SessionCore, node: ast.Execute, source: Source, params: Any, block: Block | None
) -> Result:
    found = session.sql_prepared.get(node.name) or session.prepared.get(node.name)
    if found is None:
        raise sql_error("26000", f'prepared statement "{node.name}" does not exist')
    if found.param_types and len(node.args) != len(found.param_types):  # without parameters any are ignored
        raise sql_error(
            "42601",
            f'wrong number of parameters for prepared statement "{node.name}"',
            detail=f"Expected {len(found.param_types)} parameters but got {len(node.args)}.",
        )
    values = await session.constants(node.args if found.param_types else (), found.param_types, params)
    return await session.run_source(found.source, values, block)


async def _deallocate(session: SessionCore, node: ast.Deallocate, _s: Source, _p: Any, _b: Any) -> Result:
    if node.name is None:
        session.sql_prepared.clear()
        session.prepared.clear()
        return Result("DEALLOCATE ALL")
    if session.sql_prepared.pop(node.name, None) is None and session.prepared.pop(node.name, None) is None:
        raise sql_error("26000", f'prepared statement "{node.name}" does not exist')
    return Result("DEALLOCATE")


# --- cursors


async def _declare(
    session: SessionCore, node: ast.DeclareCursor, source: Source, params: Any, block: Block | None
) -> Result:
    cursors.must_be_supported(node)
    if block is None:
        raise sql_error("25P01", "DECLARE CURSOR can only be used in transaction blocks")
    made = await session.open_cursor(node, source, params, block)
    if node.name in session.cursors or node.name in session.portals:
        raise sql_error("42P03", f'cursor "{node.name}" already exists')
    session.cursors[node.name] = made
    return Result("DECLARE CURSOR")


async def _fetch(session: SessionCore, node: ast.FetchCursor, _s: Source, _p: Any, _b: Any) -> Result:
    return await cursors.run_fetch(session.cursors, node)


async def _close(session: SessionCore, node: ast.CloseCursor, _s: Source, _p: Any, _b: Any) -> Result:
    if node.name is not None:
        await cursors.close(session.cursors, node.name)
        return Result("CLOSE CURSOR")
    for name in list(session.cursors):
        await cursors.close(session.cursors, name)
    return Result("CLOSE CURSOR ALL")


async def _discard(
    session: SessionCore, node: ast.Discard, _s: Source, _p: Any, block: Block | None
) -> Result:
    if node.target == "ALL":
        session.sql_prepared.clear()
        session.prepared.clear()
        session.end_portals()
        session.settings.reset_all()
        session.settings_changed()
    if node.target in ("ALL", "SEQUENCES"):
        session.sequences.reset()
    return Result(f"DISCARD {node.target}")


async def _copy(
    session: SessionCore, node: ast.Copy, source: Source, params: Any, block: Block | None
) -> Result:
    return await start_copy(session, node, block)


def _runs_alone(node: ast.Statement) -> str:
    """The words for what runs on its own only, outside a block; "" for all else."""
    match node:
        case ast.Vacuum():
            return "VACUUM"
        case ast.CreateDatabase():
            return "CREATE DATABASE"
        case ast.Drop(kind="DATABASE"):
            return "DROP DATABASE"
        case ast.CreateIndex(concurrently=True):
            return "CREATE INDEX CONCURRENTLY"
        case ast.Discard(target="ALL"):
            return "DISCARD ALL"
    return ""


def stands_apart(node: ast.Statement) -> bool:
    """Whether a batch that begins with it has no transaction yet: it controls them, needs a block, or runs alone."""
    return isinstance(node, _CONTROL) or bool(_runs_alone(node))


_HANDLERS: dict[type, Handler] = {
    ast.Begin: _begin,
    ast.Commit: _commit,
    ast.Rollback: _rollback,
    ast.Savepoint: _savepoint,
    ast.Release: _release,
    ast.RollbackTo: _rollback_to,
    ast.SetTransaction: _set_transaction,
    ast.SetParameter: _set,
    ast.ResetParameter: _reset,
    ast.ShowParameter: _show,
    ast.CreateTable: _ddl,
    ast.CreateIndex: _ddl,
    ast.Drop: _ddl,
    ast.CreateDatabase: _ddl,
    ast.Truncate: _ddl,
    ast.AlterTable: _alter,
    ast.Vacuum: _vacuum,
    ast.Analyze: _vacuum,
    ast.Explain: _explain,
    ast.ShowRanges: _show_ranges,
    ast.ShowObjects: _show_objects,
    ast.Prepare: _prepare,
    ast.Execute: _execute,
    ast.Deallocate: _deallocate,
    ast.Discard: _discard,
    ast.Copy: _copy,
    ast.DeclareCursor: _declare,
    ast.FetchCursor: _fetch,
    ast.CloseCursor: _close,
}
_CONTROL = (
    ast.Begin,
    ast.Commit,
    ast.Rollback,
    ast.Savepoint,
    ast.Release,
    ast.RollbackTo,
    ast.SetTransaction,
    ast.DeclareCursor,
)
_WRITING = (ast.CreateTable, ast.CreateIndex, ast.Drop, ast.Truncate, ast.AlterTable, ast.Copy)
"""What may write in the open transaction: its cursors and portals show it as it was."""
_NAMES = frozenset(("42P01", "42809", "42501", "42703", "42701", "3F000"))
_UNLOCATED: dict[type, frozenset[str]] = {
    ast.CreateTable: frozenset(("42501",)),
    ast.CreateIndex: _NAMES,
    ast.Drop: _NAMES,
    ast.Truncate: _NAMES,
    ast.Vacuum: _NAMES,
    ast.Analyze: _NAMES,
    ast.Copy: _NAMES,
    ast.AlterTable: _NAMES | {"42P16"},
}
"""Errors without a position, by the statement they are of."""
