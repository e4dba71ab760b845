"""The wire forms of SQL types for the PostgreSQL front door, from `txndb.sql.types`.

Contexts are kept per time zone: the only session setting that shows in a value's text. A text parameter such as 'now'
reads the node's wall clock, since no transaction has begun when a Bind is decoded.
"""

from __future__ import annotations

import time
from typing import Any, Final

from txndb.server.pg_contract import Decoder, Encoder
from txndb.sql.types.binio import binary_decoder, binary_encoder
from txndb.sql.types.context import EvalContext
from txndb.sql.types.core import REG_OIDS, TEXT, find_type
from txndb.sql.types.textio import text_decoder, text_encoder
from txndb.sql.types.zones import zone_by_name

_EPOCH_2000_US: Final = 946_684_800 * 1_000_000
_CONTEXTS_MAX: Final = 256


def _wall_clock_us() -> int:
    return time.time_ns() // 1000 - _EPOCH_2000_US


class SqlTypeIO:
    """`TypeIO` over the SQL types. A type unknown here travels as text."""

    __slots__ = ("_contexts",)

    def __init__(self) -> None:
        self._contexts: dict[str, EvalContext] = {}

    def _context(self, time_zone: str) -> EvalContext:
        context = self._contexts.get(time_zone)
        if context is None:
            if len(self._contexts) >= _CONTEXTS_MAX:
                self._contexts.clear()
            context = EvalContext(zone=zone_by_name(time_zone), clock_us=_wall_clock_us)
            self._contexts[time_zone] = context
        return context

    def bound(self, type_oid: int) -> bool:
        """regclass and its kin, and arrays of them, are written as names of the session's catalogue."""
        sql_type = find_type(type_oid)
        return sql_type is not None and (type_oid in REG_OIDS or sql_type.element in REG_OIDS)

    def encoder(self, type_oid: int, typmod: int, wire_format: int, time_zone: str, env: Any) -> Encoder:
        """The encoder of a result column. The modifier was applied when the value was made."""
        sql_type = find_type(type_oid) or TEXT
        if wire_format:
            return binary_encoder(sql_type)
        return text_encoder(sql_type, env if self.bound(type_oid) else self._context(time_zone))

    def decoder(self, type_oid: int, wire_format: int, time_zone: str, env: Any) -> Decoder:
        """The decoder of a parameter."""
        sql_type = find_type(type_oid) or TEXT
        if wire_format:
            return binary_decoder(sql_type)
        return text_decoder(sql_type, env if self.bound(type_oid) else self._context(time_zone))
