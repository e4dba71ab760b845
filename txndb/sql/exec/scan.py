"""Reading tables: point gets, spans of an index, and the way from index entries back to rows.

A NULL among the bounds matches nothing (comparison with NULL is never true). In a read-write transaction the span read
is locked by the view; with `EXCLUSIVE` the chosen rows are locked exclusively (rule K2): for a secondary index its
entries shared, the rows themselves exclusive.

Nothing volatile comes down here in bounds, filters and limits (the planner sees to that), so that all of them are
evaluated on the spot: no sequence runs out of numbers. A lookup join's condition may be volatile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from txndb.encoding.keys import prefix_end
from txndb.sql.exec.codegen import Batch, Row
from txndb.sql.exec.context import ExecContext
from txndb.sql.exec.operators import Operator, Rows, check_bound
from txndb.sql.exec.table import IndexCodec, TableCodec
from txndb.sql.plan.physical import Bounds
from txndb.txn.api import Lock

Span = tuple[bytes, bytes]
Values = Callable[[Any, Sequence[Any], Any], Row]

GET_KEYS_MAX = 2048
"""Keys fetched by one get when rows are looked up."""


class BoundsCode:
    """`Bounds` compiled: values of the leading columns, the IN list and the range, from parameters (and a row)."""

    __slots__ = (
        "count",
        "encode_prefix",
        "encode_range",
        "inclusive",
        "index",
        "list_values",
        "range",
        "values",
    )

    def __init__(
        self,
        index: IndexCodec,
        bounds: Bounds,
        values: Values,
        list_values: Values | None,
        range_values: Values | None,
    ) -> None:
        self.index = index
        self.values = values
        self.list_values = list_values
        self.range = range_values
        self.inclusive = (bounds.low_inclusive, bounds.high_inclusive)
        self.count = bounds.prefix_count
        self.encode_prefix = index.encoder(self.count)
        self.encode_range = index.encoder(self.count + 1) if range_values is not None else self.encode_prefix

    def prefixes(self, row: Any, p: Sequence[Any], ctx: Any) -> list[Sequence[Any]]:
        """The tuples of leading values; none if one is NULL."""
        values = self.values(row, p, ctx)
        if None in values:
            return []
        if self.list_values is None:
            return [self.index.normalize(values)]
        made: dict[Any, Sequence[Any]] = {}
        for item in self.list_values(row, p, ctx):
            if item is not None:
                full = self.index.normalize((*values, item))
                made.setdefault(full[-1], full)
        return list(made.values())

    def keys(self, row: Any, p: Sequence[Any], ctx: Any) -> list[bytes]:
        """The keys of a unique index, all of whose columns are given."""
        encode = self.encode_prefix
        if self.list_values is None:
            values = self.values(row, p, ctx)
            if None in values:
                return []
            return [encode(self.index.normalize(values))]
        return sorted(encode(v) for v in self.prefixes(row, p, ctx))

    def spans(self, row: Any, p: Sequence[Any], ctx: Any) -> list[Span]:
        """The spans to read, in key order."""
        if self.range is None:
            if self.count == 0:
                return [(self.index.start, self.index.end)]
            made = [self.encode_prefix(v) for v in self.prefixes(row, p, ctx)]
            return [(start, prefix_end(start)) for start in sorted(made)]
        low, high, has_low, has_high = self.range(row, p, ctx)
        if (has_low and low is None) or (has_high and high is None):
            return []
        spans = [self._span(v, low, high, has_low, has_high) for v in self.prefixes(row, p, ctx)]
        return sorted(s for s in spans if s[0] < s[1])

    def _span(self, values: Sequence[Any], low: Any, high: Any, has_low: bool, has_high: bool) -> Span:
        prefix = self.encode_prefix(values) if self.count else self.index.start
        null = self.index.null_bound(self.count)
        low_inclusive, high_inclusive = self.inclusive
        if self.index.descending[self.count]:
            low, high, has_low, has_high = high, low, has_high, has_low
            low_inclusive, high_inclusive = high_inclusive, low_inclusive
            start, end = prefix_end(prefix + null), prefix_end(prefix)
        else:
            start, end = prefix, prefix + null
        if has_low:
            start = self._element(values, low)
            start = start if low_inclusive else prefix_end(start)
        if has_high:
            end = self._element(values, high)
            end = prefix_end(end) if high_inclusive else end
        return start, end

    def _element(self, values: Sequence[Any], value: Any) -> bytes:
        return self.encode_range(self.index.normalize((*values, value)))


class PointScan(Operator):
    """Gets of a primary key's rows."""

    __slots__ = ("bounds", "decode", "keep", "lock")

    def __init__(self, table: TableCodec, bounds: BoundsCode, keep: Batch | None, lock: Lock) -> None:
        self.decode = table.decode
        self.bounds = bounds
        self.keep = keep
        self.lock = lock

    async def collect(self, x: ExecContext) -> Rows:
        keys = self.bounds.keys((), x.params, x.env)
        if not keys:
            return []
        decode = self.decode
        rows = [decode(v) for v in await x.view.get(keys, self.lock) if v is not None]
        return rows if self.keep is None else self.keep(rows, x.params, x.env)


class SpanScan(Operator):
    """Spans of an index; rows come from its entries (`lookup` False) or from the primary index.

    `program` builds the filter that runs where the rows are; then `keep` is None.
    """

    __slots__ = ("bounds", "index", "keep", "limit", "lock", "lookup", "point", "program", "reverse", "table")

    def __init__(
        self,
        table: TableCodec,
        index: IndexCodec,
        bounds: BoundsCode,
        *,
        point: bool,
        lookup: bool,
        reverse: bool,
        keep: Batch | None,
        program: Callable[[Sequence[Any], Any], bytes] | None,
        limit: Values | None,
        lock: Lock,
    ) -> None:
        self.table = table
        self.index = index
        self.bounds = bounds
        self.point = point
        self.lookup = lookup
        self.reverse = reverse
        self.keep = keep
        self.program = program
        self.limit = limit
        self.lock = lock

    async def batches(self, x: ExecContext) -> AsyncIterator[Rows]:
        limit = 0
        if self.limit is not None:
            sums = self.limit((), x.params, x.env)
            if None not in sums:
                limit = sum(check_bound(v, "LIMIT") or 0 for v in sums)
                if limit == 0:
                    return
        left = limit
        async for values in self._entries(x, limit if self.keep is None else 0):
            decode = self.index.decode if self.lookup or not self.index.primary else self.table.decode
            rows: Rows = [decode(v) for v in values]
            if self.lookup:
                rows = await self._fetch(x, rows)
            if self.keep is not None:
                rows = self.keep(rows, x.params, x.env)
            if limit:
                rows = rows[:left]
                left -= len(rows)
            if rows:
                yield rows
            if limit and left <= 0:
                return

    async def _entries(self, x: ExecContext, limit: int) -> AsyncIterator[list[bytes]]:
        """Values of the index's entries."""
        lock = Lock.SHARED if self.lookup else self.lock
        if self.point:
            found = await x.view.get(self.bounds.keys((), x.params, x.env), lock)
            yield [v for v in found if v is not None]
            return
        spans = self.bounds.spans((), x.params, x.env)
        program = self.program(x.params, x.env) if self.program is not None else b""
        for start, end in reversed(spans) if self.reverse else spans:
            async for batch in x.view.scan(
                start, end, lock=lock, limit=limit, reverse=self.reverse, program=program
            ):
                yield [value for _, value in batch]

    async def _fetch(self, x: ExecContext, entries: Rows) -> Rows:
        """The rows of entries of a secondary index."""
        key_of = self.table.primary_key_of_values
        slots = self.index.pk_slots
        rows: Rows = []
        decode = self.table.decode
        for i in range(0, len(entries), GET_KEYS_MAX):
            keys = [key_of([e[s] for s in slots]) for e in entries[i : i + GET_KEYS_MAX]]
            rows += [decode(v) for v in await x.view.get(keys, self.lock) if v is not None]
        return rows


class VirtualScan(Operator):
    """Rows of a virtual table."""

    __slots__ = ("info", "rows")

    def __init__(self, rows: Callable[[Any, Any], Any]) -> None:
        self.rows = rows

    async def collect(self, x: ExecContext) -> Rows:
        return [tuple(r) for r in self.rows(x.catalog, x.env.session.info)]  # type: ignore[attr-defined]


class LookupJoin(Operator):
    """For each batch of left rows: the matching inner rows through an index, each distinct key fetched once."""

    __slots__ = (
        "bounds",
        "condition",
        "index",
        "inner_width",
        "kind",
        "left",
        "lock",
        "lookup",
        "point",
        "table",
        "volatile",
    )

    def __init__(
        self,
        left: Operator,
        table: TableCodec,
        index: IndexCodec,
        bounds: BoundsCode,
        *,
        kind: str,
        point: bool,
        lookup: bool,
        inner_width: int,
        condition: Callable[[Row, Sequence[Any], Any], bool] | None,
        volatile: bool,
        lock: Lock,
    ) -> None:
        self.left = left
        self.table = table
        self.index = index
        self.bounds = bounds
        self.kind = kind
        self.point = point
        self.lookup = lookup
        self.inner_width = inner_width
        self.condition = condition
        self.volatile = volatile
        self.lock = lock

    async def batches(self, x: ExecContext) -> AsyncIterator[Rows]:
        async for batch in self.left.batches(x):
            found = await self._inner(x, batch)
            out: Rows = []
            padding = (None,) * self.inner_width
            condition, volatile, p, env = self.condition, self.volatile, x.params, x.env
            for row, matches in zip(batch, found, strict=True):
                before = len(out)
                for inner in matches:
                    joined = row + inner
                    if condition is None or (
                        await x.call(condition, joined) if volatile else condition(joined, p, env)
                    ):
                        out.append(joined)
                if self.kind == "LEFT" and len(out) == before:
                    out.append(row + padding)
            if out:
                yield out

    async def _inner(self, x: ExecContext, batch: Rows) -> list[Rows]:
        """The candidate inner rows of each left row."""
        p, env = x.params, x.env
        if self.point:
            keys = [self.bounds.keys(row, p, env) for row in batch]
            fetched = await self._get(x, [k for ks in keys for k in ks])
            return [[fetched[k] for k in ks if k in fetched] for ks in keys]
        spans = [self.bounds.spans(row, p, env) for row in batch]
        memo: dict[Span, Rows] = {}
        for span in [s for ss in spans for s in ss]:
            if span not in memo:
                memo[span] = await self._scan(x, span)
        return [[r for s in ss for r in memo[s]] for ss in spans]

    async def _get(self, x: ExecContext, keys: list[bytes]) -> dict[bytes, Row]:
        distinct = list(dict.fromkeys(keys))
        if not distinct:
            return {}
        lock = Lock.SHARED if self.lookup else self.lock
        decode = self.index.decode if not self.index.primary else self.table.decode
        values = await x.view.get(distinct, lock)
        rows = {k: decode(v) for k, v in zip(distinct, values, strict=True) if v is not None}
        if not self.lookup or not rows:
            return rows
        full = await self._fetch(x, list(rows.values()))
        return dict(zip(rows, full, strict=True))

    async def _scan(self, x: ExecContext, span: Span) -> Rows:
        decode = self.index.decode if not self.index.primary else self.table.decode
        lock = Lock.SHARED if self.lookup else self.lock
        rows: Rows = []
        async for batch in x.view.scan(span[0], span[1], lock=lock):
            rows += [decode(v) for _, v in batch]
        return await self._fetch(x, rows) if self.lookup and rows else rows

    async def _fetch(self, x: ExecContext, entries: Rows) -> Rows:
        key_of, slots, decode = self.table.primary_key_of_values, self.index.pk_slots, self.table.decode
        keys = [key_of([e[s] for s in slots]) for e in entries]
        return [decode(v) for v in await x.view.get(keys, self.lock) if v is not None]
