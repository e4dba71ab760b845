"""How long a session may wait: PostgreSQL's timeouts, read from its settings.

| setting | bounds | ends with |
|---|---|---|
| `lock_timeout` | each wait for a lock; 0: the node's own bound | 55P03, the statement fails |
| `statement_timeout` | a statement, from its start to its end | 57014, the statement fails |
| `transaction_timeout` | a transaction, running or idle | 25P04, the session ends |
| `idle_in_transaction_session_timeout` | the client's silence inside a transaction | 25P03, the session ends |
| `idle_session_timeout` | the client's silence outside one | 57P05, the session ends |

PostgreSQL 15 documentation, 20.11.1 "Statement Behavior" (`transaction_timeout`: 17). 0 is no bound. No timeout ends a
commit once what decides was sent (rule M7): the statement's answer is the recorded outcome.
"""

from __future__ import annotations

from typing import Final

from txndb.errors import QueryCanceledError, SessionTimeoutError, TxndbError
from txndb.sql.session.settings import Settings

Bound = tuple[float, TxndbError]
"""(seconds left, the error to end with)."""

MS: Final = 1000


class Waits:
    """A session's timeouts: in seconds, but for the one that the key-value layer takes; 0: none."""

    __slots__ = (
        "bounds_silence",
        "idle_s",
        "idle_transaction_s",
        "lock_us",
        "statement_s",
        "transaction_s",
    )

    def __init__(self, settings: Settings) -> None:
        self.statement_s = int(settings.get("statement_timeout")) / MS
        self.transaction_s = int(settings.get("transaction_timeout")) / MS
        self.idle_s = int(settings.get("idle_session_timeout")) / MS
        self.idle_transaction_s = int(settings.get("idle_in_transaction_session_timeout")) / MS
        self.lock_us = int(settings.get("lock_timeout")) * MS
        self.bounds_silence = bool(self.idle_s or self.idle_transaction_s or self.transaction_s)

    def running(self, statement_s: float, transaction_s: float) -> Bound | None:
        """The first bound of a statement that has run for `statement_s`, in a transaction for `transaction_s`."""
        found: Bound | None = None
        if self.statement_s:
            left_s = self.statement_s - statement_s
            found = (left_s, QueryCanceledError("canceling statement due to statement timeout"))
        return self._sooner(found, transaction_s)

    def idle(self, in_transaction: bool, transaction_s: float) -> Bound | None:
        """The first bound of a client's silence that begins now."""
        if not in_transaction:
            if not self.idle_s:
                return None
            return self.idle_s, SessionTimeoutError(
                "57P05", "terminating connection due to idle-session timeout"
            )
        found: Bound | None = None
        if self.idle_transaction_s:
            text = "terminating connection due to idle-in-transaction timeout"
            found = (self.idle_transaction_s, SessionTimeoutError("25P03", text))
        return self._sooner(found, transaction_s)

    def _sooner(self, found: Bound | None, transaction_s: float) -> Bound | None:
        if not self.transaction_s:
            return found
        left_s = self.transaction_s - transaction_s
        if found is not None and found[0] <= left_s:
            return found
        return left_s, SessionTimeoutError("25P04", "terminating connection due to transaction timeout")
