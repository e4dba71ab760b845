"""Who a store belongs to: cluster, node, incarnation and the members it last knew, kept in the engine itself."""

from __future__ import annotations

import msgspec

from txndb.cluster.messages import Member
from txndb.encoding.keys import store_key
from txndb.errors import CorruptionError
from txndb.ids import NodeId
from txndb.storage.engine import Engine, WriteBatch

IDENTITY_KEY = store_key(b"identity")
MEMBERS_KEY = store_key(b"members")


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Written once per start, synced before anything is sent (`incarnation` names the process)."""

    store_id: bytes
    cluster_id: bytes
    node: NodeId
    incarnation: int
    error_bound_us: int
    latest_bound_us: int
    off_host: bool | None = None
    """Whether members do without a shared clock (`left_host`); None where it was written before this was kept."""
    settled_us: int | None = None
    """`settled_bound_us`; None where it was written before this was kept."""
    host_id: str | None = None
    """The host whose clock it last read as a trusted one (`txndb.cluster.whereabouts`); None: not known."""

    @property
    def left_host(self) -> bool:
        """Whether this node's clock must be taken for one of its own: only then `auto` has needed an E."""
        return self.error_bound_us > 0 if self.off_host is None else self.off_host

    @property
    def settled_bound_us(self) -> int:
        """An E that every member is known to use on both sides, having left its host; 0: none is known."""
        if self.settled_us is None:
            return self.latest_bound_us if self.left_host else 0
        return self.settled_us


_encode = msgspec.msgpack.Encoder().encode
_decode_identity = msgspec.msgpack.Decoder(Identity).decode
_decode_members = msgspec.msgpack.Decoder(list[Member]).decode


def load_identity(engine: Engine) -> Identity | None:
    """The store's identity; None for a new store."""
    value = engine.get(IDENTITY_KEY)
    if value is None:
        return None
    try:
        return _decode_identity(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptionError(f"the store's identity is unreadable: {error}") from error


def save_identity(engine: Engine, identity: Identity, birth: WriteBatch | None = None) -> None:
    """Write the identity, in one batch with what is born with it (the caller syncs)."""
    batch = birth if birth is not None else WriteBatch()
    batch.put(IDENTITY_KEY, _encode(identity))
    engine.write(batch)


def load_members(engine: Engine) -> list[Member]:
    """The members this store last knew."""
    value = engine.get(MEMBERS_KEY)
    return [] if value is None else _decode_members(value)


def save_members(engine: Engine, members: list[Member]) -> None:
    """Remember the members, so that a restart finds its peers (the caller need not sync)."""
    batch = WriteBatch()
    batch.put(MEMBERS_KEY, _encode(members))
    engine.write(batch)
