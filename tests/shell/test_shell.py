"""`txndb sql` as a user runs it: over a pipe, and on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.pgwire.serving import BOUND_S, Serving, serving
from txndb.shell.cli import main


@pytest.fixture
def server() -> Iterator[Serving]:
    with serving() as made:
        yield made


def run(server: Serving, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["sql", server.url, *arguments], input=stdin)


def test_table(server: Serving) -> None:
    result = run(server, "-e", "SELECT 1 AS a, 'two\nlines' AS b, NULL AS c UNION SELECT 22, '-ü', 'x'")
    assert result.stdout.splitlines() == [
        " a  |   b   |  c",
        "----+-------+------",
        "  1 | two   | NULL",
        "    | lines |",
        " 22 | -ü    | x",
        "(2 rows)",
    ]
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("style", "want"),
    [
        ("csv", 'a,b\n1,"x,""y"\n2,\n'),
        ("json", '[\n  {"a":1,"b":"x,\\"y"},\n  {"a":2,"b":null}\n]\n'),
        (
            "vertical",
            '-[ RECORD 1 ]--------\na | 1\nb | x,"y\n-[ RECORD 2 ]--------\na | 2\nb | NULL\n(2 rows)\n',
        ),
    ],
)
def test_other_formats(server: Serving, style: str, want: str) -> None:
    result = run(server, "--format", style, "-e", "SELECT 1 AS a, 'x,\"y' AS b UNION SELECT 2, NULL")
    assert result.stdout == want


def test_an_error_stops_a_script_with_status_1(server: Serving) -> None:
    result = run(server, stdin="CREATE TABLE t (a);\nSELEC;\nSELECT 1;\n")
    assert result.exit_code == 1
    assert 'near "SELEC": syntax error\nLINE 1: SELEC\n        ^\n' in result.stderr
    assert "(1 row)" not in result.stdout


def test_no_connection_is_status_2() -> None:
    result = CliRunner().invoke(main, ["sql", "127.0.0.1:1/nowhere", "-e", "SELECT 1"])
    assert result.exit_code == 2
    assert result.stderr.startswith("txndb sql: cannot connect to 127.0.0.1:1")


def test_files_copy_and_includes(server: Serving, tmp_path: Path) -> None:
    inner = tmp_path / "inner.sql"
    inner.write_text("COPY t FROM STDIN;\n1\n2\n\\.\nSELECT count(*) AS n\nFROM t;\nCOPY t TO STDOUT;\n")
    outer = tmp_path / "outer.sql"
    outer.write_text(f"CREATE TABLE t (a);\n\\i {inner}\n\\x\nSELECT 5 AS five;")
    result = run(server, "-f", str(outer))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-9:] == [
        " n",
        "---",
        " 2",
        "(1 row)",
        "1",
        "2",
        "-[ RECORD 1 ]-----------",
        "five | 5",
        "(1 row)",
    ]


def test_unknown_commands_and_missing_files_fail(server: Serving) -> None:
    lines = ("\\nonsense", "\\i /nowhere/at/all", "\\i", "\\i /", "\\x maybe", "\\d nonesuch")
    assert [run(server, stdin=line).exit_code for line in lines] == [1] * len(lines)
    assert run(server, stdin="\\i /nowhere").stderr == "\\i: /nowhere: No such file or directory\n"


def test_switches_are_set_or_turned(server: Serving) -> None:
    result = run(server, stdin="\\timing on\n\\timing on\n\\timing\n\\timing OFF\n\\x off\n\\x\n\\x on;\n")
    assert [line.rpartition(" ")[2] for line in result.stderr.splitlines()] == [
        *("on.", "on.", "off.", "off."),
        *("off.", "on.", "on."),
    ]


@pytest.mark.parametrize("way", ["stdin", "file"])
def test_input_that_is_not_utf_8_is_one_line(server: Serving, tmp_path: Path, way: str) -> None:
    script = tmp_path / "script.sql"
    script.write_bytes(b"SELECT 1;\n\xff;\n")
    command = [sys.executable, "-m", "txndb.shell.cli", "sql", server.url]
    with open(script, "rb") as source:
        given = [] if way == "stdin" else ["-f", str(script)]
        done = subprocess.run([*command, *given], stdin=source, capture_output=True, timeout=BOUND_S)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"not UTF-8 text" in done.stderr


def test_json_keeps_every_column_and_what_it_has_no_form_for() -> None:
    sql = "SELECT 1 AS a, 2 AS a, 'NaN'::numeric AS n, '-Infinity'::float8 AS i, '\\x00ff'::bytea AS b, 1.50 AS d"
    result = CliRunner().invoke(main, ["sql", ":memory:", "--format", "json", "-e", sql])
    row = '{"a":1,"a":2,"n":"NaN","i":"-Infinity","b":"\\\\x00ff","d":1.50}'
    assert result.stdout == f"[\n  {row}\n]\n"
    none = CliRunner().invoke(main, ["sql", ":memory:", "--format", "json", "-e", "SELECT 1 AS a LIMIT 0"])
    assert none.stdout == "[\n]\n"


def test_the_group_lists_its_commands_without_importing_them() -> None:
    code = "import sys, txndb.shell.cli; sys.exit('grpc' in sys.modules or 'prompt_toolkit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=BOUND_S).returncode == 0
    listed = CliRunner().invoke(main, ["--help"]).output
    assert all(name in listed for name in ("start", "demo", "sql", "bench", "sim"))


class Terminal:
    """A person at a terminal: types, and waits for what the screen shows."""

    def __init__(self, server: Serving, home: Path) -> None:
        self._master, slave = pty.openpty()
        environment = {
            **os.environ,
            "TERM": "xterm",
            "TXNDB_HISTORY": str(home / "history"),
            "COLUMNS": "200",
        }
        # the child makes the terminal its own, so that Ctrl-C is a signal
        own = "import os, sys; os.login_tty(0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        command = [sys.executable, "-c", own, "-m", "txndb.shell.cli", "sql", server.url]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, text: str) -> None:
        """Wait for a text that was not there at the last `expect`."""
        deadline = time.monotonic() + BOUND_S
        while text not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} never came; the screen showed {self.seen!r}"
            self.seen += os.read(self._master, 65536).decode(errors="replace")
            if "\x1b[6n" in self.seen:  # prompt_toolkit asks where the cursor is, as a terminal would answer
                self.seen = self.seen.replace("\x1b[6n", "")
                self.type("\x1b[1;1R")
        self.seen = self.seen[self.seen.index(text) + len(text) :]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(server: Serving, tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(server, tmp_path)
    yield made
    made.close()


def test_a_session_at_a_terminal(server: Serving, terminal: Terminal, tmp_path: Path) -> None:
    prompt = f"root@127.0.0.1:{server.port}/defaultdb"
    terminal.expect("\\? for help")
    terminal.expect(f"{prompt}>")
    terminal.type("SELECT 40 +\r")
    terminal.expect("->")
    terminal.type("2 AS answer;\r")
    terminal.expect("answer")
    terminal.expect("42")
    terminal.expect("(1 row)")
    terminal.type("BEGIN;\r")
    terminal.expect(f"{prompt}*>")
    terminal.type("SELECT wrong;\r")
    terminal.expect("^")
    terminal.expect(f"{prompt}!>")
    terminal.type("ROLLBACK;\r")
    terminal.expect(f"{prompt}>")
    terminal.type("\\timing\r")
    terminal.expect("Timing is on.")
    terminal.expect(f"{prompt}>")
    terminal.type("SELECT hang();\r")
    server.call(lambda: server.sessions[0].hanging.wait())
    terminal.type("\x03")
    terminal.expect("canceled")
    terminal.expect("Time: ")
    terminal.expect(f"{prompt}>")
    terminal.type("\\q\r")
    assert terminal.process.wait(BOUND_S) == 0
    assert "SELECT 40 +" in (tmp_path / "history").read_text()


def test_data_and_unfinished_statements_at_a_terminal(server: Serving, terminal: Terminal) -> None:
    prompt = f"root@127.0.0.1:{server.port}/defaultdb"
    terminal.expect(f"{prompt}>")
    terminal.type("CREATE TABLE t (a);\r")
    terminal.expect(f"{prompt}>")
    terminal.type("COPY t FROM STDIN;\r")
    terminal.expect(">>")
    terminal.type("1\tselect\r")  # a tab is a tab, and nothing is completed
    terminal.expect(">>")
    terminal.type("\\.\r")
    terminal.expect("COPY 1")
    terminal.expect(f"{prompt}>")
    terminal.type("SELECT replace(a, char(9), 0) AS both\r")  # statements still have several lines
    terminal.expect("->")
    terminal.type("\\x\r")
    terminal.expect("Expanded display is on.")
    terminal.expect("->")
    terminal.type("FROM t;\r")  # on a line of its own after what stood before the command
    terminal.expect("both | 10select")
    terminal.expect(f"{prompt}>")


def test_a_lost_transaction_can_be_left_behind(server: Serving, terminal: Terminal) -> None:
    prompt = f"root@127.0.0.1:{server.port}/defaultdb"
    terminal.expect(f"{prompt}>")
    terminal.type("BEGIN;\r")
    terminal.expect(f"{prompt}*>")
    server.call(server.server.close)
    terminal.type("SELECT 1;\r")
    terminal.expect("the open transaction with it")
    terminal.expect(f"{prompt}>")
