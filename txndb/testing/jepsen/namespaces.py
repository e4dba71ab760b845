"""Nodes in network namespaces of their own, joined by a bridge, with packets dropped by nftables: needs root on
Linux.

    root namespace --veth-- hub namespace [ bridge ] --veth-- node 1's namespace (10.213.N.1)
      (10.213.N.254)                        |
                                            +------veth------ node 2's namespace (10.213.N.2)  …

Each node drops what arrives from the peers it is cut off from, so links break one way or both, inside the kernel, and
TCP does what it does then. Clients live in the root namespace and reach every node.

Invariants
1. Everything hangs on namespaces that are named `txnjep-PID-STARTED-…` after the process that made them: `close`
   deletes them, and with them veths, bridge and rules.
2. `remove_leftovers` removes those (and mounts, see `disk`) whose process is gone, and no others. Processes that
still
   run in such a namespace are nodes nobody watches any more; they are killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from txndb.testing.jepsen.links import NETNS, Place
from txndb.testing.proxy import Link

PREFIX: Final = "txnjep"
_RPC_PORT: Final = 7433
_SQL_PORT: Final = 7432
_HTTP_PORT: Final = 7480
_ROOT_HOST: Final = 254
_COMMAND_TIMEOUT_S: Final = 20.0


class ToolError(Exception):
    """A command of the system failed; the message is its own."""


def run(command: Sequence[str], text: str = "") -> str:
    """Run a command to its end; its output. Raises `ToolError`."""
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise ToolError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def owner_tag() -> str:
    """What this process calls its namespaces and mounts."""
    pid = os.getpid()
    return f"{PREFIX}-{pid}-{_started(pid)}"


def _started(pid: int) -> int:
    """When a process started, in the kernel's ticks; 0 if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])


def owner_lives(name: str) -> bool:
    """Whether the process that a namespace or mount is named after still runs."""
    _, pid, started, *_ = [*name.split("-"), "", ""]
    return pid.isdecimal() and started.isdecimal() and _started(int(pid)) == int(started) != 0


def namespaces() -> list[str]:
    """All namespaces of runs, this one's and others'."""
    try:
        lines = run(["ip", "netns", "list"]).splitlines()
    except ToolError:
        return []
    return [line.split()[0] for line in lines if line.startswith(f"{PREFIX}-")]


def delete_namespace(name: str) -> None:
    """Kill what runs in a namespace, and remove it."""
    with suppress(ToolError):  # it is already gone
        for pid in run(["ip", "netns", "pids", name]).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        run(["ip", "netns", "delete", name])


def remove_leftovers() -> list[str]:
    """Remove the namespaces of runs that were killed, as root; their names."""
    gone = [name for name in namespaces() if not owner_lives(name)] if os.geteuid() == 0 else []
    for name in gone:
        delete_namespace(name)
    return gone


def why_not() -> str:
    """Why namespaces cannot be had here; empty if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (Debian: iproute2, nftables)"
    name = f"{owner_tag()}-probe"
    try:
        run(["ip", "netns", "add", name])
        run(["ip", "netns", "exec", name, "nft", "-f", "-"], _TABLE)
    except ToolError as error:
        return f"this machine makes no network namespaces: {error}"
    finally:
        delete_namespace(name)
    return ""


def why_no_netem() -> str:
    """Why the kernel cannot delay packets (inside a namespace); empty if it can. Needs what `why_not` asks for."""
    name = f"{owner_tag()}-netem"
    try:
        run(["ip", "netns", "add", name])
        run(["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"])
    except ToolError as error:
        return f"the kernel has no netem: {error}"
    finally:
        delete_namespace(name)
    return ""


_TABLE: Final = """table inet faults {
  chain arriving { type filter hook input priority 0; }
}
"""


class NamespaceLinks:
    """See the module. Raises `ToolError` when it cannot be set up, with nothing left behind."""

    kind = NETNS
    can_lose = True

    def __init__(self) -> None:
        self.tag = owner_tag()
        self.can_delay = not why_no_netem()
        self._hub = f"{self.tag}-hub"
        self._port = f"txj{os.getpid():x}"
        self._net = ""
        self._blocked: Counter[Link] = Counter()
        self._lost: dict[Link, int] = {}
        self._nodes: list[int] = []
        self._lock = threading.RLock()
        try:
            self._make_hub()
        except BaseException:
            self.close()
            raise

    def _make_hub(self) -> None:
        routes = run(["ip", "-4", "route", "show", "table", "all"])
        first = os.getpid() % 250
        free = (f"10.213.{(first + n) % 250}" for n in range(250))
        self._net = next(net for net in free if f"{net}." not in routes)
        port = self._port
        run(["ip", "netns", "add", self._hub])
        self._in(self._hub, "ip", "link", "add", "bridge", "type", "bridge")
        self._in(self._hub, "ip", "link", "set", "bridge", "up")
        run(["ip", "link", "add", port, "type", "veth", "peer", "name", "root", "netns", self._hub])
        self._in(self._hub, "ip", "link", "set", "root", "master", "bridge", "up")
        run(["ip", "addr", "add", f"{self._net}.{_ROOT_HOST}/24", "dev", port])
        run(["ip", "link", "set", port, "up"])

    def place(self, node: int) -> Place:
        with self._lock:
            return self._place(node)

    def _place(self, node: int) -> Place:
        name = self._name(node)
        run(["ip", "netns", "add", name])
        self._in(
            name, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", f"n{node}", "netns", self._hub
        )
        self._in(self._hub, "ip", "link", "set", f"n{node}", "master", "bridge", "up")
        self._in(name, "ip", "addr", "add", f"{self._address(node)}/24", "dev", "eth0")
        self._in(name, "ip", "link", "set", "eth0", "up")
        self._in(name, "ip", "link", "set", "lo", "up")
        run(["ip", "netns", "exec", name, "nft", "-f", "-"], _TABLE)
        self._nodes.append(node)
        own = self._address(node)
        return Place(
            rpc=f"{own}:{_RPC_PORT}",
            advertise=f"{own}:{_RPC_PORT}",
            sql=f"{own}:{_SQL_PORT}",
            http=f"{own}:{_HTTP_PORT}",
            options=("--insecure",),
            prefix=("ip", "netns", "exec", name),
        )

    def block(self, links: Iterable[Link]) -> None:
        self._change(links, 1)

    def unblock(self, links: Iterable[Link]) -> None:
        self._change(links, -1)

    def delay(self, links: Iterable[Link], seconds: float) -> None:
        """Per sending node: netem stands at its interface, so its clients wait as well."""
        for node in sorted({sender for sender, _ in links}):
            name = self._name(node)
            if seconds:
                self._in(
                    name, "tc", "qdisc", "replace", "dev", "eth0", "root", "netem", "delay", f"{seconds}s"
                )
            else:
                with suppress(ToolError):  # there is no delay
                    self._in(name, "tc", "qdisc", "del", "dev", "eth0", "root")

    def lose(self, links: Iterable[Link], percent: int) -> None:
        changed = list(links)
        with self._lock:
            for link in changed:
                if percent:
                    self._lost[link] = percent
                else:
                    self._lost.pop(link, None)
            self._apply({receiver for _, receiver in changed})

    def heal(self) -> None:
        with self._lock:
            self._blocked.clear()
            self._lost.clear()
            self._apply(self._nodes)
        if self.can_delay:
            self.delay([(node, node) for node in self._nodes], 0)

    def close(self) -> None:
        with suppress(ToolError):  # it was not made yet; deleted by itself it would stay for a moment
            run(["ip", "link", "delete", self._port])
        for name in namespaces():
            if name.startswith(f"{self.tag}-"):
                delete_namespace(name)

    def rules(self, node: int) -> str:
        """What nftables is told for one node."""
        lines = ["flush chain inet faults arriving"]
        for (sender, receiver), count in sorted(self._blocked.items()):
            if receiver == node and count > 0:
                lines.append(f"add rule inet faults arriving ip saddr {self._address(sender)} drop")
        for (sender, receiver), percent in sorted(self._lost.items()):
            if receiver == node:
                chance = f"numgen random mod 100 < {percent}"
                lines.append(f"add rule inet faults arriving ip saddr {self._address(sender)} {chance} drop")
        return "\n".join(lines) + "\n"

    def _change(self, links: Iterable[Link], step: int) -> None:
        changed = list(links)
        with self._lock:
            for link in changed:
                self._blocked[link] += step
            self._apply({receiver for _, receiver in changed})

    def _apply(self, nodes: Iterable[int]) -> None:
        for node in sorted(set(nodes) & set(self._nodes)):
            run(["ip", "netns", "exec", self._name(node), "nft", "-f", "-"], self.rules(node))

    def _address(self, node: int) -> str:
        return f"{self._net}.{node}"

    def _name(self, node: int) -> str:
        return f"{self.tag}-n{node}"

    def _in(self, name: str, *command: str) -> None:
        run(
            ["ip", "-n", name, *command[1:]]
            if command[0] == "ip"
            else ["ip", "netns", "exec", name, *command]
        )
