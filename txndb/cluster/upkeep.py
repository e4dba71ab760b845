"""A node's background work: ticks, liveness of gateways, recovery, meta index, replication, splits, GC, compaction.

One periodic turn a kind of work, each bounded; what a leader does for its ranges stops when it leads no more. Nothing
here is needed for correctness of a single answer – it is what keeps the cluster whole: rule K5 (drop what its gateway
forgot), M7 (recover what it left prepared), M5 (finish decisions), the meta index, replicas up to the
replication factor, splits by size, MVCC and outcome GC, log compaction (P3) and attesting (P6).
"""

from __future__ import annotations

import asyncio
import hashlib

import msgspec

from txndb.cluster.clockwatch import ClockWatch
from txndb.cluster.host import NodeHost
from txndb.cluster.membership import NEXT_RANGE_KEY, run, take_number
from txndb.cluster.messages import AliveQuery, AliveReply, Member
from txndb.encoding.keys import META_END, decode_data_key
from txndb.errors import RetryError, TxndbError, UnavailableError
from txndb.ids import AttemptId, NodeId, RangeId, Timestamp, attempt_start, make_timestamp
from txndb.limits import (
    HEARTBEAT_MISSED_US,
    LEASES_HANDOVER_US,
    OUTCOME_TTLS_MAX,
    RANGE_BYTES_SPLIT,
    REPLICATION_FACTOR,
)
from txndb.raft.types import NotLeader, ProposalDropped
from txndb.ranges import api, keys
from txndb.ranges.command import GcCommand, OutcomeGcCommand
from txndb.ranges.descriptor import RangeDescriptor
from txndb.ranges.leaseholder import Leaseholder
from txndb.ranges.replica import Replica
from txndb.ranges.state import DecisionRecord, Effect, Prepared
from txndb.txn import recovery
from txndb.txn.routing import decode_descriptor, encode_descriptor, meta_key

TICK_S = 0.05
LIVENESS_S = 1.0
REPLICATION_S = 0.5
DISK_S = 1.0
ASK_AFTER_US = 1_000_000
DECISION_PATIENCE_US = 5_000_000
RECOVERY_TIMEOUT_US = 30_000_000
GC_ROWS_MAX = 1_000
GC_PAUSE_S = 0.05


class Upkeep:
    """The background work of one node."""

    def __init__(self, node: NodeHost) -> None:
        self._node = node
        self._meta_written: dict[RangeId, int] = {}
        self._meta_due: dict[RangeId, RangeDescriptor] = {}
        self._recovering: dict[bytes, None] = {}
        self._decisions_seen: dict[bytes, int] = {}
        self._splitting: dict[RangeId, None] = {}
        self._handles: dict[str, asyncio.TimerHandle] = {}
        self._stopped = False
        self._clock_watch = ClockWatch(node.body, node.clock)
        self._comparing = False

    def start(self) -> None:
        """Begin."""
        self._every("tick", TICK_S, self._tick)
        self._every("liveness", LIVENESS_S, self._liveness)
        self._every("replication", REPLICATION_S, self._replicate)
        self._every("compaction", self._node.options.raft.compact_every_us / 1e6, self._compact)
        self._every("gc", self._node.options.gc_every_us / 1e6, self._collect)
        self._every("disk", DISK_S, self._look_at_disk)

    def stop(self) -> None:
        """End; nothing is awaited."""
        self._stopped = True
        for handle in self._handles.values():
            handle.cancel()

    def _every(self, name: str, period_s: float, work: object) -> None:
        loop = asyncio.get_running_loop()

        def turn() -> None:
            if self._stopped:
                return
            self._handles[name] = loop.call_later(period_s, turn)
            work()  # type: ignore[operator]

        self._handles[name] = loop.call_later(period_s, turn)

    # -- time ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        store = self._node.store
        store.tick()
        self._node.calls.sweep()
        store.attest_when_idle()
        if self._meta_due:
            due, self._meta_due = self._meta_due, {}
            for descriptor in due.values():
                self._node.spawn(self._write_meta(descriptor), f"meta r{descriptor.range_id}")

    # -- liveness (K5, M7, M5) -----------------------------------------------------------------------------

    def _liveness(self) -> None:
        self._compare_clocks()
        if not self._node.clock.within_bound():
            self._transfer_all()  # T1: it serves nobody, but others may
        now_us = self._node.body.time.monotonic_us()
        for replica in self._node.store.leaders():
            leaseholder = replica.leaseholder
            if leaseholder is not None:
                self._ask_gateways(replica, leaseholder, now_us)
                self._finish_decisions(replica, now_us)
        self._node.sql.on_time()

    def _compare_clocks(self) -> None:
        """T1: a clock that its source is wrong about is found by the other members'; on one host there is one clock."""
        members = self._node.all_members()
        if len({member.host_id for member in members}) > 1 and not self._comparing:
            others = [member for member in members if member.node != self._node.node]
            self._comparing = True
            self._node.spawn(self._compare_with(others), "clock watch")

    async def _compare_with(self, others: list[Member]) -> None:
        try:
            await self._clock_watch.look(others)
        finally:
            self._comparing = False

    def _ask_gateways(self, replica: Replica, leaseholder: Leaseholder, now_us: int) -> None:
        node = self._node
        queries: dict[tuple[NodeId, int], list[AttemptId]] = {}
        for entry in leaseholder.entries_to_ask(now_us - ASK_AFTER_US):
            if not entry.asked_us:
                entry.asked_us = now_us
            if now_us - entry.asked_us > HEARTBEAT_MISSED_US:
                self._drop(replica, leaseholder, entry.attempt)
                continue
            gateway = (entry.txn.gateway, entry.txn.incarnation)
            queries.setdefault(gateway, []).append(entry.attempt)
        for (gateway_node, incarnation), attempts in queries.items():
            query = AliveQuery(replica.range_id, incarnation, attempts)
            if gateway_node == node.node:
                current = incarnation == node.incarnation
                alive = [a for a in attempts if current and a in node.transactions]
                ended = [a for a in attempts if not (current and a in node.transactions)]
                self.on_alive(AliveReply(replica.range_id, incarnation, alive, ended))
            else:
                node.send(gateway_node, query)

    def on_alive(self, reply: AliveReply) -> None:
        """A gateway said which of its attempts live."""
        slot = self._node.store.slots.get(reply.range_id)
        leaseholder = slot.replica.leaseholder if slot is not None else None
        if slot is None or leaseholder is None or not leaseholder.serving:
            return
        now_us = self._node.body.time.monotonic_us()
        for attempt in reply.alive:
            entry = leaseholder.locks.entries.get(attempt)
            if entry is not None:
                entry.asked_us = now_us
        for attempt in reply.ended:
            self._drop(slot.replica, leaseholder, attempt)

    def _drop(self, replica: Replica, leaseholder: Leaseholder, attempt: AttemptId) -> None:
        record = leaseholder.drop_dead(attempt)
        if record is not None and attempt not in self._recovering:
            self._recovering[attempt] = None
            self._node.spawn(self._recover(record), f"recover {attempt.hex()}")

    async def _recover(self, record: Prepared) -> None:
        """M7: ask the anchor, bring the attempt to its end. Tried again by the next liveness turn if it fails."""
        attempt = record.txn.attempt
        own_keys = sorted(key for key, _ in record.writes)
        own = (own_keys[0], own_keys[-1])
        sender = self._node.sender
        deadline_us = sender.deadline_us(RECOVERY_TIMEOUT_US)
        try:
            if "M7" in self._node.options.canaries:
                await recovery.resolve(sender, attempt, Timestamp(0), [own], (b"", b""), deadline_us)
            else:
                await recovery.recover(sender, attempt, record.anchor, own, deadline_us)
        except UnavailableError as error:
            self._node.body.event(f"recovery of {attempt.hex()} waits: {error.message}")
        finally:
            self._recovering.pop(attempt, None)

    def _finish_decisions(self, replica: Replica, now_us: int) -> None:
        """M5: decisions whose gateway does not finish them are finished here; doing it twice is harmless."""
        state = replica.state
        if state is None:
            return
        for attempt, decision in list(state.decisions.items()):
            seen_us = self._decisions_seen.setdefault(attempt, now_us)
            if now_us - seen_us > DECISION_PATIENCE_US and attempt not in self._recovering:
                self._recovering[attempt] = None
                self._node.spawn(self._finish(decision), f"finish {attempt.hex()}")
        if len(self._decisions_seen) > 1000:
            self._decisions_seen.clear()

    async def _finish(self, decision: DecisionRecord) -> None:
        sender = self._node.sender
        spans = recovery.unflatten(decision.participants)
        deadline_us = sender.deadline_us(RECOVERY_TIMEOUT_US)
        try:
            await recovery.finish_decided(
                sender, decision.attempt, decision.anchor, decision.at, spans, (b"", b""), deadline_us
            )
        except UnavailableError as error:
            self._node.body.event(f"resolving {decision.attempt.hex()} waits: {error.message}")
        finally:
            self._recovering.pop(decision.attempt, None)
            self._decisions_seen.pop(decision.attempt, None)

    # -- meta index ----------------------------------------------------------------------------------------

    def on_serving(self, replica: Replica) -> None:
        """A lease began here: the index may lack what the previous leader could not write any more."""
        if replica.state is not None:
            self._meta_due[replica.range_id] = replica.state.descriptor

    def on_descriptor(self, descriptor: RangeDescriptor) -> None:
        """A descriptor changed here; its leader writes it to the index."""
        slot = self._node.store.slots.get(descriptor.range_id)
        if slot is not None and slot.replica.leaseholder is not None:
            self._meta_due[descriptor.range_id] = descriptor

    async def _write_meta(self, descriptor: RangeDescriptor) -> None:
        """Write a descriptor to the index unless a newer one stands there (generation order)."""
        if self._meta_written.get(descriptor.range_id, 0) >= descriptor.generation:
            return

        def newer(old: bytes | None) -> bytes | None:
            if old is not None and decode_descriptor(old).generation >= descriptor.generation:
                return None
            return encode_descriptor(descriptor)

        try:
            await run(self._node, meta_key(descriptor.end), newer)
            self._meta_written[descriptor.range_id] = descriptor.generation
        except (UnavailableError, RetryError) as error:
            self._node.body.event(f"meta index of range {descriptor.range_id} waits: {error.message}")
            self._meta_due.setdefault(descriptor.range_id, descriptor)

    # -- replicas, splits ----------------------------------------------------------------------------------

    def _replicate(self) -> None:
        """Ranges with too few replicas get one on a live node that has none; large ranges are split."""
        node = self._node
        for replica in node.store.leaders():
            state = replica.state
            if state is None or replica.leaseholder is None:
                continue
            descriptor = state.descriptor
            if len(descriptor.replicas) < REPLICATION_FACTOR:
                self._add_replica(replica, descriptor)
            elif state.bytes_written > RANGE_BYTES_SPLIT // 8 and replica.range_id not in self._splitting:
                state.bytes_written = 0
                self._splitting[replica.range_id] = None
                node.spawn(self._maybe_split(replica), f"size r{replica.range_id}")

    def _add_replica(self, replica: Replica, descriptor: RangeDescriptor) -> None:
        held = descriptor.nodes()
        if sum(1 for n in held if n == self._node.node or n in self._node.live_peers) != len(held):
            return
        for peer in sorted(self._node.live_peers):
            if peer not in held:
                try:
                    replica.handle(api.AddReplica(descriptor.start, peer), None)
                except (NotLeader, ProposalDropped):
                    return  # leads no more, or the previous change is not committed yet: the next turn sees
                return

    async def _maybe_split(self, replica: Replica) -> None:
        """Split a range that has outgrown its size at about the middle of its bytes."""
        node = self._node
        state = replica.state
        try:
            if state is None:
                return
            start, end = state.spans()[-1]
            if node.engine.approximate_bytes(start, end) > RANGE_BYTES_SPLIT:
                cut = self._middle(start, end)
                if cut is not None:
                    cut = max(cut, META_END)  # the index of ranges stays whole
                    if state.descriptor.start < cut < state.descriptor.end:
                        await self.split(cut)
        finally:
            self._splitting.pop(replica.range_id, None)

    def _middle(self, start: bytes, end: bytes) -> bytes | None:
        """The user key at about half of the bytes of an engine span."""
        half = self._node.engine.approximate_bytes(start, end) // 2
        seen = 0
        for key, value in self._node.engine.iterate(start, end):
            seen += len(key) + len(value)
            if seen >= half:
                return decode_data_key(key)[0]
        return None

    async def split(self, cut: bytes) -> None:
        """Split the range that holds `cut` there; a no-op where a range begins there already."""
        node = self._node
        deadline_us = node.sender.deadline_us()
        if (await node.sender.route(cut, deadline_us)).start == cut:
            return
        right_id = RangeId(await take_number(node, NEXT_RANGE_KEY, 2))
        while True:
            response = await node.sender.send(cut, api.SplitAt(cut, right_id), deadline_us)
            if isinstance(response, api.Ok):
                return
            if not isinstance(response, api.Moved):
                raise UnavailableError(f"the leaseholder answered {type(response).__name__} to a split")

    # -- garbage -------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Begin a round of GC in each led range, one bounded piece at a time (rules M6, S1's threshold)."""
        if not self._node.clock.within_bound():
            return  # T1: by a clock that is ahead, versions would go that every snapshot needs
        now_us = self._node.body.time.wall_us()
        for replica in self._node.store.leaders():
            state, leaseholder = replica.state, replica.leaseholder
            if state is not None and leaseholder is not None:
                low, high = state.descriptor.start, state.descriptor.end
                header = (leaseholder.term, state.descriptor.generation)
                versions = make_timestamp(max(0, now_us - self._node.options.gc_ttl_us))
                outcomes = _outcomes_before(leaseholder, now_us, self._node.options.outcome_ttl_us)
                self._propose(replica, GcCommand(*header, versions, low, high, GC_ROWS_MAX))
                self._propose(replica, OutcomeGcCommand(*header, outcomes, low, high, GC_ROWS_MAX))
                if replica.range_id == 1:
                    self._node.spawn(self._node.sql.collect_garbage(), "dropped tables")

    def on_collected(self, replica: Replica, effect: Effect) -> None:
        """A piece applied and more is left: the next one, after a pause that leaves the loop to others."""
        asyncio.get_running_loop().call_later(GC_PAUSE_S, self._collect_on, replica, effect)

    def _collect_on(self, replica: Replica, effect: Effect) -> None:
        leaseholder, command = replica.leaseholder, effect.command
        if self._stopped or leaseholder is None or not leaseholder.serving:
            return
        if isinstance(command, GcCommand | OutcomeGcCommand):
            generation = leaseholder.state.descriptor.generation
            if command.generation == generation and command.term == leaseholder.term:
                rest = msgspec.structs.replace(command, start=effect.resume)
                if isinstance(rest, OutcomeGcCommand):
                    rest = msgspec.structs.replace(rest, after=effect.resume_after)
                self._propose(replica, rest)

    def _propose(self, replica: Replica, command: GcCommand | OutcomeGcCommand) -> None:
        try:
            replica.propose(command)
        except TxndbError as error:
            self._node.body.event(f"gc of range {replica.range_id} waits: {error.message}")

    def _compact(self) -> None:
        self._node.spawn(self._node.store.compact(), "compact")

    def _look_at_disk(self) -> None:
        self._node.spawn(self._node.store.look_at_disk(), "disk")

    # -- draining ------------------------------------------------------------------------------------------

    async def hand_over_leases(self) -> None:
        """Ask a live replica of each led range to take over; wait until they have, or the bound is over."""
        node = self._node
        deadline_us = node.body.time.monotonic_us() + LEASES_HANDOVER_US
        while node.body.time.monotonic_us() < deadline_us:
            if not self._transfer_all():
                return
            await asyncio.sleep(TICK_S)

    def _transfer_all(self) -> int:
        """Ask a live replica of each led range to take over; how many were asked."""
        waiting = 0
        for replica in list(self._node.store.leaders()):
            state = replica.state
            live = self._node.live_peers
            targets = [n for n in state.descriptor.nodes() if n in live] if state is not None else []
            if targets:
                waiting += 1
                self._transfer(replica, targets)
        return waiting

    def _transfer(self, replica: Replica, targets: list[NodeId]) -> None:
        state = replica.state
        if state is None:
            return
        try:
            replica.handle(
                api.TransferLease(state.descriptor.start, targets[replica.range_id % len(targets)]), None
            )
        except ProposalDropped:
            return  # another transfer is under way: the next turn sees what came of it
        except TxndbError as error:
            self._node.body.event(f"lease of range {replica.range_id}: {error.message}")

    # -- comparing replicas --------------------------------------------------------------------------------

    def digests(self) -> dict[int, tuple[int, bytes]]:
        """(applied index, SHA-256 over the whole replicated state) of each range held here."""
        result: dict[int, tuple[int, bytes]] = {}
        engine = self._node.engine
        for range_id in sorted(self._node.store.slots):
            state = self._node.store.slots[range_id].replica.state
            if state is None:
                continue
            digest = hashlib.sha256()
            for name in (keys.settings_key(range_id), keys.applied_key(range_id)):
                digest.update(engine.get(name) or b"")
            for start, end in state.spans():
                for key, value in engine.iterate(start, end):
                    digest.update(len(key).to_bytes(4, "big") + key + len(value).to_bytes(4, "big") + value)
            result[range_id] = (state.applied_index, digest.digest())
        return result


def _outcomes_before(leaseholder: Leaseholder, now_us: int, ttl_us: int) -> Timestamp:
    """M6: what is collected now. Whoever holds locks here may still commit, and is not made too old for it."""
    before = make_timestamp(max(0, now_us - ttl_us))
    oldest = min((attempt_start(AttemptId(a)) for a in leaseholder.locks.entries), default=before)
    return max(min(before, oldest), make_timestamp(max(0, now_us - ttl_us * OUTCOME_TTLS_MAX)))
