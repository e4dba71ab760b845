"""Cutting input into statements, and results and errors as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txndb.client import DatabaseError
from txndb.shell.output import format_error
from txndb.shell.statements import copies_in, copies_out, cut, ending_command, is_blank


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("select 1; select 2", ["select 1"], " select 2"),
        ("select ';'; x", ["select ';'"], " x"),
        ("select 'it''s;';", ["select 'it''s;'"], ""),
        (r"select e'\';';", [r"select e'\';'"], ""),
        ('select "a;b";', ['select "a;b"'], ""),
        ("select $$;$$, $q$ $$;$$ $q$;", ["select $$;$$, $q$ $$;$$ $q$"], ""),
        ("select 1 -- not; here\n;", ["select 1 -- not; here"], ""),
        ("/* a; /* b; */ c; */ select 1;", ["/* a; /* b; */ c; */ select 1"], ""),
        ("/* open; ", [], "/* open; "),
        ("select 'open; ", [], "select 'open; "),
        ("select $1; ;;", ["select $1"], ""),
    ],
)
def test_statements_end_at_semicolons_outside_quotes(text: str, statements: list[str], rest: str) -> None:
    assert cut(text) == (statements, rest)


@given(st.text(alphabet="a;'\"$-/*\n \\E", max_size=40))
def test_any_input_is_cut_without_losing_what_is_unfinished(text: str) -> None:
    statements, rest = cut(text)
    assert text.endswith(rest)
    assert all(statement in text for statement in statements)


def test_blank_and_copy() -> None:
    assert is_blank(" \n-- x\n/* y */ ")
    assert not is_blank("-- x\n1")
    assert copies_in("COPY t (a)\nfrom STDIN with (format csv)")
    assert not copies_in("select 'copy t from stdin'")
    assert copies_out("copy (select 1) to stdout")


@pytest.mark.parametrize(
    ("sql", "position", "lines"),
    [
        ("select x", 8, ["LINE 1: select x", "               ^"]),
        ("select\n  ü, x\nfrom t", 13, ["LINE 2:   ü, x", "             ^"]),
        ("select\t日本, x", 12, ["LINE 1: select 日本, x", "                     ^"]),
        ("select", 7, ["LINE 1: select", "              ^"]),
        ("select", 0, []),
        ("select", 99, []),
    ],
)
def test_the_caret_stands_under_the_position(sql: str, position: int, lines: list[str]) -> None:
    error = DatabaseError("no", sqlstate="42703", detail="d", hint="h", position=position)
    want = ["ERROR:  no", *lines, "DETAIL:  d", "HINT:  h", "SQLSTATE: 42703", ""]
    assert format_error(error, sql) == "\n".join(want)


def test_a_command_on_the_last_line_is_taken_from_an_unfinished_statement() -> None:
    """Who forgot a semicolon must still get out with \\q."""
    assert ending_command("\\q") == ("", "\\q")
    assert ending_command("select 1\n  \\d t ") == ("select 1", "\\d t")
    assert ending_command("select 'a\n\\q") == ("", "")
    assert ending_command("/* a\n\\q") == ("", "")
    assert ending_command("select 1;") == ("", "")
