"""What one seed draws: a swarm of options, each run with some faults and without others.

Swarm testing (Groce et al., ISSTA 2012): a run that lacks some faults finds bugs that a run with all of them hides.
The categories named on the command line bound the draw; the seed decides which of them, and how hard.

A run is a function of its options. When and what the nemesis and the operator do is drawn while the run goes on, and
recorded; with an explicit `schedule` they do that and nothing else, which is how a failing run is made smaller
(`txndb.sim.shrink`) and kept (`txndb.sim.replay`).
"""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from txndb.cluster.options import RaftOptions
from txndb.limits import CATALOG_LEASE_US, OUTCOME_TTL_US
from txndb.sim.clients import ClientOptions
from txndb.sim.clocks import ClockOptions
from txndb.sim.iosim import IoOptions
from txndb.sim.network import NetworkOptions
from txndb.sim.seeds import derive

CATEGORIES: Final = ("crash", "net", "disk", "clock")
DATABASE: Final = "database"
"""What is done to the database on purpose: splits, lease transfers, graceful restarts, DDL, reads of the past."""
CLIENT: Final = "client"
"""What clients do: hang up in the middle of COMMIT, dawdle in transactions, read slowly."""
FAULTS: Final = (*CATEGORIES, DATABASE, CLIENT)
WORKLOADS: Final = ("bank", "cycle", "register")
SQL_WORKLOADS: Final = (
    "ddl",
    "append",
    "rw",
    "multi-register",
    "set",
    "set-full",
    "counter",
    "monotonic",
    "sequential",
    "long-fork",
    "comments",
    "g2",
    "mutex",
    "unique-ids",
)
"""Workloads only a whole SQL database can run."""
SQL_WORKLOADS_SHARE: Final = 0.6
CHANGES_ITS_SCHEMA: Final = "ddl"
"""This one changes its tables itself, and looks at all their columns."""
DATABASE_KINDS: Final = ("split", "transfer", "restart")
NODES_MIN, NODES_MAX = 3, 7
SMALL_NODES, SMALL_SECONDS = 4, 10.0
"""Runs up to this size may look at every machine's invariants after every single event."""
EVENT_FAULTS: Final[dict[str, tuple[str, ...]]] = {
    "crash": ("kill", "power", "pause", "rolling", "blackout", "power_in_io"),
    "net": ("isolate", "halves", "one_way", "ring", "bridge", "slow", "reset"),
    "disk": ("stall", "sync_error", "write_error", "full"),
    "clock": ("clock_step",),
}
SCHEMA_RACE: Final = "schema_race"
SQL_DATABASE_KINDS: Final = ("schema", "old_read", "split_prepared", "split_writing", SCHEMA_RACE)
"""Acts that only a whole SQL database understands: DDL on the workload's tables, reads of the past, splits where a
transaction is at work, DDL that races DDL."""
OUTCOME_TTLS_US: Final = (4_000_000, 60_000_000, 60_000_000)
"""With the short one a transaction that dawdles is older than outcomes are kept (rule M6). Shorter still, DDL that has
to wait for leases would never be young enough to commit."""
RACE_LEASE_US: Final = 2_000_000
"""A race lasts as long as a catalogue lease: with longer ones there would be one a run."""
LATER_FAULTS: Final[dict[str, tuple[str, ...]]] = {
    "crash": ("kill_leader", "pause_leader", "lose", "half_lost", "clone"),
    "net": ("isolate_first", "isolate_busiest", "clog", "clog_leader", "corrupt"),
    "disk": ("read_error", "engine_error", "long_stall", "rot", "misdirect"),
    "clock": ("clock_unsure",),
}
"""Drawn from a stream of their own."""
QUICK_ELECTIONS: Final = {"heartbeat_us": 40_000, "election_min_us": 150_000, "election_max_us": 300_000}
"""With them a new leader begins before the clocks' bounds have passed (rule L1), and many do in one run."""
WIDE_ELECTIONS: Final = {"heartbeat_us": 40_000, "election_min_us": 150_000, "election_max_us": 1_500_000}
"""With them a leader that is cut off goes on for long beside its successor, and only its lease tells it (rule L2)."""
RAFT_FAULTS: Final[dict[str, tuple[str, ...]]] = {
    "crash": ("power_torn", "voters_restart"),
    "net": ("short_reigns", "lost_handover"),
}
"""Aimed at elections and at the log's last flush; again a stream of their own."""
RAFT_WEIGHT: Final = 3
"""Where one of them is drawn it comes often: it takes several to hurt."""
CLOCK_BEYOND: Final = "clock_jump"
"""A clock that is off by more than E and does not know: drawn in few runs, for it costs real-time order (rule T5)."""


CLOCK_BEYOND_WEIGHT: Final = 5
"""A run that has it has it often: what it costs must show within a second, for then the node fences itself."""


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """One thing that was done: when (virtual microseconds after the safety phase began), what, and which of its sort.

    `number` names the stream of chance that decides the rest, so leaving other faults out does not change this one.
    """

    at_us: int
    kind: str
    number: int


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
    outcome_ttl_us: int = OUTCOME_TTL_US
    raft: RaftOptions = RaftOptions()
    client: ClientOptions = ClientOptions()
    validate_every_event: bool = False
    schedule: tuple[Fault, ...] | None = None
    """What nemesis and operator do; None = drawn as the run goes on."""

    @property
    def real_time_holds(self) -> bool:
        """Whether clocks keep the bound, so that the history must respect real time (rule T5)."""
        return CLOCK_BEYOND not in self.fault_kinds


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
    allowed = FAULTS if faults == "all" else () if faults == "none" else tuple(faults.split(","))
    chosen = tuple(kind for kind in CATEGORIES if rng.random() < 0.75 or faults == kind)
    used = tuple(kind for kind in chosen if kind in allowed)
    kinds = [kind for category in CATEGORIES for kind in EVENT_FAULTS[category] if _keep(rng, category, used)]
    kinds += _draw_later_kinds(derive(seed, "options/faults"), used)
    kinds += _draw_raft_kinds(derive(seed, "options/raft"), used)
    later = derive(seed, "options/database")
    if later.random() < SQL_WORKLOADS_SHARE and sql:
        drawn_workload = later.choice((*SQL_WORKLOADS, CHANGES_ITS_SCHEMA))  # DDL has the most to lose
    disturbed = later.random() < 0.6 and DATABASE in allowed
    database_kinds = tuple(kind for kind in DATABASE_KINDS if later.random() < 0.7 and disturbed)
    if sql and disturbed:
        beyond = CLOCK_BEYOND in kinds
        database_kinds += _draw_sql_kinds(derive(seed, "options/sql"), workload or drawn_workload, beyond)
    database_every_us = later.choice((200_000, 600_000, 2_000_000))
    catalog_lease_us = later.choice((2_000_000, 5_000_000, CATALOG_LEASE_US))
    if _draw_race(derive(seed, "options/race"), workload or drawn_workload) and sql and disturbed:
        database_kinds, catalog_lease_us = (*database_kinds, SCHEMA_RACE), RACE_LEASE_US
    nodes = nodes or drawn_nodes
    small = nodes <= SMALL_NODES and seconds <= SMALL_SECONDS
    return WorldOptions(
        seed=seed,
        workload=workload or drawn_workload,
        nodes=nodes,
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
        database_every_us=database_every_us,
        catalog_lease_us=catalog_lease_us,
        outcome_ttl_us=derive(seed, "options/outcomes").choice(OUTCOME_TTLS_US),
        raft=_draw_raft(derive(seed, "options/log")),
        client=_draw_client(derive(seed, "options/client"), faulty=CLIENT in allowed),
        validate_every_event=small and derive(seed, "options/validate").random() < 0.3,
    )


def _keep(rng: Random, category: str, used: tuple[str, ...]) -> bool:
    """Whether one fault of a category takes part; draws in any case, so that --faults does not shift the rest."""
    return rng.random() < 0.6 and category in used


def _draw_later_kinds(rng: Random, used: tuple[str, ...]) -> list[str]:
    kinds = [
        kind
        for category in CATEGORIES
        for kind in LATER_FAULTS[category]
        if rng.random() < 0.35 and category in used
    ]
    if rng.random() < 0.12 and "clock" in used:
        kinds += [CLOCK_BEYOND] * CLOCK_BEYOND_WEIGHT
    return kinds


def _draw_raft_kinds(rng: Random, used: tuple[str, ...]) -> list[str]:
    kinds = [kind for category in sorted(RAFT_FAULTS) for kind in RAFT_FAULTS[category] if category in used]
    return [kind for kind in kinds if rng.random() < 0.4 for _ in range(RAFT_WEIGHT)]


def _draw_sql_kinds(rng: Random, workload: str, beyond: bool) -> tuple[str, ...]:
    """The workload of DDL changes its tables itself, and looks at all columns. Snapshots are only as good as the
    clocks (`beyond`: they are bad)."""
    schema, old_read = rng.random() < 0.5, rng.random() < 0.5
    split_prepared, split_writing = rng.random() < 0.5, rng.random() < 0.5
    kinds = (
        ("schema", schema and workload != "ddl"),
        ("old_read", old_read and not beyond),
        ("split_prepared", split_prepared),
        ("split_writing", split_writing),
    )
    return tuple(kind for kind, drawn in kinds if drawn)


def _draw_race(rng: Random, workload: str) -> bool:
    return rng.random() < 0.5 and workload != CHANGES_ITS_SCHEMA


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
        corrupt=rng.choice((0.0, 0.0, 0.0, 0.0002, 0.002)),
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


def _draw_raft(rng: Random) -> RaftOptions:
    """Small numbers bring truncated logs, snapshots for stragglers, sealed segments, appends of one entry and many
    elections into a run of ten seconds; with the usual ones runs are as they are in the field."""
    usual = RaftOptions()
    return RaftOptions(
        compact_every_us=rng.choice((300_000, 1_000_000, usual.compact_every_us)),
        truncate_entries_min=rng.choice((4, 32, usual.truncate_entries_min)),
        keep_entries=rng.choice((20, 200, usual.keep_entries)),
        segment_bytes=rng.choice((16_384, 262_144, usual.segment_bytes)),
        append_bytes_max=rng.choice((1, 1, 2_000, usual.append_bytes_max)),
        **rng.choice((QUICK_ELECTIONS, WIDE_ELECTIONS, {})),
    )


def _draw_client(rng: Random, *, faulty: bool) -> ClientOptions:
    drawn = {
        "hang_up": rng.choice((0.0, 0.02, 0.1)),
        "dawdle": rng.choice((0.0, 0.0, 0.02, 0.05)),
        "dawdle_max_us": rng.choice((50_000, 500_000, 6_000_000)),
        "slow_reader": rng.choice((0.0, 0.0, 0.05)),
    }
    return msgspec.convert(drawn, ClientOptions) if faulty else ClientOptions()


def calm(options: WorldOptions) -> NetworkOptions:
    """The network after healing: the seed's delays, without losses."""
    return NetworkOptions(latency_mean_us=min(options.network.latency_mean_us, 1_000))
