"""Linearizability of a history against a sequential model.

The search of Wing & Gong (1993) with Lowe's memoisation ("Testing for linearizability", 2017, §3): walk the history's
calls and returns in real-time order; try to let a pending call take effect; remember every (set of calls that took
effect, state) seen; when a return comes up whose call has not taken effect, go back. A model's states are hashable
values; a set of calls is an int used as bits.

Calls with an unknown outcome have no return: they may take effect at any time from their invocation on, or never.

Bounded: after `steps_max` steps the verdict is unknown (None), never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from txndb.sim.history import Call

Step = Callable[[Any, Call], tuple[bool, Hashable]]
"""(state, call) -> (whether the call's result fits, next state). For an unknown outcome `call.returned` is None."""

STEPS_MAX: Final = 5_000_000


class Verdict:
    """`valid` is True, False or None (undecided); `stuck` is the deepest call that could not be explained."""

    __slots__ = ("stuck", "valid")

    def __init__(self, valid: bool | None, stuck: Call | None = None) -> None:
        self.valid = valid
        self.stuck = stuck


class _Entries:
    """Calls and returns in order as a doubly linked list in arrays; index 0 is the head, -1 the end.

    Entry 2i+1 is call i, entry 2i+2 its return (absent when unknown).
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        moments: list[tuple[int, int]] = []
        for i, call in enumerate(calls):
            moments.append((call.invoked, 2 * i + 1))
            if call.returned is not None:
                moments.append((call.returned, 2 * i + 2))
        moments.sort()
        size = 2 * len(calls) + 2
        self.next = [-1] * size
        self.previous = [-1] * size
        at = 0
        for _, entry in moments:
            self.next[at] = entry
            self.previous[entry] = at
            at = entry

    def lift(self, entry: int) -> None:
        after, before = self.next[entry], self.previous[entry]
        self.next[before] = after
        if after != -1:
            self.previous[after] = before

    def unlift(self, entry: int) -> None:
        after, before = self.next[entry], self.previous[entry]
        self.next[before] = entry
        if after != -1:
            self.previous[after] = entry


def check(calls: Sequence[Call], initial: Hashable, step: Step, steps_max: int = STEPS_MAX) -> Verdict:
    """Whether some order of the calls, consistent with real time, explains every result."""
    entries = _Entries(calls)
    following = entries.next
    returns_left = sum(1 for call in calls if call.returned is not None)
    has_return = [call.returned is not None for call in calls]
    state, done = initial, 0
    seen: set[tuple[int, Hashable]] = set()
    stack: list[tuple[int, Hashable]] = []
    stuck: Call | None = None
    fewest_left = returns_left + 1
    entry = following[0]
    for _ in range(steps_max):
        if not returns_left:
            return Verdict(True)
        if entry != -1 and entry & 1:
            i = entry >> 1
            fits, new_state = step(state, calls[i])
            key = (done | 1 << i, new_state)
            if fits and key not in seen:
                seen.add(key)
                stack.append((i, state))
                state, done = new_state, key[0]
                entries.lift(entry)
                if has_return[i]:
                    entries.lift(entry + 1)
                    returns_left -= 1
                entry = following[0]
            else:
                entry = following[entry]
            continue
        if entry != -1 and returns_left < fewest_left:
            fewest_left, stuck = returns_left, calls[(entry >> 1) - 1]
        if not stack:
            return Verdict(False, stuck)
        i, state = stack.pop()
        done &= ~(1 << i)
        if has_return[i]:
            entries.unlift(2 * i + 2)
            returns_left += 1
        entries.unlift(2 * i + 1)
        entry = following[2 * i + 1]
    return Verdict(None)
