"""The replicated state of a range: the same entries give the same bytes, however they are batched or replayed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txndb.encoding.keys import RANGE_LOCAL
from txndb.errors import InternalError
from txndb.ids import AttemptId, NodeId, RangeId, Timestamp, make_attempt_id
from txndb.raft.types import KIND_CONFIG, KIND_NORMAL, Config, Entry
from txndb.ranges import keys
from txndb.ranges.api import ABORTED, COMMITTED, TxnMeta
from txndb.ranges.command import (
    AbortCommand,
    Command,
    DecideCommand,
    ForgetCommand,
    GcCommand,
    OnePhaseCommand,
    OutcomeGcCommand,
    PrepareCommand,
    ResolveCommand,
    SplitCommand,
    decode_command,
    encode_command,
)
from txndb.ranges.descriptor import RangeDescriptor, make_replica_id
from txndb.ranges.state import RAFT_INITIAL_INDEX, RangeState, Verdict, birth_batch
from txndb.storage import mvcc
from txndb.storage.engine import WriteBatch
from txndb.storage.memory import MemoryEngine

TERM = 6
REPLICA = make_replica_id(NodeId(1), 1)
LETTERS = [bytes([letter]) for letter in b"bcdefgh"]


def attempt(number: int) -> AttemptId:
    return make_attempt_id(Timestamp(number), NodeId(1), 1, number)


def meta(number: int) -> TxnMeta:
    return TxnMeta(attempt(number), Timestamp(number), bytes(attempt(number)), NodeId(1), 1)


def newborn(start: bytes = b"a", end: bytes = b"z") -> MemoryEngine:
    engine = MemoryEngine()
    batch = WriteBatch()
    birth_batch(batch, RangeDescriptor(RangeId(1), start, end, (REPLICA,), 1, 2), REPLICA, Timestamp(0))
    engine.write(batch)
    return engine


def load(engine: MemoryEngine, canaries: frozenset[str] = frozenset()) -> RangeState:
    state = RangeState.load(engine, RangeId(1), canaries)
    assert state is not None
    return state


def decode_voters(data: bytes) -> tuple[int, ...]:
    return Config.decode(data).voters


def apply(state: RangeState, entries: Sequence[Entry]) -> list[Verdict]:
    effects = state.apply(entries, KIND_CONFIG, decode_voters)  # type: ignore[arg-type]
    return [effect.verdict for effect in effects]


def entry(index: int, command: Command, term: int = TERM) -> Entry:
    return Entry(RAFT_INITIAL_INDEX + 1 + index, term, KIND_NORMAL, encode_command(command))


def outcomes(state: RangeState, number: int, anchor: bytes) -> int:
    record = state.outcome(attempt(number), anchor)
    return record.status if record is not None else 0


# -- any batching, any replay --------------------------------------------------------------------------------

terms = st.sampled_from([TERM] * 9 + [TERM - 1])
generations = st.sampled_from([1, 1, 1, 2, 2, 3])
numbers = st.integers(1, 6)
stamps = st.integers(1, 40).map(Timestamp)
key = st.sampled_from(LETTERS)
value = st.one_of(st.none(), st.sampled_from([b"", b"x", b"yy"]))
writes = st.dictionaries(key, value, min_size=1, max_size=3).map(lambda found: sorted(found.items()))
ids = numbers.map(attempt)
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(OnePhaseCommand, terms, generations, ids, stamps, key, writes),
    st.builds(PrepareCommand, terms, generations, numbers.map(meta), stamps, key, writes),
    st.builds(DecideCommand, terms, generations, ids, stamps, key, st.lists(key, min_size=2, max_size=2)),
    st.builds(AbortCommand, terms, generations, ids, key),
    st.builds(ResolveCommand, terms, generations, ids, st.one_of(st.just(Timestamp(0)), stamps)),
    st.builds(ForgetCommand, terms, generations, ids, key),
    st.builds(SplitCommand, terms, generations, key, st.integers(2, 4).map(RangeId), st.just((REPLICA,))),
    st.builds(GcCommand, terms, generations, stamps, st.just(b"a"), st.just(b"z"), st.just(2)),
    st.builds(OutcomeGcCommand, terms, generations, stamps, st.just(b"a"), st.just(b"z"), st.integers(1, 9)),
)


def inside(command: Command, seen_ids: list[int]) -> bool:
    """A log holds no split into an id that exists already: ids are allocated once."""
    if isinstance(command, SplitCommand):
        if command.right_id in seen_ids:
            return False
        seen_ids.append(command.right_id)
    return True


def run_once(entries: list[Entry]) -> tuple[MemoryEngine, list[Verdict]]:
    engine = newborn()
    state = load(engine)
    verdicts = [verdict for each in entries for verdict in apply(state, [each])]
    state.validate()
    return engine, verdicts


def keeps_inside(state: RangeState, command: Command) -> bool:
    """A leader proposes only what lies in its range (R3)."""
    descriptor = state.descriptor
    named: list[bytes] = [k for k, _ in getattr(command, "writes", [])]
    named += [command.anchor] if isinstance(command, OnePhaseCommand | DecideCommand | AbortCommand) else []
    return all(descriptor.contains(k) for k in named)


def make_log(drawn: list[Command]) -> list[Entry]:
    """The commands a leader could have proposed, as a log: those of the present generation lie in its range."""
    engine = newborn()
    state = load(engine)
    entries: list[Entry] = []
    seen: list[int] = []
    for command in drawn:
        current = command.generation == state.descriptor.generation and command.term == TERM
        if current and (not keeps_inside(state, command) or not inside(command, seen)):
            continue
        entries.append(entry(len(entries), command))
        apply(state, entries[-1:])
    return entries


@settings(max_examples=60, deadline=None)
@given(st.lists(commands, max_size=25), st.data())
def test_any_batching_and_any_replay_give_the_same_bytes(drawn: list[Command], data: st.DataObject) -> None:
    """Recovery replays from the applied index, with other batches than before (design: what survives)."""
    entries = make_log(drawn)
    reference, verdicts = run_once(entries)
    engine = newborn()
    images = [engine.image()]
    state = load(engine)
    position = 0
    found: list[Verdict] = []
    while position < len(entries):
        size = data.draw(st.integers(1, len(entries) - position), label="batch")
        found += apply(state, entries[position : position + size])
        state.validate()
        position += size
        images.append(engine.image())
    assert found == verdicts
    assert engine.image() == reference.image()
    crashed = MemoryEngine.from_image(data.draw(st.sampled_from(images), label="what the crash left"))
    state = load(crashed)
    while (done := state.applied_index - RAFT_INITIAL_INDEX) < len(entries):
        apply(state, entries[done : done + data.draw(st.integers(1, len(entries)), label="replayed")])
    assert crashed.image() == reference.image()


@settings(max_examples=60, deadline=None)
@given(st.lists(commands, max_size=25))
def test_an_attempt_has_one_outcome_and_a_version_nothing_undoes(drawn: list[Command]) -> None:
    """M5, M7: what was COMMITTED stays so, and ABORTED; `max_applied_ts` is above every version (T4)."""
    state = load(newborn())
    decided: dict[tuple[int, bytes], int] = {}
    for each in make_log([c for c in drawn if not isinstance(c, OutcomeGcCommand)]):
        apply(state, [each])
        for number in range(1, 7):
            for anchor in LETTERS:
                status = outcomes(state, number, anchor)
                assert decided.setdefault((number, anchor), status) in (0, status)
                decided[number, anchor] = status
        newest = mvcc.newest_version_ts(state.engine, b"a", b"z")
        assert newest <= state.max_applied_ts or state.descriptor.generation > 1


# -- rule by rule --------------------------------------------------------------------------------------------


def test_C1_a_command_checked_before_a_split_changes_nothing_behind_it() -> None:
    """Else a 1PC writes keys of the right half through the left half's log."""
    split = SplitCommand(TERM, 1, b"m", RangeId(2), (REPLICA,))
    commit = OnePhaseCommand(TERM, 1, attempt(1), Timestamp(5), b"b", [(b"b", b"1"), (b"p", b"1")])
    state = load(newborn())
    assert apply(state, [entry(0, split), entry(1, commit)]) == [Verdict.APPLIED, Verdict.OTHER_GENERATION]
    assert mvcc.get(state.engine, b"p") == (None, 0)
    broken = load(newborn(), frozenset({"C1"}))
    with pytest.raises(InternalError, match="beyond its borders"):
        apply(broken, [entry(0, split), entry(1, commit)])


def test_C1_a_command_of_another_term_changes_nothing() -> None:
    commit = OnePhaseCommand(TERM - 1, 1, attempt(1), Timestamp(5), b"b", [(b"b", b"1")])
    state = load(newborn())
    assert apply(state, [entry(0, commit)]) == [Verdict.OTHER_TERM]
    assert mvcc.get(state.engine, b"b") == (None, 0)
    broken = load(newborn(), frozenset({"C1"}))
    assert apply(broken, [entry(0, commit)]) == [Verdict.APPLIED]


def test_C1_a_change_of_replicas_is_a_change_of_generation() -> None:
    state = load(newborn())
    added = make_replica_id(NodeId(2), 2)
    config = Entry(RAFT_INITIAL_INDEX + 1, TERM, KIND_CONFIG, Config((REPLICA, added)).encode())
    commit = OnePhaseCommand(TERM, 1, attempt(1), Timestamp(5), b"b", [(b"b", b"1")])
    assert apply(state, [config, entry(1, commit)]) == [Verdict.APPLIED, Verdict.OTHER_GENERATION]


def test_M5_a_decision_needs_the_prepare_record() -> None:
    decide = DecideCommand(TERM, 1, attempt(1), Timestamp(9), b"b", [b"b", b"b", b"x", b"x"])
    state = load(newborn())
    assert apply(state, [entry(0, decide)]) == [Verdict.NO_RECORD]
    assert outcomes(state, 1, b"b") == 0


def test_M7_the_first_of_abort_and_decision_stands() -> None:
    prepare = PrepareCommand(TERM, 1, meta(1), Timestamp(5), b"b", [(b"b", b"1")])
    abort = AbortCommand(TERM, 1, attempt(1), b"b")
    decide = DecideCommand(TERM, 1, attempt(1), Timestamp(9), b"b", [b"b", b"b"])
    state = load(newborn())
    assert apply(state, [entry(0, prepare), entry(1, abort), entry(2, decide)])[2] is Verdict.OUTCOME_EXISTS
    assert outcomes(state, 1, b"b") == ABORTED and mvcc.get(state.engine, b"b") == (None, 0)
    other = load(newborn())
    assert apply(other, [entry(0, prepare), entry(1, decide), entry(2, abort)])[2] is Verdict.OUTCOME_EXISTS
    assert outcomes(other, 1, b"b") == COMMITTED and mvcc.get(other.engine, b"b") == (b"1", 9)


def test_M6_a_late_command_of_an_attempt_whose_outcome_was_collected_does_nothing() -> None:
    """Else a duplicate of an aborted 1PC commits once its ABORTED record is gone: half commits."""
    abort = AbortCommand(TERM, 1, attempt(3), b"b")
    collect = OutcomeGcCommand(TERM, 1, Timestamp(4), b"a", b"z", 10)
    commit = OnePhaseCommand(TERM, 1, attempt(3), Timestamp(9), b"b", [(b"b", b"1")])
    prepare = PrepareCommand(TERM, 1, meta(3), Timestamp(9), b"b", [(b"b", b"1")])
    state = load(newborn())
    log = [entry(0, abort), entry(1, collect), entry(2, commit), entry(3, prepare)]
    assert apply(state, log)[2:] == [Verdict.TOO_OLD, Verdict.TOO_OLD]
    assert mvcc.get(state.engine, b"b") == (None, 0) and not state.prepares


def test_M5_an_unresolved_decision_is_not_collected() -> None:
    prepare = PrepareCommand(TERM, 1, meta(3), Timestamp(5), b"b", [(b"b", b"1")])
    decide = DecideCommand(TERM, 1, attempt(3), Timestamp(9), b"b", [b"b", b"b", b"x", b"x"])
    collect = OutcomeGcCommand(TERM, 1, Timestamp(4), b"a", b"z", 10)
    forget = ForgetCommand(TERM, 1, attempt(3), b"b")
    state = load(newborn())
    apply(state, [entry(0, prepare), entry(1, decide), entry(2, collect)])
    assert outcomes(state, 3, b"b") == COMMITTED
    apply(state, [entry(3, forget), entry(4, collect)])
    assert outcomes(state, 3, b"b") == 0


def test_R1_a_split_divides_the_records_by_key() -> None:
    """Each half: its writes of a prepare record, the outcomes of its anchors, both thresholds, `max_applied_ts`."""
    both = PrepareCommand(TERM, 1, meta(1), Timestamp(5), b"p", [(b"b", b"1"), (b"p", b"1")])
    left_only = PrepareCommand(TERM, 1, meta(2), Timestamp(6), b"p", [(b"c", b"1")])
    done = OnePhaseCommand(TERM, 1, attempt(4), Timestamp(30), b"q", [(b"q", b"1")])
    collect = OutcomeGcCommand(TERM, 1, Timestamp(1), b"a", b"z", 10)
    gc = GcCommand(TERM, 1, Timestamp(2), b"a", b"z", 10)
    split = SplitCommand(TERM, 1, b"m", RangeId(2), (REPLICA,))
    engine = newborn()
    state = load(engine)
    log: list[Command] = [both, left_only, done, collect, gc, split]
    apply(state, [entry(index, command) for index, command in enumerate(log)])
    right = RangeState.load(engine, RangeId(2))
    assert right is not None
    assert {a: r.writes for a, r in state.prepares.items()} == {
        attempt(1): [(b"b", b"1")],
        attempt(2): [(b"c", b"1")],
    }
    assert {a: r.writes for a, r in right.prepares.items()} == {attempt(1): [(b"p", b"1")]}
    assert right.prepares[attempt(1)].bound == 5 and right.prepares[attempt(1)].anchor == b"p"
    assert right.max_applied_ts == state.max_applied_ts == 30
    assert right.outcome_gc_ts == 1 and right.gc_threshold == 2
    assert outcomes(right, 4, b"q") == COMMITTED
    assert right.descriptor.generation == state.descriptor.generation == 2
    assert engine.get(keys.applied_key(RangeId(2))) is not None


def test_R1_a_replica_added_behind_a_split_takes_the_left_half_only() -> None:
    """Its snapshot was of before the split, its log begins with it: the right half has no replica on this node."""
    elsewhere = make_replica_id(NodeId(2), 1)
    prepare = PrepareCommand(TERM, 1, meta(1), Timestamp(5), b"b", [(b"b", b"1"), (b"p", b"1")])
    commit = OnePhaseCommand(TERM, 1, attempt(2), Timestamp(6), b"q", [(b"q", b"1")])
    split = SplitCommand(TERM, 1, b"m", RangeId(2), (elsewhere,))
    engine = newborn()
    state = load(engine)
    entries = [entry(0, prepare), entry(1, commit), entry(2, split)]
    effects = state.apply(entries, KIND_CONFIG, decode_voters)  # type: ignore[arg-type]
    assert effects[2].verdict is Verdict.APPLIED and effects[2].right is None, "nothing is born here"
    assert RangeState.load(engine, RangeId(2)) is None
    assert state.descriptor.end == b"m" and state.prepares[attempt(1)].writes == [(b"b", b"1")]
    assert mvcc.get(engine, b"q") == (None, 0) and outcomes(state, 2, b"q") == 0
    assert {key[1:9] for key, _ in engine.image() if key[:1] == RANGE_LOCAL} == {(1).to_bytes(8, "big")}


# -- the pieces of outcome GC --------------------------------------------------------------------------------


class CountingEngine(MemoryEngine):
    """Counts the pairs that its iterators give."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def iterate(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for pair in super().iterate(start, end, reverse=reverse):
            self.given += 1
            yield pair


def collect_all(
    state: RangeState, index: int, before: int, records_max: int, pieces_max: int
) -> tuple[list[int], int]:
    """Run pieces until none is left: how many records each one looked at, and the next index."""
    engine = state.engine
    assert isinstance(engine, CountingEngine)
    command = OutcomeGcCommand(TERM, 1, Timestamp(before), b"a", b"z", records_max)
    looked: list[int] = []
    while True:
        assert len(looked) < pieces_max, "outcome GC does not come to an end"
        engine.given = 0
        (effect,) = state.apply([entry(index, command)], KIND_CONFIG, decode_voters)  # type: ignore[arg-type]
        looked.append(engine.given)
        index += 1
        if not effect.resume:
            return looked, index
        command = msgspec.structs.replace(command, start=effect.resume, after=effect.resume_after)


def anchored_at(anchors: Sequence[bytes]) -> RangeState:
    """A range where attempt n + 1 aborted at the n-th of the anchors."""
    engine = CountingEngine()
    batch = WriteBatch()
    birth_batch(batch, RangeDescriptor(RangeId(1), b"a", b"z", (REPLICA,), 1, 2), REPLICA, Timestamp(0))
    engine.write(batch)
    state = load(engine)
    aborts = [AbortCommand(TERM, 1, attempt(n + 1), anchor) for n, anchor in enumerate(anchors)]
    apply(state, [entry(i, abort) for i, abort in enumerate(aborts)])
    return state


def test_a_piece_of_outcome_gc_is_bounded_within_one_anchor() -> None:
    """A row that is written all the time anchors a million outcomes; one entry must not walk them all."""
    state = anchored_at([b"hot"] * 200)
    looked, _ = collect_all(state, 200, 101, 10, 50)
    assert max(looked) <= 12 and sum(looked) <= 130
    assert [n for n in range(1, 201) if outcomes(state, n, b"hot")] == list(range(101, 201))


def test_outcome_gc_seeks_past_the_young_outcomes_of_an_anchor() -> None:
    """Also behind an anchor that begins like the hot one, and with a zero byte in it."""
    others = [b"ho", b"hot\0", b"hot\0\xff", b"hot\x01", b"hou"]
    state = anchored_at([*others, *[b"hot"] * 200, *others])
    looked, _ = collect_all(state, 210, 6, 1000, 1)
    assert sum(looked) <= 2 + 2 * len(others) + 1
    assert not any(outcomes(state, n + 1, anchor) for n, anchor in enumerate(others))
    assert all(outcomes(state, n + 206, anchor) for n, anchor in enumerate(others))


def test_M5_outcome_gc_goes_on_behind_decisions_that_stay() -> None:
    """More unresolved decisions at one anchor than a piece looks at: each piece begins behind the last."""
    state = anchored_at([])
    log: list[Command] = []
    for n in range(1, 31):
        log.append(PrepareCommand(TERM, 1, meta(n), Timestamp(n), b"b", [(b"b", b"1")]))
        if n <= 20:
            log.append(DecideCommand(TERM, 1, attempt(n), Timestamp(n), b"b", [b"b", b"b", b"x", b"x"]))
        else:
            log.append(AbortCommand(TERM, 1, attempt(n), b"b"))
    assert set(apply(state, [entry(i, c) for i, c in enumerate(log)])) == {Verdict.APPLIED}
    _, following = collect_all(state, len(log), 40, 3, 12)
    assert [n for n in range(1, 31) if outcomes(state, n, b"b")] == list(range(1, 21))
    forgets = [ForgetCommand(TERM, 1, attempt(n), b"b") for n in range(1, 21)]
    assert set(apply(state, [entry(following + i, c) for i, c in enumerate(forgets)])) == {Verdict.APPLIED}
    collect_all(state, following + len(forgets), 40, 3, 12)
    assert not any(outcomes(state, n, b"b") for n in range(1, 31))


@given(
    st.lists(st.sampled_from([b"b", b"b\0", b"b\x01", b"c"]), max_size=30),
    st.integers(1, 32),
    st.integers(1, 6),
)
def test_outcome_gc_in_pieces_collects_what_is_old_and_nothing_else(
    anchors: list[bytes], before: int, records_max: int
) -> None:
    state = anchored_at(anchors)
    looked, _ = collect_all(state, len(anchors), before, records_max, 2 * len(anchors) + 2)
    assert max(looked) <= records_max
    for n, anchor in enumerate(anchors, 1):
        assert bool(outcomes(state, n, anchor)) == (n >= before)


def test_a_command_of_an_older_log_collects_from_its_start() -> None:
    """The field was added: an entry without it is read as one that begins with the first attempt."""
    old = msgspec.msgpack.encode([9, TERM, 1, 4, b"a", b"z", 10])
    assert decode_command(old) == OutcomeGcCommand(TERM, 1, Timestamp(4), b"a", b"z", 10)
