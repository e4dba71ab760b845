"""The fixed parts of the PostgreSQL conversation: start-up parameters, the greeting, errors and notices as messages."""

from __future__ import annotations

import re
import socket
from typing import Final

from txndb.errors import TxndbError, sql_error
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

DEAD_CLIENT_OPTIONS: Final = (
    ("TCP_KEEPIDLE", 30),
    ("TCP_KEEPINTVL", 10),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 300_000),
)
"""A client whose machine vanished holds its locks for about a minute, or five where an answer was still under way."""

_OPTION: Final = re.compile(r"(?:-c\s*|--)([A-Za-z0-9_.\-]+)=((?:\\.|[^\s\\])*)")


def tune_socket(sock: socket.socket | None) -> None:
    """Answers leave at once, and a client that vanished is noticed; nothing for what is no network socket."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in DEAD_CLIENT_OPTIONS:
        if hasattr(socket, option):  # not every system has all of them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def must_be_local(peer: object) -> None:
    """28000 for a peer's address that other machines could have."""
    if isinstance(peer, tuple):
        host = str(peer[0])
        if not (host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")):
            raise sql_error("28000", f'no authentication method is configured for host "{host}"')


def too_many_clients() -> TxndbError:
    """One connection more than the node serves."""
    return sql_error("53300", "sorry, too many clients already")


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
