"""txndb: a distributed transactional SQL database in typed Python.

The package itself is the PEP 249 module: its names are the driver's (`txndb.client`), imported when first asked for, so
that a node, which imports this package too, does not load the driver. `__all__` repeats the driver's, which cannot be
asked without loading it; a test compares them.
"""
# ruff: noqa: F405

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from txndb.client import *  # noqa: F403 - `__all__` below says which

__version__ = "0.1.0"

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
    "__version__",
    "apilevel",
    "connect",
    "paramstyle",
    "run_transaction",
    "threadsafety",
    "transaction",
]


def __getattr__(name: str) -> Any:
    """A name of the driver, the first time it is used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module("txndb.client"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
