"""`txndb demo` on the terminal: progress bar, result, shell. The story itself is `txndb.server.demo`."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

if TYPE_CHECKING:
    from txndb.server.demo import Demo, DemoResult
    from txndb.server.localcluster import LocalCluster


def run_demo(
    ctx: click.Context, nodes: int, seconds: float, kill: bool, as_json: bool, execute: str | None
) -> bool:
    """The whole command; whether the demo was ok."""
    from txndb.server.localcluster import LocalCluster

    directory = Path(tempfile.mkdtemp(prefix="txndb-demo-"))
    if not as_json:
        click.echo(f"Starting {nodes} node{'s' if nodes > 1 else ''} …")
    ok = False
    try:
        with LocalCluster(directory, nodes) as cluster:
            result = _run(cluster, seconds, kill and nodes > 1, as_json)
            _report(result, as_json)
            ok = result.ok
            if not as_json:
                _afterwards(ctx, cluster.nodes[0].url, execute)
    finally:
        if ok:
            shutil.rmtree(directory)
        else:
            click.echo(f"The nodes' data and logs are kept in {directory}", err=True)
    return ok


def _run(cluster: LocalCluster, seconds: float, kill: bool, as_json: bool) -> DemoResult:
    from txndb.server.demo import Demo

    run = Demo(cluster, seconds, kill)
    if as_json:
        return asyncio.run(run.run(lambda _: None))
    for node in cluster.nodes:
        click.echo(f"  node {node.info.node}: {node.url}")
    return _run_with_bar(run, seconds)


def _run_with_bar(run: Demo, seconds: float) -> DemoResult:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TextColumn("{task.fields[transfers]:>7,} transfers  total {task.fields[sum]:,}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("opening accounts", total=seconds, transfers=0, sum=0)

        def watch(demo: Demo) -> None:
            tally = demo.tally
            progress.update(
                task,
                completed=min(demo.elapsed_s, seconds),
                description=tally.phase,
                transfers=tally.transfers,
                sum=tally.total,
            )

        return asyncio.run(run.run(watch))


def _report(result: DemoResult, as_json: bool) -> None:
    from txndb.server.demo import describe

    if as_json:
        click.echo(msgspec.json.encode(result).decode())
        return
    if result.killed_node:
        click.echo(
            f"Node {result.killed_node}, the leader, was killed with SIGKILL half-way and started again."
        )
    for name, value in describe(result):
        click.echo(f"  {name:<30} {value}")
    click.secho("ok" if result.ok else "NOT OK", fg="green" if result.ok else "red", bold=True)


def _afterwards(ctx: click.Context, url: str, execute: str | None) -> None:
    """Run `-e SQL`, or open the shell on a terminal: the `sql` command of the program this one is part of."""
    if execute is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    root = ctx.find_root()
    command = root.command.get_command(root, "sql") if isinstance(root.command, click.Group) else None
    if command is None:
        click.echo(f"The cluster is at {url}; this program has no shell.")
        return
    if execute is None:
        click.echo(f"The cluster runs until you leave the shell. {url}")
    command.main([url, *(["-e", execute] if execute is not None else [])], standalone_mode=False)
