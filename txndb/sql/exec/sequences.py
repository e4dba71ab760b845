"""Sequences: numbers handed out from blocks that each node takes by transactions of its own.

Unique and roughly increasing, without a hot row; as PostgreSQL's with CACHE, a sequence is not transactional and has
gaps. `nextval` is called from compiled expressions and cannot wait: when the block is used up it raises
`NeedNumbers`, the caller gives back what the batch had drawn until then, awaits `refill` and evaluates it again: so a
batch of n rows takes n numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from txndb.errors import SqlError, sql_error
from txndb.sql.catalog.descriptors import SequenceDesc
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.catalog.store import ROWID_KEY, encode_counter, sequence_key, take_block
from txndb.sql.catalog.virtual import CatalogContext, CatalogFunction
from txndb.sql.exec.context import NeedNumbers
from txndb.txn.api import KV

BLOCK_NUMBERS: Final = 64
ROWID_BLOCK: Final = 1024
ROWID_SEQUENCE: Final = 0


class _Block(msgspec.Struct):
    next: int
    end: int


class SequenceCache:
    """A node's blocks, shared by its sessions."""

    def __init__(self, kv: KV) -> None:
        self._kv = kv
        self._blocks: dict[int, _Block] = {}

    def take(self, sequence_id: int) -> int:
        """The next raw number (0, 1, 2, … of the counter); NeedNumbers when the block is empty."""
        block = self._blocks.get(sequence_id)
        if block is None or block.next >= block.end:
            raise NeedNumbers(sequence_id)
        number = block.next
        block.next = number + 1
        return number

    async def refill(self, sequence_id: int, count: int) -> None:
        """Take a block of at least `count` numbers."""
        if sequence_id == ROWID_SEQUENCE:
            size = max(ROWID_BLOCK, count)
            first = await take_block(self._kv, ROWID_KEY, size, 1)
        else:
            # one number a call until a sequence is used in bulk would cost a transaction each
            size = max(BLOCK_NUMBERS, count)
            first = await take_block(self._kv, sequence_key(sequence_id), size, 0)
        block = self._blocks.get(sequence_id)
        if block is not None and block.end == first:
            block.end = first + size  # nobody else took one in between: what is left goes on without a gap
        else:
            self._blocks[sequence_id] = _Block(first, first + size)

    def give_back(self, sequence_id: int, number: int) -> None:
        """Everything from `number` on was drawn by an evaluation that failed; nobody can have drawn since."""
        block = self._blocks.get(sequence_id)
        if block is not None and number < block.next:
            block.next = number

    def forget(self, sequence_id: int) -> None:
        """Drop the cached block (after setval)."""
        self._blocks.pop(sequence_id, None)


class SequenceState:
    """One session's side: what currval and lastval answer."""

    def __init__(self, cache: SequenceCache) -> None:
        self.cache = cache
        self.current: dict[int, int] = {}
        self.last: int | None = None
        self.written: list[tuple[int, int]] = []
        """What setval() wrote in this statement, whose batch is evaluated again after each write."""
        self.drawn: dict[int, int] = {}
        """The first number drawn from each sequence by the evaluation under way."""

    def _take(self, sequence_id: int) -> int:
        number = self.cache.take(sequence_id)
        if sequence_id not in self.drawn:
            self.drawn[sequence_id] = number
        return number

    def give_back(self) -> None:
        """The evaluation under way failed for want of numbers: it has drawn none. Before anything is awaited."""
        for sequence_id, number in self.drawn.items():
            self.cache.give_back(sequence_id, number)
        self.drawn.clear()

    def next_rowid(self) -> int:
        """The next hidden row id."""
        return self._take(ROWID_SEQUENCE)

    def nextval(self, sequence: SequenceDesc) -> int:
        """nextval()."""
        value = sequence.start + self._take(sequence.id) * sequence.increment
        if value > sequence.max_value:
            raise sql_error(
                "2200H",
                f'nextval: reached maximum value of sequence "{sequence.name}" ({sequence.max_value})',
            )
        self.current[sequence.id] = value
        self.last = value
        return value

    def reset(self) -> None:
        """DISCARD SEQUENCES."""
        self.current.clear()
        self.last = None


def _sequence(catalog: Catalog, oid: int) -> SequenceDesc:
    found = catalog.by_id(oid)
    if not isinstance(found, SequenceDesc):
        name = getattr(found, "name", None)
        if name is None:
            raise sql_error("42P01", f"could not open relation with OID {oid}")
        raise sql_error("42809", f'"{name}" is not a sequence')
    return found


def _nextval(context: CatalogContext, oid: int) -> int:
    return _state(context).nextval(_sequence(context.catalog, oid))


def _currval(context: CatalogContext, oid: int) -> int:
    sequence = _sequence(context.catalog, oid)
    value = _state(context).current.get(sequence.id)
    if value is None:
        raise sql_error("55000", f'currval of sequence "{sequence.name}" is not yet defined in this session')
    return value


def _lastval(context: CatalogContext) -> int:
    value = _state(context).last
    if value is None:
        raise sql_error("55000", "lastval is not yet defined in this session")
    return value


class NeedSetval(NeedNumbers):
    """setval() has to write: done by the caller, then evaluated again."""

    def __init__(self, sequence_id: int, raw: int) -> None:
        super().__init__(sequence_id)
        self.raw = raw


def _setval(context: CatalogContext, oid: int, value: int) -> int:
    return _setval_called(context, oid, value, True)


def _setval_called(context: CatalogContext, oid: int, value: int, called: bool) -> int:
    sequence = _sequence(context.catalog, oid)
    if not sequence.start <= value <= sequence.max_value:
        raise _out_of_bounds(sequence, value)
    state = _state(context)
    raw = (value - sequence.start) // sequence.increment + (1 if called else 0)
    if (sequence.id, raw) in state.written:
        if called:
            state.current[sequence.id] = value
        return value
    raise NeedSetval(sequence.id, raw)


def _out_of_bounds(sequence: SequenceDesc, value: int) -> SqlError:
    return sql_error(
        "22003",
        f'setval: value {value} is out of bounds for sequence "{sequence.name}" '
        f"({sequence.start}..{sequence.max_value})",
    )


def _state(context: CatalogContext) -> SequenceState:
    state: Any = context.sequences
    assert isinstance(state, SequenceState)
    return state


async def set_sequence(kv: KV, sequence_id: int, raw: int) -> None:
    """Write a sequence's counter, in a transaction of its own."""
    from txndb.errors import RetryError

    age = None
    while True:
        txn = kv.begin(age)
        age = txn.age
        try:
            await txn.lock([sequence_key(sequence_id)])
            txn.put(sequence_key(sequence_id), encode_counter(raw))
            await txn.commit()
            return
        except RetryError:
            await txn.rollback()


def sequence_functions() -> list[CatalogFunction]:
    """nextval, currval, lastval, setval."""
    regclass, int8, boolean = 2205, 20, 16
    rows: list[tuple[str, tuple[int, ...], Callable[..., Any]]] = [
        ("nextval", (regclass,), _nextval),
        ("currval", (regclass,), _currval),
        ("lastval", (), _lastval),
        ("setval", (regclass, int8), _setval),
        ("setval", (regclass, int8, boolean), _setval_called),
    ]
    return [CatalogFunction(name, args, int8, fn) for name, args, fn in rows]
