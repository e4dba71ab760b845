"""Workloads: what clients do through SQL, and what must hold of the history they leave."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from txndb.sim.workloads.api import Workload as Workload
from txndb.sim.workloads.append import Append
from txndb.sim.workloads.bank import Bank
from txndb.sim.workloads.comments import Comments
from txndb.sim.workloads.counter import Counter
from txndb.sim.workloads.cycle import Cycle
from txndb.sim.workloads.ddl import Ddl
from txndb.sim.workloads.g2 import G2
from txndb.sim.workloads.longfork import LongFork
from txndb.sim.workloads.monotonic import Monotonic
from txndb.sim.workloads.multiregister import MultiRegister
from txndb.sim.workloads.mutex import Mutex
from txndb.sim.workloads.register import Register
from txndb.sim.workloads.rw import Rw
from txndb.sim.workloads.sequential import Sequential
from txndb.sim.workloads.sets import SetFull, SetWorkload
from txndb.sim.workloads.uniqueids import UniqueIds

MAKERS: Final[dict[str, Callable[[Random], Workload]]] = {
    "append": Append,
    "bank": Bank,
    "comments": Comments,
    "counter": Counter,
    "cycle": Cycle,
    "ddl": Ddl,
    "g2": G2,
    "long-fork": LongFork,
    "monotonic": Monotonic,
    "multi-register": MultiRegister,
    "mutex": Mutex,
    "register": Register,
    "rw": Rw,
    "sequential": Sequential,
    "set": SetWorkload,
    "set-full": SetFull,
    "unique-ids": UniqueIds,
}
