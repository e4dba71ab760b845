"""The coordinator against leaseholders that answer from a script: what a gateway must do, rule by rule."""

from __future__ import annotations

import asyncio

import pytest

from tests.txn.fakes import FakeGateway, at, descriptor, run
from txndb.clock import Clock
from txndb.errors import DiskFullError, LimitError, OutcomeUnknownError, RetryError, UnavailableError
from txndb.ids import RangeId, Timestamp
from txndb.ranges import api
from txndb.txn.api import Lock
from txndb.txn.coordinator import Transaction

ABORTED = api.Outcome(api.ABORTED, Timestamp(0), [])
WOUNDED = api.Wounded("its locks were lost")


def committed(micros: int) -> api.Outcome:
    return api.Outcome(api.COMMITTED, at(micros), [])


def test_M2_one_range_commits_in_one_phase() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        assert await txn.commit() > 0

    gateway = run(story)
    assert gateway.holders.log == ["Get r1 b", "OnePhase r1 b"]
    assert not gateway.living


def test_M2_a_read_elsewhere_makes_it_two_phases() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"], Lock.EXCLUSIVE)
        await txn.get([b"p"])
        txn.put(b"b", b"1")
        await txn.commit()

    log = run(story).holders.log
    assert log[:5] == ["Get r1 b", "Get r2 p", "Prepare r1 b", "Validate r2 p", "Decide r1"]
    assert log[5:] == ["Forget r1", "Release r2"], (
        "the anchor resolved with the decision; the reader is released"
    )


def test_M1_the_anchor_is_a_key_written() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"a"])
        txn.put(b"c", b"1")
        txn.put(b"q", b"1")
        await txn.commit()

    anchors = {r.anchor for _, r in run(story).holders.requests if isinstance(r, api.Prepare | api.Decide)}
    assert anchors == {b"c"}


def test_M1_nothing_written_leaves_no_record() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b", b"p"])
        assert await txn.commit() == 0

    log = run(story).holders.log
    assert sorted(log[2:]) == ["Release r1", "Release r2", "Validate r1 b", "Validate r2 p"]


def test_K2_every_key_written_is_locked_exclusively_before_commit_starts() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"])
        txn.put(b"b", b"1")
        txn.delete(b"c")
        await txn.commit()

    requests = [r for _, r in run(story).holders.requests]
    lock = requests[1]
    assert isinstance(lock, api.Get) and lock.mode == 2 and lock.keys == [b"b", b"c"] and lock.token == b"t1"
    assert isinstance(requests[2], api.OnePhase)


def test_K1_each_request_names_the_token_it_was_given() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"])
        await txn.get([b"c"])
        async for _ in txn.scan(b"d", b"f"):
            pass

    tokens = [r.token for _, r in run(story).holders.requests if isinstance(r, api.Get | api.Scan)]
    assert tokens == [b"", b"t1", b"t1"]


def test_K1_two_tokens_in_one_range_kill_the_attempt() -> None:
    """The first entry must have been lost between the two answers."""

    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"])
        gateway.holders.script(api.Get, 1, api.Values(b"other", [None], Timestamp(0)))
        with pytest.raises(RetryError):
            await txn.get([b"c"])
        with pytest.raises(RetryError):
            await txn.commit()
        await txn.rollback()

    run(story)


def test_K1_a_span_across_a_later_cut_keeps_its_token_on_both_sides() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        async for _ in txn.scan(b"b", b"k"):
            pass
        gateway.holders.split(1, b"f", 3)
        await txn.get([b"g"])
        await txn.check()

    gateway = run(story)
    tokens = {(where, r.token) for where, r in gateway.holders.requests if isinstance(r, api.Validate)}
    assert tokens == {(1, b"t1"), (3, b"t1")}
    gets = [(where, r.token) for where, r in gateway.holders.requests if isinstance(r, api.Get)]
    assert gets == [(1, b"t1"), (3, b"t1")], "moved, then asked at the right half under the token of the span"


def test_K4_every_token_is_checked_and_a_lost_one_is_40001() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b", b"p"])
        await txn.check()
        gateway.holders.script(api.Validate, 2, WOUNDED)
        with pytest.raises(RetryError) as caught:
            await txn.check()
        assert caught.value.code == "40001" and "its locks were lost" in caught.value.detail

    run(story)


def test_K4_moved_is_no_answer_to_a_check() -> None:
    """Without asking on, a half that lost the token would pass."""

    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b", b"k"])
        gateway.holders.split(1, b"f", 3)
        await txn.check()
        gateway.holders.script(api.Validate, 3, WOUNDED)
        with pytest.raises(RetryError):
            await txn.check()

    run(story)


def test_K7_after_a_wound_everything_but_rollback_is_refused() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"])
        txn.on_wound("an older transaction needed its locks")
        for attempted in (txn.get([b"c"]), txn.lock([b"c"]), txn.check(), txn.commit()):
            with pytest.raises(RetryError):
                await attempted
        with pytest.raises(RetryError):
            await anext(txn.scan(b"a", b"b"))
        await txn.rollback()

    assert run(story).holders.log == ["Get r1 b", "Release r1"]


def test_K7_a_rollback_to_a_savepoint_does_not_revive_a_wounded_attempt() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"])
        mark = txn.savepoint()
        txn.put(b"b", b"1")
        txn.on_wound("an older transaction needed its locks")
        with pytest.raises(RetryError) as caught:
            txn.rollback_to(mark)
        assert caught.value.code == "40001" and "an older transaction" in caught.value.detail
        assert txn.writes == {b"b": b"1"}
        await txn.rollback()

    run(story)


def test_K7_switched_off_the_wound_is_forgotten() -> None:
    async def story(gateway: FakeGateway) -> None:
        gateway.canaries = frozenset(("K7",))
        txn = gateway.begin()
        mark = txn.savepoint()
        txn.on_wound("an older transaction needed its locks")
        txn.rollback_to(mark)
        await txn.get([b"c"])

    run(story)


def test_K7_spans_read_before_a_rollback_to_a_savepoint_are_validated() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        mark = txn.savepoint()
        await txn.get([b"p"], Lock.EXCLUSIVE)
        txn.put(b"p", b"1")
        txn.rollback_to(mark)
        txn.put(b"b", b"1")
        await txn.commit()

    assert "Validate r2 p" in run(story).holders.log


def test_T5_the_candidate_is_above_every_version_read() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        gateway.holders.script(api.Get, 1, api.Values(b"t1", [b"0"], at(500_000)))
        await txn.get([b"b"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        assert await txn.commit() > at(500_000)

    run(story)


def test_M4_reads_are_validated_at_the_final_c_before_the_decision() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b", b"p"], Lock.EXCLUSIVE)
        async for _ in txn.scan(b"c", b"e"):
            pass
        txn.put(b"b", b"1")
        txn.put(b"p", b"1")
        gateway.holders.script(api.Prepare, 2, api.Prepared(at(900_000)))
        assert await txn.commit() == at(900_000)

    gateway = run(story)
    validations = [r for _, r in gateway.holders.requests if isinstance(r, api.Validate)]
    assert [(r.at, r.locks) for r in validations] == [(at(900_000), [(b"c", b"e")])]
    log = gateway.holders.log
    assert log.index("Validate r1 c..e") < log.index("Decide r1")


def test_M4_a_lost_read_lock_aborts_through_the_anchor() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"], Lock.EXCLUSIVE)
        await txn.get([b"p"])
        txn.put(b"b", b"1")
        gateway.holders.script(api.Validate, 2, WOUNDED)
        with pytest.raises(RetryError):
            await txn.commit()

    gateway = run(story)
    assert gateway.holders.log[3:] == ["Validate r2 p", "Recover r1", "Resolve r1 b", "Release r2"]
    assert not gateway.living


def test_M7_a_lost_answer_is_asked_for_and_the_record_is_the_answer() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        lost = api.NotLeaseholder(RangeId(1), descriptor(1, b"a", b"m").replicas[0], True)
        gateway.holders.script(api.OnePhase, 1, lost, WOUNDED)
        gateway.holders.script(api.Recover, 1, committed(77))
        assert await txn.commit() == at(77)

    run(story)


def test_M7_an_aborted_record_is_40001() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        gateway.holders.script(api.OnePhase, 1, ABORTED)
        with pytest.raises(RetryError):
            await txn.commit()

    assert not run(story).living


def test_M7_a_refusal_after_an_ambiguous_sending_is_not_believed() -> None:
    """The first sending may have committed: the refusal of the second says nothing about it."""

    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        lost = api.NotLeaseholder(RangeId(1), descriptor(1, b"a", b"m").replicas[0], True)
        gateway.holders.script(api.OnePhase, 1, lost, api.Refused("53100", "the disk is full"))
        gateway.holders.script(api.Recover, 1, committed(77))
        assert await txn.commit() == at(77)

    run(story)


def test_M7_a_refusal_of_the_only_sending_is_definite() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        gateway.holders.script(api.OnePhase, 1, api.Refused("53100", "the disk is full"))
        with pytest.raises(DiskFullError):
            await txn.commit()

    gateway = run(story)
    assert gateway.holders.log[-1] == "Release r1", "its locks go at once"
    assert not gateway.living


def test_M7_no_cancel_hides_the_recorded_outcome() -> None:
    """Cancelled while the commit is under way, and again while the outcome is asked for: the record is the answer."""

    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        holders = gateway.holders
        answers: list[asyncio.Future[api.Response]] = []
        asked = asyncio.Event()
        plain = holders.call_local

        def slow(
            range_id: RangeId, request: api.Request, waiter: asyncio.Future[api.Response]
        ) -> api.Response | None:
            plain(range_id, request, waiter)
            answers.append(waiter)
            asked.set()
            return None

        holders.call_local = slow  # type: ignore[method-assign]
        commit = asyncio.ensure_future(txn.commit())
        await asked.wait()
        for _ in range(2):
            commit.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        assert not commit.done() and holders.log[-1] == "Recover r1"
        answers[-1].set_result(committed(77))
        assert await commit == at(77)

    run(story)


def test_M7_without_a_quorum_the_outcome_is_unknown_never_aborted() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        holders = gateway.holders

        def dead(*_: object) -> api.Response:
            holders.time.now_us += 100_000_000
            raise UnavailableError("no answer")

        holders.call_local = dead  # type: ignore[method-assign, assignment]
        with pytest.raises(OutcomeUnknownError):
            await txn.commit()

    assert not run(story).living


def test_M7_a_wound_notice_after_the_commit_was_sent_changes_nothing() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")

        def wounding(request: api.OnePhase) -> api.Response:
            txn.on_wound("an older transaction needed its locks")
            return committed(77)

        gateway.holders.script(api.OnePhase, 1, wounding)
        assert await txn.commit() == at(77)

    run(story)


def test_R5_a_certain_moved_turns_one_phase_into_two_of_the_same_attempt() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b", b"g"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        txn.put(b"g", b"1")
        gateway.holders.split(1, b"f", 3)
        await txn.commit()

    gateway = run(story)
    assert gateway.holders.log[1:] == [
        "OnePhase r1 b,g",
        "Prepare r1 b",
        "Prepare r3 g",
        "Decide r1",
        "Resolve r3 g",
        "Forget r1",
    ]
    prepares = [r for _, r in gateway.holders.requests if isinstance(r, api.Prepare)]
    assert {r.txn.attempt for r in prepares} == {prepares[0].txn.attempt} and {r.token for r in prepares} == {
        b"t1"
    }


def test_R5_an_ambiguous_moved_is_asked_about() -> None:
    """Two phases after a 1PC that may have committed would commit twice."""

    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b", b"g"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        txn.put(b"g", b"1")

        def lost(request: api.OnePhase) -> api.Response:
            gateway.holders.split(1, b"f", 3)
            return api.NotLeaseholder(RangeId(1), descriptor(1, b"a", b"m").replicas[0], True)

        gateway.holders.script(api.OnePhase, 1, lost)
        gateway.holders.script(api.Recover, 1, committed(77))
        assert await txn.commit() == at(77)

    assert not any(line.startswith("Prepare") for line in run(story).holders.log)


def test_R5_a_split_between_lock_and_prepare_regroups_the_keys() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b", b"g", b"p"], Lock.EXCLUSIVE)
        for key in (b"b", b"g", b"p"):
            txn.put(key, b"1")
        gateway.holders.split(1, b"f", 3)
        await txn.commit()

    log = run(story).holders.log
    assert [line for line in log if line.startswith("Prepare")] == [
        "Prepare r1 b,g",
        "Prepare r2 p",
        "Prepare r1 b",
        "Prepare r3 g",
    ]


def test_R5_a_split_between_prepare_and_decision_validates_at_the_present_ranges() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"p"], Lock.EXCLUSIVE)
        async for _ in txn.scan(b"c", b"k"):
            pass
        txn.put(b"p", b"1")

        def split_behind(request: api.Prepare) -> api.Response:
            gateway.holders.split(1, b"f", 3)
            gateway.holders.split(2, b"o", 4)
            return api.Prepared(at(900_000))

        gateway.holders.script(api.Prepare, 2, split_behind)
        assert await txn.commit() == at(900_000)

    log = run(story).holders.log
    assert log[3:] == [
        "Validate r1 c..k",
        "Validate r1 c..f",
        "Validate r3 f..k",
        "Decide r4",
        "Forget r4",
        "Release r1",
        "Release r3",
    ]


def test_R5_an_unknown_token_at_a_new_half_aborts_through_the_anchor() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"p"], Lock.EXCLUSIVE)
        await txn.get([b"c", b"k"])
        txn.put(b"p", b"1")
        gateway.holders.split(1, b"f", 3)
        gateway.holders.script(api.Validate, 3, WOUNDED)
        with pytest.raises(RetryError):
            await txn.commit()

    assert "Recover r2" in run(story).holders.log


def test_R3_resolves_go_on_until_the_intervals_cover_every_key() -> None:
    """A participant that was split after it had prepared: both halves must resolve before the record may go."""

    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        keys = [b"b", b"p", b"t", b"y"]
        await txn.get(keys, Lock.EXCLUSIVE)
        for key in keys:
            txn.put(key, b"1")

        def split_behind(request: api.Decide) -> api.Response:
            gateway.holders.split(2, b"s", 3)
            return api.Outcome(api.COMMITTED, request.at, request.participants, b"a", b"m")

        gateway.holders.script(api.Decide, 1, split_behind)
        await txn.commit()

    log = run(story).holders.log
    assert log[log.index("Decide r1") + 1 :] == ["Resolve r2 p", "Resolve r2 s", "Resolve r3 s", "Forget r1"]


def test_D1_the_final_c_obeys_the_catalogue_lease() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await txn.get([b"b", b"p"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        txn.put(b"p", b"1")
        txn.limit_commit(Timestamp(0), at(500_000))
        gateway.holders.script(api.Prepare, 2, api.Prepared(at(900_000)))
        with pytest.raises(RetryError):
            await txn.commit()

    log = run(story).holders.log
    assert "Decide r1" not in log and "Recover r1" in log


def test_T6_a_snapshot_is_at_latest_or_above_what_the_gateway_saw() -> None:
    async def story(gateway: FakeGateway) -> None:
        gateway.clock = Clock(gateway.time, 250)
        snapshot = gateway.snapshot()
        await snapshot.get([b"b"])
        assert snapshot.timestamp is not None and snapshot.timestamp >= at(250)
        gateway.clock.observe(at(900_000))
        later = gateway.snapshot()
        await later.get([b"b", b"p"])
        assert later.timestamp is not None and later.timestamp > at(900_000)

    sent = [r.at for _, r in run(story).holders.requests if isinstance(r, api.SnapshotGet)]
    assert len(sent) == 3 and sent[1] == sent[2]


def test_own_writes_are_seen_in_scans() -> None:
    async def story(gateway: FakeGateway) -> None:
        rows: list[tuple[bytes, bytes]] = [(b"b", b"old"), (b"d", b"old")]
        for reverse in (False, True):
            txn = gateway.begin()
            txn.put(b"c", b"new")
            txn.delete(b"d")
            txn.put(b"p", b"new")
            gateway.holders.script(
                api.Scan, 1, api.Rows(b"t1", rows[:: -1 if reverse else 1], Timestamp(0), b"")
            )
            found = [pair async for page in txn.scan(b"a", b"z", reverse=reverse) for pair in page]
            assert found == sorted([(b"b", b"old"), (b"c", b"new"), (b"p", b"new")], reverse=reverse)
            await txn.rollback()

    run(story)


async def given_up(gateway: FakeGateway, txn: Transaction, key: bytes) -> None:
    """A request for a lock that waits at its leaseholder when its statement is cancelled."""
    gateway.holders.script(api.Get, 2, lambda request: None)
    asking = asyncio.ensure_future(txn.get([key], Lock.EXCLUSIVE))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


def test_a_rollback_releases_what_a_cancelled_statement_may_have_been_granted() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await given_up(gateway, txn, b"p")
        await txn.rollback()

    gateway = run(story)
    assert gateway.holders.log == ["Get r2 p", "Release r2"]
    assert not gateway.living


def test_and_so_does_a_commit_elsewhere() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await given_up(gateway, txn, b"p")
        await txn.get([b"b"], Lock.EXCLUSIVE)
        txn.put(b"b", b"1")
        await txn.commit()

    assert run(story).holders.log == ["Get r2 p", "Get r1 b", "OnePhase r1 b", "Release r2"]


def test_and_a_commit_of_nothing() -> None:
    async def story(gateway: FakeGateway) -> None:
        txn = gateway.begin()
        await given_up(gateway, txn, b"p")
        await txn.commit()

    assert run(story).holders.log == ["Get r2 p", "Release r2"]


# -- answers that do not fit a frame -------------------------------------------------------------------------


TOO_LARGE = api.Refused(api.TOO_LARGE, "too large", api.TOO_LARGE_DETAIL)
FIVE = [b"b", b"c", b"d", b"e", b"f"]


def echo(request: api.Get | api.SnapshotGet) -> api.Response | None:
    """Each key is its own value; more than two do not fit."""
    if len(request.keys) > 2:
        return TOO_LARGE
    return api.Values(b"t1", list(request.keys), Timestamp(0))


def test_keys_whose_values_do_not_fit_an_answer_are_asked_for_in_parts() -> None:
    async def story(gateway: FakeGateway) -> None:
        gateway.holders.script(api.Get, 1, *[echo] * 5)
        txn = gateway.begin()
        assert await txn.get(FIVE) == FIVE
        await txn.rollback()
        await gateway.rest()

    log = run(story).holders.log
    assert log[:5] == ["Get r1 b,c,d,e,f", "Get r1 b,c", "Get r1 d,e,f", "Get r1 d", "Get r1 e,f"]
    assert set(log[5:]) == {"Release r1"}


def test_a_snapshot_asks_in_parts_as_well() -> None:
    async def story(gateway: FakeGateway) -> None:
        gateway.holders.script(api.SnapshotGet, 1, *[echo] * 5)
        assert await gateway.snapshot().get(FIVE) == FIVE

    assert len(run(story).holders.log) == 5


def test_one_value_that_does_not_fit_is_an_error_and_its_lock_is_let_go() -> None:
    async def story(gateway: FakeGateway) -> None:
        gateway.holders.script(api.Get, 1, TOO_LARGE)
        txn = gateway.begin()
        with pytest.raises(LimitError, match="too large"):
            await txn.get([b"b"])
        await txn.rollback()
        await gateway.rest()

    assert run(story).holders.log == ["Get r1 b", "Release r1"]


def test_too_many_waiters_are_not_answered_with_more_requests() -> None:
    """The other refusal of the same SQLSTATE."""

    async def story(gateway: FakeGateway) -> None:
        gateway.holders.script(api.Get, 1, api.Refused("54000", "too many requests wait"))
        with pytest.raises(LimitError, match="wait"):
            await gateway.begin().get(FIVE)

    assert run(story).holders.log == ["Get r1 b,c,d,e,f"]
