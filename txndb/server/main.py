"""A node's life as a process: lock and check, listen, recover, join or bootstrap, serve, drain, stop.

Order of the start, each step undone by the steps of `stop` in reverse:
1. the data directory is locked and its remembered addresses are read; options that make no sense end here;
2. the --rpc address is bound: from now on its port is known and can be given to peers;
3. `Node.open` recovers log and engine; `Node.start` bootstraps or joins, and returns when the node can serve;
4. SQL and HTTP listen; the ready line is printed, the ready file written.

Order of the stop (SIGTERM, SIGINT): health says no; SQL takes no new client and lets transactions end; the node
hands its leases over; peers and workers close; the lock goes. A second signal ends the process at once.

Exit codes: 0 after a graceful stop, 1 when the node could not start (one line says why), 3 when it met what it must
not survive (a failed sync, corruption), 130 after a second signal. Latency: the start's garbage is frozen and
collections are made rare; the interpreter's switch interval is short, for the worker that returns from a
sync needs the lock at once.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import msgspec

from txndb.errors import StoreError, TxndbError
from txndb.server.body import ServerBody, end_process, exception_handler, stderr_event
from txndb.server.config import Listener, ServerConfig
from txndb.server.datadir import DataDir, write_atomically
from txndb.server.timesource import host_id, make_time_source
from txndb.server.transport import ServerTransport

if TYPE_CHECKING:
    from txndb.cluster.node import Node
    from txndb.server.http import HttpServer
    from txndb.server.pg import PgServer

EXIT_OK: Final = 0
EXIT_CANNOT_START: Final = 1
EXIT_INTERRUPTED: Final = 130
SWITCH_INTERVAL_S: Final = 0.0005
GC_THRESHOLDS: Final = (50_000, 20, 50)


class ReadyInfo(msgspec.Struct, frozen=True):
    """What the ready file holds, and the ready line says."""

    pid: int
    version: str
    node: int
    cluster_id: str
    sql_url: str
    sql: str
    rpc: str
    http: str
    data: str
    start_s: float

    def line(self) -> str:
        return (
            f"txndb {self.version} ready in {self.start_s:.1f} s: node {self.node}, SQL {self.sql_url}, "
            f"http://{self.http}/, rpc {self.rpc}, data {self.data}"
        )


async def look(host: str, port: int) -> int:
    """Whether one could listen there; `OSError` if not."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, reuse_address=True)
    server.close()
    return port


class NodeProcess:
    """One running node and everything around it."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.ready: ReadyInfo | None = None
        self.serving = False
        self._began_s = time.monotonic()
        self._data: DataDir | None = None
        self._transport: ServerTransport | None = None
        self._body: ServerBody | None = None
        self._node: Node | None = None
        self._pg: PgServer | None = None
        self._http: HttpServer | None = None

    async def start(self) -> ReadyInfo:
        """Start everything; on an error everything already started is stopped again."""
        try:
            return await self._start()
        except BaseException:
            await self.stop(drain=False)
            raise

    async def _start(self) -> ReadyInfo:
        config = self.config
        source = make_time_source(config.clock)
        in_memory = config.data_dir is None or config.store == "memory"
        listeners = config.listeners({})
        if not in_memory and config.data_dir is not None:
            self._data = DataDir.open(config.data_dir)
            listeners = config.listeners(self._data.addresses())
        self._transport = transport = ServerTransport(stderr_event)
        rpc_at = listeners["rpc"]
        if rpc_at.fallback and join_address(rpc_at.host, rpc_at.port) in config.join:
            rpc_at = Listener(rpc_at.host, 0)  # the default port is the member's that this node is to join
        for name in ("sql", "http"):
            await self._bind(name, listeners[name], look)  # before anything is founded or joined
        rpc = await self._bind("rpc", rpc_at, transport.listen)
        self._body = body = ServerBody(self._data, source, transport)
        self._node = node = await self._open_node(body)
        await node.start(list(config.join), self._advertised(rpc))
        sql = await self._start_sql(node, listeners["sql"])
        http = await self._start_http(node, listeners["http"])
        if self._data is not None:
            self._data.remember_addresses({"sql": sql, "rpc": rpc, "http": http})
        self.serving = True
        await transport.set_serving(True)
        self.ready = self._ready_info(sql, rpc, http, node.status())
        if config.ready_file is not None:
            write_atomically(config.ready_file, msgspec.json.encode(self.ready) + b"\n")
        return self.ready

    async def stop(self, drain: bool = True) -> None:
        """Stop in the order of the module's head; without `drain` nobody is waited for."""
        self.serving = False
        if self._transport is not None:
            await self._transport.set_serving(False)
        if self._pg is not None:
            await self._pg.drain(self.config.drain_timeout_s if drain else 0.0)
        if self._node is not None:
            if drain:
                await self._node.drain()
            await self._node.close()
        if self._pg is not None:
            await self._pg.close()
        if self._http is not None:
            await self._http.close()
        if self._transport is not None:
            await self._transport.close()
        if self._body is not None:
            await self._body.close()
        if self._data is not None:
            self._data.close()
        self._pg = self._node = self._http = self._transport = self._body = self._data = None

    async def _open_node(self, body: ServerBody) -> Node:
        from txndb.cluster.node import Node
        from txndb.cluster.options import NodeOptions

        config = self.config
        options = NodeOptions(
            locality=dict(config.locality),
            host_id=host_id(),
            limits=config.limits,
            settings=dict(config.settings),
        )
        return await Node.open(body, options)

    async def _start_sql(self, node: Node, listener: Listener) -> str:
        from txndb.server.pg import PgServer

        self._pg = PgServer(node.new_session, limits=self.config.limits, trust_remote=self.config.insecure)
        return await self._bind("sql", listener, self._pg.start)

    async def _start_http(self, node: Node, listener: Listener) -> str:
        from txndb.server.http import HttpServer, HttpSource

        transport = self._transport
        assert transport is not None
        source = HttpSource(
            lambda: self.serving,
            node.status,
            lambda: {**node.metrics(), **transport.metrics(), **self._metrics()},
        )
        self._http = HttpServer(source)
        return await self._bind("http", listener, self._http.start)

    async def _bind(self, name: str, listener: Listener, start: Callable[[str, int], Awaitable[int]]) -> str:
        """Start a listener; its address. A default port that is taken gives way to a free one."""
        try:
            port = await start(listener.host, listener.port)
        except OSError as e:
            if not (listener.fallback and e.errno == errno.EADDRINUSE):
                where = f"{listener.host}:{listener.port}"
                raise StoreError(f"cannot listen on --{name} {where}: {errno_text(e)}") from None
            port = await start(listener.host, 0)
        return join_address(listener.host, port)

    def _advertised(self, rpc: str) -> str:
        """The address peers are told: --advertise, else where we listen, with this host's name for a wildcard."""
        host, _, port = rpc.rpartition(":")
        given = self.config.advertise
        if given is not None:
            return given if ":" in given else f"{given}:{port}"
        return f"{socket.gethostname()}:{port}" if host in ("0.0.0.0", "[::]", "") else rpc

    def _metrics(self) -> dict[str, float]:
        connections = self._pg.connection_count if self._pg is not None else 0
        return {"txndb_serving": float(self.serving), "txndb_sql_connections": float(connections)}

    def _ready_info(self, sql: str, rpc: str, http: str, status: dict[str, Any]) -> ReadyInfo:
        cluster_id = status.get("cluster_id", "")
        return ReadyInfo(
            pid=os.getpid(),
            version=metadata.version("txndb"),
            node=int(status.get("node", 0)),
            cluster_id=cluster_id.hex() if isinstance(cluster_id, bytes) else str(cluster_id),
            sql_url=f"postgresql://root@{sql}/defaultdb",
            sql=sql,
            rpc=rpc,
            http=http,
            data=str(self._data.path) if self._data is not None else "in memory",
            start_s=round(time.monotonic() - self._began_s, 3),
        )


def join_address(host: str, port: int) -> str:
    """ "host:port", with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def errno_text(error: OSError) -> str:
    """The operating system's words for an error, without asyncio's around them."""
    if isinstance(error, socket.gaierror):  # its numbers are not errno's
        return error.strerror or str(error)
    return os.strerror(error.errno) if error.errno else str(error)


def tune_interpreter() -> None:
    """After the start: what exists now stays, so no collection looks at it again."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def serve(config: ServerConfig, announce: Callable[[ReadyInfo], None]) -> None:
    """Run a node until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(exception_handler(end_process))
    asked_to_stop = asyncio.Event()

    def on_signal() -> None:
        if asked_to_stop.is_set():
            os._exit(EXIT_INTERRUPTED)
        asked_to_stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if config.stop_with_stdin:
        stop_at_end_of_input(loop, asked_to_stop)
    process = NodeProcess(config)
    starting = loop.create_task(process.start())
    stopping = loop.create_task(asked_to_stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    try:
        announce(await starting)
        tune_interpreter()
        await stopping
    finally:
        stopping.cancel()
    stderr_event("stopping: draining connections and leases")
    await process.stop()
    stderr_event("stopped")


def log_to_stderr() -> None:
    """What libraries and asyncio log looks like the node's own lines."""
    handler = logging.StreamHandler()
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


def stop_at_end_of_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set `stop` when standard input ends; what is written there is ignored."""
    fd = sys.stdin.fileno()

    def on_readable() -> None:
        if not os.read(fd, 4096):
            loop.remove_reader(fd)
            stop.set()

    loop.add_reader(fd, on_readable)


def run_node(config: ServerConfig, announce: Callable[[ReadyInfo], None]) -> tuple[int, str]:
    """Run a node in this process; the exit code, and the line that says why if it is not 0."""
    log_to_stderr()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(config, announce))
    except TxndbError as e:
        return EXIT_CANNOT_START, explain(e)
    except OSError as e:
        return EXIT_CANNOT_START, f"cannot start: {e.strerror or e}{f': {e.filename}' if e.filename else ''}"
    return EXIT_OK, ""


def explain(error: TxndbError) -> str:
    """An error as one line, its hint behind it."""
    parts = [error.message, error.detail, error.hint]
    return " ".join(" ".join(part.split()).rstrip(".") + "." for part in parts if part)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it exists (twice as fast on sockets), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
