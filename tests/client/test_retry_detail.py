"""What a transaction that lost tells its user: the table, the key, the other transaction and the reason."""

from __future__ import annotations

import pytest

import txndb


def test_a_lost_transaction_names_table_key_other_and_reason() -> None:
    with txndb.connect(":memory:") as older, older.clone() as younger:
        cursor = older.cursor()
        cursor.execute("CREATE TABLE accounts (owner text, id int, v int, PRIMARY KEY (owner, id))")
        cursor.execute("INSERT INTO accounts VALUES ('ann', 1, 0), ('bob', 2, 0)")
        older.commit()
        cursor.execute("UPDATE accounts SET v = 1 WHERE owner = 'ann' AND id = 1")
        other = younger.cursor()
        other.execute("UPDATE accounts SET v = 2 WHERE owner = 'bob' AND id = 2")
        cursor.execute(
            "UPDATE accounts SET v = 3 WHERE owner = 'bob' AND id = 2"
        )  # older: it takes the lock away
        older.commit()
        with pytest.raises(txndb.OperationalError) as lost:
            other.execute("SELECT v FROM accounts WHERE owner = 'ann' AND id = 1")
        error = lost.value
        assert error.sqlstate == "40001"
        assert error.detail is not None
        assert 'Conflict on table "accounts" key (owner, id)=(bob, 2).' in error.detail
        assert "Reason: an older transaction needed its locks." in error.detail
        assert "The other transaction: " in error.detail
        younger.rollback()
