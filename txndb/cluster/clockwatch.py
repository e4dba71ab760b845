"""A node compares its clock with the other members' and fences itself when it is the one that is wrong (rule T1).

A clock's own source can be mistaken about its error. Once a second, where members have clocks of their own, a node asks
each other member for its time. The answer was read between the question and its arrival, so the difference of the two
clocks lies between (theirs - mine at arrival) and (theirs - mine at asking). Two clocks that both keep E differ by at
most 2E at any time, however slow the network; so if that interval lies outside of ±2E, one of the two does not keep E.

A node that disagrees with more members than it agrees with, itself counted, stops serving until that changes. So the
minority fences itself, and a node that reaches too few members to tell goes on.

Invariants:
1. While all members keep E nobody is fenced, whatever the delays.
2. One answer of each member counts, of this round only.

It does not measure E or correct a clock. Driven by `txndb.cluster.upkeep`.
"""

from __future__ import annotations

import asyncio

from txndb.clock import Clock
from txndb.cluster.body import Body
from txndb.cluster.messages import Member
from txndb.errors import TxndbError

METHOD = "clock"
CALL_TIMEOUT_US = 800_000


def answer_time(body: Body) -> bytes:
    """This member's clock, read now."""
    return body.time.wall_us().to_bytes(8, "big")


class ClockWatch:
    """One node's comparisons."""

    def __init__(self, body: Body, clock: Clock) -> None:
        self._body = body
        self._clock = clock

    async def look(self, others: list[Member]) -> None:
        """Ask the other members, and fence or unfence this node's clock. Takes at most `CALL_TIMEOUT_US`."""
        addresses = sorted({member.address for member in others if member.address})
        answers = await asyncio.gather(*[self._agrees(address) for address in addresses])
        agree, disagree = 1 + answers.count(True), answers.count(False)
        outvoted = disagree > agree
        if outvoted != self._clock.outvoted:
            self._clock.outvoted = outvoted
            verdict = "stops serving" if outvoted else "serves again"
            self._body.event(f"clock: {disagree} members disagree, {agree - 1} agree: this node {verdict}")

    async def _agrees(self, address: str) -> bool | None:
        """Whether this clock and a member's can both be within E; None when it does not answer."""
        time = self._body.time
        asked_us = time.wall_us()
        try:
            answer = await self._body.transport.call(address, METHOD, b"", CALL_TIMEOUT_US)
        except TxndbError:
            return None
        theirs_us = int.from_bytes(answer, "big")
        span_us = 2 * self._clock.error_bound_us
        return theirs_us - time.wall_us() <= span_us and theirs_us - asked_us >= -span_us
