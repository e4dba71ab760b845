"""Whatever the text, the parser answers with trees or with a SQL error, and quickly."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from txndb.errors import FeatureNotSupportedError, SqlError
from txndb.sql.parse import lalr, normalize, parse

_WORDS = sorted(
    word.removesuffix("_LA") for word in {t for row in lalr.load().actions for t in row} if word.isalpha()
)
_SYMBOL_TEXT = "( ) , ; . [ ] : :: = < <> + - * / % ^ || ~ $1 1 2.5 'x' E'\\n' a b \"C\" $$ ' \" -- /* */ =>"
_SYMBOLS = _SYMBOL_TEXT.split()
_STATEMENTS = (
    "SELECT DISTINCT a, count(*) FROM t AS x LEFT JOIN u USING (b) WHERE c IN (1, 2) GROUP BY 1 ORDER BY 2 LIMIT 3",
    "INSERT INTO t (a, b) VALUES (1, 'x'), (DEFAULT, $1) ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING *",
    "CREATE TABLE IF NOT EXISTS t (a serial PRIMARY KEY, b varchar(10) NOT NULL DEFAULT 'x', CHECK (a > 0))",
    "UPDATE t SET (a, b) = (1, 2), c = c + 1 FROM u WHERE t.a = u.a AND NOT EXISTS (SELECT 1) RETURNING t.*",
    "COPY t (a, b) FROM STDIN WITH (FORMAT csv, HEADER true, DELIMITER ',')",
    "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY",
)


def check(sql: str) -> None:
    try:
        statements = parse(sql)
    except (SqlError, FeatureNotSupportedError) as error:
        assert len(error.code) == 5 and 0 <= error.position <= len(sql) + 1
        normalize(sql)
        return
    normalized = normalize(sql)
    if normalized.literals:
        assert [type(s) for s in parse(normalized.text)] == [type(s) for s in statements]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*_WORDS, *_SYMBOLS]), max_size=25).map(" ".join))
def test_word_soup(sql: str) -> None:
    check(sql)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40))
def test_any_text(sql: str) -> None:
    check(sql)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_STATEMENTS), st.data())
def test_damaged_statements(sql: str, data: st.DataObject) -> None:
    parts = sql.split(" ")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(parts) - 1))
        match data.draw(st.sampled_from(("drop", "repeat", "replace", "swap"))):
            case "drop":
                del parts[at]
                parts = parts or ["x"]
            case "repeat":
                parts.insert(at, parts[at])
            case "replace":
                parts[at] = data.draw(st.sampled_from([*_WORDS, *_SYMBOLS]))
            case _:
                other = data.draw(st.integers(0, len(parts) - 1))
                parts[at], parts[other] = parts[other], parts[at]
    check(" ".join(parts))
