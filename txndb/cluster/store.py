"""All replicas of one node: the flush loop that persists, sends and applies, snapshots, compaction, births.

The loop. Whatever a turn of the event loop brought – proposals, messages, ticks – marks replicas. `_pump` takes one
`Ready` of each marked replica; those with something to persist go into one flush of the shared Raft log, in a worker,
while the next turn collects the next flush (group commit). When the flush is durable their messages are sent and their
committed entries applied (rule P1). One Ready a replica is outstanding at a time, so the order of a range never breaks.

Invariants:
1. Nothing of a Ready is sent or applied before it is durable (P1).
2. A replica's creation is synced in the engine before any log record or message presumes it (P5).
3. A log is truncated only below an index that is durable in the engine: applied read first, then synced, then cut (P3).

It knows ranges, not routing; `txndb.cluster.node` owns it and gives it the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

from txndb.clock import Clock
from txndb.cluster.body import Body
from txndb.cluster.messages import RaftEnvelope
from txndb.cluster.options import RaftOptions
from txndb.errors import CorruptionError, InternalError, StoreError, TxndbError
from txndb.ids import NodeId, RangeId, ReplicaId
from txndb.raft.core import Raft
from txndb.raft.types import (
    CANARIES,
    AnyMessage,
    Config,
    HardState,
    LogView,
    Options,
    Ready,
    Role,
    SnapshotMessage,
)
from txndb.ranges import api, keys
from txndb.ranges.descriptor import RangeDescriptor, node_of
from txndb.ranges.leaseholder import Handle, Handover
from txndb.ranges.locks import LockEntry
from txndb.ranges.replica import Replica
from txndb.ranges.state import RAFT_INITIAL_INDEX, RAFT_INITIAL_TERM, Effect, RangeState
from txndb.storage.engine import Engine, WriteBatch
from txndb.storage.raftlog import RaftLog

WAKE_MIN_US = 50


class StoreHost(Protocol):
    """What a store needs of its node."""

    def send(self, to: NodeId, item: Any) -> None:
        """Queue an item for a peer."""

    def answer_remote(self, handle: Handle, response: api.Response) -> None:
        """Answer a peer's request."""

    def wound_notice(self, entry: LockEntry, why: api.Wounded) -> None:
        """Tell an entry's gateway that it lost."""

    def on_serving(self, replica: Replica) -> None:
        """A replica became a serving leaseholder."""

    def on_descriptor(self, descriptor: RangeDescriptor) -> None:
        """A range's descriptor changed here."""

    def on_collected(self, replica: Replica, effect: Effect) -> None:
        """A piece of garbage collection applied, and there is more."""

    def start_snapshot(self, replica: Replica, to: ReplicaId) -> None:
        """A follower needs a snapshot."""

    def spawn(self, work: Any, name: str) -> Any:
        """Run a coroutine as a task the node owns."""


class Slot:
    """A replica with what the flush loop keeps beside it."""

    __slots__ = (
        "idle",
        "incoming",
        "installing",
        "log",
        "marked",
        "outstanding",
        "replica",
        "timer",
        "timer_due_s",
    )

    def __init__(self, replica: Replica, log: Any) -> None:
        self.replica = replica
        self.log = log
        self.marked = False
        self.outstanding: Ready | None = None
        self.incoming: IncomingSnapshot | None = None
        """A received snapshot, until Raft accepts or refuses it."""
        self.timer: asyncio.Handle | None = None
        self.timer_due_s = 0.0
        """When `timer` is due; uvloop's handle of a timer that is due at once does not know."""
        self.installing: RangeDescriptor | None = None
        """Of a snapshot that is in the engine, or about to be, and that `replica.state` does not show yet."""
        self.idle: asyncio.Future[None] | None = None
        """Who waits for the outstanding Ready to end."""


def _overlap(one: RangeDescriptor, other: RangeDescriptor) -> bool:
    return one.start < other.end and other.start < one.end


class IncomingSnapshot:
    """A snapshot that arrived out of band: the range's pairs as one engine batch."""

    __slots__ = ("applied", "config", "descriptor", "pairs", "settings")

    def __init__(
        self,
        descriptor: RangeDescriptor,
        settings: bytes,
        applied: bytes,
        config: Config,
        pairs: list[tuple[bytes, bytes]],
    ) -> None:
        self.descriptor = descriptor
        self.settings = settings
        self.applied = applied
        self.config = config
        self.pairs = pairs


class Store:
    """The replicas of one node over one engine and one Raft log."""

    def __init__(
        self,
        body: Body,
        host: StoreHost,
        engine: Engine,
        log: RaftLog,
        clock: Clock,
        node: NodeId,
        compile_program: Callable[[bytes], Callable[[bytes], bool]],
        canaries: frozenset[str] = frozenset(),
        raft_options: RaftOptions = RaftOptions(),
        new_replica: Callable[..., Replica] = Replica,
    ) -> None:
        self.body = body
        self.engine = engine
        self.log = log
        log.on_read_failure = body.fatal
        self.clock = clock
        self.node = node
        self.slots: dict[RangeId, Slot] = {}
        self._host = host
        self._compile = compile_program
        self._canaries = canaries
        self._raft_options = raft_options
        self._new_replica = new_replica
        self._loop = asyncio.get_running_loop()
        self._marked: list[Slot] = []
        self._to_persist: list[tuple[Slot, Ready]] = []
        self._pump_due = False
        self._flushing = False
        self._attesting = False
        self._flush_waiters: list[asyncio.Future[None]] = []
        self._births: dict[RangeId, RangeDescriptor] = {}
        """Right halves whose state is in the engine, not yet synced."""
        self._closed = False
        self._has_room = True
        """As last looked at by `look_at_disk`."""
        self.flush_count = 0
        self.applied_count = 0

    # -- opening -------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Create the replicas this store holds; the log and the engine agree already (rules P3–P5)."""
        start, end = keys.range_ids_span()
        found: dict[RangeId, None] = {}
        for key, _ in self.engine.iterate(start, end):
            range_id, name = keys.decode_range_id(key)
            if name == b"s":
                found[range_id] = None
        for range_id in found:
            state = RangeState.load(self.engine, range_id, self._canaries)
            if state is None:
                raise CorruptionError(f"the engine holds only part of range {range_id}'s state")
            self._open_replica(range_id, state.replica_id, state)
        for known_range, known_replica in self.log.replicas():
            if known_range not in self.slots:
                self._open_replica(RangeId(known_range), ReplicaId(known_replica), None)

    def _open_replica(self, range_id: RangeId, replica_id: ReplicaId, state: RangeState | None) -> Slot:
        log = self.log.replica(range_id, replica_id)
        newborn = log.hard_state()[0] == 0  # it never answered anyone: no promise to keep (L3)
        if state is not None and not log.truncation_known:
            known_term, known_vote, known_commit = log.hard_state()
            log.reset(RAFT_INITIAL_INDEX, RAFT_INITIAL_TERM)
            term = max(known_term, RAFT_INITIAL_TERM)
            log.set_hard_state(term, known_vote, max(known_commit, RAFT_INITIAL_INDEX))
        term, vote, commit = log.hard_state()
        config = Config(tuple(sorted(state.descriptor.replicas))) if state is not None else Config()
        applied = state.applied_index if state is not None else 0
        raft = Raft(
            Options(
                replica_id,
                heartbeat_us=self._raft_options.heartbeat_us,
                election_min_us=self._raft_options.election_min_us,
                election_max_us=self._raft_options.election_max_us,
                append_bytes_max=self._raft_options.append_bytes_max,
                canaries=self._canaries & CANARIES,
            ),
            cast(LogView, log),  # the log's entries are field-identical to Raft's
            HardState(term, ReplicaId(vote), commit),
            config,
            applied,
            self.clock.source.monotonic_us(),
            self.body.rand.randrange,
            newborn=newborn,
        )
        replica = self._new_replica(
            self, range_id, replica_id, raft, state, self.clock, self._compile, self._canaries
        )
        slot = Slot(replica, log)
        self.slots[range_id] = slot
        if raft.has_ready():
            self.mark(replica)
        return slot

    # -- requests ------------------------------------------------------------------------------------------

    def handle(self, range_id: RangeId, request: api.Request, handle: Handle) -> api.Response | None:
        """Answer a request now, or return None: an answer to `handle` follows."""
        slot = self.slots.get(range_id)
        if slot is None or slot.replica.state is None:
            return api.NotLeaseholder(range_id, ReplicaId(0))
        return slot.replica.handle(request, handle)

    def on_raft(self, envelope: RaftEnvelope) -> None:
        """A Raft message from a peer."""
        slot = self.slots.get(envelope.range_id)
        message: AnyMessage = envelope.message
        if slot is None:
            if envelope.range_id in self._births or not self._may_create(envelope):
                return
            slot = self._open_replica(envelope.range_id, message.to, None)
        if message.to != slot.replica.replica_id or isinstance(message, SnapshotMessage):
            return  # snapshots are stepped by `on_snapshot`, when their data has arrived
        slot.replica.step(message)

    def _may_create(self, envelope: RaftEnvelope) -> bool:
        """P5: a message may create a replica that keeps its vote, unless a tombstone covers its id."""
        if node_of(envelope.message.to) != self.node:
            return False
        return self.log.tombstone_of(envelope.range_id) < envelope.message.to

    # -- what replicas need (`ReplicaHost`) ----------------------------------------------------------------

    def answer(self, handle: Handle, response: api.Response) -> None:
        if isinstance(handle, asyncio.Future):
            if not handle.done():
                handle.set_result(response)
        elif handle is not None:
            self._host.answer_remote(handle, response)

    def wound_notice(self, entry: LockEntry, why: api.Wounded) -> None:
        self._host.wound_notice(entry, why)

    def wake_in(self, replica: Replica, delay_us: int) -> None:
        """One timer a replica: the earliest that was asked for; what is due later is asked for again then."""
        slot = self.slots.get(replica.range_id)
        if slot is None or slot.replica is not replica:
            return
        due_s = self._loop.time() + max(delay_us, WAKE_MIN_US) / 1e6
        if slot.timer is not None:
            if slot.timer_due_s <= due_s:
                return
            slot.timer.cancel()
        slot.timer_due_s = due_s
        slot.timer = self._loop.call_at(due_s, self._wake, slot)

    def _wake(self, slot: Slot) -> None:
        slot.timer = None
        if not self._closed:
            slot.replica.on_time()

    def mark(self, replica: Replica) -> None:
        slot = self.slots.get(replica.range_id)
        if slot is None or slot.marked or slot.replica is not replica:
            return
        slot.marked = True
        self._marked.append(slot)
        self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._pump_due and not self._closed:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def on_serving(self, replica: Replica) -> None:
        self._host.on_serving(replica)

    def has_room(self) -> bool:
        return self._has_room

    def on_collected(self, replica: Replica, effect: Effect) -> None:
        self._host.on_collected(replica, effect)

    def on_descriptor(self, replica: Replica) -> None:
        if replica.state is not None:
            self._host.on_descriptor(replica.state.descriptor)

    def on_split(self, replica: Replica, right: RangeDescriptor, handover: Handover | None) -> None:
        """R1, P5: the right half begins once the batch that made it is synced."""
        self._births[right.range_id] = right
        if replica.state is not None:
            self._host.on_descriptor(replica.state.descriptor)
        self._host.on_descriptor(right)
        self._host.spawn(self._birth(right, handover), f"split r{right.range_id}")

    async def _birth(self, right: RangeDescriptor, handover: Handover | None) -> None:
        try:
            if "P5" not in self._canaries:
                await self.body.engine_io.run(self.engine.sync)
        except (OSError, TxndbError) as error:
            self.body.fatal(error)
            return
        old = self.slots.get(right.range_id)
        while old is not None and old.outstanding is not None:
            old.idle = self._loop.create_future()
            await old.idle
        self._births.pop(right.range_id, None)
        if old is not None and old.replica.state is not None:
            raise InternalError(f"range {right.range_id} has state before its split")
        state = RangeState.load(self.engine, right.range_id, self._canaries)
        if state is None:
            raise InternalError(f"the split left no state of range {right.range_id}")
        # A message may have created the replica before its split applied: its vote stays (P5). What it was told since
        # its last flush goes unanswered: its successor does not know of it, and might vote otherwise in the same term.
        if old is not None and old.marked:
            self._marked.remove(old)
        slot = self._open_replica(right.range_id, state.replica_id, state)
        if handover is not None:
            slot.replica.handover = handover
            slot.replica.raft.campaign(self.clock.source.monotonic_us())
            self.mark(slot.replica)
        self._host.on_descriptor(right)

    # -- the flush loop ------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let every replica's timers pass."""
        now_us = self.clock.source.monotonic_us()
        for slot in self.slots.values():
            slot.replica.tick(now_us)

    def _pump(self) -> None:
        self._pump_due = False
        if self._closed:
            return
        while self._marked:
            marked, self._marked = self._marked, []
            for slot in marked:
                slot.marked = False
                if slot.outstanding is None and slot.replica.raft.has_ready():
                    self._take_ready(slot)
        if not self._flushing and (self._to_persist or self._flush_waiters):
            self._start_flush()

    def _take_ready(self, slot: Slot) -> None:
        ready = slot.replica.raft.ready()
        slot.outstanding = ready
        if ready.snapshot is None:
            # The first Ready after it says whether Raft accepted it; if not, it must not stand in the way.
            slot.incoming = None
        if ready.snapshot is not None:
            self._host.spawn(self._install(slot, ready), f"install r{slot.replica.range_id}")
        elif ready.must_persist:
            self._write_hard_state(slot, ready)
            self._to_persist.append((slot, ready))
        else:
            self._finish(slot, ready)

    @staticmethod
    def _write_hard_state(slot: Slot, ready: Ready) -> None:
        hard = ready.hard_state
        if hard is not None:
            slot.log.set_hard_state(hard.term, hard.vote, hard.commit)

    def _start_flush(self, attest: bool = False) -> None:
        batch, self._to_persist = self._to_persist, []
        waiters, self._flush_waiters = self._flush_waiters, []
        pending = self.log.begin_flush(attest=attest)
        if pending is None:
            self._on_durable(batch, waiters)
            return
        self._flushing = True
        self.flush_count += 1
        future = asyncio.ensure_future(self.body.log_io.run(pending.run))
        future.add_done_callback(lambda done: self._on_flushed(done, pending, batch, waiters))

    def _on_flushed(
        self,
        done: asyncio.Future[None],
        pending: Any,
        batch: list[tuple[Slot, Ready]],
        waiters: list[asyncio.Future[None]],
    ) -> None:
        error = None if done.cancelled() else done.exception()
        if self._closed or done.cancelled():
            return  # whoever closes flushes once more, and meets the error himself
        if error is not None:
            self.body.fatal(error)  # P1: a failed write or sync ends the process
            return
        self._flushing = False
        self.log.end_flush(pending)
        self._on_durable(batch, waiters)
        self._pump()

    def _on_durable(self, batch: list[tuple[Slot, Ready]], waiters: list[asyncio.Future[None]]) -> None:
        for slot, ready in batch:
            self._finish(slot, ready)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _finish(self, slot: Slot, ready: Ready) -> None:
        """What follows durability, in order: roles, send, apply."""
        replica = slot.replica
        if ready.soft_state is not None:
            replica.on_soft_state(ready.soft_state)
        if ready.messages:
            range_id = replica.range_id
            send = self._host.send
            for message in ready.messages:
                send(node_of(message.to), RaftEnvelope(range_id, message))  # type: ignore[arg-type]
        if ready.committed:
            try:
                replica.apply(ready.committed)
            except (OSError, StoreError, CorruptionError) as error:
                self.body.fatal(error)  # P1: a step that ended half-way is followed by none
                return
            self.applied_count += len(ready.committed)
        for to in ready.snapshots_wanted:
            if replica.raft.awaits_snapshot(to):  # while this became durable, another may have begun to lead
                self._host.start_snapshot(replica, to)
        slot.outstanding = None
        if slot.idle is not None:
            slot.idle.set_result(None)
            slot.idle = None
        replica.raft.advance(ready.number)
        if replica.leaseholder is not None:
            replica.leaseholder.on_lease()
        if replica.raft.has_ready():
            self.mark(replica)

    async def flush(self) -> None:
        """Return when everything queued in the log so far is durable."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._flush_waiters.append(waiter)
        if not self._flushing:
            self._pump_soon()  # not here: what fails in it is no error of whoever waits
        await waiter

    # -- snapshots -----------------------------------------------------------------------------------------

    def on_snapshot(self, range_id: RangeId, incoming: IncomingSnapshot, message: SnapshotMessage) -> bool:
        """All of a snapshot has arrived: let Raft judge it. False when this store cannot take it."""
        slot = self.slots.get(range_id)
        if range_id in self._births:
            return False
        if slot is None:
            if not self._may_create(RaftEnvelope(range_id, message)):
                return False
            slot = self._open_replica(range_id, message.to, None)
        if slot.replica.replica_id != message.to or slot.incoming is not None:
            return False
        if slot.replica.state is None and self._overlaps(incoming.descriptor):
            return False  # P5: a replica created by a message accepts no snapshot that overlaps another
        if self._overlaps_incoming(slot, incoming.descriptor):
            return False
        slot.incoming = incoming
        slot.replica.step(message)
        if not slot.marked and slot.outstanding is None:
            slot.incoming = None
        return True

    def _overlaps(self, descriptor: RangeDescriptor) -> bool:
        """Whether keys of another range here are among the descriptor's: held, being born, or being installed."""
        claims = list(self._births.values())
        for slot in self.slots.values():
            if slot.replica.state is not None:
                claims.append(slot.replica.state.descriptor)
            if slot.installing is not None:
                claims.append(slot.installing)
        return any(c.range_id != descriptor.range_id and _overlap(c, descriptor) for c in claims)

    def _overlaps_incoming(self, slot: Slot, descriptor: RangeDescriptor) -> bool:
        """Whether another range's snapshot that Raft has not judged yet brings keys of the descriptor's.

        A left half's from before its split, say, and its right half's: whichever came second is sent again.
        """
        return any(
            other is not slot
            and other.incoming is not None
            and _overlap(other.incoming.descriptor, descriptor)
            for other in self.slots.values()
        )

    async def _install(self, slot: Slot, ready: Ready) -> None:
        """Rule P4: intent synced, data synced in one batch, log reset, then onwards."""
        snapshot, incoming = ready.snapshot, slot.incoming
        slot.incoming = None
        if snapshot is None or incoming is None:
            raise InternalError("Raft accepted a snapshot that is not here")
        slot.installing = incoming.descriptor
        try:
            if "P4" not in self._canaries:
                slot.log.snapshot_intent(snapshot.index, snapshot.term)
                await self.flush()
            self.engine.write(self._snapshot_batch(slot.replica, incoming))
            await self.body.engine_io.run(self.engine.sync)
        except (OSError, TxndbError) as error:
            self.body.fatal(error)
            return
        slot.log.reset(snapshot.index, snapshot.term)
        self._write_hard_state(slot, ready)
        await self.flush()
        state = RangeState.load(self.engine, slot.replica.range_id, self._canaries)
        if state is None:
            raise InternalError("an installed snapshot left no state")
        slot.replica.state = state
        slot.installing = None
        self._host.on_descriptor(state.descriptor)
        self._finish(slot, ready)

    def _snapshot_batch(self, replica: Replica, incoming: IncomingSnapshot) -> WriteBatch:
        batch = WriteBatch()
        old = replica.state.descriptor if replica.state is not None else None
        for descriptor in [incoming.descriptor] if old is None else [old, incoming.descriptor]:
            if self._overlaps(descriptor):
                raise InternalError(
                    f"a snapshot of range {replica.range_id} would delete keys of another range"
                )
            for start, end in keys.replicated_spans(descriptor):
                if "snapshot-over" not in self._canaries:
                    batch.delete_range(start, end)
        for key, value in incoming.pairs:
            batch.put(key, value)
        range_id = replica.range_id
        batch.put(keys.settings_key(range_id), incoming.settings)
        batch.put(keys.applied_key(range_id), incoming.applied)
        batch.put(keys.replica_key(range_id), replica.replica_id.to_bytes(8, "big"))
        return batch

    # -- upkeep --------------------------------------------------------------------------------------------

    async def compact(self) -> None:
        """Truncate logs below what is durable in the engine (P3), and write memtables out when they have grown."""
        points = {range_id: self._truncation_point(slot) for range_id, slot in self.slots.items()}
        grown = {range_id: point for range_id, point in points.items() if point is not None}
        if not grown and not self.engine.needs_flush():
            return
        try:
            if "P3" not in self._canaries:
                await self.body.engine_io.run(self.engine.sync)
            if self.engine.needs_flush():
                self.engine.sync()  # the little that came since, with no write between it and the flush (P3)
                self.engine.flush_memtables()
        except (OSError, TxndbError) as error:
            self.body.fatal(error)
            return
        for range_id, (index, term) in grown.items():
            slot = self.slots.get(range_id)
            if slot is not None and slot.log.first_index() <= index:
                slot.log.truncate(index, term)
        await self.flush()

    def _truncation_point(self, slot: Slot) -> tuple[int, int] | None:
        replica = slot.replica
        state = replica.state
        if state is None or slot.installing is not None:
            return None
        index = state.applied_index
        if replica.raft.role is Role.LEADER:
            for peer in replica.raft.status().peers:
                index = min(index, max(peer.match, state.applied_index - self._raft_options.keep_entries))
        if index - slot.log.first_index() < self._raft_options.truncate_entries_min:
            return None
        return index, slot.log.term(index)

    async def look_at_disk(self) -> None:
        """P1: proposals are refused before the reserve is touched; it is set aside again when there is room."""
        try:
            await self.body.log_io.run(self.log.refill_reserve)
            self._has_room = await self.body.log_io.run(self.log.has_room)
        except OSError as error:
            self.body.fatal(error)

    def wake_all(self) -> None:
        """A peer is gone: whoever sleeps must find out whether it led."""
        for slot in self.slots.values():
            slot.replica.wake()

    def attest_when_idle(self) -> None:
        """P6: when the queue has emptied, an empty flush attests the last one."""
        if not self._flushing and not self._to_persist and self.log.needs_attest():
            self._start_flush(attest=True)

    def leaders(self) -> Iterable[Replica]:
        """The replicas that serve as leaseholders here, in order of range id."""
        for range_id in sorted(self.slots):
            replica = self.slots[range_id].replica
            if replica.leaseholder is not None and replica.leaseholder.serving:
                yield replica

    def descriptors(self) -> list[RangeDescriptor]:
        """The descriptors of all initialised replicas here."""
        states = (slot.replica.state for slot in self.slots.values())
        return [state.descriptor for state in states if state is not None]

    def validate(self) -> None:
        """Raise `InternalError` if an invariant does not hold."""
        for slot in self.slots.values():
            if slot.installing is None:
                slot.replica.validate()

    def close(self) -> None:
        """Stop pumping; the owner closes log and engine."""
        self._closed = True
