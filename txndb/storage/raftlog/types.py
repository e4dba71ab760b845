"""The entry type of the Raft log files; the raft package's own view of an entry is this very class."""

from __future__ import annotations

import msgspec


class LogEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of one range's log. `kind` (0-255) belongs to raft; the log only keeps it."""

    index: int
    term: int
    kind: int
    data: bytes
