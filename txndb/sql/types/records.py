"""Values of rows, `ROW(…)` and a table's name used as a value: tuples that know the types of their fields.

A record's type does not say what its fields are, so the value does; each combination of types has a class of its own,
made once. A record of another origin, a plain tuple, has texts and booleans only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

from txndb.sql.types.core import TEXT, SqlType


class Record(tuple[Any, ...]):
    """A row value."""

    __slots__ = ()
    types: ClassVar[tuple[SqlType, ...]] = ()


@lru_cache(maxsize=1024)
def record_class(types: tuple[SqlType, ...]) -> type[Record]:
    """The class of records with fields of these types."""
    return type("Record", (Record,), {"__slots__": (), "types": types})


def field_types(value: tuple[Any, ...]) -> tuple[SqlType, ...]:
    """The types of a row value's fields."""
    if isinstance(value, Record):
        return value.types
    return tuple(TEXT for _ in value)
