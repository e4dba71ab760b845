"""A plain model of the Raft log's contents, and a driver that applies the same random steps to model and log."""

from __future__ import annotations

import copy
from random import Random

import msgspec

from txndb.sim.disk import PowerLostError, SimDisk
from txndb.storage.raftlog import LogEntry, Options, RaftLog

STORE_ID = b"0123456789abcdef"
TINY = Options(
    segment_bytes=1500,
    segments_max=3,
    rewrite_bytes_max=600,
    cache_bytes_max=400,
    reserve_bytes=100,
    room_bytes_min=200,
)
RANGES = (1, 2, 3)


def payload(range_id: int, index: int, term: int) -> bytes:
    """The data of an entry, a function of its identity, so that a mix-up shows."""
    return f"{range_id}/{index}/{term};".encode() * (1 + (index * 7 + term) % 9)


def entry(range_id: int, index: int, term: int) -> LogEntry:
    return LogEntry(index, term, (index + term) % 3, payload(range_id, index, term))


class ReplicaModel(msgspec.Struct):
    replica_id: int
    truncation: tuple[int, int] = (0, 0)
    terms: list[int] = []
    hard: tuple[int, int] = (0, 0)
    commit: int = 0
    intent: tuple[int, int] | None = None
    exists: bool = False

    @property
    def last(self) -> int:
        return self.truncation[0] + len(self.terms)

    def term(self, index: int) -> int:
        return (
            self.truncation[1] if index == self.truncation[0] else self.terms[index - self.truncation[0] - 1]
        )


class LogModel(msgspec.Struct):
    replicas: dict[int, ReplicaModel]
    tombstones: dict[int, int]

    @classmethod
    def new(cls) -> LogModel:
        return cls({range_id: ReplicaModel(1) for range_id in RANGES}, {})


def check_equal(log: RaftLog, model: LogModel) -> None:
    """The log says exactly what the model says, entries read back included."""
    log.validate()
    assert log.tombstones() == dict(sorted(model.tombstones.items()))
    assert log.replicas() == sorted((r, m.replica_id) for r, m in model.replicas.items() if m.exists)
    for range_id, expected in model.replicas.items():
        replica = log.replica(range_id, expected.replica_id)
        assert replica.truncation == expected.truncation
        assert replica.last_index() == expected.last
        term, vote, commit = replica.hard_state()
        assert (term, vote) == expected.hard
        assert commit <= expected.commit
        assert replica.intent == expected.intent
        wanted = [
            entry(range_id, expected.truncation[0] + 1 + i, term) for i, term in enumerate(expected.terms)
        ]
        assert replica.entries(replica.first_index(), replica.last_index() + 1) == wanted
        for index in range(expected.truncation[0], expected.last + 1):
            assert replica.term(index) == expected.term(index)


def same(log: RaftLog, model: LogModel) -> bool:
    """Whether the recovered log has the model's contents (without reading entries back)."""
    found = LogModel({}, log.tombstones())
    if log.tombstones() != model.tombstones:
        return False
    for range_id, replica_id in log.replicas():
        replica = log.replica(range_id, replica_id)
        term, vote, _ = replica.hard_state()
        terms = [replica.term(i) for i in range(replica.first_index(), replica.last_index() + 1)]
        found.replicas[range_id] = ReplicaModel(
            replica_id, replica.truncation, terms, (term, vote), 0, replica.intent, True
        )
    for range_id, expected in model.replicas.items():
        other = found.replicas.pop(range_id, None)
        if other is None:
            if expected.exists:
                return False
            continue
        if msgspec.structs.replace(other, commit=expected.commit) != expected:
            return False
    return not found.replicas


class Driver:
    """Random steps on a log and its model over a faulty disk."""

    def __init__(self, rng: Random, disk: SimDisk, options: Options = TINY) -> None:
        self.rng = rng
        self.disk = disk
        self.options = options
        self.log = RaftLog.open(disk, STORE_ID, create=True, rand_bytes=rng.randbytes, options=options)
        self.now = LogModel.new()
        """What was queued."""
        self.durable = LogModel.new()
        """What was acknowledged as durable."""
        self.flying: LogModel | None = None
        """What a flush that was begun, and perhaps run, would make durable."""

    def step(self) -> None:
        """Queue something."""
        range_id = self.rng.choice(RANGES)
        model = self.now.replicas[range_id]
        replica = self.log.replica(range_id, model.replica_id)
        choice = self.rng.randrange(20)
        if choice < 10:
            self._append(range_id, model)
        elif choice < 13:
            model.hard = (model.hard[0] + self.rng.randrange(2), self.rng.randrange(3))
            model.commit = max(model.commit, self.rng.randint(model.truncation[0], model.last))
            replica.set_hard_state(*model.hard, model.commit)
            model.exists = model.exists or model.hard != (0, 0)
        elif choice < 17 and model.terms:
            index = self.rng.randint(model.truncation[0] + 1, model.last)
            term = model.term(index)
            replica.truncate(index, term)
            self._cut_model(model, index, term, model.terms[index - model.truncation[0] :])
        elif choice == 17:
            index, term = model.last + self.rng.randrange(1, 5), model.hard[0] + 1
            replica.snapshot_intent(index, term)
            model.intent, model.exists = (index, term), True
        elif choice == 18 and model.intent is not None and model.intent[0] > model.truncation[0]:
            replica.reset(*model.intent)
            self._cut_model(model, *model.intent, [])
        elif choice == 19 and self.rng.random() < 0.3 and model.exists:
            replica.tombstone(model.replica_id)
            self.now.tombstones[range_id] = model.replica_id
            self.now.replicas[range_id] = ReplicaModel(model.replica_id + 1)

    def _append(self, range_id: int, model: ReplicaModel) -> None:
        first = model.last + 1
        term = max(model.hard[0], model.term(model.last), 1)
        if model.terms and self.rng.random() < 0.2:
            first = self.rng.randint(model.truncation[0] + 1, model.last)
            term += 1
        count = self.rng.randrange(1, 5)
        self.log.replica(range_id, model.replica_id).append(
            [entry(range_id, first + i, term) for i in range(count)]
        )
        del model.terms[first - model.truncation[0] - 1 :]
        model.terms += [term] * count
        model.exists = True

    @staticmethod
    def _cut_model(model: ReplicaModel, index: int, term: int, rest: list[int]) -> None:
        model.terms = list(rest)
        model.truncation = (index, term)
        model.exists = True
        if model.intent is not None and model.intent[0] <= index:
            model.intent = None

    def flush(self, *, attest: bool = False) -> None:
        """One whole flush; more is queued while it is in flight."""
        pending = self.log.begin_flush(attest=attest)
        if pending is None:
            return
        self.flying = copy.deepcopy(self.now)
        pending.run()
        for _ in range(self.rng.randrange(3)):
            self.step()
        self.log.end_flush(pending)
        self.durable, self.flying = self.flying, None

    def recover(self) -> None:
        """Open the log again; it holds what was durable, or all of the flush in flight."""
        self.log = RaftLog.open(
            self.disk, STORE_ID, create=False, rand_bytes=self.rng.randbytes, options=self.options
        )
        matches = [m for m in (self.flying, self.durable) if m is not None and same(self.log, m)]
        assert matches, "the recovered log is neither the last durable state nor the one in flight"
        model = copy.deepcopy(matches[0])
        for range_id, replica in model.replicas.items():
            replica.commit = self.log.replica(range_id, replica.replica_id).hard_state()[2]
        check_equal(self.log, model)
        self.durable, self.now, self.flying = copy.deepcopy(model), model, None


def run_until_crash(driver: Driver, steps: int) -> None:
    """Steps and flushes until the ordered crash, or all of them."""
    try:
        for _ in range(steps):
            driver.step()
            if driver.rng.random() < 0.5:
                driver.flush(attest=driver.rng.random() < 0.2)
    except PowerLostError:
        pass


__all__ = [
    "RANGES",
    "STORE_ID",
    "TINY",
    "Driver",
    "LogModel",
    "check_equal",
    "entry",
    "run_until_crash",
    "same",
]
