"""`txndb sql`: the interactive SQL shell, and the same over -e, -f or a pipe."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Final

import click

from txndb.client import Connection, Error, connect
from txndb.shell.output import FORMATS
from txndb.shell.runner import Failed, Quit, Runner

DEFAULT_TARGET: Final = "txndb://127.0.0.1:7432/defaultdb"
_HOST_PORT: Final = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:]+\]):\d+(?:/\w+)?$")


def open_target(target: str | None) -> Connection:
    """Connect to what the command line names: a URL, host:port, a directory, :memory:, or by default a local node."""
    chosen = target or os.environ.get("TXNDB_URL") or DEFAULT_TARGET
    if _HOST_PORT.match(chosen):
        chosen = f"txndb://{chosen}"
    return connect(chosen, autocommit=True, application_name="txndb sql")


def main(
    target: str | None = None,
    execute: Sequence[str] = (),
    file: str | None = None,
    format: str | None = None,
) -> int:
    """Run the shell; the exit status: 0, 1 after a failed statement, 2 when no connection was made."""
    try:
        conn = open_target(target)
    except Error as error:
        click.echo(f"txndb sql: {error}", err=True)
        return 2
    interactive = not execute and file is None and sys.stdin.isatty()
    style = format or "table"

    def write(text: str) -> None:
        click.echo(text, nl=False)

    def warn(text: str) -> None:
        click.echo(text, nl=False, err=not interactive)

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    runner = Runner(conn, style, write, warn, interactive=interactive)
    try:
        if interactive:
            from txndb.shell.prompt import interact

            version = conn.parameters.get("server_version", "unknown")
            click.echo(f"txndb sql, server {version}. \\? for help.")
            interact(runner)
        else:
            _run_batch(runner, execute, file)
    except Quit:
        return 0
    except Failed:
        return 1
    except UnicodeDecodeError:
        warn("txndb sql: the input is not UTF-8 text\n")
        return 1
    finally:
        conn.close()
    return 0


def _run_batch(runner: Runner, execute: Sequence[str], file: str | None) -> None:
    for text in execute:
        runner.run_lines([text])
    if file == "-" or (file is None and not execute):
        runner.run_lines(sys.stdin)
    elif file is not None:
        runner.command(f"\\i {file}")


@click.command("sql")
@click.argument("target", required=False)
@click.option("-e", "--execute", multiple=True, metavar="SQL", help="Run this and exit; may be repeated.")
@click.option("-f", "--file", metavar="FILE", help="Run a file and exit; - is the standard input.")
@click.option("--format", type=click.Choice(FORMATS), default=None, help="How results are shown.")
def command(target: str | None, execute: tuple[str, ...], file: str | None, format: str | None) -> None:
    """SQL shell. TARGET: txndb://host:port[,host:port…]/database, host:port, a directory, or :memory:.

    Without TARGET: the environment's TXNDB_URL, or a node on this machine.
    """
    sys.exit(main(target, execute, file, format))
