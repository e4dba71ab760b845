"""`txndb demo`: a cluster of real processes takes transfers, loses its leader to SIGKILL, and keeps every cent.

Accounts lie in several ranges; clients on all gateways move money between them, each transfer in one transaction that
also enters it in a ledger under an id of its own. Half-way the node that leads the accounts is killed, and started
again a little later. A reader adds up all balances all the while.

A client whose gateway died in the middle of COMMIT asks another one: it tries to enter the id as void. Either its
entry is there – the transfer happened – or the void one now keeps it from ever happening. So `ambiguous` counts only
what the database itself called unknown (08007), and stays 0.

`ok` means: transfers happened, the total never changed, the ledger holds exactly the transfers acknowledged or
resolved,
nothing was ambiguous, and all replicas of each range agree at one log index.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import msgspec
import psycopg
from psycopg.rows import TupleRow

from txndb.errors import TxndbError
from txndb.server.localcluster import LocalCluster, LocalNode
from txndb.server.rpc import RpcClient

ACCOUNTS: Final = 1000
SPLITS: Final = (250, 500, 750)
BALANCE: Final = 100
CLIENTS: Final = 12
AGREE_TIMEOUT_S: Final = 20.0
RECONNECT_S: Final = 0.05
READ_EVERY_S: Final = 0.5
CALL_TIMEOUT_US: Final = 5_000_000
_LOST: Final = (psycopg.OperationalError, psycopg.InterfaceError)

Connection = psycopg.AsyncConnection[TupleRow]


class DemoResult(msgspec.Struct, frozen=True):
    """The figures of one run; `--json` prints it."""

    transfers: int
    tps: float
    failover_gap_ms: float
    total_before: int
    total_after: int
    ambiguous: int
    replicas_agree: bool
    ok: bool
    retries: int
    resolved: int
    reads: int
    wrong_totals: int
    ledger: int
    nodes: int
    killed_node: int


@dataclass
class Tally:
    """What the clients saw so far."""

    transfers: int = 0
    retries: int = 0
    ambiguous: int = 0
    resolved: int = 0
    reads: int = 0
    wrong_totals: int = 0
    total: int = 0
    last_commit_s: float = 0.0
    longest_gap_s: float = 0.0
    phase: str = "transferring"
    unresolved: list[uuid.UUID] = field(default_factory=list)

    def committed(self) -> None:
        """Count an acknowledged transfer, and the gap since the one before."""
        now_s = time.monotonic()
        if self.last_commit_s:
            self.longest_gap_s = max(self.longest_gap_s, now_s - self.last_commit_s)
        self.last_commit_s = now_s
        self.transfers += 1


class Demo:
    """One run against a started cluster."""

    def __init__(self, cluster: LocalCluster, seconds: float, kill: bool) -> None:
        self.cluster = cluster
        self.seconds = seconds
        self.kill = kill
        self.tally = Tally()
        self.killed_node = 0
        self._rand = random.Random()
        self._began_s = 0.0

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s if self._began_s else 0.0

    async def run(self, watch: Callable[[Demo], None]) -> DemoResult:
        """Open accounts, transfer, kill and restart, add up. `watch` is called a few times a second."""
        conn = await connect(self.cluster.nodes[0])
        async with conn:
            await self._open_accounts(conn)
            before = await total(conn)
        self.tally.total = before
        self._began_s = time.monotonic()
        try:
            await self._under_load(before, watch)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None  # the first is the cause, the others were cancelled by it
        lasted_s = self.elapsed_s
        self.tally.phase = "comparing replicas"
        watch(self)
        return await self._judge(before, lasted_s)

    async def _under_load(self, before: int, watch: Callable[[Demo], None]) -> None:
        """Clients, reader and killer, all until the time is over."""
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number))
            group.create_task(self._reader(before))
            if self.kill:
                group.create_task(self._kill_and_restart())
            while self.elapsed_s < self.seconds:
                watch(self)
                await asyncio.sleep(min(0.1, max(0.0, self.seconds - self.elapsed_s)))

    async def _judge(self, before: int, lasted_s: float) -> DemoResult:
        async with await connect(self.cluster.nodes[0]) as conn:
            await self._resolve(conn)
            after = await total(conn)
            ledger = await scalar(conn, "SELECT count(*) FROM transfers WHERE source IS NOT NULL")
        agree = await replicas_agree(self.cluster.nodes)
        tally = self.tally
        ok = (
            tally.transfers > 0
            and (before, tally.wrong_totals, tally.ambiguous) == (after, 0, 0)
            and ledger == tally.transfers
            and agree
        )
        return DemoResult(
            transfers=tally.transfers,
            tps=round(tally.transfers / lasted_s, 1),
            failover_gap_ms=round(tally.longest_gap_s * 1000, 1),
            total_before=before,
            total_after=after,
            ambiguous=tally.ambiguous,
            replicas_agree=agree,
            ok=ok,
            retries=tally.retries,
            resolved=tally.resolved,
            reads=tally.reads,
            wrong_totals=tally.wrong_totals,
            ledger=ledger,
            nodes=len(self.cluster.nodes),
            killed_node=self.killed_node,
        )

    async def _open_accounts(self, conn: Connection) -> None:
        await conn.execute("CREATE TABLE accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL)")
        await conn.execute("CREATE TABLE transfers (id UUID PRIMARY KEY, source INT, target INT, amount INT)")
        cuts = ", ".join(f"({cut})" for cut in SPLITS)
        await conn.execute(f"ALTER TABLE accounts SPLIT AT VALUES {cuts}")
        rows = [(i, BALANCE) for i in range(ACCOUNTS)]
        async with conn.cursor().copy("COPY accounts (id, balance) FROM STDIN") as copy:
            for row in rows:
                await copy.write_row(row)

    async def _client(self, number: int) -> None:
        """Transfer until the time is over, on another gateway after each lost connection."""
        gateway = number
        while self.elapsed_s < self.seconds:
            try:
                async with await connect(self._node(gateway)) as conn:
                    await self._resolve(conn)
                    while self.elapsed_s < self.seconds:
                        await self._transfer(conn)
            except _LOST:
                gateway += 1
                await asyncio.sleep(RECONNECT_S)

    def _node(self, gateway: int) -> LocalNode:
        nodes = self.cluster.nodes
        return nodes[gateway % len(nodes)]

    async def _transfer(self, conn: Connection) -> None:
        """One transfer, retried until it happened, the time is over or the connection is lost."""
        source, target = self._rand.sample(range(ACCOUNTS), 2)
        amount, name = self._rand.randint(1, 9), uuid.uuid4()
        committing = False
        while self.elapsed_s < self.seconds:
            try:
                await conn.execute("BEGIN")
                move = "UPDATE accounts SET balance = balance + %s WHERE id = %s"
                await conn.execute(move, (-amount, source))
                await conn.execute(move, (amount, target))
                await conn.execute(
                    "INSERT INTO transfers VALUES (%s, %s, %s, %s)", (name, source, target, amount)
                )
                committing = True
                await conn.execute("COMMIT")
                self.tally.committed()
                return
            except psycopg.Error as e:
                if e.sqlstate == "08007":
                    self.tally.ambiguous += 1
                    self.tally.unresolved.append(name)
                elif e.sqlstate is None and committing:
                    self.tally.unresolved.append(name)  # the gateway is gone: another one will know
                if e.sqlstate not in ("40001", "57P03") or conn.closed:
                    raise
                committing = False
                self.tally.retries += 1
                await conn.execute("ROLLBACK")

    async def _resolve(self, conn: Connection) -> None:
        """Learn the outcome of transfers whose gateway died in COMMIT: void them, unless they are in the ledger."""
        unresolved = self.tally.unresolved
        while unresolved:
            name = unresolved.pop()
            try:
                cursor = await conn.execute(
                    "INSERT INTO transfers (id) VALUES (%s) ON CONFLICT DO NOTHING", (name,)
                )
            except psycopg.Error:
                unresolved.append(name)
                raise
            self.tally.resolved += 1
            if cursor.rowcount == 0:
                self.tally.transfers += 1

    async def _reader(self, expected: int) -> None:
        """Add up all balances now and then, each time elsewhere."""
        gateway = 0
        while self.elapsed_s < self.seconds:
            gateway += 1
            try:
                async with await connect(self._node(gateway)) as conn:
                    self.tally.total = await total(conn)
                self.tally.reads += 1
                self.tally.wrong_totals += self.tally.total != expected
            except psycopg.Error:
                continue
            finally:
                await asyncio.sleep(READ_EVERY_S)

    async def _kill_and_restart(self) -> None:
        await asyncio.sleep(self.seconds / 2)
        victim = await self._leader()
        self.killed_node = victim.number
        self.tally.phase = f"node {victim.number} killed"
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(min(3.0, self.seconds / 6))
        self.tally.phase = f"node {victim.number} restarting"
        await asyncio.to_thread(self.cluster.restart, victim)
        self.tally.phase = f"node {victim.number} is back"

    async def _leader(self) -> LocalNode:
        """The node that leads most ranges of the accounts."""
        async with await connect(self.cluster.nodes[0]) as conn:
            cursor = await conn.execute("SHOW RANGES FROM TABLE accounts")
            names = [column.name for column in cursor.description or ()]
            leaders = [row[names.index("leaseholder")] for row in await cursor.fetchall()]
        most = max(sorted(set(leaders)), key=leaders.count)
        return next(node for node in self.cluster.nodes if node.info.node == most)


async def connect(node: LocalNode) -> Connection:
    """A client of one node."""
    return await psycopg.AsyncConnection.connect(node.url, autocommit=True, connect_timeout=5)


async def scalar(conn: Connection, query: str) -> int:
    """The one number a query answers."""
    cursor = await conn.execute(query)
    row = await cursor.fetchone()
    value: Decimal | int | None = row[0] if row is not None else None
    return int(value) if value is not None else 0


async def total(conn: Connection) -> int:
    """All balances in one snapshot."""
    return await scalar(conn, "SELECT sum(balance) FROM accounts")


async def replicas_agree(
    nodes: Sequence[LocalNode], timeout_s: float = AGREE_TIMEOUT_S, *, complete: bool = True
) -> bool:
    """Whether all replicas of each range hold the same bytes. They are compared once they have applied the same
    index; a difference at one index is final, replicas that never get there disagree as well. `complete`: and whether
    nothing is missing, neither a replica of a range nor every range at a node."""
    client = RpcClient()
    deadline_s = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline_s:
            verdict = compare(await _checksums(client, nodes), complete=complete)
            if verdict is not None:
                return verdict
            await asyncio.sleep(0.1)
        return False
    finally:
        await client.close()


async def _checksums(client: RpcClient, nodes: Sequence[LocalNode]) -> list[dict[int, tuple[int, str]]]:
    """Each node's ranges: id -> (applied index, checksum); nothing while a node does not answer."""
    found: list[dict[int, tuple[int, str]]] = []
    for node in nodes:
        try:
            answer = await client.call(node.info.rpc, "debug.checksums", b"", CALL_TIMEOUT_US)
        except TxndbError:
            return []
        found.append(msgspec.json.decode(answer, type=dict[int, tuple[int, str]]))
    return found


def compare(nodes: list[dict[int, tuple[int, str]]], *, complete: bool = True) -> bool | None:
    """True: all replicas agree; False: two differ at one index; None: not comparable yet."""
    settled = bool(nodes) and (all(nodes) if complete else any(nodes))
    replicas = min(3, len(nodes)) if complete else 1
    for range_id in sorted({range_id for node in nodes for range_id in node}):
        held = [node[range_id] for node in nodes if range_id in node]
        checksums: dict[int, str] = {}
        for index, checksum in held:
            if checksums.setdefault(index, checksum) != checksum:
                return False
        settled = settled and len(checksums) == 1 and len(held) >= replicas
    return True if settled else None


def describe(result: DemoResult) -> list[tuple[str, str]]:
    """The result as lines for a person."""
    verdict: Callable[[Any], str] = lambda good: "yes" if good else "NO"  # noqa: E731
    return [
        ("transfers", f"{result.transfers:,} ({result.tps:,.0f}/s, {result.retries:,} retried)"),
        ("longest gap without a commit", f"{result.failover_gap_ms:,.0f} ms"),
        ("total before / after", f"{result.total_before:,} / {result.total_after:,}"),
        ("totals read meanwhile", f"{result.reads}, {result.wrong_totals} of them wrong"),
        ("ledger holds every transfer", verdict(result.ledger == result.transfers)),
        ("ambiguous outcomes", f"{result.ambiguous} ({result.resolved} resolved after the gateway's death)"),
        ("replicas agree", verdict(result.replicas_agree)),
    ]
