"""Workloads: what clients do through SQL, and what must hold of the history they leave."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from txndb.sim.workloads.api import Workload as Workload
from txndb.sim.workloads.append import Append
from txndb.sim.workloads.bank import Bank
from txndb.sim.workloads.cycle import Cycle
from txndb.sim.workloads.ddl import Ddl
from txndb.sim.workloads.register import Register
from txndb.sim.workloads.rw import Rw

MAKERS: Final[dict[str, Callable[[Random], Workload]]] = {
    "bank": Bank,
    "cycle": Cycle,
    "register": Register,
    "ddl": Ddl,
    "append": Append,
    "rw": Rw,
}
