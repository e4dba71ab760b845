"""Aggregate functions: state, step, final and combine of each, with PostgreSQL's result types.

A state starts as `init()`, takes the arguments of each row by `step(state, *args) -> state` (strict ones never see
NULL) and ends in `final(state)`. `combine(a, b)` joins two partial states of disjoint rows where the result does not
depend on their order. States are None, numbers, strings, bytes and lists of these, so that partial ones can travel.
DISTINCT, FILTER and ORDER BY are the executor's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import msgspec

from txndb.errors import sql_error
from txndb.sql.types import decimals, interval
from txndb.sql.types.arithmetic import float_add, int8_overflow
from txndb.sql.types.core import SqlType
from txndb.sql.types.functions import missing, not_unique
from txndb.sql.types.ordering import sort_key
from txndb.sql.types.resolve import AmbiguousError, bind_polymorphic, choose, concrete
from txndb.sql.types.textio import to_single


class Aggregate(msgspec.Struct, frozen=True):
    """A resolved aggregate. `arg_types` are what the arguments must be coerced to."""

    name: str
    result: SqlType
    arg_types: tuple[SqlType, ...]
    init: Callable[[], Any]
    step: Callable[..., Any]
    final: Callable[[Any], Any]
    combine: Callable[[Any, Any], Any] | None = None
    strict: bool = True


class AggregateRow(msgspec.Struct, frozen=True):
    """One overload; `build` makes the functions (init, step, final, combine) from the actual argument types."""

    args: tuple[int, ...]
    result: int
    init: Callable[[], Any]
    step: Callable[..., Any]
    final: Callable[[Any], Any]
    combine: Callable[[Any, Any], Any] | None = None
    strict: bool = True
    build: Callable[[tuple[SqlType, ...]], tuple[Callable[..., Any], Callable[..., Any]]] | None = None


def _nothing() -> None:
    return None


def _zero() -> int:
    return 0


def _same(state: Any) -> Any:
    return state


def _count_row(state: int) -> int:
    return state + 1


def _count_value(state: int, value: Any) -> int:
    return state + 1


def _plus(a: Any, b: Any) -> Any:
    return a + b


def _either(join: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Join two states of which either may be None (no rows yet)."""

    def joined(a: Any, b: Any) -> Any:
        if a is None:
            return b
        return a if b is None else join(a, b)

    return joined


def _sum_step(state: Any, value: Any) -> Any:
    return value if state is None else state + value


def _sum_final_int8(state: int | None) -> int | None:
    if state is not None and not -(2**63) <= state < 2**63:
        int8_overflow()
    return state


def _sum_final_numeric(state: int | None) -> Decimal | None:
    return None if state is None else Decimal(state)


def _float_step(state: float | None, value: float) -> float:
    return value if state is None else float_add(state, value)


def _single_step(state: float | None, value: float) -> float:
    return value if state is None else to_single(float_add(state, value))


def _pair() -> list[Any]:
    return [0, 0]


def _average_step(state: list[Any], value: Any) -> list[Any]:
    state[0] += 1
    state[1] += value
    return state


def _join_pairs(a: list[Any], b: list[Any]) -> list[Any]:
    return [a[0] + b[0], a[1] + b[1]]


def _average_final_int(state: list[Any]) -> Decimal | None:
    return decimals.divide(Decimal(state[1]), Decimal(state[0])) if state[0] else None


def _numeric_pair() -> list[Any]:
    return [0, decimals.ZERO]


def _average_step_numeric(state: list[Any], value: Decimal) -> list[Any]:
    state[0] += 1
    state[1] = decimals.add(state[1], value)
    return state


def _join_numeric_pairs(a: list[Any], b: list[Any]) -> list[Any]:
    return [a[0] + b[0], decimals.add(a[1], b[1])]


def _float_pair() -> list[Any]:
    return [0, 0.0]


def _average_step_float(state: list[Any], value: float) -> list[Any]:
    state[0] += 1
    state[1] = float_add(state[1], value)
    return state


def _average_final_float(state: list[Any]) -> float | None:
    return state[1] / state[0] if state[0] else None


def _average_step_interval(state: list[Any], value: interval.Interval) -> list[Any]:
    return [state[0] + 1, value if state[1] is None else interval.add(state[1], value)]


def _average_final_interval(state: list[Any]) -> interval.Interval | None:
    return interval.divide(state[1], state[0]) if state[0] else None


def _extreme(
    smallest: bool,
) -> Callable[[tuple[SqlType, ...]], tuple[Callable[..., Any], Callable[..., Any]]]:
    """min or max of one type, by its order."""

    def build(arg_types: tuple[SqlType, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
        key = sort_key(arg_types[0])

        def natural(state: Any, value: Any) -> Any:
            if state is None or (value < state if smallest else value > state):
                return value
            return state

        def keyed(state: Any, value: Any) -> Any:
            if state is None or key is None:
                return value
            better = key(value) < key(state) if smallest else key(value) > key(state)
            return value if better else state

        step = natural if key is None else keyed
        return step, _either(step)

    return build


def _and(state: bool | None, value: bool) -> bool:
    return value if state is None else state and value


def _or(state: bool | None, value: bool) -> bool:
    return value if state is None else state or value


def _string_step(state: list[Any] | None, value: Any, delimiter: Any) -> list[Any] | None:
    if value is None:
        return state
    if state is None:
        return [value]
    if delimiter is not None:
        state.append(delimiter)
    state.append(value)
    return state


def _join_text(state: list[str] | None) -> str | None:
    return None if state is None else "".join(state)


def _join_bytes(state: list[bytes] | None) -> bytes | None:
    return None if state is None else b"".join(state)


def _array_step(state: list[Any] | None, value: Any) -> list[Any]:
    if state is None:
        return [value]
    state.append(value)
    return state


# --- variance: exact sums for NUMERIC, Youngs and Cramer's update for FLOAT8


def _moments() -> list[Any]:
    return [0, decimals.ZERO, decimals.ZERO]


def _moments_step(state: list[Any], value: Any) -> list[Any]:
    number = Decimal(value) if isinstance(value, int) else value
    state[0] += 1
    state[1] = decimals.add(state[1], number)
    state[2] = decimals.add(state[2], decimals.multiply(number, number))
    return state


def _join_moments(a: list[Any], b: list[Any]) -> list[Any]:
    return [a[0] + b[0], decimals.add(a[1], b[1]), decimals.add(a[2], b[2])]


def _deviation(sample: bool, root: bool) -> Callable[[list[Any]], Decimal | None]:
    """The final function of the NUMERIC ones, with numeric_stddev_internal's scales."""

    def final(state: list[Any]) -> Decimal | None:
        count, total, squares = state
        if count <= (1 if sample else 0):
            return None
        if not total.is_finite():
            return decimals.NAN
        number = Decimal(count)
        numerator = decimals.subtract(decimals.multiply(number, squares), decimals.multiply(total, total))
        if numerator <= 0:
            return decimals.ZERO
        divisor = decimals.multiply(number, Decimal(count - 1 if sample else count))
        scale = decimals.division_scale(numerator, divisor)
        variance = decimals.quotient(numerator, divisor, scale)
        return decimals.square_root(variance, scale) if root else variance

    return final


def _float_moments() -> list[Any]:
    return [0, 0.0, 0.0]


def _float_moments_step(state: list[Any], value: float) -> list[Any]:
    count = state[0] + 1
    total = state[1] + value
    if count > 1:
        difference = value * count - total
        state[2] += difference * difference / (count * (count - 1))
        if math.isinf(total) or math.isinf(state[2]):
            if not (math.isinf(state[1]) or math.isinf(value)):
                raise sql_error("22003", "value out of range: overflow")
            state[2] = math.nan
    elif not math.isfinite(value):
        state[2] = math.nan
    state[0], state[1] = count, total
    return state


def _join_float_moments(a: list[Any], b: list[Any]) -> list[Any]:
    if not a[0] or not b[0]:
        return b if not a[0] else a
    count = a[0] + b[0]
    difference = a[1] / a[0] - b[1] / b[0]
    return [count, a[1] + b[1], a[2] + b[2] + a[0] * b[0] * difference * difference / count]


def _float_deviation(sample: bool, root: bool) -> Callable[[list[Any]], float | None]:
    def final(state: list[Any]) -> float | None:
        count, _, squares = state
        if count <= (1 if sample else 0):
            return None
        variance: float = squares / (count - 1 if sample else count)
        return math.sqrt(variance) if root else variance

    return final


Rows = Iterator[tuple[str, AggregateRow]]


def _sums_and_averages() -> Rows:
    for t in (21, 23):
        yield "sum", AggregateRow((t,), 20, _nothing, _sum_step, _sum_final_int8, _either(_plus))
    yield "sum", AggregateRow((20,), 1700, _nothing, _sum_step, _sum_final_numeric, _either(_plus))
    step = _either(decimals.add)
    yield "sum", AggregateRow((1700,), 1700, _nothing, step, _same, step)
    yield "sum", AggregateRow((701,), 701, _nothing, _float_step, _same, _either(float_add))
    yield "sum", AggregateRow((700,), 700, _nothing, _single_step, _same, _either(float_add))
    step = _either(interval.add)
    yield "sum", AggregateRow((1186,), 1186, _nothing, step, _same, step)
    for t in (21, 23, 20):
        yield "avg", AggregateRow((t,), 1700, _pair, _average_step, _average_final_int, _join_pairs)
    yield (
        "avg",
        AggregateRow(
            (1700,), 1700, _numeric_pair, _average_step_numeric, _average_final_int, _join_numeric_pairs
        ),
    )
    for t in (700, 701):
        yield (
            "avg",
            AggregateRow((t,), 701, _float_pair, _average_step_float, _average_final_float, _join_pairs),
        )
    yield (
        "avg",
        AggregateRow((1186,), 1186, lambda: [0, None], _average_step_interval, _average_final_interval),
    )


_ORDERED: Final = (18, 20, 21, 23, 25, 26, 700, 701, 1042, 1082, 1114, 1184, 1186, 1700, 2277)


def _others() -> Rows:
    yield "count", AggregateRow((), 20, _zero, _count_row, _same, _plus)
    yield "count", AggregateRow((2276,), 20, _zero, _count_value, _same, _plus)
    for name, smallest in (("min", True), ("max", False)):
        for t in _ORDERED:
            if t != 18:
                yield name, AggregateRow((t,), t, _nothing, _and, _same, None, True, _extreme(smallest))
    for name in ("bool_and", "every"):
        yield name, AggregateRow((16,), 16, _nothing, _and, _same, _either(_and))
    yield "bool_or", AggregateRow((16,), 16, _nothing, _or, _same, _either(_or))
    for t in (20, 21, 23):
        for name, bits in (("bit_and", int.__and__), ("bit_or", int.__or__), ("bit_xor", int.__xor__)):
            yield name, AggregateRow((t,), t, _nothing, _either(bits), _same, _either(bits))
    yield "string_agg", AggregateRow((25, 25), 25, _nothing, _string_step, _join_text, None, False)
    yield "string_agg", AggregateRow((17, 17), 17, _nothing, _string_step, _join_bytes, None, False)
    yield "array_agg", AggregateRow((2776,), 2277, _nothing, _array_step, _same, None, False)
    yield "array_agg", AggregateRow((2277,), 2277, _nothing, _array_step, _same, None, False)
    names = (
        ("variance", True, False),
        ("var_samp", True, False),
        ("var_pop", False, False),
        ("stddev", True, True),
        ("stddev_samp", True, True),
        ("stddev_pop", False, True),
    )
    for name, sample, root in names:
        for t in (21, 23, 20, 1700):
            final = _deviation(sample, root)
            yield name, AggregateRow((t,), 1700, _moments, _moments_step, final, _join_moments)
        for t in (700, 701):
            row = AggregateRow(
                (t,),
                701,
                _float_moments,
                _float_moments_step,
                _float_deviation(sample, root),
                _join_float_moments,
            )
            yield name, row


def _collect() -> dict[str, list[AggregateRow]]:
    table: dict[str, list[AggregateRow]] = {}
    for section in (_sums_and_averages(), _others()):
        for name, row in section:
            table.setdefault(name, []).append(row)
    return table


_AGGREGATES: Final = _collect()


def is_aggregate(name: str) -> bool:
    """Whether a function name is an aggregate's."""
    return name in _AGGREGATES


@lru_cache(maxsize=1024)
def _resolve(name: str, actual: tuple[SqlType, ...]) -> Aggregate:
    rows = [row for row in _AGGREGATES.get(name, ()) if len(row.args) == len(actual)]
    oids = tuple(t.oid for t in actual)
    row = next((r for r in rows if r.args == oids), None)
    if row is None:
        try:
            row = choose(rows, oids)
        except AmbiguousError:
            raise not_unique(name, actual) from None
    if row is None:
        raise missing(name, actual)
    element = bind_polymorphic(row.args, actual)
    arg_types = tuple(concrete(oid, element, have) for oid, have in zip(row.args, actual, strict=True))
    result = concrete(row.result, element)
    step, combine = row.step, row.combine
    if row.build is not None:
        step, combine = row.build(arg_types)
    return Aggregate(name, result, arg_types, row.init, step, row.final, combine, row.strict)


def resolve_aggregate(name: str, arg_types: Sequence[SqlType]) -> Aggregate:
    """The aggregate a call means; `count(*)` is count with no arguments. 42883 and 42725 as for functions."""
    return _resolve(name, tuple(arg_types))


def all_aggregates() -> dict[str, list[AggregateRow]]:
    """The overloads by name, for pg_proc."""
    return _AGGREGATES
