"""The simulated network: a `Transport` per process over virtual time, with everything that goes wrong on wires.

What it is: machines are numbered; a link is an ordered pair of machines. Between two running members that know of each
other there is one connection. Two kinds of connections, drawn per seed:

- *stream*: frames arrive in order, as over TCP. A frame that is lost loses all that follow it in its direction, and the
  connection breaks, which each side notices on its own after a while; then members dial again.
- *datagram*: each frame is lost, repeated or overtaken on its own, and nobody is told. Real connections are kinder;
  the protocol must not need that.

Invariants:
1. A frame arrives at most once on a stream, in order, and never over a connection its receiver knows to be broken.
2. Nothing crosses a link while it is blocked, in that direction.
3. What a process sent may arrive after its death; nothing is delivered to a dead process.

4. A frame damaged on the wire ends the connection, by the checksum of the real packets (`txndb.cluster.packets`).
5. Calls and their answers travel in the real envelopes (`txndb.cluster.envelopes`), whose checksum refuses damaged
   ones; a snapshot's header and chunks reach the receiver damaged, who must find out by itself.

What it does not do: limit bandwidth (slow links multiply the delay, clogged ones hold everything back until they are
free). Faults are applied by `txndb.sim.nemesis`; the brain sees only `txndb.cluster.body.Transport`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextvars import Context
from random import Random
from typing import Any, Final

import msgspec

from txndb.cluster.body import Receiver
from txndb.cluster.envelopes import decode_answer, decode_call, encode_answer, encode_call, encode_error
from txndb.cluster.packets import PacketReader, encode_packet
from txndb.errors import ProtocolError, TxndbError, UnavailableError
from txndb.ids import NodeId
from txndb.sim.loop import Incarnation, VirtualLoop, settle, stack_of
from txndb.sim.trace import Trace

Link = tuple[int, int]
_CHUNK_WINDOW: Final = 4
_SNAPSHOT_TIMEOUT_US: Final = 60_000_000
_SELDOM: Final = 20
"""A call or a chunk of a snapshot is damaged so many times as often as a frame, for so many times more are frames."""
_GARBAGE_BYTES_MAX: Final = 64


class NetworkOptions(msgspec.Struct, frozen=True):
    """What the wires are like in one run. Probabilities are per frame."""

    latency_min_us: int = 50
    latency_mean_us: int = 300
    tail: float = 0.0
    """Share of frames delayed ten times the mean or more."""
    loss: float = 0.0
    duplicate: float = 0.0
    datagram: bool = False
    detect_min_us: int = 200_000
    detect_max_us: int = 2_000_000
    """How long a side takes to notice a connection that died without a word."""
    redial_us: int = 200_000
    corrupt: float = 0.0
    """Share of frames that the wire damages; calls and snapshots have a larger one (`_SELDOM`)."""


class _Connection:
    """One connection between two incarnations' transports. `lost` holds the directions that lost a frame."""

    __slots__ = ("broken", "ends", "last_us", "lost")

    def __init__(self, dialer: SimTransport, acceptor: SimTransport) -> None:
        self.ends = (dialer, acceptor)
        self.last_us = [0, 0]
        self.lost = [False, False]
        self.broken = False

    def other(self, end: SimTransport) -> SimTransport:
        return self.ends[1] if self.ends[0] is end else self.ends[0]


class Network:
    """All wires of one simulation, and who listens where. `canaries`: rules that are switched off."""

    def __init__(
        self,
        loop: VirtualLoop,
        rng: Random,
        options: NetworkOptions,
        trace: Trace,
        canaries: tuple[str, ...] = (),
    ) -> None:
        self.loop = loop
        self.checked = "frames-unchecked" not in canaries
        self.rng = rng
        self.options = options
        self.trace = trace
        self.context = Context()
        self.listeners: dict[str, SimTransport] = {}
        self._blocked: dict[Link, int] = {}
        self._slow: dict[Link, float] = {}
        self._clogged: dict[Link, int] = {}

    # --- faults ---------------------------------------------------------------------------------------------------

    def block(self, links: Iterable[Link]) -> None:
        """Nothing crosses these links until as many `unblock`s."""
        for link in links:
            self._blocked[link] = self._blocked.get(link, 0) + 1

    def unblock(self, links: Iterable[Link]) -> None:
        for link in links:
            count = self._blocked.get(link, 0) - 1
            if count > 0:
                self._blocked[link] = count
            else:
                self._blocked.pop(link, None)

    def slow(self, links: Iterable[Link], factor: float) -> None:
        """Multiply these links' delays; 1.0 heals."""
        for link in links:
            self._slow[link] = factor

    def clog(self, links: Iterable[Link], duration_us: int) -> None:
        """Hold back what is sent over these links for a while; then it arrives all at once."""
        until_us = self.loop.now_us + duration_us
        for link in links:
            self._clogged[link] = max(until_us, self._clogged.get(link, 0))

    def reset(self, machine_a: int, machine_b: int) -> None:
        """Break the connections between two machines, both sides noticing soon."""
        for transport in list(self.listeners.values()):
            if transport.machine != machine_a:
                continue
            for connection in list(transport.peers.values()):
                if connection.other(transport).machine == machine_b:
                    self.break_connection(connection, abrupt=True)

    def heal(self, options: NetworkOptions) -> None:
        """Every link works, with the given manners from now on."""
        self._blocked.clear()
        self._slow.clear()
        self._clogged.clear()
        self.options = options

    def is_blocked(self, source: int, target: int) -> bool:
        return bool(self._blocked) and (source, target) in self._blocked

    # --- wires ----------------------------------------------------------------------------------------------------

    def delay_us(self, source: int, target: int) -> int:
        """Draw one frame's time on the wire."""
        options = self.options
        rng = self.rng
        mean = options.latency_mean_us
        delay = options.latency_min_us + rng.random() * 2.0 * mean
        if options.tail and rng.random() < options.tail:
            delay += mean * 10 * (1.0 + rng.random() * 10.0)
        if self._slow:
            delay *= self._slow.get((source, target), 1.0)
        if self._clogged:
            delay = max(delay, self._clogged.get((source, target), 0) - self.loop.now_us)
        return int(delay)

    def detect_us(self) -> int:
        """Draw how long a silent death of a connection goes unnoticed."""
        low, high = self.options.detect_min_us, self.options.detect_max_us
        return low + self.rng.randrange(high - low + 1)

    def later(self, delay_us: int, callback: Any, *args: Any) -> None:
        """Do something on the wires, outside of every process."""
        self.loop.call_at_us(self.loop.now_us + delay_us, callback, *args, context=self.context)

    def break_connection(self, connection: _Connection, *, abrupt: bool) -> None:
        """The connection is dead; each end notices after a while, soon when the end was abrupt."""
        if connection.broken:
            return
        connection.broken = True
        self.trace.counts["connection_broken"] += 1
        for end in connection.ends:
            machine = connection.other(end).machine
            delay = self.delay_us(machine, end.machine) if abrupt else self.detect_us()
            when = self.loop.now_us + delay
            self.loop.call_at_us(when, end.notice_broken, connection, context=end.incarnation.context)

    def carry(self, connection: _Connection, sender: SimTransport, payload: bytes) -> None:
        """Put one frame on the wire."""
        if connection.broken:
            return
        options = self.options
        rng = self.rng
        target = connection.other(sender)
        direction = 0 if connection.ends[0] is sender else 1
        lost = options.loss > 0.0 and rng.random() < options.loss
        if options.corrupt and rng.random() < options.corrupt:
            frames = self._damage(payload)
            if not frames:
                self._break_off(connection, sender, direction)
                return
            payload = frames[0]
        if options.datagram:
            if lost:
                self.trace.counts["frame_lost"] += 1
                return
            copies = 1
            if options.duplicate and rng.random() < options.duplicate:
                self.trace.counts["frame_duplicated"] += 1
                copies = 2
            for _ in range(copies):
                when = self.loop.now_us + self.delay_us(sender.machine, target.machine)
                self._schedule(when, connection, direction, target, payload)
            return
        if connection.lost[direction]:
            return
        if lost:
            self.lose(connection, direction)
            return
        when = self.loop.now_us + self.delay_us(sender.machine, target.machine)
        when = connection.last_us[direction] = max(when, connection.last_us[direction])
        self._schedule(when, connection, direction, target, payload)

    def _damage(self, payload: bytes) -> list[bytes]:
        """Damage a frame's packet; returns the frames that its receiver takes for sound ones: none."""
        self.trace.counts["frame_corrupt"] += 1
        packet = damaged(self.rng, encode_packet([payload]))
        try:
            # Nothing, too, when the length reaches beyond the packet: the bytes of the next one will not fit either.
            frames = PacketReader(checked=self.checked).feed(packet)
        except ProtocolError:
            return []
        if frames and self.checked:
            self.loop.problems.append("a damaged frame passed for a sound one")
        return frames

    def _break_off(self, connection: _Connection, sender: SimTransport, direction: int) -> None:
        """The receiver of damaged bytes ends the connection."""
        connection.lost[direction] = True
        delay = self.delay_us(sender.machine, connection.other(sender).machine)
        self.later(delay, lambda: self.break_connection(connection, abrupt=True))

    def wire(self, message: bytes, what: str) -> bytes:
        """What arrives of one message of a call or a snapshot."""
        share = min(1.0, self.options.corrupt * _SELDOM)
        if not share or self.rng.random() >= share:
            return message
        self.trace.counts[f"{what}_corrupt"] += 1
        return damaged(self.rng, message)

    def lose(self, connection: _Connection, direction: int) -> None:
        """A stream lost a frame: nothing more gets through in this direction, and the connection will break."""
        connection.lost[direction] = True
        self.trace.counts["frame_lost"] += 1
        self.break_connection(connection, abrupt=False)

    def _schedule(
        self, when_us: int, connection: _Connection, direction: int, target: SimTransport, payload: bytes
    ) -> None:
        self.loop.call_at_us(
            when_us, target.arrive, connection, direction, payload, context=target.incarnation.context
        )


class SimTransport:
    """One process's end of the network (`txndb.cluster.body.Transport`)."""

    def __init__(self, network: Network, machine: int, address: str, incarnation: Incarnation) -> None:
        self.network = network
        self.machine = machine
        self.address = address
        self.incarnation = incarnation
        self.node = NodeId(0)
        self.cluster_id = b""
        self.receiver: Receiver | None = None
        self.addresses: dict[NodeId, str] = {}
        self.peers: dict[NodeId, _Connection] = {}
        incarnation.watch_death(self._die)

    # --- the Transport protocol -----------------------------------------------------------------------------------

    def start(self, node: NodeId, incarnation: int, cluster_id: bytes, receiver: Receiver) -> None:
        del incarnation
        self.node = node
        self.cluster_id = cluster_id
        self.receiver = receiver
        self.network.listeners[self.address] = self
        for peer in self.addresses:
            self._dial_later(peer, 0)

    def set_address(self, node: NodeId, address: str) -> None:
        known = self.addresses.get(node)
        self.addresses[node] = address
        if self.receiver is not None and known is None:
            self._dial_later(node, 0)

    def send(self, to: NodeId, payload: bytes) -> None:
        connection = self.peers.get(to)
        if connection is not None:
            self.network.carry(connection, self, payload)

    async def call(self, address: str, method: str, payload: bytes, timeout_us: int) -> bytes:
        network = self.network
        answer: asyncio.Future[bytes] = network.loop.create_future()
        timer = network.loop.call_at_us(
            network.loop.now_us + timeout_us, _fail, answer, f"{method} at {address}: no answer in time"
        )
        request = network.wire(encode_call(method, payload), "call")
        delay = network.delay_us(self.machine, self.machine)
        network.later(delay, self._reach, address, request, answer)
        try:
            return await answer
        finally:
            timer.cancel()

    async def send_snapshot(self, to: NodeId, header: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        network = self.network
        connection = self.peers.get(to)
        if connection is None:
            raise UnavailableError(f"node {to} is not connected")
        target = connection.other(self)
        answer: asyncio.Future[bytes] = network.loop.create_future()
        stream = SnapshotStream(network.loop)
        watches = [
            (end, end.watch_death(lambda: stream.fail("the peer is gone"))) for end in self._pair(target)
        ]
        timer = network.loop.call_at_us(
            network.loop.now_us + _SNAPSHOT_TIMEOUT_US, _fail, answer, "the snapshot was not answered in time"
        )
        try:
            await self._hop(target)
            target.accept_snapshot(self, network.wire(header, "snapshot"), stream, answer)
            async for chunk in chunks:
                await self._hop(target)
                await stream.put(network.wire(chunk, "snapshot"))
            await self._hop(target)
            stream.finish()
            return await answer
        except UnavailableError:
            stream.fail("the sender gave up")
            raise
        finally:
            timer.cancel()
            stream.fail("the stream was cut")
            _discard(answer)
            for end, key in watches:
                end.unwatch_death(key)

    # --- frames ---------------------------------------------------------------------------------------------------

    def arrive(self, connection: _Connection, direction: int, payload: bytes) -> None:
        """A frame reached this process (runs as it)."""
        network = self.network
        sender = connection.ends[direction]
        if self.peers.get(sender.node) is not connection or self.receiver is None:
            return
        if network.is_blocked(sender.machine, self.machine):
            network.trace.counts["frame_blocked"] += 1
            if not network.options.datagram and not connection.lost[direction]:
                network.lose(connection, direction)
            return
        if connection.lost[direction]:
            return
        network.trace.message(network.loop.now_us, sender.node, self.node, payload)
        self.receiver.on_message(sender.node, payload)

    def notice_broken(self, connection: _Connection) -> None:
        """This side learns that its connection is dead (runs as this process)."""
        peer = connection.other(self).node
        if self.peers.get(peer) is connection:
            del self.peers[peer]
            assert self.receiver is not None
            self.receiver.on_peer_down(peer)
            self._dial_later(peer, self.network.delay_us(self.machine, self.machine))

    # --- connecting -----------------------------------------------------------------------------------------------

    def _dial_later(self, peer: NodeId, delay_us: int) -> None:
        if peer in self.addresses and peer != self.node:
            when = self.network.loop.now_us + delay_us
            self.network.loop.call_at_us(when, self._dial, peer, context=self.incarnation.context)

    def _dial(self, peer: NodeId) -> None:
        """Try to connect, again and again while this process lives (runs as it)."""
        network = self.network
        if peer in self.peers:
            return
        target = network.listeners.get(self.addresses[peer])
        if (
            target is None
            or target.incarnation.paused
            or target.node != peer
            or target.cluster_id != self.cluster_id
            or network.is_blocked(self.machine, target.machine)
            or network.is_blocked(target.machine, self.machine)
        ):
            wait = network.options.redial_us
            self._dial_later(peer, wait + network.rng.randrange(wait + 1))
            return
        existing = target.peers.get(self.node)
        if existing is not None and not existing.broken and existing.other(target) is self:
            return  # dialled by the target at this very moment
        connection = _Connection(self, target)
        self._attach(connection)
        target.incarnation.call_soon(target._attach, connection)

    def _attach(self, connection: _Connection) -> None:
        """A connection is up on this side (runs as this process)."""
        peer = connection.other(self).node
        assert self.receiver is not None
        if peer in self.peers:
            self.receiver.on_peer_down(peer)
        self.peers[peer] = connection
        self.receiver.on_peer_up(peer)

    def _die(self) -> None:
        """The process is gone: its connections break, sometimes without a word (power loss)."""
        network = self.network
        if network.listeners.get(self.address) is self:
            del network.listeners[self.address]
        abrupt = network.rng.random() < 0.7
        for connection in list(self.peers.values()):
            network.break_connection(connection, abrupt=abrupt)

    def _pair(self, target: SimTransport) -> tuple[Incarnation, Incarnation]:
        return self.incarnation, target.incarnation

    # --- calls and snapshots --------------------------------------------------------------------------------------

    def _reach(self, address: str, request: bytes, answer: asyncio.Future[bytes]) -> None:
        """A call arrived where its address leads (outside of every process)."""
        network = self.network
        target = network.listeners.get(address)
        if target is None:
            _fail(answer, f"nobody listens at {address}")
        elif not network.is_blocked(self.machine, target.machine):
            assert target.receiver is not None
            network.trace.message(network.loop.now_us, self.machine, target.node, request)
            try:
                call = decode_call(request, checked=network.checked)
            except TxndbError as error:
                target.answer(self, encode_error(error), answer)
                return
            handler = target.receiver.on_call(call.method, call.payload)
            target.serve(self, handler, answer, f"call {call.method}")

    def serve(
        self,
        caller: SimTransport,
        handler: Coroutine[Any, Any, bytes],
        answer: asyncio.Future[bytes],
        what: str,
    ) -> None:
        """Run a handler as this process and carry its answer, or its error, back to the caller."""
        task = self.incarnation.spawn(handler)
        task.add_done_callback(
            lambda done: self._reply(caller, done, answer, what), context=self.incarnation.context
        )

    def _reply(
        self, caller: SimTransport, done: asyncio.Task[bytes], answer: asyncio.Future[bytes], what: str
    ) -> None:
        network = self.network
        error = UnavailableError(f"{what} was cancelled") if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, TxndbError):
            network.loop.problems.append(
                f"node {self.node}: {what} raised {type(error).__name__}: {error}\n{stack_of(error)}"
            )
            error = UnavailableError(f"{what} failed")
        reply = encode_error(error) if error is not None else encode_answer(done.result())
        self.answer(caller, reply, answer)

    def answer(self, caller: SimTransport, reply: bytes, answer: asyncio.Future[bytes]) -> None:
        """Carry an answer back to the caller, who waits for `answer`."""
        network = self.network
        if network.is_blocked(self.machine, caller.machine):
            return
        reply = network.wire(reply, "answer")
        network.later(network.delay_us(self.machine, caller.machine), _settle, answer, reply, network.checked)

    def accept_snapshot(
        self, sender: SimTransport, header: bytes, stream: SnapshotStream, answer: asyncio.Future[bytes]
    ) -> None:
        """Begin to receive a snapshot (called from the sender's side, runs as this process from then on)."""
        assert self.receiver is not None
        self.serve(sender, self.receiver.on_snapshot(sender.node, header, stream), answer, "snapshot")

    async def _hop(self, target: SimTransport) -> None:
        """One message of a stream to `target`; fails if it cannot get there."""
        network = self.network
        await asyncio.sleep(network.delay_us(self.machine, target.machine) / 1e6)
        if not target.incarnation.alive or network.is_blocked(self.machine, target.machine):
            raise UnavailableError(f"node {target.node} is out of reach")


class SnapshotStream:
    """Chunks on their way, a few at a time; iterated by the receiver. Ends with `finish`, or breaks with `fail`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._chunks: list[bytes] = []
        self._finished = False
        self._error = ""
        self._changed: asyncio.Future[None] = loop.create_future()

    async def put(self, chunk: bytes) -> None:
        """Hand over a chunk; waits while the receiver is slow."""
        while len(self._chunks) >= _CHUNK_WINDOW and not self._error:
            await asyncio.shield(self._changed)
        if self._error:
            raise UnavailableError(self._error)
        self._chunks.append(chunk)
        self._notify()

    def finish(self) -> None:
        self._finished = True
        self._notify()

    def fail(self, reason: str) -> None:
        """Break the stream unless it is complete."""
        if not self._finished and not self._error:
            self._error = reason
            self._notify()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._error:
                raise UnavailableError(self._error)
            if self._finished:
                raise StopAsyncIteration
            await asyncio.shield(self._changed)
        chunk = self._chunks.pop(0)
        self._notify()
        return chunk

    def _notify(self) -> None:
        changed, self._changed = self._changed, self._loop.create_future()
        changed.set_result(None)


def damaged(rng: Random, message: bytes) -> bytes:
    """A message as bad wires deliver it: with a few bits flipped, without its tail, or with a run of garbage."""
    harm = rng.randrange(4)
    if harm == 0:
        return message[: rng.randrange(len(message))]
    changed = bytearray(message)
    if harm == 1:
        start = rng.randrange(len(changed))
        for i in range(start, min(len(changed), start + 1 + rng.randrange(_GARBAGE_BYTES_MAX))):
            changed[i] ^= 1 + rng.randrange(255)
    else:
        bits = 8 * len(changed)
        for bit in rng.sample(range(bits), 1 if harm == 2 else min(bits, 2 + rng.randrange(3))):
            changed[bit >> 3] ^= 1 << (bit & 7)
    return bytes(changed)


def _settle(answer: asyncio.Future[bytes], reply: bytes, checked: bool) -> None:
    """An answer reached the caller."""
    try:
        settle(answer, None, decode_answer(reply, checked=checked))
    except TxndbError as error:
        settle(answer, error, b"")


def _fail(answer: asyncio.Future[bytes], reason: str) -> None:
    if not answer.done():
        answer.set_exception(UnavailableError(reason))


def _discard(answer: asyncio.Future[bytes]) -> None:
    """Nobody will look at this answer any more."""
    if not answer.done():
        answer.cancel()
    elif not answer.cancelled():
        answer.exception()
