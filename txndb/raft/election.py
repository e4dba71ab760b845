"""Elections: who may become leader, and whom this replica votes for.

References: Raft paper §5.2, §5.4.1; dissertation §3.10 (TimeoutNow), §4.2.3 (votes are refused while a leader is heard
of), §9.6 (pre-vote); rules L3 and L4.

    FOLLOWER -- election timeout --> PRE_CANDIDATE -- majority would vote --> CANDIDATE -- majority votes --> LEADER
        '----------------------- TimeoutNow, forced ---------------------------^

Invariants:
1. One vote a term, durable before it is sent; a candidate's own is durable before it asks for others'.
2. Pre-vote changes no term and no vote.
3. No vote is given while loyal – within a minimum election timeout of the leader's last message, or of a restart –
   but to a forced candidate, which the leader itself has called after giving up its lease (L4).
"""

from __future__ import annotations

from txndb.raft.replication import Replication
from txndb.raft.types import (
    NO_REPLICA,
    PreVote,
    PreVoteResponse,
    Role,
    TimeoutNow,
    Vote,
    VoteResponse,
)


class Election(Replication):
    """Candidates and voters."""

    def campaign(self, now_us: int) -> None:
        """Stand for election now instead of at the timeout, with pre-vote."""
        self._advance_now(now_us)
        if self.role is not Role.LEADER:
            self._campaign()

    # -- candidate ---------------------------------------------------------------------------------------------------

    def _campaign(self) -> None:
        """Ask whether an election could be won."""
        self._reset_election_timer()
        if not self._may_campaign():
            return
        if self.config.voters == (self.id,):
            self._elect(forced=False)
            return
        self._quiesced = False
        self.role = Role.PRE_CANDIDATE
        self.leader = NO_REPLICA
        self._votes = {self.id: True}
        self._ask_all(PreVote, self.term + 1)

    def _elect(self, forced: bool) -> None:
        """Begin a term and ask for votes in it."""
        if self.role is Role.LEADER:
            self._resign()
        self._quiesced = False
        self.term += 1
        self.vote = self.id
        self._ack = None
        self._heartbeat_ack = None
        self.role = Role.CANDIDATE
        self.leader = NO_REPLICA
        self._reset_election_timer()
        self._votes = {self.id: True}
        if self.config.voters == (self.id,):
            self._become_leader()
            return
        for voter in self.config.voters:
            if voter != self.id:
                self._send(Vote(voter, self.id, self.term, self.last_index, self._last_term, forced))

    def _ask_all(self, kind: type[PreVote], term: int) -> None:
        for voter in self.config.voters:
            if voter != self.id:
                self._send(kind(voter, self.id, term, self.last_index, self._last_term))

    def _count_votes(self) -> bool | None:
        """True: a majority granted; False: no majority can any more; None: open."""
        voters = self.config.voters
        granted = sum(self._votes.get(voter) is True for voter in voters)
        refused = sum(self._votes.get(voter) is False for voter in voters)
        if granted > len(voters) >> 1:
            return True
        if refused >= (len(voters) + 1) >> 1:
            return False
        return None

    def _on_pre_vote_response(self, message: PreVoteResponse) -> None:
        if self.role is not Role.PRE_CANDIDATE:
            return
        if message.term != (self.term + 1 if message.granted else self.term):
            return
        if message.sender in self.config.voters:
            self._votes[message.sender] = message.granted
        outcome = self._count_votes()
        if outcome is True:
            self._elect(forced=False)
        elif outcome is False:
            self._become_follower(self.term, NO_REPLICA)

    def _on_vote_response(self, message: VoteResponse) -> None:
        if self.role is not Role.CANDIDATE:
            return
        if message.sender in self.config.voters:
            self._votes[message.sender] = message.granted
        outcome = self._count_votes()
        if outcome is True:
            self._become_leader()
        elif outcome is False:
            self._become_follower(self.term, NO_REPLICA)

    def _on_timeout_now(self, message: TimeoutNow) -> None:
        if self.role is Role.LEADER or not self._may_campaign():
            return
        if self.leader not in (NO_REPLICA, message.sender):
            self._malformed()
            return
        self._elect(forced=True)

    # -- voter -------------------------------------------------------------------------------------------------------

    def _is_loyal(self) -> bool:
        """Whether a vote now could break a lease (L3), or disturb a leader that a majority follows."""
        if self.role is Role.LEADER:
            return self._has_active_quorum(self.options.election_min_us)
        return self._now_us < self._loyal_until_us

    def _is_up_to_date(self, message: PreVote | Vote) -> bool:
        """Raft paper §5.4.1: the candidate's log ends in a later term, or in the same one and is not shorter."""
        return (message.last_term, message.last_index) >= (self._last_term, self.last_index)

    def _on_pre_vote(self, message: PreVote) -> None:
        if self._quiesced:
            # Asleep, silence says nothing about the leader: wake up, let it be heard of, answer when asked again.
            self._wake()
            return
        if message.term > self.term:
            if self._is_loyal():
                return
            if self._is_up_to_date(message):
                self._send(PreVoteResponse(message.sender, self.id, message.term, True))
                return
        self._send(PreVoteResponse(message.sender, self.id, self.term, False))

    def _on_vote(self, message: Vote) -> None:
        """A vote of the own term (a higher one was adopted before, unless loyalty forbade it)."""
        if self._is_loyal() and not message.forced:
            return
        free = self.vote == message.sender or (self.vote == NO_REPLICA and self.leader == NO_REPLICA)
        granted = free and self._is_up_to_date(message)
        if granted:
            self.vote = message.sender
            self._reset_election_timer()
        self._send(VoteResponse(message.sender, self.id, self.term, granted))

    def validate_election(self) -> None:
        """Assert the invariants of this layer."""
        if self.role in (Role.CANDIDATE, Role.LEADER):
            assert self.vote == self.id, "1: a candidate has voted for itself"
        if self.role in (Role.CANDIDATE, Role.PRE_CANDIDATE):
            assert self.leader == NO_REPLICA
            assert self._votes.get(self.id) is True
