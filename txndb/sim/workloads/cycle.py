"""Cycle: every key holds its successor, all keys form one ring, every transaction swaps two neighbours.

FoundationDB's workload of this name (the cheapest test of isolation there is). With r -> r2 -> r3 -> r4, one
transaction makes it r -> r3 -> r2 -> r4. The checker is `txndb.sim.checkers.cycle`; besides, a ring swapped by
transactions that were not serializable falls apart for good, so nothing is forgotten.
"""

from __future__ import annotations

from random import Random

from txndb.sim.checkers.cycle import check_ring
from txndb.sim.history import History
from txndb.sim.workloads.api import SqlClient


class Cycle:
    """The workload."""

    model = "cycle"

    def __init__(self, rng: Random) -> None:
        self.keys = rng.choice((4, 8, 25))
        self.ranges = rng.choice((1, 2, 3, 4))

    async def set_up(self, client: SqlClient) -> None:
        await client.single("CREATE TABLE ring (k INT PRIMARY KEY, next INT NOT NULL)")
        rows = ", ".join(f"({i}, {(i + 1) % self.keys})" for i in range(self.keys))
        await client.single(f"INSERT INTO ring VALUES {rows}", writes=True)
        for i in range(1, self.ranges):
            await client.single(f"ALTER TABLE ring SPLIT AT VALUES ({i * self.keys // self.ranges})")

    async def operate(self, client: SqlClient) -> None:
        if client.rng.random() < 0.15:
            await self._read(client, in_transaction=client.rng.random() < 0.5)
        else:
            await self._swap(client)

    async def read_all(self, client: SqlClient) -> None:
        await self._read(client, in_transaction=False)

    def split_statement(self, rng: Random) -> str:
        return f"ALTER TABLE ring SPLIT AT VALUES ({rng.randrange(self.keys)})"

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = []
        for call in history.calls():
            if call.f == "read" and call.returned is not None:
                problem = check_ring(dict(call.result), self.keys)
                if problem:
                    problems.append(f"read at {call.invoked}: {problem}")
        return problems

    async def _read(self, client: SqlClient, *, in_transaction: bool) -> None:
        sql = "SELECT k, next FROM ring"

        async def body() -> list[tuple[int, int]]:
            return (await client.statement(sql)).rows

        async def perform() -> list[tuple[int, int]]:
            if in_transaction:
                return await client.transaction(body)
            return (await client.single(sql)).rows

        await client.operation("read", None, None, perform)

    async def _swap(self, client: SqlClient) -> None:
        first = client.rng.randrange(self.keys)

        async def successor(key: int) -> int:
            rows = (await client.statement("SELECT next FROM ring WHERE k = $1", (key,))).rows
            return int(rows[0][0])

        async def point(key: int, to: int) -> None:
            await client.statement("UPDATE ring SET next = $2 WHERE k = $1", (key, to))

        async def body() -> list[int]:
            second = await successor(first)
            third = await successor(second)
            fourth = await successor(third)
            await point(first, third)
            await point(second, fourth)
            await point(third, second)
            return [first, second, third, fourth]

        await client.operation("swap", None, first, lambda: client.transaction(body))
