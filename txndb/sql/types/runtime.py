"""The names that operator, cast and function templates use: the globals of compiled expressions.

Besides these a template may use `_t`, a local scratch variable of the compiled function, and `ctx`, the EvalContext.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from txndb.sql.types import arithmetic, calendar, casts, decimals, interval, patterns

RUNTIME: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "Decimal": Decimal,
        "int2_of": casts.int2_of,
        "int4_of": casts.int4_of,
        "int8_of": casts.int8_of,
        "int2_overflow": arithmetic.int2_overflow,
        "int4_overflow": arithmetic.int4_overflow,
        "int8_overflow": arithmetic.int8_overflow,
        "int2_div": arithmetic.int2_div,
        "int4_div": arithmetic.int4_div,
        "int8_div": arithmetic.int8_div,
        "int_mod": arithmetic.int_mod,
        "float_add": arithmetic.float_add,
        "float_sub": arithmetic.float_sub,
        "float_mul": arithmetic.float_mul,
        "float_div": arithmetic.float_div,
        "float_power": arithmetic.float_power,
        "float_eq": arithmetic.float_eq,
        "float_ne": arithmetic.float_ne,
        "float_lt": arithmetic.float_lt,
        "float_le": arithmetic.float_le,
        "float_gt": arithmetic.float_gt,
        "float_ge": arithmetic.float_ge,
        "numeric_add": decimals.add,
        "numeric_sub": decimals.subtract,
        "numeric_mul": decimals.multiply,
        "numeric_div": decimals.divide,
        "numeric_mod": decimals.modulo,
        "numeric_neg": decimals.negate,
        "numeric_eq": decimals.eq,
        "numeric_ne": decimals.ne,
        "numeric_lt": decimals.lt,
        "numeric_le": decimals.le,
        "numeric_gt": decimals.gt,
        "numeric_ge": decimals.ge,
        "numeric_to_float": decimals.to_float,
        "interval_key": interval.sort_key,
        "date_add": arithmetic.date_add,
        "date_sub": arithmetic.date_sub,
        "date_diff": arithmetic.date_diff,
        "date_to_timestamp": calendar.date_to_timestamp,
        "timestamp_to_date": calendar.timestamp_to_date,
        "like": patterns.like,
        "not_like": patterns.not_like,
        "ilike": patterns.ilike,
        "not_ilike": patterns.not_ilike,
        "regex_match": patterns.regex_match,
        "regex_no_match": patterns.regex_no_match,
        "regex_imatch": patterns.regex_imatch,
        "regex_no_imatch": patterns.regex_no_imatch,
    }
)
