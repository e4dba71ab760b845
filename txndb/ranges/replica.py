"""One replica of one range: the Raft machine, the replicated state, and, while it leads, the leaseholder.

A pure step machine composed of three: messages, ticks, requests and completed writes in; messages (in `Ready`),
answers, and timers out. It keeps the three in step: a term of leadership gets a `Leaseholder` when Raft says so (L1),
which ends before anything of another term is applied (L4).

Invariants:
1. `leaseholder` is not None exactly while Raft leads in its term.
2. Entries are applied in order, each once, after they are durable here (rule P1).
3. An uninitialised replica (`state` is None) applies nothing: a snapshot comes first (rule P5).

It does not persist, send or wait. Driven by `txndb.cluster.store`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from txndb.clock import Clock
from txndb.encoding.keys import CLUSTER, META
from txndb.errors import DiskFullError, InternalError
from txndb.ids import NodeId, RangeId, ReplicaId
from txndb.raft.core import Raft
from txndb.raft.types import KIND_CONFIG, AnyMessage, Config, Entry, Role, SoftState, TimeoutNow
from txndb.ranges import api
from txndb.ranges.command import (
    Command,
    GcCommand,
    OnePhaseCommand,
    OutcomeGcCommand,
    PrepareCommand,
    encode_command,
)
from txndb.ranges.descriptor import RangeDescriptor, make_replica_id
from txndb.ranges.handover import decode_handover
from txndb.ranges.leaseholder import Handle, Handover, Leaseholder
from txndb.ranges.locks import LockEntry
from txndb.ranges.state import RAFT_INITIAL_TERM, Effect, RangeState

QUIESCE_TICKS = 40
"""So many ticks of its store without a request or an entry, and a range may sleep."""


class ReplicaHost(Protocol):
    """What a replica needs of its store."""

    def answer(self, handle: Handle, response: api.Response) -> None:
        """Send an answer."""

    def wound_notice(self, entry: LockEntry, why: api.Wounded) -> None:
        """Tell an entry's gateway that it lost."""

    def wake_in(self, replica: Replica, delay_us: int) -> None:
        """Call `on_time` again in about this long."""

    def has_room(self) -> bool:
        """Whether the disk has room for proposals (rule P1)."""

    def mark(self, replica: Replica) -> None:
        """The replica's Raft machine has something ready."""

    def on_split(self, replica: Replica, right: RangeDescriptor, handover: Handover | None) -> None:
        """A split applied: the right half's state is in the engine, its replica is to be created (rule P5)."""

    def on_serving(self, replica: Replica) -> None:
        """The replica became a serving leaseholder."""

    def on_descriptor(self, replica: Replica) -> None:
        """The range's descriptor changed."""

    def on_collected(self, replica: Replica, effect: Effect) -> None:
        """A piece of garbage collection applied; `effect.resume` is where the next one starts."""


def decode_voters(data: bytes) -> tuple[ReplicaId, ...]:
    """The voters in a configuration entry."""
    return Config.decode(data).voters


class Replica:
    """One replica of one range on this node."""

    def __init__(
        self,
        host: ReplicaHost,
        range_id: RangeId,
        replica_id: ReplicaId,
        raft: Raft,
        state: RangeState | None,
        clock: Clock,
        compile_program: Callable[[bytes], Callable[[bytes], bool]],
        canaries: frozenset[str] = frozenset(),
    ) -> None:
        self.range_id = range_id
        self.replica_id = replica_id
        self.raft = raft
        self.state = state
        self.leaseholder: Leaseholder | None = None
        self.handover: Handover | None = None
        self.leader = ReplicaId(0)
        self.idle_ticks = 0
        """How often time passed since the last request."""
        self._host = host
        self._clock = clock
        self._compile = compile_program
        self._canaries = canaries

    # -- what the leaseholder needs (its `Host`) -----------------------------------------------------------

    def propose(self, command: Command) -> int:
        """Append a command to the log; its index. Raises `NotLeader`, `ProposalDropped` or `DiskFullError`."""
        if isinstance(command, OnePhaseCommand | PrepareCommand) and not (
            self._host.has_room() or all(key.startswith((META, CLUSTER)) for key, _ in command.writes)
        ):
            # Only new writes are refused: what ends a transaction that is under way must get through, and so must the
            # few bytes of the cluster's own rows: without catalogue leases nobody could even read.
            raise DiskFullError("the node's disk is full: no writes are taken until there is room again")
        index = self.raft.propose(encode_command(command), self._clock.source.monotonic_us())
        self._host.mark(self)
        return index

    def lease_valid(self) -> bool:
        """L2: by a fresh clock; T1: never with a clock that may be off by more than E."""
        now_us = self._clock.source.monotonic_us()
        raft = self.raft
        if raft.lease_until_us <= now_us:
            self._wake(now_us)
            if len(raft.config.voters) != 1:
                return False
            raft.tick(now_us)  # the only voter renews its lease by itself
            if raft.lease_until_us <= now_us:
                return False
        return self.clock_trusted()

    def clock_trusted(self) -> bool:
        return self._clock.within_bound() or "T1" in self._canaries

    def answer(self, handle: Handle, response: api.Response) -> None:
        self._host.answer(handle, response)

    def wound_notice(self, entry: LockEntry, why: api.Wounded) -> None:
        self._host.wound_notice(entry, why)

    def wake_in(self, delay_us: int) -> None:
        self._host.wake_in(self, delay_us)

    def leader_hint(self) -> int:
        return self.leader if self.leader != self.replica_id else 0

    # -- inputs --------------------------------------------------------------------------------------------

    def handle(self, request: api.Request, handle: Handle) -> api.Response | None:
        """Answer a request now, or return None: `ReplicaHost.answer` follows."""
        self.idle_ticks = 0
        leaseholder = self.leaseholder
        if leaseholder is None:
            self.wake()  # who asks here did not find the leader: it may be gone
            descriptor = self.state.descriptor if self.state is not None else None
            return api.NotLeaseholder(self.range_id, self.leader, False, descriptor)
        if isinstance(request, api.TransferLease):
            return self._on_transfer(leaseholder, request)
        if isinstance(request, api.AddReplica):
            return self._on_add_replica(leaseholder, request)
        return leaseholder.handle(request, handle)

    def step(self, message: AnyMessage) -> None:
        """A Raft message from a peer."""
        if isinstance(message, TimeoutNow) and message.payload:
            self.handover = decode_handover(message.payload, message.term + 1)  # valid in that term only
        self.raft.step(message, self._clock.source.monotonic_us())
        if self.raft.has_ready():
            self._host.mark(self)
        if self.leaseholder is not None:
            self.leaseholder.on_lease()

    def wake(self) -> None:
        """End the group's sleep: somebody needs its leader, or its leader's node is thought dead (L3)."""
        self._wake(self._clock.source.monotonic_us())

    def _wake(self, now_us: int) -> None:
        if self.raft.quiesced:
            self.idle_ticks = 0
            self.raft.unquiesce(now_us)
            self._host.mark(self)

    def _maybe_sleep(self) -> None:
        """An idle range that is replicated everywhere stops its heartbeats; it has no lease then (L3)."""
        leaseholder = self.leaseholder
        if leaseholder is not None and len(self.raft.config.voters) > 1 and leaseholder.is_at_rest():
            if self.raft.quiesce():
                self._host.mark(self)

    def tick(self, now_us: int) -> None:
        """Time passed (monotonic)."""
        self.idle_ticks += 1
        if self.idle_ticks >= QUIESCE_TICKS and not self.raft.quiesced:
            self._maybe_sleep()
        if self.raft.deadline_us <= now_us:
            self.raft.tick(now_us)
            if self.raft.has_ready():
                self._host.mark(self)

    def on_time(self) -> None:
        """A timer asked for by `wake_in` is due."""
        leaseholder = self.leaseholder
        if leaseholder is None:
            return
        if not leaseholder.serving:
            self._maybe_serve(leaseholder)
        leaseholder.on_time()

    # -- outputs of Raft -----------------------------------------------------------------------------------

    def on_soft_state(self, soft: SoftState) -> None:
        """Roles changed. Must come before the entries of the same `Ready` are applied."""
        self.leader = soft.leader
        leaseholder = self.leaseholder
        leads = soft.role is Role.LEADER
        if leaseholder is not None and (not leads or leaseholder.term != soft.term):
            self.leaseholder = None
            leaseholder.stop()
        if leads and self.leaseholder is None:
            if self.state is None:
                raise InternalError(f"range {self.range_id}: a replica without state leads")
            self.leaseholder = Leaseholder(
                self, self.state, self._clock, soft.term, self._compile, self._canaries
            )

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply committed entries and complete what was proposed for them."""
        state = self.state
        if state is None:
            raise InternalError(f"range {self.range_id}: entries to apply before a snapshot")
        generation = state.descriptor.generation
        effects = state.apply(entries, KIND_CONFIG, decode_voters)
        leaseholder = self.leaseholder
        for effect in effects:
            if effect.right is not None:
                self._on_split(leaseholder, effect)
            if leaseholder is not None:
                leaseholder.on_applied(effect)
                if effect.resume and isinstance(effect.command, GcCommand | OutcomeGcCommand):
                    self._host.on_collected(self, effect)
        if state.descriptor.generation != generation:
            self._host.on_descriptor(self)
        if leaseholder is not None and not leaseholder.serving and state.applied_term == leaseholder.term:
            self._maybe_serve(leaseholder)

    def _maybe_serve(self, leaseholder: Leaseholder) -> None:
        state = self.state
        if state is None or state.applied_term != leaseholder.term:
            return
        handover = self.handover
        if handover is not None and handover.term != leaseholder.term and "L4" not in self._canaries:
            handover = None  # valid in exactly one term (L4)
        if leaseholder.maybe_serve(handover):
            self.handover = None
            self._host.on_serving(self)

    def _on_split(self, leaseholder: Leaseholder | None, effect: Effect) -> None:
        right = effect.right
        assert right is not None
        handover = None
        if leaseholder is not None and leaseholder.serving:
            handover = leaseholder.on_split_applied(right, RAFT_INITIAL_TERM + 1)
        self._host.on_split(self, right, handover)

    # -- administration ------------------------------------------------------------------------------------

    def _on_transfer(self, leaseholder: Leaseholder, request: api.TransferLease) -> api.Response:
        state = leaseholder.state
        target = state.descriptor.replica_on(request.target)
        if target is None or target == self.replica_id:
            return api.Ok()
        self.raft.transfer(target, self._clock.source.monotonic_us(), leaseholder.freeze)
        self._host.mark(self)
        return api.Ok()

    def _on_add_replica(self, leaseholder: Leaseholder, request: api.AddReplica) -> api.Response:
        descriptor = leaseholder.state.descriptor
        if not leaseholder.serving:
            return api.NotLeaseholder(self.range_id, self.leader)
        if not descriptor.contains(request.key):
            return api.Moved([descriptor])
        if descriptor.replica_on(request.node) is not None:
            return api.Ok()
        if sorted(descriptor.replicas) != list(self.raft.config.voters):
            # A change is in the log, and perhaps committed, but not applied here yet: the next one starts from there.
            return api.Ok()
        added = make_replica_id(NodeId(request.node), descriptor.next_sequence)
        voters = tuple(sorted((*descriptor.replicas, added)))
        self.raft.propose_config(Config(voters), self._clock.source.monotonic_us())
        self._host.mark(self)
        return api.Ok()

    def validate(self) -> None:
        """Raise `InternalError` if an invariant of the module docstring does not hold."""
        self.raft.validate()
        if self.state is not None:
            self.state.validate()
        if self.leaseholder is not None:
            self.leaseholder.validate()
