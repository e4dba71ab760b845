"""Does this node still read the clock that its cluster shares? Found out at every start, before it serves (rule T1).

While E stands for one clock (`Identity.left_host`), a data directory that comes back on another machine would use that
machine's clock as if it were the others'. So a node that starts tells every member it can reach where it is, and asks
where they are. Until it knows, its clock is not trusted: it takes part in Raft, but serves nobody and admits nobody.

- Somebody is on another host: E is raised for both, by this node, as for a newcomer (`ClockBound.spread`).
- All who answer are here, or nobody else has a replica: then this is their clock. A rebooted host has a new id, and so
  do all its nodes: none has to be reached by another one's admission. A node whose host is the same as before does not
  insist on an answer.
- E is settled between hosts: nothing has to be found out.

Invariants:
1. Trusted members that have not left their host share one clock. Of two that start at different places the later one to
   ask finds the other: each can be asked before it asks.
2. The host in the identity changes only when that is so: a start that breaks off does not make the next one careless.

A member that is down counts as where the others are after `SILENCE_US`, for it asks when it starts. One that runs out
of reach of everybody who moved is not found.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from txndb.clock import Clock
from txndb.cluster.body import Body
from txndb.cluster.clockbound import ClockBound
from txndb.cluster.identity import Identity
from txndb.cluster.membership import Membership
from txndb.cluster.messages import Member
from txndb.cluster.options import NodeOptions
from txndb.cluster.store import Store
from txndb.errors import StoreError, TxndbError, UnavailableError
from txndb.ids import NodeId

METHOD = "whereabouts"
ASK_TIMEOUT_US = 1_000_000
SILENCE_US = 5_000_000
"""How long a node on a new host waits for members that do not answer while others are here."""
BOUND_US = 60_000_000
PAUSE_S = 0.2


class Whereabouts(msgspec.Struct, frozen=True, array_like=True):
    """Who says where it is, and what it knows: the question and the answer."""

    cluster_id: bytes
    node: NodeId
    host_id: str
    settled_us: int
    members: list[Member]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Whereabouts).decode


class WanderingHost(Protocol):
    """What this needs of its node."""

    body: Body
    node: NodeId
    clock: Clock
    options: NodeOptions
    clock_bound: ClockBound
    membership: Membership

    @property
    def store(self) -> Store:
        """The replicas."""

    @property
    def identity(self) -> Identity:
        """Who the node is, with E."""

    async def remember(self, identity: Identity) -> None:
        """Be that from now on; returns when it is synced."""


def with_host(identity: Identity, members: list[Member]) -> Identity:
    """An identity from before hosts were kept gets the one that its node announced last."""
    for member in members:
        if identity.host_id is None and member.node == identity.node:
            return msgspec.structs.replace(identity, host_id=member.host_id)
    return identity


def answer(host: WanderingHost, payload: bytes) -> bytes:
    """Learn where a member is, and say where this one is."""
    asked = _decode(payload)
    if asked.cluster_id != host.identity.cluster_id:
        raise StoreError("the question is from another cluster")
    host.membership.merge(asked.members)
    return _encode(_here(host, host.membership.snapshot()))


def _here(host: WanderingHost, members: list[Member]) -> Whereabouts:
    known = host.identity
    return Whereabouts(known.cluster_id, host.node, host.options.host_id, known.settled_bound_us, members)


async def find_out(host: WanderingHost, join: list[str]) -> None:
    """Return when the node may use its clock; then it is trusted, and its host remembered. Raises `UnavailableError` or
    `StoreError` when that cannot be within `BOUND_US`."""
    body, here = host.body, host.options.host_id
    moved = host.identity.host_id not in (None, here)
    began_us = body.time.monotonic_us()
    problem: TxndbError | None = None
    while not host.identity.settled_bound_us:
        answers = await _ask(host, join)
        silent = [m.node for m in host.membership.snapshot() if m.node not in answers and m.node != host.node]
        waited_us = body.time.monotonic_us() - began_us
        if any(found.host_id != here for found in answers.values()):
            try:
                await host.clock_bound.spread(max(found.settled_us for found in answers.values()))
                break
            except (UnavailableError, StoreError) as error:  # members may come up, clocks be synchronised
                if problem is None or problem.message != error.message:
                    body.event(f"this node is on another host than others: {error.message}")
                problem = error
        elif not moved or not silent or ((answers or _holds_all(host)) and waited_us > SILENCE_US):
            break
        if waited_us > BOUND_US:
            raise problem or UnavailableError(
                "this data directory was used on another host, and no member says that it is on this one too",
                hint="Start the other members: they must be reached before this node's clock can be trusted.",
            )
        await asyncio.sleep(PAUSE_S)
    if host.identity.host_id != here:
        await host.remember(msgspec.structs.replace(host.identity, host_id=here))
    host.clock.placed = True


def _holds_all(host: WanderingHost) -> bool:
    """Whether this node is the only one that can serve anything: who joined and never came would else end it."""
    held = host.store.descriptors()
    return bool(held) and all(node == host.node for descriptor in held for node in descriptor.nodes())


async def _ask(host: WanderingHost, join: list[str]) -> dict[NodeId, Whereabouts]:
    """Every other member that answers, at its last address or one of those given."""
    members = host.membership.snapshot()
    mine = [member for member in members if member.node == host.node]
    question = _encode(_here(host, mine))

    async def ask(address: str) -> Whereabouts | None:
        try:
            return _decode(await host.body.transport.call(address, METHOD, question, ASK_TIMEOUT_US))
        except (TxndbError, msgspec.MsgspecError):
            return None  # down, starting, or of another version: it cannot tell

    addresses = sorted({m.address for m in members if m.address and m.node != host.node} | {*join})
    found = {
        told.node: told
        for told in await asyncio.gather(*[ask(address) for address in addresses])
        if told is not None and told.cluster_id == host.identity.cluster_id and told.node != host.node
    }
    for told in found.values():
        host.membership.merge(told.members)
    return found
