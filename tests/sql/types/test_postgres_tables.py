"""Every line of tests/sql/types/tables/*.txt has PostgreSQL 15's answer (see `cases` for the language)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sql.types.cases import Case, evaluate, parse_case

TABLES = Path(__file__).parent / "tables"
REWRITE = os.environ.get("TXNDB_REWRITE_GOLDEN") == "1"


def _zone_of(text: str) -> str:
    """A table's first line may name the session's zone: `# zone Europe/Berlin`."""
    first = text.split("\n", 1)[0]
    return first.removeprefix("# zone ") if first.startswith("# zone ") else "UTC"


def _postgres_answers(url: str, cases: list[Case], zone: str) -> list[str]:
    import psycopg

    answers = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select set_config('TimeZone', %s, false)", [zone])
        for case in cases:
            answers.append(_postgres_answer(connection, case))
    return answers


def _postgres_answer(connection: object, case: Case) -> str:
    import psycopg
    from psycopg import pq

    assert isinstance(connection, psycopg.Connection)
    result = connection.pgconn.exec_(case.sql.encode())
    if result.status != pq.ExecStatus.TUPLES_OK:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        return f"error {state}: {(result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b'').decode()}"
    name = connection.execute("select format_type(%s, null)", [result.ftype(0)]).fetchone()
    value = result.get_value(0, 0)
    assert name is not None
    return f"{name[0]}: {'NULL' if value is None else value.decode()}"


@pytest.mark.parametrize("table", sorted(path.name for path in TABLES.glob("*.txt")))
def test_table(table: str, request: pytest.FixtureRequest) -> None:
    text = (TABLES / table).read_text()
    zone = _zone_of(text)
    lines = text.splitlines()
    where = [n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    cases = [parse_case(lines[n].partition(" -> ")[0]) for n in where]
    if REWRITE:
        url = request.getfixturevalue("postgres_url")
        for n, answer in zip(where, _postgres_answers(url, cases, zone), strict=True):
            lines[n] = lines[n].partition(" -> ")[0] + " -> " + answer.replace("\n", "\\n")
        (TABLES / table).write_text("\n".join(lines) + "\n")
    wrong = []
    for n, case in zip(where, cases, strict=True):
        expected = lines[n].partition(" -> ")[2]
        got = evaluate(case, zone).replace("\n", "\\n")
        if got != expected:
            wrong.append(f"{table}:{n + 1}: {lines[n].partition(' -> ')[0]}\n  want {expected}\n  got  {got}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(cases)} differ", *wrong])


@pytest.mark.parametrize("table", sorted(path.name for path in TABLES.glob("*.txt")))
def test_tables_are_postgres(table: str, postgres_url: str) -> None:
    text = (TABLES / table).read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    cases = [parse_case(line.partition(" -> ")[0]) for line in lines]
    answers = _postgres_answers(postgres_url, cases, _zone_of(text))
    for line, answer in zip(lines, answers, strict=True):
        assert line.partition(" -> ")[2] == answer.replace("\n", "\\n"), line
