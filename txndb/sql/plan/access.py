"""Access paths: which index a scan goes through, and which part of it.

Every index is scored on its own: leading columns with an equality (then perhaps one IN list), then a range on the next
column. Without statistics the score rests on fixed guesses of selectivity; what matters is that a point beats a
prefix, a prefix beats a range, and an index that gives the wanted order beats a sort.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from txndb.sql.catalog.descriptors import IndexDesc, TableDesc
from txndb.sql.plan.expr import And, Bound, Call, Col, InList, columns_of, is_volatile
from txndb.sql.plan.logical import Scan
from txndb.sql.plan.physical import Bounds, IndexScan

TABLE_ROWS = 10_000.0
EQUAL_SELECTIVITY = 0.005
RANGE_SELECTIVITY = 0.25
FILTER_SELECTIVITY = 0.3
LOOKUP_COST = 3.0
SORT_COST = 2.0
LIMIT_ROWS = 10.0

_FLIPPED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

Wanted = tuple[tuple[int, bool], ...]


class _Constraint(msgspec.Struct, frozen=True):
    """`column op value`, where the value refers to no column of the table."""

    op: str
    value: Bound
    source: Bound
    items: tuple[Bound, ...] = ()


def comparable_as_stored(column: Col, other: Bound) -> bool:
    """Whether comparing equals comparing keys: same representation and same order."""
    a, b = column.type, other.type
    if a.oid == b.oid:
        return True
    integers, texts = (20, 21, 23), (25, 1043, 19)
    return any(a.oid in group and b.oid in group for group in (integers, texts))


def strip_widening(expr: Bound) -> Bound:
    """Without a cast that changes the type but no value's key (int4 to int8, varchar to text)."""
    while isinstance(expr, Call) and expr.cast and len(expr.args) == 1:
        inner = expr.args[0]
        integers = (21, 23, 20)
        if inner.type.oid in integers and expr.type.oid in integers:
            if integers.index(inner.type.oid) > integers.index(expr.type.oid):
                break
        elif not (inner.type.oid in (1043, 25, 19) and expr.type.oid in (25, 1043) and expr.type.typmod < 0):
            break
        expr = inner
    return expr


def _constraints(scan: Scan) -> dict[int, list[_Constraint]]:
    """Usable conditions by column id."""
    own = {c.id for c in scan.columns}
    found: dict[int, list[_Constraint]] = {}
    for condition in _flatten(scan.filters):
        if isinstance(condition, InList):
            column = strip_widening(condition.arg)
            free = not any(columns_of(i).keys() & own for i in condition.items)
            if isinstance(column, Col) and column.id in own and free:
                if all(comparable_as_stored(column, i) for i in condition.items):
                    entry = _Constraint("in", condition.items[0], condition, condition.items)
                    found.setdefault(column.id, []).append(entry)
            continue
        for column, op, value in _sides(condition):
            if column.id in own and not (columns_of(value).keys() & own) and not is_volatile(value):
                if comparable_as_stored(column, value):
                    found.setdefault(column.id, []).append(_Constraint(op, value, condition))
                    break
    return found


def _flatten(filters: tuple[Bound, ...]) -> Iterator[Bound]:
    for condition in filters:
        if isinstance(condition, And):
            yield from _flatten(condition.args)
        else:
            yield condition


def _sides(condition: Bound) -> Iterator[tuple[Col, str, Bound]]:
    if not (isinstance(condition, Call) and condition.operator and condition.name in _FLIPPED):
        return
    left, right = (strip_widening(a) for a in condition.args)
    if isinstance(left, Col):
        yield left, condition.name, right
    if isinstance(right, Col):
        yield right, _FLIPPED[condition.name], left


class _Path(msgspec.Struct):
    index: IndexDesc
    bounds: Bounds
    rows: float
    cost: float
    point: bool
    covering: bool
    reverse: bool
    ordered: bool
    used: list[Bound]


def stored_positions(table: TableDesc, index: IndexDesc) -> tuple[int, ...]:
    """The columns held by an entry of a secondary index, in order: its own, then the primary key's others."""
    rest = tuple(p for p in table.primary.columns if p not in index.columns)
    return (*index.columns, *rest)


def choose_path(
    scan: Scan, wanted: Wanted = (), *, limited: bool = False, whole_row: bool = False
) -> IndexScan:
    """The cheapest path for the scan; `wanted` is the order the consumer would like, `limited` if under a LIMIT."""
    constraints = _constraints(scan)
    paths = [
        _path(scan, index, constraints, wanted, limited=limited, whole_row=whole_row)
        for index in (scan.table.primary, *scan.table.indexes)
    ]
    best = min(paths, key=lambda p: (p.cost, p.index.id != scan.table.primary.id))
    return _build(scan, best)


def _path(
    scan: Scan,
    index: IndexDesc,
    constraints: dict[int, list[_Constraint]],
    wanted: Wanted,
    *,
    limited: bool,
    whole_row: bool,
) -> _Path:
    ids = {c.position: col for c, col in zip(scan.table.columns, scan.columns, strict=True)}
    primary = index.id == scan.table.primary.id
    equal: list[Bound] = []
    used: list[Bound] = []
    in_list: tuple[Bound, ...] | None = None
    depth = 0
    for position in index.columns:
        column = ids[position]
        options = constraints.get(column.id, [])
        match = next((o for o in options if o.op == "="), None)
        if match is not None:
            equal.append(match.value)
            used.append(match.source)
            depth += 1
            continue
        several = next((o for o in options if o.op == "in"), None)
        if several is not None:
            in_list = several.items
            used.append(several.source)
            depth += 1
        break
    bounds = Bounds(tuple(equal), in_list)
    rows = TABLE_ROWS
    point = index.unique and depth == len(index.columns)
    if point:
        rows = float(len(in_list)) if in_list is not None else 1.0
    else:
        rows = max(1.0, rows * EQUAL_SELECTIVITY**depth * (len(in_list) if in_list is not None else 1))
        bounds, share, sources = _range(bounds, index, ids, constraints, depth)
        rows *= share
        used += sources
    needed = scan.needed if not whole_row else None
    covering = primary or _covers(scan, index, ids, needed)
    ordered, reverse = _ordered(index, ids, len(equal), in_list is not None, wanted)
    scanned = rows
    if limited and (ordered or not wanted) and len(used) >= len(list(_flatten(scan.filters))):
        scanned = min(rows, LIMIT_ROWS)
    cost = scanned * (1.0 if covering else LOOKUP_COST)
    if point and primary:
        cost *= 0.5
    if wanted and not ordered:
        cost += rows * SORT_COST
    return _Path(index, bounds, rows, cost, point, covering, reverse, ordered, used)


def _range(
    bounds: Bounds,
    index: IndexDesc,
    ids: dict[int, Col],
    constraints: dict[int, list[_Constraint]],
    depth: int,
) -> tuple[Bounds, float, list[Bound]]:
    if depth >= len(index.columns):
        return bounds, 1.0, []
    options = constraints.get(ids[index.columns[depth]].id, [])
    low = next((o for o in options if o.op in (">", ">=")), None)
    high = next((o for o in options if o.op in ("<", "<=")), None)
    share = (RANGE_SELECTIVITY if low else 1.0) * (RANGE_SELECTIVITY if high else 1.0)
    made = Bounds(
        bounds.equal,
        bounds.in_list,
        low.value if low else None,
        low is None or low.op == ">=",
        high.value if high else None,
        high is None or high.op == "<=",
    )
    return made, share, [o.source for o in (low, high) if o is not None]


def _covers(scan: Scan, index: IndexDesc, ids: dict[int, Col], needed: frozenset[int] | None) -> bool:
    if needed is None or scan.lock:
        return False
    stored = {ids[p].id for p in stored_positions(scan.table, index)}
    wanted = set(needed)
    for condition in scan.filters:
        wanted |= columns_of(condition).keys() & {c.id for c in scan.columns}
    return wanted <= stored


def _ordered(
    index: IndexDesc, ids: dict[int, Col], equal_count: int, has_in_list: bool, wanted: Wanted
) -> tuple[bool, bool]:
    """(whether the index gives the wanted order, whether read backwards)."""
    if not wanted:
        return False, False
    if has_in_list:
        return False, False
    fixed = {ids[p].id for p in index.columns[:equal_count]}
    rest = [
        (ids[p].id, d)
        for p, d in zip(index.columns[equal_count:], index.descending[equal_count:], strict=True)
    ]
    items = [(c, d) for c, d in wanted if c not in fixed]
    if not items:
        return True, False
    unique_end = index.unique and len(items) > len(rest)
    items = items[: len(rest)] if unique_end else items
    if [c for c, _ in items] != [c for c, _ in rest[: len(items)]]:
        return False, False
    flips = {d != r for (_, d), (_, r) in zip(items, rest, strict=False)}
    if len(flips) > 1:
        return False, False
    return True, flips == {True}


def _build(scan: Scan, path: _Path) -> IndexScan:
    table, index = scan.table, path.index
    ids = {c.position: col for c, col in zip(table.columns, scan.columns, strict=True)}
    primary = index.id == table.primary.id
    if path.covering and not primary:
        stored = stored_positions(table, index)
        layout = {ids[p].id: slot for slot, p in enumerate(stored)}
        width = len(stored)
    else:
        layout = {col.id: position for position, col in ids.items()}
        width = table.next_position
    count = len(path.bounds.equal)
    fixed = frozenset(ids[p].id for p in index.columns[:count])
    ordering: Wanted = ()
    if path.bounds.in_list is None:
        ordering = tuple(
            (ids[p].id, d != path.reverse)
            for p, d in zip(index.columns[count:], index.descending[count:], strict=True)
        )
    filters = tuple(f for f in _flatten(scan.filters) if not any(f is u for u in path.used))
    rows = path.rows * FILTER_SELECTIVITY ** min(len(filters), 2)
    return IndexScan(
        layout=layout,
        width=width,
        nonnull=frozenset(col.id for c, col in zip(table.columns, scan.columns, strict=True) if c.not_null),
        rows=max(1.0, rows) if not path.point else path.rows,
        ordering=ordering,
        fixed=fixed,
        table=table,
        index=index,
        alias=scan.alias,
        bounds=path.bounds,
        filters=filters,
        columns=scan.columns,
        point=path.point,
        covering=path.covering,
        reverse=path.reverse,
        lock=scan.lock,
    )
