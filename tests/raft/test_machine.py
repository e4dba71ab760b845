"""The machine's edges: encodings, refused inputs, bounds, restarts, and peers that say what no peer should."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.raft.cluster import MemoryLog
from tests.raft.test_paper import FIVE, LATE_US, ONE, THREE, TWO, Rig, entry
from txndb.errors import CorruptionError, InternalError, ProtocolError
from txndb.ids import ReplicaId
from txndb.limits import READS_PENDING_MAX
from txndb.raft import (
    KIND_CONFIG,
    Append,
    AppendResponse,
    Config,
    ConfigRefused,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatResponse,
    Message,
    Options,
    PreVote,
    PreVoteResponse,
    ProposalDropped,
    Raft,
    ReadState,
    Role,
    SnapshotMessage,
    TimeoutNow,
    Vote,
    VoteResponse,
    decode_message,
    encode_message,
)

small = st.integers(0, 6)
replicas = st.integers(0, 4).map(ReplicaId)
entries = st.builds(
    Entry, small, small, st.integers(0, 2), st.sampled_from([b"", b"x", Config((ONE, TWO)).encode()])
)
configs = st.builds(Config, st.lists(replicas, max_size=4).map(tuple))
head = {"to": st.just(ONE), "sender": replicas, "term": small}
times = st.integers(-1, 20_000_000)
messages = st.one_of(
    st.builds(PreVote, **head, last_index=small, last_term=small),
    st.builds(PreVoteResponse, **head, granted=st.booleans()),
    st.builds(Vote, **head, last_index=small, last_term=small, forced=st.booleans()),
    st.builds(VoteResponse, **head, granted=st.booleans()),
    st.builds(
        Append,
        **head,
        prev_index=small,
        prev_term=small,
        entries=st.lists(entries, max_size=3),
        commit=small,
        sent_us=times,
    ),
    st.builds(
        AppendResponse,
        **head,
        index=small,
        sent_us=times,
        rejected=st.booleans(),
        hint_index=small,
        hint_term=small,
    ),
    st.builds(Heartbeat, **head, commit=small, sent_us=times, context=small, quiesce=st.booleans()),
    st.builds(HeartbeatResponse, **head, sent_us=times, context=small),
    st.builds(SnapshotMessage, **head, index=small, index_term=small, config=configs),
    st.builds(TimeoutNow, **head),
)


@given(messages)
def test_messages_survive_the_wire(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(st.binary(max_size=40))
def test_bytes_are_a_message_or_an_error(data: bytes) -> None:
    try:
        message = decode_message(data)
    except ProtocolError:
        return
    assert isinstance(message, Message)


@settings(max_examples=150, deadline=None)
@given(st.lists(messages, max_size=25), st.booleans())
def test_no_peer_trips_an_assert(story: list[Message], leads: bool) -> None:
    """Whatever peers say, one at a time or many a Ready, the machine stays valid."""
    rig = Rig(terms=(1, 1, 2), term=2)
    if leads:
        rig.elect()
        rig.accept(TWO)
    log = rig.log
    now_us = LATE_US
    for number, message in enumerate(story):
        now_us += 50_000
        rig.raft.step(message, now_us)
        rig.raft.tick(now_us)
        rig.raft.validate()
        if number % 2:
            while rig.raft.has_ready():
                ready = rig.raft.ready()
                if ready.snapshot is not None:
                    log.reset(ready.snapshot.index, ready.snapshot.term)
                rig.raft.advance(ready.number)
                rig.raft.validate()


@pytest.mark.parametrize(
    "message",
    [
        Append(ONE, TWO, 5, 0, 0, [entry(2, 5)], 0, 0),
        Append(ONE, TWO, 5, 0, 0, [entry(1, 5), entry(1, 5)], 0, 0),
        Append(ONE, TWO, 5, 0, 0, [entry(1, 6)], 0, 0),
        Append(ONE, TWO, 5, 0, 0, [entry(1, 5), entry(2, 4)], 0, 0),
        Append(ONE, TWO, 5, 0, 9, [], 0, 0),
        Append(ONE, TWO, 5, 0, 0, [Entry(1, 5, KIND_CONFIG, b"\xff")], 0, 0),
        Append(ONE, TWO, 5, 0, 0, [Entry(1, 5, 7, b"")], 0, 0),
        Heartbeat(ONE, TWO, 5, 9, 0, 0),
        SnapshotMessage(ONE, TWO, 5, 9, 6, Config((ONE,))),
        SnapshotMessage(ONE, TWO, 5, 9, 5, Config((TWO, ONE))),
        Vote(TWO, THREE, 5, 0, 0),
        Vote(ONE, ONE, 5, 0, 0),
    ],
)
def test_nonsense_is_counted_and_ignored(message: Message) -> None:
    rig = Rig()
    rig.step(message)
    status = rig.raft.status()
    assert status.malformed_count == 1
    assert (status.last_index, status.commit, status.config) == (0, 0, Config((ONE, TWO, THREE)))


def test_two_leaders_of_one_term_are_not_followed() -> None:
    rig = Rig()
    rig.step(Heartbeat(ONE, TWO, 5, 0, 0, 0))
    rig.step(Append(ONE, THREE, 5, 0, 0, [entry(1, 5)], 0, 0))
    assert rig.raft.leader == TWO and rig.raft.last_index == 0
    leader = Rig()
    raft = leader.elect()
    leader.step(Append(ONE, TWO, raft.term, 0, 0, [entry(1, raft.term)], 0, 0))
    assert raft.role is Role.LEADER and raft.status().malformed_count == 1


def test_an_echo_from_the_future_gives_no_lease() -> None:
    rig = Rig()
    raft = rig.elect()
    rig.accept(TWO)
    until_us = raft.lease_until_us
    assert until_us == LATE_US + 450_000
    rig.step(HeartbeatResponse(ONE, TWO, raft.term, LATE_US + 10_000_000, 0))
    assert raft.lease_until_us == until_us


def test_an_answer_beyond_the_log_commits_nothing() -> None:
    rig = Rig()
    raft = rig.elect()
    rig.step(AppendResponse(ONE, TWO, raft.term, 99, LATE_US))
    assert raft.commit == 0 and raft.status().malformed_count == 1


def test_a_configuration_is_what_was_encoded() -> None:
    config = Config((ONE, TWO, ReplicaId(900)))
    assert Config.decode(config.encode()) == config
    for data in (
        b"",
        b"\x00",
        Config((TWO, ONE)).encode(),
        Config((ONE, ONE)).encode(),
        Config((ReplicaId(0),)).encode(),
    ):
        with pytest.raises(CorruptionError):
            Config.decode(data)


def test_the_wire_is_compact() -> None:
    """A replicated write's cost beside its data: framing of one append with one entry."""
    append = Append(ONE, TWO, 3, 70_000, 3, [Entry(70_001, 3, 0, b"d" * 100)], 70_000, 1_800_000_000)
    assert len(encode_message(append)) - 100 <= 40


def test_uncommitted_bytes_are_bounded_and_released() -> None:
    log = MemoryLog()
    raft = Raft(
        Options(ONE, uncommitted_bytes_max=10), log, HardState(), Config((ONE,)), 0, 0, lambda stop: 0
    )
    raft.propose(b"x" * 50, 0)  # alone, any size may pass
    with pytest.raises(ProposalDropped):
        raft.propose(b"y", 0)
    while raft.has_ready():
        raft.advance(raft.ready().number)
    assert raft.status().uncommitted_bytes == 0 and raft.commit == 2
    raft.propose(b"y" * 10, 0)
    assert raft.status().uncommitted_bytes == 10


def test_the_only_voter_leads_at_once_but_not_on_an_uncommitted_removal() -> None:
    """The leader that removed itself may still hold a lease on this voter's acknowledgements (L3)."""
    alone = Raft(Options(ONE), MemoryLog(), HardState(3, ONE, 0), Config((ONE,)), 0, 0, lambda stop: 0)
    assert alone.role is Role.LEADER and alone.term == 4
    log = MemoryLog()
    log.append([Entry(1, 2, KIND_CONFIG, Config((ONE,)).encode())])
    left = Raft(Options(ONE), log, HardState(2, TWO, 0), Config((ONE, TWO)), 0, 0, lambda stop: 0)
    assert left.status().role is Role.FOLLOWER and left.deadline_us == 500_000
    left.tick(500_000)
    assert left.role is Role.LEADER


def test_a_restart_finds_the_configuration_in_the_log() -> None:
    log = MemoryLog()
    larger = Config(FIVE[:4])
    log.append([entry(1, 1), Entry(2, 1, KIND_CONFIG, larger.encode()), entry(3, 1)])
    raft = Raft(Options(ONE), log, HardState(1, ONE, 1), Config(FIVE[:3]), 1, 0, lambda stop: 0)
    assert raft.config == larger and raft.commit == 1
    raft.validate()


@pytest.mark.parametrize(("commit", "applied"), [(4, 0), (0, 4)])
def test_a_log_shorter_than_its_commit_index_is_corruption(commit: int, applied: int) -> None:
    log = MemoryLog()
    log.append([entry(1, 1)])
    with pytest.raises(CorruptionError):
        Raft(Options(ONE), log, HardState(1, ONE, commit), Config((ONE, TWO)), applied, 0, lambda stop: 0)


def test_one_ready_at_a_time() -> None:
    rig = Rig()
    rig.raft.campaign(LATE_US)
    ready = rig.raft.ready()
    with pytest.raises(InternalError):
        rig.raft.ready()
    with pytest.raises(InternalError):
        rig.raft.advance(ready.number + 1)
    rig.raft.advance(ready.number)
    with pytest.raises(InternalError):
        rig.raft.advance(ready.number)


def test_nothing_to_do_is_no_ready() -> None:
    rig = Rig()
    raft = rig.elect()
    rig.accept(TWO, THREE)
    rig.run()
    assert not raft.has_ready()
    raft.tick(LATE_US + 1)
    assert not raft.has_ready()


def test_a_commit_alone_needs_no_fsync() -> None:
    rig = Rig()
    rig.elect()
    rig.raft.step(AppendResponse(ONE, TWO, rig.raft.term, 1, LATE_US), LATE_US)
    ready = rig.raft.ready()
    assert [e.index for e in ready.committed] == [1]
    assert not ready.must_persist and ready.hard_state is None


def test_every_flush_of_entries_carries_the_commit_index() -> None:
    rig = Rig()
    rig.elect()
    rig.accept(TWO)
    rig.raft.propose(b"x", LATE_US)
    ready = rig.raft.ready()
    assert ready.must_persist and ready.hard_state == HardState(rig.raft.term, ONE, 1)


def test_a_transfer_given_up_before_timeout_now_keeps_the_lease() -> None:
    rig = Rig()
    raft = rig.elect()
    rig.accept(TWO)
    raft.transfer(THREE, LATE_US)  # it has answered nothing yet
    with pytest.raises(ProposalDropped):
        raft.transfer(TWO, LATE_US)
    end_us = LATE_US + 1_000_000
    for now_us in range(LATE_US + 100_000, end_us + 1, 100_000):
        raft.tick(now_us)
        rig.run()
        rig.step(HeartbeatResponse(ONE, TWO, raft.term, now_us, 0), now_us)
    assert raft.role is Role.LEADER and raft.lease_until_us > end_us
    raft.propose(b"x", end_us)


def test_refused_memberships() -> None:
    rig = Rig()
    raft = rig.elect()
    rig.accept(TWO)
    for voters in ((), (ONE,), (ONE, TWO, THREE), (ONE, TWO, ReplicaId(4)), (TWO, ONE)):
        with pytest.raises(ConfigRefused):
            raft.propose_config(Config(voters), LATE_US)


def test_memory_is_bounded_while_the_disk_is_stuck() -> None:
    """With a Ready outstanding, any number of messages leaves one acceptance and one heartbeat answer to send."""
    rig = Rig()
    raft = rig.raft
    raft.step(Append(ONE, TWO, 2, 0, 0, [entry(1, 2)], 0, 0), LATE_US)
    stuck = raft.ready()
    for number in range(1000):
        raft.step(Append(ONE, TWO, 2, 1, 2, [], 0, number), LATE_US)
        raft.step(Heartbeat(ONE, TWO, 2, 0, number, number), LATE_US)
    raft.advance(stuck.number)
    ready = raft.ready()
    assert [type(message) for message in ready.messages] == [AppendResponse, HeartbeatResponse]
    answer = ready.messages[1]
    assert isinstance(answer, HeartbeatResponse) and (answer.sent_us, answer.context) == (999, 999)


def test_terms_are_searched_by_halving() -> None:
    """Backing up over a long conflicting log costs a logarithm of reads."""
    reads = 0

    class CountingLog(MemoryLog):
        def term(self, index: int) -> int:
            nonlocal reads
            reads += 1
            return super().term(index)

    log = CountingLog()
    log.append([entry(index, 1 + index // 1000) for index in range(1, 10_001)])
    raft = Raft(Options(ONE), log, HardState(20), Config((ONE, TWO)), 0, 0, lambda stop: 0)
    reads = 0
    raft.step(Append(ONE, TWO, 20, 10_000, 5, [], 0, 0), LATE_US)
    (answer,) = raft.ready().messages
    assert isinstance(answer, AppendResponse)
    assert (answer.rejected, answer.hint_index, answer.hint_term) == (True, 4999, 5)
    assert reads < 40


def test_chance_is_only_what_is_given() -> None:
    """The same chance, the same story."""
    stories = []
    for _ in range(2):
        rig_random = random.Random(5)
        raft = Raft(Options(ONE), MemoryLog(), HardState(), Config((ONE, TWO)), 0, 0, rig_random.randrange)
        deadlines = []
        for _ in range(5):
            deadlines.append(raft.deadline_us)
            raft.tick(raft.deadline_us)
        stories.append(deadlines)
    assert stories[0] == stories[1] and len(set(stories[0])) == 5


def test_a_majority_of_refusals_ends_a_candidacy() -> None:
    rig = Rig(voters=FIVE, term=1)
    rig.raft.campaign(LATE_US)
    rig.run()
    for voter in FIVE[1:3]:
        rig.step(PreVoteResponse(ONE, voter, 1, False))
    assert rig.raft.status().role is Role.PRE_CANDIDATE
    rig.step(PreVoteResponse(ONE, FIVE[3], 1, False))
    assert rig.raft.status().role is Role.FOLLOWER
    rig.step(TimeoutNow(ONE, TWO, 1))
    for voter in FIVE[1:4]:
        rig.step(VoteResponse(ONE, voter, 2, False))
    assert rig.raft.status().role is Role.FOLLOWER and rig.raft.term == 2


def test_a_refusal_from_a_later_term_teaches_the_term() -> None:
    rig = Rig()
    rig.raft.campaign(LATE_US)
    rig.run()
    rig.step(PreVoteResponse(ONE, TWO, 8, False))
    assert (rig.raft.role, rig.raft.term) == (Role.FOLLOWER, 8)


def test_a_read_wakes_a_sleeping_group() -> None:
    rig = Rig()
    raft = rig.elect()
    rig.accept(TWO, THREE)
    assert raft.quiesce() and raft.lease_until_us == 0
    rig.run()
    rig.sent.clear()
    raft.read_index(b"r", LATE_US + 5)
    rig.run()
    assert not raft.status().quiesced
    assert [message.context for message in rig.took(Heartbeat)] == [1, 1]
    assert raft.lease_until_us == 0, "answers to what was sent before the sleep do not count"
    rig.step(HeartbeatResponse(ONE, TWO, raft.term, LATE_US, 1), LATE_US + 6)
    assert raft.lease_until_us == 0
    rig.step(HeartbeatResponse(ONE, TWO, raft.term, LATE_US + 5, 1), LATE_US + 6)
    assert raft.lease_until_us == LATE_US + 5 + 450_000


def test_a_group_that_is_not_idle_does_not_sleep() -> None:
    rig = Rig()
    assert not rig.raft.quiesce()
    raft = rig.elect()
    rig.accept(TWO)
    assert not raft.quiesce(), "member 3 does not hold everything"
    rig.accept(THREE)
    raft.read_index(b"r", LATE_US)
    assert not raft.quiesce(), "a read waits"


def test_a_read_is_answered_when_the_others_leave() -> None:
    rig = Rig(voters=(ONE, TWO))
    raft = rig.elect()
    rig.accept(TWO)
    raft.read_index(b"r", LATE_US)
    assert [state for ready in rig.run() for state in ready.read_states] == []
    raft.propose_config(Config((ONE,)), LATE_US)
    assert [state for ready in rig.run() for state in ready.read_states] == [ReadState(b"r", 1)]


def test_reads_are_bounded() -> None:
    rig = Rig()
    raft = rig.elect()
    with pytest.raises(ProposalDropped):
        for number in range(READS_PENDING_MAX + 1):
            raft.read_index(b"%d" % number, LATE_US)
    rig.step(Append(ONE, TWO, 9, 0, 0, [], 0, 0))
    assert raft.role is Role.FOLLOWER


def test_a_follower_that_got_a_snapshot_elsewhere_is_replicated_to_again() -> None:
    """Its acceptance says so before the driver reports."""
    rig = Rig(terms=(1, 1, 1), term=1)
    raft = rig.elect()
    rig.accept(TWO)
    rig.log.truncate(3)
    wanted = rig.step(AppendResponse(ONE, THREE, raft.term, 3, -1, True, 0, 0))
    assert [replica for ready in wanted for replica in ready.snapshots_wanted] == [THREE]
    rig.step(AppendResponse(ONE, THREE, raft.term, 1, -1))  # older than what is held here: still not enough
    assert [peer.state for peer in raft.status().peers] == ["replicate", "snapshot"]
    rig.sent.clear()
    rig.step(AppendResponse(ONE, THREE, raft.term, 3, -1))
    assert [peer.state for peer in raft.status().peers] == ["replicate", "replicate"]
    assert [append.prev_index for append in rig.took(Append)] == [3]
    raft.report_snapshot(THREE, True, 3)  # late, and of no effect
    assert [peer.match for peer in raft.status().peers] == [4, 3]


def test_an_unknown_message_is_malformed() -> None:
    rig = Rig()
    rig.step(Message(ONE, TWO, 0))
    assert rig.raft.status().malformed_count == 1


def test_a_silent_peer_does_not_bring_heartbeats_forward() -> None:
    """Under load appends carry the commit index; one peer that is down must not cost a heartbeat every 10 ms."""
    rig = Rig()
    raft = rig.elect()
    rig.accept(TWO)  # member 3 has never answered
    assert raft.deadline_us == LATE_US + 10_000
    for number in range(3):
        now_us = LATE_US + number * 1000
        raft.propose(b"x", now_us)
        rig.run()
        assert raft.deadline_us == LATE_US + 100_000
        rig.accept(TWO, now_us=now_us)
        assert raft.deadline_us == now_us + 10_000
