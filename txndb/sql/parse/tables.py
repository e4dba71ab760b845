"""The LALR(1) tables of the grammar as values, and as the file `grammar.tables` beside it.

What the driver (`lalr`) runs on and the builder (`build`) computes; neither needs the other. The file carries the
digest of the grammar it was made from, so that stale tables are seen.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from pathlib import Path
from typing import Any, Final, NamedTuple

GRAMMAR: Final = Path(__file__).with_name("grammar.lark")
TABLES: Final = Path(__file__).with_name("grammar.tables")


class Rule(NamedTuple):
    origin: str
    size: int
    action: str
    """"" passes the single kept child through."""
    keep: tuple[int, ...] | None
    """Indices of the children to pass, -1 for an absent optional; None: all of them."""


class Tables(NamedTuple):
    start: int
    end: int
    """The state in which EOF accepts."""
    rules: tuple[Rule, ...]
    actions: tuple[dict[str, int], ...]
    """By state: terminal -> state to shift to, or ~rule to reduce."""
    gotos: tuple[dict[str, int], ...]


def digest(grammar: str) -> str:
    return hashlib.sha256(grammar.encode()).hexdigest()


def decode(kept: dict[str, Any]) -> Tables:
    """The tables of what `encode` wrote, decompressed and parsed."""
    rows = [{sys.intern(k): v for k, v in row.items()} for row in kept["rows"]]
    rules = tuple(Rule(sys.intern(o), n, a, None if k is None else tuple(k)) for o, n, a, k in kept["rules"])
    actions = tuple(rows[i] for i in kept["actions"])
    gotos = tuple(rows[i] for i in kept["gotos"])
    return Tables(kept["start"], kept["end"], rules, actions, gotos)


def encode(grammar: str, tables: Tables) -> bytes:
    """The content of `grammar.tables`; equal rows, of which there are many, are kept once."""
    rows: dict[str, int] = {}

    def row_id(row: dict[str, int]) -> int:
        return rows.setdefault(json.dumps(row, sort_keys=True), len(rows))

    kept = {
        "digest": digest(grammar),
        "start": tables.start,
        "end": tables.end,
        "rules": tables.rules,
        "actions": [row_id(row) for row in tables.actions],
        "gotos": [row_id(row) for row in tables.gotos],
    }
    kept["rows"] = [json.loads(row) for row in rows]
    return zlib.compress(json.dumps(kept, separators=(",", ":")).encode(), 9)
