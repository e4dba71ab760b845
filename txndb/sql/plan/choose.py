"""From logical to physical: access paths, join methods and order of inputs, sorts that an index makes needless.

The consumer's wanted order and limit travel down with `choose`; what an operator gives is read off its `ordering`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from txndb.errors import InternalError
from txndb.sql.plan import logical as lo
from txndb.sql.plan.access import (
    LOOKUP_COST,
    TABLE_ROWS,
    Wanted,
    choose_path,
    comparable_as_stored,
    strip_widening,
)
from txndb.sql.plan.expr import Bound, Call, Col, Const, columns_of, is_volatile
from txndb.sql.plan.physical import (
    ApplyRows,
    ConstantRows,
    DistinctRows,
    FilterRows,
    FunctionRows,
    HashAggregate,
    HashJoin,
    IndexScan,
    LimitRows,
    LookupJoin,
    LoopJoin,
    Physical,
    ProjectRows,
    SetOperation,
    SortRows,
    VirtualRows,
)
from txndb.sql.types.core import INT8

GROUP_SHARE = 0.1


class Want(msgspec.Struct, frozen=True):
    """What the consumer would like: an order, and whether it stops early."""

    order: Wanted = ()
    limited: bool = False


NOTHING = Want()


def slots(columns: Sequence[Col]) -> dict[int, int]:
    """The layout of compact rows."""
    return {c.id: i for i, c in enumerate(columns)}


def choose(node: lo.Logical, want: Want = NOTHING) -> Physical:
    """The physical plan of a logical one."""
    match node:
        case lo.Scan():
            return choose_path(node, want.order, limited=want.limited)
        case lo.VirtualScan():
            return VirtualRows(
                layout=slots(node.columns), width=len(node.columns), rows=100.0, table=node.table
            )
        case lo.FunctionScan():
            return FunctionRows(
                layout=slots(node.columns),
                width=len(node.columns),
                rows=1000.0,
                name=node.name,
                args=node.args,
                ordinality=node.ordinality,
                lockstep=node.lockstep,
            )
        case lo.ValuesRows():
            return ConstantRows(
                layout=slots(node.columns),
                width=len(node.columns),
                rows=float(len(node.rows)),
                exprs=node.rows,
            )
        case lo.Filter():
            return _filter(choose(node.input, want), node.conditions)
        case lo.Project():
            return _project(node, want)
        case lo.Join():
            return _join(node, want)
        case lo.Aggregation():
            return _aggregation(node)
        case lo.Sort():
            return _sort(node, want)
        case lo.Limit():
            return _limit(node, want)
        case lo.Distinct():
            return _distinct(node, want)
        case lo.SetOp():
            return _set_op(node)
        case lo.Apply():
            return _apply(node, want)
    raise InternalError(f"no physical operator for {type(node).__name__}")


def _filter(below: Physical, conditions: tuple[Bound, ...]) -> Physical:
    if not conditions:
        return below
    return FilterRows(
        layout=below.layout,
        width=below.width,
        nonnull=below.nonnull,
        rows=max(1.0, below.rows * 0.3),
        ordering=below.ordering,
        fixed=below.fixed,
        input=below,
        conditions=conditions,
    )


def _project(node: lo.Project, want: Want) -> Physical:
    passed = {
        c.id for c, e in zip(node.columns, node.exprs, strict=True) if isinstance(e, Col) and e.id == c.id
    }
    inner = want
    if any(c not in passed for c, _ in want.order):
        inner = Want((), want.limited and not want.order)
    below = choose(node.input, inner)
    if all(isinstance(e, Col) and e.id == c.id for c, e in zip(node.columns, node.exprs, strict=True)) and (
        below.layout == slots(node.columns) and below.width == len(node.columns)
    ):
        return below
    exprs = node.exprs
    if isinstance(below, ProjectRows) and all(isinstance(e, Col) for e in exprs):
        # a projection of a projection's columns is one projection
        exprs = tuple(below.exprs[below.layout[e.id]] for e in exprs if isinstance(e, Col))
        below = below.input
    keep = 0
    for column, _ in below.ordering:
        if column not in passed and column not in below.fixed:
            break
        keep += 1
    return ProjectRows(
        layout=slots(node.columns),
        width=len(node.columns),
        nonnull=below.nonnull & passed,
        rows=below.rows,
        ordering=below.ordering[:keep],
        fixed=below.fixed & passed,
        input=below,
        exprs=exprs,
    )


# --- sorting and limits


def satisfies(below: Physical, wanted: Wanted) -> bool:
    """Whether the rows come in the wanted order."""
    given = [(c, d) for c, d in below.ordering if c not in below.fixed]
    items = [(c, d) for c, d in wanted if c not in below.fixed]
    return given[: len(items)] == items


def _wanted(items: Sequence[lo.SortItem]) -> Wanted | None:
    """The items as an index order, None if no index can give it."""
    wanted: list[tuple[int, bool]] = []
    for item in items:
        if (
            not isinstance(item.expr, Col)
            or item.nulls_first != item.descending
            or item.expr.type.oid == 1042
        ):
            return None
        wanted.append((item.expr.id, item.descending))
    return tuple(wanted)


def _sort(node: lo.Sort, want: Want) -> Physical:
    wanted = _wanted(node.items)
    if wanted is not None:
        below = choose(node.input, Want(wanted, want.limited))
        if satisfies(below, wanted):
            return below
    below = choose(node.input)
    return SortRows(
        layout=below.layout,
        width=below.width,
        nonnull=below.nonnull,
        rows=below.rows,
        ordering=wanted or (),
        fixed=below.fixed,
        input=below,
        items=node.items,
    )


def _limit(node: lo.Limit, want: Want) -> Physical:
    below = choose(node.input, Want(want.order, limited=node.limit is not None))
    bounds = tuple(b for b in (node.limit, node.offset) if b is not None)
    if node.limit is not None and not any(map(is_volatile, bounds)):  # each who has them evaluates them
        below = push_limit(below, bounds)
    return LimitRows(
        layout=below.layout,
        width=below.width,
        nonnull=below.nonnull,
        rows=min(below.rows, 10.0),
        ordering=below.ordering,
        fixed=below.fixed,
        input=below,
        limit=node.limit,
        offset=node.offset,
    )


def push_limit(node: Physical, bounds: tuple[Bound, ...]) -> Physical:
    """Tell scans and sorts that only the first so many rows are wanted."""
    match node:
        case IndexScan() | SortRows():
            return msgspec.structs.replace(node, limit=bounds)
        case ProjectRows():
            return msgspec.structs.replace(node, input=push_limit(node.input, bounds))
    return node


def _distinct(node: lo.Distinct, want: Want) -> Physical:
    below = choose(node.input, Want(want.order))
    keys: tuple[Bound, ...] = node.on or node.columns
    return DistinctRows(
        layout=below.layout,
        width=below.width,
        nonnull=below.nonnull,
        rows=max(1.0, below.rows * 0.5),
        ordering=below.ordering,
        fixed=below.fixed,
        input=below,
        keys=keys,
    )


def _aggregation(node: lo.Aggregation) -> Physical:
    wanted: Wanted = ()
    if node.keys and all(isinstance(k, Col) for k in node.keys):
        wanted = tuple((k.id, False) for k in node.keys if isinstance(k, Col))
    below = choose(node.input, Want(wanted) if _cheap_order(node.input) else NOTHING)
    ordered = bool(wanted) and _grouped(below, wanted)
    nonnull = frozenset(
        c.id
        for c, k in zip(node.columns, node.keys, strict=False)
        if isinstance(k, Col) and k.id in below.nonnull
    )
    return HashAggregate(
        layout=slots(node.columns),
        width=len(node.columns),
        nonnull=nonnull,
        rows=1.0 if not node.keys else max(1.0, below.rows * GROUP_SHARE),
        ordering=below.ordering[: len(wanted)] if ordered else (),
        input=below,
        keys=node.keys,
        aggregates=node.aggregates,
        ordered=ordered,
    )


def _cheap_order(node: lo.Logical) -> bool:
    return isinstance(node, lo.Scan)


def _grouped(below: Physical, wanted: Wanted) -> bool:
    """Whether equal keys come together: the leading columns of the order are the keys, in any sequence."""
    keys = {c for c, _ in wanted} - below.fixed
    leading = {c for c, _ in below.ordering[: len(keys)]}
    return leading == keys


def _set_op(node: lo.SetOp) -> Physical:
    left, right = (
        compact(choose(node.left), node.left.columns),
        compact(choose(node.right), node.right.columns),
    )
    return SetOperation(
        layout=slots(node.columns),
        width=len(node.columns),
        rows=left.rows + right.rows,
        op=node.op,
        all=node.all,
        left=left,
        right=right,
        types=tuple(c.type for c in node.columns),
    )


def compact(below: Physical, columns: Sequence[Col]) -> Physical:
    """Rows of exactly these columns, in order."""
    if below.layout == slots(columns) and below.width == len(columns):
        return below
    return ProjectRows(
        layout=slots(columns),
        width=len(columns),
        nonnull=below.nonnull,
        rows=below.rows,
        ordering=below.ordering,
        fixed=below.fixed,
        input=below,
        exprs=tuple(columns),
    )


def _apply(node: lo.Apply, want: Want) -> Physical:
    below = choose(node.input, Want(want.order, want.limited and not node.kind.startswith("lateral")))
    limited = node.kind == "exists"
    subplan = choose(node.subplan, Want((), limited))
    if limited:
        subplan = push_limit(subplan, (Const(INT8, 1),))
    subplan = compact(subplan, node.subplan.columns)
    layout = dict(below.layout)
    nonnull = below.nonnull
    if node.kind.startswith("lateral"):
        for i, column in enumerate(node.subplan.columns):
            layout[column.id] = below.width + i
        width = below.width + len(node.subplan.columns)
    else:
        made = node.columns[-1]
        layout[made.id] = below.width
        width = below.width + 1
        if node.kind in ("exists", "array", "set"):
            nonnull = nonnull | {made.id}
    return ApplyRows(
        layout=layout,
        width=width,
        nonnull=nonnull,
        rows=below.rows,
        ordering=() if node.kind.startswith("lateral") else below.ordering,
        fixed=below.fixed,
        input=below,
        subplan=subplan,
        kind=node.kind,
        outer=node.outer,
    )


# --- joins


def _join(node: lo.Join, want: Want) -> Physical:
    if node.kind == "RIGHT":
        swapped = lo.Join(
            (*node.right.columns, *node.left.columns), "LEFT", node.right, node.left, node.conditions
        )
        return _join(swapped, want)
    left_ids = {c.id for c in node.left.columns}
    inner_want = want if want.order and all(c in left_ids for c, _ in want.order) else NOTHING
    left = choose(node.left, Want(inner_want.order, False))
    right = choose(node.right)
    pairs, rest = _equalities(node)
    if node.kind in ("INNER", "LEFT"):
        lookup = _lookup(node, left, right, pairs, rest)
        if lookup is None and node.kind == "INNER" and not _has_locks(node.left):
            swapped = lo.Join(
                (*node.right.columns, *node.left.columns), "INNER", node.right, node.left, node.conditions
            )
            lookup = _lookup(swapped, right, left, [(b, a) for a, b in pairs], rest)
        if lookup is not None:
            return lookup
    layout, width = _joined_layout(left, right)
    rows = max(left.rows, right.rows) if pairs else left.rows * right.rows
    shared: dict[str, Any] = {
        "layout": layout,
        "width": width,
        "nonnull": _joined_nonnull(node.kind, left, right),
        "rows": max(1.0, rows),
        "ordering": left.ordering if node.kind != "FULL" else (),
        "fixed": left.fixed if node.kind != "FULL" else frozenset(),
    }
    if not pairs:
        return LoopJoin(kind=node.kind, left=left, right=right, conditions=node.conditions, **shared)
    return HashJoin(
        kind=node.kind,
        left=left,
        right=right,
        left_keys=tuple(a for a, _ in pairs),
        right_keys=tuple(b for _, b in pairs),
        conditions=tuple(rest),
        **shared,
    )


def _has_locks(node: lo.Logical) -> bool:
    """Whether rows are locked below: a data change's target has to stay leftmost."""
    if isinstance(node, lo.Scan):
        return bool(node.lock)
    return any(_has_locks(child) for child in node.inputs())


def _joined_layout(left: Physical, right: Physical) -> tuple[dict[int, int], int]:
    layout = dict(left.layout)
    for column, slot in right.layout.items():
        layout[column] = left.width + slot
    return layout, left.width + right.width


def _joined_nonnull(kind: str, left: Physical, right: Physical) -> frozenset[int]:
    if kind == "INNER":
        return left.nonnull | right.nonnull
    return left.nonnull if kind == "LEFT" else frozenset()


def _equalities(node: lo.Join) -> tuple[list[tuple[Bound, Bound]], list[Bound]]:
    """Equalities between an expression of the left and one of the right; the other conditions."""
    left_ids = {c.id for c in node.left.columns}
    right_ids = {c.id for c in node.right.columns}
    pairs: list[tuple[Bound, Bound]] = []
    rest: list[Bound] = []
    for condition in node.conditions:
        pair = None
        if isinstance(condition, Call) and condition.operator and condition.name == "=":
            a, b = condition.args
            used_a, used_b = columns_of(a).keys(), columns_of(b).keys()
            same = a.type.oid == b.type.oid or (a.type.oid in (20, 21, 23) and b.type.oid in (20, 21, 23))
            if same and used_a and used_b and a.type.kind != "interval":
                if used_a <= left_ids and used_b <= right_ids:
                    pair = (a, b)
                elif used_b <= left_ids and used_a <= right_ids:
                    pair = (b, a)
        if pair is None:
            rest.append(condition)
        else:
            pairs.append(pair)
    return pairs, rest


def _lookup(
    node: lo.Join, left: Physical, right: Physical, pairs: list[tuple[Bound, Bound]], rest: list[Bound]
) -> Physical | None:
    """A lookup join, where the right is a table with an index on join columns and reading it whole costs more."""
    if not isinstance(node.right, lo.Scan) or not pairs:
        return None
    scan = node.right
    by_id = {c.id: c for c in scan.columns}
    extra: list[Call] = []
    for condition in node.conditions:
        if isinstance(condition, Call) and condition.name == "=" and condition.operator:
            for a in condition.args:
                column = strip_widening(a)
                if isinstance(column, Col) and column.id in by_id:
                    extra.append(condition)
                    break
    usable = [c for c in extra if _is_pair(c, by_id)]
    if not usable:
        return None
    probe = msgspec.structs.replace(scan, filters=(*scan.filters, *usable))
    inner = choose_path(probe)
    if inner.bounds.in_list is not None or not any(
        columns_of(e).keys() - by_id.keys() for e in inner.bounds.equal
    ):
        return None
    per_row = 1.0 if inner.point else max(1.0, inner.rows)
    if left.rows * per_row * LOOKUP_COST >= max(
        right.rows, TABLE_ROWS / 4 if isinstance(right, IndexScan) else 0
    ):
        return None
    inner = msgspec.structs.replace(inner, limit=(), filters=())
    layout, width = _joined_layout(left, inner)
    return LookupJoin(
        layout=layout,
        width=width,
        nonnull=_joined_nonnull(node.kind, left, inner),
        rows=max(1.0, left.rows * per_row),
        ordering=left.ordering,
        fixed=left.fixed,
        kind=node.kind,
        left=left,
        inner=inner,
        conditions=(*scan.filters, *node.conditions),
    )


def _is_pair(condition: Call, own: dict[int, Col]) -> bool:
    a, b = (strip_widening(x) for x in condition.args)
    for column, other in ((a, b), (b, a)):
        if isinstance(column, Col) and column.id in own and not (columns_of(other).keys() & own.keys()):
            return comparable_as_stored(column, other)
    return False
