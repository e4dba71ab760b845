"""Every statement of `postgres/*.txt` gives what PostgreSQL 15 gives: rows, names and types of columns, command tags,
SQLSTATEs, error positions, notices and the transaction's state, by both protocols.

What is known to differ is marked in the files, and must differ: a mark that is not needed any more is a failure too.
A statement that is marked as refused must be refused with 0A000 and a position.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.sql import wire
from txndb.server.localcluster import LocalCluster

FILES = sorted((Path(__file__).parent / "postgres").glob("*.txt"))
SECTIONS = [(path, name) for path in FILES for name, _ in wire.read(path)]


@pytest.fixture(scope="module")
def reference(postgres_url: str) -> Iterator[wire.Client]:
    """A database of PostgreSQL's, called as ours is."""
    with psycopg.connect(postgres_url, autocommit=True) as first:
        first.execute("CREATE DATABASE defaultdb")
        client = wire.Client(postgres_url.rpartition("/")[0] + "/defaultdb")
        yield client
        client.connection.finish()
        first.execute("DROP DATABASE defaultdb")


@pytest.fixture(scope="module")
def ours(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[wire.Client]:
    with LocalCluster(tmp_path_factory.mktemp("against"), 1) as cluster:
        client = wire.Client(cluster.nodes[0].url)
        yield client
        client.connection.finish()


def _shown(outcome: wire.Outcome) -> str:
    return f"{outcome.answers} {outcome.notices} {outcome.status} {outcome.message}"[:1000]


def _refused(outcomes: list[wire.Outcome]) -> bool:
    errors = [answer.error for outcome in outcomes for answer in outcome.answers if answer.error[0]]
    return ("0A000", "") not in errors and any(code == "0A000" for code, _ in errors)


@pytest.mark.process
@pytest.mark.parametrize(("path", "name"), SECTIONS, ids=[f"{path.stem}-{name}" for path, name in SECTIONS])
def test_section(path: Path, name: str, reference: wire.Client, ours: wire.Client) -> None:
    statements = dict(wire.read(path))[name]
    expected, actual = wire.run_section(reference, statements), wire.run_section(ours, statements)
    problems: list[str] = []
    for statement in statements:
        modes = [mode for mode in wire.MODES if (statement.line, mode) in expected]
        different = [m for m in modes if not expected[statement.line, m].same(actual[statement.line, m])]
        where = f"{path.name}:{statement.line} {statement.sql}"
        if statement.known and not different:
            problems.append(f"{where}\n  does not differ any more")
        if statement.known == "refused" and not _refused([actual[statement.line, m] for m in modes]):
            problems.append(f"{where}\n  is not refused with 0A000 and a position")
        if not statement.known:
            problems += [
                f"{where}\n  {m}\n  PostgreSQL {_shown(expected[statement.line, m])}"
                f"\n  txndb      {_shown(actual[statement.line, m])}"
                for m in different
            ]
    assert not problems, "\n".join(problems)
