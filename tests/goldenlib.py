"""The golden-script runner: commands in a text file, the expected output beneath them, compared or rewritten.

Grammar of a script (`tests/golden/<package>/<topic>.txt`):

    script  := block*                       blocks are separated by blank lines
    block   := input "---" output           input: one or more lines; output: zero or more lines
    comment := "#" …                        a line of the input; kept, not given to the handler
    command := ["!"] name word*             one per input line; words are split as a shell does (quotes, no expansion)
    word    := value | key "=" value        key: letters, digits, "_" and "-", starting with a letter
    output  := line* | (">" [" " line])*    the second form when the output holds a blank line or starts with ">"

`!name` says that the command must fail with a `TxndbError`; its output is then `error <Class>: <message>`. A command
that fails without `!`, or succeeds with it, fails the test. A block's output is that of its commands one after the
other; a command without output adds nothing, and a block without output says `ok`.

Two readings of the input: `run_golden` gives each command line, parsed, to a handler; `run_golden_text` gives the
whole input of a block (comments included, for languages with their own) as one string. With TXNDB_REWRITE_GOLDEN=1 in
the environment the file is rewritten with what was produced – read the difference line by line before committing it.

    @pytest.mark.parametrize("path", golden_paths("raft"), ids=lambda path: path.stem)
    def test_golden(path: Path) -> None:
        run_golden(path, RaftScript().handle)
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from txndb.errors import TxndbError

GOLDEN_DIR = Path(__file__).parent / "golden"
REWRITE_VARIABLE = "TXNDB_REWRITE_GOLDEN"
SEPARATOR = "---"
_OPTION = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """One parsed command line."""

    name: str
    args: tuple[str, ...]
    """Positional words, in order."""
    options: dict[str, str]
    """The `key=value` words."""
    rest: str
    """Everything after the name, as written."""
    line_no: int
    """1-based, for messages."""


@dataclass(frozen=True, slots=True)
class Block:
    """Input lines, and the output expected of them."""

    input: tuple[str, ...]
    output: tuple[str, ...]
    line_no: int
    """1-based line of the first input line."""


def golden_paths(package: str) -> list[Path]:
    """The scripts of `tests/golden/<package>`, sorted; there must be at least one."""
    paths = sorted((GOLDEN_DIR / package).glob("*.txt"))
    if not paths:
        raise FileNotFoundError(f"no golden scripts in {GOLDEN_DIR / package}")
    return paths


def run_golden(path: Path, handler: Callable[[Command], str]) -> None:
    """Run each command of the script through `handler` and compare (or rewrite) the outputs."""

    def run_block(block: Block) -> str:
        outputs = []
        for offset, line in enumerate(block.input):
            if line.strip() and not line.lstrip().startswith("#"):
                outputs.append(_run_line(path, handler, line, block.line_no + offset))
        return "\n".join(output.rstrip("\n") for output in outputs if output)

    _run(path, run_block)


def run_golden_text(path: Path, handler: Callable[[str], str]) -> None:
    """Run each block's whole input, as one text, through `handler` and compare (or rewrite) the outputs."""
    _run(path, lambda block: handler("\n".join(block.input)).rstrip("\n"))


def parse_command(line: str, line_no: int) -> Command:
    """Split one command line into its name, arguments and options."""
    words = shlex.split(line)
    args: list[str] = []
    options: dict[str, str] = {}
    for word in words[1:]:
        match = _OPTION.fullmatch(word)
        if match:
            options[match[1]] = match[2]
        else:
            args.append(word)
    rest = line.strip().partition(" ")[2].strip()
    return Command(words[0], tuple(args), options, rest, line_no)


def parse_script(text: str, name: str) -> list[Block]:
    """Split a script into blocks; `name` is for messages."""
    blocks: list[Block] = []
    lines = text.splitlines()
    position = 0
    while position < len(lines):
        if not lines[position].strip():
            position += 1
            continue
        start = position
        while position < len(lines) and lines[position] != SEPARATOR:
            position += 1
        if position == len(lines):
            raise ValueError(f"{name}:{start + 1}: a block without '{SEPARATOR}'")
        body = tuple(lines[start:position])
        position += 1
        begin = position
        while position < len(lines) and lines[position]:
            position += 1
        blocks.append(Block(body, tuple(lines[begin:position]), start + 1))
    if not blocks:
        raise ValueError(f"{name}: an empty script tests nothing")
    return blocks


def _run_line(path: Path, handler: Callable[[Command], str], line: str, line_no: int) -> str:
    stripped = line.strip()
    must_fail = stripped.startswith("!")
    command = parse_command(stripped[1:] if must_fail else stripped, line_no)
    try:
        output = handler(command)
    except TxndbError as error:
        if not must_fail:
            raise AssertionError(
                f"{path.name}:{line_no}: {stripped}: {type(error).__name__}: {error}"
            ) from error
        return f"error {type(error).__name__}: {error}"
    if must_fail:
        raise AssertionError(f"{path.name}:{line_no}: {stripped}: expected an error, got:\n{output}")
    return output


def _format_output(output: str) -> list[str]:
    lines = output.split("\n") if output else ["ok"]
    if any(not line for line in lines) or lines[0].startswith(">"):
        return [f"> {line}".rstrip() for line in lines]
    return lines


def _run(path: Path, run_block: Callable[[Block], str]) -> None:
    text = path.read_text(encoding="utf-8")
    produced: list[str] = []
    for block in parse_script(text, path.name):
        if produced:
            produced.append("")
        produced += [*block.input, SEPARATOR, *_format_output(run_block(block))]
    actual = "\n".join(produced) + "\n"
    if os.environ.get(REWRITE_VARIABLE) == "1":
        path.write_text(actual, encoding="utf-8")
    elif actual != text:
        difference = difflib.unified_diff(
            text.splitlines(), actual.splitlines(), "expected", "actual", lineterm=""
        )
        raise AssertionError(f"{path}: output differs\n" + "\n".join(difference))
