"""`python -m txndb.sim.soak --minutes N`: seeds without end over all workloads and faults, on every core."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from txndb.sim.cli import describe
from txndb.sim.replay import save
from txndb.sim.run import NODE_PARTS, Request, commit, replay_of, run_seeds, shrunk
from txndb.sim.world import Report

_SHRINK_WALL_S = 120.0
_STOPPED = 130


class Summary(msgspec.Struct):
    """What a soak ran, as `--json` writes it."""

    commit: str
    first_seed: int
    minutes: float
    seeds: int = 0
    virtual_hours: float = 0.0
    violations: list[int] = []
    operations: Counter[str] = msgspec.field(default_factory=Counter)
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    workloads: Counter[str] = msgspec.field(default_factory=Counter)
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    """What happened besides: frames lost, nodes that stopped themselves, errors by SQLSTATE."""

    def add(self, report: Report, workload: str) -> None:
        """One more run."""
        self.seeds += 1
        self.virtual_hours += report.virtual_s / 3600
        self.workloads[workload] += 1
        self.operations.update(report.operations)
        self.faults.update(report.faults)
        self.counts.update(report.counts)
        if not report.ok:
            self.violations.append(report.seed)


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.01), default=10.0, show_default=True)
@click.option("--first-seed", type=int, default=1, show_default=True)
@click.option("--faults", default="all", show_default=True)
@click.option("--workload", default="", help="One workload instead of all.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True)
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True)
@click.option(
    "--save",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/soak"),
    show_default=True,
    help="Where replay files of violations go.",
)
@click.option("--shrink", is_flag=True, help="Make failing runs smaller before they are saved.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write a report.")
@click.option("--parts", default=NODE_PARTS, hidden=True)
def main(
    minutes: float,
    first_seed: int,
    faults: str,
    workload: str,
    seconds: float,
    jobs: int,
    directory: Path,
    shrink: bool,
    json_path: Path | None,
    parts: str,
) -> None:
    """Run seeds until the time is over, or SIGTERM or Ctrl-C come; print every violation with its replay line, and what
    was run in all."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    request = Request(faults=faults, workload=workload, seconds=seconds, parts=parts)
    deadline = time.monotonic() + minutes * 60
    summary = Summary(commit(), first_seed, minutes)
    stopped = False
    try:
        click.echo(f"soak from seed {first_seed}, {minutes:g} minutes, {jobs} jobs, commit {summary.commit}")
        with contextlib.closing(run_seeds(request, _until(deadline, first_seed), jobs)) as reports:
            for report, _ in reports:
                summary.add(report, request.options(report.seed).workload)
                if not report.ok:
                    _keep(request, report, directory, shrink=shrink)
    except KeyboardInterrupt:
        stopped = True
        click.echo("stopped before its time")
    _print(summary)
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
    sys.exit(1 if summary.violations else _STOPPED if stopped else 0)


def _keep(request: Request, report: Report, directory: Path, *, shrink: bool) -> None:
    """Print a violation and write its replay file."""
    options = request.options(report.seed)
    click.echo(describe(options, report))
    click.echo(f"VIOLATION {report.violation}")
    click.echo(f"replay with: {request.replay_line(report.seed)}")
    if shrink:
        options, report = shrunk(options, report, request.parts, _SHRINK_WALL_S, lambda text: None)
    path = save(replay_of(options, report, request.parts), directory)
    click.echo(f"or with: txndb sim --replay {path}")


def _print(summary: Summary) -> None:
    click.echo(
        f"{summary.seeds} seeds, {summary.virtual_hours:.2f} virtual hours, "
        f"{sum(summary.faults.values())} faults, {summary.operations['ok']} operations ok, "
        f"{summary.operations['fail']} failed, {summary.operations['info']} unknown"
    )
    click.echo(f"workloads {_by_name(summary.workloads)}")
    click.echo(f"faults {_by_name(summary.faults)}")
    click.echo(f"besides {_by_name(summary.counts)}")
    violations = summary.violations
    click.echo(f"{len(violations)} violations" + (f": seeds {sorted(violations)}" if violations else ""))


def _by_name(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _until(deadline: float, first_seed: int) -> Iterator[int]:
    for seed in itertools.count(first_seed):
        if time.monotonic() > deadline:
            return
        yield seed


if __name__ == "__main__":
    main()
