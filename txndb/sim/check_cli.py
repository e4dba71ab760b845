"""`txndb check`: judge a recorded history from the command line.

Exit status: 0 the history is valid, 1 it is not, 2 unknown; 64 the command line is wrong, 65 the history cannot be read
or is not one of the model. (click's own 2 for wrong usage would say "unknown" to a script.)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from txndb.sim.checkers.calls import HistoryError
from txndb.sim.checkers.elle import levels, plot
from txndb.sim.checkers.linearizability import STEPS_MAX
from txndb.sim.checkers.models import ALIASES, MODELS, Options, judge
from txndb.sim.checkers.reader import read_history
from txndb.sim.checkers.verdict import Verdict
from txndb.sim.history import Op

EXIT_USAGE: Final = 64
EXIT_DATA: Final = 65
_EXITS: Final = {True: 0, False: 1, None: 2}
_WORDS: Final = {True: "valid", False: "INVALID", None: "unknown"}
_ANOMALIES_SHOWN: Final = 10
_PLOTS: Final = (".svg", ".dot", ".gv")


class _UsageError(click.UsageError):
    exit_code = EXIT_USAGE


class _Command(click.Command):
    """Ends with 64 instead of 2 when the command line is wrong."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise _UsageError(error.format_message(), error.ctx) from error

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Models"):
            formatter.write_dl([(name, model.summary) for name, model in MODELS.items()])
        with formatter.section("Exit status"):
            formatter.write_text(
                f"0 valid, 1 invalid, 2 unknown, {EXIT_USAGE} wrong usage, {EXIT_DATA} not a history of the model."
            )


class _DataError(click.ClickException):
    exit_code = EXIT_DATA


def _json(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    del context, parameter
    if value is None:
        return msgspec.UNSET
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        raise click.BadParameter("a JSON value: null, 0, '\"text\"', '{\"x\": 1}'") from error


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Account names; a number N means 0 to N-1."""
    del context, parameter
    if value is None:
        return None
    if value.isdecimal():
        return tuple(str(number) for number in range(int(value)))
    return tuple(value.split(","))


def _level(context: click.Context, parameter: click.Parameter, value: str) -> str:
    del context, parameter
    try:
        return levels.canonical(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _plot(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    del context, parameter
    if value is not None and value.suffix not in _PLOTS:
        raise click.BadParameter(f"a file that ends in {', '.join(_PLOTS)}")
    return value


@click.command("check", cls=_Command)
@click.argument("history", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--model", type=click.Choice((*MODELS, *ALIASES)), required=True, help="What the history is of."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: valid, anomalies, weakest_level, …")
@click.option(
    "--plot",
    "plot_to",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_plot,
    help="Draw what was found: cycles as SVG or DOT, by the file's suffix; operations in time as SVG.",
)
@click.option(
    "--level", default="serializable", callback=_level, help="append, rw: the isolation level to judge by."
)
@click.option("--sequential-keys", is_flag=True, help="rw: each process sees each key move forward only.")
@click.option("--linearizable-keys", is_flag=True, help="rw: each key by itself is linearizable.")
@click.option(
    "--initial", callback=_json, metavar="JSON", help="First value of registers, counters, strings."
)
@click.option("--total", type=int, help="bank: the sum of all balances; the first read's if not given.")
@click.option("--accounts", callback=_names, metavar="N|A,B,…", help="bank: the accounts there are.")
@click.option("--negative-balances", is_flag=True, help="bank: balances may be below zero.")
@click.option("--keys", type=click.IntRange(1), help="cycle: keys of the ring; those read if not given.")
@click.option(
    "--null-reads",
    type=click.Choice(("value", "unknown")),
    help="Registers: whether a read of null saw no value, or says nothing.",
)
@click.option("--allow-stale", is_flag=True, help="set-full: elements may show late, if they show.")
@click.option("--bounds-only", is_flag=True, help="counter: each read for itself, not all in one order.")
@click.option("--gapless", is_flag=True, help="monotonic: each number is one more than the one before.")
@click.option(
    "--keyed/--not-keyed",
    "keyed",
    default=None,
    help="Whether values are [key, value], of independent objects; found out if not given.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=STEPS_MAX, show_default=True, help="Bound of a search."
)
def command(history: str, model: str, as_json: bool, plot_to: Path | None, **options: Any) -> NoReturn:
    """Judge a recorded HISTORY (JSON lines; - is standard input) under a model of what should have happened."""
    name = "standard input" if history == "-" else history
    try:
        with click.open_file(history, "rb") as file:
            ops = read_history(file.read())
        verdict = judge(ops, model, _options(options))
    except HistoryError as error:
        raise _DataError(f"{name}: {error}") from error
    except RecursionError as error:
        raise _DataError(f"{name}: values are nested too deeply") from error
    except OSError as error:
        raise _DataError(f"{name}: {error.strerror}") from error
    if plot_to is not None:
        _write_plot(plot_to, verdict, ops)
    if as_json:
        click.echo(msgspec.json.encode({"weakest_level": None, **verdict.as_json()}).decode())
    else:
        click.echo(describe(verdict))
    sys.exit(_EXITS[verdict.valid])


check = command


def _options(given: dict[str, Any]) -> Options:
    null_reads = given["null_reads"]
    return Options(
        initial=given["initial"],
        level=given["level"],
        sequential_keys=given["sequential_keys"],
        linearizable_keys=given["linearizable_keys"],
        total=given["total"],
        accounts=given["accounts"],
        negative_allowed=given["negative_balances"],
        keys=given["keys"],
        null_unknown=None if null_reads is None else null_reads == "unknown",
        allow_stale=given["allow_stale"],
        bounds_only=given["bounds_only"],
        gapless=given["gapless"],
        keyed=given["keyed"],
        steps_max=given["steps"],
    )


def _write_plot(to: Path, verdict: Verdict, ops: list[Op]) -> None:
    drawn = [a for a in verdict.anomalies if a.cycle or (a.ops and to.suffix == ".svg")]
    if not drawn:
        what = "nothing was found that can be drawn" if to.suffix == ".svg" else "no cycle was found"
        click.echo(f"{what}: the plot is empty", err=True)
    draw = plot.svg if to.suffix == ".svg" else plot.dot
    try:
        to.write_text(draw(verdict, ops), encoding="utf-8")
    except OSError as error:
        raise _DataError(f"cannot write the plot: {error}") from error


def describe(verdict: Verdict) -> str:
    """The verdict in lines for people."""
    lines = [f"{verdict.model}: {_WORDS[verdict.valid]}"]
    if verdict.weakest_level:
        lines[0] += f", strongest level that still holds: {verdict.weakest_level}"
    if verdict.note:
        lines.append(f"note: {verdict.note}")
    for anomaly in verdict.anomalies[:_ANOMALIES_SHOWN]:
        first, *others = anomaly.text.splitlines() or [""]
        lines.append(f"{anomaly.kind}: {first}")
        lines += [f"    {line}" for line in others]
    if len(verdict.anomalies) > _ANOMALIES_SHOWN:
        lines.append(f"… and {len(verdict.anomalies) - _ANOMALIES_SHOWN} more")
    return "\n".join(lines)
