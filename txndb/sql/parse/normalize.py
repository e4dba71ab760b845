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


_TOKEN: Final = re.compile(
    r"""
      ([A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*('|&['"])?)  # 1 word (2: a prefixed string opens)
    | '([^']*(?:''[^']*)*)'                                             # 3 string
    | ((?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![A-Za-z_0-9$\x80-\U0010ffff])  # 4 number
    | ([(),;])                                                          # 5
    | \$(\d+)                                                           # 6 parameter
    | ("[^"]*")                                                         # 7 quoted identifier (or a piece of one)
    | ([ \t\n\r\f\v]+|--[^\n\r]*)                                       # 8 trivia
    | (::)                                                              # 9
    | (/\*|\$|'|"|\d)                                                   # 10 what this scan does not follow
    | .                                                                 # an operator's character, a dot, a bracket
    """,
    re.VERBOSE | re.DOTALL,
)
_STARTS: Final = words("select insert update delete values")
_SECTIONS: Final = words(
    """select from where group having order limit offset values set on returning union except intersect using for
    fetch window system do"""
)
_CLOSED: Final = words("group order system fetch for window")
_BEFORE_CONSTANT: Final = words(
    """select where and or not like ilike between then else when case in on having limit offset by returning distinct
    all values"""
)
_COMPARED: Final = words("group distinct")
_OPEN_WHEN_COMPARED: Final = words("where limit offset values set")
_CONTINUED: Final = re.compile(r"[ \t\f\v]*[\n\r]\s*'")


class _Scan:
    """One pass over a statement. `section` is the clause we are in, `stack` those of the enclosing parentheses."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.first_word = ""
        self.section = ""
        self.stack: list[str] = []
        self.before = ""
        self.compared = False
        self.in_type = False
        self.parameter_max = 0
        self.lifted: list[tuple[str, Lifted]] = []
        """With the section each was found in."""

    def run(self) -> bool:
        """Whether the whole text was understood."""
        for found in _TOKEN.finditer(self.sql):
            group = found.lastindex
            if group == 8:
                continue
            if group == 1:
                if not self._word(found[1]):
                    return False
            elif group == 3 or group == 4:
                self._constant(found, group)
                self.before = "constant"
            elif group == 5:
                if not self._punctuation(found[5]):
                    return False
            elif group == 9:
                self.in_type = True
                self.before = "::"
            elif group == 2 or group == 10:
                return False
            elif group == 6:
                if len(found[6]) > 5:
                    return False
                self.parameter_max = max(self.parameter_max, int(found[6]))
                self.in_type, self.before = False, "$"
            elif group == 7:
                self.before = '"'
            elif found[0] == ".":
                # a part of a dotted name is no clause's word
                self.before = "."
            else:
                self.in_type, self.before = False, "operator"
        return not self.stack

    def _word(self, text: str) -> bool:
        word = text.lower()
        if not self.first_word:
            self.first_word = word
            if word not in _STARTS:
                return False
        if self.before == ".":
            self.before = "name"
            return True
        if word in _SECTIONS and self.before != "as":
            # DISTINCT FROM and EXTRACT's, TRIM's and SUBSTRING's FROM only ever close off what may be lifted
            self.section = word
            self.in_type = False
        if word in _COMPARED:
            self.compared = True
        if word == "as":
            self.in_type = True
        self.before = word
        return True

    def _punctuation(self, mark: str) -> bool:
        if mark == "(":
            self.stack.append(self.section)
            if self.in_type and self.before not in ("as", "::"):
                self.section = "type"
        elif mark == ")":
            if not self.stack:
                return False
            self.section = self.stack.pop()
        elif mark == ";":
            self.before = ";"
            return True
        if mark == "(" and self.before == "extract":
            self.before = "extract("
        else:
            self.before = mark
        self.in_type = False
        return True

    def _constant(self, found: re.Match[str], group: int) -> None:
        before = self.before
        self.in_type = False
        if self.section in _CLOSED or self.section == "type":
            return
        if before not in ("operator", "(", ",") and before not in _BEFORE_CONSTANT:
            return
        start, end = found.span()
        if group == 3:
            if _CONTINUED.match(self.sql, end):
                return
            text = found[3]
            value = text.replace("''", "'") if "''" in text else text
            self.lifted.append((self.section, Lifted("unknown", value, start + 1, end)))
            return
        kind, numeric = _number(found[4])
        if kind:
            self.lifted.append((self.section, Lifted(kind, numeric, start + 1, end)))


def _number(text: str) -> tuple[str, int | Decimal]:
    if len(text) < 10 and text.isdigit():
        return "int4", int(text)
    value = Decimal(text)
    if value.adjusted() > 1000 or len(text) > 1000:
        return "", 0
    if not text.isdigit():
        return "numeric", value
    constant = number(value, 0).value
    if not isinstance(constant, int):
        return "numeric", value
    return ("int4" if constant < 2**31 else "int8"), constant


def normalize(sql: str) -> Normalized:
    """`sql` with its constants lifted; unchanged if there are none or the text is not one plain statement."""
    scan = _Scan(sql)
    if not scan.run() or not scan.lifted:
        return Normalized(sql, 1, ())
    if scan.compared:
        literals = [literal for section, literal in scan.lifted if section in _OPEN_WHEN_COMPARED]
    else:
        literals = [literal for _section, literal in scan.lifted]
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
