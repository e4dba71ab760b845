"""Where descriptors live in the key space, how a catalogue is read, and what exists from the start.

Under the system prefix: the version (a counter that every committed DDL raises), the id counter, one row a descriptor,
one row a sequence's next value, and the spans whose data no descriptor names any more (left by DROP and TRUNCATE).

Invariants:
1. The version row changes in the same transaction as any descriptor row.
2. Ids are allocated by transactions of their own, so that an open DDL transaction stops no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from txndb.errors import InternalError, RetryError, sql_error
from txndb.sql.catalog.descriptors import (
    DEFAULTDB_ID,
    FIRST_USER_ID,
    POSTGRES_DB_ID,
    POSTGRES_ROLE_ID,
    PUBLIC_SCHEMA_ID,
    ROOT_ROLE_ID,
    DatabaseDesc,
    Descriptor,
    RoleDesc,
    SchemaDesc,
    decode_descriptor,
    encode_descriptor,
)
from txndb.sql.catalog.snapshot import Catalog
from txndb.txn.api import KV, Lock, ReadView, Txn

SYSTEM: Final = b"\x08sql\x00"
VERSION_KEY: Final = SYSTEM + b"\x01version"
NEXT_ID_KEY: Final = SYSTEM + b"\x02next-id"
ROWID_KEY: Final = SYSTEM + b"\x03rowid"
_DESCRIPTOR: Final = SYSTEM + b"\x04"
_SEQUENCE: Final = SYSTEM + b"\x05"
_GARBAGE: Final = SYSTEM + b"\x06"

BLOCK_ATTEMPTS_MAX: Final = 100


def descriptor_key(object_id: int) -> bytes:
    """The row of a descriptor."""
    return _DESCRIPTOR + object_id.to_bytes(8, "big")


def sequence_key(sequence_id: int) -> bytes:
    """The row of a sequence's next value."""
    return _SEQUENCE + sequence_id.to_bytes(8, "big")


def garbage_key(table_id: int, index_id: int) -> bytes:
    """The row that says: no descriptor names the data of this index any more."""
    return _GARBAGE + table_id.to_bytes(8, "big") + index_id.to_bytes(8, "big")


def garbage_span() -> tuple[bytes, bytes]:
    """All garbage rows."""
    return _GARBAGE, _GARBAGE + b"\xff"


def parse_garbage_key(key: bytes) -> tuple[int, int]:
    """(table id, index id) of a garbage row."""
    rest = key[len(_GARBAGE) :]
    return int.from_bytes(rest[:8], "big"), int.from_bytes(rest[8:16], "big")


def encode_counter(value: int) -> bytes:
    """A stored counter."""
    return msgspec.msgpack.encode(value)


def decode_counter(data: bytes) -> int:
    """Inverse of `encode_counter`."""
    return msgspec.msgpack.decode(data, type=int)


def bootstrap_rows() -> list[tuple[bytes, bytes]]:
    """The rows of a new cluster: databases, the schema public, roles, counters."""
    descriptors: list[Descriptor] = [
        RoleDesc(ROOT_ROLE_ID, "root"),
        RoleDesc(POSTGRES_ROLE_ID, "postgres"),
        DatabaseDesc(DEFAULTDB_ID, "defaultdb"),
        DatabaseDesc(POSTGRES_DB_ID, "postgres"),
        SchemaDesc(PUBLIC_SCHEMA_ID, "public"),
    ]
    rows = [(descriptor_key(d.id), encode_descriptor(d)) for d in descriptors]
    rows.append((VERSION_KEY, encode_counter(1)))
    rows.append((NEXT_ID_KEY, encode_counter(FIRST_USER_ID)))
    return sorted(rows)


async def read_version(view: ReadView) -> int:
    """The catalogue's version at the view; in a transaction under a shared lock. Raises 22023 for a view of the time
    before there was one."""
    (data,) = await view.get([VERSION_KEY])
    if data is None:
        raise sql_error("22023", "the database did not exist at that time")
    return decode_counter(data)


async def load_catalog(view: ReadView, version: int) -> Catalog:
    """Decode all descriptors at the view."""
    descriptors: list[Descriptor] = []
    async for batch in view.scan(_DESCRIPTOR, _DESCRIPTOR + b"\xff"):
        descriptors += [decode_descriptor(value) for _, value in batch]
    return Catalog(version, descriptors)


def write_changes(txn: Txn, put: Iterable[Descriptor], dropped: Iterable[int]) -> None:
    """Buffer descriptor changes; the version is raised when the leases are revoked, at COMMIT (rule D2)."""
    for descriptor in put:
        txn.put(descriptor_key(descriptor.id), encode_descriptor(descriptor))
    for object_id in dropped:
        txn.delete(descriptor_key(object_id))


async def raise_version(txn: Txn) -> int:
    """Write version + 1; returns it."""
    (data,) = await txn.get([VERSION_KEY], Lock.EXCLUSIVE)
    if data is None:
        raise InternalError("the catalogue has no version row: the cluster was not bootstrapped")
    version = decode_counter(data) + 1
    txn.put(VERSION_KEY, encode_counter(version))
    return version


async def take_block(kv: KV, key: bytes, count: int, first: int) -> int:
    """Add `count` to the counter at `key` (first value `first`) in a transaction of its own; the value before."""
    age = None
    for _ in range(BLOCK_ATTEMPTS_MAX):
        txn = kv.begin(age)
        age = txn.age
        try:
            reads = kv.snapshot() if "sequence-unlocked" in kv.canaries else txn
            (data,) = await reads.get([key], Lock.EXCLUSIVE)
            value = first if data is None else decode_counter(data)
            txn.put(key, encode_counter(value + count))
            await txn.commit()
            return value
        except RetryError:
            await txn.rollback()
        except BaseException:
            await txn.rollback()
            raise
    raise RetryError("could not allocate from a counter: too much contention")


async def allocate_ids(kv: KV, count: int) -> int:
    """The first of `count` fresh object ids."""
    return await take_block(kv, NEXT_ID_KEY, count, FIRST_USER_ID)
