"""A cluster of real node processes on this machine: for the demo, the benchmark and tests against processes.

Each node is `python -m txndb.server start` with its own directory, ephemeral loopback ports and a log file. A node is
ready when it has printed its ready line; that is waited for on its pipe, never by polling.

Invariant: nodes end with `close` (or the context), by SIGTERM, and by SIGKILL if that takes too long. None outlives
it.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import msgspec

from txndb.errors import StoreError
from txndb.limits import DRAIN_S, REPLICATION_FACTOR, STOP_AFTER_DRAIN_S
from txndb.server.main import ReadyInfo

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = DRAIN_S + STOP_AFTER_DRAIN_S
STATUS_TIMEOUT_S: Final = 2.0
STATUS_EVERY_S: Final = 0.05
_ANY_PORT: Final = "127.0.0.1:0"


class LocalNode:
    """One node process; keeps its directory, and through it its addresses, over restarts."""

    def __init__(
        self,
        number: int,
        directory: Path,
        options: Sequence[str],
        *,
        rpc: str = _ANY_PORT,
        sql: str = _ANY_PORT,
        http: str = _ANY_PORT,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """`rpc`, `sql`, `http`: where to listen. `prefix`: a command that becomes the node's process by executing its
        arguments, as `ip netns exec NAME` does."""
        self.number = number
        self.directory = directory
        self.log_path = directory / "node.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: ReadyInfo | None = None
        self._options = list(options)
        self._listeners = (("--sql", sql), ("--rpc", rpc), ("--http", http))
        self._prefix = list(prefix)
        self._environment = {**os.environ, **environment} if environment else None

    @property
    def url(self) -> str:
        """Where SQL clients connect."""
        return self.info.sql_url

    @property
    def info(self) -> ReadyInfo:
        """What the node said when it became ready."""
        if self.ready is None:
            raise StoreError(f"node {self.number} has not become ready")
        return self.ready

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def spawn(self, join: Sequence[str] = ()) -> None:
        """Start the process; `wait_ready` must follow."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            *self._prefix,
            sys.executable,
            "-m",
            "txndb.server",
            "start",
            "--data",
            str(self.directory / "data"),
        ]
        command += ["--ready-file", str(self.directory / "ready.json"), "--stop-with-stdin", *self._options]
        for option, address in self._listeners:
            command += [option, address]
        if join:
            command += ["--join", ",".join(join)]
        with open(self.log_path, "ab") as log:
            # A process group of its own: Ctrl-C at the terminal is for the program in front, not for the nodes.
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.PIPE,
                env=self._environment,
                process_group=0,
            )

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> ReadyInfo:
        """Wait for the ready line; `StoreError` with the end of the node's log if there is none."""
        process = self.process
        assert process is not None and process.stdout is not None
        deadline_s = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))
            piece = os.read(process.stdout.fileno(), 4096) if readable else b""
            if not piece:
                why = "ended" if readable else f"was not ready after {timeout_s:g} s"
                raise StoreError(f"node {self.number} {why}: {self.last_log_line()}")
            line += piece
        self.ready = msgspec.json.decode((self.directory / "ready.json").read_bytes(), type=ReadyInfo)
        return self.ready

    def status(self) -> dict[str, Any]:
        """What its /status page says; `OSError` if the node does not answer."""
        with urlopen(f"http://{self.info.http}/status", timeout=STATUS_TIMEOUT_S) as answer:
            return msgspec.json.decode(answer.read(), type=dict[str, Any])

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        self._end(graceful=False)

    def stop(self) -> int:
        """SIGTERM, and SIGKILL if that is ignored; the exit code."""
        return self._end(graceful=True)

    def last_log_line(self) -> str:
        """What the node said last."""
        lines = self.log_path.read_text("utf-8", "replace").splitlines() if self.log_path.exists() else []
        return lines[-1] if lines else "no log"

    def _end(self, graceful: bool) -> int:
        process = self.process
        if process is None:
            return 0
        if graceful and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
        else:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stdin):
            if pipe is not None:
                pipe.close()
        return process.returncode


def wait_replicated(nodes: Sequence[LocalNode], timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait until every range has all its replicas. Nodes are ready before: who loses one then loses what it alone held
    until it is back. `StoreError` after the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while not replicated([node.status() for node in nodes]):
        if time.monotonic() > deadline_s:
            raise StoreError(f"ranges have too few replicas after {timeout_s:g} s")
        time.sleep(STATUS_EVERY_S)


def replicated(statuses: Sequence[Mapping[str, Any]]) -> bool:
    """Whether, by the status of all nodes, every range has its three replicas, or one at each of fewer nodes."""
    wanted = min(REPLICATION_FACTOR, len(statuses))
    ranges = [one for status in statuses for one in status["ranges"]]
    held = Counter(one["range"] for one in ranges if one["applied"])
    return bool(ranges) and all(
        held[one["range"]] >= wanted and len(one["nodes"]) >= wanted for one in ranges
    )


class LocalCluster:
    """Several node processes under one directory."""

    def __init__(self, directory: Path, nodes: int, options: Sequence[str] = ()) -> None:
        self.nodes = [LocalNode(i + 1, directory / f"node{i + 1}", options) for i in range(nodes)]

    def start(self) -> None:
        """Found the cluster with the first node, then let the others join at once."""
        first, *others = self.nodes
        try:
            first.spawn()
            rpc = first.wait_ready().rpc
            for node in others:
                node.spawn([rpc])
            for node in others:
                node.wait_ready()
        except BaseException:
            self.close()
            raise

    def restart(self, node: LocalNode) -> ReadyInfo:
        """Start a node again in its directory."""
        node.spawn([other.info.rpc for other in self.nodes if other is not node and other.ready is not None])
        return node.wait_ready()

    def close(self) -> None:
        """Stop all nodes, at the same time."""
        for node in self.nodes:
            if node.process is not None and node.is_running:
                node.process.terminate()
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
