"""The commands of the lock table's golden scripts (`tests/golden/locks`).

    table [term=N]                       begin
    open NAME age=N [token=OLD]          a request of the attempt NAME arrives, naming the token OLD has (default: none)
    lock NAME ITEM …                     ask for items: `k` shared point, `k!` exclusive, `a..c` shared span, `a..c!`
    state NAME active|proposed|prepared|committing [bound=N] [writes=k,k]     what the leaseholder says of it
    release NAME | wound NAME | cancel NAME | pump
    committing KEY|A..B at=N             what a snapshot at N would wait for
    adopt NAME age=N bound=N writes=k,k  rebuild an entry from a prepare record
    split CUT                            clip; the right halves are printed and kept
    right                                go on with a table that adopts the right halves
    show

After every command `validate()` runs and what was wounded and granted is printed.
"""

from __future__ import annotations

from tests.goldenlib import Command
from txndb.ids import AttemptId, NodeId, RangeId, Timestamp
from txndb.ranges.api import TxnMeta
from txndb.ranges.lockitems import EXCLUSIVE, SHARED, Item
from txndb.ranges.locks import EntryState, LockEntry, LockTable


def make_txn(name: str, age: int) -> TxnMeta:
    """An attempt named by up to 16 characters; its age's id is the name up to a dash (A- retries A)."""
    age_id = name.rstrip("-").encode()
    return TxnMeta(AttemptId(name.encode().ljust(16, b".")), Timestamp(age), age_id, NodeId(1), 1)


def name_of(entry: LockEntry) -> str:
    return entry.attempt.rstrip(b".").decode()


def parse_item(word: str) -> Item:
    mode = SHARED
    if word.endswith("!"):
        word, mode = word[:-1], EXCLUSIVE
    start, dots, end = word.partition("..")
    return start.encode(), end.encode() if dots else None, mode


def format_item(item: Item) -> str:
    start, end, mode = item
    text = start.decode() if end is None else f"{start.decode()}..{end.decode()}"
    return text + ("!" if mode == EXCLUSIVE else "")


def items_of(entry: LockEntry) -> list[str]:
    items: list[Item] = [(key, None, mode) for key, mode in sorted(entry.points.items())]
    return [format_item(item) for item in items + sorted(entry.spans)]


class LockScript:
    """One lock table and the names of its attempts."""

    def __init__(self, canaries: frozenset[str] = frozenset()) -> None:
        self.canaries = canaries
        self.table = LockTable(RangeId(1), 1, canaries)
        self.known: dict[str, LockEntry] = {}
        self.tokens: dict[str, bytes] = {}
        self.halves: list[LockEntry] = []
        self.requests = 0

    def handle(self, command: Command) -> str:
        output = getattr(self, f"_do_{command.name}")(command)
        lines = [output] if output else []
        lines += self._drain()
        self.table.validate()
        return "\n".join(lines)

    def _drain(self) -> list[str]:
        lines = []
        for entry, waiters in self.table.wounded:
            waited = "".join(f", request {w.handle} with it" for w in waiters)
            lines.append(f"wounded {name_of(entry)}{waited}")
        lines += [f"granted {name_of(w.entry)} request {w.handle}" for w in self.table.granted]
        self.table.wounded, self.table.granted = [], []
        return lines

    def _entry(self, name: str) -> LockEntry:
        return self.known[name]

    def _do_table(self, command: Command) -> str:
        self.table = LockTable(RangeId(1), int(command.options.get("term", "1")), self.canaries)
        return ""

    def _do_open(self, command: Command) -> str:
        name = command.args[0]
        token = self.tokens[command.options["token"]] if "token" in command.options else b""
        entry = self.table.open(make_txn(name, int(command.options["age"])), token)
        if entry is None:
            return "unknown token: wounded"
        self.known[name], self.tokens[name] = entry, entry.token
        return f"token {entry.token[-1]} of term {entry.token[15]}"

    def _do_lock(self, command: Command) -> str:
        self.requests += 1
        entry = self._entry(command.args[0])
        items = [parse_item(word) for word in command.args[1:]]
        if self.table.acquire(entry, items, self.requests):
            return "granted"
        return f"request {self.requests} waits"

    def _do_state(self, command: Command) -> str:
        entry = self._entry(command.args[0])
        if command.args[1] == "active":
            self.table.reactivate(entry)
            return ""
        entry.state = EntryState[command.args[1].upper()]
        entry.bound = Timestamp(int(command.options.get("bound", "0")))
        if "writes" in command.options:
            entry.writes = frozenset(key.encode() for key in command.options["writes"].split(","))
        return ""

    def _do_release(self, command: Command) -> str:
        self.table.release(self._entry(command.args[0]))
        return ""

    def _do_wound(self, command: Command) -> str:
        entry = self._entry(command.args[0])
        self.table.wound(entry, entry, b"")
        self.table.pump()
        return ""

    def _do_cancel(self, command: Command) -> str:
        self.table.cancel_wait(self._entry(command.args[0]))
        return ""

    def _do_pump(self, command: Command) -> str:
        self.table.pump()
        return ""

    def _do_committing(self, command: Command) -> str:
        start, end, _ = parse_item(command.args[0])
        entry = self.table.committing(start, end, Timestamp(int(command.options["at"])))
        return f"waits for {name_of(entry)}" if entry is not None else "reads"

    def _do_adopt(self, command: Command) -> str:
        options = command.options
        txn = make_txn(command.args[0], int(options["age"]))
        writes = [key.encode() for key in options["writes"].split(",")]
        entry = self.table.adopt_prepared(txn, Timestamp(int(options["bound"])), writes)
        self.known[command.args[0]] = entry
        return f"token {entry.token[-1]} of term {entry.token[15]}"

    def _do_split(self, command: Command) -> str:
        self.halves = self.table.split(command.args[0].encode())
        return "\n".join(f"right: {self._format(entry)}" for entry in self.halves)

    def _do_right(self, command: Command) -> str:
        self.table = LockTable(RangeId(2), 6, self.canaries)
        for entry in self.halves:
            self.known[name_of(entry)] = entry
            self.table.adopt(entry)
        return ""

    def _format(self, entry: LockEntry) -> str:
        bound = f" bound={entry.bound}" if entry.bound else ""
        writes = " writes=" + ",".join(sorted(k.decode() for k in entry.writes)) if entry.writes else ""
        items = " ".join(items_of(entry))
        return (
            f"{name_of(entry)} age={entry.age[0]} {entry.state.name.lower()}{bound}{writes} {items}".rstrip()
        )

    def _do_show(self, command: Command) -> str:
        lines = [self._format(entry) for entry in self.table.entries.values()]
        for waiter in self.table.waiters():
            items = " ".join(format_item(item) for item in waiter.items)
            lines.append(f"waits: {name_of(waiter.entry)} request {waiter.handle} {items}")
        return "\n".join(lines) or "empty"
