"""A plan made ready to run, any number of times and by any session: what the plan cache holds.

A query's operators end in rows of exactly the output columns. `run` gives the affected or returned row count and the
rows; `stream` gives a query's rows in batches (portals with a row limit).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Sequence
from typing import Any

from txndb.errors import InternalError
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.exec.build import Builder
from txndb.sql.exec.codegen import Row
from txndb.sql.exec.context import ExecContext
from txndb.sql.exec.dml import Delete, DmlResult, Insert, Update
from txndb.sql.exec.operators import Operator, Rows
from txndb.sql.plan.expr import Col
from txndb.sql.plan.physical import DeletePlan, InsertPlan, OutputColumn, Physical, Plan, UpdatePlan
from txndb.sql.plan.physical import ProjectRows as ProjectNode


class Executable:
    """A compiled plan."""

    __slots__ = (
        "infos",
        "kind",
        "locks",
        "operator",
        "outer_count",
        "output",
        "param_types",
        "plan",
        "read_only",
        "unfinished",
    )

    def __init__(self, catalog: Catalog, plan: Plan) -> None:
        self.plan = plan
        self.kind = plan.kind
        self.infos: Any = None
        """The session's description of the output, made at first use."""
        self.output: tuple[OutputColumn, ...] | None = plan.output
        self.param_types: tuple[Any, ...] = plan.param_types
        self.outer_count = plan.outer_count
        self.locks = plan.locks
        self.read_only = plan.kind == "SELECT" and not plan.locks
        builder = Builder(catalog, len(plan.param_types))
        self.unfinished = builder.unfinished
        """Long lists of rows that are not compiled yet; they are at their first use at the latest."""
        root = plan.root
        self.operator: Operator | Insert | Update | Delete
        match root:
            case InsertPlan():
                self.operator = Insert(builder, root)
            case UpdatePlan():
                self.operator = Update(builder, root)
            case DeletePlan():
                self.operator = Delete(builder, root)
            case Physical():
                self.operator = builder.build(_compact(root, plan))

    def finish(self) -> Generator[None, None, None]:
        """Compile what is left, in turns."""
        while self.unfinished:
            yield from self.unfinished.pop().compile_steps()

    def parameters(self, values: Sequence[Any]) -> Sequence[Any]:
        """The run-time parameter vector: the given values and room for outer columns."""
        return [*values, *([None] * self.outer_count)] if self.outer_count else values

    async def run(self, x: ExecContext) -> tuple[int, Rows]:
        """All of it: (rows affected or returned, rows for the client)."""
        operator = self.operator
        if isinstance(operator, Operator):
            rows = await operator.collect(x)
            return len(rows), rows
        result: DmlResult = await operator.run(x)
        return result.count, result.rows if result.rows is not None else []

    def stream(self, x: ExecContext) -> AsyncIterator[list[Row]]:
        """A query's rows in batches."""
        if not isinstance(self.operator, Operator):
            raise InternalError("only a query can be streamed")
        return self.operator.batches(x)


def _compact(root: Physical, plan: Plan) -> Physical:
    """The root with rows of exactly the output columns."""
    count = len(plan.output or ())
    if plan.slots == tuple(range(count)) and root.width == count:
        return root
    by_slot: dict[int, int] = {slot: column for column, slot in root.layout.items()}
    assert plan.output is not None
    exprs = tuple(Col(c.type, by_slot[s], c.name) for c, s in zip(plan.output, plan.slots, strict=True))
    return ProjectNode(layout={}, width=count, nonnull=root.nonnull, rows=root.rows, input=root, exprs=exprs)
