"""Two changes of one table, one gateway asleep: both are there, or one was refused; without the rules one undoes the
other, and the node that slept goes on with what the catalogue was."""

from __future__ import annotations

from random import Random

import pytest

from tests.cluster.leaseworld import LeaseWorld
from txndb.errors import InternalError
from txndb.sim.clients import Client
from txndb.sim.history import History
from txndb.sim.schemarace import SchemaRace
from txndb.sim.trace import Trace

RACES = 4


class Setting:
    def __init__(self, *canaries: str) -> None:
        self.world = LeaseWorld(*canaries)
        self.trace = Trace()
        self.race = SchemaRace(self.world.hosts, self.trace, self.world.loop.problems.append)
        self.world.at(1, "CREATE TABLE t (k int PRIMARY KEY)")
        for number in (2, 3):
            self.world.at(number, "SELECT * FROM t")

    def run(self) -> None:
        rng = Random(1)
        for _ in range(RACES):
            self.world.run(self.race.act(rng))
            for number in (1, 2, 3):
                self.world.at(number, "SELECT k FROM t")
                self.world.node(number).validate()

    def check(self) -> list[str]:
        client = Client(
            1, self.world.hosts, Random(1), History(), lambda what: None, clients=1, timeout_us=30_000_000
        )
        return self.world.run(self.race.check(client))


def test_a_change_that_slept_through_another_is_refused() -> None:
    setting = Setting()
    setting.run()
    assert setting.check() == []
    counts = setting.trace.counts
    assert counts["raced"] >= RACES, "one of each pair at least"
    assert counts["race_refused"] >= 1, "one slept too long"


def test_without_the_version_check_the_other_change_is_undone() -> None:
    setting = Setting("D2-version")
    setting.run()
    assert any(text.endswith("_early was acknowledged, and is gone") for text in setting.check())


def test_a_refused_column_that_is_there_is_found() -> None:
    setting = Setting()
    setting.run()
    there = "SELECT column_name FROM information_schema.columns WHERE table_name = 't'"
    names = {name for (name,) in setting.world.at(1, there)}
    refused = min({f"raced_{n}_late" for n in range(1, RACES + 1)} - names)
    setting.world.at(1, f"ALTER TABLE t ADD COLUMN {refused} INT")
    assert setting.check() == [f"race: column t.{refused} was refused, and is there"]


def test_without_rule_d3_the_lease_of_who_slept_outlives_its_catalogue() -> None:
    with pytest.raises(InternalError, match="catalogue leases, invariant 7"):
        Setting("D3").run()
