"""`txndb sim`: run seeds of the simulator from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from txndb.errors import ProtocolError
from txndb.sim import replay as replays
from txndb.sim.canaries import must_be_known
from txndb.sim.options import FAULTS, NODES_MAX, NODES_MIN, SQL_WORKLOADS, WORKLOADS, WorldOptions
from txndb.sim.run import NODE_PARTS, Request, commit, replay_of, run_options, run_seeds, shrunk
from txndb.sim.world import Report

_STORY_LINES: Final = 40
SHRINK_SECONDS: Final = 120.0


def _faults(context: click.Context, parameter: click.Parameter, value: str) -> str:
    del context, parameter
    unknown = [part for part in value.split(",") if part not in (*FAULTS, "all", "none")]
    if unknown or ("," in value and set(value.split(",")) & {"all", "none"}):
        raise click.BadParameter(f"none, all, or some of {','.join(FAULTS)}")
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
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Repeat the run of a replay file instead.",
)
@click.option("--nodes", type=click.IntRange(NODES_MIN, NODES_MAX), help="Nodes; drawn if not given.")
@click.option(
    "--workload", type=click.Choice((*WORKLOADS, *SQL_WORKLOADS)), help="Traffic; drawn if not given."
)
@click.option("--faults", default="all", callback=_faults, help=f"none, all, or some of {','.join(FAULTS)}.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, help="Virtual seconds under faults.")
@click.option(
    "--canary",
    multiple=True,
    metavar="RULE",
    callback=lambda context, parameter, rules: must_be_known(rules),
    help="Switch a known bug on; the run should fail.",
)
@click.option("--jobs", type=click.IntRange(1), default=1, help="Seeds to run at the same time.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per seed.")
@click.option("--trace", is_flag=True, help="Print the story of the run.")
@click.option("--pdb", "debug", is_flag=True, help="Stop the world at a violation, in the debugger.")
@click.option("--shrink", is_flag=True, help="Make a failing run smaller before it is shown and saved.")
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write a replay file of every failing run into this directory.",
)
@click.option(
    "--parts", default=NODE_PARTS, hidden=True, help="module:function that gives the world's parts."
)
def command(
    seed: int,
    seeds: range | None,
    replay: Path | None,
    nodes: int | None,
    workload: str | None,
    faults: str,
    seconds: float,
    canary: tuple[str, ...],
    jobs: int,
    as_json: bool,
    trace: bool,
    debug: bool,
    shrink: bool,
    save: Path | None,
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
    show = Show(as_json=as_json, trace=trace, shrink=shrink, save=save)
    if replay is not None:
        failed = _replay(replay, show, debug)
    elif seeds is None:
        options = request.options(seed)
        show.head(f"seed {seed} commit {commit()}", options)
        report, story = run_options(options, parts, echo=trace, debug=debug)
        failed = show.result(options, parts, report, story, request.replay_line(seed))
    else:
        show.head(f"seeds {seeds[0]}-{seeds[-1]} commit {commit()}", None)
        failed = 0
        for report, story in run_seeds(request, seeds, jobs):
            options = request.options(report.seed)
            failed += show.result(options, parts, report, story, request.replay_line(report.seed))
    sys.exit(1 if failed else 0)


sim = command


def _replay(path: Path, show: Show, debug: bool) -> int:
    """Repeat what a file says; 1 if it is a violation."""
    try:
        replay = replays.load(path)
    except (OSError, ProtocolError) as error:
        raise click.ClickException(str(error)) from error
    show.head(f"replay {path} made at commit {replay.commit}, commit {commit()}", replay.options)
    report, story = run_options(replay.options, replay.parts, echo=show.trace, debug=debug)
    if not show.as_json and report.trace_hash != replay.trace_hash:
        click.echo("the run is not the one that was recorded: the code has changed since")
    return show.result(replay.options, replay.parts, report, story, f"txndb sim --replay {path}")


class Show:
    """Prints results as asked for, and keeps failing runs."""

    def __init__(self, *, as_json: bool, trace: bool, shrink: bool, save: Path | None) -> None:
        self.as_json = as_json
        self.trace = trace
        self._shrink = shrink
        self._save = save

    def head(self, title: str, options: WorldOptions | None) -> None:
        """What is about to run, printed first."""
        if not self.as_json:
            click.echo(title)
            if options is not None:
                click.echo(f"options {msgspec.json.encode(options).decode()}")

    def result(self, options: WorldOptions, parts: str, report: Report, story: list[str], again: str) -> int:
        """Print one result; 1 if it is a violation. `again` is the line that repeats it."""
        if report.ok:
            if not self.as_json and self.trace:
                click.echo("\n".join(story))
            click.echo(msgspec.json.encode(report) if self.as_json else describe(options, report))
            return 0
        if self._shrink:
            options, report, story, again = self._smaller(options, parts, report, again)
        if self.as_json:
            click.echo(msgspec.json.encode(report))
        else:
            click.echo("\n".join(story if self.trace else story[-_STORY_LINES:]))
            click.echo(describe(options, report))
            click.echo(f"VIOLATION {report.violation}")
        if self._save is not None:
            path = replays.save(replay_of(options, report, parts), self._save)
            again = f"txndb sim --replay {path}"
        click.echo(f"replay with: {again}", err=self.as_json)
        return 1

    def _smaller(
        self, options: WorldOptions, parts: str, report: Report, again: str
    ) -> tuple[WorldOptions, Report, list[str], str]:
        def say(text: str) -> None:
            click.echo(f"smaller: {text}", err=True)

        options, report = shrunk(options, report, parts, SHRINK_SECONDS, say)
        report, story = run_options(options, parts, echo=self.trace)
        if self._save is None:
            self._save = Path()
        return options, report, story, again


def describe(options: WorldOptions, report: Report) -> str:
    """One line about a run."""
    speed = report.virtual_s / max(report.wall_s, 1e-9)
    faults = sum(report.faults.values())
    return (
        f"seed {report.seed:6} {'ok  ' if report.ok else 'FAIL'} {options.workload:8} {options.nodes} nodes "
        f"{report.operations['ok']:5} ok {report.operations['fail']:4} failed {report.operations['info']:3} unknown "
        f"{faults:3} faults {report.virtual_s:6.1f} s at {speed:5.1f}x {report.events:8} events {report.trace_hash[:8]}"
    )
