"""Sequential consistency of one writer's order (Jepsen's `sequential` tests of CockroachDB, TiDB and Dgraph).

A `write` inserts the subkeys of a key one after another, each in a transaction of its own. A `read` asks for them in
reverse order, each in a transaction of its own; its result is `[key, [answers in the order asked]]`, null for a subkey
that was not there – or the list alone, where operations have keys. Whoever saw a later subkey must then see all earlier
ones: a null after an answer that is none is the anomaly (`out-of-order`).

It does not ask that reads be recent: that is what linearizability is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from txndb.sim.checkers.calls import HistoryError
from txndb.sim.checkers.objects import known_only, short
from txndb.sim.checkers.verdict import Anomaly, Verdict
from txndb.sim.history import Op


def check(ops: Sequence[Op]) -> Verdict:
    """The verdict; unknown if nothing was read. Raises `HistoryError` for a read of another form."""
    known_only(ops, ("read", "write", "add"))
    reads = [op for op in ops if op.f == "read" and op.type == "ok" and op.value is not None]
    if not reads:
        return Verdict(None, "sequential", note="nothing was read")
    anomalies = []
    for read in reads:
        key, answers = _answers(read)
        seen = [place for place, answer in enumerate(answers) if answer is not None]
        missing = [
            place for place, answer in enumerate(answers) if answer is None and seen and place > seen[0]
        ]
        if missing:
            text = (
                f"the read of key {short(key)} at index {read.index} saw {short(answers[seen[0]])} and then not what "
                f"had been written before: {short(answers)}"
            )
            anomalies.append(Anomaly("out-of-order", text, (read.index,)))
    return Verdict(not anomalies, "sequential", tuple(anomalies))


def _answers(read: Op) -> tuple[Any, list[Any]]:
    value = read.value
    if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[1], list | tuple):
        return value[0], list(value[1])
    if read.key is not None and isinstance(value, list | tuple):
        return read.key, list(value)
    raise HistoryError(f"operation {read.index}: a read of {short(value)} instead of [key, [answers]]")
