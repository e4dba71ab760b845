"""Damaged Raft log files: opening one gives what was synced or a clear error, and touches nothing when it refuses.

Bytes of a closed log are flipped, cut, repeated, swapped with another place or replaced; then it is opened. Damage that
takes the last flushes together with every header that attests them looks like a log that ended there (rule P6 states
the limit); then what is left must be a prefix, never something else.
"""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import budget
from tests.storage.logmodel import STORE_ID, TINY, entry
from txndb.errors import CorruptionError, StoreError
from txndb.sim.disk import SimDisk
from txndb.storage.raftlog import RaftLog
from txndb.storage.raftlog.format import segment_name

ENTRIES = 40
TAIL_BYTES = 500
"""The last data flush and the one that attests it lie within so many bytes of the end."""


def written() -> SimDisk:
    """A log of three ranges over several segments, all of it attested."""
    disk = SimDisk(Random(1))
    log = RaftLog.open(disk, STORE_ID, create=True, rand_bytes=Random(7).randbytes, options=TINY)
    for index in range(1, ENTRIES + 1):
        for range_id in (1, 2, 3):
            replica = log.replica(range_id, 1)
            replica.append([entry(range_id, index, 1)])
            if index % 5 == 0:
                replica.set_hard_state(1 + index // 5, 2, index)
        pending = log.begin_flush()
        assert pending is not None
        pending.run()
        log.end_flush(pending)
    pending = log.begin_flush(attest=True)
    assert pending is not None
    pending.run()
    log.end_flush(pending)
    log.close()
    return disk


def damage(disk: SimDisk, rng: Random) -> bool:
    """Harm one file; whether that may have taken the end of the log with all that attests it."""
    names = [name for name in disk.list() if name.endswith(".log")]
    name = rng.choice(names)
    is_last = name == max(names)
    file = disk.open(name)
    data = bytearray(file.pread(file.size(), 0))
    at = rng.randrange(len(data))
    size = rng.randrange(1, min(200, len(data) - at) + 1)
    kind = rng.randrange(5)
    near_end = is_last and (kind == 4 or at + size > len(data) - TAIL_BYTES)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at : at + size] = rng.randbytes(size)
    elif kind == 2:
        data[at : at + size] = bytes(size)
    elif kind == 3:
        source = rng.randrange(len(data))
        piece = data[source : source + size]
        data[at : at + len(piece)] = piece
    else:
        del data[at:]
    disk.unlink(name)
    replaced = disk.create(name)
    replaced.pwrite(bytes(data), 0)
    replaced.fdatasync()
    disk.sync_dir()
    return near_end and kind != 0


def contents(disk: SimDisk) -> dict[str, bytes]:
    found = {}
    for name in disk.list():
        file = disk.open(name)
        found[name] = file.pread(file.size(), 0)
    return found


@budget(150)
@given(st.integers(0, 2**32))
def test_what_was_synced_or_an_error(seed: int) -> None:
    rng = Random(seed)
    disk = written()
    end_lost = [damage(disk, rng) for _ in range(rng.randrange(1, 3))]
    before = contents(disk)
    try:
        log = RaftLog.open(disk, STORE_ID, create=False, rand_bytes=Random(8).randbytes, options=TINY)
    except (CorruptionError, StoreError) as error:
        assert str(error)
        assert contents(disk) == before, "a refused log was touched"
        return
    for range_id in (1, 2, 3):
        replica = log.replica(range_id, 1)
        last = replica.last_index()
        assert last == ENTRIES or any(end_lost)
        assert [e.data for e in replica.entries(1, last + 1)] == [
            entry(range_id, index, 1).data for index in range(1, last + 1)
        ]
    log.validate()


@budget(60)
@given(
    st.lists(
        st.tuples(st.sampled_from([segment_name(n) for n in range(4)]), st.binary(max_size=300)), max_size=4
    )
)
def test_files_of_garbage(files: list[tuple[str, bytes]]) -> None:
    disk = SimDisk(Random(1))
    for name, data in dict(files).items():
        file = disk.create(name)
        file.pwrite(data, 0)
        file.fdatasync()
    disk.sync_dir()
    try:
        RaftLog.open(disk, STORE_ID, create=False, rand_bytes=Random(8).randbytes, options=TINY)
    except (CorruptionError, StoreError) as error:
        assert str(error)
    else:
        raise AssertionError("garbage was taken for a log")
