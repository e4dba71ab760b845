"""Sequential: what one client wrote one after another is never seen in another order.

A writer inserts the subkeys 0, 1, 2 … of a key, each in a transaction of its own and each into another table. A reader
asks for them in reverse, each in a transaction of its own: whoever sees a later subkey must see all earlier ones.

Hunts: commits visible at one range before what was acknowledged earlier is visible at another – commit wait left out
(T3), timestamps above a node's own clock (T2), a new leaseholder that reads below what was committed (L1).
"""

from __future__ import annotations

from random import Random
from typing import Final

from txndb.errors import OutcomeUnknownError, TxndbError
from txndb.sim.checkers import sequential
from txndb.sim.history import History
from txndb.sim.workloads.api import GaveUpError, SqlClient, wander
from txndb.sim.workloads.verdicts import findings

_TABLES: Final = 3
_RECENT: Final = 3
_BURST_MAX: Final = 4
_FINAL_KEYS_MAX: Final = 60


class Sequential:
    """The workload; the value of a write is its key, that of a read [key, subkeys seen, in the order asked]."""

    model = "sequential"

    def __init__(self, rng: Random) -> None:
        self.wandering = rng.choice((0.0, 0.3, 1.0))
        self.subkeys = rng.choice((2, 4, 6))
        self.splits = rng.randrange(4)
        self._keys = 0

    async def set_up(self, client: SqlClient) -> None:
        for i in range(_TABLES):
            await client.single(f"CREATE TABLE seq{i} (k INT, sub INT, PRIMARY KEY (k, sub))")
            for part in range(self.splits):
                await client.single(f"ALTER TABLE seq{i} SPLIT AT VALUES ({8 * part + 4}, 0)")

    async def operate(self, client: SqlClient) -> None:
        rng = client.rng
        if not self._keys or rng.random() < 0.35:
            key = self._keys
            self._keys += 1
            await self._write(client, key)
        else:
            for _ in range(1 + rng.randrange(_BURST_MAX)):
                await self._read(client, rng.randrange(max(0, self._keys - _RECENT), self._keys))

    async def read_all(self, client: SqlClient) -> None:
        for key in range(max(0, self._keys - _FINAL_KEYS_MAX), self._keys):
            await self._read(client, key)

    def split_statement(self, rng: Random) -> str:
        return f"ALTER TABLE seq{rng.randrange(_TABLES)} SPLIT AT VALUES ({rng.randrange(40)}, 0)"

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        if not real_time:
            return []  # transactions of their own have no order but that of real time
        return findings(sequential.check(history.ops))

    @staticmethod
    def _table(key: int, subkey: int) -> str:
        return f"seq{(key + subkey) % _TABLES}"

    async def _write(self, client: SqlClient, key: int) -> None:
        async def perform() -> int:
            for subkey in range(self.subkeys):
                await wander(client, self.wandering)
                sql = f"INSERT INTO {self._table(key, subkey)} (k, sub) VALUES ($1, $2)"
                try:
                    await client.single(sql, (key, subkey), writes=True)
                except OutcomeUnknownError:
                    raise
                except (TxndbError, GaveUpError):
                    if not subkey:
                        raise
                    break  # the earlier ones are there, so the operation did not fail
            return key

        await client.operation("write", None, key, perform)

    async def _read(self, client: SqlClient, key: int) -> None:
        async def perform() -> list[object]:
            seen: list[int | None] = []
            for subkey in reversed(range(self.subkeys)):
                await wander(client, self.wandering)
                sql = f"SELECT sub FROM {self._table(key, subkey)} WHERE k = $1 AND sub = $2"
                rows = (await client.single(sql, (key, subkey))).rows
                seen.append(int(rows[0][0]) if rows else None)
            return [key, seen]

        await client.operation("read", None, key, perform)
