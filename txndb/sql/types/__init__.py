"""The SQL type system: types, their values' text and binary forms, casts, operators, functions, aggregates.

Semantics and errors are PostgreSQL 15's. Values are those of the representation table in `core`. The layer knows no
catalogue and no clock: what depends on the session comes in an `EvalContext`. Start reading at `core` (types),
`textio` and `binio` (wire forms), `resolve` (overloads), `operatortable` and `functions` (what exists).
"""

from __future__ import annotations

from txndb.sql.types.aggregates import Aggregate, is_aggregate, resolve_aggregate
from txndb.sql.types.binio import binary_decoder, binary_encoder
from txndb.sql.types.casts import Cast, can_coerce, cannot_cast, find_cast
from txndb.sql.types.context import DEFAULT_CONTEXT, EvalContext, Names
from txndb.sql.types.core import (
    SqlType,
    all_types,
    array_of,
    element_of,
    find_type,
    format_type,
    lookup_type,
    type_by_oid,
)
from txndb.sql.types.functions import Function, function_exists, resolve_function
from txndb.sql.types.functiontable import FunctionRow
from txndb.sql.types.interval import Interval
from txndb.sql.types.operators import Operator, resolve_operator
from txndb.sql.types.ordering import group_key, sort_key
from txndb.sql.types.resolve import common_type
from txndb.sql.types.runtime import RUNTIME
from txndb.sql.types.textio import (
    format_text,
    parse_text,
    text_decoder,
    text_encoder,
    text_formatter,
    text_parser,
)
from txndb.sql.types.typmods import typmod_applier

__all__ = [
    "DEFAULT_CONTEXT",
    "RUNTIME",
    "Aggregate",
    "Cast",
    "EvalContext",
    "Function",
    "FunctionRow",
    "Interval",
    "Names",
    "Operator",
    "SqlType",
    "all_types",
    "array_of",
    "binary_decoder",
    "binary_encoder",
    "can_coerce",
    "cannot_cast",
    "common_type",
    "element_of",
    "find_cast",
    "find_type",
    "format_text",
    "format_type",
    "function_exists",
    "group_key",
    "is_aggregate",
    "lookup_type",
    "parse_text",
    "resolve_aggregate",
    "resolve_function",
    "resolve_operator",
    "sort_key",
    "text_decoder",
    "text_encoder",
    "text_formatter",
    "text_parser",
    "type_by_oid",
    "typmod_applier",
]
