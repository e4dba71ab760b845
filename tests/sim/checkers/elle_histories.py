"""Histories for the tests of the transactional checkers: written by hand in short form, and run by real executors.

The short form: `ax1` appends 1 to x, `wx1` writes it, `rx12` reads the list [1 2] (or, of a register, `rx1` the value
1), `rx` reads nothing there. A transaction that starts with `!` failed, with `?` has an unknown outcome.

The executors run transactions of several processes step by step in a random interleaving, each at one isolation level
and no better: what they record never contradicts that level, and contradicts the next one every so often.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from txndb.sim.history import Op

Mops = list[list[Any]]
STATUS = {"!": "fail", "?": "info"}


def mops(text: str, registers: bool = False) -> Mops:
    out: Mops = []
    for word in text.lstrip("!?").split():
        f, key, rest = word[0], word[1], word[2:]
        if f == "r" and registers:
            out.append(["r", key, int(rest) if rest else None])
        elif f == "r":
            out.append(["r", key, [int(digit) for digit in rest] or None])
        else:
            out.append(["append" if f == "a" else "w", key, int(rest)])
    return out


def asked(done: Mops) -> Mops:
    """The same without what reads returned."""
    return [[f, key, None if f == "r" else value] for f, key, value in done]


def concurrent(*txns: str, registers: bool = False) -> list[Op]:
    """All invoked, then all completed, each by a process of its own. Completions have the indexes n, n+1, …"""
    ops = [Op(i, i, "invoke", "txn", asked(mops(t, registers))) for i, t in enumerate(txns)]
    for i, t in enumerate(txns):
        status = STATUS.get(t[0], "ok")
        done = mops(t, registers)
        ops.append(Op(len(txns) + i, i, status, "txn", done if status == "ok" else asked(done)))
    return ops


def one_after_another(
    *txns: str, processes: Sequence[int] | None = None, registers: bool = False
) -> list[Op]:
    """Each invoked when the one before has completed. The completions have odd indexes."""
    ops: list[Op] = []
    for i, t in enumerate(txns):
        process = processes[i] if processes else i
        status, done = STATUS.get(t[0], "ok"), mops(t, registers)
        ops.append(Op(len(ops), process, "invoke", "txn", asked(done)))
        ops.append(Op(len(ops), process, status, "txn", done if status == "ok" else asked(done)))
    return ops


class Running:
    """A transaction that has begun."""

    def __init__(self, snapshot: dict[str, Any], at: int) -> None:
        self.snapshot = snapshot
        self.at = at
        self.own: dict[str, list[Any]] = {}
        self.undo: dict[str, Any] = {}


class Store:
    """Keys and values under one isolation level, for transactions whose steps are interleaved.

    `serial` runs all steps of a transaction at once. `stale` does too, but read-only ones may read an old state:
    serializable, not strictly. `snapshot` reads as of the start, and of two that overlap and write one key the
    first to commit wins. `committed` reads what is committed now, `uncommitted` what is there; both lock what they
    write.
    """

    def __init__(self, level: str, append: bool, rng: Random) -> None:
        self.level, self.append, self.rng = level, append, rng
        self.data: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.locks: dict[str, Running] = {}
        self.states: list[dict[str, Any]] = [{}]

    def begin(self, steps: Mops) -> Running:
        snapshot = dict(self.data)
        if self.level == "stale" and all(f == "r" for f, _, _ in steps):
            snapshot = self.rng.choice(self.states[-5:])
        return Running(snapshot, len(self.states))

    def step(self, txn: Running, mop: list[Any]) -> bool:
        """Do one step and fill in what it read. False: it cannot be done, the transaction must abort."""
        f, key, value = mop
        if f == "r":
            base = self.data if self.level in ("committed", "uncommitted", "serial") else txn.snapshot
            mop[2] = self._with_own(base.get(key), txn.own.get(key, []))
            return True
        if self.level in ("committed", "uncommitted"):
            if self.locks.setdefault(key, txn) is not txn:
                return False
        if self.level == "uncommitted":
            txn.undo.setdefault(key, self.data.get(key))
            self.data[key] = self._with_own(self.data.get(key), [value])
        else:
            txn.own.setdefault(key, []).append(value)
        return True

    def _with_own(self, base: Any, own: list[Any]) -> Any:
        if self.append:
            return [*(base or []), *own]
        return own[-1] if own else base

    def commit(self, txn: Running) -> bool:
        if self.level == "snapshot" and any(self.versions.get(key, 0) > txn.at - 1 for key in txn.own):
            return False
        for key, own in txn.own.items():
            self.data[key] = self._with_own(self.data.get(key), own)
            self.versions[key] = len(self.states)
        self._unlock(txn)
        self.states.append(dict(self.data))
        return True

    def abort(self, txn: Running) -> None:
        self.data.update(txn.undo)
        self._unlock(txn)

    def _unlock(self, txn: Running) -> None:
        self.locks = {key: owner for key, owner in self.locks.items() if owner is not txn}


class _Session:
    def __init__(self, process: int) -> None:
        self.process = process
        self.todo: Mops = []
        self.done = 0
        self.txn: Running | None = None


def record(
    rng: Random,
    level: str,
    *,
    append: bool = True,
    txns: int = 40,
    sessions: int = 4,
    keys: int = 3,
    lost: float = 0.05,
) -> list[Op]:
    """Run transactions at a level and write down the history.

    Args:
        lost: Share of transactions whose outcome their client never learns.
    """
    store, value = Store(level, append, rng), 0
    ops: list[Op] = []
    idle = [_Session(process) for process in range(sessions)]
    busy: list[_Session] = []
    while txns or busy:
        if idle and txns and (not busy or rng.random() < 0.4):
            session = idle.pop(rng.randrange(len(idle)))
            session.todo, session.done, session.txn, txns = [], 0, None, txns - 1
            for _ in range(rng.randint(1, 4)):
                value += 1
                write = ["append" if append else "w", f"k{rng.randrange(keys)}", value]
                session.todo.append(write if rng.random() < 0.5 else ["r", write[1], None])
            ops.append(Op(len(ops), session.process, "invoke", "txn", asked(session.todo)))
            busy.append(session)
            continue
        session = rng.choice(busy)
        status = _advance(store, session)
        if status:
            status = "info" if rng.random() < lost else status
            done = session.todo if status == "ok" else asked(session.todo)
            ops.append(Op(len(ops), session.process, status, "txn", done))
            session.process += sessions * 1000 if status == "info" else 0
            busy.remove(session)
            idle.append(session)
    return ops


def _advance(store: Store, session: _Session) -> str:
    """The next step of a transaction; its outcome, when that was the last."""
    whole = store.level in ("serial", "stale")
    if session.txn is None:
        session.txn = store.begin(session.todo)
        if not whole:
            return ""
    while session.done < len(session.todo):
        session.done += 1
        if not store.step(session.txn, session.todo[session.done - 1]):
            store.abort(session.txn)
            return "fail"
        if not whole:
            return ""
    if store.rng.random() < 0.05 or not store.commit(session.txn):
        store.abort(session.txn)
        return "fail"
    return "ok"
