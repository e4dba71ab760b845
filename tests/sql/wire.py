r"""Statements put to a server over the wire, and everything it answers: for comparing two servers.

A file of statements is lines, each a statement (`\n` in it is a line break), under headings `== name`: a section, run
on one connection from an empty schema. Around a statement there may be

    # …                              a comment
    … ||| 5 ||| NULL                 parameters, as text: of the extended protocol only
    … <<< 1\ta\n                     the data of a COPY FROM STDIN
    ! refused …                      the second server is known to refuse it, with 0A000 and a position
    ! differs …                      its answers are known to differ; the comment above says why

A section is run three times: by the simple protocol, by the extended one, and by that with binary results.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from psycopg import pq

MODES = ("simple", "extended", "binary")
FIRST_USER_OID = 16384
RECORD_OID = 2249


class Statement(msgspec.Struct, frozen=True):
    """One line of the file. `known` is "", "refused" or "differs"."""

    line: int
    sql: str
    params: tuple[str | None, ...]
    data: str
    known: str

    def fits(self, mode: str) -> bool:
        """Whether it can be sent in a mode: parameters need the extended protocol, several statements the simple."""
        if mode == "simple":
            return not self.params
        return re.search(r";\s*\S", re.sub(r"'[^']*'", "", self.sql)) is None


class Column(msgspec.Struct, frozen=True):
    """A column of a result, as its RowDescription has it."""

    name: str
    type_oid: int
    typmod: int
    size: int


class Answer(msgspec.Struct, frozen=True):
    """One result: `kind` is its status, `tag` its command tag, an error's SQLSTATE and position are in `error`."""

    kind: str
    tag: str = ""
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()
    error: tuple[str, str] = ("", "")


class Outcome(msgspec.Struct, frozen=True):
    """All that a statement did. `message` is the last error's, for people."""

    answers: tuple[Answer, ...]
    notices: tuple[tuple[str, str], ...]
    status: str
    message: str = msgspec.field(default="")

    def same(self, other: Outcome) -> bool:
        """Whether a client can tell no difference (messages aside)."""
        return (self.answers, self.notices, self.status) == (other.answers, other.notices, other.status)


def read(path: Path) -> list[tuple[str, list[Statement]]]:
    """The sections of a file."""
    sections: list[tuple[str, list[Statement]]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("== "):
            sections.append((line[3:], []))
        elif line.strip() and not line.startswith("#"):
            sections[-1][1].append(_statement(number, line))
    return sections


def _statement(number: int, line: str) -> Statement:
    known = ""
    if line.startswith("! "):
        _, known, line = line.split(" ", 2)
    text, _, data = line.partition(" <<< ")
    sql, *params = text.split(" ||| ")
    given = tuple(None if p == "NULL" else p for p in params)
    return Statement(number, sql.replace("\\n", "\n"), given, _unescape(data), known)


def _unescape(data: str) -> str:
    escapes = {"\\\\": "\\", "\\t": "\t", "\\n": "\n"}
    return re.sub(r"\\[\\tn]", lambda match: escapes[match[0]], data)


class Client:
    """A connection that keeps its notices."""

    def __init__(self, url: str) -> None:
        self.notices: list[tuple[str, str]] = []
        self.connection = pq.PGconn.connect(url.encode())
        assert self.connection.status == pq.ConnStatus.OK, self.connection.get_error_message()
        self.connection.notice_handler = self._notice

    def _notice(self, result: pq.abc.PGresult) -> None:
        fields = (pq.DiagnosticField.SEVERITY_NONLOCALIZED, pq.DiagnosticField.SQLSTATE)
        severity, code = (_text(result.error_field(field)) for field in fields)
        self.notices.append((severity, code))

    def reset(self) -> None:
        """No transaction, no settings, no tables."""
        for sql in (b"ROLLBACK", b"DISCARD ALL"):
            self.connection.exec_(sql)
        tables = self.connection.exec_(b"SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for i in range(tables.ntuples):
            # Others may refer to it, and come first or later: what a catalogue lists is in no order.
            dropped = self.connection.exec_(b'DROP TABLE "' + (tables.get_value(i, 0) or b"") + b'" CASCADE')
            assert dropped.status == pq.ExecStatus.COMMAND_OK, dropped.error_message

    def run(self, statement: Statement, mode: str) -> Outcome:
        """Send one statement; all it answers."""
        self.notices.clear()
        connection = self.connection
        if mode == "simple":
            connection.send_query(statement.sql.encode())
        else:
            values = [None if p is None else p.encode() for p in statement.params]
            form = pq.Format.BINARY if mode == "binary" else pq.Format.TEXT
            connection.send_query_params(statement.sql.encode(), values, result_format=form)
        answers: list[Answer] = []
        message = ""
        while (result := connection.get_result()) is not None:
            if result.status == pq.ExecStatus.COPY_IN:
                connection.put_copy_data(statement.data.encode())
                connection.put_copy_end()
            if result.status == pq.ExecStatus.FATAL_ERROR:
                message = _text(result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY))
            answers.append(self._copied() if result.status == pq.ExecStatus.COPY_OUT else _answer(result))
        status = pq.TransactionStatus(connection.transaction_status).name
        return Outcome(tuple(answers), tuple(self.notices), status, message)

    def _copied(self) -> Answer:
        rows: list[tuple[str | None, ...]] = []
        while True:
            size, data = self.connection.get_copy_data(0)
            if size <= 0:
                return Answer("COPY_OUT", rows=tuple(rows))
            rows.append((_text(bytes(data)),))


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _answer(result: pq.abc.PGresult) -> Answer:
    kind = pq.ExecStatus(result.status).name
    if result.status == pq.ExecStatus.FATAL_ERROR:
        fields = (pq.DiagnosticField.SQLSTATE, pq.DiagnosticField.STATEMENT_POSITION)
        code, position = (_text(result.error_field(field)) for field in fields)
        return Answer(kind, error=(code, position))
    columns = tuple(
        Column(_text(result.fname(i)), _type(result.ftype(i)), result.fmod(i), result.fsize(i))
        for i in range(result.nfields)
    )
    rows = tuple(tuple(_cell(result, row, i) for i in range(result.nfields)) for row in range(result.ntuples))
    return Answer(kind, _text(result.command_status), columns, rows)


def _type(oid: int) -> int:
    """A table's row type is of each database's own."""
    return oid if oid < FIRST_USER_OID else RECORD_OID


def _cell(result: pq.abc.PGresult, row: int, column: int) -> str | None:
    value = result.get_value(row, column)
    if value is None:
        return None
    return _text(value) if result.fformat(column) == pq.Format.TEXT else value.hex()


def run_section(client: Client, statements: list[Statement]) -> dict[tuple[int, str], Outcome]:
    """A section's outcomes, by line and mode."""
    outcomes: dict[tuple[int, str], Outcome] = {}
    for mode in MODES:
        client.reset()
        for statement in statements:
            if statement.fits(mode):
                outcomes[statement.line, mode] = client.run(statement, mode)
    return outcomes
