"""The benchmark: its arithmetic and replays without a server, its workloads and the demo against real nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from txndb.errors import SqlError
from txndb.server.bench import WORKLOADS, Client, StatementError, _one, percentile, run_bench
from txndb.server.localcluster import LocalCluster


class FakeClient:
    """Counts; its transaction fails as told."""

    def __init__(self, failures: Sequence[bytes]) -> None:
        self.failures = list(failures)
        self.errors = self.retries = self.gave_up = 0
        self.first_error = ""

    def once(self) -> None:
        if self.failures:
            raise StatementError(self.failures.pop(0), "told to")

    def give_up(self) -> None:
        self.gave_up += 1


@pytest.mark.parametrize(
    ("failures", "happened", "retries", "errors"),
    [
        ([], True, 0, 0),
        ([b"40001", b"40001"], True, 2, 0),
        ([b"40001", b"23505"], False, 1, 1),
        ([b""], False, 0, 1),
    ],
)
def test_a_lost_transaction_is_replayed_and_others_are_counted(
    failures: list[bytes], happened: bool, retries: int, errors: int
) -> None:
    client = FakeClient(failures)
    assert _one(cast(Client, client), client.once, float("inf")) is happened
    assert (client.retries, client.errors, client.gave_up) == (retries, errors, len(failures))
    assert bool(client.first_error) is bool(errors)


def test_replays_end_with_the_time() -> None:
    client = FakeClient([b"40001"] * 10)
    assert not _one(cast(Client, client), client.once, 0.0)
    assert client.retries == 1


def test_percentiles_are_nearest_rank() -> None:
    values = [float(i) for i in range(100)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [0.0, 50.0, 99.0, 99.0]
    assert percentile([], 0.5) == 0.0


def test_an_unreachable_server_is_one_error() -> None:
    with pytest.raises(SqlError, match="cannot prepare the benchmark") as error:
        run_bench("insert", ["postgresql://root@127.0.0.1:1/x"], 1, 0.1, 10)
    assert error.value.code == "08006"


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The gateways of a cluster that all workloads share."""
    with LocalCluster(tmp_path_factory.mktemp("bench"), 3) as cluster:
        yield [node.url for node in cluster.nodes]


@pytest.mark.process
@pytest.mark.parametrize("workload", WORKLOADS)
def test_each_workload_runs_without_an_error(workload: str, urls: list[str]) -> None:
    result = run_bench(workload, urls, 3, 0.3, 100)
    assert (result.workload, result.clients, result.errors, result.first_error) == (workload, 3, 0, "")
    assert result.transactions > 0
    assert 0 < result.p50_ms <= result.p99_ms


@pytest.mark.process
@pytest.mark.slow
def test_the_demo_survives_its_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "txndb.server", "demo", "--json", "--seconds", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] and result["replicas_agree"]
    assert result["total_before"] == result["total_after"]
    assert result["ambiguous"] == result["wrong_totals"] == 0
    assert result["killed_node"] in (1, 2, 3)
    assert result["transfers"] > 0
