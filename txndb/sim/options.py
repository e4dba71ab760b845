"""What one seed draws: a swarm of options, each run with some faults and without others.

Swarm testing (Groce et al., ISSTA 2012): a run that lacks some faults finds bugs that a run with all of them hides.
The categories named on the command line bound the draw; the seed decides which of them, and how hard.
"""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from txndb.limits import CATALOG_LEASE_US
from txndb.sim.clocks import ClockOptions
from txndb.sim.iosim import IoOptions
from txndb.sim.network import NetworkOptions
from txndb.sim.seeds import derive

CATEGORIES: Final = ("crash", "net", "disk", "clock")
DATABASE: Final = "database"
"""What is done to the database on purpose: splits, lease transfers, graceful restarts."""
WORKLOADS: Final = ("bank", "cycle", "register")
SQL_WORKLOADS: Final = ("ddl",)
"""Workloads only a whole SQL database can run."""
DATABASE_KINDS: Final = ("split", "transfer", "restart")
NODES_MIN, NODES_MAX = 3, 7
_EVENT_FAULTS: Final = {
    "crash": ("kill", "power", "pause", "rolling", "blackout", "power_in_io"),
    "net": ("isolate", "halves", "one_way", "ring", "bridge", "slow", "reset"),
    "disk": ("stall", "sync_error", "write_error", "full"),
    "clock": ("clock_step",),
}


class WorldOptions(msgspec.Struct, frozen=True):
    """Every drawn and given option of one run."""

    seed: int
    workload: str
    nodes: int
    seconds: float
    clients: int
    client_timeout_us: int
    fault_kinds: tuple[str, ...]
    fault_every_us: int
    fault_lasts_us: int
    network: NetworkOptions
    clock: ClockOptions
    io: IoOptions
    engine_flush_bytes: int
    canaries: tuple[str, ...] = ()
    database_kinds: tuple[str, ...] = ()
    database_every_us: int = 1_000_000
    catalog_lease_us: int = CATALOG_LEASE_US


def draw_options(
    seed: int,
    *,
    faults: str = "all",
    workload: str = "",
    nodes: int = 0,
    seconds: float = 10.0,
    canaries: tuple[str, ...] = (),
    sql: bool = False,
) -> WorldOptions:
    """The options of one seed; what is given (not empty or zero) is not drawn, but drawn numbers stay the same.

    `sql`: the world is a whole SQL database. What was added later is drawn from a stream of its own.
    """
    rng = derive(seed, "options")
    drawn_nodes = rng.choice((3, 3, 4, 5, 5, 6, 7))
    drawn_workload = rng.choice(WORKLOADS)
    allowed = CATEGORIES if faults == "all" else () if faults == "none" else tuple(faults.split(","))
    chosen = tuple(kind for kind in CATEGORIES if rng.random() < 0.75 or faults == kind)
    used = tuple(kind for kind in chosen if kind in allowed)
    kinds = [
        kind for category in CATEGORIES for kind in _EVENT_FAULTS[category] if _keep(rng, category, used)
    ]
    later = derive(seed, "options/database")
    if later.random() < 0.3 and sql:
        drawn_workload = later.choice(SQL_WORKLOADS)
    disturbed = later.random() < 0.6 and (faults == "all" or DATABASE in allowed)
    database_kinds = tuple(kind for kind in DATABASE_KINDS if later.random() < 0.7 and disturbed)
    return WorldOptions(
        seed=seed,
        workload=workload or drawn_workload,
        nodes=nodes or drawn_nodes,
        seconds=seconds,
        clients=rng.randrange(3, 11),
        client_timeout_us=rng.choice((3, 10, 30, 70)) * 1_000_000,
        fault_kinds=tuple(kinds),
        fault_every_us=rng.choice((300_000, 800_000, 2_000_000)),
        fault_lasts_us=rng.choice((300_000, 1_500_000, 4_000_000)),
        network=_draw_network(derive(seed, "options/net"), faulty="net" in used),
        clock=_draw_clock(derive(seed, "options/clock"), faulty="clock" in used),
        io=_draw_io(derive(seed, "options/disk"), faulty="disk" in used),
        engine_flush_bytes=rng.choice((20_000, 200_000, 4_000_000)),
        canaries=canaries,
        database_kinds=database_kinds,
        database_every_us=later.choice((200_000, 600_000, 2_000_000)),
        catalog_lease_us=later.choice((2_000_000, 5_000_000, CATALOG_LEASE_US)),
    )


def _keep(rng: Random, category: str, used: tuple[str, ...]) -> bool:
    """Whether one fault of a category takes part; draws in any case, so that --faults does not shift the rest."""
    return rng.random() < 0.6 and category in used


def _draw_network(rng: Random, *, faulty: bool) -> NetworkOptions:
    mean = rng.choice((100, 300, 1_000, 5_000))
    if not faulty:
        return NetworkOptions(latency_mean_us=min(mean, 1_000))
    datagram = rng.random() < 0.4
    loss = rng.choice((0.0, 0.0, 0.01, 0.05)) if datagram else rng.choice((0.0, 0.0, 0.0005, 0.002))
    return NetworkOptions(
        latency_min_us=rng.choice((20, 50, 200)),
        latency_mean_us=mean,
        tail=rng.choice((0.0, 0.001, 0.02)),
        loss=loss,
        duplicate=rng.choice((0.0, 0.01, 0.1)) if datagram else 0.0,
        datagram=datagram,
        detect_max_us=rng.choice((300_000, 2_000_000, 6_000_000)),
    )


def _draw_clock(rng: Random, *, faulty: bool) -> ClockOptions:
    if not faulty:
        return ClockOptions()
    bound = rng.choice((0, 200, 2_000, 20_000, 200_000))
    return ClockOptions(
        error_bound_us=bound,
        drift_ppm_max=rng.choice((100, 5_000, 100_000)),
        rate_ppm_max=rng.choice((0, 200, 20_000)),
    )


def _draw_io(rng: Random, *, faulty: bool) -> IoOptions:
    if not faulty:
        return IoOptions()
    return IoOptions(latency_mean_us=rng.choice((100, 500, 3_000)), slow=rng.choice((0.0, 0.002, 0.02)))


def calm(options: WorldOptions) -> NetworkOptions:
    """The network after healing: the seed's delays, without losses."""
    return NetworkOptions(latency_mean_us=min(options.network.latency_mean_us, 1_000))
