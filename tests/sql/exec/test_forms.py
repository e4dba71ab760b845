"""Equal values that differ in form (1.0 and 1.000, 0 and -0): an answer remembered for one is not given for another."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.sql.harness import Database, rows, run_async
from txndb.sql.session.session import Session


async def _session() -> Session:
    session = await Database().session()
    await session.execute("CREATE TABLE n (id int PRIMARY KEY, x numeric, f float8)")
    await session.execute("INSERT INTO n VALUES (1, 1.0, 0), (2, 1.000, '-0'), (3, 1.00, 0)")
    return session


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("SELECT (SELECT n.x::text) FROM n ORDER BY id", [("1.0",), ("1.000",), ("1.00",)]),
        ("SELECT (SELECT n.f::text) FROM n ORDER BY id", [("0",), ("-0",), ("0",)]),
        ("SELECT id FROM n, LATERAL (SELECT n.x::text AS t) l WHERE t = '1.000'", [(2,)]),
        ("SELECT id FROM n WHERE EXISTS (SELECT WHERE n.x::text || n.f::text = '1.000-0')", [(2,)]),
    ],
)
def test_a_subquery_is_remembered_for_the_very_value(sql: str, wanted: list[tuple[Any, ...]]) -> None:
    async def run() -> None:
        assert await rows(await _session(), sql) == wanted

    run_async(run())


def test_a_filter_at_the_leaseholder_is_remembered_for_the_very_value() -> None:
    async def run() -> None:
        session = await _session()
        added = "SELECT id FROM n WHERE (x + $1::numeric)::text = '2.000' ORDER BY id"
        assert await rows(session, added, Decimal("1.0")) == [(2,)]
        assert await rows(session, added, Decimal("1.000")) == [(1,), (2,), (3,)]
        signed = "SELECT id FROM n WHERE (f + $1::float8)::text = '-0'"
        assert await rows(session, signed, 0.0) == []
        assert await rows(session, signed, -0.0) == [(2,)]

    run_async(run())
