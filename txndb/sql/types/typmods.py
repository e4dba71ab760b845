"""Applying a type's modifier to a value: VARCHAR(n), CHAR(n), NUMERIC(p,s), TIMESTAMP(p), INTERVAL(p).

An assignment refuses what does not fit (22001, except surplus blanks); an explicit cast cuts characters off. NUMERIC
rounds and refuses too large values (22003) in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txndb.errors import sql_error
from txndb.sql.types.calendar import round_timestamp
from txndb.sql.types.core import SqlType, character_length, element_of
from txndb.sql.types.decimals import apply_numeric_typmod
from txndb.sql.types.interval import apply_interval_typmod


def fit_varchar(value: str, length: int) -> str:
    """VARCHAR(n) on assignment: surplus blanks are cut, anything else is an error."""
    if len(value) <= length:
        return value
    if value[length:].strip(" "):
        raise sql_error("22001", f"value too long for type character varying({length})")
    return value[:length]


def fit_char(value: str, length: int) -> str:
    """CHAR(n) on assignment: padded with blanks, surplus blanks cut."""
    if len(value) <= length:
        return value.ljust(length)
    if value[length:].strip(" "):
        raise sql_error("22001", f"value too long for type character({length})")
    return value[:length]


def cut_char(value: str, length: int) -> str:
    """CHAR(n) by explicit cast."""
    return value[:length].ljust(length)


def typmod_applier(sql_type: SqlType, *, explicit: bool) -> Callable[[Any], Any] | None:
    """The function that makes a value fit the type's modifier, or None when there is nothing to do."""
    typmod = sql_type.typmod
    if typmod < 0:
        return None
    if sql_type.element:
        return _array_applier(sql_type, explicit)
    if sql_type.oid == 1043:
        length = character_length(typmod)
        return (lambda value: value[:length]) if explicit else (lambda value: fit_varchar(value, length))
    if sql_type.oid == 1042:
        length = character_length(typmod)
        return (
            (lambda value: cut_char(value, length)) if explicit else (lambda value: fit_char(value, length))
        )
    if sql_type.oid == 1700:
        return lambda value: apply_numeric_typmod(value, typmod)
    if sql_type.oid in (1114, 1184):
        return lambda value: round_timestamp(value, typmod)
    if sql_type.oid == 1186:
        return lambda value: apply_interval_typmod(value, typmod)
    return None


def _array_applier(sql_type: SqlType, explicit: bool) -> Callable[[Any], Any] | None:
    element = element_of(sql_type)
    apply = typmod_applier(element, explicit=explicit) if element is not None else None
    if apply is None:
        return None

    def each(value: list[Any]) -> list[Any]:
        return [None if v is None else each(v) if isinstance(v, list) else apply(v) for v in value]

    return each
