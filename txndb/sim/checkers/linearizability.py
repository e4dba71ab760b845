"""Linearizability of a history against a sequential model.

A history is linearizable (Herlihy & Wing 1990) if every call can be given one instant between its invocation and its
return so that the calls, in the order of their instants, are explained by the model. A call with an unknown outcome
has no return: its instant lies anywhere after its invocation, or nowhere.

Two searches decide it, for they are slow on different histories:
- the *sweep* (Lowe, "Testing for linearizability", 2017, §4, just-in-time linearization) walks the returns in order
  with the set of all configurations that explain the past: a state, the pending calls that took effect, the unknown
  ones that did. At a return, calls take effect only as far as this return needs it. Its memory is the width of the
  history, not its length, and when the set becomes empty, that return is the first that nothing explains;
- the *search* (Wing & Gong 1993 with Lowe's memoisation, §3) goes depth first and back, remembering every (set of calls
  that took effect, state) seen. It finds an explanation without looking at all of them.

They take turns, each turn with more steps.

What both may leave out, each by exchanging two calls in an explanation (invariants of the pruning):
1. A pending call that changes no state whatever (a read, a refused compare-and-set: `pure`) takes effect as soon as it
   fits, with no alternative tried. (A write of the value that is there already is not such a call: it may be needed
   later.)
2. An unknown call that would not change the state is not tried: never is as good.
3. Of two calls alike (same operation, argument and result) the one that was invoked and returned earlier, or is as
   unknown, takes effect first.
4. (sweep) Of two configurations alike but for their unknown calls, the one that used fewer of them explains all that
   the other does.

A model's states are hashable, and so are the arguments and results it is shown (`calls.frozen`). Its step may look at
a call's operation, argument and result, and at whether the outcome is known – at nothing else (3).

Bounded: after `steps_max` steps of the model in one turn, or with more than `MEMORY_BYTES_MAX` of memory in use for
what was seen, the verdict is unknown (None), never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from txndb.sim.checkers.calls import frozen_calls
from txndb.sim.history import Call

Step = Callable[[Any, Call], tuple[bool, Hashable]]
"""(state, call) -> (whether the call's result fits, next state). For an unknown outcome `call.returned` is None."""

Pure = Callable[[Call], bool]
"""Whether a call leaves every state in which it fits as it is."""

STEPS_MAX: Final = 5_000_000
MEMORY_BYTES_MAX: Final = 1 << 30
_ENTRY_BYTES: Final = 300
"""A remembered configuration without its bits: tuple, set entry, small state."""
_STEPS_FIRST: Final = 20_000
_STEPS_GROWTH: Final = 8
_STATES_SHOWN: Final = 8


class Judgement:
    """`valid` is True, False or None (undecided).

    `stuck` is the first call that no order of the calls before its return explains; `states` are (some of) the states
    the object may have been in when the call before it had returned.
    """

    __slots__ = ("states", "stuck", "valid")

    def __init__(self, valid: bool | None, stuck: Call | None = None, states: tuple[Any, ...] = ()) -> None:
        self.valid = valid
        self.stuck = stuck
        self.states = states


def check(
    calls: Sequence[Call],
    initial: Hashable,
    step: Step,
    steps_max: int = STEPS_MAX,
    pure: Pure = lambda call: False,
) -> Judgement:
    """Whether some order of the calls, consistent with real time, explains every result.

    Args: `initial` is the model's first state; `step` its behaviour; `steps_max` how many steps either search may take
    in its last turn; `pure` names the calls that never change a state.
    """
    calls = frozen_calls(calls)
    budget = min(steps_max, _STEPS_FIRST)
    while True:
        judgement = sweep(calls, initial, step, budget, pure)
        if judgement.valid is None:
            judgement = search(calls, initial, step, budget, pure)
        if judgement.valid is not None or budget == steps_max:
            return judgement
        budget = min(steps_max, _STEPS_GROWTH * budget)


def sweep(
    calls: Sequence[Call], initial: Hashable, step: Step, steps_max: int, pure: Pure = lambda call: False
) -> Judgement:
    """The sweep over returns alone."""
    return _Sweep(calls, step, pure).run(initial, steps_max)


def _twins(calls: Sequence[Call]) -> list[int]:
    """For each call one alike that has to take effect before it (invariant 3), or -1."""
    last: dict[tuple[Hashable, ...], list[int]] = {}
    twins = [-1] * len(calls)
    for i in sorted(range(len(calls)), key=lambda i: calls[i].invoked):
        call = calls[i]
        unknown = call.returned is None
        alike = last.setdefault((call.f, call.argument, None if unknown else call.result, unknown), [])
        for j in reversed(alike[-4:]):
            before = calls[j].returned
            if before is None or (call.returned is not None and before <= call.returned):
                twins[i] = j
                break
        alike.append(i)
    return twins


class _Configurations:
    """States with the pending calls done (bits), each with the smallest sets of unknown calls used (invariant 4)."""

    def __init__(self) -> None:
        self.used: dict[tuple[Hashable, int], list[int]] = {}
        self.count = 0

    def add(self, state: Hashable, done: int, used: int) -> bool:
        """Whether it was not yet covered by one that is there."""
        sets = self.used.setdefault((state, done), [])
        for other in sets:
            if other & used == other:
                return False
        kept = [other for other in sets if other & used != used]
        self.count += 1 + len(kept) - len(sets)
        kept.append(used)
        sets[:] = kept
        return True


class _Sweep:
    """One sweep over the returns of a history."""

    def __init__(self, calls: Sequence[Call], step: Step, pure: Pure) -> None:
        self.calls = calls
        self.twins = _twins(calls)
        self.pure = [call.returned is not None and pure(call) for call in calls]
        self.step = step
        self.steps_left = 0
        self.pending: dict[int, int] = {}
        """Known calls that have not returned -> their bit."""
        self.unknown: dict[int, int] = {}
        """Unknown calls that were invoked -> their bit."""
        self._free: list[int] = []
        self._bits = 0

    def run(self, initial: Hashable, steps_max: int) -> Judgement:
        self.steps_left = steps_max
        current = _Configurations()
        current.add(initial, 0, 0)
        for _, returns, i in self._moments():
            if not returns:
                self._invoke(i)
                continue
            following = self._return(current, i)
            if following is None:
                return Judgement(None)
            if not following.used:
                states = sorted({repr(state): state for state, _ in current.used}.items())
                return Judgement(
                    False, self.calls[i], tuple(state for _, state in states)[: _STATES_SHOWN + 1]
                )
            current = following
        return Judgement(True)

    def _moments(self) -> list[tuple[int, bool, int]]:
        moments = []
        for i, call in enumerate(self.calls):
            moments.append((call.invoked, False, i))
            if call.returned is not None:
                moments.append((call.returned, True, i))
        moments.sort()
        return moments

    def _invoke(self, i: int) -> None:
        if self.calls[i].returned is None:
            self.unknown[i] = 1 << len(self.unknown)
        else:
            if not self._free:
                self._free.append(1 << self._bits)
                self._bits += 1
            self.pending[i] = self._free.pop()

    def _return(self, current: _Configurations, i: int) -> _Configurations | None:
        """The configurations in which call i took effect; None when the bounds are reached."""
        bit = self.pending[i]
        following, visited = _Configurations(), _Configurations()
        stack: list[tuple[Hashable, int, int]] = []
        for (state, done), sets in current.used.items():
            for used in sets:
                if done & bit:
                    following.add(state, done ^ bit, used)
                else:
                    stack.append((state, done, used))
        while stack:
            self._expand(i, *stack.pop(), stack, visited, following)
            size = _ENTRY_BYTES + len(self.unknown) // 8
            if (
                self.steps_left < 0
                or (following.count + visited.count + len(stack)) * size > MEMORY_BYTES_MAX
            ):
                return None
        del self.pending[i]
        self._free.append(bit)
        return following

    def _expand(
        self,
        i: int,
        state: Hashable,
        done: int,
        used: int,
        stack: list[tuple[Hashable, int, int]],
        visited: _Configurations,
        following: _Configurations,
    ) -> None:
        """Let i take effect from here if it fits, and push where any other pending call leads."""
        calls, step = self.calls, self.step
        moves = []
        for j, bit in self.pending.items():
            if done & bit:
                continue
            self.steps_left -= 1
            fits, after = step(state, calls[j])
            if fits and self.pure[j]:
                done |= bit
            elif fits:
                moves.append((j, bit, after))
        if done & self.pending[i]:
            following.add(state, done ^ self.pending[i], used)
            return
        if not visited.add(state, done, used):
            return
        for j, bit, after in moves:
            if j == i:
                following.add(after, done, used)
            elif self._twin_done(j, done, used):
                stack.append((after, done | bit, used))
        for j, bit in self.unknown.items():
            if used & bit or not self._twin_done(j, done, used):
                continue
            self.steps_left -= 1
            fits, after = step(state, calls[j])
            if fits and after != state:
                stack.append((after, done, used | bit))

    def _twin_done(self, j: int, done: int, used: int) -> bool:
        twin = self.twins[j]
        if twin == -1:
            return True
        if twin in self.unknown:
            return bool(used & self.unknown[twin])
        return not (self.pending.get(twin, 0) & ~done)


class _Entries:
    """Known calls and their returns in order, as a doubly linked list in arrays; index 0 is the head, -1 the end.

    Entry 2i+1 is call i, entry 2i+2 its return. Whenever a call is out of the list, so is its return.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        moments: list[tuple[int, int]] = []
        for i, call in enumerate(calls):
            if call.returned is not None:
                moments += [(call.invoked, 2 * i + 1), (call.returned, 2 * i + 2)]
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


class _Search:
    """One depth-first search. Where it stands, the pending calls are tried in order, then the unknown ones."""

    def __init__(self, calls: Sequence[Call], step: Step, pure: Pure) -> None:
        self.calls = calls
        self.twins = _twins(calls)
        self.step = step
        self.pure = [call.returned is not None and pure(call) for call in calls]
        self.entries = _Entries(calls)
        self.unknown = sorted(
            (i for i, call in enumerate(calls) if call.returned is None), key=lambda i: calls[i].invoked
        )
        self.rank = {i: rank for rank, i in enumerate(self.unknown)}
        self.done = 0
        self.stack: list[tuple[int, Hashable, bool]] = []
        self.stuck: Call | None = None

    def run(self, initial: Hashable, steps_max: int) -> Judgement:
        calls, step, twins = self.calls, self.step, self.twins
        returns_left = len(calls) - len(self.unknown)
        seen: set[tuple[int, Hashable]] = set()
        seen_max = MEMORY_BYTES_MAX // (_ENTRY_BYTES + len(calls) // 8)
        state = initial
        i = self._after(-1)
        for _ in range(steps_max):
            if not returns_left:
                return Judgement(True)
            if i == -1:
                while self.stack:
                    i, state, only = self._undo()
                    returns_left += i not in self.rank
                    if not only:
                        break
                else:
                    return Judgement(False, self.stuck)
            elif twins[i] == -1 or self.done >> twins[i] & 1:
                fits, after = step(state, calls[i])
                key = (self.done | 1 << i, after)
                idle = i in self.rank and after == state
                if fits and not idle and key not in seen:
                    if len(seen) >= seen_max:
                        break
                    seen.add(key)
                    self._do(i, state)
                    returns_left -= i not in self.rank
                    state, i = after, -1
            i = self._after(i)
        return Judgement(None)

    def _do(self, i: int, state: Hashable) -> None:
        self.stack.append((i, state, self.pure[i]))
        self.done |= 1 << i
        if i not in self.rank:
            self.entries.lift(2 * i + 1)
            self.entries.lift(2 * i + 2)

    def _undo(self) -> tuple[int, Hashable, bool]:
        i, state, only = self.stack.pop()
        self.done &= ~(1 << i)
        if i not in self.rank:
            self.entries.unlift(2 * i + 2)
            self.entries.unlift(2 * i + 1)
        return i, state, only

    def _after(self, i: int) -> int:
        """The call to try after i, or the first one after -1; -1 if there is none."""
        if self.entries.next[0] == -1:
            return -1
        rank = 0
        if i in self.rank:
            rank = self.rank[i] + 1
        else:
            entry = self.entries.next[0 if i == -1 else 2 * i + 1]
            if entry & 1 and entry != -1:
                return entry >> 1
        while rank < len(self.unknown) and self.done >> self.unknown[rank] & 1:
            rank += 1
        blocking = self._first_return()
        if rank < len(self.unknown) and self.calls[self.unknown[rank]].invoked < (blocking.returned or 0):
            return self.unknown[rank]
        if self.stuck is None or (blocking.returned or 0) > (self.stuck.returned or 0):
            self.stuck = blocking
        return -1

    def _first_return(self) -> Call:
        entry = self.entries.next[0]
        while entry & 1:
            entry = self.entries.next[entry]
        return self.calls[(entry >> 1) - 1]


def search(
    calls: Sequence[Call], initial: Hashable, step: Step, steps_max: int, pure: Pure = lambda call: False
) -> Judgement:
    """The depth-first search alone."""
    return _Search(calls, step, pure).run(initial, steps_max)
