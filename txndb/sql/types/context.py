"""What a value conversion or function may need to know beyond its arguments: the session and the transaction.

Functions that declare `needs` get an `EvalContext` as their first argument. The executor makes one for a session and
sets the times per transaction and statement; nothing here reads a clock or draws a random number by itself.
Invariant: times are microseconds since 2000-01-01 00:00 UTC (the representation of TIMESTAMPTZ).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from txndb.errors import InternalError
from txndb.sql.types.zones import UTC, Zone


class Names(Protocol):
    """The catalogue's names, for reg* types. `kind` is the type's name: regclass, regtype, regproc, …"""

    def oid_of(self, kind: str, name: str) -> int:
        """The OID of a name; raises the SQL error for an unknown one."""

    def name_of(self, kind: str, oid: int) -> str | None:
        """The name of an OID, quoted and qualified where needed; None when it is unknown."""


def _no_clock() -> int:
    raise InternalError("this evaluation context has no clock")


def _no_random() -> float:
    raise InternalError("this evaluation context has no source of chance")


def _no_random_bytes(count: int) -> bytes:
    raise InternalError(f"this evaluation context has no source of chance ({count} bytes asked)")


class EvalContext:
    """The session's and transaction's side of an expression. Attributes are set by the executor."""

    __slots__ = (
        "clock_us",
        "database",
        "names",
        "random",
        "random_bytes",
        "schema",
        "session",
        "statement_time_us",
        "txn_time_us",
        "user",
        "zone",
    )

    def __init__(
        self,
        *,
        zone: Zone = UTC,
        txn_time_us: int | None = None,
        statement_time_us: int | None = None,
        clock_us: Callable[[], int] = _no_clock,
        random: Callable[[], float] = _no_random,
        random_bytes: Callable[[int], bytes] = _no_random_bytes,
        names: Names | None = None,
        user: str = "",
        database: str = "",
        schema: str = "public",
        session: object = None,
    ) -> None:
        self.zone = zone
        self.txn_time_us = txn_time_us
        self.statement_time_us = statement_time_us
        self.clock_us = clock_us
        self.random = random
        self.random_bytes = random_bytes
        self.names = names
        self.user = user
        self.database = database
        self.schema = schema
        self.session = session

    def now_us(self) -> int:
        """The start of the transaction: what now() and 'now' give."""
        return self.clock_us() if self.txn_time_us is None else self.txn_time_us


DEFAULT_CONTEXT = EvalContext()
"""UTC and no clock: for conversions that need no session. Never written to."""
