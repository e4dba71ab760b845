"""What a fault acts upon: the machines, the network, the options, the story, and the fault's own chance.

Invariant: at most one machine of a run loses synced data, for replicas are not replaced: a second one could take the
quorum of a range. `victim` hands that machine out, once.
"""

from __future__ import annotations

import asyncio
from random import Random

from txndb.sim.host import SimHost
from txndb.sim.loop import VirtualLoop
from txndb.sim.network import Network
from txndb.sim.options import WorldOptions
from txndb.sim.trace import Trace


class Scene:
    """One fault's view of the world."""

    def __init__(
        self, loop: VirtualLoop, hosts: list[SimHost], network: Network, options: WorldOptions, rng: Random
    ) -> None:
        self.loop = loop
        self.hosts = hosts
        self.network = network
        self.options = options
        self.trace: Trace = network.trace
        self.rng = rng

    def with_chance(self, rng: Random) -> Scene:
        """The same world for another fault."""
        return Scene(self.loop, self.hosts, self.network, self.options, rng)

    def note(self, text: str) -> None:
        """One line of the story."""
        self.trace.note(self.loop.now_us, f"fault: {text}")

    async def wait(self, mean_us: int) -> None:
        """A drawn time around a mean."""
        await asyncio.sleep((0.1 + 1.8 * self.rng.random()) * mean_us / 1e6)

    async def lasts(self) -> None:
        """As long as a fault lasts in this run."""
        await self.wait(self.options.fault_lasts_us)

    def any_host(self) -> SimHost:
        """Any machine."""
        return self.rng.choice(self.hosts)

    def leader(self) -> SimHost:
        """The machine that leads range 1; any other one while nobody does."""
        for host in self.hosts:
            if host.ready and host.brain is not None and 1 in host.brain.leads():
                return host
        return self.any_host()

    def busiest(self) -> SimHost:
        """The machine that leads most ranges."""
        ready = [host for host in self.hosts if host.ready and host.brain is not None]
        if not ready:
            return self.any_host()
        return max(ready, key=lambda host: len(host.brain.leads()) if host.brain is not None else 0)

    def has_victim(self) -> bool:
        """Whether a machine has lost synced data."""
        return any(host.bereft for host in self.hosts)

    def victim(self) -> SimHost:
        """A machine that may lose synced data from now on; the only one of the run."""
        assert not self.has_victim()
        chosen = self.any_host()
        chosen.bereft = True
        chosen.gone_for_good = self.rng.random() < 0.4
        return chosen

    @staticmethod
    def start(host: SimHost) -> None:
        """Start a machine's process unless it runs, or the machine is gone."""
        if not host.alive and not host.lost:
            host.start()
