"""Replaying a transaction that lost: `run_transaction(conn, fn)` and the decorator `transaction`.

Replays happen on the same connection, where the server keeps the transaction's age (rule K3), so that each replay is
older than newcomers and the transaction ends after finitely many. What is replayed: SQLSTATE 40001, 40P01 and 57P03,
and a connection lost before COMMIT was sent – nothing of the transaction can have happened then. A connection lost
during COMMIT is not: its outcome is unknown to us and the error says so (08007).
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from txndb.client.connection import Connection
from txndb.client.errors import Error, ProgrammingError

ATTEMPTS_MAX: Final = 20
PAUSE_FIRST_S: Final = 0.001
PAUSE_MAX_S: Final = 0.5

T = TypeVar("T")
P = ParamSpec("P")


def run_transaction(conn: Connection, fn: Callable[[Connection], T], *, attempts: int = ATTEMPTS_MAX) -> T:
    """Run `fn(conn)` in a transaction and commit it, replaying both while that may help. Gives what `fn` gave.

    `fn` must not commit, and may be called several times: what it does beside the database happens each time. Any
    exception that is not retryable rolls back and goes on; after `attempts` the last retryable error does.
    """
    if attempts < 1:
        raise ProgrammingError("attempts must be at least 1")
    if conn.in_transaction:
        raise ProgrammingError("run_transaction needs a connection that is not in a transaction")
    autocommit = conn.autocommit
    conn.autocommit = False
    try:
        attempt = 1
        while True:
            failure = None
            try:
                outcome = fn(conn)
                conn.commit()
            except Error as error:
                if attempt >= attempts or not _replayable(error):
                    raise
                failure = error
            else:
                return outcome
            finally:
                if conn.in_transaction:
                    conn.rollback()
            if failure is not None:
                time.sleep(min(PAUSE_MAX_S, PAUSE_FIRST_S * 2**attempt) * random.random())
                attempt += 1
    finally:
        if not conn.closed and not conn.in_transaction:
            conn.autocommit = autocommit


def _replayable(error: Error) -> bool:
    return error.retryable or error.sqlstate in ("08006", "08003", "57P01")


def transaction(
    fn: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Connection, P], T]:
    """Decorator: a function whose first argument is a connection becomes a transaction that is replayed as needed."""

    @functools.wraps(fn)
    def run(conn: Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run_transaction(conn, lambda inner: fn(inner, *args, **kwargs))

    return run
