"""The house rules that ruff and mypy do not check: sizes, docstrings, words, and what may be left lying about."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 700
FUNCTION_LINES_MAX = 60
LINE_CHARS_MAX = 120
TEXT_SUFFIXES = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".yml",
    ".yaml",
    ".lark",
    ".service",
    ".sql",
    ".slt",
    ".env",
    "",
}
LEFTOVERS = re.compile(r"\b(TODO|FIXME|XXX|HACK|WIP)\b|NotImplementedError")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(work|root|home/\w+)/")
GENERATED = {"txndb/sql/parse/grammar.tables"}


def files(*tops: str) -> Iterator[Path]:
    for top in tops:
        path = ROOT / top
        yield from [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def modules(*tops: str) -> list[Path]:
    return [p for p in files(*(tops or ("txndb", "tests", "bench"))) if p.suffix == ".py"]


def texts() -> list[Path]:
    tops = (
        "txndb",
        "tests",
        "bench",
        "docs",
        "sql",
        "cluster",
        "README.md",
        "Makefile",
        "pyproject.toml",
        ".ci",
    )
    return [
        p
        for p in files(*tops)
        if p.suffix in TEXT_SUFFIXES and "__pycache__" not in p.parts and name(p) not in GENERATED
    ]


def test_files_are_short() -> None:
    long = {name(p): len(p.read_text("utf-8").splitlines()) for p in modules()}
    assert {n: lines for n, lines in long.items() if lines > FILE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    long = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long.append(f"{name(path)}:{node.lineno} {node.name} {lines}")
    assert long == []


def test_lines_are_short() -> None:
    long = []
    for path in modules():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if len(line) > LINE_CHARS_MAX:
                long.append(f"{name(path)}:{number}")
    assert long == []


def test_every_module_says_what_it_is() -> None:
    spoken = [p for p in modules() if p.name != "__init__.py" or name(p).startswith("txndb")]
    silent = [name(p) for p in spoken if not ast.get_docstring(ast.parse(p.read_text("utf-8")))]
    assert silent == []


def test_every_package_directory_is_a_package() -> None:
    directories = {p.parent for p in modules("txndb")}
    assert [name(d) for d in sorted(directories) if not (d / "__init__.py").exists()] == []


def test_nothing_is_left_undone() -> None:
    """A comment or an exception that promises later work is a stub; an issue says it instead."""
    found = []
    for path in modules("txndb", "bench"):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
            if token.type in (tokenize.COMMENT, tokenize.NAME) and LEFTOVERS.search(token.string):
                found.append(f"{name(path)}:{token.start[0]} {token.string}")
    assert found == []


def test_no_machine_is_named() -> None:
    found = []
    for path in texts():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if MACHINE_PATHS.search(line):
                found.append(f"{name(path)}:{number}")
    assert found == []


def test_no_error_is_swallowed() -> None:
    """`except …: pass` hides what happened; `contextlib.suppress` names what may, in one line."""
    silent = []
    for path in modules("txndb"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.ExceptHandler)
                and len(node.body) == 1
                and isinstance(node.body[0], ast.Pass)
            ):
                silent.append(f"{name(path)}:{node.lineno}")
    assert silent == []


def test_tests_do_not_sleep() -> None:
    """Waiting a while is no synchronisation: a test waits for what it needs."""
    sleepers = []
    for path in modules("tests"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep":
                sleepers.append(f"{name(path)}:{node.lineno}")
    assert sleepers == []


def test_links_in_the_documentation_lead_somewhere() -> None:
    broken = []
    for path in [ROOT / "README.md", *(p for p in files("docs") if p.suffix == ".md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text("utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{name(path)}: {target}")
    assert broken == []
