"""One test per sentence of the Raft paper and the dissertation.

Paper: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm (Extended Version)", 2014.
Dissertation: Ongaro, "Consensus: Bridging Theory and Practice", 2014.
"""

from __future__ import annotations

from typing import TypeVar

import pytest

from tests.raft.cluster import MemoryLog
from txndb.ids import ReplicaId
from txndb.raft import (
    KIND_CONFIG,
    NEVER_US,
    Append,
    AppendResponse,
    Config,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatResponse,
    Message,
    NotLeader,
    Options,
    PreVote,
    PreVoteResponse,
    ProposalDropped,
    Raft,
    Ready,
    Role,
    SnapshotMessage,
    TimeoutNow,
    Vote,
    VoteResponse,
)

M = TypeVar("M", bound=Message)
ONE, TWO, THREE = ReplicaId(1), ReplicaId(2), ReplicaId(3)
FIVE = tuple(ReplicaId(i) for i in range(1, 6))
LATE_US = 10_000_000
"""Long after every timeout."""


class Rig:
    """One machine, its log, and everything it has sent since last looked at."""

    def __init__(
        self,
        terms: tuple[int, ...] = (),
        term: int = 0,
        voters: tuple[ReplicaId, ...] = (ONE, TWO, THREE),
        vote: ReplicaId = ReplicaId(0),
        replica: ReplicaId = ONE,
    ) -> None:
        self.log = MemoryLog()
        for index, entry_term in enumerate(terms, 1):
            self.log.append([Entry(index, entry_term, 0, b"%d" % index)])
        self.sent: list[Message] = []
        self.applied: list[Entry] = []
        self.hard_state = HardState(max((*terms, term)), vote, 0)
        self.raft = Raft(
            Options(replica), self.log, self.hard_state, Config(voters), 0, 0, lambda stop: stop // 2
        )
        self.run()

    def run(self) -> list[Ready]:
        """Finish every Ready."""
        done = []
        while self.raft.has_ready():
            ready = self.raft.ready()
            self.hard_state = ready.hard_state or self.hard_state
            self.sent += ready.messages
            self.applied += ready.committed
            self.raft.advance(ready.number)
            self.raft.validate()
            done.append(ready)
        return done

    def step(self, message: Message, now_us: int = LATE_US) -> list[Ready]:
        self.raft.step(message, now_us)
        self.raft.validate()
        return self.run()

    def took(self, kind: type[M]) -> list[M]:
        """What was sent of this kind; everything sent is forgotten."""
        found = [message for message in self.sent if isinstance(message, kind)]
        self.sent.clear()
        return found

    def elect(self, now_us: int = LATE_US) -> Raft:
        """Win an election with the votes of all others."""
        raft = self.raft
        raft.campaign(now_us)
        self.run()
        others = [voter for voter in raft.config.voters if voter != raft.id]
        for other in others:
            self.step(PreVoteResponse(raft.id, other, raft.term + 1, True), now_us)
        for other in others:
            self.step(VoteResponse(raft.id, other, raft.term, True), now_us)
        assert raft.role is Role.LEADER
        return raft

    def accept(self, *others: ReplicaId, index: int | None = None, now_us: int = LATE_US) -> None:
        """Others answer that they hold the log up to `index` (by default all of it)."""
        raft = self.raft
        for other in others:
            self.step(
                AppendResponse(ONE, other, raft.term, raft.last_index if index is None else index, now_us)
            )


def entry(index: int, term: int, data: bytes = b"x") -> Entry:
    return Entry(index, term, 0, data)


# -- §5.1 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE, Role.LEADER])
def test_a_larger_term_is_adopted(role: Role) -> None:
    """If one server's current term is smaller than the other's, it updates to the larger value; a candidate or leader
    that discovers that its term is out of date reverts to follower state. Reference: paper §5.1."""
    rig = Rig()
    if role is Role.LEADER:
        rig.elect()
    elif role is Role.CANDIDATE:
        rig.step(TimeoutNow(ONE, TWO, 1))
        assert rig.raft.role is Role.CANDIDATE
    rig.step(Append(ONE, THREE, 7, 0, 0, [], 0, 0))
    assert (rig.raft.role, rig.raft.term, rig.raft.leader) == (Role.FOLLOWER, 7, THREE)
    assert rig.hard_state.term == 7


def test_a_stale_request_is_rejected() -> None:
    """If a server receives a request with a stale term number, it rejects the request. Reference: paper §5.1."""
    rig = Rig(terms=(1, 2), term=5)
    rig.step(Append(ONE, TWO, 4, 2, 2, [entry(3, 4)], 2, 0))
    assert rig.raft.last_index == 2 and rig.raft.commit == 0
    (answer,) = rig.took(HeartbeatResponse)
    assert answer.term == 5
    rig.step(Vote(ONE, TWO, 4, 9, 9))
    assert [vote.granted for vote in rig.took(VoteResponse)] == [False]


# -- §5.2 ------------------------------------------------------------------------------------------------------------


def test_servers_start_as_followers() -> None:
    """When servers start up, they begin as followers. Reference: paper §5.2."""
    assert Rig().raft.role is Role.FOLLOWER


def test_a_follower_stands_after_an_election_timeout() -> None:
    """If a follower receives no communication over the election timeout, it begins an election. Reference: §5.2."""
    rig = Rig()
    deadline_us = rig.raft.deadline_us
    assert 500_000 <= deadline_us < 1_000_000
    rig.raft.tick(deadline_us - 1)
    assert rig.raft.role is Role.FOLLOWER
    rig.raft.tick(deadline_us)
    rig.run()
    assert {message.to for message in rig.took(PreVote)} == {TWO, THREE}


def test_election_timeouts_are_random() -> None:
    """Election timeouts are chosen randomly from a fixed interval. Reference: paper §5.2."""
    options = Options(ONE)

    def deadline_us(chance: int) -> int:
        config = Config((ONE, TWO))
        return Raft(
            options, MemoryLog(), HardState(), config, 0, 0, lambda stop: chance * (stop - 1) // 4
        ).deadline_us

    deadlines = [deadline_us(chance) for chance in range(5)]
    assert deadlines == sorted(set(deadlines))
    assert deadlines[0] == options.election_min_us and deadlines[-1] == options.election_max_us - 1


def test_an_election_begins_a_term_and_votes_for_itself() -> None:
    """To begin an election, a follower increments its current term and transitions to candidate state. It then votes
    for itself and issues RequestVote RPCs in parallel. Reference: paper §5.2."""
    rig = Rig(terms=(1, 1), term=3)
    rig.raft.campaign(LATE_US)
    rig.run()
    rig.step(PreVoteResponse(ONE, TWO, 4, True))
    assert rig.raft.role is Role.CANDIDATE and rig.hard_state == HardState(4, ONE, 0)
    votes = rig.took(Vote)
    assert [(v.to, v.term, v.last_index, v.last_term) for v in votes] == [(TWO, 4, 2, 1), (THREE, 4, 2, 1)]


@pytest.mark.parametrize(("granted", "wins"), [(1, False), (2, True)])
def test_a_majority_of_votes_wins(granted: int, wins: bool) -> None:
    """A candidate wins if it receives votes from a majority of the servers in the full cluster. Reference: §5.2."""
    rig = Rig(voters=FIVE)
    rig.step(TimeoutNow(ONE, TWO, 1))
    for voter in FIVE[1 : 1 + granted]:
        rig.step(VoteResponse(ONE, voter, 2, True))
        rig.step(VoteResponse(ONE, voter, 2, True))  # twice the same vote counts once
    assert (rig.raft.role is Role.LEADER) is wins


def test_votes_of_strangers_do_not_count() -> None:
    """A majority of the servers in the configuration. Reference: dissertation §4.1."""
    rig = Rig(voters=FIVE)
    rig.step(TimeoutNow(ONE, TWO, 1))
    for stranger in range(10, 14):
        rig.step(VoteResponse(ONE, ReplicaId(stranger), 2, True))
    assert rig.raft.role is Role.CANDIDATE


def test_one_vote_a_term_first_come_first_served() -> None:
    """Each server will vote for at most one candidate in a given term. Reference: paper §5.2."""
    rig = Rig()
    rig.step(Vote(ONE, TWO, 2, 0, 0))
    rig.step(Vote(ONE, THREE, 2, 0, 0))
    rig.step(Vote(ONE, TWO, 2, 0, 0))
    answers = [(answer.to, answer.granted) for answer in rig.took(VoteResponse)]
    assert answers == [(TWO, True), (THREE, False), (TWO, True)]


def test_a_vote_is_persistent() -> None:
    """votedFor is updated on stable storage before responding to RPCs. Reference: paper figure 2."""
    rig = Rig()
    rig.raft.step(Vote(ONE, TWO, 2, 0, 0), LATE_US)
    ready = rig.raft.ready()
    assert ready.must_persist and ready.hard_state == HardState(2, TWO, 0)
    assert [type(message) for message in ready.messages] == [VoteResponse]
    again = Rig(term=2, vote=TWO)
    again.step(Vote(ONE, THREE, 2, 0, 0))
    assert [answer.granted for answer in again.took(VoteResponse)] == [False]


def test_a_candidate_follows_a_leader_of_its_term() -> None:
    """If the leader's term is at least as large as the candidate's current term, the candidate recognizes the leader as
    legitimate and returns to follower state. Reference: paper §5.2."""
    rig = Rig()
    rig.step(TimeoutNow(ONE, TWO, 1))
    rig.step(Append(ONE, THREE, 2, 0, 0, [], 0, 0))
    assert rig.raft.role is Role.FOLLOWER and rig.raft.leader == THREE


def test_a_leader_sends_heartbeats() -> None:
    """Leaders send periodic heartbeats to all followers in order to maintain their authority. Reference: paper §5.2."""
    rig = Rig()
    raft = rig.elect()
    rig.accept(TWO, THREE)
    rig.sent.clear()
    raft.tick(raft.deadline_us)  # the commit notice
    rig.run()
    rig.sent.clear()
    assert raft.deadline_us == LATE_US + 100_000
    raft.tick(raft.deadline_us)
    rig.run()
    assert {message.to for message in rig.took(Heartbeat)} == {TWO, THREE}


# -- §5.3 ------------------------------------------------------------------------------------------------------------


def test_a_leader_appends_and_replicates_in_parallel() -> None:
    """The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each of
    the other servers. Reference: paper §5.3."""
    rig = Rig()
    raft = rig.elect()
    rig.accept(TWO, THREE)
    rig.sent.clear()
    assert raft.propose(b"command", LATE_US) == 2
    rig.run()
    appends = rig.took(Append)
    assert [(a.to, a.prev_index, a.prev_term, a.entries) for a in appends] == [
        (TWO, 1, 1, [Entry(2, 1, 0, b"command")]),
        (THREE, 1, 1, [Entry(2, 1, 0, b"command")]),
    ]


def test_a_follower_refuses_proposals() -> None:
    """Only the leader services requests; a follower names it. Reference: paper §5.1 and §8."""
    rig = Rig()
    rig.step(Append(ONE, TWO, 2, 0, 0, [], 0, 0))
    with pytest.raises(NotLeader) as caught:
        rig.raft.propose(b"x", LATE_US)
    assert caught.value.leader == TWO and caught.value.retryable


@pytest.mark.parametrize(("answers", "committed"), [(1, False), (2, True)])
def test_an_entry_on_a_majority_is_committed(answers: int, committed: bool) -> None:
    """A log entry is committed once the leader that created the entry has replicated it on a majority of the servers.
    Reference: paper §5.3."""
    rig = Rig(voters=FIVE)
    raft = rig.elect()
    rig.accept(*FIVE[1 : 1 + answers])
    assert (raft.commit == 1) is committed


def test_commit_covers_all_preceding_entries() -> None:
    """This also commits all preceding entries in the leader's log, including entries created by previous leaders.
    Reference: paper §5.3."""
    rig = Rig(terms=(1, 1, 2), term=2)
    rig.elect()
    rig.accept(TWO)
    assert [e.index for e in rig.applied] == [1, 2, 3, 4]


def test_a_follower_applies_what_it_learns_is_committed() -> None:
    """Once a follower learns that a log entry is committed, it applies the entry (in log order). Reference: §5.3."""
    rig = Rig()
    rig.step(Append(ONE, TWO, 2, 0, 0, [entry(1, 2), entry(2, 2)], 0, 0))
    assert rig.applied == []
    rig.step(Heartbeat(ONE, TWO, 2, 1, 0, 0))
    assert [e.index for e in rig.applied] == [1]
    rig.step(Append(ONE, TWO, 2, 2, 2, [], 2, 0))
    assert [e.index for e in rig.applied] == [1, 2]


@pytest.mark.parametrize(
    ("prev_index", "prev_term", "accepted"),
    [(2, 2, True), (0, 0, True), (2, 3, False), (3, 3, False), (9, 3, False)],
)
def test_the_consistency_check(prev_index: int, prev_term: int, accepted: bool) -> None:
    """If the follower does not find an entry in its log with the same index and term, it refuses the new entries.
    Reference: paper §5.3."""
    rig = Rig(terms=(1, 2), term=3)
    rig.step(Append(ONE, TWO, 3, prev_index, prev_term, [], 0, 5))
    (answer,) = rig.took(AppendResponse)
    assert (answer.rejected, answer.index, answer.sent_us) == (not accepted, prev_index, 5)


@pytest.mark.parametrize(
    ("prev", "sent", "expected"),
    [
        ((2, 2), [(3, 3)], [1, 2, 3]),
        ((1, 1), [(2, 3), (3, 4)], [1, 3, 4]),
        ((0, 0), [(1, 1)], [1, 2]),
        ((0, 0), [(1, 3)], [3]),
        ((1, 1), [(2, 2), (3, 4)], [1, 2, 4]),
    ],
)
def test_conflicting_entries_are_overwritten(
    prev: tuple[int, int], sent: list[tuple[int, int]], expected: list[int]
) -> None:
    """If an existing entry conflicts with a new one, delete it and all that follow it; append any new entries not
    already in the log. Reference: paper figure 2, AppendEntries steps 3 and 4."""
    rig = Rig(terms=(1, 2), term=4)
    rig.step(Append(ONE, TWO, 4, *prev, [entry(i, t) for i, t in sent], 0, 0))
    assert [e.term for e in rig.log.items] == expected
    (answer,) = rig.took(AppendResponse)
    assert not answer.rejected and answer.index == sent[-1][0]


@pytest.mark.parametrize(
    "terms", [(1, 1, 1, 4, 4, 5, 5, 6, 6), (1, 1, 1, 4), (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3)]
)
def test_a_leader_brings_a_follower_in_line(terms: tuple[int, ...]) -> None:
    """The leader finds the latest log entry where the two logs agree and sends all entries after that point; after a
    rejection it steps back a whole term at a time. Reference: paper §5.3 and figure 7."""
    leader_terms = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    leader = Rig(terms=leader_terms, term=7)
    follower = Rig(terms=terms, term=7, replica=TWO)
    leader.elect()
    rounds = 0
    while leader.log.items != follower.log.items:
        rounds += 1
        assert rounds <= 4, "one rejection a term at most"
        for append in [a for a in leader.took(Append) if a.to == TWO]:
            follower.step(append)
        for answer in follower.took(AppendResponse):
            leader.step(answer)
    assert [e.term for e in follower.log.items] == [*leader_terms, 8]


# -- §5.4 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(2, 2, True), (3, 2, True), (1, 3, True), (1, 2, False), (5, 1, False)],
)
def test_the_voter_denies_a_less_complete_log(last_index: int, last_term: int, granted: bool) -> None:
    """The voter denies its vote if its own log is more up-to-date than that of the candidate. Reference: §5.4.1."""
    for kind, answer_kind in ((Vote, VoteResponse), (PreVote, PreVoteResponse)):
        rig = Rig(terms=(1, 2), term=3)
        rig.step(kind(ONE, TWO, 4, last_index, last_term))
        assert [answer.granted for answer in rig.took(answer_kind)] == [granted]  # type: ignore[attr-defined]


def test_only_own_term_entries_are_committed_by_counting() -> None:
    """Raft never commits log entries from previous terms by counting replicas. Reference: paper §5.4.2."""
    rig = Rig(terms=(1, 2), term=2)
    raft = rig.elect()
    rig.accept(TWO, THREE, index=2)
    assert raft.commit == 0
    rig.accept(TWO, index=3)
    assert raft.commit == 3


def test_a_leader_starts_its_term_with_a_no_op() -> None:
    """Each leader commits a blank no-op entry into the log at the start of its term. Reference: paper §8."""
    rig = Rig(terms=(1,), term=1)
    raft = rig.elect()
    assert rig.log.items[-1] == Entry(2, raft.term, 0, b"")


def test_appends_may_repeat() -> None:
    """Raft RPCs are idempotent. Reference: paper §5.5."""
    rig = Rig()
    append = Append(ONE, TWO, 2, 0, 0, [entry(1, 2), entry(2, 2)], 1, 0)
    late = Append(ONE, TWO, 2, 0, 0, [entry(1, 2)], 0, 0)
    for message in (append, append, late):
        rig.step(message)
    assert [e.index for e in rig.log.items] == [1, 2] and rig.raft.commit == 1
    assert [e.index for e in rig.applied] == [1]


# -- persistence: rule P1 -----------------------------------------------------------------------------------------


def test_a_leader_counts_itself_only_when_durable() -> None:
    """The leader may even commit an entry before it has been written to its own disk, if a majority of followers have;
    it counts itself only once it has. Reference: dissertation §10.2.1."""
    rig = Rig(voters=FIVE)
    raft = rig.elect()
    rig.accept(*FIVE[1:])
    raft.propose(b"x", LATE_US)
    ready = raft.ready()
    for voter in FIVE[1:3]:
        raft.step(AppendResponse(ONE, voter, raft.term, 2, LATE_US), LATE_US)
    assert raft.commit == 1, "two of five, and the own disk is at work"
    raft.advance(ready.number)
    assert raft.commit == 2


def test_what_is_replaced_while_the_disk_works_is_not_durable() -> None:
    """A Ready's completion names what it persisted, not an index. Reference: rule P1."""
    rig = Rig()
    rig.raft.step(Append(ONE, TWO, 2, 0, 0, [entry(1, 2), entry(2, 2)], 0, 0), LATE_US)
    ready = rig.raft.ready()
    rig.raft.step(Append(ONE, THREE, 3, 1, 2, [entry(2, 3)], 0, 0), LATE_US)
    rig.raft.advance(ready.number)
    assert rig.raft.stable == 1
    rig.run()
    assert rig.raft.stable == 2 and [e.term for e in rig.log.items] == [2, 3]


def test_an_answer_waits_for_the_disk() -> None:
    """An answer is in no Ready before the one that persists what it answers for. Reference: rule P1."""
    rig = Rig()
    rig.raft.step(Append(ONE, TWO, 2, 0, 0, [entry(1, 2)], 0, 1), LATE_US)
    first = rig.raft.ready()
    rig.raft.step(Append(ONE, TWO, 2, 1, 2, [entry(2, 2)], 0, 2), LATE_US)
    assert [m.index for m in first.messages if isinstance(m, AppendResponse)] == [1]
    assert not rig.raft.has_ready()
    rig.raft.advance(first.number)
    second = rig.raft.ready()
    assert [e.index for e in second.entries] == [2] and second.must_persist
    assert [m.index for m in second.messages if isinstance(m, AppendResponse)] == [2]


# -- §6, dissertation §3.10, §4 --------------------------------------------------------------------------------------


def test_votes_are_refused_within_the_minimum_election_timeout() -> None:
    """If a server receives a RequestVote within the minimum election timeout of hearing from a current leader, it does
    not update its term or grant its vote. Reference: paper §6, dissertation §4.2.3."""
    rig = Rig()
    rig.step(Heartbeat(ONE, TWO, 2, 0, 0, 0), LATE_US)
    rig.step(Vote(ONE, THREE, 9, 9, 9), LATE_US + 499_999)
    assert rig.raft.term == 2 and rig.took(VoteResponse) == []
    rig.step(Vote(ONE, THREE, 9, 9, 9), LATE_US + 500_000)
    assert [answer.granted for answer in rig.took(VoteResponse)] == [True]


def test_a_restarted_voter_waits() -> None:
    """A restarted voter waits one election timeout before it votes. Reference: rule L3."""
    rig = Rig(term=1)
    rig.step(Vote(ONE, TWO, 2, 0, 0), 499_999)
    assert rig.took(VoteResponse) == []
    rig.step(Vote(ONE, TWO, 2, 0, 0), 500_000)
    assert [answer.granted for answer in rig.took(VoteResponse)] == [True]


def test_a_newborn_voter_does_not_wait() -> None:
    """It has acknowledged nobody, so there is no lease to respect: the right half of a split elects at once."""
    log = MemoryLog()
    log.reset(10, 5)
    raft = Raft(
        Options(ONE),
        log,
        HardState(5, ReplicaId(0), 10),
        Config((ONE, TWO)),
        10,
        0,
        lambda stop: 0,
        newborn=True,
    )
    raft.step(Vote(ONE, TWO, 6, 10, 5), 0)
    (answer,) = raft.ready().messages
    assert isinstance(answer, VoteResponse) and answer.granted


def test_a_transferred_election_is_not_refused() -> None:
    """A special flag in RequestVote tells that the election is permitted to disrupt a leader. Reference: dissertation
    §4.2.3, §3.10."""
    rig = Rig()
    rig.step(Heartbeat(ONE, TWO, 2, 0, 0, 0))
    rig.step(Vote(ONE, THREE, 3, 0, 0, True))
    assert [answer.granted for answer in rig.took(VoteResponse)] == [True]


def test_a_leader_in_transfer_stops_proposals() -> None:
    """The prior leader stops accepting new client requests. Reference: dissertation §3.10, step 1."""
    rig = Rig()
    raft = rig.elect()
    rig.accept(TWO, THREE)
    raft.transfer(TWO, LATE_US)
    rig.run()
    assert [message.to for message in rig.took(TimeoutNow)] == [TWO]
    with pytest.raises(ProposalDropped):
        raft.propose(b"x", LATE_US)


def test_a_configuration_is_in_force_when_it_is_in_the_log() -> None:
    """The new configuration takes effect on each server as soon as it is added to that server's log; when it is removed
    from there, the server falls back. Reference: dissertation §4.1."""
    rig = Rig()
    larger = Config((ONE, TWO, THREE, ReplicaId(4)))
    rig.step(Append(ONE, TWO, 2, 0, 0, [Entry(1, 2, KIND_CONFIG, larger.encode())], 0, 0))
    assert rig.raft.config == larger
    rig.step(Append(ONE, THREE, 3, 0, 0, [entry(1, 3)], 0, 0))
    assert rig.raft.config == Config((ONE, TWO, THREE))


def test_no_configuration_before_the_terms_first_commit() -> None:
    """A leader may not append a new configuration entry until it has committed an entry from its current term.
    Reference: the correction of dissertation §4.1 (Ongaro, raft-dev, 2015)."""
    rig = Rig()
    raft = rig.elect()
    with pytest.raises(ProposalDropped):
        raft.propose_config(Config((ONE, TWO)), LATE_US)
    rig.accept(TWO)
    assert raft.propose_config(Config((ONE, TWO)), LATE_US) == 2


def test_a_removed_voter_stands_until_its_removal_is_committed() -> None:
    """A server that is not part of its own latest configuration should still start new elections, as it might still be
    needed until the entry is committed. It does not count its own vote. Reference: dissertation §4.2.2, figure 4.6."""
    rig = Rig(voters=(ONE, TWO))
    raft = rig.elect()
    rig.accept(TWO)
    raft.propose_config(Config((TWO,)), LATE_US)
    rig.run()
    later = LATE_US + 2_000_000
    raft.tick(later)
    raft.tick(later + 1_000_000)
    rig.run()
    assert raft.status().role is Role.PRE_CANDIDATE and raft.deadline_us != NEVER_US
    rig.step(PreVoteResponse(ONE, TWO, raft.term + 1, True), later + 1_000_000)
    rig.step(VoteResponse(ONE, TWO, raft.term, True), later + 1_000_000)
    assert raft.status().role is Role.LEADER
    rig.accept(TWO)
    assert raft.status().role is Role.FOLLOWER and raft.deadline_us == NEVER_US


# -- §7 --------------------------------------------------------------------------------------------------------------


def test_a_snapshot_replaces_a_log_that_lacks_its_end() -> None:
    """The snapshot will contain information not already in the recipient's log: the follower discards its entire log.
    Reference: paper §7."""
    rig = Rig(terms=(1, 1), term=3)
    rig.raft.step(SnapshotMessage(ONE, TWO, 3, 5, 2, Config((ONE, TWO))), LATE_US)
    ready = rig.raft.ready()
    assert ready.snapshot is not None and ready.must_persist and not ready.committed
    assert (ready.snapshot.index, ready.snapshot.term) == (5, 2)
    rig.log.reset(5, 2)
    rig.raft.advance(ready.number)
    rig.raft.validate()
    assert (rig.raft.last_index, rig.raft.commit, rig.raft.config) == (5, 5, Config((ONE, TWO)))
    assert [(m.index, m.rejected) for m in ready.messages if isinstance(m, AppendResponse)] == [(5, False)]


def test_a_snapshot_of_a_prefix_keeps_what_follows() -> None:
    """If the snapshot describes a prefix of the log, entries following the snapshot are still valid and must be
    retained. Reference: paper §7."""
    rig = Rig(terms=(1, 1, 2), term=2)
    readies = rig.step(SnapshotMessage(ONE, TWO, 2, 2, 1, Config((ONE, TWO, THREE))))
    assert all(ready.snapshot is None for ready in readies)
    assert rig.raft.last_index == 3 and rig.raft.commit == 2


# -- dissertation §9.6 -----------------------------------------------------------------------------------------------


def test_pre_vote_changes_no_term() -> None:
    """In the Pre-Vote phase a candidate only increments its term if it first learns from a majority of the cluster that
    they would be willing to grant it their votes. Reference: dissertation §9.6."""
    rig = Rig(term=4)
    rig.raft.campaign(LATE_US)
    rig.run()
    assert rig.raft.term == 4 and [message.term for message in rig.took(PreVote)] == [5, 5]
    other = Rig(term=4)
    other.step(PreVote(ONE, TWO, 9, 0, 0))
    assert other.raft.term == 4 and other.hard_state.vote == 0
    assert [(a.term, a.granted) for a in other.took(PreVoteResponse)] == [(9, True)]
