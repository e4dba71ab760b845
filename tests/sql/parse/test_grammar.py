"""The kept tables are the grammar's, and the grammar relies on no accident."""

from __future__ import annotations

import json
import logging
import zlib

import pytest
from lark import logger

from txndb.sql.parse import build, lalr
from txndb.sql.parse import tables as kept_tables
from txndb.sql.parse.actions import Actions
from txndb.sql.parse.keywords import KEYWORDS
from txndb.sql.parse.tokens import tokenize

_SHIFTS_RELIED_ON = [
    # a column's DEFAULT takes the COLLATE after it
    ("COLLATE", "<expr : chain>"),
    # DISTINCT ON, not an empty target list before a join's ON
    ("ON", "<distinct : DISTINCT>"),
    # ((SELECT 1)): the inner parentheses are the query's
    ("RPAR", "<primary : query_parens>"),
]


def test_kept_tables_are_of_this_grammar() -> None:
    kept = json.loads(zlib.decompress(kept_tables.TABLES.read_bytes()))
    assert kept["digest"] == kept_tables.digest(kept_tables.GRAMMAR.read_text(encoding="utf-8")), (
        "run python -m txndb.sql.parse.build"
    )


def test_shift_reduce_conflicts_are_the_known_ones(caplog: pytest.LogCaptureFixture) -> None:
    level = logger.level
    try:
        with caplog.at_level(logging.DEBUG, logger=logger.name):
            logger.addHandler(caplog.handler)
            tables = build.compute(kept_tables.GRAMMAR.read_text(encoding="utf-8"))
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(level)
    texts = list(dict.fromkeys(r.getMessage() for r in caplog.records))
    terminals = [t.split()[4].rstrip(":") for t in texts if t.startswith("Shift/Reduce")]
    rules = [t.removeprefix(" * ") for t in texts if t.startswith(" * ")]
    assert sorted(zip(terminals, rules, strict=True)) == sorted(_SHIFTS_RELIED_ON)
    kept = lalr.load()
    assert len(tables.actions) == len(kept.actions)
    assert set(tables.rules) == set(kept.rules)


def test_every_rule_has_its_action_and_every_word_its_category() -> None:
    tables = lalr.load()
    assert [r.action for r in tables.rules if r.action and not hasattr(Actions, r.action)] == []
    punctuation = {
        "CMP",
        "OP",
        "EQ",
        "EOF",
        "IDENT",
        "LABEL",
        "STRING",
        "BITSTRING",
        "INTEGER",
        "NUMERIC",
        "PARAM",
    }
    punctuation |= {"PLUS", "MINUS", "STAR", "SLASH", "PERCENT", "CARET", "TYPECAST", "ARROW", "ASSIGN"}
    punctuation |= {"LPAR", "RPAR", "LSQB", "RSQB", "COMMA", "DOT", "COLON"}
    terminals = {terminal for row in tables.actions for terminal in row}
    assert {t for t in terminals if not t.endswith("_LA")} - punctuation - KEYWORDS == set()


def test_the_shortcut_for_constants_changes_no_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    sql = (
        "INSERT INTO t VALUES (1, 'a', 2.5, NULL, $1, TRUE), (-1, 'b' || 'c', 1 + 2, (3), DEFAULT, FALSE);"
        "SELECT f(1, 'x'), a IN (1, 2), (1, 2), varchar '3', a::numeric(10, 2), extract('year' FROM b), a[1],"
        "substring('abc' FROM 1 FOR 2), trim('a', 'b'), (SELECT 1 LIMIT 5), (SELECT 2), current_time(3), row(1, NULL)"
    )
    short = lalr.Parser(lalr.load(), Actions)
    full = lalr.Parser(lalr.load(), Actions)
    monkeypatch.setattr(full, "_shortcuts", {})
    for text in sql.split(";"):
        trees = [repr(p.parse(text, tokenize(text), Actions(text))) for p in (short, full)]
        assert trees[0] == trees[1]
