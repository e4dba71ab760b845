"""The planner: a parsed statement to a `Plan`, by binding, the rewrite rules and the choice of operators."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from txndb.errors import FeatureNotSupportedError, InternalError, SqlError, sql_error
from txndb.limits import TARGETS_MAX
from txndb.sql.catalog.descriptors import TableDesc
from txndb.sql.parse import ast
from txndb.sql.plan.bind_dml import BoundDml, DmlBinder
from txndb.sql.plan.bind_query import QueryBinder
from txndb.sql.plan.choose import choose, compact
from txndb.sql.plan.expr import Bound, Col
from txndb.sql.plan.logical import Logical, Scan
from txndb.sql.plan.physical import (
    ConflictClause,
    DeletePlan,
    IndexScan,
    InsertPlan,
    OutputColumn,
    Physical,
    Plan,
    Root,
    UpdatePlan,
)
from txndb.sql.plan.rules import RULES
from txndb.sql.plan.rules.fold_constants import fold
from txndb.sql.plan.scope import Scope, Statement
from txndb.sql.types.core import TEXT

Trace = Callable[[str, Logical], None]


def rewrite(plan: Logical, trace: Trace | None = None) -> Logical:
    """All rules in order; `trace` is told the plan after each."""
    for rule in RULES:
        plan = rule(plan)
        if trace is not None:
            trace(rule.__name__, plan)
    return plan


def plan_statement(st: Statement, node: ast.Statement) -> Plan:
    """Plan a query or a data change. Parameters nothing gave a type are text."""
    body = node.body if isinstance(node, ast.Query) else None
    _refuse_nested_as_of(node, body if isinstance(body, ast.Select) else None)
    match node:
        case ast.Query():
            plan = _plan_query(st, node)
        case ast.Insert():
            plan = _plan_dml(st, DmlBinder(st).insert(node))
        case ast.Update():
            plan = _plan_dml(st, DmlBinder(st).update(node))
        case ast.Delete():
            plan = _plan_dml(st, DmlBinder(st).delete(node))
        case _:
            raise FeatureNotSupportedError(f"{type(node).__name__} cannot be planned", position=node.pos)
    if st.all_typed and None in st.param_types:
        number = st.param_types.index(None) + 1
        raise sql_error("42P18", f"could not determine data type of parameter ${number}")
    types = tuple(t if t is not None else TEXT for t in st.param_types)
    return msgspec.structs.replace(
        plan, param_types=types, outer_count=st.outer_count, session_dependent=st.context_used
    )


def _refuse_nested_as_of(node: object, top: ast.Select | None) -> None:
    """AS OF SYSTEM TIME moves a whole statement into the past; on a part of one it must not be overlooked."""
    if isinstance(node, ast.Select) and node.as_of is not None and node is not top:
        raise FeatureNotSupportedError(
            "AS OF SYSTEM TIME is supported on a whole query only", position=node.as_of.pos
        )
    if isinstance(node, ast.Node):
        for field in node.__struct_fields__:
            _refuse_nested_as_of(getattr(node, field), top)
    elif isinstance(node, tuple):
        for item in node:
            _refuse_nested_as_of(item, top)


def _plan_query(st: Statement, node: ast.Query) -> Plan:
    if isinstance(node.body, ast.Select) and len(node.body.targets) > TARGETS_MAX:
        raise too_many_targets()
    logical, names = QueryBinder(st).bind_query(node, Scope())
    columns = logical.columns
    if len(columns) > TARGETS_MAX:
        raise too_many_targets()
    physical = choose(rewrite(logical))
    output = output_columns(st, names, columns)
    as_of = node.body.as_of if isinstance(node.body, ast.Select) else None
    return Plan(
        root=physical,
        output=output,
        slots=tuple(physical.layout[c.id] for c in columns),
        kind="SELECT",
        locks=_locks(physical),
        as_of=as_of,
    )


def too_many_targets() -> SqlError:
    """More columns than a result may have."""
    return sql_error("54011", f"target lists can have at most {TARGETS_MAX} entries")


def _locks(node: Physical) -> bool:
    if isinstance(node, IndexScan) and node.lock:
        return True
    return any(_locks(child) for child in node.inputs())


def output_columns(st: Statement, names: list[str], exprs: tuple[Bound, ...]) -> tuple[OutputColumn, ...]:
    """The result's description."""
    made = []
    for name, expr in zip(names, exprs, strict=True):
        table_id, number = st.origins.get(expr.id, (0, 0)) if isinstance(expr, Col) else (0, 0)
        made.append(OutputColumn(name, expr.type, table_id, number))
    return tuple(made)


def _plan_dml(st: Statement, bound: BoundDml) -> Plan:
    columns = bound.input.columns
    logical = rewrite(bound.input) if bound.kind == "INSERT" else _rewrite_target(bound)
    physical = choose(logical)
    layout = {col.id: c.position for c, col in zip(bound.table.columns, bound.columns, strict=True)}
    root: Root
    if bound.kind == "INSERT":
        if physical.layout != {c.id: i for i, c in enumerate(columns)} or physical.width != len(columns):
            physical = compact(physical, columns)
        root = InsertPlan(
            table=bound.table,
            source=physical,
            layout=layout,
            checks=bound.checks,
            conflict=_conflict(bound, layout),
            returning=bound.returning,
        )
    else:
        for col, position in layout.items():
            if physical.layout.get(col) != position:
                raise InternalError("the target of a data change is not the leftmost input")
        if bound.kind == "UPDATE":
            root = UpdatePlan(
                table=bound.table,
                input=physical,
                layout=layout,
                assignments=tuple((p, fold(e)) for p, e in bound.assignments),
                checks=bound.checks,
                returning=bound.returning,
            )
        else:
            root = DeletePlan(table=bound.table, input=physical, layout=layout, returning=bound.returning)
    output = None
    if bound.returning is not None:
        output = output_columns(st, list(bound.names), bound.returning)
    return Plan(root=root, output=output, slots=tuple(range(len(output or ()))), kind=bound.kind, locks=True)


def _rewrite_target(bound: BoundDml) -> Logical:
    """Rewritten with all of the target's columns kept, whatever the statement reads."""
    plan = rewrite(bound.input)
    return _keep_all(plan, bound.columns)


def _keep_all(plan: Logical, columns: tuple[Col, ...]) -> Logical:
    if isinstance(plan, Scan):
        return msgspec.structs.replace(plan, needed=None) if plan.columns == columns else plan
    inputs = plan.inputs()
    if not inputs:
        return plan
    return plan.with_inputs((_keep_all(inputs[0], columns), *inputs[1:]))


def _conflict(bound: BoundDml, layout: dict[int, int]) -> ConflictClause | None:
    conflict = bound.conflict
    if conflict is None:
        return None
    both = dict(layout)
    table: TableDesc = bound.table
    for column, col in zip(table.columns, conflict.excluded, strict=False):
        both[col.id] = table.next_position + column.position
    return ConflictClause(conflict.arbiters, conflict.update, conflict.assignments, conflict.condition, both)


__all__ = ["plan_statement", "rewrite"]
