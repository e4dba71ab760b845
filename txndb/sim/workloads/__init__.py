"""Workloads: what clients do through SQL, and what must hold of the history they leave."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from txndb.sim.clients import Client
from txndb.sim.history import History
from txndb.sim.workloads.bank import Bank
from txndb.sim.workloads.cycle import Cycle
from txndb.sim.workloads.ddl import Ddl
from txndb.sim.workloads.register import Register


class Workload(Protocol):
    """One kind of traffic with its invariant."""

    async def set_up(self, client: Client) -> None:
        """Make and fill the tables, split over ranges."""

    async def operate(self, client: Client) -> None:
        """Perform one operation, recorded in the history."""

    async def read_all(self, client: Client) -> None:
        """The last operation: read everything once more."""

    def split_statement(self, rng: Random) -> str:
        """A statement that splits a table somewhere."""

    def check(self, history: History) -> list[str]:
        """What is wrong with the history; empty if nothing is."""


MAKERS: Final[dict[str, Callable[[Random], Workload]]] = {
    "bank": Bank,
    "cycle": Cycle,
    "register": Register,
    "ddl": Ddl,
}
