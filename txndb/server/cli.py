"""The server's commands: `start`, `demo`, `bench`. `txndb.shell.cli` puts them into one program with the others.

Heavy imports happen inside the commands: `txndb --help` answers at once, and a node loads only what it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click


def fail(message: str, exit_code: int) -> NoReturn:
    """End the command: one clear line on standard error, and the exit code."""
    click.echo(f"txndb: {message}", err=True)
    sys.exit(exit_code)


@click.command()
@click.option("--data", "data_dir", type=click.Path(path_type=Path, file_okay=False), help="Data directory.")
@click.option(
    "--sql", metavar="ADDR", help="Where SQL clients connect.  [default: 127.0.0.1:7432, or a free port]"
)
@click.option(
    "--rpc", metavar="ADDR", help="Where other nodes connect.  [default: 127.0.0.1:7433, or a free port]"
)
@click.option(
    "--http", metavar="ADDR", help="/healthz, /metrics, /status.  [default: 127.0.0.1:7480, or a free port]"
)
@click.option("--advertise", metavar="HOST[:PORT]", help="The --rpc address as other nodes reach it.")
@click.option("--join", default="", metavar="ADDR,…", help="Join the cluster these nodes belong to.")
@click.option(
    "--locality", default="", metavar="K=V,…", help="Where this node is, outermost first: region=eu,zone=a."
)
@click.option("--insecure", is_flag=True, help="Allow listeners that other machines can reach, without TLS.")
@click.option(
    "--clock", default="auto", show_default=True, metavar="SOURCE", help="auto, kernel or fixed:MICROSECONDS."
)
@click.option("--store", type=click.Choice(["rocksdb", "memory"]), default="rocksdb", show_default=True)
@click.option(
    "--ready-file", type=click.Path(path_type=Path, dir_okay=False), help="Write the addresses here as JSON."
)
@click.option(
    "--drain-seconds", default=10.0, show_default=True, help="How long a stop waits for transactions."
)
@click.option(
    "--limit", "limits", multiple=True, metavar="NAME=VALUE", help="A bound of this node: lock_wait=30s."
)
@click.option(
    "--set", "settings", multiple=True, metavar="PARAMETER=VALUE", help="A session parameter's default."
)
@click.option("--stop-with-stdin", is_flag=True, help="Stop when standard input ends.")
def start(
    data_dir: Path | None,
    sql: str | None,
    rpc: str | None,
    http: str | None,
    advertise: str | None,
    join: str,
    locality: str,
    insecure: bool,
    clock: str,
    store: str,
    ready_file: Path | None,
    drain_seconds: float,
    limits: tuple[str, ...],
    settings: tuple[str, ...],
    stop_with_stdin: bool,
) -> None:
    """Run a node. The first one, without --join, founds a new cluster."""
    from txndb.errors import TxndbError
    from txndb.server.config import (
        ServerConfig,
        parse_advertise,
        parse_join,
        parse_limits,
        parse_locality,
        parse_settings,
    )
    from txndb.server.main import EXIT_CANNOT_START, EXIT_OK, explain, run_node

    if data_dir is None and store != "memory":
        raise click.UsageError("--data DIR is required (or --store memory, which keeps nothing).")
    try:
        config = ServerConfig(
            data_dir=data_dir,
            sql=sql,
            rpc=rpc,
            http=http,
            advertise=parse_advertise(advertise) if advertise is not None else None,
            join=parse_join(join),
            locality=parse_locality(locality),
            insecure=insecure,
            clock=clock,
            store=store,
            ready_file=ready_file,
            drain_timeout_s=drain_seconds,
            limits=parse_limits(limits),
            settings=parse_settings(settings),
            stop_with_stdin=stop_with_stdin,
        )
    except TxndbError as e:
        fail(explain(e), EXIT_CANNOT_START)
    code, message = run_node(config, lambda ready: click.echo(ready.line()))
    if code != EXIT_OK:
        fail(message, code)


@click.command()
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(1, 9), help="Node processes.")
@click.option(
    "--seconds", default=15.0, show_default=True, type=click.FloatRange(1.0), help="How long to transfer."
)
@click.option("--no-kill", is_flag=True, help="Leave the leader alone.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option("-e", "execute", metavar="SQL", help="Run SQL on the cluster afterwards, instead of the shell.")
@click.pass_context
def demo(
    ctx: click.Context, nodes: int, seconds: float, no_kill: bool, as_json: bool, execute: str | None
) -> None:
    """A cluster of real processes loses its leader under load and keeps every cent."""
    import psycopg

    from txndb.errors import TxndbError
    from txndb.server.demo_cli import run_demo
    from txndb.server.main import explain

    try:
        ok = run_demo(ctx, nodes, seconds, not no_kill, as_json, execute)
    except TxndbError as e:
        fail(explain(e), 1)
    except psycopg.Error as e:
        fail(f"the demo failed: {str(e).strip()}", 1)
    if not ok:
        sys.exit(1)


@click.command()
@click.argument("workload", type=click.Choice(["insert", "update", "select", "bank", "tpcb"]))
@click.option(
    "--url", "urls", multiple=True, required=True, help="A postgresql:// URL; several spread the clients."
)
@click.option("--clients", default=16, show_default=True, type=click.IntRange(1, 1000))
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.1))
@click.option(
    "--rows", default=10_000, show_default=True, type=click.IntRange(2), help="Rows to load before."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(
    workload: str, urls: tuple[str, ...], clients: int, seconds: float, rows: int, as_json: bool
) -> None:
    """Measure a workload on txndb or PostgreSQL. Creates and replaces tables named bench_…"""
    import msgspec

    from txndb.errors import TxndbError
    from txndb.server.bench import run_bench
    from txndb.server.main import explain

    try:
        result = run_bench(workload, urls, clients, seconds, rows)
    except TxndbError as e:
        fail(explain(e), 1)
    if as_json:
        click.echo(msgspec.json.encode(result).decode())
        return
    click.echo(f"{workload}, {clients} clients, {seconds:g} s: {result.tps:,.1f} transactions/s")
    click.echo(f"  latency p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms")
    first = f" (first: {result.first_error})" if result.first_error else ""
    click.echo(f"  {result.retries} retries, {result.errors} errors{first}")


@click.group()
@click.version_option(package_name="txndb", prog_name="txndb")
def server() -> None:
    """txndb's server commands."""


server.add_command(start)
server.add_command(demo)
server.add_command(bench)


def main() -> None:
    """Run `python -m txndb.server`, which processes started by txndb itself use."""
    server.main(args=sys.argv[1:], prog_name="python -m txndb.server")
