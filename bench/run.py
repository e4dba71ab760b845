"""The floors table, measured: `make bench`, or `python bench/run.py [--seconds T] [--pairs N] [--write FILE]`.

A three-node txndb and, where PostgreSQL's servers are installed, a three-node PostgreSQL with quorum-synchronous
replication run on this machine at the same time, one of them idle while the other is measured, in alternating pairs,
so that whatever else the machine does hits both. Of the runs of each figure the median is shown. A floor that is
missed is marked.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from txndb.client import connect
from txndb.server.bench import BenchResult
from txndb.server.http import resident_bytes_of
from txndb.server.localcluster import LocalCluster

ROOT = Path(__file__).resolve().parents[1]
PEER = ROOT.parent / "shared" / "tools" / "pg-sync-cluster"
IDLE_S = 10.0


@dataclass(frozen=True)
class Figure:
    """One line of the table: a workload, how it is read, and its floor (`at_most`: the smaller the better)."""

    title: str
    workload: str
    clients: int
    read: Callable[[BenchResult], float]
    floor: float
    at_most: bool = False


FIGURES = (
    Figure("single-row insert, 16 clients, /s", "insert", 16, lambda r: r.tps, 800),
    Figure("single-row insert, 1 client, p50 ms", "insert", 1, lambda r: r.p50_ms, 3, at_most=True),
    Figure("prepared point select, 16 clients, /s", "select", 16, lambda r: r.tps, 3000),
    Figure("single-row update, 16 clients, /s", "update", 16, lambda r: r.tps, 0),
    Figure("bank transfer over two ranges, 16 clients, /s", "bank", 16, lambda r: r.tps, 300),
    Figure("TPC-B-like, 16 clients, /s", "tpcb", 16, lambda r: r.tps, 0),
)


@contextmanager
def postgresql(directory: Path) -> Iterator[str | None]:
    """The peer's URL while it runs; None where it cannot."""
    if not PEER.exists() or not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        yield None
        return
    where = directory / "postgresql"
    os.chmod(directory, 0o755)
    up = subprocess.run([PEER, "up", str(where), "6541"], capture_output=True, text=True, check=True)
    try:
        yield up.stdout.split()[-1]
    finally:
        subprocess.run([PEER, "down", str(where)], check=True, stdout=subprocess.DEVNULL)


def measure(figure: Figure, urls: list[str], seconds: float) -> float:
    """One run, in a process of its own so that nothing of it is left to the next."""
    command = [sys.executable, "-m", "txndb.server", "bench", figure.workload, "--json"]
    command += ["--clients", str(figure.clients), "--seconds", str(seconds)]
    for url in urls:
        command += ["--url", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = BenchResult(**json.loads(done.stdout))
    if result.errors:
        print(f"  {figure.title}: {result.errors} errors, first: {result.first_error}", file=sys.stderr)
    return figure.read(result)


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def process_rows(cluster: LocalCluster) -> list[tuple[str, str, str, str]]:
    """Start, idle cost and memory of nodes that have done nothing yet."""
    pids = [node.info.pid for node in cluster.nodes]
    before = [cpu_seconds(pid) for pid in pids]
    time.sleep(IDLE_S)
    idle = 100 * sum(cpu_seconds(pid) - b for pid, b in zip(pids, before, strict=True)) / IDLE_S
    start = max(node.info.start_s for node in cluster.nodes)
    return [
        row("node start to ready, s", start, 2, at_most=True),
        row("idle cluster, % of one core", idle, 5, at_most=True),
        memory_row("resident memory a node, just started, MB", cluster),
    ]


def memory_row(title: str, cluster: LocalCluster) -> tuple[str, str, str, str]:
    """The largest node's memory."""
    memory = max(resident_bytes_of(node.info.pid) for node in cluster.nodes) / 1e6
    return row(title, memory, 150, at_most=True)


def row(
    title: str, value: float, floor: float, peer: float | None = None, *, at_most: bool
) -> tuple[str, str, str, str]:
    """A line: title, value (marked when it misses its floor), floor, PostgreSQL's."""
    missed = floor > 0 and (value > floor if at_most else value < floor)
    bound = f"{'<=' if at_most else '>='} {floor:,g}" if floor else "–"
    return (
        title,
        f"{number(value)}{' **missed**' if missed else ''}",
        bound,
        "–" if peer is None else number(peer),
    )


def number(value: float) -> str:
    """Four digits are enough, but thousands are not written as powers."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def table(rows: list[tuple[str, str, str, str]], heading: str) -> str:
    """Markdown."""
    lines = [heading, "", "| figure | txndb | floor | PostgreSQL, quorum-synchronous |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(cells)} |" for cells in rows]) + "\n"


def failover_row(seconds: float) -> tuple[str, str, str, str]:
    """The demo's gap: leader SIGKILL to the next commit."""
    command = [sys.executable, "-m", "txndb.server", "demo", "--json", "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(f"the demo failed: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    title = f"leader SIGKILL to next commit, s (demo ok: {result['ok']})"
    return row(title, result["failover_gap_ms"] / 1000, 3, at_most=True)


def embedded_row(seconds: float) -> tuple[str, str, str, str]:
    """Inserts into a database in this process."""
    connection = connect(autocommit=True)
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE bench_insert (id BIGINT PRIMARY KEY, value TEXT NOT NULL)")
    count, began_s = 0, time.perf_counter()
    while time.perf_counter() - began_s < seconds:
        cursor.execute("INSERT INTO bench_insert VALUES (%s, %s)", (count, "v" * 100))
        count += 1
    rate = count / (time.perf_counter() - began_s)
    connection.close()
    return row("embedded :memory: insert, /s", rate, 3000, at_most=False)


def run(seconds: float, pairs: int) -> str:
    """Everything; the table."""
    rows: list[tuple[str, str, str, str]] = []
    with tempfile.TemporaryDirectory(prefix="txndb-bench-") as directory:
        base = Path(directory)
        with LocalCluster(base, 3) as cluster, postgresql(base) as peer:
            idle_rows = process_rows(cluster)
            urls = [node.url for node in cluster.nodes]
            for figure in FIGURES:
                ours, theirs = [], []
                for _ in range(pairs):
                    ours.append(measure(figure, urls, seconds))
                    if peer is not None:
                        theirs.append(measure(figure, [peer], seconds))
                median = statistics.median(ours)
                print(f"  {figure.title}: {ours} against {theirs}", file=sys.stderr)
                other = statistics.median(theirs) if theirs else None
                rows.append(row(figure.title, median, figure.floor, other, at_most=figure.at_most))
            rows += [*idle_rows, memory_row("resident memory a node, after these runs, MB", cluster)]
    rows += [failover_row(15), embedded_row(seconds)]
    cpus = os.cpu_count()
    return table(
        rows,
        f"Three nodes, {cpus} cores, client on the same machine; median of {pairs} runs of {seconds:g} s.",
    )


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--write", type=Path, help="replace the table in this file, between its two markers")
    options = parser.parse_args()
    text = run(options.seconds, options.pairs)
    print(text)
    if options.write is not None:
        begin, end = "<!-- figures -->\n", "<!-- /figures -->"
        head, _, rest = options.write.read_text("utf-8").partition(begin)
        options.write.write_text(f"{head}{begin}{text}{end}{rest.partition(end)[2]}", "utf-8")


if __name__ == "__main__":
    main()
