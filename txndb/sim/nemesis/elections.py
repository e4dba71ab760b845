"""Faults aimed at elections: leaders that fall silent as soon as they were elected, voters that restart right after
they have voted, handovers that come to nothing. Chance alone hardly ever meets the few hundred microseconds in which
they hurt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from txndb.sim.host import SimHost
from txndb.sim.nemesis.scene import Scene
from txndb.sim.network import Link

_LOOK_S: Final = 0.000_2
_LOOKS_MAX: Final = 15_000
"""Looks for the next leader; together the longest election."""
_LOOKS_A_TRANSFER: Final = 1_000
_REIGNS_MAX: Final = 8


async def short_reigns(scene: Scene) -> None:
    """Nothing that a range's leader says reaches anybody any more, from its election or a few messages after it until
    the next one is elected, which then fares alike: the situation of the Raft paper's Figure 8."""
    range_id = _any_range(scene)
    silent: list[Link] = []
    term = 0
    try:
        for reign in range(2 + scene.rng.randrange(_REIGNS_MAX)):
            found = await _next_reign(scene, range_id, term)
            if found is None:
                return
            host, term = found
            if reign % 3 == 2:
                await asyncio.sleep(scene.rng.random() * _hops_s(scene, 8))
            scene.note(f"n{host.machine}, leader of range {range_id} in term {term}, is not heard any more")
            before, silent = silent, _from(scene, host)
            scene.network.block(silent)
            scene.network.unblock(before)
    finally:
        scene.network.unblock(silent)


async def voters_restart(scene: Scene) -> None:
    """A leader falls silent. So does the next one as it is elected, and whoever may have voted for it is killed and
    starts again at once."""
    range_id = _any_range(scene)
    first = await _next_reign(scene, range_id, 0)
    if first is None:
        return
    old, term = first
    silent = _from(scene, old)
    scene.note(f"n{old.machine}, leader of range {range_id} in term {term}, is not heard any more")
    scene.network.block(silent)
    try:
        found = await _next_reign(scene, range_id, term)
        if found is None:
            return
        host, term = found
        scene.note(f"n{host.machine} leads range {range_id} in term {term}, unheard; its voters restart")
        scene.network.block(_from(scene, host))
        silent += _from(scene, host)
        for voter in scene.hosts:
            if voter is not host:
                voter.kill()
                scene.start(voter)
        await scene.lasts()
    finally:
        scene.network.unblock(silent)


async def lost_handover(scene: Scene) -> None:
    """A leader hands over to a successor that nobody hears, so somebody else leads first. That one falls silent in
    turn, and the successor may lead with a handover it must not believe any more (rule L4)."""
    found = await _next_heir(scene)
    if found is None:
        return
    heir, range_id, term = found
    silent = _from(scene, heir)
    scene.note(f"n{heir.machine} inherits range {range_id} for term {term}, unheard")
    scene.network.block(silent)
    try:
        between = await _next_reign(scene, range_id, term - 1)
        if between is None:
            return
        host, term = between
        await scene.lasts()
        scene.note(f"n{host.machine}, leader of range {range_id} in term {term}, is not heard any more")
        before, silent = silent, _from(scene, host)
        scene.network.block(silent)
        scene.network.unblock(before)
        await _next_reign(scene, range_id, term)
        await scene.lasts()
    finally:
        scene.network.unblock(silent)


async def _next_heir(scene: Scene) -> tuple[SimHost, int, int] | None:
    """(machine, range, term) of a replica that was just told to lead in a term, by a leader that was asked to."""
    for look in range(_LOOKS_MAX):
        if look % _LOOKS_A_TRANSFER == 0:
            host = scene.busiest()
            if host.ready and host.incarnation is not None and host.brain is not None:
                host.incarnation.call_soon(host.brain.transfer_lease, scene.rng.randrange(1 << 32))
        for host in scene.hosts:
            if host.ready and host.brain is not None:
                for range_id, term in host.brain.handed().items():
                    return host, range_id, term
        await asyncio.sleep(_LOOK_S)
    return None


def _from(scene: Scene, host: SimHost) -> list[Link]:
    return [(host.machine, other.machine) for other in scene.hosts if other is not host]


def _hops_s(scene: Scene, count: int) -> float:
    """How long so many messages one after another take, about."""
    return count * (scene.options.network.latency_mean_us + scene.options.io.latency_mean_us) / 1e6


def _reigns(scene: Scene) -> list[tuple[int, int, SimHost]]:
    """(range, term, machine) of every leader there is now."""
    found = []
    for host in scene.hosts:
        if host.ready and host.brain is not None:
            found += [(range_id, term, host) for range_id, term in host.brain.reigns().items()]
    return found


def _any_range(scene: Scene) -> int:
    return scene.rng.choice(sorted({range_id for range_id, _, _ in _reigns(scene)}) or [1])


async def _next_reign(scene: Scene, range_id: int, after_term: int) -> tuple[SimHost, int] | None:
    """The leader of a range in a term above `after_term`, as soon as there is one."""
    for _ in range(_LOOKS_MAX):
        for known, term, host in _reigns(scene):
            if known == range_id and term > after_term:
                return host, term
        await asyncio.sleep(_LOOK_S)
    return None


FAULTS: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    "short_reigns": short_reigns,
    "voters_restart": voters_restart,
    "lost_handover": lost_handover,
}
