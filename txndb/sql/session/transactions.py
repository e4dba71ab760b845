"""A session's transaction: what is open, its catalogue, its savepoints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from txndb.errors import InternalError, LockTimeoutError, OutcomeUnknownError, RetryError, sql_error
from txndb.ids import Timestamp
from txndb.sql.catalog.leases import Age, CatalogLease
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.session.services import SqlServices
from txndb.txn.api import ReadView, Snapshot, Txn


class SavepointMark:
    """One SAVEPOINT: the write buffer's mark and what else it takes back."""

    __slots__ = ("catalog", "garbage", "mark", "name", "settings", "writes_refused")

    def __init__(self, name: str, mark: int, block: Block, settings: dict[str, str]) -> None:
        self.name = name
        self.mark = mark
        self.catalog = block.catalog
        self.garbage = len(block.garbage)
        self.writes_refused = block.writes_refused
        self.settings = settings


class Block:
    """One open transaction, explicit or implicit. Read-only ones have a snapshot, others a `Txn`.

    Invariants:
    1. All statements use the catalogue of one lease, own DDL excepted (rule K6).
    2. Once `dead` (a lock was lost) nothing but ROLLBACK is answered without 40001 or 25P02 (rule K7).
    """

    __slots__ = (
        "catalog",
        "dead",
        "explicit",
        "failed",
        "garbage",
        "lease",
        "lock_wait_us",
        "own_ddl",
        "plans",
        "savepoints",
        "seen_s",
        "services",
        "snapshot",
        "start_settings",
        "time_us",
        "txn",
        "view",
        "writes_refused",
    )

    def __init__(
        self,
        services: SqlServices,
        *,
        explicit: bool,
        read_only: bool = False,
        age: Age | None = None,
        at: Timestamp | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.services = services
        self.explicit = explicit
        self.failed = False
        self.dead = False
        self.writes_refused = False
        """It was made read-only when it had a `txn` already: what was written before is committed."""
        self.lease: CatalogLease | None = None
        self.catalog: Catalog | None = None
        self.own_ddl = False
        self.plans: dict[Any, Any] = {}
        """Plans made under own DDL."""
        self.savepoints: list[SavepointMark] = []
        self.garbage: list[tuple[int, int]] = []
        """Indexes whose data own DDL left without a descriptor."""
        self.start_settings = dict(settings) if settings is not None else {}
        self.txn: Txn | None = None
        self.snapshot: Snapshot | None = None
        self.time_us = 0
        self.seen_s = 0.0
        """When a timeout of the transaction first asked for its age, by the loop's clock."""
        self.lock_wait_us = 0
        if read_only:
            self.snapshot = services.kv.snapshot(at)
            self.view: ReadView = self.snapshot
        else:
            self.txn = services.kv.begin(age)
            self.view = self.txn

    def limit_waits(self, lock_wait_us: int) -> None:
        """A wait for a lock is over after this long; 0: the node's own bound."""
        self.lock_wait_us = lock_wait_us
        if self.txn is not None:
            self.txn.lock_wait_us = lock_wait_us or self.services.kv.limits.lock_wait_us

    @property
    def is_sealed(self) -> bool:
        """Whether what decides its commit was sent (rule M7)."""
        return self.txn is not None and self.txn.sealed

    @property
    def read_only(self) -> bool:
        """Whether it cannot write."""
        return self.txn is None or self.writes_refused

    @property
    def started(self) -> bool:
        """Whether anything was bound in it. Whatever reads or writes, by whichever way it comes, begins with the
        catalogue, so that nothing has to remember to say that it ran."""
        return self.catalog is not None

    def write_txn(self, what: str) -> Txn:
        """The transaction to write through; 25006 if it is read-only."""
        if self.txn is None or self.writes_refused:
            raise sql_error("25006", f"cannot execute {what} in a read-only transaction")
        return self.txn

    async def current_catalog(self, *, past: bool = False) -> Catalog:
        """The catalogue to bind against: the lease's, or the private one after own DDL."""
        if self.catalog is None:
            leases = self.services.leases
            age = self.txn.age if self.txn is not None else None
            if past:
                lease = await leases.acquire_at(self.view)
            else:
                held = leases.cached(age)
                lease = held if held is not None else await self._acquire(age)
            self.lease = lease
            self.catalog = lease.catalog
        return self.catalog

    async def _acquire(self, age: Age | None) -> CatalogLease:
        """A lease, waiting for the end of DDL that commits: a wait for a lock like any other."""
        try:
            async with asyncio.timeout(self.lock_wait_us / 1e6 if self.lock_wait_us else None):
                return await self.services.leases.acquire(age, self.view)
        except TimeoutError:
            raise LockTimeoutError(detail="It waited for the catalogue, which is being changed.") from None

    def check_lease(self) -> None:
        """Before anything read is shown: a snapshot's timestamp must lie within its lease (rules D1, S2)."""
        if self.lease is None:
            return
        if self.snapshot is None:
            self.check_not_ended()
            return
        at = self.snapshot.timestamp
        if at is None:
            return
        if not self.lease.not_before <= at <= self.lease.not_after:
            raise RetryError("the catalogue changed while the statement ran")
        self.lease.note_use(at)

    def check_not_ended(self) -> None:
        """Raise `RetryError` if no timestamp that the lease allows is left: it cannot commit, and what it read may be
        of a later catalogue, or gone with the old one (D1, K4). By its clock, and by what it read: a clock may be
        behind by more than E, but what is gone went above the lease's end (T5, D4)."""
        if self.lease is None:
            return
        newest = self.txn.newest if self.txn is not None else Timestamp(0)
        if not self.lease.is_usable() or newest >= self.lease.not_after:
            raise RetryError(
                "the transaction outlived its catalogue lease", hint="Replay the whole transaction."
            )

    def release(self) -> None:
        """Give the lease back."""
        if self.lease is not None:
            self.services.leases.release(
                self.lease, Timestamp(0)
            )  # `check_lease` noted a snapshot's timestamp
            self.lease = None

    async def commit(self) -> None:
        """Commit; DDL revokes the leases first, as its last step (rule D2)."""
        try:
            if self.txn is not None:
                if self.lease is not None:
                    # Late, for a renewal may have moved the end (rule D3).
                    self.txn.limit_commit(self.lease.not_before, self.lease.not_after)
                if self.own_ddl and self.lease is not None:
                    await self.services.leases.revoke(self.txn, self.lease)
                await self.txn.commit()
        except OutcomeUnknownError:
            if self.lease is not None:
                self.lease.note_use(self.lease.not_after)  # it may yet commit, up to there (D4)
            raise
        except BaseException:
            if self.txn is not None:
                await self.txn.rollback()  # what failed before the commit itself left its locks
            raise
        finally:
            self.release()

    async def rollback(self) -> None:
        """Drop it."""
        try:
            if self.txn is not None:
                await self.txn.rollback()
        finally:
            self.release()

    # --- savepoints

    def savepoint(self, name: str, settings: dict[str, str]) -> None:
        """SAVEPOINT."""
        mark = self.txn.savepoint() if self.txn is not None else 0
        self.savepoints.append(SavepointMark(name, mark, self, dict(settings)))

    def _find(self, name: str) -> int:
        for i in range(len(self.savepoints) - 1, -1, -1):
            if self.savepoints[i].name == name:
                return i
        raise sql_error("3B001", f'savepoint "{name}" does not exist')

    def release_savepoint(self, name: str) -> None:
        """RELEASE SAVEPOINT. READ ONLY was set for the inner level alone."""
        at = self._find(name)
        self.writes_refused = self.savepoints[at].writes_refused
        del self.savepoints[at:]

    def rollback_to(self, name: str) -> dict[str, str]:
        """ROLLBACK TO SAVEPOINT; the settings as they were. Locks are kept (rule K2)."""
        at = self._find(name)
        if self.dead:
            raise sql_error(
                "25P02", "current transaction is aborted, commands ignored until end of transaction block"
            )
        found = self.savepoints[at]
        if self.txn is not None:
            self.txn.rollback_to(
                found.mark
            )  # first of all: where a lock was lost the block stays as it is (K7)
        del self.savepoints[at + 1 :]
        if found.catalog is not None:
            self.catalog = found.catalog
        elif self.lease is not None:
            self.catalog = self.lease.catalog
        del self.garbage[found.garbage :]
        self.writes_refused = found.writes_refused
        self.plans.clear()
        self.failed = False
        return found.settings

    def set_catalog(self, catalog: Catalog) -> None:
        """Own DDL changed the catalogue."""
        if self.txn is None:
            raise InternalError("DDL in a read-only transaction")
        self.catalog = catalog
        self.own_ddl = True
        self.plans.clear()


@contextmanager
def reading(services: SqlServices, block: Block | None) -> Iterator[Block]:
    """The open transaction, or else a read-only one for as long as a statement looks at the catalogue."""
    if block is not None:
        yield block
        return
    own = Block(services, explicit=False, read_only=True)
    try:
        yield own
    finally:
        own.release()
