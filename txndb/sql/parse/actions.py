"""Parser actions for transactions, the session and utilities; `Actions` is the whole set."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from txndb.errors import sql_error
from txndb.sql.parse import ast
from txndb.sql.parse.actions_ddl import DdlActions
from txndb.sql.parse.actions_expr import unsupported
from txndb.sql.parse.tokens import Token

CopySetting = tuple[str, Any]
_TRUE: Final = frozenset(("true", "on", "1", "yes"))
_FALSE: Final = frozenset(("false", "off", "0", "no"))


class Actions(DdlActions):
    # --- transactions

    def begin(self, pos: int, _word: None, modes: list[dict[str, Any]] | None) -> ast.Begin:
        return ast.Begin(self._modes(pos, modes), pos=pos)

    def start_transaction(self, pos: int, modes: list[dict[str, Any]] | None) -> ast.Begin:
        return ast.Begin(self._modes(pos, modes), True, pos=pos)

    def _modes(self, pos: int, modes: list[dict[str, Any]] | None) -> ast.TransactionModes:
        merged: dict[str, Any] = {}
        for mode in modes or ():
            merged |= mode
        return ast.TransactionModes(**merged, pos=pos)

    def transaction_word(self, pos: int) -> None:
        return None

    def commit_word(self, pos: int) -> None:
        return None

    def rollback_word(self, pos: int) -> None:
        return None

    def commit(self, pos: int, _verb: None, _word: None, chain: bool | None) -> ast.Commit:
        return ast.Commit(bool(chain), pos=pos)

    def rollback(self, pos: int, _verb: None, _word: None, chain: bool | None) -> ast.Rollback:
        return ast.Rollback(bool(chain), pos=pos)

    def savepoint(self, pos: int, name: Token) -> ast.Savepoint:
        return ast.Savepoint(name.value, pos=pos)

    def release(self, pos: int, name: Token) -> ast.Release:
        return ast.Release(name.value, pos=pos)

    def rollback_to(self, pos: int, _verb: None, _word: None, name: Token) -> ast.RollbackTo:
        return ast.RollbackTo(name.value, pos=pos)

    def set_transaction(self, pos: int, modes: list[dict[str, Any]]) -> ast.SetTransaction:
        return ast.SetTransaction(self._modes(pos, modes), pos=pos)

    def set_characteristics(self, pos: int, modes: list[dict[str, Any]]) -> ast.SetTransaction:
        return ast.SetTransaction(self._modes(pos, modes), True, pos=pos)

    def mode_isolation(self, pos: int, level: str) -> dict[str, Any]:
        return {"isolation": level}

    def mode_read_only(self, pos: int) -> dict[str, Any]:
        return {"read_only": True}

    def mode_read_write(self, pos: int) -> dict[str, Any]:
        return {"read_only": False}

    def mode_deferrable(self, pos: int) -> dict[str, Any]:
        return {"deferrable": True}

    def mode_not_deferrable(self, pos: int) -> dict[str, Any]:
        return {"deferrable": False}

    def mode_as_of(self, pos: int, time: ast.Expr) -> dict[str, Any]:
        return {"as_of": time}

    def isolation_serializable(self, pos: int) -> str:
        return "serializable"

    def isolation_repeatable(self, pos: int) -> str:
        return "repeatable read"

    def isolation_committed(self, pos: int) -> str:
        return "read committed"

    def isolation_uncommitted(self, pos: int) -> str:
        return "read uncommitted"

    # --- SET, RESET, SHOW. A text option is a str; DEFAULT is None.

    def text_value(self, pos: int, token: Token) -> str:
        return token.value

    def text_signed(self, pos: int, sign: Token, digits: Token) -> str:
        return digits.value if sign.kind == "PLUS" else f"-{digits.value}"

    def text_default(self, pos: int) -> None:
        return None

    def text_on(self, pos: int) -> str:
        return "on"

    def text_true(self, pos: int) -> str:
        return "true"

    def text_false(self, pos: int) -> str:
        return "false"

    def text_none(self, pos: int) -> str:
        return "none"

    def set_to(self, pos: int) -> None:
        return None

    def parameter(self, pos: int, parts: list[str]) -> str:
        return ".".join(parts).lower()

    def set_parameter(
        self, pos: int, local: bool | None, name: str, _to: None, values: list[str | None]
    ) -> ast.SetParameter:
        if None in values and len(values) > 1:
            raise self.fail(None)
        return ast.SetParameter(name, tuple(v for v in values if v is not None), bool(local), pos=pos)

    def set_time_zone(self, pos: int, local: bool | None, zone: str | None) -> ast.SetParameter:
        return ast.SetParameter("timezone", () if zone is None else (zone,), bool(local), pos=pos)

    def zone_interval(self, pos: int, text: Token, _fields: str | None) -> str:
        return text.value

    def set_names(self, pos: int, local: bool | None, encoding: str | None) -> ast.SetParameter:
        return ast.SetParameter(
            "client_encoding", () if encoding is None else (encoding,), bool(local), pos=pos
        )

    def set_schema(self, pos: int, local: bool | None, schema: Token) -> ast.SetParameter:
        return ast.SetParameter("search_path", (schema.value,), bool(local), pos=pos)

    def reset_parameter(self, pos: int, name: str) -> ast.ResetParameter:
        return ast.ResetParameter(name, pos=pos)

    def reset_all(self, pos: int) -> ast.ResetParameter:
        return ast.ResetParameter(None, pos=pos)

    def reset_time_zone(self, pos: int) -> ast.ResetParameter:
        return ast.ResetParameter("timezone", pos=pos)

    def show_parameter(self, pos: int, name: str) -> ast.ShowParameter:
        return ast.ShowParameter(name, pos=pos)

    def show_all(self, pos: int) -> ast.ShowParameter:
        return ast.ShowParameter("all", pos=pos)

    def show_time_zone(self, pos: int) -> ast.ShowParameter:
        return ast.ShowParameter("timezone", pos=pos)

    def show_isolation(self, pos: int) -> ast.ShowParameter:
        return ast.ShowParameter("transaction_isolation", pos=pos)

    def show_authorization(self, pos: int) -> ast.ShowParameter:
        return ast.ShowParameter("session_authorization", pos=pos)

    def show_ranges_table(self, pos: int, name: ast.Name) -> ast.ShowRanges:
        return ast.ShowRanges(name, pos=pos)

    def show_ranges_index(self, pos: int, name: ast.Name) -> ast.ShowRanges:
        return ast.ShowRanges(name, "INDEX", pos=pos)

    def show_kind(self, pos: int, word: Token) -> str:
        return word.kind

    def show_objects(self, pos: int, kind: Any) -> ast.ShowObjects:
        return ast.ShowObjects(kind, pos=pos)

    def show_columns(self, pos: int, table: ast.Name) -> ast.ShowObjects:
        return ast.ShowObjects("COLUMNS", table, pos=pos)

    def show_indexes(self, pos: int, table: ast.Name) -> ast.ShowObjects:
        return ast.ShowObjects("INDEXES", table, pos=pos)

    # --- EXPLAIN, VACUUM, ANALYZE

    def explain_plain(self, pos: int, statement: ast.Statement) -> ast.Explain:
        return ast.Explain(statement, pos=pos)

    def word_list(self, pos: int, *words: Token) -> list[ast.UtilityOption]:
        return [ast.UtilityOption(_analyze(w), pos=w.start + 1) for w in words]

    def explain_words(
        self, pos: int, options: list[ast.UtilityOption], statement: ast.Statement
    ) -> ast.Explain:
        return self.explain_options(pos, options, statement)

    def explain_options(
        self, pos: int, options: list[ast.UtilityOption], statement: ast.Statement
    ) -> ast.Explain:
        analyze = False
        for option in options:
            if option.name == "analyze":
                analyze = _boolean(option)
        return ast.Explain(statement, analyze, tuple(options), pos=pos)

    def analyze_word(self, pos: int, word: Token) -> Token:
        return word

    def utility_name(self, pos: int, word: Token) -> str:
        return _analyze(word)

    def utility_option(self, pos: int, name: str, value: str | None) -> ast.UtilityOption:
        return ast.UtilityOption(name, value, pos=pos)

    def vacuum_word(self, pos: int, word: Token) -> ast.UtilityOption:
        return ast.UtilityOption(_analyze(word), pos=pos)

    def vacuum_target(self, pos: int, table: ast.Name, columns: list[str] | None) -> ast.VacuumTarget:
        return ast.VacuumTarget(table, tuple(columns or ()), pos=pos)

    def vacuum_words(
        self, pos: int, options: list[ast.UtilityOption] | None, targets: list[ast.VacuumTarget] | None
    ) -> ast.Vacuum:
        return ast.Vacuum(tuple(targets or ()), tuple(options or ()), pos=pos)

    def vacuum_options(
        self, pos: int, options: list[ast.UtilityOption], targets: list[ast.VacuumTarget] | None
    ) -> ast.Vacuum:
        return ast.Vacuum(tuple(targets or ()), tuple(options), pos=pos)

    def analyze_words(
        self, pos: int, _word: Token, verbose: Token | None, targets: list[ast.VacuumTarget] | None
    ) -> ast.Analyze:
        options = self.word_list(pos, verbose) if verbose else []
        return ast.Analyze(tuple(targets or ()), tuple(options), pos=pos)

    def analyze_options(
        self,
        pos: int,
        _word: Token,
        options: list[ast.UtilityOption],
        targets: list[ast.VacuumTarget] | None,
    ) -> ast.Analyze:
        return ast.Analyze(tuple(targets or ()), tuple(options), pos=pos)

    # --- COPY

    def copy_table(
        self,
        pos: int,
        binary: Token | None,
        table: ast.Name,
        columns: list[str] | None,
        direction: Any,
        _source: None,
        delimiter: str | None,
        settings: list[CopySetting] | None,
        where: ast.Expr | None,
    ) -> ast.Copy:
        if where is not None and direction == "TO":
            raise sql_error("42601", "WHERE clause not allowed with COPY TO", position=where.pos)
        early: list[CopySetting] = [("format", "binary")] if binary else []
        if delimiter is not None:
            early.append(("delimiter", delimiter))
        options = self._copy_options(pos, [*early, *(settings or ())])
        return ast.Copy(direction, table, tuple(columns or ()), None, options, where, pos=pos)

    def copy_query(self, pos: int, query: Any, _source: None, settings: list[CopySetting] | None) -> ast.Copy:
        return ast.Copy("TO", None, (), query, self._copy_options(pos, settings or []), pos=pos)

    def _copy_options(self, pos: int, settings: list[CopySetting]) -> ast.CopyOptions:
        merged: dict[str, Any] = {}
        for name, value in settings:
            if name in merged:
                raise sql_error("42601", "conflicting or redundant options", position=pos)
            merged[name] = value
        options = ast.CopyOptions(**merged, pos=pos)
        self._check_copy_options(options)
        return options

    def _check_copy_options(self, options: ast.CopyOptions) -> None:
        """What PostgreSQL asks of them, in its order; these errors have no position."""
        if options.header == "match":
            unsupported("HEADER MATCH is", options.pos)
        csv = options.format == "csv"
        delimiter = options.delimiter if options.delimiter is not None else "," if csv else "\t"
        null = options.null if options.null is not None else "" if csv else "\\N"
        if len(delimiter.encode()) != 1:
            raise sql_error("0A000", "COPY delimiter must be a single one-byte character")
        if delimiter in "\r\n":
            raise sql_error("22023", "COPY delimiter cannot be newline or carriage return")
        if "\r" in null or "\n" in null:
            raise sql_error("22023", "COPY null representation cannot use newline or carriage return")
        if not csv and delimiter in "\\.abcdefghijklmnopqrstuvwxyz0123456789":
            raise sql_error("22023", f'COPY delimiter cannot be "{delimiter}"')
        for name, value in (("quote", options.quote), ("escape", options.escape)):
            if value is None:
                continue
            if not csv:
                raise sql_error("0A000", f"COPY {name} available only in CSV mode")
            if len(value.encode()) != 1:
                raise sql_error("0A000", f"COPY {name} must be a single one-byte character")
        if csv and delimiter == (options.quote or '"'):
            raise sql_error("22023", "COPY delimiter and quote must be different")
        for word, columns in (
            ("force quote", options.force_quote),
            ("force not null", options.force_not_null),
            ("force null", options.force_null),
        ):
            if columns and not csv:
                raise sql_error("0A000", f"COPY {word} available only in CSV mode")
        if delimiter in null:
            raise sql_error("22023", "COPY delimiter must not appear in the NULL specification")
        if csv and (options.quote or '"') in null:
            raise sql_error("22023", "CSV quote character must not appear in the NULL specification")

    def copy_from(self, pos: int, word: Token) -> str:
        return word.kind

    def copy_source(self, pos: int, word: Token) -> None:
        if word.kind in ("STRING", "PROGRAM"):
            unsupported("COPY with a file or a program on the server is", pos)

    def copy_options_new(self, pos: int, settings: list[CopySetting]) -> list[CopySetting]:
        return settings

    def copy_options_old(self, pos: int, settings: list[CopySetting]) -> list[CopySetting]:
        return settings

    def copy_option_name(self, pos: int, word: Token) -> str:
        return word.value

    def copy_star(self, pos: int) -> list[str]:
        return ["*"]

    def copy_option(self, pos: int, name: str, value: str | list[str] | None) -> CopySetting:
        if name == "header":
            return (name, "match" if value == "match" else self._copy_boolean(name, value, pos))
        if name == "freeze":
            return (name, self._copy_boolean(name, value, pos))
        if name == "format":
            if value not in ("text", "csv", "binary"):
                raise sql_error("22023", f'COPY format "{value}" not recognized', position=pos)
            return (name, value)
        if name in ("delimiter", "null", "quote", "escape", "encoding"):
            if not isinstance(value, str):
                raise sql_error("42601", f"{name} requires a parameter", position=pos)
            return (name, value)
        if name in ("force_quote", "force_not_null", "force_null"):
            if not isinstance(value, list) or (name != "force_quote" and value == ["*"]):
                message = f'argument to option "{name}" must be a list of column names'
                raise sql_error("22023", message, position=pos)
            return (name, tuple(value))
        raise sql_error("42601", f'option "{name}" not recognized', position=pos)

    def _copy_boolean(self, name: str, value: object, pos: int) -> bool:
        if value is None or (isinstance(value, str) and value.lower() in _TRUE):
            return True
        if isinstance(value, str) and value.lower() in _FALSE:
            return False
        allowed = 'a Boolean value or "match"' if name == "header" else "a Boolean value"
        raise sql_error("42601", f"{name} requires {allowed}", position=pos)

    def copy_binary(self, pos: int, _word: Token) -> CopySetting:
        return ("format", "binary")

    def copy_csv(self, pos: int) -> CopySetting:
        return ("format", "csv")

    def copy_freeze(self, pos: int, _word: Token) -> CopySetting:
        return ("freeze", True)

    def copy_header(self, pos: int, _word: Token) -> CopySetting:
        return ("header", True)

    def copy_delimiter(self, pos: int, text: Token) -> CopySetting:
        return ("delimiter", text.value)

    def copy_null(self, pos: int, text: Token) -> CopySetting:
        return ("null", text.value)

    def copy_quote(self, pos: int, text: Token) -> CopySetting:
        return ("quote", text.value)

    def copy_escape(self, pos: int, text: Token) -> CopySetting:
        return ("escape", text.value)

    def copy_encoding(self, pos: int, text: Token) -> CopySetting:
        return ("encoding", text.value)

    def copy_force_quote(self, pos: int, columns: list[str]) -> CopySetting:
        return ("force_quote", tuple(columns))

    def copy_force_not_null(self, pos: int, columns: list[str]) -> CopySetting:
        return ("force_not_null", tuple(columns))

    def copy_force_null(self, pos: int, columns: list[str]) -> CopySetting:
        return ("force_null", tuple(columns))

    # --- prepared statements, cursors

    def prepare(
        self, pos: int, name: Token, types: list[ast.TypeName] | None, statement: ast.Statement
    ) -> ast.Prepare:
        return ast.Prepare(name.value, tuple(types or ()), statement, pos=pos)

    def execute(self, pos: int, name: Token, args: list[ast.Expr] | None) -> ast.Execute:
        return ast.Execute(name.value, tuple(args or ()), pos=pos)

    def deallocate(self, pos: int, name: Token) -> ast.Deallocate:
        return ast.Deallocate(name.value, pos=pos)

    def deallocate_all(self, pos: int) -> ast.Deallocate:
        return ast.Deallocate(None, pos=pos)

    def discard(self, pos: int, target: Any) -> ast.Discard:
        return ast.Discard(target, pos=pos)

    def discard_target(self, pos: int, word: Token) -> str:
        return "TEMP" if word.kind == "TEMPORARY" else word.kind

    def declare(
        self, pos: int, name: Token, options: list[str] | None, hold: bool | None, query: ast.Query
    ) -> ast.DeclareCursor:
        words = options or []
        scroll: bool | None = None
        if "SCROLL" in words:
            scroll = True
        if "NO" in words:
            scroll = False
        return ast.DeclareCursor(name.value, query, "BINARY" in words, scroll, bool(hold), pos=pos)

    def cursor_option(self, pos: int, word: Token) -> str:
        return word.kind

    def fetch_word(self, pos: int, word: Token) -> bool:
        return word.kind == "MOVE"

    def from_in(self, pos: int) -> None:
        return None

    def fetch(
        self, pos: int, move: bool, direction: tuple[str, int | None] | None, _from: None, name: Token
    ) -> ast.FetchCursor:
        word, count = direction or ("FORWARD", 1)
        return ast.FetchCursor(name.value, word, count, move, pos=pos)

    def direction_word(self, pos: int, word: Token) -> tuple[str, int | None]:
        return (word.kind, 1)

    def direction_count(self, pos: int, word: Token, count: int) -> tuple[str, int | None]:
        return (word.kind, count)

    def direction_forward(self, pos: int, count: int) -> tuple[str, int | None]:
        return ("FORWARD", count)

    def direction_all(self, pos: int) -> tuple[str, int | None]:
        return ("FORWARD", None)

    def direction_count_all(self, pos: int, word: Token) -> tuple[str, int | None]:
        return (word.kind, None)

    def close(self, pos: int, name: Token) -> ast.CloseCursor:
        return ast.CloseCursor(name.value, pos=pos)

    def close_all(self, pos: int) -> ast.CloseCursor:
        return ast.CloseCursor(None, pos=pos)

    # --- refusals

    def unsupported_from_current(self, pos: int, *_: object) -> NoReturn:
        unsupported("SET … FROM CURRENT is", pos)


def _analyze(word: Token) -> str:
    return "analyze" if word.kind == "ANALYSE" else word.value


def _boolean(option: ast.UtilityOption) -> bool:
    if option.value is None or option.value.lower() in _TRUE:
        return True
    if option.value.lower() in _FALSE:
        return False
    raise sql_error("42601", f"{option.name} requires a Boolean value")
