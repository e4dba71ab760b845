"""`python -m txndb.sql.parse.build`: Lark's LALR tables to the driver's (`tables.Tables`), written to `grammar.tables`.

To be run after every change of the grammar (a test compares the digests). States become numbers, a rule becomes what
to keep of its children.

Lark resolves shift/reduce conflicts by shifting and refuses reduce/reduce ones; the shifts this grammar relies on are
listed in the tests.
"""

from __future__ import annotations

import re
from typing import Any

from lark import Lark
from lark.lexer import Lexer

from txndb.errors import InternalError
from txndb.sql.parse.tables import GRAMMAR, TABLES, Rule, Tables, encode


class _NoLexer(Lexer):
    """Tokens never come from Lark."""

    def __init__(self, _conf: Any) -> None:
        pass

    def lex(self, lexer_state: Any, parser_state: Any) -> Any:
        raise InternalError("tokens come from txndb.sql.parse.tokens")


def compute(grammar: str) -> Tables:
    lark = Lark(_with_terminals(grammar), parser="lalr", lexer=_NoLexer, maybe_placeholders=True)
    table = lark.parser.parser._parse_table
    rules: list[Rule] = []
    numbers: dict[Any, int] = {}
    actions: list[dict[str, int]] = []
    gotos: list[dict[str, int]] = []
    for state in range(len(table.states)):
        shifts: dict[str, int] = {}
        goto: dict[str, int] = {}
        for symbol, (action, argument) in table.states[state].items():
            if str(action) == "Reduce":
                if argument not in numbers:
                    numbers[argument] = len(rules)
                    rules.append(_rule(argument))
                shifts[_terminal(symbol)] = ~numbers[argument]
            elif symbol.isupper() or symbol == "$END":
                shifts[_terminal(symbol)] = argument
            else:
                goto[symbol] = argument
        actions.append(shifts)
        gotos.append(goto)
    return Tables(
        table.start_states["start"], table.end_states["start"], tuple(rules), tuple(actions), tuple(gotos)
    )


def _terminal(symbol: str) -> str:
    return "EOF" if symbol == "$END" else symbol.removeprefix("KW_")


def _with_terminals(grammar: str) -> str:
    """Declare the key words that are used as named terminals, so that the grammar need not list them."""
    rules = re.sub(r"//.*", "", grammar)
    declared = set(re.findall(r"^([A-Z_]+):", rules, re.MULTILINE))
    for line in re.findall(r"^%declare (.*)$", rules, re.MULTILINE):
        declared.update(line.split())
    used = set(re.findall(r"\b[A-Z][A-Z_]+\b", re.sub(r'"[^"]*"', "", rules)))
    return grammar + "".join(f'{word}: "{word}"\n' for word in sorted(used - declared))


def _rule(rule: Any) -> Rule:
    """What Lark's tree builder would do, as data: filtered tokens dropped, absent optionals as None."""
    options = rule.options
    empties = options.empty_indices or ()
    gaps = [len(run) for run in "".join(str(int(e)) for e in empties).split("0")] if empties else []
    keep: list[int] = []
    for index, symbol in enumerate(rule.expansion):
        keep += [-1] * (gaps[index] if gaps else 0)
        if not (symbol.is_term and symbol.filter_out):
            keep.append(index)
    keep += [-1] * (gaps[len(rule.expansion)] if gaps else 0)
    size = len(rule.expansion)
    action = rule.alias or str(options.template_source or rule.origin.name)
    if options.expand1 and not rule.alias and len(keep) == 1:
        action = ""
    return Rule(rule.origin.name, size, action, None if keep == list(range(size)) else tuple(keep))


def main() -> None:
    """Write `grammar.tables`."""
    grammar = GRAMMAR.read_text(encoding="utf-8")
    TABLES.write_bytes(encode(grammar, compute(grammar)))


if __name__ == "__main__":
    main()
