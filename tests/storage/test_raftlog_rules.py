"""Rules P1 to P7 of the storage chapter, a test for each, named after it. Where the rule is code that can be taken out,
the test also takes it out and requires the faulty disk to find that (a canary)."""

from __future__ import annotations

import contextlib
import inspect
from random import Random

import pytest

from tests.storage.logmodel import STORE_ID, TINY, Driver, entry, run_until_crash
from txndb.errors import CorruptionError, DiskFullError, InternalError, StoreError, TxndbError
from txndb.sim.disk import PowerLostError, SimDisk, SimFile
from txndb.storage.raftlog import (
    AppliedState,
    CompleteReset,
    DeleteData,
    RaftLog,
    RaiseCommit,
    SetTruncation,
    apply_actions,
    reconcile,
    recovery,
)
from txndb.storage.raftlog.format import FLUSH_HEADER_BYTES, SEGMENT_HEADER_BYTES, segment_name
from txndb.storage.raftlog.log import PendingFlush
from txndb.storage.raftlog.replica import ReplicaLog

CANARY_SEEDS = 40


def new_disk(seed: object = 0) -> SimDisk:
    return SimDisk(Random(f"disk {seed}"))


def open_log(disk: SimDisk, *, create: bool = False, store_id: bytes = STORE_ID) -> RaftLog:
    return RaftLog.open(disk, store_id, create=create, rand_bytes=Random(7).randbytes, options=TINY)


def flush(log: RaftLog, *, attest: bool = False) -> None:
    pending = log.begin_flush(attest=attest)
    assert pending is not None
    pending.run()
    log.end_flush(pending)


def append(log: RaftLog, range_id: int, first: int, last: int, term: int = 1) -> ReplicaLog:
    replica = log.replica(range_id, 1)
    replica.append([entry(range_id, index, term) for index in range(first, last + 1)])
    return replica


def violations(name: str = "canary", *, kill_first: bool = False) -> int:
    """How many seeds of crashes and recoveries end in a lost, invented or unreadable log. With `kill_first` each power
    loss follows a kill, after which the log was recovered from the page cache."""
    found = 0
    for seed in range(CANARY_SEEDS):
        rng = Random(f"{name} {seed}")
        driver = Driver(rng, SimDisk(rng))
        try:
            for _ in range(25):
                driver.disk.crash_at_operation = driver.disk.operations + rng.randrange(1, 80)
                run_until_crash(driver, rng.randrange(1, 60))
                if kill_first:
                    driver.disk.kill()
                    driver.recover()
                driver.disk.crash()
                driver.recover()
        except (AssertionError, TxndbError, OSError):
            found += 1
    return found


def test_the_canaries_are_silent_with_all_rules_in_place() -> None:
    assert violations() == 0


# ---- P1


def test_p1_nothing_is_durable_before_its_flush_is() -> None:
    """Completions name a flush: what is queued while one is in flight waits for the next."""
    log = open_log(new_disk(), create=True)
    assert log.barrier() == log.durable
    append(log, 1, 1, 3)
    first = log.barrier()
    assert first == log.durable + 1
    pending = log.begin_flush()
    assert pending is not None and log.begin_flush() is None
    append(log, 1, 4, 4)
    second = log.barrier()
    assert second == first + 1
    pending.run()
    assert log.durable < first
    log.end_flush(pending)
    assert log.durable == first
    flush(log)
    assert log.durable == second == log.barrier()


@pytest.mark.parametrize("fault", ["write", "short_write", "sync"])
def test_p1_a_failed_write_or_sync_ends_the_process(fault: str) -> None:
    disk = new_disk(fault)
    log = open_log(disk, create=True)
    append(log, 1, 1, 3)
    flush(log)
    append(log, 1, 4, 6)
    disk.fail_next(fault)
    pending = log.begin_flush()
    assert pending is not None
    with pytest.raises(StoreError):
        pending.run()
    with pytest.raises(InternalError):
        log.end_flush(pending)
    with pytest.raises(StoreError):
        log.begin_flush()


def test_p1_the_restart_rewrites_pages_that_only_look_clean() -> None:
    """After a failed sync a process restart reads the records from the cache; a power loss later must not lose what
    the restarted node acted on."""
    kept = 0
    for seed in range(30):
        disk = new_disk(seed)
        log = open_log(disk, create=True)
        append(log, 1, 1, 5)
        disk.fail_next("sync")
        pending = log.begin_flush()
        assert pending is not None
        with pytest.raises(StoreError):
            pending.run()
        disk.kill()
        seen = open_log(disk).replica(1, 1).last_index()
        disk.crash()
        assert open_log(disk).replica(1, 1).last_index() == seen
        kept += seen == 5
    assert kept == 30


def test_p1_each_flush_of_a_range_carries_its_commit_index() -> None:
    disk = new_disk()
    log = open_log(disk, create=True)
    replica = append(log, 1, 1, 3)
    replica.set_hard_state(1, 2, 2)
    flush(log)
    replica.set_hard_state(1, 2, 3)
    assert not log.has_queued()  # a commit index alone is worth no sync
    append(log, 1, 4, 4)
    flush(log)
    disk.crash()
    assert open_log(disk).replica(1, 1).hard_state() == (1, 2, 3)


def test_p1_the_reserve_is_given_up_before_a_flush_fails() -> None:
    """A disk that fills up: proposals are refused first, the flush that must not fail still fits."""
    disk = new_disk()
    log = open_log(disk, create=True)
    assert log.has_room() and "reserve" in disk.list()
    disk.capacity_bytes -= disk.free_bytes() - 150
    assert not log.has_room()
    log.replica(1, 1).set_hard_state(5, 1, 0)
    flush(log)
    assert "reserve" not in disk.list()
    disk.capacity_bytes += 10_000
    log.replica(1, 1).set_hard_state(6, 1, 0)
    flush(log)
    assert "reserve" in disk.list() and log.has_room()
    disk.capacity_bytes -= disk.free_bytes()
    append(log, 1, 1, 20)
    pending = log.begin_flush()
    assert pending is not None
    with pytest.raises(DiskFullError):
        pending.run()


def test_p1_canary_sync_of_file_and_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SimFile, "fdatasync", lambda self: None)
        assert violations() > CANARY_SEEDS // 2
    monkeypatch.setattr(SimDisk, "sync_dir", lambda self: None)
    assert violations() > CANARY_SEEDS // 2


# ---- P2


def test_p2_segments_go_only_after_their_state_is_rewritten_and_the_floor_is_durable() -> None:
    """A vote that nothing ever rewrites by itself survives the drop of the segment it was in."""
    disk = new_disk()
    log = open_log(disk, create=True)
    log.replica(2, 1).set_hard_state(3, 2, 0)
    log.replica(3, 4).set_hard_state(1, 1, 0)
    log.replica(3, 4).tombstone(4)
    log.replica(2, 1).snapshot_intent(9, 3)
    for index in range(1, 400):
        append(log, 1, index, index)
        log.replica(1, 1).truncate(index, 1)
        flush(log)
    assert segment_name(1) not in disk.list()
    disk.crash()
    log = open_log(disk)
    assert log.replica(2, 1).hard_state() == (3, 2, 0)
    assert log.replica(2, 1).intent == (9, 3)
    assert log.tombstones() == {3: 4}
    assert log.replica(1, 1).truncation == (399, 1)


def test_p2_a_live_entry_pins_its_segment_until_its_tail_is_rewritten() -> None:
    disk = new_disk()
    log = open_log(disk, create=True)
    append(log, 2, 1, 3)
    flush(log)
    busy = append(log, 1, 1, 1)
    newest = 1
    for index in range(2, 400):
        append(log, 1, index, index)
        busy.truncate(index - 1, 1)
        flush(log)
        newest = max(newest, *(int(name[:16], 16) for name in disk.list() if name != "reserve"))
        if newest <= TINY.segments_max:
            assert segment_name(1) in disk.list()
    assert newest > 2 * TINY.segments_max
    assert segment_name(1) not in disk.list()
    assert len(disk.list()) < 10
    disk.crash()
    log = open_log(disk)
    assert log.replica(2, 1).entries(1, 4) == [entry(2, index, 1) for index in (1, 2, 3)]


def test_p2_missing_below_the_floor_is_normal_at_or_above_it_is_corruption() -> None:
    disk = new_disk()
    log = open_log(disk, create=True)
    for index in range(1, 80):
        append(log, 1, index, index)
        flush(log)
    log.close()
    disk.kill()
    second = [name for name in disk.list() if name.endswith(".log")][1]
    disk.unlink(second)
    with pytest.raises(CorruptionError, match="missing"):
        open_log(disk)


def test_p2_a_tombstone_kills_only_its_id_and_lower_ones() -> None:
    disk = new_disk()
    log = open_log(disk, create=True)
    append(log, 1, 1, 3)
    with pytest.raises(InternalError):
        log.replica(1, 5)  # the old one must be buried first
    log.replica(1, 1).tombstone(2)
    with pytest.raises(InternalError):
        log.replica(1, 2)
    log.replica(1, 5).set_hard_state(1, 1, 0)
    flush(log)
    disk.crash()
    log = open_log(disk)
    assert (log.replicas(), log.tombstones(), log.tombstone_of(1)) == ([(1, 5)], {1: 2}, 2)


def test_p2_canary_rewriting_state_and_unlinking_late(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ReplicaLog, "rewrite_state", lambda self, below: None)
        assert violations() > CANARY_SEEDS // 2
    run = PendingFlush.run

    def unlink_first(self: PendingFlush) -> None:
        for name in self.unlink:
            self._log.disk.unlink(name)
        self.unlink = []
        self._log.disk.sync_dir()
        run(self)

    monkeypatch.setattr(PendingFlush, "run", unlink_first)
    assert violations() > CANARY_SEEDS // 2


# ---- P3


def test_p3_at_open_truncation_applied_and_last_index_are_in_order() -> None:
    log = open_log(new_disk(), create=True)
    replica = append(log, 1, 1, 10)
    replica.set_hard_state(1, 1, 4)
    replica.truncate(3, 1)
    assert reconcile(log, {1: AppliedState(1, 4, 1)}) == []
    actions = reconcile(log, {1: AppliedState(1, 7, 1)})
    assert actions == [RaiseCommit(1, 1, 7)]
    apply_actions(log, actions)
    assert replica.hard_state() == (1, 1, 7)
    for applied in (AppliedState(1, 2, 1), AppliedState(1, 11, 1), AppliedState(1, 7, 2)):
        with pytest.raises(CorruptionError):
            reconcile(log, {1: applied})
    with pytest.raises(CorruptionError):
        reconcile(log, {})  # the engine lost the range


# ---- P4


@pytest.mark.parametrize("log_holds_it", [False, True])
def test_p4_an_interrupted_snapshot_is_completed(log_holds_it: bool) -> None:
    """The intent is durable, the engine has the data, the reset is lost. If the log holds (index, term) its suffix
    stays."""
    disk = new_disk()
    log = open_log(disk, create=True)
    replica = append(log, 1, 1, 30 if log_holds_it else 10)
    replica.snapshot_intent(20, 1)
    flush(log)
    replica.reset(20, 1)  # never flushed
    disk.crash()
    log = open_log(disk)
    actions = reconcile(log, {1: AppliedState(1, 20, 1)})
    assert actions == [CompleteReset(1, 1, 20, 1, log_holds_it)]
    apply_actions(log, actions)
    flush(log)
    disk.crash()
    replica = open_log(disk).replica(1, 1)
    assert (replica.truncation, replica.last_index(), replica.intent) == (
        (20, 1),
        30 if log_holds_it else 20,
        None,
    )
    assert replica.hard_state()[2] == 20


def test_p4_a_stale_intent_changes_nothing_and_ahead_without_one_stops() -> None:
    log = open_log(new_disk(), create=True)
    replica = append(log, 1, 1, 10)
    replica.snapshot_intent(20, 1)
    assert reconcile(log, {1: AppliedState(1, 6, 1)}) == [RaiseCommit(1, 1, 6)]
    with pytest.raises(CorruptionError):
        reconcile(log, {1: AppliedState(1, 21, 1)})


# ---- P5


def test_p5_a_replica_the_engine_created_gets_only_a_missing_truncation_point() -> None:
    """The batch of a split is durable before any record presumes it. A vote given to a message before stays."""
    log = open_log(new_disk(), create=True)
    log.replica(7, 3).set_hard_state(6, 2, 0)
    actions = reconcile(log, {7: AppliedState(3, 10, 5), 8: AppliedState(4, 10, 5)})
    assert actions == [SetTruncation(7, 3, 10, 5, 0), SetTruncation(8, 4, 10, 5, 0)]
    apply_actions(log, actions)
    assert log.replica(7, 3).hard_state() == (6, 2, 10)
    log.replica(7, 3).append([entry(7, 11, 6)])
    assert reconcile(log, {7: AppliedState(3, 10, 5), 8: AppliedState(4, 10, 5)}) == []
    assert log.replica(7, 3).last_index() == 11


def test_p5_the_data_of_a_dead_replica_is_deleted() -> None:
    log = open_log(new_disk(), create=True)
    log.replica(1, 4).set_hard_state(1, 1, 0)
    log.replica(1, 4).tombstone(4)
    log.replica(2, 9).set_hard_state(1, 1, 0)
    applied = {1: AppliedState(4, 30, 2), 2: AppliedState(5, 30, 2)}
    assert reconcile(log, applied) == [DeleteData(1, 4), DeleteData(2, 5)]
    apply_actions(log, reconcile(log, applied))
    assert log.replicas() == [(2, 9)]


def test_p5_a_higher_replica_id_in_the_engine_buries_the_logs() -> None:
    log = open_log(new_disk(), create=True)
    append(log, 1, 1, 4)
    actions = reconcile(log, {1: AppliedState(6, 12, 3)})
    assert actions == [SetTruncation(1, 6, 12, 3, 1)]
    apply_actions(log, actions)
    assert (log.replicas(), log.tombstones()) == ([(1, 6)], {1: 1})
    assert log.replica(1, 6).truncation == (12, 3)


# ---- P6


def _three_flushes(disk: SimDisk) -> tuple[RaftLog, str]:
    log = open_log(disk, create=True)
    for index in (1, 2, 3):
        append(log, 1, index, index)
        flush(log)
    return log, segment_name(1)


def test_p6_a_torn_tail_is_cut_and_rot_before_an_attested_offset_stops_the_node() -> None:
    disk = new_disk()
    _, name = _three_flushes(disk)
    size = disk.open(name).size()
    body = FLUSH_HEADER_BYTES + len(entry(1, 1, 1).data) + 34
    disk.rot(name, size - 1)
    disk.kill()
    assert open_log(disk).replica(1, 1).last_index() == 2  # the documented limit: it looks like a torn write
    for offset in range(SEGMENT_HEADER_BYTES + FLUSH_HEADER_BYTES, SEGMENT_HEADER_BYTES + 2 * body, 13):
        other = new_disk(offset)
        _three_flushes(other)
        other.rot(name, offset)
        other.kill()
        before = other.list()
        with pytest.raises(CorruptionError):
            open_log(other)
        assert other.list() == before  # nothing was touched


def test_p6_rot_of_a_segments_first_page_is_not_taken_for_an_unborn_segment() -> None:
    disk = new_disk()
    _, name = _three_flushes(disk)
    disk.rot(name, 0, SEGMENT_HEADER_BYTES + 20)
    disk.kill()
    with pytest.raises(CorruptionError):
        open_log(disk)


def test_p6_an_idle_log_attests_its_last_flush() -> None:
    """Then rot in it is found; without, it is taken for a torn tail."""
    disk = new_disk()
    log, name = _three_flushes(disk)
    last = disk.open(name).size() - 1
    assert log.needs_attest() and log.begin_flush() is None
    flush(log, attest=True)
    assert not log.needs_attest() and log.begin_flush(attest=True) is None
    disk.rot(name, last)
    disk.kill()
    with pytest.raises(CorruptionError):
        open_log(disk)


def test_p6_reads_of_old_entries_are_verified() -> None:
    disk = new_disk()
    log = open_log(disk, create=True)
    for index in range(1, 60):
        append(log, 1, index, index)
        flush(log)
    replica = log.replica(1, 1)
    assert replica.entries(1, 2) == [entry(1, 1, 1)]  # no longer cached: 400 bytes are
    append(log, 1, 60, 60)
    second = SEGMENT_HEADER_BYTES + 2 * FLUSH_HEADER_BYTES + 34 + len(entry(1, 1, 1).data)
    disk.rot(segment_name(1), second + FLUSH_HEADER_BYTES + 40)
    with pytest.raises(CorruptionError, match="damaged"):
        replica.entries(1, 20)
    assert replica.entries(59, 61) == [entry(1, index, 1) for index in (59, 60)]


def test_p6_recovery_writes_the_unattested_tail_into_a_new_segment() -> None:
    disk = new_disk()
    _three_flushes(disk)
    disk.kill()
    log = open_log(disk)
    assert segment_name(2) in disk.list()
    assert log.replica(1, 1).entries(1, 4) == [entry(1, index, 1) for index in (1, 2, 3)]
    disk.rot(
        segment_name(1), disk.open(segment_name(1)).size() - 1
    )  # where the tail was: nobody reads that again
    disk.crash()
    assert open_log(disk).replica(1, 1).last_index() == 3


def test_p6_canary_trusting_the_page_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery that takes what it can read for synced."""
    source = inspect.getsource(recovery.read)
    rule = "attested = max(flush.attested for flush in head.flushes)"
    assert rule in source
    scope = dict(vars(recovery))
    exec(source.replace(rule, "attested = Position(head.number, head.end)"), scope)
    monkeypatch.setattr(recovery, "read", scope["read"])
    assert violations("trust", kill_first=True) > CANARY_SEEDS // 4


# ---- P7


def test_p7_a_missing_foreign_or_existing_log_is_refused() -> None:
    disk = new_disk()
    with pytest.raises(StoreError, match="missing"):
        open_log(disk)
    log = open_log(disk, create=True)
    append(log, 1, 1, 1)
    log.close()
    disk.kill()
    with pytest.raises(StoreError, match="another store"):
        open_log(disk, store_id=b"fedcba9876543210")
    with pytest.raises(StoreError, match="no store that belongs to it"):
        open_log(disk, create=True, store_id=b"fedcba9876543210")
    assert open_log(disk).replica(1, 1).last_index() == 1


def test_p7_a_crash_while_creating_can_be_repeated() -> None:
    for operation in range(1, 9):
        for seed in range(5):
            disk = new_disk((operation, seed))
            disk.crash_at_operation = operation
            with contextlib.suppress(PowerLostError):
                open_log(disk, create=True)
            disk.crash()
            log = open_log(disk, create=True, store_id=b"another store id")
            append(log, 1, 1, 2)
            flush(log)
            disk.crash()
            assert open_log(disk, store_id=b"another store id").replica(1, 1).last_index() == 2
