"""The plan cache's key: a statement's text with its constants lifted out as parameters.

`normalize("SELECT a FROM t WHERE b = 7")` is `SELECT a FROM t WHERE b = $1` and the constant 7: statements that
differ in such constants only share a plan, and a hot one is never parsed twice. The scan is one regular expression
over the text; it knows clauses, not grammar, and leaves alone whatever it is not sure of – not lifting is always
right, only slower.

Invariants
 1. The normalised statement means what the statement means, with the values bound: a constant is lifted only where
    the grammar takes any expression and the binder asks for no constant. Never lifted: constants in ORDER BY and
    GROUP BY (positions); in the select list or HAVING of a statement with GROUP BY or DISTINCT (expressions are
    compared); modifiers of types; after a type's name (`date '…'`); NULL, TRUE, FALSE; anything outside SELECT,
    INSERT, UPDATE, DELETE, VALUES.
 2. Lifted constants continue the numbering of the statement's own parameters.
 3. `kind` says what the constant's type is: integer constants are int4, int8 or numeric by their size, strings are
    unknown. It belongs to the key: the same text may plan differently for another type.
 4. A statement that does not tokenise is returned as it is; the parser reports the error.

Errors found while planning the normalised text have positions in it; `original_position` maps them back.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, NamedTuple

from txndb import limits
from txndb.sql.parse.keywords import words
from txndb.sql.parse.precedence import number
from txndb.sql.parse.tokens import CONTINUATION_RE


class Lifted(NamedTuple):
    """One constant: `kind` is int4, int8, numeric or unknown (a string); `pos` its 1-based position."""

    kind: str
    value: int | Decimal | str
    pos: int
    end: int
    """Offset after its last character."""


class Normalized(NamedTuple):
    """`text` with `literals[i]` in place of parameter `$(first + i)`."""

    text: str
    first: int
    literals: tuple[Lifted, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(literal.kind for literal in self.literals)

    @property
    def values(self) -> tuple[int | Decimal | str, ...]:
        return tuple(literal.value for literal in self.literals)

    def original_position(self, position: int) -> int:
        """The position in the statement of a position in `text`; 0 stays 0."""
        shift = 0
        for index, literal in enumerate(self.literals):
            at = literal.pos + shift
            if position < at or position == 0:
                break
            width = len(str(self.first + index)) + 1
            if position < at + width:
                return literal.pos
            shift += width - (literal.end - literal.pos + 1)
        return position - shift if position else 0


_WORD = r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*+"
_TOKEN: Final = re.compile(
    rf"""[ \t\n\r\f\v]*+(?:
      ({_WORD})(?!'|&['"])                                  # 1 word
    | '([^']*(?:''[^']*)*)'                                 # 2 string
    | ((?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![A-Za-z_0-9$\x80-\U0010ffff])  # 3 number
    | ([(),;\[])                                            # 4 punctuation
    | \$(\d+)                                               # 5 parameter
    | ("[^"]*")                                             # 6 quoted identifier, or a piece of one
    | (\Z|--[^\n\r]*|/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/)  # 7 trivia
    | (::)                                                  # 8 cast
    | (/\*|[$'"A-Za-z0-9_\x80-\U0010ffff])                  # 9 what this scan does not follow
    | (.)                                                   # 10 an operator's character, a dot
    )""",
    re.VERBOSE | re.DOTALL,
)
_STARTS: Final = words("select insert update delete values")
_SECTIONS: Final = words(
    """select from where group having order limit offset values set on returning union except intersect for fetch
    window system do conflict"""
)
_CLOSED: Final = {
    "group": words("having order limit offset fetch for union except intersect window"),
    "order": words("limit offset fetch for union except intersect"),
    "window": words("order limit offset fetch for union except intersect"),
    "system": words("where group having order limit offset fetch for union except intersect window"),
    "fetch": words("offset for union except intersect"),
    "for": words("limit offset fetch"),
    "conflict": words("do"),
    "closed": frozenset[str](),
}
"""Clauses in which nothing is lifted, not even inside parentheses, and the words that end each."""
_BEFORE_CONSTANT: Final = words(
    """operator where and or not like ilike between then else when case in select having limit offset by returning
    all values on"""
) | {"(", ",", "["}
_COMPARED: Final = words("group distinct")
_OPEN_WHEN_COMPARED: Final = words("where limit offset values set")
_SELECT_LIST: Final = words("select having returning on")
_TYPE_WORDS: Final = words(
    """time timestamp interval second current_time current_timestamp localtime localtimestamp extract char character
    varying varchar bit numeric decimal dec float"""
)
"""Before a parenthesis whose numbers are part of a type, or EXTRACT's field."""
_KNOWN: Final = _STARTS | _SECTIONS | _BEFORE_CONSTANT | _COMPARED | _TYPE_WORDS | {"as"}


class _Scan:
    """One pass over a statement. `section` is the clause we are in, `stack` those of the enclosing parentheses."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.section = ""
        self.stack: list[str] = []
        self.before = ""
        """The last token: a word, a mark, "operator", "constant", "name", or "" at the start."""
        self.compared = False
        self.in_type = False
        self.parameter_max = 0
        self.lifted: list[tuple[bool, Lifted]] = []
        """With whether each may be lifted although the statement compares expressions."""

    def run(self) -> bool:
        """Whether the whole text was understood."""
        for found in _TOKEN.finditer(self.sql):
            group = found.lastindex
            if group == 7:
                continue
            if self.before == ";" or group == 9:
                return False
            if group == 1:
                word = found[1].lower()
                if word not in _KNOWN and self.before:
                    self.before = "name"
                elif not self._word(word):
                    return False
            elif group == 2 or group == 3:
                self._constant(found, group)
            elif group == 4:
                if not self._punctuation(found[4]):
                    return False
            elif group == 8:
                self.in_type, self.before = True, "::"
            elif group == 6:
                self.before = "name"
            elif group == 5:
                self.parameter_max = max(self.parameter_max, int(found[5][:6]))
                self.in_type, self.before = False, "constant"
            elif found[10] == ".":
                self.before = "."
            else:
                self.in_type, self.before = False, "operator"
        return not self.stack

    def _word(self, word: str) -> bool:
        before = self.before
        if not before:
            if word not in _STARTS:
                return False
        elif before == ".":
            # a part of a dotted name is no clause's word
            self.before = "name"
            return True
        if word in _SECTIONS and before != "as":
            # EXTRACT's, TRIM's, IS DISTINCT FROM's words only ever close off what may be lifted
            ends = _CLOSED.get(self.section)
            if ends is None or word in ends:
                self.section = word
                self.in_type = False
        if word in _COMPARED and before != "as":
            self.compared = True
        if word == "as":
            self.in_type = True
        self.before = word
        return True

    def _punctuation(self, mark: str) -> bool:
        before = self.before
        self.before = mark
        if mark == "(":
            self.stack.append(self.section)
            if (
                self.section in _CLOSED
                or before in _TYPE_WORDS
                or (self.in_type and before not in ("as", "::"))
            ):
                self.section = "closed"
            self.in_type = False
        elif mark == ")":
            if not self.stack:
                return False
            was_closed = self.section == "closed"
            self.section = self.stack.pop()
            # `numeric(10,2)[3]`: the bounds are the type's as well
            self.in_type = was_closed
        elif mark == "[":
            if self.in_type:
                self.before = "bounds"
        else:
            self.in_type = False
        return True

    def _constant(self, found: re.Match[str], group: int) -> None:
        before, self.before = self.before, "constant"
        self.in_type = False
        if self.section in _CLOSED or before not in _BEFORE_CONSTANT:
            return
        start, end = found.span(group)
        if group == 2:
            start, end = start - 1, end + 1
            if CONTINUATION_RE.match(self.sql, end):
                return
            text = found[2]
            literal = Lifted("unknown", text.replace("''", "'") if "''" in text else text, start + 1, end)
        else:
            kind, numeric = _number(found[3])
            if not kind:
                return
            literal = Lifted(kind, numeric, start + 1, end)
        apart = self.section in _OPEN_WHEN_COMPARED and _SELECT_LIST.isdisjoint(self.stack)
        self.lifted.append((apart, literal))


def _number(text: str) -> tuple[str, int | Decimal]:
    if len(text) < 10 and text.isdigit():
        return "int4", int(text)
    value = Decimal(text)
    if value.adjusted() > 1000 or len(text) > 1000:
        return "", 0
    if not text.isdigit():
        return "numeric", value
    constant = number(value, 0).value
    if constant in (2**31, 2**63):
        return "", 0  # after a minus sign these are of the smaller type
    if not isinstance(constant, int):
        return "numeric", value
    return ("int4" if constant < 2**31 else "int8"), constant


def normalize(sql: str) -> Normalized:
    """`sql` with its constants lifted; unchanged if there are none or the text is not one plain statement."""
    scan = _Scan(sql)
    if not scan.run() or not scan.lifted:
        return Normalized(sql, 1, ())
    if scan.compared:
        literals = [literal for apart, literal in scan.lifted if apart]
    else:
        literals = [literal for _apart, literal in scan.lifted]
    first = scan.parameter_max + 1
    if not literals or first + len(literals) > limits.PARAMETERS_MAX:
        return Normalized(sql, 1, ())
    pieces: list[str] = []
    at = 0
    for index, literal in enumerate(literals, first):
        pieces.append(sql[at : literal.pos - 1])
        pieces.append(f"${index}")
        at = literal.end
    pieces.append(sql[at:])
    return Normalized("".join(pieces), first, tuple(literals))
