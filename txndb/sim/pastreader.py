"""Reads of the past, racing garbage collection: what was true at a time never changes.

A table is read AS OF a moment, and later again, through whatever gateway: the answers must be equal, or the later one
the error that versions of that age are collected (rule S1). The simulated database keeps versions for seconds only, so
that collection, splits, new leaders and changes of the schema all come in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Final

from txndb.errors import TxndbError
from txndb.sim.clients import Client, ConnectionLostError, GaveUpError
from txndb.sim.clocks import EPOCH_US
from txndb.sim.loop import VirtualLoop
from txndb.sim.trace import Trace

_TABLES: Final = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name"
)
_AGE_MAX_US: Final = 2_000_000
_REPEATS: Final = 6


class PastReader:
    """Reads a moment several times, one moment an act."""

    def __init__(
        self, client: Callable[[int], Client], number: int, trace: Trace, problem: Callable[[str], None]
    ) -> None:
        self._client = client
        self._number = number
        self._trace = trace
        self._problem = problem
        self._acts = 0

    async def act(self, rng: Random) -> None:
        """Read one moment until it is too old, or often enough; a changed answer is a problem."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        age_us = rng.randrange(1, _AGE_MAX_US)
        at_us = EPOCH_US + loop.now_us - age_us
        table, first = "", None
        for turn in range(_REPEATS):
            self._acts += 1
            client = self._client(self._number + self._acts)
            try:
                if not table:
                    tables = (await client.single(_TABLES)).rows
                    if not tables:
                        return
                    table = tables[rng.randrange(len(tables))][0]
                found = await client.single(f"SELECT * FROM {table} AS OF SYSTEM TIME {at_us}")
                rows = sorted(found.rows, key=repr)
                self._compare(table, at_us, turn, first, rows)
                first = rows
            except TxndbError as error:
                self._trace.counts[f"old_read_{error.code}"] += 1
                if error.code.startswith("XX"):
                    self._problem(f"{table} as of {at_us}: {error.code} {error.message} {error.detail}")
            except (ConnectionLostError, GaveUpError):
                self._trace.counts["old_read_lost"] += 1
            finally:
                client.close()
            await asyncio.sleep(rng.random() * 1.5)

    def _compare(
        self,
        table: str,
        at_us: int,
        turn: int,
        before: list[tuple[Any, ...]] | None,
        rows: list[tuple[Any, ...]],
    ) -> None:
        self._trace.counts["old_read"] += 1
        if before is not None and before != rows:
            differ = [row for row in (*before, *rows) if (row in before) != (row in rows)]
            self._problem(f"{table} as of {at_us} has changed at read {turn + 1}: {differ[:4]}")
