"""Real node processes: start, ready file, remembered ports, refusals, graceful and sudden ends, rejoining."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from txndb.errors import StoreError
from txndb.server.demo import replicas_agree
from txndb.server.localcluster import LocalCluster, LocalNode
from txndb.server.main import ReadyInfo

pytestmark = pytest.mark.process


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LocalNode]:
    """One founded node."""
    with LocalCluster(tmp_path, 1) as cluster:
        yield cluster.nodes[0]


def start(node: LocalNode, *options: str) -> subprocess.CompletedProcess[str]:
    """Start a node that must fail; waits for its end."""
    command = [
        sys.executable,
        "-m",
        "txndb.server",
        "start",
        "--data",
        str(node.directory / "data"),
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def page(node: LocalNode, path: str) -> str:
    host, port = node.info.http.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: sock.recv(65536), b"")).decode()


def test_a_node_starts_serves_its_pages_and_stops_with_zero(node: LocalNode) -> None:
    info = node.info
    assert info.node == 1
    assert info.pid == (node.process.pid if node.process else 0)
    assert info.start_s < 10
    assert "200 OK" in page(node, "/healthz")
    assert "txndb_serving 1.0" in page(node, "/metrics")
    assert f'"cluster_id":"{info.cluster_id}"' in page(node, "/status")
    assert node.stop() == 0
    assert "stopped" in node.last_log_line()


def test_ports_and_identity_survive_a_kill(node: LocalNode) -> None:
    before = node.info
    node.kill()
    node.spawn()
    after = node.wait_ready()
    assert (after.sql, after.rpc, after.http) == (before.sql, before.rpc, before.http)
    assert (after.node, after.cluster_id) == (before.node, before.cluster_id)
    assert after.pid != before.pid


def test_a_second_start_on_its_directory_is_refused(node: LocalNode) -> None:
    done = start(node)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"is in use by another node (process {node.info.pid})" in done.stderr
    assert "200 OK" in page(node, "/healthz")


def test_a_node_of_another_cluster_is_refused(node: LocalNode, tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "other", 1) as other:
        stranger = other.nodes[0]
        stranger.stop()
        done = start(stranger, "--join", node.info.rpc)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("txndb: the data directory belongs to cluster")
        assert stranger.info.cluster_id in last
        assert node.info.cluster_id in last


def test_a_damaged_log_is_refused_and_left_alone(node: LocalNode) -> None:
    node.stop()
    segment = next((node.directory / "data" / "log").glob("*.log"))
    damaged = bytearray(segment.read_bytes())
    damaged[200] ^= 0xFF
    segment.write_bytes(damaged)
    done = start(node)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "log is damaged" in done.stderr
    assert segment.read_bytes() == damaged


def test_half_a_store_is_refused(node: LocalNode) -> None:
    node.stop()
    shutil.rmtree(node.directory / "data" / "log")
    done = start(node)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("txndb: ")


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        filler = tmp_path / "filler"
        with open(filler, "wb") as f:
            f.write(b"x" * (40 * 1024))
        done = start(LocalNode(1, tmp_path, []))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "no space left" in done.stderr.lower()
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_joining_nobody_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
    node = LocalNode(1, tmp_path, [])
    node.spawn([address])
    with pytest.raises(StoreError, match="node 1 was not ready after"):
        node.wait_ready(3.0)
    assert f"cannot join through {address} yet" in node.last_log_line()
    assert node.stop() == 0


def test_three_nodes_agree_lose_one_and_get_it_back(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, 3) as cluster:
        assert sorted(node.info.node for node in cluster.nodes) == [1, 2, 3]
        assert len({node.info.cluster_id for node in cluster.nodes}) == 1
        assert asyncio.run(replicas_agree(cluster.nodes)), (
            "three replicas of every range, once all have joined"
        )
        first = cluster.nodes[0]
        first.kill()
        again = cluster.restart(first)
        assert again.node == 1
        assert asyncio.run(replicas_agree(cluster.nodes))


def test_an_interrupt_at_the_terminal_is_not_for_the_nodes(node: LocalNode) -> None:
    assert os.getpgid(node.info.pid) != os.getpgid(0)


def test_the_ready_file_is_what_the_ready_line_says(node: LocalNode) -> None:
    data = (node.directory / "ready.json").read_bytes()
    info = msgspec.json.decode(data, type=ReadyInfo)
    assert info == node.info
    for part in (info.sql_url, info.http, info.rpc, info.data, f"node {info.node}"):
        assert part in info.line()


def test_a_node_stops_with_the_program_that_started_it(node: LocalNode) -> None:
    process = node.process
    assert process is not None and process.stdin is not None
    process.stdin.write(b"ignored")
    process.stdin.flush()
    assert "200 OK" in page(node, "/healthz")
    process.stdin.close()
    assert process.wait(30) == 0
    assert "stopped" in node.last_log_line()
