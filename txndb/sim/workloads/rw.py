"""Rw: transactions read and overwrite registers with unique values; judged by Elle's inference for registers.

An overwritten value says less about order than a list does, but this is what applications do: INSERT … ON CONFLICT,
UPDATE through an index, unique values whose index entries move. Hunts the same anomalies as append, and above all lost
updates and write skew on rows reached through secondary and unique indexes.

Most transactions read a key before they write it, for only then does a value tell its predecessor.
"""

from __future__ import annotations

from random import Random

from txndb.sim.checkers.elle import levels
from txndb.sim.checkers.elle.judge import check_rw
from txndb.sim.checkers.verdict import Verdict
from txndb.sim.history import Op
from txndb.sim.workloads.append import Append
from txndb.sim.workloads.cells import REGISTERS
from txndb.sim.workloads.micro import Micro


class Rw(Append):
    """The workload; but for what it writes it is `Append`."""

    model = "rw"
    write = "w"
    kinds = REGISTERS

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.blind = rng.choice((0.05, 0.3))

    @staticmethod
    def judge(ops: list[Op], level: str) -> Verdict:
        """The checker's verdict; where real time holds, each key is taken to move forward in it."""
        return check_rw(ops, level=level, linearizable_keys=level == levels.STRICT)

    def _draw(self, rng: Random) -> list[Micro]:
        """As before, with a read in front of most writes."""
        micros: list[Micro] = []
        for micro in super()._draw(rng):
            known = any(before[1] == micro[1] for before in micros)
            if micro[0] == "w" and not known and rng.random() >= self.blind:
                micros.append(["r", micro[1], None])
            micros.append(micro)
        return micros
