"""SQL text: any statement gives a result or an error of PostgreSQL's kind, and the session goes on.

Statements of the conformance scripts are cut, glued, swapped and sprinkled with tokens. What must never come: an
exception that is not a `TxndbError`, an internal error (XX000), a session that no longer answers.
"""

from __future__ import annotations

import asyncio
import re
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.budget import budget
from tests.sql import slt
from tests.sql.harness import Database
from txndb.errors import TxndbError
from txndb.sql.session.session import Session

_TOKEN = re.compile(r"'(?:[^']|'')*'|\w+|\s+|[^\w\s]")
_EXTRA = (
    *("NULL", "(", ")", ",", "*", "''", "'", '"', "$1", "$99999", "1e999", "-9223372036854775808", "9" * 20),
    *(
        "::",
        "int",
        "text[]",
        "numeric(1000,1000)",
        "NaN",
        "ROW",
        "CASE",
        "WHEN",
        "END",
        "SELECT",
        "FROM",
        "WHERE",
    ),
    *("GROUP", "BY", "HAVING", "ORDER", "LIMIT", "OFFSET", "OVER", "JOIN", "ON", "USING", "LATERAL", "UNION"),
    *("WITH", "RECURSIVE", "VALUES", "RETURNING", "DEFAULT", "--", "/*", "*/", ";", "\0", "\\", "E'\\x'"),
    *("U&'\\0000'", "B'1'", "x'zz'", "$$", "date", "'infinity'", "interval", "timestamp", "ANY", "ALL"),
    *("ARRAY[", "]", "IN", "BETWEEN", "LIKE", "ESCAPE", "ä", "💥"),
)
_EVIL = ("pg_sleep", "generate_series", "repeat", "lpad", "rpad")
"""Functions whose cost a random number decides are another test's business."""


def corpus() -> list[str]:
    statements = [record.sql for path in sorted(slt.SCRIPTS.glob("*.slt")) for record in slt.read(path)]
    return [sql for sql in statements if not any(word in sql for word in _EVIL)]


CORPUS = corpus()


def mutate(rng: Random) -> str:
    """A statement near a valid one."""
    tokens = _TOKEN.findall(rng.choice(CORPUS))
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(tokens) + 1)
        draw = rng.random()
        if draw < 0.3:
            tokens.insert(at, f" {rng.choice(_EXTRA)} ")
        elif draw < 0.5 and tokens:
            del tokens[at : at + rng.randrange(1, 4)]
        elif draw < 0.7 and tokens:
            other = _TOKEN.findall(rng.choice(CORPUS))
            begin = rng.randrange(len(other) + 1)
            tokens[at:at] = other[begin : begin + rng.randrange(1, 12)]
        elif tokens:
            one, two = rng.randrange(len(tokens)), rng.randrange(len(tokens))
            tokens[one], tokens[two] = tokens[two], tokens[one]
    return "".join(tokens)


async def attack(session: Session, sql: str) -> None:
    try:
        async for _ in session.simple(sql):
            pass
    except TxndbError as error:
        assert error.code != "XX000", f"{sql!r}: {error}"
        assert re.fullmatch("[0-9A-Z]{5}", error.code) and error.message
        assert 0 <= (error.position or 0) <= len(sql) + 1


@budget(25)
@given(st.integers(0, 2**32))
def test_mutated_statements(seed: int) -> None:
    """Forty statements on one session, which then still works."""
    rng = Random(seed)

    async def run() -> None:
        session = await Database().session()
        for setup in (
            "CREATE TABLE t (a INT PRIMARY KEY, b TEXT)",
            "INSERT INTO t VALUES (1, 'x'), (2, NULL)",
        ):
            await attack(session, setup)
        for _ in range(40):
            await attack(session, mutate(rng))
        await attack(session, "ROLLBACK")
        assert (await session.execute("SELECT 1 + 1")).rows == [(2,)]

    asyncio.run(run())


@budget(60)
@given(st.text(max_size=80) | st.lists(st.sampled_from(_EXTRA), max_size=30).map(" ".join))
@example("(" * 5000)
@example("SELECT " + "(" * 3000 + "1" + ")" * 3000)
@example("SELECT " + "-" * 1001 + "1")
@example("SELECT " + "NOT " * 5000 + "true")
@example("SELECT 1" + " + 1" * 5000)
@example("SELECT " + "CASE WHEN true THEN " * 500 + "1" + " END" * 500)
@example("SELECT '" + "x" * 100_000)
@example("SELECT " + "a." * 3000 + "a")
def test_texts(text: str) -> None:
    async def run() -> None:
        session = await Database().session()
        await attack(session, text)
        await attack(session, "ROLLBACK")
        assert (await session.execute("SELECT 1 + 1")).rows == [(2,)]

    asyncio.run(run())
