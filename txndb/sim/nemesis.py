"""The nemesis: applies the seed's faults to the world, one after another and over each other, and undoes them.

Every fault is a method of the same name that does its harm, waits, and heals what it did. Faults overlap, since each
runs as a task of its own. Afterwards `heal` leaves nothing broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from txndb.sim.disk import FREE_BYTES
from txndb.sim.host import SimHost
from txndb.sim.loop import VirtualLoop
from txndb.sim.network import Link, Network
from txndb.sim.options import WorldOptions, calm
from txndb.sim.trace import Trace


class Nemesis:
    """Drives faults until stopped."""

    def __init__(
        self, loop: VirtualLoop, hosts: list[SimHost], network: Network, options: WorldOptions, rng: Random
    ) -> None:
        self._loop = loop
        self._hosts = hosts
        self._network = network
        self._options = options
        self._rng = rng
        self._trace: Trace = network.trace
        self._running: dict[asyncio.Task[None], str] = {}
        self._faults: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self._kill,
            "power": self._power,
            "pause": self._pause,
            "rolling": self._rolling,
            "blackout": self._blackout,
            "isolate": self._isolate,
            "halves": self._halves,
            "one_way": self._one_way,
            "ring": self._ring,
            "bridge": self._bridge,
            "slow": self._slow,
            "reset": self._reset,
            "stall": self._stall,
            "power_in_io": self._power_in_io,
            "sync_error": self._sync_error,
            "write_error": self._write_error,
            "full": self._full,
            "clock_step": self._clock_step,
        }

    async def run(self) -> None:
        """Start faults at drawn intervals, until cancelled."""
        kinds = self._options.fault_kinds
        if not kinds:
            return
        while True:
            await self._wait(self._options.fault_every_us)
            kind = self._rng.choice(kinds)
            task = self._loop.create_task(self._apply(kind))
            self._running[task] = kind
            task.add_done_callback(self._ended)

    async def heal(self) -> None:
        """End every fault: links whole, processes running."""
        for task in list(self._running):
            task.cancel()
        self._network.heal(calm(self._options))
        for host in self._hosts:
            if host.incarnation is not None:
                host.incarnation.resume()
            host.disk.faults.clear()
            host.disk.crash_at_operation = 0
            host.disk.capacity_bytes = FREE_BYTES
            if not host.alive:
                host.start()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _apply(self, kind: str) -> None:
        self._trace.counts[f"fault_{kind}"] += 1
        await self._faults[kind]()

    def _note(self, text: str) -> None:
        self._trace.note(self._loop.now_us, f"fault: {text}")

    async def _wait(self, mean_us: int) -> None:
        """A drawn time around a mean."""
        await asyncio.sleep((0.1 + 1.8 * self._rng.random()) * mean_us / 1e6)

    async def _lasts(self) -> None:
        await self._wait(self._options.fault_lasts_us)

    def _host(self) -> SimHost:
        return self._rng.choice(self._hosts)

    # --- processes ------------------------------------------------------------------------------------------------

    async def _kill(self) -> None:
        host = self._host()
        host.kill()
        await self._lasts()
        self._restart(host)

    async def _power(self) -> None:
        host = self._host()
        host.power_off()
        await self._lasts()
        self._restart(host)

    async def _pause(self) -> None:
        host = self._host()
        incarnation = host.incarnation
        if incarnation is None or not incarnation.alive:
            return
        self._note(f"n{host.machine} paused")
        incarnation.pause()
        await self._lasts()
        self._note(f"n{host.machine} resumed")
        incarnation.resume()

    async def _rolling(self) -> None:
        """Restart every node, one after the other."""
        for host in self._hosts:
            if self._rng.random() < 0.5:
                host.kill()
            else:
                host.power_off()
            await self._wait(self._options.fault_lasts_us // 4)
            self._restart(host)
            await self._wait(self._options.fault_lasts_us // 2)

    async def _blackout(self) -> None:
        """All machines lose power at once."""
        for host in self._hosts:
            host.power_off()
        await self._wait(self._options.fault_lasts_us // 2)
        for host in self._hosts:
            self._restart(host)
            await self._wait(50_000)

    async def _power_in_io(self) -> None:
        """Power is lost in the middle of one of the next disk operations."""
        host = self._host()
        host.disk.crash_at_operation = host.disk.operations + 1 + self._rng.randrange(30)
        for _ in range(100):
            await self._wait(50_000)
            if not host.alive:
                break
        await self._lasts()
        self._restart(host)

    def _restart(self, host: SimHost) -> None:
        if not host.alive:
            host.start()

    # --- links ----------------------------------------------------------------------------------------------------

    async def _block(self, what: str, links: list[Link]) -> None:
        self._note(f"{what} blocked")
        self._network.block(links)
        try:
            await self._lasts()
        finally:
            self._network.unblock(links)
            self._note(f"{what} unblocked")

    def _machines(self) -> list[int]:
        machines = [host.machine for host in self._hosts]
        self._rng.shuffle(machines)
        return machines

    async def _isolate(self) -> None:
        alone, *others = self._machines()
        await self._block(f"n{alone} isolated", [link for other in others for link in both(alone, other)])

    async def _halves(self) -> None:
        machines = self._machines()
        cut = self._rng.randrange(1, len(machines))
        left, right = machines[:cut], machines[cut:]
        await self._block(f"{sorted(left)}|{sorted(right)}", between(left, right))

    async def _one_way(self) -> None:
        """Frames from some machines do not reach the others; the way back works."""
        machines = self._machines()
        cut = self._rng.randrange(1, len(machines))
        links = [(a, b) for a in machines[:cut] for b in machines[cut:]]
        await self._block(f"{sorted(machines[:cut])}->{sorted(machines[cut:])}", links)

    async def _ring(self) -> None:
        """Every machine reaches only its two neighbours."""
        machines = self._machines()
        count = len(machines)
        links = [
            (a, b)
            for i, a in enumerate(machines)
            for j, b in enumerate(machines)
            if i != j and (i - j) % count not in (1, count - 1)
        ]
        await self._block("all but a ring", links)

    async def _bridge(self) -> None:
        """Two halves that only one machine reaches both of."""
        machines = self._machines()
        half = len(machines) // 2
        left, right = machines[:half], machines[half + 1 :]
        await self._block(f"{sorted(left)}|{sorted(right)} around n{machines[half]}", between(left, right))

    async def _slow(self) -> None:
        machine, *others = self._machines()
        links = [link for other in others for link in both(machine, other)]
        factor = 5.0 + 100.0 * self._rng.random()
        self._note(f"n{machine} slow by {factor:.0f}")
        self._network.slow(links, factor)
        try:
            await self._lasts()
        finally:
            self._network.slow(links, 1.0)

    async def _reset(self) -> None:
        first, second, *_ = self._machines()
        self._note(f"connection n{first}-n{second} reset")
        self._network.reset(first, second)

    # --- disks and clocks -----------------------------------------------------------------------------------------

    async def _stall(self) -> None:
        host = self._host()
        if host.body is None:
            return
        duration_us = self._rng.randrange(50_000, 3_000_000)
        self._note(f"n{host.machine} disk stalls for {duration_us} us")
        host.body.workers[0].stall(duration_us)
        if self._rng.random() < 0.5:
            host.body.workers[1].stall(duration_us)

    async def _sync_error(self) -> None:
        """The next fdatasync fails: its pages may be lost although they look clean (rule P1)."""
        host = self._host()
        self._note(f"n{host.machine} next sync fails")
        host.disk.fail_next("sync")

    async def _write_error(self) -> None:
        host = self._host()
        self._note(f"n{host.machine} next write fails")
        host.disk.fail_next(self._rng.choice(("write", "short_write")))

    async def _full(self) -> None:
        """No room is left for a while."""
        host = self._host()
        disk = host.disk
        self._note(f"n{host.machine} disk is full")
        disk.capacity_bytes = disk.capacity_bytes - disk.free_bytes() + self._rng.randrange(100_000)
        try:
            await self._lasts()
        finally:
            disk.capacity_bytes = FREE_BYTES

    async def _clock_step(self) -> None:
        host = self._host()
        step_us = host.clock.step_within_bound(self._rng)
        self._note(f"n{host.machine} clock stepped to {step_us} us")


def both(a: int, b: int) -> list[Link]:
    """The links between two machines."""
    return [(a, b), (b, a)]


def between(left: list[int], right: list[int]) -> list[Link]:
    """All links between two groups of machines."""
    return [link for a in left for b in right for link in both(a, b)]
