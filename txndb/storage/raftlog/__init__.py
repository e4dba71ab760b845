"""The Raft log files of a store (rules P1-P7): `RaftLog`, a `ReplicaLog` per range, `reconcile` with the engine."""

from txndb.storage.raftlog.log import Options, PendingFlush, RaftLog
from txndb.storage.raftlog.reconcile import (
    Action,
    AppliedState,
    CompleteReset,
    DeleteData,
    RaiseCommit,
    SetTruncation,
    apply_actions,
    reconcile,
)
from txndb.storage.raftlog.replica import ReplicaLog
from txndb.storage.raftlog.types import LogEntry

__all__ = [
    "Action",
    "AppliedState",
    "CompleteReset",
    "DeleteData",
    "LogEntry",
    "Options",
    "PendingFlush",
    "RaftLog",
    "RaiseCommit",
    "ReplicaLog",
    "SetTruncation",
    "apply_actions",
    "reconcile",
]
