"""A statement's text on its way to a plan: normalised, with its literals lifted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from txndb.limits import PARAMETERS_MAX
from txndb.sql.parse import ast
from txndb.sql.parse.normalize import Normalized, normalize

if TYPE_CHECKING:
    from txndb.sql.session.api import ColumnInfo
    from txndb.sql.session.services import SqlServices
    from txndb.sql.types.core import SqlType

_LIFTED = {"int4": 23, "int8": 20, "numeric": 1700, "unknown": 0}


class Source:
    """`text` is what is parsed and what plans are kept under."""

    __slots__ = (
        "absent_params",
        "client_params",
        "empty",
        "kinds",
        "literals",
        "node",
        "normalized",
        "offset",
        "param_types",
        "text",
        "told",
    )

    def __init__(
        self,
        text: str,
        *,
        node: ast.Statement | None = None,
        normalized: Normalized | None = None,
        offset: int = 0,
    ) -> None:
        self.text = text
        self.node = node
        self.normalized = normalized
        self.literals: tuple[Any, ...] = normalized.literals if normalized is not None else ()
        self.offset = offset
        self.empty = False
        self.absent_params = 0
        """How many parameters the text has that nobody gives: none may occur in the simple protocol."""
        self.client_params = False
        """Whether parameters come from a client, so that each must get a type."""
        self.kinds: tuple[Any, ...] = ()
        self.param_types: tuple[SqlType | None, ...] = ()
        self.told: tuple[ColumnInfo, ...] | None = None
        """The result columns its client was told of; None if of none."""

    def original_position(self, position: int) -> int:
        """A position in `text` as one in what the client sent."""
        if self.normalized is not None:
            position = self.normalized.original_position(position)
        return position + self.offset

    def placeholder_position(self, index: int) -> int:
        """Where the i-th lifted literal's placeholder is in `text` (errors are located in `text`)."""
        if self.normalized is None:
            return 0
        shift = 0
        for at, literal in enumerate(self.normalized.literals):
            here: int = literal.pos + shift
            if at == index:
                return here
            width = len(str(self.normalized.first + at)) + 1
            shift += width - (literal.end - literal.pos + 1)
        return 0


def make_source(services: SqlServices, sql: str, *, lift: bool) -> Source:
    """The source of a text; with `lift` constants become parameters, so that statements share plans."""
    if not lift:
        return Source(sql)
    found: Normalized | None = services.normalized.get(sql)
    if found is None:
        found = normalize(sql)
        if len(sql) <= 512:
            services.normalized.put(sql, found)
    made = Source(found.text, normalized=found if found.literals else None)
    if found.literals:
        made.absent_params = found.first - 1
    elif "$" in sql:
        made.absent_params = PARAMETERS_MAX
    if found.literals:
        from txndb.sql.types.core import type_by_oid

        given: list[SqlType | None] = [None] * (found.first - 1)
        given += [type_by_oid(_LIFTED[k]) if _LIFTED[k] else None for k in found.kinds]
        made.param_types = tuple(given)
        made.kinds = found.kinds
    if made.absent_params:
        made.kinds = ("absent", *made.kinds)
    return made
