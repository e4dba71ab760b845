"""`python -m txndb.sim.soak --minutes N`: seeds without end over all workloads and faults, on every core."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

import click

from txndb.sim.cli import describe
from txndb.sim.run import NODE_PARTS, Request, commit, run_seeds


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.01), default=10.0, show_default=True)
@click.option("--first-seed", type=int, default=1, show_default=True)
@click.option("--faults", default="all", show_default=True)
@click.option("--workload", default="", help="One workload instead of all.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True)
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True)
@click.option("--parts", default=NODE_PARTS, hidden=True)
def main(
    minutes: float, first_seed: int, faults: str, workload: str, seconds: float, jobs: int, parts: str
) -> None:
    """Run seeds until the time is over; print every violation with its replay line, and what was run in all."""
    request = Request(faults=faults, workload=workload, seconds=seconds, parts=parts)
    deadline = time.monotonic() + minutes * 60
    click.echo(f"soak from seed {first_seed}, {minutes:g} minutes, {jobs} jobs, commit {commit()}")
    totals: Counter[str] = Counter()
    injected: Counter[str] = Counter()
    failed = []
    for report, _ in run_seeds(request, _until(deadline, first_seed), jobs):
        totals["seeds"] += 1
        totals["virtual_s"] += round(report.virtual_s)
        totals.update(report.operations)
        injected.update(report.faults)
        if not report.ok:
            failed.append(report.seed)
            click.echo(describe(request, report))
            click.echo(f"VIOLATION {report.violation}")
            click.echo(f"replay with: {request.replay_line(report.seed)}")
    click.echo(f"ran {dict(totals)}")
    click.echo(f"faults {dict(sorted(injected.items()))}")
    click.echo(f"{len(failed)} violations" + (f": seeds {failed}" if failed else ""))
    sys.exit(1 if failed else 0)


def _until(deadline: float, first_seed: int) -> Iterator[int]:
    for seed in itertools.count(first_seed):
        if time.monotonic() > deadline:
            return
        yield seed


if __name__ == "__main__":
    main()
