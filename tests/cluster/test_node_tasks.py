"""Errors that end a task of a node: which of them end the node (rule P1)."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.cluster.storeworld import StoreWorld, descriptor, node_over
from txndb.cluster.envelopes import from_wire, to_wire
from txndb.errors import (
    CorruptionError,
    DiskFullError,
    InternalError,
    StoreError,
    TxndbError,
    UnavailableError,
)


def end_a_task(error: Exception) -> StoreWorld:
    world = StoreWorld(descriptor(1, b"a", b"z"))
    world.transport = cast(Any, None)
    node = node_over(world)

    async def work() -> None:
        raise error

    async def begin() -> None:
        node.spawn(work(), "some work")

    world.run(begin())
    world.turn()
    return world


@pytest.mark.parametrize("kind", [StoreError, CorruptionError, InternalError])
def test_P1_a_task_that_meets_a_failed_store_ends_the_node(kind: type[TxndbError]) -> None:
    """Its step ended half-way: going on, the node would serve what is neither the one state nor the other."""
    error = kind("it does not read what it wrote")
    assert end_a_task(error).failures == [error]


@pytest.mark.parametrize("kind", [StoreError, CorruptionError, InternalError])
def test_what_a_peer_answers_ends_no_node_but_its_own(kind: type[TxndbError]) -> None:
    """A peer whose disk fails, or that is of another cluster, says so in the same words."""
    world = end_a_task(from_wire(to_wire(kind("mine is broken"))))
    assert not world.failures and "some work: mine is broken" in world.story


@pytest.mark.parametrize("kind", [UnavailableError, DiskFullError])
def test_a_refusal_ends_the_task_only(kind: type[TxndbError]) -> None:
    world = end_a_task(kind("not now"))
    assert not world.failures and "some work: not now" in world.story
