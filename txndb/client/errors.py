"""PEP 249's exceptions, chosen by SQLSTATE; each carries the server's fields."""

from __future__ import annotations

from typing import Final

from txndb.errors import TxndbError


class Warning(Exception):
    """An important warning (never raised by this driver, which keeps notices in `Connection.notices`)."""


class Error(Exception):
    """Base of the driver's errors. `sqlstate` is empty for errors found before anything reached a server."""

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str = "",
        detail: str = "",
        hint: str = "",
        position: int = 0,
        fields: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate
        self.detail = detail
        self.hint = hint
        self.position = position
        self.fields = fields or {}

    @property
    def retryable(self) -> bool:
        """Nothing of the transaction happened and replaying it may succeed."""
        return self.sqlstate in RETRYABLE


class InterfaceError(Error):
    """The driver was used wrongly."""


class DatabaseError(Error):
    """The database refused."""


class DataError(DatabaseError):
    """A value is out of range or has the wrong form."""


class OperationalError(DatabaseError):
    """The database's operation, not the program, is the cause: lost connection, limits, shutdown, retry."""


class TransactionRetryError(OperationalError):
    """40001: the transaction lost against another one and should be replayed (`run_transaction` does)."""


class IntegrityError(DatabaseError):
    """A constraint would be violated."""


class InternalError(DatabaseError):
    """The database found an error of its own, or the transaction's state does not allow the statement."""


class ProgrammingError(DatabaseError):
    """The statement is wrong: syntax, names, number of parameters."""


class NotSupportedError(DatabaseError):
    """The database does not do this."""


RETRYABLE: Final = frozenset(("40001", "40P01", "57P03"))

_BY_CODE: Final[dict[str, type[DatabaseError]]] = {"40001": TransactionRetryError}
_BY_CLASS: Final[dict[str, type[DatabaseError]]] = {
    "08": OperationalError,
    "0A": NotSupportedError,
    "20": ProgrammingError,
    "21": ProgrammingError,
    "22": DataError,
    "23": IntegrityError,
    "24": InternalError,
    "25": InternalError,
    "26": ProgrammingError,
    "28": OperationalError,
    "2B": InternalError,
    "2D": InternalError,
    "34": ProgrammingError,
    "3B": InternalError,
    "3D": ProgrammingError,
    "3F": ProgrammingError,
    "40": OperationalError,
    "42": ProgrammingError,
    "44": IntegrityError,
    "53": OperationalError,
    "54": OperationalError,
    "55": OperationalError,
    "57": OperationalError,
    "58": OperationalError,
    "72": OperationalError,
    "XX": InternalError,
}


def from_node(error: TxndbError) -> DatabaseError:
    """The exception for an error that a node in this process raised before any conversation."""
    fields = {"C": error.code, "M": error.message, "D": error.detail, "H": error.hint, "S": "FATAL"}
    return from_fields({code: text for code, text in fields.items() if text})


def from_fields(fields: dict[str, str]) -> DatabaseError:
    """The exception for an ErrorResponse's fields."""
    state = fields.get("C", "")
    kind = _BY_CODE.get(state) or _BY_CLASS.get(state[:2], DatabaseError)
    position = fields.get("P", "")
    return kind(
        fields.get("M", "the server gave no message"),
        sqlstate=state,
        detail=fields.get("D", ""),
        hint=fields.get("H", ""),
        position=int(position) if position.isdecimal() else 0,
        fields=fields,
    )


def lost(message: str, sqlstate: str = "08006") -> OperationalError:
    """The connection is gone."""
    return OperationalError(message, sqlstate=sqlstate)
