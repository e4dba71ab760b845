"""Unique ids: numbers that the database gives are given once, whoever asks for them at which node.

SERIAL and IDENTITY columns, which are not declared unique so that nothing but the sequence keeps them apart, and
`nextval` itself. Blocks of numbers are handed to nodes; a node that crashes loses its block, and may not hand out
another's. Hunts: an advance of a sequence that was lost or applied twice (C1, C2, K1), a block used after a restart.
"""

from __future__ import annotations

from random import Random
from typing import Final

from txndb.sim.checkers import uniqueids
from txndb.sim.history import History
from txndb.sim.workloads.api import SqlClient, meet
from txndb.sim.workloads.micro import told
from txndb.sim.workloads.sets import by_key
from txndb.sim.workloads.verdicts import findings

_TABLES: Final = 2
_ROWS: Final = 40


class UniqueIds:
    """The workload; each key is a sequence, and the value of an operation is the number given."""

    model = "unique-ids"

    def __init__(self, rng: Random) -> None:
        self.splits = rng.randrange(3)
        self._notes = 0
        self._problems: list[str] = []

    async def set_up(self, client: SqlClient) -> None:
        await client.single("CREATE TABLE ids0 (note INT PRIMARY KEY, id BIGSERIAL)")
        await client.single(
            "CREATE TABLE ids1 (note INT PRIMARY KEY, id BIGINT GENERATED ALWAYS AS IDENTITY)"
        )
        for i in range(_TABLES):
            for part in range(self.splits):
                await client.single(f"ALTER TABLE ids{i} SPLIT AT VALUES ({30 * _ROWS * part + 10})")

    async def operate(self, client: SqlClient) -> None:
        await meet(client, 0.6)
        rng = client.rng
        table, style = rng.randrange(_TABLES), rng.random()
        self._notes += 1
        note = self._notes
        insert = f"INSERT INTO ids{table} (note) VALUES ($1) RETURNING id"

        async def inserted_many() -> int:
            """So many that the node's block of numbers is soon used up."""
            values = ", ".join(f"(${i + 1})" for i in range(_ROWS))
            notes = tuple(range(note * _ROWS, (note + 1) * _ROWS))
            sql = f"INSERT INTO ids{table} (note) VALUES {values} RETURNING id"
            return int((await client.single(sql, notes, writes=True)).rows[-1][0])

        async def inserted_in_block() -> int:
            return int((await client.statement(insert, (note * _ROWS,))).rows[0][0])

        async def perform() -> int:
            if style < 0.2:
                return int(
                    (await client.single(f"SELECT nextval('ids{table}_id_seq')", writes=True)).rows[0][0]
                )
            if style < 0.6:
                return await inserted_many()
            if style < 0.8:
                return int((await client.single(insert, (note * _ROWS,), writes=True)).rows[0][0])
            return await client.transaction(inserted_in_block)

        what = f"generate {table}"
        await client.operation("generate", table, None, lambda: told(self._problems, what, perform))

    async def read_all(self, client: SqlClient) -> None:
        """All numbers in the rows, which differ too."""
        for table in range(_TABLES):
            sql = f"SELECT count(*), count(DISTINCT id) FROM ids{table}"
            count, distinct = (await client.single(sql)).rows[0]
            if count != distinct:
                self._problems.append(f"ids{table}: {count} rows have {distinct} ids")

    def split_statement(self, rng: Random) -> str:
        return f"ALTER TABLE ids{rng.randrange(_TABLES)} SPLIT AT VALUES ({rng.randrange(100 * _ROWS)})"

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = list(self._problems)
        for key, ops in by_key(history).items():
            problems += findings(uniqueids.check(ops), f"of key {key}")
        return problems
