"""A session's way from a statement's text to a compiled plan, through the node's caches.

Plans are kept under their text, the catalogue's version, the parameters' types and what of the session they depend on;
those made under own DDL belong to the transaction. A long statement is parsed, planned and compiled in turns (`turns`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from txndb.errors import sql_error
from txndb.sql import types
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.catalog.virtual import CatalogContext, SessionInfo
from txndb.sql.exec.executable import Executable
from txndb.sql.parse import ast
from txndb.sql.plan.physical import Plan
from txndb.sql.plan.planner import plan_statement
from txndb.sql.plan.scope import Statement
from txndb.sql.session.api import ColumnInfo, column_infos
from txndb.sql.session.guard import Interruptible
from txndb.sql.session.services import PLAN_TEXT_LIGHT, SqlServices
from txndb.sql.session.source import Source
from txndb.sql.session.transactions import Block
from txndb.sql.session.turns import TURN_CHARS, in_turns, parsed_in_turns


def must_fit(columns: tuple[ColumnInfo, ...] | None, told: tuple[ColumnInfo, ...] | None) -> None:
    """0A000 unless a client that was told of the ones can read the others: of the same names and types, wherever they
    come from."""
    if columns != told and [(c.name, c.type_oid, c.typmod) for c in columns or ()] != [
        (c.name, c.type_oid, c.typmod) for c in told or ()
    ]:
        raise sql_error("0A000", "cached plan must not change result type")


class Planning(Interruptible):
    """The part of a session that plans."""

    services: SqlServices
    info: SessionInfo
    env: types.EvalContext
    context: CatalogContext

    def _node(self, source: Source) -> ast.Statement:
        return (
            source.node if source.node is not None else self._one(source, self.services.parsed(source.text))
        )

    @staticmethod
    def _one(source: Source, statements: list[ast.Statement]) -> ast.Statement:
        """The only statement of a source's text."""
        if len(statements) != 1:
            if not statements:
                raise sql_error("42601", "syntax error at end of input")
            raise sql_error("42601", "cannot insert multiple commands into a prepared statement")
        source.node = statements[0]
        return source.node

    def _key(self, catalog: Catalog, source: Source) -> tuple[Any, ...]:
        return (
            source.text,
            catalog.version,
            source.kinds,
            self.info.database_id,
            self.info.search_path,
            self.info.user,
        )

    def _cached(self, block: Block, source: Source) -> Executable | None:
        return self._kept(block.catalog, source, block) if block.catalog is not None else None

    def _kept(self, catalog: Catalog, source: Source, block: Block) -> Executable | None:
        plans = block.plans if catalog.private else self.services.plans
        found: Executable | None = plans.get(self._key(catalog, source))
        return found

    def executable(self, catalog: Catalog, source: Source, block: Block) -> Executable:
        """The compiled plan of a query or data change, from the cache or made now."""
        found = self._kept(catalog, source, block)
        self.context.catalog = catalog  # also for a plan made by another session: literals may name relations
        if found is None:
            found = Executable(catalog, self._plan(catalog, source))
            self._keep(catalog, source, block, found)
        return found

    def _keep(self, catalog: Catalog, source: Source, block: Block, found: Executable) -> None:
        if catalog.private:
            block.plans[self._key(catalog, source)] = found
        else:
            length = len(source.text)
            weight = length if length > PLAN_TEXT_LIGHT else 0
            self.services.plans.put(self._key(catalog, source), found, weight)
            self.services.plans.put(source.text, found.read_only)

    def _plan(self, catalog: Catalog, source: Source) -> Plan:
        statement = Statement(catalog, self.info, self.services.virtual, list(source.param_types), self.env)
        statement.absent_params = source.absent_params
        statement.all_typed = source.client_params
        return plan_statement(statement, self._node(source))

    def columns_of(self, found: Executable) -> tuple[ColumnInfo, ...] | None:
        """The result's description, made once per plan."""
        infos: tuple[ColumnInfo, ...] | None = found.infos
        if infos is None and found.output is not None:
            infos = found.infos = column_infos(found.output)
        return infos

    def promised_columns(self, found: Executable, source: Source) -> tuple[ColumnInfo, ...] | None:
        """The result's description as the client has it. 0A000 where the table has changed since it was told: asked
        before the statement runs, so that the client can prepare and run it again."""
        columns, told = self.columns_of(found), source.told
        if told is None or told is columns:
            return columns
        must_fit(columns, told)
        return told

    async def planned(self, catalog: Catalog, source: Source, block: Block) -> Executable:
        """`executable`, in turns between which a long statement lets others run."""
        found = None
        if len(source.text) > TURN_CHARS:
            found = self._kept(catalog, source, block)
            if found is None:
                if source.node is None:
                    self._one(source, await parsed_in_turns(source.text))
                self.context.catalog = catalog
                plan = self._plan(catalog, source)
                await asyncio.sleep(0)
                found = Executable(catalog, plan)
                await in_turns(found.finish())
                self._keep(catalog, source, block, found)
            self.context.catalog = catalog
        return found if found is not None else self.executable(catalog, source, block)
