"""The conformance scripts in `sql/`, against the SQL layer and, where one is given, against a real PostgreSQL.

TXNDB_ORACLE_URL names a PostgreSQL 15 whose database may be wiped; with TXNDB_REWRITE_GOLDEN=1 as well, the scripts'
expectations are rewritten from its answers.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sql import slt
from tests.sql.harness import Database, outcome, run_async

SCRIPTS = sorted(slt.SCRIPTS.glob("*.slt"))
ORACLE_URL = os.environ.get("TXNDB_ORACLE_URL", "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_script(path: Path) -> None:
    async def run() -> list[str]:
        session = await Database().session()
        return [problem for r in slt.read(path) if (problem := slt.check(r, await outcome(session, r.sql)))]

    problems = run_async(run())
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_script_agrees_with_postgresql(path: Path) -> None:
    if not ORACLE_URL:
        pytest.skip("TXNDB_ORACLE_URL does not name a PostgreSQL")
    if path.stem.startswith("txndb_"):
        pytest.skip("a script of what PostgreSQL does not have")
    records = slt.read(path)
    with slt.oracle(ORACLE_URL) as run:
        outcomes = [run(r.sql) for r in records]
    if os.environ.get("TXNDB_REWRITE_GOLDEN"):
        slt.write(path, records, outcomes)
        return
    problems = [p for r, o in zip(records, outcomes, strict=True) if (p := slt.check(r, o))]
    assert not problems, "\n".join(problems)
