"""What a leader may claim without a log entry: its lease, a read index, and that a quorum still listens.

References: Ongaro's dissertation §6.4 (read index), §6.4.1 (leases), §6.2 (check-quorum); Gray and Cheriton, "Leases"
(1989) for the drift bound; rules L3 and L4.

The lease: a voter that got a message of the leader's sent at t refuses votes until one minimum election timeout after
it arrived, so nobody else leads before t + election_min by any clock that runs at most `lease_drift_percent` fast. The
leader takes, over the voters of the configuration in force, the latest t that a majority has acknowledged.

Invariants:
1. No lease before the own term's no-op is committed, after TimeoutNow was sent in the term (L4), or asleep (L3).
2. An acknowledgement counts only if it echoes an own send time between the floor (leadership or waking) and now.
3. A read index is the commit index when the request came, and is released only when a majority answered a heartbeat
   that was sent after it.

It does not read a clock: `lease_until_us` is compared by the caller with a fresh one (L2).
"""

from __future__ import annotations

from txndb import limits
from txndb.raft.progress import Progress, quorum_value
from txndb.raft.state import RaftState
from txndb.raft.types import NEVER_US, NotLeader, ProposalDropped, ReadState, Role


class Lease(RaftState):
    """Lease, read index, check-quorum."""

    @property
    def lease_until_us(self) -> int:
        """Until when this leader may serve reads alone, by its own clock; 0 when it may not."""
        if self.role is not Role.LEADER or self.commit < self._term_start or self._quiesced:
            return 0
        if "stale-lease" in self.options.canaries:
            return self._heartbeat_us + self.options.election_max_us
        if self._lease_lost:  # L4
            return 0
        sent_us = self._lease_us
        if sent_us is None:
            sent_us = self._lease_us = self._quorum_sent_us()
        if sent_us < 0:
            return 0
        if sent_us == NEVER_US:  # the only voter
            sent_us = self._now_us
        options = self.options
        return sent_us + options.election_min_us * (100 - options.lease_drift_percent) // 100

    def _quorum_sent_us(self) -> int:
        """The latest own send time that a majority of the voters has acknowledged; -1 for none."""
        values = [peer.acked_us for peer in self._peers]
        if self._votes_self:
            values.append(NEVER_US)
        return quorum_value(values) if values else -1

    def _note_ack(self, peer: Progress, sent_us: int) -> None:
        """A peer acknowledged what was sent at `sent_us`."""
        now_us = self._now_us
        peer.active_us = now_us
        if peer.acked_us < sent_us <= now_us and sent_us >= self._lease_floor_us:
            peer.acked_us = sent_us
            self._lease_us = None

    def _has_active_quorum(self, window_us: int) -> bool:
        """Whether a majority was heard from within the window."""
        since_us = self._now_us - window_us
        count = 1 if self._votes_self else 0
        voters = count
        for peer in self._peers:
            voters += 1
            if peer.active_us > since_us:
                count += 1
        return count > voters >> 1

    # -- read index --------------------------------------------------------------------------------------------------

    def read_index(self, context: bytes, now_us: int) -> None:
        """Ask for a read index; the answer is a `ReadState` with this context in a later Ready."""
        self._advance_now(now_us)
        if self.role is not Role.LEADER:
            raise NotLeader(self.leader)
        if len(self._reads) + len(self._reads_waiting) >= limits.READS_PENDING_MAX:
            raise ProposalDropped("too many read-index requests wait for a quorum")
        if self._quiesced:
            self._wake()
        if self.commit < self._term_start:
            self._reads_waiting.append(context)
        else:
            self._register_read(context)

    def _register_read(self, context: bytes) -> None:
        state = ReadState(context, self.commit)
        if self._votes_self and not self._peers:
            self._read_states.append(state)
            return
        if not self._round_open:
            self._round += 1
            self._round_open = True
        self._heartbeat_due = True
        self._reads.append((self._round, state))

    def _register_waiting_reads(self) -> None:
        """The own term's no-op is committed: the requests that waited for it begin."""
        waiting, self._reads_waiting = self._reads_waiting, []
        for context in waiting:
            self._register_read(context)

    def _release_reads(self) -> None:
        """Answer the reads whose round a majority has confirmed."""
        rounds = [peer.round for peer in self._peers]
        if self._votes_self:
            rounds.append(self._round)
        confirmed = quorum_value(rounds)
        count = 0
        for number, state in self._reads:
            if number > confirmed:
                break
            self._read_states.append(state)
            count += 1
        del self._reads[:count]

    # -- time and sleep ----------------------------------------------------------------------------------------------

    def _advance_now(self, now_us: int) -> None:
        """Time never runs backwards in here."""
        if now_us > self._now_us:
            self._now_us = now_us

    @property
    def quiesced(self) -> bool:
        """Whether the group sleeps, as far as this replica knows."""
        return self._quiesced

    def _wake(self) -> None:
        """End quiescence: a leader beats at once and has no lease before a new quorum round (L3)."""
        self._quiesced = False
        if self.role is Role.LEADER:
            self._lease_floor_us = self._now_us
            for peer in self._peers:
                peer.acked_us = -1
                peer.active_us = self._now_us
            self._lease_us = None
            self._heartbeat_due = True
            self._heartbeat_us = self._now_us + self.options.heartbeat_us
        else:
            self._reset_election_timer()

    def validate_lease(self) -> None:
        """Assert the invariants of this layer."""
        if self.role is not Role.LEADER:
            assert self.lease_until_us == 0, "1: only a leader has a lease"
            assert not self._reads and not self._reads_waiting, "3: only a leader holds read requests"
        rounds = [number for number, _ in self._reads]
        assert rounds == sorted(rounds) and (not rounds or rounds[-1] <= self._round), "3: rounds ascend"
        assert all(peer.round <= self._round for peer in self._peers), "3: nobody confirms a round not begun"
        assert all(peer.acked_us <= self._now_us for peer in self._peers), "2: nobody acknowledges the future"
