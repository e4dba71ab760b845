"""Time zones: UTC, fixed offsets, IANA names (zoneinfo) and the usual abbreviations.

A `Zone` maps an instant or a local wall time, both in microseconds since 2000-01-01, to an offset east of UTC in
seconds. Years that zoneinfo does not cover (before 1, after 9999) take the rules of the first year or of a year of the
same place in the Gregorian 400-year cycle. Of the two readings of a repeated hour the standard time is taken, of a
skipped hour the offset before the jump, as PostgreSQL does.
Signs: in a value (`12:00+02`) a positive offset is east; in a zone *name* (`AT TIME ZONE '+02'`) it is POSIX's west.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from txndb.errors import sql_error

_EPOCH: Final = datetime(2000, 1, 1)
_EPOCH_UTC: Final = datetime(2000, 1, 1, tzinfo=timezone.utc)  # noqa: UP017
_CYCLE_US: Final = 146_097 * 86_400_000_000
_DATETIME_MIN_US: Final = (datetime(1, 1, 3) - _EPOCH) // timedelta(microseconds=1)
_DATETIME_MAX_US: Final = (datetime(9999, 12, 29) - _EPOCH) // timedelta(microseconds=1)


class Zone:
    """A time zone by name; `fixed` is its constant offset in seconds east, None when it has rules."""

    __slots__ = ("_info", "fixed", "name")

    def __init__(self, name: str, fixed: int | None, info: tzinfo | None = None) -> None:
        self.name = name
        self.fixed = fixed
        self._info = info

    def offset_at(self, instant_us: int) -> int:
        """Seconds east of UTC at an instant."""
        if self.fixed is not None:
            return self.fixed
        instant = _EPOCH_UTC + timedelta(microseconds=_into_range(instant_us))
        return _offset_seconds(instant.astimezone(self._info))

    def offset_of_local(self, local_us: int) -> int:
        """Seconds east of UTC that a wall-clock time of this zone means."""
        if self.fixed is not None:
            return self.fixed
        wall = (_EPOCH + timedelta(microseconds=_into_range(local_us))).replace(tzinfo=self._info)
        first, second = _offset_seconds(wall), _offset_seconds(wall.replace(fold=1))
        # A repeated hour has the smaller offset as its second reading (standard time); a skipped one keeps the
        # offset of before the jump, which is the first reading.
        return min(first, second)

    def abbreviation_at(self, instant_us: int) -> str:
        """What to_char's TZ prints for an instant."""
        if self._info is None:
            return self.name
        instant = _EPOCH_UTC + timedelta(microseconds=_into_range(instant_us))
        return instant.astimezone(self._info).tzname() or ""


UTC: Final = Zone("UTC", 0)


def _into_range(value_us: int) -> int:
    if _DATETIME_MIN_US <= value_us <= _DATETIME_MAX_US:
        return value_us
    return value_us % _CYCLE_US if value_us > 0 else _DATETIME_MIN_US


def _offset_seconds(moment: datetime) -> int:
    delta = moment.utcoffset()
    return 0 if delta is None else delta.days * 86_400 + delta.seconds


ABBREVIATIONS: Final = {
    "utc": 0,
    "gmt": 0,
    "z": 0,
    "zulu": 0,
    "ut": 0,
    "wet": 0,
    "bst": 3600,
    "cet": 3600,
    "west": 3600,
    "met": 3600,
    "cest": 7200,
    "eet": 7200,
    "mest": 7200,
    "ist": 7200,
    "sast": 7200,
    "eest": 10_800,
    "msk": 10_800,
    "msd": 14_400,
    "jst": 32_400,
    "kst": 32_400,
    "aest": 36_000,
    "aedt": 39_600,
    "nzst": 43_200,
    "nzdt": 46_800,
    "ast": -14_400,
    "adt": -10_800,
    "est": -18_000,
    "edt": -14_400,
    "cst": -21_600,
    "cdt": -18_000,
    "mst": -25_200,
    "mdt": -21_600,
    "pst": -28_800,
    "pdt": -25_200,
    "akst": -32_400,
    "akdt": -28_800,
    "hst": -36_000,
}

_POSIX: Final = re.compile(r"(?:<[A-Za-z0-9:+-]+>|[A-Za-z]{3,})?([+-]?)(\d{1,3})(?::(\d\d))?(?::(\d\d))?\Z")


@lru_cache(maxsize=256)
def zone_by_name(name: str) -> Zone:
    """The zone a name means: IANA name, abbreviation, or POSIX form (positive = west); 22023 when unknown."""
    found = find_zone(name)
    if found is None:
        raise sql_error("22023", f'time zone "{name}" not recognized')
    return found


@lru_cache(maxsize=256)
def find_zone(name: str) -> Zone | None:
    """As `zone_by_name`, None when unknown."""
    folded = name.strip().lower()
    if folded in ("utc", "gmt", "z", "zulu"):
        return Zone(name if folded in ("utc", "gmt") else "UTC", 0)
    if folded in ABBREVIATIONS:
        return Zone(folded.upper(), ABBREVIATIONS[folded])
    match = _POSIX.match(name.strip())
    if match is not None:
        sign = 1 if match[1] == "-" else -1
        seconds = int(match[2]) * 3600 + int(match[3] or 0) * 60 + int(match[4] or 0)
        return Zone(name, sign * seconds) if seconds <= 168 * 3600 else None
    return _iana(name.strip())


def _iana(name: str) -> Zone | None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*", name):
        return None
    for spelling in (name, "/".join(_title(part) for part in name.split("/"))):
        try:
            return Zone(spelling, None, ZoneInfo(spelling))
        except (KeyError, ValueError, OSError):
            continue  # not a zone under this spelling (a directory of zones raises OSError)
    return None


def _title(part: str) -> str:
    return "_".join(word[:1].upper() + word[1:].lower() for word in part.split("_"))


def fixed_zone(seconds_east: int) -> Zone:
    """The zone of a constant offset, named as PostgreSQL names `SET TIME ZONE` of a number or interval."""
    sign = "+" if seconds_east >= 0 else "-"
    hours, rest = divmod(abs(seconds_east), 3600)
    digits = f"{hours:02d}" + (f":{rest // 60:02d}" if rest else "")
    opposite = "-" if sign == "+" else "+"
    return Zone(f"<{sign}{digits}>{opposite}{digits}", seconds_east)
