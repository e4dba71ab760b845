"""E, the cluster-wide bound on clock error: kept by every member, raised in two phases before a clock that needs it.

Rule T1. While all members share one host's clock E may be zero. Before a node on another host is admitted – or one
whose own source vouches for less – the admitting member asks every member for its error away from the shared clock,
and raises E above all of them. In between members must be safe with each other, so the two sides of E are raised one
after the other, and then it is said that they were:

1. everyone widens `earliest` (commit wait, a new leader's floor): harmless where others still use the old E;
2. when all have, everyone may widen `latest` (the timestamps it uses), and stops claiming a shared clock;
3. when all have, E is *settled*: whoever knows it admits a clock that E covers without asking anybody.

A raise may break anywhere, and several members may raise at once. What one member holds itself says nothing about the
others – it may be from a raise that broke – so an admission relies on a settled E only, and else repeats the raise. A
member that another one admits meanwhile is in one of two cases: it was known where a step arrives, which then fails
and is repeated with it; or the member that admits it had taken the step before, and its answer carries the new E.

Invariants:
1. No member uses a timestamp above (its clock + E) before every member waits for E.
2. E is in a member's identity, synced, before it answers: a restart does not forget it.
3. A member that cannot keep within the new E refuses, and the joiner is refused with its name; nobody stops serving.
4. Neither side of E ever gets smaller, whatever raises run beside each other.

E is never lowered here: that needs the old one to be waited out everywhere.
"""

from __future__ import annotations

import contextlib
from typing import Protocol

import msgspec

from txndb.clock import Clock
from txndb.cluster.body import Body
from txndb.cluster.identity import Identity
from txndb.cluster.messages import JoinRequest, JoinResponse, Member
from txndb.cluster.options import NodeOptions
from txndb.errors import ProtocolError, StoreError, TxndbError, UnavailableError
from txndb.ids import NodeId

CALL_TIMEOUT_US = 3_000_000
BOUND_MIN_US = 10_000
"""The least E between hosts."""
BOUND_MAX_US = 1_000_000
"""An error beyond this is no bound anybody would want to wait for at every commit."""
MARGIN = 2
"""A source's error grows between its updates: E is this many times the largest seen."""

ASK, WIDEN_EARLIEST, WIDEN_LATEST, SETTLED = 0, 1, 2, 3


class BoundCall(msgspec.Struct, frozen=True, array_like=True):
    """One step of a raise, to one member."""

    step: int
    bound_us: int
    off_host: bool
    nodes: list[NodeId] | None = None
    """Whom the raise reaches; None: not said."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(BoundCall).decode


class BoundHost(Protocol):
    """What this needs of its node."""

    body: Body
    node: NodeId
    clock: Clock
    options: NodeOptions

    @property
    def identity(self) -> Identity:
        """Who the node is, with E; raises `UnavailableError` before it is anybody."""

    async def remember(self, identity: Identity) -> None:
        """Be that from now on; returns when it is synced."""

    def all_members(self) -> list[Member]:
        """Every member, this one included."""


class ClockBound:
    """One member's part in keeping E."""

    def __init__(self, host: BoundHost) -> None:
        self._host = host

    async def admit(self, newcomer: JoinRequest) -> None:
        """Make E wide enough for a newcomer. Raises `StoreError` when some clock cannot be bounded, `UnavailableError`
        when a member cannot be reached (all must hold the new E before it is used)."""
        known = self._host.identity
        if not self._host.clock.placed:
            raise UnavailableError(f"node {self._host.node} does not know yet whose clock it reads")
        off_host = known.left_host or newcomer.host_id != self._host.options.host_id
        error_us = max(newcomer.error_us, newcomer.off_host_error_us if off_host else 0)
        if off_host and 0 < known.settled_bound_us >= error_us:
            return
        if not off_host and error_us <= known.latest_bound_us:
            return  # it reads this member's clock
        await self._make_room(error_us, off_host, self._reached(newcomer))

    async def spread(self, settled_us: int) -> None:
        """Make E what it must be where members are on several hosts, as `admit` does; `settled_us` is a settled one
        that another member knows of."""
        error_us = self._host.body.time.error_us(off_host=True)
        if 0 < settled_us >= error_us:
            await self._widen(settled_us, settled_us, off_host=True, settled_us=settled_us)
            return
        await self._make_room(error_us, True, self._reached(None))

    async def _make_room(self, error_us: int, off_host: bool, members: list[Member]) -> None:
        """Raise E over the errors of all these members, and this one."""
        _must_be_bounded(error_us)
        for member in members:
            error_us = max(error_us, await self._step(member, BoundCall(ASK, 0, off_host)))
        _must_be_bounded(error_us)
        bound_us = self._host.identity.error_bound_us
        if not 0 < bound_us >= error_us:
            bound_us = max(MARGIN * error_us, BOUND_MIN_US) if off_host else error_us
        await self._raise(bound_us, off_host, members)

    def _reached(self, newcomer: JoinRequest | None) -> list[Member]:
        """Every member, this one last, so that it has widened nothing that another one refused; one that asks to be
        known again where it is now."""
        members = {member.node: member for member in self._host.all_members()}
        if newcomer is not None and newcomer.node:
            members[newcomer.node] = Member(newcomer.node, newcomer.incarnation, newcomer.address)
        return sorted(members.values(), key=lambda member: (member.node == self._host.node, member.node))

    async def _raise(self, bound_us: int, off_host: bool, members: list[Member]) -> None:
        """Both sides of E at every member, one after the other; then tell them that it is done."""
        self._host.body.event(f"raising the clock error bound to {bound_us} us")
        nodes = [member.node for member in members]
        for step in (WIDEN_EARLIEST, WIDEN_LATEST):
            for member in members:
                await self._step(member, BoundCall(step, bound_us, off_host, nodes))
        if not off_host:
            return  # by their common clock members are safe with each other at any E
        for member in members:
            with contextlib.suppress(
                TxndbError
            ):  # it is done; who does not hear of it repeats it when it must know
                await self._step(member, BoundCall(SETTLED, bound_us, off_host))

    async def _step(self, member: Member, call: BoundCall) -> int:
        if member.node == self._host.node:
            return await self._take(call)
        try:
            answer = await self._host.body.transport.call(
                member.address, "clock-bound", _encode(call), CALL_TIMEOUT_US
            )
        except UnavailableError as error:
            raise UnavailableError(
                f"the clock error bound cannot be raised without node {member.node}: {error.message}",
                hint="Every member must be up when the first node of another host joins.",
            ) from error
        return int.from_bytes(answer, "big")

    async def on_call(self, payload: bytes) -> bytes:
        """A step asked for by the admitting member."""
        return (await self._take(_decode(payload))).to_bytes(8, "big")

    async def _take(self, call: BoundCall) -> int:
        host, bound_us = self._host, call.bound_us
        error_us = host.body.time.error_us(call.off_host)
        if call.step == ASK:
            return error_us
        if error_us > bound_us:
            raise StoreError(f"node {host.node}: its clock may be off by more than {bound_us} us")
        if call.step == WIDEN_EARLIEST:
            await self._widen(bound_us, 0)
        elif call.step == WIDEN_LATEST:
            if host.identity.error_bound_us < bound_us:
                raise ProtocolError("the clock error bound was raised out of order")
            await self._widen(0, bound_us, off_host=call.off_host)
        elif call.step == SETTLED:
            if host.identity.latest_bound_us < bound_us:
                raise ProtocolError("the clock error bound was settled out of order")
            await self._widen(0, 0, settled_us=bound_us)
        self._must_reach_all(call)
        return error_us

    def _must_reach_all(self, call: BoundCall) -> None:
        """Raise `UnavailableError` for a raise that passes by a member which was admitted meanwhile. Looked at after
        the step: who is admitted here from now on is told of what the step raised."""
        for member in self._host.all_members():
            if call.nodes is not None and member.node not in call.nodes:
                raise UnavailableError(f"node {member.node} joined meanwhile")

    async def learn(self, response: JoinResponse) -> None:
        """Take over what the member that knows this one again holds: a raise may have passed this one by."""
        off_host = response.error_bound_us > 0 if response.off_host is None else response.off_host
        await self._widen(
            response.error_bound_us,
            response.latest_bound_us,
            off_host=off_host,
            settled_us=response.settled_us or 0,
        )

    async def _widen(
        self, earliest_us: int, latest_us: int, *, off_host: bool = False, settled_us: int = 0
    ) -> None:
        """Use and remember an E that is at least as wide, synced (invariants 2 and 4)."""
        host, known = self._host, self._host.identity
        clock = host.clock
        wider = msgspec.structs.replace(
            known,
            error_bound_us=max(known.error_bound_us, earliest_us),
            latest_bound_us=max(known.latest_bound_us, latest_us),
            off_host=known.left_host or off_host,
            settled_us=max(known.settled_bound_us, settled_us),
        )
        clock.error_bound_us = (
            wider.error_bound_us
        )  # waiting longer is safe at once, using more when it is durable
        await host.remember(wider)
        clock.latest_bound_us = max(clock.latest_bound_us, latest_us)
        if off_host:
            host.body.time.leave_host()


def _must_be_bounded(error_us: int) -> None:
    if error_us > BOUND_MAX_US:
        raise StoreError(
            "the clocks of the members cannot be bounded: some kernel does not say that its clock is synchronised",
            hint="Run a time daemon on every host, or vouch for a bound with --clock fixed:MICROSECONDS.",
        )
