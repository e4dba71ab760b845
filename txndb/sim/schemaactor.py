"""DDL racing DML: the tables of any workload get and lose indexes and columns while it runs.

Names of its own (`extra_…`) keep it apart from what the workload makes; its columns come last, have defaults, and are
seen by nobody who names the columns he wants. What statements answer is of no interest here: that the history stays
right although the plans and the rows change is the test. At rest `check` compares what the indexes that are left
answer with what their tables hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

from txndb.errors import TxndbError
from txndb.sim.clients import Client, ConnectionLostError, GaveUpError
from txndb.sim.trace import Trace

_COLUMNS: Final = (
    "SELECT table_name, column_name FROM information_schema.columns "
    "WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
)
_INDEXES: Final = "SELECT indexname FROM pg_indexes WHERE indexname LIKE 'extra%'"
_VALUES_MAX: Final = 40


class SchemaActor:
    """Changes the schema, one statement an act."""

    def __init__(
        self, client: Callable[[int], Client], number: int, trace: Trace, problem: Callable[[str], None]
    ) -> None:
        self._client = client
        self._problem = problem
        self._number = number
        self._trace = trace
        self._acts = 0

    async def act(self, rng: Random) -> None:
        """One change, drawn from what there is."""
        self._acts += 1
        client = self._client(self._number + self._acts)
        try:
            statement = self._statement(rng, (await client.single(_COLUMNS)).rows)
            if statement:
                await client.single(statement, writes=True)
                self._trace.counts[f"schema_{statement.split()[0].lower()}"] += 1
        except (TxndbError, ConnectionLostError, GaveUpError) as error:
            self._trace.counts["schema_refused"] += 1
            if isinstance(error, TxndbError) and error.code.startswith("XX"):
                self._problem(f"schema: {error.code} {error.message} {error.detail}")
        finally:
            client.close()

    def _statement(self, rng: Random, columns: list[tuple[str, str]]) -> str:
        if not columns:
            return ""
        table, column = columns[rng.randrange(len(columns))]
        extra = [name for of, name in columns if of == table and name.startswith("extra_")]
        draw = rng.random()
        index = f"extra_{table}_{column}"
        if draw < 0.35:
            return f"CREATE INDEX IF NOT EXISTS {index} ON {table} ({column})"
        if draw < 0.6:
            return f"DROP INDEX IF EXISTS {index}"
        if draw < 0.8 or not extra:
            return f"ALTER TABLE {table} ADD COLUMN extra_{self._acts} BIGINT DEFAULT {self._acts}"
        return f"ALTER TABLE {table} DROP COLUMN {rng.choice(extra)}"

    async def check(self, client: Client) -> list[str]:
        """Every value that a read of the whole rows finds is found through the index on it, as often and no oftener."""
        problems: list[str] = []
        columns = [tuple(row) for row in (await client.single(_COLUMNS)).rows]
        indexes = {name for (name,) in (await client.single(_INDEXES)).rows}
        for table, column in columns:
            if f"extra_{table}_{column}" in indexes:
                position = [name for of, name in columns if of == table].index(column)
                problems += await self._check_index(client, table, column, position)
        return problems

    async def _check_index(self, client: Client, table: str, column: str, position: int) -> list[str]:
        self._trace.counts["indexes_checked"] += 1
        rows = (await client.single(f"SELECT * FROM {table}")).rows
        counted = Counter(row[position] for row in rows if isinstance(row[position], int | str))
        problems = []
        for value, count in sorted(counted.items(), key=repr)[:_VALUES_MAX]:
            found = await client.single(f"SELECT count(*) FROM {table} WHERE {column} = $1", (value,))
            if found.rows != [(count,)]:
                problems.append(
                    f"{table}.{column} = {value!r}: {count} rows, but {found.rows} through the index"
                )
        return problems
