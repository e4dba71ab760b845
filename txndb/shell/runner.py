"""Running statements and backslash commands and showing what they give. No terminal: lines come from outside.

Invariants:
1. Each statement is sent on its own, so that an error's position belongs to the text shown with it.
2. An interrupted statement is cancelled at the server (by the driver) and the conversation goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from txndb.client import Connection, Cursor, Error
from txndb.shell import describe
from txndb.shell.output import format_error, format_result
from txndb.shell.statements import copies_in, copies_out, cut, is_blank

HELP: Final = """\
  \\d [TABLE]         tables, views and sequences, or one table's columns, indexes and constraints
  \\dt                tables
  \\l                 databases
  \\x [on|off]        one column a line
  \\timing [on|off]   how long each statement took
  \\i FILE            run a file
  \\conninfo          where this is connected
  \\?                 this help
  \\q                 leave (so does Ctrl-D)
A statement ends with a semicolon. Ctrl-C cancels what runs, or clears the line.
"""

_INCLUDES_MAX: Final = 16
_DDL: Final = ("CREATE", "DROP", "ALTER")


class Quit(Exception):
    """The user leaves."""


class Failed(Exception):
    """A statement failed in a run that stops at the first error."""


class Runner:
    """One session of the shell. `write` shows results, `warn` everything else."""

    def __init__(
        self,
        conn: Connection,
        style: str,
        write: Callable[[str], object],
        warn: Callable[[str], object],
        *,
        interactive: bool = False,
    ) -> None:
        self.conn = conn
        self.style = style
        self.write = write
        self.warn = warn
        self.interactive = interactive
        self.timing = False
        self.names_stale = True
        self._depth = 0
        self._base_style = style if style != "vertical" else "table"

    # statements

    def run_lines(self, lines: Iterable[str]) -> None:
        """Run a script: statements over any number of lines, backslash commands on a line of their own."""
        source = iter(lines)
        buffer = ""
        for line in source:
            if is_blank(buffer) and line.lstrip().startswith("\\"):
                self.command(line.strip())
                buffer = ""
                continue
            statements, buffer = cut(buffer + line)
            for statement in statements:
                self.run(statement, source)
        if not is_blank(buffer):
            self.run(buffer.strip(), source)

    def run(self, sql: str, more: Iterator[str] | None = None) -> None:
        """Run one statement and show its outcome. `more` gives the lines of COPY data."""
        started = time.perf_counter()
        try:
            if copies_in(sql) and more is not None:
                self._tag(self.conn.copy_in(sql, _copy_lines(more)))
            elif copies_out(sql):
                for chunk in self.conn.copy_out(sql):
                    self.write(chunk.decode(errors="replace"))
            else:
                self._show(self.conn.execute(sql))
        except Error as error:
            self._notices()
            self.warn(format_error(error, sql))
            if self.conn.lost:
                self.conn.rollback()
                self.warn("The connection was lost, and the open transaction with it.\n")
            if not self.interactive:
                raise Failed from error
        except KeyboardInterrupt:
            self.warn("canceled\n")
            if not self.interactive:
                raise Failed from None
        else:
            self._notices()
        if self.timing:
            self.warn(f"Time: {(time.perf_counter() - started) * 1000:.3f} ms\n")

    def _show(self, cursor: Cursor) -> None:
        more: bool | None = True
        while more:
            if cursor.description is not None:
                self.write(format_result(cursor, self.style))
                if not cursor.statusmessage.startswith("SELECT"):
                    self._tag(cursor.statusmessage)
            elif cursor.statusmessage:
                self._tag(cursor.statusmessage)
            more = cursor.nextset()

    def _tag(self, tag: str) -> None:
        if tag.startswith(_DDL):
            self.names_stale = True
        if self.interactive or self.style in ("table", "vertical"):
            self.warn(f"{tag}\n")

    def _notices(self) -> None:
        for notice in self.conn.notices:
            self.warn(f"{notice}\n")

    # backslash commands

    def command(self, line: str) -> None:
        """Run one backslash command."""
        word, _, argument = line.partition(" ")
        argument = argument.strip().rstrip(";")
        handler = _COMMANDS.get(word.rstrip(";"))
        if handler is None:
            self._fail(f"invalid command {word}: \\? lists the commands")
            return
        handler(self, argument)

    def _fail(self, message: str) -> None:
        """Say what went wrong with a backslash command; it ends a script as a failed statement does."""
        self.warn(f"{message}\n")
        if not self.interactive:
            raise Failed

    def _switch(self, command: str, argument: str, now: bool) -> bool:
        """What \\x or \\timing is to be: what its argument says, without one the opposite of now."""
        if argument.lower() not in ("", "on", "off"):
            self._fail(f"{command}: expected on or off, not {argument}")
            return now
        return argument.lower() == "on" if argument else not now

    def _quit(self, argument: str) -> None:
        raise Quit

    def _help(self, argument: str) -> None:
        self.write(HELP)

    def _toggle_vertical(self, argument: str) -> None:
        vertical = self._switch("\\x", argument, self.style == "vertical")
        self.style = "vertical" if vertical else self._base_style
        self.warn(f"Expanded display is {'on' if self.style == 'vertical' else 'off'}.\n")

    def _toggle_timing(self, argument: str) -> None:
        self.timing = self._switch("\\timing", argument, self.timing)
        self.warn(f"Timing is {'on' if self.timing else 'off'}.\n")

    def _include(self, argument: str) -> None:
        if self._depth >= _INCLUDES_MAX:
            self.warn("\\i: files include each other too deeply\n")
            raise Failed
        if not argument:
            self._fail("\\i: which file?")
            return
        self._depth += 1
        failure = ""
        interactive, self.interactive = self.interactive, False
        try:
            with open(os.path.expanduser(argument), encoding="utf-8") as lines:
                self.run_lines(lines)
        except OSError as error:
            failure = error.strerror or str(error)
        except UnicodeDecodeError:
            failure = "this is not UTF-8 text"
        except Failed:
            if not interactive:
                raise
        finally:
            self._depth -= 1
            self.interactive = interactive
        if failure:
            self._fail(f"\\i: {argument}: {failure}")

    def _describe(self, argument: str) -> None:
        if not argument:
            self._run_query(describe.TABLES.format(kinds="'r', 'v', 'S', 'p'"))
            return
        try:
            found = describe.find_table(self.conn, argument)
            if found is None:
                self._fail(f'Did not find any table named "{argument}".')
                return
            oid, title = found
            self.write(f"{title}\n")
            cursor = self.conn.execute(describe.columns_query(oid))
            text = format_result(cursor, self.style)
            self.write(text.rpartition("(")[0] if self.style == "table" else text)
            if self.style in ("table", "vertical"):
                self.write(describe.footer(self.conn, oid))
        except Error as error:
            self._fail(format_error(error, "").rstrip("\n"))

    def _tables(self, argument: str) -> None:
        self._run_query(describe.TABLES.format(kinds="'r', 'p'"))

    def _databases(self, argument: str) -> None:
        self._run_query(describe.DATABASES)

    def _run_query(self, sql: str) -> None:
        timing, self.timing = self.timing, False
        try:
            self.run(sql)
        finally:
            self.timing = timing

    def _conninfo(self, argument: str) -> None:
        version = self.conn.parameters.get("server_version", "unknown")
        self.write(f"{self.conn.where}, server {version}\n")


_COMMANDS: Final[dict[str, Callable[[Runner, str], None]]] = {
    "\\q": Runner._quit,
    "\\quit": Runner._quit,
    "\\?": Runner._help,
    "\\h": Runner._help,
    "\\x": Runner._toggle_vertical,
    "\\timing": Runner._toggle_timing,
    "\\i": Runner._include,
    "\\d": Runner._describe,
    "\\dt": Runner._tables,
    "\\l": Runner._databases,
    "\\conninfo": Runner._conninfo,
}
COMMAND_NAMES: Final = tuple(sorted(_COMMANDS))


def _copy_lines(lines: Iterator[str]) -> Iterator[bytes]:
    """COPY data up to the line `\\.` or the end."""
    for line in lines:
        if line.rstrip("\r\n") == "\\.":
            return
        yield line.encode() if line.endswith("\n") else f"{line}\n".encode()
