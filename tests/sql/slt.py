"""Conformance scripts: sqllogictest's format, read and run.

A script is records parted by blank lines; `#` starts a comment line.

    statement ok                    the SQL must succeed
    statement error 23505           it must fail with this SQLSTATE
    query [rowsort]                 its rows, after `----`, one a line, columns parted by a tab

NULL is written NULL, an empty string `(empty)`, a newline in a value `\\n`. `rowsort` sorts the rows before comparing.
Expected rows come from a real PostgreSQL 15: `oracle_rows` runs a script against one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

SCRIPTS = Path(__file__).resolve().parents[2] / "sql"


class Record(msgspec.Struct):
    """One record of a script."""

    line: int
    kind: str
    argument: str
    sql: str
    expected: list[str]


class Outcome(msgspec.Struct):
    """What a statement did: rows as text cells, or a SQLSTATE."""

    rows: list[list[str | None]] | None = None
    error: str = ""
    message: str = ""


Run = Callable[[str], Outcome]


def read(path: Path) -> list[Record]:
    """The records of a script."""
    records: list[Record] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].strip() or lines[at].startswith("#"):
            at += 1
            continue
        kind, _, argument = lines[at].partition(" ")
        if kind not in ("statement", "query"):
            raise ValueError(f"{path.name}:{at + 1}: unknown record {kind!r}")
        record = Record(at + 1, kind, argument.strip(), "", [])
        at += 1
        sql: list[str] = []
        while at < len(lines) and lines[at].strip() and lines[at] != "----":
            sql.append(lines[at])
            at += 1
        record.sql = "\n".join(sql)
        if at < len(lines) and lines[at] == "----":
            at += 1
            while at < len(lines) and lines[at].strip():
                record.expected.append(lines[at])
                at += 1
        records.append(record)
    return records


def cell(value: str | None) -> str:
    """A value as scripts write it."""
    if value is None:
        return "NULL"
    return value.replace("\n", "\\n") if value else "(empty)"


def actual(record: Record, outcome: Outcome) -> list[str]:
    """The rows as scripts write them."""
    rows = ["\t".join(cell(v) for v in row) for row in outcome.rows or []]
    return sorted(rows) if record.argument == "rowsort" else rows


def check(record: Record, outcome: Outcome) -> str:
    """ "" if the outcome is what the record says, else what differs."""
    if record.kind == "statement":
        wanted = record.argument.removeprefix("error").strip() if record.argument != "ok" else ""
        if outcome.error != wanted:
            got = f"{outcome.error} {outcome.message}" if outcome.error else "success"
            return f"line {record.line}: expected {wanted or 'success'}, got {got}\n    {record.sql}"
        return ""
    if outcome.error:
        return f"line {record.line}: {outcome.error} {outcome.message}\n    {record.sql}"
    rows = actual(record, outcome)
    if rows != record.expected:
        return f"line {record.line}:\n    {record.sql}\n  expected {record.expected}\n  got      {rows}"
    return ""


def write(path: Path, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
    """Rewrite a script's expectations from outcomes, keeping comments and order."""
    by_line = {r.line: (r, o) for r, o in zip(records, outcomes, strict=True)}
    lines = path.read_text(encoding="utf-8").splitlines()
    out: list[str] = []
    at = 0
    while at < len(lines):
        found = by_line.get(at + 1)
        if found is None:
            out.append(lines[at])
            at += 1
            continue
        record, outcome = found
        kind = record.kind
        if kind == "statement" or outcome.error:
            out.append(f"statement error {outcome.error}" if outcome.error else "statement ok")
            out += record.sql.splitlines()
        else:
            out.append(lines[at])
            out += [*record.sql.splitlines(), "----", *actual(record, outcome)]
        at += 1
        while at < len(lines) and lines[at].strip():
            at += 1
    path.write_text("\n".join(out) + "\n", encoding="utf-8")


@contextmanager
def oracle(url: str) -> Iterator[Run]:
    """A runner over a real PostgreSQL, whose schema public is emptied first."""
    import psycopg

    connection = psycopg.connect(url, autocommit=True)
    connection.execute("DROP SCHEMA IF EXISTS public CASCADE")
    connection.execute("CREATE SCHEMA public")
    connection.execute("SET timezone = 'UTC'")

    def run(sql: str) -> Outcome:
        result: Any = connection.pgconn.exec_(sql.encode())
        if result.status in (psycopg.pq.ExecStatus.FATAL_ERROR, psycopg.pq.ExecStatus.NONFATAL_ERROR):
            code = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)
            return Outcome(error=(code or b"").decode(), message=result.error_message.decode())
        rows: list[list[str | None]] = []
        for i in range(result.ntuples):
            values = [result.get_value(i, j) for j in range(result.nfields)]
            rows.append([None if v is None else bytes(v).decode() for v in values])
        return Outcome(rows)

    try:
        yield run
    finally:
        connection.close()
