"""Collecting what dropped tables left: chunk behind chunk, without reading again what is deleted already."""

from __future__ import annotations

import pytest

from tests.sql.harness import Database, run_async
from txndb.sql.exec import ddl

ROWS = 95
CHUNK = 10


def test_each_chunk_goes_on_behind_the_keys_that_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the beginning it would read every tombstone so far, with every chunk: the work would grow as the square."""
    monkeypatch.setattr(ddl, "GARBAGE_CHUNK_KEYS", CHUNK)
    db = Database()
    tombstones = 0
    read = db.kv.read

    def counted(key: bytes, ts: int) -> bytes | None:
        nonlocal tombstones
        value = read(key, ts)
        tombstones += value is None
        return value

    async def story() -> None:
        session = await db.session()
        await session.execute("CREATE TABLE t (k int PRIMARY KEY)")
        await session.execute(f"INSERT INTO t SELECT generate_series(1, {ROWS})")
        await session.execute("DROP TABLE t")
        monkeypatch.setattr(db.kv, "read", counted)
        assert await ddl.collect_garbage(db.kv) == ROWS

    run_async(story())
    assert tombstones <= 2 * (ROWS // CHUNK + 1)


def test_a_bounded_collection_is_gone_on_with_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddl, "GARBAGE_CHUNK_KEYS", CHUNK)
    db = Database()

    async def story() -> list[int]:
        session = await db.session()
        await session.execute("CREATE TABLE t (k int PRIMARY KEY)")
        await session.execute(f"INSERT INTO t SELECT generate_series(1, {ROWS})")
        await session.execute("DROP TABLE t")
        return [await ddl.collect_garbage(db.kv, 6) for _ in range(3)]

    assert run_async(story()) == [6 * CHUNK, ROWS - 6 * CHUNK, 0]
