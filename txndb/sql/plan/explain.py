"""EXPLAIN: a physical plan as indented text, and expressions as SQL-like text."""

from __future__ import annotations

from collections.abc import Iterable

from txndb.sql.plan import physical as ph
from txndb.sql.plan.deparse import quote_literal
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
    InList,
    InSet,
    IsDistinct,
    IsTest,
    MakeArray,
    Not,
    Or,
    Param,
    Quantified,
    Subscript,
)
from txndb.sql.types import format_text


def expr_text(expr: Bound) -> str:
    """A bound expression for people."""
    match expr:
        case Const():
            return _constant(expr)
        case Param():
            return (
                f"${expr.index + 1}" if expr.index < OUTER_PARAM else f"outer${expr.index - OUTER_PARAM + 1}"
            )
        case Col():
            return expr.name or f"column{expr.id}"
        case Call():
            return _call(expr)
        case And():
            return "(" + " AND ".join(map(expr_text, expr.args)) + ")"
        case Or():
            return "(" + " OR ".join(map(expr_text, expr.args)) + ")"
        case Not():
            return f"(NOT {expr_text(expr.arg)})"
        case IsTest():
            return f"({expr_text(expr.arg)} IS {'NOT ' if expr.negated else ''}{expr.test})"
        case IsDistinct():
            a, b = map(expr_text, expr.equal.args)
            return f"({a} IS {'NOT ' if expr.negated else ''}DISTINCT FROM {b})"
        case InList():
            return f"({expr_text(expr.arg)} IN ({_list(expr.items)}))"
        case InSet():
            return f"({expr_text(expr.arg)} IN (subquery))"
        case Aggregate():
            return _aggregate(expr)
    return _other(expr)


def _other(expr: Bound) -> str:
    match expr:
        case Case():
            whens = " ".join(f"WHEN {expr_text(c)} THEN {expr_text(r)}" for c, r in expr.whens)
            return f"CASE {whens} ELSE {expr_text(expr.otherwise)} END"
        case Coalesce():
            return f"COALESCE({_list(expr.args)})"
        case Extreme():
            return f"{'GREATEST' if expr.greatest else 'LEAST'}({_list(expr.args)})"
        case Quantified():
            word = "ALL" if expr.all else "ANY"
            return f"({expr_text(expr.left)} {expr.name} {word} ({expr_text(expr.array)}))"
        case MakeArray():
            return f"ARRAY[{_list(expr.items)}]"
        case Subscript():
            return f"{expr_text(expr.base)}[{expr_text(expr.index)}]"
    return type(expr).__name__


def _list(exprs: Iterable[Bound]) -> str:
    return ", ".join(map(expr_text, exprs))


def _constant(expr: Const) -> str:
    if expr.value is None:
        return "NULL"
    text = format_text(expr.type, expr.value)
    if expr.type.kind in ("int", "decimal", "float", "bool") and expr.type.category in "NB":
        return {"t": "true", "f": "false"}.get(text, text) if expr.type.kind == "bool" else text
    return quote_literal(text)


def _call(expr: Call) -> str:
    if expr.cast:
        inner = expr_text(expr.args[0])
        return inner if expr.name.startswith("relabel") else f"{inner}::{expr.type}"
    if expr.operator and len(expr.args) == 2:
        return f"({expr_text(expr.args[0])} {expr.name} {expr_text(expr.args[1])})"
    if expr.operator:
        return f"({expr.name}{expr_text(expr.args[0])})"
    return f"{expr.name}({_list(expr.args)})"


def _aggregate(expr: Aggregate) -> str:
    args = _list(expr.args) or "*"
    tail = f" FILTER (WHERE {expr_text(expr.filter)})" if expr.filter is not None else ""
    return f"{expr.name}({'DISTINCT ' if expr.distinct else ''}{args}){tail}"


def explain(plan: ph.Plan) -> list[str]:
    """The plan's lines."""
    lines: list[str] = []
    root = plan.root
    match root:
        case ph.InsertPlan():
            lines.append(f"Insert on {root.table.name}")
            if root.conflict is not None:
                lines.append(f"  Conflict Resolution: {'UPDATE' if root.conflict.update else 'NOTHING'}")
            _node(root.source, 1, lines)
        case ph.UpdatePlan():
            lines.append(f"Update on {root.table.name}")
            _node(root.input, 1, lines)
        case ph.DeletePlan():
            lines.append(f"Delete on {root.table.name}")
            _node(root.input, 1, lines)
        case ph.Physical():
            _node(root, 0, lines)
    return lines


def _node(node: ph.Physical, depth: int, lines: list[str]) -> None:
    pad = "  " * depth
    arrow = f"{pad}-> " if depth else ""
    inner = pad + ("     " if depth else "  ")
    title, details = _describe(node)
    lines.append(f"{arrow}{title}  (rows={node.rows:.0f})")
    lines += [f"{inner}{d}" for d in details]
    if isinstance(node, ph.LookupJoin):
        _node(node.left, depth + 1, lines)
        return
    for child in node.inputs():
        _node(child, depth + 1, lines)


def _describe(node: ph.Physical) -> tuple[str, list[str]]:
    match node:
        case ph.IndexScan():
            return _scan(node)
        case ph.VirtualRows():
            return f"Virtual Scan on {node.table.name}", []
        case ph.FunctionRows():
            return f"Function Scan on {node.name}", []
        case ph.ConstantRows():
            return ("Result" if node.width == 0 else f"Values ({len(node.exprs)} rows)"), []
        case ph.FilterRows():
            return "Filter", [f"Condition: {_list(node.conditions)}"]
        case ph.ProjectRows():
            return "Project", [f"Output: {_list(node.exprs)}"]
        case ph.HashAggregate():
            name = "Aggregate" if not node.keys else "Group Aggregate" if node.ordered else "Hash Aggregate"
            details = [f"Group Key: {_list(node.keys)}"] if node.keys else []
            return name, [*details, *([f"Output: {_list(node.aggregates)}"] if node.aggregates else [])]
        case ph.SortRows():
            return ("Top-N Sort" if node.limit else "Sort"), [f"Sort Key: {_sort_keys(node)}"]
        case ph.LimitRows():
            return "Limit", []
        case ph.DistinctRows():
            return "Distinct", []
        case ph.SetOperation():
            return f"{node.op.title()}{' All' if node.all else ''}", []
        case ph.ApplyRows():
            once = "once" if not node.outer else "per row"
            return f"Subquery ({node.kind}, {once})", []
    return _join(node)


def _join(node: ph.Physical) -> tuple[str, list[str]]:
    match node:
        case ph.HashJoin():
            pairs = zip(node.left_keys, node.right_keys, strict=True)
            condition = " AND ".join(f"{expr_text(a)} = {expr_text(b)}" for a, b in pairs)
            details = [f"Hash Condition: {condition}"]
            if node.conditions:
                details.append(f"Filter: {_list(node.conditions)}")
            return f"Hash Join ({node.kind.lower()})", details
        case ph.LookupJoin():
            title, details = _scan(node.inner)
            return f"Lookup Join ({node.kind.lower()}) using {title}", [
                *details,
                *([f"Condition: {_list(node.conditions)}"] if node.conditions else []),
            ]
        case ph.LoopJoin():
            return f"Nested Loop ({node.kind.lower()})", (
                [f"Condition: {_list(node.conditions)}"] if node.conditions else []
            )
    return type(node).__name__, []


def _sort_keys(node: ph.SortRows) -> str:
    parts = []
    for item in node.items:
        text = expr_text(item.expr) + (" DESC" if item.descending else "")
        if item.nulls_first != item.descending:
            text += " NULLS FIRST" if item.nulls_first else " NULLS LAST"
        parts.append(text)
    return ", ".join(parts)


def _scan(node: ph.IndexScan) -> tuple[str, list[str]]:
    bounds = node.bounds
    names = [node.table.column_at(p).name for p in node.index.columns]
    conditions = [f"{n} = {expr_text(e)}" for n, e in zip(names, bounds.equal, strict=False)]
    depth = len(bounds.equal)
    if bounds.in_list is not None:
        conditions.append(f"{names[depth]} IN ({_list(bounds.in_list)})")
        depth += 1
    if bounds.low is not None:
        conditions.append(f"{names[depth]} {'>=' if bounds.low_inclusive else '>'} {expr_text(bounds.low)}")
    if bounds.high is not None:
        conditions.append(f"{names[depth]} {'<=' if bounds.high_inclusive else '<'} {expr_text(bounds.high)}")
    how = "Point Get" if node.point else "Index Scan" if conditions else "Full Scan"
    if node.reverse:
        how += " Backward"
    primary = node.index.id == node.table.primary.id
    where = f"{node.table.name}" if primary else f"{node.table.name} using {node.index.name}"
    if not primary and node.covering:
        how = how.replace("Index Scan", "Index Only Scan")
    if node.alias != node.table.name:
        where += f" {node.alias}"
    details = [f"Bounds: {' AND '.join(conditions)}"] if conditions else []
    if node.filters:
        details.append(f"Filter: {_list(node.filters)}")
    if node.limit:
        details.append(f"Limit: {' + '.join(map(expr_text, node.limit))}")
    if node.lock:
        details.append(f"Lock: {'EXCLUSIVE' if node.lock == 2 else 'SHARED'}")
    return f"{how} on {where}", details
