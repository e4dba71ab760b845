"""E, the cluster-wide bound on clock error: kept by every member, raised in two phases before a clock that needs it.

Rule T1. While all members share one host's clock E may be zero. Before a node on another host is admitted – or one
whose own source vouches for less – the admitting member asks every member for its error away from the shared clock,
and raises E above all of them. In between members must be safe with each other, so the two sides of E are raised one
after the other:

1. everyone widens `earliest` (commit wait, a new leader's floor): harmless where others still use the old E;
2. when all have, everyone may widen `latest` (the timestamps it uses).

Invariants:
1. No member uses a timestamp above (its clock + E) before every member waits for E.
2. E is in a member's identity, synced, before it answers: a restart does not forget it.
3. A member that cannot keep within the new E refuses, and the joiner is refused with its name; nobody stops serving.

E is never lowered here: that needs the old one to be waited out everywhere.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from txndb.cluster.body import Body
from txndb.cluster.messages import JoinRequest, Member
from txndb.errors import ProtocolError, StoreError, UnavailableError
from txndb.ids import NodeId

CALL_TIMEOUT_US = 3_000_000
BOUND_MIN_US = 10_000
"""The least E between hosts."""
BOUND_MAX_US = 1_000_000
"""An error beyond this is no bound anybody would want to wait for at every commit."""
MARGIN = 2
"""A source's error grows between its updates: E is this many times the largest seen."""

ASK, WIDEN_EARLIEST, WIDEN_LATEST = 0, 1, 2


class BoundCall(msgspec.Struct, frozen=True, array_like=True):
    """One step of a raise, to one member."""

    step: int
    bound_us: int
    off_host: bool


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(BoundCall).decode


class BoundHost(Protocol):
    """What this needs of its node."""

    body: Body
    node: NodeId

    @property
    def bounds_us(self) -> tuple[int, int]:
        """(E for `earliest`, E for `latest`)."""

    @property
    def left_host(self) -> bool:
        """Whether members do without a shared clock."""

    async def set_bounds(self, earliest_us: int, latest_us: int, *, off_host: bool) -> None:
        """Use and remember them, synced."""

    def all_members(self) -> list[Member]:
        """Every member, this one included."""


class ClockBound:
    """One member's part in keeping E."""

    def __init__(self, host: BoundHost) -> None:
        self._host = host

    async def admit(self, newcomer: JoinRequest) -> None:
        """Make E wide enough for a newcomer. Raises `StoreError` when some clock cannot be bounded, `UnavailableError`
        when a member cannot be reached (all must hold the new E before it is used)."""
        members = self._host.all_members()
        hosts = {m.host_id: None for m in members}
        host_id = newcomer.host_id
        off_host = self._host.left_host or len(hosts) > 1 or host_id not in hosts
        error_us = max(newcomer.error_us, newcomer.off_host_error_us if off_host else 0)
        if host_id in hosts and error_us <= self._host.bounds_us[1]:
            return  # its host has members already: E was raised when the first of them came
        largest = error_us
        for member in members:
            largest = max(largest, await self._step(member, BoundCall(ASK, 0, off_host)))
        if largest > BOUND_MAX_US:
            raise StoreError(
                "the clocks of the members cannot be bounded: some kernel does not say that its clock is synchronised",
                hint="Run a time daemon on every host, or vouch for a bound with --clock fixed:MICROSECONDS.",
            )
        current_us = self._host.bounds_us[1]
        if largest <= current_us and (current_us or not off_host):
            return
        bound_us = max(MARGIN * largest, BOUND_MIN_US) if off_host else largest
        self._host.body.event(f"raising the clock error bound to {bound_us} us")
        for step in (WIDEN_EARLIEST, WIDEN_LATEST):
            for member in members:
                await self._step(member, BoundCall(step, bound_us, off_host))

    async def _step(self, member: Member, call: BoundCall) -> int:
        if member.node == self._host.node:
            return await self._take(call)
        try:
            answer = await self._host.body.transport.call(
                member.address, "clock-bound", _encode(call), CALL_TIMEOUT_US
            )
        except UnavailableError as error:
            raise UnavailableError(
                f"the clock error bound cannot be raised while node {member.node} is unreachable",
                hint="Every member must be up when the first node of another host joins.",
            ) from error
        return int.from_bytes(answer, "big")

    async def on_call(self, payload: bytes) -> bytes:
        """A step asked for by the admitting member."""
        return (await self._take(_decode(payload))).to_bytes(8, "big")

    async def _take(self, call: BoundCall) -> int:
        host = self._host
        error_us = host.body.time.error_us(call.off_host)
        if call.step == ASK:
            return error_us
        if error_us > call.bound_us:
            raise StoreError(f"node {host.node}: its clock may be off by more than {call.bound_us} us")
        earliest_us, latest_us = host.bounds_us
        if call.step == WIDEN_EARLIEST:
            await host.set_bounds(max(earliest_us, call.bound_us), latest_us, off_host=call.off_host)
        elif call.step == WIDEN_LATEST:
            if earliest_us < call.bound_us:
                raise ProtocolError("the clock error bound was raised out of order")
            await host.set_bounds(earliest_us, max(latest_us, call.bound_us), off_host=call.off_host)
        return error_us
