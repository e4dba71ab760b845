"""A `Receiver` that keeps what it is given, and waits for it without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from txndb.errors import RetryError, TxndbError, sql_error
from txndb.ids import NodeId

WAIT_S = 10.0


class Recorder:
    """Records frames and peer changes; answers calls by their method's name."""

    def __init__(self) -> None:
        self.frames: list[tuple[NodeId, bytes]] = []
        self.peers: list[tuple[str, NodeId]] = []
        self.snapshots: list[tuple[NodeId, bytes, list[bytes]]] = []
        self.calls: list[str] = []
        self.refuse_snapshot_after = -1
        self.failures: list[TxndbError] = []
        self.until_released = asyncio.Event()
        self._changed = asyncio.Event()

    def on_message(self, sender: NodeId, payload: bytes) -> None:
        self.frames.append((sender, payload))
        self._changed.set()

    def on_peer_up(self, peer: NodeId) -> None:
        self.peers.append(("up", peer))
        self._changed.set()

    def on_peer_down(self, peer: NodeId) -> None:
        self.peers.append(("down", peer))
        self._changed.set()

    async def on_call(self, method: str, payload: bytes) -> bytes:
        self.calls.append(method)
        self._changed.set()
        if method == "echo":
            return payload
        if method == "retry":
            raise RetryError("lost", detail="why", hint="again")
        if method == "wait":
            await self.until_released.wait()
            return payload
        if method == "hang":
            await asyncio.Event().wait()
        raise sql_error("42883", f"no method {method}")

    async def on_snapshot(self, sender: NodeId, header: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        received: list[bytes] = []
        try:
            async for chunk in chunks:
                received.append(chunk)
                if len(received) == self.refuse_snapshot_after:
                    raise RetryError("enough")
        except TxndbError as e:
            self.failures.append(e)
            self._changed.set()
            raise
        self.snapshots.append((sender, header, received))
        return b"%d" % len(received)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds, looking again after each thing received."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
