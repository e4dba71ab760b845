"""The simulated cluster behind the driver: answers, faults, and the same course for the same seed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from txndb.client import Connection, OperationalError, TransactionRetryError, run_transaction
from txndb.testing.world import SimulatedCluster


@pytest.fixture
def world() -> Iterator[SimulatedCluster]:
    with SimulatedCluster(3, seed=5) as made:
        with made.connect(autocommit=True) as connection:
            connection.execute("CREATE TABLE account (id INT PRIMARY KEY, balance INT)")
            connection.execute("INSERT INTO account VALUES (1, 100), (2, 100)")
        yield made


def transfer(connection: Connection) -> None:
    """Two statements; COMMIT is the third."""
    connection.execute("UPDATE account SET balance = balance - 1 WHERE id = 1")
    connection.execute("UPDATE account SET balance = balance + 1 WHERE id = 2")


def balances(world: SimulatedCluster) -> list[tuple[int, ...]]:
    with world.connect(autocommit=True) as connection:
        return connection.execute("SELECT balance FROM account ORDER BY id").fetchall()


def test_a_cluster_behind_the_driver(world: SimulatedCluster) -> None:
    run_transaction(world.connect(2), transfer)
    assert balances(world) == [(99,), (101,)]
    world.validate()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_every_statement_may_fail(world: SimulatedCluster, at: int) -> None:
    """Statement `at` of the next two blocks fails; the third attempt goes through, and each block counted once."""
    plan = world.force_retry_errors(2, at)
    run_transaction(world.connect(), transfer)
    assert plan.fired == 2 and balances(world) == [(99,), (101,)]


def test_without_a_replay_nothing_happened(world: SimulatedCluster) -> None:
    world.force_retry_errors(1, at=3)
    connection = world.connect()
    transfer(connection)
    with pytest.raises(TransactionRetryError):
        connection.commit()
    assert not connection.in_transaction and balances(world) == [(100,), (100,)]


def test_a_failed_block_answers_nothing_until_its_rollback(world: SimulatedCluster) -> None:
    world.force_retry_errors(1, at=2)
    connection = world.connect()
    connection.execute("UPDATE account SET balance = 0 WHERE id = 1")
    with pytest.raises(TransactionRetryError):
        connection.execute("SELECT 1")
    for sql in ("SELECT 1", "ROLLBACK TO SAVEPOINT s"):
        with pytest.raises(Exception) as caught:
            connection.execute(sql)
        assert getattr(caught.value, "sqlstate", "") == "25P02"
    connection.rollback()
    assert connection.execute("SELECT balance FROM account WHERE id = 1").fetchall() == [(100,)]


def test_the_first_node_crashes(world: SimulatedCluster) -> None:
    """The driver goes on at another node; fail-over is seconds of virtual time."""
    connection = world.connect(1)
    run_transaction(connection, transfer)
    world.crash(1)
    before_s = world.now_s
    run_transaction(connection, transfer)
    assert "node1" not in connection.where and world.now_s - before_s < 10
    world.restart(1)
    assert world.connect(1).execute("SELECT sum(balance) FROM account").fetchall() == [(200,)]


def test_a_minority_cannot_commit(world: SimulatedCluster) -> None:
    alone = world.connect(3)
    world.partition([3])
    with pytest.raises(OperationalError):
        run_transaction(alone, transfer, attempts=1)
    run_transaction(world.connect(1), transfer)
    world.heal()
    assert balances(world) == [(99,), (101,)]


def test_a_paused_node_wakes_up(world: SimulatedCluster) -> None:
    world.pause(1)
    run_transaction(world.connect(2), transfer)
    world.resume(1)
    world.wait(1)
    assert world.connect(1, autocommit=True).execute(
        "SELECT balance FROM account WHERE id = 1"
    ).fetchall() == [(99,)]


def test_clocks_apart_within_the_bound(world: SimulatedCluster) -> None:
    world.skew(1, 2_000)
    world.skew(2, -2_000)
    for node in (1, 2, 3, 1, 2):
        run_transaction(world.connect(node), transfer)
    assert balances(world) == [(95,), (105,)]


def test_cancelling_from_outside_is_heard(world: SimulatedCluster) -> None:
    connection = world.connect(autocommit=True)
    connection.cancel()
    assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_node_that_is_down_refuses(world: SimulatedCluster) -> None:
    for node in world.nodes:
        world.kill(node)
    with pytest.raises(OperationalError) as caught:
        world.connect()
    assert caught.value.sqlstate == "08001"
    world.heal()
    assert balances(world) == [(100,), (100,)]
    with pytest.raises(ValueError, match="no node 9"):
        world.crash(9)


def course(seed: int) -> tuple[float, list[str]]:
    with SimulatedCluster(3, seed=seed) as world:
        connection = world.connect(2)
        connection.execute("CREATE TABLE account (id INT PRIMARY KEY, balance INT)")
        connection.execute("INSERT INTO account VALUES (1, 100), (2, 100)")
        connection.commit()
        world.crash(1)
        run_transaction(connection, transfer)
        return world.now_s, world.story


def test_the_same_seed_takes_the_same_course() -> None:
    assert course(3) == course(3)
    assert course(3) != course(4)
