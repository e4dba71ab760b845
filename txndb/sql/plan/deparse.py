"""Syntax trees back to SQL text: for defaults kept in the catalogue, and for EXPLAIN."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from txndb.errors import FeatureNotSupportedError
from txndb.sql.parse import ast

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")


def _name(text: str) -> str:
    return text if _PLAIN.match(text) else '"' + text.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """A string constant."""
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


def deparse(node: ast.Expr) -> str:
    """An expression's text; parenthesised where precedence could matter."""
    handler = _HANDLERS.get(type(node))
    if handler is None:
        raise FeatureNotSupportedError(f"{type(node).__name__} is not supported here", position=node.pos)
    return handler(node)


def _literal(node: ast.Literal) -> str:
    if node.kind in ("string",):
        return quote_literal(str(node.value)).strip()
    if node.kind == "null":
        return "NULL"
    if node.kind == "boolean":
        return "true" if node.value else "false"
    return str(node.value)


def _type(node: ast.TypeName) -> str:
    modifiers = f"({', '.join(deparse(m) for m in node.modifiers)})" if node.modifiers else ""
    return ".".join(_name(p) for p in node.parts) + modifiers + "[]" * node.array_dims


def _cast(node: ast.Cast) -> str:
    arg = deparse(node.arg)
    simple = isinstance(node.arg, ast.Literal | ast.ColumnRef | ast.FunctionCall | ast.Cast)
    return f"{arg if simple else f'({arg})'}::{_type(node.type)}"


def _call(node: ast.FunctionCall) -> str:
    args = "*" if node.star else ", ".join(deparse(a) for a in node.args)
    return f"{'.'.join(_name(p) for p in node.name)}({args})"


def _value_function(node: ast.SqlValueFunction) -> str:
    return node.name.upper() + (f"({node.precision})" if node.precision is not None else "")


def _case(node: ast.Case) -> str:
    parts = ["CASE"]
    if node.operand is not None:
        parts.append(deparse(node.operand))
    for when in node.whens:
        parts.append(f"WHEN {deparse(when.condition)} THEN {deparse(when.result)}")
    if node.otherwise is not None:
        parts.append(f"ELSE {deparse(node.otherwise)}")
    return " ".join([*parts, "END"])


def _is_test(node: ast.IsTest) -> str:
    return f"({deparse(node.arg)} IS {'NOT ' if node.negated else ''}{node.test})"


def _is_distinct(node: ast.IsDistinct) -> str:
    word = "NOT " if node.negated else ""
    return f"({deparse(node.left)} IS {word}DISTINCT FROM {deparse(node.right)})"


def _like(node: ast.Like) -> str:
    escape = f" ESCAPE {deparse(node.escape)}" if node.escape is not None else ""
    return (
        f"({deparse(node.arg)} {'NOT ' if node.negated else ''}{node.kind} {deparse(node.pattern)}{escape})"
    )


def _between(node: ast.Between) -> str:
    words = ("NOT " if node.negated else "") + "BETWEEN" + (" SYMMETRIC" if node.symmetric else "")
    return f"({deparse(node.arg)} {words} {deparse(node.low)} AND {deparse(node.high)})"


def _in_list(node: ast.InList) -> str:
    items = ", ".join(deparse(i) for i in node.items)
    return f"({deparse(node.arg)} {'NOT ' if node.negated else ''}IN ({items}))"


def _unary(node: ast.Unary) -> str:
    arg = deparse(node.arg)
    return f"({node.op}{arg})" if not isinstance(node.arg, ast.Literal) else f"{node.op}{arg}"


_HANDLERS: dict[type, Callable[[Any], str]] = {
    ast.Literal: _literal,
    ast.Param: lambda n: f"${n.index}",
    ast.ColumnRef: lambda n: ".".join(_name(p) for p in n.parts),
    ast.Unary: _unary,
    ast.Binary: lambda n: f"({deparse(n.left)} {n.op} {deparse(n.right)})",
    ast.BoolOp: lambda n: "(" + f" {n.op} ".join(deparse(a) for a in n.args) + ")",
    ast.Not: lambda n: f"(NOT {deparse(n.arg)})",
    ast.IsTest: _is_test,
    ast.IsDistinct: _is_distinct,
    ast.Like: _like,
    ast.Between: _between,
    ast.InList: _in_list,
    ast.Case: _case,
    ast.Cast: _cast,
    ast.FunctionCall: _call,
    ast.SqlValueFunction: _value_function,
    ast.ArrayExpr: lambda n: "ARRAY[" + ", ".join(deparse(i) for i in n.items) + "]",
    ast.RowExpr: lambda n: "ROW(" + ", ".join(deparse(i) for i in n.items) + ")",
}
