"""The terminal: line editing, history, completion, highlighting and the prompt, by prompt_toolkit and pygments."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import PostgresLexer

from txndb.shell import describe
from txndb.shell.runner import COMMAND_NAMES, Quit, Runner
from txndb.shell.statements import cut, ending_command, is_blank

_KEYWORDS: Final = """
ADD ALL ALTER ANALYZE AND AS ASC BEGIN BETWEEN BIGINT BIGSERIAL BOOLEAN BY BYTEA CASE CAST CHECK COLUMN COMMIT
CONFLICT CONSTRAINT COPY COUNT CREATE CROSS DATABASE DATE DEFAULT DELETE DESC DISTINCT DO DROP ELSE END EXISTS
EXPLAIN FALSE FILTER FIRST FOR FROM GROUP HAVING IF ILIKE IN INDEX INNER INSERT INTEGER INTO IS JOIN KEY LAST LEFT
LIKE LIMIT NOT NOTHING NULL NULLS NUMERIC OFFSET ON ONLY OR ORDER PRIMARY RANGES READ RETURNING ROLLBACK SAVEPOINT
SELECT SERIAL SET SHOW SPLIT STDIN STDOUT SYSTEM TABLE TEXT THEN TIME TIMESTAMP TIMESTAMPTZ TRUE TRUNCATE UNION
UNIQUE UPDATE USING UUID VACUUM VALUES VARCHAR WHEN WHERE WITH
"""
KEYWORDS: Final = tuple(_KEYWORDS.split())
_MARKS: Final = {"I": "", "T": "*", "E": "!"}


class _SqlCompleter(Completer):
    """Backslash commands, tables, columns, keywords. Names are read again after DDL, while no transaction is open."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._names: dict[str, list[str]] = {}

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        if document.text.startswith("\\") and " " not in document.text:
            yield from _matching(document.text, COMMAND_NAMES)
            return
        word = document.get_word_before_cursor()
        if not word:
            return
        self._refresh()
        names = sorted({*self._names, *(column for columns in self._names.values() for column in columns)})
        yield from _matching(word, names)
        lowered = word.islower()
        yield from _matching(word, [keyword.lower() if lowered else keyword for keyword in KEYWORDS])

    def _refresh(self) -> None:
        runner = self._runner
        if runner.names_stale and not runner.conn.in_transaction:
            runner.names_stale = False
            self._names = describe.names(runner.conn)


def _matching(word: str, candidates: Iterable[str]) -> Iterator[Completion]:
    folded = word.lower()
    for candidate in candidates:
        if candidate.lower().startswith(folded):
            yield Completion(candidate, start_position=-len(word))


def _history() -> History:
    """The history file, or memory where no file can be written."""
    path = os.environ.get("TXNDB_HISTORY") or os.path.expanduser("~/.txndb_history")
    try:
        with open(path, "a", encoding="utf-8"):
            return FileHistory(path)
    except OSError:
        return InMemoryHistory()


def _bindings() -> KeyBindings:
    """Enter sends when a backslash command or a finished statement stands there, else starts a new line."""
    bindings = KeyBindings()

    @Condition
    def unfinished() -> bool:
        from prompt_toolkit.application import get_app

        text = get_app().current_buffer.text
        return not is_blank(text) and not ending_command(text)[1] and not is_blank(cut(text)[1])

    @bindings.add("enter", filter=unfinished)
    def newline(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("enter", filter=~unfinished)
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return bindings


def _copy_data() -> Iterator[str]:
    """The lines of COPY data, up to Ctrl-D. Each is data and nothing else: no history, and Tab is a tab."""
    bindings = KeyBindings()

    @bindings.add("tab")
    def tab(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\t")

    session: PromptSession[str] = PromptSession(history=InMemoryHistory(), key_bindings=bindings)
    while True:
        try:
            line = session.prompt(">> ")
        except EOFError:
            return
        yield line + "\n"


def interact(runner: Runner) -> None:
    """Read and run until the user leaves."""
    session: PromptSession[str] = PromptSession(
        history=_history(),
        lexer=PygmentsLexer(PostgresLexer),
        completer=_SqlCompleter(runner),
        complete_while_typing=False,
        key_bindings=_bindings(),
        multiline=True,
        prompt_continuation=lambda width, line, wrapped: "-> ".rjust(width),
        enable_open_in_editor=True,
    )

    def prompt() -> str:
        return f"{runner.conn.where}{_MARKS[runner.conn.status]}> "

    kept = ""
    while True:
        try:
            text = session.prompt(prompt, default=kept)
        except KeyboardInterrupt:
            kept = ""
            continue
        except EOFError:
            return
        try:
            kept = _run(runner, text)
        except Quit:
            return


def _run(runner: Runner, text: str) -> str:
    """Run what was sent; what stood before a backslash command is given back, to be gone on with on a new line."""
    kept, command = ending_command(text)
    if command:
        runner.command(command)
        return kept and f"{kept}\n"
    statements, rest = cut(text)
    if not is_blank(rest):
        statements.append(rest.strip())
    for statement in statements:
        runner.run(statement, _copy_data())
    return ""
