"""Choosing among overloaded operators and functions, as PostgreSQL does (manual, chapter 10 "Type Conversion").

Input are the declared argument types of the candidates and the actual ones; `unknown` (an untyped literal or
parameter) adapts. Steps: an exact match; else the candidates every argument converts to implicitly; of these the ones
with most exact matches, then with most preferred types; then unknowns take one category; last, unknowns are assumed
to be of the one known type. What is still more than one is ambiguous.

Polymorphic types (anyelement, anyarray, anynonarray, anycompatible) are bound after the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from txndb.errors import sql_error
from txndb.sql.types.casts import can_coerce, find_cast
from txndb.sql.types.core import TEXT, SqlType, array_of, element_of, find_type, type_by_oid

UNKNOWN_OID: Final = 705
POLYMORPHIC: Final = frozenset((2277, 2283, 2776, 5077, 5078))
_ARRAYS: Final = frozenset((2277, 5078))
_COMPATIBLE: Final = frozenset((5077, 5078))


class Candidate(Protocol):
    """Something callable with declared argument types."""

    @property
    def args(self) -> tuple[int, ...]: ...


C = TypeVar("C", bound=Candidate)


class AmbiguousError(Exception):
    """More than one candidate is left; the caller names the construct in its error."""


def choose(candidates: Sequence[C], actual: tuple[int, ...]) -> C | None:
    """The candidate PostgreSQL would call; None when none fits; AmbiguousError when several do."""
    viable = [c for c in candidates if _accepts(c.args, actual)]
    if len(viable) <= 1:
        return viable[0] if viable else None
    viable = _keep_best(viable, [_exact(c.args, actual) for c in viable])
    if len(viable) == 1:
        return viable[0]
    viable = _keep_best(viable, [_exact_or_preferred(c.args, actual) for c in viable])
    if len(viable) == 1:
        return viable[0]
    if UNKNOWN_OID in actual:
        viable = _by_category(viable, actual)
        if len(viable) == 1:
            return viable[0]
        by_known = _by_known_type(viable, actual)
        if len(by_known) == 1:
            return by_known[0]
    raise AmbiguousError


def _accepts(declared: tuple[int, ...], actual: tuple[int, ...]) -> bool:
    if len(declared) != len(actual):
        return False
    if not all(can_coerce(a, d) for a, d in zip(actual, declared, strict=True)):
        return False
    return not any(d in POLYMORPHIC for d in declared) or _consistent(declared, actual)


def _consistent(declared: tuple[int, ...], actual: tuple[int, ...]) -> bool:
    """Whether one element type fits all polymorphic arguments."""
    element = 0
    for want, have in zip(declared, actual, strict=True):
        if want not in POLYMORPHIC or have == UNKNOWN_OID:
            continue
        found = type_by_oid(have).element if want in _ARRAYS else have
        if element and found != element and not (want in _COMPATIBLE and _common(element, found)):
            return False
        element = element or found
    return True


def _common(a: int, b: int) -> int:
    """The type two anycompatible arguments meet in, 0 for none."""
    if type_by_oid(a).category != type_by_oid(b).category:
        return 0
    if can_coerce(b, a):
        return a
    return b if can_coerce(a, b) else 0


def _exact(declared: tuple[int, ...], actual: tuple[int, ...]) -> int:
    return sum(a != UNKNOWN_OID and a == d for a, d in zip(actual, declared, strict=True))


def _exact_or_preferred(declared: tuple[int, ...], actual: tuple[int, ...]) -> int:
    count = 0
    for have, want in zip(actual, declared, strict=True):
        if have != UNKNOWN_OID:
            target = find_type(want)
            same_category = target is not None and target.category == type_by_oid(have).category
            count += have == want or (target is not None and same_category and target.preferred)
    return count


def _keep_best(candidates: list[C], scores: list[int]) -> list[C]:
    best = max(scores)
    return [c for c, score in zip(candidates, scores, strict=True) if score == best]


def _by_category(candidates: list[C], actual: tuple[int, ...]) -> list[C]:
    """Unknown arguments take the string category where any candidate has it, else the one category all share."""
    kept = candidates
    for at, have in enumerate(actual):
        if have != UNKNOWN_OID:
            continue
        targets = [type_by_oid(c.args[at]) for c in candidates]
        categories = {t.category for t in targets}
        if "S" in categories:
            category = "S"
        elif len(categories) == 1:
            category = targets[0].category
        else:
            return candidates
        preferred = any(t.preferred and t.category == category for t in targets)
        narrowed = []
        for c in kept:
            target = type_by_oid(c.args[at])
            if target.category == category and (target.preferred or not preferred):
                narrowed.append(c)
        kept = narrowed
    return kept or candidates


def _by_known_type(candidates: list[C], actual: tuple[int, ...]) -> list[C]:
    known = {a for a in actual if a != UNKNOWN_OID}
    if len(known) != 1:
        return candidates
    assumed = tuple(known) * len(actual)
    return [c for c in candidates if _accepts(c.args, assumed)]


def bind_polymorphic(declared: tuple[int, ...], actual: Sequence[SqlType]) -> SqlType | None:
    """The element type that polymorphic arguments stand for; None when the candidate has none."""
    element: SqlType | None = None
    polymorphic = False
    for want, have in zip(declared, actual, strict=True):
        if want not in POLYMORPHIC:
            continue
        polymorphic = True
        if have.oid == UNKNOWN_OID:
            continue
        found = element_of(have) if want in _ARRAYS else have.base
        if found is None:
            continue
        if element is None:
            element = found.base
        elif want in _COMPATIBLE:
            element = type_by_oid(_common(element.oid, found.oid) or element.oid)
    if not polymorphic:
        return None
    if element is None:
        if any(want in _COMPATIBLE for want in declared):
            return TEXT
        message = "could not determine polymorphic type because input has type unknown"
        raise sql_error("42804", message)
    return element


def concrete(oid: int, element: SqlType | None, actual: SqlType | None = None) -> SqlType:
    """A declared type with the polymorphic binding put in; `"any"` stays what the argument is."""
    if oid == 2276 and actual is not None:
        return actual
    if oid not in POLYMORPHIC or element is None:
        return type_by_oid(oid)
    if oid in _ARRAYS:
        return actual.base if actual is not None and actual.element == element.oid else array_of(element)
    return element


def common_type(types: Sequence[SqlType], what: str) -> SqlType:
    """The type CASE, COALESCE, UNION, VALUES, ARRAY, GREATEST resolve to (42804 names `what` when there is none)."""
    known = [t for t in types if t.oid != UNKNOWN_OID]
    if not known:
        return TEXT
    if all(t == known[0] for t in known):
        return known[0]
    found = known[0]
    for candidate in known[1:]:
        if candidate.oid == found.oid:
            continue
        if candidate.category != found.category:
            raise sql_error("42804", f"{what} types {found.base} and {candidate.base} cannot be matched")
        if (
            not found.preferred
            and find_cast(found.base, candidate.base, "implicit") is not None
            and find_cast(candidate.base, found.base, "implicit") is None
        ):
            found = candidate
    for candidate in known:
        if find_cast(candidate.base, found.base, "implicit") is None:
            raise sql_error("42846", f"{what} could not convert type {candidate.base} to {found.base}")
    same = all(t.oid != found.oid or t.typmod == found.typmod for t in known)
    return found if same and all(t.oid == found.oid for t in known) else found.base
