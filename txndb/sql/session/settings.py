"""Session parameters: SET, SHOW, RESET. Names as PostgreSQL's; what is fixed there by the server is read-only here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from txndb.errors import sql_error
from txndb.sql.parse.keywords import words
from txndb.sql.types.zones import fixed_zone, zone_by_name

_DURATION = re.compile(
    r"\s*([-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?))\s*([A-Za-z]*)\s*\Z", re.ASCII
)
_UNIT_MS: Final = {"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNIT_NAMES: Final = '"us", "ms", "s", "min", "h", and "d"'


def _bool(name: str, value: str) -> str:
    text = value.lower()
    if text in ("on", "true", "yes", "1", "t", "y"):
        return "on"
    if text in ("off", "false", "no", "0", "f", "n"):
        return "off"
    raise sql_error("22023", f'parameter "{name}" requires a Boolean value')


def _any(name: str, value: str) -> str:
    return value


def _integer(name: str, value: str) -> str:
    try:
        return str(int(value))
    except ValueError:
        raise sql_error("22023", f'invalid value for parameter "{name}": "{value}"') from None


def _float_digits(name: str, value: str) -> str:
    digits = int(_integer(name, value))
    if not -15 <= digits <= 3:
        raise sql_error("22023", f'{value} is outside the valid range for parameter "{name}" (-15 .. 3)')
    return str(digits)


def _only(supported: str) -> Callable[[str, str], str]:
    """A parameter of which one value is supported."""

    def read(name: str, value: str) -> str:
        if value.lower() != supported:
            raise sql_error("0A000", f'{name} "{value}" is not supported')
        return supported

    return read


def _duration(name: str, value: str) -> str:
    """Milliseconds, from a number of any form with or without a unit, rounded as PostgreSQL does."""
    found = _DURATION.match(value)
    unit = (found[2] or "ms") if found is not None else ""
    if found is None or unit not in _UNIT_MS:
        hint = f"Valid units for this parameter are {_UNIT_NAMES}." if found is not None else ""
        raise sql_error("22023", f'invalid value for parameter "{name}": "{value}"', hint=hint)
    number = found[1]
    milliseconds = (int(number, 16) if "x" in number.lower() else float(number)) * _UNIT_MS[unit]
    if abs(milliseconds) > 2**31 - 1:
        hint = "Value exceeds integer range."
        raise sql_error("22023", f'invalid value for parameter "{name}": "{value}"', hint=hint)
    if milliseconds < 0:
        text = f'{round(milliseconds)} ms is outside the valid range for parameter "{name}" (0 .. 2147483647)'
        raise sql_error("22023", text)
    return str(round(milliseconds))


def duration_text(milliseconds: int) -> str:
    """As SHOW prints it: with the largest whole unit."""
    if milliseconds == 0:
        return "0"
    for unit in ("d", "h", "min", "s"):
        size = int(_UNIT_MS[unit])
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


_HOURS: Final = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)\s*\Z", re.ASCII)


def _zone(name: str, value: str) -> str:
    if _HOURS.match(value):  # a number is of hours east, unlike the offset in a zone's name
        seconds = round(float(value) * 3600)
        if abs(seconds) <= 168 * 3600:
            return fixed_zone(seconds).name
    return zone_by_name(value).name


def _encoding(name: str, value: str) -> str:
    if value.upper().replace("-", "").replace("_", "") in ("UTF8", "UNICODE"):
        return "UTF8"
    if value.upper() == "SQL_ASCII":
        return "SQL_ASCII"
    raise sql_error("22023", f'invalid value for parameter "client_encoding": "{value}"')


_DATE_STYLES: Final = words(
    "ISO SQL POSTGRES GERMAN DEFAULT MDY DMY YMD US NONEURO NONEUROPEAN EURO EUROPEAN"
)


def _date_style(name: str, value: str) -> str:
    words = [w.strip().upper() for w in value.split(",")]
    if not _DATE_STYLES.issuperset(words):
        raise sql_error("22023", f'invalid value for parameter "DateStyle": "{value}"')
    if words[0] not in ("ISO", "DEFAULT", "MDY", "DMY", "YMD"):
        raise sql_error(
            "0A000", f'DateStyle "{value}" is not supported', hint="Dates are shown in ISO style."
        )
    if any(w in ("DMY", "YMD", "EUROPEAN") for w in words):
        raise sql_error("0A000", f'DateStyle "{value}" is not supported', hint="The order is MDY.")
    return "ISO, MDY"


def _isolation(name: str, value: str) -> str:
    text = value.lower()
    if text not in ("serializable", "repeatable read", "read committed", "read uncommitted"):
        raise sql_error("22023", f'invalid value for parameter "{name}": "{value}"')
    # every level is served as the strongest
    return "serializable"


class Parameter(msgspec.Struct, frozen=True):
    """One parameter: display name, default, how a value is read, whether clients are told of changes."""

    name: str
    default: str
    read: Callable[[str, str], str] = _any
    reported: bool = False
    fixed: bool = False


_LIST: Final = (
    Parameter("application_name", "", _any, True),
    Parameter("backslash_quote", "safe_encoding"),
    Parameter("bytea_output", "hex", _only("hex")),
    Parameter("check_function_bodies", "on", _bool),
    Parameter("client_encoding", "UTF8", _encoding, True),
    Parameter("client_min_messages", "notice"),
    Parameter("DateStyle", "ISO, MDY", _date_style, True),
    Parameter("default_transaction_isolation", "serializable", _isolation),
    Parameter("default_transaction_read_only", "off", _bool, True),
    Parameter("default_transaction_deferrable", "off", _bool),
    Parameter("escape_string_warning", "on", _bool),
    Parameter("extra_float_digits", "1", _float_digits),
    Parameter("idle_in_transaction_session_timeout", "0", _duration),
    Parameter("idle_session_timeout", "0", _duration),
    Parameter("in_hot_standby", "off", _bool, True, True),
    Parameter("integer_datetimes", "on", _bool, True, True),
    Parameter("IntervalStyle", "postgres", _only("postgres"), True),
    Parameter("jit", "off", _bool),
    Parameter("lc_collate", "C", fixed=True),
    Parameter("lc_ctype", "C.UTF-8", fixed=True),
    Parameter("lc_messages", "C"),
    Parameter("lc_monetary", "C"),
    Parameter("lc_numeric", "C"),
    Parameter("lc_time", "C"),
    Parameter("lock_timeout", "0", _duration),
    Parameter("max_identifier_length", "63", fixed=True),
    Parameter("row_security", "on", _bool),
    Parameter("search_path", '"$user", public'),
    Parameter("server_encoding", "UTF8", reported=True, fixed=True),
    Parameter("server_version", "15.0", reported=True, fixed=True),
    Parameter("server_version_num", "150000", fixed=True),
    Parameter("session_authorization", "", reported=True, fixed=True),
    Parameter("is_superuser", "on", reported=True, fixed=True),
    Parameter("standard_conforming_strings", "on", _bool, True),
    Parameter("statement_timeout", "0", _duration),
    Parameter("synchronize_seqscans", "on", _bool),
    Parameter("synchronous_commit", "on"),
    Parameter("TimeZone", "UTC", _zone, True),
    Parameter("transaction_deferrable", "off", _bool),
    Parameter("transaction_isolation", "serializable", _isolation),
    Parameter("transaction_read_only", "off", _bool),
    Parameter("transaction_timeout", "0", _duration),
    Parameter("work_mem", "4MB"),
    Parameter("xmloption", "content"),
)
PARAMETERS: Final = {p.name.lower(): p for p in _LIST}
_DURATIONS: Final = frozenset(p.name.lower() for p in _LIST if p.read is _duration)


class Settings:
    """The values of one session. SET LOCAL and SET inside a failed transaction are undone by the snapshot kept."""

    def __init__(self, overrides: dict[str, str]) -> None:
        self.values: dict[str, str] = {}
        self.defaults: dict[str, str] = dict(overrides)

    def get(self, name: str) -> str:
        """The value; 42704 for a parameter that does not exist."""
        key = name.lower()
        value = self.values.get(key)
        if value is not None:
            return value
        if key in self.defaults:
            return self.defaults[key]
        found = PARAMETERS.get(key)
        if found is None:
            raise sql_error("42704", f'unrecognized configuration parameter "{name}"')
        return found.default

    def show(self, name: str) -> str:
        """As SHOW prints it."""
        value = self.get(name)
        return duration_text(int(value)) if name.lower() in _DURATIONS else value

    def check(self, name: str, value: str) -> str:
        """The value as it would be kept; raises what SET would."""
        key = name.lower()
        found = PARAMETERS.get(key)
        if found is None:
            if "." in key:
                return value  # a customised parameter, as PostgreSQL allows
            raise sql_error("42704", f'unrecognized configuration parameter "{name}"')
        if found.fixed:
            raise sql_error("55P02", f'parameter "{found.name}" cannot be changed')
        if key == "standard_conforming_strings" and _bool(name, value) == "off":
            raise sql_error("0A000", "standard_conforming_strings = off is not supported")
        return found.read(found.name, value)

    def set(self, name: str, value: str | None) -> None:
        """Set, or with None reset to the default."""
        key = name.lower()
        if value is None:
            if key not in PARAMETERS and "." not in key:
                raise sql_error("42704", f'unrecognized configuration parameter "{name}"')
            self.values.pop(key, None)
        else:
            self.values[key] = self.check(name, value)

    def reset_all(self) -> None:
        """RESET ALL."""
        self.values.clear()

    def reported(self) -> dict[str, str]:
        """The parameters that clients are told about, by display name."""
        return {p.name: self.get(p.name) for p in _LIST if p.reported}

    def all(self) -> list[tuple[str, str]]:
        """Every parameter, by name (SHOW ALL)."""
        return [(p.name, self.show(p.name)) for p in sorted(_LIST, key=lambda p: p.name.lower())]


def display_name(name: str) -> str:
    """A parameter's name as SHOW heads its column."""
    found = PARAMETERS.get(name.lower())
    return found.name if found is not None else name
