"""`python -m txndb.sim.canaries`: switch every rule off, one at a time, and count the seeds until somebody notices.

A checker that never fails proves nothing, and neither does a fault that never hurts. Each rule here was seen to break
something (in a model, or in this code); the soak's own draw of workloads and faults must notice its absence within
`SEEDS_MAX` seeds. A canary that is not caught is a bug in the checkers, the workloads or the faults.

Invariant: `CANARIES` names every switch there is in the code, and no other (a test compares).
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Final

import click
import msgspec

from txndb.sim.run import Request, commit, run_seed, run_seeds
from txndb.sim.world import Report

SEEDS_MAX: Final = 1_000


class Canary(msgspec.Struct, frozen=True):
    """A rule that can be switched off. `workload`: the only kind of traffic that exercises it, if there is one."""

    rule: str
    broken: str
    workload: str = ""


CANARIES: Final = tuple(
    Canary(*row)
    for row in (
        ("T1", "a node whose clock is off by more than E goes on serving"),
        ("T2", "timestamps above a leaseholder's own latest are used at once"),
        ("T3", "what is committed is shown before commit wait is over"),
        ("T4", "the highest applied timestamp is lost with a restart"),
        ("T5", "a commit timestamp may lie below a version that was read"),
        ("L1", "a new leader serves at once, with read_ts at zero"),
        ("L1-locks", "a new leader does not rebuild the locks of prepared transactions"),
        ("L2", "the lease is not checked before an answer is fixed"),
        ("L4", "locks handed over are believed in a later term too"),
        ("C1", "a command of another term or generation is applied"),
        ("C2", "the recorded outcome is not looked up first"),
        ("C3", "a proposed transaction may still be wounded"),
        ("K1", "a lost token is answered with a new entry"),
        ("K2", "index entries and inserted keys are locked shared only"),
        ("K3", "locks are granted past older waiters"),
        ("K6", "a statement of a block is retried in a new attempt"),
        ("K7", "a rollback to a savepoint forgets the spans read and the wound"),
        ("M3", "prepare does not fix its bound above what was read"),
        ("M4", "read participants are not validated at the final timestamp"),
        ("S1", "a snapshot neither raises read_ts nor waits for committing writers"),
        ("R1", "commits go on while a split is being proposed"),
        ("R3", "a token need not cover the spans of a commit"),
        ("R4", "a half without a write stays prepared after a split"),
        ("D1", "catalogue leases do not bound commit timestamps", "ddl"),
        ("D2", "DDL does not wait for the users of the old catalogue", "ddl"),
        ("D2-version", "DDL commits on top of a version it did not see", "ddl"),
        ("D3", "a running user's lease grows although the version changed", "ddl"),
        ("D4", "DDL's timestamp does not exceed used_ts and unreturned expiries", "ddl"),
        ("D5", "a lease that was asked back while it was being taken is used", "ddl"),
        ("D6", "an acquisition has an age of its own", "ddl"),
        ("D7", "CREATE INDEX reads the rows without locking them", "ddl"),
        ("phantom", "scans lock the rows they find, not the span"),
        ("P1", "the log reports flushes as synced that are not"),
        ("P3", "logs are truncated before the engine is durable"),
        ("P6", "recovery does not sync the tail it found in the page cache"),
        ("torn-tail", "recovery accepts a torn flush at the end of the log"),
        ("vote-forgotten", "a restarted voter does not know whom it voted for"),
        ("ack-before-persist", "appends are acknowledged before they are durable"),
        ("commit-old-term-by-counting", "entries of old terms are committed by counting replicas"),
        ("stale-lease", "the leader's lease does not end"),
    )
)


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


def hunt(request: Request, first_seed: int, seeds_max: int, catches: int, jobs: int) -> Iterator[Report]:
    """Reports of consecutive seeds, until so many of them are violations. A seed that is one with every rule in place
    too says nothing of the canary, and is left out."""
    found = 0
    sound = msgspec.structs.replace(request, canaries=())
    for report, _ in run_seeds(request, range(first_seed, first_seed + seeds_max), jobs):
        if not report.ok:
            if not run_seed(sound, report.seed)[0].ok:
                continue
            found += 1
        yield report
        if found >= catches:
            return


def catcher(request: Request, report: Report) -> str:
    """Who noticed: the workload's checker by name, or the sort of invariant."""
    text = report.violation
    if "stopped itself" in text:
        return "a node stopped: " + text.partition("stopped itself: ")[2].partition(":")[0]
    for sign, name in (
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


def judge(canary: Canary, request: Request, reports: Iterator[Report]) -> Finding:
    """Count seeds between catches."""
    caught: Counter[str] = Counter()
    distances = []
    seeds = since = 0
    for report in reports:
        seeds += 1
        since += 1
        if not report.ok:
            caught[catcher(request, report)] += 1
            distances.append(since)
            since = 0
    return Finding(canary.rule, canary.broken, dict(caught.most_common()), distances, seeds)


def line_of(finding: Finding) -> str:
    """A row of the table in `docs/testing.md`."""
    by = ", ".join(finding.caught_by) or "**not caught**"
    median = f"{finding.median:g}" if finding.median is not None else f"> {finding.seeds}"
    return f"| {finding.rule} | {finding.broken} | {by} | {median} |"


@click.command()
@click.option("--rule", multiple=True, help="Only these canaries.")
@click.option("--first-seed", type=int, default=1, show_default=True)
@click.option("--seeds-max", type=click.IntRange(1), default=SEEDS_MAX, show_default=True)
@click.option("--catches", type=click.IntRange(1), default=3, show_default=True, help="Catches per canary.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True)
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    rule: tuple[str, ...],
    first_seed: int,
    seeds_max: int,
    catches: int,
    seconds: float,
    jobs: int,
    as_json: bool,
) -> None:
    """Print, for each rule switched off, who noticed and after how many seeds; exit 1 if one was not caught."""
    unknown = set(rule) - {canary.rule for canary in CANARIES}
    if unknown:
        raise click.BadParameter(f"no such canary: {', '.join(sorted(unknown))}")
    missed = 0
    if not as_json:
        click.echo(
            f"commit {commit()}\n| rule | switched off: | caught by | median seeds |\n|---|---|---|---|"
        )
    for canary in CANARIES:
        if rule and canary.rule not in rule:
            continue
        request = Request(seconds=seconds, workload=canary.workload, canaries=(canary.rule,))
        finding = judge(canary, request, hunt(request, first_seed, seeds_max, catches, jobs))
        missed += not finding.distances
        click.echo(msgspec.json.encode(finding).decode() if as_json else line_of(finding))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
