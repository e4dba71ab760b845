"""The operator's schema changes, on a real cluster: they happen, and a wrong index is found."""

from __future__ import annotations

from random import Random

from tests.cluster.leaseworld import NODES, LeaseWorld
from txndb.sim.clients import Client
from txndb.sim.history import History
from txndb.sim.schemaactor import SchemaActor
from txndb.sim.trace import Trace
from txndb.storage.engine import WriteBatch


class Setting:
    def __init__(self) -> None:
        self.world = LeaseWorld()
        self.trace = Trace()
        self.actor = SchemaActor(self.client, 100, self.trace, self.world.loop.problems.append)
        self.world.at(
            1,
            "CREATE TABLE t (k int PRIMARY KEY, v bigint)",
            "INSERT INTO t SELECT g, g % 3 FROM generate_series(1, 20) g",
        )

    def client(self, number: int) -> Client:
        hosts = self.world.hosts
        return Client(
            number, hosts, Random(number), History(), lambda what: None, clients=1, timeout_us=30_000_000
        )

    def check(self) -> list[str]:
        return self.world.run(self.actor.check(self.client(1)))

    def keys(self) -> set[bytes]:
        return {key for key, _ in self.world.node(1).engine.iterate(b"", b"\xff" * 64)}


def test_changes_of_all_kinds_happen_and_leave_the_table_whole() -> None:
    setting = Setting()
    rng = Random(4)
    for _ in range(25):
        setting.world.run(setting.actor.act(rng))
    counts = setting.trace.counts
    assert counts["schema_create"] > 2
    assert counts["schema_drop"] > 2
    assert counts["schema_alter"] > 2
    assert setting.check() == []
    assert setting.world.at(2, "SELECT count(*), sum(v) FROM t") == [(20, 21)]


def test_an_index_that_lacks_an_entry_is_found() -> None:
    setting = Setting()
    world = setting.world
    before = setting.keys()
    world.at(1, "CREATE INDEX extra_t_v ON t (v)")
    assert setting.check() == []
    entries = sorted(setting.keys() - before)
    longest = [key for key in entries if key[:1] == entries[-1][:1]]
    for number in range(1, NODES + 1):
        batch = WriteBatch()
        for key in longest[-3:]:
            batch.delete(key)
        world.node(number).engine.write(batch)
    assert any("through the index" in text for text in setting.check())
