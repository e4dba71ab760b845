"""The wire form of results and parameters, made once per statement and reused.

A shape is what depends on a result's columns but not on its rows: the RowDescription and the function that encodes
rows. A hot statement meets its shape by its SQL text; the entry is checked against the columns at hand (identity first,
so the check is cheap), so a changed table never meets an old shape.

Invariants:
1. Both caches are bounded by CACHE_ENTRIES_MAX; when full they start over, which costs a rebuild and nothing else.
2. A shape is used only for columns equal to those it was made for, the same formats and the same time zone. What is
   bound to one session is never kept.
3. A value that its type cannot send is an error of its statement (XX000), not the end of its connection.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from typing import Any, Final

from txndb.errors import InternalError, ProtocolError
from txndb.pgwire import backend
from txndb.server.pg_contract import Decoder, TypeIO, WireColumn, WireSession

CACHE_ENTRIES_MAX: Final = 1024
_UNSENDABLE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error)
"""What encoders raise for a value that is none of their type's."""

log = logging.getLogger(__name__)


class Shape:
    """How rows of certain columns travel."""

    __slots__ = ("_encode", "description")

    def __init__(self, description: bytes, encode: backend.RowsEncoder) -> None:
        self.description = description
        self._encode = encode

    def encode(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """The DataRow messages of some rows. Raises `InternalError` for a value that is not of its column's type."""
        try:
            return self._encode(rows)
        except _UNSENDABLE as error:
            log.exception("a result cannot be sent")
            raise InternalError(
                "a value of the result cannot be sent as its column's type",
                detail=f"{type(error).__name__}: {error}",
            ) from error


class _Entry:
    __slots__ = ("columns", "shapes")

    def __init__(self, columns: Sequence[WireColumn]) -> None:
        self.columns = columns
        self.shapes: dict[tuple[tuple[int, ...], str], Shape] = {}


def spread(formats: tuple[int, ...], count: int) -> tuple[int, ...]:
    """One format per item: none given = all text, one = for all."""
    if not formats:
        return (0,) * count
    if len(formats) == 1:
        return formats * count
    if len(formats) != count:
        raise ProtocolError(f"bind message has {len(formats)} formats but there are {count} items")
    return formats


class Shapes:
    """The caches of one server."""

    __slots__ = ("_decoders", "_entries", "_types")

    def __init__(self, types: TypeIO) -> None:
        self._types = types
        self._entries: dict[str, _Entry] = {}
        self._decoders: dict[tuple[Sequence[int], tuple[int, ...], str], tuple[Decoder, ...]] = {}

    def shape(
        self, sql: str, columns: Sequence[WireColumn], formats: tuple[int, ...], session: WireSession
    ) -> Shape:
        """The shape of these columns in these formats; `sql` is where it is looked for."""
        time_zone = session.parameters["TimeZone"]
        entry = self._entries.get(sql)
        if entry is None or (entry.columns is not columns and entry.columns != columns):
            if len(self._entries) >= CACHE_ENTRIES_MAX:
                self._entries.clear()
            entry = self._entries[sql] = _Entry(columns)
        key = (formats, time_zone)
        shape = entry.shapes.get(key)
        if shape is None:
            shape = self._make(columns, formats, time_zone, session.env)
            if not any(self._types.bound(column.type_oid) for column in columns):
                if len(entry.shapes) >= CACHE_ENTRIES_MAX:
                    entry.shapes.clear()
                entry.shapes[key] = shape
        return shape

    def _make(
        self, columns: Sequence[WireColumn], formats: tuple[int, ...], time_zone: str, env: Any
    ) -> Shape:
        wide = spread(formats, len(columns))
        described = [
            backend.Column(c.name, c.table_oid, c.column_no, c.type_oid, c.type_len, c.typmod, code)
            for c, code in zip(columns, wide, strict=True)
        ]
        encoders = [
            self._types.encoder(c.type_oid, c.typmod, code, time_zone, env)
            for c, code in zip(columns, wide, strict=True)
        ]
        return Shape(backend.row_description(described), backend.row_encoder(encoders))

    def parameters(
        self, oids: Sequence[int], formats: tuple[int, ...], raw: list[bytes | None], session: WireSession
    ) -> list[Any]:
        """The values of a Bind's parameters."""
        if len(raw) != len(oids):
            text = f"bind message supplies {len(raw)} parameters, but prepared statement requires {len(oids)}"
            raise ProtocolError(text)
        if not raw:
            return []
        time_zone = session.parameters["TimeZone"]
        key = (tuple(oids), formats, time_zone)
        decoders = self._decoders.get(key)
        if decoders is None:
            wide = spread(formats, len(oids))
            env = session.env
            made = [
                self._types.decoder(oid, code, time_zone, env) for oid, code in zip(oids, wide, strict=True)
            ]
            decoders = tuple(made)
            if not any(self._types.bound(oid) for oid in oids):
                if len(self._decoders) >= CACHE_ENTRIES_MAX:
                    self._decoders.clear()
                self._decoders[key] = decoders
        return [None if value is None else decode(value) for decode, value in zip(decoders, raw, strict=True)]
