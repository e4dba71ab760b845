"""Mutex: a lock that one at a time may hold. Operations: `acquire` and `release`, without values.

Acquiring is possible when it is free, releasing when it is held (Knossos' model). Whoever did not get it, or did not
hold it, records `fail`: then nothing happened. An acquisition of unknown outcome may hold it for ever.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

from txndb.sim.checkers.calls import pair_strictly
from txndb.sim.checkers.linearizability import STEPS_MAX
from txndb.sim.checkers.objects import Object, judge, known_only
from txndb.sim.checkers.verdict import Verdict
from txndb.sim.history import Call, Op


def check(ops: Sequence[Op], held: bool = False, steps_max: int = STEPS_MAX) -> Verdict:
    """The verdict on one lock; `held` says whether it was held at first."""
    return judge(ops, MUTEX, held, steps_max)


def _prepare(ops: Sequence[Op]) -> list[Call]:
    known_only(ops, ("acquire", "release"))
    return pair_strictly(ops)


def _step(state: Any, call: Call) -> tuple[bool, Hashable]:
    return state != (call.f == "acquire"), call.f == "acquire"


MUTEX: Final = Object("mutex", _step, lambda call: False, _prepare, lambda state: "held" if state else "free")
