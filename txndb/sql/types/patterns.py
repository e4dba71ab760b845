"""LIKE, ILIKE, SIMILAR TO and POSIX regular expressions on Python's `re`.

A LIKE pattern without inner wildcards becomes an equality, prefix, suffix or substring test. Regular expressions are
translated from PostgreSQL's "advanced" syntax: `$` and `\\Z` match only at the very end, `.` matches newlines, \\m \\M
\\y \\Y \\A, POSIX classes and `(?i)`-style prefixes are understood.
What differs: alternatives match leftmost-first, not leftmost-longest; back references and lookahead are Python's.
Compiled patterns are cached by text; the functions are pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from txndb.errors import sql_error

Matcher = Callable[[str], bool]


@lru_cache(maxsize=1024)
def like_matcher(pattern: str, escape: str = "\\") -> Matcher:
    """The test a LIKE pattern stands for."""
    if _ends_escaping(pattern, escape):
        return _unfinished(like_matcher(pattern[:-1] + "_%", escape))
    literals, marks = _split_like(pattern, escape)
    if not marks:
        text = literals[0]
        return lambda value: value == text
    if marks == ["%"]:
        head, tail = literals
        least = len(head) + len(tail)
        if not tail:
            return lambda value: value.startswith(head)
        return lambda value: len(value) >= least and value.startswith(head) and value.endswith(tail)
    if marks == ["%", "%"] and not literals[0] and not literals[2]:
        inner = literals[1]
        return lambda value: inner in value
    compiled = re.compile(_like_regex(literals, marks), re.DOTALL).fullmatch
    return lambda value: compiled(value) is not None


@lru_cache(maxsize=1024)
def ilike_matcher(pattern: str, escape: str = "\\") -> Matcher:
    """As `like_matcher`, ignoring case."""
    if _ends_escaping(pattern, escape):
        return _unfinished(ilike_matcher(pattern[:-1] + "_%", escape))
    literals, marks = _split_like(pattern, escape)
    compiled = re.compile(_like_regex(literals, marks), re.DOTALL | re.IGNORECASE).fullmatch
    return lambda value: compiled(value) is not None


def _ends_escaping(pattern: str, escape: str) -> bool:
    """Whether a pattern's last character escapes nothing."""
    if not escape or not pattern.endswith(escape):
        return False
    return (len(pattern) - len(pattern.rstrip(escape))) % 2 == 1


def _unfinished(passes: Matcher) -> Matcher:
    """The test of a pattern that ends with its escape character: an error only where a match gets that far."""

    def test(value: str) -> bool:
        if passes(value):
            raise sql_error("22025", "LIKE pattern must not end with escape character")
        return False

    return test


def _split_like(pattern: str, escape: str) -> tuple[list[str], list[str]]:
    """A pattern as literals and the wildcards between them: n wildcards part n + 1 literals."""
    literals, marks, current, at = [], [], [], 0
    while at < len(pattern):
        character = pattern[at]
        if escape and character == escape:
            at += 1
            current.append(pattern[at])
        elif character in "%_":
            literals.append("".join(current))
            marks.append(character)
            current = []
        else:
            current.append(character)
        at += 1
    literals.append("".join(current))
    return literals, marks


def _like_regex(literals: list[str], marks: list[str]) -> str:
    parts = [re.escape(literals[0])]
    for mark, literal in zip(marks, literals[1:], strict=True):
        # %% is one %, else the match would be tried in quadratically many ways
        if mark == "%" and parts[-1] == ".*" and not literal:
            continue
        parts.append(".*" if mark == "%" else ".")
        if literal:
            parts.append(re.escape(literal))
    return "".join(parts)


def like(value: str, pattern: str) -> bool:
    return like_matcher(pattern)(value)


def not_like(value: str, pattern: str) -> bool:
    return not like_matcher(pattern)(value)


def ilike(value: str, pattern: str) -> bool:
    return ilike_matcher(pattern)(value)


def not_ilike(value: str, pattern: str) -> bool:
    return not ilike_matcher(pattern)(value)


def bytea_like(value: bytes, pattern: bytes) -> bool:
    """LIKE on bytes: every byte is one character."""
    return like_matcher(pattern.decode("latin-1"))(value.decode("latin-1"))


def like_escape(pattern: str, escape: str) -> str:
    """The pattern of `LIKE … ESCAPE e` rewritten to the default escape character; '' switches escaping off."""
    if len(escape) > 1:
        hint = "Escape string must be empty or one character."
        raise sql_error("22025", "invalid escape string", hint=hint)
    if escape == "\\":
        return pattern
    if not escape:
        return pattern.replace("\\", "\\\\")
    out, at = [], 0
    while at < len(pattern):
        character = pattern[at]
        if character == escape:
            at += 1
            if at == len(pattern):
                raise sql_error("22025", "LIKE pattern must not end with escape character")
            out.append("\\" + pattern[at])
        elif character == "\\":
            out.append("\\\\")
        else:
            out.append(character)
        at += 1
    return "".join(out)


# --- regular expressions

_CLASSES: Final = {
    "alpha": "^\\W\\d_",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": "\\s",
    "blank": " \\t",
    "punct": "!-/:-@\\[-`{-~",
    "xdigit": "0-9A-Fa-f",
    "cntrl": "\\x00-\\x1f\\x7f",
    "print": "\\x20-\\x7e",
    "graph": "\\x21-\\x7e",
    "word": "\\w",
}
_ALPHA: Final = "a-zA-ZÀ-ÖØ-öø-ɏͰ-ӿ"
_ESCAPES: Final = {
    "m": r"\b(?=\w)",
    "M": r"\b(?<=\w)",
    "y": r"\b",
    "Y": r"\B",
    "Z": r"\Z",
    "A": r"\A",
    "e": r"\x1b",
    "B": r"\\",
}


def _translate(pattern: str) -> str:
    """PostgreSQL's advanced regular expression in Python's syntax."""
    out, at = [], 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            follower = pattern[at + 1 : at + 2]
            if not follower:
                raise _invalid("invalid escape \\ sequence")
            out.append(_ESCAPES.get(follower, "\\" + follower))
            at += 2
        elif pattern.startswith("[[:<:]]", at):
            out.append(_ESCAPES["m"])
            at += 7
        elif pattern.startswith("[[:>:]]", at):
            out.append(_ESCAPES["M"])
            at += 7
        elif character == "[":
            text, at = _translate_bracket(pattern, at)
            out.append(text)
        elif character == "$":
            out.append(r"\Z")
            at += 1
        else:
            out.append(character)
            at += 1
    return "".join(out)


def _translate_bracket(pattern: str, start: int) -> tuple[str, int]:
    """A bracket expression from `start`; returns its translation and where it ends."""
    out, at = ["["], start + 1
    if pattern.startswith("^", at):
        out.append("^")
        at += 1
    first = at
    while at < len(pattern):
        character = pattern[at]
        if character == "]" and at > first:
            return "".join(out) + "]", at + 1
        if pattern.startswith("[:", at):
            end = pattern.find(":]", at)
            name = pattern[at + 2 : end] if end > 0 else ""
            if name not in _CLASSES:
                raise _invalid("invalid character class")
            out.append(_ALPHA if name == "alpha" else _CLASSES[name])
            at = end + 2
        elif character == "\\" and at + 1 < len(pattern):
            out.append(pattern[at : at + 2])
            at += 2
        else:
            out.append("\\" + character if character in "[]&|~" else character)
            at += 1
    raise _invalid("brackets [] not balanced")


def _invalid(reason: str) -> Exception:
    return sql_error("2201B", f"invalid regular expression: {reason}")


_REASONS: Final = (
    ("unterminated subpattern", "parentheses () not balanced"),
    ("unbalanced parenthesis", "parentheses () not balanced"),
    ("unterminated character set", "brackets [] not balanced"),
    ("nothing to repeat", "quantifier operand invalid"),
    ("multiple repeat", "quantifier operand invalid"),
    ("bad character range", "invalid character range"),
    ("min repeat greater than max repeat", "invalid repetition count(s)"),
    ("invalid group reference", "invalid backreference number"),
)


@lru_cache(maxsize=1024)
def compile_regex(pattern: str, flags: str = "") -> re.Pattern[str]:
    """A compiled regular expression; flags as of regexp_replace (i, c, n, s, x, g ignored); 2201B when malformed."""
    options = re.DOTALL
    body = pattern
    embedded = re.match(r"\*\*\*([:=])", body)
    if embedded is not None:
        body = body[4:] if embedded[1] == ":" else re.escape(body[4:])
    prefix = re.match(r"\(\?([a-z]+)\)", body)
    if prefix is not None:
        flags, body = flags + prefix[1], body[prefix.end() :]
    for flag in flags:
        options = _with_flag(options, flag)
    if "q" in flags:
        body = re.escape(body)
    try:
        return re.compile(_translate(body), options)
    except (re.error, OverflowError) as error:
        text = str(error)
        reason = next((ours for theirs, ours in _REASONS if theirs in text), "invalid escape \\ sequence")
        raise _invalid(reason) from None


def _with_flag(options: re.RegexFlag, flag: str) -> re.RegexFlag:
    if flag == "i":
        return options | re.IGNORECASE
    if flag == "c":
        return options & ~re.IGNORECASE
    if flag in "nmp":
        return (options | re.MULTILINE) & ~re.DOTALL
    if flag == "w":
        return options | re.MULTILINE
    if flag == "x":
        return options | re.VERBOSE
    if flag in "gstebq":
        return options
    raise sql_error("22023", f'invalid regular expression option: "{flag}"')


def regex_match(value: str, pattern: str) -> bool:
    return compile_regex(pattern).search(value) is not None


def regex_no_match(value: str, pattern: str) -> bool:
    return compile_regex(pattern).search(value) is None


def regex_imatch(value: str, pattern: str) -> bool:
    return compile_regex(pattern, "i").search(value) is not None


def regex_no_imatch(value: str, pattern: str) -> bool:
    return compile_regex(pattern, "i").search(value) is None


def similar_to_regex(pattern: str, escape: str = "\\") -> str:
    """A SIMILAR TO pattern as an anchored regular expression."""
    if len(escape) > 1:
        hint = "Escape string must be empty or one character."
        raise sql_error("22025", "invalid escape string", hint=hint)
    out, at, in_bracket = ["^(?:"], 0, False
    while at < len(pattern):
        character = pattern[at]
        if escape and character == escape and at + 1 < len(pattern):
            at += 1
            out.append("\\" + pattern[at])
        elif in_bracket:
            in_bracket = character != "]"
            out.append("\\\\" if character == "\\" else character)
        elif character == "[":
            in_bracket = True
            out.append(character)
        elif character == "%":
            out.append(".*")
        elif character == "_":
            out.append(".")
        elif character == "(":
            out.append("(?:")
        elif character in "\\.^$":
            out.append("\\" + character)
        else:
            out.append(character)
        at += 1
    return "".join(out) + ")$"
