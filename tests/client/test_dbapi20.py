"""PEP 249, sentence by sentence, against an embedded database, a node of its own process, and PostgreSQL.

The checks are those of the suite commonly called dbapi20, written anew for this driver.
"""

from __future__ import annotations

import datetime
import threading
import time
from typing import Any

import pytest

import txndb.client as driver
from tests.client.conftest import Connect

CREATE = "CREATE TABLE booze (name varchar(20))"
SAMPLES = ("Carlton Cold", "Carlton Draft", "Mountain Goat", "Redback", "Victoria Bitter", "XXXX")


def _filled(connect: Connect) -> tuple[driver.Connection, driver.Cursor]:
    """A connection with the six samples in table booze, uncommitted."""
    connection = connect()
    cursor = connection.cursor()
    cursor.execute(CREATE)
    for sample in SAMPLES:
        cursor.execute("INSERT INTO booze VALUES (%s)", (sample,))
    return connection, cursor


# the module


def test_module_globals() -> None:
    assert driver.apilevel == "2.0"
    assert driver.threadsafety in (0, 1, 2, 3)
    assert driver.paramstyle in ("qmark", "numeric", "named", "format", "pyformat")


def test_exceptions_inherit_as_pep_249_says() -> None:
    assert issubclass(driver.Warning, Exception)
    assert issubclass(driver.Error, Exception)
    assert issubclass(driver.InterfaceError, driver.Error)
    assert issubclass(driver.DatabaseError, driver.Error)
    for name in (
        "DataError",
        "OperationalError",
        "IntegrityError",
        "InternalError",
        "ProgrammingError",
        "NotSupportedError",
    ):
        assert issubclass(getattr(driver, name), driver.DatabaseError)
        assert getattr(driver.Connection, name) is getattr(driver, name)


def test_constructors_and_type_objects() -> None:
    assert driver.Date(2002, 12, 25) == datetime.date(2002, 12, 25)
    assert driver.Time(13, 45, 30) == datetime.time(13, 45, 30)
    assert driver.Timestamp(2002, 12, 25, 13, 45, 30) == datetime.datetime(2002, 12, 25, 13, 45, 30)
    ticks = time.mktime((2002, 12, 25, 13, 45, 30, 0, 0, 0))
    assert driver.DateFromTicks(ticks) == datetime.date(2002, 12, 25)
    assert driver.TimeFromTicks(ticks) == datetime.time(13, 45, 30)
    assert driver.TimestampFromTicks(ticks) == datetime.datetime(2002, 12, 25, 13, 45, 30)
    assert driver.Binary(b"Something") == b"Something"
    types = [driver.STRING, driver.BINARY, driver.NUMBER, driver.DATETIME, driver.ROWID]
    for one in types:
        assert [one == other for other in types].count(True) == 1


# connections


def test_commit_and_rollback(database: Connect) -> None:
    connection, cursor = _filled(database)
    connection.commit()
    connection.commit()
    cursor.execute("DELETE FROM booze")
    connection.rollback()
    cursor.execute("SELECT count(*) FROM booze")
    assert cursor.fetchone() == (len(SAMPLES),)


def test_uncommitted_rows_are_not_seen_by_others(database: Connect) -> None:
    connection = database()
    connection.execute(CREATE)
    connection.commit()
    connection.execute("INSERT INTO booze VALUES ('Victoria Bitter')")
    connection.rollback()
    other = database()
    assert other.execute("SELECT count(*) FROM booze").fetchone() == (0,)


def test_cursors_of_one_connection_see_the_same(database: Connect) -> None:
    connection, _ = _filled(database)
    other = connection.cursor()
    other.execute("SELECT name FROM booze WHERE name = 'Redback'")
    assert other.fetchall() == [("Redback",)]


def test_closed_connections_and_cursors_refuse(database: Connect) -> None:
    connection = database()
    cursor = connection.cursor()
    cursor.close()
    with pytest.raises(driver.Error):
        cursor.execute("SELECT 1")
    other = connection.cursor()
    connection.close()
    connection.close()
    for call in (
        connection.commit,
        connection.rollback,
        connection.cursor,
        lambda: other.execute("SELECT 1"),
    ):
        with pytest.raises(driver.Error):
            call()


def test_context_managers(database: Connect) -> None:
    with database() as connection, connection.cursor() as cursor:
        cursor.execute(CREATE)
        cursor.execute("INSERT INTO booze VALUES ('Redback')")
    assert connection.closed
    with pytest.raises(ZeroDivisionError), database() as connection:
        connection.execute("DELETE FROM booze")
        raise ZeroDivisionError
    assert database().execute("SELECT name FROM booze").fetchall() == [("Redback",)]


def test_autocommit(database: Connect) -> None:
    connection = database(autocommit=True)
    connection.execute(CREATE)
    assert not connection.in_transaction
    connection.execute("BEGIN")
    assert connection.in_transaction
    with pytest.raises(driver.ProgrammingError):
        connection.autocommit = False
    connection.rollback()
    connection.autocommit = False
    connection.execute("INSERT INTO booze VALUES ('Redback')")
    assert connection.in_transaction
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM booze").fetchone() == (0,)


def test_two_threads_may_share_a_connection(database: Connect) -> None:
    connection = database(autocommit=True)
    got: list[Any] = []

    def ask(number: int) -> None:
        for _ in range(50):
            got.append(connection.execute("SELECT %s", (number,)).fetchone() == (number,))

    threads = [threading.Thread(target=ask, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 100


# cursors


def test_description(database: Connect) -> None:
    _, cursor = _filled(database)
    assert cursor.description is None
    cursor.execute("SELECT name FROM booze")
    assert cursor.description is not None
    assert [len(column) for column in cursor.description] == [7]
    assert cursor.description[0][0] == "name"
    assert cursor.description[0][1] == driver.STRING
    cursor.execute("DELETE FROM booze")
    assert cursor.description is None


def test_rowcount(database: Connect) -> None:
    connection = database()
    cursor = connection.cursor()
    assert cursor.rowcount == -1
    cursor.execute(CREATE)
    assert cursor.rowcount == -1
    cursor.execute("INSERT INTO booze VALUES ('Victoria Bitter'), ('Redback')")
    assert cursor.rowcount == 2
    cursor.execute("UPDATE booze SET name = 'XXXX' WHERE name = 'Redback'")
    assert cursor.rowcount == 1
    cursor.execute("SELECT name FROM booze")
    assert cursor.rowcount == 2


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("INSERT INTO booze VALUES (%s)", ("Cooper's",)),
        ("INSERT INTO booze VALUES (%s)", ["Cooper's"]),
        ("INSERT INTO booze VALUES (%(beer)s)", {"beer": "Cooper's"}),
        ("INSERT INTO booze VALUES (?)", ("Cooper's",)),
        ("INSERT INTO booze VALUES ('Cooper''s')", None),
        ("INSERT INTO booze VALUES ('Cooper''s')", ()),
    ],
)
def test_execute_with_parameters(database: Connect, sql: str, parameters: Any) -> None:
    connection = database()
    cursor = connection.cursor()
    cursor.execute(CREATE)
    for _ in range(3):
        cursor.execute(sql, parameters)
        assert cursor.rowcount == 1
    assert cursor.execute("SELECT name FROM booze").fetchall() == [("Cooper's",)] * 3


def test_executemany(database: Connect) -> None:
    connection = database()
    cursor = connection.cursor()
    cursor.execute(CREATE)
    cursor.executemany("INSERT INTO booze VALUES (%s)", [(sample,) for sample in SAMPLES])
    assert cursor.rowcount == len(SAMPLES)
    cursor.executemany("INSERT INTO booze VALUES (%(b)s)", ({"b": str(number)} for number in range(600)))
    assert cursor.rowcount == 600
    cursor.executemany("INSERT INTO booze VALUES (%s)", [])
    assert cursor.rowcount == 0
    assert cursor.execute("SELECT count(*) FROM booze").fetchone() == (606,)


def test_executemany_is_all_or_nothing_under_autocommit(database: Connect) -> None:
    connection = database(autocommit=True)
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE booze (number int PRIMARY KEY)")
    with pytest.raises(driver.IntegrityError):
        cursor.executemany("INSERT INTO booze VALUES (%s)", [(number,) for number in [*range(600), 7]])
    assert not connection.in_transaction
    assert cursor.execute("SELECT count(*) FROM booze").fetchone() == (0,)
    cursor.executemany("INSERT INTO booze VALUES (%s)", [(number,) for number in range(600)])
    assert not connection.in_transaction
    assert cursor.execute("SELECT count(*) FROM booze").fetchone() == (600,)


def test_fetching(database: Connect) -> None:
    _, cursor = _filled(database)
    with pytest.raises(driver.Error):
        cursor.fetchone()
    cursor.execute("SELECT name FROM booze ORDER BY name")
    assert cursor.fetchone() == (SAMPLES[0],)
    assert cursor.fetchmany() == [(SAMPLES[1],)]
    assert cursor.fetchmany(2) == [(SAMPLES[2],), (SAMPLES[3],)]
    assert cursor.rownumber == 4
    assert cursor.fetchall() == [(SAMPLES[4],), (SAMPLES[5],)]
    assert cursor.fetchone() is None
    assert cursor.fetchmany(4) == []
    assert cursor.fetchall() == []
    cursor.arraysize = 10
    cursor.execute("SELECT name FROM booze ORDER BY name")
    assert len(cursor.fetchmany()) == 6
    cursor.execute("SELECT name FROM booze WHERE name = ''")
    assert cursor.fetchone() is None
    assert [row for row in cursor.execute("SELECT name FROM booze ORDER BY 1")] == [
        (name,) for name in SAMPLES
    ]


def test_nextset(database: Connect) -> None:
    cursor = database(autocommit=True).cursor()
    cursor.execute("SELECT 1; SELECT 2, 3")
    assert cursor.fetchall() == [(1,)]
    assert cursor.nextset() is True
    assert cursor.fetchall() == [(2, 3)]
    assert cursor.nextset() is None


def test_sizes_and_procedures(database: Connect) -> None:
    cursor = database().cursor()
    cursor.setinputsizes((25,))
    cursor.setoutputsize(1000)
    cursor.setoutputsize(2000, 0)
    with pytest.raises(driver.NotSupportedError):
        cursor.callproc("lower", ("FOO",))


def test_none_is_null(database: Connect) -> None:
    cursor = database().cursor()
    cursor.execute(CREATE)
    cursor.execute("INSERT INTO booze VALUES (%s)", (None,))
    assert cursor.execute("SELECT name FROM booze").fetchall() == [(None,)]


@pytest.mark.parametrize(
    ("sql", "kind", "sqlstate", "position"),
    [
        ("SELEC 1", driver.ProgrammingError, "42601", 1),
        ("SELECT nothing FROM booze", driver.ProgrammingError, "42703", 8),
        ("SELECT * FROM nowhere", driver.ProgrammingError, "42P01", 15),
        ("SELECT 1 / 0", driver.DataError, "22012", 0),
        ("INSERT INTO booze VALUES (repeat('x', 21))", driver.DataError, "22001", 0),
    ],
)
def test_errors_by_sqlstate(
    database: Connect, sql: str, kind: type[driver.Error], sqlstate: str, position: int
) -> None:
    connection = database()
    connection.execute(CREATE)
    connection.commit()
    with pytest.raises(kind) as caught:
        connection.execute(sql)
    assert (caught.value.sqlstate, caught.value.position) == (sqlstate, position)
    with pytest.raises(driver.InternalError) as failed:
        connection.execute("SELECT 1")
    assert failed.value.sqlstate == "25P02"
    with pytest.raises(driver.InternalError):
        connection.commit()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_integrity_errors_name_the_constraint(database: Connect) -> None:
    connection = database(autocommit=True)
    connection.execute("CREATE TABLE booze (name text PRIMARY KEY)")
    connection.execute("INSERT INTO booze VALUES ('x')")
    for _ in range(4):  # the prepared form survives its own errors
        with pytest.raises(driver.IntegrityError) as caught:
            connection.execute("INSERT INTO booze VALUES (%s)", ("x",))
        assert caught.value.sqlstate == "23505"
        assert caught.value.detail == "Key (name)=(x) already exists."
        assert caught.value.fields["n"] == "booze_pkey"


def test_a_changed_table_outlives_its_prepared_statements(database: Connect) -> None:
    connection = database(autocommit=True)
    connection.execute("CREATE TABLE booze (a int)")
    connection.execute("INSERT INTO booze VALUES (1)")
    for _ in range(3):
        assert connection.execute("SELECT * FROM booze WHERE a = %s", (1,)).fetchall() == [(1,)]
    connection.execute("ALTER TABLE booze ADD COLUMN b text DEFAULT 'new'")
    assert connection.execute("SELECT * FROM booze WHERE a = %s", (1,)).fetchall() == [(1, "new")]


def test_a_changed_table_is_inserted_into_once(database: Connect) -> None:
    """The insert was refused before it ran, and the driver prepared it again: nobody saw it fail or run twice."""
    connection = database(autocommit=True)
    connection.execute("CREATE TABLE booze (a int)")
    insert = "INSERT INTO booze VALUES (%s) RETURNING *"
    for number in range(3):
        assert connection.execute(insert, (number,)).fetchall() == [(number,)]
    connection.execute("ALTER TABLE booze ADD COLUMN b text DEFAULT 'new'")
    assert connection.execute(insert, (3,)).fetchall() == [(3, "new")]
    assert connection.execute("SELECT count(*) FROM booze").fetchall() == [(4,)]
