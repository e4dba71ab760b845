"""The real node below, a handful of statements above: the simulator's workloads on the transaction layer alone.

`KvSession` knows the workloads' statements by their shape and runs them on `txndb.txn.api`, so that a violation found
with it lies below SQL. Used as `--parts tests.sim.kvnode:kv_parts`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from tests.sim.toynode import ToyResult
from txndb.cluster.node import Node
from txndb.encoding.keys import encode_int, encode_str, index_prefix, prefix_end
from txndb.errors import RetryError, TxndbError
from txndb.ids import Timestamp
from txndb.sim.brain import NodeBrain, open_node
from txndb.sim.host import Parts, SimBody, SqlSession
from txndb.txn.api import Lock, ReadView, Snapshot, Txn

TABLES = {"accounts": 60, "ring": 61, "reg0": 62, "reg1": 63, "reg2": 64}
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode
Row = list[Any]


def row_key(table: str, k: int) -> bytes:
    return index_prefix(TABLES[table], 1) + encode_int(k)


def entry_key(table: str, value: Any) -> bytes:
    encoded = encode_str(value) if isinstance(value, str) else encode_int(value)
    return index_prefix(TABLES[table], 2) + encoded


class KvSession:
    """A session over begin, snapshot and commit."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._txn: Txn | None = None
        self._view: Snapshot | None = None
        self._age: tuple[Timestamp, bytes] | None = None

    @property
    def status(self) -> str:
        return "T" if self._txn is not None or self._view is not None else "I"

    async def execute(self, sql: str, params: tuple[Any, ...] = ()) -> ToyResult:
        if sql.startswith("BEGIN"):
            return self._begin(sql)
        if sql in ("COMMIT", "ROLLBACK"):
            return await self._end(sql)
        if sql.startswith("CREATE"):
            return ToyResult("CREATE", [])
        if split := re.match(r"ALTER TABLE (\w+) SPLIT AT VALUES \((\d+)\)", sql):
            await self._node.upkeep.split(row_key(split[1], int(split[2])))
            return ToyResult("ALTER TABLE", [])
        view = self._txn or self._view
        if view is not None:
            return await run_statement(view, sql, params)
        if sql.startswith("SELECT"):
            return await run_statement(self._node.snapshot(), sql, params)
        return await self._autocommit(sql, params)

    async def _autocommit(self, sql: str, params: tuple[Any, ...]) -> ToyResult:
        txn = self._node.begin(self._age)
        try:
            result = await run_statement(txn, sql, params)
            await txn.commit()
        except RetryError:
            self._age = txn.age
            await txn.rollback()
            raise
        except TxndbError:
            await txn.rollback()
            raise
        self._age = None
        return result

    def _begin(self, sql: str) -> ToyResult:
        if sql == "BEGIN READ ONLY":
            self._view = self._node.snapshot()
        else:
            self._txn = self._node.begin(self._age)
        return ToyResult("BEGIN", [])

    async def _end(self, word: str) -> ToyResult:
        txn, self._txn, self._view = self._txn, None, None
        if txn is not None and word == "ROLLBACK":
            self._age = txn.age
            await txn.rollback()
        elif txn is not None:
            self._age = txn.age
            try:
                await txn.commit()
            except TxndbError:
                await txn.rollback()
                raise
            self._age = None
        return ToyResult(word, [])

    def cancel(self) -> None:
        pass

    async def close(self) -> None:
        await self._end("ROLLBACK")


async def _rows(view: ReadView, table: str, low: int, high: int) -> list[Row]:
    start = row_key(table, low)
    end = row_key(table, high) if high else prefix_end(index_prefix(TABLES[table], 1))
    return [_decode(value) async for batch in view.scan(start, end) for _, value in batch]


async def _row(view: ReadView, table: str, k: int, lock: Lock = Lock.SHARED) -> Row | None:
    (value,) = await view.get([row_key(table, k)], lock)
    return None if value is None else _decode(value)


async def _by_entry(view: ReadView, table: str, value: Any) -> Row | None:
    (entry,) = await view.get([entry_key(table, value)])
    return None if entry is None else await _row(view, table, _decode(entry)[0])


def _store(view: ReadView, table: str, row: Row, old: Row | None) -> None:
    """Buffer a row and its index entries."""
    txn = cast(Txn, view)
    txn.put(row_key(table, row[0]), _encode(row))
    if table == "reg1" and old is None:
        txn.put(entry_key(table, row[1]), _encode([row[0]]))
    elif table == "reg2":
        if old is not None:
            txn.delete(entry_key(table, old[1]))
        txn.put(entry_key(table, row[1]), _encode([row[0]]))


async def _insert(view: ReadView, match: re.Match[str], params: tuple[Any, ...]) -> ToyResult:
    table = match[1]
    for values in re.findall(r"\((\d+), (\d+)\)", match[2]):
        row = [int(value) for value in values]
        _store(view, table, [*row, 0] if table == "accounts" else row, None)
    return ToyResult("INSERT 0 1", [])


async def _upsert(view: ReadView, match: re.Match[str], params: tuple[Any, ...]) -> ToyResult:
    table = match[1]
    old = await _row(view, table, params[0], Lock.EXCLUSIVE)
    _store(view, table, list(params), old)
    return ToyResult("INSERT 0 1", [])


async def _select_all(view: ReadView, match: re.Match[str], params: tuple[Any, ...]) -> ToyResult:
    bound = params[0] if params else 0
    low, high = (0, bound) if match[2] == "<" else (bound, 0)
    return ToyResult("SELECT", [tuple(row) for row in await _rows(view, match[1], low, high)])


async def _select_row(view: ReadView, match: re.Match[str], params: tuple[Any, ...]) -> ToyResult:
    lock = Lock.EXCLUSIVE if match[3] else Lock.SHARED
    row = await _row(view, match[2], params[0], lock)
    if row is None:
        return ToyResult("SELECT", [])
    return ToyResult("SELECT", [tuple(row[1:]) if "," in match[1] else (row[-1],)])


async def _select_by_entry(view: ReadView, match: re.Match[str], params: tuple[Any, ...]) -> ToyResult:
    row = await _by_entry(view, match[2], params[0])
    return ToyResult("SELECT", [(row[0] if match[1] == "k" else row[2],)] if row is not None else [])


async def _transfer(view: ReadView, match: re.Match[str], params: tuple[Any, ...]) -> ToyResult:
    row = await _row(view, "accounts", params[0], Lock.EXCLUSIVE)
    if row is None or row[1] + params[1] < 0:
        return ToyResult("UPDATE 0", [])
    new = [row[0], row[1] + params[1], row[2] + 1]
    _store(view, "accounts", new, row)
    return ToyResult("UPDATE 1", [tuple(new)])


async def _update(view: ReadView, match: re.Match[str], params: tuple[Any, ...]) -> ToyResult:
    table, old_value, new_value = match[1], None, params[1:]
    if match[2]:
        old_value, new_value = params[1], params[2:]
    row = await _row(view, table, params[0], Lock.EXCLUSIVE)
    if row is None or (match[2] and row[-1] != old_value):
        return ToyResult("UPDATE 0", [])
    _store(view, table, [*row[: len(row) - len(new_value)], *new_value], row)
    return ToyResult("UPDATE 1", [])


Statement = Callable[[ReadView, re.Match[str], tuple[Any, ...]], Awaitable[ToyResult]]
_STATEMENTS: list[tuple[str, Statement]] = [
    (r"INSERT INTO (\w+)(?: \(.*?\))? VALUES (\(\d.*)", _insert),
    (r"INSERT INTO (\w+) VALUES .* ON CONFLICT", _upsert),
    (r"SELECT (v|k) FROM (reg\d) WHERE (?:name|v) = \$1", _select_by_entry),
    (r"SELECT (.*) FROM (\w+) WHERE \w+ = \$1( FOR UPDATE)?", _select_row),
    (r"SELECT .* FROM (\w+)(?: WHERE id (<|>=) \$1)?", _select_all),
    (r"UPDATE accounts .* RETURNING", _transfer),
    (r"UPDATE (\w+) SET .* WHERE \w+ = \$1( AND v = \$2)?", _update),
]


async def run_statement(view: ReadView, sql: str, params: tuple[Any, ...]) -> ToyResult:
    """Run one of the workloads' statements."""
    for pattern, statement in _STATEMENTS:
        match = re.match(pattern, sql)
        if match is not None:
            return await statement(view, match, params)
    raise AssertionError(f"not one of the workloads' statements: {sql}")


class KvBrain(NodeBrain):
    """The real node with `KvSession`s."""

    async def new_session(self, user: str, database: str) -> SqlSession:
        return KvSession(self.node)


def kv_parts() -> Parts:
    """A world's parts with the real transaction layer and no SQL."""

    async def open_brain(body: SimBody) -> KvBrain:
        return KvBrain(await open_node(body))

    return Parts(open_brain)
