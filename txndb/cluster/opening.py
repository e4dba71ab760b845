"""Opening a store: the Raft log, and its reconciliation with the engine (rules P3–P6)."""

from __future__ import annotations

from txndb.cluster.body import Body
from txndb.errors import CorruptionError
from txndb.ids import RangeId, ReplicaId
from txndb.limits import LOG_SEGMENT_BYTES
from txndb.ranges import keys
from txndb.ranges.state import read_applied, read_settings
from txndb.storage.engine import Engine, WriteBatch
from txndb.storage.raftlog import AppliedState, DeleteData, Options, RaftLog, apply_actions, reconcile


def open_log(
    body: Body,
    store_id: bytes,
    *,
    create: bool,
    segment_bytes: int = LOG_SEGMENT_BYTES,
    canaries: frozenset[str] = frozenset(),
) -> RaftLog:
    """Open or create the log, whose files are sealed at `segment_bytes` (blocks).

    Raises `StoreError`, `CorruptionError`.
    """

    def rand_bytes(count: int) -> bytes:
        return bytes(body.rand.randrange(256) for _ in range(count))

    options = Options(segment_bytes=segment_bytes, canaries=canaries)
    return RaftLog.open(body.log_disk, store_id, create=create, rand_bytes=rand_bytes, options=options)


def reconcile_store(engine: Engine, log: RaftLog) -> None:
    """Bring engine and log to one story; the caller syncs the engine and flushes the log before it serves.

    Raises `CorruptionError` when they contradict each other.
    """
    applied: dict[int, AppliedState] = {}
    start, end = keys.range_ids_span()
    for key, value in engine.iterate(start, end):
        range_id, name = keys.decode_range_id(key)
        if name != b"a":
            continue
        replica = engine.get(keys.replica_key(range_id))
        if replica is None:
            raise CorruptionError(f"the engine holds range {range_id} without its replica id")
        state = read_applied(value)
        applied[range_id] = AppliedState(int.from_bytes(replica, "big"), state.index, state.term)
    actions = reconcile(log, applied)
    for action in actions:
        if isinstance(action, DeleteData):
            _delete_data(engine, RangeId(action.range_id), ReplicaId(action.replica_id))
    apply_actions(log, actions)


def _delete_data(engine: Engine, range_id: RangeId, replica_id: ReplicaId) -> None:
    """A dead replica's leftovers go (P5)."""
    settings = engine.get(keys.settings_key(range_id))
    batch = WriteBatch()
    if settings is not None:
        for start, end in keys.replicated_spans(read_settings(settings).descriptor):
            batch.delete_range(start, end)
    for key in (keys.settings_key(range_id), keys.applied_key(range_id), keys.replica_key(range_id)):
        batch.delete(key)
    engine.write(batch)
