"""Recorded histories of other systems, whose authors state the verdict: each checker gives the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from txndb.sim.checkers.models import judge
from txndb.sim.checkers.reader import read_history

HISTORIES: Final = Path(__file__).resolve().parents[4] / "shared" / "data" / "histories"
_MODELS: Final = {
    "register": "register",
    "cas-register": "cas-register",
    "kv-append": "kv",
    "list-append": "append",
    "rw-register": "rw",
}
"""Folder -> model, where the manifest's own word is not the model's name."""

pytestmark = pytest.mark.skipif(
    not (HISTORIES / "manifest.json").is_file(), reason="recorded histories do not lie beside the checkout"
)


def _entries() -> list[dict[str, Any]]:
    manifest = HISTORIES / "manifest.json"
    entries: list[dict[str, Any]] = json.loads(manifest.read_text()) if manifest.is_file() else []
    return entries


def _model(entry: dict[str, Any]) -> str:
    return _MODELS.get(entry["file"].partition("/")[0], str(entry["model"]))


@pytest.mark.parametrize("folder", sorted({entry["file"].partition("/")[0] for entry in _entries()}))
def test_recorded_histories_are_judged_as_their_authors_do(folder: str) -> None:
    judged = []
    for entry in _entries():
        if entry["file"].startswith(folder + "/"):
            verdict = judge(read_history((HISTORIES / entry["file"]).read_bytes()), _model(entry))
            judged.append((entry["file"], verdict.valid, entry["valid"]))
            assert bool(verdict.anomalies) or verdict.valid
    assert [(file, got) for file, got, want in judged if got is not want] == []


def test_the_manifest_has_what_the_readme_says() -> None:
    models = [_model(entry) for entry in _entries()]
    assert len(models) == 131
    assert (models.count("register"), models.count("cas-register"), models.count("kv")) == (50, 63, 2)


def test_a_recorded_bank_with_one_balance_changed_is_found() -> None:
    ops = read_history((HISTORIES / "jepsen" / "bank.jsonl").read_bytes())
    changed = next(op for op in reversed(ops) if op.f == "read" and op.type == "ok")
    changed.value["3"] += 1
    verdict = judge(ops, "bank")
    assert [(found.kind, found.ops) for found in verdict.anomalies] == [("wrong-total", (changed.index,))]


def test_a_recorded_set_with_an_element_missing_is_found() -> None:
    ops = read_history((HISTORIES / "jepsen" / "set.jsonl").read_bytes())
    ops[-1].value.remove(1)
    assert [found.kind for found in judge(ops, "set").anomalies] == ["lost"]
    assert [found.kind for found in judge(ops, "set-full").anomalies] == ["lost"]
