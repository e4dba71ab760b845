"""The real disk and the faulty one keep the same promises while nothing fails; what the faulty one does at a crash."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

import pytest

from txndb.errors import CorruptionError, StoreError
from txndb.server.files import OsDisk
from txndb.sim.disk import PAGE_BYTES, PowerLostError, SimDisk
from txndb.storage.disk import Disk
from txndb.storage.raftlog import LogEntry, RaftLog


@pytest.fixture(params=["os", "sim"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return OsDisk(str(tmp_path / "a" / "log")) if request.param == "os" else SimDisk(Random(1))


def test_files_hold_what_was_written(disk: Disk) -> None:
    file = disk.create("one")
    file.pwrite(b"hello", 3)
    file.pwrite(b"HE", 3)
    file.fdatasync()
    assert (file.size(), file.pread(100, 0), file.pread(2, 4)) == (8, b"\x00\x00\x00HEllo", b"El")
    assert file.pread(5, 8) == file.pread(5, 80) == b""
    file.close()
    with pytest.raises(OSError):
        file.pread(1, 0)
    with pytest.raises(FileExistsError):
        disk.create("one")
    again = disk.open("one")
    assert again.pread(100, 0) == b"\x00\x00\x00HEllo"
    again.close()


def test_directories_list_rename_and_unlink(disk: Disk) -> None:
    for name in ("b", "a"):
        file = disk.create(name)
        file.pwrite(name.encode(), 0)
        file.close()
    assert disk.list() == ["a", "b"]
    disk.rename("a", "b")
    disk.sync_dir()
    file = disk.open("b")
    assert (disk.list(), file.pread(9, 0)) == (["b"], b"a")
    file.close()
    disk.unlink("b")
    assert disk.list() == [] and disk.free_bytes() > 0
    for call in (lambda: disk.open("b"), lambda: disk.unlink("b"), lambda: disk.rename("b", "c")):
        with pytest.raises(FileNotFoundError):
            call()


def test_the_raft_log_lives_on_a_real_disk(tmp_path: Path) -> None:
    disk = OsDisk(str(tmp_path / "log"))
    store_id = b"s" * 16
    with pytest.raises(StoreError):
        RaftLog.open(disk, store_id, create=False, rand_bytes=os.urandom)
    log = RaftLog.open(disk, store_id, create=True, rand_bytes=os.urandom)
    entries = [LogEntry(i, 1, 0, b"%d" % i) for i in range(1, 101)]
    for entry in entries:
        log.replica(1, 1).append([entry])
        pending = log.begin_flush()
        assert pending is not None
        pending.run()
        log.end_flush(pending)
    log.close()
    log = RaftLog.open(disk, store_id, create=False, rand_bytes=os.urandom)
    assert log.replica(1, 1).entries(1, 101) == entries
    assert log.replica(1, 1).entries(3, 101, bytes_max=5) == entries[2:7]
    log.close()
    path = tmp_path / "log" / "0000000000000001.log"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptionError):
        RaftLog.open(disk, store_id, create=False, rand_bytes=os.urandom)


def _crashed(seed: int, *, synced: bool) -> tuple[set[str], bytes | None]:
    disk = SimDisk(Random(seed))
    file = disk.create("f")
    file.pwrite(b"a" * 2 * PAGE_BYTES, 0)
    file.fdatasync()
    disk.sync_dir()
    file.pwrite(b"b" * 2 * PAGE_BYTES, PAGE_BYTES)
    disk.create("g")
    if synced:
        file.fdatasync()
        disk.sync_dir()
    disk.crash()
    with pytest.raises(OSError):
        file.pread(1, 0)
    return set(disk.list()), disk.open("f").pread(9 * PAGE_BYTES, 0)


def test_a_crash_of_the_faulty_disk_spares_what_was_synced() -> None:
    for seed in range(20):
        names, data = _crashed(seed, synced=True)
        assert names == {"f", "g"} and data == b"a" * PAGE_BYTES + b"b" * 2 * PAGE_BYTES


def test_a_crash_of_the_faulty_disk_loses_keeps_and_tears_the_rest() -> None:
    outcomes = [_crashed(seed, synced=False) for seed in range(60)]
    assert {frozenset(names) for names, _ in outcomes} == {frozenset({"f"}), frozenset({"f", "g"})}
    contents = [data for _, data in outcomes if data is not None]
    assert all(data[:PAGE_BYTES] == b"a" * PAGE_BYTES for data in contents)
    second = [data[PAGE_BYTES : 2 * PAGE_BYTES] for data in contents]
    assert b"a" * PAGE_BYTES in second and b"b" * PAGE_BYTES in second
    assert any(b"a" in page and b"b" in page for page in second)
    assert len({len(data) for data in contents}) > 1
    assert outcomes == [_crashed(seed, synced=False) for seed in range(60)]


def test_a_failed_sync_leaves_pages_that_look_clean() -> None:
    lost = 0
    for seed in range(20):
        disk = SimDisk(Random(seed))
        file = disk.create("f")
        disk.sync_dir()
        file.pwrite(b"x" * 100, 0)
        disk.fail_next("sync")
        with pytest.raises(OSError):
            file.fdatasync()
        file.fdatasync()  # "succeeds", writes nothing
        assert file.pread(100, 0) == b"x" * 100
        disk.kill()
        assert disk.open("f").pread(100, 0) == b"x" * 100
        disk.crash()
        lost += disk.open("f").pread(100, 0) != b"x" * 100
    assert 0 < lost < 20


def test_a_full_faulty_disk_refuses_and_an_ordered_crash_stops_everything() -> None:
    disk = SimDisk(Random(1), capacity_bytes=1000)
    file = disk.create("f")
    file.pwrite(bytes(900), 0)
    with pytest.raises(OSError) as caught:
        file.pwrite(bytes(200), 900)
    assert caught.value.errno == errno.ENOSPC
    disk.crash_at_operation = disk.operations + 1
    with pytest.raises(PowerLostError):
        file.fdatasync()
    with pytest.raises(PowerLostError):
        disk.list()
    disk.crash()
    assert disk.list() in ([], ["f"])
