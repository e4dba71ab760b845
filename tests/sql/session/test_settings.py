"""Durations as session parameters: read, shown and refused as PostgreSQL 15 does (its answers, recorded)."""

from __future__ import annotations

import pytest

from txndb.errors import SqlError
from txndb.sql.session.settings import Settings

UNITS = 'Valid units for this parameter are "us", "ms", "s", "min", "h", and "d".'
TOO_LARGE = "Value exceeds integer range."


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *(
            ("1.5s", "1500ms"),
            ("0.4ms", "0"),
            ("100us", "0"),
            ("1500us", "2ms"),
            (" 7 s ", "7s"),
            ("7000", "7s"),
        ),
        *(("1e3", "1s"), ("0x10", "16ms"), ("5.5", "6ms"), ("1min", "1min"), ("24h", "1d"), ("0", "0")),
    ],
)
def test_durations_are_read_with_their_units(value: str, shown: str) -> None:
    settings = Settings({})
    settings.set("lock_timeout", value)
    assert settings.show("lock_timeout") == shown


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("5 parsecs", 'invalid value for parameter "lock_timeout": "5 parsecs"', UNITS),
        ("7S", 'invalid value for parameter "lock_timeout": "7S"', UNITS),
        ("abc", 'invalid value for parameter "lock_timeout": "abc"', ""),
        ("30d", 'invalid value for parameter "lock_timeout": "30d"', TOO_LARGE),
        ("9999999999", 'invalid value for parameter "lock_timeout": "9999999999"', TOO_LARGE),
        ("-1", '-1 ms is outside the valid range for parameter "lock_timeout" (0 .. 2147483647)', ""),
        ("-1s", '-1000 ms is outside the valid range for parameter "lock_timeout" (0 .. 2147483647)', ""),
    ],
)
def test_durations_that_are_none_are_refused(value: str, message: str, hint: str) -> None:
    with pytest.raises(SqlError) as caught:
        Settings({}).check("lock_timeout", value)
    assert (caught.value.code, caught.value.message, caught.value.hint) == ("22023", message, hint)
