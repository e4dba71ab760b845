"""to_char, to_date and to_timestamp: template patterns of dates and times (PostgreSQL manual, table "Template Patterns
for Date/Time Formatting").

A template is cut into pieces once and cached: fields, quoted text and other characters. FM drops padding, TH/th adds
an ordinal suffix. Localised names (TM) are the English ones.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from txndb.errors import sql_error
from txndb.sql.types import calendar
from txndb.sql.types.calendar import DAY_US, SECOND_US, Fields
from txndb.sql.types.context import EvalContext
from txndb.sql.types.interval import Interval
from txndb.sql.types.zones import Zone

_MONTH_TEXT: Final = "January February March April May June July August September October November December"
_MONTHS: Final = tuple(_MONTH_TEXT.split())
_DAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_ROMAN: Final = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
_FIELDS: Final = """
HH24 HH12 HH MI SSSSS SSSS SS MS US FF1 FF2 FF3 FF4 FF5 FF6 A.M. a.m. P.M. p.m. AM am PM pm Y,YYY YYYY YYY YY Y IYYY IYY
IY I B.C. b.c. A.D. a.d. BC bc AD ad MONTH Month month MON Mon mon MM DAY Day day DY Dy dy DDD IDDD DD D ID WW W IW CC J
Q RM rm TZH TZM TZ tz OF
"""
_ALTERNATIVES: Final = "|".join(sorted(map(re.escape, _FIELDS.split()), key=len, reverse=True))
_PIECE: Final = re.compile(
    r'(?P<quoted>"(?:[^"\\]|\\.)*"?)|(?P<fm>FM|fm)|(?P<skip>FX|TM)'
    rf"|(?P<field>{_ALTERNATIVES})(?P<suffix>TH|th)?|(?P<other>.)",
    re.DOTALL,
)


class Piece(NamedTuple):
    """A part of a template: a field (with its modifiers), or literal text when `field` is empty."""

    field: str
    text: str
    fill: bool
    suffix: str
    quoted: bool = False


_LOWER_FIELDS: Final = re.compile(
    "(hh24|hh12|hh|mi|sssss|ssss|ss|ms|us|ff[1-6]|y,yyy|yyyy|yyy|yy|y|iyyy|iyy|iy|i|mm|ddd|iddd|dd|d|id|ww|w|iw|cc|j|q"
    "|tzh|tzm|of)"
)


def _with_upper_fields(template: str) -> str:
    """Numeric fields may be written in lower case; text fields keep theirs, as it says how to spell the value."""
    out = []
    for part in re.split(
        r'("(?:[^"\\]|\\.)*"?|MONTH|Month|month|MON|Mon|mon|DAY|Day|day|DY|Dy|dy|a\.m\.|p\.m\.|am|pm'
        r"|a\.d\.|b\.c\.|ad|bc|rm|tz(?![hm])|th|fm)",
        template,
    ):
        known = part.startswith('"') or part.lower() in _SPELLED
        out.append(part if known else _LOWER_FIELDS.sub(lambda found: found[0].upper(), part))
    return "".join(out)


_SPELLED: Final = frozenset(
    (
        "month",
        "mon",
        "day",
        "dy",
        "a.m.",
        "p.m.",
        "am",
        "pm",
        "a.d.",
        "b.c.",
        "ad",
        "bc",
        "rm",
        "tz",
        "th",
        "fm",
    )
)


@lru_cache(maxsize=256)
def _pieces(template: str) -> tuple[Piece, ...]:
    out, fill = [], True
    for found in _PIECE.finditer(_with_upper_fields(template)):
        kind = found.lastgroup
        if kind == "fm":
            fill = False
        elif kind == "quoted":
            text = re.sub(r"\\(.)", r"\1", found[0].strip('"'))
            out.append(Piece("", text, True, "", True))
        elif kind == "other":
            out.append(Piece("", found[0], True, ""))
        elif kind != "skip":
            out.append(Piece(found["field"], "", fill, found["suffix"] or ""))
            fill = True
    return tuple(out)


def _ordinal(number: int, suffix: str) -> str:
    last = abs(number) % 100
    ending = "th" if 10 < last < 20 else {1: "st", 2: "nd", 3: "rd"}.get(last % 10, "th")
    return ending.upper() if suffix == "TH" else ending


class _Moment(NamedTuple):
    """What a template prints: the fields, the day number, and the zone where there is one."""

    fields: Fields
    days: int
    zone: Zone | None
    instant_us: int
    is_interval: bool = False


def _number(value: int, width: int, piece: Piece) -> str:
    text = f"{'-' if value < 0 else ''}{abs(value):0{width}d}" if piece.fill else str(value)
    return text + (_ordinal(value, piece.suffix) if piece.suffix else "")


def _named(name: str, width: int, piece: Piece) -> str:
    if piece.field.isupper():
        name = name.upper()
    elif piece.field.islower():
        name = name.lower()
    return name.ljust(width) if piece.fill else name


def _clock(piece: Piece, fields: Fields, is_interval: bool) -> str | None:
    name = piece.field
    if name in ("HH", "HH12"):
        twelve = fields.hour % 12 or (0 if is_interval and not fields.hour else 12)
        return _number(twelve if not is_interval or fields.hour else 12, 2, piece)
    simple = {"HH24": fields.hour, "MI": fields.minute, "SS": fields.second}
    if name in simple:
        return _number(simple[name], 2, piece)
    if name in ("MS", "FF3"):
        return _number(fields.micro // 1000, 3, piece)
    if name in ("US", "FF6"):
        return _number(fields.micro, 6, piece)
    if name.startswith("FF"):
        digits = int(name[2])
        return _number(fields.micro // 10 ** (6 - digits), digits, piece)
    if name in ("SSSS", "SSSSS"):
        return str((fields.hour * 60 + fields.minute) * 60 + fields.second)
    if name.upper() in ("AM", "PM", "A.M.", "P.M."):
        text = "PM" if fields.hour % 24 >= 12 else "AM"
        text = f"{text[0]}.M." if "." in name else text
        return text if name[0].isupper() else text.lower()
    return None


def _shown_year(year: int) -> int:
    return year if year > 0 else 1 - year


def _year(piece: Piece, moment: _Moment) -> str | None:
    name, fields = piece.field, moment.fields
    year = fields.year if moment.is_interval else _shown_year(fields.year)
    if name == "Y,YYY":
        text = f"{year // 1000},{year % 1000:03d}"
        return text + (_ordinal(year, piece.suffix) if piece.suffix else "")
    if name in ("IYYY", "IYY", "IY", "I"):
        year, name = (
            _shown_year(calendar.iso_week(fields.year, fields.month, fields.day)[0]),
            name.replace("I", "Y", 1),
        )
    widths = {"YYYY": 4, "YYY": 3, "YY": 2, "Y": 1}
    if name in widths:
        width = widths[name]
        return _number(year if width == 4 else year % 10**width, width, piece)
    if name.upper() in ("BC", "AD", "B.C.", "A.D."):
        text = "BC" if fields.year <= 0 else "AD"
        text = f"{text[0]}.{text[1]}." if "." in name else text
        return text if name[0].isupper() else text.lower()
    if name == "CC":
        century = (fields.year + 99) // 100 if fields.year > 0 else -((100 - fields.year) // 100)
        return _number(century, 2, piece)
    return None


def _calendar_field(piece: Piece, moment: _Moment) -> str | None:
    name, fields, days = piece.field, moment.fields, moment.days
    if name.upper() in ("MONTH", "MON"):
        full = _MONTHS[fields.month - 1]
        return _named(full, 9, piece) if name.upper() == "MONTH" else _named(full[:3], 3, piece)
    weekday = calendar.weekday(days)
    if name.upper() in ("DAY", "DY"):
        full = _DAYS[weekday]
        return _named(full, 9, piece) if name.upper() == "DAY" else _named(full[:3], 3, piece)
    if name.upper() == "RM":
        text = _ROMAN[fields.month - 1] if fields.month else ""
        text = text if name == "RM" else text.lower()
        return text.ljust(4) if piece.fill else text
    if name == "D":
        return _number(weekday + 1, 1, piece)
    if name == "ID":
        return _number(weekday or 7, 1, piece)
    if name == "Q":
        return _number((fields.month - 1) // 3 + 1, 1, piece)
    if name == "W":
        return _number((fields.day - 1) // 7 + 1, 1, piece)
    if name == "J":
        return _number(days + calendar.EPOCH_JULIAN, 1, piece)
    return _day_number(piece, moment)


def _day_number(piece: Piece, moment: _Moment) -> str | None:
    name, fields = piece.field, moment.fields
    if name == "MM":
        return _number(fields.month, 2, piece)
    if name == "DD":
        return _number(fields.day, 2, piece)
    day_of_year = (
        moment.days - calendar.days_of(fields.year, 1, 1) + 1 if not moment.is_interval else fields.day
    )
    if name == "DDD":
        return _number(day_of_year, 3, piece)
    if name == "WW":
        return _number((day_of_year - 1) // 7 + 1, 2, piece)
    if name == "IW":
        return _number(calendar.iso_week(fields.year, fields.month, fields.day)[1], 2, piece)
    if name == "IDDD":
        _, week, weekday = calendar.iso_week(fields.year, fields.month, fields.day)
        return _number((week - 1) * 7 + weekday, 3, piece)
    return None


def _zone_field(piece: Piece, moment: _Moment) -> str:
    name, zone = piece.field, moment.zone
    if zone is None:
        return {"TZ": "", "tz": "", "OF": "+00", "TZH": "+00", "TZM": "00"}[name]
    offset = zone.offset_at(moment.instant_us)
    if name in ("TZ", "tz"):
        text = zone.abbreviation_at(moment.instant_us)
        return text if name == "TZ" else text.lower()
    hours = f"{'+' if offset >= 0 else '-'}{abs(offset) // 3600:02d}"
    minutes = abs(offset) // 60 % 60
    if name == "TZH":
        return hours
    if name == "TZM":
        return f"{minutes:02d}"
    return f"{hours}:{minutes:02d}" if minutes else hours


def _render(template: str, moment: _Moment) -> str:
    out = []
    for piece in _pieces(template):
        if not piece.field:
            out.append(piece.text)
            continue
        text = _clock(piece, moment.fields, moment.is_interval)
        if text is None:
            text = _year(piece, moment)
        if text is None and piece.field not in ("TZ", "tz", "OF", "TZH", "TZM"):
            text = _calendar_field(piece, moment)
        out.append(_zone_field(piece, moment) if text is None else text)
    return "".join(out)


def timestamp_to_char(stamp_us: int, template: str) -> str | None:
    """to_char(timestamp, text); NULL for an infinity or an empty template."""
    if not template or calendar.is_infinite(stamp_us):
        return None
    return _render(template, _Moment(calendar.fields_of(stamp_us), stamp_us // DAY_US, None, stamp_us))


def timestamptz_to_char(ctx: EvalContext, stamp_us: int, template: str) -> str | None:
    """to_char(timestamptz, text) in the session's zone."""
    if not template or calendar.is_infinite(stamp_us):
        return None
    local = calendar.to_zone(stamp_us, ctx.zone)
    return _render(template, _Moment(calendar.fields_of(local), local // DAY_US, ctx.zone, stamp_us))


def interval_to_char(span: Interval, template: str) -> str | None:
    """to_char(interval, text): the parts of the interval as they are."""
    if not template:
        return None
    seconds, micro = divmod(span.microseconds, SECOND_US)
    fields = Fields(
        span.months // 12,
        span.months % 12,
        span.days,
        seconds // 3600,
        seconds // 60 % 60,
        seconds % 60,
        micro,
    )
    return _render(template, _Moment(fields, span.days, None, 0, True))


# --- reading

_READ_WIDTHS: Final = {
    "YYYY": 4,
    "YYY": 3,
    "YY": 2,
    "Y": 1,
    "MM": 2,
    "DD": 2,
    "DDD": 3,
    "HH24": 2,
    "HH12": 2,
    "HH": 2,
    "MI": 2,
    "SS": 2,
    "MS": 3,
    "US": 6,
    "SSSS": 5,
    "SSSSS": 5,
    "J": 7,
    "D": 1,
    "Q": 1,
    "FF1": 1,
    "FF2": 2,
    "FF3": 3,
    "FF4": 4,
    "FF5": 5,
    "FF6": 6,
}


def _read(text: str, template: str) -> dict[str, int]:
    """The fields of a text under a template."""
    found: dict[str, int] = {}
    pieces, at = _pieces(template), 0
    for number, piece in enumerate(pieces):
        if not piece.field:
            at = _skip_literal(text, at, piece)
            continue
        while at < len(text) and text[at].isspace():
            at += 1
        follows = pieces[number + 1] if number + 1 < len(pieces) else None
        at = _read_field(text, at, piece, follows, found)
    return found


def _skip_literal(text: str, at: int, piece: Piece) -> int:
    if piece.quoted:
        return at + len(piece.text)
    if piece.text.isspace():
        while at < len(text) and not text[at].isalnum() and text[at] not in "+-":
            at += 1
        return at
    if at < len(text) and not text[at].isalnum():
        return at + 1
    return at + 1 if piece.text.isalnum() and at < len(text) else at


def _read_field(text: str, at: int, piece: Piece, follows: Piece | None, found: dict[str, int]) -> int:
    name = piece.field
    upper = name.upper()
    if upper in ("MONTH", "MON", "DAY", "DY", "AM", "PM", "A.M.", "P.M.", "BC", "AD", "B.C.", "A.D."):
        return _read_word(text, at, name, found)
    width = _READ_WIDTHS.get(name)
    if width is None:
        raise sql_error("0A000", f'formatting field "{name}" is only supported in to_char')
    # A field with a separator after it takes all digits, one directly followed by another its own width.
    greedy = not piece.fill or follows is None or not follows.field
    pattern = re.compile(
        r"[+-]?[0-9]+" if greedy and name not in ("US", "MS") else rf"[+-]?[0-9]{{1,{width}}}"
    )
    match = pattern.match(text, at)
    if match is None:
        detail = "Value must be an integer."
        shown = text[at : at + width]
        raise sql_error("22007", f'invalid value "{shown}" for "{name}"', detail=detail)
    digits = match[0]
    key = {"HH12": "HH", "SSSSS": "SSSS"}.get(name, name)
    if name in ("MS", "US") or name.startswith("FF"):
        scale = {"MS": 3, "US": 6}.get(name) or int(name[2])
        found["US"] = int(f"{digits:0<{scale}}") * 10 ** (6 - scale)
    elif name in ("YYY", "YY", "Y"):
        found["YYYY"] = _full_year(int(digits), len(digits))
    else:
        found[key] = int(digits)
    return match.end()


def _full_year(year: int, digits: int) -> int:
    """A year of fewer than four digits is the one nearest to 2020."""
    if digits >= 4:
        return year
    if year < 70:
        return year + 2000
    if year < 100:
        return year + 1900
    return year + (2000 if year < 520 else 1000)


def _read_word(text: str, at: int, name: str, found: dict[str, int]) -> int:
    field = name.upper()
    rest = text[at:].lower()
    if field in ("MONTH", "MON"):
        for number, month in enumerate(_MONTHS, 1):
            for spelling in (month, month[:3]) if field == "MONTH" else (month[:3],):
                if rest.startswith(spelling.lower()):
                    found["MM"] = number
                    return at + len(spelling)
    elif field in ("DAY", "DY"):
        for day in _DAYS:
            for spelling in (day, day[:3]):
                if rest.startswith(spelling.lower()):
                    return at + len(spelling)
    else:
        for spelling in ("a.m.", "p.m.", "am", "pm", "b.c.", "a.d.", "bc", "ad"):
            if rest.startswith(spelling):
                found["PM" if spelling[0] in "ap" and "m" in spelling else "BC"] = int(spelling[0] in "pb")
                return at + len(spelling)
    detail = "The given value did not match any of the allowed values for this field."
    raise sql_error("22007", f'invalid value "{text[at : at + len(field)]}" for "{name}"', detail=detail)


def _date_of(found: dict[str, int], text: str) -> int:
    if "J" in found:
        return found["J"] - calendar.EPOCH_JULIAN
    year, month, day = found.get("YYYY", 0), found.get("MM", 1), found.get("DD", 1)
    if found.get("BC"):
        year = 1 - year
    elif year < 0:
        year += 1
    if "DDD" in found:
        return calendar.days_of(year, 1, 1) + found["DDD"] - 1
    if not 1 <= month <= 12 or not 1 <= day <= calendar.month_days(year, month):
        raise sql_error("22008", f'date/time field value out of range: "{text}"')
    return calendar.days_of(year, month, day)


def _time_of(found: dict[str, int], text: str) -> int:
    hour = found.get("HH24", 0)
    if "HH" in found:
        hour = found["HH"]
        if not 1 <= hour <= 12:
            hint = "Use the 24-hour clock, or give an hour between 1 and 12."
            raise sql_error("22007", f'hour "{hour}" is invalid for the 12-hour clock', hint=hint)
        if "PM" in found:
            hour = hour % 12 + 12 * found["PM"]
    minute, second = found.get("MI", 0), found.get("SS", 0)
    if "SSSS" in found:
        hour, minute, second = found["SSSS"] // 3600, found["SSSS"] // 60 % 60, found["SSSS"] % 60
    if hour > 23 or minute > 59 or second > 59:
        raise sql_error("22008", f'date/time field value out of range: "{text}"')
    return ((hour * 60 + minute) * 60 + second) * SECOND_US + found.get("US", 0)


def to_date(text: str, template: str) -> int:
    """to_date(text, template)."""
    return calendar.checked_date(_date_of(_read(text, template), text))


def to_timestamp(ctx: EvalContext, text: str, template: str) -> int:
    """to_timestamp(text, template): a wall-clock time of the session's zone."""
    found = _read(text, template)
    return calendar.from_zone(_date_of(found, text) * DAY_US + _time_of(found, text), ctx.zone)
