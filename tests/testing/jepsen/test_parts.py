"""The parts of `txndb jepsen` that need no cluster: plans, partitions, the journal, the report, the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from random import Random

import msgspec
import pytest
from click.testing import CliRunner

from txndb.shell.cli import main
from txndb.sim.checkers.reader import read_history
from txndb.sim.history import History
from txndb.testing.jepsen.fleet import tracebacks
from txndb.testing.jepsen.links import NETNS, PROXY
from txndb.testing.jepsen.nemesis import NEMESES, Happening, Journal, draw_partition
from txndb.testing.jepsen.plan import Kind, kinds_of, plan_rounds
from txndb.testing.jepsen.plot import LEFT, RIGHT, WIDTH, draw, points
from txndb.testing.jepsen.report import by_f, fault_counts, longest_gap_ms, lost_writes
from txndb.testing.jepsen.run import line_of

WITHOUT_DELAY = tuple(n for n in NEMESES if n not in ("delay", "clock-beyond"))
WITHOUT_LOSS = tuple(n for n in NEMESES if n not in ("loss", "clock-beyond"))


def test_all_nemeses_take_three_kinds_of_rounds() -> None:
    beyond = tuple(n for n in NEMESES if n not in ("delay", "clock"))
    assert kinds_of(NEMESES, True, False) == [
        Kind(NETNS, WITHOUT_DELAY),
        Kind(PROXY, WITHOUT_LOSS),
        Kind(NETNS, beyond),
    ]


@pytest.mark.parametrize(
    "nemeses, has_namespaces, has_netem, kinds",
    [
        (("kill",), True, False, [Kind(NETNS, ("kill",))]),
        (("kill",), False, False, [Kind(PROXY, ("kill",))]),
        (("delay",), True, False, [Kind(PROXY, ("delay",))]),
        (("delay",), True, True, [Kind(NETNS, ("delay",))]),
        (("delay", "loss"), True, True, [Kind(NETNS, ("delay", "loss"))]),
        (("delay", "loss"), True, False, [Kind(NETNS, ("loss",)), Kind(PROXY, ("delay",))]),
        (("clock-beyond",), True, False, [Kind(NETNS, ("clock-beyond",))]),
        (("clock", "clock-beyond"), False, False, [Kind(PROXY, ("clock",)), Kind(PROXY, ("clock-beyond",))]),
        ((), False, False, [Kind(PROXY, ())]),
    ],
)
def test_what_goes_together(
    nemeses: tuple[str, ...], has_namespaces: bool, has_netem: bool, kinds: list[Kind]
) -> None:
    assert kinds_of(nemeses, has_namespaces, has_netem) == kinds


def test_seconds_are_divided_and_what_is_missing_is_told() -> None:
    rounds = plan_rounds(
        ("bank", "append"), ("kill", "loss"), {"loss": "no root"}, nodes=3, seconds=60, clients=5, seed=7
    )
    assert [(r.workload, r.nemesis, r.seconds, r.seed) for r in rounds] == [
        ("bank", ("kill",), 30, 7),
        ("append", ("kill",), 30, 8),
    ]
    assert rounds[0].skipped == {"loss": "no root"}
    assert rounds[0].setup().small_disks == frozenset() and rounds[0].real_time


def test_with_another_seed_a_workload_gets_another_kind_of_round() -> None:
    workloads = ("bank", "append", "register")
    found = {
        seed: [
            r.real_time for r in plan_rounds(workloads, NEMESES, {}, nodes=3, seconds=9, clients=5, seed=seed)
        ]
        for seed in range(6)
    }
    beyond = {
        seed: [i for i, real_time in enumerate(times) if not real_time] for seed, times in found.items()
    }
    assert all(beyond.values()) and {i for places in beyond.values() for i in places} == {0, 1, 2}


def test_the_command_names_what_it_does_not_know() -> None:
    result = CliRunner().invoke(main, ["jepsen", "--workload", "bank", "--nemesis", "meteor"])
    assert result.exit_code == 2 and "meteor" in result.output and "disk-full" in result.output


@pytest.mark.parametrize("seed", range(40))
def test_a_partition_cuts_what_its_name_says(seed: int) -> None:
    nodes = [1, 2, 3, 4, 5]
    name, links = draw_partition(Random(seed), nodes, lambda: [4, 2])
    assert links and len(links) == len(set(links)) and all(a != b for a, b in links)
    both_ways = all((b, a) in links for a, b in links)
    assert both_ways != ("nobody" in name)
    if "alone" in name:
        (alone,) = [n for n in nodes if sum(n in link for link in links) == 8]
        assert f"node {alone} alone" in name and (alone == 4 or "leader" not in name)
    if name.startswith("ring"):
        assert all(sum(n in link for link in links) == 4 for n in nodes), "each node hears two others"
    if name.startswith("bridge"):
        whole = [n for n in nodes if not any(n in link for link in links)]
        assert len(whole) == 1 and name.startswith(f"bridge {whole[0]}")


def history() -> History:
    made = History()
    for process, kind, f, value, key, at_us in (
        (0, "invoke", "txn", [["append", 1, 7], ["r", 1, None]], None, 1_000),
        (1, "invoke", "txn", [["append", 1, 8]], None, 2_000),
        (0, "ok", "txn", [["append", 1, 7], ["r", 1, [7]]], None, 51_000),
        (1, "info", "txn", [["append", 1, 8]], None, 900_000),
        (1_000_000, "invoke", "txn", [["r", 1, None]], None, 2_000_000),
        (1_000_000, "ok", "txn", [["r", 1, [7]]], None, 2_100_000),
    ):
        made.add(process, kind, f, value, key, at_us, "08007: lost" if kind == "info" else None)
    return made


def test_numbers_of_a_report() -> None:
    ops = history().ops
    assert by_f(ops) == {"txn": {"ok": 2, "fail": 0, "info": 1}}
    assert lost_writes("append", ops) == 0, "what nobody acknowledged may be gone"
    assert longest_gap_ms(ops, 0.0, 3.0) == 2_049
    assert fault_counts([Happening(0, 1, "kill", ""), Happening(0, 0, "note", "")]) == {"kill": 1}


def test_an_acknowledged_append_that_the_last_read_misses_is_lost() -> None:
    ops = history().ops
    ops[-1].value = [["r", 1, [8]]]
    assert lost_writes("append", ops) == 1


def test_an_acknowledged_element_that_the_last_read_misses_is_lost() -> None:
    made = History()
    for element in (3, 4):
        made.add(element, "ok", "add", element, 0, 0)
    made.add(1_000_000, "ok", "read", [4], 0, 0)
    assert lost_writes("set", made.ops) == 1 and lost_writes("bank", made.ops) == 0


def test_the_history_is_one_that_check_reads() -> None:
    lines = b"\n".join(line_of(op) for op in history().ops)
    ops = read_history(lines)
    assert [(op.index, op.process, op.type) for op in ops] == [
        (op.index, op.process, op.type) for op in history().ops
    ]
    assert ops[3].error == "08007: lost" and msgspec.json.decode(lines.splitlines()[2])["time"] == 51_000_000


def test_the_picture_has_points_lines_and_bands() -> None:
    faults = [Happening(0.5, 1.5, "kill", "nodes <1>"), Happening(1.0, 0.0, "partition", "still on")]
    picture = draw("append & more", history().ops, [*faults, Happening(1, 1, "note", "healed")])
    root = ElementTree.fromstring(picture)
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert tags.count("circle") == 3 and tags.count("polyline") == 3
    titles = [element.text or "" for element in root.iter() if element.tag.endswith("title")]
    assert titles[0].startswith("kill: nodes <1>") and len(titles) == 2
    places = [float(e.attrib["cx"]) for e in root.iter() if e.tag.endswith("circle")]
    assert places[0] < places[1] < places[2] and all(LEFT <= x <= WIDTH - RIGHT for x in places)


def test_a_picture_of_nothing_is_a_picture() -> None:
    assert points([]) == []
    ElementTree.fromstring(draw("nothing", [], []))


def test_the_journal_is_a_file_of_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "nemesis.jsonl", began_s=0.0)
    fault = journal.begin("kill", "nodes [1]")
    journal.note("node 2 did not come up")
    assert fault.to_s == 0.0
    journal.end(fault)
    journal.close()
    lines = [msgspec.json.decode(line) for line in (tmp_path / "nemesis.jsonl").read_bytes().splitlines()]
    assert [(line["event"], line["kind"]) for line in lines] == [
        ("begin", "kill"),
        ("note", "note"),
        ("end", "kill"),
    ]
    assert journal.happenings[0] is fault and fault.to_s >= fault.from_s > 0


STAMP = "2026-11-20T17:02:46.122Z"


def test_a_traceback_in_a_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    log.write_text(
        f'{STAMP} well\n{STAMP} connection 3 ended by a fault\nTraceback (most recent call last):\n  File "x"\n'
        f"KeyError: 5\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most\n"
        f'  File "y"\ntxndb.errors.InternalError: half\n{STAMP} goes on\n'
    )
    (found,) = tracebacks([(2, log), (3, tmp_path / "none")])
    assert found == (
        f"node 2 logged a traceback: {STAMP} connection 3 ended by a fault … txndb.errors.InternalError: half"
    )


def test_a_traceback_of_an_error_that_ends_a_node_on_purpose_is_none(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    log.write_text(
        f'{STAMP} Exception in callback\nhandle: <Handle>\nTraceback (most recent call last):\n  File "x"\n'
        "Exception: IO error: No space left\n\nThe above exception was the direct cause of the following exception:\n"
        f'\nTraceback (most recent call last):\n  File "y"\ntxndb.errors.StoreError: a write failed\n{STAMP} fatal: …\n'
    )
    assert tracebacks([(1, log)]) == []
