"""What the Raft core speaks: log entries, persistent state, messages, and what it hands to its driver.

Every message is a msgspec struct encoded as an array with an integer tag; it names receiver, sender and term. Fields
are only ever appended, with a default, so an older peer's bytes stay readable. `Entry` is field-identical to the
storage layer's log entry, so a driver may pass the one where the other is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Protocol

import msgspec

from txndb import limits
from txndb.errors import CorruptionError, ProtocolError, TxndbError, UnavailableError
from txndb.ids import ReplicaId

NO_REPLICA = ReplicaId(0)
NEVER_US = 1 << 62
"""The deadline of a machine that needs no tick."""

NATURAL = msgspec.Meta(ge=0, le=1 << 62)
Natural = Annotated[int, NATURAL]
"""A number that a peer's bytes can make neither negative nor too large for the log's format."""

KIND_NORMAL = 0
"""An entry of the state machine's; empty data is the no-op that opens a term, which the driver skips."""
KIND_CONFIG = 1
"""An entry that holds an encoded `Config`."""


class NotLeader(UnavailableError):
    """This replica is not the leader; `leader` is the one it knows of, 0 when it knows none."""

    def __init__(self, leader: ReplicaId) -> None:
        super().__init__(f"not the leader (leader: replica {leader})" if leader else "no leader is known")
        self.leader = leader


class ProposalDropped(UnavailableError):
    """The leader takes no such proposal now; nothing was proposed. The message says why."""


class ConfigRefused(TxndbError, sqlstate="55000"):
    """The proposed membership is not one that may follow the present one."""


class Role(IntEnum):
    """What a replica is in its term."""

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One log entry."""

    index: Natural
    term: Natural
    kind: Natural
    data: bytes


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What must be durable before anything is sent on its strength. `commit` may lag; it is a hint for restarts."""

    term: Natural = 0
    vote: ReplicaId = NO_REPLICA
    commit: Natural = 0


class Config(msgspec.Struct, frozen=True, array_like=True):
    """A group's membership. Invariant: voters ascend and are positive.

    Learners and joint sets will be further fields at the end, with defaults.
    """

    voters: tuple[ReplicaId, ...] = ()

    def encode(self) -> bytes:
        """The bytes of a configuration entry."""
        return _ENCODER.encode(self)

    @staticmethod
    def decode(data: bytes) -> Config:
        """The configuration in an entry's bytes; raises `CorruptionError` when they hold none."""
        try:
            config = _CONFIG_DECODER.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptionError(f"not a configuration: {error}") from error
        if not config.is_well_formed():
            raise CorruptionError(f"voters do not ascend: {config.voters}")
        return config

    def is_well_formed(self) -> bool:
        """Whether the voters are distinct, positive and in ascending order."""
        voters = self.voters
        return all(a < b for a, b in zip((0, *voters), voters, strict=False))


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What every message begins with."""

    to: Annotated[ReplicaId, NATURAL]
    sender: Annotated[ReplicaId, NATURAL]
    term: Natural


class PreVote(Message, frozen=True, tag=1, gc=False):
    """Would you vote for me in `term` (the sender's own + 1)? Changes nobody's term (dissertation §9.6)."""

    last_index: Natural
    last_term: Natural


class PreVoteResponse(Message, frozen=True, tag=2, gc=False):
    """Granted: `term` is the one asked for; refused: the voter's own."""

    granted: bool


class Vote(Message, frozen=True, tag=3, gc=False):
    """RequestVote. `forced`: the leader of the previous term gave up its lease, so loyalty to it does not count."""

    last_index: Natural
    last_term: Natural
    forced: bool = False


class VoteResponse(Message, frozen=True, tag=4, gc=False):
    """The answer to `Vote`."""

    granted: bool


class Append(Message, frozen=True, tag=5, gc=False):
    """AppendEntries. `sent_us` is the leader's clock before it was sent; only the leader compares its echo."""

    prev_index: Natural
    prev_term: Natural
    entries: list[Entry]
    commit: Natural
    sent_us: int


class AppendResponse(Message, frozen=True, tag=6, gc=False):
    """The answer to `Append` and `SnapshotMessage`.

    Accepted: `index` is the last entry known to match, durable here. Rejected: `index` is the refused `prev_index`, and
    (`hint_index`, `hint_term`) the highest own entry that may match: every later one has too high a term.
    """

    index: Natural
    sent_us: int
    rejected: bool = False
    hint_index: Natural = 0
    hint_term: Natural = 0


class Heartbeat(Message, frozen=True, tag=7, gc=False):
    """`commit` <= what the receiver is known to match; `context` numbers the read-index round it confirms."""

    commit: Natural
    sent_us: int
    context: Natural
    quiesce: bool = False
    """The group falls asleep: a receiver that holds and committed everything stops its election timer."""


class HeartbeatResponse(Message, frozen=True, tag=8, gc=False):
    """Echoes the heartbeat."""

    sent_us: int
    context: Natural


class SnapshotMessage(Message, frozen=True, tag=9, gc=False):
    """A snapshot of everything up to (`index`, `index_term`) has arrived out of band; `config` is in force there."""

    index: Natural
    index_term: Natural
    config: Config


class TimeoutNow(Message, frozen=True, tag=10, gc=False):
    """Start an election at once. `payload` is the driver's (rule L4: what the old leader hands over), not read here."""

    payload: bytes = b""


AnyMessage = (
    PreVote
    | PreVoteResponse
    | Vote
    | VoteResponse
    | Append
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | SnapshotMessage
    | TimeoutNow
)
"""The union to name in other structs that carry messages."""

_ENCODER = msgspec.msgpack.Encoder()
_CONFIG_DECODER = msgspec.msgpack.Decoder(Config)
_MESSAGE_DECODER: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode_message(message: Message) -> bytes:
    """A message's bytes."""
    return _ENCODER.encode(message)


def decode_message(data: bytes) -> AnyMessage:
    """The message in a peer's bytes; raises `ProtocolError` when they hold none."""
    try:
        return _MESSAGE_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a Raft message: {error}") from error


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """Install the received snapshot that ends at (`index`, `term`) and reset the log to it (rule P4)."""

    index: int
    term: int
    config: Config


class ReadState(msgspec.Struct, frozen=True, gc=False):
    """A read registered as `context` may be served once `index` is applied. Index 0: leadership was lost, ask anew."""

    context: bytes
    index: int


class SoftState(msgspec.Struct, frozen=True, gc=False):
    """The volatile state a driver cares for."""

    term: int
    role: Role
    leader: ReplicaId


class Ready(msgspec.Struct):
    """What the driver must do, in the order of the fields. One is outstanding at a time; `advance(number)` ends it."""

    number: int
    hard_state: HardState | None
    """1. persist (present whenever `must_persist`, so each flush carries the commit index)"""
    entries: Sequence[Entry]
    """1. persist; they are already in the `LogView`, which has replaced a conflicting suffix"""
    snapshot: Snapshot | None
    """1. install, reset the log; then fsync all of the above when `must_persist`"""
    messages: list[Message]
    """2. send, only when 1 is durable"""
    committed: Sequence[Entry]
    """3. apply, in order, each exactly once"""
    read_states: list[ReadState]
    """4. answer reads"""
    soft_state: SoftState | None
    """5. present when it changed since the last Ready"""
    snapshots_wanted: list[ReplicaId]
    """6. send these a snapshot if the machine still `awaits_snapshot`, then call `report_snapshot`"""
    must_persist: bool
    """Whether 1 holds anything."""


class LogView(Protocol):
    """The replica's log as the driver keeps it: readable at once, durable once the Ready is persisted.

    Terms are known for first_index() - 1 <= index <= last_index(); the driver truncates the front, never above what is
    applied.
    """

    def first_index(self) -> int:
        """The lowest index whose entry is held; last_index() + 1 when none is."""

    def last_index(self) -> int:
        """The highest index held, or the truncation point."""

    def term(self, index: int, /) -> int:
        """The term of an entry, or of the truncation point."""

    def entries(self, lo: int, hi: int, bytes_max: int, /) -> Sequence[Entry]:
        """The entries lo <= index < hi, as many as fit in `bytes_max` of data, but at least one."""

    def append(self, entries: Sequence[Entry], /) -> None:
        """Put entries at their indexes; whatever was there and beyond goes. The sequence itself is not kept."""


CANARIES = frozenset(
    {
        "vote-forgotten",
        "ack-before-persist",
        "ack-before-replication",
        "append-unchecked",
        "commit-old-term-by-counting",
        "stale-lease",
    }
)
"""Bugs that a test build can switch on, to prove that the tests would find them."""


class Options(msgspec.Struct, frozen=True):
    """One replica's settings. The election minimum is one for the whole cluster (rule L3)."""

    replica: ReplicaId
    heartbeat_us: int = limits.HEARTBEAT_US
    election_min_us: int = limits.ELECTION_MIN_US
    election_max_us: int = limits.ELECTION_MAX_US
    lease_drift_percent: int = limits.LEASE_DRIFT_PERCENT
    commit_notice_us: int = limits.COMMIT_NOTICE_US
    append_bytes_max: int = limits.APPEND_BYTES_MAX
    apply_bytes_max: int = limits.APPLY_BYTES_MAX
    inflight_appends_max: int = limits.INFLIGHT_APPENDS_MAX
    inflight_bytes_max: int = limits.INFLIGHT_BYTES_MAX
    uncommitted_bytes_max: int = limits.UNCOMMITTED_BYTES_MAX
    canaries: frozenset[str] = frozenset()


class PeerStatus(msgspec.Struct, frozen=True, gc=False):
    """What a leader knows of one peer."""

    replica: ReplicaId
    match: int
    next: int
    state: str
    inflight_count: int


class Status(msgspec.Struct, frozen=True):
    """A replica's state for people and tests."""

    replica: ReplicaId
    term: int
    vote: ReplicaId
    role: Role
    leader: ReplicaId
    first_index: int
    last_index: int
    stable: int
    commit: int
    applied: int
    config: Config
    quiesced: bool
    lease_until_us: int
    uncommitted_bytes: int
    malformed_count: int
    peers: tuple[PeerStatus, ...]
