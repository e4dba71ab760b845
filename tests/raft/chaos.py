"""A seeded storm around one Raft group, and what must hold through it.

Messages are lost, doubled, delayed out of order and cut off one way; disks take their time; members crash and lose what
was not persisted; logs are compacted, leadership moves, voters come and go, groups fall asleep. One seed, one story.

Checked after every event, by the figure 3 of the Raft paper:
1. Election safety: at most one leader a term.
2. Leader completeness: a leader's log holds every entry applied anywhere in an earlier term.
3. State machine safety: one entry per index, whoever applies it – with log matching of all logs at the end.
4. Linearizable reads: a read index covers every write acknowledged before the read began, and so does what a
   leaseholder has committed while its lease lasts.
5. Leases: one holder at a time, though clocks run at different rates.
After the storm everything is healed and a write must come through, and all members end alike.
"""

from __future__ import annotations

import random

from tests.raft.cluster import Cluster, Member
from txndb.errors import TxndbError
from txndb.ids import ReplicaId
from txndb.raft import Config, Entry, Message, Options, Ready, Role

LATENCY_MAX_US = 30_000


class Violation(AssertionError):
    """A property of Raft does not hold."""


class ChaosCluster(Cluster):
    """A cluster that keeps the history needed to judge it."""

    def __init__(self, seed: int, size: int, canaries: frozenset[str], turmoil: bool) -> None:
        self.turmoil = turmoil
        self.loss = 0.2 if turmoil else 0.05
        self.late = 0.2 if turmoil else 0.03
        self.rng = random.Random(seed)
        self.size = size
        self.term_leaders: dict[int, int] = {}
        self.applied: dict[int, Entry] = {}
        """index -> the entry that was applied there first."""
        self.acknowledged_index = 0
        """The highest index whose write a client was told of."""
        self.reads: dict[bytes, int] = {}
        """context -> what was acknowledged when the read began."""
        self.reads_answered = 0
        self.leases_checked = 0
        self.counter = 0
        self.due: list[tuple[int, int, Message]] = []
        self.clocks = {
            number: (self.rng.randint(950, 1050), self.rng.randrange(10**9)) for number in range(1, size + 1)
        }
        """Each member's clock: its rate in per mille, its offset. Rates differ by what `lease_drift_percent` covers."""
        super().__init__(
            range(1, size + 1),
            lambda replica: Options(
                replica,
                canaries=canaries,
                append_bytes_max=1 if turmoil else 40,
                inflight_appends_max=1 if turmoil else 4,
                inflight_bytes_max=60,
                election_max_us=520_000 if turmoil else 1_000_000,
            ),
            lambda replica: random.Random(seed * 31 + replica).randrange,
        )

    def clock_us(self, number: int) -> int:
        rate, offset_us = self.clocks[number]
        return self.now_us * rate // 1000 + offset_us

    def due_us(self, member: Member) -> int:
        """When the member's deadline comes, by the time of the storm."""
        rate, offset_us = self.clocks[member.id]
        return (member.up.deadline_us - offset_us) * 1000 // rate + 1

    # -- the network -------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        roll = self.rng.random()
        if roll < self.loss:
            return
        for _ in range(2 if roll > 0.97 else 1):
            delay_us = self.rng.randrange(LATENCY_MAX_US)
            if self.rng.random() < self.late:
                delay_us *= 40
            self.counter += 1
            self.due.append((self.now_us + delay_us, self.counter, message))

    def on_snapshot_wanted(self, leader: Member, replica: ReplicaId) -> None:
        if self.rng.random() < 0.3:
            leader.up.report_snapshot(replica, False, 0)
        else:
            self.send_snapshot(leader, replica)

    # -- the judge ---------------------------------------------------------------------------------------------------

    def on_ready(self, member: Member, ready: Ready) -> None:
        for state in ready.read_states:
            began = self.reads.pop(state.context)
            if state.index:
                self.reads_answered += 1
                if state.index < began:
                    raise Violation(f"read index {state.index} misses the acknowledged {began}")

    def on_applied(self, member: Member, entry: Entry) -> None:
        first = self.applied.setdefault(entry.index, entry)
        if first != entry:
            raise Violation(f"member {member.id} applied {entry}, another one {first}")
        if member.raft is not None and member.raft.role is Role.LEADER:
            self.acknowledged_index = max(self.acknowledged_index, entry.index)

    def judge(self) -> None:
        holders = 0
        for member in self.leaders():
            raft = member.up
            term = raft.term
            if self.term_leaders.setdefault(term, member.id) != member.id:
                raise Violation(f"term {term} has leaders {self.term_leaders[term]} and {member.id}")
            if raft.lease_until_us > member.now_us:
                self.leases_checked += 1
                holders += 1
                if holders > 1:
                    raise Violation(f"member {member.id} and another one hold leases")
                if raft.commit < self.acknowledged_index:
                    raise Violation(
                        f"leaseholder {member.id} is at {raft.commit}, {self.acknowledged_index} was acknowledged"
                    )

    def judge_new_leader(self, member: Member) -> None:
        raft = member.up
        log = member.log
        for index, entry in self.applied.items():
            if entry.term >= raft.term or index < log.first_index():
                continue
            if raft.last_index < index or raft._term_at(index) != entry.term:
                raise Violation(f"leader {member.id} of term {raft.term} lacks the committed {entry}")

    def judge_logs(self) -> None:
        """Log matching: where two logs agree on a term at an index, they agree on everything before it."""
        logs = [m.log for m in self.members.values()]
        for one in logs:
            for other in logs:
                low = max(one.first_index(), other.first_index())
                high = min(one.last_index(), other.last_index())
                agreed = False
                for index in range(high, low - 1, -1):
                    same = one.term(index) == other.term(index)
                    if agreed and not same:
                        raise Violation(f"logs differ at {index} and agree after it")
                    agreed = agreed or same

    # -- the storm ---------------------------------------------------------------------------------------------------

    def next_event_us(self) -> int:
        times = [at for at, _, _ in self.due]
        times += [self.due_us(m) for m in self.members.values() if m.raft is not None]
        return min(times, default=self.now_us + 1000)

    def step_time(self) -> None:
        """Go to the next instant at which something is due, and do it."""
        stride_us = 10_000 if self.turmoil else 0
        self.now_us = max(self.now_us + stride_us, min(self.next_event_us(), self.now_us + 20_000))
        ripe = sorted(item for item in self.due if item[0] <= self.now_us)
        if ripe:
            self.due = [item for item in self.due if item[0] > self.now_us]
            for _, _, message in ripe:
                self.hand_over(message)
        for member in list(self.members.values()):
            if member.raft is not None and member.raft.deadline_us <= member.now_us:
                member.raft.tick(member.now_us)
                member.raft.validate()
        self.work_disks()

    def hand_over(self, message: Message) -> None:
        member = self.members.get(message.to)
        if member is None or member.raft is None or (message.sender, message.to) in self.cut:
            return
        was_leader = member.raft.role is Role.LEADER
        member.raft.step(message, member.now_us)
        member.raft.validate()
        if member.raft.role is Role.LEADER and not was_leader:
            self.judge_new_leader(member)
        self.judge()

    def work_disks(self, slow: float = 0.3) -> None:
        """Begin and finish Readies; a slow disk keeps one outstanding while other inputs come."""
        for member in list(self.members.values()):
            if member.raft is None:
                continue
            while member.take() is not None and self.rng.random() >= slow:
                member.finish()
            self.judge()

    def disturb(self) -> None:
        """One random misfortune or request."""
        rng = self.rng
        members = list(self.members.values())
        member = rng.choice(members)
        action = rng.choices(
            (
                self.write,
                self.read,
                self.crash_or_restart,
                self.cut_or_heal,
                self.maintain,
                self.change,
                self.power_cycle,
                self.depose,
            ),
            (8, 0, 0, 1, 0, 0, 8, 4) if self.turmoil else (10, 5, 2, 2, 2, 1, 0, 0),
        )[0]
        action(member)

    def write(self, member: Member) -> None:
        for leader in self.leaders():
            self.counter += 1
            self.attempt(lambda to=leader: to.up.propose(b"w%d" % self.counter, to.now_us))

    def read(self, member: Member) -> None:
        for leader in self.leaders():
            self.counter += 1
            context = b"r%d" % self.counter
            if self.attempt(lambda to=leader, name=context: to.up.read_index(name, to.now_us)):
                self.reads[context] = self.acknowledged_index

    def crash_or_restart(self, member: Member) -> None:
        if member.raft is None:
            member.restart()
        elif sum(m.raft is None for m in self.members.values()) < self.size or self.rng.random() < 0.3:
            member.crash()

    def power_cycle(self, member: Member) -> None:
        if member.raft is not None:
            member.crash()
        member.restart()

    def depose(self, member: Member) -> None:
        for leader in self.leaders():
            self.attempt(lambda to=leader: to.up.transfer(member.id, to.now_us))

    def cut_or_heal(self, member: Member) -> None:
        kind = self.rng.randrange(4)
        if kind == 0:
            self.heal()
        elif kind == 1:
            self.isolate(member.id)
        else:
            other = self.rng.choice(list(self.members))
            self.cut.add((member.id, other))

    def maintain(self, member: Member) -> None:
        raft = member.raft
        if raft is None:
            return
        kind = self.rng.randrange(4)
        if kind == 0 and member.outstanding is None and member.image.index >= member.log.first_index():
            if raft._restoring is None:
                member.compact(self.rng.randint(member.log.first_index(), member.image.index))
        elif kind == 1:
            raft.quiesce()
        elif kind == 2:
            raft.unquiesce(member.now_us)
        else:
            target = ReplicaId(self.rng.randint(1, self.size))
            self.attempt(lambda: raft.transfer(target, member.now_us))

    def change(self, member: Member) -> None:
        for leader in self.leaders():
            voters = set(leader.up.config.voters)
            voters ^= {ReplicaId(self.rng.randint(1, self.size))}
            if voters:
                config = Config(tuple(sorted(voters)))
                self.attempt(lambda to=leader, new=config: to.up.propose_config(new, to.now_us))

    def attempt(self, call: object) -> bool:
        """Make a request that a machine may refuse."""
        assert callable(call)
        try:
            call()
        except TxndbError:
            return False
        return True

    def finish_well(self) -> None:
        """Heal everything; a write must come through and all members of the group end alike."""
        self.heal()
        self.loss = self.late = 0.0
        for member in self.members.values():
            if member.raft is None:
                member.restart()
        end_us = self.now_us + 10_000_000
        marker = b"final"
        while self.now_us < end_us:
            for leader in self.leaders():
                if not any(data == marker for _, data in leader.image.data):
                    self.attempt(lambda to=leader: to.up.propose(marker, to.now_us))
            self.step_time()
            self.judge()
            for member in self.members.values():
                if member.raft is not None:
                    member.raft.unquiesce(member.now_us)
            if self.is_finished(marker):
                return
        raise Violation(f"no progress: {[m.up.status() for m in self.members.values()]}")

    def is_finished(self, marker: bytes) -> bool:
        leaders = [m for m in self.leaders() if any(data == marker for _, data in m.image.data)]
        if not leaders:
            return False
        leader = max(leaders, key=lambda m: m.up.term)
        group = [self.members[voter] for voter in leader.up.config.voters]
        return all(m.image.index == leader.image.index and m.image.data == leader.image.data for m in group)


def run_chaos(
    seed: int,
    size: int = 0,
    events: int = 250,
    canaries: frozenset[str] = frozenset(),
    turmoil: bool = False,
) -> ChaosCluster:
    """One story; raises `Violation` (or an assert of a machine) when something does not hold.

    `turmoil` is for elections: candidates collide, messages are late by more than an election, crashes are frequent,
    and entries travel one by one.
    """
    size = size or (1, 2, 3, 3, 3, 4, 5, 5)[seed % 8]
    cluster = ChaosCluster(seed, size, canaries, turmoil)
    rate = cluster.rng.choice((0.05, 0.15, 0.4))
    for _ in range(events):
        cluster.step_time()
        cluster.judge()
        if cluster.rng.random() < rate:
            cluster.disturb()
            cluster.judge()
    cluster.judge_logs()
    cluster.finish_well()
    cluster.judge_logs()
    return cluster
