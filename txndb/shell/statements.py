"""Cutting what a user types into statements: only as much of SQL's lexical structure as that needs.

A semicolon ends a statement, outside quotes, dollar quotes and comments. An unfinished quote or comment means that the
statement goes on.
"""

from __future__ import annotations

import re
from typing import Final

_PIECE: Final = re.compile(
    r"""
    (?P<skip> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]*
        | \$(?P<tag>[A-Za-z_][A-Za-z_0-9]*|)\$ .*? \$(?P=tag)\$ | \w+ )
    | (?P<comment> /\* )
    | (?P<open> ' | " | \$(?:[A-Za-z_][A-Za-z_0-9]*|)\$ )
    | (?P<end> ; )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT: Final = re.compile(r"/\*|\*/")
_COPY_IN: Final = re.compile(r"\s*copy\b.*\bfrom\s+stdin\b", re.IGNORECASE | re.DOTALL)
_COPY_OUT: Final = re.compile(r"\s*copy\b.*\bto\s+stdout\b", re.IGNORECASE | re.DOTALL)
_BLANK: Final = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)


def cut(text: str) -> tuple[list[str], str]:
    """The finished statements (without their semicolons) and the rest."""
    statements = []
    start = at = 0
    while (piece := _PIECE.search(text, at)) is not None:
        at = piece.end()
        if piece["comment"]:
            closed = _comment_end(text, at)
            if closed is None:
                break
            at = closed
        elif piece["open"]:
            break
        elif piece["end"]:
            statement = text[start : piece.start()]
            if not is_blank(statement):
                statements.append(statement.strip())
            start = at
    return statements, text[start:]


def _comment_end(text: str, at: int) -> int | None:
    """The end of a block comment whose opening was read; they nest."""
    depth = 1
    while (mark := _COMMENT.search(text, at)) is not None:
        at = mark.end()
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return at
    return None


def ending_command(text: str) -> tuple[str, str]:
    """What stands before a backslash command on the last line, and the command; ("", "") without one.

    Inside a quote or a comment there are no commands."""
    before, _, line = text.rstrip().rpartition("\n")
    if not line.lstrip().startswith("\\") or not is_blank(cut(before + "\n;")[1]):
        return "", ""
    return before, line.strip()


def is_blank(text: str) -> bool:
    """Nothing but white space and comments."""
    return _BLANK.fullmatch(text) is not None


def copies_in(statement: str) -> bool:
    """The statement reads data after it."""
    return _COPY_IN.match(statement) is not None


def copies_out(statement: str) -> bool:
    """The statement writes data."""
    return _COPY_OUT.match(statement) is not None
