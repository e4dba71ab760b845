"""Array values (lists) under operators and functions: comparison, containment, concatenation, access.

An empty array has no dimensions. NULL elements are None. Subscripts start at 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txndb.errors import sql_error
from txndb.sql.types.core import TEXT, SqlType, element_of
from txndb.sql.types.ordering import group_key, sort_key


def identity(value: Any) -> Any:
    return value


Build = Callable[[tuple[SqlType, ...]], tuple[Callable[..., Any], str | None]]


def comparer(test: Callable[[Any, Any], bool]) -> Build:
    """A comparison operator on arrays of whatever element type."""

    def build(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
        key = sort_key(arg_types[0]) or identity
        return (lambda a, b: test(key(a), key(b))), None

    return build


def _elements(value: list[Any]) -> list[Any]:
    """The elements of all dimensions in order."""
    out: list[Any] = []
    for item in value:
        out.extend(_elements(item) if isinstance(item, list) else (item,))
    return out


def _keyed(arg_types: tuple[SqlType, ...]) -> Callable[[list[Any]], list[Any]]:
    key = group_key(arg_types[0]) or identity
    return lambda value: [key([item])[0] for item in _elements(value) if item is not None]


def build_contains(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    """a @> b: every element of b is in a (a NULL element is in nothing)."""
    keyed = _keyed(arg_types)

    def contains(a: list[Any], b: list[Any]) -> bool:
        have = set(keyed(a))
        return None not in _elements(b) and all(item in have for item in keyed(b))

    return contains, None


def build_contained(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    contains, _ = build_contains(arg_types)
    return (lambda a, b: contains(b, a)), None


def build_overlaps(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    """a && b: some element is in both."""
    keyed = _keyed(arg_types)

    def overlaps(a: list[Any], b: list[Any]) -> bool:
        have = set(keyed(a))
        return any(item in have for item in keyed(b))

    return overlaps, None


def depth(value: Any) -> int:
    """The number of dimensions; 0 for an empty array."""
    count = 0
    while isinstance(value, list) and value:
        count, value = count + 1, value[0]
    return count


def concatenate(a: list[Any] | None, b: list[Any] | None) -> list[Any] | None:
    """array || array, of equal depth or one being an element of the other; NULL is an empty array."""
    if a is None or b is None:
        return b if a is None else a
    if not a or not b:
        return a or b
    deep_a, deep_b = depth(a), depth(b)
    if deep_a == deep_b:
        return a + b
    if deep_a == deep_b + 1:
        return [*a, b]
    if deep_b == deep_a + 1:
        return [a, *b]
    detail = f"Arrays of {deep_a} and {deep_b} dimensions are not compatible for concatenation."
    raise sql_error("2202E", "cannot concatenate incompatible arrays", detail=detail)


def append(a: list[Any] | None, item: Any) -> list[Any]:
    return [*(a or ()), item]


def prepend(item: Any, b: list[Any] | None) -> list[Any]:
    return [item, *(b or ())]


def length(value: list[Any], dimension: int) -> int | None:
    """array_length(a, n)."""
    if dimension < 1 or dimension > depth(value):
        return None
    for _ in range(dimension - 1):
        value = value[0]
    return len(value)


def lower_bound(value: list[Any], dimension: int) -> int | None:
    return 1 if 1 <= dimension <= depth(value) else None


def cardinality(value: list[Any]) -> int:
    return len(_elements(value))


def dimensions(value: list[Any]) -> int | None:
    return depth(value) or None


def element(value: list[Any], *subscripts: int) -> Any:
    """a[i][j]…; NULL outside the bounds or with too few or many subscripts."""
    if len(subscripts) != depth(value):
        return None
    found: Any = value
    for subscript in subscripts:
        if not 1 <= subscript <= len(found):
            return None
        found = found[subscript - 1]
    return found


def vector_element(value: list[Any], subscript: int) -> Any:
    """An int2vector's or oidvector's element; these count from 0."""
    return value[subscript] if 0 <= subscript < len(value) else None


def slice_of(value: list[Any], low: int | None, high: int | None) -> list[Any]:
    """a[low:high]."""
    start = max(low if low is not None else 1, 1)
    return value[start - 1 : max(high if high is not None else len(value), 0)]


def build_position(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    """array_position(a, x [, start]): NULL is found as a value."""
    key = group_key(arg_types[0]) or identity

    def position(value: list[Any] | None, item: Any, start: int = 1) -> int | None:
        if value is None:
            return None
        (wanted,) = key([item])
        keys = key(value)
        first = max(start, 1) - 1
        return next((at + 1 for at in range(first, len(keys)) if keys[at] == wanted), None)

    return position, None


def build_remove(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], str | None]:
    key = group_key(arg_types[0]) or identity

    def remove(value: list[Any] | None, item: Any) -> list[Any] | None:
        if value is None:
            return None
        (wanted,) = key([item])
        return [have for have, k in zip(value, key(value), strict=True) if k != wanted]

    return remove, None


def flatten(value: list[Any]) -> list[Any]:
    """The elements of all dimensions in storage order."""
    return _elements(value)


def element_type(array: SqlType) -> SqlType:
    """The element type of an array type; TEXT for what has none."""
    return element_of(array) or TEXT
