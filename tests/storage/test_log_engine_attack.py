"""Log and engine together (rules P3, P4, P5): appends, applies, truncations, snapshots, splits and removals, with power
lost at any operation of either, recovery included. After each recovery both agree, and what was committed is there."""

from __future__ import annotations

import hashlib
from random import Random

import msgspec
import pytest

from tests.storage.logmodel import STORE_ID, TINY
from txndb.encoding.keys import RANGE_LOCAL, prefix_end, range_key
from txndb.errors import InternalError, TxndbError
from txndb.sim.disk import PowerLostError, SimDisk
from txndb.sim.engine import EngineStore
from txndb.storage.engine import Engine, WriteBatch
from txndb.storage.memory import MemoryEngine
from txndb.storage.raftlog import (
    AppliedState,
    DeleteData,
    LogEntry,
    RaftLog,
    ReplicaLog,
    apply_actions,
    reconcile,
)

SPLIT_INDEX, SPLIT_TERM = 10, 5
SEEDS = 25


class Stored(msgspec.Struct, array_like=True):
    """A range's state in the engine: a digest of everything applied."""

    replica_id: int
    index: int
    term: int
    digest: bytes


class Node:
    """A store without a cluster: it invents what the others would have committed."""

    def __init__(self, seed: object, broken: str = "") -> None:
        self.rng = Random(f"node {seed}")
        self.broken = broken
        self.disk = SimDisk(Random(f"disk {seed}"))
        self.engines = EngineStore(MemoryEngine, Random(f"engine {seed}"))
        self.engine: Engine = self.engines.open(1 << 30)
        self.log = RaftLog.open(self.disk, STORE_ID, create=True, rand_bytes=self.rng.randbytes, options=TINY)
        self.committed: dict[int, list[int]] = {}
        """Range -> the terms of its committed entries from index 1 on, whoever committed them."""
        self.replica_ids: dict[int, int] = {}
        self.dead: dict[int, int] = {}
        self.votes: dict[int, tuple[int, int]] = {}
        """Range -> (term, vote) that was answered to somebody."""
        self.create(1, 1)
        self.flush()

    # ---- what survives

    def digest(self, range_id: int, index: int) -> bytes:
        return hashlib.blake2b(
            repr((range_id, self.committed[range_id][:index])).encode(), digest_size=8
        ).digest()

    def stored(self, range_id: int) -> Stored | None:
        data = self.engine.get(range_key(range_id, b"a"))
        return None if data is None else msgspec.msgpack.decode(data, type=Stored)

    # ---- operations that a crash may interrupt

    def write(self, batch: WriteBatch) -> None:
        if self.disk.take_crash():
            if self.rng.random() < 0.5:
                self.engine.write(batch)
            raise PowerLostError
        self.engine.write(batch)

    def sync(self, rule: str = "") -> None:
        """Sync the engine, unless the canary took this sync out."""
        if rule and rule == self.broken:
            return
        if self.disk.take_crash():
            if self.rng.random() < 0.5:
                self.engine.sync()
            raise PowerLostError
        self.engine.sync()

    def flush(self) -> None:
        pending = self.log.begin_flush(attest=self.rng.random() < 0.1)
        if pending is not None:
            pending.run()
            self.log.end_flush(pending)

    def put(self, batch: WriteBatch, range_id: int, index: int) -> None:
        terms = self.committed[range_id]
        term = terms[index - 1] if index else 0
        state = Stored(self.replica_ids[range_id], index, term, self.digest(range_id, index))
        batch.put(range_key(range_id, b"a"), msgspec.msgpack.encode(state))

    def create(self, range_id: int, replica_id: int) -> None:
        """A new range of this store: the engine first (P5)."""
        self.committed[range_id] = [SPLIT_TERM] * SPLIT_INDEX
        self.replica_ids[range_id] = replica_id
        batch = WriteBatch()
        self.put(batch, range_id, SPLIT_INDEX)
        self.write(batch)
        self.sync()
        self.log.replica(range_id, replica_id).reset(SPLIT_INDEX, SPLIT_TERM)

    # ---- the steps

    def step(self) -> None:
        live = sorted(set(self.replica_ids) - set(self.dead))
        range_id = self.rng.choice(live)
        steps = (self.append, self.append, self.append, self.apply, self.apply, self.vote, self.truncate)
        step = self.rng.choice((*steps, self.snapshot)) if self.rng.random() < 0.97 else self.remove
        step(range_id)

    def append(self, range_id: int) -> None:
        """Entries of the leader arrive, are made durable, and (perhaps more of them) commit."""
        if self.stored(range_id) is None:
            return
        log = self.log.replica(range_id, self.replica_ids[range_id])
        terms = self.committed[range_id]
        matched = self.matched(range_id, log)
        term = max(log.hard_state()[0], max(terms), log.term(log.last_index())) + self.rng.randrange(2)
        entries = [LogEntry(i, terms[i - 1], 0, b"%d" % i) for i in range(matched + 1, len(terms) + 1)]
        start = max(matched, len(terms)) + 1
        entries += [
            LogEntry(start + i, term, 0, b"%d" % (start + i)) for i in range(self.rng.randrange(1, 6))
        ]
        log.append(entries)
        self.flush()
        terms += [
            log.term(i) for i in range(len(terms) + 1, self.rng.randint(start - 1, entries[-1].index) + 1)
        ]

    def matched(self, range_id: int, log: ReplicaLog) -> int:
        """Up to where the log holds what is committed; an uncommitted suffix may conflict with it."""
        terms = self.committed[range_id]
        index = log.truncation[0]
        while index < min(log.last_index(), len(terms)) and log.term(index + 1) == terms[index]:
            index += 1
        return index

    def apply(self, range_id: int) -> None:
        """Apply what is committed and durable here, a few entries a batch; some entries split the range."""
        state = self.stored(range_id)
        if state is None:
            return
        log = self.log.replica(range_id, self.replica_ids[range_id])
        last = self.matched(range_id, log)
        while state.index < last and self.rng.random() < 0.8:
            batch = WriteBatch()
            index = min(last, state.index + self.rng.randrange(1, 4))
            self.put(batch, range_id, index)
            right = range_id * 10 + 1
            if range_id < 100 and index % 7 == 0 and right not in self.replica_ids:
                self.split(batch, right)
            else:
                self.write(batch)
            state = self.stored(range_id)
            assert state is not None

    def split(self, batch: WriteBatch, right: int) -> None:
        """The right replica may have answered a vote already."""
        if self.rng.random() < 0.3:
            self.log.replica(right, 1).set_hard_state(7, 2, 0)
            self.flush()
            self.votes[right] = (7, 2)
        self.committed[right] = [SPLIT_TERM] * SPLIT_INDEX
        self.replica_ids[right] = 1
        self.put(batch, right, SPLIT_INDEX)
        self.write(batch)
        self.sync("P5")
        self.log.replica(right, 1).reset(SPLIT_INDEX, SPLIT_TERM)
        self.flush()

    def vote(self, range_id: int) -> None:
        log = self.log.replica(range_id, self.replica_ids[range_id])
        term, _, commit = log.hard_state()
        log.set_hard_state(term + 1, self.rng.randrange(3), commit)
        self.flush()
        self.votes[range_id] = log.hard_state()[:2]

    def truncate(self, range_id: int) -> None:
        """P3: read the applied index, then sync the engine, then truncate."""
        state = self.stored(range_id)
        if state is None:
            return
        self.sync("P3")
        self.log.replica(range_id, self.replica_ids[range_id]).truncate(state.index, state.term)
        self.flush()

    def snapshot(self, range_id: int) -> None:
        """P4: intent, data, reset. The sender is ahead of this store's applied index."""
        state = self.stored(range_id)
        terms = self.committed[range_id]
        terms += [max(terms, default=1)] * self.rng.randrange(3)
        low = (state.index if state else 0) + 1
        if low > len(terms):
            return
        index = self.rng.randint(low, len(terms))
        term = terms[index - 1]
        log = self.log.replica(range_id, self.replica_ids[range_id])
        if self.broken != "P4":
            log.snapshot_intent(index, term)
        self.flush()
        batch = WriteBatch()
        self.put(batch, range_id, index)
        self.write(batch)
        self.sync("P4 sync")
        log.reset(index, term)
        self.flush()

    def remove(self, range_id: int) -> None:
        """The tombstone is durable before the data goes; recovery finishes what it begins."""
        if range_id == 1:
            return
        replica_id = self.replica_ids[range_id]
        self.log.replica(range_id, replica_id).tombstone(replica_id)
        self.flush()
        self.dead[range_id] = replica_id
        self.delete(range_id)
        if self.rng.random() < 0.5:
            self.replica_ids[range_id] = replica_id + 1
            self.votes.pop(range_id, None)
            del self.dead[range_id]
            self.vote(range_id)

    def delete(self, range_id: int) -> None:
        batch = WriteBatch()
        batch.delete(range_key(range_id, b"a"))
        self.write(batch)
        self.sync()

    # ---- recovery

    def recover(self) -> None:
        self.disk.crash()
        self.engines.crash()
        if self.rng.random() < 0.4:
            self.disk.crash_at_operation = self.disk.operations + self.rng.randrange(1, 8)
        self.engine = self.engines.open(1 << 30)
        self.log = RaftLog.open(
            self.disk, STORE_ID, create=False, rand_bytes=self.rng.randbytes, options=TINY
        )
        self.sync()
        applied = {}
        for key, value in self.engine.iterate(RANGE_LOCAL, prefix_end(RANGE_LOCAL)):
            state = msgspec.msgpack.decode(value, type=Stored)
            applied[int.from_bytes(key[1:9], "big")] = AppliedState(state.replica_id, state.index, state.term)
        actions = reconcile(self.log, applied)
        apply_actions(self.log, actions)
        for action in actions:
            if isinstance(action, DeleteData):
                self.delete(action.range_id)
        self.flush()
        self.disk.crash_at_operation = 0
        self.check()

    def check(self) -> None:
        """Everything committed is applied or in the log; votes are kept; the dead stay dead."""
        self.log.validate()
        for range_id in sorted(self.committed):
            state = self.stored(range_id)
            tombstone = self.log.tombstone_of(range_id)
            if state is not None:
                assert state.replica_id > tombstone
                assert state.digest == self.digest(range_id, state.index)
            self.forget_unborn(range_id, state, tombstone)
        for range_id, replica_id in self.replica_ids.items():
            log = (
                self.log.replica(range_id, replica_id)
                if replica_id > self.log.tombstone_of(range_id)
                else None
            )
            if log is None:
                continue
            term, vote, commit = log.hard_state()
            assert (term, vote) >= self.votes.get(range_id, (0, 0))[:1]
            if term == self.votes.get(range_id, (0, 0))[0]:
                assert vote == self.votes.get(range_id, (0, 0))[1]
            state = self.stored(range_id)
            assert log.last_index() >= (state.index if state else 0) and commit >= (
                state.index if state else 0
            )

    def forget_unborn(self, range_id: int, state: Stored | None, tombstone: int) -> None:
        """The test's own notes about a replica whose creation or removal the crash undid or finished."""
        if tombstone >= self.replica_ids.get(range_id, 0):
            self.dead[range_id] = tombstone
        elif state is None and self.replica_ids[range_id] == 1 and range_id != 1:
            assert self.log.replica(range_id, 1).truncation == (0, 0)
            del self.replica_ids[range_id], self.committed[range_id]


def attack(seed: object, broken: str = "", crashes: int = 20) -> None:
    node = Node(seed, broken)
    for _ in range(crashes):
        node.disk.crash_at_operation = node.disk.operations + node.rng.randrange(1, 60)
        try:
            for _ in range(node.rng.randrange(1, 60)):
                node.step()
        except PowerLostError:
            pass
        while True:
            try:
                node.recover()
                break
            except PowerLostError:
                continue


@pytest.mark.parametrize("batch", range(4))
def test_p3_p4_p5_log_and_engine_agree_after_any_crash(batch: int) -> None:
    for seed in range(batch * SEEDS, (batch + 1) * SEEDS):
        attack(seed)


@pytest.mark.parametrize("rule", ["P3", "P4", "P4 sync", "P5"])
def test_canary_each_step_of_the_rules_is_needed(rule: str) -> None:
    found = 0
    for seed in range(SEEDS):
        try:
            attack(f"canary {seed}", rule)
        except InternalError:
            raise
        except (AssertionError, TxndbError):
            found += 1
    assert found > 0
