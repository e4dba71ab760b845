"""Faults of processes and whole machines: kills, power, pauses, and machines that lose what they had."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from txndb.sim.host import SimHost
from txndb.sim.nemesis.scene import Scene
from txndb.sim.rot import holds_records

_LOOK_S: Final = 0.005
_LOOKS_MAX: Final = 600


async def kill(scene: Scene) -> None:
    """kill -9, and a restart later."""
    await _killed(scene, scene.any_host())


async def kill_leader(scene: Scene) -> None:
    """kill -9 of the process that leads most."""
    await _killed(scene, scene.busiest())


async def _killed(scene: Scene, host: SimHost) -> None:
    host.kill()
    await scene.lasts()
    scene.start(host)


async def power(scene: Scene) -> None:
    """Power loss: unsynced writes may be gone, or torn."""
    host = scene.any_host()
    host.power_off()
    await scene.lasts()
    scene.start(host)


async def pause(scene: Scene) -> None:
    """SIGSTOP and SIGCONT."""
    await _paused(scene, scene.any_host())


async def pause_leader(scene: Scene) -> None:
    """SIGSTOP and SIGCONT of the process that leads most: it wakes up and believes that it still does."""
    await _paused(scene, scene.busiest())


async def _paused(scene: Scene, host: SimHost) -> None:
    incarnation = host.incarnation
    if incarnation is None or not incarnation.alive:
        return
    scene.note(f"n{host.machine} paused")
    incarnation.pause()
    await scene.lasts()
    scene.note(f"n{host.machine} resumed")
    incarnation.resume()


async def rolling(scene: Scene) -> None:
    """Restart every node, one after the other."""
    for host in scene.hosts:
        if scene.rng.random() < 0.5:
            host.kill()
        else:
            host.power_off()
        await scene.wait(scene.options.fault_lasts_us // 4)
        scene.start(host)
        await scene.wait(scene.options.fault_lasts_us // 2)


async def blackout(scene: Scene) -> None:
    """All machines lose power at once."""
    for host in scene.hosts:
        host.power_off()
    await scene.wait(scene.options.fault_lasts_us // 2)
    for host in scene.hosts:
        scene.start(host)
        await scene.wait(50_000)


async def power_in_io(scene: Scene) -> None:
    """Power is lost in the middle of one of the next disk operations."""
    host = scene.any_host()
    host.disk.crash_at_operation = host.disk.operations + 1 + scene.rng.randrange(30)
    for _ in range(100):
        await scene.wait(50_000)
        if not host.alive:
            break
    await scene.lasts()
    scene.start(host)


async def power_torn(scene: Scene) -> None:
    """Power is lost while a flush of several sectors is in the page cache and not yet on the medium: it may be torn."""
    host = scene.any_host()
    host.disk.crash_in_long_sync = True
    for _ in range(_LOOKS_MAX):
        await asyncio.sleep(_LOOK_S)
        if not host.alive:
            break
    host.disk.crash_in_long_sync = False
    await scene.lasts()
    scene.start(host)


async def lose(scene: Scene) -> None:
    """A machine burns down. It never returns, or comes back empty, and then only under a new node id (rule P7)."""
    host = scene.victim()
    host.power_off()
    scene.note(f"n{host.machine} is lost with all its data")
    host.wipe()
    host.lost = host.gone_for_good
    await scene.lasts()
    scene.start(host)


async def half_lost(scene: Scene) -> None:
    """Either the log or the engine is gone: the other half alone must not start (rule P7)."""
    host = scene.victim()
    host.power_off()
    half = scene.rng.choice(("engine", "log"))
    told = holds_records(host.disk)
    if half == "engine":
        host.store.wipe()
    else:
        host.disk.wipe()
    scene.note(f"n{host.machine} is left without its {half}")
    host.suspect = True
    if told or half == "log":
        host.damage = f"without its {half}"
    await scene.lasts()
    scene.start(host)


async def clone(scene: Scene) -> None:
    """An old copy of a data directory is started beside the node it was taken from: it must be refused (rule P7).

    In between the original may have been started again. While the original itself is down or paused nobody could tell,
    so then the copy is taken away.
    """
    host = scene.any_host()
    if not host.ready or host.bereft or host.copies:
        return
    scene.note(f"the data directory of n{host.machine} is copied")
    copy = host.duplicate()
    copy.on_ready = lambda copy: scene.loop.problems.append(
        f"n{copy.machine}, a copy, serves beside the original"
    )
    if scene.rng.random() < 0.5:
        host.kill()
        scene.start(host)
    await scene.lasts()
    if not _present(host):
        return
    scene.note(f"the copy of n{host.machine} is started beside it")
    copy.start()
    for _ in range(_LOOKS_MAX):
        await asyncio.sleep(_LOOK_S)
        if not copy.alive or not _present(host):
            break
    copy.kill()


def _present(host: SimHost) -> bool:
    incarnation = host.incarnation
    return host.ready and not host.bereft and incarnation is not None and not incarnation.paused


FAULTS: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    "kill": kill,
    "kill_leader": kill_leader,
    "power": power,
    "pause": pause,
    "pause_leader": pause_leader,
    "rolling": rolling,
    "blackout": blackout,
    "power_in_io": power_in_io,
    "power_torn": power_torn,
    "lose": lose,
    "half_lost": half_lost,
    "clone": clone,
}
