"""`python -m txndb.sim.canaries`: switch every rule off, one at a time, and count the seeds until somebody notices.

A checker that never fails proves nothing, and neither does a fault that never hurts. Each rule here was seen to break
something (in a model, or in this code); the soak's own draw of workloads and faults must notice its absence within
`SEEDS_MAX` seeds. A canary that is not caught is a bug in the checkers, the workloads or the faults.

Seeds are those of the soak, one after another. One that drew nothing of what a rule is about (no DDL, no clock beyond
its bound, no power loss) is counted like any other, as a seed that noticed nothing, and need not be run.

Invariant: `CANARIES` names every switch there is in the code, and no other (a test compares).
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import click
import msgspec

from txndb.sim.options import SQL_WORKLOADS, WORKLOADS, WorldOptions
from txndb.sim.run import Request, commit, run_seed
from txndb.sim.world import Report

SEEDS_MAX: Final = 1_000


POWER: Final = ("power", "power_in_io", "power_torn", "blackout", "rolling", "restart")
"""What loses what was not synced."""
DEPOSED: Final = (
    *("isolate", "isolate_first", "isolate_busiest", "halves", "one_way", "ring", "bridge", "short_reigns"),
    *("voters_restart", "pause", "pause_leader"),
)
"""What leaves a process behind that still believes to lead."""
FALLS: Final = (*DEPOSED, *POWER, "kill", "kill_leader", "stall", "long_stall", "lose", "transfer")
"""What makes leaders change."""
BEYOND: Final = ("clock_jump",)
SPLIT: Final = ("split", "split_prepared", "split_writing")
LOCKING: Final = ("append", "rw", "bank", "counter", "cycle", "g2", "monotonic")
"""Traffic that reads what it then writes."""
DDL: Final = ("ddl", "schema", "schema_race")
"""Traffic that changes the catalogue."""
READING: Final = ("register", "append", "rw", "multi-register", "set-full", "comments", "sequential")
"""Traffic whose reads must be of now."""


class Canary(msgspec.Struct, frozen=True):
    """A rule that can be switched off. `faults`: one of these has to be drawn, `workloads`: one of these, as workload
    or as what is done to the database meanwhile, and with `clocks` clocks that differ, for a seed to be worth running;
    empty: whatever was drawn."""

    rule: str
    broken: str
    faults: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    clocks: bool = False
    besides: tuple[str, ...] = ()
    """Rules that keep the same harm away by themselves: they are switched off together."""

    def may_show(self, options: WorldOptions) -> bool:
        """Whether a run of these options has what the rule is about."""
        drawn = {*options.fault_kinds, *options.database_kinds}
        return (
            (not self.faults or not drawn.isdisjoint(self.faults))
            and (not self.workloads or not {options.workload, *drawn}.isdisjoint(self.workloads))
            and (not self.clocks or options.clock.error_bound_us > 0)
        )


CANARIES: Final = tuple(
    Canary(*row)
    for row in (
        ("T1", "a node whose clock is off by more than E goes on serving", ("clock_unsure",)),
        ("T2", "timestamps above a leaseholder's own latest are used at once", FALLS, (), True),
        ("T3", "what is committed is shown before commit wait is over", (), (), True),
        ("T4", "the right half of a split does not know what has applied", SPLIT),
        ("T5", "a commit timestamp may lie below a version that was read", BEYOND),
        ("L1", "a new leader serves at once, with read_ts at zero", FALLS, (), True),
        ("L1-locks", "a new leader does not rebuild the locks of prepared transactions", FALLS),
        ("L2", "the lease is not checked before an answer is fixed", DEPOSED, READING),
        ("L4", "locks handed over are believed in a later term too", ("lost_handover",)),
        ("C1", "a command of another term or generation is applied", SPLIT, (), False, ("R1",)),
        ("C2", "the recorded outcome is not looked up first", FALLS),
        ("C3", "a proposed transaction may still be wounded"),
        ("K1", "a lost token is answered with a new entry", (), LOCKING, False, ("R3",)),
        ("K2", "index entries and inserted keys are locked shared only", (), LOCKING),
        ("K3", "locks are granted past older waiters, who do not wound whoever got them"),
        ("K6", "a statement of a block is retried in a new attempt"),
        ("K7", "a rollback to a savepoint forgets the spans read and the wound", (), ("append", "rw")),
        ("M3", "prepare does not fix its bound above what was read", (), READING),
        ("M4", "read participants are not validated at the final timestamp", FALLS, LOCKING),
        ("M7", "what a dead gateway prepared is dropped, and the anchor not asked", FALLS),
        ("S1", "a snapshot neither raises read_ts nor waits for committing writers"),
        ("R1", "commits go on while a split is being proposed", SPLIT, (), False, ("C1",)),
        ("R3", "a token need not cover the spans of a commit", (), LOCKING, False, ("K1",)),
        ("R4", "a half without a write stays prepared after a split", ("split_prepared",)),
        ("D1", "catalogue leases do not bound commit timestamps", (), DDL),
        ("D2", "DDL does not wait for the users of the old catalogue", (), DDL),
        ("D2-version", "DDL commits on top of a version it did not see", (), DDL),
        ("D3", "a running user's lease grows although the version changed", (), DDL),
        ("D4", "DDL's timestamp does not exceed used_ts and unreturned expiries", (), DDL),
        ("D5", "a lease that was asked back while it was being taken is used", (), DDL),
        ("D6", "an acquisition has an age of its own", (), DDL),
        ("D7", "CREATE INDEX reads the rows without locking them", (), DDL),
        ("snapshot-moment", "every read of a snapshot takes a timestamp of its own"),
        ("sequence-unlocked", "a block of a sequence's numbers is taken without locking the sequence"),
        ("phantom", "scans lock the rows they find, not the span", (), LOCKING),
        ("P1", "the log reports flushes as synced that are not", POWER),
        ("P2", "what a dropped log segment held is not written again", POWER),
        ("P3", "logs are truncated before the engine is durable", POWER),
        ("P4", "a snapshot is installed without a note in the log before", POWER),
        ("P5", "the right half of a split begins before the engine is durable", POWER),
        ("P6", "recovery does not sync the tail it found in the page cache", POWER),
        ("torn-tail", "recovery accepts a torn flush at the end of the log", POWER),
        (
            "vote-forgotten",
            "a restarted voter does not know whom it voted for",
            ("voters_restart", "short_reigns"),
        ),
        ("ack-before-persist", "appends are acknowledged before they are durable", POWER),
        ("ack-before-replication", "what one voter holds counts as committed"),
        ("snapshot-over", "a snapshot is written over what the replica held before", FALLS),
        ("append-unchecked", "entries are appended to others than those the leader has there", DEPOSED),
        (
            "commit-old-term-by-counting",
            "entries of old terms are committed by counting replicas",
            ("short_reigns",),
        ),
        ("stale-lease", "the leader's lease does not end", DEPOSED),
        ("frames-unchecked", "checksums of frames, calls and snapshots are not compared"),
    )
)


def must_be_known(rules: tuple[str, ...]) -> tuple[str, ...]:
    """The rules as they are; raises `click.BadParameter` where one is no canary."""
    known = [canary.rule for canary in CANARIES]
    unknown = sorted(set(rules).difference(known))
    if unknown:
        raise click.BadParameter(f"no rule is called {', '.join(unknown)}; there are {', '.join(known)}")
    return rules


class Finding(msgspec.Struct, frozen=True):
    """How one canary was caught. `distances`: seeds run until each catch, the catching one included."""

    rule: str
    broken: str
    caught_by: dict[str, int]
    distances: list[int]
    seeds: int

    @property
    def median(self) -> float | None:
        """Median seeds to a catch; None if it was never caught."""
        return statistics.median(self.distances) if self.distances else None


class Look(msgspec.Struct, frozen=True):
    """What one seed said. `by`: who noticed the canary; empty if nobody did."""

    seed: int
    by: str = ""
    violation: str = ""


def hunt(canary: Canary, request: Request, seeds: Iterable[int], catches: int) -> Iterator[Look]:
    """One look per seed, until so many of them caught the canary. A seed that is a violation with every rule in place
    too says nothing of the canary, and is left out."""
    found = 0
    broken = msgspec.structs.replace(request, canaries=(canary.rule, *canary.besides))
    for seed in seeds:
        if found >= catches:
            return
        if not canary.may_show(broken.options(seed)):
            yield Look(seed)
            continue
        report, _ = run_seed(broken, seed)
        if report.ok:
            yield Look(seed)
        elif run_seed(request, seed)[0].ok:
            found += 1
            yield Look(seed, catcher(broken, report), report.violation)


def catcher(request: Request, report: Report) -> str:
    """Who noticed: the workload's checker by name, or the sort of invariant."""
    text = report.violation
    if "stopped itself" in text:
        return "a node stopped: " + text.partition("stopped itself: ")[2].partition(":")[0]
    for sign, name in (
        ("election safety", "Raft's election safety"),
        ("state machine safety", "Raft's state machine safety"),
        ("catalogue leases, invariant", "invariant of the catalogue leases"),
        ("race: ", "columns of racing DDL"),
        ("leases: ", "exclusion of leases"),
        ("promises: ", "promises of leaseholders"),
        ("log matching", "Raft's log matching"),
        ("replicas of range", "replica comparison"),
        ("not within", "progress"),
        ("the last read failed", "progress"),
        ("AssertionError", "assertion"),
        ("InternalError", "invariant"),
        ("Traceback", "exception"),
        ("raised", "exception"),
    ):
        if sign in text:
            return name
    return f"checker of {request.options(report.seed).workload}"


def judge(canary: Canary, looks: Iterable[Look]) -> Finding:
    """Count seeds between catches."""
    caught: Counter[str] = Counter()
    distances = []
    seeds = since = 0
    for look in looks:
        seeds += 1
        since += 1
        if look.by:
            caught[look.by] += 1
            distances.append(since)
            since = 0
    rule = " with ".join((canary.rule, *canary.besides))
    return Finding(rule, canary.broken, dict(caught.most_common()), distances, seeds)


def within(seeds: Iterable[int], wall_s: float) -> Iterator[int]:
    """Seeds for so many real seconds."""
    end = time.monotonic() + wall_s
    return itertools.takewhile(lambda _: time.monotonic() < end, seeds)


def line_of(finding: Finding) -> str:
    """A row of the table in `docs/testing.md`."""
    by = ", ".join(finding.caught_by) or "**not caught**"
    median = f"{finding.median:g}" if finding.median is not None else f"> {finding.seeds}"
    return f"| {finding.rule} | {finding.broken} | {by} | {median} |"


@click.command()
@click.option(
    "--rule",
    multiple=True,
    callback=lambda context, parameter, rules: must_be_known(rules),
    help="Only these canaries.",
)
@click.option(
    "--workload",
    type=click.Choice([*WORKLOADS, *SQL_WORKLOADS]),
    help="Run this one in every seed, to see what its checker notices.",
)
@click.option("--first-seed", type=int, default=1, show_default=True)
@click.option("--seeds-max", type=click.IntRange(1), default=SEEDS_MAX, show_default=True)
@click.option("--catches", type=click.IntRange(1), default=3, show_default=True, help="Catches per canary.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True)
@click.option(
    "--wall-seconds", type=click.FloatRange(min=1), default=86_400.0, help="Give a canary up after so long."
)
@click.option("--json", "as_json", is_flag=True)
def main(
    rule: tuple[str, ...],
    workload: str | None,
    first_seed: int,
    seeds_max: int,
    catches: int,
    seconds: float,
    wall_seconds: float,
    as_json: bool,
) -> None:
    """Print, for each rule switched off, who noticed and after how many seeds; exit 1 if one was not caught."""
    missed = 0
    if not as_json:
        click.echo(
            f"commit {commit()}\n| rule | switched off: | caught by | median seeds |\n|---|---|---|---|"
        )
    for canary in CANARIES:
        if rule and canary.rule not in rule:
            continue
        request = Request(seconds=seconds)
        if workload is not None:
            request = msgspec.structs.replace(request, workload=workload)
            canary = msgspec.structs.replace(canary, workloads=())
        seeds = within(range(first_seed, first_seed + seeds_max), wall_seconds)
        finding = judge(canary, hunt(canary, request, seeds, catches))
        missed += not finding.distances
        click.echo(msgspec.json.encode(finding).decode() if as_json else line_of(finding))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
