"""The Raft machine: messages, time and proposals in; one `Ready` after another out. No clock, chance or I/O of its own.

References: Ongaro and Ousterhout (2014); Ongaro's dissertation (2014). The protocol is in the layers below:

    Raft (this file: dispatch, time, Ready)  >  Election  >  Replication  >  Lease  >  RaftState

The driver's loop, for each replica:

    raft.step(message, now_us) | raft.tick(now_us) | raft.propose(data, now_us) | ...
    while raft.has_ready():
        ready = raft.ready()
        persist hard_state, entries, snapshot; fsync when must_persist        1
        send messages                                                         2
        apply committed, in order                                             3
        answer read_states, heed soft_state, send snapshots_wanted
        raft.advance(ready.number)

Inputs may come while a Ready is outstanding; a second Ready may not. `now_us` is a suspend-counting monotonic time read
after the input arrived: a leader's send times may be early and a follower's receipt late, never the other way (L3).

Invariants, beside those of the layers (`validate` asserts all):
1. What a Ready says is sent rests only on what this or an earlier Ready persists (rule P1).
2. Each committed entry is handed out once, in order, in no Ready before the one that makes it durable.
3. A message of another term is acted upon only as figure 2's "rules for all servers" say.

It does not compact the log (the driver truncates what is applied), move snapshots (the driver does, when asked), know
joint consensus or learners, or forward proposals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txndb.errors import InternalError
from txndb.raft.election import Election
from txndb.raft.types import (
    KIND_NORMAL,
    NEVER_US,
    NO_REPLICA,
    Append,
    AppendResponse,
    Config,
    HardState,
    Heartbeat,
    HeartbeatResponse,
    LogView,
    Message,
    Options,
    PeerStatus,
    PreVote,
    PreVoteResponse,
    Ready,
    Role,
    SnapshotMessage,
    SoftState,
    Status,
    TimeoutNow,
    Vote,
    VoteResponse,
)


class Raft(Election):
    """One replica of one group."""

    def __init__(
        self,
        options: Options,
        log: LogView,
        hard_state: HardState,
        config: Config,
        applied: int,
        now_us: int,
        randrange: Callable[[int], int],
        *,
        newborn: bool = False,
    ) -> None:
        """`config` is the one in force at `applied`; later ones are found in the log.

        `newborn`: this replica never ran before, so it has acknowledged no leader and may vote at once (else L3: not
        within one election timeout). A hard state of term 0 says the same.
        """
        super().__init__(options, log, hard_state, config, applied, now_us, randrange, newborn)
        self._ready_number = 0
        self._outstanding = False
        self._soft = (self.term, self.role, self.leader)
        if self.config.voters == (self.id,) and len(self._configs) == 1:
            # The only voter leads at once. Not on an uncommitted configuration: the leader that removed itself by it
            # may still hold a lease on this replica's acknowledgements (L3).
            self._campaign()

    # -- inputs ------------------------------------------------------------------------------------------------------

    def step(self, message: Message, now_us: int) -> None:
        """Take one message from a peer."""
        if now_us > self._now_us:
            self._now_us = now_us
        if message.to != self.id or message.sender == self.id:
            self._malformed()
            return
        if message.term == self.term or self._admit(message):
            handler = _HANDLERS.get(type(message))
            if handler is None:
                self._malformed()
            else:
                handler(self, message)

    def tick(self, now_us: int) -> None:
        """Let time pass; needed at `deadline_us`, harmless at any other instant."""
        self._advance_now(now_us)
        now_us = self._now_us
        if self._quiesced:
            return
        if self.role is not Role.LEADER:
            if now_us >= self._election_us:
                self._campaign()
            return
        if now_us >= self._commit_notice_us:
            self._heartbeat_due = True
            self._commit_notice_us = NEVER_US
        if now_us >= self._heartbeat_us:
            self._heartbeat_us = now_us + self.options.heartbeat_us
            self._heartbeat_due = True
            if not self._has_active_quorum(self.options.election_max_us):
                self._become_follower(self.term, NO_REPLICA)  # check-quorum, dissertation §6.2
                return
        if now_us >= self._transfer_us:
            self._end_transfer()

    def _end_transfer(self) -> None:
        """The target did not take over in time. If it was called, its lease is gone (L4): begin another term."""
        self._transfer_to = NO_REPLICA
        self._transfer_us = NEVER_US
        if self._lease_lost and self._may_campaign():
            self._elect(forced=True)

    @property
    def deadline_us(self) -> int:
        """The next instant at which `tick` has something to do; NEVER_US when it has none."""
        if self._quiesced:
            return NEVER_US
        if self.role is not Role.LEADER:
            return self._election_us if self._may_campaign() else NEVER_US
        if not self._peers:
            return NEVER_US
        return min(self._heartbeat_us, self._commit_notice_us, self._transfer_us)

    def _admit(self, message: Message) -> bool:
        """Deal with a term that is not the own one; returns whether the message is to be handled in it."""
        kind = type(message)
        if message.term < self.term:
            if kind is Append or kind is Heartbeat or kind is SnapshotMessage:
                # Tells a leader of the past that its term is over.
                self._send(HeartbeatResponse(message.sender, self.id, self.term, -1, 0))
            elif kind is Vote:
                self._send(VoteResponse(message.sender, self.id, self.term, False))
            return kind is PreVote
        if kind is PreVote:
            return True
        if isinstance(message, PreVoteResponse) and message.granted:
            return True
        if isinstance(message, Vote):
            if not message.forced and self._is_loyal():
                return False  # dissertation §4.2.3: the term is not even looked at
        leads = kind is Append or kind is Heartbeat or kind is SnapshotMessage or kind is TimeoutNow
        self._become_follower(message.term, message.sender if leads else NO_REPLICA)
        return True

    # -- outputs -----------------------------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Whether `ready()` may be called and would hold something."""
        if self._outstanding:
            return False
        return bool(
            self._unstable
            or self._messages
            or self._sends_due
            or self._heartbeat_due
            or self._ack
            or self._heartbeat_ack
            or (self._handed < self.commit and self._restoring is None)
            or (self._restoring is not None and not self._restore_handed)
            or self._read_states
            or self._snapshots_wanted
            or self._persisted != (self.term, self.vote)
            or self._soft != (self.term, self.role, self.leader)
        )

    def ready(self) -> Ready:
        """What the driver is to do next, in the order of the fields; it ends with `advance`."""
        if self._outstanding:
            raise InternalError(f"Ready {self._ready_number} is still outstanding")
        self._outstanding = True
        self._ready_number += 1
        self._sync_log()
        if self.role is Role.LEADER:
            self._emit_leader_messages()
        self._emit_acks()
        snapshot = self._restoring
        self._restore_handed = snapshot is not None
        entries = self._unstable
        if entries:
            self._unstable = []
            self._synced_count = 0
            self._persisting_index = self.last_index
        must_persist = bool(entries) or snapshot is not None or self._persisted != (self.term, self.vote)
        hard_state = self._take_hard_state() if must_persist else None
        committed = self._handed_entries()
        if committed:
            self._handed = committed[-1].index
            if self._uncommitted_bytes:
                self._release_bytes(committed)
        if "ack-before-persist" in self.options.canaries:
            must_persist = False
        soft = (self.term, self.role, self.leader)
        soft_state = None
        if soft != self._soft:
            self._soft = soft
            soft_state = SoftState(*soft)
        messages, self._messages = self._messages, []
        read_states, self._read_states = self._read_states, []
        snapshots_wanted, self._snapshots_wanted = self._snapshots_wanted, []
        return Ready(
            self._ready_number,
            hard_state,
            entries,
            snapshot,
            messages,
            committed,
            read_states,
            soft_state,
            snapshots_wanted,
            must_persist,
        )

    def _take_hard_state(self) -> HardState:
        self._persisted = (self.term, self.vote)
        if "vote-forgotten" in self.options.canaries:
            # Without the term too: one that is remembered is enough to refuse whoever asks again.
            return HardState(self._last_term, NO_REPLICA, self.commit)
        return HardState(self.term, self.vote, self.commit)

    def _release_bytes(self, committed: Any) -> None:
        """Committed proposals of this leadership no longer count against the bound."""
        start = self._term_start
        self._uncommitted_bytes -= sum(
            len(entry.data) for entry in committed if entry.index > start and entry.kind == KIND_NORMAL
        )

    def advance(self, number: int) -> None:
        """The Ready of this number is done: durable, sent, its committed entries taken."""
        if not self._outstanding or number != self._ready_number:
            raise InternalError(f"advance({number}), but Ready {self._ready_number} is the last one")
        self._outstanding = False
        if self._restore_handed:
            self._restore_handed = False
            self._restoring = None
        self.applied_to(self._handed)
        if self._persisting_index > self.stable:
            self.stable = self._persisting_index
            if self.role is Role.LEADER:
                self._maybe_commit()
        self._persisting_index = 0

    def applied_to(self, index: int) -> None:
        """The driver has applied everything up to `index` (for drivers that apply before they advance)."""
        if self.applied < index <= self._handed:
            self.applied = index

    # -- for people and tests ----------------------------------------------------------------------------------------

    def status(self) -> Status:
        """A copy of the state."""
        return Status(
            replica=self.id,
            term=self.term,
            vote=self.vote,
            role=self.role,
            leader=self.leader,
            first_index=self.log.first_index(),
            last_index=self.last_index,
            stable=self.stable,
            commit=self.commit,
            applied=self.applied,
            config=self.config,
            quiesced=self._quiesced,
            lease_until_us=self.lease_until_us,
            uncommitted_bytes=self._uncommitted_bytes,
            malformed_count=self._malformed_count,
            peers=tuple(
                PeerStatus(peer.replica, peer.match, peer.next, peer.state.name.lower(), len(peer.inflight))
                for peer in self._peers
            ),
        )

    def validate(self) -> None:
        """Assert every invariant; called by tests and simulation after each event."""
        self.validate_state()
        self.validate_lease()
        self.validate_replication()
        self.validate_election()


_HANDLERS: dict[type[Message], Callable[[Raft, Any], None]] = {
    PreVote: Raft._on_pre_vote,
    PreVoteResponse: Raft._on_pre_vote_response,
    Vote: Raft._on_vote,
    VoteResponse: Raft._on_vote_response,
    Append: Raft._on_append,
    AppendResponse: Raft._on_append_response,
    Heartbeat: Raft._on_heartbeat,
    HeartbeatResponse: Raft._on_heartbeat_response,
    SnapshotMessage: Raft._on_snapshot,
    TimeoutNow: Raft._on_timeout_now,
}
