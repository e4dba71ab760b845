"""The commands of Raft's golden scripts (`tests/golden/raft`), on a group whose election timeouts are known.

Member n's timeout is 500 + 100 * (n - 1) ms, messages arrive in the order sent, and nothing moves by itself:

    group 1 2 3 [voters=1,2] [append=BYTES] [inflight=N] [window=BYTES] [uncommitted=BYTES] [beats=yes]       begin
    join 4                     a replica without a configuration
    settle                     deliver everything until nothing moves
    deliver [FROM>TO …]        deliver what is under way now (of these pairs), once; Readies are done, answers wait
    drop [FROM>TO …]           lose what is under way (of these pairs)
    time MS [quiet]            let MS pass; deadlines are met, messages delivered at once ("quiet": they wait)
    campaign N | propose N DATA… | transfer N TO | config N VOTERS | read N CONTEXT | quiesce N | unquiesce N
    snapshots fail|ok          whether snapshots arrive from now on
    isolate N | cut FROM>TO | heal | crash N | restart N | compact N INDEX
    hold N | release N         N's disk stalls: its Readies are begun and not finished
    status [N …] | log [N …] | lease N | peers N

The trace: `1>2 …` a message when it is sent, `2: …` what a Ready said. Every command ends with `validate()`.
Heartbeats and their answers are traced with beats=yes only.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.goldenlib import Command
from tests.raft.cluster import Cluster, Member
from txndb.errors import InternalError
from txndb.ids import ReplicaId
from txndb.raft import (
    KIND_CONFIG,
    NEVER_US,
    Append,
    AppendResponse,
    Config,
    Entry,
    Heartbeat,
    HeartbeatResponse,
    Message,
    Options,
    PreVote,
    PreVoteResponse,
    Ready,
    Vote,
    VoteResponse,
)


def format_entry(entry: Entry) -> str:
    """index/term and what the entry holds."""
    if entry.kind == KIND_CONFIG:
        text = "config " + ",".join(map(str, Config.decode(entry.data).voters))
    else:
        text = entry.data.decode() or "-"
    return f"{entry.index}/{entry.term} {text}"


def format_entries(entries: Sequence[Entry]) -> str:
    return "[" + ", ".join(format_entry(entry) for entry in entries) + "]"


def format_message(message: Message) -> str:
    """One line for a message; send times are left out, they would tell nothing but the time."""
    head = f"{message.sender}>{message.to} {type(message).__name__} t{message.term}"
    match message:
        case PreVote() | Vote():
            forced = " forced" if isinstance(message, Vote) and message.forced else ""
            return f"{head} last={message.last_index}/{message.last_term}{forced}"
        case PreVoteResponse() | VoteResponse():
            return f"{head} {'granted' if message.granted else 'refused'}"
        case Append():
            entries = format_entries(message.entries)
            return f"{head} prev={message.prev_index}/{message.prev_term} {entries} commit={message.commit}"
        case AppendResponse(rejected=True):
            return f"{head} rejected={message.index} hint={message.hint_index}/{message.hint_term}"
        case AppendResponse():
            return f"{head} match={message.index}"
        case Heartbeat():
            quiesce = " quiesce" if message.quiesce else ""
            return f"{head} commit={message.commit} round={message.context}{quiesce}"
        case HeartbeatResponse():
            return f"{head} round={message.context}"
        case _:
            return head


class TracingCluster(Cluster):
    """Writes down what is sent and what each Ready says."""

    trace: list[str]
    beats = False
    snapshots_fail = False

    def send(self, message: Message) -> None:
        if self.beats or not isinstance(message, Heartbeat | HeartbeatResponse):
            self.trace.append(format_message(message))
        super().send(message)

    def on_snapshot_wanted(self, leader: Member, replica: ReplicaId) -> None:
        if self.snapshots_fail:
            leader.up.report_snapshot(replica, False, 0)
        else:
            super().on_snapshot_wanted(leader, replica)

    def on_ready(self, member: Member, ready: Ready) -> None:
        line = self.trace.append
        if ready.soft_state is not None:
            soft = ready.soft_state
            line(f"{member.id}: {soft.role.name.lower()} t{soft.term} leader={soft.leader}")
        if ready.snapshot is not None:
            line(f"{member.id}: install snapshot {ready.snapshot.index}/{ready.snapshot.term}")
        if ready.entries:
            line(f"{member.id}: persist {format_entries(ready.entries)}")
        if ready.committed:
            line(f"{member.id}: apply {format_entries(ready.committed)}")
        for state in ready.read_states:
            line(f"{member.id}: read {state.context.decode()} at {state.index}")
        for replica in ready.snapshots_wanted:
            line(f"{member.id}: snapshot wanted by {replica}")


class RaftScript:
    """One script's world; `handle` is the golden runner's handler."""

    def __init__(self) -> None:
        self._cluster: TracingCluster | None = None

    @property
    def cluster(self) -> TracingCluster:
        if self._cluster is None:
            raise InternalError("no group yet")
        return self._cluster

    def handle(self, command: Command) -> str:
        if command.name == "group":
            self._group(command)
            return ""
        cluster = self.cluster
        cluster.trace = []
        method = getattr(self, f"_do_{command.name}", None)
        if method is None:
            raise InternalError(f"no command {command.name}")
        output: str | None = method(*command.args, **command.options)
        for member in cluster.members.values():
            if member.raft is not None:
                member.raft.validate()
        return output if output is not None else "\n".join(cluster.trace)

    def _group(self, command: Command) -> None:
        options = command.options
        voters = options.get("voters")

        def make_options(replica: ReplicaId) -> Options:
            return Options(
                replica,
                append_bytes_max=int(options.get("append", 1 << 20)),
                inflight_appends_max=int(options.get("inflight", 64)),
                inflight_bytes_max=int(options.get("window", 8 << 20)),
                uncommitted_bytes_max=int(options.get("uncommitted", 1 << 20)),
            )

        TracingCluster.trace = []
        self._cluster = TracingCluster(
            [int(arg) for arg in command.args],
            make_options,
            lambda replica: lambda stop: (replica - 1) * 100_000 % stop,
            [int(voter) for voter in voters.split(",")] if voters else None,
        )
        self._cluster.beats = "beats" in options

    def _member(self, number: str) -> Member:
        return self.cluster.members[int(number)]

    # -- moving ------------------------------------------------------------------------------------------------------

    def _do_settle(self) -> None:
        self.cluster.settle()

    def _split(self, pairs: tuple[str, ...]) -> list[Message]:
        """Take the messages of these pairs out of the network; all, when none is named."""
        cluster = self.cluster
        taken = [m for m in cluster.network if not pairs or f"{m.sender}>{m.to}" in pairs]
        cluster.network = [m for m in cluster.network if m not in taken]
        return taken

    def _do_deliver(self, *pairs: str) -> None:
        self.cluster.pump_all()
        for message in self._split(pairs):
            self.cluster.deliver(message)

    def _do_drop(self, *pairs: str) -> None:
        self.cluster.pump_all()
        beats = self.cluster.beats
        for message in self._split(pairs):
            if beats or not isinstance(message, Heartbeat | HeartbeatResponse):
                self.cluster.trace.append(f"lost {format_message(message)}")

    def _do_time(self, amount_ms: str, *mode: str) -> None:
        cluster = self.cluster
        cluster.advance_to(cluster.now_us + int(amount_ms) * 1000, settle=not mode)

    def _do_join(self, number: str) -> None:
        self.cluster.add(int(number), Config(()))

    # -- requests ----------------------------------------------------------------------------------------------------

    def _do_campaign(self, number: str) -> None:
        self._member(number).up.campaign(self.cluster.now_us)

    def _do_propose(self, number: str, *data: str) -> str:
        raft = self._member(number).up
        return "\n".join(f"index {raft.propose(item.encode(), self.cluster.now_us)}" for item in data)

    def _do_config(self, number: str, voters: str) -> str:
        config = Config(tuple(ReplicaId(int(voter)) for voter in voters.split(",")))
        return f"index {self._member(number).up.propose_config(config, self.cluster.now_us)}"

    def _do_transfer(self, number: str, target: str) -> None:
        self._member(number).up.transfer(ReplicaId(int(target)), self.cluster.now_us)

    def _do_read(self, number: str, context: str) -> None:
        self._member(number).up.read_index(context.encode(), self.cluster.now_us)

    def _do_quiesce(self, number: str) -> str:
        return str(self._member(number).up.quiesce())

    def _do_unquiesce(self, number: str) -> None:
        self._member(number).up.unquiesce(self.cluster.now_us)

    # -- misfortune --------------------------------------------------------------------------------------------------

    def _do_isolate(self, number: str) -> None:
        self.cluster.isolate(int(number))

    def _do_cut(self, pair: str) -> None:
        sender, _, receiver = pair.partition(">")
        self.cluster.cut.add((int(sender), int(receiver)))

    def _do_heal(self) -> None:
        self.cluster.heal()

    def _do_snapshots(self, mode: str) -> None:
        self.cluster.snapshots_fail = mode == "fail"

    def _do_crash(self, number: str) -> None:
        self._member(number).crash()

    def _do_restart(self, number: str) -> None:
        self._member(number).restart()

    def _do_compact(self, number: str, index: str) -> None:
        self._member(number).compact(int(index))

    def _do_hold(self, number: str) -> None:
        self._member(number).held = True

    def _do_release(self, number: str) -> None:
        self._member(number).held = False
        self.cluster.pump_all()

    # -- looking -----------------------------------------------------------------------------------------------------

    def _chosen(self, numbers: tuple[str, ...]) -> list[Member]:
        members = self.cluster.members
        return [members[int(n)] for n in numbers] if numbers else [m for _, m in sorted(members.items())]

    def _do_status(self, *numbers: str) -> str:
        lines = []
        for member in self._chosen(numbers):
            if member.raft is None:
                lines.append(f"{member.id}: down")
                continue
            status = member.raft.status()
            asleep = " asleep" if status.quiesced else ""
            lines.append(
                f"{member.id}: {status.role.name.lower()} t{status.term} vote={status.vote} leader={status.leader} "
                f"last={status.last_index} stable={status.stable} commit={status.commit} "
                f"voters={','.join(map(str, status.config.voters))}{asleep}"
            )
        return "\n".join(lines)

    def _do_log(self, *numbers: str) -> str:
        lines = []
        for member in self._chosen(numbers):
            point = member.log.point
            lines.append(f"{member.id}: ({point[0]}/{point[1]}) {format_entries(member.log.items)}")
        return "\n".join(lines)

    def _do_lease(self, number: str) -> str:
        until_us = self._member(number).up.lease_until_us
        return (
            "none" if until_us == 0 else f"until {until_us // 1000} ms, now {self.cluster.now_us // 1000} ms"
        )

    def _do_deadline(self, number: str) -> str:
        deadline_us = self._member(number).up.deadline_us
        return "never" if deadline_us == NEVER_US else f"{deadline_us // 1000} ms"

    def _do_peers(self, number: str) -> str:
        return "\n".join(
            f"{peer.replica}: {peer.state} match={peer.match} next={peer.next} inflight={peer.inflight_count}"
            for peer in self._member(number).up.status().peers
        )
