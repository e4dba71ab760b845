"""The SQL parser: text to tokens (`tokens`), tokens to syntax trees (`parser`, `ast`), text to a plan-cache key
(`normalize`)."""

from __future__ import annotations

from txndb.sql.parse.normalize import Lifted, Normalized, normalize
from txndb.sql.parse.parser import parse, parse_one, parse_steps
from txndb.sql.parse.tokens import Token, is_complete, scan, split_statements, tokenize

__all__ = [
    "Lifted",
    "Normalized",
    "Token",
    "is_complete",
    "normalize",
    "parse",
    "parse_one",
    "parse_steps",
    "scan",
    "split_statements",
    "tokenize",
]
