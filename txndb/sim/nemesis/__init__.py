"""The nemesis: applies the seed's faults to the world, one after another and over each other, and undoes them.

Every fault is a function of the catalogue: it does its harm, waits, and heals what it did. Faults overlap, since each
runs as a task of its own, and each has a stream of chance of its own, so that leaving one out changes no other.
Afterwards `heal` leaves nothing broken but what is gone for good.

`scene` is what faults act upon; `processes`, `links`, `elections`, `disks` and `clocks` are the catalogue, by subject.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from txndb.sim.nemesis import clocks, disks, elections, links, processes
from txndb.sim.nemesis.links import between as between
from txndb.sim.nemesis.links import both as both
from txndb.sim.nemesis.scene import Scene
from txndb.sim.options import calm
from txndb.sim.schedule import Schedule

CATALOGUE: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    **processes.FAULTS,
    **links.FAULTS,
    **elections.FAULTS,
    **disks.FAULTS,
    **clocks.FAULTS,
}

NEEDS_VICTIM: Final = frozenset({"lose", "half_lost", "rot", "misdirect"})
"""Faults that cost a machine its synced data; there is one such machine in a run."""


class Nemesis:
    """Drives faults until stopped."""

    def __init__(self, scene: Scene, schedule: Schedule) -> None:
        self._scene = scene
        self._schedule = schedule
        self._running: dict[asyncio.Task[None], str] = {}

    async def run(self) -> None:
        """Start faults when the schedule says so, until cancelled."""
        while True:
            fault = await self._schedule.next()
            scene = self._scene.with_chance(self._schedule.chance(fault))
            task = scene.loop.create_task(self._apply(fault.kind, scene))
            self._running[task] = fault.kind
            task.add_done_callback(self._ended)

    async def heal(self) -> None:
        """End every fault: links whole, clocks right, processes running."""
        for task in list(self._running):
            task.cancel()
        scene = self._scene
        scene.network.heal(calm(scene.options))
        for host in scene.hosts:
            if host.incarnation is not None:
                host.incarnation.resume()
            disks.heal(host)
            clocks.heal(host)
            scene.start(host)

    @staticmethod
    async def _apply(kind: str, scene: Scene) -> None:
        if kind in NEEDS_VICTIM and scene.has_victim():
            scene.trace.counts["spared"] += 1
            return
        scene.trace.counts[f"fault_{kind}"] += 1
        await CATALOGUE[kind](scene)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
