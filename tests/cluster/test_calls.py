"""The outbox: what is queued in a turn goes in one frame, as long as a frame takes it."""

from __future__ import annotations

from typing import Any, cast

from tests.cluster.storeworld import ME, THIRD, StoreWorld
from txndb.cluster.calls import FRAME_BYTES_GOAL, Calls
from txndb.cluster.messages import RaftEnvelope, decode_frame
from txndb.ids import NodeId, RangeId
from txndb.raft.types import KIND_NORMAL, Append, Entry


class Wire:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, to: NodeId, frame: bytes) -> None:
        self.frames.append(frame)


def append(index: int, size: int) -> RaftEnvelope:
    entries = [Entry(index, 1, KIND_NORMAL, bytes(size))]
    return RaftEnvelope(RangeId(1), Append(THIRD, ME, 1, index - 1, 1, entries, 0, 0))


def frames_of(*items: RaftEnvelope) -> list[bytes]:
    """The frames in which the items leave."""
    world, wire = StoreWorld(), Wire()

    async def queue() -> None:
        calls = Calls(cast(Any, wire), world.time)
        for item in items:
            calls.send(NodeId(3), item)

    world.run(queue())
    return wire.frames


def test_what_is_queued_in_a_turn_goes_in_one_frame() -> None:
    items = [append(index, 100) for index in range(1, 9)]
    frames = frames_of(*items)
    assert [decode_frame(frame) for frame in frames] == [items]


def test_what_is_too_much_for_one_frame_goes_in_several_in_order() -> None:
    """A frame beyond the bound is dropped whole, heartbeats and answers included."""
    size = FRAME_BYTES_GOAL // 5
    items = [append(1, 10), *[append(index, size) for index in range(2, 9)], append(9, 2 * FRAME_BYTES_GOAL)]
    frames = frames_of(*items)
    assert [item for frame in frames for item in decode_frame(frame)] == items
    assert all(len(frame) <= FRAME_BYTES_GOAL for frame in frames[:-1])
    assert len(decode_frame(frames[-1])) == 1
