"""Parser actions for names, expressions and types: one method for each alias of the grammar's middle part.

A method's arguments are the rule's position and its kept children; tokens are `Token`s, lists are lists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NoReturn

from txndb.errors import FeatureNotSupportedError, SqlError, sql_error
from txndb.sql.parse import ast, precedence
from txndb.sql.parse.precedence import Infix, Item, Postfix, Prefix
from txndb.sql.parse.tokens import Token, syntax_error, tokenize

_CANONICAL: Final = {
    "int": "int4",
    "integer": "int4",
    "smallint": "int2",
    "bigint": "int8",
    "real": "float4",
    "decimal": "numeric",
    "dec": "numeric",
    "boolean": "bool",
    "char": "bpchar",
    "character": "bpchar",
    "nchar": "bpchar",
}
_TRIMS: Final = {"both": "btrim", "leading": "ltrim", "trailing": "rtrim", None: "btrim"}
NUMERIC_EXPONENT_MAX: Final = 131_071


def unsupported(what: str, pos: int) -> NoReturn:
    raise FeatureNotSupportedError(f"{what} not supported yet", position=pos)


class ExprActions:
    """State of one parse: the text, and the token the driver looks at."""

    lookahead: Token

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.lookahead = Token("EOF", "", len(sql), len(sql))

    def fail(self, pos: int | None) -> SqlError:
        """The syntax error at the token that starts at `pos`; None: at the look-ahead."""
        if pos is None:
            return syntax_error(self.sql, self.lookahead)
        token = next(t for t in tokenize(self.sql) if t.start == pos - 1)
        return syntax_error(self.sql, token)

    # --- lists and words

    def list_first(self, pos: int, item: Any) -> list[Any]:
        return [item]

    def list_more(self, pos: int, items: list[Any], item: Any) -> list[Any]:
        items.append(item)
        return items

    def list_first_value(self, pos: int, item: Token) -> list[str]:
        return [item.value]

    def list_more_value(self, pos: int, items: list[str], item: Token) -> list[str]:
        items.append(item.value)
        return items

    def empty_list(self, pos: int) -> list[Any]:
        return []

    def pass_one(self, pos: int, item: Any) -> Any:
        return item

    def pass_list(self, pos: int, items: list[Any]) -> list[Any]:
        return items

    def name(self, pos: int, item: Token) -> str:
        return item.value

    def string_value(self, pos: int, item: Token) -> str:
        return item.value

    def integer_value(self, pos: int, item: Token) -> int:
        value = int(item.value) if len(item.value) <= 19 else 2**63
        if value >= 2**31:
            raise sql_error("22003", "integer out of range", position=pos)
        return value

    def negative_value(self, pos: int, item: Token) -> int:
        return -self.integer_value(pos, item)

    def true_(self, pos: int) -> bool:
        return True

    def false_(self, pos: int) -> bool:
        return False

    def none(self, pos: int, *_ignored: object) -> None:
        return None

    def qname(self, pos: int, parts: list[str]) -> ast.Name:
        if len(parts) > 3:
            raise sql_error(
                "42601", f"improper qualified name (too many dotted names): {'.'.join(parts)}", position=pos
            )
        return ast.Name(tuple(parts), pos=pos)

    # --- chains

    def expr(self, pos: int, items: list[Item]) -> ast.Expr:
        first = items[0]
        if len(items) == 1 and isinstance(first, ast.Expr):
            return first
        return precedence.resolve(items, self.fail)

    def chain_suffix(self, pos: int, items: list[Item], suffix: Postfix) -> list[Item]:
        items.append(suffix)
        return items

    def chain_infix(self, pos: int, items: list[Item], infix: Infix, operand: list[Item]) -> list[Item]:
        items.append(infix)
        # a chain of prefixes was collected from the inside out
        items.extend(reversed(operand))
        return items

    def chain_cast(self, pos: int, items: list[Item], op: Token, type_: ast.TypeName) -> list[Item]:
        items.append(self.suffix_cast(op.start + 1, op, type_))
        return items

    def operand_first(self, pos: int, item: ast.Expr) -> list[Item]:
        return [item]

    def operand_prefix(self, pos: int, prefix: Prefix, items: list[Item]) -> list[Item]:
        items.append(prefix)
        return items

    def chain_start(self, pos: int, items: list[Item]) -> list[Item]:
        items.reverse()
        return items

    def prefix(self, pos: int, op: Token) -> Prefix:
        if op.kind == "NOT":
            return Prefix("NOT", precedence.NOT, pos)
        level = precedence.SIGN if op.kind in ("PLUS", "MINUS") else precedence.OPERATOR
        return Prefix(op.value, level, pos)

    def prefix_operator(self, pos: int, op: Token) -> Prefix:
        return Prefix(op.value, precedence.OPERATOR, pos)

    def any_operator(self, pos: int, op: Token) -> Token:
        return op

    def operator_name(self, pos: int, op: Token) -> Token:
        return op

    def operator_schema(self, pos: int, schema: Token, op: Token) -> Token:
        if schema.value != "pg_catalog":
            raise sql_error("42883", f"operator does not exist: {schema.value}.{op.value}", position=pos)
        return op

    def comparison_op(self, pos: int, op: Token) -> Infix:
        return precedence.infix(op.value if op.kind not in ("LIKE", "ILIKE") else op.kind, pos)

    def infix(self, pos: int, op: Infix | Token) -> Infix:
        return op if isinstance(op, Infix) else precedence.infix(op.kind, pos)

    def infix_token(self, pos: int, op: Token) -> Infix:
        return precedence.infix(op.value, pos)

    def infix_operator(self, pos: int, op: Token) -> Infix:
        return Infix(op.value, precedence.OPERATOR, pos)

    def infix_not(self, pos: int, _not: Token, op: Token) -> Infix:
        return precedence.infix(f"NOT {op.kind}", pos)

    def infix_symmetric(self, pos: int, _between: Token) -> Infix:
        return precedence.infix("BETWEEN SYMMETRIC", pos)

    def infix_asymmetric(self, pos: int, _between: Token) -> Infix:
        return precedence.infix("BETWEEN", pos)

    def infix_not_symmetric(self, pos: int, _not: Token, _between: Token) -> Infix:
        return precedence.infix("NOT BETWEEN SYMMETRIC", pos)

    def infix_not_asymmetric(self, pos: int, _not: Token, _between: Token) -> Infix:
        return precedence.infix("NOT BETWEEN", pos)

    def infix_is_distinct(self, pos: int, _is: Token) -> Infix:
        return precedence.infix("IS DISTINCT FROM", pos)

    def infix_is_not_distinct(self, pos: int, _is: Token) -> Infix:
        return precedence.infix("IS NOT DISTINCT FROM", pos)

    def infix_at_time_zone(self, pos: int, _at: Token) -> Infix:
        return precedence.infix("AT TIME ZONE", pos)

    def infix_similar(self, pos: int, _similar: Token) -> Infix:
        return precedence.infix("SIMILAR TO", pos)

    def infix_not_similar(self, pos: int, _not: Token, _similar: Token) -> Infix:
        return precedence.infix("NOT SIMILAR TO", pos)

    # --- suffixes

    def suffix_cast(self, pos: int, _op: Token, type_: ast.TypeName) -> Postfix:
        return Postfix(precedence.CAST, pos, lambda arg: ast.Cast(arg, type_, pos=pos))

    def is_test(self, pos: int, word: Token) -> str:
        return word.kind

    def suffix_is(self, pos: int, _is: Token, test: Any) -> Postfix:
        return Postfix(precedence.IS, pos, lambda arg: ast.IsTest(arg, test, False, pos=pos))

    def suffix_is_not(self, pos: int, _is: Token, _not: Token, test: Any) -> Postfix:
        return Postfix(precedence.IS, pos, lambda arg: ast.IsTest(arg, test, True, pos=pos))

    def suffix_isnull(self, pos: int, word: Token) -> Postfix:
        return self.suffix_is(pos, word, "NULL")

    def suffix_notnull(self, pos: int, word: Token) -> Postfix:
        return self.suffix_is_not(pos, word, word, "NULL")

    def suffix_collate(self, pos: int, _word: Token, collation: ast.Name) -> Postfix:
        return Postfix(precedence.COLLATE, pos, lambda arg: ast.Collate(arg, collation, pos=pos))

    def suffix_in(
        self, pos: int, _in: Token, operand: ast.Query | list[ast.Expr], negated: bool = False
    ) -> Postfix:
        if isinstance(operand, ast.Query):
            query = operand
            return Postfix(precedence.LIKE, pos, lambda arg: ast.InSubquery(arg, query, negated, pos=pos))
        items = tuple(operand)
        return Postfix(precedence.LIKE, pos, lambda arg: ast.InList(arg, items, negated, pos=pos))

    def suffix_not_in(
        self, pos: int, _not: Token, word: Token, operand: ast.Query | list[ast.Expr]
    ) -> Postfix:
        return self.suffix_in(pos, word, operand, True)

    def quantifier(self, pos: int, word: Token) -> str:
        return "ALL" if word.kind == "ALL" else "ANY"

    def suffix_any_query(self, pos: int, op: Infix, quantifier: Any, query: ast.Query) -> Postfix:
        return Postfix(
            op.level, pos, lambda arg: ast.QuantifiedSubquery(op.op, quantifier, arg, query, pos=pos)
        )

    def suffix_any_array(self, pos: int, op: Infix, quantifier: Any, array: ast.Expr) -> Postfix:
        return Postfix(op.level, pos, lambda arg: ast.QuantifiedArray(op.op, quantifier, arg, array, pos=pos))

    # --- primaries

    def constant_integer(self, pos: int, token: Token) -> ast.Expr:
        if len(token.value) < 19:
            return ast.Literal("integer", int(token.value), pos=pos)
        return precedence.number(Decimal(token.value), pos)

    def constant_numeric(self, pos: int, token: Token) -> ast.Expr:
        value = Decimal(token.value)
        if value.adjusted() > NUMERIC_EXPONENT_MAX or int(value.as_tuple().exponent) < -16_383:
            raise sql_error("22003", "value overflows numeric format", position=pos)
        return ast.Literal("numeric", value, pos=pos)

    def constant_string(self, pos: int, token: Token) -> ast.Expr:
        return ast.Literal("string", token.value, pos=pos)

    def constant_bit(self, pos: int, token: Token) -> ast.Expr:
        return ast.Literal("bit", token.value, pos=pos)

    def constant_true(self, pos: int) -> ast.Expr:
        return ast.Literal("boolean", True, pos=pos)

    def constant_false(self, pos: int) -> ast.Expr:
        return ast.Literal("boolean", False, pos=pos)

    def constant_null(self, pos: int) -> ast.Expr:
        return ast.Literal("null", None, pos=pos)

    def param(self, pos: int, token: Token) -> ast.Expr:
        return ast.Param(int(token.value), pos=pos)

    def column(self, pos: int, parts: list[str]) -> ast.Expr:
        return ast.ColumnRef(tuple(parts), pos=pos)

    def qualified_star(self, pos: int, parts: list[str], _star: Token) -> ast.Expr:
        return ast.Star(tuple(parts), pos=pos)

    def parens(self, pos: int, inner: ast.Expr) -> ast.Expr:
        return inner

    def row_implicit(self, pos: int, first: ast.Expr, rest: list[ast.Expr]) -> ast.Expr:
        return ast.RowExpr((first, *rest), pos=pos)

    def row(self, pos: int, items: list[ast.Expr] | None) -> ast.Expr:
        return ast.RowExpr(tuple(items or ()), pos=pos)

    def scalar_subquery(self, pos: int, query: ast.Query) -> ast.Expr:
        return ast.ScalarSubquery(query, pos=pos)

    def exists(self, pos: int, query: ast.Query) -> ast.Expr:
        return ast.Exists(query, pos=pos)

    def array_subquery(self, pos: int, query: ast.Query) -> ast.Expr:
        return ast.ArraySubquery(query, pos=pos)

    def array(self, pos: int, body: ast.ArrayExpr) -> ast.Expr:
        return ast.ArrayExpr(body.items, pos=pos)

    def array_empty(self, pos: int) -> ast.ArrayExpr:
        return ast.ArrayExpr((), pos=pos)

    def array_items(self, pos: int, items: list[ast.Expr]) -> ast.ArrayExpr:
        return ast.ArrayExpr(tuple(items), pos=pos)

    def cast(self, pos: int, arg: ast.Expr, type_: ast.TypeName) -> ast.Expr:
        return ast.Cast(arg, type_, pos=pos)

    def default(self, pos: int) -> ast.Expr:
        return ast.Default(pos=pos)

    def subscript(self, pos: int, base: ast.Expr, index: ast.Expr) -> ast.Expr:
        return ast.Subscript(base, index, pos=pos)

    def slice(self, pos: int, base: ast.Expr, lower: ast.Expr | None, upper: ast.Expr | None) -> ast.Expr:
        return ast.Slice(base, lower, upper, pos=pos)

    def field_select(self, pos: int, base: ast.Expr, field: Token) -> ast.Expr:
        return ast.FieldSelect(base, field.value, pos=pos)

    def field_star(self, pos: int, base: ast.Expr, _star: Token) -> ast.Expr:
        return ast.FieldSelect(base, "*", pos=pos)

    def literal_named(self, pos: int, parts: list[str], text: Token) -> ast.Expr:
        type_ = self._plain_type(pos, parts, quoted=self.sql[pos - 1] == '"')
        return self.literal_builtin(pos, type_, text)

    def literal_modified(
        self, pos: int, parts: list[str], modifiers: list[ast.Expr], text: Token
    ) -> ast.Expr:
        type_ = self._plain_type(pos, parts, modifiers, quoted=self.sql[pos - 1] == '"')
        return self.literal_builtin(pos, type_, text)

    def literal_builtin(self, pos: int, type_: ast.TypeName, text: Token) -> ast.Expr:
        return ast.Cast(ast.Literal("string", text.value, pos=text.start + 1), type_, pos=pos)

    def literal_interval(self, pos: int, text: Token, fields: str | None) -> ast.Expr:
        if fields is not None:
            if " to " in fields or not re.fullmatch(r"\s*[+-]?[0-9]+\s*", text.value):
                unsupported("INTERVAL with fields of anything but a whole number of one is", pos)
            text = text._replace(value=f"{text.value} {fields}")
        return self.literal_builtin(pos, ast.TypeName(("interval",), pos=pos), text)

    def literal_interval_precision(self, pos: int, precision: Token, text: Token) -> ast.Expr:
        return self.literal_builtin(pos, self.type_interval_precision(pos, precision), text)

    def case(
        self, pos: int, operand: ast.Expr | None, whens: list[ast.When], otherwise: ast.Expr | None
    ) -> ast.Expr:
        return ast.Case(operand, tuple(whens), otherwise, pos=pos)

    def when(self, pos: int, condition: ast.Expr, result: ast.Expr) -> ast.When:
        return ast.When(condition, result, pos=pos)

    # --- functions

    def function_call(
        self, pos: int, call: ast.FunctionCall, within: None, filter_: ast.Expr | None, over: None
    ) -> ast.Expr:
        if filter_ is None:
            return call
        return ast.FunctionCall(
            call.name, call.args, call.distinct, call.star, call.variadic, call.order_by, filter_, pos=pos
        )

    def call_empty(self, pos: int, name: list[str]) -> ast.FunctionCall:
        return ast.FunctionCall(tuple(name), pos=pos)

    def call_star(self, pos: int, name: list[str]) -> ast.FunctionCall:
        return ast.FunctionCall(tuple(name), star=True, pos=pos)

    def call_args(
        self, pos: int, name: list[str], args: list[ast.Expr], order_by: list[ast.SortKey] | None
    ) -> ast.FunctionCall:
        return ast.FunctionCall(tuple(name), tuple(args), order_by=tuple(order_by or ()), pos=pos)

    def call_distinct(
        self, pos: int, name: list[str], args: list[ast.Expr], order_by: list[ast.SortKey] | None
    ) -> ast.FunctionCall:
        return ast.FunctionCall(tuple(name), tuple(args), True, order_by=tuple(order_by or ()), pos=pos)

    def call_variadic(
        self, pos: int, name: list[str], last: ast.Expr, order_by: list[ast.SortKey] | None
    ) -> ast.FunctionCall:
        return self.call_args_variadic(pos, name, [], last, order_by)

    def call_args_variadic(
        self,
        pos: int,
        name: list[str],
        args: list[ast.Expr],
        last: ast.Expr,
        order_by: list[ast.SortKey] | None,
    ) -> ast.FunctionCall:
        keys = tuple(order_by or ())
        return ast.FunctionCall(tuple(name), (*args, last), variadic=True, order_by=keys, pos=pos)

    def named_argument(self, pos: int, name: Token, value: ast.Expr) -> ast.Expr:
        return ast.NamedArg(name.value, value, pos=pos)

    def _call(self, pos: int, name: str, *args: ast.Expr | None) -> ast.Expr:
        return ast.FunctionCall((name,), tuple(a for a in args if a is not None), pos=pos)

    def extract_field(self, pos: int, field: Token) -> ast.Expr:
        return ast.Literal("string", field.value, pos=pos)

    def extract(self, pos: int, field: ast.Expr, source: ast.Expr) -> ast.Expr:
        return self._call(pos, "extract", field, source)

    def substring_empty(self, pos: int) -> ast.Expr:
        return self._call(pos, "substring")

    def substring_call(self, pos: int, args: list[ast.Expr]) -> ast.Expr:
        return self._call(pos, "substring", *args)

    def substring_from(self, pos: int, text: ast.Expr, start: ast.Expr, count: ast.Expr | None) -> ast.Expr:
        return self._call(pos, "substring", text, start, count)

    def substring_for(self, pos: int, text: ast.Expr, count: ast.Expr, start: ast.Expr | None) -> ast.Expr:
        return self._call(pos, "substring", text, start or ast.Literal("integer", 1, pos=pos), count)

    def position(self, pos: int, part: ast.Expr, whole: ast.Expr) -> ast.Expr:
        return self._call(pos, "position", whole, part)

    def overlay(
        self, pos: int, text: ast.Expr, new: ast.Expr, start: ast.Expr, count: ast.Expr | None
    ) -> ast.Expr:
        return self._call(pos, "overlay", text, new, start, count)

    def trim_side(self, pos: int, word: Token) -> str:
        return word.value

    def trim(self, pos: int, side: str | None, args: list[ast.Expr]) -> ast.Expr:
        return self._call(pos, _TRIMS[side], *args)

    def trim_from(self, pos: int, side: str | None, what: ast.Expr, args: list[ast.Expr]) -> ast.Expr:
        return self._call(pos, _TRIMS[side], *args, what)

    def value_function(self, pos: int, word: Token, precision: int | None = None) -> ast.Expr:
        return ast.SqlValueFunction(word.value, precision, pos=pos)

    def value_function_call(self, pos: int, word: Token) -> ast.Expr:
        return self._call(pos, word.value)

    # --- types

    def _plain_type(
        self, pos: int, parts: Sequence[str], modifiers: Sequence[ast.Expr] = (), quoted: bool = False
    ) -> ast.TypeName:
        name = parts[0]
        if quoted or len(parts) > 1:
            return ast.TypeName(tuple(parts), tuple(modifiers), pos=pos)
        if name == "float":
            return self._float(pos, modifiers)
        canonical = _CANONICAL.get(name, name)
        if not modifiers and (canonical == "bpchar" != name or name == "bit"):
            modifiers = (ast.Literal("integer", 1, pos=pos),)
        return ast.TypeName((canonical,), tuple(modifiers), pos=pos)

    def _float(self, pos: int, modifiers: Sequence[ast.Expr]) -> ast.TypeName:
        """float(p): p is the least number of bits (manual 8.1.3)."""
        if not modifiers:
            return ast.TypeName(("float8",), pos=pos)
        bits = modifiers[0].value if isinstance(modifiers[0], ast.Literal) else None
        if not isinstance(bits, int) or len(modifiers) > 1:
            raise sql_error("42601", "invalid type modifier for type float", position=pos)
        if not 1 <= bits <= 53:
            limit = "at least 1 bit" if bits < 1 else "less than 54 bits"
            raise sql_error("22023", f"precision for type float must be {limit}", position=pos)
        return ast.TypeName(("float4" if bits <= 24 else "float8",), pos=pos)

    def type_word(self, pos: int, word: Token) -> Token:
        return word

    def type_simple(self, pos: int, word: Token) -> ast.TypeName:
        return self._plain_type(pos, (word.value,), quoted=self.sql[word.start] == '"')

    def type_modified(self, pos: int, word: Token, modifiers: list[ast.Expr]) -> ast.TypeName:
        return self._plain_type(pos, (word.value,), modifiers, quoted=self.sql[word.start] == '"')

    def type_qualified(self, pos: int, word: Token, rest: list[str]) -> ast.TypeName:
        return ast.TypeName((word.value, *rest), pos=pos)

    def type_qualified_modified(
        self, pos: int, word: Token, rest: list[str], modifiers: list[ast.Expr]
    ) -> ast.TypeName:
        return ast.TypeName((word.value, *rest), tuple(modifiers), pos=pos)

    def type_array(self, pos: int, type_: ast.TypeName, bounds: list[None]) -> ast.TypeName:
        return ast.TypeName(type_.parts, type_.modifiers, len(bounds), type_.fields, pos=pos)

    def type_array_word(self, pos: int, type_: ast.TypeName, bound: None) -> ast.TypeName:
        return self.type_array(pos, type_, [None])

    def type_double(self, pos: int) -> ast.TypeName:
        return ast.TypeName(("float8",), pos=pos)

    def char_word(self, pos: int) -> None:
        return None

    def type_varchar(self, pos: int, _word: None, modifiers: list[ast.Expr] | None) -> ast.TypeName:
        return ast.TypeName(("varchar",), tuple(modifiers or ()), pos=pos)

    def type_varbit(self, pos: int, modifiers: list[ast.Expr] | None) -> ast.TypeName:
        return ast.TypeName(("varbit",), tuple(modifiers or ()), pos=pos)

    def time_word(self, pos: int, word: Token) -> str:
        return word.value

    def type_time(self, pos: int, word: str, precision: int | None, zone: bool | None) -> ast.TypeName:
        modifiers = () if precision is None else (ast.Literal("integer", precision, pos=pos),)
        return ast.TypeName((word + "tz" if zone else word,), modifiers, pos=pos)

    def interval_unit(self, pos: int, word: Token) -> str:
        return word.value

    def interval_one(self, pos: int, unit: str, _precision: Token | None = None) -> str:
        return unit

    def interval_two(self, pos: int, unit: str, last: str, _precision: Token | None = None) -> str:
        return f"{unit} to {last}"

    def type_interval_fields(self, pos: int, fields: str) -> ast.TypeName:
        return ast.TypeName(("interval",), fields=fields, pos=pos)

    def type_interval_precision(self, pos: int, precision: Token) -> ast.TypeName:
        return ast.TypeName(("interval",), (self.constant_integer(pos, precision),), pos=pos)

    # --- refusals

    def unsupported_over(self, pos: int, *_: object) -> NoReturn:
        unsupported("window functions are", pos)

    def unsupported_window(self, pos: int, *_: object) -> NoReturn:
        unsupported("WINDOW is", pos)

    def unsupported_within(self, pos: int, *_: object) -> NoReturn:
        unsupported("WITHIN GROUP is", pos)
