"""The catalogue: bootstrap, storage, snapshots, counters."""

from __future__ import annotations

from tests.sql.fakekv import FakeKV
from tests.sql.harness import Database, error_of, outcome, run_async
from txndb.sql.catalog.descriptors import (
    DEFAULTDB_ID,
    FIRST_USER_ID,
    PUBLIC_SCHEMA_ID,
    ColumnDesc,
    IndexDesc,
    TableDesc,
    decode_descriptor,
    encode_descriptor,
)
from txndb.sql.catalog.leases import DirectLeases
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.catalog.store import allocate_ids, bootstrap_rows


def _table(name: str = "t", object_id: int = 20000) -> TableDesc:
    primary = IndexDesc(object_id + 1, f"{name}_pkey", (0,), (False,), True, True)
    columns = (ColumnDesc(0, "a", 23, not_null=True), ColumnDesc(2, "b", 25, missing="x"))
    return TableDesc(object_id, DEFAULTDB_ID, PUBLIC_SCHEMA_ID, name, columns, 3, primary, True)


def test_bootstrap() -> None:
    async def run() -> Catalog:
        kv = FakeKV()
        kv.load(bootstrap_rows())
        return (await DirectLeases().acquire(None, kv.snapshot())).catalog

    catalog = run_async(run())
    assert [d.name for d in catalog.databases()] == ["defaultdb", "postgres"]
    assert sorted(r.name for r in catalog.roles()) == ["postgres", "root"]
    assert catalog.schema("public") is not None
    assert catalog.version == 1


def test_descriptor_round_trip() -> None:
    assert decode_descriptor(encode_descriptor(_table())) == _table()


def test_changes_make_a_private_catalogue_and_leave_the_old_one() -> None:
    old = Catalog(7, [_table()])
    new = old.with_changes([_table("u", 30000)], [20000])
    assert (old.table(DEFAULTDB_ID, "t"), new.table(DEFAULTDB_ID, "t")) == (_table(), None)
    assert new.table(DEFAULTDB_ID, "u") is not None
    assert new.name_taken(DEFAULTDB_ID, PUBLIC_SCHEMA_ID, "u_pkey")
    assert (old.private, new.private) == (False, True)


def test_ids_are_never_given_twice() -> None:
    async def run() -> list[int]:
        kv = FakeKV()
        kv.load(bootstrap_rows())
        return [await allocate_ids(kv, 3), await allocate_ids(kv, 1), await allocate_ids(kv, 1)]

    assert run_async(run()) == [FIRST_USER_ID, FIRST_USER_ID + 3, FIRST_USER_ID + 4]


def test_d8_positions_are_not_reused_and_missing_values_stay() -> None:
    async def run() -> list[list[str | None]]:
        session = await Database().session()
        for text in (
            "CREATE TABLE t (a int PRIMARY KEY, b int)",
            "INSERT INTO t VALUES (1, 10)",
            "ALTER TABLE t DROP COLUMN b",
            "ALTER TABLE t ADD COLUMN b int DEFAULT 5",
            "ALTER TABLE t ALTER COLUMN b SET DEFAULT 6",
            "INSERT INTO t (a) VALUES (2)",
        ):
            assert not (await outcome(session, text)).error, text
        found = await outcome(session, "SELECT a, b FROM t ORDER BY a")
        return found.rows or []

    assert run_async(run()) == [["1", "5"], ["2", "6"]]


def test_two_creators_of_one_name() -> None:
    async def run() -> tuple[str, str]:
        db = Database()
        one, two = await db.session(), await db.session()
        await one.execute("BEGIN")
        await two.execute("BEGIN")
        await one.execute("CREATE TABLE t (a int)")
        await two.execute("CREATE TABLE t (a int)")
        await one.execute("COMMIT")
        return (await error_of(two, "COMMIT")).code, (await error_of(one, "CREATE TABLE t (a int)")).code

    assert run_async(run()) == ("40001", "42P07")
