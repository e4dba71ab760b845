"""What the writes of a history say by themselves: who wrote which value, and which keys hold lists.

Everything Elle infers hangs on *recoverability*: a value read leads to the one transaction that wrote it. Where two
transactions wrote the same value to a key, or one did twice, the history is malformed there: such a value is named
and leads nowhere, which makes the verdict at best unknown, never wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import msgspec

from txndb.sim.checkers.elle.txns import Mop, Txn, Txns, thaw


class Found(msgspec.Struct):
    """An anomaly as the inference finds it: transactions by node."""

    kind: str
    text: str
    nodes: tuple[int, ...]


class Writer(msgspec.Struct, frozen=True):
    """Who wrote a value."""

    node: int
    final: bool
    """Whether it is the last value the transaction wrote to that key: the version it installed."""


class Facts:
    """The writes of a history, and what is collected on the way to a verdict."""

    def __init__(self, txns: Txns, model: str) -> None:
        self.txns: Sequence[Txn] = txns.all
        self.writers: dict[Hashable, dict[Hashable, Writer]] = {}
        self.ambiguous: dict[Hashable, set[Hashable]] = {}
        self.lists: dict[Hashable, None] = {}
        """Keys that hold lists, in order of appearance; all others, less the mixed, hold one value."""
        self.registers: dict[Hashable, None] = {}
        self.found: list[Found] = []
        self.malformed: list[str] = []
        """Why the history cannot be judged in full."""
        self.seen: set[int] = set()
        """Transactions of which a committed one read a write."""
        self._sort_keys(model)
        self._collect_writers()

    def _sort_keys(self, model: str) -> None:
        kinds: dict[Hashable, set[str]] = {}
        for txn in self.txns:
            for mop in txn.mops:
                kinds.setdefault(mop.key, set()).add(mop.f)
        for key, kind in kinds.items():
            if {"append", "w"} <= kind:
                self.malformed.append(f"key {show(key)} is appended to and overwritten: not judged")
            elif "append" in kind or ("w" not in kind and model == "append"):
                self.lists[key] = None
            else:
                self.registers[key] = None

    def _collect_writers(self) -> None:
        for txn in self.txns:
            last = {mop.key: place for place, mop in enumerate(txn.mops) if mop.f != "r"}
            for place, mop in enumerate(txn.mops):
                if mop.f == "r" or not (mop.key in self.lists or mop.key in self.registers):
                    continue
                known = self.writers.setdefault(mop.key, {})
                if mop.value in known:
                    twice = self.ambiguous.setdefault(mop.key, set())
                    if mop.value not in twice:
                        self._written_twice(mop, known[mop.value].node, txn.node)
                    twice.add(mop.value)
                    continue
                known[mop.value] = Writer(txn.node, last[mop.key] == place)
        for key, values in self.ambiguous.items():
            for value in values:
                del self.writers[key][value]
            self.malformed.append(f"values of key {show(key)} were written twice")

    def _written_twice(self, mop: Mop, a: int, b: int) -> None:
        kind, verb = ("appends", "appended to") if mop.f == "append" else ("writes", "written to")
        text = f"{show(mop.value)} is {verb} key {show(mop.key)} twice, by {self.name(a)} and {self.name(b)}"
        self.found.append(Found("duplicate-" + kind, text + ": nobody can tell whose it is", (a, b)))

    def writer(self, key: Hashable, value: Hashable) -> Writer | None:
        return self.writers.get(key, {}).get(value)

    def is_ambiguous(self, key: Hashable, value: Hashable) -> bool:
        return value in self.ambiguous.get(key, ())

    def committed(self, node: int) -> bool:
        """Whether a transaction took effect, for all a client can know; of an unknown outcome, once it was seen."""
        status = self.txns[node].status
        return status == "ok" or (status == "info" and node in self.seen)

    def failed(self, node: int) -> bool:
        return self.txns[node].status == "fail"

    def name(self, node: int) -> str:
        """How texts call a transaction: by its history index."""
        return f"T{self.txns[node].index}"


def show(value: Hashable) -> str:
    """A key or value as texts print it."""
    plain = thaw(value)
    return "nil" if plain is None else str(plain)
