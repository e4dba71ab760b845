"""`txndb bench`: small workloads against any PostgreSQL URL, txndb's or PostgreSQL's own.

The client shares its machine with what it measures, so it must cost little: one thread a client, statements
prepared once and run
through libpq's blocking `exec_prepared` (`psycopg.pq`), which holds the interpreter's lock only to make the
parameters.

    insert  one row with a new key
    update  one row chosen at random
    select  one row chosen at random, by primary key
    bank    BEGIN, two UPDATEs, COMMIT: between the two halves of the accounts, which lie in two ranges on txndb
    tpcb    pgbench's transaction, five statements

A transaction that fails with 40001 is replayed and its latency counts from the first try: what an application sees.
Other errors are counted and the next transaction begins. The first `WARM_UP_S` are not measured.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import psycopg
from psycopg import pq

from txndb.errors import SqlError

WARM_UP_S: Final = 0.5
LOAD_BATCH_ROWS: Final = 1000
WORKLOADS: Final = ("insert", "update", "select", "bank", "tpcb")
ROWS_PER_BRANCH: Final = 1000
_RETRY: Final = b"40001"
_OK: Final = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class BenchResult(msgspec.Struct, frozen=True):
    """One run's figures; `--json` prints it."""

    workload: str
    clients: int
    seconds: float
    transactions: int
    tps: float
    p50_ms: float
    p99_ms: float
    errors: int
    retries: int
    first_error: str = ""


class StatementError(Exception):
    """A statement failed; `sqlstate` is empty when the connection is gone."""

    def __init__(self, sqlstate: bytes, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Client:
    """One connection, with prepared statements."""

    def __init__(self, url: str, number: int) -> None:
        self.number = number
        self.rand = random.Random(number)
        self.latencies_s: list[float] = []
        self.errors = 0
        self.retries = 0
        self.first_error = ""
        self._url = url
        self._statements: list[tuple[bytes, bytes]] = []
        self._connection = psycopg.Connection.connect(url, autocommit=True)
        self._pg = self._connection.pgconn

    def prepare(self, name: str, sql: str) -> bytes:
        """Prepare a statement; the name to run it by."""
        key = name.encode()
        self._statements.append((key, sql.encode()))
        self._check(self._pg.prepare(key, sql.encode()))
        return key

    def run(self, statement: bytes, *params: int | str) -> pq.abc.PGresult:
        """Run a prepared statement; `StatementError` if it fails."""
        values = [str(param).encode() for param in params]
        return self._check(self._pg.exec_prepared(statement, values))

    def simple(self, sql: bytes) -> None:
        """Run BEGIN, COMMIT or ROLLBACK."""
        self._check(self._pg.exec_(sql))

    def give_up(self) -> None:
        """After a failed transaction: be outside of one, on a live connection."""
        if self._pg.status != pq.ConnStatus.OK:
            self._connection.close()
            self._connection = psycopg.Connection.connect(self._url, autocommit=True)
            self._pg = self._connection.pgconn
            for name, sql in self._statements:
                self._check(self._pg.prepare(name, sql))
        elif self._pg.transaction_status != pq.TransactionStatus.IDLE:
            self.simple(b"ROLLBACK")

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def _check(result: pq.abc.PGresult) -> pq.abc.PGresult:
        if result.status not in _OK:
            sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
            raise StatementError(sqlstate, result.error_message.decode("utf-8", "replace").strip())
        return result


class Workload(Protocol):
    """Tables, and one transaction on them."""

    def load(self, connection: psycopg.Connection[tuple[object, ...]], rows: int) -> None:
        """Create and fill the tables."""

    def transaction(self, client: Client) -> Callable[[], None]:
        """Prepare what is needed on a client; the returned function runs one transaction once."""


def is_txndb(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Whether the server is txndb, by the version it reports."""
    return "txndb" in (connection.info.parameter_status("server_version") or "")


def create(connection: psycopg.Connection[tuple[object, ...]], table: str, columns: str) -> None:
    """A fresh table."""
    connection.execute(f"DROP TABLE IF EXISTS {table}".encode())
    connection.execute(f"CREATE TABLE {table} ({columns})".encode())


def fill(
    connection: psycopg.Connection[tuple[object, ...]], table: str, rows: Sequence[tuple[object, ...]]
) -> None:
    """Load rows in several transactions, so that no one of them grows large."""
    for begin in range(0, len(rows), LOAD_BATCH_ROWS):
        with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
            for row in rows[begin : begin + LOAD_BATCH_ROWS]:
                copy.write_row(row)


class Insert:
    """One new row a transaction; keys of different clients are far apart, as hashed or client-prefixed ones are."""

    def load(self, connection: psycopg.Connection[tuple[object, ...]], rows: int) -> None:
        create(connection, "bench_insert", "id BIGINT PRIMARY KEY, value TEXT NOT NULL")

    def transaction(self, client: Client) -> Callable[[], None]:
        statement = client.prepare("bench", "INSERT INTO bench_insert VALUES ($1, $2)")
        value = "v" * 100
        next_id = client.number << 40

        def once() -> None:
            nonlocal next_id
            next_id += 1
            client.run(statement, next_id, value)

        return once


class _Rows:
    """A table of `rows` rows for single-row statements."""

    def __init__(self) -> None:
        self.rows = 0

    def load(self, connection: psycopg.Connection[tuple[object, ...]], rows: int) -> None:
        self.rows = rows
        create(connection, "bench_rows", "id INT PRIMARY KEY, number BIGINT NOT NULL, value TEXT NOT NULL")
        fill(connection, "bench_rows", [(i, 0, "v" * 100) for i in range(rows)])


class Update(_Rows):
    """One row changed, chosen at random."""

    def transaction(self, client: Client) -> Callable[[], None]:
        statement = client.prepare("bench", "UPDATE bench_rows SET number = number + 1 WHERE id = $1")

        def once() -> None:
            client.run(statement, client.rand.randrange(self.rows))

        return once


class Select(_Rows):
    """One row read by its primary key."""

    def transaction(self, client: Client) -> Callable[[], None]:
        statement = client.prepare("bench", "SELECT value FROM bench_rows WHERE id = $1")

        def once() -> None:
            if client.run(statement, client.rand.randrange(self.rows)).ntuples != 1:
                raise StatementError(b"P0002", "a row is missing")

        return once


class Bank:
    """A transfer between the two halves of the accounts."""

    def __init__(self) -> None:
        self.half = 0

    def load(self, connection: psycopg.Connection[tuple[object, ...]], rows: int) -> None:
        self.half = max(1, rows // 2)
        create(connection, "bench_bank", "id INT PRIMARY KEY, balance BIGINT NOT NULL")
        if is_txndb(connection):
            connection.execute(f"ALTER TABLE bench_bank SPLIT AT VALUES ({self.half})".encode())
        fill(connection, "bench_bank", [(i, 1000) for i in range(2 * self.half)])

    def transaction(self, client: Client) -> Callable[[], None]:
        move = client.prepare("bench", "UPDATE bench_bank SET balance = balance + $1 WHERE id = $2")

        def once() -> None:
            rand, half = client.rand, self.half
            accounts = [rand.randrange(half), half + rand.randrange(half)]
            rand.shuffle(accounts)
            client.simple(b"BEGIN")
            client.run(move, -1, accounts[0])
            client.run(move, 1, accounts[1])
            client.simple(b"COMMIT")

        return once


class Tpcb:
    """pgbench's TPC-B-like transaction; a branch for each thousand accounts, ten tellers a branch."""

    def __init__(self) -> None:
        self.rows = self.branches = self.tellers = 0

    def load(self, connection: psycopg.Connection[tuple[object, ...]], rows: int) -> None:
        self.rows, self.branches = rows, max(1, rows // ROWS_PER_BRANCH)
        self.tellers = 10 * self.branches
        for name, count in (("accounts", rows), ("tellers", self.tellers), ("branches", self.branches)):
            table = f"bench_{name}"
            create(connection, table, "id INT PRIMARY KEY, branch INT NOT NULL, balance BIGINT NOT NULL")
            fill(connection, table, [(i, i % self.branches, 0) for i in range(count)])
        create(connection, "bench_history", "teller INT, branch INT, account INT, delta INT, at TIMESTAMP")

    def transaction(self, client: Client) -> Callable[[], None]:
        update = "UPDATE bench_{0} SET balance = balance + $1 WHERE id = $2"
        account = client.prepare("account", update.format("accounts"))
        teller = client.prepare("teller", update.format("tellers"))
        branch = client.prepare("branch", update.format("branches"))
        read = client.prepare("read", "SELECT balance FROM bench_accounts WHERE id = $1")
        note = client.prepare("note", "INSERT INTO bench_history VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)")

        def once() -> None:
            rand = client.rand
            a, t, b = rand.randrange(self.rows), rand.randrange(self.tellers), rand.randrange(self.branches)
            delta = rand.randint(-5000, 5000)
            client.simple(b"BEGIN")
            client.run(account, delta, a)
            client.run(read, a)
            client.run(teller, delta, t)
            client.run(branch, delta, b)
            client.run(note, t, b, a, delta)
            client.simple(b"COMMIT")

        return once


def make_workload(name: str) -> Workload:
    """The workload of a name in `WORKLOADS`."""
    workloads: dict[str, Callable[[], Workload]] = {
        "insert": Insert,
        "update": Update,
        "select": Select,
        "bank": Bank,
        "tpcb": Tpcb,
    }
    return workloads[name]()


def run_bench(name: str, urls: Sequence[str], clients: int, seconds: float, rows: int) -> BenchResult:
    """Load, warm up, measure. Clients are spread over the URLs."""
    workload = make_workload(name)
    try:
        with psycopg.Connection.connect(urls[0], autocommit=True) as connection:
            workload.load(connection, rows)
        crew = [Client(urls[i % len(urls)], i) for i in range(clients)]
    except psycopg.Error as e:
        raise SqlError(e.sqlstate or "08006", f"cannot prepare the benchmark: {str(e).strip()}") from None
    gate = threading.Barrier(clients + 1)
    threads = [
        threading.Thread(target=_drive, args=(client, workload, gate, seconds), daemon=True)
        for client in crew
    ]
    for thread in threads:
        thread.start()
    gate.wait()
    for thread in threads:
        thread.join()
    for client in crew:
        client.close()
    return _summary(name, crew, seconds)


def _drive(client: Client, workload: Workload, gate: threading.Barrier, seconds: float) -> None:
    """One client's thread."""
    once = workload.transaction(client)
    gate.wait()
    clock = time.perf_counter
    measure_from_s = clock() + WARM_UP_S
    end_s = measure_from_s + seconds
    while (began_s := clock()) < end_s:
        done = _one(client, once, end_s)
        now_s = clock()
        if done and measure_from_s <= now_s < end_s:
            client.latencies_s.append(now_s - began_s)


def _one(client: Client, once: Callable[[], None], end_s: float) -> bool:
    """One transaction, replayed while it answers 40001; whether it happened."""
    while True:
        try:
            once()
            return True
        except StatementError as e:
            error = e
        try:
            client.give_up()
        except (StatementError, psycopg.Error) as e:
            error = StatementError(b"08006", str(e))
            time.sleep(0.1)  # the server is away: do not dial it in a tight loop
        if error.sqlstate != _RETRY:
            client.errors += 1
            client.first_error = client.first_error or f"{error.sqlstate.decode()} {error}"
            return False
        client.retries += 1
        if time.perf_counter() >= end_s:
            return False


def _summary(name: str, crew: Sequence[Client], seconds: float) -> BenchResult:
    latencies_s = sorted(latency for client in crew for latency in client.latencies_s)
    return BenchResult(
        workload=name,
        clients=len(crew),
        seconds=seconds,
        transactions=len(latencies_s),
        tps=round(len(latencies_s) / seconds, 1),
        p50_ms=round(1000 * percentile(latencies_s, 0.50), 3),
        p99_ms=round(1000 * percentile(latencies_s, 0.99), 3),
        errors=sum(client.errors for client in crew),
        retries=sum(client.retries for client in crew),
        first_error=next((client.first_error for client in crew if client.first_error), ""),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ordered values; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
