"""Requests to other nodes and their answers: the outbox, coalesced per turn, and the calls that wait.

Frames may be lost when a connection breaks, so a call that hears nothing is sent again (requests are idempotent), and
given up after `GIVE_UP_US`: the caller then looks for another leaseholder. One sweep serves all calls; a call has no
timer of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

from txndb.clock import TimeSource
from txndb.cluster.body import Transport
from txndb.cluster.messages import KvRequest, KvResponse, encode_frame
from txndb.errors import UnavailableError
from txndb.ids import NodeId, RangeId
from txndb.limits import FRAME_BYTES_MAX
from txndb.ranges import api

RESEND_US = 700_000
GIVE_UP_US = 2_000_000
INCARNATION_SHIFT = 40
FRAME_BYTES_GOAL = FRAME_BYTES_MAX // 4
"""A frame that is larger holds one item: a peer's queue takes frames whole, and drops what has no room in it."""
ANSWER_BYTES_MAX = FRAME_BYTES_MAX // 2
"""A larger answer is refused, to be asked for in parts: an empty queue takes no more than a frame. Any row fits."""


def _too_large(size_bytes: int) -> api.Refused:
    """Said instead of an answer that no frame holds: it would be dropped, and asked for again without end."""
    return api.Refused(
        api.TOO_LARGE,
        f"an answer of {size_bytes} bytes is more than the {ANSWER_BYTES_MAX} that a node sends at once",
        api.TOO_LARGE_DETAIL,
    )


class PendingCall:
    """One request that waits for its answer."""

    __slots__ = ("future", "heard_us", "item", "node", "sendings", "sent_us")

    def __init__(
        self, node: NodeId, item: KvRequest, future: asyncio.Future[api.Response], now_us: int
    ) -> None:
        self.node = node
        self.item = item
        self.future = future
        self.sent_us = now_us
        self.heard_us = now_us
        self.sendings = 1


class Calls:
    """The outbox of a node and its pending calls."""

    def __init__(self, transport: Transport, time: TimeSource) -> None:
        self._transport = transport
        self._time = time
        self._loop = asyncio.get_running_loop()
        self._outbox: dict[NodeId, list[Any]] = {}
        self._flush_due = False
        self._number = 0
        self._pending: dict[int, PendingCall] = {}
        self._serving: dict[tuple[NodeId, int], None] = {}
        """Requests of peers that are parked here."""

    def begin(self, incarnation: int) -> None:
        """Number calls from here on so that no answer to an earlier process is taken for one of ours."""
        self._number = incarnation << INCARNATION_SHIFT

    # -- sending -------------------------------------------------------------------------------------------

    def send(self, to: NodeId, item: Any) -> None:
        """Queue an item; everything queued in this turn for one peer goes in one frame, if one takes it."""
        box = self._outbox.get(to)
        if box is None:
            box = self._outbox[to] = []
        box.append(item)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what is queued."""
        self._flush_due = False
        outbox, self._outbox = self._outbox, {}
        for node, items in outbox.items():
            self._send_frame(node, items)

    def _send_frame(self, node: NodeId, items: list[Any]) -> None:
        """One frame, or several where one would be so large that what does not fit takes all of it with it."""
        frame = encode_frame(items)
        if len(frame) > FRAME_BYTES_GOAL and len(items) > 1:
            middle = len(items) // 2
            self._send_frame(node, items[:middle])
            self._send_frame(node, items[middle:])
        else:
            if len(frame) > ANSWER_BYTES_MAX and type(items[0]) is KvResponse:
                frame = encode_frame([KvResponse(items[0].number, _too_large(len(frame)))])
            self._transport.send(node, frame)

    # -- our calls -----------------------------------------------------------------------------------------

    async def call(
        self, node: NodeId, range_id: RangeId, request: api.Request, deadline_us: int
    ) -> tuple[api.Response, bool]:
        """Ask a node; (answer, whether it was sent more than once). Raises `UnavailableError`."""
        self._number += 1
        number = self._number
        item = KvRequest(number, range_id, request)
        call = PendingCall(node, item, self._loop.create_future(), self._time.monotonic_us())
        self._pending[number] = call
        self.send(node, item)
        try:
            return await call.future, call.sendings > 1
        finally:
            self._pending.pop(number, None)

    def on_response(self, item: KvResponse) -> None:
        """An answer arrived."""
        call = self._pending.get(item.number)
        if call is None:
            return
        if isinstance(item.response, api.Waiting):
            call.heard_us = self._time.monotonic_us()
        elif not call.future.done():
            call.future.set_result(item.response)

    def sweep(self) -> None:
        """Send again what heard nothing for long, give up what heard nothing for too long."""
        now_us = self._time.monotonic_us()
        for call in list(self._pending.values()):
            if now_us - call.heard_us > GIVE_UP_US:
                self._fail(call, "does not answer")
            elif now_us - call.sent_us > RESEND_US:
                call.sent_us = now_us
                call.sendings += 1
                self.send(call.node, call.item)

    def on_peer_down(self, node: NodeId) -> None:
        """A connection broke: calls over it fail now, parked requests of it are forgotten."""
        for call in list(self._pending.values()):
            if call.node == node:
                self._fail(call, "is unreachable")

    @staticmethod
    def _fail(call: PendingCall, why: str) -> None:
        if not call.future.done():
            call.future.set_exception(UnavailableError(f"node {call.node} {why}"))

    # -- calls of peers ------------------------------------------------------------------------------------

    def begin_serving(self, sender: NodeId, number: int) -> bool:
        """Whether this request is new; a repeated one of a parked request is told to wait."""
        handle = (sender, number)
        if handle in self._serving:
            self.send(sender, KvResponse(number, api.Waiting()))
            return False
        self._serving[handle] = None
        return True

    def answer(self, handle: tuple[NodeId, int], response: api.Response) -> None:
        """Answer a peer's request."""
        self._serving.pop(handle, None)
        self.send(handle[0], KvResponse(handle[1], response))
