"""Replication, both sides: proposals, pipelined appends and their answers, heartbeats, snapshots, commit, transfer.

References: Raft paper §5.3, §5.4.2, §6 and figure 2; dissertation §3.10 (transfer), §4.1 and §4.2.2 (changes by one
server, and a leader that removes itself), §10.2.1 (pipelining); rules P1 and P4; rules L3 and L4.

A leader builds its appends and heartbeats in `ready()`: proposals made meanwhile share them, and nothing is queued that
grows. A follower keeps only its newest acceptance, which says all that earlier ones said.

Invariants:
1. A leader counts itself only up to `stable`, what an advanced Ready has made durable (P1).
2. A leader commits by counting only entries of its own term (§5.4.2).
3. A follower never replaces an entry at or below its commit index.
4. One configuration change is uncommitted at a time, and it adds or removes one voter (dissertation §4.1); none is
   proposed before the leader has committed an entry of its own term.
5. After TimeoutNow the lease of the term is gone, whatever comes of it (L4).
What a peer sends is checked before anything changes; what no correct peer sends is counted and ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from txndb.errors import CorruptionError
from txndb.ids import ReplicaId
from txndb.raft.lease import Lease
from txndb.raft.progress import Progress, State, quorum_value
from txndb.raft.types import (
    KIND_CONFIG,
    KIND_NORMAL,
    NEVER_US,
    NO_REPLICA,
    Append,
    AppendResponse,
    Config,
    ConfigRefused,
    Entry,
    Heartbeat,
    HeartbeatResponse,
    NotLeader,
    ProposalDropped,
    Role,
    Snapshot,
    SnapshotMessage,
    TimeoutNow,
)


class Replication(Lease):
    """The leader's and the follower's side of the log."""

    # -- leader: becoming, proposing ---------------------------------------------------------------------------------

    def _become_leader(self) -> None:
        now_us = self._now_us
        self.role = Role.LEADER
        self.leader = self.id
        self._quiesced = False
        self._progress = {}
        self._adapt_peers()
        self._term_start = self.last_index + 1
        self._lease_lost = False
        self._lease_floor_us = now_us
        self._heartbeat_us = now_us + self.options.heartbeat_us
        self._round_open = False
        self._uncommitted_bytes = 0
        self._append_own(KIND_NORMAL, b"")

    def _append_own(self, kind: int, data: bytes) -> int:
        index = self.last_index + 1
        self._extend((Entry(index, self.term, kind, data),))
        self._sends_due = True
        return index

    def propose(self, data: bytes, now_us: int) -> int:
        """Append one entry to the leader's log and return its index; it may still be replaced under another term."""
        self._advance_now(now_us)
        self._must_accept_proposals()
        size = self._uncommitted_bytes + len(data)
        if size > self.options.uncommitted_bytes_max and self._uncommitted_bytes:
            raise ProposalDropped("too many bytes wait to be committed")
        self._uncommitted_bytes = size
        index = self.last_index + 1
        self._unstable.append(Entry(index, self.term, KIND_NORMAL, data))
        self.last_index = index
        self._last_term = self.term
        self._sends_due = True
        return index

    def propose_config(self, config: Config, now_us: int) -> int:
        """Propose a membership with one voter more or less; it is in force as soon as it is in a log."""
        self._advance_now(now_us)
        self._must_accept_proposals()
        if self.commit < self._term_start:
            raise ProposalDropped("the leader has not committed an entry of its own term yet")
        if self._configs[-1][0] > self.commit:
            raise ProposalDropped("another configuration change is not committed yet")
        if not config.is_well_formed() or not config.voters:
            raise ConfigRefused(f"not a membership: {config.voters}")
        if len(set(config.voters) ^ set(self.config.voters)) != 1:
            raise ConfigRefused(f"{self.config.voters} to {config.voters} is not a change by one voter")
        return self._append_own(KIND_CONFIG, config.encode())

    def _must_accept_proposals(self) -> None:
        if self.role is not Role.LEADER:
            raise NotLeader(self.leader)
        if self._transfer_to:
            raise ProposalDropped("leadership is being transferred")
        if self._quiesced:
            self._wake()

    # -- leader: sending ---------------------------------------------------------------------------------------------

    def _emit_leader_messages(self) -> None:
        """Everything a leader has to say now; called by `ready()`, when the LogView holds the whole log."""
        if self._sends_due:
            self._sends_due = False
            told = True
            for peer in self._peers:
                told = self._emit_appends(peer) and told
            if told:  # appends carry the commit index to everyone who listens
                self._commit_notice_us = NEVER_US
        if self._heartbeat_due:
            self._emit_heartbeats()

    def _emit_appends(self, peer: Progress) -> bool:
        """Send what the peer lacks, as far as its window allows.

        Returns False for a peer that lacks nothing, so that no append tells it the commit index. (One that may not be
        sent to now is told when it may again.)
        """
        appends_max, bytes_max = self.options.inflight_appends_max, self.options.inflight_bytes_max
        if peer.next > self.last_index and peer.state is State.REPLICATE:
            return False
        while peer.may_send(appends_max, bytes_max) and self._emit_append(peer):
            if peer.next > self.last_index:
                break
        return True

    def _emit_append(self, peer: Progress) -> bool:
        first = peer.next
        prev = first - 1
        if prev < self.log.first_index() - 1:
            peer.await_snapshot()
            self._snapshots_wanted.append(peer.replica)
            return False
        prev_term = self.term if prev >= self._term_start else self._term_at(prev)
        entries = self._entries_from(first)
        now_us = self._now_us
        self._messages.append(
            Append(peer.replica, self.id, self.term, prev, prev_term, entries, self.commit, now_us)
        )
        if peer.state is State.REPLICATE:
            peer.sent(entries[-1].index, now_us, sum([len(entry.data) for entry in entries]))
        else:
            peer.probe_sent = True
        return True

    def _entries_from(self, first: int) -> list[Entry]:
        """The entries to send from `first` on; those just buffered are shared, not read again."""
        if first > self.last_index:
            return []
        options = self.options
        unstable = self._unstable
        if unstable and unstable[0].index == first:
            if self._uncommitted_bytes <= options.append_bytes_max:
                return unstable
        return list(self.log.entries(first, self.last_index + 1, options.append_bytes_max))

    def _emit_heartbeats(self, quiesce: bool = False) -> None:
        self._heartbeat_due = False
        self._round_open = False
        self._commit_notice_us = NEVER_US
        commit = self.commit
        for peer in self._peers:
            known = peer.match if peer.match < commit else commit
            self._messages.append(
                Heartbeat(peer.replica, self.id, self.term, known, self._now_us, self._round, quiesce)
            )
        if self._reads and not self._peers:
            self._release_reads()

    # -- leader: answers ---------------------------------------------------------------------------------------------

    def _on_append_response(self, message: AppendResponse) -> None:
        if self.role is not Role.LEADER:
            return
        peer = self._progress.get(message.sender)
        if peer is None:
            return
        index = message.index
        if index > self.last_index:
            self._malformed()
            return
        self._note_ack(peer, message.sent_us)
        if message.rejected:
            self._on_rejection(peer, message)
            return
        if peer.state is State.SNAPSHOT:
            if index + 1 < self.log.first_index():
                return
            peer.probe(index + 1)
        if peer.accepted(index):
            if index > self.commit:
                self._maybe_commit()
                if self.role is not Role.LEADER:
                    return
            if self._transfer_to == peer.replica:
                self._maybe_hand_over(peer)
        if peer.next <= self.last_index:
            self._sends_due = True

    def _on_rejection(self, peer: Progress, message: AppendResponse) -> None:
        rejected = message.index
        if peer.state is State.SNAPSHOT or rejected <= peer.match:
            return  # answers an older append
        if peer.state is State.PROBE and rejected != peer.next - 1:
            return
        # Skip whole terms: the highest own entry whose term is at most the follower's there (Raft paper §5.3, end).
        candidate = self._find_match(min(message.hint_index, rejected - 1), message.hint_term)
        peer.probe(candidate + 1)
        self._sends_due = True

    def _on_heartbeat_response(self, message: HeartbeatResponse) -> None:
        if self.role is not Role.LEADER:
            return
        peer = self._progress.get(message.sender)
        if peer is None:
            return
        if message.context > self._round:
            self._malformed()
            return
        self._note_ack(peer, message.sent_us)
        if message.context > peer.round:
            peer.round = message.context
            if self._reads:
                self._release_reads()
        if peer.state is State.PROBE:
            peer.probe_sent = False
            self._sends_due = True
        elif peer.state is State.REPLICATE:
            # An append sent before this heartbeat and still not answered is lost (or slow: then a resend does no harm).
            if peer.inflight and peer.inflight[0][1] < message.sent_us:
                peer.probe(peer.match + 1)
            if peer.next <= self.last_index:
                self._sends_due = True

    def _maybe_commit(self) -> None:
        """Advance the commit index to what a majority holds durably."""
        values = [peer.match for peer in self._peers]
        if self._votes_self:
            values.append(self.stable)
        index = quorum_value(values)
        if "ack-before-replication" in self.options.canaries:
            index = max(values)
        if index <= self.commit:
            return
        if index < self._term_start and "commit-old-term-by-counting" not in self.options.canaries:
            return  # §5.4.2: an old term's entry is committed only by one of the own term after it
        opened = self.commit < self._term_start <= index
        self.commit = index
        notice_us = self._now_us + self.options.commit_notice_us
        if notice_us < self._commit_notice_us:
            self._commit_notice_us = notice_us
        if opened:
            self._register_waiting_reads()
        if len(self._configs) > 1:
            self._prune_configs()
            if not self._votes_self and self._configs[0][0] <= index and len(self._configs) == 1:
                self._emit_heartbeats()
                self._become_follower(self.term, NO_REPLICA)  # dissertation §4.2.2: it removed itself

    # -- leader: snapshots, transfer, sleep --------------------------------------------------------------------------

    def awaits_snapshot(self, replica: ReplicaId) -> bool:
        """Whether this replica leads, and wanted a snapshot for `replica` in this very term."""
        peer = self._progress.get(replica)
        return peer is not None and peer.state is State.SNAPSHOT

    def report_snapshot(self, replica: ReplicaId, ok: bool, index: int) -> None:
        """The snapshot asked for in `snapshots_wanted` was installed up to `index`, or failed."""
        peer = self._progress.get(replica) if self.role is Role.LEADER else None
        if peer is None or peer.state is not State.SNAPSHOT:
            return
        if ok:
            peer.probe(min(index, self.last_index) + 1)
            self._sends_due = True
        else:
            peer.probe(peer.match + 1)
            peer.probe_sent = True  # ask again only when it answers a heartbeat

    def transfer(self, target: ReplicaId, now_us: int, payload: Callable[[], bytes] = bytes) -> None:
        """Hand leadership over: no proposals from now on, TimeoutNow as soon as `target` holds the whole log.

        `payload` is asked, in the step that gives up the lease, for what TimeoutNow carries to the driver there (L4).
        """
        self._advance_now(now_us)
        if self.role is not Role.LEADER:
            raise NotLeader(self.leader)
        if target == self.id:
            return
        peer = self._progress.get(target)
        if peer is None:
            raise ConfigRefused(f"replica {target} is not a voter")
        if self._transfer_to:
            raise ProposalDropped("another transfer is under way")
        if self._quiesced:
            self._wake()
        self._transfer_to = target
        self._transfer_payload = payload
        self._transfer_us = self._now_us + self.options.election_max_us
        self._sends_due = True
        self._maybe_hand_over(peer)

    def _maybe_hand_over(self, peer: Progress) -> None:
        if peer.match == self.last_index and not self._lease_lost:
            self._lease_lost = True  # L4, before anything else can be served
            self._messages.append(TimeoutNow(peer.replica, self.id, self.term, self._transfer_payload()))

    def quiesce(self) -> bool:
        """Put an idle, fully replicated group to sleep; returns False when it is not one. A leader's call."""
        if self.role is not Role.LEADER or self._quiesced or self._transfer_to or self._restoring:
            return False
        last = self.last_index
        if not (self._handed == self.commit == self.stable == last) or self._reads or self._reads_waiting:
            return False
        if any(peer.match != last or peer.state is not State.REPLICATE for peer in self._peers):
            return False
        self._emit_heartbeats(quiesce=True)
        self._quiesced = True
        return True

    def unquiesce(self, now_us: int) -> None:
        """Wake up: a leader beats again; a follower starts its election timer (its leader's node is thought dead)."""
        self._advance_now(now_us)
        if self._quiesced:
            self._wake()

    # -- follower ----------------------------------------------------------------------------------------------------

    def _follow(self, leader: ReplicaId) -> bool:
        """Note a message of the term's leader: loyalty (L3) and the election timer start anew."""
        if self.role is not Role.FOLLOWER or self.leader != leader:
            if self.role is Role.LEADER or self.leader not in (NO_REPLICA, leader):
                self._malformed()  # two leaders in one term
                return False
            self._become_follower(self.term, leader)
        now_us = self._now_us
        self._quiesced = False
        self._loyal_until_us = now_us + self.options.election_min_us
        self._election_us = now_us + self._election_timeout_us
        return True

    def _on_append(self, message: Append) -> None:
        if not self._follow(message.sender) or self._restoring is not None:
            return
        prev, prev_term, entries = message.prev_index, message.prev_term, message.entries
        if not _is_well_formed(prev, prev_term, entries, message.term):
            self._malformed()
            return
        end = prev + len(entries)
        if prev == self.last_index and prev_term == self._last_term:
            if entries:
                self._extend(entries)
        elif prev < self.commit:
            # All below the commit index is the same in every log; go on from there.
            if end > self.commit:
                self._merge(entries[self.commit - prev :])
            else:
                end = self.commit
        elif prev > self.last_index or (
            self._term_at(prev) != prev_term and "append-unchecked" not in self.options.canaries
        ):
            self._reject(message)
            return
        elif entries:
            self._merge(entries)
        commit = message.commit if message.commit < end else end
        if commit > self.commit:
            self.commit = commit
            if len(self._configs) > 1:
                self._prune_configs()
        ack = self._ack
        if ack is None or ack[1] < end:
            self._ack = (
                message.sender,
                end,
                message.sent_us if ack is None else max(ack[2], message.sent_us),
            )
        else:
            self._ack = (message.sender, ack[1], max(ack[2], message.sent_us))

    def _merge(self, entries: Sequence[Entry]) -> None:
        """Skip what is held already; replace the log from the first entry that differs (figure 2, steps 3 and 4)."""
        for position, entry in enumerate(entries):
            if entry.index > self.last_index:
                self._extend(entries[position:])
                return
            if self._term_at(entry.index) != entry.term:
                self._truncate(entry.index)
                self._extend(entries[position:])
                self._sync_log()
                return

    def _reject(self, message: Append) -> None:
        hint = self._find_match(message.prev_index, message.prev_term)
        hint_term = self._term_at(hint)
        self._send(
            AppendResponse(
                message.sender, self.id, self.term, message.prev_index, message.sent_us, True, hint, hint_term
            )
        )

    def _on_heartbeat(self, message: Heartbeat) -> None:
        if not self._follow(message.sender):
            return
        if message.commit > self.commit and self._restoring is None:
            # The leader knows that this log matches up to there; a log that is shorter has lost what it acknowledged.
            if message.commit > self.last_index:
                self._malformed()
            else:
                self.commit = message.commit
                if len(self._configs) > 1:
                    self._prune_configs()
        if message.quiesce and self.last_index == self.commit == message.commit:
            self._quiesced = True
        ack = self._heartbeat_ack
        if ack is None:
            self._heartbeat_ack = (message.sender, message.sent_us, message.context)
        else:
            self._heartbeat_ack = (
                message.sender,
                max(ack[1], message.sent_us),
                max(ack[2], message.context),
            )

    def _emit_acks(self) -> None:
        if self._ack is not None:
            leader, index, sent_us = self._ack
            self._ack = None
            self._messages.append(AppendResponse(leader, self.id, self.term, index, sent_us))
        if self._heartbeat_ack is not None:
            leader, sent_us, context = self._heartbeat_ack
            self._heartbeat_ack = None
            self._messages.append(HeartbeatResponse(leader, self.id, self.term, sent_us, context))

    def _on_snapshot(self, message: SnapshotMessage) -> None:
        if not self._follow(message.sender) or self._restoring is not None:
            return
        index = message.index
        if not message.config.is_well_formed() or message.index_term > message.term:
            self._malformed()
            return
        if index <= self.commit:
            self._ack = (message.sender, self.commit, -1)
            return
        if index <= self.last_index and self._term_at(index) == message.index_term:
            self.commit = index  # P4: the log holds what the snapshot ends with, so its suffix stays
            self._prune_configs()
            self._ack = (message.sender, index, -1)
            return
        self._restoring = Snapshot(index, message.index_term, message.config)
        self._restore_handed = False
        self._unstable = []
        self._synced_count = 0
        self._persisting_index = 0
        self._configs = [(index, message.config)]
        self._on_config_changed()
        self.last_index = self.commit = self.stable = self._handed = self.applied = index
        self._last_term = message.index_term
        self._ack = (message.sender, index, -1)

    def validate_replication(self) -> None:
        """Assert the invariants of this layer."""
        if self.role is not Role.LEADER:
            assert not self._progress and not self._sends_due, "only a leader replicates"
            assert self._transfer_us == NEVER_US
            return
        assert self._term_start <= self.last_index and self._last_term == self.term, (
            "a leader's log ends in its term"
        )
        assert self.leader == self.id
        assert (
            sum(index > self.commit for index, _ in self._configs) <= 1 or self.commit < self._term_start
        ), "4"
        assert list(self._progress) == [voter for voter in self.config.voters if voter != self.id]
        for peer in self._peers:
            peer.validate(self.last_index)
        assert self._uncommitted_bytes >= 0
        assert not self._lease_lost or self.lease_until_us == 0 or "stale-lease" in self.options.canaries, "5"


def _is_well_formed(prev: int, prev_term: int, entries: Sequence[Entry], term: int) -> bool:
    """Whether the entries are contiguous, of ascending terms up to the message's, and their configurations readable."""
    index = prev
    last_term = prev_term
    for entry in entries:
        index += 1
        entry_term = entry.term
        if entry.index != index or entry_term < last_term:
            return False
        last_term = entry_term
        if entry.kind != KIND_NORMAL and not _is_config(entry):
            return False
    return last_term <= term


def _is_config(entry: Entry) -> bool:
    if entry.kind != KIND_CONFIG:
        return False
    try:
        Config.decode(entry.data)
    except CorruptionError:
        return False
    return True
