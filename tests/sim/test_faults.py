"""The faults themselves: what they do to wires, disks, clocks and clients, and that a log finds what they did to it."""

from __future__ import annotations

from random import Random

import pytest

from tests.sim.test_clients import Setting
from tests.sim.test_network import Net
from tests.storage.logmodel import STORE_ID, TINY
from tests.storage.test_raftlog_rules import append, flush, new_disk, open_log
from txndb.errors import CorruptionError, StoreError
from txndb.sim import rot
from txndb.sim.clients import ClientOptions, Manners
from txndb.sim.clocks import EPOCH_US, ClockOptions, SimClock
from txndb.sim.disk import SimDisk
from txndb.sim.engine import EngineStore
from txndb.sim.loop import Incarnation, VirtualLoop
from txndb.sim.network import NetworkOptions
from txndb.sim.world import first_mismatch
from txndb.storage.engine import WriteBatch
from txndb.storage.memory import MemoryEngine
from txndb.storage.raftlog import RaftLog

# -- wires


@pytest.mark.parametrize("datagram", [False, True])
def test_a_damaged_frame_ends_the_connection_and_has_no_effect(datagram: bool) -> None:
    net = Net(NetworkOptions(datagram=datagram))
    net.network.options = NetworkOptions(datagram=datagram, corrupt=1.0)
    net.send(1, 2, b"harmful")
    net.run(0.1)
    net.network.options = NetworkOptions(datagram=datagram)
    assert net.members[1].got == []
    assert net.members[0].downs == [2]
    assert net.members[1].downs == [1]
    net.run(2.0)
    net.send(1, 2, b"sound")
    net.run(0.1)
    assert net.members[1].got == [(1, b"sound")]
    assert net.loop.problems == []
    net.loop.bury()


def test_a_clogged_link_delivers_late_in_order_and_only_it() -> None:
    net = Net(NetworkOptions())
    net.network.clog([(1, 2)], 500_000)
    net.send(1, 2, b"a")
    net.send(1, 2, b"b")
    net.send(2, 1, b"c")
    net.run(0.3)
    assert (net.members[0].got, net.members[1].got) == ([(2, b"c")], [])
    net.run(0.3)
    assert net.members[1].got == [(1, b"a"), (1, b"b")]
    net.loop.bury()


# -- disks


def _filled(seed: int) -> SimDisk:
    """A log of several segments, the last flush attested, its process gone."""
    disk = new_disk(seed)
    log = open_log(disk, create=True)
    for first in range(1, 40, 3):
        append(log, 1, first, first + 2)
        flush(log)
    flush(log, attest=True)
    disk.kill()
    return disk


@pytest.mark.parametrize("seed", range(60))
def test_p6_opening_finds_any_damage_to_attested_bytes(seed: int) -> None:
    disk = _filled(seed)
    assert rot.damage(disk, Random(seed))
    with pytest.raises(CorruptionError):
        open_log(disk)


@pytest.mark.parametrize("seed", range(40))
def test_p6_opening_finds_a_write_that_went_astray_once_it_is_attested(seed: int) -> None:
    disk = new_disk(seed)
    log = open_log(disk, create=True)
    astray = Random(seed).randrange(2, 9)
    for number in range(1, 12):
        if number == astray:
            disk.fail_next("misdirect")
        append(log, 1, number, number)
        flush(log)
    assert disk.misdirected is not None
    assert disk.misdirected[0] in disk.list()
    disk.kill()
    if rot.is_found_at_open(disk):
        with pytest.raises((CorruptionError, StoreError)):
            open_log(disk)


def test_a_write_astray_that_nothing_vouches_for_is_known_to_be_hidden() -> None:
    disk = new_disk()
    log = open_log(disk, create=True)
    append(log, 1, 1, 1)
    flush(log)
    disk.fail_next("misdirect")
    append(log, 1, 2, 2)
    flush(log)
    disk.kill()
    assert disk.misdirected is not None
    assert not rot.is_found_at_open(disk)


def test_a_log_without_records_has_nothing_to_say() -> None:
    disk = new_disk()
    log = open_log(disk, create=True)
    assert not rot.holds_records(disk)
    append(log, 1, 1, 1)
    flush(log)
    assert rot.holds_records(disk)


def test_a_copied_disk_and_engine_go_their_own_way() -> None:
    disk = _filled(1)
    copy = disk.copy(Random(2))
    disk.wipe()
    assert disk.list() == []
    RaftLog.open(copy, STORE_ID, create=False, rand_bytes=Random(7).randbytes, options=TINY)
    store = EngineStore(MemoryEngine, Random(1))
    batch = WriteBatch()
    batch.put(b"k", b"v")
    store.open(1000).write(batch)
    other = store.copy(Random(2))
    store.wipe()
    assert other.open(1000).get(b"k") == b"v"
    assert store.open(1000).get(b"k") is None


def test_an_engine_whose_sync_fails_says_so_once() -> None:
    store = EngineStore(MemoryEngine, Random(1))
    engine = store.open(1000)
    store.fail_next_sync = True
    with pytest.raises(StoreError) as caught:
        engine.sync()
    assert isinstance(caught.value.__cause__, OSError)
    engine.sync()


# -- clocks


def test_a_clock_beyond_its_bound_knows_or_does_not() -> None:
    loop = VirtualLoop()
    clock = SimClock(loop, Random(1), ClockOptions(error_bound_us=0))
    clock.jump(5_000_000)
    assert clock.beyond
    assert (clock.wall_us(), clock.error_us()) == (EPOCH_US + 5_000_000, 0)
    clock.lose_bound(9_000_000)
    assert clock.error_us() == 9_000_000
    clock.jump(0)
    clock.lose_bound(0)
    assert not clock.beyond
    assert clock.error_us() == 0


# -- clients


def test_a_client_that_hangs_up_during_commit_does_not_know() -> None:
    outcomes = set()
    for seed in range(12):  # some are answered before they lose patience
        setting = Setting()
        setting.client.manners = Manners(ClientOptions(hang_up=1.0), Random(seed))
        outcomes.add(setting.transact()[-1])
        assert ("cancel" in setting.log) == (setting.history.ops[-1].type == "info")
    assert outcomes == {"ok", "info"}


def test_a_dawdling_client_holds_its_transaction_open() -> None:
    setting = Setting()
    setting.client.manners = Manners(ClientOptions(dawdle=1.0, dawdle_max_us=900_000), Random(1))
    before_us = setting.loop.now_us
    assert setting.transact()[-1] == "ok"
    assert setting.history.ops[-1].time_us - before_us > 100_000


# -- what is looked at


def test_every_event_of_a_process_is_told_while_it_lives() -> None:
    loop = VirtualLoop()
    process = Incarnation(loop, "n1.1")
    seen: list[int] = []
    loop.after_event = lambda incarnation: seen.append(loop.now_us)
    process.call_soon(lambda: None)
    loop.call_at_us(5, process.kill, context=process.context)
    loop.call_soon(lambda: None)
    loop.run_until_us(10)
    assert seen == [0]
    loop.bury()


@pytest.mark.parametrize(
    ("one", "other", "index"),
    [
        ({}, {1: (1, b"a")}, 0),
        ({1: (1, b"a"), 2: (2, b"b")}, {1: (1, b"a"), 2: (3, b"x")}, 0),
        ({1: (1, b"a"), 2: (2, b"b")}, {1: (1, b"x"), 2: (2, b"b")}, 1),
        ({1: (1, b"a"), 2: (2, b"b")}, {1: (2, b"a"), 2: (2, b"b")}, 1),
        ({1: (1, b"a"), 2: (2, b"b")}, {2: (2, b"c")}, 2),
    ],
)
def test_log_matching(
    one: dict[int, tuple[int, bytes]], other: dict[int, tuple[int, bytes]], index: int
) -> None:
    assert first_mismatch(one, other) == index
