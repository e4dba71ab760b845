"""`RealCluster`: node processes on this machine, with RocksDB and sockets, and the faults that can be done to them.

The same methods as the simulated cluster (`world`), so a test may run against either. Links between nodes are broken
in a proxy that the nodes advertise (`proxy`), processes with signals. A clock cannot be moved from outside without a
library that lies about it: `skew` needs libfaketime (Debian: faketime) and a cluster made with `clocks=True`, whose E
is 100 ms.

Invariant: what was started is stopped with `close` (or the context), whatever happened.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from txndb.client.connection import Connection, connect
from txndb.server.localcluster import LocalNode, wait_replicated
from txndb.testing.proxy import FaultProxy, Link
from txndb.testing.retryfilter import FailurePlan

HOST: Final = "127.0.0.1"
ERROR_BOUND_US: Final = 100_000
FAKETIME: Final = Path("faketime/libfaketimeMT.so.1")
LIBRARIES: Final = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib", "/usr/lib")


class RealCluster:
    """See the module. The `seed` is kept for the program's own draws: real processes do not repeat."""

    def __init__(
        self,
        directory: Path,
        nodes: int = 3,
        seed: int = 1,
        options: Sequence[str] = (),
        *,
        clocks: bool = False,
    ) -> None:
        self.seed = seed
        self.failures = FailurePlan()
        self.story: list[str] = []
        self._began = time.monotonic()
        self._partition: list[Link] = []
        self._proxy = FaultProxy(self._pids, self.failures)
        self._nodes: list[LocalNode] = []
        self._sql_ports: list[int] = []
        self._doors: list[str] = []
        self._clock_files: list[Path] = []
        self._connections: list[Connection] = []
        for number in range(1, nodes + 1):
            port = free_port()
            door = self._proxy.open_door(number, (HOST, port))
            own = [*options, "--advertise", f"{HOST}:{door}"]
            environment: dict[str, str] = {}
            if clocks:
                own += ["--clock", f"fixed:{ERROR_BOUND_US}"]
                self._clock_files.append(directory / f"clock{number}")
                environment = faked_clock(self._clock_files[-1])
            self._doors.append(f"{HOST}:{door}")
            home = directory / f"node{number}"
            node = LocalNode(number, home, own, rpc=f"{HOST}:{port}", environment=environment)
            self._nodes.append(node)
            self._sql_ports.append(self._proxy.open_sql_door(number, partial(self._sql_address, number)))
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        first, *others = self._nodes
        first.spawn()
        first.wait_ready()
        for node in others:
            node.spawn([self._doors[0]])
        for node in others:
            node.wait_ready()
        wait_replicated(self._nodes)
        self._note(f"{len(self._nodes)} nodes are ready")

    # --- what a program uses

    @property
    def nodes(self) -> tuple[int, ...]:
        """The numbers of all nodes."""
        return tuple(node.number for node in self._nodes)

    @property
    def url(self) -> str:
        """A driver's URL that names every node."""
        hosts = ",".join(f"{HOST}:{port}" for port in self._sql_ports)
        return f"txndb://root@{hosts}/defaultdb"

    def node_url(self, node: int) -> str:
        """One node's URL, for any PostgreSQL client."""
        return f"postgresql://root@{HOST}:{self._sql_ports[self._node(node).number - 1]}/defaultdb"

    def connect(self, node: int = 0, *, paramstyle: str = "pyformat", autocommit: bool = False) -> Connection:
        """A connection of the PEP 249 driver to a node, or to the first one that serves; it goes on at another one when
        its node is lost. The cluster closes what the program leaves open."""
        order = [node, *(n for n in self.nodes if n != node)] if node else list(self.nodes)
        hosts = ",".join(f"{HOST}:{self._sql_ports[n - 1]}" for n in order)
        url = f"txndb://root@{hosts}/defaultdb"
        self._connections.append(connect(url, paramstyle=paramstyle, autocommit=autocommit))
        return self._connections[-1]

    # --- faults

    def partition(self, *groups: Sequence[int]) -> None:
        """Cut the network between groups of nodes; nodes not named are one more group."""
        named = [self._node(n).number for group in groups for n in group]
        rest = [n for n in self.nodes if n not in named]
        parts = [list(group) for group in groups if group] + ([rest] if rest else [])
        links = [
            (a, b)
            for i, one in enumerate(parts)
            for j, other in enumerate(parts)
            if i != j
            for a in one
            for b in other
        ]
        self._note(f"partition {parts}")
        self._proxy.block(links)

    def crash(self, node: int) -> None:
        """SIGKILL."""
        self._note(f"kill node {node}")
        self._node(node).kill()

    def kill(self, node: int) -> None:
        """SIGKILL; a real machine's power cannot be taken from here."""
        self.crash(node)

    def restart(self, node: int) -> None:
        """Start a node again, on its directory; returns when it serves."""
        it = self._node(node)
        if it.is_running:
            it.stop()
        self._note(f"start node {node}")
        it.spawn([door for n, door in enumerate(self._doors, 1) if n != node])
        it.wait_ready()

    def pause(self, node: int) -> None:
        """SIGSTOP."""
        self._note(f"pause node {node}")
        self._signal(node, signal.SIGSTOP)

    def resume(self, node: int) -> None:
        """SIGCONT."""
        self._note(f"resume node {node}")
        self._signal(node, signal.SIGCONT)

    def skew(self, node: int, offset_us: int) -> None:
        """Set a node's wall clock off by so much; beyond E (100 ms) it lies to the node. Needs `clocks=True`."""
        if not self._clock_files:
            raise ValueError("the clocks of this cluster cannot be moved: make it with clocks=True")
        self._note(f"clock of node {node} off by {offset_us} us")
        write_offset(self._clock_files[self._node(node).number - 1], offset_us)

    def force_retry_errors(self, count: int, at: int = 1) -> FailurePlan:
        """The next `count` transaction blocks fail with 40001 at their statement number `at`; see `retryfilter`."""
        self.failures.fail(count, at)
        return self.failures

    def heal(self) -> None:
        """End every fault; returns when all nodes serve."""
        self._note("heal")
        self._proxy.heal()
        for path in self._clock_files:
            write_offset(path, 0)
        self.failures.fail(0)
        for node in self._nodes:
            if node.is_running:
                self._signal(node.number, signal.SIGCONT)
            else:
                self.restart(node.number)

    def close(self) -> None:
        """Close every connection, stop every process and the proxy."""
        for connection in self._connections:
            connection.close()
        for node in self._nodes:
            if node.is_running:
                self._signal(node.number, signal.SIGCONT)
                node.kill()
        self._proxy.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside

    def _node(self, node: int) -> LocalNode:
        if not 1 <= node <= len(self._nodes):
            raise ValueError(f"there is no node {node}; the nodes are 1 to {len(self._nodes)}")
        return self._nodes[node - 1]

    def _signal(self, node: int, number: signal.Signals) -> None:
        process = self._node(node).process
        if process is not None and process.poll() is None:
            os.kill(process.pid, number)

    def _pids(self) -> dict[int, int]:
        return {
            node.number: node.process.pid
            for node in self._nodes
            if node.process is not None and node.is_running
        }

    def _sql_address(self, node: int) -> tuple[str, int]:
        host, _, port = self._node(node).info.sql.rpartition(":")
        return host, int(port)

    def _note(self, text: str) -> None:
        self.story.append(f"{time.monotonic() - self._began:8.3f} {text}")


def free_port() -> int:
    """A port nobody listened on a moment ago."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def faketime_library() -> Path | None:
    """Where libfaketime is installed; None where it is not."""
    return next((path for base in LIBRARIES if (path := Path(base) / FAKETIME).exists()), None)


def faked_clock(offset_file: Path) -> dict[str, str]:
    """The environment of a process whose wall clock is off by what the file says; `OSError` without libfaketime."""
    library = faketime_library()
    if library is None:
        raise FileNotFoundError("libfaketime is not installed (Debian: faketime)")
    write_offset(offset_file, 0)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset_file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # with it, timed waits between threads last a hundred times as long
    }


def write_offset(path: Path, offset_us: int) -> None:
    """Change what a clock is off by, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(f"{offset_us / 1e6:+.6f}\n")
    beside.replace(path)
