"""What coordinators of one node share, and what a commit needs of its attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from txndb.clock import Clock
from txndb.errors import RetryError, UnavailableError
from txndb.ids import AttemptId, NodeId, Timestamp, Token
from txndb.limits import NodeLimits
from txndb.ranges import api
from txndb.ranges.descriptor import RangeDescriptor
from txndb.txn.api import ProgramCompiler
from txndb.txn.routing import Sender


class Attempt(Protocol):
    """One attempt of a transaction, as its commit and its node see it."""

    meta: api.TxnMeta
    attempt: AttemptId
    spans: list[tuple[bytes, bytes | None, Token]]
    """Everything read or locked, each with the token it was locked under (K1)."""
    writes: dict[bytes, bytes | None]
    newest: Timestamp
    """The newest version read or overwritten (T5)."""
    not_before: Timestamp
    not_after: Timestamp
    over: bool
    sealed: bool
    """Whether what decides was sent."""

    def on_wound(self, reason: str, key: bytes = b"", winner: bytes = b"") -> None:
        """A wound notice arrived."""

    def seal(self) -> None:
        """What decides is about to be sent; raises `RetryError` if the attempt has lost."""

    async def lock(self, keys: Sequence[bytes]) -> None:
        """Lock keys EXCLUSIVE."""

    async def rollback(self) -> None:
        """Drop the attempt and its locks."""

    async def release_all(self, written: Sequence[bytes] = ()) -> None:
        """Release every lock, then unregister; `written`, sorted: ranges of these keys have ended the attempt."""

    async def by_token(
        self, spans: Sequence[tuple[bytes, bytes | None, Token]], deadline_us: int
    ) -> list[tuple[RangeDescriptor, Token, list[api.Span]]]:
        """Clip spans at the borders of the present ranges and group them by (range, token)."""

    async def by_range(
        self, keys: Sequence[bytes], deadline_us: int
    ) -> list[tuple[RangeDescriptor, list[bytes]]]:
        """Group keys by the range that holds them."""

    def token_for(self, descriptor: RangeDescriptor) -> Token:
        """The token to name at a range."""

    def dead(self, reason: str, key: bytes = b"", winner: bytes = b"") -> RetryError:
        """Mark the attempt dead (K7); the error to raise."""

    def lost(self, response: api.Response) -> RetryError | UnavailableError:
        """The error an unexpected answer stands for."""


class Gateway(Protocol):
    """What coordinators of one node share."""

    node: NodeId
    incarnation: int
    clock: Clock
    sender: Sender
    compile_program: ProgramCompiler
    canaries: frozenset[str]
    """Rules switched off in a test build."""
    limits: NodeLimits
    """How large a transaction may be, and how long it waits for a lock unless it says otherwise."""

    def next_counter(self) -> int:
        """A number no attempt of this incarnation had at the same timestamp."""

    def register(self, txn: Attempt) -> None:
        """The attempt lives: the gateway says so when asked (K5), and passes wound notices on."""

    def unregister(self, txn: Attempt) -> None:
        """The attempt is over, every participant resolved or released."""

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run in the background, owned by the node."""


def must_be_bounded(gateway: Gateway) -> None:
    """T1: a gateway whose clock may be off by more than E picks no timestamps. Raises `UnavailableError`."""
    if not gateway.clock.within_bound() and "T1" not in gateway.canaries:
        raise UnavailableError(
            "this node's clock may be off by more than the cluster's bound on clock error",
            hint="It serves again when its clock is synchronised; other nodes do meanwhile.",
        )
