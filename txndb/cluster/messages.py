"""What members send each other over the framed connections: one frame is one list of these.

Raft messages and range requests share a frame, coalesced per turn of the loop. Fields are only appended,
with defaults, so that neighbouring versions understand each other.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from txndb.errors import ProtocolError
from txndb.ids import AttemptId, NodeId, RangeId
from txndb.raft.types import NATURAL, AnyMessage
from txndb.ranges.api import Request, Response
from txndb.ranges.descriptor import RangeDescriptor


class RaftEnvelope(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A Raft message of one range."""

    range_id: Annotated[RangeId, NATURAL]
    message: AnyMessage


class KvRequest(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A request to a range's leaseholder; `number` is the sender's, unique in its incarnation."""

    number: int
    range_id: RangeId
    request: Request


class KvResponse(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """The answer to the request of this number."""

    number: int
    response: Response


class WoundNotice(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """This attempt of yours lost its locks; it will find out at its next request anyway."""

    attempt: AttemptId
    key: bytes = b""
    winner: bytes = b""


class AliveQuery(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Rule K5: which of these attempts of yours are alive? Asked by a range's leaseholder."""

    range_id: RangeId
    incarnation: int
    attempts: list[AttemptId]


class AliveReply(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Rule K5: those that live, those that do not, and the incarnation that says so."""

    range_id: RangeId
    incarnation: int
    alive: list[AttemptId]
    ended: list[AttemptId]


class Member(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One member of the cluster, as its latest incarnation announced itself."""

    node: NodeId
    incarnation: int
    address: str
    sql_address: str = ""
    locality: str = ""
    host_id: str = ""


class Members(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """What the sender knows of the membership; merged by incarnation."""

    members: list[Member]


class Descriptors(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """Range descriptors for the receiver's routing cache (range 1's in particular); none: it is asked for its own."""

    descriptors: list[RangeDescriptor]


class SessionMessage(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """A message of the SQL layer between nodes (catalogue leases), opaque here."""

    payload: bytes


Item = (
    RaftEnvelope
    | KvRequest
    | KvResponse
    | WoundNotice
    | AliveQuery
    | AliveReply
    | Members
    | Descriptors
    | SessionMessage
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[list[Item]] = msgspec.msgpack.Decoder(list[Item])

encode_frame = _encoder.encode


def decode_frame(payload: bytes) -> list[Item]:
    """The items of a frame; raises `ProtocolError` for bytes that are none."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a frame of this protocol: {error}") from error


class JoinRequest(msgspec.Struct, frozen=True, array_like=True):
    """A node asks to become (node 0) or to be known again as a member."""

    version: int
    cluster_id: bytes
    node: NodeId
    incarnation: int
    address: str
    sql_address: str
    locality: str
    host_id: str
    error_us: int
    """What the node's own source says its clock may be off by."""
    off_host_error_us: int = 0
    """The same where members do without a shared clock; 0: not said."""


class JoinResponse(msgspec.Struct, frozen=True, array_like=True):
    """The node's identity and the membership as known to the answering member."""

    cluster_id: bytes
    node: NodeId
    error_bound_us: int
    latest_bound_us: int
    members: list[Member]
    descriptors: list[RangeDescriptor]
    off_host: bool | None = None
    """Whether members do without a shared clock; None: not said."""
    settled_us: int | None = None
    """An E that every member uses; None: not said."""
