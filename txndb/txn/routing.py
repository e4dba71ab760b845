"""Which range holds a key, and who leads it: a cache of descriptors, and the sender that corrects it by the answers.

A stale route costs one answer: a leaseholder that does not hold what is asked answers `Moved` with the true descriptor
(rule R3), a replica that does not lead answers with the leader it knows. What the cache does not know is looked up in
the meta index, which lives in range 1 under `META + end key`.

Invariants:
1. Cached ranges do not overlap; of two that would, the higher generation wins.
2. A request is sent again only because it is idempotent; whether an earlier sending may have had an effect is told to
   the caller (`Sent.ambiguous`), because only the caller knows what that means (rules C2, M7).

Every wait has a bound: `deadline_us`, by the monotonic clock.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
from sortedcontainers import SortedDict

from txndb.clock import Clock
from txndb.encoding.keys import META, META_END
from txndb.errors import (
    AnswerTooLargeError,
    DiskFullError,
    LimitError,
    LockTimeoutError,
    SnapshotTooOldError,
    TxndbError,
    UnavailableError,
    sql_error,
)
from txndb.ids import NodeId, RangeId, ReplicaId
from txndb.limits import STATEMENT_TIMEOUT_US
from txndb.ranges import api
from txndb.ranges.descriptor import RangeDescriptor, node_of

RETRY_MIN_US = 5_000
RETRY_MAX_US = 200_000
ASK_AFTER_MISSES = 8
"""After so many tries in a row without an answer, the other members are asked where ranges are."""
ASK_EVERY_S = 1.0
"""And not again before: each answers with all it holds, while everybody's requests wait for the same range."""


class Route:
    """A cached range and the replica last known to lead it."""

    __slots__ = ("descriptor", "leader", "misses")

    def __init__(self, descriptor: RangeDescriptor, leader: ReplicaId) -> None:
        self.descriptor = descriptor
        self.leader = leader
        self.misses = 0

    def rotate(self) -> None:
        """Try the next replica: the one tried did not answer or did not know a leader."""
        replicas = self.descriptor.replicas
        position = replicas.index(self.leader) if self.leader in replicas else -1
        self.leader = replicas[(position + 1) % len(replicas)]


class RangeCache:
    """Descriptors by end key."""

    def __init__(self) -> None:
        self._routes: SortedDict = SortedDict()

    def find(self, key: bytes) -> Route | None:
        """The cached range that contains `key`."""
        routes = self._routes
        position = routes.bisect_right(key)
        if position == len(routes):
            return None
        route: Route = routes.peekitem(position)[1]
        return route if route.descriptor.start <= key else None

    def insert(self, descriptor: RangeDescriptor, leader: ReplicaId = ReplicaId(0)) -> None:
        """Take a descriptor in unless a newer one overlaps it; what it replaces goes."""
        overlapping = self._overlapping(descriptor)
        for other in overlapping:
            if other.descriptor.generation > descriptor.generation:
                return
            if other.descriptor == descriptor:
                if leader:
                    other.leader = leader
                return
        for other in overlapping:
            if other.descriptor.range_id == descriptor.range_id and not leader:
                leader = other.leader
            del self._routes[other.descriptor.end]
        self._routes[descriptor.end] = Route(descriptor, leader or descriptor.replicas[0])

    def _overlapping(self, descriptor: RangeDescriptor) -> list[Route]:
        found: list[Route] = []
        for position in range(self._routes.bisect_right(descriptor.start), len(self._routes)):
            route: Route = self._routes.peekitem(position)[1]
            if route.descriptor.start >= descriptor.end:
                break
            found.append(route)
        return found

    def descriptors(self) -> list[RangeDescriptor]:
        """All cached descriptors, in key order."""
        return [route.descriptor for route in self._routes.values()]


class KvClient(Protocol):
    """Sends one request to one node."""

    node: NodeId

    def call_local(
        self, range_id: RangeId, request: api.Request, waiter: asyncio.Future[api.Response]
    ) -> api.Response | None:
        """Ask this node's replica; None: the answer goes to `waiter`."""

    async def call(
        self, node: NodeId, range_id: RangeId, request: api.Request, deadline_us: int
    ) -> tuple[api.Response, bool]:
        """Ask another node; (answer, whether it had to be sent more than once). Raises `UnavailableError`."""

    def ask_descriptors(self) -> None:
        """Ask the other members for the descriptors of what they hold; they arrive in the cache, if ever."""


class Sent(msgspec.Struct, gc=False):
    """An answer, and whether an earlier sending of the same request may have had an effect."""

    response: api.Response
    ambiguous: bool


_REFUSALS: dict[str, type[TxndbError]] = {
    "72000": SnapshotTooOldError,
    "57P03": UnavailableError,
    "55P03": LockTimeoutError,
    "54000": LimitError,
    "53100": DiskFullError,
}


def raise_refusal(refused: api.Refused) -> None:
    """Turn a leaseholder's refusal into the error it stands for."""
    if refused.sqlstate == api.TOO_LARGE and refused.detail == api.TOO_LARGE_DETAIL:
        raise AnswerTooLargeError(refused.message)
    known = _REFUSALS.get(refused.sqlstate)
    if known is not None:
        raise known(refused.message, detail=refused.detail)
    raise sql_error(refused.sqlstate, refused.message, detail=refused.detail)


def raise_refused(response: api.Response) -> api.Response:
    """Raise a refusal as its error; any other answer is handed back."""
    if type(response) is api.Refused:
        raise_refusal(response)
    return response


class Sender:
    """Finds the leaseholder of a key and gets an answer from it."""

    def __init__(self, client: KvClient, cache: RangeCache, clock: Clock) -> None:
        self.client = client
        self.cache = cache
        self.clock = clock
        self._loop = asyncio.get_running_loop()
        self._asked_s = -ASK_EVERY_S
        """When the members were last asked where ranges are, by the loop's clock."""

    def deadline_us(self, timeout_us: int = STATEMENT_TIMEOUT_US) -> int:
        """The instant by which something that begins now must be over."""
        return self.clock.source.monotonic_us() + timeout_us

    async def route(self, key: bytes, deadline_us: int) -> RangeDescriptor:
        """The descriptor of the range that holds `key`, as far as known."""
        found = self.cache.find(key)
        while found is None:
            await self._look_up(key, deadline_us)
            found = self.cache.find(key)
        return found.descriptor

    async def send(self, key: bytes, request: api.Request, deadline_us: int) -> api.Response:
        """`send_commit` for requests whose repetition means nothing."""
        route = self.cache.find(key)
        if route is not None and node_of(route.leader) == self.client.node:
            waiter = self._loop.create_future()
            response = self.client.call_local(route.descriptor.range_id, request, waiter)
            if response is None:
                response = await waiter
            if type(response) not in _CORRECTIONS:
                return response
            if not await self._correct(route, response, deadline_us):
                return raise_refused(response)
        return raise_refused((await self.send_commit(key, request, deadline_us)).response)

    async def send_commit(self, key: bytes, request: api.Request, deadline_us: int) -> Sent:
        """Send to the leaseholder of `key`'s range until there is an answer. `Moved` is an answer: the caller regroups,
        the cache knows better already; so is `Refused`, for only the caller knows what an earlier sending means (M7).
        Raises `UnavailableError` at the deadline."""
        ambiguous = False
        while True:
            route = self.cache.find(key)
            if route is None:
                await self._look_up(key, deadline_us)
                continue
            node = node_of(route.leader)
            try:
                if node == self.client.node:
                    waiter: asyncio.Future[api.Response] = self._loop.create_future()
                    response = self.client.call_local(route.descriptor.range_id, request, waiter)
                    if response is None:
                        response = await waiter
                else:
                    response, repeated = await self.client.call(
                        node, route.descriptor.range_id, request, deadline_us
                    )
                    ambiguous = ambiguous or repeated
            except UnavailableError:
                ambiguous = True
                await self._pause(route, deadline_us)
                continue
            if isinstance(response, api.NotLeaseholder) and response.unknown:
                ambiguous = True
            if not await self._correct(route, response, deadline_us):
                return Sent(response, ambiguous)

    async def _correct(self, route: Route, response: api.Response, deadline_us: int) -> bool:
        """Learn from an answer; whether the request must be sent again."""
        if isinstance(response, api.NotLeaseholder):
            told = response.descriptor
            if told is not None and told.generation > route.descriptor.generation:
                self.cache.insert(told, response.leader)
                return True
            if (
                response.leader
                and response.leader in route.descriptor.replicas
                and response.leader != route.leader
            ):
                route.leader = response.leader
                route.misses += 1
                if route.misses <= 2:
                    return True
            await self._pause(route, deadline_us, rotate=not response.leader)
            return True
        if isinstance(response, api.Moved):
            for descriptor in response.descriptors:
                self.cache.insert(descriptor)
            if not response.descriptors:
                await self._pause(route, deadline_us, rotate=False)
            return False
        route.misses = 0
        return False

    async def _pause(self, route: Route, deadline_us: int, rotate: bool = True) -> None:
        """Wait a growing while before the next try; raises `UnavailableError` at the deadline."""
        route.misses += 1
        if rotate:
            route.rotate()
        now_s = self._loop.time()
        if route.misses >= ASK_AFTER_MISSES and now_s - self._asked_s >= ASK_EVERY_S:
            # The replicas known here may all be gone since: of range 1 no index tells.
            self._asked_s = now_s
            self.client.ask_descriptors()
        delay_us = min(RETRY_MIN_US << min(route.misses, 10), RETRY_MAX_US)
        if self.clock.source.monotonic_us() + delay_us > deadline_us:
            raise UnavailableError(
                f"range {route.descriptor.range_id} has no leaseholder that answers",
                hint="A quorum of its replicas must be up and connected.",
            )
        await asyncio.sleep(delay_us / 1e6)

    async def _look_up(self, key: bytes, deadline_us: int) -> None:
        """Find the range of `key` in the meta index; range 1 itself must be cached."""
        start = META + key + b"\0"
        while True:
            if self.cache.find(start) is None:  # nobody has told us yet where range 1 is
                await self._rest(deadline_us, "the location of range 1 is not known yet")
                continue
            at = self.clock.latest()
            scan = api.SnapshotScan(at, start, META_END, 1, False, b"")
            try:
                response: api.Response | None = await self.send(start, scan, deadline_us)
            except (
                SnapshotTooOldError
            ):  # nobody answered for as long as versions are kept: read the index as it is now
                response = None
            if isinstance(response, api.Rows):
                for _, value in response.rows:
                    self.cache.insert(decode_descriptor(value))
                if self.cache.find(key) is not None:
                    return
            # The index lags behind a split by a transaction or two.
            await self._rest(deadline_us, f"the meta index has no range for key {key.hex()}")

    async def _rest(self, deadline_us: int, why: str) -> None:
        if self.clock.source.monotonic_us() > deadline_us:
            raise UnavailableError(why)
        await asyncio.sleep(RETRY_MAX_US / 1e6)


_CORRECTIONS = frozenset({api.NotLeaseholder, api.Moved, api.Refused})

_decode_descriptor = msgspec.msgpack.Decoder(RangeDescriptor)
encode_descriptor = msgspec.msgpack.Encoder().encode


def decode_descriptor(value: bytes) -> RangeDescriptor:
    """A descriptor as the meta index holds it."""
    return _decode_descriptor.decode(value)


def meta_key(end: bytes) -> bytes:
    """Where the meta index holds the range that ends at `end`."""
    return META + end
