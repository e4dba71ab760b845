"""A gateway for tests: a clock moved by hand, one node, and leaseholders that answer from a script.

`Leaseholders` plays every range: by default each request succeeds (locks are granted under token `t<range>`, nothing
is stored). A test puts answers in front of that with `script`, or cuts the key space with `split`. Everything received
is in `log`, one line each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from txndb.clock import Clock
from txndb.errors import UnavailableError
from txndb.ids import NodeId, RangeId, Timestamp, make_timestamp
from txndb.limits import NodeLimits
from txndb.ranges import api
from txndb.ranges.descriptor import RangeDescriptor, make_replica_id
from txndb.txn.api import ProgramCompiler
from txndb.txn.coordinator import SnapshotReads, Transaction
from txndb.txn.gateway import Attempt
from txndb.txn.routing import RangeCache, Sender

START_US = 1_000_000_000
Answer = api.Response | Exception | Callable[[Any], api.Response | None]
"""A callable that returns None leaves its request without an answer."""


class HandClock:
    """A `TimeSource` that moves when told to; every reading of the monotonic clock costs a microsecond."""

    def __init__(self) -> None:
        self.now_us = START_US

    def wall_us(self) -> int:
        return self.now_us

    def monotonic_us(self) -> int:
        self.now_us += 1
        return self.now_us

    def leave_host(self) -> None:
        """This clock is its own in any case."""

    def error_us(self, off_host: bool = False) -> int:
        return 0


def at(micros: int) -> Timestamp:
    return make_timestamp(START_US + micros)


def descriptor(range_id: int, start: bytes, end: bytes, generation: int = 1) -> RangeDescriptor:
    return RangeDescriptor(RangeId(range_id), start, end, (make_replica_id(NodeId(1), 1),), generation, 2)


class Leaseholders:
    """The `KvClient`: every range's leaseholder, on this node."""

    def __init__(self, ranges: list[RangeDescriptor]) -> None:
        self.node = NodeId(1)
        self.ranges = {r.range_id: r for r in ranges}
        self.scripted: list[tuple[type, int, Answer]] = []
        self.log: list[str] = []
        self.asked = 0
        self.requests: list[tuple[int, api.Request]] = []
        self.time: HandClock

    def script(self, kind: type, range_id: int, *answers: Answer) -> None:
        """The next requests of this kind at this range get these answers, in turn."""
        self.scripted += [(kind, range_id, answer) for answer in answers]

    def split(self, range_id: int, cut: bytes, right_id: int) -> None:
        left = self.ranges[RangeId(range_id)]
        generation = left.generation + 1
        self.ranges[left.range_id] = descriptor(left.range_id, left.start, cut, generation)
        self.ranges[RangeId(right_id)] = descriptor(right_id, cut, left.end, generation)

    def ask_descriptors(self) -> None:
        """Nobody else is there to ask; it is counted."""
        self.asked += 1

    def call_local(
        self, range_id: RangeId, request: api.Request, waiter: asyncio.Future[api.Response]
    ) -> api.Response | None:
        self.requests.append((range_id, request))
        self.log.append(f"{type(request).__name__} r{range_id}{self._shown(request)}")
        for position, (kind, where, answer) in enumerate(self.scripted):
            if kind is type(request) and where == range_id:
                del self.scripted[position]
                if isinstance(answer, Exception):
                    raise answer
                return answer(request) if callable(answer) else answer
        return self._default(self.ranges[range_id], request)

    @staticmethod
    def _shown(request: api.Request) -> str:
        if isinstance(request, api.Get | api.Resolve):
            return " " + ",".join(key.decode() for key in request.keys)
        if isinstance(request, api.OnePhase | api.Prepare):
            return " " + ",".join(key.decode() for key, _ in request.writes)
        if isinstance(request, api.Validate):
            return " " + ",".join(
                s.decode() + ("" if e is None else ".." + e.decode()) for s, e in request.locks
            )
        return ""

    @staticmethod
    def _named(request: api.Request) -> list[tuple[bytes, bytes | None]]:
        match request:
            case api.Get() | api.SnapshotGet():
                return [(key, None) for key in request.keys]
            case api.Scan() | api.SnapshotScan():
                return [(request.start, request.end)]
            case api.OnePhase() | api.Prepare():
                return [(key, None) for key, _ in request.writes] + list(request.locks)
            case api.Validate():
                return list(request.locks)
            case api.Decide() | api.Recover() | api.Forget():
                return [(request.anchor, None)]
            case api.Resolve():
                return [(request.keys[0], None)]
            case api.Release():
                return [(request.key, None)]
        return []

    def _default(self, here: RangeDescriptor, request: api.Request) -> api.Response:
        """R3, and otherwise success."""
        for start, end in self._named(request):
            inside = here.contains(start) if end is None else here.contains_span(start, end)
            if not inside:
                return api.Moved(list(self.ranges.values()))
        token = f"t{here.range_id}".encode()
        match request:
            case api.Get():
                return api.Values(request.token or token, [None] * len(request.keys), Timestamp(0))
            case api.SnapshotGet():
                return api.Values(b"", [None] * len(request.keys), Timestamp(0))
            case api.Scan():
                return api.Rows(request.token or token, [], Timestamp(0), b"")
            case api.SnapshotScan():
                return api.Rows(b"", [], Timestamp(0), b"")
            case api.OnePhase():
                return api.Outcome(api.COMMITTED, request.candidate, [])
            case api.Prepare():
                return api.Prepared(request.candidate)
            case api.Decide():
                return api.Outcome(api.COMMITTED, request.at, request.participants, here.start, here.end)
            case api.Recover():
                return api.Outcome(api.ABORTED, Timestamp(0), [])
            case api.Resolve():
                return api.Resolved(here.start, here.end)
        return api.Ok()

    async def call(
        self, node: NodeId, range_id: RangeId, request: api.Request, deadline_us: int
    ) -> tuple[api.Response, bool]:
        raise UnavailableError("there is one node only")


class FakeGateway:
    """The `Gateway` of one test; made inside a running loop."""

    def __init__(self, *ranges: RangeDescriptor) -> None:
        self.node = NodeId(1)
        self.canaries: frozenset[str] = frozenset()
        self.limits = NodeLimits(lock_wait_us=0)
        self.incarnation = 1
        self.time = HandClock()
        self.clock = Clock(self.time)
        self.holders = Leaseholders(list(ranges) or [descriptor(1, b"a", b"m"), descriptor(2, b"m", b"z")])
        self.holders.time = self.time
        cache = RangeCache()
        for each in self.holders.ranges.values():
            cache.insert(each)
        self.sender = Sender(self.holders, cache, self.clock)
        self.living: dict[bytes, Attempt] = {}
        self.background: list[asyncio.Task[Any]] = []
        self._counter = 0
        self.compile_program: ProgramCompiler = lambda program: lambda value: program in value

    def next_counter(self) -> int:
        self._counter += 1
        return self._counter

    def register(self, txn: Attempt) -> None:
        self.living[txn.attempt] = txn

    def unregister(self, txn: Attempt) -> None:
        self.living.pop(txn.attempt, None)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.background.append(task)
        return task

    async def rest(self) -> None:
        """Let background work end."""
        while self.background:
            await self.background.pop(0)

    def begin(self) -> Transaction:
        return Transaction(self, None)

    def snapshot(self) -> SnapshotReads:
        return SnapshotReads(self, None)

    def since(self, position: int) -> Sequence[str]:
        return self.holders.log[position:]


def run(story: Callable[[FakeGateway], Coroutine[Any, Any, None]], *ranges: RangeDescriptor) -> FakeGateway:
    """Run a test's story with a fresh gateway; at its end nothing runs and no attempt lives."""

    async def whole() -> FakeGateway:
        gateway = FakeGateway(*ranges)
        await story(gateway)
        await gateway.rest()
        return gateway

    return asyncio.run(whole())
