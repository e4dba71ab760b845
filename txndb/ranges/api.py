"""What gateways ask of a range's leaseholder, and what it answers. These structs travel between nodes.

Every request names the spans and keys it means; a leaseholder whose descriptor does not contain all of them does
nothing and answers `Moved` with the true descriptor (rule R3). Requests are idempotent, so an unanswered one is sent
again: reads by their token, commits because the outcome is looked up first (rule C2).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from txndb.ids import AttemptId, NodeId, RangeId, ReplicaId, Timestamp
from txndb.ranges.descriptor import RangeDescriptor

Span = tuple[bytes, bytes | None]
"""(start, end), or (key, None) for a point."""

Write = tuple[bytes, bytes | None]
"""(key, value), or (key, None) for a deletion."""

COMMITTED, ABORTED, UNKNOWN_TOO_OLD = 1, 2, 3
OUTLIVED: Final = "it lasted longer than outcomes are kept"


class TxnMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who asks: the attempt, its age (kept over retries), and the gateway's incarnation."""

    attempt: AttemptId
    age_ts: Timestamp
    age_id: bytes
    gateway: NodeId
    incarnation: int


# -- requests ----------------------------------------------------------------------------------------------


class Get(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Lock points in `mode` (1 shared, 2 exclusive) and read their newest values."""

    txn: TxnMeta
    token: bytes
    keys: list[bytes]
    mode: int
    want_values: bool = True
    wait_us: int = 0
    """Longest wait for the locks; 0: no bound."""


class Scan(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Lock [start, end) SHARED, read the newest versions; with `mode` 2 also lock the rows chosen EXCLUSIVE."""

    txn: TxnMeta
    token: bytes
    start: bytes
    end: bytes
    mode: int
    limit: int
    reverse: bool
    program: bytes
    wait_us: int = 0


class SnapshotGet(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Read points as of `at`, without locks."""

    at: Timestamp
    keys: list[bytes]


class SnapshotScan(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Read [start, end) as of `at`, without locks."""

    at: Timestamp
    start: bytes
    end: bytes
    limit: int
    reverse: bool
    program: bytes


class OnePhase(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Commit a transaction all of whose locks lie in this range (rule M2). `locks`: everything it read."""

    txn: TxnMeta
    token: bytes
    locks: list[Span]
    writes: list[Write]
    anchor: bytes
    candidate: Timestamp
    not_before: Timestamp
    not_after: Timestamp


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Make this range's writes durable and fix a bound b (rule M3)."""

    txn: TxnMeta
    token: bytes
    locks: list[Span]
    writes: list[Write]
    anchor: bytes
    candidate: Timestamp


class Validate(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """All of `locks` still held under `token`? Then `read_ts` is raised to `at`, the final c (rule M4); 0 only asks
    (rule K4)."""

    txn: TxnMeta
    token: bytes
    locks: list[Span]
    at: Timestamp


class Decide(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Record COMMITTED at c in the anchor's range, with every participant's keys (rule M5)."""

    txn: TxnMeta
    anchor: bytes
    at: Timestamp
    participants: list[bytes]


class Resolve(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Apply (`at` > 0) or drop (`at` == 0) what was prepared on `keys`; answered by `Resolved`."""

    attempt: AttemptId
    at: Timestamp
    keys: list[bytes]


class Recover(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The attempt's outcome; where there is none, ABORTED is recorded first (rule M7)."""

    attempt: AttemptId
    anchor: bytes


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Every participant has resolved: the COMMITTED record may lose its participants (rule M5)."""

    attempt: AttemptId
    anchor: bytes


class Release(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """The attempt ended without commit: drop its unproposed entry. `key` only routes."""

    txn: TxnMeta
    token: bytes
    key: bytes


class SplitAt(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Split the range at `key` into itself and `right_id`; a no-op where a range starts there already."""

    key: bytes
    right_id: Annotated[RangeId, msgspec.Meta(gt=0)]


class Describe(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """The true descriptor of the range that holds `key`, and its size."""

    key: bytes


class TransferLease(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Hand leadership to a node's replica (best effort)."""

    key: bytes
    target: NodeId


class AddReplica(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """Add a voter on a node (one at a time)."""

    key: bytes
    node: NodeId


Request = (
    Get
    | Scan
    | SnapshotGet
    | SnapshotScan
    | OnePhase
    | Prepare
    | Validate
    | Decide
    | Resolve
    | Recover
    | Forget
    | Release
    | SplitAt
    | Describe
    | TransferLease
    | AddReplica
)


# -- answers -----------------------------------------------------------------------------------------------


class Values(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """To `Get` and `SnapshotGet`: values in the order of the keys, and the newest version seen (rule T5)."""

    token: bytes
    values: list[bytes | None]
    newest: Timestamp


class Rows(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """To `Scan` and `SnapshotScan`: a page. `resume`: where the next one starts (ends, in reverse), b"" = no more."""

    token: bytes
    rows: list[tuple[bytes, bytes]]
    newest: Timestamp
    resume: bytes


class Ok(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Done."""


class Prepared(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """To `Prepare`: the bound b."""

    bound: Timestamp


class Outcome(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """To `OnePhase`, `Decide` and `Recover`: what is recorded. `start`/`end`: where a decision resolved at once."""

    status: int
    at: Timestamp
    participants: list[bytes]
    start: bytes = b""
    end: bytes = b""


class Resolved(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """To `Resolve`: the interval it was applied to (rule R3)."""

    start: bytes
    end: bytes


class Wounded(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The token is unknown: the attempt lost (rule K1). `reason`, `key` and `winner`, the attempt it lost to, are for
    the user's retry error."""

    reason: str
    key: bytes = b""
    winner: bytes = b""


class Moved(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The descriptor does not contain what was asked; certainly nothing was done (rules R3, R5)."""

    descriptors: list[RangeDescriptor]


class NotLeaseholder(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Ask `leader` (0: unknown). With `unknown`, what was proposed for the request may yet commit (rule C2)."""

    range_id: RangeId
    leader: ReplicaId
    unknown: bool = False
    descriptor: RangeDescriptor | None = None
    """As the answering replica knows it: the asker may know older replicas only."""


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """An error of the request itself, by SQLSTATE."""

    sqlstate: str
    message: str
    detail: str = ""


TOO_LARGE = "54000"
TOO_LARGE_DETAIL = "answer too large"
"""The detail of the refusal that stands for an answer of more than a frame: the request may be asked in parts."""


class Waiting(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """The request was received before and is parked; keep waiting."""


class Description(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """To `Describe`: the descriptor, the leaseholder's replica and a rough size."""

    descriptor: RangeDescriptor
    leaseholder: ReplicaId
    bytes: int


Response = (
    Values
    | Rows
    | Ok
    | Prepared
    | Outcome
    | Resolved
    | Wounded
    | Moved
    | NotLeaseholder
    | Refused
    | Waiting
    | Description
)
