"""The abstract syntax of the SQL dialect: what the parser makes and the binder reads.

Nodes are frozen msgspec structs; nothing below is resolved (names are the folded identifiers as written, no types but
the ones the statement spells). Sugar of the standard is already plain: `extract(x FROM y)`, `substring`, `trim`,
`position`, `overlay` and `AT TIME ZONE` are `FunctionCall`s as in PostgreSQL's own parser, `date '…'` is a `Cast`.

Invariants
 1. `pos` is the 1-based character position of the token PostgreSQL would report an error at (an operator's for
    binary expressions, the first token's otherwise); 0 only in nodes made by code.
 2. Equality and hash ignore positions, so that `GROUP BY a + 1` can be matched with `SELECT a + 1`.
 3. Sequences are tuples; an absent optional is None; identifiers are folded (unquoted ones to lower case).
 4. A tree is at most `limits.STATEMENT_DEPTH_MAX` nodes deep, so a recursive reader needs no guard of its own.
"""

from __future__ import annotations

from typing import Literal as Lit

from txndb.sql.parse.querytree import (
    Alias,
    ArrayExpr,
    ArraySubquery,
    Assignment,
    Between,
    Binary,
    BoolOp,
    Case,
    Cast,
    Collate,
    ColumnRef,
    CommonTable,
    Default,
    Delete,
    Exists,
    Expr,
    FieldSelect,
    FromItem,
    FunctionCall,
    FunctionRef,
    IndexElement,
    InList,
    Insert,
    InSubquery,
    IsDistinct,
    IsTest,
    Join,
    Like,
    LikeKind,
    Literal,
    Locking,
    Name,
    NamedArg,
    Node,
    Not,
    OnConflict,
    Param,
    QuantifiedArray,
    QuantifiedSubquery,
    Query,
    QueryBody,
    RowExpr,
    ScalarSubquery,
    Select,
    SetOperation,
    Slice,
    SortKey,
    SqlValueFunction,
    Star,
    Statement,
    SubqueryRef,
    Subscript,
    TableRef,
    Target,
    TypeName,
    Unary,
    Update,
    Values,
    When,
)

__all__ = [
    "AddColumn",
    "AddConstraint",
    "Alias",
    "AlterAction",
    "AlterTable",
    "Analyze",
    "ArrayExpr",
    "ArraySubquery",
    "Assignment",
    "Begin",
    "Between",
    "Binary",
    "BoolOp",
    "Case",
    "Cast",
    "Check",
    "CloseCursor",
    "Collate",
    "ColumnDef",
    "ColumnRef",
    "Commit",
    "CommonTable",
    "Constraint",
    "Copy",
    "CopyOptions",
    "CreateDatabase",
    "CreateIndex",
    "CreateTable",
    "Deallocate",
    "DeclareCursor",
    "Default",
    "DefaultValue",
    "Delete",
    "Discard",
    "Drop",
    "DropColumn",
    "DropConstraint",
    "Execute",
    "Exists",
    "Explain",
    "Expr",
    "FetchCursor",
    "FieldSelect",
    "ForeignKey",
    "FromItem",
    "FunctionCall",
    "FunctionRef",
    "Generated",
    "InList",
    "InSubquery",
    "IndexElement",
    "Insert",
    "IsDistinct",
    "IsTest",
    "Join",
    "Like",
    "LikeKind",
    "Literal",
    "Locking",
    "Name",
    "NamedArg",
    "Node",
    "Not",
    "NotNull",
    "OnConflict",
    "Param",
    "Prepare",
    "PrimaryKey",
    "QuantifiedArray",
    "QuantifiedSubquery",
    "Query",
    "QueryBody",
    "Release",
    "RenameColumn",
    "RenameConstraint",
    "RenameTable",
    "ResetParameter",
    "Rollback",
    "RollbackTo",
    "RowExpr",
    "Savepoint",
    "ScalarSubquery",
    "Select",
    "SetDefault",
    "SetNotNull",
    "SetOperation",
    "SetParameter",
    "SetTransaction",
    "SetType",
    "ShowObjects",
    "ShowParameter",
    "ShowRanges",
    "Slice",
    "SortKey",
    "SplitAt",
    "SqlValueFunction",
    "Star",
    "Statement",
    "StorageParameter",
    "SubqueryRef",
    "Subscript",
    "TableRef",
    "Target",
    "TransactionModes",
    "Truncate",
    "TypeName",
    "Unary",
    "Unique",
    "Update",
    "UtilityOption",
    "Vacuum",
    "VacuumTarget",
    "Values",
    "When",
]

# --- definitions -----------------------------------------------------------------------------------------------


class Constraint(Node, frozen=True, eq=False):
    """Base of constraints; `name` None: to be generated."""

    name: str | None


class NotNull(Constraint, frozen=True, eq=False):
    """NOT NULL, or NULL with `negated` (allowed, says nothing)."""

    negated: bool = False


class DefaultValue(Constraint, frozen=True, eq=False):
    expr: Expr


class PrimaryKey(Constraint, frozen=True, eq=False):
    """`columns` () as a column constraint: that column. `using_index`: ADD … USING INDEX name."""

    columns: tuple[str, ...] = ()
    using_index: str | None = None


class Unique(Constraint, frozen=True, eq=False):
    columns: tuple[str, ...] = ()
    nulls_distinct: bool = True
    using_index: str | None = None


class Check(Constraint, frozen=True, eq=False):
    expr: Expr
    """`text` is the expression's source text."""
    text: str = ""


class ForeignKey(Constraint, frozen=True, eq=False):
    """REFERENCES; `columns` () as a column constraint."""

    columns: tuple[str, ...]
    table: Name
    referenced: tuple[str, ...] = ()
    on_delete: str | None = None
    on_update: str | None = None


class Generated(Constraint, frozen=True, eq=False):
    """GENERATED ALWAYS|BY DEFAULT AS IDENTITY (`expr` None) or ALWAYS AS (expr) STORED."""

    always: bool
    expr: Expr | None = None


class ColumnDef(Node, frozen=True, eq=False):
    name: str
    type: TypeName
    constraints: tuple[Constraint, ...] = ()
    collation: Name | None = None


class StorageParameter(Node, frozen=True, eq=False):
    name: str
    value: str | None


class CreateTable(Statement, frozen=True, eq=False):
    """`persistence`: UNLOGGED and TEMPORARY as written. CREATE TABLE … AS is refused by the parser."""

    name: Name
    columns: tuple[ColumnDef, ...]
    constraints: tuple[Constraint, ...] = ()
    if_not_exists: bool = False
    persistence: Lit["PERMANENT", "UNLOGGED", "TEMPORARY"] = "PERMANENT"
    options: tuple[StorageParameter, ...] = ()
    tablespace: str | None = None


class CreateIndex(Statement, frozen=True, eq=False):
    table: Name
    elements: tuple[IndexElement, ...]
    name: str | None = None
    unique: bool = False
    concurrently: bool = False
    if_not_exists: bool = False
    method: str = "btree"
    include: tuple[str, ...] = ()
    where: Expr | None = None
    nulls_distinct: bool = True


class Drop(Statement, frozen=True, eq=False):
    kind: Lit["TABLE", "INDEX", "DATABASE", "SEQUENCE", "SCHEMA"]
    names: tuple[Name, ...]
    if_exists: bool = False
    cascade: bool = False


class CreateDatabase(Statement, frozen=True, eq=False):
    name: str
    options: tuple[StorageParameter, ...] = ()
    if_not_exists: bool = False


class Truncate(Statement, frozen=True, eq=False):
    tables: tuple[Name, ...]
    restart_identity: bool = False
    cascade: bool = False


class AlterAction(Node, frozen=True, eq=False):
    """One action of ALTER TABLE."""


class AddColumn(AlterAction, frozen=True, eq=False):
    column: ColumnDef
    if_not_exists: bool = False


class DropColumn(AlterAction, frozen=True, eq=False):
    name: str
    if_exists: bool = False
    cascade: bool = False


class AddConstraint(AlterAction, frozen=True, eq=False):
    constraint: Constraint


class DropConstraint(AlterAction, frozen=True, eq=False):
    name: str
    if_exists: bool = False
    cascade: bool = False


class SetDefault(AlterAction, frozen=True, eq=False):
    """`expr` None: DROP DEFAULT."""

    column: str
    expr: Expr | None


class SetNotNull(AlterAction, frozen=True, eq=False):
    """`not_null` False: DROP NOT NULL."""

    column: str
    not_null: bool


class SetType(AlterAction, frozen=True, eq=False):
    column: str
    type: TypeName
    using: Expr | None = None


class RenameColumn(AlterAction, frozen=True, eq=False):
    old: str
    new: str


class RenameConstraint(AlterAction, frozen=True, eq=False):
    old: str
    new: str


class RenameTable(AlterAction, frozen=True, eq=False):
    new: str


class SplitAt(AlterAction, frozen=True, eq=False):
    """SPLIT AT VALUES (…), …: each row a prefix of the primary key (or index) columns."""

    rows: tuple[tuple[Expr, ...], ...]


class AlterTable(Statement, frozen=True, eq=False):
    """`kind` INDEX for ALTER INDEX (RENAME TO and SPLIT AT only)."""

    table: Name
    actions: tuple[AlterAction, ...]
    if_exists: bool = False
    kind: Lit["TABLE", "INDEX"] = "TABLE"


# --- transactions ----------------------------------------------------------------------------------------------


class TransactionModes(Node, frozen=True, eq=False):
    """`isolation` in lower case as SHOW prints it: "serializable", "read committed", …; None: not given."""

    isolation: str | None = None
    read_only: bool | None = None
    deferrable: bool | None = None
    as_of: Expr | None = None


class Begin(Statement, frozen=True, eq=False):
    """`start`: written START TRANSACTION (its command tag differs)."""

    modes: TransactionModes
    start: bool = False


class Commit(Statement, frozen=True, eq=False):
    chain: bool = False


class Rollback(Statement, frozen=True, eq=False):
    chain: bool = False


class Savepoint(Statement, frozen=True, eq=False):
    name: str


class Release(Statement, frozen=True, eq=False):
    name: str


class RollbackTo(Statement, frozen=True, eq=False):
    name: str


class SetTransaction(Statement, frozen=True, eq=False):
    """`session`: SET SESSION CHARACTERISTICS AS TRANSACTION."""

    modes: TransactionModes
    session: bool = False


# --- session and utility ---------------------------------------------------------------------------------------


class SetParameter(Statement, frozen=True, eq=False):
    """SET x = …: `values` are texts as PostgreSQL keeps them (numbers as written, on/true as written); () means
    DEFAULT. SET TIME ZONE is name "timezone" (LOCAL is ()), SET NAMES is "client_encoding", SET SCHEMA "search_path".
    The name is in lower case; with several values (search_path) each is one identifier or string."""

    name: str
    values: tuple[str, ...]
    local: bool = False


class ResetParameter(Statement, frozen=True, eq=False):
    """`name` None: RESET ALL."""

    name: str | None


class ShowParameter(Statement, frozen=True, eq=False):
    """`name` in lower case, "all" for SHOW ALL; SHOW TIME ZONE is "timezone", SHOW TRANSACTION ISOLATION LEVEL is
    "transaction_isolation"."""

    name: str


class ShowRanges(Statement, frozen=True, eq=False):
    """SHOW RANGES FROM TABLE t (or INDEX i)."""

    name: Name
    kind: Lit["TABLE", "INDEX"] = "TABLE"


class ShowObjects(Statement, frozen=True, eq=False):
    """SHOW TABLES, SHOW DATABASES, SHOW COLUMNS FROM t, SHOW INDEXES FROM t."""

    kind: Lit["TABLES", "DATABASES", "COLUMNS", "INDEXES", "SCHEMAS"]
    table: Name | None = None


class UtilityOption(Node, frozen=True, eq=False):
    """`ANALYZE`, `FORMAT json`, …: name in lower case, value as text, None if absent."""

    name: str
    value: str | None = None


class Explain(Statement, frozen=True, eq=False):
    statement: Statement
    analyze: bool = False
    options: tuple[UtilityOption, ...] = ()


class VacuumTarget(Node, frozen=True, eq=False):
    table: Name
    columns: tuple[str, ...] = ()


class Vacuum(Statement, frozen=True, eq=False):
    targets: tuple[VacuumTarget, ...] = ()
    options: tuple[UtilityOption, ...] = ()


class Analyze(Statement, frozen=True, eq=False):
    targets: tuple[VacuumTarget, ...] = ()
    options: tuple[UtilityOption, ...] = ()


class CopyOptions(Node, frozen=True, eq=False):
    """None: not given (the format's default). `force_quote` ("*",): all columns."""

    format: Lit["text", "csv", "binary"] = "text"
    delimiter: str | None = None
    null: str | None = None
    header: bool | Lit["match"] = False
    quote: str | None = None
    escape: str | None = None
    encoding: str | None = None
    freeze: bool = False
    force_quote: tuple[str, ...] = ()
    force_not_null: tuple[str, ...] = ()
    force_null: tuple[str, ...] = ()


class Copy(Statement, frozen=True, eq=False):
    """COPY over the wire only (a server file or PROGRAM is refused by the parser). Exactly one of table and query."""

    direction: Lit["FROM", "TO"]
    table: Name | None
    columns: tuple[str, ...]
    query: Query | Insert | Update | Delete | None
    options: CopyOptions
    where: Expr | None = None


class Prepare(Statement, frozen=True, eq=False):
    name: str
    types: tuple[TypeName, ...]
    statement: Statement


class Execute(Statement, frozen=True, eq=False):
    name: str
    args: tuple[Expr, ...] = ()


class Deallocate(Statement, frozen=True, eq=False):
    """`name` None: ALL."""

    name: str | None


class Discard(Statement, frozen=True, eq=False):
    target: Lit["ALL", "PLANS", "SEQUENCES", "TEMP"]


class DeclareCursor(Statement, frozen=True, eq=False):
    name: str
    query: Query
    binary: bool = False
    scroll: bool | None = None
    hold: bool = False


class FetchCursor(Statement, frozen=True, eq=False):
    """FETCH or MOVE; `direction` NEXT, PRIOR, FIRST, LAST, ABSOLUTE, RELATIVE, FORWARD, BACKWARD; `count` None: ALL."""

    name: str
    direction: str = "FORWARD"
    count: int | None = 1
    move: bool = False


class CloseCursor(Statement, frozen=True, eq=False):
    """`name` None: ALL."""

    name: str | None
