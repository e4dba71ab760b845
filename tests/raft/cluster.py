"""A Raft group in one thread, for tests: real machines, a log that loses what was not persisted, a network as a list.

`Member` drives one machine exactly as the core's docstring tells a driver to; `Cluster` holds the members, the
messages under way and virtual time. Chance comes from what the test gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from txndb.ids import ReplicaId
from txndb.raft import (
    KIND_CONFIG,
    Config,
    Entry,
    HardState,
    Message,
    Options,
    Raft,
    Ready,
    Role,
    SnapshotMessage,
    decode_message,
    encode_message,
)


class MemoryLog:
    """A `LogView` whose durable part is what `persist` copied last."""

    def __init__(self) -> None:
        self.point = (0, 0)
        """Truncation point: index and term."""
        self.items: list[Entry] = []

    def first_index(self) -> int:
        return self.point[0] + 1

    def last_index(self) -> int:
        return self.point[0] + len(self.items)

    def term(self, index: int) -> int:
        if index == self.point[0]:
            return self.point[1]
        assert index > self.point[0], f"term({index}) below the truncation point {self.point[0]}"
        return self.items[index - self.point[0] - 1].term

    def entries(self, lo: int, hi: int, bytes_max: int) -> Sequence[Entry]:
        assert self.first_index() <= lo < hi <= self.last_index() + 1, f"entries({lo}, {hi})"
        found: list[Entry] = []
        size = 0
        for entry in self.items[lo - self.point[0] - 1 : hi - self.point[0] - 1]:
            size += len(entry.data)
            if found and size > bytes_max:
                break
            found.append(entry)
        return found

    def append(self, entries: Sequence[Entry]) -> None:
        position = entries[0].index - self.point[0] - 1
        assert 0 <= position <= len(self.items), "a gap in the log"
        self.items[position:] = entries

    def truncate(self, index: int) -> None:
        """Drop everything up to `index` from the front."""
        term = self.term(index)
        del self.items[: index - self.point[0]]
        self.point = (index, term)

    def reset(self, index: int, term: int) -> None:
        self.point = (index, term)
        self.items = []

    def copy(self) -> MemoryLog:
        other = MemoryLog()
        other.point = self.point
        other.items = list(self.items)
        return other


class Image:
    """The state machine: every entry applied, and the configuration in force there."""

    def __init__(self, config: Config) -> None:
        self.index = 0
        self.term = 0
        self.config = config
        self.data: list[tuple[int, bytes]] = []

    def apply(self, entry: Entry) -> None:
        assert entry.index == self.index + 1, f"applied {entry.index} after {self.index}"
        self.index, self.term = entry.index, entry.term
        if entry.kind == KIND_CONFIG:
            self.config = Config.decode(entry.data)
        elif entry.data:
            self.data.append((entry.index, entry.data))

    def copy(self) -> Image:
        other = Image(self.config)
        other.index, other.term, other.data = self.index, self.term, list(self.data)
        return other


class Member:
    """One replica and its driver."""

    def __init__(
        self, options: Options, config: Config, randrange: Callable[[int], int], cluster: Cluster
    ) -> None:
        self.options = options
        self.randrange = randrange
        self.cluster = cluster
        self.durable_log = MemoryLog()
        self.durable_hard = HardState()
        self.base = Image(config)
        """The state at the durable truncation point; what follows is replayed at a restart."""
        self.raft: Raft | None = None
        self.outstanding: Ready | None = None
        self.held = False
        self.restart()

    @property
    def id(self) -> ReplicaId:
        return self.options.replica

    @property
    def now_us(self) -> int:
        """This member's own clock."""
        return self.cluster.clock_us(self.id)

    @property
    def up(self) -> Raft:
        assert self.raft is not None, f"member {self.id} is down"
        return self.raft

    def restart(self) -> None:
        """Come up with what was durable."""
        self.log = self.durable_log.copy()
        self.image = self.base.copy()
        self.outstanding = None
        self.held = False
        self.raft = Raft(
            self.options,
            self.log,
            self.durable_hard,
            self.image.config,
            self.image.index,
            self.now_us,
            self.randrange,
        )
        self.raft.validate()

    def crash(self) -> None:
        """Lose what was not persisted."""
        self.raft = None
        self.outstanding = None

    def take(self) -> Ready | None:
        """Begin a Ready, if there is one: from here to `finish` the disk is at work."""
        raft = self.up
        if self.outstanding is None and raft.has_ready():
            self.outstanding = raft.ready()
        return self.outstanding

    def finish(self) -> None:
        """Persist the outstanding Ready, then send, apply, answer, advance."""
        ready, raft = self.outstanding, self.up
        assert ready is not None
        self.outstanding = None
        if ready.must_persist:
            self._persist(ready)
        self.cluster.on_ready(self, ready)
        for message in ready.messages:
            self.cluster.send(message)
        for entry in ready.committed:
            self.image.apply(entry)
            self.cluster.on_applied(self, entry)
        raft.advance(ready.number)
        raft.validate()
        for replica in ready.snapshots_wanted:
            self.cluster.on_snapshot_wanted(self, replica)

    def _persist(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            image = self.cluster.received.pop((self.id, ready.snapshot.index))
            self.image, self.base = image.copy(), image.copy()
            self.log.reset(ready.snapshot.index, ready.snapshot.term)
        if ready.hard_state is not None:
            self.durable_hard = ready.hard_state
        self.durable_log = self.log.copy()
        if ready.entries:
            # The view may hold entries of a later Ready already; durable is what this one covers, and before.
            last = ready.entries[-1]
            if self.durable_log.last_index() > last.index >= self.durable_log.first_index():
                if self.durable_log.term(last.index) == last.term:
                    del self.durable_log.items[last.index - self.durable_log.point[0] :]

    def compact(self, index: int) -> None:
        """Truncate the log below what is applied, as a driver does after its engine synced."""
        assert self.log.first_index() <= index <= self.image.index
        base = self.base
        for entry in self.log.entries(base.index + 1, index + 1, 1 << 60):
            base.apply(entry)
        self.log.truncate(index)
        if self.durable_log.last_index() < index:
            self.durable_log.reset(index, base.term)
        else:
            self.durable_log.truncate(index)


class Cluster:
    """Members, messages under way and time."""

    def __init__(
        self,
        ids: Sequence[int],
        make_options: Callable[[ReplicaId], Options],
        make_randrange: Callable[[ReplicaId], Callable[[int], int]],
        voters: Sequence[int] | None = None,
    ) -> None:
        self.now_us = 0
        self.network: list[Message] = []
        self.cut: set[tuple[int, int]] = set()
        """(sender, receiver) pairs whose messages are lost."""
        self.received: dict[tuple[int, int], Image] = {}
        """Snapshots that arrived at (member, index) and are not installed yet."""
        self.members: dict[int, Member] = {}
        self.make_options = make_options
        self.make_randrange = make_randrange
        config = Config(tuple(ReplicaId(i) for i in (ids if voters is None else voters)))
        for number in ids:
            self.add(number, config)

    def add(self, number: int, config: Config) -> Member:
        """Create a replica; one that is to join an existing group starts with an empty configuration."""
        replica = ReplicaId(number)
        member = Member(self.make_options(replica), config, self.make_randrange(replica), self)
        self.members[number] = member
        return member

    def clock_us(self, number: int) -> int:
        """A member's clock; all go alike unless a test says otherwise."""
        return self.now_us

    # -- what members report -----------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        self.network.append(decode_message(encode_message(message)))

    def on_ready(self, member: Member, ready: Ready) -> None:
        """A Ready became durable."""

    def on_applied(self, member: Member, entry: Entry) -> None:
        """A member applied an entry."""

    def on_snapshot_wanted(self, leader: Member, replica: ReplicaId) -> None:
        """By default a snapshot is sent at once and never lost."""
        self.send_snapshot(leader, replica)

    def send_snapshot(self, leader: Member, replica: ReplicaId) -> None:
        """Bring the leader's applied state to `replica` out of band, then step the message, then report."""
        target = self.members.get(replica)
        image = leader.image.copy()
        if target is None or target.raft is None or (leader.id, replica) in self.cut:
            leader.up.report_snapshot(replica, False, 0)
            return
        self.received[replica, image.index] = image
        target.up.step(
            SnapshotMessage(replica, leader.id, leader.up.term, image.index, image.term, image.config),
            target.now_us,
        )
        target.up.validate()
        leader.up.report_snapshot(replica, True, image.index)

    # -- moving on ---------------------------------------------------------------------------------------------------

    def pump(self, member: Member) -> None:
        """Finish every Ready of a member."""
        while not member.held and member.raft is not None and member.take() is not None:
            member.finish()

    def pump_all(self) -> None:
        for member in list(self.members.values()):
            self.pump(member)

    def deliver(self, message: Message) -> None:
        """Hand one message over, unless its way is cut or its receiver down."""
        member = self.members.get(message.to)
        if member is None or member.raft is None or (message.sender, message.to) in self.cut:
            return
        member.raft.step(message, member.now_us)
        member.raft.validate()
        self.pump(member)

    def settle(self) -> None:
        """Deliver everything in order until nothing moves."""
        self.pump_all()
        while self.network:
            self.deliver(self.network.pop(0))
            self.pump_all()

    def advance_to(self, now_us: int, settle: bool = True) -> None:
        """Let time pass to `now_us`, ticking each member at its deadline and delivering without delay."""
        while True:
            due = min(
                (m.raft.deadline_us for m in self.members.values() if m.raft is not None), default=now_us
            )
            self.now_us = max(self.now_us, min(due, now_us))
            for member in list(self.members.values()):
                if member.raft is not None and member.raft.deadline_us <= self.now_us:
                    member.raft.tick(self.now_us)
                    member.raft.validate()
            if settle:
                self.settle()
            else:
                self.pump_all()
            if due > now_us or self.now_us >= now_us:
                self.now_us = now_us
                return

    def leaders(self) -> list[Member]:
        """Those that lead now, by id."""
        return [
            m for _, m in sorted(self.members.items()) if m.raft is not None and m.raft.role is Role.LEADER
        ]

    def isolate(self, number: int) -> None:
        """Cut a member off in both directions."""
        for other in self.members:
            if other != number:
                self.cut |= {(number, other), (other, number)}

    def heal(self) -> None:
        self.cut.clear()
