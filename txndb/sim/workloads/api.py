"""What a workload needs of a client, and what a run needs of a workload: the seam between traffic and clusters.

A workload is SQL and a claim about the history it leaves. It knows this module, the history and its checker, so that
the same traffic runs against a simulated cluster and against real processes over the wire. Who drives it brings the
clients: `txndb.sim.clients` in virtual time.

Rules that a workload keeps:
1. Values travel as parameters (`$1`), never inside the statement's text; what is not a value (a table's name) may.
2. Chance comes from the client's `rng`, or from the `Random` the workload was made with; time from the event loop only.
3. Every value it writes is unique, so that a read tells whose write it saw.
4. A key is retired after a bounded number of operations, so that checking stays fast although unknown outcomes stay
   open for ever.
5. Results and arguments are plain JSON values (lists, strings, integers, None), so that a history can be written down.
6. What an operation's `perform` does is one transaction, or its text says what several of them promise; `body` may run
   several times, and keeps nothing between runs.

Rules that a client keeps (pinned by `tests/sim/test_clients.py`):
1. `ok` only after the commit was acknowledged.
2. `fail` when COMMIT was never sent, when the node answered with an error other than "outcome unknown", or when
   `perform` raised `RefusedError` or `GaveUpError`.
3. `info` otherwise: the connection broke or timed out while a COMMIT, or a single statement that writes, was under way.
   The process number is then never used again.
4. A transaction that loses (40001) is replayed on the same connection, from BEGIN on; so is a single statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final, Protocol, TypeVar

from txndb.sim.history import History

T = TypeVar("T")
_BEAT_S: Final = 0.1


class ConnectionLostError(Exception):
    """The connection broke or timed out; what was under way has an unknown outcome."""


class GaveUpError(Exception):
    """The transaction was tried as often as is sensible, and none of the attempts committed."""


class RefusedError(Exception):
    """The database answered, and the answer was no: the operation had no effect, and is recorded as `fail`.

    Raised by an operation's `perform`, outside of any transaction. The connection stays in use.
    """


class QueryResult(Protocol):
    """What one statement gave."""

    @property
    def tag(self) -> str:
        """The command tag, as in `UPDATE 1`."""

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as Python values."""


class SqlClient(Protocol):
    """One sequential client: it performs one operation at a time, on a gateway that it may change."""

    process: int
    """The number its operations are recorded under; another after each unknown outcome."""
    rng: Random
    operations_ok: int
    """Operations that were answered so far: `ok`, or refused with `RefusedError`."""

    async def operation(self, f: str, key: Any, value: Any, perform: Callable[[], Awaitable[Any]]) -> bool:
        """Record one operation around `perform`, whose result becomes the `ok` value; returns whether it was ok."""

    async def transaction(self, body: Callable[[], Awaitable[T]], begin: str = "BEGIN") -> T:
        """Run `body` between `begin` and COMMIT, replayed when it loses.

        Raises `TxndbError` for the node's errors, `ConnectionLostError`, `GaveUpError`.
        """

    async def single(self, sql: str, params: tuple[Any, ...] = (), *, writes: bool = False) -> QueryResult:
        """One statement as a transaction of its own, replayed when it loses; `writes`: it may change something.

        Raises `TxndbError` for the node's errors, `ConnectionLostError`, `GaveUpError`.
        """

    async def statement(self, sql: str, params: tuple[Any, ...] = ()) -> QueryResult:
        """One statement of the open transaction, inside `body` only.

        Raises `TxndbError` for the node's errors, `ConnectionLostError`.
        """

    async def leave(self) -> None:
        """Hang up, outside of transactions; the next one goes to any gateway, where nothing of this client is known.

        What the old gateway's clock has seen travels along with a connection; only without it is real-time order
        the database's own work.
        """


async def wander(client: SqlClient, share: float) -> None:
    """With a probability leave the gateway."""
    if client.rng.random() < share:
        await client.leave()


async def meet(client: SqlClient, share: float) -> None:
    """With a probability wait for the next tenth of a second of the loop's clock, so that several clients begin at one
    moment: much goes wrong only for as long as a commit takes."""
    if client.rng.random() < share:
        now_s = asyncio.get_running_loop().time()
        await asyncio.sleep(_BEAT_S - now_s % _BEAT_S)


class Workload(Protocol):
    """One kind of traffic with its invariant; made from a `Random` that draws its shape."""

    model: str
    """What `txndb check --model` calls the checker of its histories."""

    async def set_up(self, client: SqlClient) -> None:
        """Make and fill the tables, split over ranges; not recorded."""

    async def operate(self, client: SqlClient) -> None:
        """Perform one operation, recorded in the history."""

    async def read_all(self, client: SqlClient) -> None:
        """The last operations, when the cluster is whole and at rest: read everything that counts once more."""

    def split_statement(self, rng: Random) -> str:
        """A statement that splits a table somewhere."""

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        """What is wrong with the history; empty if nothing is.

        Without `real_time` (a clock was further off than the bound) only what holds of any serial order is asked for:
        nothing lost, nothing torn, no cycle of dependencies; an operation may be ordered before one that ended first.
        """
