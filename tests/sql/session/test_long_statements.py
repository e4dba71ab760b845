"""Statements of tens of thousands of parameters: planned once, in turns, and within bounds that are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest

from tests.sql.harness import Database, error_of, rows, run_async
from txndb import limits
from txndb.sql.exec import constantrows
from txndb.sql.exec.codegen import Codegen
from txndb.sql.parse import ast
from txndb.sql.plan.physical import Plan
from txndb.sql.plan.planner import plan_statement
from txndb.sql.plan.scope import Statement
from txndb.sql.session.services import PLANS_TEXT_MAX, Cache
from txndb.sql.session.session import Session

T = TypeVar("T")


async def _opened() -> Session:
    session = await Database().session()
    await session.execute("CREATE TABLE t (k INT PRIMARY KEY, v INT, w TEXT)")
    return session


async def _turns(work: Awaitable[T]) -> tuple[T, int]:
    """What the work gives, and how often others ran meanwhile."""
    count = 0

    async def others() -> None:
        nonlocal count
        while True:
            await asyncio.sleep(0)
            count += 1

    task = asyncio.create_task(others())
    await asyncio.sleep(0)
    try:
        return await work, count
    finally:
        task.cancel()


def _parameters(first: int, count: int) -> str:
    return ", ".join(f"${i}" for i in range(first, first + count))


def test_in_with_ten_thousand_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[ast.Statement] = []

    def counted(statement: Statement, node: ast.Statement) -> Plan:
        planned.append(node)
        return plan_statement(statement, node)

    monkeypatch.setattr("txndb.sql.session.planning.plan_statement", counted)

    async def run() -> None:
        session = await _opened()
        await session.execute("INSERT INTO t SELECT i, i, 'x' FROM generate_series(1, 100) AS i")
        planned.clear()
        for name, column in (("by key", "k"), ("by value", "v")):
            sql = f"SELECT k FROM t WHERE {column} IN ({_parameters(1, 10_000)}) ORDER BY k"
            made, turns = await _turns(session.prepare(name, sql))
            assert len(made.param_oids) == 10_000
            assert turns > 2 * 20_000 // limits.STATEMENT_TURN_TOKENS, "scanner and parser pause"
            session.bind("", name, [*range(50, 10_050)])
            assert (await session.run_portal("", final=True)).rows == [(i,) for i in range(50, 101)]
        assert len(planned) == 2, "a described statement's plan is the one that runs"

    run_async(run())


def test_insert_with_sixty_five_thousand_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    function = Codegen.function

    def counted(gen: Any, arguments: str, body: str) -> Any:
        compiled.append(body)
        return function(gen, arguments, body)

    async def run() -> None:
        session = await _opened()
        count = 65_001 // 3
        sql = "INSERT INTO t VALUES " + ", ".join(f"({_parameters(3 * i + 1, 3)})" for i in range(count))
        monkeypatch.setattr(Codegen, "function", counted)
        made, turns = await _turns(session.prepare("", sql))
        assert len(made.param_oids) == 65_001
        assert turns > 2 * 130_000 // limits.STATEMENT_TURN_TOKENS
        assert not compiled, "what is only picked needs no code"
        monkeypatch.undo()
        session.bind("", "", [value for i in range(count) for value in (i, -i, str(i))])
        assert (await session.run_portal("", final=True)).tag == f"INSERT 0 {count}"
        found = await rows(session, "SELECT count(*), min(v), max(length(w)) FROM t")
        assert found == [(count, 1 - count, 5)]

    run_async(run())


def test_long_lists_of_other_cells_are_compiled_in_chunks() -> None:
    """Casts, defaults, sequences and constants beside parameters; each row is its own, no number is used twice."""

    async def run() -> None:
        session = await Database().session()
        await session.execute(
            "CREATE TABLE u (k SERIAL PRIMARY KEY, c VARCHAR(5), n NUMERIC(6, 2), v INT DEFAULT 7)"
        )
        count = 4 * constantrows.CHUNK_ROWS + 3
        values = ", ".join(f"(${i + 1}, {i}.125 + 0, DEFAULT)" for i in range(count))
        made, turns = await _turns(session.prepare("", f"INSERT INTO u (c, n, v) VALUES {values}"))
        assert len(made.param_oids) == count
        assert turns >= count // constantrows.CHUNK_ROWS
        session.bind("", "", [f"c{i}" for i in range(count)])
        assert (await session.run_portal("", final=True)).tag == f"INSERT 0 {count}"
        sql = "SELECT count(DISTINCT k), count(DISTINCT c), sum(n - floor(n)), sum(v) FROM u"
        assert [list(map(str, row)) for row in await rows(session, sql)] == [
            [str(count), str(count), f"{count * 13 / 100:.2f}", str(7 * count)]
        ]
        session.bind("", "", [*[f"d{i}" for i in range(count - 1)], "too long"])
        with pytest.raises(Exception, match="value too long"):
            await session.run_portal("", final=True)

    run_async(run())


def test_a_long_simple_query_pauses_and_names_the_place_of_its_errors() -> None:
    async def run() -> None:
        session = await _opened()
        values = ", ".join(f"({i}, {i}, 'x')" for i in range(5_000))

        async def simple(sql: str) -> str:
            tags = [result.tag async for result in session.simple(sql)]
            return " ".join(tags)

        tag, turns = await _turns(simple(f"INSERT INTO t VALUES {values}"))
        assert tag == "INSERT 0 5000"
        assert turns > 35_000 // limits.STATEMENT_TURN_TOKENS
        assert await simple(f"DELETE FROM t; INSERT INTO t VALUES {values}") == "DELETE 5000 INSERT 0 5000"
        for sql, code in (
            (f"INSERT INTO t VALUES {values} oops", "42601"),
            (f"INSERT INTO t VALUES {values}, (1, oops, 'x')", "42703"),
        ):
            error = await error_of(session, sql)
            assert (error.code, error.position) == (code, sql.index("oops") + 1)

    run_async(run())


def test_a_statement_of_too_many_words_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATEMENT_TOKENS_MAX", 20_000)

    async def run() -> None:
        session = await _opened()
        sql = f"SELECT k FROM t WHERE k IN ({'1, ' * (limits.STATEMENT_TOKENS_MAX // 2)}1)"
        for error in (await error_of(session, sql), await error_of(session, f"SELECT 1; {sql}")):
            assert error.code == "54000"
            assert error.hint == "Use COPY, or several statements."
        with pytest.raises(Exception, match="words, constants and marks"):
            await session.prepare("", sql)

    run_async(run())


def test_a_result_has_as_many_columns_as_postgresql_allows() -> None:
    async def run() -> None:
        session = await _opened()
        most = ", ".join(["1"] * limits.TARGETS_MAX)
        assert len((await rows(session, f"SELECT {most}"))[0]) == limits.TARGETS_MAX
        error = await error_of(session, f"SELECT {most}, 1")
        assert (error.code, error.message) == ("54011", "target lists can have at most 1664 entries")
        assert (await error_of(session, f"SELECT {most}, t.* FROM t")).code == "54011"

    run_async(run())


def test_case_of_many_branches() -> None:
    async def run() -> None:
        session = await _opened()
        await session.execute("INSERT INTO t VALUES (1, 500, 'x'), (2, 9999999, 'x')")
        branches = " ".join(f"WHEN v = {i} THEN {2 * i}" for i in range(1000))
        found = await rows(session, f"SELECT CASE {branches} ELSE -1 END FROM t ORDER BY k")
        assert found == [(1000,), (-1,)]
        too_many = " ".join(f"WHEN v = {i} THEN {2 * i}" for i in range(5_000))
        assert (await error_of(session, f"SELECT CASE {too_many} END FROM t")).code == "54001"

    run_async(run())


def test_plans_are_kept_by_number_and_by_weight() -> None:
    cache = Cache(3, 100)
    for i in range(5):
        cache.put(i, i)
    assert [cache.get(i) for i in range(5)] == [None, None, 2, 3, 4]
    cache.put("heavy", 1, 90)
    cache.put("heavier", 2, 90)
    assert (cache.get("heavy"), cache.get("heavier")) == (None, 2)
    cache.put("too heavy", 3, 1000)
    assert len(cache) == 1 and cache.get("too heavy") == 3
    cache.put("light", 4, 1)
    assert (cache.get("too heavy"), cache.get("light")) == (None, 4)

    async def run() -> None:
        session = await _opened()
        for i in range(12):
            text = "x" * (PLANS_TEXT_MAX // 8)
            await session.prepare("", f"SELECT {i} AS a, '{text}'")
        assert len(session.services.plans) < 24, "each is kept twice, and eight at most fit"

    run_async(run())
