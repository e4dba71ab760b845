"""Precedence, positions, spans, errors and bounds of the parser."""

from __future__ import annotations

import pytest

from tests.sql.parse.corpus import captured_statements, catalog_queries
from txndb import limits
from txndb.errors import FeatureNotSupportedError, SqlError, TxndbError
from txndb.sql.parse import ast, parse, parse_one


def expression(text: str) -> ast.Expr:
    query = parse_one(f"SELECT {text}")
    assert isinstance(query, ast.Query) and isinstance(query.body, ast.Select)
    return query.body.targets[0].expr


@pytest.mark.parametrize(
    ("chain", "grouped"),
    [
        ("a + b * c", "a + (b * c)"),
        ("a * b + c", "(a * b) + c"),
        ("a - b - c", "(a - b) - c"),
        ("a ^ b ^ c", "(a ^ b) ^ c"),
        ("- a ^ b", "(- a) ^ b"),
        ("- a :: int", "- (a::int)"),
        ("a || b + c", "a || (b + c)"),
        ("a + b < c || d", "(a + b) < (c || d)"),
        ("a < b = c IS NULL", None),
        ("a = b IS NULL", "(a = b) IS NULL"),
        ("a IS NULL = b", "(a IS NULL) = b"),
        ("a IS NULL IS NOT NULL", "(a IS NULL) IS NOT NULL"),
        ("NOT a = b", "NOT (a = b)"),
        ("NOT a IS NULL", "NOT (a IS NULL)"),
        ("a = NOT b", "a = (NOT b)"),
        ("a = NOT b AND c", "(a = (NOT b)) AND c"),
        ("NOT a AND b OR c", "((NOT a) AND b) OR c"),
        ("a OR b AND c", "a OR (b AND c)"),
        ("a BETWEEN b AND c AND d", "(a BETWEEN b AND c) AND d"),
        ("a NOT BETWEEN b + 1 AND c * 2", "a NOT BETWEEN (b + 1) AND (c * 2)"),
        ("a LIKE b || c ESCAPE d AND e", "(a LIKE (b || c) ESCAPE d) AND e"),
        ("a LIKE b LIKE c", None),
        ("a LIKE b IN (c)", None),
        ("a IN (1) IN (true)", "(a IN (1)) IN (true)"),
        ("a = b IN (c)", "a = (b IN (c))"),
        ("a < b < c", None),
        ("a = b <> c", None),
        ("a IS DISTINCT FROM b IS NULL", None),
        ("a AND b IS DISTINCT FROM c OR d", "(a AND (b IS DISTINCT FROM c)) OR d"),
        ("a AT TIME ZONE b || c", "(a AT TIME ZONE b) || c"),
        ("- a AT TIME ZONE b", "(- a) AT TIME ZONE b"),
        ("a || b COLLATE x", "a || (b COLLATE x)"),
        ("~ a + b", "~ (a + b)"),
        ("- ~ a || b", "(- (~ a)) || b"),
        ("a = ANY (b) AND c", "(a = ANY (b)) AND c"),
        ("a + b = ALL (c)", "(a + b) = ALL (c)"),
        ("a OPERATOR(pg_catalog.+) b * c", "a + (b * c)"),
        ("a OPERATOR(pg_catalog.*) b + c", "a * (b + c)"),
        ("a BETWEEN b AND c BETWEEN d AND e", None),
        ("a BETWEEN b OR c", None),
        ("a ESCAPE b", None),
    ],
)
def test_precedence(chain: str, grouped: str | None) -> None:
    if grouped is None:
        with pytest.raises(SqlError, match=r"^syntax error at ") as error:
            expression(chain)
        assert error.value.code == "42601"
    else:
        assert expression(chain) == expression(grouped)


def test_chains_of_and_are_one_node_and_parentheses_are_kept() -> None:
    assert expression("a AND b AND c") == ast.BoolOp("AND", tuple(ast.ColumnRef((x,)) for x in "abc"))
    assert expression("a AND (b AND c)") != expression("a AND b AND c")


def test_constants() -> None:
    assert expression("-9223372036854775808") == ast.Literal("integer", -(2**63))
    assert expression("9223372036854775808").kind == "numeric"  # type: ignore[attr-defined]
    assert str(expression("1.50").value) == "1.50"  # type: ignore[attr-defined]
    with pytest.raises(SqlError, match="overflows numeric"):
        expression("1e400000")


@pytest.mark.parametrize(
    ("sql", "message", "position"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"', 1),
        ("SELECT 1 FROM", "syntax error at end of input", 14),
        ("SELECT 1 FROM ;", 'syntax error at or near ";"', 15),
        ("SELECT 'é' 1x FROM t", 'trailing junk after numeric literal at or near "1x"', 12),
        ("SELECT * FROM t WHERE", "syntax error at end of input", 22),
        ("SELECT 1; SELECT FROM WHERE", 'syntax error at or near "WHERE"', 23),
        ("INSERT INTO t (a b) VALUES (1)", 'syntax error at or near "b"', 18),
        ("SELECT a FROM t AS select", 'syntax error at or near "select"', 20),
        ("SELECT left FROM t", 'syntax error at or near "FROM"', 13),
        ("SELECT a FROM select", 'syntax error at or near "select"', 15),
        ("CREATE TABLE t (a int,)", 'syntax error at or near ")"', 23),
        ("SELECT a < b < c", 'syntax error at or near "<"', 14),
        ("SELECT 1 LIMIT 1 ORDER BY 1", 'syntax error at or near "ORDER"', 18),
        ("SELECT 1 LIMIT 1 LIMIT 2", "multiple LIMIT clauses not allowed", 18),
        ("VALUES (1), (1, 2)", "VALUES lists must all be the same length", 14),
        ("SELECT * FROM (SELECT 1)", "subquery in FROM must have an alias", 15),
        ("SELECT 'a' 'b'", "syntax error at or near \"'b'\"", 12),
        ("UPDATE t SET", "syntax error at end of input", 13),
        ("DROP TABLE", "syntax error at end of input", 11),
        ("CREATE FOO x", 'syntax error at or near "FOO"', 8),
        ("BEGIN ISOLATION LEVEL SNAPSHOT", 'syntax error at or near "SNAPSHOT"', 23),
    ],
)
def test_syntax_errors(sql: str, message: str, position: int) -> None:
    with pytest.raises(SqlError) as error:
        parse(sql)
    assert (error.value.code, error.value.message, error.value.position) == ("42601", message, position)


@pytest.mark.parametrize(
    ("sql", "message", "position"),
    [
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW is not supported yet", 1),
        ("  CREATE OR REPLACE FUNCTION f() …", "CREATE FUNCTION is not supported yet", 3),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE MATERIALIZED VIEW is not supported yet", 1),
        ("create extension pgcrypto", "CREATE EXTENSION is not supported yet", 1),
        ("CREATE USER u", "CREATE USER is not supported yet", 1),
        ("ALTER DEFAULT PRIVILEGES GRANT", "ALTER DEFAULT PRIVILEGES is not supported yet", 1),
        ("ALTER SYSTEM SET x = 1", "ALTER SYSTEM is not supported yet", 1),
        ("DROP ROLE r", "DROP ROLE is not supported yet", 1),
        ("GRANT SELECT ON t TO u", "GRANT is not supported yet", 1),
        ("LISTEN c", "LISTEN is not supported yet", 1),
        ("MERGE INTO t USING u ON true", "MERGE is not supported yet", 1),
        ("DO $$ x $$", "DO is not supported yet", 1),
        ("LOCK TABLE t", "LOCK is not supported yet", 1),
        ("SELECT 1, sum(a) OVER (PARTITION BY b) FROM t", "window functions are not supported yet", 18),
        ("SELECT sum(a) OVER w FROM t", "window functions are not supported yet", 15),
        ("SELECT a FROM t GROUP BY ROLLUP (a)", "GROUPING SETS, ROLLUP and CUBE are not supported yet", 26),
        ("CREATE TABLE t AS SELECT 1", "CREATE TABLE AS is not supported yet", 1),
        ("CREATE TABLE t (a int) PARTITION BY RANGE (a)", "PARTITION is not supported yet", 24),
        ("SELECT * FROM t TABLESAMPLE SYSTEM (1)", "TABLESAMPLE is not supported yet", 15),
        ("COPY t FROM '/etc/passwd'", "COPY with a file or a program on the server is not supported yet", 13),
    ],
)
def test_refusals_name_the_construct(sql: str, message: str, position: int) -> None:
    with pytest.raises(FeatureNotSupportedError) as error:
        parse(sql)
    assert (error.value.code, error.value.message, error.value.position) == ("0A000", message, position)


def test_key_words_are_identifiers_where_the_grammar_has_no_use_for_them() -> None:
    query = parse_one(
        "SELECT t.order, year, values, row, position, date, timestamp AS select, left(name, 1) user_, a filter "
        "FROM public.time AS double(at, set) JOIN if ON exists = over"
    )
    assert isinstance(query, ast.Query) and isinstance(query.body, ast.Select)
    names = [t.expr.parts if isinstance(t.expr, ast.ColumnRef) else t.alias for t in query.body.targets]
    assert names[:6] == [("t", "order"), ("year",), ("values",), ("row",), ("position",), ("date",)]
    assert [t.alias for t in query.body.targets[6:]] == ["select", "user_", "filter"]


def test_spans_and_positions() -> None:
    sql = "select 'é' || a ; /* x */ (select 2) -- y\n;"
    first, second = parse(sql)
    assert sql[first.pos - 1 : first.end] == "select 'é' || a"
    assert sql[second.pos - 1 : second.end] == "(select 2)"
    assert isinstance(first, ast.Query) and isinstance(first.body, ast.Select)
    concat = first.body.targets[0].expr
    assert isinstance(concat, ast.Binary) and (concat.pos, concat.left.pos, concat.right.pos) == (12, 8, 15)


def test_parse_one_wants_exactly_one() -> None:
    for sql in ("", "select 1; select 2"):
        with pytest.raises(SqlError) as error:
            parse_one(sql)
        assert error.value.code == "42601"
    assert parse(" ; -- nothing\n;") == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT " + "- " * 5000 + "a",
        "SELECT " + "NOT " * 5000 + "a",
        "SELECT " + "f(" * 5000 + "1" + ")" * 5000,
        "SELECT 1" + " + 1" * 5000,
        "SELECT 1" + " UNION SELECT 1" * 2000,
        "SELECT " + "(SELECT " * 2000 + "1" + ")" * 2000,
        "SELECT a" + "[1]" * 5000,
        "SELECT " + "CASE WHEN a THEN " * 2000 + "1" + " END" * 2000,
        "SELECT * FROM a" + " JOIN a ON true" * 2000,
    ],
    ids=lambda sql: sql[:20],
)
def test_nesting_is_bounded_without_recursion(sql: str) -> None:
    if sql.startswith("SELECT (((("):
        assert parse_one(sql) == parse_one("SELECT 1")  # parentheses make no nodes
        return
    with pytest.raises(SqlError) as error:
        parse(sql)
    assert error.value.code == "54001"


def test_the_bound_is_the_stated_one() -> None:
    inside = limits.STATEMENT_DEPTH_MAX - 10
    parse("SELECT " + "f(" * inside + "1" + ")" * inside)
    assert len(expression(" AND ".join(["a"] * 3000)).args) == 3000  # type: ignore[attr-defined]


def test_psql_catalogue_queries_parse() -> None:
    queries = catalog_queries()
    assert len(queries) == 166
    for sql in queries:
        parse(sql)


def test_captured_statements_parse() -> None:
    for sql in captured_statements():
        try:
            parse(sql)
        except TxndbError as error:
            assert error.message == "PARTITION is not supported yet", sql
