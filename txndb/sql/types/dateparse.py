"""Text input of DATE, TIMESTAMP and TIMESTAMPTZ (DateStyle ISO, MDY), after PostgreSQL's rules in appendix B.

The text is cut into tokens – times, dates with separators, month names, numbers, offsets, words – and each fills a
field once. ISO forms take a fast path of one regular expression. 22007 = not a date at all, 22008 = a field or the
whole value out of range.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from txndb.errors import sql_error
from txndb.sql.types import calendar
from txndb.sql.types.calendar import DAY_US, SECOND_US
from txndb.sql.types.context import EvalContext
from txndb.sql.types.zones import ABBREVIATIONS, Zone, find_zone

_ISO_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})\Z", re.ASCII)
_ISO_STAMP: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?"
    r"(?:(Z)|([+-])([0-9]{2})(?::?([0-9]{2}))?)?\Z",
    re.ASCII,
)
_TOKEN: Final = re.compile(
    r"""\s+|,
    |(?P<time>[0-9]{1,2}:[0-9]{1,2}(?::[0-9]{1,2}(?:\.[0-9]*)?)?)
    |(?P<iso>[0-9]+-[0-9]{1,2}-[0-9]{1,2}(?=$|[\sT+Zz,A-Za-z]))
    |(?P<date>[0-9]+(?P<sep>[-/.])(?:[0-9]+|[A-Za-z]{3,})(?P=sep)[0-9]+)
    |(?P<offset>[+-][0-9]{1,2}(?::?[0-9]{2})?(?::?[0-9]{2})?)
    |(?P<julian>[Jj][0-9]+(?=\s|$))
    |(?P<ordinal>[0-9]{4}\.[0-9]{3}(?=\s|$))
    |(?P<compact>[0-9]{8}(?=T|\s|$))
    |(?P<number>[0-9]+)
    |(?P<word>[A-Za-z]+(?:[/_+-][A-Za-z0-9_/+-]+)?)
    """,
    re.VERBOSE | re.ASCII,
)
_MONTH_NAMES: Final = (
    ("jan", "january"),
    ("feb", "february"),
    ("mar", "march"),
    ("apr", "april"),
    ("may",),
    ("jun", "june"),
    ("jul", "july"),
    ("aug", "august"),
    ("sep", "sept", "september"),
    ("oct", "october"),
    ("nov", "november"),
    ("dec", "december"),
)
_MONTHS: Final = {name: number for number, names in enumerate(_MONTH_NAMES, 1) for name in names}
_DAY: Final = re.compile(
    r"sun(day)?|mon(day)?|tue(s|sday)?|wed(s|nesday)?|thu(r|rs|rsday)?|fri(day)?|sat(urday)?"
)
_SPECIAL: Final = frozenset(
    ("now", "today", "tomorrow", "yesterday", "epoch", "infinity", "+infinity", "-infinity")
)
OFFSET_SECONDS_END: Final = 16 * 3600


class Moment:
    """What a text said. `zone` is an offset in seconds, a Zone, or None; `special` a word such as 'now'."""

    __slots__ = ("bc", "day", "month", "pm", "special", "time_us", "year", "zone")

    def __init__(self) -> None:
        self.year: int | None = None
        self.month: int | None = None
        self.day: int | None = None
        self.time_us: int | None = None
        self.zone: int | Zone | None = None
        self.special = ""
        self.bc = False
        self.pm: bool | None = None


class _Reader:
    """One parse: the text, what it should be (for messages), and the fields found so far."""

    def __init__(self, text: str, what: str) -> None:
        self.text = text
        self.what = what
        self.moment = Moment()
        self.numbers: list[str] = []

    def bad(self) -> NoReturn:
        raise sql_error("22007", f'invalid input syntax for type {self.what}: "{self.text}"')

    def overflow(self, hint: str = "") -> NoReturn:
        raise sql_error("22008", f'date/time field value out of range: "{self.text}"', hint=hint)

    def read(self) -> Moment:
        text, at = self.text.strip(), 0
        lowered = text.lower()
        if lowered in _SPECIAL:
            self.moment.special = lowered.lstrip("+")
            return self.moment
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                self.bad()
            at = match.end()
            kind = match.lastgroup
            if kind == "sep":
                kind = "date"
            if kind is not None:
                getattr(self, "_on_" + kind)(match[kind])
        self._place_numbers()
        return self._finished()

    def _on_time(self, token: str) -> None:
        if self.moment.time_us is not None:
            self.bad()
        hour, minute, *rest = token.split(":")
        second, _, fraction = (rest[0] if rest else "0").partition(".")
        self._set_time(int(hour), int(minute), int(second), fraction)

    def _set_time(self, hour: int, minute: int, second: int, fraction: str) -> None:
        micro = int(f"{fraction[:7]:0<7}") if fraction else 0
        time_us = ((hour * 60 + minute) * 60 + second) * SECOND_US + (micro + 5) // 10
        if hour > 24 or minute > 59 or second > 60 or time_us > DAY_US:
            self.overflow()
        self.moment.time_us = time_us

    def _on_iso(self, token: str) -> None:
        self._on_date(token)

    def _on_date(self, token: str) -> None:
        parts = re.split(r"[-/.]", token)
        if self.moment.year is not None or self.moment.day is not None:
            self.bad()
        if parts[1].isalpha():
            month = _MONTHS.get(parts[1].lower())
            if month is None:
                self.bad()
            self.moment.month = month
            first_is_year = len(parts[0]) > 2
            self._set_year(parts[0] if first_is_year else parts[2])
            self.moment.day = int(parts[2] if first_is_year else parts[0])
        elif len(parts[0]) > 2:
            self._set_year(parts[0])
            self.moment.month, self.moment.day = int(parts[1]), int(parts[2])
        else:
            self.moment.month, self.moment.day = int(parts[0]), int(parts[1])
            self._set_year(parts[2])

    def _set_year(self, digits: str) -> None:
        year = int(digits)
        if len(digits) <= 2:
            year += 2000 if year < 70 else 1900
        self.moment.year = year

    def _on_offset(self, token: str) -> None:
        if self.moment.zone is not None or (self.moment.year is None and self.moment.time_us is None):
            self.bad()
        digits = token[1:].replace(":", "")
        if len(digits) in (3, 5):
            digits = "0" + digits
        digits = f"{digits:0<6}" if len(digits) > 1 else f"0{digits}0000"
        hour, minute, second = int(digits[:2]), int(digits[2:4]), int(digits[4:6])
        seconds = hour * 3600 + minute * 60 + second
        if minute > 59 or second > 59 or seconds >= OFFSET_SECONDS_END:
            raise sql_error("22009", f'time zone displacement out of range: "{self.text}"')
        self.moment.zone = seconds if token[0] == "+" else -seconds

    def _on_compact(self, token: str) -> None:
        if self.moment.year is not None:
            self.bad()
        self._set_year(token[:4])
        self.moment.month, self.moment.day = int(token[4:6]), int(token[6:])

    def _set_days(self, days: int) -> None:
        if self.moment.year is not None:
            self.bad()
        self.moment.year, self.moment.month, self.moment.day = calendar.civil_of(days)

    def _on_julian(self, token: str) -> None:
        self._set_days(min(int(token[1:]), 2**31 - 1) - calendar.EPOCH_JULIAN)

    def _on_ordinal(self, token: str) -> None:
        self._set_days(calendar.days_of(int(token[:4]), 1, 1) + int(token[5:]) - 1)

    def _on_number(self, token: str) -> None:
        moment = self.moment
        if len(token) == 6 and moment.year is not None and moment.time_us is None:
            self._set_time(int(token[:2]), int(token[2:4]), int(token[4:]), "")
            return
        self.numbers.append(token)

    def _on_word(self, token: str) -> None:
        word = token.lower()
        moment = self.moment
        if word in _MONTHS:
            if moment.month is not None:
                self.bad()
            moment.month = _MONTHS[word]
        elif word in ("am", "pm"):
            moment.pm = word == "pm"
        elif word in ("ad", "bc"):
            moment.bc = word == "bc"
        elif word in ("t", "at") or _DAY.fullmatch(word):
            return
        elif word in ("now", "today", "tomorrow", "yesterday", "epoch", "infinity"):
            moment.special = word
        elif word == "allballs":
            moment.time_us, moment.zone = 0, 0
        else:
            self._on_zone(token, word)

    def _on_zone(self, token: str, word: str) -> None:
        if self.moment.zone is not None:
            self.bad()
        if word[0] == "t" and word not in ABBREVIATIONS and find_zone(token) is None:
            self.bad()
        zone = find_zone(token)
        if zone is None:
            if "/" not in token:
                self.bad()
            raise sql_error("22023", f'time zone "{word}" not recognized')
        self.moment.zone = zone

    def _place_numbers(self) -> None:
        """Bare numbers: day and year beside a month name, or YYYYMMDD/YYMMDD alone."""
        moment, numbers = self.moment, self.numbers
        if not numbers:
            return
        if moment.month is not None and moment.year is None and len(numbers) == 2:
            if len(numbers[0]) > 2:
                numbers.reverse()
            moment.day = int(numbers[0])
            self._set_year(numbers[1])
        elif len(numbers) == 1 and len(numbers[0]) in (6, 8) and moment.year is None:
            digits = numbers[0]
            self._set_year(digits[:-4])
            moment.month, moment.day = int(digits[-4:-2]), int(digits[-2:])
        else:
            self.bad()

    def _finished(self) -> Moment:
        moment = self.moment
        if moment.special:
            return moment
        if moment.year is None or moment.month is None or moment.day is None:
            self.bad()
        if moment.bc:
            if moment.year == 0:
                self.overflow()
            moment.year = 1 - moment.year
        elif moment.year == 0:
            self.overflow()
        if not 1 <= moment.month <= 12 or not 1 <= moment.day <= 31:
            self.overflow('Perhaps you need a different "datestyle" setting.')
        if moment.day > calendar.month_days(moment.year, moment.month):
            self.overflow()
        if moment.pm is not None:
            self._apply_meridian(moment)
        return moment

    def _apply_meridian(self, moment: Moment) -> None:
        if moment.time_us is None:
            self.bad()
        hour = moment.time_us // calendar.HOUR_US
        if hour > 12:
            self.overflow()
        if moment.pm and hour < 12:
            moment.time_us += 12 * calendar.HOUR_US
        elif not moment.pm and hour == 12:
            moment.time_us -= 12 * calendar.HOUR_US


def _special_local(word: str, ctx: EvalContext) -> int:
    """The wall-clock value of a special word (not 'epoch')."""
    if word == "infinity":
        return calendar.INFINITY
    if word == "-infinity":
        return calendar.MINUS_INFINITY
    local = calendar.to_zone(ctx.now_us(), ctx.zone)
    if word == "now":
        return local
    shift = {"today": 0, "tomorrow": 1, "yesterday": -1}[word]
    return (local // DAY_US + shift) * DAY_US


def parse_date(text: str, ctx: EvalContext) -> int:
    """The day number of a DATE literal."""
    match = _ISO_DATE.match(text)
    if match is not None:
        year, month, day = int(match[1]), int(match[2]), int(match[3])
        if year and 1 <= month <= 12 and 1 <= day <= calendar.month_days(year, month):
            return calendar.days_of(year, month, day)
    moment = _Reader(text, "date").read()
    if moment.special == "epoch":
        return -calendar.UNIX_EPOCH_DAYS
    if moment.special:
        return calendar.timestamp_to_date(_special_local(moment.special, ctx))
    days = _days(moment)
    if not calendar.DATE_MIN <= days < calendar.DATE_END:
        raise sql_error("22008", f'date out of range: "{text}"')
    return days


def _days(moment: Moment) -> int:
    if moment.year is None or moment.month is None or moment.day is None:
        return 0  # excluded by _finished
    return calendar.days_of(moment.year, moment.month, moment.day)


def _iso_fields(match: re.Match[str]) -> int | None:
    """The local time of a match of _ISO_STAMP, or None where the slow path must give the error."""
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    hour, minute, second = int(match[4]), int(match[5]), int(match[6])
    if not (year and 1 <= month <= 12 and 1 <= day <= calendar.month_days(year, month)):
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    micro = int(f"{match[7]:0<6}") if match[7] else 0
    time_us = ((hour * 60 + minute) * 60 + second) * SECOND_US + micro
    return calendar.days_of(year, month, day) * DAY_US + time_us


def _plain_offset(match: re.Match[str]) -> bool:
    """Whether a match of _ISO_STAMP has no offset or one surely in range."""
    return match[9] is None or (int(match[10]) < 15 and int(match[11] or 0) < 60)


def parse_timestamp(text: str, ctx: EvalContext) -> int:
    """The value of a TIMESTAMP literal; a zone in it is ignored."""
    match = _ISO_STAMP.match(text)
    if match is not None and _plain_offset(match):
        local = _iso_fields(match)
        if local is not None:
            return local
    moment = _Reader(text, "timestamp").read()
    if moment.special == "epoch":
        return -calendar.UNIX_EPOCH_US
    if moment.special:
        return _special_local(moment.special, ctx)
    return _in_range(_days(moment) * DAY_US + (moment.time_us or 0), text)


def parse_timestamptz(text: str, ctx: EvalContext) -> int:
    """The instant of a TIMESTAMPTZ literal; without a zone in it the session's is meant."""
    match = _ISO_STAMP.match(text)
    if match is not None and _plain_offset(match):
        local = _iso_fields(match)
        if local is not None:
            if match[9] is not None:
                offset = int(match[10]) * 3600 + int(match[11] or 0) * 60
                return local + (offset if match[9] == "-" else -offset) * SECOND_US
            return local if match[8] else local - ctx.zone.offset_of_local(local) * SECOND_US
    moment = _Reader(text, "timestamp with time zone").read()
    if moment.special == "epoch":
        return -calendar.UNIX_EPOCH_US
    if moment.special == "now":
        return ctx.now_us()
    if moment.special:
        local = _special_local(moment.special, ctx)
        return calendar.from_zone(local, ctx.zone)
    local = _days(moment) * DAY_US + (moment.time_us or 0)
    if isinstance(moment.zone, int):
        offset = moment.zone
    else:
        offset = (moment.zone or ctx.zone).offset_of_local(local)
    return _in_range(local - offset * SECOND_US, text)


def _in_range(stamp_us: int, text: str) -> int:
    if calendar.TIMESTAMP_MIN <= stamp_us < calendar.TIMESTAMP_END:
        return stamp_us
    raise sql_error("22008", f'timestamp out of range: "{text}"')
