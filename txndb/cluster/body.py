"""What a body gives the brain: time, chance, disk and network. `server` gives real ones, `sim` simulated ones.

The brain runs on asyncio (futures, tasks, timeouts); the event loop is what a body swaps. Everything below reaches the
outside only through a `Body`, so one seed replays one run: one brain, two bodies.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from txndb.clock import TimeSource
from txndb.ids import NodeId
from txndb.storage.disk import Disk
from txndb.storage.engine import Engine

T = TypeVar("T")


class Rand(Protocol):
    """Injected chance."""

    def randrange(self, stop: int) -> int:
        """A number in [0, stop)."""


class Receiver(Protocol):
    """The brain's side of the network; a transport calls it on the loop's thread."""

    def on_message(self, sender: NodeId, payload: bytes) -> None:
        """One frame from a peer."""

    def on_peer_up(self, peer: NodeId) -> None:
        """A connection to the peer was (re)established."""

    def on_peer_down(self, peer: NodeId) -> None:
        """The connection to the peer was lost; frames under way may be lost."""

    async def on_call(self, method: str, payload: bytes) -> bytes:
        """A unary call (join, admin, debug); errors are `TxndbError`s and travel back to the caller as such."""

    async def on_snapshot(self, sender: NodeId, header: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        """A snapshot stream from a peer; the answer ends it."""


class Transport(Protocol):
    """Frames between members, and calls by address."""

    def start(self, node: NodeId, incarnation: int, cluster_id: bytes, receiver: Receiver) -> None:
        """Begin to accept and make peer connections as this member. Before it, only calls by address work."""

    def set_address(self, node: NodeId, address: str) -> None:
        """Tell where a member listens ("host:port"); the transport keeps one connection to it."""

    def send(self, to: NodeId, payload: bytes) -> None:
        """Queue one frame; never blocks, drops it when the peer is down or its queue is full."""

    async def call(self, address: str, method: str, payload: bytes, timeout_us: int) -> bytes:
        """Unary call to whoever listens at `address`; raises the callee's `TxndbError`, or `UnavailableError`."""

    async def send_snapshot(self, to: NodeId, header: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        """Stream a snapshot to a peer with flow control; returns its answer; raises `UnavailableError`."""


class IoExecutor(Protocol):
    """One worker that runs blocking calls in order, off the event loop."""

    def run(self, call: Callable[[], T]) -> Awaitable[T]:
        """Run `call` in the worker; the result (or its exception) arrives on the loop."""


class Body(Protocol):
    """Everything a node is given."""

    time: TimeSource
    transport: Transport
    log_io: IoExecutor
    """For the Raft log's writes and syncs."""
    engine_io: IoExecutor
    """For the engine's syncs and checkpoints."""
    log_disk: Disk
    rand: Rand

    def open_engine(self) -> Engine:
        """Open (creating if missing) the node's engine."""

    def event(self, message: str) -> None:
        """One line for the node's log."""

    def fatal(self, error: BaseException) -> None:
        """The node cannot go on (failed sync, corruption): end the process loudly; does not come back."""
