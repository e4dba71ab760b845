"""A TCP proxy that breaks links between node processes, and one that fails transactions of their clients.

    node 2 --dials what node 1 advertises--> FaultProxy --> node 1's --rpc listener

Each node advertises its door in the proxy (`--advertise`, an operator's option), so all traffic of peers and of gRPC
passes through it and no node knows. Who dials is found in the kernel's tables: the process that owns the other end of
the socket. A link is (from node, to node); what it can suffer: `block` (nothing passes; connections that are older
than `DEAD_S` break, as the kernel would give them up), `delay`, `reset`.

Invariants
1. Bytes of one direction keep their order; none is lost while its connection lives (it is TCP).
2. A connection that is reset is reset at both ends.
3. Threads: one, with its own event loop. Methods of `FaultProxy` may be called from any other and return when done.

Used where network namespaces are not to be had, and by the fixture `txndb_cluster`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from txndb.testing.retryfilter import FailurePlan, RetryFilter

Link = tuple[int, int]
"""(node that dials, node that is dialled); 0 stands for a process that is no node."""

DEAD_S: Final = 3.0
BUFFER_BYTES_MAX: Final = 1 << 20
T = TypeVar("T")


class FaultProxy:
    """See the module. `pids` says which process each node is at the moment."""

    def __init__(self, pids: Callable[[], dict[int, int]], failures: FailurePlan | None = None) -> None:
        self.failures = failures or FailurePlan()
        self._pids = pids
        self._blocked: dict[Link, int] = {}
        self._delay_s: dict[Link, float] = {}
        self._pipes: dict[_Pipe, None] = {}
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()

    # --- doors

    def open_door(self, node: int, address: tuple[str, int]) -> int:
        """Listen for a node whose --rpc listener is (or will be) at `address`; the port."""
        return self._call(self._listen(lambda: _Front(self, node, address, None)))

    def open_sql_door(self, node: int, address: Callable[[], tuple[str, int]]) -> int:
        """Listen for clients of a node, whose transactions `failures` may fail; the port."""
        return self._call(self._listen(lambda: _Front(self, node, address(), RetryFilter(self.failures))))

    async def _listen(self, front: Callable[[], asyncio.Protocol]) -> int:
        server = await self._loop.create_server(front, "127.0.0.1", 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    # --- harm

    def block(self, links: Iterable[Link]) -> None:
        """Nothing passes these links until as many `unblock`s."""
        self._call(self._change_blocks(list(links), 1))

    def unblock(self, links: Iterable[Link]) -> None:
        """The links pass bytes again."""
        self._call(self._change_blocks(list(links), -1))

    def delay(self, links: Iterable[Link], seconds: float) -> None:
        """Every piece takes so much longer; 0 ends it."""
        self._call(self._set_delay(list(links), seconds))

    def reset(self, links: Iterable[Link]) -> None:
        """Connections over these links break."""
        self._call(self._reset(list(links)))

    def heal(self) -> None:
        """Every link passes bytes at once again."""
        self._call(self._heal())

    def close(self) -> None:
        """End all connections and the thread."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- inside the thread

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _change_blocks(self, links: list[Link], step: int) -> None:
        for link in links:
            count = self._blocked.get(link, 0) + step
            if count > 0:
                self._blocked[link] = count
            else:
                self._blocked.pop(link, None)
        for pipe in list(self._pipes):
            pipe.look()

    async def _set_delay(self, links: list[Link], seconds: float) -> None:
        for link in links:
            self._delay_s[link] = seconds

    async def _reset(self, links: list[Link]) -> None:
        for pipe in list(self._pipes):
            if pipe.link in links:
                pipe.abort()

    async def _heal(self) -> None:
        self._blocked.clear()
        self._delay_s.clear()
        for pipe in list(self._pipes):
            pipe.look()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for pipe in list(self._pipes):
            pipe.abort()
        await asyncio.sleep(0)

    def is_blocked(self, link: Link) -> bool:
        """Whether bytes wait."""
        return link in self._blocked

    def delay_of(self, link: Link) -> float:
        """Seconds a piece waits."""
        return self._delay_s.get(link, 0.0)

    def keep(self, pipe: _Pipe) -> None:
        """A pipe is in use."""
        self._pipes[pipe] = None

    def forget(self, pipe: _Pipe) -> None:
        """A pipe has ended."""
        self._pipes.pop(pipe, None)

    def who_dialled(self, transport: asyncio.Transport) -> int:
        """The node whose process owns the other end of a connection; 0 if it is none's."""
        here, there = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        inode = socket_inode(there[1], here[1])
        if inode:
            for node, pid in sorted(self._pids().items()):
                if owns_socket(pid, inode):
                    return node
        return 0


class _Pipe:
    """One direction of a proxied connection."""

    def __init__(
        self, proxy: FaultProxy, link: Link, source: asyncio.Transport, sink: asyncio.Transport
    ) -> None:
        self.link = link
        self._proxy = proxy
        self._source = source
        self._sink = sink
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._dead: asyncio.TimerHandle | None = None
        self._late = 0
        self._ended = False
        proxy.keep(self)

    def feed(self, data: bytes) -> None:
        """Bytes came from the source."""
        delay_s = self._proxy.delay_of(self.link)
        if delay_s or self._late:
            self._late += 1
            self._timers.append(asyncio.get_running_loop().call_later(delay_s, self._arrive, data))
        else:
            self._pass(data)

    def _arrive(self, data: bytes) -> None:
        self._late -= 1
        self._timers = [timer for timer in self._timers if timer.when() > asyncio.get_running_loop().time()]
        self._pass(data)

    def _pass(self, data: bytes) -> None:
        if self._ended:
            return
        if not self._proxy.is_blocked(self.link):
            self._sink.write(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > BUFFER_BYTES_MAX:
            self._source.pause_reading()
        if self._dead is None:
            self._dead = asyncio.get_running_loop().call_later(DEAD_S, self.abort)

    def look(self) -> None:
        """Links have changed."""
        if self._held and not self._proxy.is_blocked(self.link) and not self._ended:
            self._sink.write(b"".join(self._held))
            self._held.clear()
            self._held_bytes = 0
            if self._dead is not None:
                self._dead.cancel()
                self._dead = None
            self._source.resume_reading()

    def abort(self) -> None:
        """Break the connection at both ends."""
        self.end()
        self._source.abort()
        self._sink.abort()

    def end(self) -> None:
        """One end is gone; what is held is lost."""
        self._ended = True
        self._proxy.forget(self)
        if self._dead is not None:
            self._dead.cancel()
        for timer in self._timers:
            timer.cancel()


class _Front(asyncio.Protocol):
    """The dialler's side of a connection."""

    def __init__(
        self, proxy: FaultProxy, node: int, address: tuple[str, int], failures: RetryFilter | None
    ) -> None:
        self._proxy = proxy
        self._node = node
        self._address = address
        self._filter = failures
        self._transport: asyncio.Transport | None = None
        self._onward: _Pipe | None = None
        self._back: _Pipe | None = None
        self._upstream: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        assert self._transport is not None
        dialler = self._proxy.who_dialled(self._transport) if self._filter is None else 0
        try:
            loop = asyncio.get_running_loop()
            upstream, _ = await loop.create_connection(lambda: _Back(self), *self._address)
        except OSError:
            self._transport.abort()
            return
        self._upstream = upstream
        self._onward = _Pipe(self._proxy, (dialler, self._node), self._transport, upstream)
        self._back = _Pipe(self._proxy, (self._node, dialler), upstream, self._transport)
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._onward is None:
            self._early.append(data)
            return
        if self._filter is not None:
            data, answer = self._filter.from_client(data)
            if answer and self._transport is not None:
                self._transport.write(answer)
        if data:
            self._onward.feed(data)

    def from_upstream(self, data: bytes) -> None:
        """The node answered."""
        if self._filter is not None:
            data = self._filter.from_server(data)
        if data and self._back is not None:
            self._back.feed(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.end()

    def end(self) -> None:
        """Either side is gone."""
        for pipe in (self._onward, self._back):
            if pipe is not None:
                pipe.end()
        for transport in (self._transport, self._upstream):
            if transport is not None:
                transport.close()


class _Back(asyncio.Protocol):
    """The node's side of a connection."""

    def __init__(self, front: _Front) -> None:
        self._front = front

    def data_received(self, data: bytes) -> None:
        self._front.from_upstream(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._front.end()


def socket_inode(local_port: int, remote_port: int) -> int:
    """The inode of the loopback connection between two ports as its owner sees it, from the kernel's tables (Linux); 0
    if there is none. gRPC's sockets are IPv6 ones even where they speak IPv4."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            ports = [int(address.rpartition(":")[2], 16) for address in fields[1:3]]
            if ports == [local_port, remote_port]:
                return int(fields[9])
    return 0


def owns_socket(pid: int, inode: int) -> bool:
    """Whether a process has the socket open."""
    wanted = f"socket:[{inode}]"
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(_target(entry.path) == wanted for entry in entries)
    except OSError:  # it has just ended
        return False


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile
        return ""
