"""Operator precedence: a flat chain of operands and operators to an expression tree (manual 4.1.6).

The grammar reads `a + b IS NULL AND c` as a chain; here it becomes a tree by precedence climbing (Pratt, "Top Down
Operator Precedence", 1973) over PostgreSQL's levels, lowest first:

    OR · AND · NOT · IS ISNULL NOTNULL · < > = <= >= <> · BETWEEN IN LIKE ILIKE SIMILAR · any other operator · + - ·
    * / % · ^ · AT TIME ZONE · COLLATE · unary + - · ::

Invariants
 1. IS DISTINCT FROM, the comparisons and the LIKE level do not associate: a second operator of the same level after
    the right operand is a syntax error at that operator, as with yacc's %nonassoc.
 2. A chain of ANDs (ORs) written without parentheses is one BoolOp.
 3. `-` before a number gives a negative constant, so the least bigint can be written.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final, NamedTuple

from txndb import limits
from txndb.errors import SqlError, sql_error
from txndb.sql.parse import ast

OR, AND, NOT, IS, COMPARISON, LIKE, OPERATOR, ADD, MULTIPLY, POWER, AT, COLLATE, SIGN, CAST = range(1, 15)
_NEVER: Final = 0
"""The level of ESCAPE, which only LIKE itself consumes."""


class Prefix(NamedTuple):
    op: str
    level: int
    pos: int


class Infix(NamedTuple):
    op: str
    level: int
    pos: int


class Postfix(NamedTuple):
    level: int
    pos: int
    build: Callable[[ast.Expr], ast.Expr]


Item = ast.Expr | Prefix | Infix | Postfix

LEVELS: Final = {
    "=": COMPARISON,
    "<": COMPARISON,
    ">": COMPARISON,
    "<=": COMPARISON,
    ">=": COMPARISON,
    "<>": COMPARISON,
    "+": ADD,
    "-": ADD,
    "*": MULTIPLY,
    "/": MULTIPLY,
    "%": MULTIPLY,
    "^": POWER,
    "OR": OR,
    "AND": AND,
    "ESCAPE": _NEVER,
    "LIKE": LIKE,
    "ILIKE": LIKE,
    "SIMILAR TO": LIKE,
    "BETWEEN": LIKE,
    "BETWEEN SYMMETRIC": LIKE,
    "IS DISTINCT FROM": IS,
    "IS NOT DISTINCT FROM": IS,
    "AT TIME ZONE": AT,
}
_NONASSOCIATIVE: Final = frozenset((IS, COMPARISON, LIKE))


def infix(op: str, pos: int) -> Infix:
    plain = op.removeprefix("NOT ")
    return Infix(op, LEVELS.get(plain, OPERATOR), pos)


def resolve(items: list[Item], fail: Callable[[int | None], SqlError]) -> ast.Expr:
    """The tree of a chain. `fail(pos)` makes the syntax error at the token at `pos`; None: what follows the chain."""
    if len(items) == 3:
        # the commonest chain, `a = b`, without the climb
        left, op, right = items
        if isinstance(op, Infix) and isinstance(left, ast.Expr) and isinstance(right, ast.Expr):
            if op.level not in (_NEVER, LIKE, OR, AND):
                return _binary(op, left, right)
    climb = _Climb(items, fail)
    tree = climb.expression(OR)
    if climb.at < len(items):
        raise fail(climb.next_pos())
    return tree


class _Climb:
    def __init__(self, items: list[Item], fail: Callable[[int | None], SqlError]) -> None:
        self.items = items
        self.fail = fail
        self.at = 0
        self.depth = 0

    def next_pos(self) -> int | None:
        if self.at == len(self.items):
            return None
        item = self.items[self.at]
        assert not isinstance(item, ast.Expr), "chains alternate operands and operators"
        return item.pos

    def expression(self, level_min: int) -> ast.Expr:
        """Everything from here whose operators bind at least as tightly as `level_min`."""
        left = self._operand()
        items = self.items
        while self.at < len(items):
            item = items[self.at]
            assert isinstance(item, (Infix, Postfix)), "an operator follows an operand"
            if item.level < level_min or item.level == _NEVER:
                break
            self.at += 1
            if isinstance(item, Postfix):
                left = item.build(left)
            else:
                left = self._infix(left, item)
        return left

    def _operand(self) -> ast.Expr:
        item = self.items[self.at]
        self.at += 1
        if type(item) is not Prefix:
            assert isinstance(item, ast.Expr)
            return item
        self.depth += 1
        if self.depth > limits.STATEMENT_DEPTH_MAX:
            raise too_deep(item.pos)
        # an operator of the same level after the operand is the outer one: `~ a || b` is `(~ a) || b`
        argument = self.expression(item.level + 1 if item.level == OPERATOR else item.level)
        self.depth -= 1
        return _prefix(item, argument)

    def _infix(self, left: ast.Expr, op: Infix) -> ast.Expr:
        if op.level in (OR, AND):
            return self._bool(left, op)
        right = self.expression(op.level + 1)
        if op.level == LIKE:
            tree = self._like(left, op, right)
        else:
            tree = _binary(op, left, right)
        if op.level in _NONASSOCIATIVE and self.at < len(self.items):
            following = self.items[self.at]
            if isinstance(following, Infix | Postfix) and following.level == op.level:
                raise self.fail(following.pos)
        return tree

    def _bool(self, left: ast.Expr, op: Infix) -> ast.Expr:
        arguments = [left, self.expression(op.level + 1)]
        while self.at < len(self.items):
            following = self.items[self.at]
            if not isinstance(following, Infix) or following.op != op.op:
                break
            self.at += 1
            arguments.append(self.expression(op.level + 1))
        return ast.BoolOp("OR" if op.level == OR else "AND", tuple(arguments), pos=op.pos)

    def _like(self, left: ast.Expr, op: Infix, right: ast.Expr) -> ast.Expr:
        negated = op.op.startswith("NOT ")
        name = op.op.removeprefix("NOT ")
        if name.startswith("BETWEEN"):
            item = self.items[self.at] if self.at < len(self.items) else None
            if not isinstance(item, Infix) or item.op != "AND":
                raise self.fail(self.next_pos())
            self.at += 1
            high = self.expression(LIKE + 1)
            return ast.Between(left, right, high, name.endswith("SYMMETRIC"), negated, pos=op.pos)
        escape: ast.Expr | None = None
        if self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Infix) and item.op == "ESCAPE":
                self.at += 1
                escape = self.expression(LIKE + 1)
        kind = _LIKES[name]
        return ast.Like(kind, left, right, escape, negated, pos=op.pos)


_LIKES: Final[dict[str, ast.LikeKind]] = {"LIKE": "LIKE", "ILIKE": "ILIKE", "SIMILAR TO": "SIMILAR TO"}


def _binary(op: Infix, left: ast.Expr, right: ast.Expr) -> ast.Expr:
    if op.level == IS:
        return ast.IsDistinct(left, right, op.op == "IS NOT DISTINCT FROM", pos=op.pos)
    if op.level == AT:
        return ast.FunctionCall(("timezone",), (right, left), pos=op.pos)
    return ast.Binary(op.op, left, right, pos=op.pos)


def _prefix(op: Prefix, argument: ast.Expr) -> ast.Expr:
    if op.op == "NOT":
        return ast.Not(argument, pos=op.pos)
    if op.op == "-" and isinstance(argument, ast.Literal):
        value = argument.value
        if argument.kind in ("integer", "numeric") and isinstance(value, int | Decimal):
            return number(-value, op.pos)
    return ast.Unary(op.op, argument, pos=op.pos)


def number(value: int | Decimal, pos: int) -> ast.Literal:
    """The constant of a number: `integer` if it is whole, was written so, and fits a bigint."""
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0 and -(2**63) <= value < 2**63:
        value = int(value)
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return ast.Literal("integer", value, pos=pos)
        value = Decimal(value)
    return ast.Literal("numeric", value, pos=pos)


def too_deep(pos: int) -> SqlError:
    return sql_error(
        "54001",
        "statement is nested too deeply",
        detail=f"A statement may be nested {limits.STATEMENT_DEPTH_MAX} levels deep.",
        position=pos,
    )
