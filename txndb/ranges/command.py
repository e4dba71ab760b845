"""The replicated commands of a range, as they stand in its Raft log.

Rule C1: every command carries its term and the descriptor generation it was checked under; apply rejects, on every
replica alike, a command of another term or generation. `txndb.ranges.state` applies them.
"""

from __future__ import annotations

import msgspec

from txndb.ids import AttemptId, RangeId, ReplicaId, Timestamp
from txndb.ranges.api import TxnMeta, Write


class OnePhaseCommand(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Writes and outcome of a one-range transaction in one entry (rule M2)."""

    term: int
    generation: int
    attempt: AttemptId
    at: Timestamp
    anchor: bytes
    writes: list[Write]


class PrepareCommand(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A participant's writes, durable but not visible, with the bound b (rule M3)."""

    term: int
    generation: int
    txn: TxnMeta
    bound: Timestamp
    anchor: bytes
    writes: list[Write]


class DecideCommand(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """COMMITTED at c, only while the attempt's prepare record exists here (rule M5); resolves the local part."""

    term: int
    generation: int
    attempt: AttemptId
    at: Timestamp
    anchor: bytes
    participants: list[bytes]


class AbortCommand(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """ABORTED, unless an outcome is recorded already (rule M7)."""

    term: int
    generation: int
    attempt: AttemptId
    anchor: bytes


class ResolveCommand(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Make the attempt's prepared writes visible at `at`, or drop them (`at` == 0)."""

    term: int
    generation: int
    attempt: AttemptId
    at: Timestamp


class ForgetCommand(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Every participant resolved: the outcome keeps its verdict only (rule M5)."""

    term: int
    generation: int
    attempt: AttemptId
    anchor: bytes


class SplitCommand(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """Cut the range at `cut`; the right half becomes range `right_id` (rule R1)."""

    term: int
    generation: int
    cut: bytes
    right_id: RangeId
    right_replicas: tuple[ReplicaId, ...]


class GcCommand(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """Raise the threshold and collect shadowed versions in [start, end), at most `rows_max` of them."""

    term: int
    generation: int
    threshold: Timestamp
    start: bytes
    end: bytes
    rows_max: int


class OutcomeGcCommand(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """Raise `outcome_gc_ts` and drop settled outcomes of older attempts anchored in [start, end) (rule M6).

    One entry looks at `records_max` records at most, whatever their anchors; the next one goes on behind the record of
    the attempt `after` at the anchor `start`.
    """

    term: int
    generation: int
    before: Timestamp
    start: bytes
    end: bytes
    records_max: int
    after: bytes = b""


Command = (
    OnePhaseCommand
    | PrepareCommand
    | DecideCommand
    | AbortCommand
    | ResolveCommand
    | ForgetCommand
    | SplitCommand
    | GcCommand
    | OutcomeGcCommand
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)

encode_command = _encoder.encode


def decode_command(data: bytes) -> Command:
    """The command in a Raft entry; raises `msgspec.DecodeError` for bytes that are none."""
    return _decoder.decode(data)
