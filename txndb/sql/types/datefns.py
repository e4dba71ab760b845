"""Functions of dates, timestamps and intervals: date_trunc, extract, date_part, age, make_*, zone conversions.

Where a time zone matters the value is an instant and the context's zone its wall clock. Field names fold case and take
PostgreSQL's plurals and abbreviations; an unknown one is 22023, one the type does not have 0A000.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final, NoReturn

from txndb.errors import sql_error
from txndb.sql.types import calendar, interval
from txndb.sql.types.calendar import DAY_US, HOUR_US, MINUTE_US, SECOND_US, UNIX_EPOCH_US, Fields
from txndb.sql.types.context import EvalContext
from txndb.sql.types.decimals import round_to
from txndb.sql.types.interval import Interval
from txndb.sql.types.zones import Zone, fixed_zone, zone_by_name

_STAMP: Final = "timestamp without time zone"
_STAMPTZ: Final = "timestamp with time zone"

_ALIASES: Final = {
    alias: unit
    for unit, names in {
        "microseconds": "microsecond us usec usecs usecond useconds",
        "milliseconds": "millisecond ms msec msecs msecond mseconds",
        "second": "s sec secs seconds",
        "minute": "m min mins minutes",
        "hour": "h hr hrs hours",
        "day": "d days",
        "week": "w weeks",
        "month": "mon mons months",
        "quarter": "qtr",
        "year": "y yr yrs years",
        "decade": "dec decs decades",
        "century": "c cent centuries",
        "millennium": "mil mils millennia",
        "timezone_hour": "timezone_h",
        "timezone_minute": "timezone_m",
        "julian": "j jd",
    }.items()
    for alias in names.split()
}


def _unit(field: str) -> str:
    word = field.lower()
    return _ALIASES.get(word, word)


def _unrecognized(field: str, type_name: str) -> NoReturn:
    raise sql_error("22023", f'unit "{field.lower()}" not recognized for type {type_name}')


def _unsupported(field: str, type_name: str) -> NoReturn:
    raise sql_error("0A000", f'unit "{field.lower()}" not supported for type {type_name}')


_FIXED_STEPS: Final = {
    "microseconds": 1,
    "milliseconds": 1000,
    "second": SECOND_US,
    "minute": MINUTE_US,
    "hour": HOUR_US,
    "day": DAY_US,
}
_YEAR_STEPS: Final = {"decade": 10, "century": 100, "millennium": 1000}
_ZONE_FIELDS: Final = frozenset(("timezone", "timezone_hour", "timezone_minute"))
_EXTRACTED: Final = frozenset(
    ("epoch", "dow", "isodow", "doy", "isoyear", "julian", "timezone", "timezone_hour", "timezone_minute")
)


def date_trunc(field: str, stamp_us: int, type_name: str = _STAMP) -> int:
    """Cut a wall-clock time down to a unit."""
    unit = _unit(field)
    if calendar.is_infinite(stamp_us):
        return stamp_us
    step = _FIXED_STEPS.get(unit)
    if step is not None:
        return stamp_us // step * step
    if unit == "week":
        days = stamp_us // DAY_US
        return (days - (calendar.weekday(days) + 6) % 7) * DAY_US
    if unit not in _TRUNCATED:
        if unit in _ZONE_FIELDS:
            _unsupported(field, type_name)
        _unrecognized(field, type_name)
    fields = calendar.fields_of(stamp_us)
    year, month = fields.year, fields.month
    if unit == "quarter":
        month = (month - 1) // 3 * 3 + 1
    elif unit != "month":
        month, year = 1, _truncated_year(unit, year)
    return calendar.days_of(year, month, 1) * DAY_US


_TRUNCATED: Final = frozenset(("week", "month", "quarter", "year", "decade", "century", "millennium"))


def _truncated_year(unit: str, year: int) -> int:
    if unit == "year":
        return year
    step = _YEAR_STEPS[unit]
    if unit == "decade":
        return year // step * step
    return (year - 1) // step * step + 1


def date_trunc_tz(ctx: EvalContext, field: str, stamp_us: int) -> int:
    return _trunc_in_zone(field, stamp_us, ctx.zone)


def date_trunc_in_zone(field: str, stamp_us: int, zone_name: str) -> int:
    return _trunc_in_zone(field, stamp_us, zone_by_name(zone_name))


def _trunc_in_zone(field: str, stamp_us: int, zone: Zone) -> int:
    local = date_trunc(field, calendar.to_zone(stamp_us, zone), _STAMPTZ)
    return calendar.from_zone(local, zone)


def date_trunc_interval(field: str, span: Interval) -> Interval:
    """Cut an interval; weeks have no place in one."""
    unit = _unit(field)
    months, days, micros = span.months, span.days, span.microseconds
    if unit in _FIXED_STEPS:
        if unit == "day":
            return Interval(months, days, 0)
        step = _FIXED_STEPS[unit]
        return Interval(months, days, _toward_zero(micros, step))
    sizes = {"month": 1, "quarter": 3, "year": 12, "decade": 120, "century": 1200, "millennium": 12_000}
    if unit in sizes:
        return Interval(_toward_zero(months, sizes[unit]), 0, 0)
    if unit == "week":
        detail = "Months usually have fractional weeks."
        raise sql_error("0A000", f'unit "{field.lower()}" not supported for type interval', detail=detail)
    if unit in _ZONE_FIELDS:
        _unsupported(field, "interval")
    _unrecognized(field, "interval")


def _toward_zero(value: int, step: int) -> int:
    cut = abs(value) // step * step
    return cut if value >= 0 else -cut


# --- extract

_MONOTONIC: Final = frozenset(("year", "decade", "century", "millennium", "julian", "isoyear", "epoch"))


def _fraction(value: int, digits: int) -> Decimal:
    """value * 10^-digits with exactly that display scale."""
    return Decimal(value).scaleb(-digits)


def _century(year: int, step: int) -> int:
    return (year + step - 1) // step if year > 0 else -((step - year) // step)


_CALENDAR_FIELDS: Final[dict[str, Callable[[Fields], int]]] = {
    "year": lambda f: f.year if f.year > 0 else f.year - 1,
    "month": lambda f: f.month,
    "day": lambda f: f.day,
    "quarter": lambda f: (f.month - 1) // 3 + 1,
    "decade": lambda f: f.year // 10,
    "century": lambda f: _century(f.year, 100),
    "millennium": lambda f: _century(f.year, 1000),
    "week": lambda f: calendar.iso_week(f.year, f.month, f.day)[1],
    "isoyear": lambda f: _without_zero(calendar.iso_week(f.year, f.month, f.day)[0]),
    "isodow": lambda f: calendar.iso_week(f.year, f.month, f.day)[2],
    "dow": lambda f: calendar.iso_week(f.year, f.month, f.day)[2] % 7,
    "doy": lambda f: calendar.days_of(f.year, f.month, f.day) - calendar.days_of(f.year, 1, 1) + 1,
}


def _without_zero(year: int) -> int:
    return year if year > 0 else year - 1


def _clock_field(unit: str, fields: Fields) -> Decimal | None:
    micros = fields.second * SECOND_US + fields.micro
    if unit == "hour":
        return Decimal(fields.hour)
    if unit == "minute":
        return Decimal(fields.minute)
    if unit == "second":
        return _fraction(micros, 6)
    if unit == "milliseconds":
        return _fraction(micros, 3)
    return Decimal(micros) if unit == "microseconds" else None


def _extract(field: str, local_us: int, type_name: str, epoch_us: int) -> Decimal | None:
    """A field of a wall-clock time; `epoch_us` is what 'epoch' counts."""
    unit = _unit(field)
    known = unit in _MONOTONIC or unit in _CALENDAR_FIELDS or unit in _FIXED_STEPS or unit in _ZONE_FIELDS
    if known and calendar.is_infinite(local_us):
        return Decimal("Infinity" if local_us > 0 else "-Infinity") if unit in _MONOTONIC else None
    if unit == "epoch":
        return _fraction(epoch_us + UNIX_EPOCH_US, 6)
    if unit == "julian":
        days, rest = divmod(local_us, DAY_US)
        return Decimal(days + calendar.EPOCH_JULIAN) + round_to(Decimal(rest) / Decimal(DAY_US), 16)
    fields = calendar.fields_of(local_us)
    of_calendar = _CALENDAR_FIELDS.get(unit)
    if of_calendar is not None:
        return Decimal(of_calendar(fields))
    found = _clock_field(unit, fields)
    if found is not None:
        return found
    if unit in ("timezone", "timezone_hour", "timezone_minute"):
        _unsupported(field, type_name)
    _unrecognized(field, type_name)


def extract_timestamp(field: str, stamp_us: int) -> Decimal | None:
    return _extract(field, stamp_us, _STAMP, stamp_us)


def extract_timestamptz(ctx: EvalContext, field: str, stamp_us: int) -> Decimal | None:
    unit = _unit(field)
    if unit in ("timezone", "timezone_hour", "timezone_minute") and not calendar.is_infinite(stamp_us):
        offset = ctx.zone.offset_at(stamp_us)
        sign = 1 if offset >= 0 else -1
        if unit == "timezone":
            return Decimal(offset)
        return Decimal(sign * (abs(offset) // 3600 if unit == "timezone_hour" else abs(offset) // 60 % 60))
    return _extract(field, calendar.to_zone(stamp_us, ctx.zone), _STAMPTZ, stamp_us)


def extract_date(field: str, days: int) -> Decimal | None:
    """Fields of a date; those of a time of day are not supported."""
    unit = _unit(field)
    if unit in _FIXED_STEPS and unit != "day":
        _unsupported(field, "date")
    if calendar.is_infinite_date(days):
        return _extract(field, calendar.INFINITY if days > 0 else calendar.MINUS_INFINITY, "date", 0)
    if unit == "epoch":
        return Decimal((days + calendar.UNIX_EPOCH_DAYS) * 86_400)
    if unit == "julian":
        return Decimal(days + calendar.EPOCH_JULIAN)
    return _extract(field, days * DAY_US, "date", 0)


def extract_interval(field: str, span: Interval) -> Decimal | None:
    unit = _unit(field)
    years, months = _split(span.months, 12)
    hours, rest = _split(span.microseconds, HOUR_US)
    minutes, micros = _split(rest, MINUTE_US)
    if unit == "epoch":
        quarter_days = years * 1461 + months * 120 + span.days * 4
        return _fraction(quarter_days * 21_600 * SECOND_US + span.microseconds, 6)
    simple = {
        "millennium": _split(years, 1000)[0],
        "century": _split(years, 100)[0],
        "decade": _split(years, 10)[0],
        "year": years,
        "quarter": int(months / 3) + 1,
        "month": months,
        "day": span.days,
        "hour": hours,
        "minute": minutes,
        "microseconds": micros,
    }
    if unit in simple:
        return Decimal(simple[unit])
    if unit in ("second", "milliseconds"):
        return _fraction(micros, 6 if unit == "second" else 3)
    if unit in _EXTRACTED or unit == "week":
        _unsupported(field, "interval")
    _unrecognized(field, "interval")


def _split(value: int, step: int) -> tuple[int, int]:
    """Quotient and remainder, both signed as the value."""
    whole = abs(value) // step
    return (whole, value - whole * step) if value >= 0 else (-whole, value + whole * step)


def _as_float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def part_timestamp(field: str, stamp_us: int) -> float | None:
    return _as_float(extract_timestamp(field, stamp_us))


def part_timestamptz(ctx: EvalContext, field: str, stamp_us: int) -> float | None:
    return _as_float(extract_timestamptz(ctx, field, stamp_us))


def part_date(field: str, days: int) -> float | None:
    """date_part of a date is that of its midnight."""
    return _as_float(extract_timestamp(field, calendar.date_to_timestamp(days)))


def part_interval(field: str, span: Interval) -> float | None:
    if _unit(field) == "epoch":
        # summed in binary floating point, unlike extract()
        years, months = _split(span.months, 12)
        seconds = span.microseconds / 1_000_000.0 + 365.25 * 86_400 * years + 30.0 * 86_400 * months
        return seconds + 86_400.0 * span.days
    return _as_float(extract_interval(field, span))


# --- age, zones, makers


def age_timestamptz(ctx: EvalContext, a_us: int, b_us: int) -> Interval:
    return interval.age(calendar.to_zone(a_us, ctx.zone), calendar.to_zone(b_us, ctx.zone))


def _today(ctx: EvalContext) -> int:
    return calendar.to_zone(ctx.now_us(), ctx.zone) // DAY_US * DAY_US


def age_until_today(ctx: EvalContext, stamp_us: int) -> Interval:
    return interval.age(_today(ctx), stamp_us)


def age_tz_until_today(ctx: EvalContext, stamp_us: int) -> Interval:
    return interval.age(_today(ctx), calendar.to_zone(stamp_us, ctx.zone))


def _interval_zone(span: Interval) -> Zone:
    if span.months or span.days:
        text = interval.format_interval(span)
        raise sql_error("22023", f'interval time zone "{text}" must not include months or days')
    return fixed_zone(span.microseconds // SECOND_US)


def timestamptz_at_zone(zone: str, stamp_us: int) -> int:
    """timestamptz AT TIME ZONE: the wall-clock time there."""
    return calendar.to_zone(stamp_us, zone_by_name(zone))


def timestamp_at_zone(zone: str, local_us: int) -> int:
    """timestamp AT TIME ZONE: the instant of that wall-clock time there."""
    return calendar.from_zone(local_us, zone_by_name(zone))


def timestamptz_at_offset(span: Interval, stamp_us: int) -> int:
    return calendar.to_zone(stamp_us, _interval_zone(span))


def timestamp_at_offset(span: Interval, local_us: int) -> int:
    return calendar.from_zone(local_us, _interval_zone(span))


def make_date(year: int, month: int, day: int) -> int:
    """A date of its parts; a negative year is BC."""
    astronomical = year + 1 if year < 0 else year
    valid = year != 0 and 1 <= month <= 12 and 1 <= day <= calendar.month_days(astronomical, month)
    if not valid:
        raise sql_error("22008", f"date field value out of range: {year}-{month:02d}-{day:02d}")
    return calendar.checked_date(calendar.days_of(astronomical, month, day))


def make_timestamp(year: int, month: int, day: int, hour: int, minute: int, second: float) -> int:
    days = make_date(year, month, day)
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 60):
        raise sql_error("22008", f"time field value out of range: {hour}:{minute:02d}:{second:02g}")
    time_us = (hour * 60 + minute) * MINUTE_US + round(second * SECOND_US)
    return calendar.checked(days * DAY_US + time_us)


def make_timestamptz(
    ctx: EvalContext, year: int, month: int, day: int, hour: int, minute: int, second: float
) -> int:
    return calendar.from_zone(make_timestamp(year, month, day, hour, minute, second), ctx.zone)


def make_interval(
    years: int = 0,
    months: int = 0,
    weeks: int = 0,
    days: int = 0,
    hours: int = 0,
    minutes: int = 0,
    seconds: float = 0.0,
) -> Interval:
    micros = hours * HOUR_US + minutes * MINUTE_US + round(seconds * SECOND_US)
    return interval.make(years * 12 + months, weeks * 7 + days, micros)


def from_unix_seconds(seconds: float) -> int:
    """to_timestamp(float8)."""
    if seconds != seconds:
        raise sql_error("22008", "timestamp cannot be NaN")
    if seconds in (float("inf"), float("-inf")):
        return calendar.INFINITY if seconds > 0 else calendar.MINUS_INFINITY
    return calendar.checked(round(seconds * SECOND_US) - UNIX_EPOCH_US)


def date_bin(stride: Interval, stamp_us: int, origin_us: int) -> int:
    """The start of the stride-long bin, counted from the origin, that a timestamp is in."""
    if stride.months:
        raise sql_error("0A000", "timestamps cannot be binned into intervals containing months or years")
    width = stride.days * DAY_US + stride.microseconds
    if width <= 0:
        raise sql_error("22008", "stride must be greater than zero")
    return origin_us + (stamp_us - origin_us) // width * width


def transaction_now(ctx: EvalContext) -> int:
    return ctx.now_us()


def statement_now(ctx: EvalContext) -> int:
    return ctx.now_us() if ctx.statement_time_us is None else ctx.statement_time_us


def clock_now(ctx: EvalContext) -> int:
    return ctx.clock_us()


def local_now(ctx: EvalContext) -> int:
    return calendar.to_zone(ctx.now_us(), ctx.zone)


def rounded_now(ctx: EvalContext, precision: int) -> int:
    return calendar.round_timestamp(ctx.now_us(), precision)


def rounded_local_now(ctx: EvalContext, precision: int) -> int:
    return calendar.round_timestamp(local_now(ctx), precision)


def current_date(ctx: EvalContext) -> int:
    return local_now(ctx) // DAY_US


def is_finite_stamp(stamp_us: int) -> bool:
    return not calendar.is_infinite(stamp_us)


def is_finite_date(days: int) -> bool:
    return not calendar.is_infinite_date(days)
