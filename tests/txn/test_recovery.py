"""Recovery of an abandoned attempt, seen from a participant that is still prepared."""

from __future__ import annotations

import pytest

from tests.txn.fakes import FakeGateway, at, descriptor, run
from txndb.errors import UnavailableError
from txndb.ids import AttemptId, RangeId, Timestamp
from txndb.ranges import api
from txndb.txn import recovery

ATTEMPT = AttemptId(b"an old attempt..")


async def recover(gateway: FakeGateway) -> api.Outcome:
    deadline_us = gateway.sender.deadline_us()
    return await recovery.recover(gateway.sender, ATTEMPT, b"b", (b"p", b"q"), deadline_us)


def resolves(gateway: FakeGateway) -> list[tuple[int, Timestamp, bytes]]:
    found = gateway.holders.requests
    return [(where, r.at, r.keys[0]) for where, r in found if isinstance(r, api.Resolve)]


def test_M7_nothing_recorded_is_recorded_as_aborted_and_dropped() -> None:
    async def story(gateway: FakeGateway) -> None:
        assert (await recover(gateway)).status == api.ABORTED

    gateway = run(story)
    assert gateway.holders.log[0] == "Recover r1" and resolves(gateway) == [(2, 0, b"p")]


def test_M5_a_committed_attempt_is_resolved_at_every_participant_before_its_record_goes() -> None:
    async def story(gateway: FakeGateway) -> None:
        participants = [b"b", b"c", b"p", b"q"]
        gateway.holders.script(api.Recover, 1, api.Outcome(api.COMMITTED, at(50), participants))
        await recover(gateway)

    gateway = run(story)
    assert resolves(gateway) == [(1, at(50), b"b"), (2, at(50), b"p")]
    assert gateway.holders.log[-1] == "Forget r1"


def test_M5_a_participant_that_does_not_answer_keeps_the_record() -> None:
    async def story(gateway: FakeGateway) -> None:
        gateway.holders.script(api.Recover, 1, api.Outcome(api.COMMITTED, at(50), [b"b", b"c", b"p", b"q"]))

        def dead(request: api.Resolve) -> api.Response:
            gateway.time.now_us += 100_000_000
            raise UnavailableError("no answer")

        gateway.holders.script(api.Resolve, 2, dead)
        with pytest.raises(UnavailableError):
            await recover(gateway)

    assert "Forget r1" not in run(story).holders.log


def test_M6_too_old_and_still_prepared_was_never_committed() -> None:
    """Else its keys stay locked for ever: nobody has a record, and the client is told nothing false."""

    async def story(gateway: FakeGateway) -> None:
        gateway.holders.script(api.Recover, 1, api.Outcome(api.UNKNOWN_TOO_OLD, Timestamp(0), []))
        assert (await recover(gateway)).status == api.UNKNOWN_TOO_OLD

    assert resolves(run(story)) == [(2, 0, b"p")]


def test_R5_the_anchor_is_asked_where_it_is_now() -> None:
    async def story(gateway: FakeGateway) -> None:
        gateway.holders.ranges[RangeId(1)] = descriptor(1, b"a", b"aa", 2)
        gateway.holders.ranges[RangeId(3)] = descriptor(3, b"aa", b"m", 2)
        await recover(gateway)

    assert run(story).holders.log[:2] == ["Recover r1", "Recover r3"]
