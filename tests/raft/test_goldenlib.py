"""The golden-script runner itself: what it parses, and that it fails when it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.goldenlib import (
    REWRITE_VARIABLE,
    Command,
    parse_command,
    parse_script,
    run_golden,
    run_golden_text,
)
from txndb.errors import LimitError


def handle(command: Command) -> str:
    if command.name == "fail":
        raise LimitError("too much")
    if command.name == "quiet":
        return ""
    if command.name == "gap":
        return "a\n\nb"
    return " ".join([*command.args, *(f"{key}:{value}" for key, value in command.options.items())])


GOOD = """# a comment
echo one key=two "three four"
quiet
---
one three four key:two

quiet
---
ok

!fail
---
error LimitError: too much

gap
---
> a
>
> b
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(REWRITE_VARIABLE, raising=False)
    path = tmp_path / "script.txt"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_a_right_script_passes(script: Path) -> None:
    run_golden(script, handle)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("one three", "one  three"),
        ("ok", ""),
        ("!fail", "fail"),
        ("quiet\n---\nok", "!quiet\n---\nok"),
        ("> b\n", ""),
    ],
)
def test_a_wrong_script_fails(script: Path, old: str, new: str) -> None:
    script.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(AssertionError):
        run_golden(script, handle)


def test_rewriting_makes_it_right(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script.write_text(GOOD.replace("> b", "wrong").replace("ok", ""), encoding="utf-8")
    monkeypatch.setenv(REWRITE_VARIABLE, "1")
    run_golden(script, handle)
    assert script.read_text(encoding="utf-8") == GOOD


@pytest.mark.parametrize("text", ["", "\n\n", "echo without separator\n"])
def test_a_script_that_tests_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="script"):
        parse_script(text, "script.txt")


def test_text_blocks_are_given_whole(script: Path) -> None:
    script.write_text("SELECT 1,\n\n  2 -- two\n---\n21\n", encoding="utf-8")
    run_golden_text(script, lambda text: str(len(text)))
    with pytest.raises(AssertionError):
        run_golden_text(script, lambda text: text.upper())


def test_words_and_options() -> None:
    command = parse_command("put a=b=c '=x' 1=2 plain", 7)
    assert command == Command("put", ("=x", "1=2", "plain"), {"a": "b=c"}, "a=b=c '=x' 1=2 plain", 7)
