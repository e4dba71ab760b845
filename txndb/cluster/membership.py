"""Who is in the cluster, and how one gets in.

A node that starts without an identity either bootstraps a cluster or asks any member to join: its id is allocated by a
transaction on a row of range 1 (through consensus, never reused), and its row is written there. Members tell each other
what they know whenever a connection comes up and whenever it changes; the higher incarnation of a node wins.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from txndb.cluster.addresses import parse_address
from txndb.cluster.clockbound import ClockBound
from txndb.cluster.envelopes import PROTOCOL_VERSION
from txndb.cluster.identity import Identity
from txndb.cluster.messages import JoinRequest, JoinResponse, Member, Members
from txndb.encoding.keys import SYSTEM
from txndb.errors import ProtocolError, RetryError, StoreError
from txndb.ids import NodeId
from txndb.ranges.descriptor import RangeDescriptor
from txndb.txn.api import KV, Lock

JOIN_ATTEMPTS_MAX = 50

NEXT_NODE_KEY = SYSTEM + b"cluster\0next-node"
NEXT_RANGE_KEY = SYSTEM + b"cluster\0next-range"

_encode = msgspec.msgpack.Encoder().encode
_decode_join = msgspec.msgpack.Decoder(JoinRequest).decode
_decode_response = msgspec.msgpack.Decoder(JoinResponse).decode


def member_key(node: NodeId) -> bytes:
    """The row of a member."""
    return SYSTEM + b"cluster\0member\0" + node.to_bytes(4, "big")


class MembershipHost(Protocol):
    """What membership needs of its node."""

    node: NodeId
    cluster_id: bytes

    @property
    def identity(self) -> Identity:
        """Who the node is, with E; raises `UnavailableError` before it is anybody."""

    def send_members(self, to: NodeId, message: Members) -> None:
        """Tell a peer what is known."""

    def on_members(self, members: list[Member]) -> None:
        """Addresses changed: connect, and remember."""

    def descriptors(self) -> list[RangeDescriptor]:
        """Range descriptors for a newcomer's routing cache."""


class Membership:
    """The members as this node knows them."""

    def __init__(self, host: MembershipHost) -> None:
        self._host = host
        self.members: dict[NodeId, Member] = {}

    def merge(self, members: list[Member]) -> bool:
        """Take in what a peer knows; whether anything was new (then everyone else is told)."""
        changed: list[Member] = []
        for member in members:
            known = self.members.get(member.node)
            if known is None or member.incarnation > known.incarnation:
                self.members[member.node] = member
                changed.append(member)
        if changed:
            self._host.on_members(changed)
            self.tell_all()
        return bool(changed)

    def snapshot(self) -> list[Member]:
        """All members, by node id."""
        return [self.members[node] for node in sorted(self.members)]

    def tell(self, to: NodeId) -> None:
        """Tell one peer."""
        self._host.send_members(to, Members(self.snapshot()))

    def tell_all(self) -> None:
        """Tell every other member."""
        for node in sorted(self.members):
            if node != self._host.node:
                self.tell(node)

    async def admit(self, kv: KV, clock_bound: ClockBound, payload: bytes) -> bytes:
        """Answer a join request (a unary call). Raises `StoreError` for another cluster or protocol, or an address that
        is none: every member would keep it, and could only leave it out."""
        request = _decode_join(payload)
        host = self._host
        if request.version != PROTOCOL_VERSION:
            raise StoreError(
                f"this cluster speaks protocol version {PROTOCOL_VERSION}, not {request.version}"
            )
        if request.cluster_id and request.cluster_id != host.cluster_id:
            raise StoreError(
                f"the data directory belongs to cluster {request.cluster_id.hex()}, this is {host.cluster_id.hex()}"
            )
        try:
            parse_address(request.address)
        except ProtocolError as e:
            raise StoreError(
                f"a node that joins must be reachable: {e.message}", hint="See --advertise."
            ) from None
        await clock_bound.admit(request)
        node = request.node or NodeId(await take_number(kv, NEXT_NODE_KEY, 2))
        member = Member(
            node, request.incarnation, request.address, request.sql_address, request.locality, request.host_id
        )
        self.merge([member])
        await self.write_row(kv, member)
        known = (
            host.identity
        )  # after the merge: a raise of E that does not count the newcomer yet has failed here
        return _encode(
            JoinResponse(
                host.cluster_id,
                node,
                known.error_bound_us,
                known.latest_bound_us,
                self.snapshot(),
                host.descriptors(),
                known.left_host,
                known.settled_bound_us,
            )
        )

    @staticmethod
    async def write_row(kv: KV, member: Member) -> None:
        """Record a member in range 1."""
        await run(kv, member_key(member.node), lambda _: _encode(member))


def encode_join(request: JoinRequest) -> bytes:
    """A join request's bytes."""
    return _encode(request)


def decode_join_response(payload: bytes) -> JoinResponse:
    """The answer to a join request."""
    return _decode_response(payload)


async def take_number(kv: KV, key: bytes, first: int) -> int:
    """Take the next number of a counter row, through consensus."""
    taken = first

    def next_value(old: bytes | None) -> bytes:
        nonlocal taken
        taken = int.from_bytes(old, "big") if old is not None else first
        return (taken + 1).to_bytes(8, "big")

    await run(kv, key, next_value)
    return taken


class Change(Protocol):
    """A row's new value from its old one; None: leave it."""

    def __call__(self, old: bytes | None, /) -> bytes | None: ...


async def run(kv: KV, key: bytes, change: Change) -> None:
    """Change one row in a transaction of its own, replayed with its age while it loses. Raises `RetryError` beyond
    `JOIN_ATTEMPTS_MAX` replays."""
    age = None
    for _ in range(JOIN_ATTEMPTS_MAX):
        txn = kv.begin(age)
        age = txn.age
        try:
            (old,) = await txn.get([key], Lock.EXCLUSIVE)
            new = change(old)
            if new is None:
                await txn.rollback()
                return
            txn.put(key, new)
            await txn.commit()
            return
        except RetryError:
            await txn.rollback()
        except BaseException:
            await txn.rollback()
            raise
    raise RetryError(f"a system row stayed contended for {JOIN_ATTEMPTS_MAX} attempts")
