"""The tokenizer follows PostgreSQL's lexical rules, and `scan` covers every character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txndb.errors import SqlError
from txndb.sql.parse import is_complete, scan, split_statements, tokenize
from txndb.sql.parse.tokens import fold


def values(sql: str) -> list[tuple[str, str]]:
    return [(t.kind, t.value) for t in tokenize(sql)[:-1]]


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("'it''s'", "it's"),
        ("'a'\n  'b'", "ab"),
        ("'a' -- note\n -- more\n 'b'", "ab"),
        (r"E'\n\t\\\'\x41\101\u00e9\U0001F600'", "\n\t\\'AA\u00e9\U0001f600"),
        (r"E'\ud83d\ude00'", "\U0001f600"),
        (r"E'\xc3\xa9'", "\u00e9"),
        (r"'a\n'", r"a\n"),
        ("$$a'b$$", "a'b"),
        ("$q$a$$b$q$", "a$$b"),
        ("N'x'", "x"),
        (r"U&'d\0061t\+000061'", "data"),
        ("''", ""),
    ],
)
def test_strings(sql: str, value: str) -> None:
    assert values(sql) == [("STRING", value)]


@pytest.mark.parametrize(
    ("sql", "kind", "value"),
    [
        ("b'0101'", "BITSTRING", "0101"),
        ("X'1f'", "BITSTRING", "00011111"),
        ("1.5e-3", "NUMERIC", "1.5e-3"),
        (".5", "NUMERIC", ".5"),
        ("5.", "NUMERIC", "5."),
        ("007", "INTEGER", "007"),
        ("$12", "PARAM", "12"),
        ('"A""b c"', "IDENT", 'A"b c'),
        (r'U&"d\0061t"', "IDENT", "dat"),
        ("FooBar", "IDENT", "foobar"),
        ("ÄBc", "IDENT", "Äbc"),
        ("a$1", "IDENT", "a$1"),
        ("SELECT", "SELECT", "select"),
        ("!=", "CMP", "<>"),
        ("->>", "OP", "->>"),
        ("!~*", "OP", "!~*"),
        ("||", "OP", "||"),
        ("::", "TYPECAST", "::"),
    ],
)
def test_one_token(sql: str, kind: str, value: str) -> None:
    assert values(sql) == [(kind, value)]


@pytest.mark.parametrize(
    ("sql", "parts"),
    [
        ("a<-1", ["a", "<", "-", "1"]),
        ("a=-1", ["a", "=", "-", "1"]),
        ("@-1", ["@-", "1"]),
        ("a+-b", ["a", "+", "-", "b"]),
        ("1+/*c*/2", ["1", "+", "2"]),
        ("1*--c\n2", ["1", "*", "2"]),
        ("1..2", ["1", ".", ".2"]),
        ("a::int", ["a", "::", "int"]),
        ("x[1:2]", ["x", "[", "1", ":", "2", "]"]),
        ("/* a /* b */ c */ 1", ["1"]),
        ("a.b", ["a", ".", "b"]),
        ("f(a=>1)", ["f", "(", "a", "=>", "1", ")"]),
    ],
)
def test_boundaries(sql: str, parts: list[str]) -> None:
    assert [value for _kind, value in values(sql)] == parts


@pytest.mark.parametrize(
    ("sql", "message", "position"),
    [
        ("select 'abc", 'unterminated quoted string at or near "\'abc"', 8),
        ('select "abc', 'unterminated quoted identifier at or near ""abc"', 8),
        ('select ""', 'zero-length delimited identifier at or near """"', 8),
        ("select /* a /* b */", 'unterminated /* comment at or near "/* a /* b */"', 8),
        ("select $$a", 'unterminated dollar-quoted string at or near "$$a"', 8),
        ("select 1a", 'trailing junk after numeric literal at or near "1a"', 8),
        ("select $1a", 'trailing junk after parameter at or near "$1a"', 8),
        ("select 'ä', $", 'syntax error at or near "$"', 13),
    ],
)
def test_errors(sql: str, message: str, position: int) -> None:
    with pytest.raises(SqlError) as error:
        tokenize(sql)
    assert (error.value.code, error.value.message, error.value.position) == ("42601", message, position)


def test_identifiers_are_cut_at_63_bytes_never_inside_a_character() -> None:
    assert fold("a" * 70) == "a" * 63
    assert fold("a" * 62 + "é") == "a" * 62
    assert fold("é" * 40) == "é" * 31


_PIECES = st.sampled_from(
    [
        "'",
        '"',
        "$$",
        "$q$",
        "/*",
        "*/",
        "--",
        "\n",
        " ",
        "e'",
        "\\",
        "a",
        "select",
        "1",
        "1.5",
        "$1",
        "::",
        ";",
        "(",
        "é",
    ]
)


@given(st.lists(st.one_of(_PIECES, st.text(max_size=3)), max_size=30).map("".join))
def test_scan_covers_the_text_and_agrees_with_tokenize(sql: str) -> None:
    scanned = list(scan(sql))
    assert "".join(sql[t.start : t.end] for t in scanned) == sql
    try:
        tokens = tokenize(sql)
    except SqlError:
        return
    assert [t for t in scanned if t.kind not in ("SPACE", "COMMENT")] == tokens[:-1]


@pytest.mark.parametrize(
    ("sql", "complete"),
    [
        ("", True),
        ("-- only a note", True),
        ("select 1", False),
        ("select 1;", True),
        ("select 1; -- done", True),
        ("select 'a;", False),
        ("select (1;", False),
        ("select $$;", False),
        ("select /* ;", False),
        ("select 1; select", False),
    ],
)
def test_is_complete(sql: str, complete: bool) -> None:
    assert is_complete(sql) is complete


def test_split_statements() -> None:
    sql = " select ';' ;; -- ;\n select $$;$$ ; /* ; */ "
    assert [sql[a:b] for a, b in split_statements(sql)] == ["select ';'", "select $$;$$"]
