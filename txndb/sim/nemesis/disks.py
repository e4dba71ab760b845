"""Faults of disks: stalls, errors, no room, and bytes that are not what was written.

Torn and lost writes come with every power loss (`txndb.sim.disk`). Damage to synced bytes is done to one machine of a
run only (`Scene.victim`): its node must find it and stop; then the machine is replaced, or is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from txndb.sim import rot as rotting
from txndb.sim.disk import FREE_BYTES
from txndb.sim.host import SimHost
from txndb.sim.nemesis.scene import Scene

_STALL_MAX_US: Final = 3_000_000
_LONG_STALL_MAX_US: Final = 9_000_000


async def stall(scene: Scene) -> None:
    """The disk does nothing for up to seconds."""
    _stalled(scene, _STALL_MAX_US)


async def long_stall(scene: Scene) -> None:
    """The disk does nothing for longer than any election takes."""
    _stalled(scene, _LONG_STALL_MAX_US)


def _stalled(scene: Scene, longest_us: int) -> None:
    host = scene.any_host()
    if host.body is None:
        return
    duration_us = scene.rng.randrange(50_000, longest_us)
    scene.note(f"n{host.machine} disk stalls for {duration_us} us")
    host.body.workers[0].stall(duration_us)
    if scene.rng.random() < 0.5:
        host.body.workers[1].stall(duration_us)


async def sync_error(scene: Scene) -> None:
    """The next fdatasync fails: its pages may be lost although they look clean (rule P1)."""
    host = scene.any_host()
    scene.note(f"n{host.machine} next sync fails")
    host.disk.fail_next("sync")


async def write_error(scene: Scene) -> None:
    """The next write fails, as a whole or after a part."""
    host = scene.any_host()
    scene.note(f"n{host.machine} next write fails")
    host.disk.fail_next(scene.rng.choice(("write", "short_write")))


async def read_error(scene: Scene) -> None:
    """The next read fails, at a restart or when an old entry is needed."""
    host = scene.any_host()
    scene.note(f"n{host.machine} next read fails")
    host.disk.fail_next("read")
    if scene.rng.random() < 0.5:
        host.kill()
        await scene.lasts()
        scene.start(host)


async def engine_error(scene: Scene) -> None:
    """The engine's next sync fails."""
    host = scene.any_host()
    scene.note(f"n{host.machine} next sync of the engine fails")
    host.store.fail_next_sync = True


async def full(scene: Scene) -> None:
    """No room is left for a while."""
    host = scene.any_host()
    disk = host.disk
    scene.note(f"n{host.machine} disk is full")
    disk.capacity_bytes = disk.capacity_bytes - disk.free_bytes() + scene.rng.randrange(100_000)
    try:
        await scene.lasts()
    finally:
        disk.capacity_bytes = FREE_BYTES


async def rot(scene: Scene) -> None:
    """Bits of the synced log change, while the node is down or under it."""
    host = scene.victim()
    at_rest = scene.rng.random() < 0.6
    if at_rest:
        host.power_off()
    where = rotting.damage(host.disk, scene.rng)
    if where:
        scene.note(f"n{host.machine} {where} rotted {'at rest' if at_rest else 'under the node'}")
        host.suspect = True
        if at_rest:
            host.damage = "with rot in its log"
    await scene.lasts()
    if not at_rest:
        host.kill()
        await scene.lasts()
    scene.start(host)


async def misdirect(scene: Scene) -> None:
    """The next write of the log reports success, but its bytes go to another place; later the node is restarted."""
    host = scene.victim()
    scene.note(f"n{host.machine} next write goes astray")
    host.suspect = True
    host.disk.fail_next("misdirect")
    await scene.lasts()
    host.kill()
    await scene.lasts()
    scene.start(host)


def heal(host: SimHost) -> None:
    """Nothing more fails on a machine's disk."""
    host.disk.faults.clear()
    host.disk.crash_at_operation = 0
    host.disk.crash_in_long_sync = False
    host.disk.capacity_bytes = FREE_BYTES
    host.store.fail_next_sync = False


FAULTS: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    "stall": stall,
    "long_stall": long_stall,
    "sync_error": sync_error,
    "write_error": write_error,
    "read_error": read_error,
    "engine_error": engine_error,
    "full": full,
    "rot": rot,
    "misdirect": misdirect,
}
