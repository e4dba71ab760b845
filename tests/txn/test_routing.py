"""Finding a key's range when the cache knows too little or too much of the past, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.txn.fakes import FakeGateway, descriptor
from txndb.encoding.keys import KEY_MIN
from txndb.errors import UnavailableError
from txndb.ids import NodeId, RangeId, ReplicaId, Timestamp
from txndb.ranges import api
from txndb.ranges.descriptor import RangeDescriptor, make_replica_id
from txndb.sim.loop import VirtualLoop
from txndb.txn.routing import RangeCache, encode_descriptor, meta_key

BOUND_US = 120_000_000
FIRST, SECOND = make_replica_id(NodeId(1), 1), make_replica_id(NodeId(2), 2)
INDEX, DATA = descriptor(1, KEY_MIN, b"m"), descriptor(2, b"m", b"z")
TOO_OLD = api.Refused("72000", "the snapshot is older than the versions kept")


def run(story: Callable[[FakeGateway], Coroutine[Any, Any, None]], *ranges: RangeDescriptor) -> FakeGateway:
    """A story beside which nothing else happens; waiting costs nothing."""
    loop = VirtualLoop()

    async def whole() -> FakeGateway:
        gateway = FakeGateway(*ranges)
        await story(gateway)
        return gateway

    task = loop.create_task(whole())
    loop.run_until_us(BOUND_US)
    assert task.done(), "not done in time"
    return task.result()


def index_row(here: RangeDescriptor) -> api.Rows:
    return api.Rows(b"", [(meta_key(here.end), encode_descriptor(here))], Timestamp(0), b"")


def test_R3_who_does_not_lead_teaches_the_newer_descriptor_it_has() -> None:
    """The range's only replica known here has left its leadership to one added since: nobody else would tell."""
    newer = RangeDescriptor(RangeId(1), b"a", b"m", (FIRST, SECOND), 2, 3)
    called: list[NodeId] = []

    async def story(gateway: FakeGateway) -> None:
        async def call(
            node: NodeId, range_id: RangeId, request: api.Request, deadline_us: int
        ) -> tuple[api.Response, bool]:
            called.append(node)
            return api.Description(newer, SECOND, 0), False

        gateway.holders.call = call  # type: ignore[method-assign]
        gateway.holders.script(api.Describe, 1, api.NotLeaseholder(RangeId(1), SECOND, False, newer))
        sender = gateway.sender
        answer = await sender.send(b"b", api.Describe(b"b"), sender.deadline_us())
        assert isinstance(answer, api.Description)
        assert await sender.route(b"b", sender.deadline_us()) == newer

    run(story)
    assert called == [2]


def test_R3_an_older_descriptor_teaches_nothing() -> None:
    async def story(gateway: FakeGateway) -> None:
        older = RangeDescriptor(RangeId(1), b"a", b"z", (FIRST, SECOND), 1, 3)
        gateway.holders.script(api.Describe, 1, api.NotLeaseholder(RangeId(1), ReplicaId(0), False, older))
        sender = gateway.sender
        await sender.send(b"b", api.Describe(b"b"), sender.deadline_us())
        assert (await sender.route(b"b", sender.deadline_us())).end == b"m"

    run(story, descriptor(1, b"a", b"m", 4))


def test_a_look_up_that_waited_longer_than_versions_are_kept_reads_the_index_anew() -> None:
    async def story(gateway: FakeGateway) -> None:
        gateway.holders.script(api.SnapshotScan, 1, TOO_OLD, TOO_OLD, index_row(DATA))
        assert await gateway.sender.route(b"p", gateway.sender.deadline_us()) == DATA

    log = run(story, INDEX).holders.log
    assert log == ["SnapshotScan r1"] * 3


def test_a_node_that_nobody_told_where_range_1_is_waits_to_be_told() -> None:
    async def story(gateway: FakeGateway) -> None:
        sender = gateway.sender
        gateway.sender.cache = RangeCache()
        asked = asyncio.ensure_future(sender.route(b"p", sender.deadline_us()))
        await asyncio.sleep(1)
        assert not asked.done() and not gateway.holders.log
        gateway.holders.script(api.SnapshotScan, 1, index_row(DATA))
        sender.cache.insert(INDEX)
        assert await asked == DATA

    run(story, INDEX)


def test_and_not_for_ever() -> None:
    async def story(gateway: FakeGateway) -> None:
        gateway.sender.cache = RangeCache()
        with pytest.raises(UnavailableError, match="range 1 is not known"):
            await gateway.sender.route(b"p", gateway.sender.deadline_us(0))

    run(story, INDEX)


def test_many_that_wait_for_one_range_do_not_ask_the_members_each() -> None:
    async def story(gateway: FakeGateway) -> None:
        nobody = api.NotLeaseholder(RangeId(2), ReplicaId(0))
        gateway.holders.script(api.Get, 2, *[nobody] * 20_000)
        waiting = [asyncio.ensure_future(gateway.begin().get([b"p"])) for _ in range(200)]
        await asyncio.sleep(10)
        assert 9 <= gateway.holders.asked <= 11
        gateway.holders.scripted.clear()
        await asyncio.gather(*waiting)

    run(story)
