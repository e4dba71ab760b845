"""The string and byte-string functions. Positions and lengths count characters, from 1, as PostgreSQL does."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from txndb.errors import sql_error
from txndb.sql.types.context import DEFAULT_CONTEXT
from txndb.sql.types.patterns import compile_regex
from txndb.sql.types.textio import parse_bytea, parse_hex

TEXT_CHARACTERS_MAX: Final = 64 * 1024 * 1024


def _too_long() -> Exception:
    return sql_error("54000", "requested length too large")


def lower(value: str) -> str:
    return value.lower() if value.isascii() else "".join(_single(c, c.lower()) for c in value)


def upper(value: str) -> str:
    return value.upper() if value.isascii() else "".join(_single(c, c.upper()) for c in value)


def _single(character: str, mapped: str) -> str:
    """Case mapping is one to one, so ß stays ß."""
    return mapped if len(mapped) == 1 else character


def initcap(value: str) -> str:
    out, inside = [], False
    for character in value:
        out.append(_single(character, character.lower() if inside else character.upper()))
        inside = character.isalnum()
    return "".join(out)


def btrim(value: str, characters: str = " ") -> str:
    return value.strip(characters) if characters else value


def ltrim(value: str, characters: str = " ") -> str:
    return value.lstrip(characters) if characters else value


def rtrim(value: str, characters: str = " ") -> str:
    return value.rstrip(characters) if characters else value


def octet_length(value: str) -> int:
    return len(value) if value.isascii() else len(value.encode())


def substring_from(value: str, start: int) -> str:
    return value[start - 1 :] if start > 1 else value


def substring(value: str, start: int, count: int) -> str:
    """Characters start .. start + count - 1; those before the first do not exist but count."""
    if count < 0:
        raise sql_error("22011", "negative substring length not allowed")
    return value[max(start - 1, 0) : max(start - 1 + count, 0)]


def substring_bytes_from(value: bytes, start: int) -> bytes:
    return value[start - 1 :] if start > 1 else value


def substring_bytes(value: bytes, start: int, count: int) -> bytes:
    if count < 0:
        raise sql_error("22011", "negative substring length not allowed")
    return value[max(start - 1, 0) : max(start - 1 + count, 0)]


def substring_regex(value: str, pattern: str) -> str | None:
    """The first group of the first match, or the match itself."""
    found = compile_regex(pattern).search(value)
    if found is None:
        return None
    return found[1] if found.re.groups else found[0]


def strpos(value: str, part: str) -> int:
    return value.find(part) + 1


def byte_position(value: bytes, part: bytes) -> int:
    return value.find(part) + 1


def replace(value: str, old: str, new: str) -> str:
    return value.replace(old, new) if old else value


def left(value: str, count: int) -> str:
    return value[:count]


def right(value: str, count: int) -> str:
    if count >= 0:
        return value[len(value) - count :] if count < len(value) else value
    return value[-count:]


def lpad(value: str, length: int, fill: str = " ") -> str:
    missing = _padding(value, length, fill)
    return missing + value if missing else value[: max(length, 0)]


def rpad(value: str, length: int, fill: str = " ") -> str:
    missing = _padding(value, length, fill)
    return value + missing if missing else value[: max(length, 0)]


def _padding(value: str, length: int, fill: str) -> str:
    missing = length - len(value)
    if missing <= 0 or not fill:
        return ""
    if length > TEXT_CHARACTERS_MAX:
        raise _too_long()
    return (fill * (missing // len(fill) + 1))[:missing]


def repeat(value: str, count: int) -> str:
    if len(value) * max(count, 0) > TEXT_CHARACTERS_MAX:
        raise _too_long()
    return value * max(count, 0)


def reverse(value: str) -> str:
    return value[::-1]


def split_part(value: str, delimiter: str, field: int) -> str:
    if field == 0:
        raise sql_error("22023", "field position must not be zero")
    if not value:
        return ""
    parts = value.split(delimiter) if delimiter else [value]
    if field > 0:
        return parts[field - 1] if field <= len(parts) else ""
    return parts[field] if -field <= len(parts) else ""


def ascii_code(value: str) -> int:
    return ord(value[0]) if value else 0


def character(code: int) -> str:
    if code == 0:
        raise sql_error("54000", "null character not permitted")
    if code < 0:
        raise sql_error("22023", "character number must be positive")
    if code > 0x10FFFF:
        raise sql_error("54000", f"requested character too large for encoding: {code}")
    if 0xD800 <= code <= 0xDFFF:
        raise sql_error("54000", f"requested character not valid for encoding: {code}")
    return chr(code)


def to_hex4(value: int) -> str:
    return f"{value & 0xFFFFFFFF:x}"


def to_hex8(value: int) -> str:
    return f"{value & 0xFFFFFFFFFFFFFFFF:x}"


def encode(data: bytes, form: str) -> str:
    """bytea to text as hex, base64 (lines of 76) or escape."""
    name = form.lower()
    if name == "hex":
        return data.hex()
    if name == "base64":
        text = base64.b64encode(data).decode()
        return "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    if name == "escape":
        return "".join(_escaped(byte) for byte in data)
    raise _unknown_encoding(form)


def _escaped(byte: int) -> str:
    if byte == 0 or byte > 127:
        return f"\\{byte:03o}"
    return "\\\\" if byte == 0x5C else chr(byte)


def decode(text: str, form: str) -> bytes:
    """The inverse of `encode`."""
    name = form.lower()
    if name == "hex":
        return parse_hex(text)
    if name == "base64":
        return _decode_base64(text)
    if name == "escape":
        return parse_bytea("\\" + text[1:] if text.startswith("\\x") else text, DEFAULT_CONTEXT)
    raise _unknown_encoding(form)


def _decode_base64(text: str) -> bytes:
    body = re.sub(r"[ \t\r\n]", "", text)
    bad = re.search(r"[^A-Za-z0-9+/=]", body)
    if bad is not None:
        raise sql_error("22023", f'invalid symbol "{bad[0]}" found while decoding base64 sequence')
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        hint = "Input data is missing padding, is truncated, or is otherwise corrupted."
        raise sql_error("22023", "invalid base64 end sequence", hint=hint) from None


def _unknown_encoding(form: str) -> Exception:
    return sql_error("22023", f'unrecognized encoding: "{form}"')


_KEY_WORDS: Final = """
all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean
both case cast char character check coalesce collate collation column concurrently constraint
create cross current_catalog current_date current_role current_schema current_time
current_timestamp current_user dec decimal default deferrable desc distinct do else end except
exists extract false fetch float for foreign freeze from full grant greatest group grouping having
ilike in initially inner inout int integer intersect interval into is isnull join lateral leading
least left like limit localtime localtimestamp national natural nchar none normalize not notnull
null nullif numeric offset on only or order out outer overlaps overlay placing position precision
primary real references returning right row select session_user setof similar smallint some
substring symmetric table tablesample then time timestamp to trailing treat trim true union unique
user using values varchar variadic verbose when where window with xmlattributes xmlconcat
xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
"""
"""Every key word of SQL that is not usable as any name: quote_ident quotes these."""
_QUOTED_WORDS: Final = frozenset(_KEY_WORDS.split())
_PLAIN_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]*\Z", re.ASCII)


def quote_ident(name: str) -> str:
    """An identifier as it must be written; words that are not plain or are key words get quotes."""
    if _PLAIN_IDENTIFIER.match(name) and name not in _QUOTED_WORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def quote_literal(value: str) -> str:
    quoted = value.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in quoted else f"'{quoted}'"


def quote_nullable(value: str | None) -> str:
    return "NULL" if value is None else quote_literal(value)


def translate(value: str, old: str, new: str) -> str:
    table: dict[int, str | None] = {}
    for at, have in enumerate(old):
        table.setdefault(ord(have), new[at] if at < len(new) else None)
    return value.translate(table)


def overlay(value: str, part: str, start: int, count: int) -> str:
    if start <= 0:
        raise sql_error("22011", "negative substring length not allowed")
    return value[: start - 1] + part + value[max(start - 1 + count, 0) :]


def overlay_whole(value: str, part: str, start: int) -> str:
    return overlay(value, part, start, len(part))


def string_to_array(
    value: str | None, delimiter: str | None, null: str | None = None
) -> list[str | None] | None:
    if value is None:
        return None
    if not value:
        return []
    if delimiter is None:
        parts = list(value)
    else:
        parts = value.split(delimiter) if delimiter else [value]
    return [None if null is not None and part == null else part for part in parts]


# --- regular expressions


def _replacement(template: str, found: re.Match[str]) -> str:
    r"""PostgreSQL's replacement text: \1..\9 are groups, \& the match, \\ a backslash."""

    def expand(mark: re.Match[str]) -> str:
        code = mark[1]
        if code == "&":
            return found[0]
        if code.isdigit():
            number = int(code)
            return (found[number] or "") if 1 <= number <= found.re.groups else ""
        return "\\" if code == "\\" else mark[0]

    return re.sub(r"\\(.)", expand, template, flags=re.DOTALL)


def regexp_replace(value: str, pattern: str, replacement: str, flags: str = "") -> str:
    compiled = compile_regex(pattern, flags)
    count = 0 if "g" in flags else 1
    return compiled.sub(lambda found: _replacement(replacement, found), value, count=count)


def regexp_match(value: str, pattern: str, flags: str = "") -> list[str | None] | None:
    if "g" in flags:
        hint = "Use the regexp_matches function instead."
        raise sql_error("22023", 'regexp_match() does not support the "global" option', hint=hint)
    found = compile_regex(pattern, flags).search(value)
    if found is None:
        return None
    return list(found.groups()) if found.re.groups else [found[0]]


def regexp_like(value: str, pattern: str, flags: str = "") -> bool:
    return compile_regex(pattern, flags).search(value) is not None


def regexp_count(value: str, pattern: str, start: int = 1, flags: str = "") -> int:
    if start < 1:
        raise sql_error("22023", f'invalid value for parameter "start": {start}')
    return sum(1 for _ in compile_regex(pattern, flags).finditer(value, start - 1))


def regexp_substr(value: str, pattern: str) -> str | None:
    found = compile_regex(pattern).search(value)
    return None if found is None else found[0]


def regexp_split_to_array(value: str, pattern: str, flags: str = "") -> list[str]:
    parts, last = [], 0
    for found in compile_regex(pattern, flags).finditer(value):
        if found.end() == found.start() and found.start() in (last, len(value)):
            continue
        parts.append(value[last : found.start()])
        last = found.end()
    return [*parts, value[last:]]


_FORMAT_SPECIFIER: Final = re.compile(
    r"%(?:(?P<position>[0-9]+)\$)?(?P<flag>-?)(?P<width>[0-9]*)(?P<kind>.?)", re.DOTALL
)


def format_sql(template: str, arguments: list[str | None]) -> str:
    """format(template, …): %s text, %I identifier, %L literal, with positions and widths."""
    out, at, following = [], 0, 0
    for found in _FORMAT_SPECIFIER.finditer(template):
        out.append(template[at : found.start()])
        at = found.end()
        kind = found["kind"]
        if kind == "%":
            out.append("%")
            continue
        if kind not in ("s", "I", "L"):
            raise _bad_specifier(kind)
        index = int(found["position"]) - 1 if found["position"] else following
        if index < 0:
            raise sql_error("22023", "format specifies argument 0, but arguments are numbered from 1")
        if index >= len(arguments):
            raise sql_error("22023", "too few arguments for format()")
        following = index + 1
        text = _formatted(kind, arguments[index])
        width = int(found["width"] or 0)
        out.append(text.ljust(width) if found["flag"] else text.rjust(width))
    return "".join(out) + template[at:]


def _bad_specifier(kind: str) -> Exception:
    if not kind:
        hint = 'For a single "%" use "%%".'
        return sql_error("22023", "unterminated format() type specifier", hint=hint)
    return sql_error(
        "22023", f'unrecognized format() type specifier "{kind}"', hint='For a single "%" use "%%".'
    )


def _formatted(kind: str, argument: str | None) -> str:
    if kind == "L":
        return quote_nullable(argument)
    if argument is None:
        if kind == "I":
            raise sql_error("22004", "null values cannot be formatted as an SQL identifier")
        return ""
    return quote_ident(argument) if kind == "I" else argument
