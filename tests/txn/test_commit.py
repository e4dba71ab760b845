"""The commit of one attempt where something goes wrong half-way: all that is prepared ends, no commit is denied."""

from __future__ import annotations

import asyncio

import pytest

from tests.txn.fakes import FakeGateway, at, run
from txndb.errors import DiskFullError, OutcomeUnknownError, RetryError, UnavailableError
from txndb.ids import Timestamp
from txndb.ranges import api
from txndb.txn import commit, coordinator
from txndb.txn.api import Lock

FULL = api.Refused("53100", "the node's disk is full")
WOUNDED = api.Wounded("its locks were lost")
TOO_OLD = api.Outcome(api.UNKNOWN_TOO_OLD, Timestamp(0), [])


async def write(gateway: FakeGateway, *keys: bytes) -> coordinator.Transaction:
    """An attempt that holds and has written these keys."""
    txn = gateway.begin()
    await txn.get(list(keys), Lock.EXCLUSIVE)
    for key in keys:
        txn.put(key, b"1")
    return txn


def in_parts_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "ENTRY_WRITES_MAX", 2)


# -- what was prepared is ended --------------------------------------------------------------------------------


def test_R5_every_part_a_prepare_was_sent_for_is_dropped_when_the_commit_is_given_up() -> None:
    """An error does not say that nothing was prepared: its answer may be what was lost."""

    async def story(gateway: FakeGateway) -> None:
        txn = await write(gateway, b"b", b"p")
        gateway.holders.script(api.Prepare, 2, FULL)
        with pytest.raises(DiskFullError):
            await txn.commit()

    log = run(story).holders.log
    assert log[log.index("Recover r1") :] == ["Recover r1", "Resolve r1 b", "Resolve r2 p"]


@pytest.mark.parametrize("status", [api.COMMITTED, api.UNKNOWN_TOO_OLD])
def test_M7_what_the_anchor_does_not_call_aborted_is_not_dropped(status: int) -> None:
    """Dropping the prepared writes of an attempt with another outcome would lose them."""

    async def story(gateway: FakeGateway) -> None:
        txn = await write(gateway, b"b", b"p")
        gateway.holders.script(api.Prepare, 2, WOUNDED)
        gateway.holders.script(api.Recover, 1, api.Outcome(status, at(5), []))
        with pytest.raises(RetryError):
            await txn.commit()

    log = run(story).holders.log
    assert log[-1] == "Recover r1"


def test_M7_an_outcome_that_cannot_be_learnt_is_unknown_whatever_the_reason() -> None:
    """The anchor refuses the question: that says nothing about the commit that was sent."""

    async def story(gateway: FakeGateway) -> None:
        txn = await write(gateway, b"b")
        gateway.holders.script(api.OnePhase, 1, UnavailableError("the answer was lost"), FULL)
        gateway.holders.script(api.Recover, 1, FULL)
        with pytest.raises(OutcomeUnknownError):
            await txn.commit()

    gateway = run(story)
    assert not gateway.living and "Release r1" not in gateway.holders.log


def test_M7_a_prepare_learns_that_the_attempt_is_committed() -> None:
    """A 1PC was answered "moved", and a second copy of its message committed: to say 40001 would be wrong."""

    async def story(gateway: FakeGateway) -> None:
        txn = await write(gateway, b"b", b"c")
        gateway.holders.script(api.OnePhase, 1, api.Moved([]))
        gateway.holders.script(api.Prepare, 1, api.Outcome(api.COMMITTED, at(5), []))
        assert await txn.commit() == at(5)

    assert run(story).holders.log == ["Get r1 b,c", "OnePhase r1 b,c", "Prepare r1 b,c"]


def test_M6_a_commit_that_is_too_old_for_its_outcome_is_definite_if_it_was_sent_once() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = await write(gateway, b"b")
        gateway.holders.script(api.OnePhase, 1, TOO_OLD)
        with pytest.raises(RetryError) as caught:
            await txn.commit()
        assert caught.value.detail == "Reason: it lasted longer than outcomes are kept."

    assert run(story).holders.log[-1] == "Release r1"


def test_M6_a_decision_that_finds_no_record_is_definite_if_it_was_sent_once() -> None:
    """Recovery aborted it, and that outcome is collected by now."""

    async def story(gateway: FakeGateway) -> None:
        txn = await write(gateway, b"b", b"p")
        gateway.holders.script(api.Decide, 1, api.Wounded("its prepare record at the anchor is gone"))
        gateway.holders.script(api.Recover, 1, TOO_OLD)
        with pytest.raises(RetryError):
            await txn.commit()

    assert not run(story).living


@pytest.mark.parametrize(
    ("kind", "keys", "answer"), [(api.OnePhase, [b"b"], TOO_OLD), (api.Decide, [b"b", b"p"], WOUNDED)]
)
def test_M6_too_old_says_nothing_of_what_was_sent_twice(
    kind: type, keys: list[bytes], answer: api.Response
) -> None:
    """The first copy may have committed, and its outcome may be collected."""

    async def story(gateway: FakeGateway) -> None:
        txn = await write(gateway, *keys)
        gateway.holders.script(kind, 1, UnavailableError("the answer was lost"), answer)
        gateway.holders.script(api.Recover, 1, TOO_OLD)
        with pytest.raises(OutcomeUnknownError):
            await txn.commit()

    run(story)


# -- parts -----------------------------------------------------------------------------------------------------


def test_a_transaction_too_large_for_one_entry_is_prepared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts_of_two(monkeypatch)

    async def story(gateway: FakeGateway) -> None:
        await (await write(gateway, b"b", b"c", b"d")).commit()

    log = run(story).holders.log
    assert log[1:4] == ["Prepare r1 b,c", "Prepare r1 d", "Decide r1"]


def test_R5_behind_a_part_that_moved_every_later_part_is_grouped_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a commit without some of its writes."""
    in_parts_of_two(monkeypatch)

    async def story(gateway: FakeGateway) -> None:
        txn = await write(gateway, b"b", b"c", b"g", b"h", b"k")
        gateway.holders.split(1, b"c", 3)
        await txn.commit()

    log = run(story).holders.log
    prepares = [line for line in log if line.startswith("Prepare")]
    assert prepares == ["Prepare r1 b,c", "Prepare r1 b", "Prepare r3 c,g", "Prepare r3 h,k"]


# -- transactions that wrote nothing ---------------------------------------------------------------------------


def test_D1_a_transaction_that_wrote_nothing_obeys_its_catalogue_lease() -> None:
    """It read with a catalogue that may have been changed since."""

    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"])
        txn.limit_commit(Timestamp(0), at(-500_000))
        with pytest.raises(RetryError):
            await txn.commit()

    assert not [line for line in run(story).holders.log if line.startswith("Validate")]


def test_D4_later_timestamps_of_a_gateway_exceed_those_of_its_reads() -> None:
    """A transaction that wrote nothing waits for no clock: a returned lease must still cover when it was."""

    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"])
        txn.limit_commit(at(900_000), at(2_000_000))
        await txn.commit()
        assert gateway.clock.now() > at(900_000)

    run(story)


# -- tokens, pages, savepoints ---------------------------------------------------------------------------------


def test_K1_a_token_is_of_the_spans_a_range_holds_now() -> None:
    """What was locked went right with a split: the left half never gave a token."""

    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"k"])
        gateway.holders.split(1, b"f", 3)
        await txn.get([b"j"])
        await txn.get([b"b"])
        await txn.rollback()

    requests = [(where, r.token) for where, r in run(story).holders.requests if isinstance(r, api.Get)]
    assert requests == [(1, b""), (1, b"t1"), (3, b"t1"), (1, b"")]


def test_K4_a_span_that_moved_is_asked_about_where_it_is_now() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        async for _ in txn.scan(b"b", b"k"):
            pass
        gateway.holders.split(1, b"f", 3)
        gateway.holders.script(api.Validate, 3, WOUNDED)
        with pytest.raises(RetryError):
            await txn.check()
        await txn.rollback()

    run(story)


def test_a_bulk_load_locks_page_by_page_and_lets_others_run_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "GET_KEYS_MAX", 2)

    async def story(gateway: FakeGateway) -> None:
        turns: list[int] = []

        async def other() -> None:
            while True:
                turns.append(len(gateway.holders.log))
                await asyncio.sleep(0)

        beside = asyncio.ensure_future(other())
        await asyncio.sleep(0)
        txn = gateway.begin()
        await txn.get([b"a", b"b", b"c", b"d", b"e"], Lock.EXCLUSIVE)
        beside.cancel()
        assert turns == [0, 1, 2]
        await txn.rollback()

    assert run(story).holders.log[:3] == ["Get r1 a,b", "Get r1 c,d", "Get r1 e"]


def test_the_keys_of_several_ranges_are_grouped_whatever_their_order() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b", b"c", b"p", b"d", b"q"])
        await txn.rollback()

    assert run(story).holders.log[:2] == ["Get r1 b,c,d", "Get r2 p,q"]


def test_each_savepoint_undoes_what_came_after_it_and_no_more() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        txn.put(b"b", b"before")
        outer = txn.savepoint()
        txn.put(b"b", b"outer")
        txn.put(b"c", b"outer")
        inner = txn.savepoint()
        txn.put(b"b", b"inner")
        txn.delete(b"c")
        txn.rollback_to(inner)
        assert txn.writes == {b"b": b"outer", b"c": b"outer"}
        txn.put(b"d", b"again")
        txn.rollback_to(outer)
        assert txn.writes == {b"b": b"before"}
        await txn.rollback()

    run(story)
