"""The real node as the brain of a simulated machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

from txndb.cluster.membership import NEXT_RANGE_KEY, take_number
from txndb.cluster.node import Node
from txndb.cluster.options import NodeOptions
from txndb.cluster.store import Slot
from txndb.errors import TxndbError, UnavailableError
from txndb.ids import RangeId
from txndb.raft.types import Role
from txndb.ranges import api
from txndb.ranges.replica import Replica
from txndb.sim.cuts import CUTS
from txndb.sim.host import Parts, SimBody, SqlSession
from txndb.sim.promises import WatchedReplica

_LOOK_S: Final = 0.001
_LOOKS_MAX: Final = 3_000


class NodeBrain:
    """A `txndb.cluster.node.Node` behind the simulator's `Brain`."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def start(self, join: list[str], advertise: str) -> None:
        await self.node.start(join, advertise)

    async def new_session(self, user: str, database: str) -> SqlSession:
        session: SqlSession = await self.node.new_session(user, database, {})
        return session

    async def drain(self) -> None:
        await self.node.drain()

    async def close(self) -> None:
        await self.node.close()

    def transfer_lease(self, draw: int) -> None:
        leaders = list(self.node.store.leaders())
        if not leaders:
            return
        replica = leaders[draw % len(leaders)]
        if replica.state is None:
            return
        descriptor = replica.state.descriptor
        nodes = descriptor.nodes()
        target = nodes[(draw >> 16) % len(nodes)]
        # Refused where another transfer or change of replicas is under way: then this one does not happen.
        with contextlib.suppress(TxndbError):
            replica.handle(api.TransferLease(descriptor.start, target), None)

    async def split_at_work(self, kind: str) -> None:
        node = self.node
        with contextlib.suppress(TxndbError):  # as any split, it may fail
            right_id = RangeId(await take_number(node, NEXT_RANGE_KEY, 2))
            for _ in range(_LOOKS_MAX):
                cut = CUTS[kind](node.store)
                if cut:
                    await node.sender.send(cut, api.SplitAt(cut, right_id), node.sender.deadline_us())
                    return
                await asyncio.sleep(_LOOK_S)

    def handed(self) -> dict[int, int]:
        return {
            id_: s.replica.handover.term for id_, s in self._slots().items() if s.replica.handover is not None
        }

    def leads(self) -> list[int]:
        try:
            return [replica.range_id for replica in self.node.store.leaders()]
        except UnavailableError:
            return []  # it has not started yet

    def raft_logs(self) -> dict[int, dict[int, tuple[int, bytes]]]:
        logs: dict[int, dict[int, tuple[int, bytes]]] = {}
        for range_id, slot in self.node.store.slots.items():
            log = slot.log
            entries = log.entries(log.first_index(), log.last_index() + 1)
            logs[range_id] = {entry.index: (entry.term, entry.data) for entry in entries}
        return logs

    def reigns(self) -> dict[int, int]:
        slots = self._slots()
        return {id_: s.replica.raft.term for id_, s in slots.items() if s.replica.raft.role is Role.LEADER}

    def leases(self) -> list[int]:
        now_us = self.node.body.time.monotonic_us()
        return [id_ for id_, slot in self._slots().items() if slot.replica.raft.lease_until_us > now_us]

    def applied(self, after: dict[int, int]) -> dict[int, list[tuple[int, int]]]:
        found = {}
        for range_id, slot in self._slots().items():
            if slot.installing is not None:
                continue  # Raft counts the snapshot as applied, but the log still holds what it will replace
            log = slot.log
            low = max(after.get(range_id, 0) + 1, log.first_index())
            high = min(slot.replica.raft.applied, log.last_index())
            if low <= high:
                found[int(range_id)] = [(index, log.term(index)) for index in range(low, high + 1)]
        return found

    def _slots(self) -> dict[RangeId, Slot]:
        try:
            return self.node.store.slots
        except UnavailableError:
            return {}  # it has not started yet

    def validate(self) -> None:
        self.node.validate()

    def replica_digests(self) -> dict[int, tuple[int, bytes]]:
        return self.node.replica_digests()

    def pending(self) -> list[str]:
        return self.node.pending()


async def open_node(body: SimBody) -> Node:
    """Recover the machine's node with the world's options."""
    shared = body.host.shared
    new_replica: Callable[..., Replica] = Replica
    if shared.promises is not None:
        new_replica = partial(WatchedReplica, shared.promises, f"n{body.host.machine}")
    options = NodeOptions(
        # One host for all, or one each: then the second to join has E raised (rule T1).
        host_id=f"host{body.host.machine}" if shared.seed % 3 == 0 else "host",
        error_bound_us=shared.clock.error_bound_us,
        gc_every_us=1_000_000,  # often, so that collection races with everything
        gc_ttl_us=3_000_000,
        outcome_ttl_us=shared.outcome_ttl_us,
        catalog_lease_us=shared.catalog_lease_us,
        raft=shared.raft,
        canaries=frozenset(shared.canaries),
        new_replica=new_replica,
    )
    return await Node.open(body, options)


def node_parts() -> Parts:
    """A world's parts with the real database."""

    async def open_brain(body: SimBody) -> NodeBrain:
        return NodeBrain(await open_node(body))

    return Parts(open_brain)
