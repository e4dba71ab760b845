"""Snapshots that a leader sends, between the turn in which Raft wants one and the end of the stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from tests.cluster.storeworld import FIRST, ME, TERM, THIRD, StoreWorld, descriptor, lead, node_over
from txndb.cluster.node import Node
from txndb.ids import NodeId, ReplicaId
from txndb.raft.types import Append, AppendResponse, HeartbeatResponse, PreVoteResponse, Role, VoteResponse
from txndb.ranges.replica import Replica

WHOLE = descriptor(1, b"a", b"z")


def show_an_empty_log(world: StoreWorld) -> None:
    """Node 3 has nothing: it needs a snapshot."""
    world.step(1, AppendResponse(ME, THIRD, TERM, 10, 0, True, 0, 0))


class Wire:
    """A transport that takes every snapshot, and nothing else."""

    def __init__(self) -> None:
        self.taken: list[NodeId] = []

    async def send_snapshot(self, to: NodeId, header: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        self.taken.append(to)
        return b"ok"

    def send(self, to: NodeId, frame: bytes) -> None:
        """Lost."""


def sender(world: StoreWorld) -> tuple[Node, Wire]:
    """A node that sends the snapshots its store asks for, and what it sends them with."""
    wire = Wire()
    world.transport = cast(Any, wire)
    return node_over(world), wire


def test_a_snapshot_whose_peer_goes_before_its_first_step_is_sent_again() -> None:
    """A task that is cancelled before it began never enters its coroutine: what must follow its end cannot stand there.
    The follower would have waited for ever, for Raft sends it nothing else meanwhile."""
    world = StoreWorld(WHOLE)
    node, wire = sender(world)
    replica = lead(world)

    def start_and_lose_the_peer(of: Replica, to: ReplicaId) -> None:
        node.start_snapshot(of, to)
        node.on_peer_down(NodeId(3))

    world.snapshot_wanted = start_and_lose_the_peer
    show_an_empty_log(world)
    world.settle()
    assert not wire.taken and not node.snapshots.under_way

    world.snapshot_wanted = node.start_snapshot
    world.step(1, HeartbeatResponse(ME, THIRD, TERM, world.loop.now_us, 0))
    world.settle()
    assert wire.taken == [3] and not node.snapshots.under_way
    assert [peer.state for peer in replica.raft.status().peers if peer.replica == THIRD] == ["probe"]


@pytest.mark.parametrize("again", [False, True], ids=["follows", "leads again"])
def test_a_snapshot_is_sent_only_in_the_term_that_wanted_it(again: bool) -> None:
    """It names its sender as the leader of its term. One that was wanted before a flush and sent behind it named a
    term that another leads: its receiver then took that one's appends for those of an impostor."""
    world = StoreWorld(WHOLE)
    replica = lead(world)
    world.snapshot_wanted = lambda of, to: terms.append((of.raft.role, of.raft.term))
    terms: list[tuple[Role, int]] = []
    replica.raft.propose(b"", world.loop.now_us)
    show_an_empty_log(world)
    world.turn()
    assert world.log_calls.waiting and not terms
    world.step(1, Append(ME, FIRST, TERM + 3, 11, TERM, [], 11, 0))
    if again:
        replica.raft.campaign(world.loop.now_us)
        world.step(1, PreVoteResponse(ME, FIRST, TERM + 4, True))
        world.step(1, VoteResponse(ME, FIRST, TERM + 4, True))
        assert (replica.raft.role, replica.raft.term) == (Role.LEADER, TERM + 4)
    world.settle()
    assert not terms


def test_a_snapshot_that_waits_for_a_flush_is_sent_behind_it() -> None:
    world = StoreWorld(WHOLE)
    replica = lead(world)
    replica.raft.propose(b"", world.loop.now_us)
    show_an_empty_log(world)
    world.settle()
    assert f"snapshot to {THIRD}" in world.story
