"""Lifting constants keeps a statement's meaning: the lifted tree with the constants put back is the tree."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.sql.parse.corpus import captured_statements, catalog_queries
from txndb.sql.parse import Normalized, ast, normalize, parse
from txndb.sql.parse.precedence import number


def put_back(node: Any, normalized: Normalized) -> Any:
    """The tree with the lifted parameters replaced by their constants."""
    if isinstance(node, tuple):
        return tuple(put_back(item, normalized) for item in node)
    if isinstance(node, ast.Param) and normalized.literals and node.index >= normalized.first:
        literal = normalized.literals[node.index - normalized.first]
        if literal.kind == "unknown":
            return ast.Literal("string", literal.value)
        return ast.Literal("numeric" if literal.kind == "numeric" else "integer", literal.value)
    if not isinstance(node, ast.Node):
        return node
    changes = {
        f: put_back(getattr(node, f), normalized) for f in node.__struct_fields__ if f not in ("pos", "end")
    }
    changed = msgspec.structs.replace(node, **changes)
    if isinstance(changed, ast.Unary) and changed.op == "-" and isinstance(changed.arg, ast.Literal):
        value = changed.arg.value
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return number(-value, 0)  # the parser folds the sign into a constant
    return changed


def same_meaning(sql: str) -> Normalized:
    normalized = normalize(sql)
    assert [put_back(s, normalized) for s in parse(normalized.text)] == parse(sql), normalized.text
    return normalized


@pytest.mark.parametrize(
    ("sql", "text", "values"),
    [
        ("SELECT a FROM t WHERE b = 7", "SELECT a FROM t WHERE b = $1", (7,)),
        ("SELECT a FROM t WHERE b = 'it''s' LIMIT 5", "SELECT a FROM t WHERE b = $1 LIMIT $2", ("it's", 5)),
        ("SELECT a FROM t WHERE b = $2 AND c = 1;", "SELECT a FROM t WHERE b = $2 AND c = $3;", (1,)),
        ("INSERT INTO t VALUES (1, -2, NULL)", "INSERT INTO t VALUES ($1, -$2, NULL)", (1, 2)),
        (
            "UPDATE t SET a = a + 1 WHERE b IN (1, 2)",
            "UPDATE t SET a = a + $1 WHERE b IN ($2, $3)",
            (1, 1, 2),
        ),
        ("SELECT a, 1 FROM t ORDER BY 2, 1 LIMIT 3", "SELECT a, $1 FROM t ORDER BY 2, 1 LIMIT $2", (1, 3)),
        ("SELECT a FROM t ORDER BY a USING <, 1", None, ()),
        ("SELECT a + 1 FROM t GROUP BY a + 1", None, ()),
        ("SELECT DISTINCT a + 1 FROM t ORDER BY a + 1", None, ()),
        (
            "SELECT a + 1, sum(b) FROM t WHERE c = 2 GROUP BY a + 1 HAVING sum(b) > 3",
            "SELECT a + 1, sum(b) FROM t WHERE c = $1 GROUP BY a + 1 HAVING sum(b) > 3",
            (2,),
        ),
        ("SELECT (SELECT 1 WHERE a = 2), b FROM t GROUP BY b, (SELECT 1 WHERE a = 2)", None, ()),
        ("SELECT a::varchar(10), CAST(b AS numeric(8, 2)), c::int[3] FROM t", None, ()),
        ("SELECT timestamp(3) '2020-01-01', interval '1' day, date '2020-01-01', int4 '7'", None, ()),
        ("SELECT a FROM t AS OF SYSTEM TIME '-5s' WHERE b = 1", None, (1,)),
        ("SELECT extract('year' from a), a AT TIME ZONE 'UTC' FROM t", None, ()),
        (
            "SELECT a FROM t WHERE b LIKE 'x%' ESCAPE '!'",
            "SELECT a FROM t WHERE b LIKE $1 ESCAPE '!'",
            ("x%",),
        ),
        ("SELECT 'a'\n'b', E'c', 1", None, ()),
        ("SELECT date'2020-01-01', 1", None, ()),
        ("SELECT 1; SELECT 2", None, ()),
        ("CREATE TABLE t (a varchar(10) DEFAULT 'x')", None, ()),
        ("SELECT a FROM t WHERE b = -2147483648", None, ()),
        ("SELECT a.group, 1 FROM t", "SELECT a.group, $1 FROM t", (1,)),
        ("SELECT 1 AS group, 2", "SELECT $1 AS group, $2", (1, 2)),
        ('SELECT "a""b", 1', 'SELECT "a""b", $1', (1,)),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (lower(a || 'x')) WHERE b = 1 DO UPDATE SET a = 5 WHERE t.c = 6",
            "INSERT INTO t VALUES ($1) ON CONFLICT (lower(a || 'x')) WHERE b = 1 DO UPDATE SET a = $2 WHERE t.c = $3",
            (1, 5, 6),
        ),
        (
            "SELECT a FROM t /* one */ WHERE b = 1 -- two",
            "SELECT a FROM t /* one */ WHERE b = $1 -- two",
            (1,),
        ),
        ("SELECT 'unfinished", None, ()),
    ],
)
def test_what_is_lifted(sql: str, text: str | None, values: tuple[object, ...]) -> None:
    normalized = normalize(sql)
    assert normalized.values == values
    if text is not None:
        assert normalized.text == text
    elif not values:
        assert normalized.text == sql


def test_kinds_follow_the_size_of_numbers() -> None:
    normalized = normalize("SELECT 1, 2147483647, 2147483649, 9223372036854775809, 1.5, 1e3, 'x', true, null")
    assert normalized.kinds == ("int4", "int4", "int8", "numeric", "numeric", "numeric", "unknown")


def test_positions_map_back() -> None:
    sql = "SELECT 'abcdef', x FROM t WHERE b = 12345 AND y"
    normalized = normalize(sql)
    assert normalized.text == "SELECT $1, x FROM t WHERE b = $2 AND y"
    for name in (" x ", " y"):
        position = normalized.text.index(name) + 2
        assert normalized.original_position(position) == sql.index(name) + 2
    assert normalized.original_position(normalized.text.index("$2") + 1) == sql.index("12345") + 1
    assert normalized.original_position(normalized.text.index("$1") + 2) == sql.index("'abc") + 1
    assert normalized.original_position(0) == 0


def test_the_corpus_means_the_same() -> None:
    lifted = 0
    for sql in [*catalog_queries(), *captured_statements()]:
        if "partition " not in sql:
            lifted += len(same_meaning(sql).literals)
    assert lifted > 100


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT CASE 1 WHEN 2 THEN 'a' ELSE 'b' END, a[1], ARRAY[1, 2], substring('abc' from 2), trim('x' from a)",
        "SELECT * FROM generate_series(1, 10, 2) g JOIN (VALUES (1, 'a'), (2, 'b')) v(x, y) ON v.x = 1 AND y LIKE 'a%'",
        "SELECT a BETWEEN 1 AND 2, a BETWEEN SYMMETRIC 1 AND 2, (1, 2) = (3, 4), a IS DISTINCT FROM 5 FROM t OFFSET 3",
        "DELETE FROM t USING u WHERE t.a = 1 AND u.b = ANY (ARRAY[1, 2]) RETURNING a + 1",
        "SELECT count(*) FILTER (WHERE a > 1), string_agg(a, ',' ORDER BY 1) FROM t",
        "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u ORDER BY 1 LIMIT 1) FOR UPDATE",
        "SELECT a FROM t UNION ALL SELECT 1 ORDER BY 1 FETCH FIRST 3 ROWS ONLY",
        "SELECT overlay('abc' placing 'x' from 1), position('a' in b), coalesce(a, 1) + - 1",
    ],
)
def test_statements_mean_the_same(sql: str) -> None:
    same_meaning(sql)
