"""At open, the engine's applied positions against the log's: what an interrupted step left, what must stop the node.

The engine and the log are two durable things that a crash may leave apart by one step (rules P3, P4, P5). Per range the
engine says which replica it holds and how far it applied. `reconcile` is pure; `apply_actions` queues the log's part.

    engine replica <= tombstone, or below the log's replica    its data is a leftover: DeleteData           (P5)
    truncation <= applied <= last index, same term             sound; commit = max(commit, applied)       (P3, P1)
    applied equals the snapshot intent                         the reset was interrupted: CompleteReset     (P4)
    the log has no truncation point and no entry               a split or creation was: SetTruncation       (P5)
    anything else                                              CorruptionError: the node stops            (P3, P4)

Driven by the node's store: engine.sync(), reconcile, apply_actions, a flush, then serve.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from txndb.errors import CorruptionError
from txndb.storage.raftlog.log import RaftLog
from txndb.storage.raftlog.replica import ReplicaLog


class AppliedState(msgspec.Struct, frozen=True):
    """What the engine holds of a range: whose data, applied up to where."""

    replica_id: int
    index: int
    term: int


class CompleteReset(msgspec.Struct, frozen=True, tag=True):
    """A received snapshot is in the engine, the log was not reset yet; `keep_suffix`: the log holds (index, term)."""

    range_id: int
    replica_id: int
    index: int
    term: int
    keep_suffix: bool


class SetTruncation(msgspec.Struct, frozen=True, tag=True):
    """The engine created the replica, the log does not know where its log begins. `bury` is a lower replica id of the
    range that the log still knows, 0 = none."""

    range_id: int
    replica_id: int
    index: int
    term: int
    bury: int


class RaiseCommit(msgspec.Struct, frozen=True, tag=True):
    """What is applied is committed, whatever commit index the last flush carried."""

    range_id: int
    replica_id: int
    commit: int


class DeleteData(msgspec.Struct, frozen=True, tag=True):
    """The engine's data of this range belongs to a dead replica: the owner deletes and syncs it before it serves."""

    range_id: int
    replica_id: int


Action = CompleteReset | SetTruncation | RaiseCommit | DeleteData


def reconcile(log: RaftLog, applied: Mapping[int, AppliedState]) -> list[Action]:
    """What to do, by range id; the engine is synced (P4). `CorruptionError` when log and engine contradict each
    other."""
    actions: list[Action] = []
    known = dict(log.replicas())
    tombstones = log.tombstones()
    for range_id, state in sorted(applied.items()):
        log_replica_id = known.pop(range_id, 0)
        if state.replica_id <= tombstones.get(range_id, 0) or state.replica_id < log_replica_id:
            actions.append(DeleteData(range_id, state.replica_id))
            if log_replica_id:
                known[range_id] = log_replica_id
        elif state.replica_id > log_replica_id:
            actions.append(SetTruncation(range_id, state.replica_id, state.index, state.term, log_replica_id))
        else:
            actions += _reconcile_replica(log.replica(range_id, log_replica_id), state)
    for range_id, replica_id in known.items():
        replica = log.replica(range_id, replica_id)
        if replica.truncation[0] > 0:
            raise CorruptionError(
                f"range {range_id}: the raft log begins after {replica.truncation[0]}, but the store has no data of it"
            )
    return actions


def _reconcile_replica(replica: ReplicaLog, state: AppliedState) -> list[Action]:
    range_id, replica_id = replica.range_id, replica.replica_id
    position = (state.index, state.term)
    held = (
        replica.truncation[0] <= state.index <= replica.last_index()
        and replica.term(state.index) == state.term
    )
    if replica.intent == position and replica.truncation != position:
        return [CompleteReset(range_id, replica_id, state.index, state.term, held)]
    if held:
        if state.index > replica.commit:
            return [RaiseCommit(range_id, replica_id, state.index)]
        return []
    if not replica.truncation_known and replica.last_index() == 0:
        return [SetTruncation(range_id, replica_id, state.index, state.term, 0)]
    raise CorruptionError(
        f"range {range_id}: the store applied entry {state.index} of term {state.term}, the raft log holds "
        f"{replica.first_index()} to {replica.last_index()} after {replica.truncation}",
        hint="Replace this node by a new one; its ranges have other replicas.",
    )


def apply_actions(log: RaftLog, actions: list[Action]) -> None:
    """Queue what the log has to record; the caller flushes, and does `DeleteData` itself."""
    for action in actions:
        if isinstance(action, CompleteReset):
            replica = log.replica(action.range_id, action.replica_id)
            if action.keep_suffix:
                replica.truncate(action.index, action.term)
            else:
                replica.reset(action.index, action.term)
            _raise_commit(replica, action.index)
        elif isinstance(action, SetTruncation):
            if action.bury:
                log.bury(action.range_id, action.bury)
            replica = log.replica(action.range_id, action.replica_id)
            replica.reset(action.index, action.term)
            _raise_commit(replica, action.index)
        elif isinstance(action, RaiseCommit):
            _raise_commit(log.replica(action.range_id, action.replica_id), action.commit)


def _raise_commit(replica: ReplicaLog, commit: int) -> None:
    term, vote, old = replica.hard_state()
    replica.set_hard_state(term, vote, max(old, commit))
