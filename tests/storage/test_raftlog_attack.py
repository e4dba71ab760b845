"""The Raft log against a disk that crashes anywhere, recovery included: what was acknowledged is there, whole flushes
are atomic, nothing is invented."""

from __future__ import annotations

from random import Random

import pytest

from tests.storage.logmodel import Driver, check_equal, run_until_crash
from txndb.errors import StoreError
from txndb.sim.disk import PowerLostError, SimDisk

SEEDS_PER_TEST = 10


def _recover_through_crashes(driver: Driver, *, power: bool) -> None:
    """Crash, and crash again during some of the recoveries."""
    rng, disk = driver.rng, driver.disk
    while True:
        if power:
            disk.crash()
        else:
            disk.kill()
        if rng.random() < 0.4:
            disk.crash_at_operation = disk.operations + rng.randrange(1, 8)
        try:
            driver.recover()
        except PowerLostError:
            power = power or rng.random() < 0.7
            continue
        disk.crash_at_operation = 0
        return


@pytest.mark.parametrize("batch", range(12))
def test_log_survives_crashes_at_any_operation(batch: int) -> None:
    for seed in range(batch * SEEDS_PER_TEST, (batch + 1) * SEEDS_PER_TEST):
        rng = Random(f"attack {seed}")
        driver = Driver(rng, SimDisk(rng))
        for _ in range(25):
            driver.disk.crash_at_operation = driver.disk.operations + rng.randrange(1, 80)
            run_until_crash(driver, rng.randrange(1, 60))
            _recover_through_crashes(driver, power=rng.random() < 0.6)


@pytest.mark.parametrize("batch", range(4))
def test_log_survives_failing_writes_and_syncs(batch: int) -> None:
    """A failed write or sync ends the process; the restart, with or without a power loss, finds everything
    acknowledged."""
    failures = 0
    for seed in range(batch * SEEDS_PER_TEST, (batch + 1) * SEEDS_PER_TEST):
        rng = Random(f"faults {seed}")
        driver = Driver(rng, SimDisk(rng))
        for _ in range(25):
            if rng.random() < 0.8:
                driver.disk.fail_next(rng.choice(("write", "short_write", "sync")))
            try:
                for _ in range(rng.randrange(1, 40)):
                    driver.step()
                    if rng.random() < 0.5:
                        driver.flush()
            except StoreError:
                failures += 1
                with pytest.raises(StoreError):
                    driver.log.begin_flush()
            if rng.random() < 0.5:
                driver.disk.kill()
            else:
                driver.disk.crash()
            driver.disk.faults.clear()
            driver.recover()
    assert failures > 50


def test_log_stays_small_while_it_is_truncated() -> None:
    """Floors rise, files go, and what is left is the whole truth."""
    rng = Random("floors")
    driver = Driver(rng, SimDisk(rng))
    most = 0
    for _ in range(4000):
        driver.step()
        driver.flush()
        most = max(most, len(driver.disk.list()))
    check_equal(driver.log, driver.now)
    assert driver.log.floor > 50
    assert most < 40
    driver.log.close()
    driver.durable = driver.now
    driver.recover()
