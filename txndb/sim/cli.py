"""`txndb sim`: run seeds of the simulator from the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click
import msgspec

from txndb.sim.options import CATEGORIES, DATABASE, NODES_MAX, NODES_MIN, SQL_WORKLOADS, WORKLOADS
from txndb.sim.run import NODE_PARTS, Request, commit, run_seed, run_seeds
from txndb.sim.world import Report

_STORY_LINES = 40


def _faults(context: click.Context, parameter: click.Parameter, value: str) -> str:
    del context, parameter
    unknown = [part for part in value.split(",") if part not in (*CATEGORIES, DATABASE, "all", "none")]
    if unknown or ("," in value and set(value.split(",")) & {"all", "none"}):
        raise click.BadParameter(f"none, all, or some of {','.join((*CATEGORIES, DATABASE))}")
    return value


def _seeds(context: click.Context, parameter: click.Parameter, value: str | None) -> range | None:
    del context, parameter
    if value is None:
        return None
    first, _, last = value.partition("-")
    if not first.isdecimal() or not last.isdecimal() or int(last) < int(first):
        raise click.BadParameter("A-B with A <= B")
    return range(int(first), int(last) + 1)


@click.command("sim")
@click.option("--seed", type=int, default=1, show_default=True, help="The run to make.")
@click.option("--seeds", callback=_seeds, metavar="A-B", help="Run all seeds from A to B instead.")
@click.option("--nodes", type=click.IntRange(NODES_MIN, NODES_MAX), help="Nodes; drawn if not given.")
@click.option(
    "--workload", type=click.Choice((*WORKLOADS, *SQL_WORKLOADS)), help="Traffic; drawn if not given."
)
@click.option(
    "--faults", default="all", callback=_faults, help="none, all, or some of crash,net,disk,clock,database."
)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, help="Virtual seconds under faults.")
@click.option("--canary", multiple=True, metavar="RULE", help="Switch a known bug on; the run should fail.")
@click.option("--jobs", type=click.IntRange(1), default=1, help="Seeds to run at the same time.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per seed.")
@click.option("--trace", is_flag=True, help="Print the story of the run.")
@click.option(
    "--parts", default=NODE_PARTS, hidden=True, help="module:function that gives the world's parts."
)
def command(
    seed: int,
    seeds: range | None,
    nodes: int | None,
    workload: str | None,
    faults: str,
    seconds: float,
    canary: tuple[str, ...],
    jobs: int,
    as_json: bool,
    trace: bool,
    parts: str,
) -> None:
    """Run the whole cluster in one process under virtual time and injected faults; any run repeats from its seed."""
    request = Request(
        faults=faults,
        workload=workload or "",
        nodes=nodes or 0,
        seconds=seconds,
        canaries=canary,
        parts=parts,
    )
    which: Iterable[int] = seeds if seeds is not None else (seed,)
    failed = 0
    if seeds is None:
        if not as_json:
            click.echo(f"seed {seed} commit {commit()}")
            click.echo(f"options {msgspec.json.encode(request.options(seed)).decode()}")
        report, story = run_seed(request, seed, trace)
        failed += _show(request, report, story, as_json=as_json, trace=trace)
    else:
        if not as_json:
            click.echo(f"seeds {seeds[0]}-{seeds[-1]} commit {commit()}")
        for report, story in run_seeds(request, which, jobs):
            failed += _show(request, report, story, as_json=as_json, trace=trace)
    sys.exit(1 if failed else 0)


sim = command


def _show(request: Request, report: Report, story: list[str], *, as_json: bool, trace: bool) -> int:
    """Print one result; 1 if it is a violation."""
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    elif trace:
        click.echo("\n".join(story))
    if report.ok:
        if not as_json:
            click.echo(describe(request, report))
        return 0
    if not as_json:
        if not trace:
            click.echo("\n".join(story[-_STORY_LINES:]))
        click.echo(describe(request, report))
        click.echo(f"VIOLATION {report.violation}")
    click.echo(f"replay with: {request.replay_line(report.seed)}", err=as_json)
    return 1


def describe(request: Request, report: Report) -> str:
    """One line about a run."""
    options = request.options(report.seed)
    speed = report.virtual_s / max(report.wall_s, 1e-9)
    faults = sum(report.faults.values())
    return (
        f"seed {report.seed:6} {'ok  ' if report.ok else 'FAIL'} {options.workload:8} {options.nodes} nodes "
        f"{report.operations['ok']:5} ok {report.operations['fail']:4} failed {report.operations['info']:3} unknown "
        f"{faults:3} faults {report.virtual_s:6.1f} s at {speed:5.1f}x {report.events:8} events {report.trace_hash[:8]}"
    )
