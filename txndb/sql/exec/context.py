"""What running operators share: the view they read, parameters, the evaluation context and the memory bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from txndb.errors import FeatureNotSupportedError, LimitError
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.types import EvalContext
from txndb.txn.api import ReadView, Txn

ROWS_HELD_MAX = 5_000_000
"""Rows that sorts, joins and aggregates of one statement may hold together."""

PAUSE_ROWS = 4096
"""Rows an operator makes out of what it holds before the node's other work has a turn: some milliseconds."""

REFILLS_MAX = 1000
"""A batch is evaluated again at most so often; each time one sequence gets the numbers it lacked."""


class NeedNumbers(FeatureNotSupportedError):
    """A sequence's cached block is used up; the batch that asked is run again once it is refilled.

    Where nobody can wait for that it is the statement's error, and no more than the statement's.
    """

    def __init__(self, sequence_id: int) -> None:
        super().__init__("nextval() and setval() cannot be used here")
        self.sequence_id = sequence_id


Refill = Callable[[NeedNumbers, int], Awaitable[None]]


async def refilled(
    need: NeedNumbers,
    evaluate: Callable[[], Any],
    refill: Refill,
    drawn: dict[int, int] | None,
    count: int = 1,
) -> Any:
    """The value of what gave up for want of numbers, evaluated again as often as it lacks some."""
    for _ in range(REFILLS_MAX):
        await refill(need, count)
        if drawn:
            drawn.clear()
        try:
            return evaluate()
        except NeedNumbers as another:
            need = another
    raise LimitError(f"a statement asked more than {REFILLS_MAX} times for sequence numbers")


async def _no_sequences(need: NeedNumbers, count: int) -> None:
    raise LimitError("sequences cannot be used here")


class ExecContext:
    """One statement's run."""

    __slots__ = ("catalog", "drawn", "env", "held", "params", "refill", "txn", "view", "worked")

    def __init__(
        self,
        view: ReadView,
        params: Sequence[Any],
        env: EvalContext,
        catalog: Catalog,
        txn: Txn | None = None,
        refill: Refill = _no_sequences,
        drawn: dict[int, int] | None = None,
    ) -> None:
        self.view = view
        self.params = params
        self.env = env
        self.catalog = catalog
        self.txn = txn
        self.refill = refill
        self.drawn = drawn
        """The first number drawn from each sequence in the present evaluation of a batch; `refill` gives them back."""
        self.held = 0
        self.worked = 0

    async def give_way(self, rows: int) -> None:
        """Count rows that were made without waiting for anything, and let others run every PAUSE_ROWS of them: a join
        of two small tables may take hours, in which the node must keep its leases and hear of a cancel."""
        self.worked += rows
        if self.worked >= PAUSE_ROWS:
            self.worked = 0
            await asyncio.sleep(0)

    def hold(self, rows: int) -> None:
        """Count rows kept in memory; 54000 above the bound."""
        self.held += rows
        if self.held > ROWS_HELD_MAX:
            raise LimitError(
                f"the statement holds more than {ROWS_HELD_MAX} rows in memory",
                hint="Sort, group or join fewer rows at once.",
            )

    def with_params(self, params: Sequence[Any]) -> ExecContext:
        """The same run with other parameters (a subplan's)."""
        return ExecContext(self.view, params, self.env, self.catalog, self.txn, self.refill, self.drawn)

    async def call(self, fn: Callable[[Any, Sequence[Any], Any], Any], rows: Any) -> Any:
        """Run a generated function, refilling the sequences it draws from.

        Whatever may hold a volatile expression runs through here and changes nothing itself: it may run again.
        """
        if self.drawn:
            self.drawn.clear()
        try:
            return fn(rows, self.params, self.env)
        except NeedNumbers as need:
            count = len(rows) if isinstance(rows, list) else 1
            return await refilled(
                need, lambda: fn(rows, self.params, self.env), self.refill, self.drawn, count
            )
