"""Bank: transfers between accounts that lie in several ranges; the checker is `txndb.sim.checkers.bank`.

Drawn per seed: how many accounts and ranges, how hot the accounts are. Drawn per operation: whether a transfer locks
when it reads (FOR UPDATE), reads and writes back, or computes in UPDATE … RETURNING; whether all accounts are read by
one statement, in a read-only block, or in a read-write transaction.
"""

from __future__ import annotations

from random import Random
from typing import Any

from txndb.sim.checkers.bank import check_bank
from txndb.sim.history import History
from txndb.sim.workloads.api import SqlClient, wander

Row = tuple[int, int, int]


class Bank:
    """The workload; `money` is each account's first balance."""

    model = "bank"

    def __init__(self, rng: Random) -> None:
        self.accounts = rng.choice((4, 10, 30))
        self.ranges = rng.choice((1, 2, 3, 4))
        self.money = rng.choice((5, 100, 1000))
        self.hot = rng.random() < 0.3

    async def set_up(self, client: SqlClient) -> None:
        await client.single(
            "CREATE TABLE accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL CHECK (balance >= 0), "
            "version BIGINT NOT NULL DEFAULT 0)"
        )
        rows = ", ".join(f"({i}, {self.money})" for i in range(self.accounts))
        await client.single(f"INSERT INTO accounts (id, balance) VALUES {rows}", writes=True)
        for i in range(1, self.ranges):
            at = i * self.accounts // self.ranges
            await client.single(f"ALTER TABLE accounts SPLIT AT VALUES ({at})")

    async def operate(self, client: SqlClient) -> None:
        await wander(client, 0.1)
        if client.rng.random() < 0.3:
            await self._read(client, client.rng.randrange(3))
        else:
            await self._transfer(client)

    async def read_all(self, client: SqlClient) -> None:
        await self._read(client, 0)

    def split_statement(self, rng: Random) -> str:
        return f"ALTER TABLE accounts SPLIT AT VALUES ({rng.randrange(self.accounts)})"

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = check_bank(history.calls(), self.accounts, self.accounts * self.money)
        return problems if real_time else [text for text in problems if not text.startswith("5:")]

    async def _read(self, client: SqlClient, style: int) -> None:
        sql = "SELECT id, balance, version FROM accounts ORDER BY id"

        async def everything() -> list[Row]:
            return (await client.statement(sql)).rows

        async def in_two_halves() -> list[Row]:
            middle = self.accounts // 2
            low = await client.statement(
                "SELECT id, balance, version FROM accounts WHERE id < $1 ORDER BY id", (middle,)
            )
            high = await client.statement(
                "SELECT id, balance, version FROM accounts WHERE id >= $1 ORDER BY id", (middle,)
            )
            return low.rows + high.rows

        async def perform() -> list[Row]:
            if style == 0:
                return (await client.single(sql)).rows
            if style == 1:
                return await client.transaction(in_two_halves, "BEGIN READ ONLY")
            return await client.transaction(everything)

        await client.operation("read", None, None, perform)

    async def _transfer(self, client: SqlClient) -> None:
        rng = client.rng
        limit = min(self.accounts, 3) if self.hot else self.accounts
        source = rng.randrange(limit)
        target = (source + 1 + rng.randrange(limit - 1)) % limit
        amount = 1 + rng.randrange(self.money)
        style = rng.randrange(3)

        async def update(account: int, change: int) -> Row | None:
            """Change one balance in the style drawn; None if it would go below zero."""
            if style == 0:
                result = await client.statement(
                    "UPDATE accounts SET balance = balance + $2, version = version + 1 "
                    "WHERE id = $1 AND balance + $2 >= 0 RETURNING id, balance, version",
                    (account, change),
                )
                return result.rows[0] if result.rows else None
            lock = " FOR UPDATE" if style == 1 else ""
            read = await client.statement(
                f"SELECT balance, version FROM accounts WHERE id = $1{lock}", (account,)
            )
            balance, version = read.rows[0][0] + change, read.rows[0][1] + 1
            if balance < 0:
                return None
            await client.statement(
                "UPDATE accounts SET balance = $2, version = $3 WHERE id = $1", (account, balance, version)
            )
            return account, balance, version

        async def both() -> Any:
            taken = await update(source, -amount)
            if taken is None:
                return None
            given = await update(target, amount)
            assert given is not None
            return taken, given

        await client.operation("transfer", None, (source, target, amount), lambda: client.transaction(both))
