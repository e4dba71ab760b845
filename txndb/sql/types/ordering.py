"""Order, equality and hashing of values, per type.

`sort_key(type)` maps a value to something whose Python order is the type's SQL order, `group_key(type)` to something
hashable whose equality is the type's SQL equality (GROUP BY, DISTINCT, hash joins). None means that the value itself
will do. NULL is the caller's affair.
Text compares by code point (collation "C"; for UTF-8 the same as by byte). CHAR(n) ignores trailing blanks. NaN equals
itself and is greatest. Intervals compare at 30 days a month. Arrays compare element by element, NULL elements last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txndb.sql.types import decimals, interval
from txndb.sql.types.arithmetic import float_sort_key
from txndb.sql.types.casts import strip_blanks
from txndb.sql.types.core import SqlType, element_of

Key = Callable[[Any], Any]


def sort_key(sql_type: SqlType) -> Key | None:
    """The ordering key function of a type, None when values order by themselves."""
    if sql_type.kind == "float":
        return float_sort_key
    if sql_type.kind == "decimal":
        return decimals.sort_key
    if sql_type.kind == "interval":
        return interval.sort_key
    if sql_type.oid == 1042:
        return strip_blanks
    if sql_type.kind == "array":
        return _array_key(sql_type, sort_key)
    return _record_key if sql_type.kind == "record" else None


def group_key(sql_type: SqlType) -> Key | None:
    """The equality key function of a type, None when values compare and hash by themselves."""
    if sql_type.kind in ("float", "decimal"):
        return _not_nan
    if sql_type.kind == "interval":
        return interval.sort_key
    if sql_type.oid == 1042:
        return strip_blanks
    if sql_type.kind == "array":
        return _array_key(sql_type, group_key)
    return None


def _not_nan(value: Any) -> Any:
    return value if value == value else "NaN"


def _array_key(sql_type: SqlType, key_of: Callable[[SqlType], Key | None]) -> Key:
    element = element_of(sql_type)
    inner = key_of(element) if element is not None else None

    def key(value: list[Any]) -> tuple[Any, ...]:
        return tuple(
            (True, 0)
            if item is None
            else (False, key(item) if isinstance(item, list) else inner(item) if inner is not None else item)
            for item in value
        )

    return key


def _record_key(value: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((True, 0) if item is None else (False, item) for item in value)
