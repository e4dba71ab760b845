"""SQL types: what a type is, the registry by OID and by SQL name, type modifiers, and PostgreSQL's `format_type`.

Invariants
1. A `SqlType` is a value: equal fields mean the same type, and the registry holds each with typmod -1.
2. `kind` names the one internal Python representation, which the key and row encoders go by: int, bool, float,
   decimal, str, bytes, uuid, interval, array, record, void. DATE (days) and TIMESTAMP[TZ] (microseconds), both since
   2000-01-01, are of kind int. "+inf"/"-inf" of dates are the extreme int32/int64.
3. OIDs, categories, preferred types and typmod encodings are those of PostgreSQL 15's catalogue (pg_type.dat).

It holds no values and no functions on values; those are in the sibling modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from txndb.errors import sql_error

VARLENA_HEADER_BYTES: Final = 4
"""PostgreSQL adds this to the length or precision kept in a typmod."""
CHARACTERS_MAX: Final = 10_485_760
NUMERIC_PRECISION_MAX: Final = 1000
NAME_BYTES_MAX: Final = 63
TEMPORAL_PRECISION_MAX: Final = 6


class SqlType(msgspec.Struct, frozen=True, gc=False):
    """One SQL type with its modifier. `element` is the element type's OID of an array, `array` the array type's OID."""

    oid: int
    name: str
    kind: str
    typmod: int = -1
    length: int = -1
    category: str = "U"
    preferred: bool = False
    element: int = 0
    array: int = 0

    def with_typmod(self, typmod: int) -> SqlType:
        """The same type under another modifier."""
        return self if typmod == self.typmod else msgspec.structs.replace(self, typmod=typmod)

    @property
    def has_forms(self) -> bool:
        """Equal values of it may differ: 1.0 = 1.000 and 0 = -0. What is remembered by value must tell them apart."""
        return self.kind in ("decimal", "float")

    @property
    def base(self) -> SqlType:
        """The same type without a modifier."""
        return self if self.typmod < 0 else _BY_OID[self.oid]

    def __str__(self) -> str:
        return format_type(self.oid, self.typmod)


# oid, name, kind, length, category, preferred, array oid
_SCALARS: Final = (
    (16, "bool", "bool", 1, "B", True, 1000),
    (17, "bytea", "bytes", -1, "U", False, 1001),
    (18, "char", "str", 1, "Z", False, 1002),
    (19, "name", "str", 64, "S", False, 1003),
    (20, "int8", "int", 8, "N", False, 1016),
    (21, "int2", "int", 2, "N", False, 1005),
    (23, "int4", "int", 4, "N", False, 1007),
    (24, "regproc", "int", 4, "N", False, 1008),
    (25, "text", "str", -1, "S", True, 1009),
    (26, "oid", "int", 4, "N", True, 1028),
    (28, "xid", "int", 4, "U", False, 1011),
    (194, "pg_node_tree", "str", -1, "Z", False, 0),
    (700, "float4", "float", 4, "N", False, 1021),
    (701, "float8", "float", 8, "N", True, 1022),
    (705, "unknown", "str", -2, "X", False, 0),
    (1033, "aclitem", "str", 12, "U", False, 1034),
    (1042, "bpchar", "str", -1, "S", False, 1014),
    (1043, "varchar", "str", -1, "S", False, 1015),
    (1082, "date", "int", 4, "D", False, 1182),
    (1114, "timestamp", "int", 8, "D", False, 1115),
    (1184, "timestamptz", "int", 8, "D", True, 1185),
    (1186, "interval", "interval", 16, "T", True, 1187),
    (1700, "numeric", "decimal", -1, "N", False, 1231),
    (2202, "regprocedure", "int", 4, "N", False, 2207),
    (2205, "regclass", "int", 4, "N", False, 2210),
    (2206, "regtype", "int", 4, "N", False, 2211),
    (2249, "record", "record", -1, "P", False, 2287),
    (2275, "cstring", "str", -2, "P", False, 1263),
    (2276, "any", "any", 4, "P", False, 0),
    (2277, "anyarray", "array", -1, "P", False, 0),
    (2278, "void", "void", 4, "P", False, 0),
    (2283, "anyelement", "any", 4, "P", False, 0),
    (2776, "anynonarray", "any", 4, "P", False, 0),
    (2950, "uuid", "uuid", 16, "U", False, 2951),
    (4089, "regnamespace", "int", 4, "N", False, 4090),
    (4096, "regrole", "int", 4, "N", False, 4097),
    (5077, "anycompatible", "any", 4, "P", False, 0),
    (5078, "anycompatiblearray", "array", -1, "P", False, 0),
)


def _build_registry() -> dict[int, SqlType]:
    registry: dict[int, SqlType] = {}
    for oid, name, kind, length, category, preferred, array in _SCALARS:
        registry[oid] = SqlType(oid, name, kind, -1, length, category, preferred, 0, array)
        if array:
            registry[array] = SqlType(array, "_" + name, "array", -1, -1, "A", False, oid, 0)
    registry[22] = SqlType(22, "int2vector", "array", -1, -1, "A", False, 21, 1006)
    registry[30] = SqlType(30, "oidvector", "array", -1, -1, "A", False, 26, 1013)
    return registry


_BY_OID: Final = _build_registry()

BOOL: Final = _BY_OID[16]
BYTEA: Final = _BY_OID[17]
CHAR_INTERNAL: Final = _BY_OID[18]
NAME: Final = _BY_OID[19]
INT8: Final = _BY_OID[20]
INT2: Final = _BY_OID[21]
INT2VECTOR: Final = _BY_OID[22]
INT4: Final = _BY_OID[23]
REGPROC: Final = _BY_OID[24]
TEXT: Final = _BY_OID[25]
OID: Final = _BY_OID[26]
XID: Final = _BY_OID[28]
OIDVECTOR: Final = _BY_OID[30]
PG_NODE_TREE: Final = _BY_OID[194]
FLOAT4: Final = _BY_OID[700]
FLOAT8: Final = _BY_OID[701]
UNKNOWN: Final = _BY_OID[705]
ACLITEM: Final = _BY_OID[1033]
BPCHAR: Final = _BY_OID[1042]
VARCHAR: Final = _BY_OID[1043]
DATE: Final = _BY_OID[1082]
TIMESTAMP: Final = _BY_OID[1114]
TIMESTAMPTZ: Final = _BY_OID[1184]
INTERVAL: Final = _BY_OID[1186]
NUMERIC: Final = _BY_OID[1700]
REGPROCEDURE: Final = _BY_OID[2202]
REGCLASS: Final = _BY_OID[2205]
REGTYPE: Final = _BY_OID[2206]
RECORD: Final = _BY_OID[2249]
CSTRING: Final = _BY_OID[2275]
ANY: Final = _BY_OID[2276]
ANYARRAY: Final = _BY_OID[2277]
VOID: Final = _BY_OID[2278]
ANYELEMENT: Final = _BY_OID[2283]
ANYNONARRAY: Final = _BY_OID[2776]
UUID: Final = _BY_OID[2950]
REGNAMESPACE: Final = _BY_OID[4089]
REGROLE: Final = _BY_OID[4096]
ANYCOMPATIBLE: Final = _BY_OID[5077]
ANYCOMPATIBLEARRAY: Final = _BY_OID[5078]

REG_OIDS: Final = frozenset((24, 2202, 2205, 2206, 4089, 4096))
"""The oid-like types whose text form is a catalogue name."""

_SQL_NAMES: Final = {
    "boolean": "bool",
    "smallint": "int2",
    "int": "int4",
    "integer": "int4",
    "bigint": "int8",
    "real": "float4",
    "double precision": "float8",
    "decimal": "numeric",
    "dec": "numeric",
    "character varying": "varchar",
    "char varying": "varchar",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    '"char"': "char",
    "anynonarray": "anynonarray",
}

_DISPLAY_NAMES: Final = {
    16: "boolean",
    18: '"char"',
    20: "bigint",
    21: "smallint",
    23: "integer",
    700: "real",
    701: "double precision",
    1042: "character",
    1043: "character varying",
    1114: "timestamp without time zone",
    1184: "timestamp with time zone",
    2276: '"any"',
}

_BY_NAME: Final = {t.name: t for t in _BY_OID.values()} | {
    alias: next(t for t in _BY_OID.values() if t.name == name) for alias, name in _SQL_NAMES.items()
}


def all_types() -> tuple[SqlType, ...]:
    """Every registered type, arrays included, by OID (the rows of pg_type)."""
    return tuple(_BY_OID[oid] for oid in sorted(_BY_OID))


def type_by_oid(oid: int) -> SqlType:
    """The type with this OID; 42704 when there is none."""
    found = _BY_OID.get(oid)
    if found is None:
        raise sql_error("42704", f"type with OID {oid} does not exist")
    return found


def find_type(oid: int) -> SqlType | None:
    """The type with this OID, or None."""
    return _BY_OID.get(oid)


def array_of(element: SqlType) -> SqlType:
    """The array type over an element type; an array of arrays is the same array type, as in PostgreSQL."""
    if element.category == "A" and not element.array:
        return element.base
    found = _BY_OID.get(element.array)
    if found is None:
        raise sql_error("42704", f"could not find array type for data type {format_type(element.oid)}")
    return found


def element_of(array: SqlType) -> SqlType | None:
    """The element type of an array type (modifier kept), or None for another type."""
    if not array.element:
        return None
    return _BY_OID[array.element].with_typmod(array.typmod)


def lookup_type(name: str, modifiers: Sequence[int] = (), *, quoted: bool = False) -> SqlType:
    """The type a SQL type name means. `quoted` tells `"char"` (one byte) from CHAR (blank-padded).

    `name` is folded, words parted by one space; a trailing `[]` (or more) asks for the array type.
    """
    dimensions = 0
    while name.endswith("[]"):
        name, dimensions = name[:-2].rstrip(), dimensions + 1
    found = _lookup_scalar(name, modifiers, quoted)
    if not dimensions:
        return found
    return array_of(found.base).with_typmod(found.typmod)


def _lookup_scalar(name: str, modifiers: Sequence[int], quoted: bool) -> SqlType:
    if not quoted and name in ("char", "character"):
        return BPCHAR.with_typmod(_typmod(BPCHAR, modifiers or (1,)))
    if not quoted and name == "float":
        return _float_of(modifiers)
    found = _BY_NAME.get(name)
    if found is None:
        raise sql_error("42704", f'type "{name}" does not exist')
    return found.with_typmod(_typmod(found, modifiers)) if modifiers else found


def _float_of(modifiers: Sequence[int]) -> SqlType:
    if not modifiers:
        return FLOAT8
    if modifiers[0] < 1:
        raise sql_error("22023", "precision for type float must be at least 1 bit")
    if modifiers[0] > 53:
        raise sql_error("22023", "precision for type float must be less than 54 bits")
    return FLOAT4 if modifiers[0] <= 24 else FLOAT8


def _typmod(base: SqlType, modifiers: Sequence[int]) -> int:
    """Encode the modifiers written after a type name, as the type's typmodin function does."""
    if base.oid in (1042, 1043):
        return _length_typmod("char" if base.oid == 1042 else "varchar", modifiers)
    if base.oid == 1700:
        return _numeric_typmod(modifiers)
    if base.oid in (1114, 1184):
        suffix = " WITH TIME ZONE" if base.oid == 1184 else ""
        return _temporal_typmod("TIMESTAMP", suffix, modifiers)
    if base.oid == 1186:
        return _INTERVAL_FULL_RANGE << 16 | _temporal_typmod("INTERVAL", "", modifiers)
    raise sql_error("42601", f'type modifier is not allowed for type "{base.name}"')


_INTERVAL_FULL_RANGE: Final = 0x7FFF


def _length_typmod(name: str, modifiers: Sequence[int]) -> int:
    if len(modifiers) != 1:
        raise sql_error("22023", "invalid type modifier")
    if modifiers[0] < 1:
        raise sql_error("22023", f"length for type {name} must be at least 1")
    if modifiers[0] > CHARACTERS_MAX:
        raise sql_error("22023", f"length for type {name} cannot exceed {CHARACTERS_MAX}")
    return modifiers[0] + VARLENA_HEADER_BYTES


def _numeric_typmod(modifiers: Sequence[int]) -> int:
    if len(modifiers) not in (1, 2):
        raise sql_error("22023", "invalid NUMERIC type modifier")
    precision = modifiers[0]
    scale = modifiers[1] if len(modifiers) == 2 else 0
    if not 1 <= precision <= NUMERIC_PRECISION_MAX:
        raise sql_error(
            "22023", f"NUMERIC precision {precision} must be between 1 and {NUMERIC_PRECISION_MAX}"
        )
    if not -NUMERIC_PRECISION_MAX <= scale <= NUMERIC_PRECISION_MAX:
        raise sql_error("22023", f"NUMERIC scale {scale} must be between -1000 and 1000")
    return (precision << 16 | scale & 0x7FF) + VARLENA_HEADER_BYTES


def _temporal_typmod(name: str, suffix: str, modifiers: Sequence[int]) -> int:
    if len(modifiers) != 1:
        raise sql_error("22023", "invalid type modifier")
    if modifiers[0] < 0:
        raise sql_error("22023", f"{name}({modifiers[0]}){suffix} precision must not be negative")
    return min(modifiers[0], TEMPORAL_PRECISION_MAX)


def numeric_precision_scale(typmod: int) -> tuple[int, int]:
    """Precision and scale of NUMERIC's modifier; the scale may be negative. `typmod` must not be -1."""
    packed = typmod - VARLENA_HEADER_BYTES
    scale = packed & 0x7FF
    return packed >> 16 & 0xFFFF, scale - 0x800 if scale >= 0x400 else scale


def character_length(typmod: int) -> int:
    """The n of CHAR(n) or VARCHAR(n); -1 when the modifier is absent."""
    return typmod - VARLENA_HEADER_BYTES if typmod >= VARLENA_HEADER_BYTES else -1


def format_type(oid: int, typmod: int | None = None) -> str:
    """The SQL spelling of a type, as PostgreSQL's `format_type`; None = no modifier given."""
    if oid == 0:
        return "-"
    found = _BY_OID.get(oid)
    if found is None:
        return "???"
    if found.category == "A" and oid not in (22, 30):
        return format_type(found.element, typmod) + "[]"
    if oid == 1042 and typmod == -1:
        return "bpchar"
    name = _DISPLAY_NAMES.get(oid, found.name)
    return name if typmod is None or typmod < 0 else _with_modifier(oid, name, typmod)


def _with_modifier(oid: int, name: str, typmod: int) -> str:
    if oid in (1042, 1043):
        length = character_length(typmod)
        return f"{name}({length})" if length > 0 else name
    if oid == 1700:
        if typmod < VARLENA_HEADER_BYTES:
            return name
        precision, scale = numeric_precision_scale(typmod)
        return f"{name}({precision},{scale})"
    if oid in (1114, 1184):
        head, _, tail = name.partition(" ")
        return f"{head}({typmod}) {tail}"
    if oid == 1186:
        precision = typmod & 0xFFFF
        return f"{name}({precision})" if precision <= TEMPORAL_PRECISION_MAX else name
    return name
