"""The one error tree: every error txndb raises, and what its receiver should do about it.

A class states its SQLSTATE and whether replaying the transaction may help (`retryable`) on its class line. Errors
raised for one user statement are built by `sql_error(sqlstate, …)`, which yields `SqlError`; the named classes are
those that txndb's own code catches. Fields follow PostgreSQL's error fields (protocol chapter "Error and Notice
Message Fields").
"""

from __future__ import annotations

from typing import ClassVar


class TxndbError(Exception):
    """Base of all errors. `position` is the 1-based character position in the statement, 0 when unknown."""

    sqlstate: ClassVar[str] = "XX000"
    retryable: ClassVar[bool] = False
    of_peer = False
    """Raised here for what happened at another node: it says nothing about the state of this one."""

    def __init_subclass__(cls, *, sqlstate: str | None = None, retryable: bool | None = None) -> None:
        super().__init_subclass__()
        if sqlstate is not None:
            cls.sqlstate = sqlstate
        if retryable is not None:
            cls.retryable = retryable

    def __init__(
        self,
        message: str,
        *,
        detail: str = "",
        hint: str = "",
        position: int = 0,
        schema: str = "",
        table: str = "",
        column: str = "",
        datatype: str = "",
        constraint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        self.position = position
        self.schema = schema
        self.table = table
        self.column = column
        self.datatype = datatype
        self.constraint = constraint

    @property
    def code(self) -> str:
        """The SQLSTATE of this very error (an instance may be more specific than its class)."""
        return self.sqlstate


class SqlError(TxndbError):
    """An error of the user's statement, with the SQLSTATE PostgreSQL gives for it."""

    def __init__(
        self,
        state: str,
        message: str,
        *,
        detail: str = "",
        hint: str = "",
        position: int = 0,
        schema: str = "",
        table: str = "",
        column: str = "",
        datatype: str = "",
        constraint: str = "",
    ) -> None:
        super().__init__(
            message,
            detail=detail,
            hint=hint,
            position=position,
            schema=schema,
            table=table,
            column=column,
            datatype=datatype,
            constraint=constraint,
        )
        self.state = state

    @property
    def code(self) -> str:
        return self.state


class RetryError(TxndbError, sqlstate="40001", retryable=True):
    """The transaction lost: nothing of it happened, and replaying all of it (age kept) may succeed.

    `key` is what it lost over, if that is known: the SQL layer tells its table and values.
    """

    key: bytes = b""


class InFailedTransactionError(TxndbError, sqlstate="25P02"):
    """The transaction already failed; everything but ROLLBACK is refused until it ends."""


class FeatureNotSupportedError(TxndbError, sqlstate="0A000"):
    """Valid PostgreSQL that txndb does not do (yet); names the construct and its position."""


class UnavailableError(TxndbError, sqlstate="57P03", retryable=True):
    """No quorum or leaseholder was found within the statement's bound; the transaction did not commit."""


class DamagedError(UnavailableError, sqlstate="08006"):
    """What another node sent changed on the way and is as good as lost; whether a call was done is not known."""


class LockTimeoutError(UnavailableError, sqlstate="55P03", retryable=False):
    """A wait for a lock, or for users of the old catalogue, was longer than `lock_timeout` or the node's bound."""

    def __init__(self, message: str = "canceling statement due to lock timeout", *, detail: str = "") -> None:
        super().__init__(message, detail=detail)


class OutcomeUnknownError(TxndbError, sqlstate="08007"):
    """The gateway could not learn a sent commit's outcome within its bound (no quorum): committed or aborted."""


class QueryCanceledError(TxndbError, sqlstate="57014"):
    """The statement was cancelled by request or by its timeout."""


class SessionTimeoutError(SqlError):
    """A timeout that ends the whole session; its transaction is rolled back."""


class ShutdownError(TxndbError, sqlstate="57P01"):
    """The node is shutting down."""


class SnapshotTooOldError(TxndbError, sqlstate="72000"):
    """A read below the garbage-collection threshold; the versions it needs may be gone."""


class LimitError(TxndbError, sqlstate="54000"):
    """A stated bound (`txndb.limits`) would be exceeded."""


class AnswerTooLargeError(LimitError):
    """What a request asks of another node does not fit one frame: fewer keys at once may."""


class DiskFullError(TxndbError, sqlstate="53100"):
    """The store has no room left for proposals; reads go on."""


class InternalError(TxndbError, sqlstate="XX000"):
    """An invariant of ours does not hold; the message says which."""


class CorruptionError(TxndbError, sqlstate="XX001"):
    """Bytes on disk are not what was written and synced; the node must stop."""


class StoreError(TxndbError, sqlstate="58000"):
    """The store cannot be opened as asked: locked, foreign, half missing, or of another version."""


class ProtocolError(TxndbError, sqlstate="08P01"):
    """A peer sent bytes that its protocol does not allow."""


sql_error = SqlError
"""How the error of a user's statement is made where it is raised: `raise sql_error("22012", "division by zero")`."""


def words_of(node: object) -> str:
    """A syntax node's kind in SQL's words: `DeclareCursor` is DECLARE CURSOR."""
    return "".join(f" {c}" if c.isupper() else c for c in type(node).__name__).strip().upper()
