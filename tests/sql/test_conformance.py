"""The conformance scripts in `sql/`, against the SQL layer and, where it is installed, against PostgreSQL 15.

With TXNDB_REWRITE_GOLDEN=1 the scripts' expectations are rewritten from PostgreSQL's answers.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sql import slt
from tests.sql.harness import Database, outcome, run_async

SCRIPTS = sorted(slt.SCRIPTS.glob("*.slt"))
SHARED = [path for path in SCRIPTS if not path.stem.startswith("txndb_")]
"""Without the scripts of what PostgreSQL does not have."""


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_script(path: Path) -> None:
    async def run() -> list[str]:
        session = await Database().session()
        return [problem for r in slt.read(path) if (problem := slt.check(r, await outcome(session, r.sql)))]

    problems = run_async(run())
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", SHARED, ids=lambda p: p.stem)
def test_script_agrees_with_postgresql(path: Path, postgres_url: str) -> None:
    records = slt.read(path)
    with slt.oracle(postgres_url) as run:
        outcomes = [run(r.sql) for r in records]
    if os.environ.get("TXNDB_REWRITE_GOLDEN"):
        slt.write(path, records, outcomes)
        return
    problems = [p for r, o in zip(records, outcomes, strict=True) if (p := slt.check(r, o))]
    assert not problems, "\n".join(problems)
