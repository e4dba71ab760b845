"""The fixed parts of the PostgreSQL conversation: start-up parameters, the greeting, errors and notices as messages."""

from __future__ import annotations

import re
from typing import Final

from txndb.errors import TxndbError
from txndb.pgwire import backend
from txndb.server.pg_contract import WireNotice

DEFAULT_DATABASE: Final = "defaultdb"

BASE_PARAMETERS: Final = {
    "application_name": "",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "default_transaction_read_only": "off",
    "in_hot_standby": "off",
    "integer_datetimes": "on",
    "IntervalStyle": "postgres",
    "is_superuser": "on",
    "server_encoding": "UTF8",
    "server_version": "15.0",
    "standard_conforming_strings": "on",
    "TimeZone": "UTC",
}
"""What PostgreSQL reports at start-up; the session's own values come on top."""

_OPTION: Final = re.compile(r"(?:-c\s*|--)([A-Za-z0-9_.\-]+)=((?:\\.|[^\s\\])*)")


def session_options(parameters: dict[str, str]) -> tuple[str, dict[str, str], list[str]]:
    """A start-up packet's database, its settings for the session, and the protocol options nobody here knows."""
    settings: dict[str, str] = {}
    unknown: list[str] = []
    for name, value in parameters.items():
        if name.startswith("_pq_."):
            unknown.append(name)
        elif name == "options":
            for option in _OPTION.finditer(value):
                settings[option[1].replace("-", "_")] = re.sub(r"\\(.)", r"\1", option[2])
        elif name not in ("user", "database", "replication"):
            settings[name] = value
    return parameters.get("database") or DEFAULT_DATABASE, settings, unknown


def greeting(user: str, reported: dict[str, str], process_id: int, secret: int) -> bytes:
    """Everything between the last authentication step and the first ReadyForQuery."""
    values = {**BASE_PARAMETERS, "session_authorization": user, **reported}
    parts = [backend.AUTHENTICATION_OK]
    parts += [backend.parameter_status(name, value) for name, value in values.items()]
    parts.append(backend.backend_key_data(process_id, secret))
    return b"".join(parts)


def error_response(error: TxndbError, severity: str = "ERROR") -> bytes:
    """ErrorResponse with every field the error has."""
    return backend.response(
        b"E",
        (
            ("S", severity),
            ("V", severity),
            ("C", error.code),
            ("M", error.message or type(error).__name__),
            ("D", error.detail),
            ("H", error.hint),
            ("P", str(error.position) if error.position else ""),
            ("s", error.schema),
            ("t", error.table),
            ("c", error.column),
            ("d", error.datatype),
            ("n", error.constraint),
        ),
    )


def notice_response(notice: WireNotice) -> bytes:
    """NoticeResponse."""
    return backend.response(
        b"N",
        (
            ("S", notice.severity),
            ("V", notice.severity),
            ("C", notice.sqlstate),
            ("M", notice.message),
            ("D", notice.detail),
            ("H", notice.hint),
        ),
    )
