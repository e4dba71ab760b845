"""INTERVAL: months, days and microseconds kept apart; text in and out (IntervalStyle postgres), arithmetic.

Invariants
1. The three parts are independent, so '1 day' and '24 hours' are different values that compare equal (order, equality
   and grouping go by `sort_key`: 30 days a month, 24 hours a day).
2. Fractions cascade downwards only: half a month is 15 days, half a day is 12 hours.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final, NoReturn

import msgspec

from txndb.errors import sql_error
from txndb.sql.types import calendar
from txndb.sql.types.calendar import DAY_US, HOUR_US, MINUTE_US, SECOND_US, Fields
from txndb.sql.types.zones import Zone

MONTH_DAYS: Final = 30
YEAR_MONTHS: Final = 12
_INT32_MIN: Final = -(2**31)
_INT32_MAX: Final = 2**31 - 1
_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1


class Interval(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A span of time. Compare with `sort_key`, not field by field."""

    months: int = 0
    days: int = 0
    microseconds: int = 0


def out_of_range() -> NoReturn:
    raise sql_error("22008", "interval out of range")


def make(months: int, days: int, microseconds: int) -> Interval:
    """An interval with its parts checked against int32, int32 and int64."""
    if not (_INT32_MIN <= months <= _INT32_MAX and _INT32_MIN <= days <= _INT32_MAX):
        out_of_range()
    if not _INT64_MIN <= microseconds <= _INT64_MAX:
        out_of_range()
    return Interval(months, days, microseconds)


def sort_key(value: Interval) -> int:
    """The whole span in microseconds at 30 days a month."""
    return (value.months * MONTH_DAYS + value.days) * DAY_US + value.microseconds


# unit -> (months, days, microseconds) of one
_UNITS: Final[dict[str, tuple[int, int, int]]] = {
    name: parts
    for names, parts in (
        ("us usec usecs usecond useconds microsecond microseconds microsecon", (0, 0, 1)),
        ("ms msec msecs msecond mseconds millisecond milliseconds millisecon", (0, 0, 1000)),
        ("s sec secs second seconds", (0, 0, SECOND_US)),
        ("m min mins minute minutes", (0, 0, MINUTE_US)),
        ("h hr hrs hour hours", (0, 0, HOUR_US)),
        ("d day days", (0, 1, 0)),
        ("w week weeks", (0, 7, 0)),
        ("mon mons month months", (1, 0, 0)),
        ("y yr yrs year years", (12, 0, 0)),
        ("dec decs decade decades", (120, 0, 0)),
        ("c cent century centuries", (1200, 0, 0)),
        ("mil mils millennia millennium", (12_000, 0, 0)),
    )
    for name in names.split()
}
_ISO_UNITS: Final = {"Y": "y", "M": "mon", "W": "w", "D": "d"}
_ISO_TIME_UNITS: Final = {"H": "h", "M": "m", "S": "s"}
_NUMBER: Final = r"[+-]?\s*(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_TOKEN: Final = re.compile(
    rf"""\s+|@|,
    |(?P<time>[+-]?[0-9]+:[0-9]{{1,2}}(?::[0-9]{{1,2}}(?:\.[0-9]*)?)?)
    |(?P<yearmonth>[+-]?[0-9]+-[0-9]+)
    |(?P<number>{_NUMBER})
    |(?P<word>[A-Za-z]+)
    """,
    re.VERBOSE | re.ASCII,
)
_ISO_PART: Final = re.compile(rf"({_NUMBER})([YMWDHS])", re.ASCII)

# bit positions of the fields in an INTERVAL's typmod (PostgreSQL's INTERVAL_MASK) and the unit each means
_FIELD_BITS: Final = (("second", 12), ("minute", 11), ("hour", 10), ("day", 3), ("month", 1), ("year", 2))
_FULL_RANGE: Final = 0x7FFF


def fields_typmod(fields: str, precision: int = 0xFFFF) -> int:
    """The typmod of INTERVAL with a field list such as 'day' or 'hour to second'."""
    order = ("year", "month", "day", "hour", "minute", "second")
    words = fields.lower().split()
    first, last = order.index(words[0]), order.index(words[-1])
    bits = dict(_FIELD_BITS)
    mask = sum(1 << bits[name] for name in order[first : last + 1])
    return mask << 16 | precision


def _default_unit(typmod: int) -> str:
    """What a bare number counts: the smallest field of the typmod, seconds without one."""
    mask = _FULL_RANGE if typmod < 0 else typmod >> 16 & _FULL_RANGE
    if mask == _FULL_RANGE:
        return "second"
    return next((name for name, bit in _FIELD_BITS if mask & 1 << bit), "second")


class _Sum:
    """Parts added up while a text is read, fractions cascaded."""

    def __init__(self) -> None:
        self.months = 0
        self.days = 0
        self.microseconds = 0
        self._seen: list[tuple[int, int, int]] = []

    def add(self, number: str, unit: str) -> None:
        months, days, micros = parts = _UNITS[unit]
        if parts in self._seen:
            raise ValueError(unit)
        self._seen.append(parts)
        value = Decimal("".join(number.split()))
        if months:
            self._add_months(value * months, whole_months=months > 1)
        elif days:
            self._add_days(value * days)
        else:
            self.microseconds += _rounded(value * micros)

    def _add_months(self, months: Decimal, whole_months: bool) -> None:
        if whole_months:
            self.months += int(months.to_integral_value(ROUND_HALF_EVEN))
            return
        whole = int(months)
        self.months += whole
        self._add_days((months - whole) * MONTH_DAYS)

    def _add_days(self, days: Decimal) -> None:
        whole = int(days)
        self.days += whole
        self.microseconds += _rounded((days - whole) * DAY_US)


def _rounded(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_EVEN))


def parse_interval(text: str, typmod: int = -1) -> Interval:
    """The value of an INTERVAL literal; 22007 when malformed, 22008/22015 when out of range."""
    body = text.strip()
    try:
        parts = _parse_iso(body) if body[:1] in ("P", "p") else _parse_words(body, _default_unit(typmod))
    except (KeyError, ValueError):
        raise sql_error("22007", f'invalid input syntax for type interval: "{text}"') from None
    for part in (parts.months, parts.days):
        if not _INT32_MIN <= part <= _INT32_MAX:
            raise sql_error("22015", f'interval field value out of range: "{text}"')
    if not _INT64_MIN <= parts.microseconds <= _INT64_MAX:
        raise sql_error("22015", f'interval field value out of range: "{text}"')
    return apply_interval_typmod(Interval(parts.months, parts.days, parts.microseconds), typmod)


def _parse_words(text: str, default_unit: str) -> _Sum:
    parts, pending, ago, at, any_field = _Sum(), "", False, 0, False
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(text)
        at = match.end()
        kind, token = match.lastgroup, match[0]
        if kind is None:
            continue
        any_field = True
        if kind == "word":
            word = token.lower()
            if word == "ago" and not pending:
                ago = True
            else:
                parts.add(pending, word) if pending else _unit_without_number(word)
                pending = ""
            continue
        if pending:
            # "3 4:05:06": a number right before a time counts days.
            parts.add(pending, "day" if kind == "time" else default_unit)
            pending = ""
        if kind == "number":
            pending = token
        else:
            _add_compound(parts, kind, token)
    if pending:
        parts.add(pending, default_unit)
    if not any_field:
        raise ValueError(text)
    if ago:
        parts.months, parts.days, parts.microseconds = -parts.months, -parts.days, -parts.microseconds
    return parts


def _unit_without_number(word: str) -> NoReturn:
    raise KeyError(word)


def _add_compound(parts: _Sum, kind: str, token: str) -> None:
    negative = token[0] == "-"
    body = token.lstrip("+-")
    if kind == "yearmonth":
        years, months = body.split("-")
        if int(months) >= YEAR_MONTHS:
            raise sql_error("22015", f'interval field value out of range: "{token}"')
        total = int(years) * YEAR_MONTHS + int(months)
        parts.months += -total if negative else total
        return
    hour, minute, *rest = body.split(":")
    second = rest[0] if rest else "0"
    if int(minute) > 59 or Decimal(second) >= 60:
        raise sql_error("22015", f'interval field value out of range: "{token}"')
    micros = int(hour) * HOUR_US + int(minute) * MINUTE_US + _rounded(Decimal(second) * SECOND_US)
    parts.microseconds += -micros if negative else micros


def _parse_iso(text: str) -> _Sum:
    """ISO 8601 durations with designators: P1Y2M3DT4H5M6.7S."""
    parts = _Sum()
    date_part, has_time, time_part = text[1:].upper().partition("T")
    if not date_part and not time_part:
        raise ValueError(text)
    for section, units in ((date_part, _ISO_UNITS), (time_part if has_time else "", _ISO_TIME_UNITS)):
        at = 0
        while at < len(section):
            match = _ISO_PART.match(section, at)
            if match is None:
                raise ValueError(text)
            parts.add(match[1], units[match[2]])
            at = match.end()
    return parts


def apply_interval_typmod(value: Interval, typmod: int) -> Interval:
    """Cut to the fields of the typmod and round its seconds."""
    if typmod < 0:
        return value
    mask, precision = typmod >> 16 & _FULL_RANGE, typmod & 0xFFFF
    months, days, micros = value.months, value.days, value.microseconds
    if mask != _FULL_RANGE:
        smallest = _default_unit(typmod)
        if smallest == "year":
            months = _truncated(months, YEAR_MONTHS)
        if smallest in ("year", "month"):
            days = 0
        if smallest in ("year", "month", "day"):
            micros = 0
        elif smallest in ("hour", "minute"):
            micros = _truncated(micros, HOUR_US if smallest == "hour" else MINUTE_US)
    if precision < 6:
        micros = calendar.round_timestamp(micros, precision)
    return Interval(months, days, micros)


def _truncated(value: int, step: int) -> int:
    whole = abs(value) // step * step
    return whole if value >= 0 else -whole


def format_interval(value: Interval) -> str:
    """IntervalStyle postgres: '1 year 2 mons 3 days 04:05:06.7'."""
    sign = 1 if value.months >= 0 else -1
    years, months = sign * (abs(value.months) // 12), sign * (abs(value.months) % 12)
    parts: list[str] = []
    negative_before = False
    for count, unit in ((years, "year"), (months, "mon"), (value.days, "day")):
        if count:
            plus = "+" if negative_before and count > 0 else ""
            parts.append(f"{plus}{count} {unit}{'' if count == 1 else 's'}")
            negative_before = count < 0
    if value.microseconds or not parts:
        negative = value.microseconds < 0
        plus = "-" if negative else ("+" if negative_before else "")
        seconds, micro = divmod(abs(value.microseconds), SECOND_US)
        text = f"{plus}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        parts.append(f"{text}.{micro:06d}".rstrip("0") if micro else text)
    return " ".join(parts)


def add(a: Interval, b: Interval) -> Interval:
    return make(a.months + b.months, a.days + b.days, a.microseconds + b.microseconds)


def subtract(a: Interval, b: Interval) -> Interval:
    return make(a.months - b.months, a.days - b.days, a.microseconds - b.microseconds)


def negate(value: Interval) -> Interval:
    return make(-value.months, -value.days, -value.microseconds)


def scale(value: Interval, factor: float) -> Interval:
    """interval * float8, remainders cascaded down."""
    if factor != factor or factor in (float("inf"), float("-inf")):
        out_of_range()
    exact_months, exact_days = value.months * factor, value.days * factor
    months, days = int(exact_months), int(exact_days)
    month_days = _cleaned((exact_months - months) * MONTH_DAYS)
    seconds = _cleaned((exact_days - days + month_days - int(month_days)) * 86_400.0)
    if abs(seconds) >= 86_400:
        whole = int(seconds / 86_400)
        days, seconds = days + whole, seconds - whole * 86_400.0
    days += int(month_days)
    return make(months, days, round(value.microseconds * factor + seconds * SECOND_US))


def divide(value: Interval, divisor: float) -> Interval:
    """interval / float8; 22012 for zero."""
    if divisor == 0:
        raise sql_error("22012", "division by zero")
    exact_months, exact_days = value.months / divisor, value.days / divisor
    months, days = int(exact_months), int(exact_days)
    month_days = _cleaned((exact_months - months) * MONTH_DAYS)
    seconds = _cleaned((exact_days - days + month_days - int(month_days)) * 86_400.0)
    if abs(seconds) >= 86_400:
        whole = int(seconds / 86_400)
        days, seconds = days + whole, seconds - whole * 86_400.0
    days += int(month_days)
    return make(months, days, round(value.microseconds / divisor + seconds * SECOND_US))


def _cleaned(value: float) -> float:
    """Round to microseconds, against the noise of binary fractions."""
    return round(value * 1e6) / 1e6


def add_to_timestamp(stamp_us: int, span: Interval) -> int:
    """timestamp + interval: months first (the day clamped to the month's end), then days, then the time."""
    if calendar.is_infinite(stamp_us):
        return stamp_us
    if span.months:
        stamp_us = _add_months(stamp_us, span.months)
    return calendar.checked(stamp_us + span.days * DAY_US + span.microseconds)


def _add_months(stamp_us: int, months: int) -> int:
    fields = calendar.fields_of(stamp_us)
    total = fields.year * YEAR_MONTHS + fields.month - 1 + months
    year, month = total // YEAR_MONTHS, total % YEAR_MONTHS + 1
    day = min(fields.day, calendar.month_days(year, month))
    return calendar.checked(calendar.days_of(year, month, day) * DAY_US + stamp_us % DAY_US)


def add_to_timestamptz(stamp_us: int, span: Interval, zone: Zone) -> int:
    """timestamptz + interval: months and days move the wall clock of the session's zone, the rest is elapsed time."""
    if calendar.is_infinite(stamp_us):
        return stamp_us
    if span.months or span.days:
        local = calendar.to_zone(stamp_us, zone)
        local = add_to_timestamp(local, Interval(span.months, span.days, 0))
        stamp_us = calendar.from_zone(local, zone)
    return calendar.checked(stamp_us + span.microseconds)


def between(a_us: int, b_us: int) -> Interval:
    """timestamp - timestamp: whole days and the rest."""
    if calendar.is_infinite(a_us) or calendar.is_infinite(b_us):
        raise sql_error("22008", "cannot subtract infinite timestamps")
    return justify_hours(Interval(0, 0, a_us - b_us))


def _carried(large: int, small: int, unit: int) -> tuple[int, int]:
    """Move whole units of the small field into the large one; both have one sign after it."""
    whole = _truncated(small, unit) // unit
    return _same_sign(large + whole, small - whole * unit, unit)


def _same_sign(large: int, small: int, unit: int) -> tuple[int, int]:
    """Lend or borrow one unit so that the small field, less than a unit, has the large one's sign."""
    if large > 0 and small < 0:
        return large - 1, small + unit
    if large < 0 and small > 0:
        return large + 1, small - unit
    return large, small


def justify_hours(value: Interval) -> Interval:
    """Move whole 24-hour spans into days, one sign for both."""
    days, micros = _carried(value.days, value.microseconds, DAY_US)
    return make(value.months, days, micros)


def justify_days(value: Interval) -> Interval:
    """Move whole 30-day spans into months, one sign for both."""
    months, days = _carried(value.months, value.days, MONTH_DAYS)
    return make(months, days, value.microseconds)


def justify_interval(value: Interval) -> Interval:
    """Both, with one sign for all three parts."""
    step = justify_days(justify_hours(value))
    months, days, micros = step.months, step.days, step.microseconds
    if months > 0 and (days < 0 or (days == 0 and micros < 0)):
        months, days = months - 1, days + MONTH_DAYS
    elif months < 0 and (days > 0 or (days == 0 and micros > 0)):
        months, days = months + 1, days - MONTH_DAYS
    days, micros = _same_sign(days, micros, DAY_US)
    return make(months, days, micros)


def age(a_us: int, b_us: int) -> Interval:
    """age(a, b): the difference in calendar years, months, days and time of two wall-clock values."""
    if calendar.is_infinite(a_us) or calendar.is_infinite(b_us):
        raise sql_error("22008", "timestamp out of range")
    if a_us < b_us:
        return negate(age(b_us, a_us))
    later, earlier = calendar.fields_of(a_us), calendar.fields_of(b_us)
    months = (later.year - earlier.year) * YEAR_MONTHS + later.month - earlier.month
    days = later.day - earlier.day
    micros = _time_of(later) - _time_of(earlier)
    if micros < 0:
        micros, days = micros + DAY_US, days - 1
    if days < 0:
        # borrow the month of the earlier date, as PostgreSQL's timestamp_age does
        days, months = days + calendar.month_days(earlier.year, earlier.month), months - 1
    return make(months, days, micros)


def _time_of(fields: Fields) -> int:
    return ((fields.hour * 60 + fields.minute) * 60 + fields.second) * SECOND_US + fields.micro
