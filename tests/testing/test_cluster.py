"""The real cluster: processes, links that break in a proxy, clocks moved by libfaketime."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.testing.test_world import transfer
from txndb.client import OperationalError, run_transaction
from txndb.server.localcluster import replicated
from txndb.testing.cluster import RealCluster, faketime_library

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with RealCluster(tmp_path_factory.mktemp("real"), 3) as made:
        with made.connect(autocommit=True) as connection:
            connection.execute("CREATE TABLE account (id INT PRIMARY KEY, balance INT)")
            connection.execute("INSERT INTO account VALUES (1, 100), (2, 100)")
        yield made


@pytest.fixture(autouse=True)
def healed(cluster: RealCluster) -> Iterator[None]:
    with cluster.connect(autocommit=True) as connection:
        connection.execute("UPDATE account SET balance = 100")
    yield
    cluster.heal()


def balances(cluster: RealCluster) -> list[tuple[int, ...]]:
    with cluster.connect(autocommit=True) as connection:
        return connection.execute("SELECT balance FROM account ORDER BY id").fetchall()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_every_statement_may_fail(cluster: RealCluster, at: int) -> None:
    plan = cluster.force_retry_errors(2, at)
    run_transaction(cluster.connect(), transfer)
    assert plan.fired == 2 and balances(cluster) == [(99,), (101,)]


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("prepare", [None, 0])
def test_psycopg_sees_the_failure_too(cluster: RealCluster, at: int, prepare: int | None) -> None:
    """Another driver, by simple and by prepared statements: told 40001, rolled back, and usable afterwards."""
    cluster.force_retry_errors(1, at)
    with psycopg.connect(cluster.node_url(1)) as connection:
        connection.prepare_threshold = prepare
        with pytest.raises(psycopg.errors.SerializationFailure):
            connection.execute("UPDATE account SET balance = balance - %s WHERE id = 1", (1,))
            connection.execute("UPDATE account SET balance = balance + %s WHERE id = 2", (1,))
            connection.commit()
        if at < 3:
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                connection.execute("SELECT %s::int", (1,))
        connection.rollback()
        assert connection.execute("SELECT balance FROM account ORDER BY id").fetchall() == [(100,), (100,)]


def test_a_minority_cannot_commit(cluster: RealCluster) -> None:
    alone = cluster.connect(3, autocommit=True)
    alone.execute("SET statement_timeout = '2s'")
    cluster.partition([3])
    with pytest.raises(OperationalError):
        alone.execute("UPDATE account SET balance = 0 WHERE id = 1")
    run_transaction(cluster.connect(1), transfer)
    cluster.heal()
    assert balances(cluster) == [(99,), (101,)]


def test_crash_pause_and_restart(cluster: RealCluster) -> None:
    cluster.crash(2)
    run_transaction(cluster.connect(1), transfer)
    cluster.restart(2)
    cluster.pause(1)
    run_transaction(cluster.connect(2), transfer)
    cluster.resume(1)
    assert balances(cluster) == [(98,), (102,)]
    assert [line.split(maxsplit=1)[1] for line in cluster.story if "node 2" in line] == [
        "kill node 2",
        "start node 2",
    ]


def test_a_new_cluster_survives_the_loss_of_its_first_node(tmp_path: Path) -> None:
    """A node is ready before ranges have replicas elsewhere; the cluster is made when they have. Found by hand: every
    other cluster that lost a node at once was lost with it."""
    with RealCluster(tmp_path) as cluster:
        cluster.crash(1)
        with cluster.connect(2, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (id INT PRIMARY KEY)")


@pytest.mark.parametrize(
    ("held", "whole"),
    [
        ({1: [1], 2: [], 3: []}, False),
        ({1: [1, 2], 2: [1, 2], 3: []}, False),
        ({1: [1, 2, 3], 2: [1, 2], 3: []}, False),
        ({1: [1, 2, 3], 2: [1, 2], 3: [1, 2, 3]}, False),
        ({1: [1, 2, 3], 2: [1, 2, 3], 3: [1, 2, 3]}, True),
        ({1: [1, 2, 3], 2: [1, 2, 3], 3: [1, 2, 3], 4: []}, True),
        ({1: [1, 2], 2: [1, 2]}, True),
        ({1: []}, False),
    ],
)
def test_a_range_has_all_its_replicas_when_all_its_nodes_say_so(
    held: dict[int, list[int]], whole: bool
) -> None:
    statuses = [
        {"ranges": [{"range": 1, "applied": 7, "nodes": nodes}] if nodes else []} for nodes in held.values()
    ]
    assert replicated(statuses) is whole


def test_a_clock_that_lies(tmp_path: Path) -> None:
    if faketime_library() is None:
        pytest.skip("libfaketime is not installed (Debian: faketime)")
    with RealCluster(tmp_path, 1, clocks=True) as cluster, cluster.connect(autocommit=True) as connection:

        def now() -> float:
            return float(connection.execute("SELECT extract(epoch FROM now())").fetchall()[0][0])

        before = now()
        cluster.skew(1, 3_600_000_000)
        assert 3_590 < now() - before < 3_660


def test_without_faked_clocks_nothing_is_moved(cluster: RealCluster) -> None:
    with pytest.raises(ValueError, match="clocks=True"):
        cluster.skew(1, 5)
    assert cluster.url.count(",") == 2 and signal.SIGSTOP
