"""What a world is put together from: the brain under test, and the disks and engines of its machines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from txndb.sim.disk import SimDisk
from txndb.sim.host import Brain, SimBody
from txndb.storage.engine import Engine


class Parts(msgspec.Struct, frozen=True):
    """Factories."""

    open_brain: Callable[[SimBody], Awaitable[Brain]]
    new_disk: Callable[[Random], SimDisk]
    new_engine: Callable[[], Engine]
