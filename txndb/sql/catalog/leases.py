"""Catalogue leases: which version of the catalogue a transaction may use, and until which commit timestamp.

Rules D1-D6. `DirectLeases` is the plain implementation: every transaction reads the version row under a shared lock (a
snapshot reads it at its timestamp), so a DDL, which writes that row, conflicts with every user of the old version; no
lease exists beyond the transaction. A leasing implementation answers from memory through `cached` and bounds the
commit timestamp by [`not_before`, `not_after`].
"""

from __future__ import annotations

from typing import Protocol

from txndb.ids import Timestamp
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.catalog.store import load_catalog, raise_version, read_version
from txndb.txn.api import ReadView, Txn

Age = tuple[Timestamp, bytes]

ANY_TIME_MIN = Timestamp(0)
ANY_TIME_MAX = Timestamp(2**63 - 1)


class CatalogLease:
    """The right to use one catalogue version; the user's final timestamp lies in [not_before, not_after] (rule D1).

    `not_after` may grow while the user runs, if a renewal found the version unchanged (rule D3): read it late.
    """

    __slots__ = ("_not_after", "catalog", "not_before", "version")

    def __init__(
        self,
        catalog: Catalog,
        version: int,
        not_before: Timestamp = ANY_TIME_MIN,
        not_after: Timestamp = ANY_TIME_MAX,
    ) -> None:
        self.catalog = catalog
        self.version = version
        self.not_before = not_before
        self._not_after = not_after

    @property
    def not_after(self) -> Timestamp:
        """The last timestamp a user may end at."""
        return self._not_after

    def is_usable(self) -> bool:
        """Whether no DDL can have committed over it yet: then what a statement just read was of this catalogue."""
        return True

    def note_use(self, at: Timestamp) -> None:
        """Something was shown, or may yet commit, at `at` without a commit wait (rule D4)."""


class CatalogLeases(Protocol):
    """A node's door to the catalogue."""

    def cached(self, age: Age | None) -> CatalogLease | None:
        """A lease held by the node right now, without waiting (counts as an acquisition); None: use `acquire`."""

    async def acquire(self, age: Age | None, view: ReadView) -> CatalogLease:
        """A lease for the transaction reading through `view`."""

    async def acquire_at(self, view: ReadView) -> CatalogLease:
        """The catalogue as of a view in the past (rule S2); bounded by nothing, released by nothing."""

    def release(self, lease: CatalogLease, used_ts: Timestamp) -> None:
        """The user ended; `used_ts` is its s or c if it did no commit wait (rule D4), else 0."""

    async def revoke(self, txn: Txn, lease: CatalogLease) -> None:
        """Last step before the COMMIT of a transaction that did DDL, bound under `lease` (rule D2): raises the version
        in it. Raises `RetryError` if the lease's version is no longer the newest one."""


class DirectLeases:
    """No leases: the version row is read in every transaction. Decoded catalogues are kept by version."""

    KEPT = 4

    def __init__(self) -> None:
        self._by_version: dict[int, Catalog] = {}

    def cached(self, age: Age | None) -> CatalogLease | None:
        """Never: the version must be read by the transaction itself."""
        return None

    async def acquire(self, age: Age | None, view: ReadView) -> CatalogLease:
        """Read the version through the view; decode the catalogue if it is a new one."""
        version = await read_version(view)
        catalog = self._by_version.get(version)
        if catalog is None:
            catalog = await load_catalog(view, version)
            self._by_version[version] = catalog
            while len(self._by_version) > self.KEPT:
                del self._by_version[min(self._by_version)]
        return CatalogLease(catalog, version)

    async def acquire_at(self, view: ReadView) -> CatalogLease:
        """The same: the view says when."""
        return await self.acquire(None, view)

    def release(self, lease: CatalogLease, used_ts: Timestamp) -> None:
        """Nothing is held beyond the transaction."""

    async def revoke(self, txn: Txn, lease: CatalogLease) -> None:
        """The exclusive lock on the version row waits for, or wounds, every user of the old version."""
        await raise_version(txn)
