"""The store between two steps of its flush loop: births, snapshots, truncation, timers, failures (rules P1, P3–P5)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.storeworld import FIRST, ME, TERM, THIRD, StoreWorld, descriptor, lead, split
from txndb.encoding.keys import data_span
from txndb.errors import StoreError
from txndb.ids import RangeId, Timestamp
from txndb.limits import APPEND_BYTES_MAX, ELECTION_MAX_US, INFLIGHT_BYTES_MAX
from txndb.raft.types import KIND_NORMAL, Append, AppendResponse, Entry, Heartbeat
from txndb.ranges.command import OutcomeGcCommand
from txndb.ranges.state import RAFT_INITIAL_INDEX, RAFT_INITIAL_TERM
from txndb.storage.engine import WriteBatch

WHOLE = descriptor(1, b"a", b"z")
LEFT, RIGHT = descriptor(1, b"a", b"m", 2), descriptor(2, b"m", b"z", 2)


def plain(generation: int = 1) -> OutcomeGcCommand:
    """A command that changes next to nothing."""
    return OutcomeGcCommand(TERM, generation, Timestamp(1), b"a", b"b", 1)


# -- births ----------------------------------------------------------------------------------------------------


def test_P5_a_vote_given_before_the_split_applied_stays_given() -> None:
    """A message creates the right half's replica, which votes; then its split applies. A second vote in that term
    would make two leaders of it."""
    world = StoreWorld(WHOLE)
    world.ask_vote(2, FIRST, TERM + 1)
    world.settle()
    assert world.votes(TERM + 1) == [FIRST]

    world.append(1)
    world.append(1, split(b"m", 2))
    world.settle()
    assert world.applied(2) == RAFT_INITIAL_INDEX
    world.wait_us(ELECTION_MAX_US)
    world.ask_vote(2, THIRD, TERM + 1)
    world.settle()
    assert world.votes(TERM + 1) == [FIRST]
    world.store.validate()


def test_P5_a_right_half_that_a_message_created_begins_where_its_split_says() -> None:
    """Its log begins behind what the split brought, though a replica of it was there already."""
    world = StoreWorld(WHOLE)
    world.ask_vote(2, FIRST, TERM + 1)
    world.settle()
    world.append(1)
    world.append(1, split(b"m", 2))
    world.settle()
    log = world.store.slots[RangeId(2)].log
    assert (log.first_index(), log.last_index()) == (RAFT_INITIAL_INDEX + 1, RAFT_INITIAL_INDEX)
    assert log.term(RAFT_INITIAL_INDEX) == RAFT_INITIAL_TERM


def test_P5_what_replaced_a_replica_at_its_birth_votes_alone() -> None:
    """A vote asked of the replica that is replaced in the same turn must not be given by it: its successor does not
    know of it and would give another."""
    world = StoreWorld(WHOLE)
    world.ask_vote(2, FIRST, TERM)
    world.settle()
    world.append(1)
    world.append(1, split(b"m", 2))
    world.until_waiting(world.engine_calls)

    world.engine_calls.finish()  # the birth goes on in the next turn
    world.ask_vote(2, FIRST, TERM + 1)
    world.settle()
    world.wait_us(ELECTION_MAX_US)
    world.ask_vote(2, THIRD, TERM + 1)
    world.settle()
    assert len(world.votes(TERM + 1)) == 1


def test_L3_a_newborn_right_half_votes_at_once() -> None:
    """It never acknowledged a leader, so no lease rests on its silence."""
    world = StoreWorld(WHOLE)
    world.append(1)
    world.append(1, split(b"m", 2))
    world.settle()
    world.ask_vote(2, THIRD, TERM + 1)
    world.settle()
    assert world.votes(TERM + 1) == [THIRD]


# -- snapshots -------------------------------------------------------------------------------------------------


def test_P5_a_snapshot_over_a_right_half_that_is_being_born_is_refused() -> None:
    """The half's keys are in the engine and belong to nobody's state yet."""
    world = StoreWorld(WHOLE)
    world.ask_vote(2, FIRST, TERM)  # so that a replica is there to take one
    world.settle()
    world.append(1)
    world.append(1, split(b"m", 2))
    world.until_waiting(world.engine_calls)
    assert not world.offer(descriptor(3, b"p", b"q", 3), 20)
    assert not world.offer(RIGHT, 20), "and so is one of the half itself"
    world.settle()
    assert world.descriptors[2] == RIGHT


def test_P5_a_snapshot_over_one_that_is_being_installed_is_refused() -> None:
    """Its keys are claimed from the moment Raft accepted it."""
    world = StoreWorld()
    assert world.offer(RIGHT, 20)
    world.until_waiting(world.engine_calls)
    assert not world.offer(WHOLE, 30)
    world.settle()
    assert not world.offer(WHOLE, 30)
    assert world.offer(LEFT, 30)
    world.settle()
    assert (world.applied(1), world.applied(2)) == (30, 20)


@pytest.mark.parametrize("voting", [False, True], ids=["new", "voting"])
def test_P5_a_snapshot_over_one_that_raft_has_not_judged_yet_is_refused(voting: bool) -> None:
    """A left half's from before its split, and its right half's: both were legal to send, and whichever came second is
    sent again."""
    world = StoreWorld()
    if voting:  # its term is being flushed, so that Raft judges the snapshot only after that
        world.ask_vote(2, FIRST, TERM)
        world.turn()
    assert world.offer(RIGHT, 20)
    assert not world.offer(WHOLE, 15)
    assert world.offer(LEFT, 15)
    world.settle()
    assert not world.failures and (world.applied(1), world.applied(2)) == (15, 20)


def test_a_range_is_not_truncated_nor_validated_while_a_snapshot_replaces_it() -> None:
    """Log, engine and state tell three stories then."""
    world = StoreWorld(WHOLE)
    world.append(1, *[plain()] * 300)
    world.settle()
    assert world.offer(descriptor(1, b"a", b"z", 2), 900)
    world.until_waiting(world.engine_calls)
    world.store.validate()
    world.loop.create_task(world.store.compact())
    world.settle()
    assert world.store.slots[RangeId(1)].log.first_index() == 901
    assert world.applied(1) == 900
    world.store.validate()


def test_a_snapshot_that_raft_refuses_does_not_stand_in_the_way_of_the_next() -> None:
    """A follower was sent one of what it has by now; the one it needs comes later."""
    world = StoreWorld(WHOLE)
    world.append(1, *[plain()] * 30)
    world.settle()
    assert world.applied(1) == 40
    world.append(1, plain())  # whose acknowledgement is under way when the old snapshot arrives
    world.turn()
    assert world.offer(WHOLE, 25)
    world.settle()
    assert world.offer(descriptor(1, b"a", b"z", 2), 900)
    world.settle()
    assert world.applied(1) == 900


def test_P4_the_intent_is_durable_before_a_snapshot_replaces_anything() -> None:
    """A crash between the data and the log is then finished by the next start."""
    world = StoreWorld(WHOLE)
    world.append(1, *[plain()] * 3)
    world.settle()
    world.story.clear()
    assert world.offer(descriptor(1, b"a", b"z", 2), 900, (data_span(b"a", b"z")[0], b"x"))
    world.turn()
    log = world.store.slots[RangeId(1)].log
    assert log.intent == (900, TERM) and "write" not in world.story
    world.log_calls.finish()
    world.turn()
    assert "write" in world.story and log.first_index() == 1 + RAFT_INITIAL_INDEX
    world.settle()
    assert log.intent is None and log.first_index() == 901


# -- P1 --------------------------------------------------------------------------------------------------------


def test_P1_nothing_is_acknowledged_before_it_is_durable() -> None:
    world = StoreWorld(WHOLE)
    world.append(1)
    world.turn()
    assert not [m for m in world.sent if isinstance(m, AppendResponse)]
    world.log_calls.finish()
    world.turn()
    assert [m.index for m in world.sent if isinstance(m, AppendResponse)] == [RAFT_INITIAL_INDEX + 1]


def test_P1_a_flush_that_fails_ends_the_node_and_sends_nothing() -> None:
    world = StoreWorld(WHOLE)
    world.append(1)
    world.turn()
    world.log_calls.finish(OSError("no more"))
    world.turn()
    assert [str(error) for error in world.failures] == ["no more"]
    assert not world.sent


def test_a_flush_that_fails_while_the_store_closes_is_heard_by_who_closes_it() -> None:
    """Who closes flushes once more and meets the error; a future that nobody asked would report it again."""
    world = StoreWorld(WHOLE)
    world.append(1)
    world.turn()
    world.store.close()
    world.log_calls.finish(OSError("no more"))
    world.turn()
    gc.collect()
    assert not world.failures and not world.sent and not world.loop.problems


@pytest.mark.parametrize(
    "error", [StoreError("a write failed: EIO"), OSError("no more")], ids=["store", "system"]
)
def test_P1_an_engine_that_fails_under_an_apply_ends_the_node(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever turn of the loop the apply falls in: where a task waits for its flush, it is not the task's failure."""
    world = StoreWorld(WHOLE)
    world.append(1, plain(), plain())
    world.settle()
    last = world.last[RangeId(1)]
    world.step(1, Append(ME, FIRST, TERM, last, TERM, [Entry(last + 1, TERM, KIND_NORMAL, b"")], last, 0))
    world.settle()
    world.engine.grown = True
    compaction = world.loop.create_task(world.store.compact())
    world.turn()
    world.engine_calls.finish()
    world.step(
        1, Heartbeat(ME, FIRST, TERM, last + 1, 0, 0)
    )  # the entry is committed: it is applied with no flush

    def fail(batch: WriteBatch) -> None:
        raise error

    monkeypatch.setattr(world.engine, "write", fail)
    world.turn()
    assert world.failures == [error]
    assert not compaction.done() or compaction.exception() is None


# -- catching up -----------------------------------------------------------------------------------------------


def test_a_follower_that_comes_back_is_not_sent_all_that_it_lacks_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that is sent in one turn is one frame, and one that is too large is dropped whole."""
    world = StoreWorld(WHOLE)
    replica = lead(world)
    monkeypatch.setattr(replica, "apply", lambda entries: None)
    for _ in range(40):
        replica.raft.propose(bytes(APPEND_BYTES_MAX), world.loop.now_us)
        world.store.mark(replica)
        world.settle()
        last = replica.raft.last_index
        world.step(1, AppendResponse(ME, FIRST, TERM, last, world.loop.now_us))
        world.settle()
    world.sent.clear()
    for held in (RAFT_INITIAL_INDEX + 1, RAFT_INITIAL_INDEX + 1 + 8, RAFT_INITIAL_INDEX + 1 + 16):
        world.step(1, AppendResponse(ME, THIRD, TERM, held, world.loop.now_us))
        world.settle()
        burst = [m.entries[0].index for m in world.sent if isinstance(m, Append) and m.to == THIRD]
        assert burst == list(range(held + 1, held + 1 + INFLIGHT_BYTES_MAX // APPEND_BYTES_MAX))
        world.sent.clear()


# -- P3 --------------------------------------------------------------------------------------------------------


def test_P3_a_log_is_cut_below_what_was_applied_before_the_sync() -> None:
    """What is applied while the engine syncs may not be in the sync."""
    world = StoreWorld(WHOLE)
    world.append(1, *[plain()] * 300)
    world.settle()
    world.story.clear()
    world.loop.create_task(world.store.compact())
    world.until_waiting(world.engine_calls)
    log = world.store.slots[RangeId(1)].log
    assert log.first_index() == 11 and "sync" not in world.story
    world.append(1, *[plain()] * 300)
    world.until_waiting(world.log_calls)
    world.log_calls.finish()
    world.turn()
    assert world.applied(1) == 610
    world.settle()
    assert "sync" in world.story and log.first_index() == 311


def test_P3_a_memtable_is_switched_with_no_write_between_it_and_the_sync() -> None:
    """RocksDB's log is what a crash leaves: a memtable may be written out only when all before it is durable."""
    world = StoreWorld(WHOLE)
    world.append(1, *[plain()] * 3)
    world.settle()
    world.engine.grown = True
    world.loop.create_task(world.store.compact())
    world.until_waiting(world.engine_calls)
    world.append(1, *[plain()] * 3)
    world.until_waiting(world.log_calls)
    world.story.clear()
    world.log_calls.finish()
    world.engine_calls.finish()  # the entries are applied behind this sync, and before the switch
    world.settle()
    story = [step for step in world.story if not step.startswith("send")]
    flushed = story.index("flush memtables")
    assert "write" in story[:flushed] and story[flushed - 1] == "sync"
    assert not world.engine.grown


def test_a_range_that_is_never_idle_is_truncated() -> None:
    """Under load a Ready is always outstanding."""
    world = StoreWorld(WHOLE)
    world.append(1, *[plain()] * 300)
    world.settle()
    world.append(1, plain())
    world.turn()
    slot = world.store.slots[RangeId(1)]
    assert slot.outstanding is not None
    work = world.loop.create_task(world.store.compact())
    world.settle()
    assert work.done() and slot.log.first_index() == 311


# -- timers ----------------------------------------------------------------------------------------------------


def test_a_replica_has_one_timer_the_earliest_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wake-up asks anew for what is left: with a timer for every asking they would multiply."""
    world = StoreWorld(WHOLE)
    replica = world.store.slots[RangeId(1)].replica
    woken: list[int] = []

    def on_time() -> None:
        woken.append(world.loop.now_us)
        if len(woken) < 10:
            for delay_us in (3_000, 1_000, 2_000):
                world.store.wake_in(replica, delay_us)

    monkeypatch.setattr(replica, "on_time", on_time)
    world.store.wake_in(replica, 1_000)
    world.wait_us(100_000)
    assert woken == [1_000 * i for i in range(1, 11)]


def test_a_timer_that_is_due_at_once_need_not_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop gives a plain handle, without `when`, for less than half a millisecond: the node stopped itself."""
    world = StoreWorld(WHOLE)
    replica = world.store.slots[RangeId(1)].replica
    call_at = world.loop.call_at

    def call_at_of_uvloop(when: float, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        if when - world.loop.time() >= 0.000_5:
            return call_at(when, callback, *args)
        handle = asyncio.Handle(callback, args, world.loop)
        world.loop.call_soon(handle._run)
        return handle

    woken: list[int] = []
    monkeypatch.setattr(world.loop, "call_at", call_at_of_uvloop)
    monkeypatch.setattr(replica, "on_time", lambda: woken.append(world.loop.now_us))
    for delay_us in (400, 300, 5_000):
        world.store.wake_in(replica, delay_us)
    world.wait_us(10_000)
    assert len(woken) == 1
