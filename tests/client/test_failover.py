"""Lost connections, several hosts, replayed transactions: against the front door with small sessions behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator

import pytest

import txndb.client as driver
from tests.conftest import free_port
from tests.pgwire.serving import Serving, serving
from txndb.errors import RetryError


@pytest.fixture
def servers() -> Iterator[tuple[Serving, Serving]]:
    with serving() as one, serving() as two:
        yield one, two


def url_of(*ports: int) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"txndb://root@{hosts}/defaultdb"


def kill(server: Serving) -> None:
    server.call(server.server.close)


def test_the_first_host_that_answers_is_taken(servers: tuple[Serving, Serving]) -> None:
    with driver.connect(url_of(free_port(), servers[1].port)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert servers[1].sessions


def test_no_host_answers() -> None:
    with pytest.raises(driver.OperationalError) as caught:
        driver.connect(url_of(free_port(), free_port()))
    assert caught.value.sqlstate == "08001"


def test_a_refusal_of_the_role_is_not_tried_elsewhere(servers: tuple[Serving, Serving]) -> None:
    with pytest.raises(driver.OperationalError) as caught:
        driver.connect(url_of(servers[0].port, servers[1].port), user="mallory")
    assert caught.value.sqlstate == "28000"
    assert not servers[1].sessions


def test_an_idle_connection_moves_on_unnoticed(servers: tuple[Serving, Serving]) -> None:
    connection = driver.connect(url_of(servers[0].port, servers[1].port), autocommit=True)
    for _ in range(3):
        assert connection.execute("SELECT %s", ("x",)).fetchone() == ("x",)
    kill(servers[0])
    for _ in range(3):
        assert connection.execute("SELECT %s", ("x",)).fetchone() == ("x",)
    assert servers[1].sessions
    connection.close()


def test_a_transaction_that_lost_its_server_stays_lost_until_rollback(
    servers: tuple[Serving, Serving],
) -> None:
    connection = driver.connect(url_of(servers[0].port, servers[1].port))
    connection.execute("SELECT 1")
    kill(servers[0])
    for _ in range(2):
        with pytest.raises(driver.OperationalError):
            connection.execute("SELECT 2")
    assert not servers[1].sessions, "no second half of a transaction on another server"
    connection.rollback()
    assert connection.execute("SELECT 3").fetchone() == (3,)
    assert servers[1].sessions
    connection.close()


def test_commit_of_a_lost_transaction_is_an_error(servers: tuple[Serving, Serving]) -> None:
    connection = driver.connect(url_of(servers[0].port, servers[1].port))
    connection.execute("SELECT 1")
    kill(servers[0])
    with pytest.raises(driver.OperationalError):
        connection.execute("SELECT 2")
    with pytest.raises(driver.OperationalError):
        connection.commit()
    assert connection.execute("SELECT 3").fetchone() == (3,)
    connection.close()


def copy_in_cut_short(connection: driver.Connection, server: Serving) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"21\n"
        kill(server)

    connection.copy_in("COPY t FROM STDIN", chunks())


def copy_in_to_the_dead(connection: driver.Connection, server: Serving) -> None:
    kill(server)
    connection.copy_in("COPY t FROM STDIN", [b"21\n"])


def copy_out_of_the_dead(connection: driver.Connection, server: Serving) -> None:
    kill(server)
    for _ in connection.copy_out("COPY t TO STDOUT"):
        pass


def copy_out_given_up(connection: driver.Connection, server: Serving) -> None:
    pieces = connection.copy_out("COPY t TO STDOUT")
    next(pieces)
    kill(server)
    assert isinstance(pieces, Generator)
    pieces.close()
    connection.execute("SELECT 1")


COPIES = (copy_in_cut_short, copy_in_to_the_dead, copy_out_of_the_dead, copy_out_given_up)


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("copy", COPIES)
def test_a_transaction_that_lost_its_server_in_a_copy_stays_lost(
    servers: tuple[Serving, Serving], copy: Callable[[driver.Connection, Serving], None], autocommit: bool
) -> None:
    connection = driver.connect(url_of(servers[0].port, servers[1].port), autocommit=True)
    connection.execute("CREATE TABLE t (a)")
    connection.autocommit = autocommit
    if autocommit:
        connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (20)")
    with pytest.raises(driver.OperationalError):
        copy(connection, servers[0])
    assert connection.lost
    with pytest.raises(driver.OperationalError):
        connection.execute("INSERT INTO t VALUES (22)")
    assert not servers[1].sessions, "no second half of a transaction on another server"
    with pytest.raises(driver.OperationalError):
        connection.commit()
    assert connection.execute("SELECT 3").fetchone() == (3,)
    connection.close()


def test_a_copy_that_loses_its_server_outside_a_transaction_loses_nothing_else(
    servers: tuple[Serving, Serving],
) -> None:
    connection = driver.connect(url_of(servers[0].port, servers[1].port), autocommit=True)
    connection.execute("CREATE TABLE t (a)")
    with pytest.raises(driver.OperationalError):
        copy_in_cut_short(connection, servers[0])
    assert not connection.in_transaction
    assert connection.execute("SELECT 3").fetchone() == (3,)
    connection.close()


def test_a_copy_that_begins_the_transaction_loses_it(servers: tuple[Serving, Serving]) -> None:
    connection = driver.connect(url_of(servers[0].port, servers[1].port), autocommit=True)
    connection.execute("CREATE TABLE t (a)")
    connection.autocommit = False
    with pytest.raises(driver.OperationalError):
        copy_in_cut_short(connection, servers[0])
    with pytest.raises(driver.OperationalError):
        connection.commit()
    connection.close()


def test_run_transaction_replays_until_it_wins(servers: tuple[Serving, Serving]) -> None:
    server = servers[0]
    connection = driver.connect(server.url)
    attempts: list[int] = []

    def transfer(conn: driver.Connection) -> str:
        attempts.append(1)
        if len(attempts) < 4:
            server.sessions[0].fail_sync = RetryError("lost")
        conn.execute("SELECT %s", ("x",))
        return "done"

    assert driver.run_transaction(connection, transfer) == "done"
    assert len(attempts) == 4
    assert not connection.in_transaction
    assert len(server.sessions) == 1, "the same session, which keeps the transaction's age"
    connection.close()


def test_run_transaction_gives_up_after_its_attempts(servers: tuple[Serving, Serving]) -> None:
    server = servers[0]
    connection = driver.connect(server.url)
    attempts: list[int] = []

    def lose(conn: driver.Connection) -> None:
        attempts.append(1)
        server.sessions[0].fail_sync = RetryError("lost")
        conn.execute("SELECT %s", ("x",))

    with pytest.raises(driver.TransactionRetryError):
        driver.run_transaction(connection, lose, attempts=3)
    assert len(attempts) == 3
    connection.close()


def test_run_transaction_survives_the_loss_of_its_server(servers: tuple[Serving, Serving]) -> None:
    connection = driver.connect(url_of(servers[0].port, servers[1].port))
    seen: list[int] = []

    def work(conn: driver.Connection) -> None:
        conn.execute("SELECT 1")
        seen.append(1)
        if len(seen) == 1:
            kill(servers[0])
        conn.execute("SELECT 2")

    driver.run_transaction(connection, work)
    assert len(seen) == 2
    assert servers[1].sessions
    connection.close()


def test_a_server_lost_during_commit_is_an_unknown_outcome(servers: tuple[Serving, Serving]) -> None:
    connection = driver.connect(url_of(servers[0].port, servers[1].port))
    session = servers[0].sessions[0]
    calls: list[int] = []

    def work(conn: driver.Connection) -> None:
        calls.append(1)
        conn.execute("SELECT 1")
        session.hang_on = "COMMIT"

    def lose() -> None:
        servers[0].call(lambda: session.hanging.wait())
        kill(servers[0])

    thread = threading.Thread(target=lose)
    thread.start()
    with pytest.raises(driver.OperationalError) as caught:
        driver.run_transaction(connection, work)
    thread.join()
    assert caught.value.sqlstate == "08007"
    assert calls == [1], "never replayed: it may have happened"
    assert connection.execute("SELECT 2").fetchone() == (2,)
    connection.close()


def test_run_transaction_lets_other_errors_through_and_rolls_back(servers: tuple[Serving, Serving]) -> None:
    connection = driver.connect(servers[0].url, autocommit=True)

    def wrong(conn: driver.Connection) -> None:
        conn.execute("SELECT 1")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        driver.run_transaction(connection, wrong)
    assert not connection.in_transaction
    assert connection.autocommit
    connection.close()


def test_cancel_from_another_thread(servers: tuple[Serving, Serving]) -> None:
    connection = driver.connect(servers[0].url, autocommit=True)
    errors: list[str] = []

    def hang() -> None:
        with pytest.raises(driver.OperationalError) as caught:
            connection.execute("SELECT hang()")
        errors.append(caught.value.sqlstate)

    thread = threading.Thread(target=hang)
    thread.start()
    servers[0].call(lambda: servers[0].sessions[0].hanging.wait())
    connection.cancel()
    thread.join()
    assert errors == ["57014"]
    assert connection.execute("SELECT 1").fetchone() == (1,)
    connection.close()


def test_copy(servers: tuple[Serving, Serving]) -> None:
    with driver.connect(servers[0].url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a)")
        assert (
            connection.copy_in("COPY t FROM STDIN", (b"%d\n" % number for number in range(1000)))
            == "COPY 1000"
        )
        assert sum(len(chunk) for chunk in connection.copy_out("COPY t TO STDOUT")) == 3890
        for chunk in connection.copy_out("COPY t TO STDOUT"):
            assert chunk == b"0\n"
            break
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1000,)
        with pytest.raises(driver.Error):
            connection.copy_in("COPY t FROM STDIN", [b"bad\n"])
        with pytest.raises(ZeroDivisionError):
            connection.copy_in("COPY t FROM STDIN", (b"%d\n" % (1 // number) for number in (1, 0)))
        with pytest.raises(driver.InterfaceError):
            connection.copy_in("SELECT 1", [])
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1000,)
