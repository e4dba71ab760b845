"""All models by name: which operations a history of each has, which options its verdict depends on, and who judges it.

`judge` is what `txndb check`, and whoever has a recorded history, calls. It takes keys apart, judges, and never
guesses; a history of another form raises `HistoryError`. A history in which nothing was done is valid where the model
asks something of all operations, and unknown where it waits for a read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from txndb.sim.checkers import (
    balances,
    comments,
    counter,
    cycle,
    elle,
    g2,
    kv,
    longfork,
    monotonic,
    multiregister,
    mutex,
    queues,
    register,
    schema,
    sequential,
    sets,
    uniqueids,
)
from txndb.sim.checkers.calls import HistoryError, frozen, judge_each_key, with_keys_split
from txndb.sim.checkers.linearizability import STEPS_MAX
from txndb.sim.checkers.verdict import Verdict
from txndb.sim.history import Op


class Options(msgspec.Struct, frozen=True):
    """What verdicts depend on besides the history; None means: the model's default, or find out."""

    initial: Any = msgspec.UNSET
    """First value of a register (null; 0 for `cas-register`), of all registers or by key, of a counter (0), of a kv
    ("")."""
    level: str = "serializable"
    """Isolation level that `valid` is about, for `append` and `rw`."""
    sequential_keys: bool = False
    linearizable_keys: bool = False
    """For `rw`: what may be taken for granted of each key by itself."""
    total: int | None = None
    accounts: tuple[str, ...] | None = None
    negative_allowed: bool = False
    keys: int | None = None
    """Keys of the ring, reads of which show fewer."""
    null_unknown: bool | None = None
    """Whether a read of null says nothing (yes for `cas-register`) or that there was no value."""
    allow_stale: bool = False
    bounds_only: bool = False
    gapless: bool = False
    keyed: bool | None = None
    """Whether values are `[key, value]`; found out if None."""
    steps_max: int = STEPS_MAX

    def first(self, default: Any) -> Any:
        """The initial value, hashable."""
        return default if self.initial is msgspec.UNSET else frozen(self.initial)


class Model(msgspec.Struct, frozen=True):
    """One kind of history."""

    summary: str
    check: Callable[[Sequence[Op], Options], Verdict]
    options: tuple[str, ...] = ()
    """Names of the fields of `Options` that it looks at."""
    reads: frozenset[str] = frozenset()
    """Where not empty, the history is judged key by key; these operations tell whether values carry the key."""
    whole: Callable[[Sequence[Op]], list[Op]] = list
    """What has to be read from the history as a whole before its keys are taken apart."""


def judge(ops: Sequence[Op], name: str, options: Options | None = None) -> Verdict:
    """The verdict on a history under the model of that name.

    Raises: `KeyError` for a name that is none, `HistoryError` for a history that is not of this model.
    """
    name = ALIASES.get(name, name)
    model, options = MODELS[name], options or Options()
    if not ops or not model.reads:
        return model.check(ops, options)
    apart = model.whole(with_keys_split(ops, reads=model.reads, wanted=options.keyed))
    return judge_each_key(apart, name, lambda part: model.check(part, options))


def _register(ops: Sequence[Op], options: Options) -> Verdict:
    return register.check_history(
        ops, options.first(None), null_unknown=options.null_unknown, steps_max=options.steps_max
    )


def _cas_register(ops: Sequence[Op], options: Options) -> Verdict:
    return register.check_history(
        ops,
        options.first(0),
        model="cas-register",
        null_unknown=options.null_unknown,
        steps_max=options.steps_max,
    )


def _multi_register(ops: Sequence[Op], options: Options) -> Verdict:
    initial = None if options.initial is msgspec.UNSET else options.initial
    unknown = bool(options.null_unknown)
    return multiregister.check(ops, initial, null_unknown=unknown, steps_max=options.steps_max)


def _kv(ops: Sequence[Op], options: Options) -> Verdict:
    initial = options.first("")
    if not isinstance(initial, str):
        raise HistoryError(f"the initial value of a kv is a string, not {initial!r}")
    return kv.check(ops, initial, options.steps_max)


def _counter(ops: Sequence[Op], options: Options) -> Verdict:
    initial = options.first(0)
    if isinstance(initial, bool) or not isinstance(initial, int | float):
        raise HistoryError(f"the initial value of a counter is a number, not {initial!r}")
    return counter.check(ops, initial, bounds_only=options.bounds_only, steps_max=options.steps_max)


def _bank(ops: Sequence[Op], options: Options) -> Verdict:
    return balances.check(
        ops, total=options.total, accounts=options.accounts, negative_allowed=options.negative_allowed
    )


_READ: Final = frozenset({"read"})

MODELS: Final[dict[str, Model]] = {
    "append": Model(
        "transactions that append to lists and read them (Elle)",
        lambda ops, options: elle.check_append(ops, level=options.level),
        ("level",),
    ),
    "rw": Model(
        "transactions that write and read registers, every value once (Elle)",
        lambda ops, options: elle.check_rw(
            ops,
            level=options.level,
            sequential_keys=options.sequential_keys,
            linearizable_keys=options.linearizable_keys,
        ),
        ("level", "sequential_keys", "linearizable_keys"),
    ),
    "register": Model(
        "a linearizable register; null is a value, a failed cas an answer",
        _register,
        ("initial", "null_unknown", "keyed", "steps_max"),
        _READ,
        register.settle,
    ),
    "cas-register": Model(
        "a linearizable register that is 0 at first; a read of null is no answer, a failure did not happen",
        _cas_register,
        ("initial", "null_unknown", "keyed", "steps_max"),
        _READ,
    ),
    "multi-register": Model(
        "transactions over several registers, linearizable together",
        _multi_register,
        ("initial", "null_unknown", "steps_max"),
    ),
    "kv": Model(
        "linearizable strings by key: get, put, append",
        _kv,
        ("initial", "keyed", "steps_max"),
        frozenset({"get"}),
    ),
    "mutex": Model(
        "a lock: acquire, release",
        lambda ops, options: mutex.check(ops, bool(options.first(False)), options.steps_max),
        ("initial", "steps_max"),
        frozenset({"none"}),
    ),
    "bank": Model("transfers keep the total", _bank, ("total", "accounts", "negative_allowed")),
    "set": Model(
        "elements added are in the last read",
        lambda ops, options: sets.check_set(ops),
        ("keyed",),
        _READ,
    ),
    "set-full": Model(
        "elements added are in every later read; linearizable",
        lambda ops, options: sets.check_set_full(ops, allow_stale=options.allow_stale),
        ("allow_stale", "keyed"),
        _READ,
    ),
    "counter": Model(
        "additions and reads of a sum",
        _counter,
        ("initial", "bounds_only", "keyed", "steps_max"),
        _READ,
    ),
    "monotonic": Model(
        "numbers that grow with the order of commits",
        lambda ops, options: monotonic.check(ops, gapless=options.gapless),
        ("gapless", "keyed"),
        _READ,
    ),
    "sequential": Model(
        "what one client wrote in order is seen in order",
        lambda ops, options: sequential.check(ops),
    ),
    "cycle": Model(
        "transactions swap neighbours of one ring",
        lambda ops, options: cycle.check(ops, options.keys),
        ("keys",),
    ),
    "schema": Model(
        "a table that changes its shape is read whole, and in order",
        lambda ops, options: schema.check(ops),
    ),
    "unique-ids": Model(
        "no id is given twice", lambda ops, options: uniqueids.check(ops), (), frozenset({"none"})
    ),
    "total-queue": Model(
        "what is enqueued is dequeued, once",
        lambda ops, options: queues.check(ops),
        (),
        frozenset({"none"}),
    ),
    "long-fork": Model("readers agree on the order of two writes", lambda ops, options: longfork.check(ops)),
    "comments": Model(
        "no write is seen without those that ended before it began (causal reverse)",
        lambda ops, options: comments.check(ops),
    ),
    "g2": Model(
        "of two transactions that insert where they see nothing, one succeeds (predicates)",
        lambda ops, options: g2.check(ops),
    ),
}

ALIASES: Final[dict[str, str]] = {
    "list-append": "append",
    "rw-register": "rw",
    "kv-append": "kv",
    "causal-reverse": "comments",
    "ring": "cycle",
    "ddl": "schema",
}
"""Other names that histories of these kinds go by."""
