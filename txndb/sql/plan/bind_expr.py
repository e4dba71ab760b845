"""Binding of expressions: names to columns, operators and functions to overloads, literals to typed values.

A subquery becomes a column of an `Apply` over the query under construction; the host (`ExprHost`) decides where it is
put. Aggregates are collected as `Aggregate` nodes where they are allowed, refused elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from txndb.errors import FeatureNotSupportedError, TxndbError, sql_error
from txndb.sql.parse import ast
from txndb.sql.plan import functions as fns
from txndb.sql.plan.coerce import coerce, common_type, resolve_type_name, type_display, unify
from txndb.sql.plan.expr import (
    OUTER_PARAM,
    Aggregate,
    And,
    Bound,
    Call,
    Case,
    Coalesce,
    Col,
    Const,
    Extreme,
    InSet,
    IsDistinct,
    IsTest,
    MakeArray,
    Not,
    Or,
    Param,
    Quantified,
    Subscript,
    walk,
)
from txndb.sql.plan.logical import Apply, ApplyKind, Logical, Project, SortItem
from txndb.sql.plan.scope import Scope, Statement
from txndb.sql.types.core import BOOL, INT4, RECORD, TEXT, UNKNOWN, SqlType, array_of, element_of

COLLATIONS: Final = ("default", "C", "POSIX", "ucs_basic", "C.UTF-8")
"""Names of the one collation there is."""
BindQuery = Callable[[ast.Query, Scope], tuple[Logical, list[str]]]


class ExprBinder:
    """Binds expressions in one scope. `clause` names the place for error messages ("WHERE")."""

    def __init__(
        self,
        statement: Statement,
        scope: Scope,
        bind_query: BindQuery,
        *,
        clause: str = "",
        aggregates: bool = False,
    ) -> None:
        self.st = statement
        self.scope = scope
        self.bind_query = bind_query
        self.clause = clause
        self.aggregates_allowed = aggregates
        self.applies: list[tuple[Col | None, Logical, ApplyKind, tuple[tuple[Col, int], ...]]] = []
        """Subqueries met so far, to be put below what uses them."""
        self.positions: dict[int, int] = {}
        """Column id -> where it was first named, for errors about grouping."""
        self._inside_aggregate = False

    # --- entry points

    def bind(self, node: ast.Expr) -> Bound:
        """Bind one expression; a literal of unknown type stays unknown."""
        try:
            return _HANDLERS[type(node)](self, node)
        except KeyError:
            raise FeatureNotSupportedError(
                f"{type(node).__name__} expressions are not supported", position=node.pos
            ) from None
        except TxndbError as error:
            if not error.position:
                error.position = node.pos
            raise

    def bind_as(self, node: ast.Expr, target: SqlType, context: str = "i") -> Bound:
        """Bind and coerce (context i(mplicit), a(ssignment), e(xplicit))."""
        return coerce(self.st, self.bind(node), target, context, position=node.pos)

    def bind_known(self, node: ast.Expr) -> Bound:
        """Bind; what is still unknown becomes text, as in PostgreSQL's target lists."""
        bound = self.bind(node)
        return coerce(self.st, bound, TEXT, "i") if bound.type.oid == UNKNOWN.oid else bound

    def bind_condition(self, node: ast.Expr, what: str) -> Bound:
        """Bind a boolean; 42804 otherwise."""
        bound = self.bind(node)
        if bound.type.oid == UNKNOWN.oid:
            return coerce(self.st, bound, BOOL, "i", position=node.pos)
        if bound.type.oid != BOOL.oid:
            raise sql_error(
                "42804",
                f"argument of {what} must be type boolean, not type {type_display(bound.type)}",
                position=node.pos,
            )
        return bound

    def take_applies(self, plan: Logical) -> Logical:
        """Put the subqueries met so far over `plan`."""
        for col, subplan, kind, outer in self.applies:
            columns = (*plan.columns, col) if col is not None else (*plan.columns, *subplan.columns)
            plan = Apply(columns, plan, subplan, kind, outer)
        self.applies = []
        return plan

    # --- names

    def _column(self, node: ast.ColumnRef) -> Bound:
        found = resolve_column(self.st, self.scope, node)
        if isinstance(found, Col):
            self.positions.setdefault(found.id, node.pos)
        return found

    def _star_value(self, node: ast.Star) -> Bound:
        """`t.*` as one value is the row."""
        table = node.qualifier[-1] if node.qualifier else ""
        found = whole_row(self.st, self.scope, table)
        if found is None:
            raise sql_error("42P01", f'missing FROM-clause entry for table "{table}"', position=node.pos)
        return found

    def _field(self, node: ast.FieldSelect) -> Bound:
        """`(t).a` is `t.a`; nothing else here has fields that are known by name."""
        base = node.base
        if isinstance(base, ast.ColumnRef) and len(base.parts) == 1 and node.field != "*":
            try:
                return resolve_column(
                    self.st, self.scope, ast.ColumnRef((*base.parts, node.field), pos=base.pos)
                )
            except TxndbError as error:
                if error.code != "42P01":
                    raise
        bound = self.bind(base)
        if bound.type.oid == RECORD.oid:
            raise FeatureNotSupportedError("fields of a row value are not supported", position=node.pos)
        raise sql_error(
            "42809",
            f"column notation .{node.field} applied to type {type_display(bound.type)}, "
            "which is not a composite type",
            position=base.pos,
        )

    def _param(self, node: ast.Param) -> Bound:
        return self.st.param(node.index, node.pos)

    def _literal(self, node: ast.Literal) -> Bound:
        return fns.literal(node)

    # --- operators

    def _unary(self, node: ast.Unary) -> Bound:
        if node.op == "-" and isinstance(node.arg, ast.Literal):
            negated = fns.negative_literal(node.arg)
            if negated is not None:
                return negated
        return self.operator(node.op, None, self.bind(node.arg), node.pos)

    def _binary(self, node: ast.Binary) -> Bound:
        if isinstance(node.left, ast.RowExpr) and isinstance(node.right, ast.RowExpr):
            return self._row_comparison(node.op, node.left, node.right, node.pos)
        return self.operator(node.op, self.bind(node.left), self.bind(node.right), node.pos)

    def operator(self, name: str, left: Bound | None, right: Bound, position: int = 0) -> Bound:
        """An operator over bound arguments."""
        try:
            return fns.make_operator(self.st, name, left, right)
        except TxndbError as error:
            error.position = error.position or position
            raise

    def _row_comparison(self, op: str, left: ast.RowExpr, right: ast.RowExpr, position: int) -> Bound:
        if len(left.items) != len(right.items):
            raise sql_error("42601", "unequal number of entries in row expressions", position=position)
        pairs = [(self.bind(a), self.bind(b)) for a, b in zip(left.items, right.items, strict=True)]
        if op in ("=", "<>"):
            parts = tuple(self.operator(op, a, b, position) for a, b in pairs)
            if len(parts) == 1:
                return parts[0]
            return And(BOOL, parts) if op == "=" else Or(BOOL, parts)
        if op not in ("<", "<=", ">", ">="):
            raise FeatureNotSupportedError(f"operator {op} on rows is not supported", position=position)
        result = self.operator(op, *pairs[-1], position)
        strict = op[0]
        for a, b in reversed(pairs[:-1]):
            equal = self.operator("=", a, b, position)
            result = Or(BOOL, (self.operator(strict, a, b, position), And(BOOL, (equal, result))))
        return result

    def _bool_op(self, node: ast.BoolOp) -> Bound:
        args = tuple(self.bind_condition(a, node.op) for a in node.args)
        return And(BOOL, args) if node.op == "AND" else Or(BOOL, args)

    def _not(self, node: ast.Not) -> Bound:
        return Not(BOOL, self.bind_condition(node.arg, "NOT"))

    def _is_test(self, node: ast.IsTest) -> Bound:
        if node.test != "NULL":
            arg = self.bind_condition(node.arg, f"IS {'NOT ' if node.negated else ''}{node.test}")
            return IsTest(BOOL, arg, node.test, node.negated)
        if isinstance(node.arg, ast.RowExpr):
            parts = tuple(IsTest(BOOL, self.bind(i), "NULL", node.negated) for i in node.arg.items)
            return And(BOOL, parts) if len(parts) > 1 else parts[0]
        bound = self.bind(node.arg)
        fields = row_fields(bound)
        if fields:
            tests = tuple(IsTest(BOOL, f, "NULL", node.negated) for f in fields)
            return And(BOOL, tests) if len(tests) > 1 else tests[0]
        return IsTest(BOOL, bound, "NULL", node.negated)

    def _is_distinct(self, node: ast.IsDistinct) -> Bound:
        equal = self.operator("=", self.bind(node.left), self.bind(node.right), node.pos)
        if not isinstance(equal, Call):
            raise FeatureNotSupportedError(
                "IS DISTINCT FROM on these types is not supported", position=node.pos
            )
        return IsDistinct(BOOL, equal, node.negated)

    def _like(self, node: ast.Like) -> Bound:
        arg, pattern = self.bind(node.arg), self.bind(node.pattern)
        if node.kind == "SIMILAR TO":
            escape = self.bind(node.escape) if node.escape else None
            args = [pattern] if escape is None else [pattern, escape]
            converted = self.function("similar_to_escape", args, node.pos)
            return self.operator("!~" if node.negated else "~", arg, converted, node.pos)
        if node.escape is not None:
            pattern = self.function("like_escape", [pattern, self.bind(node.escape)], node.pos)
        op = ("!" if node.negated else "") + ("~~" if node.kind == "LIKE" else "~~*")
        return self.operator(op, arg, pattern, node.pos)

    def _between(self, node: ast.Between) -> Bound:
        arg, low, high = self.bind(node.arg), self.bind(node.low), self.bind(node.high)
        inside: Bound = self._range(arg, low, high, node.pos)
        if node.symmetric:
            inside = Or(BOOL, (inside, self._range(arg, high, low, node.pos)))
        return Not(BOOL, inside) if node.negated else inside

    def _range(self, arg: Bound, low: Bound, high: Bound, position: int) -> Bound:
        return And(BOOL, (self.operator(">=", arg, low, position), self.operator("<=", arg, high, position)))

    def _in_list(self, node: ast.InList) -> Bound:
        if isinstance(node.arg, ast.RowExpr):
            return self._row_in_list(node, node.arg)
        arg = self.bind(node.arg)
        items = [self.bind(item) for item in node.items]
        plain = fns.in_list(self.st, arg, items)
        if plain is None:
            parts = tuple(self.operator("=", arg, item, node.pos) for item in items)
            plain = parts[0] if len(parts) == 1 else Or(BOOL, parts)
        return Not(BOOL, plain) if node.negated else plain

    def _row_in_list(self, node: ast.InList, row: ast.RowExpr) -> Bound:
        parts = []
        for item in node.items:
            if not isinstance(item, ast.RowExpr):
                raise sql_error("42601", "a row can be compared with rows only", position=item.pos)
            parts.append(self._row_comparison("=", row, item, node.pos))
        result = parts[0] if len(parts) == 1 else Or(BOOL, tuple(parts))
        return Not(BOOL, result) if node.negated else result

    # --- subqueries

    def subquery(self, query: ast.Query, kind: ApplyKind, position: int = 0) -> tuple[Logical, Col]:
        """Bind a subquery and note it; the column that will hold its result."""
        inner = Scope(self.scope)
        plan, _ = self.bind_query(query, inner)
        if kind != "exists" and len(plan.columns) != 1:
            member = kind == "set" and len(plan.columns)
            message = "subquery has too many columns" if member else "subquery must return only one column"
            raise sql_error("42601", message, position=position or query.pos)
        first = plan.columns[0].type if plan.columns else INT4
        result = {"exists": BOOL, "scalar": first}.get(kind)
        if result is None:
            result = array_of(first) if kind == "array" else first
        col = self.st.new_col(result, kind)
        self.applies.append((col, plan, kind, tuple(inner.outer.values())))
        for outer, _ in inner.outer.values():
            self.positions.setdefault(outer.id, query.pos)
        return plan, col

    def _scalar_subquery(self, node: ast.ScalarSubquery) -> Bound:
        return self.subquery(node.query, "scalar", node.pos)[1]

    def _exists(self, node: ast.Exists) -> Bound:
        return self.subquery(node.query, "exists")[1]

    def _array_subquery(self, node: ast.ArraySubquery) -> Bound:
        return self.subquery(node.query, "array", node.pos)[1]

    def _in_subquery(self, node: ast.InSubquery) -> Bound:
        if isinstance(node.arg, ast.RowExpr):
            raise FeatureNotSupportedError("IN (subquery) with a row is not supported", position=node.pos)
        result = self._member("=", node.arg, node.query, node.pos)
        return Not(BOOL, result) if node.negated else result

    def _member(self, op: str, left: ast.Expr, query: ast.Query, position: int) -> Bound:
        arg = self.bind(left)
        plan, col = self.subquery(query, "set", position)
        try:
            target = common_type([arg.type, col.type], "IN")
        except TxndbError:
            self.operator(op, arg, Col(col.type, -1), position)  # raises, in the operator's words
            raise
        arg = coerce(self.st, arg, target, "i", position=position)
        if col.type.oid != target.oid:
            self._coerce_subquery(plan, target)
        equal = self.operator(op, arg, Col(target, col.id), position)
        if not isinstance(equal, Call) or not fns.plain_equality(target):
            raise FeatureNotSupportedError("IN (subquery) on these types is not supported", position=position)
        return InSet(BOOL, arg, Col(target, col.id, "members"))

    def _coerce_subquery(self, plan: Logical, target: SqlType) -> None:
        """Make the last subquery give its column as `target`."""
        col, _, kind, outer = self.applies[-1]
        old = plan.columns[0]
        project = Project((self.st.new_col(target, old.name),), plan, (coerce(self.st, old, target, "i"),))
        self.applies[-1] = (col, project, kind, outer)

    def _quantified_subquery(self, node: ast.QuantifiedSubquery) -> Bound:
        if (node.op, node.quantifier) == ("=", "ANY"):
            return self._member("=", node.left, node.query, node.pos)
        if (node.op, node.quantifier) == ("<>", "ALL"):
            return Not(BOOL, self._member("=", node.left, node.query, node.pos))
        left = self.bind(node.left)
        _, col = self.subquery(node.query, "array", node.pos)
        return self._quantify(node.op, left, col, node.quantifier == "ALL", node.pos)

    def _quantified_array(self, node: ast.QuantifiedArray) -> Bound:
        return self._quantify(
            node.op, self.bind(node.left), self.bind(node.array), node.quantifier == "ALL", node.pos
        )

    def _quantify(self, op: str, left: Bound, array: Bound, every: bool, position: int) -> Bound:
        names = {"LIKE": "~~", "ILIKE": "~~*", "NOT LIKE": "!~~", "NOT ILIKE": "!~~*"}
        if array.type.oid == UNKNOWN.oid:
            base = left.type if left.type.oid != UNKNOWN.oid else TEXT
            array = coerce(self.st, array, array_of(base.base), "i", position=position)
        element = element_of(array.type)
        if element is None:
            raise sql_error("42809", "op ANY/ALL (array) requires array on right side", position=position)
        probe = Col(element, -1)
        call = self.operator(names.get(op, op), left, probe, position)
        if not isinstance(call, Call) or len(call.args) != 2:
            raise FeatureNotSupportedError(
                "this operator with ANY or ALL is not supported", position=position
            )
        if call.args[1] != probe:
            array = coerce(self.st, array, array_of(call.args[1].type.base), "i", position=position)
        return Quantified(BOOL, call.args[0], array, fns.binary_callable(self.st, call), op, every)

    # --- constructors and conditionals

    def _case(self, node: ast.Case) -> Bound:
        operand = self.bind(node.operand) if node.operand is not None else None
        conditions: list[Bound] = []
        for when in node.whens:
            if operand is None:
                conditions.append(self.bind_condition(when.condition, "CASE/WHEN"))
            else:
                conditions.append(self.operator("=", operand, self.bind(when.condition), when.pos))
        results = [self.bind(when.result) for when in node.whens]
        otherwise = self.bind(node.otherwise) if node.otherwise is not None else Const(UNKNOWN, None)
        places = [
            start_of(node.otherwise) if node.otherwise is not None else node.pos,
            *(start_of(w.result) for w in node.whens),
        ]
        unified = unify(self.st, [otherwise, *results], "CASE", positions=places)
        return Case(unified[0].type, tuple(zip(conditions, unified[1:], strict=True)), unified[0])

    def _cast(self, node: ast.Cast) -> Bound:
        target = resolve_type_name(self.st, node.type)
        if isinstance(node.arg, ast.ArrayExpr) and not node.arg.items:
            return MakeArray(target, ())
        return coerce(self.st, self.bind(node.arg), target, "e", position=node.pos)

    def _collate(self, node: ast.Collate) -> Bound:
        name = node.collation.name
        if name not in COLLATIONS:
            raise sql_error(
                "42704", f'collation "{name}" for encoding "UTF8" does not exist', position=node.pos
            )
        return self.bind_known(node.arg)

    def _array(self, node: ast.ArrayExpr) -> Bound:
        if not node.items:
            raise sql_error(
                "42P18",
                "cannot determine type of empty array",
                hint="Explicitly cast to the desired type, for example ARRAY[]::integer[].",
                position=node.pos,
            )
        items = self._unified(node.items, "ARRAY")
        element = items[0].type
        return MakeArray(array_of(element.base) if element.category != "A" else element, tuple(items))

    def _row(self, node: ast.RowExpr) -> Bound:
        items: list[Bound] = []
        for item in node.items:
            bound = self.bind_known(item)
            items += row_fields(bound) if isinstance(item, ast.Star) else [bound]
        return MakeArray(RECORD, tuple(items))

    def _default(self, node: ast.Default) -> Bound:
        raise sql_error("42601", "DEFAULT is not allowed in this context", position=node.pos)

    def _named_argument(self, node: ast.NamedArg) -> Bound:
        raise FeatureNotSupportedError("named arguments are not supported", position=node.pos)

    def _slice(self, node: ast.Slice) -> Bound:
        raise FeatureNotSupportedError("array slices are not supported", position=node.pos)

    def _subscript(self, node: ast.Subscript) -> Bound:
        base = self.bind(node.base)
        element = element_of(base.type)
        if element is None:
            raise sql_error(
                "42804",
                f"cannot subscript type {type_display(base.type)} because it does not support subscripting",
                position=node.pos,
            )
        origin = 0 if base.type.oid in (22, 30) else 1
        return Subscript(element, base, self.bind_as(node.index, INT4, "a"), origin)

    # --- functions

    def _value_function(self, node: ast.SqlValueFunction) -> Bound:
        return fns.value_function(self.st, node)

    def _function(self, node: ast.FunctionCall) -> Bound:
        name = node.name[-1]
        if node.variadic:
            raise FeatureNotSupportedError("VARIADIC arguments are not supported", position=node.pos)
        special = _SPECIAL.get(name) if len(node.name) == 1 else None
        if special is not None:
            return special(self, node)
        if fns.is_set_returning(self.st, name, len(node.args)):
            raise FeatureNotSupportedError(
                f"set-returning functions are not supported in {self.clause or 'this place'}",
                position=node.pos,
            )
        if fns.is_aggregate(name) and (node.star or node.args or name == "count"):
            return self._aggregate(node)
        if node.star or node.distinct or node.filter is not None or node.order_by:
            what = "DISTINCT" if node.distinct else "FILTER" if node.filter is not None else "*"
            raise sql_error(
                "42809", f"{what} specified, but {name} is not an aggregate function", position=node.pos
            )
        return self.function(name, [self.bind(arg) for arg in node.args], node.pos, schema=node.name[:-1])

    def function(
        self, name: str, args: Sequence[Bound], position: int = 0, schema: tuple[str, ...] = ()
    ) -> Bound:
        """A function over bound arguments."""
        try:
            return fns.make_function(self.st, name, list(args), schema)
        except TxndbError as error:
            error.position = error.position or position
            raise

    def _aggregate(self, node: ast.FunctionCall) -> Bound:
        if self._inside_aggregate:
            raise sql_error("42803", "aggregate function calls cannot be nested", position=node.pos)
        if not self.aggregates_allowed:
            where = self.clause or "this context"
            raise sql_error("42803", f"aggregate functions are not allowed in {where}", position=node.pos)
        self._inside_aggregate = True
        try:
            args = [self.bind(arg) for arg in node.args]
            condition = self.bind_condition(node.filter, "FILTER") if node.filter is not None else None
            keys = tuple(sort_item(self, key) for key in node.order_by)
            for key, item in zip(node.order_by, keys, strict=True):
                if node.distinct and item.expr not in args:
                    raise sql_error(
                        "42P10",
                        "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list",
                        position=key.expr.pos,
                    )
        finally:
            self._inside_aggregate = False
        order = tuple((k.expr, k.descending, k.nulls_first) for k in keys)
        if _of_outer_query([*args, *([condition] if condition is not None else [])]):
            raise FeatureNotSupportedError(
                "an aggregate over an enclosing query's columns alone is not supported", position=node.pos
            )
        return fns.make_aggregate(self.st, node, args, condition, order)

    def _unified(self, nodes: Sequence[ast.Expr], what: str) -> list[Bound]:
        return unify(self.st, [self.bind(n) for n in nodes], what, positions=[start_of(n) for n in nodes])

    def _coalesce(self, node: ast.FunctionCall) -> Bound:
        args = self._unified(node.args, "COALESCE")
        return args[0] if len(args) == 1 else Coalesce(args[0].type, tuple(args))

    def _nullif(self, node: ast.FunctionCall) -> Bound:
        if len(node.args) != 2:
            raise sql_error("42601", "NULLIF requires two arguments", position=node.pos)
        left, right = self.bind(node.args[0]), self.bind(node.args[1])
        equal = self.operator("=", left, right, node.pos)
        value = equal.args[0] if isinstance(equal, Call) and left.type.oid == UNKNOWN.oid else left
        return Case(value.type, ((equal, Const(value.type, None)),), value)

    def _extreme(self, node: ast.FunctionCall) -> Bound:
        name = node.name[-1]
        args = self._unified(node.args, name.upper())
        probe = Col(args[0].type, -1)
        less = self.operator("<", probe, probe, node.pos)
        assert isinstance(less, Call)
        return Extreme(args[0].type, tuple(args), name == "greatest", fns.binary_callable(self.st, less))


def start_of(node: ast.Expr) -> int:
    """Where an expression begins (an operator's position is its own)."""
    found = [node.pos]
    stack: list[object] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple):
            stack.extend(item)
        elif isinstance(item, ast.Expr):
            found.append(item.pos)
            stack.extend(getattr(item, field) for field in item.__struct_fields__)
    return min(p for p in found if p) if any(found) else 0


def _of_outer_query(exprs: list[Bound]) -> bool:
    """Whether expressions name columns, and only such of enclosing queries (their aggregate would be that query's)."""
    nodes = [node for expr in exprs for node in walk(expr)]
    outer = any(isinstance(node, Param) and node.index >= OUTER_PARAM for node in nodes)
    return outer and not any(isinstance(node, Col) for node in nodes)


def sort_item(binder: ExprBinder, key: ast.SortKey, expr: Bound | None = None) -> SortItem:
    """A sort key with PostgreSQL's place for NULLs: last ascending, first descending."""
    if expr is None:
        expr = binder.bind_known(key.expr)
    nulls_first = key.descending if key.nulls is None else key.nulls == "FIRST"
    return SortItem(expr, key.descending, nulls_first)


def resolve_column(statement: Statement, scope: Scope, node: ast.ColumnRef) -> Bound:
    """The column a name means, in this scope or an enclosing one (then a parameter)."""
    if len(node.parts) > 2 and node.parts[-3] not in ("public", "pg_catalog", "information_schema"):
        raise _no_column(scope, node)
    chain: list[Scope] = []
    current: Scope | None = scope
    while current is not None:
        found = current.lookup(node.parts)
        distinct = {c.col: c for c in found}
        if len(distinct) > 1:
            raise sql_error("42702", f'column reference "{node.parts[-1]}" is ambiguous', position=node.pos)
        if found:
            return _through(statement, chain, found[0].col)
        chain.append(current)
        current = current.parent
    row = whole_row(statement, scope, node.parts[0]) if len(node.parts) == 1 else None
    if row is None:
        raise _no_column(scope, node)
    return row


def whole_row(statement: Statement, scope: Scope, table: str) -> Bound | None:
    """A table's name used as a value: its row. Of an outer join's missing side it is NULL, where that can be told."""
    chain: list[Scope] = []
    current: Scope | None = scope
    while current is not None and not current.has_table(table):
        chain.append(current)
        current = current.parent
    if current is None or not table:
        return None
    fields = tuple(_through(statement, chain, c.col) for c in current.columns if c.table == table)
    row = MakeArray(RECORD, fields)
    for column, field in zip((c for c in current.columns if c.table == table), fields, strict=True):
        if isinstance(column.col, Col) and not column.col.nullable:
            return Case(RECORD, ((IsTest(BOOL, field, "NULL", False), Const(RECORD, None)),), row)
    return row


def row_fields(expr: Bound) -> tuple[Bound, ...]:
    """The fields of a row constructor or a table's row; () of any other expression."""
    if isinstance(expr, Case):
        expr = expr.otherwise
    return expr.items if isinstance(expr, MakeArray) and expr.type.oid == RECORD.oid else ()


def _through(statement: Statement, chain: list[Scope], col: Bound) -> Bound:
    """Seen from the innermost scope: the column itself, or the parameter it is handed down as."""
    if not chain or not isinstance(col, Col):
        return col
    top = chain[-1]
    known = top.outer.get(col.id)
    if known is None:
        known = top.outer[col.id] = (col, statement.new_outer())
    return Param(col.type, known[1])


def _no_column(scope: Scope, node: ast.ColumnRef) -> TxndbError:
    if len(node.parts) > 4:
        message = f"improper qualified name (too many dotted names): {'.'.join(node.parts)}"
        return sql_error("42601", message, position=node.pos)
    if len(node.parts) > 2 and node.parts[-3] not in ("public", "pg_catalog", "information_schema"):
        table = node.parts[-2]
        return sql_error(
            "42P01",
            f'invalid reference to FROM-clause entry for table "{table}"',
            hint=f'There is an entry for table "{table}", but it cannot be referenced from this part of the query.',
            position=node.pos,
        )
    if len(node.parts) > 1:
        table = node.parts[-2]
        current: Scope | None = scope
        while current is not None:
            if current.has_table(table):
                return sql_error("42703", f"column {'.'.join(node.parts)} does not exist", position=node.pos)
            current = current.parent
        return sql_error("42P01", f'missing FROM-clause entry for table "{table}"', position=node.pos)
    return sql_error("42703", f'column "{node.parts[0]}" does not exist', position=node.pos)


def contains_aggregate(expr: Bound) -> bool:
    """Whether an aggregate call is inside."""
    return any(isinstance(node, Aggregate) for node in walk(expr))


_HANDLERS: dict[type, Callable[[ExprBinder, Any], Bound]] = {
    ast.ColumnRef: ExprBinder._column,
    ast.Star: ExprBinder._star_value,
    ast.FieldSelect: ExprBinder._field,
    ast.Default: ExprBinder._default,
    ast.NamedArg: ExprBinder._named_argument,
    ast.Slice: ExprBinder._slice,
    ast.Param: ExprBinder._param,
    ast.Literal: ExprBinder._literal,
    ast.Unary: ExprBinder._unary,
    ast.Binary: ExprBinder._binary,
    ast.BoolOp: ExprBinder._bool_op,
    ast.Not: ExprBinder._not,
    ast.IsTest: ExprBinder._is_test,
    ast.IsDistinct: ExprBinder._is_distinct,
    ast.Like: ExprBinder._like,
    ast.Between: ExprBinder._between,
    ast.InList: ExprBinder._in_list,
    ast.InSubquery: ExprBinder._in_subquery,
    ast.QuantifiedArray: ExprBinder._quantified_array,
    ast.QuantifiedSubquery: ExprBinder._quantified_subquery,
    ast.Exists: ExprBinder._exists,
    ast.ScalarSubquery: ExprBinder._scalar_subquery,
    ast.ArraySubquery: ExprBinder._array_subquery,
    ast.ArrayExpr: ExprBinder._array,
    ast.Subscript: ExprBinder._subscript,
    ast.RowExpr: ExprBinder._row,
    ast.Case: ExprBinder._case,
    ast.Cast: ExprBinder._cast,
    ast.Collate: ExprBinder._collate,
    ast.FunctionCall: ExprBinder._function,
    ast.SqlValueFunction: ExprBinder._value_function,
}

_SPECIAL: dict[str, Callable[[ExprBinder, ast.FunctionCall], Bound]] = {
    "coalesce": ExprBinder._coalesce,
    "nullif": ExprBinder._nullif,
    "greatest": ExprBinder._extreme,
    "least": ExprBinder._extreme,
}

__all__ = ["ExprBinder", "Param", "contains_aggregate", "resolve_column", "sort_item", "start_of"]
