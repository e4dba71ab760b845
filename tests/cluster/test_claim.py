"""A node id belongs to one process: copies of a data directory do not start (rule P7)."""

from __future__ import annotations

import pytest

from tests.cluster.leaseworld import LeaseWorld
from txndb.errors import StoreError
from txndb.sim.host import SimHost
from txndb.sim.network import NetworkOptions


def _refusal(world: LeaseWorld, copy: SimHost) -> str:
    """What a machine stops with instead of serving."""
    errors: list[BaseException] = []
    copy.on_fatal = lambda host, error: errors.append(error)
    copy.start()
    for _ in range(500):
        if errors or copy.ready:
            break
        world.wait(0.01)
    assert errors, "the copy serves"
    assert isinstance(errors[0], StoreError)
    return errors[0].message


def test_p7_a_copy_beside_the_running_original_is_refused_every_time() -> None:
    world = LeaseWorld()
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY)")
    copy = world.hosts[1].duplicate()
    for _ in range(3):
        assert "another process runs as node 2" in _refusal(world, copy)
    assert world.at(2, "INSERT INTO t VALUES (1) RETURNING k") == [(1,)]


@pytest.mark.parametrize("original_runs", [True, False])
def test_p7_an_old_copy_is_refused_every_time(original_runs: bool) -> None:
    """The original was started again since, so the others know better, whether it runs now or not."""
    world = LeaseWorld()
    copy = world.hosts[1].duplicate()
    world.restart(2)
    world.wait(1.0)
    if not original_runs:
        world.hosts[1].kill()
    for _ in range(3):
        assert "another process" in (text := _refusal(world, copy)) or "after this data directory" in text


def test_p7_a_copy_is_refused_although_the_original_is_hard_to_understand() -> None:
    """An answer that arrives damaged came from somebody, who is asked again."""
    world = LeaseWorld()
    copy = world.hosts[1].duplicate()
    world.network.options = NetworkOptions(corrupt=0.02)
    for _ in range(20):
        assert "another process runs as node 2" in _refusal(world, copy)
    assert world.network.trace.counts["call_corrupt"] > 10 < world.network.trace.counts["answer_corrupt"]


def test_a_node_that_comes_back_alone_is_not_refused() -> None:
    world = LeaseWorld()
    for host in world.hosts:
        host.power_off()
    world.hosts[1].start()
    world.wait(2.0)
    assert world.hosts[1].alive
