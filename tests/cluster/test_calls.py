"""The outbox: what is queued in a turn goes in one frame, as long as a frame takes it."""

from __future__ import annotations

from typing import Any, cast

from tests.cluster.storeworld import ME, THIRD, StoreWorld
from txndb.cluster.calls import ANSWER_BYTES_MAX, FRAME_BYTES_GOAL, Calls
from txndb.cluster.messages import Item, KvResponse, RaftEnvelope, decode_frame
from txndb.ids import NodeId, RangeId, Timestamp
from txndb.limits import FRAME_BYTES_MAX, ROW_BYTES_MAX
from txndb.raft.types import KIND_NORMAL, Append, Entry
from txndb.ranges import api


class Wire:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, to: NodeId, frame: bytes) -> None:
        self.frames.append(frame)


def append(index: int, size: int) -> RaftEnvelope:
    entries = [Entry(index, 1, KIND_NORMAL, bytes(size))]
    return RaftEnvelope(RangeId(1), Append(THIRD, ME, 1, index - 1, 1, entries, 0, 0))


def frames_of(*items: Item) -> list[bytes]:
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


def values(number: int, count: int, size: int) -> KvResponse:
    return KvResponse(number, api.Values(b"", [bytes(size)] * count, Timestamp(0)))


def test_an_answer_that_no_frame_holds_is_refused_with_a_word() -> None:
    """Else it is dropped, and whoever asked asks again until its time is over."""
    small, row = values(1, 3, 10), values(3, 1, ROW_BYTES_MAX)
    frames = frames_of(small, values(2, 11, FRAME_BYTES_MAX // 10), row)
    first, refused, last = (item for frame in frames for item in decode_frame(frame))
    assert (first, last) == (small, row)
    assert isinstance(refused, KvResponse) and refused.number == 2
    assert isinstance(refused.response, api.Refused) and refused.response.sqlstate == "54000"
    assert refused.response.detail == api.TOO_LARGE_DETAIL
    assert all(len(frame) <= ANSWER_BYTES_MAX for frame in frames)
