"""Reading the past: the catalogue is bound as of the snapshot (rule S2)."""

from __future__ import annotations

import txndb


def test_s2_the_catalogue_of_a_read_in_the_past_is_that_of_its_time() -> None:
    with txndb.connect(":memory:") as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE t (a int PRIMARY KEY)")
        cursor.execute("INSERT INTO t VALUES (1)")
        cursor.execute("SELECT clock_timestamp()::text")
        row = cursor.fetchone()
        assert row is not None
        then = row[0]
        cursor.execute("ALTER TABLE t ADD COLUMN b int DEFAULT 7")
        cursor.execute("INSERT INTO t VALUES (2, 2)")
        past = f"SELECT * FROM t AS OF SYSTEM TIME '{then}' ORDER BY 1"
        cursor.execute(past)
        assert cursor.fetchall() == [(1,)]
        assert [column[0] for column in cursor.description or ()] == ["a"]
        cursor.execute("SELECT * FROM t ORDER BY 1")
        assert cursor.fetchall() == [(1, 7), (2, 2)]
        cursor.execute("DROP TABLE t")
        cursor.execute(past)
        assert cursor.fetchall() == [(1,)]
