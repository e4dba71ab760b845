"""Descriptors: what the catalogue stores about each object, one msgspec value a row.

All objects take their id from one counter, so an id is also the object's oid in pg_catalog. A change writes a new
descriptor under the same id; nothing else refers to a descriptor by value.

Invariants:
1. A column's `position` is its place in the stored row array; it is never reused, not even after DROP COLUMN (rule D8).
2. `missing` is fixed when the column is added; rows shorter than `position` have that value (rule D8).
3. `primary` always exists: a table without a primary key has one over its hidden column `rowid`.
4. An index's entries live under (table id, index id); a rewrite gives the index a new id, never the same one again.
"""

from __future__ import annotations

from typing import Final

import msgspec

FIRST_USER_ID: Final = 16384
"""Ids below are built-in objects', as in PostgreSQL."""

PUBLIC_SCHEMA_ID: Final = 2200
DEFAULTDB_ID: Final = 100
POSTGRES_DB_ID: Final = 101
ROOT_ROLE_ID: Final = 10
POSTGRES_ROLE_ID: Final = 102

ROWID: Final = "rowid"


class ColumnDesc(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column. `default` is SQL text; `missing` is the text form of the value of rows older than the column."""

    position: int
    name: str
    type_oid: int
    typmod: int = -1
    not_null: bool = False
    default: str | None = None
    missing: str | None = None
    sequence_id: int = 0
    """The sequence a SERIAL column owns, 0 for none."""
    hidden: bool = False
    identity: str = ""
    """GENERATED … AS IDENTITY: "a"lways (a value is given by OVERRIDING SYSTEM VALUE only) or by "d"efault."""


class IndexDesc(msgspec.Struct, frozen=True, omit_defaults=True):
    """An index: key columns by position, in key order; ascending sorts NULL last, descending NULL first."""

    id: int
    name: str
    columns: tuple[int, ...]
    descending: tuple[bool, ...]
    unique: bool = False
    constraint: bool = False
    """Whether it implements a UNIQUE or PRIMARY KEY constraint of the same name."""


class CheckDesc(msgspec.Struct, frozen=True):
    """A CHECK constraint; `expression` is SQL text over the table's columns."""

    name: str
    expression: str


class TableDesc(msgspec.Struct, frozen=True, omit_defaults=True, tag="table"):
    """A table with its indexes and constraints. `columns` are the live ones, by ascending position."""

    id: int
    database_id: int
    schema_id: int
    name: str
    columns: tuple[ColumnDesc, ...]
    next_position: int
    primary: IndexDesc
    has_primary_key: bool
    indexes: tuple[IndexDesc, ...] = ()
    checks: tuple[CheckDesc, ...] = ()

    def column(self, name: str) -> ColumnDesc | None:
        """The live column of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        return None

    def column_at(self, position: int) -> ColumnDesc:
        """The live column stored at `position`."""
        for column in self.columns:
            if column.position == position:
                return column
        raise KeyError(position)


class SequenceDesc(msgspec.Struct, frozen=True, omit_defaults=True, tag="sequence"):
    """A sequence; its value lives under its own key, outside transactions (as PostgreSQL's)."""

    id: int
    database_id: int
    schema_id: int
    name: str
    type_oid: int = 20
    start: int = 1
    increment: int = 1
    max_value: int = 2**63 - 1
    owner_table_id: int = 0
    owner_position: int = -1


class DatabaseDesc(msgspec.Struct, frozen=True, omit_defaults=True, tag="database"):
    """A database."""

    id: int
    name: str
    owner_id: int = ROOT_ROLE_ID


class SchemaDesc(msgspec.Struct, frozen=True, omit_defaults=True, tag="schema"):
    """A schema; `public` is one descriptor shared by all databases (its relations name their database)."""

    id: int
    name: str
    owner_id: int = ROOT_ROLE_ID


class RoleDesc(msgspec.Struct, frozen=True, omit_defaults=True, tag="role"):
    """A role."""

    id: int
    name: str
    superuser: bool = True


Descriptor = TableDesc | SequenceDesc | DatabaseDesc | SchemaDesc | RoleDesc

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Descriptor] = msgspec.msgpack.Decoder(Descriptor)


def encode_descriptor(descriptor: Descriptor) -> bytes:
    """The stored form."""
    return _encoder.encode(descriptor)


def decode_descriptor(data: bytes) -> Descriptor:
    """Inverse of `encode_descriptor`."""
    return _decoder.decode(data)
