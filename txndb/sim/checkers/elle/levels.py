"""The lattice of isolation levels, and what each anomaly rules out. Sources: Adya; Bailis et al. (VLDB 2013); Elle.

    strict_serializable ────────────┐
        │                           │
    strong_session_serializable   strong_snapshot_isolation
        │               └───────────┤
        │               strong_session_snapshot_isolation
    serializable                    │
        │       └────────── snapshot_isolation
    repeatable_read                 │
        └───────────┬───────────────┘
              read_committed
                    │
             read_uncommitted

A level that is ruled out takes with it every level above it. `repeatable_read` is Adya's PL-2.99 (no cycle with an
anti-dependency on an item), neither above nor below `snapshot_isolation`: write skew breaks the one, not the other.

*The level that still holds*, which a verdict names, is the first of `CHAIN` that the history does not contradict and
that it could have contradicted: without invocations a history has no real time and cannot speak for strict
serializability, and where no process ran two transactions it cannot speak for sessions. When nothing is left it is
`none`.

Why snapshot isolation dies of every cycle without two adjacent rw: give each transaction a start and a commit. Under
snapshot isolation ww and wr mean "committed before the other started", rw means "started before the other committed".
Going round a cycle where each rw is followed by ww or wr, the time only ever grows. (With real time counted as
"committed before the other started" the same holds for its strong variants.)
"""

from __future__ import annotations

from collections.abc import Iterable

READ_UNCOMMITTED = "read_uncommitted"
READ_COMMITTED = "read_committed"
REPEATABLE_READ = "repeatable_read"
SNAPSHOT = "snapshot_isolation"
SESSION_SNAPSHOT = "strong_session_snapshot_isolation"
STRONG_SNAPSHOT = "strong_snapshot_isolation"
SERIALIZABLE = "serializable"
SESSION_SERIALIZABLE = "strong_session_serializable"
STRICT = "strict_serializable"

BELOW: dict[str, tuple[str, ...]] = {
    STRICT: (SESSION_SERIALIZABLE, STRONG_SNAPSHOT),
    SESSION_SERIALIZABLE: (SERIALIZABLE, SESSION_SNAPSHOT),
    STRONG_SNAPSHOT: (SESSION_SNAPSHOT,),
    SESSION_SNAPSHOT: (SNAPSHOT,),
    SERIALIZABLE: (REPEATABLE_READ, SNAPSHOT),
    SNAPSHOT: (READ_COMMITTED,),
    REPEATABLE_READ: (READ_COMMITTED,),
    READ_COMMITTED: (READ_UNCOMMITTED,),
    READ_UNCOMMITTED: (),
}
"""Each level, strongest first, with those directly below it."""

CHAIN = (
    STRICT,
    SESSION_SERIALIZABLE,
    SERIALIZABLE,
    SNAPSHOT,
    REPEATABLE_READ,
    READ_COMMITTED,
    READ_UNCOMMITTED,
)
"""The levels a verdict may name, in the order in which they are tried."""

_ALIASES = {"strong_serializable": STRICT, "strict": STRICT, "rr": REPEATABLE_READ, "si": SNAPSHOT}

RULES_OUT: dict[str, tuple[str, ...]] = {
    "G0": (READ_UNCOMMITTED,),
    "duplicate-elements": (READ_UNCOMMITTED,),
    "G1a": (READ_COMMITTED,),
    "G1b": (READ_COMMITTED,),
    "G1c": (READ_COMMITTED,),
    "future-read": (READ_COMMITTED,),
    "dirty-update": (READ_COMMITTED,),
    "incompatible-order": (READ_COMMITTED,),
    "cyclic-versions": (READ_COMMITTED,),
    "internal": (SNAPSHOT, REPEATABLE_READ),
    "lost-update": (SNAPSHOT, REPEATABLE_READ),
    "G-single-item": (SNAPSHOT, REPEATABLE_READ),
    "G-nonadjacent-item": (SNAPSHOT, REPEATABLE_READ),
    "G2-item": (REPEATABLE_READ,),
    "G2": (SERIALIZABLE,),
    "duplicate-appends": (),
    "duplicate-writes": (),
}
"""The weakest levels that each anomaly rules out. A contradiction between reads (incompatible-order) leaves read
uncommitted, where one of them may be of what was never committed; elements twice are explained by no level."""

for _kind in ("cyclic-versions", "G0", "G1c", "G-single-item", "G-nonadjacent-item"):
    RULES_OUT[_kind + "-process"] = (SESSION_SNAPSHOT, SESSION_SERIALIZABLE)
    RULES_OUT[_kind + "-realtime"] = (STRONG_SNAPSHOT, STRICT)
RULES_OUT["G2-item-process"] = (SESSION_SERIALIZABLE,)
RULES_OUT["G2-item-realtime"] = (STRICT,)


def severity(kind: str) -> int:
    """How weak a level an anomaly rules out: the greater the worse; -1 for one that rules out none."""
    return max((list(BELOW).index(level) for level in RULES_OUT[kind]), default=-1)


def canonical(level: str) -> str:
    """The name used here for a level as people write it (`Strict-Serializable`, `strong-serializable`, …).

    Raises:
        ValueError: There is no such level.
    """
    name = level.strip().lower().replace("-", "_").replace(" ", "_")
    name = _ALIASES.get(name, name)
    if name not in BELOW:
        raise ValueError(f"unknown isolation level {level!r}; known are {', '.join(BELOW)}")
    return name


def holding(ruled_out: Iterable[str]) -> dict[str, bool]:
    """Every level with whether it still holds when these do not."""
    dead = set(ruled_out)
    for level in reversed(BELOW):
        if dead.intersection(BELOW[level]):
            dead.add(level)
    return {level: level not in dead for level in BELOW}


def weakest(holds: dict[str, bool], *, sessions: bool, real_time: bool) -> str:
    """The name for "this still holds" (see the head of the module).

    Args:
        sessions: Some process ran more than one transaction.
        real_time: The history says when transactions were invoked.
    """
    silent = {SESSION_SERIALIZABLE: not sessions, STRICT: not real_time}
    return next((level for level in CHAIN if holds[level] and not silent.get(level, False)), "none")
