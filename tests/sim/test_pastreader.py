"""Reads of the past, on a real cluster: they are repeated, and an answer that changes is a problem."""

from __future__ import annotations

from random import Random

from tests.cluster.leaseworld import LeaseWorld
from txndb.sim.clients import Client
from txndb.sim.history import History
from txndb.sim.pastreader import PastReader
from txndb.sim.trace import Trace


def _reader(world: LeaseWorld, trace: Trace, problems: list[str]) -> PastReader:
    def client(number: int) -> Client:
        return Client(
            number,
            world.hosts,
            Random(number),
            History(),
            lambda what: None,
            clients=1,
            timeout_us=30_000_000,
        )

    return PastReader(client, 100, trace, problems.append)


def test_a_moment_of_the_past_is_read_again_and_stays_as_it_was() -> None:
    world, trace, problems = LeaseWorld(), Trace(), list[str]()
    world.at(1, "CREATE TABLE t (k int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 0)")
    world.wait(2.0)
    reader = _reader(world, trace, problems)
    reading = world.start(reader.act(Random(5)))
    for value in range(20):
        world.at(1 + value % 3, f"UPDATE t SET v = {value}")
        world.wait(0.2)
    world.finish(reading)
    assert trace.counts["old_read"] >= 2
    assert problems == []


def test_a_changed_past_is_a_problem() -> None:
    world, trace, problems = LeaseWorld(), Trace(), list[str]()
    reader = _reader(world, trace, problems)
    reader._compare("t", 17, 0, None, [(1, 0)])
    reader._compare("t", 17, 1, [(1, 0)], [(1, 0)])
    assert problems == []
    reader._compare("t", 17, 2, [(1, 0)], [(1, 1)])
    assert problems == ["t as of 17 has changed at read 3: [(1, 0), (1, 1)]"]
