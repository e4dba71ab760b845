"""`txndb check`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner, Result

from txndb.shell.cli import main

_LINES: list[dict[str, Any]] = [
    {"process": 0, "type": "invoke", "f": "write", "value": 1, "index": 0},
    {"process": "nemesis", "type": "info", "f": "kill", "value": None, "index": 1},
    {"process": 0, "type": "ok", "f": "write", "value": 1, "index": 2},
    {"process": 1, "type": "invoke", "f": "read", "value": None, "index": 3},
    {"process": 1, "type": "ok", "f": "read", "value": 1, "index": 4},
]
_SKEW: list[dict[str, Any]] = [
    {"process": 0, "type": "invoke", "f": "txn", "value": [["r", "x", None], ["append", "y", 1]]},
    {"process": 1, "type": "invoke", "f": "txn", "value": [["r", "y", None], ["append", "x", 1]]},
    {"process": 0, "type": "ok", "f": "txn", "value": [["r", "x", []], ["append", "y", 1]]},
    {"process": 1, "type": "ok", "f": "txn", "value": [["r", "y", []], ["append", "x", 1]]},
    {"process": 2, "type": "invoke", "f": "txn", "value": [["r", "x", None], ["r", "y", None]]},
    {"process": 2, "type": "ok", "f": "txn", "value": [["r", "x", [1]], ["r", "y", [1]]]},
]

_STALE: list[dict[str, Any]] = [
    {"process": 0, "type": "invoke", "f": "write", "value": 1},
    {"process": 0, "type": "ok", "f": "write", "value": 1},
    {"process": 2, "type": "invoke", "f": "write", "value": 7},
    {"process": 3, "type": "invoke", "f": "write", "value": 1},
    {"process": 4, "type": "invoke", "f": "read", "value": None},
    {"process": 3, "type": "ok", "f": "write", "value": 1},
    {"process": 4, "type": "ok", "f": "read", "value": 5},
    {"process": 2, "type": "info", "f": "write", "value": 7},
]
_SVG = "{http://www.w3.org/2000/svg}"


def _check(lines: list[dict[str, Any]] | str, *args: str) -> Result:
    text = lines if isinstance(lines, str) else "\n".join(json.dumps(line) for line in lines)
    return CliRunner().invoke(main, ["check", "-", *args], input=text)


def test_a_valid_history_ends_with_0() -> None:
    result = _check(_LINES, "--model", "register")
    assert (result.exit_code, result.output) == (0, "register: valid\n")


def test_names_may_begin_with_a_colon_and_operations_may_be_one_array() -> None:
    lines = [{**line, "type": f":{line['type']}", "f": f":{line['f']}"} for line in _LINES]
    result = _check(json.dumps(lines), "--model", "register")
    assert (result.exit_code, result.output) == (0, "register: valid\n")


def test_an_invalid_history_ends_with_1_and_its_counter_example() -> None:
    lines: list[dict[str, Any]] = [*_LINES[:-1], {**_LINES[-1], "value": 5}]
    result = _check(lines, "--model", "register")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "register: INVALID",
        "nonlinearizable: no order explains read = 5 by process 1 (index 3 to 4)",
        "    what had returned by then leaves only: 1",
    ]


def test_an_unknown_verdict_ends_with_2() -> None:
    result = _check(_LINES[:3], "--model", "set-full", "--json")
    assert result.exit_code == 65  # a write is none of a set's operations
    result = _check([{**_LINES[0], "f": "add"}], "--model", "set-full", "--json")
    assert result.exit_code == 2
    assert json.loads(result.output)["valid"] == "unknown"


def test_json_has_the_verdict_the_anomalies_and_the_level() -> None:
    result = _check(_SKEW, "--model", "append", "--json")
    verdict = json.loads(result.output)
    assert result.exit_code == 1
    assert verdict["valid"] is False
    assert verdict["weakest_level"] == "snapshot_isolation"
    assert [found["kind"] for found in verdict["anomalies"]] == ["G2-item"]
    assert json.loads(_check(_LINES, "--model", "register", "--json").output) == {
        "valid": True,
        "model": "register",
        "anomalies": [],
        "weakest_level": None,
    }


def test_a_level_that_still_holds_is_valid() -> None:
    assert _check(_SKEW, "--model", "append", "--level", "snapshot-isolation").exit_code == 0
    result = _check(_SKEW, "--model", "append", "--level", "none-such")
    assert result.exit_code == 64


def test_the_cycle_is_drawn_by_the_suffix(tmp_path: Path) -> None:
    svg, dot = tmp_path / "cycle.svg", tmp_path / "cycle.dot"
    assert _check(_SKEW, "--model", "append", "--plot", str(svg)).exit_code == 1
    assert svg.read_text().startswith("<svg")
    assert _check(_SKEW, "--model", "append", "--plot", str(dot)).exit_code == 1
    assert dot.read_text().startswith("digraph")
    result = _check(_SKEW, "--model", "append", "--plot", str(tmp_path / "cycle.png"))
    assert (result.exit_code, "a file that ends in .svg" in result.stderr) == (64, True)
    result = _check(_LINES, "--model", "register", "--plot", str(svg))
    assert (result.exit_code, result.stderr) == (
        0,
        "nothing was found that can be drawn: the plot is empty\n",
    )
    result = _check(_STALE, "--model", "register", "--plot", str(dot))
    assert (result.exit_code, result.stderr) == (1, "no cycle was found: the plot is empty\n")
    result = _check(_SKEW, "--model", "append", "--plot", str(tmp_path / "nowhere" / "cycle.svg"))
    assert (result.exit_code, "cannot write the plot" in result.stderr) == (65, True)


def test_operations_that_no_order_explains_are_drawn_in_time(tmp_path: Path) -> None:
    """A row for each process; what the anomaly names in red, what nobody knows the end of dashed to the edge."""
    svg = tmp_path / "stale.svg"
    result = _check(_STALE, "--model", "register", "--plot", str(svg))
    assert (result.exit_code, result.stderr) == (1, "")
    drawing = ElementTree.fromstring(svg.read_text())
    texts = [element.text for element in drawing.iter(f"{_SVG}text")]
    assert texts == ["nonlinearizable", "process 2", "process 3", "process 4", "write 7", "write 1", "read 5"]
    titles = [element.text for element in drawing.iter(f"{_SVG}title")][1:]
    assert titles == [
        "write 7 (index 2 to unknown)",
        "write 1 (index 3 to 5)",
        "read 5 (index 4 to 6)",
    ], "not the write that was over before"
    bars = [element for element in drawing.iter(f"{_SVG}rect")][1:]
    assert [bar.get("stroke-dasharray") for bar in bars] == ["5 3", None, None]
    x, width = float(bars[0].get("x", 0)), float(bars[0].get("width", 0))
    assert all(float(bar.get("x", 0)) + float(bar.get("width", 0)) < x + width for bar in bars[1:])


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--model", "nonsense"),
        ("--model", "register", "--initial", "{"),
        ("--model", "register", "--steps", "0"),
        ("--model", "register", "--nonsense"),
    ],
)
def test_a_wrong_command_line_ends_with_64(args: tuple[str, ...]) -> None:
    assert _check(_LINES, *args).exit_code == 64


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the input is empty"),
        ("{", "line 1: not JSON"),
        ("\n[1", "not a JSON array"),
        ("5", "line 1: not an operation"),
        ('{"type": "ok"}', "line 1: an operation without 'process'"),
        ('{"process": 0}', "line 1: an operation without 'type'"),
        ('{"process": 0, "type": "okay"}', "line 1: type 'okay' is none of"),
        ('{"process": 0, "type": "ok", "f": 5}', "line 1: f is 5"),
        ('{"process": 0, "type": "ok", "f": "read", "index": "x"}', "line 1: index is 'x'"),
        (
            '{"process": 0, "type": "invoke", "f": "read", "index": 4}\n{"process": 0, "type": "ok", "index": 3}',
            "line 2: index 3 is not above",
        ),
        (json.dumps(_SKEW), "item 1"),
        ("[" * 100_000, "not a JSON array"),
        ('{"process": 0, "type": "ok", "value": ' + "[" * 100_000, "line 1: not JSON"),
    ],
)
def test_what_is_no_history_ends_with_65_and_one_line(text: str, complaint: str) -> None:
    result = _check(text, "--model", "register")
    if complaint == "item 1":  # an array is a history too, here of another model
        complaint = "operation 0: no operation 'txn'"
    assert result.exit_code == 65
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_bytes_that_are_no_text_end_with_65() -> None:
    result = CliRunner().invoke(main, ["check", "-", "--model", "register"], input=b'{"process": "\xff\xfe"}')
    assert (result.exit_code, result.stderr.count("\n")) == (65, 1)


def test_values_that_are_nested_too_deeply_end_with_65() -> None:
    value = "[" * 600 + "]" * 600
    text = f'{{"process": 0, "type": "invoke", "f": "write", "value": {value}}}'
    result = _check(text, "--model", "register")
    assert (result.exit_code, result.stderr.count("\n")) == (65, 1)


def test_a_file_that_is_not_there_ends_with_64(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(tmp_path / "none"), "--model", "bank"])
    assert result.exit_code == 64


def test_options_reach_the_models() -> None:
    read: list[dict[str, Any]] = [
        {"process": 0, "type": "invoke", "f": "read"},
        {"process": 0, "type": "ok", "f": "read", "value": {"a": -1, "b": 6}},
    ]
    assert _check(read, "--model", "bank").exit_code == 1
    assert _check(read, "--model", "bank", "--negative-balances").exit_code == 0
    assert _check(read, "--model", "bank", "--negative-balances", "--total", "5").exit_code == 0
    assert _check(read, "--model", "bank", "--negative-balances", "--total", "6").exit_code == 1
    assert _check(read, "--model", "bank", "--negative-balances", "--accounts", "a,b,c").exit_code == 1
    numbered: list[dict[str, Any]] = [read[0], {**read[1], "value": {"0": 1, "1": 2}}]
    assert _check(numbered, "--model", "bank", "--accounts", "2").exit_code == 0
    assert _check(numbered, "--model", "bank", "--accounts", "3").exit_code == 1
    null: list[dict[str, Any]] = [read[0], {**read[1], "value": None}]
    assert _check(null, "--model", "register", "--initial", "1").exit_code == 1
    assert _check(null, "--model", "register", "--initial", "1", "--null-reads", "unknown").exit_code == 0


def test_help_names_every_model_and_the_exit_status() -> None:
    result = CliRunner().invoke(main, ["check", "--help"])
    assert result.exit_code == 0
    assert "total-queue" in result.output
    assert "64 wrong usage" in result.output
    assert isinstance(main, click.Group)
