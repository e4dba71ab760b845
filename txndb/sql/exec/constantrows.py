"""Rows of expressions without columns (VALUES lists), made fast to compile because they are long.

A cell that is a parameter or a constant needs no code: it is picked by position. Lists with other cells are compiled
in chunks, each a function of its own, because Python's compiler holds the interpreter for as long as one text takes.

Invariants
 1. All rows of a list are made in one call, in their order: sequences are drawn from, and drawn from again, as a whole.
 2. A list is compiled at its first use at the latest; `compile_steps` does it before, in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from operator import itemgetter
from typing import Any, Final

from txndb.sql.exec.codegen import Codegen
from txndb.sql.plan.expr import OUTER_PARAM, Bound, Const, Param

CHUNK_ROWS: Final = 256
PICKED_CELLS_MIN: Final = 32

Rows = list[Any]
Make = Callable[[Any, Sequence[Any], Any], Rows]
"""`(_, parameters, env) -> rows`."""


def plain_rows(rows: Sequence[Sequence[Bound]], param_count: int) -> Make | None:
    """A function of rows whose cells are all parameters or constants; None for others, and for short lists."""
    width = len(rows[0]) if rows else 0
    if width * len(rows) < PICKED_CELLS_MIN:
        return None
    constants: list[Any] = []
    places: list[int] = []
    for row in rows:
        for cell in row:
            if type(cell) is Param:
                outer = cell.index >= OUTER_PARAM
                places.append(param_count + cell.index - OUTER_PARAM if outer else cell.index)
            elif type(cell) is Const:
                constants.append(cell.value)
                places.append(-len(constants))
            else:
                return None
    constants.reverse()  # the i-th is the i-th from the end
    pick = itemgetter(*places)

    def make(_: Any, parameters: Sequence[Any], env: Any) -> Rows:
        cells = iter(pick([*parameters, *constants]))
        return list(zip(*[cells] * width, strict=True))

    return make


class LongRows:
    """A list of rows, compiled chunk by chunk."""

    def __init__(self, rows: Sequence[Sequence[Bound]], gen: Callable[[], Codegen]) -> None:
        self._left = [rows[at : at + CHUNK_ROWS] for at in range(0, len(rows), CHUNK_ROWS)]
        self._left.reverse()
        self._gen = gen
        self._made: list[Make] = []

    def compile_steps(self) -> Generator[None, None, None]:
        """Compile; a pause after each chunk."""
        while self._left:
            gen = self._gen()
            rows = ["(" + "".join(f"{gen.value(e)}, " for e in row) + ")" for row in self._left[-1]]
            self._made.append(gen.function("r, p, ctx", f"[{', '.join(rows)}]"))
            self._left.pop()
            yield

    def __call__(self, _: Any, parameters: Sequence[Any], env: Any) -> Rows:
        for _pause in self.compile_steps():
            pass
        made = self._made
        if len(made) == 1:
            return made[0](None, parameters, env)
        return [row for make in made for row in make(None, parameters, env)]
