"""Objects that are right by construction, and clients of them that overlap, fail and crash: histories that are valid.

Each call takes effect at one instant between its invocation and its return. A client that crashes leaves an `info`; its
call takes effect at once, some time later, or never. A client that is refused leaves a `fail`, and nothing happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from txndb.sim.history import Op

Effect = Callable[[str, Any, Any], Any]
"""(operation, key, argument) -> result, changing the object; raises `RefusedError` if nothing can be done."""


class RefusedError(Exception):
    """The object cannot do it in this state."""


class Atomic(msgspec.Struct):
    """One kind of object: how it does things, and what clients ask of it."""

    effect: Effect
    draw: Callable[[Random], tuple[str, Any, Any]]
    """An operation, its key and its argument."""
    last: tuple[tuple[str, Any, Any], ...] = ()
    """What one client asks at the end, when all others are done."""


class _Active(msgspec.Struct):
    f: str
    key: Any
    argument: Any
    done: bool = False
    result: Any = None


class _Run:
    def __init__(self, kind: Atomic, rng: Random) -> None:
        self.kind = kind
        self.rng = rng
        self.ops: list[Op] = []
        self.limbo: list[_Active] = []
        self.processes = 0

    def add(self, process: int, kind: str, call: _Active, value: Any) -> None:
        self.ops.append(Op(len(self.ops), process, kind, call.f, value, call.key))

    def perform(self, call: _Active) -> None:
        call.result = self.kind.effect(call.f, call.key, call.argument)
        call.done = True

    def step(self, process: int, call: _Active, crashes: float) -> bool:
        """One more thing that happens to a call under way; whether it is over."""
        if self.rng.random() < crashes:
            self.add(process, "info", call, None)
            if not call.done:
                self.limbo.append(call)
            return True
        if call.done:
            self.add(process, "ok", call, call.result)
            return True
        try:
            self.perform(call)
        except RefusedError:
            self.add(process, "fail", call, call.argument)
            return True
        return False

    def haunt(self) -> None:
        """A call whose client is gone takes effect, or never will."""
        call = self.limbo.pop(self.rng.randrange(len(self.limbo)))
        if self.rng.random() < 0.6:
            with contextlib.suppress(RefusedError):
                self.perform(call)


def simulate(
    kind: Atomic, rng: Random, *, calls: int = 30, clients: int = 4, crashes: float = 0.04
) -> list[Op]:
    """A history that the object's model must explain."""
    run = _Run(kind, rng)
    active: dict[int, _Active] = {}
    while calls or active:
        if run.limbo and rng.random() < 0.1:
            run.haunt()
        if calls and len(active) < clients and rng.random() < 0.5:
            f, key, argument = kind.draw(rng)
            call = _Active(f, key, argument)
            active[run.processes] = call
            run.add(run.processes, "invoke", call, argument)
            run.processes += 1
            calls -= 1
        elif active:
            process = rng.choice(sorted(active))
            if run.step(process, active[process], crashes):
                del active[process]
    for f, key, argument in kind.last:
        call = _Active(f, key, argument)
        run.add(run.processes, "invoke", call, argument)
        run.perform(call)
        run.add(run.processes, "ok", call, call.result)
        run.processes += 1
    return run.ops


def register(initial: Any = None) -> Atomic:
    values: dict[Any, Any] = {}

    def effect(f: str, key: Any, argument: Any) -> Any:
        old = values.get(key, initial)
        if f == "write":
            values[key] = argument
        elif f == "cas":
            if old != argument[0]:
                raise RefusedError
            values[key] = argument[1]
            return argument
        return values.get(key, initial) if f == "read" else argument

    def draw(rng: Random) -> tuple[str, Any, Any]:
        f, key = rng.choice(("read", "write", "cas")), rng.randrange(2)
        argument = {"read": None, "write": rng.randrange(4), "cas": [rng.randrange(4), rng.randrange(4)]}[f]
        return f, key, argument

    return Atomic(effect, draw)


def kv() -> Atomic:
    values: dict[Any, str] = {}

    def effect(f: str, key: Any, argument: Any) -> Any:
        if f == "get":
            return values.get(key, "")
        values[key] = argument if f == "put" else values.get(key, "") + argument
        return argument

    def draw(rng: Random) -> tuple[str, Any, Any]:
        f = rng.choice(("get", "append", "append", "put"))
        return f, rng.choice("ab"), None if f == "get" else rng.choice(("x", "y", f"{rng.randrange(100)};"))

    return Atomic(effect, draw)


def mutex() -> Atomic:
    held: set[Any] = set()

    def effect(f: str, key: Any, argument: Any) -> Any:
        if (key in held) == (f == "acquire"):
            raise RefusedError
        (held.add if f == "acquire" else held.discard)(key)
        return None

    return Atomic(effect, lambda rng: (rng.choice(("acquire", "release")), None, None))


def counter() -> Atomic:
    total = [0]

    def effect(f: str, key: Any, argument: Any) -> Any:
        if f == "add":
            total[0] += argument
        return total[0] if f == "read" else argument

    def draw(rng: Random) -> tuple[str, Any, Any]:
        return ("read", None, None) if rng.random() < 0.4 else ("add", None, rng.choice((1, 1, 2, -1, 5)))

    return Atomic(effect, draw, (("read", None, None),))


def growing_set() -> Atomic:
    elements: list[int] = []
    given = [0]

    def effect(f: str, key: Any, argument: Any) -> Any:
        if f == "add":
            elements.append(argument)
            return argument
        return list(elements)

    def draw(rng: Random) -> tuple[str, Any, Any]:
        if rng.random() < 0.4:
            return "read", None, None
        given[0] += 1
        return "add", None, given[0]

    return Atomic(effect, draw, (("read", None, None),))


def multi_register() -> Atomic:
    values: dict[Any, Any] = {}
    given = [0]

    def effect(f: str, key: Any, argument: Any) -> Any:
        told = []
        for step, name, value in argument:
            if step == "w":
                values[name] = value
            told.append([step, name, values.get(name)])
        return told

    def draw(rng: Random) -> tuple[str, Any, Any]:
        steps: list[list[Any]] = []
        for _ in range(rng.randrange(1, 4)):
            given[0] += 1
            steps.append(rng.choice((["r", rng.choice("xyz"), None], ["w", rng.choice("xyz"), given[0] % 5])))
        return "txn", None, steps

    return Atomic(effect, draw)


def monotonic() -> Atomic:
    numbers: list[int] = [0]

    def effect(f: str, key: Any, argument: Any) -> Any:
        if f == "add":
            numbers.append(numbers[-1] + 1)
            return numbers[-1]
        return list(numbers)

    return Atomic(
        effect,
        lambda rng: ("read" if rng.random() < 0.4 else "add", None, None),
        (("add", None, None), ("read", None, None)),
    )


def timestamped() -> Atomic:
    """As CockroachDB's test: rows of a number and a timestamp; an addition answers with the largest row before it."""
    rows: list[dict[str, Any]] = [{"val": -1, "sts": "0"}]
    asked = [0]

    def effect(f: str, key: Any, argument: Any) -> Any:
        if f == "read":
            return list(rows)
        rows.append({"val": rows[-1]["val"] + 1, "sts": f"{10 * len(rows)}.0000000001"})
        return rows[-2]

    def draw(rng: Random) -> tuple[str, Any, Any]:
        asked[0] += 1
        return ("read", None, None) if rng.random() < 0.3 else ("add", None, asked[0])

    return Atomic(effect, draw, (("read", None, None),))


def ring() -> Atomic:
    after = {key: (key + 1) % 5 for key in range(5)}

    def effect(f: str, key: Any, argument: Any) -> Any:
        if f == "swap":
            second, third = after[argument], after[after[argument]]
            fourth = after[third]
            after[argument], after[second], after[third] = third, fourth, second
            return [argument, second, third, fourth]
        return [[key, value] for key, value in sorted(after.items())]

    def draw(rng: Random) -> tuple[str, Any, Any]:
        return ("read", None, None) if rng.random() < 0.4 else ("swap", None, rng.randrange(5))

    return Atomic(effect, draw, (("read", None, None),))


def bank() -> Atomic:
    balances = dict.fromkeys(range(4), 10)

    def effect(f: str, key: Any, argument: Any) -> Any:
        if f == "read":
            return {str(account): balance for account, balance in balances.items()}
        if balances[argument["from"]] < argument["amount"]:
            raise RefusedError
        balances[argument["from"]] -= argument["amount"]
        balances[argument["to"]] += argument["amount"]
        return argument

    def draw(rng: Random) -> tuple[str, Any, Any]:
        if rng.random() < 0.4:
            return "read", None, None
        return (
            "transfer",
            None,
            {"from": rng.randrange(4), "to": rng.randrange(4), "amount": rng.randrange(1, 9)},
        )

    return Atomic(effect, draw, (("read", None, None),))


def total_queue() -> Atomic:
    elements: list[int] = []
    given = [0]

    def effect(f: str, key: Any, argument: Any) -> Any:
        if f == "enqueue":
            elements.append(argument)
            return argument
        if f == "drain":
            taken, elements[:] = list(elements), []
            return taken
        if not elements:
            raise RefusedError
        return elements.pop(0)

    def draw(rng: Random) -> tuple[str, Any, Any]:
        given[0] += 1
        return ("dequeue", None, None) if rng.random() < 0.5 else ("enqueue", None, given[0])

    return Atomic(effect, draw, (("drain", None, None),))


def ids() -> Atomic:
    given = [0]

    def effect(f: str, key: Any, argument: Any) -> Any:
        given[0] += 1
        return given[0]

    return Atomic(effect, lambda rng: ("generate", None, None))


ALL: dict[str, Callable[[], Atomic]] = {
    "cas-register": lambda: register(0),
    "kv": kv,
    "mutex": mutex,
    "counter": counter,
    "set": growing_set,
    "set-full": growing_set,
    "multi-register": multi_register,
    "monotonic": monotonic,
    "cycle": ring,
    "bank": bank,
    "total-queue": total_queue,
    "unique-ids": ids,
    "register": register,
}
