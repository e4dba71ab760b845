"""`parse`: a string of statements to syntax trees.

What is PostgreSQL's but not ours is refused by its first words before the grammar sees it, so that the error names
the construct (`CREATE VIEW is not supported yet`), and inside a statement by the grammar's `unsupported_*` rules.

Invariants
 1. Nothing but SqlError and FeatureNotSupportedError leaves `parse`, whatever the text.
 2. All statements of a string are parsed before any is returned (a syntax error in the last runs none).
"""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from typing import Final

import msgspec

from txndb import limits
from txndb.errors import FeatureNotSupportedError, SqlError, sql_error
from txndb.sql.parse import ast, lalr
from txndb.sql.parse.actions import Actions
from txndb.sql.parse.keywords import words
from txndb.sql.parse.precedence import too_deep
from txndb.sql.parse.tokens import Token, result_of, syntax_error, token_steps

_UNSUPPORTED_FIRST: Final = words(
    """call checkpoint cluster comment do grant import listen load lock merge notify reassign refresh reindex revoke
    security unlisten"""
)
_SUPPORTED_OBJECTS: Final = {
    "create": words("table index unique unlogged temp temporary local global database"),
    "drop": words("table index database sequence schema"),
    "alter": words("table index"),
}
_TWO_WORDS: Final = words(
    """access event foreign materialized operator text user default large procedural trusted"""
)
_OBJECTS: Final = words(
    """access aggregate cast collation constraint conversion default domain event extension foreign function group
    language large materialized operator owned policy procedural procedure publication recursive role routine rule
    schema sequence server statistics subscription system tablespace text transform trigger trusted type user view"""
)
_CREATE_PREFIXES: Final = words("or replace temp temporary local global")


@cache
def _parser() -> lalr.Parser:
    """The one parser, made at its first use: about 20 ms."""
    return lalr.Parser(lalr.load(), Actions)


def parse(sql: str) -> list[ast.Statement]:
    """The statements of `sql`, in order, empty ones left out. Each has its span in `pos` and `end`."""
    return result_of(parse_steps(sql))


def parse_steps(sql: str) -> Generator[None, None, list[ast.Statement]]:
    """`parse` in turns, between which a long text lets others run."""
    if len(sql) > limits.STATEMENT_BYTES_MAX:
        raise sql_error("54000", f"statement is longer than {limits.STATEMENT_BYTES_MAX} bytes")
    tokens = yield from token_steps(sql)
    statements: list[ast.Statement] = []
    first = 0
    for at, token in enumerate(tokens):
        if token.kind in ("SEMICOLON", "EOF"):
            if at > first:
                statements.append((yield from _statement(sql, tokens[first : at + 1])))
            first = at + 1
    return statements


def parse_one(sql: str) -> ast.Statement:
    """The only statement of `sql`. Two are PostgreSQL's error of the extended protocol; none is an empty query."""
    statements = parse(sql)
    if len(statements) != 1:
        if statements:
            raise sql_error("42601", "cannot insert multiple commands into a prepared statement")
        raise sql_error("42601", "syntax error at end of input", position=len(sql) + 1)
    return statements[0]


def _statement(sql: str, tokens: list[Token]) -> Generator[None, None, ast.Statement]:
    _refuse(tokens)
    try:
        tree = yield from _parser().parse_steps(sql, tokens, Actions(sql))
    except SqlError as error:
        _refuse_clause(tokens, error)
        raise
    assert isinstance(tree, ast.Statement), "the start rule is a statement"
    if len(tokens) > limits.STATEMENT_DEPTH_MAX:
        yield
        check_depth(tree)
    # the parentheses around a query are the statement's too
    msgspec.structs.force_setattr(tree, "pos", tokens[0].start + 1)
    msgspec.structs.force_setattr(tree, "end", tokens[-2].end)
    return tree


def check_depth(tree: ast.Node) -> None:
    """Refuse a tree deeper than the bound with 54001, without recursion."""
    stack: list[tuple[object, int]] = [(tree, 1)]
    while stack:
        node, depth = stack.pop()
        if isinstance(node, tuple):
            stack.extend((item, depth) for item in node)
        elif isinstance(node, ast.Node) and type(node) is not ast.Literal:
            if depth > limits.STATEMENT_DEPTH_MAX:
                raise too_deep(node.pos)
            for field in node.__struct_fields__:
                child = getattr(node, field)
                if isinstance(child, ast.Node | tuple):
                    stack.append((child, depth + 1))


def _refuse(tokens: list[Token]) -> None:
    """Raise 0A000 for a statement of PostgreSQL's that txndb does not have, known by its first words."""
    first = tokens[0]
    word = first.value
    if first.kind not in ("IDENT", "GRANT", "DO", "CREATE", "DROP", "ALTER"):
        return
    if word in _UNSUPPORTED_FIRST:
        raise FeatureNotSupportedError(f"{word.upper()} is not supported yet", position=first.start + 1)
    supported = _SUPPORTED_OBJECTS.get(word)
    if supported is None:
        return
    at = 1
    while word == "create" and tokens[at].value in _CREATE_PREFIXES:
        at += 1
    kind = tokens[at]
    if kind.value in supported or kind.value not in _OBJECTS:
        return
    name = kind.value
    if kind.value in _TWO_WORDS and tokens[at + 1].kind != "EOF":
        following = tokens[at + 1].value
        if kind.value != "user" or following == "mapping":
            name += f" {following}"
    raise FeatureNotSupportedError(
        f"{word.upper()} {name.upper()} is not supported yet", position=first.start + 1
    )


_UNSUPPORTED_ACTIONS: Final = frozenset(
    (
        *("owner", "set", "reset", "disable", "enable", "validate", "cluster", "inherit", "no"),
        *("attach", "detach", "replica", "force", "of", "not"),
    )
)
"""What may follow the table of an ALTER TABLE in PostgreSQL and not here."""


def _beside_split(tokens: list[Token], at: Token) -> bool:
    """Whether `at` is where another action of an ALTER TABLE begins beside SPLIT AT, or SPLIT AT beside another."""
    before = tokens[max(tokens.index(at) - 1, 0)]
    return before.kind == "COMMA" and any(t.value.lower() == "split" for t in tokens)


def _refuse_clause(tokens: list[Token], error: SqlError) -> None:
    """Raise 0A000 instead of a syntax error at a clause of PostgreSQL's that txndb does not have."""
    first = tokens[0].value
    at = next((t for t in tokens if t.start + 1 == error.position), tokens[-1])
    second = tokens[1].value if len(tokens) > 1 else ""
    what = ""
    if first == "alter" and second == "table" and at.value in _UNSUPPORTED_ACTIONS:
        what = f"ALTER TABLE … {at.value.upper()}"
    elif first == "alter" and second == "database" and at is tokens[1]:
        what = "ALTER DATABASE"
    elif first == "select" and at.value == "into":
        what = "SELECT INTO"
    elif first in ("prepare", "commit", "rollback") and second in ("transaction", "prepared"):
        what = "two-phase commit by the client"
    elif first == "copy" and any(t.value == "binary" for t in tokens):
        what = "COPY in binary format"
    elif first == "copy" and any(t.value == "program" for t in tokens):
        what = "COPY with a file or a program on the server"
    elif first == "set" and second in ("role", "session") and at.value != "characteristics":
        what = "SET ROLE" if second == "role" else "SET SESSION AUTHORIZATION"
    elif first == "alter" and at.start and _beside_split(tokens, at):
        what = "SPLIT AT with other actions"
    elif first == "update" and at.value == "of":
        what = "WHERE CURRENT OF"
    if what:
        raise FeatureNotSupportedError(f"{what} is not supported yet", position=at.start + 1) from None


__all__ = ["check_depth", "parse", "parse_one", "parse_steps", "syntax_error"]
