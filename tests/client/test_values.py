"""Values there and back, placeholders, targets."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

import txndb.client as driver
from tests.client.conftest import Connect
from txndb import limits
from txndb.client.placeholders import arrange, convert
from txndb.client.target import parse_target
from txndb.client.values import adapt, loader

UTC = datetime.UTC
VALUES = [
    ("bool", True),
    ("bool", False),
    ("smallint", -32768),
    ("int", 2**31 - 1),
    ("bigint", -(2**63)),
    ("bigint", 2**31),
    ("float8", 0.1),
    ("float8", float("inf")),
    ("numeric", Decimal("12345678901234567890.0123456789")),
    ("numeric(12,3)", Decimal("-1.500")),
    ("text", "ünï\\'\"%s ?"),
    ("text", ""),
    ("bytea", bytes(range(256))),
    ("bytea", b""),
    ("date", datetime.date(1, 1, 1)),
    ("date", datetime.date(9999, 12, 31)),
    ("timestamp", datetime.datetime(2026, 2, 28, 23, 59, 59, 999999)),
    ("timestamptz", datetime.datetime(2026, 2, 28, 23, 59, 59, 120000, tzinfo=UTC)),
    ("uuid", UUID("12345678-1234-5678-1234-567812345678")),
]


@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_values_return_as_sent(database: Connect, type_name: str, value: object) -> None:
    connection = database(autocommit=True)
    connection.execute(f"CREATE TABLE everything (v {type_name}, n {type_name})")
    for _ in range(3):
        connection.execute("INSERT INTO everything VALUES (%s, %s)", (value, None))
    rows = connection.execute("SELECT v, n FROM everything WHERE v = %s", (value,)).fetchall()
    assert rows == [(value, None)] * 3
    assert type(rows[0][0]) is type(value)


def test_what_no_python_value_means_is_an_error_when_fetched() -> None:
    for oid, raw in ((1082, b"infinity"), (1082, b"10000-01-01"), (1184, b"0044-03-15 00:00:00+00 BC")):
        with pytest.raises(driver.DataError):
            loader(oid)(raw)


@pytest.mark.parametrize(
    ("oid", "raw", "value"),
    [
        (1007, b"{1,NULL,-3}", [1, None, -3]),
        (1009, b'{a,"b,\\"c\\\\",NULL,"NULL",""}', ["a", 'b,"c\\', None, "NULL", ""]),
        (1007, b"{{1,2},{3,4}}", [[1, 2], [3, 4]]),
        (1007, b"{}", []),
        (1007, b"[0:1]={5,6}", [5, 6]),
        (
            1186,
            b"1 year 2 mons -3 days +04:05:06.5",
            datetime.timedelta(days=422, hours=4, minutes=5, seconds=6.5),
        ),
        (1186, b"-00:00:01", datetime.timedelta(seconds=-1)),
        (
            1184,
            b"2020-01-01 00:00:00.5+05:30",
            datetime.datetime.fromisoformat("2020-01-01 00:00:00.500000+05:30"),
        ),
        (99999, b"anything", "anything"),
    ],
)
def test_results_are_read(oid: int, raw: bytes, value: object) -> None:
    assert loader(oid)(raw) == value


@pytest.mark.parametrize(
    ("value", "oid", "raw"),
    [
        (1, 23, b"1"),
        (2**31, 20, b"2147483648"),
        (2**63, 1700, b"9223372036854775808"),
        (None, 0, None),
        ([1, None, 2], 1007, b'{"1",NULL,"2"}'),
        (['a"\\'], 0, b'{"a\\"\\\\"}'),
        ([[1], [2]], 1007, b'{{"1"},{"2"}}'),
    ],
)
def test_parameters_are_written(value: Any, oid: int, raw: bytes | None) -> None:
    assert adapt(value) == (oid, raw)


def test_values_that_cannot_be_sent() -> None:
    with pytest.raises(driver.NotSupportedError):
        adapt(object())
    with pytest.raises(driver.DataError):
        adapt("a\0b")


@pytest.mark.parametrize(
    ("sql", "style", "want", "sources"),
    [
        ("a %s b %s", "pyformat", "a $1 b $2", (None, None)),
        ("%(x)s %(y)s %(x)s", "pyformat", "$1 $2 $1", ("x", "y")),
        ("5 %% 3 = %s", "pyformat", "5 % 3 = $1", (None,)),
        (
            "'%s' \"?\" -- %s\n/* %s */ $q$ %s $q$ %s",
            "pyformat",
            "'%s' \"?\" -- %s\n/* %s */ $q$ %s $q$ $1",
            (None,),
        ),
        ("LIKE 'a%%' AND x = %s", "pyformat", "LIKE 'a%' AND x = $1", (None,)),
        ("a ? b", "pyformat", "a $1 b", (None,)),
        ("a ? b % c", "qmark", "a $1 b % c", (None,)),
        ("e'\\'?' ?", "qmark", "e'\\'?' $1", (None,)),
    ],
)
def test_placeholders(sql: str, style: str, want: str, sources: tuple[str | None, ...]) -> None:
    assert convert(sql, style) == (want, sources)


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [("%s", ()), ("%s", (1, 2)), ("%(a)s", {}), ("%(a)s", (1,)), ("%s", {"a": 1}), ("%s", "x")],
)
def test_parameters_that_do_not_fit(sql: str, parameters: Any) -> None:
    with pytest.raises(driver.ProgrammingError):
        arrange(convert(sql, "pyformat")[1], parameters)


def test_placeholders_that_mean_nothing() -> None:
    for sql in ("%d", "%s %(a)s"):
        with pytest.raises(driver.ProgrammingError):
            convert(sql, "pyformat")


def test_targets() -> None:
    assert parse_target(None) == parse_target(":memory:")
    assert parse_target(None).embedded
    assert parse_target("some/dir").path is not None
    url = parse_target("txndb://me:p%40ss@a,b:99,[::1]:7/db%20x?connect_timeout=3&TimeZone=UTC")
    assert url.hosts == (("a", 7432), ("b", 99), ("::1", 7))
    assert (url.user, url.password, url.database) == ("me", "p@ss", "db x")
    assert (url.connect_timeout_s, url.settings) == (3.0, (("TimeZone", "UTC"),))
    assert parse_target("postgresql://h/").hosts == (("h", 5432),)
    assert parse_target("txndb://h/d?connect_timeout=0").connect_timeout_s is None
    for wrong in (
        *("mysql://h", "txndb://h:port/d", "txndb://h:0/d", "txndb://h:65536/d"),
        *(
            "txndb://h/d?sslmode=require",
            "txndb://h/d?connect_timeout=soon",
            "txndb://h/d?connect_timeout=-1",
        ),
    ):
        with pytest.raises(driver.InterfaceError):
            parse_target(wrong)


def test_text_that_utf_8_cannot_express_is_a_data_error() -> None:
    with driver.connect() as conn:
        for sql, parameters in [
            *(("SELECT '\0'", None), ("SELECT '\ud800'", None)),
            *(("SELECT %s", ("\0",)), ("SELECT %s", ("\ud800",)), ("SELECT %s, '\ud800'", (1,))),
        ]:
            with pytest.raises(driver.DataError) as caught:
                conn.execute(sql, parameters)
            assert caught.value.sqlstate == "22021"
        with pytest.raises(driver.DataError):
            conn.cursor().executemany("SELECT %s, '\0'", [(1,)])
        assert conn.execute("SELECT 1").fetchall() == [(1,)]
    with pytest.raises(driver.DataError):
        driver.connect(user="ro\0ot")


def test_large_values_pass_both_ways_at_once() -> None:
    large = "x" * 500_000
    with driver.connect() as conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE large (id INT PRIMARY KEY, t TEXT)")
        cursor.executemany("INSERT INTO large VALUES (%s, %s) RETURNING t", [(i, large) for i in range(40)])
        assert cursor.rowcount == 40
        assert cursor.execute("SELECT sum(length(t)) FROM large").fetchone() == (40 * len(large),)


def test_a_statement_that_is_too_large_says_so() -> None:
    with driver.connect() as conn:
        with pytest.raises(driver.OperationalError) as caught:
            conn.execute("SELECT '" + "x" * (limits.STATEMENT_BYTES_MAX + 1) + "'")
        assert caught.value.sqlstate == "54000"
        conn.rollback()
        assert conn.execute("SELECT 1").fetchone() == (1,)
