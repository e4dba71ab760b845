"""Dispatch of DDL statements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from txndb.sql.exec import ddl, ddl_alter, ddl_create
from txndb.sql.exec.ddl import DdlContext, Outcome
from txndb.sql.parse import ast

Handler = Callable[[DdlContext, Any], Awaitable[str]]

_HANDLERS: dict[type, Handler] = {
    ast.CreateTable: ddl_create.create_table,
    ast.CreateIndex: ddl_create.create_index,
    ast.CreateDatabase: ddl.create_database,
    ast.Drop: ddl.drop,
    ast.Truncate: ddl.truncate,
    ast.AlterTable: ddl_alter.alter_table,
}


async def run_ddl(context: DdlContext, node: ast.Statement) -> Outcome:
    """Run one DDL statement."""
    tag = await _HANDLERS[type(node)](context, node)
    catalog = context.catalog if context.changed else None
    return Outcome(tag, catalog, context.notices, context.garbage)
