"""Golden plans: `tests/golden/plan/*.txt` hold statements and what EXPLAIN prints of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.goldenlib import golden_paths, run_golden_text
from tests.sql.harness import Database, error_of, outcome, run_async
from txndb.sql.session.session import Session

SCHEMA = """
CREATE TABLE emp (id int PRIMARY KEY, dept int, name text NOT NULL, salary numeric(10,2), hired date, UNIQUE (name));
CREATE INDEX emp_dept ON emp (dept, salary DESC);
CREATE TABLE dept (id int PRIMARY KEY, title text, boss int);
CREATE TABLE pair (a int, b int, c text, PRIMARY KEY (a, b));
"""


async def _explain(session: Session, text: str) -> str:
    if text.startswith("!"):
        error = await error_of(session, text[1:])
        return f"{error.code} {error.message}"
    found = await outcome(session, f"EXPLAIN {text}")
    assert not found.error, f"{text}: {found.error} {found.message}"
    return "\n".join(row[0] or "" for row in found.rows or [])


@pytest.mark.parametrize("path", golden_paths("plan"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    async def run(text: str) -> str:
        session = await Database().session()
        assert not (await outcome(session, SCHEMA)).error
        return await _explain(session, text)

    run_golden_text(path, lambda text: run_async(run(text)))
