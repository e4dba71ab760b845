"""Every bound in the system, with its unit in its name. One place for each fact; layers take their bounds from here.

Those that an operator may set for one node are gathered in `NodeLimits`; what a bound that is exceeded is answered with
stands in `docs/operating.md`.
"""

from __future__ import annotations

from typing import Final

import msgspec

# keys and values
KEY_BYTES_MAX: Final = 16 * 1024
ROW_BYTES_MAX: Final = 8 * 1024 * 1024
TRANSACTION_BYTES_MAX: Final = 64 * 1024 * 1024
TRANSACTION_LOCKS_MAX: Final = 1_000_000
"""Keys and spans one transaction holds locks on: the gateway and the leaseholders remember each."""
STATEMENT_BYTES_MAX: Final = 16 * 1024 * 1024
PARAMETERS_MAX: Final = 65_535
STATEMENT_TOKENS_MAX: Final = 500_000
"""Words, constants and marks in one message of statements: each costs time and memory in every step of planning."""
STATEMENT_TURN_TOKENS: Final = 5_000
"""Scanning and parsing a long statement lets others run after so many: some 15 ms."""
TARGETS_MAX: Final = 1664
"""Columns of a query's result, as in PostgreSQL: the wire counts them in 16 bits."""
STATEMENT_DEPTH_MAX: Final = 128
"""Levels of nesting in a statement's syntax tree; a longer chain of ANDs or ORs is one level."""
CURSOR_ROWS_MAX: Final = 1_000_000
"""Rows a cursor keeps in memory: those to go back to, and those read ahead of a write."""

# raft
HEARTBEAT_US: Final = 100_000
ELECTION_MIN_US: Final = 500_000
ELECTION_MAX_US: Final = 1_000_000
LEASE_DRIFT_PERCENT: Final = 10
"""A leader's lease is shortened by this share of the minimum election timeout, for clock-rate differences."""
APPEND_BYTES_MAX: Final = 1024 * 1024
APPLY_BYTES_MAX: Final = 4 * 1024 * 1024
"""Committed entries handed over at once."""
COMMIT_NOTICE_US: Final = 10_000
"""An idle leader tells followers of a new commit index after this long, when no append carried it."""
INFLIGHT_APPENDS_MAX: Final = 64
INFLIGHT_BYTES_MAX: Final = 8 * 1024 * 1024
"""A follower that catches up gets no further append while so much is under way to it; far below a frame's bound."""
READS_PENDING_MAX: Final = 10_000
"""Read-index requests one leader holds."""
UNCOMMITTED_BYTES_MAX: Final = 64 * 1024 * 1024
LOG_CACHE_BYTES_MAX: Final = 8 * 1024 * 1024
LOG_SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""A segment file is sealed when the next flush would make it longer."""
LOG_RESERVE_BYTES: Final = 8 * 1024 * 1024
"""Kept aside on disk, given up so that a full disk can still write what must not fail (rule P1)."""
LOG_ROOM_BYTES_MIN: Final = 64 * 1024 * 1024
"""Proposals are refused while less than this is free."""
LOG_SEGMENTS_MAX: Final = 8
"""Above this many segments, short log tails that pin the oldest are rewritten."""
LOG_REWRITE_BYTES_MAX: Final = 1024 * 1024
LOG_COMPACT_EVERY_US: Final = 5_000_000
"""How often a node looks whether its replicas' logs can be truncated."""
LOG_TRUNCATE_ENTRIES_MIN: Final = 256
"""A replica's log is truncated when so many entries or more can go at once: each time costs a sync of the engine."""
LOG_KEEP_ENTRIES: Final = 2_000
"""A live follower this far behind is still served from the log; one further behind gets a snapshot."""

# ranges
RANGE_BYTES_SPLIT: Final = 64 * 1024 * 1024
REPLICATION_FACTOR: Final = 3
LOCK_WAITERS_MAX: Final = 10_000
LOCK_WAIT_US: Final = 60_000_000
"""A request waits this long for a lock, unless the node's options or the session's `lock_timeout` say otherwise."""
PARKED_US: Final = 10_000_000
"""A request parked for another reason than a lock goes back to its gateway after this long: that one's bound counts."""
REQUEST_BYTES_MAX: Final = 64 * 1024 * 1024
SCAN_PAGE_ROWS_MAX: Final = 4096
GET_KEYS_MAX: Final = 1024
"""Keys locked or read by one request: a bulk load's go in several, so that no step outlasts a heartbeat."""
SCAN_PAGE_BYTES_MAX: Final = 1024 * 1024
GC_TTL_US: Final = 4 * 3600 * 1_000_000
GC_EVERY_US: Final = 60_000_000
OUTCOME_TTL_US: Final = 600 * 1_000_000
"""How long outcome records are kept; a query about an older attempt is answered "too old" (rule M6)."""
OUTCOME_TTLS_MAX: Final = 24
"""A range in which an older transaction holds locks keeps its outcomes so many times as long: that one may commit."""

FUTURE_US_MAX: Final = 10_000_000
"""A read this far ahead of the leaseholder's clock is refused instead of waited for (rule T2)."""

# transactions
ENTRY_WRITES_MAX: Final = 2_000
ENTRY_WRITE_BYTES_MAX: Final = 1024 * 1024
"""A transaction that writes more to a range prepares it in parts: no entry keeps a node from its heartbeats."""
STATEMENT_TIMEOUT_US: Final = 60_000_000
HEARTBEAT_MISSED_US: Final = 3_000_000
"""Locks of a gateway that did not answer for this long are dropped (rule K5)."""
CATALOG_LEASE_US: Final = 12_000_000
"""Long against 2E, a failover and the longest commit; a DDL waits this long for a node that died."""
CATALOG_LEASE_BOUNDS: Final = 12
"""A catalogue lease lasts at least so many times E: taking one waits for about 2E, and its users' timestamps lie up to
E ahead of true time, so that one as short as 3E has ended before it can be used."""

# connections
CONNECTIONS_MAX: Final = 1000
STARTUP_US: Final = 60_000_000
"""From accepting a connection until its start-up is over."""
UNREAD_US: Final = 300_000_000
"""A client that leaves its answer unread for this long is given up, with its session and locks."""
PREPARED_STATEMENTS_MAX: Final = 10_000
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
PEER_QUEUE_BYTES_MAX: Final = 64 * 1024 * 1024

# the stop of a node
DRAIN_S: Final = 10.0
"""Open transactions get so long to end, unless the node's options say otherwise."""
CONNECTIONS_LEAVE_S: Final = 2.0
"""Connections that were told to end get so long to say it."""
CATALOG_LEASE_GIVE_UP_S: Final = 2.0
LEASES_HANDOVER_US: Final = 5_000_000
STORE_CLOSE_S: Final = 3.0
"""Allowed for syncing and closing log and engine."""
STOP_AFTER_DRAIN_S: Final = (
    CONNECTIONS_LEAVE_S + CATALOG_LEASE_GIVE_UP_S + LEASES_HANDOVER_US / 1e6 + STORE_CLOSE_S
)
"""A node that stops is gone at the latest so long after its transactions have ended, or had their time."""

# checkers
ELLE_EXAMPLES_MAX: Final = 4
"""Anomalies of one kind that are reported, of one key or of the whole graph: the verdict needs one, a reader few."""
ELLE_SHOWN_MAX: Final = 16
"""Anomalies of one kind in a verdict."""
ELLE_SEARCHES_MAX: Final = 64
"""Edges from which a shortest cycle of one kind is searched; that there is one is known before."""
ELLE_PAIRS_MAX: Final = 64
"""Transactions that read a version and wrote one nobody read, for which each other such write gets its own edge."""
LONG_FORK_PAIRS_MAX: Final = 4_000_000
"""Pairs of reads of overlapping but different keys that are compared; beyond that the verdict is unknown."""


class NodeLimits(msgspec.Struct, frozen=True):
    """The bounds of one node (`txndb start --limit NAME=VALUE`). None may be above what the protocol or a constant that
    other parts rely on allows: `CEILINGS`."""

    connections: int = CONNECTIONS_MAX
    startup_us: int = STARTUP_US
    unread_us: int = UNREAD_US
    message_bytes: int = MESSAGE_BYTES_MAX
    statement_bytes: int = STATEMENT_BYTES_MAX
    parameters: int = PARAMETERS_MAX
    prepared_statements: int = PREPARED_STATEMENTS_MAX
    transaction_bytes: int = TRANSACTION_BYTES_MAX
    transaction_locks: int = TRANSACTION_LOCKS_MAX
    lock_wait_us: int = LOCK_WAIT_US
    """0: no bound."""


CEILINGS: Final = {
    "message_bytes": MESSAGE_BYTES_MAX,
    "statement_bytes": STATEMENT_BYTES_MAX,
    "parameters": PARAMETERS_MAX,
    "transaction_bytes": TRANSACTION_BYTES_MAX,
}
