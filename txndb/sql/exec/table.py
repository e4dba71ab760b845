"""How a table's rows and index entries are stored: codecs made once per table descriptor.

Primary entries: key = index prefix + primary key columns, value = the whole row (every position). Secondary entries:
key = index prefix + indexed columns (+ the primary key, if the index is not unique or an indexed column is NULL), value
= an entry row of the indexed columns and the other primary key columns, so that it can be filtered and covered by one
decode, without parsing keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from txndb.encoding.keys import NULL, NULL_DESC, index_prefix, key_encoder, prefix_end
from txndb.encoding.rows import row_codec
from txndb.sql import types
from txndb.sql.catalog.descriptors import ColumnDesc, IndexDesc, TableDesc
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.plan.access import stored_positions
from txndb.sql.types.core import SqlType, type_by_oid

Row = tuple[Any, ...]


def column_type(column: ColumnDesc) -> SqlType:
    """A column's type with its modifier."""
    return type_by_oid(column.type_oid).with_typmod(column.typmod)


def _strip(value: str | None) -> str | None:
    return None if value is None else value.rstrip(" ")


class IndexCodec:
    """Keys and entries of one index."""

    __slots__ = (
        "columns",
        "decode",
        "descending",
        "encode_entry",
        "encode_full",
        "encoder_all",
        "end",
        "id",
        "index",
        "kinds",
        "pads",
        "pk_slots",
        "prefix",
        "primary",
        "start",
        "stored",
        "unique",
    )

    def __init__(
        self, table: TableDesc, index: IndexDesc, kinds: Sequence[str], pads: frozenset[int]
    ) -> None:
        self.index = index
        self.id = index.id
        self.primary = index.id == table.primary.id
        self.unique = index.unique or self.primary
        self.columns = index.columns
        self.descending = index.descending
        self.prefix = index_prefix(table.id, index.id)
        self.start, self.end = self.prefix, prefix_end(self.prefix)
        self.kinds = tuple(kinds[p] for p in index.columns)
        self.pads = tuple(p in pads for p in index.columns)
        pk = table.primary.columns
        full = (*index.columns, *pk)
        self.encode_full = key_encoder(
            [kinds[p] for p in full],
            (*index.descending, *(False for _ in pk)),
            self.prefix,
        )
        self.encoder_all = self.encoder(len(index.columns))
        self.stored = stored_positions(table, index)
        self.encode_entry, self.decode = row_codec([kinds[p] for p in self.stored])
        self.pk_slots = tuple(self.stored.index(p) for p in pk)

    def encoder(self, count: int) -> Callable[[Sequence[Any]], bytes]:
        """An encoder of the first `count` key columns."""
        return key_encoder(self.kinds[:count], self.descending[:count], self.prefix)

    def normalize(self, values: Sequence[Any]) -> Sequence[Any]:
        """Values as they are keyed: CHAR(n) without its padding."""
        if True not in self.pads:
            return values
        return [_strip(v) if p else v for v, p in zip(values, self.pads, strict=False)]

    def null_bound(self, position: int) -> bytes:
        """The NULL element of a key column."""
        return NULL_DESC if self.descending[position] else NULL


class TableCodec:
    """Everything needed to read and write a table's rows."""

    __slots__ = (
        "decode",
        "encode",
        "key_of",
        "kinds",
        "missing",
        "pads",
        "primary",
        "primary_key_of_values",
        "secondary",
        "table",
        "types",
        "width",
    )

    def __init__(self, table: TableDesc) -> None:
        self.table = table
        self.width = table.next_position
        kinds = ["dropped"] * self.width
        missing: list[Any] = [None] * self.width
        self.types: list[SqlType | None] = [None] * self.width
        pads: set[int] = set()
        for column in table.columns:
            type_ = column_type(column)
            kinds[column.position] = type_.kind
            self.types[column.position] = type_
            if column.missing is not None:
                missing[column.position] = types.parse_text(type_, column.missing)
            if type_.oid == 1042:
                pads.add(column.position)
        self.kinds = tuple(kinds)
        self.missing = tuple(missing)
        self.pads = frozenset(pads)
        self.encode, self.decode = row_codec(kinds, missing)
        self.primary = IndexCodec(table, table.primary, kinds, self.pads)
        self.secondary = tuple(IndexCodec(table, index, kinds, self.pads) for index in table.indexes)
        encode = self.primary.encoder(len(table.primary.columns))
        normalize = self.primary.normalize if any(self.primary.pads) else None
        self.primary_key_of_values = (
            encode if normalize is None else (lambda values, e=encode, n=normalize: e(n(values)))
        )
        self.key_of = _key_of(table.primary.columns, self.primary_key_of_values)

    def entry(self, codec: IndexCodec, row: Sequence[Any]) -> tuple[bytes, bytes]:
        """A secondary index's (key, value) for a row."""
        values = codec.normalize([row[p] for p in codec.columns])
        pk = self.primary.normalize([row[p] for p in self.table.primary.columns])
        if codec.unique and None not in values:
            key = codec.encoder_all(values)
        else:
            key = codec.encode_full([*values, *pk])
        return key, codec.encode_entry([row[p] for p in codec.stored])

    def index_codec(self, index_id: int) -> IndexCodec:
        """The codec of one index."""
        if index_id == self.primary.id:
            return self.primary
        return next(c for c in self.secondary if c.id == index_id)


def _key_of(positions: Sequence[int], encode: Callable[[Sequence[Any]], bytes]) -> Callable[[Row], bytes]:
    if len(positions) == 1:
        only = positions[0]
        return lambda row: encode((row[only],))
    return lambda row: encode([row[p] for p in positions])


def table_codec(catalog: Catalog, table: TableDesc) -> TableCodec:
    """The codec of a table, made once per catalogue version."""
    found = catalog.derived.get(("codec", table.id))
    if isinstance(found, TableCodec) and found.table is table:
        return found
    made = TableCodec(table)
    catalog.derived["codec", table.id] = made
    return made
