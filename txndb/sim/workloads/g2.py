"""G2: two transactions look whether a row is there, find none, and insert it – each where the other has looked.

For every key two clients run the same transaction: select from two tables all rows of the key with a predicate; if
there are none, insert one, the first client into table a, the second into table b. Serializably at most one of
them succeeds. Both succeeding is an anti-dependency cycle over a *predicate* (Adya's G2): neither read a row that
the other changed, so only locks on spans – of the primary key, of an index, of a whole table – can forbid it.

How the predicate is evaluated is drawn per seed: by the primary key's prefix, through an index on a column that is
no key, or by a scan of the whole table. Hunts: phantoms (K2), spans not validated at the commit timestamp (M4).
"""

from __future__ import annotations

from random import Random
from typing import Final

from txndb.sim.checkers import g2
from txndb.sim.history import History
from txndb.sim.workloads.api import RefusedError, SqlClient, meet
from txndb.sim.workloads.micro import told
from txndb.sim.workloads.verdicts import findings

_TABLES: Final = ("ga", "gb")


class G2:
    """The workload; the value of an insert is [key, [id for a or None, id for b or None]]."""

    model = "g2"

    def __init__(self, rng: Random) -> None:
        self.access = rng.choice(("prefix", "index", "scan"))
        self.splits = rng.randrange(4)
        self.live = rng.choice((1, 3))
        self._keys = 0
        self._ids = 0
        self._halves: list[tuple[int, int]] = []
        self._problems: list[str] = []

    async def set_up(self, client: SqlClient) -> None:
        for table in _TABLES:
            if self.access == "prefix":
                await client.single(f"CREATE TABLE {table} (k INT, id INT, value INT, PRIMARY KEY (k, id))")
            else:
                await client.single(f"CREATE TABLE {table} (id INT PRIMARY KEY, k INT NOT NULL, value INT)")
            if self.access == "index":
                await client.single(f"CREATE INDEX {table}_k ON {table} (k)")
            for part in range(self.splits):
                await client.single(self._split(table, 10 * part + 5))

    async def operate(self, client: SqlClient) -> None:
        """Takes an unused half of a key in use, so that the two halves run at about the same time."""
        await meet(client, 0.5)
        if len(self._halves) < 2 * self.live:
            self._halves += [(self._keys, 0), (self._keys, 1)]
            self._keys += 1
        await self._insert(client, *self._halves.pop(client.rng.randrange(len(self._halves))))

    async def read_all(self, client: SqlClient) -> None:
        """Asks the tables themselves: no key may have rows in both."""
        parts = [f"SELECT k FROM {table}" for table in _TABLES]

        async def perform() -> list[int]:
            rows = (await client.single(" UNION ALL ".join(parts))).rows
            return sorted(int(row[0]) for row in rows)

        await client.operation("read", None, None, perform)

    def split_statement(self, rng: Random) -> str:
        return self._split(rng.choice(_TABLES), rng.randrange(max(self._keys, 2)))

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = list(self._problems)
        for op in history.ops:
            if op.f == "read" and op.type == "ok":
                twice = sorted({key for key in op.value if op.value.count(key) > 1})
                problems += [f"g2: key {key} has two rows in the end" for key in twice]
        return problems + findings(g2.check([op for op in history.ops if op.f == "insert"]))

    def _split(self, table: str, at: int) -> str:
        values = f"({at}, 0)" if self.access == "prefix" else f"({at})"
        return f"ALTER TABLE {table} SPLIT AT VALUES {values}"

    async def _insert(self, client: SqlClient, key: int, half: int) -> None:
        self._ids += 1
        number = self._ids
        value = [key, [number, None] if half == 0 else [None, number]]
        order = client.rng.sample(_TABLES, 2)

        async def insert_if_none() -> bool:
            for table in order:
                sql = f"SELECT id FROM {table} WHERE k = $1 AND value % 3 = 0"
                if (await client.statement(sql, (key,))).rows:
                    return False
            sql = f"INSERT INTO {_TABLES[half]} (k, id, value) VALUES ($1, $2, 30)"
            await client.statement(sql, (key, number))
            return True

        async def perform() -> object:
            if not await client.transaction(insert_if_none):
                raise RefusedError("there is a row")
            return value

        await client.operation(
            "insert", None, value, lambda: told(self._problems, f"insert {value}", perform)
        )
