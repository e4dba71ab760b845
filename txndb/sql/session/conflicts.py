"""Words for a lost transaction: which table, which key."""

from __future__ import annotations

from txndb.encoding.keys import decode_table_prefix, key_decoder
from txndb.errors import RetryError
from txndb.sql import types
from txndb.sql.catalog.descriptors import TableDesc
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.types.core import type_by_oid


def describe_conflict(error: RetryError, catalog: Catalog) -> None:
    """Add table, index and key values to an error that knows only the key's bytes; nothing for keys of no table."""
    place = decode_table_prefix(error.key)
    if place is None:
        return
    table_id, index_id, offset = place
    table = catalog.by_id(table_id)
    if not isinstance(table, TableDesc):
        return
    error.table = table.name
    for index in (table.primary, *table.indexes):
        if index.id == index_id:
            columns = [table.column_at(position) for position in index.columns]
            try:
                values = key_decoder(index.descending)(error.key, offset)
            except (ValueError, IndexError):
                values = ()  # a span's bound, or only the beginning of a key
            names = ", ".join(c.name for c in columns[: len(values)])
            texts = ", ".join(
                "null" if v is None else types.format_text(type_by_oid(c.type_oid), v)
                for c, v in zip(columns, values, strict=False)
            )
            key = f" key ({names})=({texts})" if values else ""
            error.detail += f' Conflict on table "{table.name}"{key}.'
