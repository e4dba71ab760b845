"""The replicated state of a range: what every replica computes alike from its log.

Applying is deterministic: the same entries give the same engine bytes on every replica, whatever the node, the time
and the batch boundaries. Effects and the applied index go into one engine batch, so recovery replays from
the applied index.

Invariants (checked by `validate`):
1. `max_applied_ts` >= every version written here (rule T4).
2. A command of another term or generation changes nothing (rule C1).
3. An attempt has at most one outcome; a decision applies only while its prepare record exists (rule M5).
4. A prepare record's writes lie inside the descriptor.

It does not know locks, leases or time. Driven by `txndb.ranges.replica`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from txndb.errors import InternalError
from txndb.ids import AttemptId, RangeId, ReplicaId, Timestamp, attempt_start
from txndb.ranges import keys
from txndb.ranges.api import ABORTED, COMMITTED, TxnMeta, Write
from txndb.ranges.command import (
    AbortCommand,
    Command,
    DecideCommand,
    ForgetCommand,
    GcCommand,
    OnePhaseCommand,
    OutcomeGcCommand,
    PrepareCommand,
    ResolveCommand,
    SplitCommand,
    decode_command,
)
from txndb.ranges.descriptor import RangeDescriptor
from txndb.storage import mvcc
from txndb.storage.engine import Engine, WriteBatch

RAFT_INITIAL_INDEX = 10
"""A new range's log begins after this index, so that a fresh replica always needs a snapshot."""
RAFT_INITIAL_TERM = 5


class OutcomeRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A decided attempt, in its anchor's range; participants remain until every one has resolved (rule M5)."""

    status: int
    at: Timestamp
    participants: list[bytes]


class PrepareRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A participant's undecided writes: not visible, exclusive locks for whoever leads (rule L1)."""

    txn: TxnMeta
    bound: Timestamp
    anchor: bytes
    writes: list[Write]


class Prepared:
    """An attempt's prepare record in memory: the parts it was prepared in, each a record of its own in the engine."""

    __slots__ = ("anchor", "bound", "next_part", "parts", "txn")

    def __init__(self, record: PrepareRecord) -> None:
        self.txn = record.txn
        self.bound = record.bound
        """Of the first part: readers at or above it wait (M3)."""
        self.anchor = record.anchor
        self.parts: dict[int, list[Write]] = {}
        self.next_part = 0

    @property
    def writes(self) -> list[Write]:
        """All writes, by key."""
        return sorted((w for part in self.parts.values() for w in part), key=_key_of)

    def missing(self, writes: list[Write]) -> list[Write]:
        """Those of `writes` (sorted, as every part is) that are not prepared: after a split, parts are cut elsewhere
        than before, so one may be prepared in half (R5)."""
        first, last = writes[0][0], writes[-1][0]
        held = {
            write[0]
            for part in self.parts.values()
            if part[0][0] <= last and first <= part[-1][0]
            for write in part
        }
        return [write for write in writes if write[0] not in held] if held else writes

    def add(self, number: int, writes: list[Write]) -> None:
        """Take a part in."""
        self.parts[number] = writes
        self.next_part = max(self.next_part, number + 1)

    def first_key(self) -> bytes:
        """The lowest key not resolved yet."""
        return min(write[0] for part in self.parts.values() for write in part)

    def lowest_part(self) -> int:
        """The part that holds `first_key`."""
        return min(self.parts, key=lambda number: min(write[0] for write in self.parts[number]))

    def record(self, writes: list[Write]) -> PrepareRecord:
        """The engine's record of one part."""
        return PrepareRecord(self.txn, self.bound, self.anchor, writes)


def _key_of(write: Write) -> bytes:
    return write[0]


class DecisionRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A decision whose participants have not all resolved; kept beside its outcome until `Forget` (rule M5)."""

    attempt: AttemptId
    anchor: bytes
    at: Timestamp
    participants: list[bytes]


class Applied(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The hot part of a range's state, in every engine batch."""

    index: int
    term: int
    max_applied_ts: Timestamp


class Settings(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The cold part: the descriptor and the two thresholds."""

    descriptor: RangeDescriptor
    outcome_gc_ts: Timestamp
    gc_threshold: Timestamp


class Verdict(enum.IntEnum):
    """What became of a command."""

    APPLIED = 0
    OTHER_TERM = 1
    OTHER_GENERATION = 2
    OUTCOME_EXISTS = 3
    TOO_OLD = 4
    NO_RECORD = 5


class Effect(msgspec.Struct, frozen=True, gc=False):
    """The result of one applied entry, for the leaseholder that proposed it."""

    index: int
    term: int
    command: Command | None
    verdict: Verdict
    outcome: OutcomeRecord | None = None
    right: RangeDescriptor | None = None
    resume: bytes = b""
    """Where a piece of GC stopped; nothing is left where it is empty."""
    resume_after: bytes = b""
    """Of outcomes: the last attempt looked at, of those anchored at `resume`."""


class LogRecord(Protocol):
    """A committed entry as this package sees it."""

    @property
    def index(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def data(self) -> bytes: ...


_encode = msgspec.msgpack.Encoder().encode
_decode_outcome = msgspec.msgpack.Decoder(OutcomeRecord).decode
_decode_prepare = msgspec.msgpack.Decoder(PrepareRecord).decode
_decode_decision = msgspec.msgpack.Decoder(DecisionRecord).decode
_decode_applied = msgspec.msgpack.Decoder(Applied).decode
_decode_settings = msgspec.msgpack.Decoder(Settings).decode


class RangeState:
    """One replica's applied state, with its prepare and unfinished decision records in memory."""

    def __init__(
        self,
        engine: Engine,
        replica_id: ReplicaId,
        settings: Settings,
        applied: Applied,
        canaries: frozenset[str],
    ) -> None:
        self.engine = engine
        self.replica_id = replica_id
        self.descriptor = settings.descriptor
        self.range_id = settings.descriptor.range_id
        self.outcome_gc_ts = settings.outcome_gc_ts
        self.gc_threshold = settings.gc_threshold
        self.applied_index = applied.index
        self.applied_term = applied.term
        self.max_applied_ts = applied.max_applied_ts
        self.prepares: dict[bytes, Prepared] = {}
        self.bytes_written = 0
        """Bytes applied since the size was last looked at (for splits by size)."""
        self._canaries = canaries
        self._fresh_outcomes: dict[bytes, OutcomeRecord] = {}
        """By key, outcomes in the batch that is being built; the engine does not show them yet."""
        prefix = keys.prepare_prefix(self.range_id)
        for key, value in engine.iterate(prefix, keys.prefix_end(prefix)):
            record = _decode_prepare(value)
            prepared = self.prepares.setdefault(record.txn.attempt, Prepared(record))
            prepared.add(keys.decode_prepare_part(key), record.writes)
        self.decisions: dict[bytes, DecisionRecord] = {}
        prefix = keys.decision_prefix(self.range_id)
        for _, value in engine.iterate(prefix, keys.prefix_end(prefix)):
            decision = _decode_decision(value)
            self.decisions[decision.attempt] = decision
        self._handlers = {
            OnePhaseCommand: self._on_one_phase,
            PrepareCommand: self._on_prepare,
            DecideCommand: self._on_decide,
            AbortCommand: self._on_abort,
            ResolveCommand: self._on_resolve,
            ForgetCommand: self._on_forget,
            SplitCommand: self._on_split,
            GcCommand: self._on_gc,
            OutcomeGcCommand: self._on_outcome_gc,
        }

    @classmethod
    def load(
        cls, engine: Engine, range_id: RangeId, canaries: frozenset[str] = frozenset()
    ) -> RangeState | None:
        """Read a range's state; None where this store holds no initialised replica of it."""
        settings = engine.get(keys.settings_key(range_id))
        applied = engine.get(keys.applied_key(range_id))
        replica = engine.get(keys.replica_key(range_id))
        if settings is None or applied is None or replica is None:
            return None
        return cls(
            engine,
            ReplicaId(int.from_bytes(replica, "big")),
            _decode_settings(settings),
            _decode_applied(applied),
            canaries,
        )

    # -- applying ------------------------------------------------------------------------------------------

    def apply(
        self, entries: Sequence[LogRecord], config_kind: int, decode_voters: VotersDecoder
    ) -> list[Effect]:
        """Apply committed entries in order in one engine batch; the effects in the same order."""
        batch = WriteBatch()
        effects: list[Effect] = []
        for entry in entries:
            if entry.index != self.applied_index + 1:
                raise InternalError(
                    f"range {self.range_id}: applied {self.applied_index}, next entry {entry.index}"
                )
            self.applied_index, self.applied_term = entry.index, entry.term
            if entry.kind == config_kind:
                self._set_replicas(batch, decode_voters(entry.data))
                effects.append(Effect(entry.index, entry.term, None, Verdict.APPLIED))
            elif not entry.data:
                effects.append(Effect(entry.index, entry.term, None, Verdict.APPLIED))
            else:
                command = decode_command(entry.data)
                if isinstance(command, GcCommand | OutcomeGcCommand) and batch.ops:
                    # These read what earlier entries wrote: with one batch boundary for all replicas, they read alike.
                    self._write_out(batch, entry.index - 1)
                    batch = WriteBatch()
                effects.append(self._apply_command(batch, entry, command))
                if isinstance(command, OutcomeGcCommand):  # what it collects is not there for the next entry
                    self._write_out(batch, entry.index)
                    batch = WriteBatch()
        self._write_out(batch, self.applied_index)
        return effects

    def _write_out(self, batch: WriteBatch, index: int) -> None:
        applied = Applied(index, self.applied_term, self.max_applied_ts)
        batch.put(keys.applied_key(self.range_id), _encode(applied))
        self.engine.write(batch)
        self.bytes_written += batch.bytes
        self._fresh_outcomes.clear()

    def _apply_command(self, batch: WriteBatch, entry: LogRecord, command: Command) -> Effect:
        if command.term != entry.term and "C1" not in self._canaries:
            return Effect(entry.index, entry.term, command, Verdict.OTHER_TERM)
        if command.generation != self.descriptor.generation and "C1" not in self._canaries:
            return Effect(entry.index, entry.term, command, Verdict.OTHER_GENERATION)
        handler = self._handlers[type(command)]
        return handler(batch, entry, command)  # type: ignore[operator,no-any-return]

    def _put_settings(self, batch: WriteBatch) -> None:
        settings = Settings(self.descriptor, self.outcome_gc_ts, self.gc_threshold)
        batch.put(keys.settings_key(self.range_id), _encode(settings))

    def _set_replicas(self, batch: WriteBatch, voters: tuple[ReplicaId, ...]) -> None:
        old = self.descriptor
        if old.replicas == voters:
            return
        sequence = max(old.next_sequence, *(1 + keys.sequence_of(v) for v in voters))
        self.descriptor = msgspec.structs.replace(
            old, replicas=voters, generation=old.generation + 1, next_sequence=sequence
        )
        self._put_settings(batch)

    def _write_versions(self, batch: WriteBatch, writes: list[Write], at: Timestamp) -> None:
        start, end = self.descriptor.start, self.descriptor.end
        for key, value in writes:
            # C1 keeps such a command away; what came through would never be seen again.
            if not start <= key < end:
                raise InternalError(f"range {self.range_id}: a write of {key.hex()} beyond its borders")
            if value is None:
                mvcc.delete(batch, key, at)
            else:
                mvcc.put(batch, key, at, value)
        if at > self.max_applied_ts:
            self.max_applied_ts = at  # T4

    # -- outcomes ------------------------------------------------------------------------------------------

    def outcome(self, attempt: AttemptId, anchor: bytes) -> OutcomeRecord | None:
        """The recorded outcome of an attempt anchored here."""
        key = keys.outcome_key(anchor, attempt)
        fresh = self._fresh_outcomes.get(key)
        if fresh is not None:
            return fresh
        value = self.engine.get(key)
        return None if value is None else _decode_outcome(value)

    def too_old(self, attempt: AttemptId) -> bool:
        """Whether an absent outcome of this attempt means nothing any more (rule M6)."""
        return attempt_start(attempt) < self.outcome_gc_ts

    def _put_outcome(
        self, batch: WriteBatch, attempt: AttemptId, anchor: bytes, record: OutcomeRecord
    ) -> None:
        key = keys.outcome_key(anchor, attempt)
        batch.put(key, _encode(record))
        self._fresh_outcomes[key] = record

    def _drop_prepare(self, batch: WriteBatch, attempt: AttemptId) -> Prepared | None:
        prepared = self.prepares.pop(attempt, None)
        if prepared is not None:
            for number in prepared.parts:
                batch.delete(keys.prepare_key(self.range_id, attempt, number))
        return prepared

    def _put_part(self, batch: WriteBatch, range_id: RangeId, prepared: Prepared, number: int) -> None:
        record = prepared.record(prepared.parts[number])
        batch.put(keys.prepare_key(range_id, prepared.txn.attempt, number), _encode(record))

    def _recorded(self, attempt: AttemptId, anchor: bytes) -> OutcomeRecord | None:
        """The outcome that a command finds (C1, C2)."""
        return self.outcome(attempt, anchor) if "C2" not in self._canaries else None

    # -- handlers, one per command -------------------------------------------------------------------------

    def _on_one_phase(self, batch: WriteBatch, entry: LogRecord, command: OnePhaseCommand) -> Effect:
        existing = self._recorded(command.attempt, command.anchor)
        if existing is not None:
            return Effect(entry.index, entry.term, command, Verdict.OUTCOME_EXISTS, existing)
        if self.too_old(command.attempt):
            return Effect(entry.index, entry.term, command, Verdict.TOO_OLD)
        self._write_versions(batch, command.writes, command.at)
        record = OutcomeRecord(COMMITTED, command.at, [])
        self._put_outcome(batch, command.attempt, command.anchor, record)
        return Effect(entry.index, entry.term, command, Verdict.APPLIED, record)

    def _on_prepare(self, batch: WriteBatch, entry: LogRecord, command: PrepareCommand) -> Effect:
        attempt = command.txn.attempt
        if self.descriptor.contains(command.anchor):
            existing = self._recorded(attempt, command.anchor)
            if existing is not None:
                return Effect(entry.index, entry.term, command, Verdict.OUTCOME_EXISTS, existing)
        if self.too_old(attempt):
            return Effect(entry.index, entry.term, command, Verdict.TOO_OLD)
        prepared = self.prepares.get(attempt)
        if prepared is None:
            record = PrepareRecord(command.txn, command.bound, command.anchor, command.writes)
            prepared = self.prepares[attempt] = Prepared(record)
        missing = prepared.missing(command.writes)
        if missing:
            number = prepared.next_part
            prepared.add(number, missing)
            self._put_part(batch, self.range_id, prepared, number)
        return Effect(entry.index, entry.term, command, Verdict.APPLIED)

    def _on_decide(self, batch: WriteBatch, entry: LogRecord, command: DecideCommand) -> Effect:
        existing = self._recorded(command.attempt, command.anchor)
        if existing is not None:
            return Effect(entry.index, entry.term, command, Verdict.OUTCOME_EXISTS, existing)
        if command.attempt not in self.prepares:
            return Effect(entry.index, entry.term, command, Verdict.NO_RECORD)  # M5
        record = OutcomeRecord(COMMITTED, command.at, command.participants)
        self._put_outcome(batch, command.attempt, command.anchor, record)
        decision = DecisionRecord(command.attempt, command.anchor, command.at, command.participants)
        self.decisions[command.attempt] = decision
        batch.put(keys.decision_key(self.range_id, command.attempt), _encode(decision))
        if len(self.prepares[command.attempt].parts) == 1:  # more of them are resolved one by one
            prepared = self._drop_prepare(batch, command.attempt)
            if prepared is not None:
                self._write_versions(batch, prepared.writes, command.at)
        return Effect(entry.index, entry.term, command, Verdict.APPLIED, record)

    def _on_abort(self, batch: WriteBatch, entry: LogRecord, command: AbortCommand) -> Effect:
        existing = self._recorded(command.attempt, command.anchor)
        if existing is not None:
            return Effect(entry.index, entry.term, command, Verdict.OUTCOME_EXISTS, existing)
        if self.too_old(command.attempt) and command.attempt not in self.prepares:
            return Effect(entry.index, entry.term, command, Verdict.TOO_OLD)
        # M6: what is still prepared at its anchor was not decided, however old, and never is without its record.
        record = OutcomeRecord(ABORTED, Timestamp(0), [])
        self._put_outcome(batch, command.attempt, command.anchor, record)
        self._drop_prepare(batch, command.attempt)
        return Effect(entry.index, entry.term, command, Verdict.APPLIED, record)

    def _on_resolve(self, batch: WriteBatch, entry: LogRecord, command: ResolveCommand) -> Effect:
        """Resolve the lowest part; `resume` says where the next one begins."""
        prepared = self.prepares.get(command.attempt)
        if prepared is None:
            return Effect(entry.index, entry.term, command, Verdict.APPLIED)
        number = prepared.lowest_part()
        writes = prepared.parts.pop(number)
        batch.delete(keys.prepare_key(self.range_id, command.attempt, number))
        if command.at:
            self._write_versions(batch, writes, command.at)
        resume = b""
        if prepared.parts:
            resume = prepared.first_key()
        else:
            del self.prepares[command.attempt]
        return Effect(entry.index, entry.term, command, Verdict.APPLIED, resume=resume)

    def _on_forget(self, batch: WriteBatch, entry: LogRecord, command: ForgetCommand) -> Effect:
        existing = self._recorded(command.attempt, command.anchor)
        if existing is not None and existing.participants:
            settled = OutcomeRecord(existing.status, existing.at, [])
            self._put_outcome(batch, command.attempt, command.anchor, settled)
        if self.decisions.pop(command.attempt, None) is not None:
            batch.delete(keys.decision_key(self.range_id, command.attempt))
        return Effect(entry.index, entry.term, command, Verdict.APPLIED)

    def _on_split(self, batch: WriteBatch, entry: LogRecord, command: SplitCommand) -> Effect:
        left = self.descriptor
        if not left.start < command.cut < left.end:
            return Effect(entry.index, entry.term, command, Verdict.OTHER_GENERATION)
        generation = left.generation + 1
        right = RangeDescriptor(
            command.right_id, command.cut, left.end, command.right_replicas, generation, left.next_sequence
        )
        self.descriptor = msgspec.structs.replace(left, end=command.cut, generation=generation)
        self._put_settings(batch)
        for attempt, prepared in list(self.prepares.items()):
            self._divide_prepare(batch, AttemptId(attempt), prepared, command)
        for decision in [d for d in self.decisions.values() if d.anchor >= command.cut]:
            del self.decisions[decision.attempt]
            batch.delete(keys.decision_key(self.range_id, decision.attempt))
            batch.put(keys.decision_key(command.right_id, decision.attempt), _encode(decision))
        mine = next((r for r in right.replicas if keys.same_node(r, self.replica_id)), None)
        if mine is None:
            # Added after the split, from a snapshot of before it: the right half has no replica on this node.
            for start, end in keys.replicated_spans(right):
                batch.delete_range(start, end)
            return Effect(entry.index, entry.term, command, Verdict.APPLIED)
        self._put_right(batch, right, mine)
        return Effect(entry.index, entry.term, command, Verdict.APPLIED, right=right)

    def _put_right(self, batch: WriteBatch, right: RangeDescriptor, mine: ReplicaId) -> None:
        """R1, T4: what the right half begins with, beside its share of the records."""
        settings = Settings(right, self.outcome_gc_ts, self.gc_threshold)
        batch.put(keys.settings_key(right.range_id), _encode(settings))
        max_applied_ts = self.max_applied_ts if "T4" not in self._canaries else Timestamp(0)
        applied = Applied(RAFT_INITIAL_INDEX, RAFT_INITIAL_TERM, max_applied_ts)
        batch.put(keys.applied_key(right.range_id), _encode(applied))
        batch.put(keys.replica_key(right.range_id), mine.to_bytes(8, "big"))

    def _divide_prepare(
        self, batch: WriteBatch, attempt: AttemptId, prepared: Prepared, command: SplitCommand
    ) -> None:
        """Each half keeps the writes of its keys, same b, same anchor (R1); a half without any, no record (R4)."""
        for number, writes in list(prepared.parts.items()):
            right = [w for w in writes if w[0] >= command.cut]
            if not right:
                continue
            record = prepared.record(right)
            batch.put(keys.prepare_key(command.right_id, attempt, number), _encode(record))
            left = [w for w in writes if w[0] < command.cut]
            if left:
                prepared.parts[number] = left
                self._put_part(batch, self.range_id, prepared, number)
            else:
                del prepared.parts[number]
                batch.delete(keys.prepare_key(self.range_id, attempt, number))
        if not prepared.parts:
            del self.prepares[attempt]

    def _on_gc(self, batch: WriteBatch, entry: LogRecord, command: GcCommand) -> Effect:
        if command.threshold > self.gc_threshold:
            self.gc_threshold = command.threshold
            self._put_settings(batch)
        page = mvcc.gc(
            self.engine, batch, command.start, command.end, command.threshold, rows_max=command.rows_max
        )
        return Effect(entry.index, entry.term, command, Verdict.APPLIED, resume=page.resume_key or b"")

    def _on_outcome_gc(self, batch: WriteBatch, entry: LogRecord, command: OutcomeGcCommand) -> Effect:
        if command.before > self.outcome_gc_ts:
            self.outcome_gc_ts = command.before
            self._put_settings(batch)
        resume = after = b""
        for examined, (key, value, anchor, attempt) in enumerate(self._outcomes_from(command), 1):
            if attempt_start(AttemptId(attempt)) < command.before:
                if not _decode_outcome(value).participants:  # M5: an unresolved decision stays
                    batch.delete(key)
            if examined >= command.records_max:
                resume, after = anchor, attempt
                break
        return Effect(entry.index, entry.term, command, Verdict.APPLIED, resume=resume, resume_after=after)

    def _outcomes_from(self, command: OutcomeGcCommand) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
        """(key, value, anchor, attempt) of the outcome records a piece may look at: of those that are too young, one or
        two of each anchor. Attempts are ordered by their start, so what follows there is younger still; a row that is
        written all the time has a million of them."""
        start, end = keys.outcome_span(command.start, command.end)
        if command.after:
            start = keys.outcome_key(command.start, AttemptId(command.after)) + b"\0"
        young = None
        while start:
            seek = b""
            for key, value in self.engine.iterate(start, end):
                anchor, attempt = keys.decode_outcome_key(key)
                yield key, value, anchor, attempt
                if attempt_start(AttemptId(attempt)) < command.before:
                    continue
                if anchor == young:  # the second: to step once is cheaper than to seek, to step on is not
                    seek = keys.outcome_span(anchor + b"\0", command.end)[0]
                    break
                young = anchor
            start = seek

    # -- birth, snapshots ----------------------------------------------------------------------------------

    def spans(self) -> list[tuple[bytes, bytes]]:
        """The engine spans that a snapshot of this range carries, beside the applied state."""
        return keys.replicated_spans(self.descriptor)

    def validate(self) -> None:
        """Raise `InternalError` if an invariant of the module docstring does not hold."""
        for record in self.prepares.values():
            for key, _ in record.writes:
                if not self.descriptor.contains(key):
                    raise InternalError(
                        f"invariant 4: range {self.range_id} has a prepared key outside of it"
                    )
        stored = self.engine.get(keys.applied_key(self.range_id))
        if stored is None or _decode_applied(stored).index != self.applied_index:
            raise InternalError(f"range {self.range_id}: the engine's applied index is not the state's")


class VotersDecoder(Protocol):
    """Reads the voters out of a configuration entry."""

    def __call__(self, data: bytes, /) -> tuple[ReplicaId, ...]: ...


def birth_batch(
    batch: WriteBatch, descriptor: RangeDescriptor, replica_id: ReplicaId, max_applied_ts: Timestamp
) -> None:
    """Add a brand-new range's state to a batch (bootstrap)."""
    batch.put(
        keys.settings_key(descriptor.range_id), _encode(Settings(descriptor, Timestamp(0), Timestamp(0)))
    )
    applied = Applied(RAFT_INITIAL_INDEX, RAFT_INITIAL_TERM, max_applied_ts)
    batch.put(keys.applied_key(descriptor.range_id), _encode(applied))
    batch.put(keys.replica_key(descriptor.range_id), replica_id.to_bytes(8, "big"))


def read_settings(data: bytes) -> Settings:
    """Decode the cold part of a range's state."""
    return _decode_settings(data)


def read_applied(data: bytes) -> Applied:
    """Decode the hot part of a range's state."""
    return _decode_applied(data)
