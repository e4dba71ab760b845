"""Placeholders: pyformat (%s, %(name)s, %%) and qmark (?) to the server's $1, outside of quotes and comments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from txndb.client.errors import ProgrammingError

_PIECE: Final = re.compile(
    r"""
    (?P<skip> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
        | \$(?P<tag>[A-Za-z_][A-Za-z_0-9]*|)\$ .*? \$(?P=tag)\$ | --[^\n]* | /\*.*?\*/ )
    | (?P<escape> %% )
    | %\((?P<name>[^)]+)\)s
    | (?P<format> %s )
    | (?P<wrong> %.? )
    | (?P<mark> \? )
    """,
    re.VERBOSE | re.DOTALL,
)


@lru_cache(maxsize=1024)
def convert(sql: str, style: str) -> tuple[str, tuple[str | None, ...]]:
    """The statement with $n, and where each parameter comes from: a name, or None for the next of a sequence.

    Quoted strings are left alone, but for %% in pyformat, which means % there too. `style` is pyformat or qmark; a
    pyformat statement without any percent placeholder but with question marks is read as qmark.
    """
    if style == "pyformat" and "?" in sql and not re.search(r"%(?:s|\()", sql):
        style = "qmark"
    out: list[str] = []
    sources: list[str | None] = []
    numbers: dict[str, int] = {}
    at = 0
    for piece in _PIECE.finditer(sql):
        out.append(sql[at : piece.start()])
        at = piece.end()
        out.append(_place(piece, style, sources, numbers))
    out.append(sql[at:])
    if numbers and None in sources:
        raise ProgrammingError("positional and named placeholders cannot be mixed")
    return "".join(out), tuple(sources)


def _place(piece: re.Match[str], style: str, sources: list[str | None], numbers: dict[str, int]) -> str:
    if piece["skip"]:
        text = piece[0]
        return text.replace("%%", "%") if style == "pyformat" else text
    if style == "qmark":
        if piece["mark"]:
            sources.append(None)
            return f"${len(sources)}"
        return piece[0]
    if piece["mark"]:
        return "?"
    if piece["escape"]:
        return "%"
    if piece["format"]:
        sources.append(None)
        return f"${len(sources)}"
    name = piece["name"]
    if name is None:
        raise ProgrammingError(
            f"unknown placeholder {piece[0]!r}: use %s, %(name)s, or %% for a percent sign"
        )
    if name not in numbers:
        sources.append(name)
        numbers[name] = len(sources)
    return f"${numbers[name]}"


def arrange(sources: tuple[str | None, ...], parameters: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any]:
    """The values in the order of $1, $2, …"""
    if isinstance(parameters, Mapping):
        missing = [name for name in sources if name is not None and name not in parameters]
        if missing:
            raise ProgrammingError(f"no value for parameter {missing[0]!r}")
        if None in sources:
            raise ProgrammingError("the placeholders are positional but the parameters are a mapping")
        return [parameters[name] for name in sources if name is not None]
    if isinstance(parameters, str | bytes):
        raise ProgrammingError("parameters must be a sequence or a mapping, not a string")
    if sources and sources[0] is not None:
        raise ProgrammingError("the placeholders are named but the parameters are a sequence")
    if len(parameters) != len(sources):
        raise ProgrammingError(
            f"the statement has {len(sources)} placeholders but {len(parameters)} parameters were given"
        )
    return parameters
