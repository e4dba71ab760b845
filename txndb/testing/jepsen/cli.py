"""`txndb jepsen`: real nodes, real sockets, real faults; the simulator's workloads and checkers.

Exit status: 0 nothing wrong was seen, 1 a violation, 3 the run could not be made.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Final

import click
import msgspec

from txndb.sim.workloads import MAKERS
from txndb.testing.jepsen.nemesis import NEMESES
from txndb.testing.jepsen.plan import plan_rounds, unavailable
from txndb.testing.jepsen.report import RoundReport, RunReport, over_all
from txndb.testing.jepsen.run import Runner, remove_leftovers

EXIT_VIOLATION: Final = 1
EXIT_FAILURE: Final = 3


def _choice(known: tuple[str, ...], value: str) -> tuple[str, ...]:
    if value == "all":
        return known
    if value == "none":
        return ()
    names = tuple(dict.fromkeys(value.split(",")))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: all, or some of {', '.join(known)}")
    return names


def _workloads(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    del context, parameter
    names = _choice(tuple(MAKERS), value)
    if not names:
        raise click.BadParameter("at least one workload")
    return names


def _nemeses(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    del context, parameter
    return _choice(NEMESES, value)


@click.command("jepsen")
@click.option(
    "--workload", "workloads", required=True, callback=_workloads, metavar="W,…|all", help="What clients do."
)
@click.option(
    "--nemesis",
    "nemeses",
    default="all",
    callback=_nemeses,
    metavar="N,…|all|none",
    help="What is done to nodes.",
)
@click.option("--nodes", default=5, show_default=True, type=click.IntRange(1, 9), help="Node processes.")
@click.option(
    "--seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(1.0),
    help="Under faults, over all workloads.",
)
@click.option("--clients", default=6, show_default=True, type=click.IntRange(1, 100))
@click.option("--seed", default=0, help="Of what is drawn; the processes' own timing does not repeat.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to keep everything.  [default: jepsen-runs/<date>]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(
    workloads: tuple[str, ...],
    nemeses: tuple[str, ...],
    nodes: int,
    seconds: float,
    clients: int,
    seed: int,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Real node processes under real faults, judged by the simulator's checkers."""
    say = (lambda text: None) if as_json else click.echo
    where = directory or Path("jepsen-runs") / time.strftime("%Y%m%dT%H%M%S")
    seed = seed or time.time_ns() % 1_000_000
    for name in remove_leftovers():
        say(f"removed what an earlier run left: {name}")
    missing = unavailable(nemeses)
    for kind, why in sorted(missing.items()):
        say(f"skipped: {kind}: {why}")
    rounds = plan_rounds(
        workloads, nemeses, missing, nodes=nodes, seconds=seconds, clients=clients, seed=seed
    )
    say(f"seed {seed}, {len(rounds)} rounds, kept in {where}")
    reports: list[RoundReport] = []
    try:
        for number, plan in enumerate(rounds, 1):
            name = f"{number:02}-{plan.workload}"
            say(f"[{number}/{len(rounds)}] {plan.workload}")
            reports.append(
                asyncio.run(_interruptible(Runner(plan, where / name, lambda text: say(f"  {text}"))))
            )
            say(f"  {summary(reports[-1])}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("txndb: interrupted; everything that was started is stopped", err=True)
        sys.exit(EXIT_FAILURE)
    finally:
        report = over_all(reports, str(where), seed)
        if reports:
            (where / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    click.echo(msgspec.json.encode(report).decode() if as_json else story(report))
    if any(one.violations for one in reports):
        sys.exit(EXIT_VIOLATION)
    sys.exit(EXIT_FAILURE if any(one.failure for one in reports) else 0)


async def _interruptible(runner: Runner) -> RoundReport:
    """A round that SIGTERM ends as Ctrl-C does: with everything stopped."""
    task = asyncio.create_task(runner.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def summary(report: RoundReport) -> str:
    """One line."""
    if report.failure:
        return f"could not be made: {report.failure}"
    done = {kind: sum(row[kind] for row in report.operations.values()) for kind in ("ok", "fail", "info")}
    faults = sum(report.faults.values())
    text = f"{done['ok']} ok, {done['fail']} failed, {done['info']} unknown; {faults} faults; "
    text += f"longest gap {report.longest_gap_ms} ms; "
    return text + ("valid" if report.ok else f"VIOLATION: {report.violations[0]}")


def story(report: RunReport) -> str:
    """The end of a run, for people."""
    lines = [
        f"operations {report.operations}",
        f"faults {report.faults}",
        f"lost writes {report.lost_writes}, ambiguous outcomes {report.ambiguous}, "
        f"longest gap {report.longest_gap_ms} ms",
    ]
    for one in report.rounds:
        lines += [f"{one.workload}: {text}" for text in one.violations[:5]]
    lines.append("ok" if report.ok else "NOT ok")
    return "\n".join(lines)
