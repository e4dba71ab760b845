"""The proleptic Gregorian calendar on PostgreSQL's day and microsecond counts, and ISO text of dates and timestamps.

Days and microseconds count from 2000-01-01. Years are astronomical inside (0 = 1 BC). Fast paths go through
`datetime.date` for years 1..9999; outside, the day number is computed from the 400-year cycle.
"""

from __future__ import annotations

from datetime import date as _date
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from txndb.errors import sql_error
from txndb.sql.types.zones import Zone

DAY_US: Final = 86_400_000_000
HOUR_US: Final = 3_600_000_000
MINUTE_US: Final = 60_000_000
SECOND_US: Final = 1_000_000
EPOCH_ORDINAL: Final = _date(2000, 1, 1).toordinal()
EPOCH_JULIAN: Final = 2_451_545
UNIX_EPOCH_DAYS: Final = 10_957
"""Days from 1970-01-01 to 2000-01-01."""
UNIX_EPOCH_US: Final = UNIX_EPOCH_DAYS * DAY_US
DATE_MIN: Final = -EPOCH_JULIAN
DATE_END: Final = 2_147_483_494 - EPOCH_JULIAN
TIMESTAMP_MIN: Final = -EPOCH_JULIAN * DAY_US
TIMESTAMP_END: Final = (109_203_528 - EPOCH_JULIAN) * DAY_US
DATE_INFINITY: Final = 2**31 - 1
DATE_MINUS_INFINITY: Final = -(2**31)
INFINITY: Final = 2**63 - 1
MINUS_INFINITY: Final = -(2**63)
_INFINITIES: Final = (INFINITY, MINUS_INFINITY)

_LOW_ORDINAL_DAYS: Final = 1 - EPOCH_ORDINAL
_HIGH_ORDINAL_DAYS: Final = _date.max.toordinal() - EPOCH_ORDINAL
_CYCLE_DAYS: Final = 146_097
_PRECISION_STEPS: Final = (1_000_000, 100_000, 10_000, 1000, 100, 10)
_MONTH_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Fields(NamedTuple):
    """A timestamp taken apart; `micro` is the part below one second."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    micro: int


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def month_days(year: int, month: int) -> int:
    """The number of days of a month."""
    return 29 if month == 2 and is_leap(year) else _MONTH_DAYS[month - 1]


def days_of(year: int, month: int, day: int) -> int:
    """The day number of a valid calendar date."""
    if 1 <= year <= 9999:
        return _date(year, month, day).toordinal() - EPOCH_ORDINAL
    cycles, within = divmod(year - 2000, 400)
    return _date(2000 + within, month, day).toordinal() - EPOCH_ORDINAL + cycles * _CYCLE_DAYS


def civil_of(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day number."""
    if _LOW_ORDINAL_DAYS <= days <= _HIGH_ORDINAL_DAYS:
        found = _date.fromordinal(days + EPOCH_ORDINAL)
        return found.year, found.month, found.day
    cycles, within = divmod(days, _CYCLE_DAYS)
    found = _date.fromordinal(within + EPOCH_ORDINAL)
    return found.year + cycles * 400, found.month, found.day


def fields_of(stamp_us: int) -> Fields:
    """Take a finite timestamp apart."""
    days, rest = divmod(stamp_us, DAY_US)
    seconds, micro = divmod(rest, SECOND_US)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return Fields(*civil_of(days), hour, minute, second, micro)


def stamp_of(fields: Fields) -> int:
    """The inverse of `fields_of`."""
    time_us = ((fields.hour * 60 + fields.minute) * 60 + fields.second) * SECOND_US + fields.micro
    return days_of(fields.year, fields.month, fields.day) * DAY_US + time_us


def is_infinite(stamp_us: int) -> bool:
    """Whether a TIMESTAMP[TZ] is one of the infinities."""
    return stamp_us in _INFINITIES


def is_infinite_date(days: int) -> bool:
    """Whether a DATE is one of the infinities."""
    return days in (DATE_INFINITY, DATE_MINUS_INFINITY)


def out_of_range(what: str = "timestamp") -> NoReturn:
    """Raise 22008 for a computed value outside its type."""
    raise sql_error("22008", f"{what} out of range")


def checked(stamp_us: int) -> int:
    """A computed timestamp, if it is in range."""
    if TIMESTAMP_MIN <= stamp_us < TIMESTAMP_END:
        return stamp_us
    out_of_range()


def checked_date(days: int) -> int:
    """A computed date, if it is in range."""
    if DATE_MIN <= days < DATE_END:
        return days
    out_of_range("date")


def iso_week(year: int, month: int, day: int) -> tuple[int, int, int]:
    """ISO 8601 year, week and weekday (Monday = 1)."""
    cycles, within = divmod(year - 2000, 400)
    found = _date(2000 + within, month, day).isocalendar()
    return found[0] + cycles * 400, found[1], found[2]


def weekday(days: int) -> int:
    """Day of the week, Sunday = 0."""
    return (days + 6) % 7


def format_date(days: int) -> str:
    """ISO text of a DATE."""
    if _LOW_ORDINAL_DAYS <= days <= _HIGH_ORDINAL_DAYS:
        return _date.fromordinal(days + EPOCH_ORDINAL).isoformat()
    if days == DATE_INFINITY:
        return "infinity"
    if days == DATE_MINUS_INFINITY:
        return "-infinity"
    year, month, day = civil_of(days)
    return f"{year:04d}-{month:02d}-{day:02d}" if year > 0 else f"{1 - year:04d}-{month:02d}-{day:02d} BC"


_cached_date: Final = lru_cache(maxsize=4096)(format_date)
"""Timestamps of one result mostly share a few days."""


def format_time(time_us: int) -> str:
    """HH:MM:SS[.ffffff] with trailing zeros dropped."""
    seconds, micro = divmod(time_us, SECOND_US)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    if micro:
        return f"{hour:02d}:{minute:02d}:{second:02d}.{micro:06d}".rstrip("0")
    return f"{hour:02d}:{minute:02d}:{second:02d}"


def format_timestamp(stamp_us: int) -> str:
    """ISO text of a TIMESTAMP."""
    if stamp_us == INFINITY:
        return "infinity"
    if stamp_us == MINUS_INFINITY:
        return "-infinity"
    days, rest = divmod(stamp_us, DAY_US)
    date_text = _cached_date(days)
    if date_text.endswith("BC"):
        return f"{date_text[:-3]} {format_time(rest)} BC"
    return f"{date_text} {format_time(rest)}"


def format_offset(seconds_east: int) -> str:
    """A zone offset as in ISO output: +00, +05:30, -00:44:30."""
    sign = "+" if seconds_east >= 0 else "-"
    minutes, second = divmod(abs(seconds_east), 60)
    hour, minute = divmod(minutes, 60)
    text = f"{sign}{hour:02d}"
    if minute or second:
        text += f":{minute:02d}"
    return f"{text}:{second:02d}" if second else text


def format_timestamptz(stamp_us: int, zone: Zone) -> str:
    """ISO text of a TIMESTAMPTZ in a zone."""
    if stamp_us in _INFINITIES:
        return format_timestamp(stamp_us)
    if zone.fixed == 0:
        local, offset = format_timestamp(stamp_us), "+00"
    else:
        seconds = zone.offset_at(stamp_us)
        local, offset = format_timestamp(stamp_us + seconds * SECOND_US), format_offset(seconds)
    return f"{local[:-3]}{offset} BC" if local.endswith("BC") else local + offset


def to_zone(stamp_us: int, zone: Zone) -> int:
    """The wall-clock time in a zone of an instant."""
    return stamp_us if is_infinite(stamp_us) else stamp_us + zone.offset_at(stamp_us) * SECOND_US


def from_zone(local_us: int, zone: Zone) -> int:
    """The instant a wall-clock time in a zone means."""
    if is_infinite(local_us):
        return local_us
    return checked(local_us - zone.offset_of_local(local_us) * SECOND_US)


def date_to_timestamp(days: int) -> int:
    """Midnight of a date."""
    if is_infinite_date(days):
        return INFINITY if days > 0 else MINUS_INFINITY
    stamp_us = days * DAY_US
    if not TIMESTAMP_MIN <= stamp_us < TIMESTAMP_END:
        raise sql_error("22008", "date out of range for timestamp")
    return stamp_us


def timestamp_to_date(stamp_us: int) -> int:
    """The date part of a wall-clock time."""
    if is_infinite(stamp_us):
        return DATE_INFINITY if stamp_us > 0 else DATE_MINUS_INFINITY
    return stamp_us // DAY_US


def round_timestamp(stamp_us: int, precision: int) -> int:
    """Round to TIMESTAMP(p)'s precision, half away from zero as PostgreSQL's AdjustTimestampForTypmod."""
    if precision < 0 or precision >= 6 or is_infinite(stamp_us):
        return stamp_us
    scale = _PRECISION_STEPS[precision]
    if stamp_us >= 0:
        return (stamp_us + scale // 2) // scale * scale
    return -((-stamp_us + scale // 2) // scale * scale)
