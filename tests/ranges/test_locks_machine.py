"""A Hypothesis state machine of the lock table: any order of requests, ends, proposals and splits.

After every step `validate()` holds. Progress (K3): when nothing more is asked and whoever has no request waiting ends,
everybody who waits is granted or wounded, the oldest first among those in each other's way.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.ranges.lockscript import make_txn
from txndb.ids import RangeId, Timestamp
from txndb.ranges.lockitems import EXCLUSIVE, SHARED, Item, items_conflict
from txndb.ranges.locks import EntryState, LockEntry, LockTable

KEYS = [bytes([letter]) for letter in b"abcdefgh"]
key = st.sampled_from(KEYS)
mode = st.sampled_from([SHARED, EXCLUSIVE])
point = st.builds(lambda k, m: (k, None, m), key, mode)
span = st.builds(lambda a, b, m: (min(a, b), max(a, b) + b"\0", m), key, key, mode)
items = st.lists(st.one_of(point, span), min_size=1, max_size=3)


class LockMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.table = LockTable(RangeId(1), 1)
        self.count = 0
        self.held: dict[bytes, list[Item]] = {}
        """What each living attempt was granted, as its gateway sees it."""

    def _living(self, state: EntryState | None = None) -> list[LockEntry]:
        entries = list(self.table.entries.values())
        return entries if state is None else [e for e in entries if e.state is state]

    def _drain(self) -> None:
        for entry, _ in self.table.wounded:
            assert self.held.pop(entry.attempt, None) is not None, "wounded twice, or never opened"
        for waiter in self.table.granted:
            if waiter.entry.attempt in self.held:
                self.held[waiter.entry.attempt] += waiter.items
        self.table.wounded, self.table.granted = [], []

    @rule(age=st.integers(1, 30))
    def open(self, age: int) -> None:
        self.count += 1
        entry = self.table.open(make_txn(f"t{self.count}", age), b"")
        assert entry is not None
        self.held[entry.attempt] = []

    @precondition(lambda self: self._living(EntryState.ACTIVE))
    @rule(data=st.data(), wanted=items)
    def lock(self, data: st.DataObject, wanted: list[Item]) -> None:
        entry = data.draw(st.sampled_from(self._living(EntryState.ACTIVE)))
        if self.table.waiters_of(entry):
            return  # one request at a time
        if self.table.acquire(entry, list(wanted), object()):
            self.held[entry.attempt] += wanted
        self._drain()

    @precondition(lambda self: self._living(EntryState.ACTIVE))
    @rule(data=st.data())
    def propose(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self._living(EntryState.ACTIVE)))
        writes = [k for k, m in entry.points.items() if m == EXCLUSIVE]
        if writes and not self.table.waiters_of(entry):
            entry.state, entry.bound, entry.writes = EntryState.PREPARED, Timestamp(99), frozenset(writes)

    @precondition(lambda self: self._living(EntryState.PREPARED))
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        self.table.reactivate(data.draw(st.sampled_from(self._living(EntryState.PREPARED))))
        self._drain()

    @precondition(lambda self: self._living())
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self._living()))
        del self.held[entry.attempt]
        self.table.release(entry)
        self._drain()

    @rule(cut=key)
    def split(self, cut: bytes) -> None:
        """R1, R4: the halves together hold what was held; who waits touches the left only."""
        for waiter in self.table.waiters():
            if any((end or start + b"\0") > cut for start, end, _ in waiter.items):
                self.table.cancel_wait(waiter.entry)
        self._drain()
        prepared: dict[bytes, frozenset[bytes]] = {
            e.attempt: e.writes for e in self._living(EntryState.PREPARED)
        }
        right = LockTable(RangeId(2), 6)
        for half in self.table.split(cut):
            right.adopt(half)
        self._drain()
        right.validate()
        for attempt, writes in prepared.items():
            halves = [t.entries[attempt] for t in (self.table, right) if attempt in t.entries]
            bound = [half for half in halves if half.state is EntryState.PREPARED]
            assert frozenset[bytes]().union(*(half.writes for half in bound)) == writes
            assert all(half.writes for half in bound), "R4: a prepared half without a write"
        for attempt, held in self.held.items():
            for start, end, _ in held:
                if end is None:
                    table = self.table if start < cut else right
                    if attempt in table.entries:
                        assert table.entries[attempt].covers(start, None)
        for attempt in [a for a in self.held if a not in self.table.entries]:
            del self.held[attempt]
        for attempt in list(self.held):  # from here on the left alone is looked at
            self.held[attempt] = [i for i in self.held[attempt] if i[1] is None and i[0] < cut]

    @invariant()
    def holds(self) -> None:
        self.table.validate()
        for attempt, held in self.held.items():
            entry = self.table.entries[attempt]
            assert all(entry.covers(start, end) for start, end, _ in held), "K1: a living entry lost a lock"

    def teardown(self) -> None:
        """Progress: whoever waits for nothing ends; in the end nobody waits, and the oldest was never wounded."""
        while list(self.table.waiters()):
            oldest = next(self.table.waiters())
            waiting = {w.entry.attempt for w in self.table.waiters()}
            ending = [e for e in self._living() if e.attempt not in waiting]
            blocking = [e for e in ending if self._in_the_way(e, oldest.items)]
            assert blocking, (
                f"{oldest.entry} is the oldest who waits, and for nobody that can end: a deadlock"
            )
            self.held.pop(blocking[0].attempt, None)
            self.table.release(blocking[0])
            assert all(entry is not oldest.entry for entry, _ in self.table.wounded)
            self._drain()
            self.table.validate()

    @staticmethod
    def _in_the_way(entry: LockEntry, wanted: list[Item]) -> bool:
        held: list[Item] = [(k, None, m) for k, m in entry.points.items()]
        held += entry.spans
        return any(items_conflict(a, b) for a in held for b in wanted)


TestLockMachine = LockMachine.TestCase
TestLockMachine.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
