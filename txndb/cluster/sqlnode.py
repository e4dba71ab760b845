"""The SQL side of a node: sessions, the compiler of scan programs, and the first rows of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from txndb.cluster.membership import run
from txndb.cluster.messages import SessionMessage
from txndb.ids import NodeId
from txndb.sql.catalog.store import bootstrap_rows
from txndb.sql.exec.program import program_compiler
from txndb.txn.api import ProgramCompiler

if TYPE_CHECKING:
    from txndb.cluster.node import Node


class SqlNode:
    """What SQL needs of a node, and a node of SQL."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.compile_program: ProgramCompiler = program_compiler()

    async def start(self, *, bootstrap: bool) -> None:
        """Write the first rows of a new cluster."""
        if bootstrap:
            for key, value in bootstrap_rows():
                await run(self._node, key, lambda old, value=value: value if old is None else None)

    async def new_session(self, user: str, database: str, options: dict[str, str]) -> Any:
        """A session."""
        raise NotImplementedError

    def on_message(self, sender: NodeId, item: SessionMessage) -> None:
        """A message of the SQL layer from another node."""

    def on_time(self) -> None:
        """Called about once a second."""
