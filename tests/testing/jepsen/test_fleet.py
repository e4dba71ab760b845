"""What a fleet knows of its nodes, and what a client makes of it: who was disturbed, ended itself, did not know."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from txndb.errors import OutcomeUnknownError
from txndb.sim.history import History
from txndb.testing.jepsen.client import Answer, WireClient, WireConnection
from txndb.testing.jepsen.fleet import Fleet, Setup, State
from txndb.testing.jepsen.links import ProxyLinks


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    notes: list[str] = []
    with Fleet(tmp_path_factory.mktemp("fleet"), ProxyLinks, Setup(), notes.append) as made:
        made.start(1)
        yield made


@pytest.mark.process
def test_a_paused_gateway_is_disturbed_until_it_goes_on(fleet: Fleet) -> None:
    before_s = time.monotonic()
    assert fleet.undisturbed(1, before_s) and fleet.state(1) is State.UP
    fleet.pause(1)
    assert not fleet.undisturbed(1, before_s) and fleet.numbers(State.UP) == []
    fleet.resume(1)
    assert fleet.undisturbed(1, time.monotonic()) and not fleet.undisturbed(1, before_s)


@pytest.mark.process
def test_a_killed_node_comes_back_where_it_was(fleet: Fleet) -> None:
    (gateway,) = fleet.gateways()
    fleet.kill(1)
    assert fleet.state(1) is State.DOWN and fleet.gateways() == [gateway], "clients may go on trying"
    assert fleet.mend() and fleet.gateways() == [gateway] and fleet.problems == []
    assert fleet.leaders() in ([1], []) and len(fleet.running()) == 1


@pytest.mark.process
def test_a_node_that_ends_itself_is_a_finding_unless_it_may(fleet: Fleet) -> None:
    for excuse in ("disk full", ""):
        fleet.excuse(1, excuse)
        process = fleet.running()[0].process
        assert process is not None and fleet.problems == []
        os.kill(process.pid, signal.SIGKILL)  # as if by itself: the fleet did not do it
        process.wait()
        fleet.notice()
        assert fleet.state(1) is State.DOWN
        if excuse:
            assert fleet.mend()
    assert len(fleet.problems) == 1 and "node 1 ended itself (-9)" in fleet.problems[0]
    fleet.problems.clear()
    assert fleet.mend()


@pytest.mark.process
def test_a_graceful_stop_ends_with_status_0(fleet: Fleet) -> None:
    assert fleet.stop(1) == 0 and fleet.state(1) is State.DOWN
    assert fleet.mend()


class Unknowing(WireConnection):
    """A connection whose gateway never knows what became of a COMMIT."""

    broken = False
    in_transaction = False

    def __init__(self) -> None:
        self.node = 3

    async def execute(self, sql: str, params: tuple[Any, ...] = ()) -> Answer:
        if sql == "COMMIT":
            raise OutcomeUnknownError("no quorum")
        return Answer(sql, [])

    def close(self) -> None:
        """Nothing is open."""


class Gateways:
    """Node 3, which lives or does not."""

    def __init__(self, lives: bool) -> None:
        self.lives = lives

    def gateways(self) -> list[tuple[int, str, int]]:
        return [(3, "nowhere", 1)]

    def undisturbed(self, node: int, since_s: float) -> bool:
        assert node == 3 and since_s <= time.monotonic()
        return self.lives


@pytest.mark.parametrize("lives", [True, False])
def test_an_unknown_outcome_is_ambiguous_only_if_the_gateway_lived(
    monkeypatch: pytest.MonkeyPatch, lives: bool
) -> None:
    async def open_it(*_: object) -> Unknowing:
        return Unknowing()

    monkeypatch.setattr(WireConnection, "open", open_it)
    history, counted = History(), list[str]()

    async def story() -> WireClient:
        client = WireClient(
            0,
            Gateways(lives),
            Random(1),
            history,
            counted.append,
            clients=4,
            timeout_s=1,
            began_s=time.monotonic(),
        )

        async def body() -> int:
            return len((await client.statement("SELECT 1")).rows)

        assert not await client.operation("add", None, 5, lambda: client.transaction(body))
        return client

    client = asyncio.run(story())
    assert [op.type for op in history.ops] == ["invoke", "info"] and client.process == 4
    assert [(one.index, one.node) for one in client.ambiguities] == ([(0, 3)] if lives else [])
    assert counted == ["outcome_unknown", "info"]
