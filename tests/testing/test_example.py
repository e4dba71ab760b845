"""The example of `docs/testing-your-application.md`, which shows this file between its two marks (a test compares)."""

from __future__ import annotations

# --- shown from here
from pathlib import Path

import pytest

from txndb.client import Connection, run_transaction
from txndb.testing.world import SimulatedCluster

# The application: an order takes an item from the stock, charges the customer and is written down.


def place_order(connection: Connection, order: int) -> None:
    def work(txn: Connection) -> None:
        stock = txn.execute("SELECT count FROM stock WHERE item = 'tea'").fetchall()[0][0]
        if stock == 0:
            raise LookupError("sold out")
        txn.execute("UPDATE stock SET count = count - 1 WHERE item = 'tea'")
        txn.execute("UPDATE customer SET balance = balance - 5 WHERE id = 1")
        txn.execute("INSERT INTO orders VALUES (%s, 'tea')", (order,))

    run_transaction(connection, work)


STATEMENTS = 5  # four, and COMMIT


@pytest.fixture
def shop(txndb_world: SimulatedCluster) -> SimulatedCluster:
    with txndb_world.connect(autocommit=True) as connection:
        connection.execute("CREATE TABLE stock (item TEXT PRIMARY KEY, count INT CHECK (count >= 0))")
        connection.execute("CREATE TABLE customer (id INT PRIMARY KEY, balance INT)")
        connection.execute("CREATE TABLE orders (id INT PRIMARY KEY, item TEXT)")
        connection.execute("INSERT INTO stock VALUES ('tea', 3)")
        connection.execute("INSERT INTO customer VALUES (1, 100)")
    return txndb_world


def books(shop: SimulatedCluster) -> tuple[int, int, int]:
    """(items left, money left, orders): they must always tell one story."""
    sql = "SELECT (SELECT count FROM stock), (SELECT balance FROM customer), (SELECT count(*) FROM orders)"
    with shop.connect(autocommit=True) as connection:
        left, money, orders = connection.execute(sql).fetchall()[0]
    return left, money, orders


@pytest.mark.parametrize("failing", range(1, STATEMENTS + 1))
def test_an_order_survives_every_failing_statement(shop: SimulatedCluster, failing: int) -> None:
    """The transaction fails twice at statement `failing` (40001), then goes through: ordered exactly once."""
    plan = shop.force_retry_errors(2, at=failing)
    place_order(shop.connect(), 1)
    assert plan.fired == 2
    assert books(shop) == (2, 95, 1)


@pytest.mark.parametrize("node", [1, 2, 3])
def test_an_order_survives_the_loss_of_any_node(shop: SimulatedCluster, node: int) -> None:
    """Whichever node crashes, leader or not: the next order goes through on the others."""
    connection = shop.connect(node)
    place_order(connection, 1)
    shop.crash(node)
    place_order(connection, 2)
    shop.restart(node)
    assert books(shop) == (1, 90, 2)


def test_nobody_buys_what_is_sold_out(shop: SimulatedCluster) -> None:
    connection = shop.connect()
    for order in range(3):
        place_order(connection, order)
    with pytest.raises(LookupError):
        place_order(connection, 3)
    assert books(shop) == (0, 85, 3)


# --- to here


def test_the_page_shows_this_file() -> None:
    text = Path(__file__).read_text()
    shown = text.partition("# --- shown from here\n")[2].partition("\n\n# --- to here")[0]
    page = (Path(__file__).parents[2] / "docs/testing-your-application.md").read_text()
    assert shown.strip() in page, "docs/testing-your-application.md shows another text than this file"
