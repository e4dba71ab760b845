"""A replica and what its node does for it: refusals, a full disk, changes of replicas, garbage collection."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.cluster.storeworld import FIRST, ME, StoreWorld, alone, descriptor
from tests.ranges.lockscript import make_txn
from txndb.cluster.upkeep import Upkeep
from txndb.encoding.keys import CLUSTER, META
from txndb.ids import NodeId, RangeId, ReplicaId, Timestamp, Token
from txndb.raft.types import AppendResponse, Heartbeat
from txndb.ranges import api, keys
from txndb.ranges.command import GcCommand, OutcomeGcCommand
from txndb.ranges.descriptor import make_replica_id
from txndb.ranges.replica import Replica

ALWAYS = Timestamp((1 << 63) - 1)
NOW = Timestamp(0)


def leader(world: StoreWorld) -> Replica:
    """The replica of range 1, serving."""
    world.settle()
    world.wait_us(1_000)
    replica = world.store.slots[RangeId(1)].replica
    assert replica.leaseholder is not None and replica.leaseholder.serving
    return replica


def lock(world: StoreWorld, name: str, *keys: bytes) -> tuple[api.TxnMeta, bytes]:
    txn = make_txn(name, 1)
    answer = world.ask(api.Get(txn, b"", list(keys), 2))
    assert isinstance(answer, api.Values)
    return txn, answer.token


def one_phase(world: StoreWorld, name: str, key: bytes, value: bytes = b"1") -> api.Response:
    txn, token = lock(world, name, key)
    return world.ask(api.OnePhase(txn, Token(token), [], [(key, value)], key, NOW, NOW, ALWAYS))


def prepare(world: StoreWorld, name: str, key: bytes) -> api.Response:
    txn, token = lock(world, name, key)
    return world.ask(api.Prepare(txn, Token(token), [(key, None)], [(key, b"1")], key, NOW))


def held_by(replica: Replica) -> list[ReplicaId]:
    """Who holds its range, as far as it is applied."""
    assert replica.state is not None
    return list(replica.state.descriptor.replicas)


def fill_disk(world: StoreWorld) -> None:
    world.room.free = 0
    world.loop.create_task(world.store.look_at_disk())
    world.settle()


def test_R3_who_does_not_lead_names_the_descriptor_it_has() -> None:
    """Whoever asks may know a replica that is no member any more, and nobody else."""
    world = StoreWorld(descriptor(1, b"a", b"z"))
    answer = world.ask(api.Describe(b"b"))
    assert answer == api.NotLeaseholder(
        RangeId(1), world.store.slots[RangeId(1)].replica.leader, False, descriptor(1, b"a", b"z")
    )


# -- a full disk (P1) ------------------------------------------------------------------------------------------


def test_P1_a_full_disk_refuses_new_writes_and_nothing_else() -> None:
    """What ends a transaction must get through, or its locks stay for as long as the disk is full."""
    world = StoreWorld(alone())
    leader(world)
    assert isinstance(prepare(world, "A", b"b"), api.Prepared)
    assert isinstance(prepare(world, "B", b"c"), api.Prepared)
    fill_disk(world)

    for refused in (one_phase(world, "C", b"d"), prepare(world, "D", b"e")):
        assert isinstance(refused, api.Refused) and refused.sqlstate == "53100"
    txn = make_txn("A", 1)
    decided = world.ask(api.Decide(txn, b"b", Timestamp(5), [b"b", b"b"]))
    assert isinstance(decided, api.Outcome) and decided.status == api.COMMITTED
    assert isinstance(world.ask(api.Forget(txn.attempt, b"b")), api.Ok)
    recovered = world.ask(api.Recover(make_txn("B", 1).attempt, b"c"))
    assert isinstance(recovered, api.Outcome) and recovered.status == api.ABORTED


@pytest.mark.parametrize("prefix", [META, CLUSTER])
def test_P1_a_full_disk_takes_the_clusters_own_rows(prefix: bytes) -> None:
    """Without catalogue leases nobody could even read."""
    world = StoreWorld(alone())
    leader(world)
    fill_disk(world)
    answer = one_phase(world, "A", prefix + b"row")
    assert isinstance(answer, api.Outcome) and answer.status == api.COMMITTED


def test_P1_writes_are_taken_again_when_there_is_room() -> None:
    world = StoreWorld(alone())
    leader(world)
    free = world.room.free
    fill_disk(world)
    assert isinstance(one_phase(world, "A", b"b"), api.Refused)
    world.room.free = free
    world.loop.create_task(world.store.look_at_disk())
    world.settle()
    assert isinstance(one_phase(world, "B", b"c"), api.Outcome)


# -- changes of replicas ---------------------------------------------------------------------------------------


def test_a_replica_that_is_added_but_not_applied_is_not_added_again() -> None:
    """The second time its configuration is committed, and is no change any more."""
    world = StoreWorld(alone())
    replica = leader(world)
    ask = api.AddReplica(b"b", NodeId(1))
    assert isinstance(replica.handle(ask, None), api.Ok)
    world.settle()
    added = make_replica_id(NodeId(1), 2)
    assert replica.raft.config.voters == (ME, added)
    last = replica.raft.status().last_index
    world.step(1, AppendResponse(ME, added, replica.raft.term, last, 0))
    assert replica.raft.commit == last and held_by(replica) == [ME]
    assert isinstance(replica.handle(ask, None), api.Ok)
    world.settle()
    assert held_by(replica) == [ME, added]


def test_nobody_is_added_to_a_configuration_that_is_not_applied() -> None:
    """A node that comes up in that window was proposed as the one change to what is in force no more, which Raft
    refuses: the leader's process ended."""
    world = StoreWorld(alone())
    replica = leader(world)
    assert isinstance(replica.handle(api.AddReplica(b"b", NodeId(3)), None), api.Ok)
    world.settle()
    first = make_replica_id(NodeId(3), 2)
    last = replica.raft.last_index
    replica.raft.propose(b"", world.loop.now_us)
    world.store.mark(replica)
    world.turn()  # its flush is under way, so that what is committed waits
    world.step(1, AppendResponse(ME, first, replica.raft.term, last, world.loop.now_us))
    assert replica.raft.commit == last and held_by(replica) == [ME]

    Upkeep(cast(Any, Member(world)))._replicate()
    assert replica.raft.config.voters == (ME, first)
    world.settle()
    assert held_by(replica) == [ME, first]
    assert isinstance(replica.handle(api.AddReplica(b"b", NodeId(1)), None), api.Ok)
    assert len(replica.raft.config.voters) == 3


def test_a_leader_of_the_past_adds_no_replica_and_fails_at_nothing() -> None:
    """It has heard of a higher term, and the flush that makes it a follower is under way."""
    world = StoreWorld(alone())
    replica = leader(world)
    upkeep = Upkeep(cast(Any, Member(world)))
    world.step(1, Heartbeat(ME, FIRST, replica.raft.term + 1, 0, 0, 0))
    world.turn()
    assert replica.leaseholder is not None and replica.leaseholder.serving
    upkeep._replicate()
    world.settle()
    assert replica.leaseholder is None and replica.raft.config.voters == (ME,)


# -- garbage ---------------------------------------------------------------------------------------------------


def test_garbage_is_collected_piece_by_piece_until_there_is_none() -> None:
    world = StoreWorld(alone())
    replica = leader(world)
    world.collected = Upkeep(cast(Any, Member(world))).on_collected
    for number in range(20):
        assert isinstance(one_phase(world, f"T{number}", b"k%d" % (number % 2), b"%d" % number), api.Outcome)
    versions = len(list(world.engine.iterate(*replica.state.spans()[-1]))) if replica.state is not None else 0
    assert versions == 20
    assert replica.leaseholder is not None and replica.state is not None
    here = replica.state.descriptor
    threshold = Timestamp(replica.state.max_applied_ts + 1)
    replica.propose(GcCommand(replica.leaseholder.term, here.generation, threshold, here.start, here.end, 3))
    for _ in range(20):
        world.settle()
        world.wait_us(50_000)
    assert len(list(world.engine.iterate(*replica.state.spans()[-1]))) == 2


def test_outcomes_of_one_row_are_collected_piece_by_piece_until_there_is_none() -> None:
    """All of them have one anchor: a piece goes on behind the attempt that the last one ended with."""
    world = StoreWorld(alone())
    replica = leader(world)
    world.collected = Upkeep(cast(Any, Member(world))).on_collected
    for number in range(20):
        assert isinstance(one_phase(world, f"T{number}", b"k", b"%d" % number), api.Outcome)
    assert replica.leaseholder is not None and replica.state is not None
    here = replica.state.descriptor
    span = keys.outcome_span(here.start, here.end)
    assert len(list(world.engine.iterate(*span))) == 20
    header = (replica.leaseholder.term, here.generation)
    replica.propose(OutcomeGcCommand(*header, ALWAYS, here.start, here.end, 3))
    for _ in range(20):
        world.settle()
        world.wait_us(50_000)
    assert list(world.engine.iterate(*span)) == []


class Member:
    """What background work needs of its node."""

    def __init__(self, world: StoreWorld) -> None:
        self.store = world.store
        self.node = NodeId(2)
        self.live_peers = {NodeId(1): None}
        self.body = world
        self.clock = world.store.clock
        self.spawn = world.spawn
