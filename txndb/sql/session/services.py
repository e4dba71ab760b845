"""What all sessions of a node share: the key space, catalogue leases, plan and syntax caches, clock and chance."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from txndb.errors import FeatureNotSupportedError
from txndb.sql.catalog.leases import CatalogLeases
from txndb.sql.catalog.virtual import VirtualSchemas
from txndb.sql.exec.executable import Executable
from txndb.sql.exec.sequences import SequenceCache, sequence_functions
from txndb.sql.parse import ast
from txndb.txn.api import KV

PLANS_KEPT: Final = 1024
PLANS_TEXT_MAX: Final = 2 * 1024 * 1024
"""Characters of the texts whose plans are kept: a plan of many parameters takes a hundred times its text."""
PLAN_TEXT_LIGHT: Final = 1024
"""Plans of shorter texts are bounded by their number alone."""
SYNTAX_KEPT: Final = 512
SYNTAX_TEXT_MAX: Final = 2048

RangeRow = tuple[int, bytes, bytes, int, Sequence[int]]
"""(range id, start key, end key, leaseholder node, replica nodes)."""


class Admin(Protocol):
    """What SQL asks of the cluster beside reads and writes."""

    async def split(self, key: bytes) -> None:
        """Make `key` the start of a range; returns when it is."""

    async def ranges(self, start: bytes, end: bytes) -> list[RangeRow]:
        """The ranges that overlap [start, end), in key order."""


class NoAdmin:
    """Where there are no ranges (tests): the statements say so."""

    async def split(self, key: bytes) -> None:
        """Refused."""
        raise FeatureNotSupportedError("this server has no ranges to split")

    async def ranges(self, start: bytes, end: bytes) -> list[RangeRow]:
        """None known."""
        return []


class Cache:
    """A map bounded by its entries and by their weight in all, least recently used out first; the newest stays."""

    def __init__(self, kept: int, weight_max: int = 0) -> None:
        self._kept = kept
        self._weight_max = weight_max
        self._weight = 0
        self._weights: dict[Any, int] = {}
        """Of the entries that have one."""
        self._entries: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any) -> Any:
        """The entry, or None."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: Any, entry: Any, weight: int = 0) -> None:
        """Add or replace one."""
        self._entries[key] = entry
        self._weight += weight - self._weights.pop(key, 0)
        if weight:
            self._weights[key] = weight
            self._entries.move_to_end(key)
        while len(self._entries) > self._kept or (
            self._weight > self._weight_max > 0 and len(self._entries) > 1
        ):
            oldest, _ = self._entries.popitem(last=False)
            self._weight -= self._weights.pop(oldest, 0)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._weights.clear()
        self._weight = 0

    def __len__(self) -> int:
        return len(self._entries)


class SqlServices:
    """One per node. `wall_us` is microseconds since the Unix epoch; chance is injected."""

    def __init__(
        self,
        kv: KV,
        leases: CatalogLeases,
        *,
        wall_us: Callable[[], int],
        random: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        virtual: VirtualSchemas | None = None,
        admin: Admin | None = None,
        server_version: str = "15.0 (txndb 0.1)",
        settings: dict[str, str] | None = None,
    ) -> None:
        self.kv = kv
        self.leases = leases
        self.wall_us = wall_us
        self.random = random
        self.random_bytes = random_bytes
        self.virtual = virtual if virtual is not None else VirtualSchemas()
        for function in sequence_functions():
            self.virtual.register_function(function)
        self.admin: Admin = admin if admin is not None else NoAdmin()
        self.server_version = server_version
        self.settings = settings if settings is not None else {}
        """What session parameters are where the client does not say, as SET would keep them."""
        self.sequences = SequenceCache(kv)
        self.plans = Cache(PLANS_KEPT, PLANS_TEXT_MAX)
        """(text, catalogue version, …) -> Executable."""
        self.syntax = Cache(SYNTAX_KEPT)
        """text -> list of statements."""
        self.normalized = Cache(SYNTAX_KEPT)
        """text -> its normal form."""
        self.next_pid = 1

    def parsed(self, sql: str) -> list[ast.Statement]:
        """The statements of a text; short texts are kept."""
        from txndb.sql.parse import parse

        found: list[ast.Statement] | None = self.syntax.get(sql)
        if found is None:
            found = parse(sql)
            if len(sql) <= SYNTAX_TEXT_MAX:
                self.syntax.put(sql, found)
        return found


__all__ = ["Admin", "Cache", "Executable", "NoAdmin", "RangeRow", "SqlServices"]
