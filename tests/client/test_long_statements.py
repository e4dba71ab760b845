"""Statements that compute for long: others run meanwhile, and a cancel ends them."""

from __future__ import annotations

import threading

import pytest

import txndb.client as driver


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM j a, j b, j c, j d",
        "SELECT count(*) FROM j a LEFT JOIN j b ON a.id <> b.id JOIN j c ON b.id <> c.id, j d",
        "SELECT count(*) FROM j a JOIN j b ON a.one = b.one JOIN j c ON a.one = c.one JOIN j d ON a.one = d.one",
    ],
)
def test_a_long_join_can_be_cancelled_and_leaves_the_node_free(sql: str) -> None:
    caught: list[driver.Error] = []

    def run(conn: driver.Connection) -> None:
        try:
            conn.execute(sql)
        except driver.Error as error:
            caught.append(error)

    with driver.connect(autocommit=True) as long, long.clone() as other:
        long.execute("CREATE TABLE j (id INT PRIMARY KEY, one INT)")
        long.execute("INSERT INTO j SELECT g, 1 FROM generate_series(1, 400) g")
        thread = threading.Thread(target=run, args=(long,))
        thread.start()
        while thread.is_alive():  # a cancel that comes before the statement is nobody's
            assert other.execute("SELECT 1").fetchone() == (1,)
            long.cancel()
        assert [error.sqlstate for error in caught] == ["57014"]
