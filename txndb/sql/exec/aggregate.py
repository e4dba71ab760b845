"""Grouping and aggregation, by hash; when the input is sorted by the keys, groups are given out as they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from txndb.sql.exec.codegen import Batch, Codegen, batch_project
from txndb.sql.exec.context import ExecContext
from txndb.sql.exec.operators import Operator, Rows
from txndb.sql.plan import physical as ph
from txndb.sql.plan.expr import Aggregate
from txndb.sql.types import group_key, sort_key


class Compiler(Protocol):
    """What compiling aggregates needs of the builder."""

    def gen(self, node: ph.Physical | None = None) -> Codegen:
        """A code generator over an operator's rows."""


class _Spec:
    """One aggregate: arguments by batch, its functions, and what DISTINCT, FILTER and ORDER BY add."""

    __slots__ = ("args", "distinct_key", "final", "init", "keep", "many", "order", "step", "strict")

    def __init__(self, builder: Compiler, below: ph.Physical, node: Aggregate) -> None:
        spec = node.spec
        self.init: Callable[[], Any] = spec.init
        self.step: Callable[..., Any] = spec.step
        self.final: Callable[[Any], Any] = spec.final
        self.strict: bool = spec.strict
        self.many = len(node.args)
        self.args: Batch | None = None
        if node.args:
            gen = builder.gen(below)
            items = ", ".join(gen.value(a) for a in node.args)
            body = f"({items})" if self.many > 1 else items
            self.args = gen.function("rows, p, ctx", f"[{body} for r in rows]")
        self.keep: Batch | None = None
        if node.filter is not None:
            gen = builder.gen(below)
            self.keep = gen.function("rows, p, ctx", f"[bool({gen.truth(node.filter)}) for r in rows]")
        self.distinct_key: Callable[[Any], Any] | None = None
        if node.distinct:
            self.distinct_key = group_key(node.args[0].type) or _identity
        self.order: Batch | None = None
        if node.order_by:
            self.order = _order_keys(builder, below, node)

    def start(self) -> list[Any]:
        """A group's cell: state, distinct values seen, values waiting for the order."""
        seen: Any = set() if self.distinct_key is not None else None
        return [self.init(), seen, [] if self.order is not None else None]

    def feed(self, cell: list[Any], values: Sequence[Any], orders: Sequence[Any] | None) -> None:
        """Take the group's values of one batch."""
        if self.strict and self.many:
            if self.many == 1:
                keep = [i for i, v in enumerate(values) if v is not None]
            else:
                keep = [i for i, v in enumerate(values) if None not in v]
            if len(keep) != len(values):
                values = [values[i] for i in keep]
                orders = [orders[i] for i in keep] if orders is not None else None
        if self.distinct_key is not None:
            values = self._distinct(cell[1], values)
        if cell[2] is not None and orders is not None:
            cell[2] += zip(orders, values, strict=False)
        else:
            self._steps(cell, values)

    def _distinct(self, seen: set[Any], values: Sequence[Any]) -> list[Any]:
        fresh = []
        assert self.distinct_key is not None
        for value in values:
            head = value[0] if self.many > 1 else value
            key = None if head is None else self.distinct_key(head)
            if key not in seen:
                seen.add(key)
                fresh.append(value)
        return fresh

    def _steps(self, cell: list[Any], values: Sequence[Any]) -> None:
        state, step = cell[0], self.step
        if self.many == 0:
            for _ in values:
                state = step(state)
        elif self.many == 1:
            for value in values:
                state = step(state, value)
        else:
            for value in values:
                state = step(state, *value)
        cell[0] = state

    def result(self, cell: list[Any]) -> Any:
        """The aggregate's value for a finished group."""
        if cell[2]:
            cell[2].sort(key=_first)
            self._steps(cell, [v for _, v in cell[2]])
        return self.final(cell[0])


def _identity(value: Any) -> Any:
    return value


def _first(pair: Any) -> Any:
    return pair[0]


class _Reversed:
    """Orders the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Reversed) -> bool:
        less: bool = other.value < self.value
        return less

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(self.value == other.value)


def _order_keys(builder: Compiler, below: ph.Physical, node: Aggregate) -> Batch:
    gen = builder.gen(below)
    parts = []
    for expr, descending, nulls_first in node.order_by:
        name = gen.temp()
        key = sort_key(expr.type)
        value = f"{gen.bind(key, 'key')}({name})" if key is not None else name
        if descending:
            value = f"{gen.bind(_Reversed, 'rev')}({value})"
        null = "0" if nulls_first else "2"
        parts.append(f"({null}, 0) if ({name} := {gen.value(expr)}) is None else (1, {value})")
    made: Batch = gen.function("rows, p, ctx", f"[({', '.join(parts)},) for r in rows]")
    return made


class HashAggregate(Operator):
    """Groups by hash. Without keys: one row, also of no input."""

    __slots__ = ("input", "key", "key_values", "ordered", "specs")

    def __init__(
        self, input_: Operator, key: Batch | None, key_values: Batch | None, specs: list[_Spec], ordered: bool
    ) -> None:
        self.input = input_
        self.key = key
        self.key_values = key_values
        self.specs = specs
        self.ordered = ordered

    async def batches(self, x: ExecContext) -> AsyncIterator[Rows]:
        groups: dict[Any, tuple[Any, list[list[Any]]]] = {}
        async for batch in self.input.batches(x):
            last = await self._feed(batch, groups, x)
            if self.ordered and len(groups) > 1:
                open_group = groups.pop(last)
                yield self._rows(groups)
                groups = {last: open_group}
        if self.key is None and not groups:
            groups[()] = ((), [s.start() for s in self.specs])
        if groups:
            yield self._rows(groups)

    async def _feed(self, batch: Rows, groups: dict[Any, Any], x: ExecContext) -> Any:
        """Distribute a batch; returns the last row's key."""
        members: dict[Any, list[int]] | None = None
        last: Any = ()
        if self.key is None:
            if () not in groups:
                groups[()] = ((), [s.start() for s in self.specs])
        else:
            assert self.key_values is not None
            keys = await x.call(self.key, batch)
            members = {}
            for i, key in enumerate(keys):
                found = members.get(key)
                if found is None:
                    members[key] = [i]
                else:
                    found.append(i)
            values = await x.call(self.key_values, [batch[m[0]] for m in members.values()])
            for key, value in zip(members, values, strict=True):
                if key not in groups:
                    groups[key] = (value, [s.start() for s in self.specs])
                    x.hold(1)
            last = keys[-1]
        for at, spec in enumerate(self.specs):
            await self._feed_one(at, spec, batch, groups, members, x)
        return last

    async def _feed_one(
        self,
        at: int,
        spec: _Spec,
        batch: Rows,
        groups: dict[Any, Any],
        members: dict[Any, list[int]] | None,
        x: ExecContext,
    ) -> None:
        keep = await x.call(spec.keep, batch) if spec.keep is not None else None
        if keep is not None:
            # arguments of rows that the filter drops are not evaluated
            chosen = [i for i, k in enumerate(keep) if k]
            rows: Rows = [batch[i] for i in chosen]
            place = {i: at for at, i in enumerate(chosen)}
        else:
            rows = batch
        values = await x.call(spec.args, rows) if spec.args is not None else rows
        orders = await x.call(spec.order, rows) if spec.order is not None else None
        if members is None:
            spec.feed(groups[()][1][at], values, orders)
            return
        for key, indices in members.items():
            if keep is not None:
                indices = [place[i] for i in indices if keep[i]]
            part = [values[i] for i in indices]
            spec.feed(groups[key][1][at], part, [orders[i] for i in indices] if orders is not None else None)

    def _rows(self, groups: dict[Any, Any]) -> Rows:
        return [
            (*values, *(s.result(cell) for s, cell in zip(self.specs, cells, strict=True)))
            for values, cells in groups.values()
        ]


def aggregate_operator(
    builder: Compiler, node: ph.HashAggregate, below: Operator, key: Batch | None
) -> Operator:
    """The operator of a physical aggregation over the built input; `key` gives hashable group keys."""
    key_values = batch_project(builder.gen(node.input), node.keys) if node.keys else None
    specs = [_Spec(builder, node.input, a) for a in node.aggregates]
    return HashAggregate(below, key, key_values, specs, node.ordered)
