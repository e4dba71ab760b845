"""Faults of the network: partitions of every shape, slow and clogged links, damage, broken connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from txndb.sim.host import SimHost
from txndb.sim.nemesis.scene import Scene
from txndb.sim.network import Link

_DAMAGED: Final = 0.01
"""Share of frames that are damaged while the wires are bad, and of calls and snapshots many times that."""


async def _block(scene: Scene, what: str, links: list[Link]) -> None:
    scene.note(f"{what} blocked")
    scene.network.block(links)
    try:
        await scene.lasts()
    finally:
        scene.network.unblock(links)
        scene.note(f"{what} unblocked")


def _machines(scene: Scene) -> list[int]:
    machines = [host.machine for host in scene.hosts]
    scene.rng.shuffle(machines)
    return machines


def _around(scene: Scene, host: SimHost) -> list[Link]:
    """All links of one machine, both ways."""
    others = [other.machine for other in scene.hosts if other is not host]
    return [link for other in others for link in both(host.machine, other)]


async def isolate(scene: Scene) -> None:
    """One machine is cut off from all others."""
    host = scene.any_host()
    await _block(scene, f"n{host.machine} isolated", _around(scene, host))


async def isolate_first(scene: Scene) -> None:
    """The leader of range 1, which knows where everything is, is cut off."""
    host = scene.leader()
    await _block(scene, f"n{host.machine}, leader of range 1, isolated", _around(scene, host))


async def isolate_busiest(scene: Scene) -> None:
    """The leader of most ranges is cut off."""
    host = scene.busiest()
    await _block(scene, f"n{host.machine}, leader of most ranges, isolated", _around(scene, host))


async def halves(scene: Scene) -> None:
    """Two groups that do not reach each other."""
    machines = _machines(scene)
    cut = scene.rng.randrange(1, len(machines))
    left, right = machines[:cut], machines[cut:]
    await _block(scene, f"{sorted(left)}|{sorted(right)}", between(left, right))


async def one_way(scene: Scene) -> None:
    """Frames from some machines do not reach the others; the way back works."""
    machines = _machines(scene)
    cut = scene.rng.randrange(1, len(machines))
    links = [(a, b) for a in machines[:cut] for b in machines[cut:]]
    await _block(scene, f"{sorted(machines[:cut])}->{sorted(machines[cut:])}", links)


async def ring(scene: Scene) -> None:
    """Every machine reaches only its two neighbours."""
    machines = _machines(scene)
    count = len(machines)
    links = [
        (a, b)
        for i, a in enumerate(machines)
        for j, b in enumerate(machines)
        if i != j and (i - j) % count not in (1, count - 1)
    ]
    await _block(scene, "all but a ring", links)


async def bridge(scene: Scene) -> None:
    """Two halves that only one machine reaches both of."""
    machines = _machines(scene)
    half = len(machines) // 2
    left, right = machines[:half], machines[half + 1 :]
    await _block(scene, f"{sorted(left)}|{sorted(right)} around n{machines[half]}", between(left, right))


async def slow(scene: Scene) -> None:
    """One machine's links take many times as long."""
    host = scene.any_host()
    links = _around(scene, host)
    factor = 5.0 + 100.0 * scene.rng.random()
    scene.note(f"n{host.machine} slow by {factor:.0f}")
    scene.network.slow(links, factor)
    try:
        await scene.lasts()
    finally:
        scene.network.slow(links, 1.0)


async def clog(scene: Scene) -> None:
    """Some links hold everything back for a while, then deliver it at once."""
    _clog(scene, [link for link in _around(scene, scene.any_host()) if scene.rng.random() < 0.5])


async def clog_leader(scene: Scene) -> None:
    """What the leader of most ranges sends is held back: it hears the others, and they hear it late."""
    host = scene.busiest()
    _clog(scene, [link for link in _around(scene, host) if link[0] == host.machine])


def _clog(scene: Scene, links: list[Link]) -> None:
    duration_us = int((0.1 + 1.8 * scene.rng.random()) * scene.options.fault_lasts_us)
    scene.note(f"{links} clogged for {duration_us} us")
    scene.network.clog(links, duration_us)


async def corrupt(scene: Scene) -> None:
    """Bad wires: some frames, calls, answers and chunks of snapshots arrive damaged, on every link."""
    network = scene.network
    usual = network.options.corrupt
    scene.note("wires damage what they carry")
    network.options = msgspec.structs.replace(network.options, corrupt=max(usual, _DAMAGED))
    try:
        await scene.lasts()
    finally:
        network.options = msgspec.structs.replace(network.options, corrupt=usual)


async def reset(scene: Scene) -> None:
    """The connections between two machines break."""
    first, second, *_ = _machines(scene)
    scene.note(f"connection n{first}-n{second} reset")
    scene.network.reset(first, second)


def both(a: int, b: int) -> list[Link]:
    """The links between two machines."""
    return [(a, b), (b, a)]


def between(left: list[int], right: list[int]) -> list[Link]:
    """All links between two groups of machines."""
    return [link for a in left for b in right for link in both(a, b)]


FAULTS: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    "isolate": isolate,
    "isolate_first": isolate_first,
    "isolate_busiest": isolate_busiest,
    "halves": halves,
    "one_way": one_way,
    "ring": ring,
    "bridge": bridge,
    "slow": slow,
    "clog": clog,
    "clog_leader": clog_leader,
    "corrupt": corrupt,
    "reset": reset,
}
