"""The HTTP listener: /healthz, /metrics (Prometheus text format), /status (JSON).

starlette routes, uvicorn serves, inside the node's own event loop and without uvicorn's signal handlers. Both cost
3 MB and
40 ms (measured), so they are imported here, after the node's data are open.

/healthz is 200 while the node takes SQL, 503 from the moment it drains: what a load balancer wants to know.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

BACKLOG: Final = 64


class HttpSource:
    """What the pages show; filled by the node's start-up."""

    def __init__(
        self,
        serving: Callable[[], bool],
        status: Callable[[], dict[str, Any]],
        metrics: Callable[[], dict[str, float]],
    ) -> None:
        self.serving = serving
        self.status = status
        self.metrics = metrics


class _Collector:
    """The node's numbers as Prometheus families; a name ending in _total is a counter."""

    def __init__(self, source: HttpSource) -> None:
        self._source = source

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        for name, value in sorted({**self._source.metrics(), **process_metrics()}.items()):
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(name, name.replace("_", " "), value=value)


def process_metrics() -> dict[str, float]:
    """This process's memory and processor time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "process_resident_memory_bytes": float(resident_bytes()),
        "process_cpu_seconds_total": usage.ru_utime + usage.ru_stime,
    }


def resident_bytes() -> int:
    """This process's resident memory; the peak where the platform does not tell the present one."""
    try:
        return resident_bytes_of(os.getpid())
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes_of(pid: int) -> int:
    """Resident memory of any process; `OSError` where the platform has no /proc."""
    with open(f"/proc/{pid}/statm", "rb") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def make_app(source: HttpSource) -> Starlette:
    """The three pages."""
    registry = CollectorRegistry()
    registry.register(_Collector(source))

    async def healthz(_: Request) -> Response:
        if source.serving():
            return PlainTextResponse("ok\n")
        return PlainTextResponse("not serving\n", status_code=503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def status(_: Request) -> Response:
        body = msgspec.json.encode({"time": time.time(), **source.status()}, enc_hook=_plain)
        return Response(body, media_type="application/json")

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/metrics", metrics), Route("/status", status)]
    )


def _plain(value: object) -> object:
    """JSON for what msgspec does not know by itself."""
    return str(value)


class _Server(uvicorn.Server):
    """uvicorn, leaving the process's signals to the node."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """The listener of one node."""

    def __init__(self, source: HttpSource) -> None:
        self._source = source
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises `OSError` when the address cannot be bound."""
        config = uvicorn.Config(
            make_app(self._source),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
        listener.setblocking(False)
        self._server = _Server(config)
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listener]))
        return int(listener.getsockname()[1])

    async def close(self) -> None:
        """Stop listening, end running requests."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
