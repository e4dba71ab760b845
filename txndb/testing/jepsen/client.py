"""A client of real nodes: psycopg over pgwire, with the records that `txndb.sim.recording` keeps.

Each connection draws how it speaks – statements prepared never, at once or after a few times; values as text or
binary – so that all of the extended protocol is used. A statement that is not answered in time is given up by
shutting the socket: the client then knows as little as after a reset.

What an answer means (invariants):
1. An error that ended the connection says nothing about what was under way, whatever its SQLSTATE:
`ConnectionLostError`.
2. 08007 and 40003 are the gateway's own "outcome unknown". If its process was alive and reachable all the while,
that is
   an ambiguity of ours, and is counted: a gateway that lives can find out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from random import Random
from typing import Any, Final, Protocol

import msgspec
import psycopg
from psycopg.pq import TransactionStatus

from txndb.errors import OutcomeUnknownError, RetryError, SqlError, TxndbError
from txndb.sim.history import History
from txndb.sim.recording import RecordingClient
from txndb.sim.workloads.api import ConnectionLostError

CONNECT_TIMEOUT_S: Final = 4
_UNKNOWN: Final = ("08007", "40003")
_PREPARE_AFTER: Final = (None, 0, 2)


class Answer(msgspec.Struct, frozen=True):
    """What one statement gave."""

    tag: str
    rows: list[tuple[Any, ...]]


class Ambiguity(msgspec.Struct, frozen=True):
    """An outcome a gateway did not know although nobody had touched it."""

    index: int
    node: int
    error: str


class Gateways(Protocol):
    """What a client knows of the nodes."""

    def gateways(self) -> list[tuple[int, str, int]]:
        """Number, host and port of every node that is meant to serve."""

    def undisturbed(self, node: int, since_s: float) -> bool:
        """Whether the node's process ran, unharmed and reachable, from `since_s` (monotonic) until now."""


class WireConnection:
    """One connection to one node."""

    def __init__(
        self, node: int, connection: psycopg.AsyncConnection[Any], binary: bool, timeout_s: float
    ) -> None:
        self.node = node
        self._connection = connection
        self._binary = binary
        self._timeout_s = timeout_s
        self._timed_out = False

    @classmethod
    async def open(
        cls, gateway: tuple[int, str, int], rng: Random, timeout_s: float, database: str = "defaultdb"
    ) -> WireConnection:
        """Log in; `ConnectionLostError` when the node does not let us."""
        node, host, port = gateway
        try:
            connection = await psycopg.AsyncConnection.connect(
                host=host,
                port=port,
                user="root",
                dbname=database,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                prepare_threshold=rng.choice(_PREPARE_AFTER),
            )
        except psycopg.Error as error:
            raise ConnectionLostError(f"node {node} does not serve: {_line(error)}") from error
        return cls(node, connection, rng.random() < 0.5, timeout_s)

    @property
    def broken(self) -> bool:
        """Whether it is of no more use."""
        return self._connection.closed

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction block is open, failed or not."""
        return not self.broken and self._connection.info.transaction_status != TransactionStatus.IDLE

    async def execute(self, sql: str, params: tuple[Any, ...] = ()) -> Answer:
        """Run one statement; raises the node's error as a `TxndbError`, or `ConnectionLostError`."""
        if self.broken:
            raise ConnectionLostError("the connection is closed")
        timer = asyncio.get_running_loop().call_later(self._timeout_s, self._give_up)
        try:
            cursor: psycopg.AsyncRawCursor[Any] = psycopg.AsyncRawCursor(self._connection)
            await cursor.execute(sql.encode(), params or None, binary=self._binary)
            rows = await cursor.fetchall() if cursor.description is not None else []
            return Answer(cursor.statusmessage or "", rows)
        except psycopg.Error as error:
            raise self._meaning(error) from error
        finally:
            timer.cancel()

    def close(self) -> None:
        """Hang up; the node notices and rolls back."""
        self._connection.pgconn.finish()

    def _give_up(self) -> None:
        self._timed_out = True
        with contextlib.suppress(OSError):  # it has just ended by itself
            descriptor = os.dup(self._connection.fileno())
            with socket.socket(fileno=descriptor) as double:
                double.shutdown(socket.SHUT_RDWR)

    def _meaning(self, error: psycopg.Error) -> Exception:
        state = error.sqlstate or ""
        if self._timed_out:
            return ConnectionLostError(f"no answer from node {self.node} within {self._timeout_s:g} s")
        if state in _UNKNOWN:
            return OutcomeUnknownError(_line(error))
        if self.broken or not state:
            return ConnectionLostError(f"node {self.node}: {state} {_line(error)}")
        if state == RetryError.sqlstate:
            return RetryError(_line(error))
        return SqlError(state, _line(error), detail=error.diag.message_detail or "")


class WireClient(RecordingClient):
    """One sequential client (`txndb.sim.workloads.api.SqlClient`) of real nodes."""

    def __init__(
        self,
        number: int,
        nodes: Gateways,
        rng: Random,
        history: History,
        count: Callable[[str], None],
        *,
        clients: int,
        timeout_s: float,
        began_s: float,
        locking: bool = False,
    ) -> None:
        """`began_s`: the moment (monotonic) the history counts from."""
        super().__init__(number, rng, history, count, clients=clients, locking=locking)
        self.ambiguities: list[Ambiguity] = []
        self._nodes = nodes
        self._timeout_s = timeout_s
        self._began_s = began_s

    async def _open(self) -> WireConnection:
        gateways = self._nodes.gateways()
        if not gateways:
            raise ConnectionLostError("no node serves")
        return await WireConnection.open(self.rng.choice(gateways), self.rng, self._timeout_s)

    def _now_us(self) -> int:
        return int((time.monotonic() - self._began_s) * 1e6)

    def _on_unknown(self, error: OutcomeUnknownError) -> None:
        super()._on_unknown(error)
        connection = self._connection
        if not isinstance(connection, WireConnection):
            return
        invoked = next(op for op in reversed(self._history.ops) if op.process == self.process)
        if self._nodes.undisturbed(connection.node, self._began_s + invoked.time_us / 1e6):
            self.ambiguities.append(Ambiguity(invoked.index, connection.node, _told(error)))


def _line(error: psycopg.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())[:200]


def _told(error: TxndbError) -> str:
    return f"{error.code}: {error}"
