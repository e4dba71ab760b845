"""The PEP 249 driver: `connect`, exceptions, type objects, `run_transaction`. It speaks pgwire and knows no internals.

A database in this process is reached through one door, `txndb.server.embedded`, and spoken to like any other.
"""

from __future__ import annotations

from txndb.client.connection import Connection, connect
from txndb.client.cursor import Cursor
from txndb.client.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    TransactionRetryError,
    Warning,
)
from txndb.client.retry import run_transaction, transaction
from txndb.client.values import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
    Date,
    DateFromTicks,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
)

apilevel = "2.0"
threadsafety = 2
paramstyle = "pyformat"

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "TransactionRetryError",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "run_transaction",
    "threadsafety",
    "transaction",
]
