"""What is held on to must not write any more: a replica's log that another replaced, a memtable that is not synced."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.test_raftlog_rules import new_disk, open_log
from txndb.errors import InternalError
from txndb.storage.engine import WriteBatch
from txndb.storage.rocks import RocksEngine


def test_P5_a_handle_to_a_replica_that_never_recorded_anything_does_not_begin_to_when_it_is_replaced() -> (
    None
):
    """Its records would be those of a replica nobody knows, under the range of another."""
    log = open_log(new_disk(), create=True)
    first = log.replica(1, 1)
    second = log.replica(1, 2)
    with pytest.raises(InternalError):
        first.set_hard_state(1, 1, 0)
    second.set_hard_state(1, 2, 0)
    assert log.replicas() == [(1, 2)]


def test_P3_a_memtable_is_synced_before_it_is_switched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the switch its part of RocksDB's log may be gone, and with it what earlier batches say."""
    engine = RocksEngine(str(tmp_path / "db"))
    batch = WriteBatch()
    batch.put(b"k", b"v")
    engine.write(batch)
    order: list[str] = []
    sync = engine.sync

    def synced() -> None:
        order.append("sync")
        sync()

    class Watched:
        """The binding's database, whose flush is noted."""

        def __init__(self, real: object) -> None:
            self.real = real

        def flush(self, wait: bool) -> None:
            order.append("switch")
            self.real.flush(wait)  # type: ignore[attr-defined]

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    monkeypatch.setattr(engine, "sync", synced)
    monkeypatch.setattr(engine, "_db", Watched(engine._db))
    engine.flush_memtables()
    engine.close()
    assert order[:2] == ["sync", "switch"]
