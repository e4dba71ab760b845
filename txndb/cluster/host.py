"""What the parts of a node need of it: the role `Node` plays for its SQL side, its catalogue leases and its upkeep.

A part is given its `NodeHost` and never imports the node, so the node is composed of parts that do not know it. The
role is read-only: a part asks and tells, it sets nothing.
"""

from __future__ import annotations

from typing import Any, Protocol

from txndb.cluster.body import Body
from txndb.cluster.calls import Calls
from txndb.cluster.messages import Member
from txndb.cluster.options import NodeOptions
from txndb.cluster.store import Store
from txndb.ids import NodeId
from txndb.storage.engine import Engine
from txndb.txn.api import KV
from txndb.txn.gateway import Attempt, Gateway


class Splitter(Protocol):
    """Who splits ranges."""

    async def split(self, cut: bytes) -> None:
        """Split the range that holds `cut` there; a no-op where a range begins there already."""


class Timed(Protocol):
    """Who is called as time goes by."""

    def on_time(self) -> None:
        """Called about once a second."""

    async def collect_garbage(self) -> None:
        """Delete some of what dropped tables left behind."""


class NodeHost(Gateway, KV, Protocol):
    """A node as its parts see it: a gateway, a door to the key space, and what the body gave."""

    body: Body
    options: NodeOptions
    engine: Engine
    calls: Calls
    live_peers: dict[NodeId, None]
    """The peers a connection is up to."""
    transactions: dict[bytes, Attempt]
    """The attempts this node is the gateway of (K5)."""

    @property
    def store(self) -> Store:
        """The replicas; there once the node has an identity."""

    @property
    def upkeep(self) -> Splitter:
        """The background work."""

    @property
    def sql(self) -> Timed:
        """The SQL side."""

    def all_members(self) -> list[Member]:
        """Every member as far as known, this one included."""

    def send(self, to: NodeId, item: Any) -> None:
        """Queue one message to a peer; dropped when it is down."""

    def send_session(self, to: NodeId, payload: bytes) -> None:
        """Queue a message of the SQL layer to a peer; dropped when it is down."""
