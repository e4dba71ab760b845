"""`txndb jepsen` as a whole, on real processes, and the faults that need root."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from txndb.errors import RetryError, SqlError
from txndb.shell.cli import main
from txndb.sim.workloads.api import ConnectionLostError
from txndb.testing.cluster import RealCluster
from txndb.testing.jepsen import disk, namespaces
from txndb.testing.jepsen.client import WireConnection
from txndb.testing.jepsen.namespaces import NamespaceLinks, ToolError, owner_lives, owner_tag, run
from txndb.testing.jepsen.run import remove_leftovers


@pytest.mark.process
@pytest.mark.slow
def test_bank_and_append_under_kill_and_pause(tmp_path: Path) -> None:
    arguments = ["--workload", "bank,append", "--nemesis", "kill,pause", "--nodes", "3", "--seconds", "12"]
    result = CliRunner().invoke(
        main, ["jepsen", *arguments, "--clients", "4", "--seed", "5", "--dir", str(tmp_path), "--json"]
    )
    report = msgspec.json.decode(result.stdout)
    assert result.exit_code == 0, [(one["failure"], one["violations"]) for one in report["rounds"]]
    assert report["ok"] and report["lost_writes"] == 0 and report["ambiguous"] == 0 and not report["skipped"]
    assert report["operations"]["ok"] > 20 and set(report["faults"]) <= {"kill", "pause"}
    for name in ("01-bank", "02-append"):
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert {
            "history.jsonl",
            "nemesis.jsonl",
            "plot.svg",
            "report.json",
            "node1",
            "node2",
            "node3",
        } <= files
        checked = CliRunner().invoke(
            main, ["check", str(tmp_path / name / "history.jsonl"), "--model", name[3:]]
        )
        assert checked.exit_code == 0, checked.output
    assert not [name for name in namespaces.namespaces() if name.startswith(owner_tag())]


@pytest.mark.process
@pytest.mark.slow
def test_register_through_the_proxy(tmp_path: Path) -> None:
    """Delays take the proxy where the kernel has no netem."""
    arguments = ["--workload", "register", "--nemesis", "delay,term", "--nodes", "3", "--seconds", "8"]
    result = CliRunner().invoke(
        main, ["jepsen", *arguments, "--clients", "4", "--dir", str(tmp_path), "--json"]
    )
    report = msgspec.json.decode(result.stdout)
    assert result.exit_code == 0, [(one["failure"], one["violations"]) for one in report["rounds"]]
    assert report["operations"]["ok"] > 20 and set(report["faults"]) <= {"delay", "term"}
    assert report["rounds"][0]["links"] in ("proxy", "netns")


def processes_of(directory: Path) -> list[int]:
    """The processes whose command line names a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            if entry.name.isdecimal() and str(directory).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_interrupted_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "txndb.shell.cli", "jepsen", "--workload", "bank", "--nemesis"]
    command += ["kill,partition", "--nodes", "2", "--seconds", "100", "--dir", str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run_of_it:
        assert run_of_it.stdout is not None
        seen = list(itertools.takewhile(lambda line: "100 s of" not in line, run_of_it.stdout))
        assert len(processes_of(tmp_path)) == 3, seen
        run_of_it.send_signal(number)
        code, rest = run_of_it.wait(60), run_of_it.stdout.read()
    if number == signal.SIGKILL:
        remove_leftovers()
    else:
        assert code == 3 and "interrupted" in rest, rest
        assert (tmp_path / "run" / "01-bank" / "plot.svg").exists()
    for pid in processes_of(tmp_path):  # a killed run's nodes end with their standard input
        with contextlib.suppress(ProcessLookupError):
            ended = os.pidfd_open(pid)
            select.select([ended], [], [], 20)
            os.close(ended)
    assert not processes_of(tmp_path)
    assert not [
        name for name in namespaces.namespaces() if name.startswith(f"{namespaces.PREFIX}-{run_of_it.pid}-")
    ]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str, int]]:
    with RealCluster(tmp_path_factory.mktemp("one"), 1) as cluster:
        host, _, port = cluster.node_url(1).rpartition("/")[0].rpartition("@")[2].partition(":")
        yield 1, host, int(port)


@pytest.mark.process
@pytest.mark.parametrize("seed", range(6))
def test_a_connection_speaks_in_every_way(node: tuple[int, str, int], seed: int) -> None:
    async def story() -> None:
        connection = await WireConnection.open(node, Random(seed), 10.0)
        for _ in range(4):  # once more often than statements need to be prepared
            assert (await connection.execute("SELECT $1::int + 1, $2::text", (seed, "ä"))).rows == [
                (seed + 1, "ä")
            ]
        await connection.execute("BEGIN")
        assert connection.in_transaction
        with pytest.raises(SqlError) as caught:
            await connection.execute("SELECT 1 / $1::int", (0,))
        assert caught.value.code == "22012" and connection.in_transaction
        assert (await connection.execute("ROLLBACK")).tag == "ROLLBACK" and not connection.in_transaction
        connection.close()
        assert connection.broken
        with pytest.raises(ConnectionLostError):
            await connection.execute("SELECT 1")

    asyncio.run(story())


@pytest.mark.process
def test_what_loses_is_told_apart_from_what_is_lost(node: tuple[int, str, int]) -> None:
    async def story() -> None:
        one, two = [await WireConnection.open(node, Random(n), 10.0) for n in range(2)]
        await one.execute("CREATE TABLE IF NOT EXISTS pair (a INT PRIMARY KEY, b INT)")
        await one.execute("INSERT INTO pair VALUES (1, 0), (2, 0) ON CONFLICT DO NOTHING")
        for each, row in ((one, 1), (two, 2)):
            await each.execute("BEGIN")
            await each.execute("UPDATE pair SET b = b + 1 WHERE a = $1", (row,))
        crossed = await asyncio.gather(
            one.execute("UPDATE pair SET b = b + 1 WHERE a = $1", (2,)),
            two.execute("UPDATE pair SET b = b + 1 WHERE a = $1", (1,)),
            return_exceptions=True,
        )
        assert [type(each) for each in crossed if isinstance(each, Exception)] == [RetryError]
        for each in (one, two):
            each.close()

    asyncio.run(story())


@pytest.mark.process
def test_an_answer_that_does_not_come_is_given_up(node: tuple[int, str, int]) -> None:
    async def story() -> Any:
        one, two = [await WireConnection.open(node, Random(n), 0.5) for n in range(2)]
        await one.execute("CREATE TABLE IF NOT EXISTS held (a INT PRIMARY KEY)")
        await one.execute("INSERT INTO held VALUES (1) ON CONFLICT DO NOTHING")
        await one.execute("BEGIN")
        await one.execute("SELECT a FROM held FOR UPDATE")
        with pytest.raises(ConnectionLostError, match=r"within 0\.5 s"):
            await two.execute("SELECT a FROM held FOR UPDATE")
        assert two.broken
        one.close()
        two.close()

    asyncio.run(story())


@pytest.mark.process
def test_a_node_that_is_not_there_is_a_lost_connection() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionLostError, match="node 9 does not serve"):
            asyncio.run(WireConnection.open((9, "127.0.0.1", taken.getsockname()[1]), Random(1), 1.0))


# --- as root


@pytest.fixture
def links() -> Iterator[NamespaceLinks]:
    if why := namespaces.why_not():
        pytest.skip(why)
    made = NamespaceLinks()
    yield made
    made.close()
    assert not [name for name in namespaces.namespaces() if name.startswith(made.tag)]


_LISTEN = """import socket, sys
server = socket.create_server((sys.argv[1], 7433))
print("on", flush=True)
while True:
    server.accept()
"""
_DIAL = "import socket,sys; socket.create_connection((sys.argv[1], 7433), 0.7)"


def reaches(links: NamespaceLinks, sender: int, host: str) -> bool:
    """Whether a connection from a node (0: from outside) comes about."""
    prefix = ["ip", "netns", "exec", f"{links.tag}-n{sender}"] if sender else []
    done = subprocess.run(
        [*prefix, sys.executable, "-S", "-c", _DIAL, host], capture_output=True, check=False
    )
    return done.returncode == 0


def test_namespaces_cut_links_and_nothing_else(links: NamespaceLinks) -> None:
    places = {node: links.place(node) for node in (1, 2, 3)}
    host = places[2].rpc.partition(":")[0]
    command = [*places[2].prefix, sys.executable, "-S", "-c", _LISTEN, host]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as listener:
        try:
            assert listener.stdout is not None and listener.stdout.readline() == b"on\n"
            assert all(reaches(links, sender, host) for sender in (0, 1, 3))
            links.block([(1, 2)])
            links.block([(1, 2), (2, 1)])
            assert [reaches(links, sender, host) for sender in (0, 1, 3)] == [True, False, True]
            links.unblock([(1, 2), (2, 1)])
            assert not reaches(links, 1, host), "it was blocked twice"
            links.unblock([(1, 2)])
            assert reaches(links, 1, host)
            links.lose([(1, 2)], 99)
            in_force = run([*places[2].prefix, "nft", "list", "ruleset"])
            assert "numgen random mod 100 < 99" in in_force and places[1].rpc.partition(":")[0] in in_force
            links.heal()
            assert reaches(links, 1, host)
        finally:
            listener.kill()


def test_what_a_killed_run_leaves_is_removed_and_what_a_living_one_has_is_not(links: NamespaceLinks) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    left = f"{namespaces.PREFIX}-{gone.pid}-1-n1"
    run(["ip", "netns", "add", left])
    command = ["ip", "netns", "exec", left, "sh", "-c", "echo on; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None and sleeper.stdout.readline() == b"on\n"
        assert left in remove_leftovers()
        assert sleeper.wait(10) == -signal.SIGKILL
    assert left not in namespaces.namespaces() and f"{links.tag}-hub" in namespaces.namespaces()
    assert owner_lives(f"{owner_tag()}-hub") and not owner_lives(left)


def test_a_small_disk_fills_up_and_is_released(tmp_path: Path) -> None:
    if why := disk.why_not():
        pytest.skip(why)
    try:
        small = disk.SmallDisk(tmp_path / "data", 4 * 1024 * 1024)
    except ToolError as error:
        pytest.skip(f"no tmpfs here: {error}")
    try:
        (small.directory / "kept").write_bytes(b"x" * 5000)
        small.fill()
        assert shutil.disk_usage(small.directory).free < 4096
        with pytest.raises(OSError, match="No space left"):
            (small.directory / "more").write_bytes(b"x" * 5000)
        small.release()
        (small.directory / "more").write_bytes(b"x" * 5000)
        assert (small.directory / "kept").stat().st_size == 5000
    finally:
        small.close()
    assert not os.path.ismount(tmp_path / "data")


def test_networks_of_one_process_follow_each_other_at_once() -> None:
    if why := namespaces.why_not():
        pytest.skip(why)
    for _ in range(2):
        links = NamespaceLinks()
        try:
            links.place(1)
        finally:
            links.close()
