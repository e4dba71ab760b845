"""Catalogue leases: one test per rule D1–D8 of the transaction protocol, and what the rule's absence breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cluster.leaseworld import LEASE_US, LeaseWorld
from txndb.cluster.catalogleases import LeaseRow, NodeLeases, Revoke, _encode
from txndb.errors import InternalError, LockTimeoutError, RetryError
from txndb.ids import NodeId, Timestamp
from txndb.limits import CATALOG_LEASE_GIVE_UP_S
from txndb.txn.coordinator import Transaction

LEASE_S = LEASE_US / 1e6


Build = Callable[..., LeaseWorld]


@pytest.fixture
def build() -> Iterator[Build]:
    """Makes worlds with a table of one row that every node holds a lease for; rules named are switched off."""
    worlds: list[LeaseWorld] = []

    def make(*canaries: str) -> LeaseWorld:
        world = LeaseWorld(*canaries)
        worlds.append(world)
        world.at(1, "CREATE TABLE t (k INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 10)")
        for n in (2, 3):
            assert world.at(n, "SELECT k FROM t") == [(1,)]
        return world

    yield make
    for world in worlds:
        world.loop.bury()
        world.loop.close()


@pytest.fixture
def world(build: Build) -> LeaseWorld:
    return build()


def _complaint(world: LeaseWorld, number: int) -> str:
    """Which invariant a node finds broken; empty: none."""
    try:
        world.node(number).validate()
    except InternalError as error:
        return error.message.partition(": ")[0]
    return ""


def _truncate_past_a_paused_node(world: LeaseWorld) -> list[tuple[int, ...]]:
    """A reader at node 3 has bound nothing but its catalogue; it sleeps through a TRUNCATE. What it reads then."""
    reader = world.connect(3)
    world.execute(reader, "BEGIN READ ONLY", "SELECT 1")
    world.pause(3)
    truncate = world.start(world.connect(1).execute("TRUNCATE t"))
    world.wait(LEASE_S / 4)
    assert not truncate.done(), "an unreturned lease is waited out"
    world.finish(truncate)
    world.resume(3)
    return world.execute(reader, "SELECT k FROM t")


def test_d1_a_paused_node_wakes_to_refusals(world: LeaseWorld) -> None:
    with pytest.raises(RetryError):
        _truncate_past_a_paused_node(world)
    assert world.at(3, "SELECT k FROM t") == []


def test_d1_nothing_that_went_with_the_old_catalogue_is_shown_by_a_clock_that_is_behind(
    world: LeaseWorld,
) -> None:
    """The lease's end is a timestamp: what was read above it tells that it is over, whatever the clock says (T5)."""
    reader = world.connect(3)
    world.execute(reader, "BEGIN", "SELECT 1")
    world.isolate(3)
    world.at(1, "TRUNCATE t", "INSERT INTO t VALUES (2, 20)")
    world.wait(2.0)  # what was in the table is collected
    world.hosts[2].clock.jump(-10_000_000)
    world.rejoin(3)
    with pytest.raises(RetryError, match="outlived its catalogue lease"):
        world.execute(reader, "SELECT k FROM t")


def test_an_acquisition_whose_outcome_is_learned_late_begins_again(world: LeaseWorld) -> None:
    """So late that the catalogue of its timestamp is collected: nobody who waits for it is told so."""
    reader, node = world.connect(3), world.node(3)
    world.isolate(3)
    world.at(1, "CREATE TABLE another (k INT PRIMARY KEY)")  # once the lease is over
    waiting = world.start(reader.execute("SELECT k FROM t"))
    world.rejoin(3)
    for _ in range(100_000):
        world.loop.run_until_us(world.loop.now_us + 50)
        if any(isinstance(txn, Transaction) and txn.sealed for txn in node.transactions.values()):
            break
    world.network.block([(1, 3), (2, 3)])
    world.wait(4.0)
    assert not waiting.done()
    world.network.unblock([(1, 3), (2, 3)])
    assert world.finish(waiting).rows == [(1,)]


def test_d4_giving_up_does_not_wait_for_an_outcome_that_nobody_tells(world: LeaseWorld) -> None:
    """A commit that was sent is not cancelled (M7), but a graceful stop has a bound: then the lease runs out."""
    node, process = world.node(3), world.hosts[2].incarnation
    assert process is not None
    giving = process.spawn(node.sql.leases.give_up())
    for _ in range(100_000):
        world.loop.run_until_us(world.loop.now_us + 50)
        if any(isinstance(txn, Transaction) and txn.sealed for txn in node.transactions.values()):
            break
    assert not giving.done()
    world.isolate(3)
    world.wait(CATALOG_LEASE_GIVE_UP_S + 0.1)
    assert giving.done()
    closing = process.spawn(node.close())
    world.wait(1.0)
    assert closing.done(), "the end of the node ends the asking, too"


def test_d1_without_it_the_paused_node_reads_with_the_old_catalogue(build: Build) -> None:
    assert _truncate_past_a_paused_node(build("D1")) == [(1,)]


def test_d1_bounds_a_transaction_that_wrote_nothing(world: LeaseWorld) -> None:
    reader = world.connect(3)
    world.execute(reader, "BEGIN", "SELECT 1")
    world.pause(3)
    world.at(1, "DROP TABLE t")
    world.resume(3)
    with pytest.raises(RetryError):
        world.execute(reader, "COMMIT")


def test_d2_an_open_ddl_transaction_stops_nobody(world: LeaseWorld) -> None:
    ddl = world.connect(1)
    world.execute(ddl, "BEGIN", "CREATE TABLE u (k INT PRIMARY KEY)", "TRUNCATE t")
    for n in (1, 2, 3):
        world.at(n, f"INSERT INTO t VALUES ({n + 10}, 0)")
    world.execute(ddl, "ROLLBACK")
    assert world.at(2, "SELECT count(*) FROM t") == [(4,)]


def test_d2_younger_users_are_wounded_when_the_ddl_commits(world: LeaseWorld) -> None:
    ddl, user = world.connect(1), world.connect(2)
    world.execute(ddl, "BEGIN", "TRUNCATE t")
    world.execute(user, "BEGIN", "INSERT INTO t VALUES (2, 20)")
    world.execute(ddl, "COMMIT")
    with pytest.raises(RetryError):
        world.execute(user, "COMMIT")
    assert world.at(3, "SELECT k FROM t") == []


def _truncate_beside_an_older_insert(world: LeaseWorld) -> list[tuple[int, ...]]:
    """An older transaction uses the catalogue while TRUNCATE commits; then it inserts, and commits later."""
    older = world.connect(2)
    world.execute(older, "BEGIN", "SELECT k FROM t WHERE k = 7")
    truncate = world.start(world.connect(1).execute("TRUNCATE t"))
    world.wait(LEASE_S / 4)
    first = truncate.done()
    world.execute(older, "INSERT INTO t VALUES (7, 70)", "COMMIT")
    world.finish(truncate)
    rows = world.at(3, "SELECT k FROM t")
    return [(int(first), *row) for row in rows] or [(int(first),)]


def test_d2_an_older_user_is_waited_for(world: LeaseWorld) -> None:
    assert _truncate_beside_an_older_insert(world) == [(0,)], "TRUNCATE comes after the row"


def test_d2_without_it_an_acknowledged_row_is_lost(build: Build) -> None:
    assert _truncate_beside_an_older_insert(build("D2")) == [(1,)], "TRUNCATE came first, the row is gone"


def _two_ddls_on_one_version(world: LeaseWorld) -> list[str]:
    """Node 3's ALTER TABLE sleeps through another one; then it commits. The columns there are."""
    late = world.connect(3)
    world.execute(late, "BEGIN", "ALTER TABLE t ADD COLUMN late INT")
    world.pause(3)
    world.at(1, "ALTER TABLE t ADD COLUMN early INT")
    world.resume(3)
    try:
        world.execute(late, "COMMIT")
    finally:
        rows = world.at(
            1, "SELECT column_name FROM information_schema.columns WHERE table_name = 't' ORDER BY 1"
        )
        names = [name for (name,) in rows]
    return names


def test_d2_a_ddl_commits_only_on_the_version_it_was_bound_against(world: LeaseWorld) -> None:
    with pytest.raises(RetryError):
        _two_ddls_on_one_version(world)


def test_d2_without_the_version_check_a_ddl_undoes_another(build: Build) -> None:
    assert "early" not in _two_ddls_on_one_version(build("D2-version"))


def _renew_over_a_ddl(world: LeaseWorld) -> tuple[str, list[tuple[int, ...]]]:
    """Node 3 is cut off while t gets a column; then it takes a lease again, and an old user of its reads."""
    reader = world.connect(3)
    world.execute(reader, "BEGIN READ ONLY", "SELECT 1")
    world.isolate(3)
    world.at(1, "ALTER TABLE t ADD COLUMN w INT DEFAULT 5")
    world.rejoin(3)
    world.wait(2.0)
    other = world.connect(3)
    world.execute(other, "SELECT 1")
    complaint = _complaint(world, 3)
    try:
        return complaint, world.execute(reader, "SELECT * FROM t")
    except RetryError:
        return complaint, []


def test_d3_a_renewal_of_another_version_extends_nobody(world: LeaseWorld) -> None:
    assert _renew_over_a_ddl(world) == ("", [])


def test_d3_without_it_an_old_user_goes_on(build: Build) -> None:
    assert _renew_over_a_ddl(build("D3")) == ("catalogue leases, invariant 7", [(1, 10)])


def test_d3_a_renewal_of_the_same_version_carries_its_users_on(world: LeaseWorld) -> None:
    user = world.connect(2)
    world.execute(user, "BEGIN", "INSERT INTO t VALUES (2, 20)")
    world.wait(3 * LEASE_S)
    world.execute(user, "COMMIT")
    assert world.at(3, "SELECT count(*) FROM t") == [(2,)]


def _alter_past_a_deaf_node(world: LeaseWorld) -> tuple[bool, list[tuple[int, ...]]]:
    """Node 3's SQL layer hears of no revocation. Whether ALTER was answered at once, and what node 3 reads then."""
    world.node(3).sql.leases.on_message = lambda sender, payload: None  # type: ignore[method-assign]
    reader = world.connect(3)
    alter = world.start(world.connect(1).execute("ALTER TABLE t ADD COLUMN w INT DEFAULT 5"))
    world.wait(LEASE_S / 8)
    done = alter.done()
    rows = world.execute(reader, "SELECT * FROM t")
    world.finish(alter)
    return done, rows


def test_d4_a_ddl_commits_above_what_was_not_returned(world: LeaseWorld) -> None:
    assert _alter_past_a_deaf_node(world) == (False, [(1, 10)])
    assert world.at(3, "SELECT * FROM t") == [(1, 10, 5)]


def test_d4_without_it_a_node_reads_with_the_old_catalogue(build: Build) -> None:
    assert _alter_past_a_deaf_node(build("D4")) == (True, [(1, 10)])


def test_d4_a_restarted_node_does_not_return_its_predecessors_lease(world: LeaseWorld) -> None:
    world.restart(3)
    before_us = world.loop.now_us
    row = world.node(3).sql.leases  # of the new process: it took none yet
    assert row.acquired_count == 0
    world.at(1, "TRUNCATE t")
    assert world.loop.now_us - before_us > LEASE_US / 2, (
        "what the dead process sent might still have committed"
    )


def test_d4_a_node_that_stops_gracefully_has_returned_its_lease(world: LeaseWorld) -> None:
    user = world.connect(3)
    world.execute(user, "BEGIN", "INSERT INTO t VALUES (3, 30)")
    world.run(world.hosts[2].stop())
    before_us = world.loop.now_us
    world.at(1, "ALTER TABLE t ADD COLUMN w INT DEFAULT 5")
    assert world.loop.now_us - before_us < LEASE_US / 4
    assert world.at(2, "SELECT * FROM t") == [(1, 10, 5)]


@pytest.mark.parametrize(
    ("canaries", "usable", "complaint"),
    [((), False, ""), (("D5",), True, "catalogue leases, invariant 1")],
)
def test_d5_a_lease_asked_back_before_it_was_known_is_dead_on_arrival(
    build: Build, canaries: tuple[str, ...], usable: bool, complaint: str
) -> None:
    world = build(*canaries)
    node = world.node(3)
    leases = node.sql.leases
    number = 1000
    revoke = Revoke(1, number, Timestamp(1), b"", node.incarnation)
    incarnation = world.hosts[2].incarnation
    assert incarnation is not None
    incarnation.call_soon(leases.on_message, NodeId(1), _encode(revoke))
    world.wait(0.1)
    assert leases.cached(None) is None
    row = LeaseRow(number, Timestamp(node.clock.now() + (LEASE_US << 12)), node.incarnation)
    world.finish(incarnation.spawn(leases._install(row, 1, node.clock.now())))
    assert (leases.cached(None) is not None) is usable
    assert _complaint(world, 3) == complaint


def test_an_acquisition_whose_outcome_is_learned_late_takes_nobodys_place(world: LeaseWorld) -> None:
    """It was replaced while its commit was under way, by one that found another version: the lease in use stays the one
    that the next DDL asks back, with its users."""
    node, incarnation = world.node(3), world.hosts[2].incarnation
    first = node.sql.leases._held
    assert incarnation is not None and first is not None
    late = LeaseRow(first.number, first.not_after, node.incarnation)
    world.isolate(3)
    world.at(1, "ALTER TABLE t ADD COLUMN w INT DEFAULT 5")
    world.rejoin(3)
    world.wait(2.0)
    user = world.connect(3)
    world.execute(user, "BEGIN", "INSERT INTO t VALUES (2, 20)")
    world.finish(incarnation.spawn(node.sql.leases._install(late, first.catalog.version, node.clock.now())))
    drop = world.start(world.connect(1).execute("DROP TABLE t"))
    world.wait(0.5)
    assert not drop.done(), "its user is older"
    world.execute(user, "COMMIT")
    world.finish(drop)


def _old_joiner(world: LeaseWorld) -> tuple[bool, str]:
    """A DDL waits for an old user at node 3, a young acquisition there for the DDL. Does an older one get through?"""
    user, joiner, ddl = world.connect(3), world.connect(3), world.connect(1)
    world.execute(user, "BEGIN", "SELECT k FROM t WHERE k = 1")
    world.execute(joiner, "BEGIN")
    world.execute(ddl, "BEGIN", "CREATE TABLE u (k INT PRIMARY KEY)")
    commit = world.start(ddl.execute("COMMIT"))
    world.wait(0.2)
    young = world.start(world.connect_later(3, "SELECT k FROM t"))
    world.wait(0.2)
    assert not commit.done() and not young.done()
    joined = world.start(joiner.execute("SELECT k FROM t"))
    world.wait(0.5)
    through, complaint = joined.done(), _complaint(world, 3)
    world.execute(user, "COMMIT")
    world.finish(joined)
    world.finish(young)
    with pytest.raises(RetryError):
        world.finish(commit)
        raise RetryError("it was not wounded")
    return through, complaint


def test_d6_an_acquisition_has_the_age_of_the_oldest_that_waits(world: LeaseWorld) -> None:
    assert _old_joiner(world) == (True, "")


def test_d6_without_it_the_oldest_waits_behind_a_younger_ddl(build: Build) -> None:
    assert _old_joiner(build("D6")) == (False, "catalogue leases, invariant 3")


def _number(leases: NodeLeases) -> int:
    """Of the lease in use."""
    assert leases._held is not None
    return leases._held.number


def _is_committing(world: LeaseWorld, number: int) -> bool:
    """Whether a node has sent what decides a transaction."""
    attempts = world.node(number).transactions.values()
    return any(isinstance(attempt, Transaction) and attempt.sealed for attempt in attempts)


def test_d6_an_acquisition_that_was_replaced_amid_its_commit_does_not_try_again(world: LeaseWorld) -> None:
    """Node 3 is cut off just then, an older joiner begins another, and the first one learns that it was aborted."""
    leases = world.node(3).sql.leases
    older, younger = world.connect(3), world.connect(3)
    world.execute(older, "BEGIN")
    world.execute(younger, "BEGIN")
    number = _number(leases)
    world.at(1, "ALTER TABLE t ADD COLUMN w INT DEFAULT 5")
    waits = world.start(younger.execute("SELECT k FROM t"))
    while not _is_committing(world, 3):
        assert not waits.done()
        world.loop.run_until_us(world.loop.now_us + 1)
    world.isolate(3)
    joined = world.start(older.execute("SELECT k FROM t"))
    world.wait(3.0)
    assert not joined.done()
    world.rejoin(3)
    assert world.finish(joined).rows == world.finish(waits).rows == [(1,)]
    world.wait(0.5)
    assert _number(leases) == number + 1, "one acquisition, that of the older one"


@pytest.mark.parametrize("gateway", [1, 2])
def test_d6_an_older_idle_user_outlives_its_lease_beside_a_ddl(world: LeaseWorld, gateway: int) -> None:
    """Its node renews the lease that was asked back, in the name of the oldest user: the younger DDL is wounded, begins
    again and waits on – at another node, and at the user's own."""
    older = world.connect(gateway)
    world.execute(older, "BEGIN", "INSERT INTO t VALUES (2, 20)")
    ddl = world.connect(1)
    create = world.start(ddl.execute("CREATE TABLE u (k INT PRIMARY KEY)"))
    for _ in range(4):
        world.wait(LEASE_S)
        assert not create.done()
        assert world.execute(older, "SELECT count(*) FROM t") == [(2,)]
    world.execute(older, "COMMIT")
    world.finish(create)
    assert world.at(3, "SELECT count(*) FROM t") == [(2,)]
    assert world.at(2, "SELECT count(*) FROM u") == [(0,)]


def test_d6_a_wounded_ddl_of_a_block_is_told_to_begin_again(world: LeaseWorld) -> None:
    older, ddl = world.connect(2), world.connect(1)
    world.execute(older, "BEGIN", "SELECT k FROM t WHERE k = 1")
    world.execute(ddl, "BEGIN", "CREATE TABLE u (k INT PRIMARY KEY)")
    with pytest.raises(RetryError):
        world.execute(ddl, "COMMIT")
    world.execute(older, "UPDATE t SET v = 11 WHERE k = 1", "COMMIT")
    world.execute(ddl, "BEGIN", "CREATE TABLE u (k INT PRIMARY KEY)", "COMMIT")
    assert world.at(3, "SELECT v FROM t") == [(11,)]


def test_d6_others_get_through_while_a_ddl_waits_for_an_idle_user(world: LeaseWorld) -> None:
    older = world.connect(2)
    world.execute(older, "BEGIN", "SELECT k FROM t WHERE k = 1")
    create = world.start(world.connect(1).execute("CREATE TABLE u (k INT PRIMARY KEY)"))
    world.wait(0.2)
    others = [world.start(world.connect_later(n, "SELECT k FROM t")) for n in (1, 2, 3)]
    for other in others:
        assert world.finish(other, bound_s=LEASE_S) == [(1,)]
    assert not create.done()
    world.execute(older, "COMMIT")
    world.finish(create)


def test_a_ddl_waits_for_an_idle_user_as_long_as_for_a_lock(world: LeaseWorld) -> None:
    older, ddl = world.connect(2), world.connect(1)
    world.execute(older, "BEGIN", "SELECT k FROM t WHERE k = 1")
    for timeout_s in (1, 10):  # before it is wounded for the first time, and after
        world.execute(ddl, f"SET lock_timeout = '{timeout_s}s'")
        before_us = world.loop.now_us
        with pytest.raises(LockTimeoutError):
            world.execute(ddl, "CREATE TABLE u (k INT PRIMARY KEY)")
        assert timeout_s - 0.1 < (world.loop.now_us - before_us) / 1e6 < timeout_s + LEASE_S
    world.execute(older, "UPDATE t SET v = 11 WHERE k = 1", "COMMIT")
    assert world.at(3, "SELECT v FROM t") == [(11,)]


def test_a_lease_that_cannot_be_renewed_still_ends(world: LeaseWorld) -> None:
    """D1: the user's node is cut off; the DDL waits for the expiry and no longer, and the user comes too late."""
    older = world.connect(3)
    world.execute(older, "BEGIN", "SELECT k FROM t WHERE k = 1")
    world.isolate(3)
    before_us = world.loop.now_us
    world.at(1, "CREATE TABLE u (k INT PRIMARY KEY)")
    assert world.loop.now_us - before_us < 2 * LEASE_US
    world.rejoin(3)
    with pytest.raises(RetryError):
        world.execute(older, "UPDATE t SET v = 11 WHERE k = 1", "COMMIT")


def test_d7_rows_written_beside_create_index_are_in_the_index(world: LeaseWorld) -> None:
    ddl = world.connect(1)
    world.execute(ddl, "BEGIN", "CREATE INDEX t_v ON t (v)")
    insert = world.start(world.connect(2).execute("INSERT INTO t VALUES (2, 20)"))
    world.wait(0.3)
    assert not insert.done(), "the whole primary key is locked shared"
    world.execute(ddl, "INSERT INTO t VALUES (3, 30)", "COMMIT")
    world.finish(insert)
    for k in (1, 2, 3):
        assert world.at(3, f"SELECT k FROM t WHERE v = {10 * k}") == [(k,)]


def test_d7_an_older_writer_makes_create_index_start_again(world: LeaseWorld) -> None:
    older, ddl = world.connect(2), world.connect(1)
    world.execute(older, "BEGIN")
    world.execute(ddl, "BEGIN", "CREATE INDEX t_v ON t (v)")
    world.execute(older, "INSERT INTO t VALUES (2, 20)", "COMMIT")
    with pytest.raises(RetryError):
        world.execute(ddl, "COMMIT")
    assert world.at(3, "SELECT count(*) FROM pg_indexes WHERE indexname = 't_v'") == [(0,)]


def test_d8_a_default_is_evaluated_once_for_all_rows(world: LeaseWorld) -> None:
    world.at(1, "ALTER TABLE t ADD COLUMN since TIMESTAMPTZ DEFAULT now()")
    first = world.at(2, "SELECT since FROM t WHERE k = 1")
    world.wait(1.0)
    world.at(3, "INSERT INTO t (k) VALUES (2)")
    assert world.at(3, "SELECT since FROM t WHERE k = 1") == first
    assert world.at(3, "SELECT count(DISTINCT since) FROM t") == [(2,)]


def test_d8_a_dropped_columns_values_do_not_come_back(world: LeaseWorld) -> None:
    world.at(1, "ALTER TABLE t DROP COLUMN v", "ALTER TABLE t ADD COLUMN v INT DEFAULT 5")
    assert world.at(2, "SELECT v FROM t") == [(5,)]


def test_a_lease_is_long_against_a_raised_bound(world: LeaseWorld) -> None:
    """E was raised while the cluster ran: a lease of 4 s would end before its commit wait had made it usable."""
    for n in (1, 2, 3):
        clock = world.node(n).clock
        clock.error_bound_us = clock.latest_bound_us = 1_500_000
        world.hosts[n - 1].clock.lose_bound(1_500_000)
    world.wait(10.0)
    connection = world.connect(2)
    before_s = world.loop.now_us / 1e6
    world.execute(connection, "CREATE TABLE wide (a INT PRIMARY KEY)", "INSERT INTO wide VALUES (1)")
    assert world.execute(connection, "SELECT a FROM wide") == [(1,)]
    assert world.loop.now_us / 1e6 - before_s < 60
