"""The ground of the Raft machine: term, vote, role, log bookkeeping and configurations, with their transitions.

References: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), figure 2; Ongaro's
dissertation (2014), §4.1 for configurations in force as soon as they are in the log.

    first_index - 1 <= applied <= handed <= commit <= last_index;  stable <= last_index
    [ durable in the LogView ... | in the LogView, not durable | buffered in `_unstable`, not in the LogView yet ]

Entries are buffered and given to the `LogView` at the next `ready()` or the first slow-path read, so proposals between
two Readies cost one call. Invariants: see `RaftState.validate_state`. The layers above (`lease`, `replication`,
`election`, `core`) add the protocol; nothing here sends a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from txndb.errors import CorruptionError, InternalError
from txndb.ids import ReplicaId
from txndb.raft.progress import Progress
from txndb.raft.types import (
    KIND_CONFIG,
    NEVER_US,
    NO_REPLICA,
    Config,
    Entry,
    HardState,
    LogView,
    Message,
    Options,
    ReadState,
    Role,
    Snapshot,
)

MESSAGES_MAX = 4096
"""Queued answers; beyond it they are dropped, as a network may."""


class RaftState:
    """Fields and the transitions that every layer uses."""

    def __init__(
        self,
        options: Options,
        log: LogView,
        hard_state: HardState,
        config: Config,
        applied: int,
        now_us: int,
        randrange: Callable[[int], int],
        newborn: bool,
    ) -> None:
        self.options = options
        self.id = options.replica
        self.log = log
        self._randrange = randrange
        self._now_us = now_us
        self._init_log(hard_state, applied)
        self._init_configs(config)
        self.vote = hard_state.vote if self.term == hard_state.term else NO_REPLICA
        self._persisted = (hard_state.term, hard_state.vote)
        self.role = Role.FOLLOWER
        self.leader = NO_REPLICA
        self._quiesced = False
        self._malformed_count = 0
        # Timers are values: the instants at which something is due.
        self._election_timeout_us = 0
        self._election_us = 0
        self._reset_election_timer()
        # L3: whoever may have acknowledged a leader before the restart keeps its promise. Term 0 never answered anyone.
        silent = newborn or hard_state.term == 0
        self._loyal_until_us = now_us if silent else now_us + options.election_min_us
        self._init_volatile(now_us)

    def _init_log(self, hard_state: HardState, applied: int) -> None:
        log = self.log
        self.last_index = last = log.last_index()
        self._last_term = log.term(last)
        self.term = max(hard_state.term, self._last_term)
        self.commit = max(hard_state.commit, applied)
        if not log.first_index() - 1 <= applied <= self.commit <= last:
            raise CorruptionError(
                f"replica {self.id}: truncated {log.first_index() - 1} <= applied {applied} <= commit {self.commit} "
                f"<= last {last} does not hold"
            )
        self.applied = applied
        self._handed = applied
        self.stable = last
        self._unstable: list[Entry] = []
        """Appended since the last Ready; contiguous, ends at last_index."""
        self._synced_count = 0
        """How many of them the LogView has."""
        self._persisting_index = 0
        """The highest index that the outstanding Ready makes durable and that was not replaced meanwhile."""
        self._restoring: Snapshot | None = None
        """A snapshot that the driver has not installed yet; the LogView is not to be read meanwhile."""
        self._restore_handed = False

    def _init_configs(self, config: Config) -> None:
        """The configurations in the log: (index, config); the first is the latest known committed one."""
        self._configs: list[tuple[int, Config]] = [(self.applied, config)]
        lo = self.applied + 1
        while lo <= self.last_index:
            entries = self.log.entries(lo, self.last_index + 1, self.options.append_bytes_max)
            if not entries:
                raise CorruptionError(f"replica {self.id}: entry {lo} is missing from the log")
            self._note_configs(entries)
            lo = entries[-1].index + 1
        self.config = self._configs[-1][1]
        self._prune_configs()

    def _init_volatile(self, now_us: int) -> None:
        self._messages: list[Message] = []
        self._read_states: list[ReadState] = []
        self._snapshots_wanted: list[ReplicaId] = []
        self._ack: tuple[ReplicaId, int, int] | None = None
        """The newest acceptance to send: (leader, index, sent_us). A later one says all that an earlier one does."""
        self._heartbeat_ack: tuple[ReplicaId, int, int] | None = None
        """The newest heartbeat to answer: (leader, sent_us, context)."""
        self._votes: dict[ReplicaId, bool] = {}
        # Leader only.
        self._progress: dict[ReplicaId, Progress] = {}
        self._peers: list[Progress] = []
        self._votes_self = False
        """Whether this replica is itself a voter of the configuration in force."""
        self._term_start = 0
        """The index of the own term's no-op."""
        self._uncommitted_bytes = 0
        self._sends_due = False
        self._heartbeat_due = False
        self._heartbeat_us = NEVER_US
        self._commit_notice_us = NEVER_US
        self._transfer_to = NO_REPLICA
        self._transfer_payload: Callable[[], bytes] = bytes
        self._transfer_us = NEVER_US
        self._lease_lost = False
        """L4: TimeoutNow was sent in this term."""
        self._lease_floor_us = now_us
        """Acknowledgements of earlier sends do not count for the lease."""
        self._lease_us: int | None = None
        """The cached quorum's send time."""
        self._reads_waiting: list[bytes] = []
        """Read-index requests before the own term's no-op is committed."""
        self._reads: list[tuple[int, ReadState]] = []
        """(round, answer), rounds ascending."""
        self._round = 0
        self._round_open = False
        """The round was not sent yet, so requests may still join it."""

    # -- log ---------------------------------------------------------------------------------------------------------

    def _sync_log(self) -> None:
        """Give the buffered entries to the LogView."""
        count = self._synced_count
        unstable = self._unstable
        if count < len(unstable):
            self.log.append(unstable[count:] if count else unstable)
            self._synced_count = len(unstable)

    def _term_at(self, index: int) -> int:
        """The term of an index between the truncation point and the last one."""
        if index == self.last_index:
            return self._last_term
        self._sync_log()
        return self.log.term(index)

    def _extend(self, entries: Sequence[Entry]) -> None:
        """Buffer entries that follow the last index."""
        for entry in entries:
            if entry.kind == KIND_CONFIG:
                self._note_configs((entry,))
                self._on_config_changed()
        self._unstable.extend(entries)
        last = entries[-1]
        self.last_index = last.index
        self._last_term = last.term

    def _truncate(self, index: int) -> None:
        """Forget `index` and everything after it; entries that replace it must follow at once."""
        keep = len(self._unstable) - (self.last_index - index + 1)
        if keep < 0:
            keep = 0
        del self._unstable[keep:]
        self._synced_count = min(self._synced_count, keep)
        self.last_index = index - 1
        self.stable = min(self.stable, index - 1)
        self._persisting_index = min(self._persisting_index, index - 1)
        if self._configs[-1][0] >= index:
            while self._configs[-1][0] >= index:
                self._configs.pop()
            self._on_config_changed()

    def _find_match(self, index: int, term: int) -> int:
        """The highest held index <= `index` whose term is <= `term`; terms ascend, so by halving."""
        self._sync_log()
        low = self.log.first_index() - 1
        high = min(index, self.last_index)
        if high < low:
            return 0
        while low < high:
            middle = (low + high + 1) >> 1
            if self._term_at(middle) <= term:
                low = middle
            else:
                high = middle - 1
        return low

    # -- configurations ----------------------------------------------------------------------------------------------

    def _note_configs(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind == KIND_CONFIG:
                self._configs.append((entry.index, Config.decode(entry.data)))

    def _on_config_changed(self) -> None:
        """The last configuration in the log is in force (dissertation §4.1); a leader adapts its peers."""
        self.config = self._configs[-1][1]
        if self.role is Role.LEADER:
            self._adapt_peers()

    def _adapt_peers(self) -> None:
        old = self._progress
        self._progress = {
            voter: old.get(voter) or Progress(voter, self.last_index + 1, self._now_us)
            for voter in self.config.voters
            if voter != self.id
        }
        self._peers = list(self._progress.values())
        self._votes_self = self.id in self.config.voters
        self._lease_us = None
        if self._reads:
            self._heartbeat_due = True  # a smaller majority may suffice now

    def _prune_configs(self) -> None:
        """Drop configurations that a committed later one replaced."""
        configs = self._configs
        while len(configs) > 1 and configs[1][0] <= self.commit:
            del configs[0]

    # -- roles -------------------------------------------------------------------------------------------------------

    def _reset_election_timer(self) -> None:
        options = self.options
        spread = options.election_max_us - options.election_min_us
        self._election_timeout_us = options.election_min_us + (self._randrange(spread) if spread > 0 else 0)
        self._election_us = self._now_us + self._election_timeout_us

    def _may_campaign(self) -> bool:
        """A replica that an uncommitted configuration removes still stands: nobody else may have its entries.

        Its own vote does not count then (dissertation §4.2.2, figure 4.6).
        """
        return self._restoring is None and any(self.id in config.voters for _, config in self._configs)

    def _become_follower(self, term: int, leader: ReplicaId) -> None:
        """Follow `leader` (0: nobody known) in `term`, which is never below the own one."""
        if term > self.term:
            self.term = term
            self.vote = NO_REPLICA
            self._ack = None
            self._heartbeat_ack = None
        if self.role is Role.LEADER:
            self._resign()
        self.role = Role.FOLLOWER
        self.leader = leader
        self._quiesced = False
        self._reset_election_timer()

    def _resign(self) -> None:
        """What only a leader has ends with its leadership; those who wait for a read index are answered."""
        self._progress = {}
        self._peers = []
        self._sends_due = False
        self._heartbeat_due = False
        self._heartbeat_us = NEVER_US
        self._commit_notice_us = NEVER_US
        self._transfer_to = NO_REPLICA
        self._transfer_payload = bytes
        self._transfer_us = NEVER_US
        self._lease_us = None
        self._uncommitted_bytes = 0
        self._snapshots_wanted = []
        self._read_states += [ReadState(context, 0) for context in self._reads_waiting]
        self._read_states += [ReadState(state.context, 0) for _, state in self._reads]
        self._reads_waiting = []
        self._reads = []

    def _send(self, message: Message) -> None:
        if len(self._messages) < MESSAGES_MAX:
            self._messages.append(message)

    def _malformed(self) -> None:
        """A peer said what no correct peer says: ignored, counted, never an assert."""
        self._malformed_count += 1

    # -- invariants --------------------------------------------------------------------------------------------------

    def validate_state(self) -> None:
        """Assert the invariants of this layer."""
        if self._restoring is None:
            assert self.log.first_index() - 1 <= self._handed, (
                "1: the log is truncated only below what was handed out"
            )
        assert self.applied <= self._handed <= self.commit <= self.last_index, (
            "2: applied <= handed <= commit <= last"
        )
        assert self.stable <= self.last_index and self._persisting_index <= self.last_index, (
            "3: stable <= last"
        )
        assert self._last_term <= self.term, "4: no entry is of a later term than the replica's"
        assert self.term >= self._persisted[0], "5: the term never falls"
        unstable = self._unstable
        if unstable:
            assert unstable[-1].index == self.last_index, "6: the buffer ends the log"
            assert len(unstable) == self.last_index - unstable[0].index + 1, "6: and is contiguous"
            terms = [entry.term for entry in unstable]
            assert terms == sorted(terms), "6: with ascending terms"
        indexes = [index for index, _ in self._configs]
        assert indexes == sorted(set(indexes)) and indexes[-1] <= self.last_index, "7: configurations ascend"
        assert len(indexes) == 1 or indexes[1] > self.commit, "7: all but the first are uncommitted"
        assert self.config is self._configs[-1][1], "8: the last configuration in the log is in force"

    def _handed_entries(self) -> Sequence[Entry]:
        """The next committed entries for the driver to apply."""
        if self._handed == self.commit or self._restoring is not None:
            return ()
        entries = self.log.entries(self._handed + 1, self.commit + 1, self.options.apply_bytes_max)
        if not entries or entries[0].index != self._handed + 1:
            raise InternalError(f"replica {self.id}: committed entry {self._handed + 1} is not in the log")
        return entries
