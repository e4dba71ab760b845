"""Faults of clocks: steps within the bound E, a source that vouches for less than E, and lies beyond it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from txndb.sim.host import SimHost
from txndb.sim.nemesis.scene import Scene

_JUMP_MAX_US: Final = 5_000_000
_LASTS_MIN_US: Final = 2_000_000
"""Clients must meet the wrong clock at all; one that is behind does more harm than one that is ahead."""


async def clock_step(scene: Scene) -> None:
    """A clock moves at once to another error that E still covers."""
    host = scene.any_host()
    step_us = host.clock.step_within_bound(scene.rng)
    scene.note(f"n{host.machine} clock stepped to {step_us} us")


async def clock_unsure(scene: Scene) -> None:
    """A clock's source says that it may be off by more than E, and soon it is: the node must not serve (rule T1)."""
    host = scene.any_host()
    if host.clock.beyond or not host.ready:
        return  # a node that is joining would have E raised for it
    off_us = _drawn_us(scene)
    host.clock.lose_bound(scene.options.clock.error_bound_us + 2 * abs(off_us))
    scene.note(f"n{host.machine} clock is not synchronised any more")
    try:
        await scene.wait(100_000)
        host.clock.jump(off_us)
        scene.note(f"n{host.machine} clock off by {off_us} us, and it says so")
        await scene.wait(max(scene.options.fault_lasts_us, _LASTS_MIN_US))
    finally:
        heal(host)
        scene.note(f"n{host.machine} clock is right again")


async def clock_jump(scene: Scene) -> None:
    """A clock is off by far more than E, and says nothing."""
    host = scene.any_host()
    if host.clock.beyond:
        return
    off_us = _drawn_us(scene)
    host.clock.jump(off_us)
    scene.note(f"n{host.machine} clock off by {off_us} us")
    try:
        await scene.wait(max(scene.options.fault_lasts_us, _LASTS_MIN_US))
    finally:
        heal(host)
        scene.note(f"n{host.machine} clock is right again")


def _drawn_us(scene: Scene) -> int:
    size_us = scene.rng.choice((10_000, 300_000, _JUMP_MAX_US, _JUMP_MAX_US))
    return scene.rng.choice((-1, -1, 1)) * (size_us // 10 + scene.rng.randrange(size_us))


def heal(host: SimHost) -> None:
    """A machine's clock keeps its bound again."""
    host.clock.jump(0)
    host.clock.lose_bound(0)


FAULTS: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    "clock_step": clock_step,
    "clock_unsure": clock_unsure,
    "clock_jump": clock_jump,
}
