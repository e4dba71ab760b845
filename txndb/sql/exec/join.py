"""Joins of two inputs: by hash, and every row with every row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from txndb.sql.exec.codegen import Batch, Row
from txndb.sql.exec.context import PAUSE_ROWS, ExecContext
from txndb.sql.exec.operators import Operator, Rows

Condition = Callable[[Row, Sequence[Any], Any], bool]


class HashJoin(Operator):
    """The right side hashed by key, the left probes. Keys are values (one key) or tuples; NULL matches nothing."""

    __slots__ = (
        "condition",
        "kind",
        "left",
        "left_key",
        "left_width",
        "right",
        "right_key",
        "right_width",
        "volatile",
    )

    def __init__(
        self,
        left: Operator,
        right: Operator,
        *,
        kind: str,
        left_key: Batch,
        right_key: Batch,
        left_width: int,
        right_width: int,
        condition: Condition | None,
        volatile: bool,
    ) -> None:
        self.left = left
        self.right = right
        self.kind = kind
        self.left_key = left_key
        self.right_key = right_key
        self.left_width = left_width
        self.right_width = right_width
        self.condition = condition
        self.volatile = volatile

    async def batches(self, x: ExecContext) -> AsyncIterator[Rows]:
        right = await self.right.collect(x)
        x.hold(len(right))
        if not right and self.kind == "INNER":
            return
        table: dict[Any, list[int]] = {}
        for i, key in enumerate(await x.call(self.right_key, right)):
            if key is not None:
                table.setdefault(key, []).append(i)
        matched = bytearray(len(right)) if self.kind == "FULL" else None
        outer = self.kind in ("LEFT", "FULL")
        padding = (None,) * self.right_width
        condition, volatile, p, env = self.condition, self.volatile, x.params, x.env
        async for batch in self.left.batches(x):
            out: Rows = []
            for row, key in zip(batch, await x.call(self.left_key, batch), strict=True):
                before = len(out)
                for i in table.get(key, ()) if key is not None else ():
                    joined = row + right[i]
                    if condition is None or (
                        await x.call(condition, joined) if volatile else condition(joined, p, env)
                    ):
                        out.append(joined)
                        if matched is not None:
                            matched[i] = 1
                if outer and len(out) == before:
                    out.append(row + padding)
                if len(out) >= PAUSE_ROWS:
                    yield out
                    out = []
                    await x.give_way(PAUSE_ROWS)
            await x.give_way(len(batch) + len(out))
            if out:
                yield out
        if matched is not None:
            rest = _unmatched(right, matched, self.left_width)
            if rest:
                yield rest


class LoopJoin(Operator):
    """Every left row with every right row."""

    __slots__ = ("condition", "kind", "left", "left_width", "right", "right_width", "volatile")

    def __init__(
        self,
        left: Operator,
        right: Operator,
        *,
        kind: str,
        left_width: int,
        right_width: int,
        condition: Condition | None,
        volatile: bool,
    ) -> None:
        self.left = left
        self.right = right
        self.kind = kind
        self.left_width = left_width
        self.right_width = right_width
        self.condition = condition
        self.volatile = volatile

    async def batches(self, x: ExecContext) -> AsyncIterator[Rows]:
        right = await self.right.collect(x)
        x.hold(len(right))
        matched = bytearray(len(right)) if self.kind == "FULL" else None
        outer = self.kind in ("LEFT", "FULL")
        padding = (None,) * self.right_width
        condition, volatile, p, env = self.condition, self.volatile, x.params, x.env
        async for batch in self.left.batches(x):
            for row in batch:
                if condition is None and matched is None:
                    out = [row + other for other in right]
                else:
                    out = []
                    for i, other in enumerate(right):
                        joined = row + other
                        if condition is None or (
                            await x.call(condition, joined) if volatile else condition(joined, p, env)
                        ):
                            out.append(joined)
                            if matched is not None:
                                matched[i] = 1
                if outer and not out:
                    out.append(row + padding)
                await x.give_way(len(right) + 1)
                if out:
                    yield out
        if matched is not None:
            rest = _unmatched(right, matched, self.left_width)
            if rest:
                yield rest


def _unmatched(right: Rows, matched: bytearray, left_width: int) -> Rows:
    padding = (None,) * left_width
    return [padding + row for row, hit in zip(right, matched, strict=True) if not hit]
