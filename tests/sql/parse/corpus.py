"""The statements real clients send, recorded beside the checkout; tests that need them skip when they are absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

_DATA = Path(__file__).parents[4] / "shared" / "data"


def catalog_queries() -> list[str]:
    """psql's queries behind its backslash commands."""
    path = _DATA / "psql-catalog-queries" / "queries.json"
    if not path.exists():
        pytest.skip("the recorded psql queries are not here")
    return [sql for queries in json.loads(path.read_text()).values() for sql in queries]


def captured_statements() -> list[str]:
    """Every text of a Query or Parse message of the recorded clients."""
    paths = sorted((_DATA / "client-captures").glob("*.jsonl"))
    if not paths:
        pytest.skip("the recorded client sessions are not here")
    statements: dict[str, None] = {}
    for path in paths:
        for line in path.read_text().splitlines():
            message = json.loads(line)
            if message["d"] == "F" and message["t"] in ("Query", "Parse"):
                value = message["v"]
                statements[value if isinstance(value, str) else value[1]] = None
    return list(statements)
