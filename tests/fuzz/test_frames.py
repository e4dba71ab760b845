"""Frames between members with damage that no checksum found: dropped, refused or answered, never an exception.

Real frames of a small cluster are recorded while it runs SQL; bytes of them are changed and handed to a node again. Who
speaks for a member can lie in ways that no check finds (that is what TLS will be for); what is tested is that nothing
a decoder accepts makes a handler raise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from tests.cluster.leaseworld import LeaseWorld
from tests.fuzz.budget import budget
from txndb.cluster.messages import KvRequest, decode_frame
from txndb.ids import NodeId
from txndb.ranges import api

Frame = tuple[int, NodeId, bytes]
DAMAGE = (0x00, 0xC0, 0xFF, 0xCF, 0xD3, 0x7F, 0x80)
"""Bytes that mean something in msgpack: nil, wide integers, ends of ranges."""


def recorded() -> tuple[LeaseWorld, list[Frame]]:
    """A cluster, and the frames of its short life."""
    world = LeaseWorld()
    frames: list[Frame] = []

    def record(number: int, deliver: Callable[[NodeId, bytes], None], sender: NodeId, payload: bytes) -> None:
        if not any(is_split(item) for item in decode_frame(payload)):
            frames.append((number, sender, payload))
        deliver(sender, payload)

    for number in (1, 2, 3):
        node = world.node(number)
        node.on_message = partial(record, number, node.on_message)  # type: ignore[method-assign]
    world.at(2, "CREATE TABLE t (a INT PRIMARY KEY, b TEXT)", "ALTER TABLE t SPLIT AT VALUES (5)")
    world.at(1, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 10) g")
    world.at(3, "BEGIN", "UPDATE t SET b = 'y' WHERE a IN (1, 9)", "SELECT count(*) FROM t", "COMMIT")
    world.wait(1)
    for number in (1, 2, 3):
        del world.node(number).on_message
    return world, frames


def is_split(item: object) -> bool:
    """A split that names another range's id is a lie that its log then holds, not damage."""
    return isinstance(item, KvRequest) and isinstance(item.request, api.SplitAt)


def damaged(rng: Random, payload: bytes) -> bytes:
    changed = bytearray(payload)
    for _ in range(rng.randrange(1, 4)):
        changed[rng.randrange(len(changed))] = rng.choice((*DAMAGE, rng.randrange(256)))
    return bytes(changed)


@budget(4)
@given(st.integers(0, 2**32))
@example(2)
@example(40)
@example(292)
@example(377)
def test_no_frame_makes_a_handler_raise(seed: int) -> None:
    rng = Random(seed)
    world, frames = recorded()
    for _ in range(60):
        number, sender, payload = rng.choice(frames)
        world.node(number).on_message(sender, damaged(rng, payload))
        if rng.random() < 0.1:
            world.wait(0.1)
