"""Hundreds of seeded storms (`tests.raft.chaos`), and proof that the judge would see a bug."""

from __future__ import annotations

import pytest

from tests.raft.chaos import Violation, run_chaos
from tests.raft.cluster import Cluster
from txndb.ids import ReplicaId
from txndb.raft import CANARIES, Options, Role

BATCH = 25


@pytest.mark.parametrize("first", range(0, 200, BATCH))
def test_storms(first: int) -> None:
    clusters = [run_chaos(seed) for seed in range(first, first + BATCH)]
    assert sum(len(cluster.applied) for cluster in clusters) > BATCH
    assert sum(cluster.reads_answered for cluster in clusters) > 0
    assert sum(cluster.leases_checked for cluster in clusters) > BATCH


@pytest.mark.parametrize("first", range(0, 100, BATCH))
def test_turmoil(first: int) -> None:
    clusters = [run_chaos(seed, size=3, turmoil=True) for seed in range(first, first + BATCH)]
    assert sum(len(cluster.term_leaders) for cluster in clusters) > BATCH


def test_the_same_seed_is_the_same_story() -> None:
    one, other = run_chaos(7), run_chaos(7)
    assert one.applied == other.applied
    assert one.now_us == other.now_us and one.counter == other.counter


def test_storms_catch_acknowledging_before_persisting() -> None:
    with pytest.raises(Violation):
        for seed in range(5):
            run_chaos(seed, events=400, canaries=frozenset({"ack-before-persist"}))


def make_group(canary: str, append_bytes_max: int = 1 << 20) -> Cluster:
    """Three members; a canary is one of the known ones, or "" for none."""
    assert canary in CANARIES | {""}
    canaries = frozenset({canary}) if canary else frozenset()
    return Cluster(
        (1, 2, 3),
        lambda replica: Options(replica, canaries=canaries, append_bytes_max=append_bytes_max),
        lambda replica: lambda stop: (replica - 1) * 100_000 % stop,
    )


@pytest.mark.parametrize(("canary", "holders"), [("", [2]), ("stale-lease", [1, 2])])
def test_a_lease_ends_before_another_begins(canary: str, holders: list[int]) -> None:
    """A leader cut off keeps its lease for less than an election takes. Reference: rule L3."""
    cluster = make_group(canary)
    cluster.advance_to(500_000)
    cluster.isolate(1)
    cluster.advance_to(1_150_000)  # member 2 stood at 1,100 ms
    assert [m.id for m in cluster.leaders()] == [1, 2]
    assert [m.id for m in cluster.leaders() if m.up.lease_until_us > m.now_us] == holders


def take_over(cluster: Cluster, target: int, cut: tuple[int, int]) -> None:
    """The leader calls `target`; what it appends as the new leader is lost, and `cut` hears nothing of the election."""
    cluster.leaders()[0].up.transfer(ReplicaId(target), cluster.now_us)
    cluster.pump_all()
    late, cluster.network = cluster.network, []
    cluster.advance_to(cluster.now_us + 100_000)  # one more heartbeat is answered before TimeoutNow arrives
    cluster.cut.add(cut)
    cluster.network = late
    for _ in range(3):  # TimeoutNow, votes, answers
        under_way, cluster.network = cluster.network, []
        for message in under_way:
            cluster.deliver(message)
    assert cluster.members[target].up.role is Role.LEADER
    cluster.network.clear()


@pytest.mark.parametrize(("canary", "elected_again"), [("", False), ("vote-forgotten", True)])
def test_a_vote_survives_a_restart(canary: str, elected_again: bool) -> None:
    """Two leaders of one term, if the vote is forgotten.

    Member 1 calls 2, and hears no more; 2 is elected by 3, which restarts. As nobody took over in time, 1 begins the
    same term, and asks 3.
    """
    cluster = make_group(canary)
    cluster.advance_to(500_000)
    take_over(cluster, target=2, cut=(2, 1))
    term = cluster.members[2].up.term
    cluster.isolate(2)
    cluster.members[3].crash()
    cluster.members[3].restart()
    cluster.cut -= {(1, 3), (3, 1)}
    cluster.now_us += 900_000  # the transfer's time is over, check-quorum's not yet
    cluster.members[1].up.tick(cluster.now_us)
    cluster.settle()
    both = [m.id for m in cluster.leaders() if m.up.term == term]
    assert (both == [1, 2]) is elected_again


@pytest.mark.parametrize(("canary", "diverges"), [("", False), ("commit-old-term-by-counting", True)])
def test_an_old_term_is_not_committed_by_counting(canary: str, diverges: bool) -> None:
    """Figure 8 with three servers: an entry of an old term reaches a majority, and is overwritten by a later leader.

    Reference: Raft paper §5.4.2.
    """
    cluster = make_group(canary, append_bytes_max=1)  # entries travel one by one
    members = cluster.members
    cluster.advance_to(500_000)
    cluster.isolate(1)
    members[1].up.propose(b"old", cluster.now_us)  # (a) index 2 of term 1, on member 1 only
    cluster.pump_all()
    cluster.network.clear()
    elect(cluster, 2)  # (b) by 3; its no-op, index 2 of term 2, stays on member 2
    cluster.network.clear()
    cluster.heal()
    cluster.isolate(2)
    elect(cluster, 1)  # (c) term 3 replicates index 2 of term 1 to 3, then stops before its own no-op
    deliver_until(
        cluster, lambda: members[3].up.last_index == 2 and members[1].up.status().peers[1].match == 2
    )
    applied = dict(members[1].image.data)
    members[1].crash()
    cluster.network.clear()
    cluster.heal()
    elect(cluster, 2)  # (d) member 2 has the later term at the end of its log
    cluster.settle()
    assert members[2].image.index >= 2
    assert (applied.get(2) == b"old" and 2 not in dict(members[2].image.data)) is diverges


@pytest.mark.parametrize(("canary", "diverges"), [("", False), ("append-unchecked", True)])
def test_entries_are_appended_only_to_those_the_leader_has_there(canary: str, diverges: bool) -> None:
    """A former leader holds entries that nobody else got. What the next but one sends it follows others of the same
    indexes.

    Reference: Raft paper §5.3, figure 7 (f).
    """
    cluster = make_group(canary)
    members = cluster.members
    cluster.advance_to(500_000)
    cluster.isolate(1)
    for data in (b"lost", b"lost too", b"lost as well"):
        members[1].up.propose(data, cluster.now_us)
    cluster.pump_all()
    cluster.network.clear()
    elect(cluster, 2)
    for data in (b"kept", b"kept too"):
        members[2].up.propose(data, cluster.now_us)
    cluster.settle()
    elect(cluster, 3)
    cluster.settle()
    cluster.heal()
    members[3].up.propose(b"next", cluster.now_us)
    cluster.advance_to(cluster.now_us + 500_000)
    logs = [dict(members[number].image.data) for number in (1, 3)]
    assert logs[0][6] == logs[1][6] == b"next"
    assert (logs[0] != logs[1]) is diverges


def elect(cluster: Cluster, number: int) -> None:
    """Make a member the leader of a new term; its appends are under way, not delivered."""
    cluster.now_us += 1_100_000
    candidate = cluster.members[number].up
    candidate.tick(cluster.now_us)  # a leader that heard from nobody steps down
    cluster.network.clear()
    for _ in range(2):  # the first time it may only learn the term
        candidate.campaign(cluster.now_us)
        cluster.pump_all()
        while cluster.network and candidate.role is not Role.LEADER:
            cluster.deliver(cluster.network.pop(0))
    assert candidate.role is Role.LEADER


def deliver_until(cluster: Cluster, reached: object) -> None:
    """Deliver one message after the other until the condition holds."""
    assert callable(reached)
    while not reached():
        assert cluster.network, "nothing is under way any more"
        cluster.deliver(cluster.network.pop(0))
