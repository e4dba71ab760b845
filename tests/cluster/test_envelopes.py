"""Envelopes and snapshot streams: what is damaged, missing or out of place is refused, and nothing else is raised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.storeworld import StoreWorld, alone
from txndb.cluster import snapshots
from txndb.cluster.envelopes import (
    Chain,
    decode_answer,
    decode_call,
    encode_answer,
    encode_call,
    encode_error,
    from_wire,
    to_wire,
)
from txndb.cluster.snapshots import OutgoingSnapshot, receive
from txndb.cluster.store import IncomingSnapshot
from txndb.errors import DamagedError, RetryError, TxndbError
from txndb.ids import NodeId, RangeId
from txndb.ranges import keys
from txndb.sim.network import damaged
from txndb.storage.engine import WriteBatch

CALL = encode_call("join", b"\x00payload")
ANSWER = encode_answer(b"payload")
ERROR = encode_error(RetryError("lost", detail="why"))
MESSAGES: list[tuple[Callable[[bytes], object], bytes]] = [
    (decode_call, CALL),
    (decode_answer, ANSWER),
    (decode_answer, ERROR),
]
each_message = pytest.mark.parametrize(("decode", "sealed"), MESSAGES, ids=["call", "answer", "error"])


def flips(data: bytes) -> Iterator[bytes]:
    """The data with each of its bits flipped in turn."""
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit >> 3] ^= 1 << (bit & 7)
        yield bytes(changed)


def test_calls_and_answers_arrive_as_they_were_sent() -> None:
    call = decode_call(CALL)
    assert (call.method, call.payload) == ("join", b"\x00payload")
    assert decode_answer(ANSWER) == b"payload"
    assert decode_answer(encode_answer(b"")) == b""
    with pytest.raises(RetryError, match="lost") as error:
        decode_answer(ERROR)
    assert error.value.detail == "why"


@each_message
def test_every_flipped_bit_and_every_missing_tail_is_refused(
    decode: Callable[[bytes], object], sealed: bytes
) -> None:
    for changed in [*flips(sealed), *(sealed[:size] for size in range(len(sealed)))]:
        with pytest.raises(DamagedError):
            decode(changed)


@each_message
@pytest.mark.parametrize("seed", range(20))
def test_whatever_bad_wires_do_is_refused(
    decode: Callable[[bytes], object], sealed: bytes, seed: int
) -> None:
    rng = Random(seed)
    for _ in range(20):
        with pytest.raises(DamagedError):
            decode(damaged(rng, sealed))


@given(st.binary(max_size=60), st.booleans())
def test_a_peers_bytes_raise_nothing_but_an_error_of_ours(data: bytes, sound: bool) -> None:
    """Also those whose checksum is right."""
    envelope = Chain().seal(data) if sound else data
    for decode in (decode_call, decode_answer):
        try:
            decode(envelope)
        except TxndbError:
            continue


def test_damage_keeps_its_class_on_the_way_back() -> None:
    """Who is told that its request was damaged can tell so from a node that is not there."""
    assert type(from_wire(to_wire(DamagedError("x")))) is DamagedError


# -- snapshots -------------------------------------------------------------------------------------------------


class Sent:
    """A snapshot of a range with some pairs, in several chunks."""

    def __init__(self, marker: bytes) -> None:
        world = StoreWorld(alone())
        replica = world.store.slots[RangeId(1)].replica
        start, _ = keys.replicated_spans(alone())[-1]
        self.pairs = [(start + marker + b"%d" % i, b"v" * i) for i in range(4)]
        batch = WriteBatch()
        for key, value in self.pairs:
            batch.put(key, value)
        world.engine.write(batch)
        outgoing = OutgoingSnapshot(world.engine, replica, replica.replica_id)

        async def collect() -> list[bytes]:
            return [outgoing.header, *[chunk async for chunk in outgoing.chunks()]]

        self.messages = asyncio.run(collect())
        world.loop.bury()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 1)  # each pair is a chunk
    return Sent(b"a")


def received(messages: list[bytes], *, checked: bool = True) -> IncomingSnapshot:
    """What a receiver makes of these messages."""

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in messages[1:]:
            yield chunk

    return asyncio.run(receive(NodeId(1), messages[0], chunks(), checked=checked))[1]


def test_a_whole_snapshot_is_taken(sent: Sent) -> None:
    assert len(sent.messages) >= 2 + len(sent.pairs)
    assert set(sent.pairs) <= set(received(sent.messages).pairs)


def test_a_flipped_bit_in_any_message_is_refused(sent: Sent) -> None:
    for place, message in enumerate(sent.messages):
        for changed in flips(message):
            with pytest.raises(DamagedError):
                received([*sent.messages[:place], changed, *sent.messages[place + 1 :]])


def test_a_message_that_is_missing_repeated_or_out_of_place_is_refused(sent: Sent) -> None:
    messages = sent.messages
    for place in range(1, len(messages)):
        before, message, after = messages[:place], messages[place], messages[place + 1 :]
        for changed in (
            [*before, *after],
            [*before, message, message, *after],
            [*before, *after[:1], message, *after[1:]] if after else [*before, *messages[1:]],
        ):
            with pytest.raises(DamagedError):
                received(changed)
        with pytest.raises(DamagedError):
            received(before)


def test_a_message_of_another_snapshot_is_refused(sent: Sent) -> None:
    other = Sent(b"b")
    assert other.messages[0] == sent.messages[0], "the header tells the range and its index"
    for place in range(1, len(sent.messages)):
        with pytest.raises(DamagedError):
            received([*sent.messages[:place], other.messages[place], *sent.messages[place + 1 :]])


def test_without_the_check_a_flipped_bit_would_be_installed(sent: Sent) -> None:
    chunk = bytearray(sent.messages[-2])
    chunk[-1] ^= 1
    messages = [*sent.messages[:-2], bytes(chunk), sent.messages[-1]]
    assert received(messages, checked=False).pairs != received(sent.messages).pairs
