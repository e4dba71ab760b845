"""Long statements in turns: between two of them the event loop runs whatever else is due, a leader's heartbeats first.

What a statement of tens of thousands of parameters costs is work without any wait; done in one piece it would keep the
node silent for longer than its leader lease lasts. The parser and the compiler of long row lists are generators that
pause; short texts run through them at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Final, TypeVar

from txndb.sql.parse import ast, parse_steps

T = TypeVar("T")
TURN_CHARS: Final = 16 * 1024
"""Shorter texts are parsed in one turn: that takes a few milliseconds."""


async def in_turns(steps: Generator[None, None, T]) -> T:
    """What the generator returns; others run at each of its pauses."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


async def parsed_in_turns(sql: str) -> list[ast.Statement]:
    """The statements of a long text."""
    return await in_turns(parse_steps(sql))
