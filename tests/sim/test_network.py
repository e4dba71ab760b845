"""The simulated network: order, loss, partitions, calls and snapshot streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from txndb.errors import InternalError, TxndbError, UnavailableError
from txndb.ids import NodeId
from txndb.sim.loop import Incarnation, VirtualLoop
from txndb.sim.nemesis import between, both
from txndb.sim.network import Network, NetworkOptions, SimTransport
from txndb.sim.trace import Trace


class Member:
    """A process that records what reaches it."""

    def __init__(self, network: Network, number: int, cluster: bytes = b"c") -> None:
        self.incarnation = Incarnation(network.loop, f"n{number}")
        self.number = NodeId(number)
        self.transport = SimTransport(network, number, f"h{number}", self.incarnation)
        self.got: list[tuple[int, bytes]] = []
        self.ups: list[int] = []
        self.downs: list[int] = []
        self.hang: asyncio.Future[None] | None = None
        self.incarnation.call_soon(self.transport.start, self.number, 1, cluster, self)

    def on_message(self, sender: NodeId, payload: bytes) -> None:
        self.got.append((sender, payload))

    def on_peer_up(self, peer: NodeId) -> None:
        self.ups.append(peer)

    def on_peer_down(self, peer: NodeId) -> None:
        self.downs.append(peer)

    async def on_call(self, method: str, payload: bytes) -> bytes:
        if method == "fail":
            raise InternalError(payload.decode())
        if method == "hang":
            self.hang = asyncio.get_running_loop().create_future()
            await self.hang
        return method.encode() + b":" + payload

    async def on_snapshot(self, sender: NodeId, header: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        return header + b"".join([chunk async for chunk in chunks])


class Net:
    """Some members that know each other."""

    def __init__(self, options: NetworkOptions, count: int = 2) -> None:
        self.loop = VirtualLoop()
        self.network = Network(self.loop, Random(1), options, Trace())
        self.members = [Member(self.network, number) for number in range(1, count + 1)]
        for member in self.members:
            for other in self.members:
                member.incarnation.call_soon(
                    member.transport.set_address, other.number, other.transport.address
                )
        self.run(1.0)

    def run(self, seconds: float) -> None:
        self.loop.run_until_us(self.loop.now_us + int(seconds * 1e6))

    def send(self, source: int, target: int, payload: bytes) -> None:
        member = self.members[source - 1]
        member.incarnation.call_soon(member.transport.send, NodeId(target), payload)


def test_both_sides_hear_of_one_connection() -> None:
    net = Net(NetworkOptions(), 3)
    for member in net.members:
        assert sorted(member.ups) == [n for n in (1, 2, 3) if n != member.number]
        assert member.downs == []
    net.loop.bury()


def test_a_stream_keeps_the_order_of_frames() -> None:
    net = Net(NetworkOptions(latency_mean_us=5_000, tail=0.2))
    frames = [bytes([i]) for i in range(200)]
    for frame in frames:
        net.send(1, 2, frame)
    net.run(2)
    assert net.members[1].got == [(1, frame) for frame in frames]
    net.loop.bury()


def test_datagrams_overtake_get_lost_and_come_twice() -> None:
    net = Net(NetworkOptions(latency_mean_us=5_000, datagram=True, loss=0.1, duplicate=0.1))
    frames = [bytes([i]) for i in range(200)]
    for frame in frames:
        net.send(1, 2, frame)
    net.run(2)
    got = [payload for _, payload in net.members[1].got]
    assert len(set(got)) < 200
    assert len(got) > len(set(got))
    assert got != sorted(got)
    assert net.members[1].downs == []
    net.loop.bury()


def test_a_lost_frame_breaks_a_stream_which_then_comes_back() -> None:
    net = Net(NetworkOptions(loss=1.0))
    net.send(1, 2, b"a")
    net.run(0.001)
    net.network.options = NetworkOptions()
    net.send(1, 2, b"b")
    net.run(10)
    first, second = net.members
    assert second.got == []
    assert (first.downs, second.downs) == ([2], [1])
    assert (first.ups, second.ups) == ([2, 2], [1, 1])
    net.send(1, 2, b"c")
    net.run(1)
    assert second.got == [(1, b"c")]
    net.loop.bury()


@pytest.mark.parametrize("datagram", [False, True])
def test_nothing_crosses_a_partition_and_healing_restores_it(datagram: bool) -> None:
    net = Net(NetworkOptions(datagram=datagram), 3)
    links = between([1], [2, 3])
    net.network.block(links)
    net.send(1, 2, b"x")
    net.send(2, 3, b"y")
    net.run(5)
    assert net.members[1].got == []
    assert net.members[2].got == [(2, b"y")]
    net.network.unblock(links)
    net.run(5)
    net.send(1, 2, b"z")
    net.run(1)
    assert net.members[1].got == [(1, b"z")]
    net.loop.bury()


def test_a_one_way_partition_lets_the_other_way_through() -> None:
    net = Net(NetworkOptions(datagram=True))
    net.network.block([(1, 2)])
    net.send(1, 2, b"x")
    net.send(2, 1, b"y")
    net.run(1)
    assert net.members[1].got == []
    assert net.members[0].got == [(2, b"y")]
    net.loop.bury()


def test_overlapping_partitions_end_one_by_one() -> None:
    net = Net(NetworkOptions(datagram=True))
    net.network.block(both(1, 2))
    net.network.block([(1, 2)])
    net.network.unblock(both(1, 2))
    assert net.network.is_blocked(1, 2)
    assert not net.network.is_blocked(2, 1)
    net.network.unblock([(1, 2)])
    assert not net.network.is_blocked(1, 2)
    net.loop.bury()


def test_peers_notice_a_death_and_nothing_reaches_the_dead() -> None:
    net = Net(NetworkOptions())
    net.send(1, 2, b"late")
    net.members[1].incarnation.kill()
    net.run(10)
    assert net.members[1].got == []
    assert net.members[0].downs == [2]
    reborn = Member(net.network, 2)
    net.run(5)
    assert reborn.ups == [1]
    assert net.members[0].ups == [2, 2]
    net.loop.bury()


def test_members_of_another_cluster_are_not_connected() -> None:
    net = Net(NetworkOptions(), 1)
    stranger = Member(net.network, 2, cluster=b"other")
    net.members[0].incarnation.call_soon(net.members[0].transport.set_address, NodeId(2), "h2")
    net.run(5)
    assert net.members[0].ups == stranger.ups == []
    net.loop.bury()


def _call(net: Net, method: str, address: str = "h2") -> bytes:
    caller = net.members[0]
    task = caller.incarnation.spawn(caller.transport.call(address, method, b"p", 1_000_000))
    net.run(3)
    return task.result()


def test_a_call_returns_what_the_callee_answers_or_its_error() -> None:
    net = Net(NetworkOptions())
    assert _call(net, "echo") == b"echo:p"
    with pytest.raises(InternalError, match="p"):
        _call(net, "fail")
    net.loop.bury()


def test_a_call_to_nobody_or_without_answer_is_unavailable() -> None:
    net = Net(NetworkOptions())
    with pytest.raises(UnavailableError, match="nobody listens"):
        _call(net, "echo", "h9")
    with pytest.raises(UnavailableError, match="in time"):
        _call(net, "hang")
    net.network.block([(2, 1)])
    with pytest.raises(UnavailableError, match="in time"):
        _call(net, "echo")
    net.loop.bury()
    assert net.loop.problems == []


async def _chunks(count: int) -> AsyncIterator[bytes]:
    for i in range(count):
        await asyncio.sleep(0.001)
        yield bytes([i])


def _snapshot(net: Net) -> asyncio.Task[bytes]:
    sender = net.members[0]
    return sender.incarnation.spawn(sender.transport.send_snapshot(NodeId(2), b"H", _chunks(30)))


def test_a_snapshot_arrives_whole() -> None:
    net = Net(NetworkOptions())
    task = _snapshot(net)
    net.run(2)
    assert task.result() == b"H" + bytes(range(30))
    net.loop.bury()


def test_a_snapshot_to_a_dying_or_unreachable_peer_fails() -> None:
    net = Net(NetworkOptions(), 3)
    task = _snapshot(net)
    net.run(0.01)
    net.members[1].incarnation.kill()
    net.run(2)
    with pytest.raises(UnavailableError):
        task.result()
    sender = net.members[0]
    task = sender.incarnation.spawn(sender.transport.send_snapshot(NodeId(3), b"H", _chunks(30)))
    net.run(0.01)
    net.network.block(both(1, 3))
    net.run(2)
    with pytest.raises(TxndbError):
        task.result()
    net.loop.bury()
    assert net.loop.problems == []
