"""Multi-register: transactions read or write several registers at once; each group of registers is linearizable as
one.

The registers of a group lie in tables of three kinds and so in several ranges. What Elle infers from dependencies
is here searched for directly: is there one order of the transactions, in real time, that explains every read? It
hunts torn commits (a reader that sees one range's half), stale reads at one of two leaseholders, and lost updates.

Groups are retired after a number of transactions, for the search grows with what overlaps.
"""

from __future__ import annotations

from random import Random
from typing import Final

from txndb.sim.checkers import multiregister
from txndb.sim.checkers.elle.judge import check_rw
from txndb.sim.history import History
from txndb.sim.workloads.api import SqlClient, meet, wander
from txndb.sim.workloads.cells import REGISTERS, make, split_somewhere
from txndb.sim.workloads.micro import Micro, Performer, told
from txndb.sim.workloads.verdicts import findings

_REGISTERS: Final = 3
_GROUPS_LIVE: Final = 3
_TRANSACTIONS_PER_GROUP: Final = 60
_FINAL_GROUPS_MAX: Final = 100


class MultiRegister:
    """The workload; register i of group g has the key 3g + i and lies in table i."""

    model = "multi-register"

    def __init__(self, rng: Random) -> None:
        self.splits = rng.randrange(3)
        kinds = [rng.choice(REGISTERS) for _ in range(_REGISTERS)]
        self.performer = Performer([kind(f"multi{i}") for i, kind in enumerate(kinds)])
        self.reads = rng.choice((0.3, 0.5))
        self._invoked = 0
        self._values = 0

    async def set_up(self, client: SqlClient) -> None:
        await make(client, self.performer.tables, self.splits)

    async def operate(self, client: SqlClient) -> None:
        await wander(client, 0.2)
        await meet(client, 0.3)
        rng = client.rng
        self._invoked += 1
        generation = self._invoked // (_GROUPS_LIVE * _TRANSACTIONS_PER_GROUP)
        group = generation * _GROUPS_LIVE + rng.randrange(_GROUPS_LIVE)
        chosen = sorted(rng.sample(range(_REGISTERS), 1 + rng.randrange(_REGISTERS)))
        micros: list[Micro] = []
        mixed = rng.random() < 0.3
        reads = rng.random() < self.reads
        for i in range(_REGISTERS) if reads and not mixed else chosen:
            if rng.random() < 0.5 if mixed else reads:
                micros.append(["r", _REGISTERS * group + i, None])
            else:
                self._values += 1
                micros.append(["w", _REGISTERS * group + i, self._values])
        await self._transact(client, group, micros)

    async def read_all(self, client: SqlClient) -> None:
        groups = (self._invoked // (_GROUPS_LIVE * _TRANSACTIONS_PER_GROUP) + 1) * _GROUPS_LIVE
        for group in range(max(0, groups - _FINAL_GROUPS_MAX), groups):
            await self._transact(
                client, group, [["r", _REGISTERS * group + i, None] for i in range(_REGISTERS)]
            )

    def split_statement(self, rng: Random) -> str:
        return split_somewhere(self.performer.tables, rng, 4 * _GROUPS_LIVE)

    def check(self, history: History, *, real_time: bool = True) -> list[str]:
        problems = self.performer.found(history)
        return problems + findings(multiregister.check(history.ops) if real_time else check_rw(history.ops))

    async def _transact(self, client: SqlClient, group: int, micros: list[Micro]) -> None:
        style = client.rng.random()

        async def perform() -> list[Micro]:
            if len(micros) == 1 and style < 0.5:
                return await self.performer.alone(client, micros[0])
            if style < 0.5 and all(micro[0] == "r" for micro in micros):
                return await self.performer.together(client, micros, "BEGIN READ ONLY")
            return await self.performer.together(client, micros)

        problems = self.performer.problems
        await client.operation("txn", group, micros, lambda: told(problems, f"txn {micros}", perform))
