"""AS OF SYSTEM TIME: the expression's value as a timestamp of the key space."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from txndb.errors import FeatureNotSupportedError, sql_error
from txndb.ids import Timestamp, make_timestamp
from txndb.sql import types
from txndb.sql.parse import ast
from txndb.sql.session.services import SqlServices
from txndb.sql.types.core import TIMESTAMPTZ, lookup_type

EPOCH_2000_US = 946_684_800_000_000


def as_of_timestamp(
    services: SqlServices, env: types.EvalContext, node: ast.Expr, params: Sequence[Any]
) -> Timestamp:
    """'-10s' (an interval back from now), a timestamp with time zone, or a number of microseconds since 1970."""
    value, negative = _constant(node, params), False
    if isinstance(node, ast.Unary) and node.op == "-":
        value, negative = _constant(node.arg, params), True
    now_us = services.wall_us()
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        at_us = now_us - int(value) if negative else int(value)
        if abs(at_us) > 10**17:
            at_us //= 1000  # nanoseconds
        return _checked(at_us, now_us, node)
    if not isinstance(value, str):
        raise sql_error("42601", "AS OF SYSTEM TIME needs a constant", position=node.pos)
    text = value.strip()
    if text[:1] in ("-", "+"):
        interval = types.parse_text(lookup_type("interval"), text, env)
        shift = types.resolve_operator("+", TIMESTAMPTZ, lookup_type("interval"))
        stamp = now_us - EPOCH_2000_US
        moved = shift.fn(env, stamp, interval) if shift.needs else shift.fn(stamp, interval)
        return _checked(moved + EPOCH_2000_US, now_us, node)
    stamp = types.parse_text(TIMESTAMPTZ, text, env)
    return _checked(stamp + EPOCH_2000_US, now_us, node)


def _checked(at_us: int, now_us: int, node: ast.Expr) -> Timestamp:
    if at_us > now_us:
        raise sql_error("22023", "AS OF SYSTEM TIME: cannot read the future", position=node.pos)
    if at_us <= 0:
        raise sql_error("22023", "AS OF SYSTEM TIME: the time is out of range", position=node.pos)
    return make_timestamp(at_us)


def _constant(node: ast.Expr, params: Sequence[Any]) -> Any:
    match node:
        case ast.Literal():
            return node.value
        case ast.Param():
            if node.index > len(params):
                raise sql_error("42P02", f"there is no parameter ${node.index}", position=node.pos)
            return params[node.index - 1]
        case ast.Cast():
            return _constant(node.arg, params)
        case ast.Unary(op="-"):
            return None
    raise FeatureNotSupportedError("AS OF SYSTEM TIME needs a constant or a parameter", position=node.pos)
