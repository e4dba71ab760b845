"""Names of functions and relations for regproc, regprocedure and regclass."""

from __future__ import annotations

import re
from typing import Final

from txndb.errors import SqlError, sql_error
from txndb.sql.catalog.names import quote_identifier, split_name
from txndb.sql.catalog.pgcatalog.builtin import Builtins, Function, type_names
from txndb.sql.catalog.pgcatalog.functions import relation_name
from txndb.sql.catalog.virtual import CatalogContext
from txndb.sql.types.core import lookup_type

_SIGNATURE: Final = re.compile(r"(.*?)\s*\((.*)\)\s*\Z", re.DOTALL)


class BuiltinNames:
    """`NameSource` over the built-in functions."""

    def __init__(self, builtins: Builtins) -> None:
        self._builtins = builtins

    def oid_of(self, kind: str, name: str) -> int:
        """The oid of a function, with its argument types for regprocedure; 42883, or 42725 if several fit."""
        found = _SIGNATURE.match(name)
        if kind == "regprocedure":
            if found is None:
                raise sql_error("22P02", "expected a left parenthesis")
            args = tuple(lookup_type(a.strip().lower()).oid for a in found[2].split(",") if a.strip())
            for function in self._named(found[1]):
                if function.args == args:
                    return function.oid
            raise _missing(name)
        functions = self._named(name)
        if not functions:
            raise _missing(name)
        if len(functions) > 1:
            raise sql_error("42725", f'more than one function named "{name}"')
        return functions[0].oid

    def _named(self, name: str) -> list[Function]:
        parts = split_name(name)
        if len(parts) > 1 and parts[0] != "pg_catalog":
            return []
        return self._builtins.by_name.get(parts[-1], [])

    def name_of(self, context: CatalogContext, kind: str, oid: int) -> str | None:
        """The name of a relation (qualified where it must be) or function; None when there is none."""
        if kind == "regclass":
            return relation_name(context, oid)
        found = self._builtins.by_oid.get(oid)
        if found is None:
            return None
        name = quote_identifier(found.name)
        if kind == "regprocedure":
            return f"{name}({type_names(found.args).replace(', ', ',')})"
        return name if len(self._builtins.by_name[found.name]) == 1 else f"pg_catalog.{name}"


def _missing(name: str) -> SqlError:
    return sql_error("42883", f'function "{name}" does not exist')
