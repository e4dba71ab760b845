"""pg_type, pg_proc, pg_operator, pg_cast and the other catalogues of what is built in.

Types and operator classes have PostgreSQL's oids, since clients know them; functions and operators are numbered by
name and argument types, above PostgreSQL's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from txndb.sql.catalog.descriptors import ROOT_ROLE_ID
from txndb.sql.catalog.names import PG_CATALOG_OID
from txndb.sql.catalog.pgcatalog.relations import Row, View
from txndb.sql.types.aggregates import all_aggregates
from txndb.sql.types.casts import all_casts
from txndb.sql.types.core import all_types, type_by_oid
from txndb.sql.types.functiontable import FUNCTIONS
from txndb.sql.types.operatortable import OPERATORS

_TYPES: Final = Path(__file__).with_name("types.tables")
INTERNAL: Final = 12
_FIRST_FUNCTION: Final = 14000
_FIRST_OPERATOR: Final = 14000
_FIRST_CAST: Final = 14000
_CSTRING: Final = 2275
_INTERNAL: Final = 2281
"""The type of what is not SQL's; pg_type does not have it."""

# oid, name, operator family, type, name of the family
OPERATOR_CLASSES: Final = (
    (1978, "int4_ops", 1976, 23, "integer_ops"),
    (1979, "int2_ops", 1976, 21, "integer_ops"),
    (1981, "oid_ops", 1989, 26, "oid_ops"),
    (3122, "date_ops", 434, 1082, "datetime_ops"),
    (3123, "float8_ops", 1970, 701, "float_ops"),
    (3124, "int8_ops", 1976, 20, "integer_ops"),
    (3125, "numeric_ops", 1988, 1700, "numeric_ops"),
    (3126, "text_ops", 1994, 25, "text_ops"),
    (3127, "timestamptz_ops", 434, 1184, "datetime_ops"),
    (3128, "timestamp_ops", 434, 1114, "datetime_ops"),
    (10003, "bool_ops", 424, 16, "bool_ops"),
    (10004, "bpchar_ops", 426, 1042, "bpchar_ops"),
    (10006, "bytea_ops", 428, 17, "bytea_ops"),
    (10012, "float4_ops", 1970, 700, "float_ops"),
    (10028, "name_ops", 1994, 19, "text_ops"),
    (10065, "uuid_ops", 2968, 2950, "uuid_ops"),
)
OPERATOR_CLASS_BY_TYPE: Final = {type_oid: oid for oid, _, _, type_oid, _ in OPERATOR_CLASSES} | {1043: 3126}


class TypeFacts(msgspec.Struct, frozen=True):
    """What pg_type tells of a type beyond what the type system itself needs."""

    oid: int
    name: str
    length: int
    by_value: bool
    kind: str
    category: str
    preferred: bool
    delimiter: str
    align: str
    storage: str
    collation: int
    functions: tuple[str, ...]
    """typinput typoutput typreceive typsend typmodin typmodout typsubscript; "-" for none."""


@lru_cache(maxsize=1)
def read_types() -> dict[int, TypeFacts]:
    """The types by oid."""
    found: dict[int, TypeFacts] = {}
    for line in _TYPES.read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        w = line.split()
        facts = TypeFacts(
            int(w[0]),
            w[1],
            int(w[2]),
            w[3] == "1",
            w[4],
            w[5],
            w[6] == "1",
            w[7],
            w[8],
            w[9],
            int(w[10]),
            tuple(w[11:]),
        )
        found[facts.oid] = facts
    return found


class Function(msgspec.Struct, frozen=True):
    """A row of pg_proc."""

    oid: int
    name: str
    args: tuple[int, ...]
    result: int
    kind: str = "f"
    strict: bool = True
    volatility: str = "i"
    variadic: int = 0
    returns_set: bool = False


_SET_RETURNING: Final = (
    ("generate_series", (20, 20), 20),
    ("generate_series", (20, 20, 20), 20),
    ("generate_series", (23, 23), 23),
    ("generate_series", (23, 23, 23), 23),
    ("generate_series", (1114, 1114, 1186), 1114),
    ("generate_series", (1184, 1184, 1186), 1184),
    ("generate_series", (1700, 1700), 1700),
    ("generate_series", (1700, 1700, 1700), 1700),
    ("generate_subscripts", (2277, 23), 23),
    ("unnest", (2277,), 2283),
)


def _scalar_functions() -> Iterator[Function]:
    for name, rows in FUNCTIONS.items():
        for row in rows:
            args = row.args if row.variadic is None else (*row.args, row.variadic)
            volatility = "s" if row.needs == "session" and row.volatility == "i" else row.volatility
            yield Function(0, name, args, row.result, "f", row.strict, volatility, row.variadic or 0)


def _aggregate_functions() -> Iterator[Function]:
    for name, rows in all_aggregates().items():
        for row in rows:
            yield Function(0, name, row.args, row.result, "a", False)


def _type_functions() -> Iterator[Function]:
    """Input, output, receive and send functions; one of each name."""
    internal = (_INTERNAL,)
    for facts in read_types().values():
        own = (facts.oid,)
        args = ((_CSTRING,), own, internal, own, (1263,), (23,), internal)
        results = (facts.oid, _CSTRING, facts.oid, 17, 23, _CSTRING, _INTERNAL)
        for name, given, result in zip(facts.functions, args, results, strict=True):
            if name != "-":
                yield Function(0, name, given, result)


def number_functions(more: Iterable[Function] = ()) -> tuple[Function, ...]:
    """All functions, each signature once, numbered."""
    found: dict[tuple[str, tuple[int, ...]], Function] = {}
    sets = (Function(0, name, args, result, returns_set=True) for name, args, result in _SET_RETURNING)
    sources = (_scalar_functions(), _aggregate_functions(), sets, more)
    for source in sources:
        for function in source:
            found.setdefault((function.name, function.args), function)
    names = {name for name, _ in found}
    for function in _type_functions():
        if function.name not in names:
            names.add(function.name)
            found[function.name, function.args] = function
    ordered = sorted(found.items())
    return tuple(msgspec.structs.replace(f, oid=_FIRST_FUNCTION + at) for at, (_, f) in enumerate(ordered))


class Builtins:
    """The catalogues of what is built in, over one numbered list of functions."""

    def __init__(self, more: Iterable[Function] = ()) -> None:
        self.functions = number_functions(more)
        self.by_oid = {f.oid: f for f in self.functions}
        self.by_name: dict[str, list[Function]] = {}
        for function in self.functions:
            self.by_name.setdefault(function.name, []).append(function)

    def oid_by_name(self, name: str) -> int:
        """The oid of the first function of that name, 0 for none."""
        found = self.by_name.get(name)
        return found[0].oid if found else 0

    def pg_proc(self, view: View) -> Iterator[Row]:
        """Functions."""
        for f in self.functions:
            yield {
                "oid": f.oid,
                "proname": f.name,
                "pronamespace": PG_CATALOG_OID,
                "proowner": ROOT_ROLE_ID,
                "prolang": INTERNAL,
                "procost": 1.0,
                "prorows": 1000.0 if f.returns_set else 0.0,
                "provariadic": f.variadic,
                "prokind": f.kind,
                "proisstrict": f.strict,
                "proretset": f.returns_set,
                "provolatile": f.volatility,
                "proparallel": "s",
                "pronargs": len(f.args),
                "prorettype": f.result,
                "proargtypes": list(f.args),
                "prosrc": "aggregate_dummy" if f.kind == "a" else f.name,
            }

    def pg_aggregate(self, view: View) -> Iterator[Row]:
        """Aggregates; their state is not SQL's."""
        for f in self.functions:
            if f.kind == "a":
                yield {"aggfnoid": f.oid, "aggkind": "n", "aggfinalmodify": "r", "aggmfinalmodify": "r"}

    def pg_type(self, view: View) -> Iterator[Row]:
        """Types."""
        facts = read_types()
        for sql_type in all_types():
            f = facts[sql_type.oid]
            oids = [0 if name == "-" else self.oid_by_name(name) for name in f.functions]
            yield {
                "oid": f.oid,
                "typname": f.name,
                "typnamespace": PG_CATALOG_OID,
                "typowner": ROOT_ROLE_ID,
                "typlen": f.length,
                "typbyval": f.by_value,
                "typtype": f.kind,
                "typcategory": f.category,
                "typispreferred": f.preferred,
                "typisdefined": True,
                "typdelim": f.delimiter,
                "typsubscript": oids[6],
                "typelem": 18 if f.oid == 19 else sql_type.element,
                "typarray": sql_type.array,
                "typinput": oids[0],
                "typoutput": oids[1],
                "typreceive": oids[2],
                "typsend": oids[3],
                "typmodin": oids[4],
                "typmodout": oids[5],
                "typalign": f.align,
                "typstorage": f.storage,
                "typtypmod": -1,
                "typcollation": f.collation,
            }


def pg_operator(view: View) -> Iterator[Row]:
    """Operators."""
    rows = [(name, row.args, row.result) for name, overloads in OPERATORS.items() for row in overloads]
    for at, (name, args, result) in enumerate(sorted(rows)):
        yield {
            "oid": _FIRST_OPERATOR + at,
            "oprname": name,
            "oprnamespace": PG_CATALOG_OID,
            "oprowner": ROOT_ROLE_ID,
            "oprkind": "b" if len(args) == 2 else "l",
            "oprleft": args[0] if len(args) == 2 else 0,
            "oprright": args[-1],
            "oprresult": result,
        }


def pg_cast(view: View) -> Iterator[Row]:
    """Casts."""
    for at, (source, target, context, changes) in enumerate(sorted(all_casts())):
        yield {
            "oid": _FIRST_CAST + at,
            "castsource": source,
            "casttarget": target,
            "castcontext": context[0],
            "castmethod": "f" if changes else "b",
        }


def pg_opclass(view: View) -> Iterator[Row]:
    """The default classes of ordered types."""
    for oid, name, family, type_oid, _ in OPERATOR_CLASSES:
        yield {
            "oid": oid,
            "opcmethod": 403,
            "opcname": name,
            "opcnamespace": PG_CATALOG_OID,
            "opcowner": ROOT_ROLE_ID,
            "opcfamily": family,
            "opcintype": type_oid,
            "opcdefault": True,
        }


def pg_opfamily(view: View) -> Iterator[Row]:
    """Families of the classes."""
    for oid, name in sorted({family: name for _, _, family, _, name in OPERATOR_CLASSES}.items()):
        yield {
            "oid": oid,
            "opfmethod": 403,
            "opfname": name,
            "opfnamespace": PG_CATALOG_OID,
            "opfowner": ROOT_ROLE_ID,
        }


def pg_am(view: View) -> Iterator[Row]:
    """Access methods."""
    yield {"oid": 2, "amname": "heap", "amtype": "t"}
    yield {"oid": 403, "amname": "btree", "amtype": "i"}


def pg_language(view: View) -> Iterator[Row]:
    """What functions are written in: only the server's own language."""
    yield {"oid": INTERNAL, "lanname": "internal", "lanowner": ROOT_ROLE_ID}


def pg_tablespace(view: View) -> Iterator[Row]:
    """The one place where data is, under the names clients expect."""
    yield {"oid": 1663, "spcname": "pg_default", "spcowner": ROOT_ROLE_ID}
    yield {"oid": 1664, "spcname": "pg_global", "spcowner": ROOT_ROLE_ID}


def pg_collation(view: View) -> Iterator[Row]:
    """Text is compared by code point, whatever the collation is called."""
    for oid, name, provider, locale in (
        (100, "default", "d", None),
        (950, "C", "c", "C"),
        (951, "POSIX", "c", "POSIX"),
    ):
        yield {
            "oid": oid,
            "collname": name,
            "collnamespace": PG_CATALOG_OID,
            "collowner": ROOT_ROLE_ID,
            "collprovider": provider,
            "collisdeterministic": True,
            "collencoding": -1,
            "collcollate": locale,
            "collctype": locale,
        }


def type_names(args: Iterable[int]) -> str:
    """Type names as a function's argument list."""
    return ", ".join("internal" if oid == _INTERNAL else str(type_by_oid(oid)) for oid in args)
