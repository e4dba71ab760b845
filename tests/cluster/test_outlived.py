"""A transaction that outlived its catalogue lease: it may have read of a later catalogue, so its errors are 40001."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.leaseworld import LEASE_US, LeaseWorld
from txndb.errors import RetryError, TxndbError
from txndb.limits import OUTCOME_TTLS_MAX
from txndb.sim.clients import SimConnection

DIVISION_BY_ZERO = "22012"
OUTLIVED_S = 2 * LEASE_US / 1e6


@pytest.fixture
def world() -> LeaseWorld:
    world = LeaseWorld()
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 0), (2, 1)")
    return world


def error_of(world: LeaseWorld, connection: SimConnection, sql: str) -> TxndbError:
    with pytest.raises(TxndbError) as caught:
        world.execute(connection, sql)
    return caught.value


def test_K4_an_error_after_the_lease_is_a_lost_transaction(world: LeaseWorld) -> None:
    connection = world.connect(2)
    world.execute(connection, "BEGIN", "SELECT 1")
    world.isolate(2)
    world.wait(OUTLIVED_S)
    assert isinstance(error_of(world, connection, "SELECT 1 / (SELECT 0)"), RetryError)


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN READ ONLY"])
def test_K4_an_error_within_the_lease_is_what_it_is(world: LeaseWorld, begin: str) -> None:
    connection = world.connect(2)
    world.execute(connection, begin, "SELECT 1")
    assert error_of(world, connection, "SELECT 1 / (SELECT 0)").code == DIVISION_BY_ZERO


def test_D1_a_row_read_after_the_lease_is_not_shown(world: LeaseWorld) -> None:
    connection = world.connect(2)
    world.execute(connection, "BEGIN", "SELECT 1")
    world.isolate(2)
    world.wait(OUTLIVED_S)
    assert isinstance(error_of(world, connection, "SELECT 1"), RetryError)


def test_M6_a_transaction_commits_long_after_outcomes_of_its_age_are_collected(world: LeaseWorld) -> None:
    """It holds locks where it commits, which keeps them there."""
    connection = world.connect(2)
    world.execute(connection, "BEGIN", "UPDATE t SET v = 7 WHERE k = 1")
    pass_outcomes(world, 2)
    world.execute(connection, "COMMIT")
    assert world.at(1, "SELECT v FROM t WHERE k = 1") == [(7,)]


def test_M6_a_transaction_too_old_to_commit_hears_that_for_certain(world: LeaseWorld) -> None:
    connection = world.connect(2)
    world.execute(connection, "BEGIN", "UPDATE t SET v = 7 WHERE k = 1")
    pass_outcomes(world, OUTCOME_TTLS_MAX + 1)
    error = error_of(world, connection, "COMMIT")
    assert (
        isinstance(error, RetryError) and error.detail == "Reason: it lasted longer than outcomes are kept."
    )
    assert world.at(1, "SELECT v FROM t WHERE k = 1") == [(0,)]


def pass_outcomes(world: LeaseWorld, times: int) -> None:
    """Let so many times pass as outcomes are kept."""
    ttl_us = world.node(1).options.outcome_ttl_us
    for _ in range(times):
        world.run(asyncio.sleep(ttl_us / 1e6), bound_s=ttl_us / 1e6 + 1)
