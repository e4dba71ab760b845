"""The documentation names code that exists: links, paths, and names of modules, classes and functions.

What is checked, in README.md, docs/ and the other Markdown files of the repository, outside fenced blocks:
    [text](path)              the file exists; a #fragment is a heading of it
    [`Class.method`](x.py)    the name is defined in x.py (`name`, `Class.name`, `x.name`; inherited members count)
    `txndb/a/b.py`            paths below the repository's directories exist (a trailing / or * is a directory's)
    `txndb.a.b.name`          modules, and names in them
    `module.name`             where `module` is a module's last name, and `Class.name` where `Class` is a class of ours
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("txndb", "tests", "docs", "bench", "sql", "cluster", ".ci")
SUFFIXES = {"py", "md", "toml", "txt", "lark", "tables", "slt", "sql", "log", "json", "yaml", "env"}
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(rf"(?:{'|'.join(re.escape(t) for t in TOPS)})(?:/[\w.-]+)*/?")
DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")

Names = dict[str, set[str]]
"""Name defined in a module -> names defined in that class (empty for what is no class)."""


def documents() -> list[Path]:
    found = [ROOT / "README.md"]
    for top in TOPS:
        found += sorted((ROOT / top).rglob("*.md"))
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text("utf-8"))


@cache
def slugs(path: Path) -> frozenset[str]:
    """The fragments that a page's headings answer to."""
    headings = re.findall(r"^#+\s+(.*)$", prose(path), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return frozenset(text.strip().replace(" ", "-") for text in kept)


def _targets(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Assign):
        return [t.id for t in node.targets if isinstance(t, ast.Name)]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    if isinstance(node, ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    return []


def _members(node: ast.ClassDef) -> set[str]:
    found: set[str] = set()
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(child.name)
        elif isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
            found.add(child.attr)
        else:
            found.update(_targets(child))
    return found


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def class_index() -> dict[str, list[ast.ClassDef]]:
    found: dict[str, list[ast.ClassDef]] = {}
    for path in sorted((ROOT / "txndb").rglob("*.py")):
        for node in _tree(path).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


def members(node: ast.ClassDef, depth: int = 8) -> set[str]:
    """A class's members, those of its bases of ours included."""
    found = _members(node)
    for base in node.bases if depth else ():
        for parent in class_index().get(ast.unparse(base).rpartition(".")[2], ()):
            found |= members(parent, depth - 1)
    return found


@cache
def names_in(path: Path) -> Names:
    found: Names = {}
    for node in _tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = set()
        elif isinstance(node, ast.ClassDef):
            found[node.name] = members(node)
        else:
            found.update({target: set() for target in _targets(node)})
    return found


def defines(path: Path, parts: list[str]) -> bool:
    """Whether a module defines `name` or `Class.member`."""
    names = names_in(path)
    if parts[0] not in names or len(parts) > 2:
        return False
    return len(parts) == 1 or parts[1] in names[parts[0]]


@cache
def stems() -> dict[str, list[Path]]:
    """Last name of a module -> the modules called so."""
    found: dict[str, list[Path]] = {}
    for path in sorted((ROOT / "txndb").rglob("*.py")):
        stem = path.parent.name if path.name == "__init__.py" else path.stem
        found.setdefault(stem, []).append(path)
    return found


def absolute(dotted: list[str]) -> bool:
    """Whether `txndb.a.b.name` is a module, or a name in one."""
    for count in range(len(dotted), 0, -1):
        base = ROOT.joinpath(*dotted[:count])
        rest = dotted[count:]
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return not rest or defines(path, rest)
    return False


def name_is_known(token: str) -> bool:
    """False only for a dotted name that claims to be ours and is not."""
    parts = token.split(".")
    if parts[-1] in SUFFIXES:
        return True
    if parts[0] == "txndb":
        return absolute(parts) or (
            len(parts) == 2 and parts[1] in names_in(ROOT / "txndb/client/__init__.py")
        )
    if parts[0] in class_index():
        return len(parts) == 2 and any(parts[1] in members(c) for c in class_index()[parts[0]])
    if parts[0] in stems():
        return any(defines(path, parts[1:]) for path in stems()[parts[0]])
    return True


def path_exists(token: str) -> bool:
    """As a path of the repository, or of the package (`sql/types`)."""
    return (ROOT / token).exists() or (ROOT / "txndb" / token).exists()


def test_links_lead_somewhere() -> None:
    broken = []
    for page in documents():
        for _, target in LINK.findall(prose(page)):
            if "://" in target or target.startswith("mailto:"):
                continue
            file, _, fragment = target.partition("#")
            path = (page.parent / file) if file else page
            if not path.exists() or (fragment and fragment not in slugs(path.resolve())):
                broken.append(f"{name_of(page)}: {target}")
    assert broken == []


def test_linked_names_are_defined_where_the_link_leads() -> None:
    wrong = []
    for page in documents():
        for text, target in LINK.findall(prose(page)):
            path = (page.parent / target).resolve()
            if path.suffix != ".py" or not path.is_file():
                continue
            for token in CODE.findall(text):
                name = token.removesuffix("()")
                if "/" in name or name.endswith(".py") or name.startswith("txndb."):
                    continue
                if name in (path.parent.name, path.stem):
                    continue
                if defines(path, name.removeprefix(f"{path.stem}.").split(".")):
                    continue
                wrong.append(f"{name_of(page)}: {token} is not in {target}")
    assert wrong == []


def test_named_code_exists() -> None:
    unknown = []
    for page in documents():
        for code in CODE.findall(LINK.sub(lambda m: m[1], prose(page))):
            token = code.strip().removesuffix("()").rstrip("*")
            if PATH.fullmatch(token):
                if "/" in token and not path_exists(token):
                    unknown.append(f"{name_of(page)}: {code}")
            elif DOTTED.fullmatch(token) and not name_is_known(token):
                unknown.append(f"{name_of(page)}: {code}")
    assert unknown == []


def test_every_chapter_and_decision_is_reachable() -> None:
    """Whoever begins at docs/README.md finds every page."""
    seen: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop().resolve()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        todo += [page.parent / target.partition("#")[0] for _, target in LINK.findall(prose(page))]
    pages = {p.resolve() for p in (ROOT / "docs").rglob("*.md") if p.name != "plan.md"}
    assert sorted(name_of(p) for p in pages - seen) == []


def test_the_checks_themselves_can_fail() -> None:
    assert name_is_known("txndb.cluster.store.Store._pump")
    assert not name_is_known("txndb.cluster.store.Store.no_such_thing")
    assert not name_is_known("txndb.cluster.no_such_module")
    assert name_is_known("Leaseholder._bound"), "inherited members count"
    assert not name_is_known("Leaseholder.no_such_thing")
    assert not name_is_known("routing.no_such_thing")
    assert name_is_known("cur.execute"), "what is not ours is not judged"
    assert not path_exists("txndb/no/such/file.py")
