"""Text form of arrays, vectors and records: `{1,NULL,"a b"}`, `1 2 3`, `(1,abc,)`.

An array value is a list; several dimensions are lists in lists of equal lengths. Lower bounds are always 1 (a literal
with explicit bounds is read, its bounds dropped). Errors are 22P02 with PostgreSQL's details.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from txndb.errors import sql_error

_NEEDS_QUOTES: Final = re.compile(r'[{}",\\\s]')
DIMENSIONS_MAX: Final = 6
_BOUNDS: Final = re.compile(r"\s*(?:\[[+-]?\d+(?::[+-]?\d+)?\])+\s*=")
_TOKEN: Final = re.compile(r'\s*(?:([{},])|"((?:[^"\\]|\\.)*)"|((?:[^{},"\\]|\\.)+))\s*', re.DOTALL)


def _malformed(text: str, detail: str) -> NoReturn:
    raise sql_error("22P02", f'malformed array literal: "{text}"', detail=detail)


def parse_array(text: str, parse_element: Callable[[str], Any]) -> list[Any]:
    """The value of an array literal."""
    match = _BOUNDS.match(text)
    body = text[match.end() :].strip() if match else text.strip()
    if not body.startswith("{"):
        _malformed(text, 'Array value must start with "{" or dimension information.')
    root: list[Any] = []
    stack: list[list[Any]] = []
    at, expect_item, done = 0, True, False
    while at < len(body):
        if done:
            _malformed(text, "Junk after closing right brace.")
        token = _TOKEN.match(body, at)
        if token is None:
            _malformed(text, "Unexpected end of input.")
        at = token.end()
        mark = token[1]
        if mark == "{":
            if not expect_item:
                _malformed(text, 'Unexpected "{" character.')
            if len(stack) == DIMENSIONS_MAX:
                detail = f"number of array dimensions ({len(stack) + 1}) exceeds the maximum allowed ({DIMENSIONS_MAX})"
                raise sql_error("54000", detail)
            inner: list[Any] = root if not stack else []
            if stack:
                stack[-1].append(inner)
            stack.append(inner)
        elif mark == "}":
            if expect_item and stack[-1]:
                _malformed(text, 'Unexpected "}" character.')
            stack.pop()
            expect_item, done = False, not stack
        elif mark == ",":
            if expect_item:
                _malformed(text, 'Unexpected "," character.')
            expect_item = True
        else:
            if not expect_item:
                _malformed(text, "Unexpected array element.")
            stack[-1].append(_element(token, parse_element))
            expect_item = False
    if not done:
        _malformed(text, "Unexpected end of input.")
    _check_shape(root, text)
    return [] if _is_empty(root) else root


def _element(token: re.Match[str], parse_element: Callable[[str], Any]) -> Any:
    if token[2] is not None:
        return parse_element(re.sub(r"\\(.)", r"\1", token[2], flags=re.DOTALL))
    raw = token[3].rstrip()
    if raw.lower() == "null":
        return None
    return parse_element(re.sub(r"\\(.)", r"\1", raw, flags=re.DOTALL))


def _is_empty(value: list[Any]) -> bool:
    return all(isinstance(item, list) and _is_empty(item) for item in value)


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    return (len(value), *(_shape(value[0]) if value else ()))


def _check_shape(value: list[Any], text: str) -> None:
    for item in value:
        if isinstance(item, list) != isinstance(value[0], list) or _shape(item) != _shape(value[0]):
            detail = "Multidimensional arrays must have sub-arrays with matching dimensions."
            _malformed(text, detail)
        if isinstance(item, list):
            _check_shape(item, text)


def format_array(value: Sequence[Any], format_element: Callable[[Any], str]) -> str:
    """The text of an array value."""
    return "{" + ",".join(_item_text(item, format_element) for item in value) + "}"


def _item_text(item: Any, format_element: Callable[[Any], str]) -> str:
    if item is None:
        return "NULL"
    if isinstance(item, list):
        return format_array(item, format_element)
    text = format_element(item)
    if not text or text.lower() == "null" or _NEEDS_QUOTES.search(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def parse_vector(text: str, parse_element: Callable[[str], Any]) -> list[Any]:
    """int2vector and oidvector: elements parted by white space."""
    return [parse_element(item) for item in text.split()]


def format_vector(value: Sequence[Any], format_element: Callable[[Any], str]) -> str:
    return " ".join(format_element(item) for item in value)


_RECORD_QUOTES: Final = re.compile(r'[(),"\\\s]')


def format_record(value: Sequence[Any]) -> str:
    """A row value whose fields are given as texts (the caller formats them) or None."""
    parts = []
    for item in value:
        if item is None:
            parts.append("")
            continue
        text = ("t" if item else "f") if isinstance(item, bool) else str(item)
        if not text or _RECORD_QUOTES.search(text):
            text = '"' + text.replace("\\", "\\\\").replace('"', '""') + '"'
        parts.append(text)
    return "(" + ",".join(parts) + ")"
