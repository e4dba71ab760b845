"""The tokenizer: SQL text to tokens by PostgreSQL's lexical rules (manual 4.1 "Lexical Structure").

One regular expression finds the ordinary tokens; what a regular expression cannot count (nested comments, dollar
quotes, escapes) is finished by hand. `tokenize` is the parser's: no trivia, errors raised. `scan` is the editor's:
every character belongs to exactly one token, nothing is an error (an unfinished string is a token `INCOMPLETE`).

Invariants
 1. `sql[token.start:token.end]` is the token's text; tokens do not overlap and rise.
 2. `"".join(sql[t.start:t.end] for t in scan(sql)) == sql`.
 3. Unquoted identifiers are folded to lower case in ASCII only and cut at 63 bytes, as PostgreSQL does.

Kinds: a key word's name in upper case · IDENT · STRING · BITSTRING · INTEGER · NUMERIC · PARAM · the operator kinds
EQ CMP PLUS MINUS STAR SLASH PERCENT CARET OP · LPAR RPAR LSQB RSQB COMMA SEMICOLON DOT COLON TYPECAST ARROW ASSIGN ·
EOF; `scan` adds SPACE COMMENT INCOMPLETE INVALID.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Final, NamedTuple, TypeVar

from txndb import limits
from txndb.errors import SqlError, sql_error
from txndb.sql.parse.keywords import KEYWORDS

T = TypeVar("T")
IDENTIFIER_BYTES_MAX: Final = 63


class Token(NamedTuple):
    """`value`: the folded word, the decoded string, the digits, the operator. Offsets count characters from 0."""

    kind: str
    value: str
    start: int
    end: int


_WORD = r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*"
_MASTER: Final = re.compile(
    rf"""(?:[ \t\n\r\f\v]+|--[^\n\r]*)*(?:
      ((?!(?:[eEbBxXnN]|[uU]&)'|[uU]&")  {_WORD})      # 1 word
    | ([(),;\[\]])                                     # 2 punctuation
    | ((?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d+)?) # 3 number
    | ('[^']*(?:''[^']*)*')                            # 4 plain string
    | ("[^"]+(?:""[^"]*)*"|"(?:""[^"]*)+")             # 5 quoted identifier
    | \$(\d+)                                          # 6 parameter
    | (::|:=|:|\.\.|\.)                                # 7 dots and colons
    | ((?:[-+*<>=~!@\#%^&|`?]|/(?!\*))+)               # 8 operator
    | (\Z)                                             # 9 end
    | (.)                                              # 10 what needs a hand: prefixed strings, $tag$, comments, errors
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORD_RE: Final = re.compile(_WORD)
_SPACE_RE: Final = re.compile(r"[ \t\n\r\f\v]+")
_LINE_COMMENT_RE: Final = re.compile(r"--[^\n\r]*")
CONTINUATION_RE: Final = re.compile(r"(?:[ \t\f\v]|--[^\n\r]*)*[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*)*'")
_QUOTED_RE: Final = re.compile(r"[^']*(?:''[^']*)*'")
_ESCAPED_RE: Final = re.compile(r"[^'\\]*(?:(?:''|\\.)[^'\\]*)*'", re.DOTALL)
_DOLLAR_RE: Final = re.compile(r"\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$")
_COMMENT_EDGE_RE: Final = re.compile(r"/\*|\*/")
_PUNCTUATION: Final = {
    "(": "LPAR",
    ")": "RPAR",
    ",": "COMMA",
    ";": "SEMICOLON",
    "[": "LSQB",
    "]": "RSQB",
    ".": "DOT",
    ":": "COLON",
    "::": "TYPECAST",
    ":=": "ASSIGN",
    "=>": "ARROW",
}
_OPERATORS: Final = {
    "=": ("EQ", "="),
    "<": ("CMP", "<"),
    ">": ("CMP", ">"),
    "<=": ("CMP", "<="),
    ">=": ("CMP", ">="),
    "<>": ("CMP", "<>"),
    "!=": ("CMP", "<>"),
    "+": ("PLUS", "+"),
    "-": ("MINUS", "-"),
    "*": ("STAR", "*"),
    "/": ("SLASH", "/"),
    "%": ("PERCENT", "%"),
    "^": ("CARET", "^"),
    "=>": ("ARROW", "=>"),
}
_WORDS: Final = {spelling: (word, word.lower()) for word in KEYWORDS for spelling in (word, word.lower())}
_SPECIAL_OPERATOR_CHARS: Final = frozenset("~!@#%^&|`?")
_new = tuple.__new__


def fold(word: str) -> str:
    """An unquoted identifier's name: ASCII letters in lower case, at most 63 bytes."""
    if word.isascii():
        word = word.lower()
    else:
        word = "".join(c.lower() if c < "\x80" else c for c in word)
    return truncate_identifier(word)


def truncate_identifier(name: str) -> str:
    """Cut a name at 63 bytes of UTF-8, never inside a character."""
    if len(name) <= 15:  # cannot exceed the bound whatever the characters are
        return name
    encoded = name.encode("utf-8", "surrogatepass")
    if len(encoded) <= IDENTIFIER_BYTES_MAX:
        return name
    return encoded[:IDENTIFIER_BYTES_MAX].decode("utf-8", "ignore")


def syntax_error(sql: str, token: Token) -> SqlError:
    """PostgreSQL's message for a token the grammar does not allow."""
    if token.kind == "EOF":
        return sql_error("42601", "syntax error at end of input", position=token.start + 1)
    return near_error("syntax error", sql, token.start, token.end)


def near_error(what: str, sql: str, start: int, end: int, state: str = "42601") -> SqlError:
    return sql_error(state, f'{what} at or near "{sql[start:end]}"', position=start + 1)


def tokenize(sql: str) -> list[Token]:
    """All tokens of `sql` without white space and comments, then EOF. Raises 42601 (and others) like PostgreSQL."""
    return result_of(token_steps(sql))


def result_of(steps: Generator[None, None, T]) -> T:
    """What work in turns gives, all turns at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def token_steps(sql: str) -> Generator[None, None, list[Token]]:
    """`tokenize` in turns of STATEMENT_TURN_TOKENS; 54000 for a text of too many tokens."""
    tokens: list[Token] = []
    add = tokens.append
    turn = limits.STATEMENT_TURN_TOKENS
    match = _MASTER.match
    words = _WORDS
    at = 0
    if "\0" in sql:
        raise sql_error(
            "22021", 'invalid byte sequence for encoding "UTF8": 0x00', position=sql.index("\0") + 1
        )
    while True:
        if len(tokens) >= turn:
            turn += limits.STATEMENT_TURN_TOKENS
            if turn > limits.STATEMENT_TOKENS_MAX:
                raise sql_error(
                    "54000",
                    f"a statement has more than {limits.STATEMENT_TOKENS_MAX} words, constants and marks",
                    hint="Use COPY, or several statements.",
                )
            yield
        found = match(sql, at)
        assert found is not None, "the last alternatives match anything"
        group = found.lastindex
        assert group is not None
        start, end = found.span(group)
        if group == 1:
            text = found[1]
            known = words.get(text)
            if known is None:
                lowered = fold(text)
                known = words.get(lowered) or ("IDENT", lowered)
            add(_new(Token, (known[0], known[1], start, end)))
        elif group == 2:
            text = found[2]
            add(_new(Token, (_PUNCTUATION[text], text, start, end)))
        elif group == 9:
            # PostgreSQL reports the end of the text, white space and all.
            add(Token("EOF", "", len(sql), len(sql)))
            return tokens
        elif group == 4:
            token = _string(sql, start, end)
            add(token)
            end = token.end
        elif group == 10 and (end := _skip_comment(sql, start)) > start:
            pass
        else:
            token = _other(sql, group, start, end)
            add(token)
            end = token.end
        at = end


def _skip_comment(sql: str, start: int) -> int:
    """The end of the block comment that starts here; `start` if none does."""
    if not sql.startswith("/*", start):
        return start
    end = _comment_end(sql, start)
    if end < 0:
        raise near_error("unterminated /* comment", sql, start, len(sql))
    return end


def _comment_end(sql: str, start: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE_RE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return -1


def _string(sql: str, start: int, end: int) -> Token:
    """A plain string whose first piece is [start, end): undouble quotes, join pieces over line breaks (4.1.2.1)."""
    value = sql[start + 1 : end - 1]
    if "'" in value:
        value = value.replace("''", "'")
    while (more := CONTINUATION_RE.match(sql, end)) is not None:
        piece = _QUOTED_RE.match(sql, more.end())
        if piece is None:
            raise near_error("unterminated quoted string", sql, start, len(sql))
        value += piece[0][:-1].replace("''", "'")
        end = piece.end()
    return Token("STRING", value, start, end)


def _other(sql: str, group: int, start: int, end: int) -> Token:
    """The rarer tokens, by the group of the master expression that found them."""
    text = sql[start:end]
    if group == 8:
        return _operator(text, start)
    if group == 3:
        return _number(sql, text, start, end)
    if group == 7:
        if text == "..":
            return Token("DOT", ".", start, start + 1)
        return Token(_PUNCTUATION[text], text, start, end)
    if group == 5:
        return Token("IDENT", truncate_identifier(text[1:-1].replace('""', '"')), start, end)
    if group == 6:
        return _parameter(sql, text, start - 1, end)
    return _by_hand(sql, start)


def _operator(text: str, start: int) -> Token:
    """PostgreSQL's maximal munch: stop before a comment, and give back a trailing + or - unless the operator is
    one that cannot be SQL's own (4.1.3)."""
    cut = text.find("--")
    if cut > 0:
        text = text[:cut]
    if len(text) > 1 and text[-1] in "+-" and _SPECIAL_OPERATOR_CHARS.isdisjoint(text):
        text = text.rstrip("+-") or text[0]
        # "=-": one token of what is before the signs; "+-": the first sign alone
    kind, value = _OPERATORS.get(text, ("OP", text))
    return Token(kind, value, start, start + len(text))


def _number(sql: str, text: str, start: int, end: int) -> Token:
    junk = _WORD_RE.match(sql, end)
    if junk is not None:
        raise near_error("trailing junk after numeric literal", sql, start, end + 1)
    if text.isdigit():
        return Token("INTEGER", text, start, end)
    return Token("NUMERIC", text, start, end)


def _parameter(sql: str, digits: str, start: int, end: int) -> Token:
    junk = _WORD_RE.match(sql, end)
    if junk is not None:
        raise near_error("trailing junk after parameter", sql, start, end + 1)
    if not 1 <= len(digits) <= 9 or not 0 < int(digits) <= 65_535:
        raise sql_error("42P02", f"there is no parameter ${digits}", position=start + 1)
    return Token("PARAM", digits, start, end)


def _by_hand(sql: str, start: int) -> Token:
    """Strings with a prefix, dollar quotes and what is no token at all."""
    first = sql[start]
    if first == "'":
        raise near_error("unterminated quoted string", sql, start, len(sql))
    if first == '"':
        if sql.startswith('""', start):
            raise near_error("zero-length delimited identifier", sql, start, start + 2)
        raise near_error("unterminated quoted identifier", sql, start, len(sql))
    if first == "$" and (tag := _DOLLAR_RE.match(sql, start)) is not None:
        close = sql.find(tag[0], tag.end())
        if close < 0:
            raise near_error("unterminated dollar-quoted string", sql, start, len(sql))
        return Token("STRING", sql[tag.end() : close], start, close + len(tag[0]))
    if first in "eE" and sql.startswith("'", start + 1):
        return _escape_string(sql, start)
    if first in "bBxX" and sql.startswith("'", start + 1):
        return _bit_string(sql, start)
    if first in "nN" and sql.startswith("'", start + 1):
        piece = _QUOTED_RE.match(sql, start + 2)
        if piece is None:
            raise near_error("unterminated quoted string", sql, start, len(sql))
        token = _string(sql, start + 1, piece.end())
        return Token("STRING", token.value, start, token.end)
    if first in "uU" and sql.startswith("&", start + 1):
        return _unicode_token(sql, start)
    raise near_error("syntax error", sql, start, start + 1)


_SIMPLE_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE_RE: Final = re.compile(
    r"''|\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([uU])|(.))", re.DOTALL
)


def _escape_string(sql: str, start: int) -> Token:
    """E'…' (4.1.2.2). Octal and hex escapes are bytes, which together must be UTF-8."""
    piece = _ESCAPED_RE.match(sql, start + 2)
    if piece is None:
        raise near_error("unterminated quoted string", sql, start, len(sql))
    body, end = piece[0][:-1], piece.end()
    while (more := CONTINUATION_RE.match(sql, end)) is not None:
        piece = _ESCAPED_RE.match(sql, more.end())
        if piece is None:
            raise near_error("unterminated quoted string", sql, start, len(sql))
        body, end = body + piece[0][:-1], piece.end()
    if "\\" not in body:
        return Token("STRING", body.replace("''", "'"), start, end)
    out = bytearray()
    at = 0
    for escape in _ESCAPE_RE.finditer(body):
        out += body[at : escape.start()].encode("utf-8", "surrogatepass")
        out += _unescape(sql, escape, start)
        at = escape.end()
    out += body[at:].encode("utf-8", "surrogatepass")
    try:
        value = out.decode("utf-8", "surrogatepass")
        value = value.encode("utf-16", "surrogatepass").decode("utf-16")  # joins surrogate pairs
    except UnicodeDecodeError as error:
        raise sql_error("22021", 'invalid byte sequence for encoding "UTF8"', position=start + 1) from error
    if "\0" in value:
        raise sql_error("22021", 'invalid byte sequence for encoding "UTF8": 0x00', position=start + 1)
    return Token("STRING", value, start, end)


def _unescape(sql: str, escape: re.Match[str], start: int) -> bytes:
    octal, hexadecimal, short, long, malformed, plain = escape.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 255])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    if short is not None or long is not None:
        code = int(short or long, 16)
        if not 0 < code <= 0x10FFFF:
            raise near_error("invalid Unicode escape value", sql, start, start + 2)
        return chr(code).encode("utf-8", "surrogatepass")
    if malformed is not None:
        raise sql_error(
            "22025",
            "invalid Unicode escape",
            hint="Unicode escapes must be \\uXXXX or \\UXXXXXXXX.",
            position=start + 1,
        )
    if plain is not None:
        return _SIMPLE_ESCAPES.get(plain, plain).encode("utf-8", "surrogatepass")
    return b"'"


def _bit_string(sql: str, start: int) -> Token:
    """B'0101' and X'1f', both as binary digits."""
    close = sql.find("'", start + 2)
    if close < 0:
        kind = "bit" if sql[start] in "bB" else "hexadecimal"
        raise near_error(f"unterminated {kind} string literal", sql, start, len(sql))
    digits = sql[start + 2 : close]
    if sql[start] in "bB":
        for digit in digits:
            if digit not in "01":
                raise sql_error("22P02", f'"{digit}" is not a valid binary digit', position=start + 1)
        return Token("BITSTRING", digits, start, close + 1)
    for digit in digits:
        if digit not in "0123456789abcdefABCDEF":
            raise sql_error("22P02", f'"{digit}" is not a valid hexadecimal digit', position=start + 1)
    return Token("BITSTRING", "".join(f"{int(d, 16):04b}" for d in digits), start, close + 1)


_UNICODE_RE: Final = re.compile(r"\\(?:\\|([0-9A-Fa-f]{4})|\+([0-9A-Fa-f]{6})|)")


def _unicode_token(sql: str, start: int) -> Token:
    """U&'…' and U&"…" with the default escape character (UESCAPE is not read)."""
    quote = sql[start + 2 : start + 3]
    pattern = _QUOTED_RE if quote == "'" else re.compile(r'[^"]*(?:""[^"]*)*"')
    piece = pattern.match(sql, start + 3)
    if piece is None:
        what = "string" if quote == "'" else "identifier"
        raise near_error(f"unterminated quoted {what}", sql, start, len(sql))

    def decode(escape: re.Match[str]) -> str:
        if escape[0] == "\\\\":
            return "\\"
        digits = escape[1] or escape[2]
        if digits is None:
            raise sql_error(
                "42601",
                "invalid Unicode escape",
                hint="Unicode escapes must be \\XXXX or \\+XXXXXX.",
                position=start + 1,
            )
        code = int(digits, 16)
        if not 0 < code <= 0x10FFFF or 0xD800 <= code < 0xE000:
            raise sql_error("42601", "invalid Unicode escape value", position=start + 1)
        return chr(code)

    value = _UNICODE_RE.sub(decode, piece[0][:-1].replace(quote * 2, quote))
    if quote == "'":
        return Token("STRING", value, start, piece.end())
    if not value:
        raise near_error("zero-length delimited identifier", sql, start, piece.end())
    return Token("IDENT", truncate_identifier(value), start, piece.end())


def scan(sql: str) -> Iterator[Token]:
    """Every character of `sql` as tokens for an editor; SPACE and COMMENT included, INCOMPLETE for what the end of
    the text cuts off, INVALID for what is no token. Never raises."""
    at = 0
    while at < len(sql):
        token = _scan_one(sql, at)
        yield token
        at = token.end


def _scan_one(sql: str, at: int) -> Token:
    space = _SPACE_RE.match(sql, at)
    if space is not None:
        return Token("SPACE", "", at, space.end())
    comment = _LINE_COMMENT_RE.match(sql, at)
    if comment is not None:
        return Token("COMMENT", "", at, comment.end())
    if sql.startswith("/*", at):
        end = _comment_end(sql, at)
        return Token("COMMENT", "", at, end) if end > 0 else Token("INCOMPLETE", "comment", at, len(sql))
    found = _MASTER.match(sql, at)
    assert found is not None and found.lastindex is not None
    group = found.lastindex
    start, end = found.span(group)
    try:
        if group == 1:
            lowered = fold(found[1])
            return Token(*(_WORDS.get(lowered) or ("IDENT", lowered)), start, end)
        if group == 2:
            return Token(_PUNCTUATION[found[2]], found[2], start, end)
        if group == 4:
            return _string(sql, start, end)
        return _other(sql, group, start, end)
    except SqlError as error:
        if error.message.startswith("unterminated"):
            return Token("INCOMPLETE", "string", at, len(sql))
        return Token("INVALID", "", at, max(end, at + 1))


def is_complete(sql: str) -> bool:
    """Whether an interactive reader may send this text: it ends with `;` outside quotes, comments and parentheses,
    or holds nothing at all."""
    depth = 0
    last = ""
    for token in scan(sql):
        if token.kind == "INCOMPLETE":
            return False
        if token.kind in ("SPACE", "COMMENT"):
            continue
        if token.kind in ("LPAR", "LSQB"):
            depth += 1
        elif token.kind in ("RPAR", "RSQB"):
            depth = max(0, depth - 1)
        last = token.kind
    return not last or (last == "SEMICOLON" and depth == 0)


def split_statements(sql: str) -> list[tuple[int, int]]:
    """The [start, end) spans of the statements between semicolons; empty statements are left out."""
    spans: list[tuple[int, int]] = []
    first: Token | None = None
    last: Token | None = None
    for token in tokenize(sql):
        if token.kind in ("SEMICOLON", "EOF"):
            if first is not None and last is not None:
                spans.append((first.start, last.end))
            first = last = None
        else:
            first = first or token
            last = token
    return spans
