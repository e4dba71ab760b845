"""Two changes of one table at once, from two gateways, one of which is away in between: neither undoes the other.

While all nodes reach each other, a DDL that commits finds the others: it wounds those that are younger and waits for
those that are older (rule D2). Only a node that is away past the end of its catalogue lease, paused or cut off, is
waited for no longer. Its own DDL, bound against what the catalogue was, goes on as if nothing had happened, and must
notice (rule D2); so must its lease, which is taken anew for another version than the one its users have (rule D3).

Columns of its own (`raced_…`) are added and never dropped: at rest, `check` asks for each that was acknowledged, and
for none that was refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Final

from txndb.errors import OutcomeUnknownError, RetryError, TxndbError
from txndb.sim.clients import Client, ConnectionLostError, SimConnection
from txndb.sim.host import SimHost
from txndb.sim.nemesis import both
from txndb.sim.trace import Trace

_TABLES: Final = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name"
)
_COLUMNS: Final = (
    "SELECT table_name, column_name FROM information_schema.columns "
    "WHERE column_name LIKE 'raced%' ORDER BY table_name, column_name"
)
_HOSTS_MIN: Final = 3
"""With fewer, one that is away takes the quorum along."""
_TIMEOUT_US: Final = 30_000_000
_RETRY_S: Final = 0.02
LEASES: Final = 2.0
"""A gateway is away until the other change is there, but no longer than so many lengths of a lease."""


class SchemaRace:
    """Lets two changes race, one pair an act."""

    def __init__(self, hosts: list[SimHost], trace: Trace, problem: Callable[[str], None]) -> None:
        self._hosts = hosts
        self._trace = trace
        self._problem = problem
        self._acts = 0
        self._added: dict[tuple[str, str], bool | None] = {}
        """(table, column) -> whether it was added; None: unknown."""

    async def act(self, rng: Random) -> None:
        """One race."""
        ready = [host for host in self._hosts if host.ready and not host.lost]
        if len(ready) < _HOSTS_MIN:
            return
        self._acts += 1
        absent, other = rng.sample(ready, 2)
        cut_off = rng.random() < 0.5
        away_s = LEASES * absent.shared.catalog_lease_us / 1e6
        if rng.random() < 0.2:
            away_s *= rng.random()
        late, early = SimConnection(absent, _TIMEOUT_US), SimConnection(other, _TIMEOUT_US)
        try:
            await late.open()
            await early.open()
            tables = (await early.execute(_TABLES)).rows
            if tables:
                table = tables[rng.randrange(len(tables))][0]
                await late.execute("BEGIN")
                await late.execute(self._add(table, "late"))
                with self._away(absent, cut_off=cut_off):
                    await self._first(table, early, away_s)
                await self._commit((table, self._column("late")), late, "COMMIT")
        except (TxndbError, ConnectionLostError) as error:
            self._trace.counts["race_refused"] += 1
            if isinstance(error, TxndbError) and error.code.startswith("XX"):
                self._problem(f"race: {error.code} {error.message} {error.detail}")
        finally:
            late.close()
            early.close()

    def _column(self, who: str) -> str:
        return f"raced_{self._acts}_{who}"

    def _add(self, table: str, who: str) -> str:
        return f"ALTER TABLE {table} ADD COLUMN {self._column(who)} BIGINT DEFAULT {self._acts}"

    @contextmanager
    def _away(self, host: SimHost, *, cut_off: bool) -> Iterator[None]:
        """A gateway is paused, or cut off from the other nodes."""
        loop, network, incarnation = host.shared.loop, host.shared.network, host.incarnation
        links = [link for o in self._hosts if o is not host for link in both(host.machine, o.machine)]
        self._trace.note(loop.now_us, f"n{host.machine} is {'cut off' if cut_off else 'paused'} amid DDL")
        if cut_off:
            network.block(links)
        elif incarnation is not None:
            incarnation.pause()
        try:
            yield
        finally:
            if cut_off:
                network.unblock(links)
            elif incarnation is not None:
                incarnation.resume()
            self._trace.note(loop.now_us, f"n{host.machine} is back amid DDL")

    async def _first(self, table: str, early: SimConnection, away_s: float) -> None:
        """The change of whoever is not away."""
        try:
            async with asyncio.timeout(away_s):
                await self._commit((table, self._column("early")), early, self._add(table, "early"))
        except TimeoutError:
            self._trace.counts["race_undecided"] += 1

    async def _commit(self, column: tuple[str, str], connection: SimConnection, sql: str) -> None:
        """Send what commits a column, and remember whether it did; a statement alone is sent until it does not lose."""
        self._added[column] = None
        while True:
            try:
                tag = (await connection.execute(sql)).tag
            except (OutcomeUnknownError, ConnectionLostError):
                raise
            except TxndbError as error:
                if isinstance(error, RetryError) and sql != "COMMIT":
                    await asyncio.sleep(_RETRY_S)
                    continue
                self._added[column] = False
                raise
            self._added[column] = tag != "ROLLBACK"
            self._trace.counts["raced"] += 1
            return

    async def check(self, client: Client) -> list[str]:
        """Whether the tables have the columns that were added."""
        if not self._added:
            return []
        there = {tuple(row) for row in (await client.single(_COLUMNS)).rows}
        problems = []
        for column, added in self._added.items():
            if added is not None and added is not (column in there):
                told = "acknowledged, and is gone" if added else "refused, and is there"
                problems.append(f"race: column {'.'.join(column)} was {told}")
        return problems
