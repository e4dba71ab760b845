"""When what is done to a world: drawn as the run goes on and recorded, or given and followed to the letter.

One actor (the nemesis, the operator) asks for its next fault and waits for its time. Recorded faults, given back as the
options' `schedule`, happen again at the same virtual times with the same chance, so the run is the same; any of them
may be left out.
"""

from __future__ import annotations

import asyncio
from random import Random

from txndb.sim.loop import VirtualLoop
from txndb.sim.options import Fault, WorldOptions
from txndb.sim.seeds import derive


class Schedule:
    """One actor's faults. `taken` holds those that have begun."""

    def __init__(
        self, loop: VirtualLoop, options: WorldOptions, actor: str, kinds: tuple[str, ...], every_us: int
    ) -> None:
        self.taken: list[Fault] = []
        self._loop = loop
        self._seed = options.seed
        self._actor = actor
        self._kinds = kinds
        self._every_us = every_us
        self._rng = derive(options.seed, actor)
        self._begin_us = -1
        self._given: list[Fault] | None = None
        if options.schedule is not None:
            self._given = [fault for fault in options.schedule if fault.kind in kinds]

    async def next(self) -> Fault:
        """Wait until the next fault is due; for ever when there are no more."""
        if self._begin_us < 0:
            self._begin_us = self._loop.now_us
        if not self._kinds or (self._given is not None and len(self.taken) == len(self._given)):
            await self._loop.create_future()
        if self._given is None:
            await asyncio.sleep((0.1 + 1.8 * self._rng.random()) * self._every_us / 1e6)
            now_us = self._loop.now_us - self._begin_us
            fault = Fault(now_us, self._rng.choice(self._kinds), len(self.taken) + 1)
        else:
            fault = self._given[len(self.taken)]
            await asyncio.sleep(max(0, self._begin_us + fault.at_us - self._loop.now_us) / 1e6)
        self.taken.append(fault)
        return fault

    def chance(self, fault: Fault) -> Random:
        """The stream that decides everything else about a fault."""
        return derive(self._seed, self._actor, fault.number)
