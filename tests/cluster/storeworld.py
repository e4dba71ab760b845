"""One store whose disk, peers and time are moved by hand, for what happens between two steps of the flush loop.

The store is node 2's. Its engine and its Raft log are real; their calls wait in `engine_calls` and `log_calls` until a
test finishes them, in order. Peers are messages the test writes and messages found in `sent`. A range's leader, as far
as the store is told, is node 1's replica in term 6.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any, TypeVar, cast

import msgspec

from txndb.clock import Clock, TimeSource
from txndb.cluster.body import IoExecutor, Rand, Transport
from txndb.cluster.messages import RaftEnvelope
from txndb.cluster.node import Node
from txndb.cluster.opening import reconcile_store
from txndb.cluster.options import NodeOptions
from txndb.cluster.store import IncomingSnapshot, Store
from txndb.encoding.keys import KEY_MAX, KEY_MIN
from txndb.ids import NodeId, RangeId, ReplicaId, Timestamp
from txndb.raft.types import (
    KIND_NORMAL,
    Append,
    AppendResponse,
    Config,
    Entry,
    Message,
    PreVoteResponse,
    SnapshotMessage,
    Vote,
    VoteResponse,
)
from txndb.ranges import api, keys
from txndb.ranges.command import Command, SplitCommand, encode_command
from txndb.ranges.descriptor import RangeDescriptor, make_replica_id
from txndb.ranges.locks import LockEntry
from txndb.ranges.replica import Replica
from txndb.ranges.state import RAFT_INITIAL_INDEX, RAFT_INITIAL_TERM, Applied, Effect, birth_batch
from txndb.server.memdisk import FREE_BYTES, MemoryDisk
from txndb.sim.loop import VirtualLoop
from txndb.storage.disk import Disk
from txndb.storage.engine import WriteBatch
from txndb.storage.memory import MemoryEngine
from txndb.storage.raftlog import RaftLog

T = TypeVar("T")
TERM = 6
FIRST, ME, THIRD = (make_replica_id(NodeId(n), 1) for n in (1, 2, 3))
STORE_ID = bytes(16)


def descriptor(range_id: int, start: bytes, end: bytes, generation: int = 1) -> RangeDescriptor:
    """A range with a replica on each of nodes 1 to 3."""
    return RangeDescriptor(RangeId(range_id), start, end, (FIRST, ME, THIRD), generation, 2)


def alone(range_id: int = 1, start: bytes = KEY_MIN, end: bytes = KEY_MAX) -> RangeDescriptor:
    """A range that this store alone holds, and so leads."""
    return RangeDescriptor(RangeId(range_id), start, end, (ME,), 1, 2)


def split(cut: bytes, right_id: int, generation: int = 1) -> SplitCommand:
    """A command that cuts a range there."""
    return SplitCommand(TERM, generation, cut, RangeId(right_id), (FIRST, ME, THIRD))


class HandIo:
    """An `IoExecutor` that does nothing before `finish`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()

    def run(self, call: Callable[[], T]) -> Awaitable[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self.waiting.append((call, future))
        return future

    def finish(self, error: OSError | None = None) -> None:
        """Do what was asked for first, or let it fail; who waits hears of it in the next turn."""
        call, future = self.waiting.popleft()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(call())


class HandTime:
    """A `TimeSource` that shows the loop's time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def wall_us(self) -> int:
        return 1_000_000_000 + self._loop.now_us

    def monotonic_us(self) -> int:
        return self._loop.now_us

    def leave_host(self) -> None:
        """This clock is its own in any case."""

    def error_us(self, off_host: bool = False) -> int:
        return 0


class Middle:
    """Chance that is none: always the middle."""

    def randrange(self, stop: int) -> int:
        return stop // 2


class RoomDisk(MemoryDisk):
    """A disk that is as full as it is told to be."""

    def __init__(self) -> None:
        super().__init__()
        self.free = FREE_BYTES

    def free_bytes(self) -> int:
        return self.free


class RecordingEngine(MemoryEngine):
    """An engine that says in which order it was written, synced and flushed."""

    def __init__(self, story: list[str]) -> None:
        super().__init__()
        self.story = story
        self.grown = False

    def write(self, batch: WriteBatch) -> None:
        self.story.append("write")
        super().write(batch)

    def sync(self) -> None:
        self.story.append("sync")

    def needs_flush(self) -> bool:
        return self.grown

    def flush_memtables(self) -> None:
        self.story.append("flush memtables")
        self.grown = False


class StoreWorld:
    """The store with everything around it (its `Body` and its `StoreHost`)."""

    def __init__(self, *ranges: RangeDescriptor) -> None:
        self.loop = VirtualLoop()
        self.time: TimeSource = HandTime(self.loop)
        self.rand: Rand = Middle()
        self.log_calls, self.engine_calls = HandIo(self.loop), HandIo(self.loop)
        self.log_io: IoExecutor = self.log_calls
        self.engine_io: IoExecutor = self.engine_calls
        self.story: list[str] = []
        """What the engine did, and what was sent."""
        self.engine = RecordingEngine(self.story)
        self.sent: list[Message] = []
        self.granted: list[tuple[RangeId, int, ReplicaId]] = []
        """Votes that left: range, term, candidate."""
        self.failures: list[BaseException] = []
        self.descriptors: dict[int, RangeDescriptor] = {}
        self.last = {each.range_id: RAFT_INITIAL_INDEX for each in ranges}
        """By range: the index of the last entry its leader has sent."""
        birth = WriteBatch()
        for each in ranges:
            birth_batch(birth, each, ME, Timestamp(0))
        self.engine.write(birth)
        self.room = RoomDisk()
        self.log_disk: Disk = self.room
        self.collected: Callable[[Replica, Effect], None] = lambda replica, effect: None
        """Told when a piece of garbage collection applied."""
        self.snapshot_wanted: Callable[[Replica, ReplicaId], None] = lambda replica, to: None
        """Told when a follower needs a snapshot."""
        self.transport: Transport
        self.starts = 0
        self.tasks: list[asyncio.Task[Any]] = []
        """All there were: those of before a restart wait for ever, and nobody is to notice."""
        self.store = self.run(self._open())

    async def _open(self) -> Store:
        self.starts += 1
        rand_bytes = Random(self.starts).randbytes
        log = RaftLog.open(self.log_disk, STORE_ID, create=self.starts == 1, rand_bytes=rand_bytes)
        if self.starts > 1:
            reconcile_store(self.engine, log)
        store = Store(
            self, self, self.engine, log, Clock(self.time), NodeId(2), lambda program: lambda value: True
        )
        self.store = store
        store.load()
        return store

    def restart(self) -> None:
        """kill -9 and a new start: what waits for a disk never happens, what was done is there."""
        self.store.close()
        self.turn()
        self.log_calls.waiting.clear()
        self.engine_calls.waiting.clear()
        self.store = self.run(self._open())

    # -- driving -------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run what needs nobody's disk."""
        task = self.loop.create_task(work)
        self.turn()
        assert task.done(), "it waits for a disk"
        return task.result()

    def turn(self) -> None:
        """Everything that can happen without the disk and without time."""
        self.loop.run_until_us(self.loop.now_us)

    def wait_us(self, delay_us: int) -> None:
        """Time passes."""
        self.loop.run_until_us(self.loop.now_us + delay_us)

    def settle(self) -> None:
        """All disk calls, one after the other, until there are none."""
        self.turn()
        while self.log_calls.waiting or self.engine_calls.waiting:
            (self.log_calls if self.log_calls.waiting else self.engine_calls).finish()
            self.turn()

    def until_waiting(self, io: HandIo) -> None:
        """All other disk calls, until `io` is asked for one."""
        other = self.log_calls if io is self.engine_calls else self.engine_calls
        self.turn()
        while not io.waiting:
            other.finish()
            self.turn()

    def ask(self, request: api.Request, range_id: int = 1) -> api.Response:
        """A request of this node's own gateway; the answer, as soon as disk and time have brought it."""
        waiter: asyncio.Future[api.Response] = self.loop.create_future()
        response = self.store.handle(RangeId(range_id), request, waiter)
        while response is None:
            self.settle()
            self.wait_us(1_000)
            response = waiter.result() if waiter.done() else None
        return response

    # -- what peers send -----------------------------------------------------------------------------------

    def append(self, range_id: int, *commands: Command) -> None:
        """The leader sends these commands (none: its no-op), committed."""
        datas = [encode_command(command) for command in commands] or [b""]
        last = self.last[RangeId(range_id)]
        entries = [Entry(last + 1 + i, TERM, KIND_NORMAL, data) for i, data in enumerate(datas)]
        term = TERM if last > RAFT_INITIAL_INDEX else RAFT_INITIAL_TERM
        self.last[RangeId(range_id)] = end = last + len(entries)
        self.step(range_id, Append(ME, FIRST, TERM, last, term, entries, end, 0))

    def ask_vote(self, range_id: int, candidate: ReplicaId, term: int) -> None:
        """A candidate whose log is as long as a newborn range's."""
        self.step(range_id, Vote(ME, candidate, term, RAFT_INITIAL_INDEX, RAFT_INITIAL_TERM))

    def step(self, range_id: int, message: Any) -> None:
        self.store.on_raft(RaftEnvelope(RangeId(range_id), message))

    def votes(self, term: int) -> list[ReplicaId]:
        """Who got this store's vote of a term."""
        return [candidate for _, of, candidate in self.granted if of == term]

    def offer(self, here: RangeDescriptor, index: int, *pairs: tuple[bytes, bytes]) -> bool:
        """A whole snapshot of a range arrived; whether the store takes it to Raft."""
        image = MemoryEngine()
        birth = WriteBatch()
        birth_batch(birth, here, FIRST, Timestamp(0))
        image.write(birth)
        settings = image.get(keys.settings_key(here.range_id))
        assert settings is not None
        config = Config(here.replicas)
        applied = msgspec.msgpack.encode(Applied(index, TERM, Timestamp(0)))
        incoming = IncomingSnapshot(here, settings, applied, config, list(pairs))
        message = SnapshotMessage(ME, FIRST, TERM, index, TERM, config)
        return self.store.on_snapshot(here.range_id, incoming, message)

    def applied(self, range_id: int) -> int:
        """How far a range is applied; 0 where it has no state."""
        slot = self.store.slots.get(RangeId(range_id))
        state = slot.replica.state if slot is not None else None
        return state.applied_index if state is not None else 0

    # -- `Body` --------------------------------------------------------------------------------------------

    def open_engine(self) -> MemoryEngine:
        return self.engine

    def event(self, message: str) -> None:
        self.story.append(message)

    def fatal(self, error: BaseException) -> None:
        self.failures.append(error)

    # -- `StoreHost` ---------------------------------------------------------------------------------------

    def send(self, to: NodeId, item: Any) -> None:
        assert isinstance(item, RaftEnvelope)
        self.story.append(f"send {type(item.message).__name__}")
        self.sent.append(item.message)
        if isinstance(item.message, VoteResponse) and item.message.granted:
            self.granted.append((item.range_id, item.message.term, item.message.to))

    def answer_remote(self, handle: Any, response: api.Response) -> None:
        raise AssertionError("no peer asks")

    def wound_notice(self, entry: LockEntry, why: api.Wounded) -> None:
        raise AssertionError("nobody is wounded")

    def on_serving(self, replica: Replica) -> None:
        self.story.append(f"r{replica.range_id} serves")

    def on_descriptor(self, descriptor: RangeDescriptor) -> None:
        self.descriptors[descriptor.range_id] = descriptor

    def on_collected(self, replica: Replica, effect: Effect) -> None:
        self.collected(replica, effect)

    def start_snapshot(self, replica: Replica, to: ReplicaId) -> None:
        self.story.append(f"snapshot to {to}")
        self.snapshot_wanted(replica, to)

    def spawn(self, work: Any, name: str) -> Any:
        task = self.loop.create_task(work, name=name)
        self.tasks.append(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.failures.append(error)


def lead(world: StoreWorld) -> Replica:
    """Range 1's replica here leads in `TERM`, with the vote of node 1, which holds its no-op."""
    replica = world.store.slots[RangeId(1)].replica
    replica.raft.campaign(world.loop.now_us)
    world.store.mark(replica)
    world.settle()
    world.step(1, PreVoteResponse(ME, FIRST, TERM, True))
    world.settle()
    world.step(1, VoteResponse(ME, FIRST, TERM, True))
    world.settle()
    world.step(1, AppendResponse(ME, FIRST, TERM, replica.raft.last_index, 0))
    world.settle()
    assert replica.leaseholder is not None
    return replica


def node_over(world: StoreWorld) -> Node:
    """A node that was not started, over the world's store; it sends with the world's transport."""

    async def make() -> Node:
        return Node(cast(Any, world), NodeOptions())

    node = world.run(make())
    node._store = world.store
    return node
