"""Physical operators as running code: rows in batches, an operator pulls from the ones below.

`collect` gives all rows at once and is what short plans use (few awaits); `batches` streams. An operator implements one
and inherits the other. A batch is a list of tuples and is never changed by whoever receives it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from heapq import nsmallest
from typing import Any

from txndb.errors import sql_error
from txndb.sql.exec.codegen import Batch, Row
from txndb.sql.exec.context import ExecContext
from txndb.sql.plan.expr import MemberSet

Rows = list[Row]


class Operator:
    """Base: at least one of the two is overridden."""

    __slots__ = ()

    async def collect(self, x: ExecContext) -> Rows:
        """All rows."""
        rows: Rows = []
        async for batch in self.batches(x):
            rows += batch
        return rows

    async def batches(self, x: ExecContext) -> AsyncIterator[Rows]:
        """Rows in batches."""
        rows = await self.collect(x)
        if rows:
            yield rows


class Constant(Operator):
    """Rows of expressions."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[Any, Sequence[Any], Any], Rows]) -> None:
        self.make = make

    async def collect(self, x: ExecContext) -> Rows:
        rows: Rows = await x.call(self.make, ())
        return rows


class Filter(Operator):
    """Rows that pass."""

    __slots__ = ("input", "keep")

    def __init__(self, input_: Operator, keep: Batch) -> None:
        self.input = input_
        self.keep = keep

    async def collect(self, x: ExecContext) -> Rows:
        rows: Rows = await x.call(self.keep, await self.input.collect(x))
        return rows

    async def batches(self, x: ExecContext) -> AsyncIterator[Rows]:
        async for batch in self.input.batches(x):
            kept = await x.call(self.keep, batch)
            if kept:
                yield kept


class Project(Operator):
    """New rows."""

    __slots__ = ("input", "make")

    def __init__(self, input_: Operator, make: Batch) -> None:
        self.input = input_
        self.make = make

    async def collect(self, x: ExecContext) -> Rows:
        rows: Rows = await x.call(self.make, await self.input.collect(x))
        return rows

    async def batches(self, x: ExecContext) -> AsyncIterator[Rows]:
        async for batch in self.input.batches(x):
            yield await x.call(self.make, batch)


class Limit(Operator):
    """Skips, then passes so many. Bounds: `(r, p, ctx) -> (limit, offset)`."""

    __slots__ = ("bounds", "input")

    def __init__(self, input_: Operator, bounds: Callable[[Any, Sequence[Any], Any], Row]) -> None:
        self.input = input_
        self.bounds = bounds

    async def batches(self, x: ExecContext) -> AsyncIterator[Rows]:
        limit, skip = await x.call(self.bounds, ())
        skip = check_bound(skip, "OFFSET") or 0
        left = check_bound(limit, "LIMIT")
        if left == 0:
            return
        async for batch in self.input.batches(x):
            if skip:
                if skip >= len(batch):
                    skip -= len(batch)
                    continue
                batch, skip = batch[skip:], 0
            if left is None:
                yield batch
                continue
            yield batch[:left]
            left -= len(batch)
            if left <= 0:
                return


def check_bound(value: int | None, name: str) -> int | None:
    """LIMIT's and OFFSET's value; negative is an error."""
    if value is not None and value < 0:
        code = "2201W" if name == "LIMIT" else "2201X"
        raise sql_error(code, f"{name} must not be negative")
    return value


class Sort(Operator):
    """Stable sort, by one pass per key from the last to the first; top-N when limited."""

    __slots__ = ("input", "keys", "single", "wanted")

    def __init__(
        self,
        input_: Operator,
        keys: list[tuple[Batch, bool]],
        single: Batch | None,
        wanted: Callable[[Any, Sequence[Any], Any], Row] | None,
    ) -> None:
        self.input = input_
        self.keys = keys
        self.single = single
        self.wanted = wanted

    async def collect(self, x: ExecContext) -> Rows:
        rows = await self.input.collect(x)
        x.hold(len(rows))
        count = None
        if self.wanted is not None:
            bounds = self.wanted((), x.params, x.env)
            count = None if None in bounds else max(0, sum(bounds))
        if self.single is not None:
            keys = await x.call(self.single, rows)
            if count is not None and count * 8 < len(rows):
                order = nsmallest(count, range(len(rows)), key=keys.__getitem__)
            else:
                order = sorted(range(len(rows)), key=keys.__getitem__)
            return [rows[i] for i in order]
        order = list(range(len(rows)))
        for make, descending in reversed(self.keys):
            keys = await x.call(make, rows)
            order.sort(key=keys.__getitem__, reverse=descending)
        return [rows[i] for i in order]


class Distinct(Operator):
    """First row of each key."""

    __slots__ = ("input", "key")

    def __init__(self, input_: Operator, key: Batch) -> None:
        self.input = input_
        self.key = key

    async def batches(self, x: ExecContext) -> AsyncIterator[Rows]:
        seen: set[Any] = set()
        async for batch in self.input.batches(x):
            kept: Rows = []
            for row, key in zip(batch, await x.call(self.key, batch), strict=True):
                if key not in seen:
                    seen.add(key)
                    kept.append(row)
            x.hold(len(kept))
            if kept:
                yield kept


class SetOperation(Operator):
    """UNION, INTERSECT, EXCEPT [ALL] of rows compared by key."""

    __slots__ = ("all", "key", "left", "op", "right")

    def __init__(self, op: str, every: bool, left: Operator, right: Operator, key: Batch) -> None:
        self.op = op
        self.all = every
        self.left = left
        self.right = right
        self.key = key

    async def collect(self, x: ExecContext) -> Rows:
        left = await self.left.collect(x)
        right = await self.right.collect(x)
        x.hold(len(left) + len(right))
        if self.op == "UNION":
            rows = left + right
            return rows if self.all else self._first(rows, x)
        counts: dict[Any, int] = {}
        for key in self.key(right, x.params, x.env):
            counts[key] = counts.get(key, 0) + 1
        kept = (self._intersect if self.op == "INTERSECT" else self._except)(left, counts, x)
        return kept if self.all else self._first(kept, x)

    def _first(self, rows: Rows, x: ExecContext) -> Rows:
        seen: dict[Any, Row] = {}
        for row, key in zip(rows, self.key(rows, x.params, x.env), strict=True):
            seen.setdefault(key, row)
        return list(seen.values())

    def _intersect(self, left: Rows, counts: dict[Any, int], x: ExecContext) -> Rows:
        kept: Rows = []
        for row, key in zip(left, self.key(left, x.params, x.env), strict=True):
            count = counts.get(key, 0)
            if count:
                kept.append(row)
                if self.all:
                    counts[key] = count - 1
        return kept

    def _except(self, left: Rows, counts: dict[Any, int], x: ExecContext) -> Rows:
        kept: Rows = []
        for row, key in zip(left, self.key(left, x.params, x.env), strict=True):
            count = counts.get(key, 0)
            if not count:
                kept.append(row)
            elif self.all:
                counts[key] = count - 1
        return kept


class Apply(Operator):
    """A subplan per row, memoised by the outer values it reads: by their form too where equal ones may have several."""

    __slots__ = ("forms", "input", "kind", "outer", "slots", "subplan", "width")

    def __init__(
        self,
        input_: Operator,
        subplan: Operator,
        kind: str,
        outer: Callable[[Sequence[Row], Sequence[Any], Any], list[Row]] | None,
        slots: Sequence[int],
        width: int,
        forms: bool,
    ) -> None:
        self.forms = forms
        self.input = input_
        self.subplan = subplan
        self.kind = kind
        self.outer = outer
        self.slots = tuple(slots)
        self.width = width
        """Columns of the subplan."""

    async def batches(self, x: ExecContext) -> AsyncIterator[Rows]:
        memo: dict[Any, Any] = {}
        lateral = self.kind.startswith("lateral")
        async for batch in self.input.batches(x):
            keys = self.outer(batch, x.params, x.env) if self.outer is not None else [()] * len(batch)
            out: Rows = []
            for row, key in zip(batch, keys, strict=True):
                token = _memo_key(key, self.forms)
                if token in memo:
                    value = memo[token]
                else:
                    value = memo[token] = await self._run(x, key)
                if not lateral:
                    out.append((*row, value))
                elif value:
                    out += [(*row, *extra) for extra in value]
                elif self.kind == "lateral-left":
                    out.append((*row, *([None] * self.width)))
            if out:
                yield out

    async def _run(self, x: ExecContext, key: Row) -> Any:
        inner = x
        if key:
            params = list(x.params)
            for slot, value in zip(self.slots, key, strict=True):
                params[slot] = value
            inner = x.with_params(params)
        if self.kind == "exists":
            async for rows in self.subplan.batches(inner):
                if rows:  # an operator may yield an empty batch
                    return True
            return False
        rows = await self.subplan.collect(inner)
        if self.kind.startswith("lateral"):
            return rows
        if self.kind == "scalar":
            if len(rows) > 1:
                raise sql_error("21000", "more than one row returned by a subquery used as an expression")
            return rows[0][0] if rows else None
        values = [r[0] for r in rows]
        return MemberSet(values) if self.kind == "set" else values


def _memo_key(key: Row, forms: bool) -> Any:
    if forms:
        key = tuple([repr(v) if isinstance(v, float | Decimal) else v for v in key])
    try:
        hash(key)
    except TypeError:
        return repr(key)
    return key
