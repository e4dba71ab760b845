"""The LALR(1) driver: tokens to a syntax tree by the tables Lark computes from `grammar.lark`.

Lark (`Lark(grammar, parser="lalr")`) checks the grammar and computes the tables, which takes seconds; they are kept
beside the grammar in `grammar.tables` (`python -m txndb.sql.parse.build` writes it) and are used only if their digest
is the grammar's, else they are computed anew. The driver is ours because a key word is one only where the grammar
can use it: PostgreSQL's 400 words need the parser's state to be told from identifiers.

Invariants
 1. A key word is shifted as such if the state has an action for it (and, where an identifier would do too, if what
    follows fits: `_NEEDS_NEXT`); else as IDENT or LABEL if its category allows that here.
 2. An action is called as `action(actions, pos, *children)`: `pos` the 1-based position of the rule's first token.
 3. The stacks are lists, so nesting costs no Python recursion.
 4. A rule whose action is `unsupported_…` ends the parse with its error as soon as its tokens are read.
 5. A constant that is a whole list element becomes an expression at once, without the ten reductions in between: long
    VALUES lists are what is parsed most.

Reference: DeRemer & Pennello, "Efficient Computation of LALR(1) Look-Ahead Sets", 1982 (what Lark implements).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Generator
from typing import Any, Final, Protocol

from txndb.errors import InternalError
from txndb.limits import STATEMENT_TURN_TOKENS
from txndb.sql.parse.keywords import KEYWORDS, RESERVED, TYPE_OR_FUNCTION
from txndb.sql.parse.tables import GRAMMAR, TABLES, Tables, decode, digest
from txndb.sql.parse.tokens import Token, result_of, syntax_error

_STRINGS: Final = frozenset(("STRING",))
_PAREN: Final = frozenset(("LPAR",))
_UNITS: Final = frozenset(("YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"))

_CONSTANTS: Final = frozenset(("INTEGER", "NUMERIC", "STRING", "PARAM", "NULL", "TRUE", "FALSE"))
_AFTER_CONSTANT: Final = frozenset(("COMMA", "RPAR"))
_NOTHING: Final[dict[str, Any]] = {}

_NEEDS_NEXT: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(
        ("EXISTS", "ROW", "VALUES", "EXTRACT", "SUBSTRING", "POSITION", "TRIM", "OVERLAY", "OPERATOR"), _PAREN
    ),
    **dict.fromkeys(("FILTER", "WITHIN", "ROLLUP", "CUBE"), _PAREN | {"GROUP"}),
    "GROUPING": frozenset(("SETS",)),
    "OVER": frozenset(("LPAR", "IDENT")),
    "INTERVAL": _STRINGS | _PAREN | _UNITS,
    "TIME": _STRINGS | _PAREN | {"WITH_LA", "WITHOUT_LA", "ZONE"},
    "TIMESTAMP": _STRINGS | _PAREN | {"WITH_LA", "WITHOUT_LA"},
    "DOUBLE": frozenset(("PRECISION",)),
    "CHARACTER": frozenset(("VARYING",)),
    "CHAR": frozenset(("VARYING",)),
    "BIT": frozenset(("VARYING",)),
    "AT": frozenset(("TIME",)),
    "IF": frozenset(("EXISTS", "NOT")),
    "ISOLATION": frozenset(("LEVEL",)),
}
"""Words that are key words only before one of these, where an identifier would fit as well."""

_JOINED: Final[dict[str, tuple[frozenset[str], str]]] = {
    "NOT": (frozenset(("BETWEEN", "IN", "LIKE", "ILIKE", "SIMILAR")), "NOT_LA"),
    "NULLS": (frozenset(("FIRST", "LAST")), "NULLS_LA"),
    "WITH": (frozenset(("TIME", "ORDINALITY")), "WITH_LA"),
    "WITHOUT": (frozenset(("TIME",)), "WITHOUT_LA"),
    "AS": (frozenset(("OF",)), "AS_LA"),
}
"""Words of two meanings, told apart by the next word (as PostgreSQL's base_yylex does); AS OF needs SYSTEM too."""


class Actions(Protocol):
    lookahead: Token


Action = Callable[..., Any]


class Parser:
    """A parser for one grammar and one class of actions; immutable, to be shared."""

    def __init__(self, tables: Tables, actions: type[Actions]) -> None:
        self._tables = tables
        self._rules = [
            (rule.origin, rule.size, getattr(actions, rule.action) if rule.action else None, rule.keep)
            for rule in tables.rules
        ]
        self._shortcuts = self._find_shortcuts()

    def _find_shortcuts(self) -> dict[int, dict[str, tuple[Action, bool, int]]]:
        """Where an expression may start: by constant's kind, its action, whether that takes the token, and the state
        after the expression. Found in the tables: the constant can only be reduced to itself there (invariant 5)."""
        found: dict[int, dict[str, tuple[Action, bool, int]]] = {}
        for state, goto in enumerate(self._tables.gotos):
            if "expr" not in goto:
                continue
            for kind in _CONSTANTS:
                shift = self._tables.actions[state].get(kind, -1)
                reductions = set(self._tables.actions[shift].values()) if shift >= 0 else set()
                if len(reductions) == 1 and (act := reductions.pop()) < 0:
                    _origin, _size, action, keep = self._rules[~act]
                    if action is not None:
                        found.setdefault(state, {})[kind] = (action, keep is None, goto["expr"])
        return found

    def parse(self, sql: str, tokens: list[Token], actions: Actions) -> Any:
        """The value of the start rule for one statement's tokens (the last is EOF or SEMICOLON)."""
        return result_of(self.parse_steps(sql, tokens, actions))

    def parse_steps(self, sql: str, tokens: list[Token], actions: Actions) -> Generator[None, None, Any]:
        """`parse` in turns of STATEMENT_TURN_TOKENS."""
        tables, rules = self._tables, self._rules
        action_rows, goto_rows = tables.actions, tables.gotos
        states, starts = [tables.start], [0]
        values: list[Any] = [None]
        tokens = joined(tokens)
        for at, token in enumerate(tokens):
            if at and not at % STATEMENT_TURN_TOKENS:
                yield
            kind = token[0]
            if kind == "SEMICOLON":
                kind = "EOF"
            word = kind in KEYWORDS
            actions.lookahead = token
            if kind in _CONSTANTS and tokens[at + 1][0] in _AFTER_CONSTANT:
                shortcut = self._shortcuts.get(states[-1], _NOTHING).get(kind)
                if shortcut is not None:
                    action, takes_token, state = shortcut
                    start = token[2] + 1
                    values.append(action(actions, start, token) if takes_token else action(actions, start))
                    starts.append(start)
                    states.append(state)
                    continue
            while True:
                state = states[-1]
                row = action_rows[state]
                if word:
                    kind = _kind(tokens, at, row)
                act = row.get(kind)
                if act is None:
                    if kind == "EOF" and state == tables.end:
                        return values[-1]
                    self._refuse(row, starts, actions, token)
                    if kind in TYPE_OR_FUNCTION and "INTEGER" in row:
                        # PostgreSQL took it for a function's name, which needs a parenthesis
                        token = tokens[at + 1]
                    raise syntax_error(sql, token)
                if act >= 0:
                    states.append(act)
                    values.append(token)
                    starts.append(token[2] + 1)
                    break
                origin, size, action, keep = rules[~act]
                if size == 1 and action is None:
                    states[-1] = goto_rows[states[-2]][origin]
                    continue
                if size:
                    children = values[-size:]
                    start = starts[-size]
                    del states[-size:], values[-size:], starts[-size:]
                else:
                    children = []
                    start = token[2] + 1
                if keep is not None:
                    children = [children[i] if i >= 0 else None for i in keep]
                values.append(children[0] if action is None else action(actions, start, *children))
                starts.append(start)
                states.append(goto_rows[states[-1]][origin])
        raise InternalError("the token list had no end")

    def _refuse(self, row: dict[str, int], starts: list[int], actions: Actions, token: Token) -> None:
        """If a refusal (`unsupported_…`) is complete here, raise it whatever follows: invariant 4."""
        for act in row.values():
            if act < 0 and self._tables.rules[~act].action.startswith("unsupported_"):
                _origin, size, action, _keep = self._rules[~act]
                assert action is not None
                action(actions, starts[-size] if size else token.start + 1)


def joined(tokens: list[Token]) -> list[Token]:
    """Tokens with the two-word look-aheads of `_JOINED` resolved."""
    for at, token in enumerate(tokens):
        rule = _JOINED.get(token[0])
        if rule is None or tokens[at + 1][0] not in rule[0]:
            continue
        if rule[1] == "AS_LA" and tokens[at + 2][0] != "SYSTEM":
            continue
        tokens[at] = Token(rule[1], token.value, token.start, token.end)
    return tokens


def _kind(tokens: list[Token], at: int, row: dict[str, int]) -> str:
    """Invariant 1: the terminal a key word stands for in a state whose actions are `row`."""
    kind = tokens[at][0]
    identifier = "IDENT" in row
    if kind in row:
        needs = _NEEDS_NEXT.get(kind)
        if identifier and needs is not None and tokens[at + 1][0] not in needs:
            return "IDENT"
        return kind
    if kind in RESERVED or kind in TYPE_OR_FUNCTION:
        if "LABEL" in row:
            return "LABEL"
        if kind in RESERVED or tokens[at + 1][0] not in ("LPAR", "STRING"):
            return kind
    return "IDENT" if identifier else kind


def load() -> Tables:
    """The tables of the grammar: the kept ones if they are of this very grammar, else computed."""
    grammar = GRAMMAR.read_text(encoding="utf-8")
    try:
        kept = json.loads(zlib.decompress(TABLES.read_bytes()))
    except FileNotFoundError:
        kept = {}
    if kept.get("digest") == digest(grammar):
        return decode(kept)
    from txndb.sql.parse import build  # a node that has the tables does not import Lark

    return build.compute(grammar)
