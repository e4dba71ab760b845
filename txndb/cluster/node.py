"""A node: store, routing, transactions and SQL composed over what a body gives.

Life: `open` recovers (engine, log, rules P3–P6), `start` bootstraps or joins and returns when the node serves, `drain`
hands its leases over, `close` lets everything go. Between, it is a `Receiver`: frames, calls and snapshots arrive here
and are passed to the part they are for.

Invariants:
1. The incarnation is raised and synced before anything is sent: no two processes speak with one (rules K5, M7).
2. A task of the node is owned by it: an error in one is fatal, or was foreseen; none is lost (`spawn`).

It decides nothing itself: ranges decide in `txndb.ranges`, transactions in `txndb.txn`, background work in
`txndb.cluster.upkeep`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import msgspec

from txndb.clock import Clock
from txndb.cluster import claim, clockwatch, whereabouts
from txndb.cluster.body import Body
from txndb.cluster.calls import Calls
from txndb.cluster.claim import must_be_alone
from txndb.cluster.clockbound import BOUND_MAX_US, ClockBound
from txndb.cluster.envelopes import PROTOCOL_VERSION
from txndb.cluster.identity import Identity, load_identity, load_members, save_identity, save_members
from txndb.cluster.membership import Membership, decode_join_response, encode_join
from txndb.cluster.messages import (
    AliveQuery,
    AliveReply,
    Descriptors,
    JoinRequest,
    KvRequest,
    KvResponse,
    Member,
    Members,
    RaftEnvelope,
    SessionMessage,
    WoundNotice,
    decode_frame,
)
from txndb.cluster.opening import open_log, reconcile_store
from txndb.cluster.options import NodeOptions
from txndb.cluster.snapshots import SnapshotSender, receive
from txndb.cluster.sqlnode import SqlNode
from txndb.cluster.store import Store
from txndb.cluster.upkeep import Upkeep
from txndb.encoding.keys import KEY_MAX, KEY_MIN
from txndb.errors import (
    CorruptionError,
    InternalError,
    ProtocolError,
    RetryError,
    StoreError,
    TxndbError,
    UnavailableError,
)
from txndb.ids import NodeId, RangeId, ReplicaId, Timestamp
from txndb.ranges import api
from txndb.ranges.descriptor import RangeDescriptor, make_replica_id, node_of
from txndb.ranges.locks import LockEntry
from txndb.ranges.replica import Replica
from txndb.ranges.state import Effect, birth_batch
from txndb.storage.engine import WriteBatch
from txndb.txn.api import ProgramCompiler, Snapshot, Txn
from txndb.txn.coordinator import SnapshotReads, Transaction
from txndb.txn.gateway import Attempt
from txndb.txn.routing import RangeCache, Sender

START_TIMEOUT_US = 60_000_000
JOIN_TIMEOUT_US = 10_000_000
CHECK_TIMEOUT_US = 1_000_000
JOIN_PAUSE_S = 0.2
_STATE_IS_WRONG = (InternalError, StoreError, CorruptionError)
"""Of this process: nothing may follow them (rule P1). A refusal, or a full disk, is none."""


class Node:
    """One member of the cluster (also the `Gateway`, `KvClient`, `StoreHost` and `MembershipHost` of its parts)."""

    def __init__(self, body: Body, options: NodeOptions) -> None:
        self.body = body
        self.options = options
        self.canaries = options.canaries
        self.limits = options.limits
        self.node = NodeId(0)
        self.incarnation = 0
        self.cluster_id = b""
        self.clock_bound = ClockBound(self)
        self._identity: Identity | None = None
        self.clock = Clock(body.time, options.error_bound_us)
        self.engine = body.open_engine()
        self.calls = Calls(body.transport, body.time)
        self.cache = RangeCache()
        self.sender = Sender(self, self.cache, self.clock)
        self.membership = Membership(self)
        self.live_peers: dict[NodeId, None] = {}
        self.transactions: dict[bytes, Attempt] = {}
        self.sql = SqlNode(self)
        self.compile_program: ProgramCompiler = self.sql.compile_program
        self.upkeep = Upkeep(self)
        self.snapshots = SnapshotSender(self)
        self._store: Store | None = None
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._counter = 0
        self._closed = False
        self._draining = False
        self._address = ""

    @property
    def store(self) -> Store:
        """The replicas; there once the node has an identity."""
        if self._store is None:
            raise UnavailableError("the node has not started yet")
        return self._store

    # -- life ----------------------------------------------------------------------------------------------

    @classmethod
    async def open(cls, body: Body, options: NodeOptions | None = None) -> Node:
        """Recover a node from what its body holds; it serves only after `start`.

        Raises `CorruptionError` or `StoreError` when what is on disk cannot be served.
        """
        node = cls(body, options or NodeOptions())
        identity = load_identity(node.engine)
        if identity is not None:
            members = load_members(node.engine)
            await must_be_alone(body, identity, members)
            await node._take_identity(whereabouts.with_host(identity, members), fresh=False)
            node.store.load()
        return node

    async def _take_identity(
        self, identity: Identity, *, fresh: bool, birth: WriteBatch | None = None
    ) -> None:
        """Become who the store says, under a new incarnation, synced (invariant 1).

        A fresh store gets its log first: whatever a crash leaves is then either nothing or all of it.
        """
        body = self.body
        canaries, segment_bytes = self.canaries, self.options.raft.segment_bytes
        log = await body.log_io.run(
            lambda: open_log(
                body, identity.store_id, create=fresh, segment_bytes=segment_bytes, canaries=canaries
            )
        )
        identity = msgspec.structs.replace(identity, incarnation=identity.incarnation + 1)
        save_identity(self.engine, identity, birth)
        await body.engine_io.run(self.engine.sync)
        self.node, self.cluster_id = identity.node, identity.cluster_id
        self.incarnation = identity.incarnation
        self.calls.begin(identity.incarnation)
        self._identity = identity
        self.clock.error_bound_us = identity.error_bound_us
        self.clock.latest_bound_us = identity.latest_bound_us
        self.clock.placed = fresh
        if identity.left_host:
            body.time.leave_host()  # a source begins each process sharing the host's clock
        self._store = Store(
            body,
            self,
            self.engine,
            log,
            self.clock,
            self.node,
            self.compile_program,
            self.options.canaries,
            self.options.raft,
            self.options.new_replica,
        )
        if not fresh:
            await self._reconcile()

    async def _reconcile(self) -> None:
        """Log and engine may be one step apart (rules P3–P5)."""
        reconcile_store(self.engine, self.store.log)
        await self.body.engine_io.run(self.engine.sync)
        await self.store.flush()

    async def start(self, join: list[str], advertise: str) -> None:
        """Bootstrap (no identity, nothing to join), join, or come back; returns when the node serves.

        Raises `UnavailableError` when nobody answers within the bound, `StoreError` for a foreign cluster.
        """
        self._address = advertise
        newborn = self._store is None
        if newborn and not join:
            await self._bootstrap()
        elif newborn:
            await self._join(join)
        else:
            for member in load_members(self.engine):
                self.membership.members[member.node] = member
        self.body.transport.start(self.node, self.incarnation, self.cluster_id, self)
        me = Member(self.node, self.incarnation, advertise, "", self._locality(), self.options.host_id)
        self.membership.merge([me])
        self.on_members(self.membership.snapshot())
        for descriptor in self.store.descriptors():
            self.cache.insert(descriptor)
        self.upkeep.start()
        if not newborn and join:
            await self._check_cluster(join)
        if not newborn:
            await whereabouts.find_out(self, join)
        if not newborn and join:
            self.spawn(self._announce(join), "announce")
        await self._until_serving()
        await self.sql.start()

    def _locality(self) -> str:
        return ",".join(f"{key}={value}" for key, value in sorted(self.options.locality.items()))

    def _random_bytes(self, count: int) -> bytes:
        return bytes(self.body.rand.randrange(256) for _ in range(count))

    async def _bootstrap(self) -> None:
        """Give birth to a cluster: node 1, and range 1 over the whole key space."""
        bound_us = max(self.options.error_bound_us, self.body.time.error_us())
        if bound_us > BOUND_MAX_US:
            raise StoreError("the node's clock cannot be bounded", hint="See --clock.")
        ids = (self._random_bytes(16), self._random_bytes(16), NodeId(1))
        identity = Identity(*ids, 0, bound_us, bound_us, False, 0, self.options.host_id)
        replica = make_replica_id(NodeId(1), 1)
        birth = WriteBatch()
        birth_batch(
            birth, RangeDescriptor(RangeId(1), KEY_MIN, KEY_MAX, (replica,), 1, 2), replica, Timestamp(0)
        )
        await self._take_identity(identity, fresh=True, birth=birth)
        self.store.load()

    async def _join(self, addresses: list[str]) -> None:
        """Ask any of the addresses for an identity, until one answers or the bound is over."""
        deadline_us = self.body.time.monotonic_us() + START_TIMEOUT_US
        complaints: dict[str, str] = {}
        while True:
            for address in addresses:
                request = self._join_request(NodeId(0), 1)  # anew: the clock may be synchronised by now
                try:
                    payload = await self.body.transport.call(
                        address, "join", encode_join(request), JOIN_TIMEOUT_US
                    )
                except UnavailableError as error:
                    if complaints.get(address) != error.message:  # each reason once, not five times a second
                        complaints[address] = error.message
                        self.body.event(f"cannot join through {address} yet: {error.message}")
                    continue
                response = decode_join_response(payload)
                store_id = self._random_bytes(16)
                identity = Identity(
                    store_id,
                    response.cluster_id,
                    response.node,
                    0,
                    response.error_bound_us,
                    response.latest_bound_us,
                    response.off_host,
                    response.settled_us,
                    self.options.host_id,
                )
                await self._take_identity(identity, fresh=True)
                for member in response.members:
                    self.membership.members[member.node] = member
                for descriptor in response.descriptors:
                    self.cache.insert(descriptor)
                return
            if self.body.time.monotonic_us() > deadline_us:
                raise UnavailableError(f"no member answers at {', '.join(addresses)}")
            await asyncio.sleep(JOIN_PAUSE_S)

    async def _check_cluster(self, addresses: list[str]) -> None:
        """A store that comes back with `--join` must belong to the cluster it is pointed at."""
        for address in addresses:
            try:
                answer = await self.body.transport.call(address, "cluster-id", b"", CHECK_TIMEOUT_US)
            except UnavailableError:
                continue
            if answer and answer != self.cluster_id:
                raise StoreError(
                    f"the data directory belongs to cluster {self.cluster_id.hex()}, "
                    f"but {address} belongs to {answer.hex()}"
                )
            return

    def _join_request(self, node: NodeId, incarnation: int) -> JoinRequest:
        host_id, error_us = self.options.host_id, self.body.time.error_us()
        locality = self._locality()
        return JoinRequest(
            PROTOCOL_VERSION,
            self.cluster_id,
            node,
            incarnation,
            self._address,
            "",
            locality,
            host_id,
            error_us,
            self.body.time.error_us(off_host=True),
        )

    async def _announce(self, addresses: list[str]) -> None:
        """Be known again as a member, and learn who else is one; in the background, for all may be restarting.

        A refusal is not the end: a kernel's clock may be synchronised some time after the machine's start.
        """
        refusal = ""
        while True:
            for address in addresses:
                request = encode_join(self._join_request(self.node, self.incarnation))
                try:
                    payload = await self.body.transport.call(address, "join", request, JOIN_TIMEOUT_US)
                except (UnavailableError, RetryError):
                    continue
                except StoreError as error:
                    if refusal != error.message:
                        refusal = error.message
                        self.body.event(f"announce: {refusal}")
                    continue
                response = decode_join_response(payload)
                await self.clock_bound.learn(response)
                self.membership.merge(response.members)
                for descriptor in response.descriptors:
                    self.cache.insert(descriptor)
                return
            await asyncio.sleep(JOIN_PAUSE_S)

    async def _until_serving(self) -> None:
        """Wait until range 1 answers: the node can find and serve everything from then on. And until its clock can be
        trusted, within the bound: a machine's may be synchronised some time after its start."""
        key = b"\x08"
        deadline_us = self.sender.deadline_us(START_TIMEOUT_US)
        while not isinstance(await self.sender.send(key, api.Describe(key), deadline_us), api.Description):
            pass  # the route was stale: the answer corrected it
        while not self.clock.within_bound() and "T1" not in self.canaries:
            if self.body.time.monotonic_us() > deadline_us:
                return  # whoever needs the clock says so
            await asyncio.sleep(JOIN_PAUSE_S)

    async def drain(self) -> None:
        """Give the catalogue lease up and hand every range's to another live replica (a graceful stop); bounded, best
        effort."""
        self._draining = True
        await self.sql.leases.give_up()
        await self.upkeep.hand_over_leases()

    async def close(self) -> None:
        """Stop all work; the log is attested, the engine synced and closed."""
        if self._closed:
            return
        self._closed = True
        self.upkeep.stop()
        self.snapshots.stop()
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._store is not None:
            self._store.close()
            await self.body.log_io.run(self._store.log.close)
        await self.body.engine_io.run(self.engine.sync)
        self.engine.close()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine as a task of this node; an error it does not handle ends the node. The end of the node ends
        it, also where it would begin only then: whoever asks for an outcome would keep the node for a minute."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        if self._closed:
            task.cancel()
        self._tasks[task] = None
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled() or self._closed:
            return
        error = task.exception()
        if error is None:
            return
        if isinstance(error, TxndbError) and (error.of_peer or not isinstance(error, _STATE_IS_WRONG)):
            self.body.event(f"{task.get_name()}: {error.message}")
        else:
            self.body.fatal(error)

    # -- what gateways share (`Gateway`, `KV`) -------------------------------------------------------------

    def begin(self, age: tuple[Timestamp, bytes] | None = None) -> Txn:
        """Start an attempt."""
        return Transaction(self, age)

    def snapshot(self, at: Timestamp | None = None) -> Snapshot:
        """A lock-free view."""
        return SnapshotReads(self, at)

    def next_counter(self) -> int:
        """A number for an attempt id."""
        self._counter += 1
        return self._counter

    def register(self, txn: Attempt) -> None:
        self.transactions[txn.attempt] = txn

    def unregister(self, txn: Attempt) -> None:
        self.transactions.pop(txn.attempt, None)

    def call_local(
        self, range_id: RangeId, request: api.Request, waiter: asyncio.Future[api.Response]
    ) -> api.Response | None:
        """Ask this node's replica."""
        return self.store.handle(range_id, request, waiter)

    async def call(
        self, node: NodeId, range_id: RangeId, request: api.Request, deadline_us: int
    ) -> tuple[api.Response, bool]:
        """Ask another node's replica; refused at once when it is known to be unreachable."""
        if node not in self.live_peers:
            raise UnavailableError(f"node {node} is not connected")
        return await self.calls.call(node, range_id, request, deadline_us)

    def ask_descriptors(self) -> None:
        """Ask every member within reach."""
        for peer in self.live_peers:
            self.send(peer, Descriptors([]))

    # -- what the store needs (`StoreHost`) ----------------------------------------------------------------

    def send(self, to: NodeId, item: Any) -> None:
        self.calls.send(to, item)

    def answer_remote(self, handle: Any, response: api.Response) -> None:
        self.calls.answer(handle, response)

    def wound_notice(self, entry: LockEntry, why: api.Wounded) -> None:
        if entry.txn.gateway == self.node:
            txn = self.transactions.get(entry.attempt)
            if txn is not None:
                txn.on_wound(why.reason, why.key, why.winner)
        else:
            self.send(entry.txn.gateway, WoundNotice(entry.attempt, why.key, why.winner))

    def on_serving(self, replica: Replica) -> None:
        if replica.state is not None:
            self.cache.insert(replica.state.descriptor, replica.replica_id)
        self.upkeep.on_serving(replica)

    def on_descriptor(self, descriptor: RangeDescriptor) -> None:
        self.cache.insert(descriptor)
        self.upkeep.on_descriptor(descriptor)

    def on_collected(self, replica: Replica, effect: Effect) -> None:
        self.upkeep.on_collected(replica, effect)

    def start_snapshot(self, replica: Replica, to: ReplicaId) -> None:
        self.snapshots.start(replica, to)

    # -- what the clock bound needs (`BoundHost`) ----------------------------------------------------------

    @property
    def identity(self) -> Identity:
        if self._identity is None:
            raise UnavailableError("the node has not started yet")
        return self._identity

    async def remember(self, identity: Identity) -> None:
        self._identity = identity
        save_identity(self.engine, identity)
        await self.body.engine_io.run(self.engine.sync)

    def all_members(self) -> list[Member]:
        return self.membership.snapshot()

    # -- what membership needs (`MembershipHost`) ----------------------------------------------------------

    def send_session(self, to: NodeId, payload: bytes) -> None:
        """Send a message of the SQL layer."""
        self.send(to, SessionMessage(payload))

    def send_members(self, to: NodeId, message: Members) -> None:
        self.send(to, message)

    def on_members(self, members: list[Member]) -> None:
        for member in members:
            if member.node != self.node and member.address:
                self.body.transport.set_address(member.node, member.address)
        save_members(self.engine, self.membership.snapshot())

    def descriptors(self) -> list[RangeDescriptor]:
        return self.cache.descriptors()

    # -- what arrives (`Receiver`) -------------------------------------------------------------------------

    def on_message(self, sender: NodeId, payload: bytes) -> None:
        """One frame from a peer."""
        if self._closed:
            return
        try:
            items = decode_frame(payload)
        except ProtocolError as error:
            self.body.event(f"node {sender}: {error.message}")
            return
        for item in items:
            _ITEM_HANDLERS[type(item)](self, sender, item)

    def _on_raft(self, sender: NodeId, item: RaftEnvelope) -> None:
        self.store.on_raft(item)

    def _on_kv_request(self, sender: NodeId, item: KvRequest) -> None:
        if not self.calls.begin_serving(sender, item.number):
            return
        handle = (sender, item.number)
        response = self.store.handle(item.range_id, item.request, handle)
        if response is not None:
            self.calls.answer(handle, response)

    def _on_kv_response(self, sender: NodeId, item: KvResponse) -> None:
        self.calls.on_response(item)

    def _on_wound(self, sender: NodeId, item: WoundNotice) -> None:
        txn = self.transactions.get(item.attempt)
        if txn is not None:
            txn.on_wound("an older transaction needed its locks", item.key, item.winner)

    def _on_alive_query(self, sender: NodeId, item: AliveQuery) -> None:
        current = item.incarnation == self.incarnation
        alive = [a for a in item.attempts if current and a in self.transactions]
        ended = [a for a in item.attempts if not (current and a in self.transactions)]
        self.send(sender, AliveReply(item.range_id, item.incarnation, alive, ended))

    def _on_alive_reply(self, sender: NodeId, item: AliveReply) -> None:
        self.upkeep.on_alive(item)

    def _on_members(self, sender: NodeId, item: Members) -> None:
        self.membership.merge(item.members)

    def _on_descriptors(self, sender: NodeId, item: Descriptors) -> None:
        for descriptor in item.descriptors:
            self.cache.insert(descriptor)
        held = self.store.descriptors()
        if not item.descriptors and held:
            self.send(sender, Descriptors(held))

    def _on_session(self, sender: NodeId, item: SessionMessage) -> None:
        self.sql.on_message(sender, item)

    def on_peer_up(self, peer: NodeId) -> None:
        """A connection came up."""
        self.live_peers[peer] = None
        self.membership.tell(peer)
        self.send(peer, Descriptors(self.store.descriptors()))

    def on_peer_down(self, peer: NodeId) -> None:
        """A connection broke."""
        self.live_peers.pop(peer, None)
        self.store.wake_all()
        self.calls.on_peer_down(peer)
        self.snapshots.on_peer_down(peer)

    async def on_call(self, method: str, payload: bytes) -> bytes:
        """A unary call: join, admin, debug. Raises `ProtocolError` for an unknown method."""
        if method == "join":
            return await self.membership.admit(self, self.clock_bound, payload)
        if method == "clock-bound":
            return await self.clock_bound.on_call(payload)
        if method == clockwatch.METHOD:
            return clockwatch.answer_time(self.body)
        if method == whereabouts.METHOD:
            return whereabouts.answer(self, payload)
        if method == claim.METHOD:
            return claim.answer_claim(self.cluster_id, self.node, self.membership.members, payload)
        if method == "cluster-id":
            return self.cluster_id
        if method == "debug.checksums":
            return msgspec.json.encode(
                {str(k): [v[0], v[1].hex()] for k, v in self.replica_digests().items()}
            )
        if method == "debug.status":
            return msgspec.json.encode(self.status())
        raise ProtocolError(f"unknown method {method!r}")

    async def on_snapshot(self, sender: NodeId, header: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        """A snapshot stream from a peer."""
        checked = "frames-unchecked" not in self.canaries
        range_id, incoming, message = await receive(sender, header, chunks, checked=checked)
        return b"ok" if self.store.on_snapshot(range_id, incoming, message) else b"refused"

    # -- sessions, and what people and tests ask -----------------------------------------------------------

    async def new_session(self, user: str, database: str, options: dict[str, str] | None = None) -> Any:
        """A SQL session. Raises 28000 for an unknown role, 3D000 for an unknown database."""
        return await self.sql.new_session(user, database, options or {})

    def metrics(self) -> dict[str, float]:
        """Figures for /metrics."""
        store = self.store
        leaders = list(store.leaders())
        return {
            "txndb_ranges": float(len(store.slots)),
            "txndb_leases": float(len(leaders)),
            "txndb_transactions_open": float(len(self.transactions)),
            "txndb_raft_log_flushes_total": float(store.flush_count),
            "txndb_raft_entries_applied_total": float(store.applied_count),
            "txndb_peers_connected": float(len(self.live_peers)),
        }

    def status(self) -> dict[str, Any]:
        """The node's state for people."""
        ranges = [self._range_status(slot.replica) for slot in self.store.slots.values()]
        return {
            "node": self.node,
            "incarnation": self.incarnation,
            "cluster_id": self.cluster_id.hex(),
            "address": self._address,
            "members": [msgspec.to_builtins(m) for m in self.membership.snapshot()],
            "peers": sorted(self.live_peers),
            "ranges": ranges,
        }

    def _range_status(self, replica: Replica) -> dict[str, Any]:
        state = replica.state
        return {
            "range": replica.range_id,
            "replica": replica.replica_id,
            "leads": replica.leaseholder is not None and replica.leaseholder.serving,
            "leader_node": node_of(replica.leader) if replica.leader else 0,
            "term": replica.raft.term,
            "applied": state.applied_index if state is not None else 0,
            "start": state.descriptor.start.hex() if state is not None else "",
            "end": state.descriptor.end.hex() if state is not None else "",
            "nodes": list(state.descriptor.nodes()) if state is not None else [],
        }

    def replica_digests(self) -> dict[int, tuple[int, bytes]]:
        """Per range held here: (applied index, hash of its whole replicated state)."""
        return self.upkeep.digests()

    def pending(self) -> list[str]:
        """Locks, transactions and waiters still held, and a doubt that keeps the node from serving; empty at rest."""
        found = [f"transaction {attempt.hex()}" for attempt in self.transactions]
        if not self.clock.within_bound():
            found.append("a doubt of its clock (T1)")
        for replica in self.store.leaders():
            if replica.leaseholder is not None:
                found += [
                    f"range {replica.range_id}: {e}" for e in replica.leaseholder.locks.entries.values()
                ]
            if replica.state is not None:
                found += [f"range {replica.range_id}: prepared {a.hex()}" for a in replica.state.prepares]
                found += [f"range {replica.range_id}: undecided {a.hex()}" for a in replica.state.decisions]
        return found

    def validate(self) -> None:
        """Raise `InternalError` if an invariant of any part does not hold."""
        if self._store is not None:
            self._store.validate()
        self.sql.leases.validate()


_ITEM_HANDLERS: dict[type, Any] = {
    RaftEnvelope: Node._on_raft,
    KvRequest: Node._on_kv_request,
    KvResponse: Node._on_kv_response,
    WoundNotice: Node._on_wound,
    AliveQuery: Node._on_alive_query,
    AliveReply: Node._on_alive_reply,
    Members: Node._on_members,
    Descriptors: Node._on_descriptors,
    SessionMessage: Node._on_session,
}
