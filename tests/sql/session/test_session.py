"""The session: transactions, retries, prepared statements and portals, cancel, COPY."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.sql.fakekv import FakeTxn
from tests.sql.harness import Database, error_of, outcome, rows, run_async
from txndb.errors import (
    InFailedTransactionError,
    QueryCanceledError,
    RetryError,
    SqlError,
    TxndbError,
    UnavailableError,
)
from txndb.sql.session.session import Session


async def _with_table() -> tuple[Database, Session]:
    db = Database()
    session = await db.session()
    await session.execute("CREATE TABLE t (a int PRIMARY KEY, b int)")
    await session.execute("INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)")
    return db, session


def test_unknown_role_and_database() -> None:
    async def run() -> list[str]:
        db = Database()
        codes = []
        for database, user in (("defaultdb", "nobody"), ("nowhere", "root")):
            try:
                await db.session(database, user)
            except TxndbError as error:
                codes.append(error.code)
        return codes

    assert run_async(run()) == ["28000", "3D000"]


def test_k6_autocommit_is_retried_with_its_age() -> None:
    async def run() -> tuple[str, Any]:
        db, session = await _with_table()
        db.kv.fail_commits = 3
        result = await session.execute("UPDATE t SET b = b + 1 WHERE a = 1")
        return result.tag, await rows(session, "SELECT b FROM t WHERE a = 1")

    assert run_async(run()) == ("UPDATE 1", [(11,)])


def test_lost_block_is_40001_and_its_age_is_kept() -> None:
    async def run() -> tuple[str, bool, bool, list[Any]]:
        _db, session = await _with_table()
        await session.execute("BEGIN")
        assert session.block is not None and session.block.txn is not None
        age = session.block.txn.age
        await session.execute("UPDATE t SET b = 0 WHERE a = 1")
        session.services.kv.fail_commits = 1  # type: ignore[attr-defined]
        with pytest.raises(RetryError) as caught:
            await session.execute("COMMIT")
        await session.execute("BEGIN")
        assert session.block is not None and session.block.txn is not None
        same = session.block.txn.age == age
        await session.execute("UPDATE t SET b = 5 WHERE a = 1")
        await session.execute("COMMIT")
        fresh = session.kept_age is None
        return caught.value.code, same, fresh, await rows(session, "SELECT b FROM t WHERE a = 1")

    assert run_async(run()) == ("40001", True, True, [(5,)])


def test_k4_error_in_a_lost_transaction_is_40001() -> None:
    async def run() -> str:
        db, session = await _with_table()
        other = await db.session()
        await session.execute("BEGIN")
        await rows(session, "SELECT b FROM t WHERE a = 1")
        await other.execute("UPDATE t SET b = 99 WHERE a = 1")
        return (await error_of(session, "SELECT 1 / 0")).code

    assert run_async(run()) == "40001"


def test_k7_dead_transaction_refuses_rollback_to_savepoint() -> None:
    async def run() -> list[str]:
        db, session = await _with_table()
        other = await db.session()
        await session.execute("BEGIN")
        await session.execute("SAVEPOINT s")
        await rows(session, "SELECT b FROM t WHERE a = 1")
        await other.execute("UPDATE t SET b = 99 WHERE a = 1")
        codes = [(await error_of(session, "SELECT b FROM t WHERE a = 2")).code]
        codes.append((await error_of(session, "ROLLBACK TO s")).code)
        codes.append((await error_of(session, "SELECT 1")).code)
        await session.execute("ROLLBACK")
        codes.append(session.status)
        return codes

    assert run_async(run()) == ["40001", "25P02", "25P02", "I"]


@pytest.mark.parametrize("failing", ["SELECT 1 / 0", ""])
def test_k7_rollback_to_savepoint_is_what_finds_the_lost_lock(failing: str) -> None:
    """The block says 40001 once, in whichever state it was, and has changed nothing of itself before."""

    async def run() -> list[Any]:
        db, session = await _with_table()
        other = await db.session()
        for sql in ("BEGIN", "SELECT b FROM t WHERE a = 1", "SAVEPOINT s", "SAVEPOINT inner_level"):
            await session.execute(sql)
        if failing:
            await error_of(session, failing)
        await other.execute("UPDATE t SET b = 99 WHERE a = 1")
        block = session.block
        assert block is not None and block.txn is not None
        codes: list[Any] = [(await error_of(session, "ROLLBACK TO s")).code, session.status]
        codes += [len(block.savepoints), session.kept_age == block.txn.age]
        codes += [(await error_of(session, sql)).code for sql in ("ROLLBACK TO s", "SELECT 1")]
        codes.append((await session.execute("COMMIT")).tag)
        return codes

    assert run_async(run()) == ["40001", "E", 2, True, "25P02", "25P02", "ROLLBACK"]


def test_failed_block_and_status() -> None:
    async def run() -> list[str]:
        _db, session = await _with_table()
        states = [session.status]
        await session.execute("BEGIN")
        states.append(session.status)
        await error_of(session, "SELECT nope")
        states.append(session.status)
        with pytest.raises(InFailedTransactionError):
            await session.execute("SELECT 1")
        states.append((await session.execute("COMMIT")).tag)
        states.append(session.status)
        return states

    assert run_async(run()) == ["I", "T", "E", "ROLLBACK", "I"]


def test_prepared_statements_and_portals() -> None:
    async def run() -> None:
        _db, session = await _with_table()
        made = await session.prepare("p", "SELECT a, b FROM t WHERE a >= $1 ORDER BY a", [])
        assert made.param_oids == (23,)
        assert made.columns is not None
        assert [(c.name, c.type_oid, c.column_no) for c in made.columns] == [("a", 23, 1), ("b", 23, 2)]
        session.bind("", "p", [2])
        assert (await session.run_portal("")).rows == [(2, 20), (3, 30)]
        await session.sync()
        session.bind("c", "p", [1])
        first = await session.run_portal("c", 2)
        assert (first.rows, first.suspended) == ([(1, 10), (2, 20)], True)
        second = await session.run_portal("c", 2)
        assert (second.rows, second.suspended, second.tag) == ([(3, 30)], False, "SELECT 1")
        await session.sync()
        with pytest.raises(SqlError, match='portal "c" does not exist'):
            await session.run_portal("c")
        with pytest.raises(SqlError, match="prepared statement"):
            session.bind("", "nope", [])

    run_async(run())


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> list[FakeTxn]:
    """Nobody can tell whether locks are still held; the transactions that asked."""
    asked: list[FakeTxn] = []

    async def check(txn: FakeTxn) -> None:
        asked.append(txn)
        raise UnavailableError("range 1 has no leaseholder that answers")

    monkeypatch.setattr(FakeTxn, "check", check)
    return asked


def test_k4_where_locks_cannot_be_checked_a_statement_alone_leaves_no_transaction(
    unreachable: list[FakeTxn],
) -> None:
    async def run() -> None:
        _db, session = await _with_table()
        with pytest.raises(UnavailableError):
            await session.execute("INSERT INTO t VALUES (4, 0), (1, 0)")

    run_async(run())
    assert [txn.done for txn in unreachable] == [True]


def test_k4_where_locks_cannot_be_checked_a_block_has_failed(unreachable: list[FakeTxn]) -> None:
    """Its failed statement was half done: nothing of it may be committed."""

    async def run() -> tuple[str, str, list[Any]]:
        _db, session = await _with_table()
        await session.execute("BEGIN")
        with pytest.raises(UnavailableError):
            await session.execute("INSERT INTO t VALUES (4, 0), (1, 0)")
        status, tag = session.status, (await session.execute("COMMIT")).tag
        return status, tag, await rows(session, "SELECT a FROM t WHERE a = 4")

    assert run_async(run()) == ("E", "ROLLBACK", [])
    assert [txn.done for txn in unreachable] == [True]


def test_k4_where_locks_cannot_be_checked_a_copy_leaves_no_transaction(unreachable: list[FakeTxn]) -> None:
    async def run() -> None:
        _db, session = await _with_table()
        copy: Any = (await session.execute("COPY t FROM STDIN")).copy
        with pytest.raises(UnavailableError):
            await copy.write(b"4\tx\n")

    run_async(run())
    assert [txn.done for txn in unreachable] == [True]


def test_k7_a_half_read_portal_is_not_read_on_in_a_failed_block() -> None:
    async def run() -> None:
        _db, session = await _with_table()
        await session.execute("BEGIN")
        await session.prepare("p", "SELECT a FROM t ORDER BY a", [])
        session.bind("c", "p")
        assert (await session.run_portal("c", 1)).rows == [(1,)]
        with pytest.raises(SqlError, match="division by zero"):
            await session.execute("SELECT 1 / 0")
        with pytest.raises(InFailedTransactionError):
            await session.run_portal("c", 1)

    run_async(run())


def test_prepare_infers_parameters_of_insert() -> None:
    async def run() -> tuple[Any, Any]:
        _db, session = await _with_table()
        await session.execute("CREATE TABLE x (i bigint PRIMARY KEY, s varchar(5), n numeric(5,2), d date)")
        made = await session.prepare("", "INSERT INTO x VALUES ($1, $2, $3, $4)", [])
        return made.param_oids, made.columns

    assert run_async(run()) == ((20, 1043, 1700, 1082), None)


def test_extended_batch_is_one_transaction() -> None:
    async def run() -> list[Any]:
        _db, session = await _with_table()
        await session.prepare("i", "INSERT INTO t VALUES ($1, 0)", [])
        session.bind("", "i", [7])
        await session.run_portal("")
        session.close_portal("")
        session.bind("", "i", [1])
        with pytest.raises(SqlError, match="duplicate key"):
            await session.run_portal("")
        await session.sync()
        return await rows(session, "SELECT a FROM t WHERE a = 7")

    assert run_async(run()) == []


def test_a_batch_of_which_a_message_was_refused_is_rolled_back() -> None:
    """The server found the error, in a Bind or an Execute, after a part of the batch had run."""

    async def run() -> list[Any]:
        db, session = await _with_table()
        await session.prepare("i", "INSERT INTO t VALUES ($1, 0)", [])
        session.bind("", "i", [7])
        await session.run_portal("")
        session.fail(SqlError("22P02", "invalid input"))
        await session.sync()
        assert (session.status, session.implicit) == ("I", None)
        other = await db.session()
        await other.execute("UPDATE t SET b = 1 WHERE a = 7")
        return await rows(session, "SELECT a FROM t WHERE a = 7")

    assert run_async(run()) == []


def test_final_portal_commits_at_once() -> None:
    async def run() -> list[Any]:
        db, session = await _with_table()
        await session.prepare("i", "INSERT INTO t VALUES ($1, 0)", [])
        db.kv.fail_commits = 2
        session.bind("", "i", [7])
        await session.run_portal("", 0, final=True)
        return await rows(await db.session(), "SELECT a FROM t WHERE a = 7")

    assert run_async(run()) == [(7,)]


def test_script_is_one_transaction() -> None:
    async def run() -> list[Any]:
        _db, session = await _with_table()
        assert (await outcome(session, "INSERT INTO t VALUES (8, 0); SELECT 1 / 0")).error == "22012"
        return await rows(session, "SELECT a FROM t WHERE a = 8")

    assert run_async(run()) == []


class _Stalled:
    """A key-value store whose snapshots never answer."""

    canaries: frozenset[str] = frozenset()

    def __init__(self, kv: Any, reached: asyncio.Event) -> None:
        self.kv = kv
        self.reached = reached
        self.limits = kv.limits

    def begin(self, age: Any = None) -> Any:
        return self.kv.begin(age)

    def snapshot(self, at: Any = None) -> Any:
        return self

    timestamp = None

    async def get(self, keys: Any, lock: Any = None) -> Any:
        self.reached.set()
        await asyncio.Event().wait()


def test_cancel_ends_the_statement_with_57014() -> None:
    async def run() -> tuple[str, list[Any]]:
        db, session = await _with_table()
        reached = asyncio.Event()
        session.services.kv = _Stalled(db.kv, reached)
        task = asyncio.create_task(session.execute("SELECT b FROM t WHERE a = 1"))
        await reached.wait()
        session.cancel()
        with pytest.raises(QueryCanceledError) as caught:
            await task
        session.services.kv = db.kv
        return caught.value.message, await rows(session, "SELECT b FROM t WHERE a = 1")

    message, found = run_async(run())
    assert message == "canceling statement due to user request"
    assert found == [(10,)]


def test_statement_timeout() -> None:
    async def run() -> str:
        db, session = await _with_table()
        await session.execute("SET statement_timeout = '1ms'")
        session.services.kv = _Stalled(db.kv, asyncio.Event())
        with pytest.raises(QueryCanceledError) as caught:
            await session.execute("SELECT b FROM t WHERE a = 1")
        return caught.value.message

    assert run_async(run()) == "canceling statement due to statement timeout"


async def _copy_in(session: Session, sql: str, data: bytes, chunk: int = 7) -> str:
    result = await session.execute(sql)
    copy: Any = result.copy
    for at in range(0, len(data), chunk):
        await copy.write(data[at : at + chunk])
    tag: str = await copy.finish()
    return tag


async def _copy_out(session: Session, sql: str) -> tuple[bytes, str]:
    copy: Any = (await session.execute(sql)).copy
    data = b"".join([line async for lines in copy for line in lines])
    return data, copy.tag


def test_copy_text_and_csv() -> None:
    async def run() -> None:
        _db, session = await _with_table()
        await session.execute("CREATE TABLE c (a int PRIMARY KEY, b text, d numeric(6,2) DEFAULT 9)")
        data = b"1\tone\\ttab\t1.5\n2\t\\N\t2\n3\tback\\\\slash\t\\N\n\\.\n"
        assert await _copy_in(session, "COPY c FROM STDIN", data) == "COPY 3"
        assert (
            await _copy_in(session, "COPY c (a, b) FROM STDIN CSV HEADER", b'a,b\n4,"x,""y""\nz"\n5,\n')
            == "COPY 2"
        )
        assert await rows(session, "SELECT b FROM c ORDER BY a") == [
            ("one\ttab",),
            (None,),
            ("back\\slash",),
            ('x,"y"\nz',),
            (None,),
        ]
        text, tag = await _copy_out(session, "COPY c TO STDOUT")
        assert (
            text
            == b'1\tone\\ttab\t1.50\n2\t\\N\t2.00\n3\tback\\\\slash\t\\N\n4\tx,"y"\\nz\t9.00\n5\t\\N\t9.00\n'
        )
        assert tag == "COPY 5"
        csv, _ = await _copy_out(session, "COPY (SELECT a, b FROM c WHERE a > 3 ORDER BY a) TO STDOUT CSV")
        assert csv == b'4,"x,""y""\nz"\n5,\n'

    run_async(run())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"1\n", "22P04"),
        (b"1\t2\t3\n", "22P04"),
        (b"x\t2\n", "22P02"),
        (b"1\t2\n", "23505"),
        (b"\xff\t1\n", "22021"),
    ],
)
def test_copy_errors_leave_nothing(data: bytes, code: str) -> None:
    async def run() -> tuple[str, list[Any]]:
        _db, session = await _with_table()
        with pytest.raises(TxndbError) as caught:
            await _copy_in(session, "COPY t FROM STDIN", b"50\t1\n" + data)
        return caught.value.code, await rows(session, "SELECT a FROM t WHERE a = 50")

    assert run_async(run()) == (code, [])


def test_error_positions_in_the_statement_as_sent() -> None:
    async def run() -> list[int]:
        _db, session = await _with_table()
        texts = [
            "SELECT nope FROM t",
            "SELECT a FROM t WHERE a = 1 AND nope = 2",
            "SELECT a FROM t WHERE b = 'x'",
            "SELECT 1; SELECT nope FROM t",
        ]
        return [(await error_of(session, text)).position for text in texts]

    assert run_async(run()) == [8, 33, 27, 18]


def test_as_of_system_time_sees_the_past_and_its_catalogue() -> None:
    async def run() -> list[Any]:
        db, session = await _with_table()
        then = db.kv.now_us
        db.kv.now_us += 1_000_000
        await session.execute("ALTER TABLE t ADD COLUMN c int DEFAULT 1")
        await session.execute("DELETE FROM t WHERE a = 1")
        db.kv.now_us += 1_000_000
        return await rows(session, f"SELECT * FROM t AS OF SYSTEM TIME {then} ORDER BY a")

    assert run_async(run()) == [(1, 10), (2, 20), (3, 30)]


def test_the_time_before_the_database_is_an_error_of_the_statement() -> None:
    async def run() -> str:
        _, session = await _with_table()
        return (await error_of(session, "SELECT * FROM t AS OF SYSTEM TIME 1000000")).code

    assert run_async(run()) == "22023"


def test_copy_does_not_overlook_as_of_system_time() -> None:
    async def run() -> str:
        _, session = await _with_table()
        return (await error_of(session, "COPY (SELECT * FROM t AS OF SYSTEM TIME '-1s') TO STDOUT")).code

    assert run_async(run()) == "0A000"


def test_ddl_of_others_fails_an_old_catalogue_user() -> None:
    async def run() -> str:
        db, session = await _with_table()
        other = await db.session()
        await session.execute("BEGIN")
        await session.execute("INSERT INTO t VALUES (60, 1)")
        await other.execute("ALTER TABLE t ADD COLUMN c int")
        return (await error_of(session, "COMMIT")).code

    assert run_async(run()) == "40001"


def test_a_name_in_a_literal_is_found_by_a_session_that_uses_anothers_plan_first() -> None:
    async def run() -> list[Any]:
        db = Database()
        session = await db.session()
        await session.execute("CREATE TABLE t (a SERIAL PRIMARY KEY)")
        numbers = await rows(session, "SELECT nextval('t_a_seq')")
        return numbers + await rows(await db.session(), "SELECT nextval('t_a_seq')")

    assert run_async(run()) == [(1,), (2,)]


def test_plans_are_cached_across_literals() -> None:
    async def run() -> int:
        _db, session = await _with_table()
        await rows(session, "SELECT b FROM t WHERE a = 1")
        before = len(session.services.plans)
        assert await rows(session, "SELECT b FROM t WHERE a = 2") == [(20,)]
        return len(session.services.plans) - before

    assert run_async(run()) == 0


def test_a_batch_of_rows_takes_as_many_sequence_numbers() -> None:
    async def run() -> list[Any]:
        db = Database()
        session = await db.session()
        await session.execute("CREATE TABLE s (a serial, b int)")  # two sequences: the column and the row id
        first = (await session.execute("INSERT INTO s (b) VALUES (0) RETURNING a")).rows
        await session.execute("INSERT INTO s (b) SELECT g FROM generate_series(1, 200) AS g")
        return [first, (await session.execute("SELECT min(a), max(a), count(DISTINCT a) FROM s")).rows]

    assert run_async(run()) == [[(1,)], [(1, 201, 201)]]


def test_restart_identity_forgets_the_blocks_of_every_session() -> None:
    async def run() -> list[Any]:
        db = Database()
        session = await db.session()
        await session.execute("CREATE TABLE s (a serial PRIMARY KEY, b int)")
        await session.execute("INSERT INTO s (b) VALUES (1), (2), (3)")
        await session.execute("TRUNCATE s RESTART IDENTITY")
        await session.execute("INSERT INTO s (b) SELECT g FROM generate_series(1, 100) AS g")
        return (await session.execute("SELECT min(a), max(a), count(*) FROM s")).rows

    assert run_async(run()) == [(1, 100, 100)]
