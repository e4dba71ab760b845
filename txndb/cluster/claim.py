"""One process per node id: a data directory that is an old copy, or a copy beside the original, does not start (P7).

A copied directory holds a node's identity, but not what the node has promised since: as that node it could vote twice,
and count for entries it does not have. Before a process takes an identity that it found on disk, it asks every member
the directory knows, and the address under which it ran itself:

1. Does somebody answer *as this node*? Then the original runs, and this is a copy.
2. Does a member know of a later start of this node than the directory does? Then this is an old copy.

It asks before it counts its own start, so being refused once does not make the next try look newer. What it cannot
find: a copy of a node that is down, or out of reach of everybody, and was not started since. Whoever restores a backup
of a single node starts it under a new node id instead.
"""

from __future__ import annotations

import asyncio

import msgspec

from txndb.cluster.body import Body
from txndb.cluster.identity import Identity
from txndb.cluster.messages import Member
from txndb.errors import DamagedError, StoreError, TxndbError
from txndb.ids import NodeId

CLAIM_TIMEOUT_US = 1_000_000
METHOD = "claim"


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """Who asks to run as this node?"""

    cluster_id: bytes
    node: NodeId


class ClaimAnswer(msgspec.Struct, frozen=True, array_like=True):
    """Who answers, and the latest start of the node in question that it has heard of (0: none)."""

    cluster_id: bytes
    node: NodeId
    incarnation: int


_encode = msgspec.msgpack.Encoder().encode
_decode_claim = msgspec.msgpack.Decoder(Claim).decode
_decode_answer = msgspec.msgpack.Decoder(ClaimAnswer).decode


def answer_claim(cluster_id: bytes, node: NodeId, members: dict[NodeId, Member], payload: bytes) -> bytes:
    """What this member knows of a claim."""
    claim = _decode_claim(payload)
    known = members.get(claim.node)
    return _encode(ClaimAnswer(cluster_id, node, known.incarnation if known is not None else 0))


async def must_be_alone(body: Body, identity: Identity, members: list[Member]) -> None:
    """Raise `StoreError` when another process runs, or has run since, as the node of this directory.

    `identity` is as the directory has it, before this start. Takes at most `CLAIM_TIMEOUT_US`.
    """
    claim = _encode(Claim(identity.cluster_id, identity.node))

    async def ask(address: str) -> ClaimAnswer | None:
        deadline_us = body.time.monotonic_us() + CLAIM_TIMEOUT_US
        while (left_us := deadline_us - body.time.monotonic_us()) > 0:
            try:
                return _decode_answer(await body.transport.call(address, METHOD, claim, left_us))
            except DamagedError:
                continue  # somebody is there, who may be the original
            except (TxndbError, msgspec.MsgspecError):
                return None  # down, starting, or of another version: it cannot tell
        return None

    addresses = [member.address for member in members if member.address]
    answers = await asyncio.gather(*[ask(address) for address in addresses])
    for address, answer in zip(addresses, answers, strict=True):
        if answer is None or answer.cluster_id != identity.cluster_id:
            continue
        if answer.node == identity.node:
            raise StoreError(
                f"another process runs as node {identity.node} at {address}",
                hint="This data directory is a copy. Start an empty one to add a node.",
            )
        if answer.incarnation > identity.incarnation:
            raise StoreError(
                f"node {identity.node} was started again after this data directory was copied",
                hint="An old copy lacks what the node has promised since. Start an empty directory instead.",
            )
