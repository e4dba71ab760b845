"""Faults of processes and whole machines: kills, power, pauses, and machines that lose what they had."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from txndb.sim.host import SimHost
from txndb.sim.nemesis.scene import Scene


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


async def lose(scene: Scene) -> None:
    """A machine burns down. It never returns, or comes back empty, and then only under a new node id (rule P7)."""
    host = scene.victim()
    if host is None:
        return
    host.power_off()
    scene.note(f"n{host.machine} is lost with all its data")
    host.wipe()
    host.lost = host.gone_for_good
    await scene.lasts()
    scene.start(host)


async def half_lost(scene: Scene) -> None:
    """Either the log or the engine is gone: the other half alone must not start (rule P7)."""
    host = scene.victim()
    if host is None:
        return
    host.power_off()
    half = scene.rng.choice(("engine", "log"))
    if half == "engine":
        host.store.wipe()
    else:
        host.disk.wipe()
    host.damage = f"without its {half}"
    scene.note(f"n{host.machine} is left {host.damage}")
    await scene.lasts()
    scene.start(host)


async def clone(scene: Scene) -> None:
    """An old copy of a data directory is started beside the node it was taken from: it must be refused, or harm nobody.

    The copy is taken now, and started after a while in which the original may have been restarted or not.
    """
    host = scene.any_host()
    if host.lost or host.bereft or host.copies:
        return
    scene.note(f"the data directory of n{host.machine} is copied")
    copy = host.duplicate()
    await scene.lasts()
    if not host.alive or host.bereft:
        return
    scene.note(f"the copy of n{host.machine} is started beside it")
    copy.start()
    await scene.wait(4 * scene.options.fault_lasts_us)
    copy.kill()


FAULTS: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    "kill": kill,
    "kill_leader": kill_leader,
    "power": power,
    "pause": pause,
    "pause_leader": pause_leader,
    "rolling": rolling,
    "blackout": blackout,
    "power_in_io": power_in_io,
    "lose": lose,
    "half_lost": half_lost,
    "clone": clone,
}
