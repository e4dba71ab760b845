"""Golden syntax trees: each block of `tests/golden/parse/<topic>.txt` is a string of statements, its output the trees.

A node prints as its class and its fields that are not at their default; `@n` is its position (statements: from
1 to the end offset). Errors print with SQLSTATE and position.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tests.goldenlib import golden_paths, run_golden_text
from txndb.errors import TxndbError
from txndb.sql.parse import ast, parse


def show(value: object, indent: str = "") -> str:
    """A stable, compact print of a tree: what fits on a line is on one line."""
    if isinstance(value, tuple):
        parts = [show(item, indent + "  ") for item in value]
        flat = f"[{', '.join(parts)}]"
        return (
            flat if _fits(flat, indent) else "[\n" + "".join(f"{indent}  {p}\n" for p in parts) + f"{indent}]"
        )
    if isinstance(value, Decimal):
        return f"{value}n"
    if not isinstance(value, ast.Node):
        return repr(value)
    fields = [
        f.name
        for f in msgspec.structs.fields(value)
        if f.name not in ("pos", "end") and getattr(value, f.name) not in (f.default, ())
    ]
    where = (
        f"@{value.pos}"
        if not isinstance(value, ast.Statement) or not value.end
        else f"@{value.pos}-{value.end}"
    )
    head = f"{type(value).__name__}{where}"
    parts = [f"{f}={show(getattr(value, f), indent + '  ')}" for f in fields]
    flat = f"{head}({', '.join(parts)})"
    return (
        flat
        if _fits(flat, indent)
        else f"{head}(\n" + "".join(f"{indent}  {p}\n" for p in parts) + f"{indent})"
    )


def _fits(flat: str, indent: str) -> bool:
    return "\n" not in flat and len(flat) + len(indent) <= 100


def outcome(sql: str) -> str:
    try:
        return "\n".join(show(statement) for statement in parse(sql)) or "nothing"
    except TxndbError as error:
        return f"error {error.code} at {error.position}: {error.message}"


@pytest.mark.parametrize("path", golden_paths("parse"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    run_golden_text(path, outcome)
