"""The operator: what people do to a running database, drawn from the seed, while the nemesis does its own.

Ranges are split at random keys, leases are transferred, nodes are restarted gracefully: hand over, hang up, close,
start – sometimes with the power lost right after the close, which must have left nothing to lose.

It has a stream of chance of its own, so that with or without it the nemesis draws the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from txndb.errors import TxndbError
from txndb.sim.clients import Client, ConnectionLostError, GaveUpError
from txndb.sim.host import SimHost
from txndb.sim.options import WorldOptions
from txndb.sim.trace import Trace
from txndb.sim.workloads import Workload

STOP_S = 15.0
"""A graceful stop may take this long; then the process is killed, as a service manager does."""
SPLITS_MAX = 12


class Operator:
    """Acts until cancelled."""

    def __init__(
        self,
        hosts: list[SimHost],
        options: WorldOptions,
        rng: Random,
        trace: Trace,
        workload: Workload,
        client: Callable[[int], Client],
    ) -> None:
        self._hosts = hosts
        self._options = options
        self._rng = rng
        self._trace = trace
        self._workload = workload
        self._client = client
        self._splits = 0
        self._actions: dict[str, Callable[[], Awaitable[None]]] = {
            "split": self._split,
            "transfer": self._transfer,
            "restart": self._restart,
        }

    async def run(self) -> None:
        """One action after another, at drawn intervals, until cancelled."""
        kinds = self._options.database_kinds
        while kinds:
            await asyncio.sleep((0.1 + 1.8 * self._rng.random()) * self._options.database_every_us / 1e6)
            kind = self._rng.choice(kinds)
            self._trace.counts[f"fault_{kind}"] += 1
            await self._actions[kind]()

    async def _split(self) -> None:
        if self._splits >= SPLITS_MAX:
            return
        self._splits += 1
        client = self._client(20_000 + self._splits)
        try:
            await client.single(self._workload.split_statement(self._rng))
        except (TxndbError, ConnectionLostError, GaveUpError):
            self._trace.counts["split_refused"] += 1
        finally:
            client.close()

    async def _transfer(self) -> None:
        host, draw = self._rng.choice(self._hosts), self._rng.randrange(1 << 32)
        if host.ready and host.incarnation is not None and host.brain is not None:
            host.incarnation.call_soon(host.brain.transfer_lease, draw)

    async def _restart(self) -> None:
        host, then_power = self._rng.choice(self._hosts), self._rng.random() < 0.5
        if not host.ready:
            return
        try:
            await asyncio.wait_for(host.stop(), STOP_S)
        except TimeoutError:
            self._trace.counts["stop_too_long"] += 1
        if then_power:
            host.power_off()
        if not host.alive:
            host.start()
