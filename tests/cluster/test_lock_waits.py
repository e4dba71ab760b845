"""Waits for locks in a cluster of three: bounded wherever the leaseholder is; no bound ends a commit that was sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.leaseworld import NODES, LeaseWorld
from txndb.errors import LockTimeoutError, QueryCanceledError, SqlError
from txndb.limits import LOCK_WAIT_US
from txndb.sql.session.session import Session


@pytest.fixture
def world() -> Iterator[LeaseWorld]:
    made = LeaseWorld()
    made.at(1, "CREATE TABLE t (k INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 10)")
    yield made
    made.loop.bury()
    made.loop.close()


def test_lock_timeout_holds_from_every_gateway(world: LeaseWorld) -> None:
    holder = world.connect(1)
    world.execute(holder, "BEGIN", "UPDATE t SET v = 11 WHERE k = 1")
    for n in range(1, NODES + 1):
        waiter = world.connect(n)
        world.execute(waiter, "SET lock_timeout = '100ms'")
        before_us = world.loop.now_us
        with pytest.raises(LockTimeoutError):
            world.execute(waiter, "UPDATE t SET v = 0 WHERE k = 1")
        assert 100_000 <= world.loop.now_us - before_us < 300_000
    world.execute(holder, "COMMIT")
    assert world.at(2, "SELECT v FROM t") == [(11,)]


def test_a_wait_behind_a_live_idle_transaction_has_a_bound_by_default(world: LeaseWorld) -> None:
    holder, waiter = world.connect(1), world.connect(3)
    waiter._timeout_us = 2 * LOCK_WAIT_US
    world.execute(holder, "BEGIN", "UPDATE t SET v = 11 WHERE k = 1")
    before_us = world.loop.now_us
    with pytest.raises(LockTimeoutError):
        world.run(waiter.execute("UPDATE t SET v = 0 WHERE k = 1"), bound_s=2 * LOCK_WAIT_US / 1e6)
    assert LOCK_WAIT_US <= world.loop.now_us - before_us < LOCK_WAIT_US + 1_000_000
    world.execute(holder, "COMMIT")
    assert world.at(2, "SELECT v FROM t") == [(11,)]


def test_m7_a_timeout_never_ends_a_commit_that_was_sent(world: LeaseWorld) -> None:
    """The 1PC is in the leader's log and no follower is reachable when the timeout comes: the answer waits for both."""
    leader = next(n for n in range(1, NODES + 1) if world.node(n).store.leaders())
    session = world.connect(leader)
    world.execute(session, "SET statement_timeout = '50ms'")
    world.isolate(leader)
    insert = world.start(session.execute("INSERT INTO t VALUES (2, 20)"))
    world.wait(0.2)
    assert not insert.done()
    world.rejoin(leader)
    assert world.finish(insert).tag == "INSERT 0 1"
    assert world.at(3, "SELECT v FROM t WHERE k = 2") == [(20,)]


def test_a_cancelled_statement_leaves_neither_its_place_in_the_queue_nor_its_lock(world: LeaseWorld) -> None:
    """It waited for a lock when its time was over; who comes after it does not wait for what it had asked for."""
    for n in range(1, NODES + 1):
        holder, late, after = world.connect(1), world.connect(n), world.connect(2)
        world.execute(holder, "BEGIN", "UPDATE t SET v = 11 WHERE k = 1")
        world.execute(late, "SET statement_timeout = '50ms'")
        with pytest.raises(QueryCanceledError):
            world.execute(late, "UPDATE t SET v = 0 WHERE k = 1")
        world.execute(holder, "COMMIT")
        before_us = world.loop.now_us
        world.execute(after, "UPDATE t SET v = 12 WHERE k = 1")
        assert world.loop.now_us - before_us < 200_000


@pytest.mark.parametrize("statement", ["FETCH ALL c", "UPDATE t SET v = 0 WHERE k = 2"])
def test_a_cursor_that_was_interrupted_is_not_at_its_end(world: LeaseWorld, statement: str) -> None:
    """It waited for a lock when the time was over, read by a FETCH, or to its end before a write. After the savepoint
    it seemed to have no more rows."""
    holder, reader = world.connect(1), world.connect(2)
    world.execute(holder, "BEGIN", "UPDATE t SET v = 11 WHERE k = 1")
    world.execute(reader, "SET statement_timeout = '50ms'", "BEGIN", "DECLARE c CURSOR FOR SELECT v FROM t")
    world.execute(reader, "SAVEPOINT s")
    with pytest.raises(QueryCanceledError):
        world.execute(reader, statement)
    world.execute(holder, "COMMIT")
    world.execute(reader, "ROLLBACK TO s")
    with pytest.raises(SqlError, match="cannot be run"):
        world.execute(reader, "FETCH ALL c")


def test_a_portal_that_was_interrupted_is_not_at_its_end(world: LeaseWorld) -> None:
    holder, reader = world.connect(1), world.connect(2)
    world.execute(holder, "BEGIN", "UPDATE t SET v = 11 WHERE k = 1")
    world.execute(reader, "SET statement_timeout = '50ms'", "BEGIN")
    session = reader._session
    assert isinstance(session, Session)
    world.run(session.prepare("p", "SELECT v FROM t"))
    session.bind("p", "p")  # before the savepoint, whose rollback would end it
    world.execute(reader, "SAVEPOINT s")
    with pytest.raises(QueryCanceledError):
        world.run(session.run_portal("p", 1))
    world.execute(holder, "COMMIT")
    world.execute(reader, "ROLLBACK TO s")
    with pytest.raises(SqlError, match="cannot be run"):
        world.run(session.run_portal("p", 1))


@pytest.mark.parametrize("savepoint", [False, True])
def test_a_timeout_is_answered_in_time_by_a_node_cut_off_from_its_locks(
    world: LeaseWorld, savepoint: bool
) -> None:
    """Whether they are still held nobody can tell it, and the error says nothing of what was read (K4)."""
    leader = next(n for n in range(1, NODES + 1) if world.node(n).store.leaders())
    gateway = leader % NODES + 1
    session = world.connect(gateway)
    world.execute(session, "SET statement_timeout = '50ms'", "BEGIN", "UPDATE t SET v = 11 WHERE k = 1")
    if savepoint:
        world.execute(session, "SAVEPOINT s")
    world.isolate(gateway)
    before_us = world.loop.now_us
    with pytest.raises(QueryCanceledError):
        world.execute(session, "SELECT v FROM t")
    assert world.loop.now_us - before_us < 200_000
    world.rejoin(gateway)
    world.execute(session, "ROLLBACK")
    assert world.at(leader, "SELECT v FROM t") == [(10,)]
