"""The SQL side of a node: sessions, the compiler of scan programs, administration, and the first rows of a cluster."""

from __future__ import annotations

import asyncio

from txndb.cluster.catalogleases import NodeLeases
from txndb.cluster.host import NodeHost
from txndb.cluster.messages import SessionMessage
from txndb.errors import RetryError, SnapshotTooOldError, UnavailableError
from txndb.ids import NodeId
from txndb.ranges import api
from txndb.ranges.descriptor import node_of
from txndb.sql.catalog.pgcatalog import system_schemas
from txndb.sql.catalog.store import VERSION_KEY, bootstrap_rows
from txndb.sql.exec.ddl import collect_garbage
from txndb.sql.exec.program import program_compiler
from txndb.sql.session.services import RangeRow, SqlServices
from txndb.sql.session.session import Session, open_session
from txndb.txn.api import Lock, ProgramCompiler

CHANCE_BITS = 53
GARBAGE_CHUNKS_MAX = 20
READ_ANEW_S = 0.05


class SqlNode:
    """What SQL needs of a node, and a node of SQL (the `Admin` of its sessions)."""

    def __init__(self, node: NodeHost) -> None:
        self._node = node
        self._collecting = False
        self.compile_program: ProgramCompiler = program_compiler()
        rand, time = node.body.rand, node.body.time
        self.leases = NodeLeases(node)
        self.services = SqlServices(
            node,
            self.leases,
            wall_us=time.wall_us,
            random=lambda: rand.randrange(1 << CHANCE_BITS) / (1 << CHANCE_BITS),
            random_bytes=lambda count: bytes(rand.randrange(256) for _ in range(count)),
            admin=self,
            virtual=system_schemas(),
            settings=node.options.settings,
        )

    async def start(self) -> None:
        """Write the first rows of a cluster that has none: a new one, or one whose first start was cut short."""
        version = await self._catalogue_version()
        while version is None:
            txn = self._node.begin()
            try:
                (version,) = await txn.get([VERSION_KEY], Lock.EXCLUSIVE)
                if version is None:
                    for key, value in bootstrap_rows():
                        txn.put(key, value)
                    await txn.commit()
                    return
                await txn.rollback()
            except RetryError:
                await txn.rollback()
            except BaseException:
                await txn.rollback()
                raise

    async def _catalogue_version(self) -> bytes | None:
        while True:
            try:
                (version,) = await self._node.snapshot().get([VERSION_KEY])
                return version
            except SnapshotTooOldError:
                # It waited for a leaseholder for longer than versions are kept, or this clock was set back: read anew.
                await asyncio.sleep(READ_ANEW_S)

    async def new_session(self, user: str, database: str, options: dict[str, str]) -> Session:
        """A session. Raises 28000 for an unknown role, 3D000 for an unknown database."""
        return await open_session(self.services, user, database, options)

    async def split(self, key: bytes) -> None:
        """Make `key` the start of a range."""
        await self._node.upkeep.split(key)

    async def ranges(self, start: bytes, end: bytes) -> list[RangeRow]:
        """The ranges that overlap [start, end), in key order, as their leaseholders describe them."""
        rows: list[RangeRow] = []
        sender = self._node.sender
        key = start
        while key < end:
            response = await sender.send(key, api.Describe(key), sender.deadline_us())
            if isinstance(response, api.Description):
                found = response.descriptor
                rows.append(
                    (
                        found.range_id,
                        found.start,
                        found.end,
                        node_of(response.leaseholder),
                        list(found.nodes()),
                    )
                )
                key = found.end
        return rows

    def on_message(self, sender: NodeId, item: SessionMessage) -> None:
        """A message of the SQL layer from another node."""
        self.leases.on_message(sender, item.payload)

    async def collect_garbage(self) -> None:
        """Delete some of what dropped tables left behind; called now and then where range 1 is led."""
        if self._collecting:
            return
        self._collecting = True
        try:
            await collect_garbage(self._node, GARBAGE_CHUNKS_MAX)
        except (RetryError, UnavailableError) as error:
            self._node.body.event(f"collecting dropped tables waits: {error.message}")
        finally:
            self._collecting = False

    def on_time(self) -> None:
        """Called about once a second."""
        self.leases.on_time()
