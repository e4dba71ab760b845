"""A toy brain for the simulator's own tests: all "nodes" share one SQLite database behind one lock.

It is strictly serializable by construction, speaks enough SQL for the workloads, sends frames so that the network has
something to carry, and can be told to go wrong (`bug`), so that the checkers have something to find:
"stale-read" (autocommit reads may see an old copy), "torn" (a commit sometimes loses its last statement), "lost-update"
(transactions read a copy from their beginning and nobody waits).
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import weakref
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from txndb.errors import InternalError, OutcomeUnknownError, RetryError
from txndb.ids import NodeId
from txndb.sim.host import Parts, SimBody
from txndb.sim.loop import Incarnation
from txndb.storage.engine import WriteBatch


class ToyResult(msgspec.Struct):
    tag: str
    rows: list[tuple[Any, ...]]


def memory(owner: object) -> sqlite3.Connection:
    """A database in memory that is closed with its owner, however that ends: a crash of the toy closes nothing."""
    # The garbage collector, which closes it, runs in whatever thread allocates.
    made = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    weakref.finalize(owner, made.close)
    return made


class ToyDatabase:
    """What the nodes share: the rows, and who may touch them."""

    def __init__(self, bug: str = "") -> None:
        self.bug = bug
        self.rng = Random(7)
        self.sql = memory(self)
        self.old: sqlite3.Connection | None = None
        self.owner: ToySession | None = None
        self.writers_waiting = 0

    def free(self) -> bool:
        if self.owner is not None and not self.owner.incarnation.alive:
            self.sql.execute("ROLLBACK")
            self.owner = None
        return self.owner is None

    def copy(self, owner: object) -> sqlite3.Connection:
        target = memory(owner)
        self.sql.backup(target)
        return target


class ToySession:
    def __init__(self, node: ToyNode, incarnation: Incarnation) -> None:
        self.node = node
        self.db = node.db
        self.incarnation = incarnation
        self.status = "I"
        self.closed = False
        self._written: list[tuple[str, tuple[Any, ...]]] = []
        self._view: sqlite3.Connection | None = None

    async def execute(self, sql: str, params: Sequence[Any] = ()) -> ToyResult:
        self.node.tell(sql.encode())
        await asyncio.sleep(0.0005)
        self._check_open()
        word = sql.split()[0]
        if sql.startswith("ALTER TABLE"):
            return ToyResult("ALTER TABLE", [])
        if word == "BEGIN":
            if self.db.bug == "lost-update":
                self._view = self.db.copy(self)
            else:
                await self._acquire()
            self.status = "T"
            return ToyResult("BEGIN", [])
        if word in ("COMMIT", "ROLLBACK"):
            return self._end(word)
        if self.status == "I":
            if (
                word == "SELECT"
                and self.db.bug == "stale-read"
                and self.db.old
                and self.db.rng.random() < 0.3
            ):
                return self._run(self.db.old, sql, params)
            await self._acquire()
            result = self._run(self.db.sql, sql, params)
            self._end("COMMIT")
            return result
        if self.node.body.rand.randrange(50) == 0 and self.db.bug != "lost-update":
            raise RetryError("the toy wants you to try again")
        if word != "SELECT":
            self._written.append((sql, tuple(params)))
            if self.db.bug == "torn" and len(self._written) > 1 and self.db.rng.random() < 0.05:
                return ToyResult("UPDATE 1", [])
        return self._run(self._view or self.db.sql, sql, params)

    def cancel(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True
        if self.status != "I":
            self._end("ROLLBACK")

    def _check_open(self) -> None:
        if self.closed:
            raise RetryError("the client hung up")

    async def _acquire(self) -> None:
        while True:
            if self.db.free():
                break
            await asyncio.sleep(0.001)
            self._check_open()
        self.db.owner = self
        self.db.sql.execute("BEGIN")

    def _end(self, word: str) -> ToyResult:
        written, self._written = self._written, []
        self.status = "I"
        if self._view is not None:
            self._view.close()
            self._view = None
            if word == "COMMIT":
                for sql, params in written:
                    self._run(self.db.sql, sql, params)
        else:
            if self.db.bug == "stale-read" and self.db.rng.random() < 0.2 and word == "COMMIT":
                self.db.old = None
            self.db.sql.execute(word)
            self.db.owner = None
            if self.db.bug == "stale-read" and self.db.old is None:
                self.db.old = self.db.copy(self.db)
        if word == "COMMIT" and written and self.node.body.rand.randrange(100) == 0:
            raise OutcomeUnknownError("the toy does not tell")
        return ToyResult(word, [])

    @staticmethod
    def _run(connection: sqlite3.Connection, sql: str, params: Sequence[Any]) -> ToyResult:
        text = re.sub(r"\$(\d)", r"?\1", sql).replace(" FOR UPDATE", "")
        cursor = connection.execute(text, tuple(params))
        rows = cursor.fetchall()
        return ToyResult(f"{text.split()[0]} {max(cursor.rowcount, len(rows))}", rows)


class Rangeless:
    """What the simulator asks of a brain (`txndb.sim.host.Brain`) that has no ranges, nor anything else to look at."""

    async def close(self) -> None:
        pass

    def transfer_lease(self, draw: int) -> None:
        pass

    async def drain(self) -> None:
        pass

    def validate(self) -> None:
        pass

    async def split_at_work(self, kind: str) -> None:
        pass

    def handed(self) -> dict[int, int]:
        return {}

    def leads(self) -> list[int]:
        return []

    def raft_logs(self) -> dict[int, dict[int, tuple[int, bytes]]]:
        return {}

    def reigns(self) -> dict[int, int]:
        return {}

    def leases(self) -> list[int]:
        return []

    def applied(self, after: dict[int, int]) -> dict[int, list[tuple[int, int]]]:
        return {}

    def replica_digests(self) -> dict[int, tuple[int, bytes]]:
        return {}

    def pending(self) -> list[str]:
        return []


class ToyNode(Rangeless):
    def __init__(self, body: SimBody, db: ToyDatabase) -> None:
        self.body = body
        self.db = db
        self.number = NodeId(body.host.machine)
        self.peers_up: dict[NodeId, bool] = {}
        self.engine = body.open_engine()
        self.frames = 0

    async def start(self, join: list[str], advertise: str) -> None:
        self.body.transport.start(self.number, 1, b"toy", self)
        for address in join:
            answer = await self.body.transport.call(address, "join", advertise.encode(), 5_000_000)
            assert answer == b"welcome " + advertise.encode()
        for machine in range(1, 8):
            self.body.transport.set_address(NodeId(machine), f"10.0.0.{machine}:7000")
        await self.body.engine_io.run(self.engine.sync)

    async def new_session(self, user: str, database: str) -> ToySession:
        assert (user, database) == ("root", "defaultdb")
        return ToySession(self, self.body.incarnation)

    def validate(self) -> None:
        assert all(isinstance(up, bool) for up in self.peers_up.values())

    def replica_digests(self) -> dict[int, tuple[int, bytes]]:
        return {1: (0, b"same")} if self.number <= 3 else {}

    def tell(self, payload: bytes) -> None:
        for peer in sorted(self.peers_up):
            self.body.transport.send(peer, payload)

    # --- Receiver

    def on_message(self, sender: NodeId, payload: bytes) -> None:
        self.frames += 1
        batch = WriteBatch()
        batch.put(self.frames.to_bytes(8, "big"), payload)
        self.engine.write(batch)

    def on_peer_up(self, peer: NodeId) -> None:
        self.peers_up[peer] = True

    def on_peer_down(self, peer: NodeId) -> None:
        del self.peers_up[peer]

    async def on_call(self, method: str, payload: bytes) -> bytes:
        if method == "join":
            return b"welcome " + payload
        raise InternalError(f"no method {method}")

    async def on_snapshot(self, sender: NodeId, header: bytes, chunks: Any) -> bytes:
        received = [chunk async for chunk in chunks]
        return header + b"".join(received)


def toy_parts(bug: str = "") -> Parts:
    """A world's parts with the toy inside."""
    db = ToyDatabase(bug)

    async def open_brain(body: SimBody) -> ToyNode:
        return ToyNode(body, db)

    return Parts(open_brain)


def torn_parts() -> Parts:
    """A toy whose commits are sometimes torn."""
    return toy_parts("torn")
