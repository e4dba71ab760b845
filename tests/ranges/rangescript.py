"""The commands of the leaseholder's golden scripts (`tests/golden/leaseholder`): ranges on one virtual clock.

Keys are words, range 1 begins as [a, z). Timestamps are printed in microseconds after the start, with `~` for "to the
end of that microsecond" and `+n` for a logical part. A scripted transaction NAME remembers, like a gateway, the token
it got with each span, and age=N.

    range [E=US]                           begin: range 1, led in term 6, the no-op applied
    get NAME KEY… [x] [token=none] [wait=US]    lock (exclusively) and read, waiting for at most so long
    scan NAME FROM TO [x] [limit=N] [reverse=1] [wait=US]
    snapget AT KEY…                        snapshot reads; snapscan AT FROM TO
    onephase NAME k=v|k=- … [at=N] [before=N] [after=N] [reads=no]      candidate 0, unless at=
    prepare NAME anchor=K k=v …            validate NAME at=N [K|A..B …]      default: everything read
    decide NAME anchor=K at=N K K …        (first and last key of each participant)
    resolve NAME at=N K … | recover NAME anchor=K | forget NAME anchor=K | release NAME | check NAME
    splitat KEY ID
    apply [N]                              commit and apply N (default all) of the entries proposed, as one batch
    newterm [lost=N]                       another leader on the same replicated state; the last N proposals are lost
    transfer [lost=N]                      the same by a transfer: `read_ts` and locks are handed over (L4)
    birth ID [handover=no]                 the right half's leaseholder begins; on ID: later commands are for this range
    time US                                the clock moves on, what is due happens
    lease on|off [proposals=no]            the leader lease, and whether Raft takes proposals
    drop NAME                              the gateway no longer knows the attempt (K5)
    ticks US                               from now on every reading of the clock takes so long
    early                                  the range's timer fires before its time, by a clock that is ahead
    clockerror US                          what the node knows of its own clock's error
    replicas NODE…                         propose a change of replicas
    gc AT | outcomegc NAME                 propose a collection (of attempts whose names sort before NAME)
    show | records

`#n` is a request. Every command ends with `validate()` of every machine.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tests.goldenlib import Command
from tests.ranges.lockscript import format_item, items_of, make_txn, name_of
from txndb.clock import Clock
from txndb.errors import UnavailableError
from txndb.ids import NodeId, RangeId, Timestamp, make_timestamp
from txndb.raft.types import KIND_CONFIG, KIND_NORMAL, Config, Entry
from txndb.ranges import api
from txndb.ranges.command import Command as RangeCommand
from txndb.ranges.command import GcCommand, OutcomeGcCommand, encode_command
from txndb.ranges.descriptor import RangeDescriptor, make_replica_id
from txndb.ranges.handover import decode_handover
from txndb.ranges.leaseholder import Handover, Leaseholder
from txndb.ranges.locks import LockEntry
from txndb.ranges.replica import decode_voters
from txndb.ranges.state import RangeState, birth_batch
from txndb.storage.engine import WriteBatch
from txndb.storage.memory import MemoryEngine

START_US = 1_000_000_000
STATUS = {api.COMMITTED: "committed", api.ABORTED: "aborted", api.UNKNOWN_TOO_OLD: "too old: unknown"}


class VirtualTime:
    """A `TimeSource` that moves when told to."""

    def __init__(self) -> None:
        self.now_us = START_US
        self.own_error_us = 0
        self.reading_us = 0

    def wall_us(self) -> int:
        self.now_us += self.reading_us
        return self.now_us

    def monotonic_us(self) -> int:
        return self.now_us

    def leave_host(self) -> None:
        """This clock is its own in any case."""

    def error_us(self, off_host: bool = False) -> int:
        return self.own_error_us


def stamp(at: int) -> Timestamp:
    """A timestamp from microseconds after the start; 0 stays 0."""
    return make_timestamp(START_US + at) if at else Timestamp(0)


def format_stamp(at: int) -> str:
    if not at:
        return "0"
    micros, logical = (at >> 12) - START_US, at & 4095
    return f"{micros}" + ("~" if logical == 4095 else f"+{logical}" if logical else "")


class ScriptRange:
    """One range: its state, its leaseholder of the moment, and what was proposed (the leaseholder's `Host`)."""

    def __init__(self, script: RangeScript, state: RangeState) -> None:
        self.script = script
        self.state = state
        self.term = 6
        self.log: list[RangeCommand | Config] = []
        self.appended = state.applied_index + 1  # the no-op
        self.leaseholder: Leaseholder
        self.lease = True
        self.accepts = True

    def lead(self, handover: Handover | None) -> None:
        """Become leader of the present term, its no-op applied."""
        entry = Entry(self.appended, self.term, KIND_NORMAL, b"")
        self.state.apply([entry], KIND_CONFIG, decode_voters)
        script = self.script
        self.leaseholder = Leaseholder(
            self, self.state, script.clock, self.term, lambda program: lambda value: True, script.canaries
        )
        self.handover = handover
        self.serve()

    def serve(self) -> None:
        if self.leaseholder.maybe_serve(self.handover):
            self.handover = None

    def propose(self, command: RangeCommand) -> int:
        if not self.accepts:
            raise UnavailableError("leadership is being transferred")
        self.log.append(command)
        self.script.say(f"propose {format_command(command)}")
        return self.appended + len(self.log)

    def lease_valid(self) -> bool:
        return self.lease and self.clock_trusted()

    def clock_trusted(self) -> bool:
        return self.script.clock.within_bound() or "T1" in self.script.canaries

    def answer(self, handle: Any, response: api.Response) -> None:
        self.script.on_answer(handle, response)

    def wound_notice(self, entry: LockEntry, why: api.Wounded) -> None:
        self.script.say(f"notice: {name_of(entry)} lost")

    def wake_in(self, delay_us: int) -> None:
        self.script.wake(self, delay_us)

    def leader_hint(self) -> int:
        return 0


def log_entry(index: int, term: int, proposed: RangeCommand | Config) -> Entry:
    if isinstance(proposed, Config):
        return Entry(index, term, KIND_CONFIG, proposed.encode())
    return Entry(index, term, KIND_NORMAL, encode_command(proposed))


def format_command(command: RangeCommand) -> str:
    fields = msgspec.structs.asdict(command)
    parts = []
    for name, value in fields.items():
        if name in ("term", "generation", "right_replicas", "rows_max", "records_max"):
            continue
        if name in ("at", "bound", "threshold", "before"):
            value = format_stamp(value)
        elif name == "attempt":
            value = value.rstrip(b".").decode()
        elif name == "txn":
            value = value.attempt.rstrip(b".").decode()
        elif name == "writes":
            value = ",".join(f"{k.decode()}={'-' if v is None else v.decode()}" for k, v in value)
        elif name == "participants":
            value = ",".join(key.decode() for key in value)
        elif isinstance(value, bytes):
            value = value.decode()
        parts.append(f"{name}={value}")
    return f"{type(command).__name__.removesuffix('Command')} " + " ".join(parts)


def format_descriptor(descriptor: RangeDescriptor) -> str:
    return f"r{descriptor.range_id} {descriptor.start.decode()}..{descriptor.end.decode()} g{descriptor.generation}"


def format_response(response: api.Response) -> str:
    match response:
        case api.Values(values=values):
            shown = " ".join("-" if value is None else value.decode() for value in values)
            return f"values {shown} newest={format_stamp(response.newest)}"
        case api.Rows():
            rows = " ".join(f"{key.decode()}={value.decode()}" for key, value in response.rows)
            resume = f" resume={response.resume.decode()!r}" if response.resume else ""
            return f"rows {rows} newest={format_stamp(response.newest)}{resume}"
        case api.Prepared():
            return f"prepared bound={format_stamp(response.bound)}"
        case api.Outcome():
            at = f" at={format_stamp(response.at)}" if response.at else ""
            return f"outcome {STATUS[response.status]}{at}"
        case api.Resolved():
            return f"resolved {response.start.decode()}..{response.end.decode()}"
        case api.Wounded():
            return f"wounded: {response.reason}"
        case api.Moved():
            return "moved " + ", ".join(format_descriptor(d) for d in response.descriptors)
        case api.NotLeaseholder():
            return "not leaseholder" + (", unknown whether it happened" if response.unknown else "")
        case api.Refused():
            return f"refused {response.sqlstate}: {response.message}"
        case _:
            return type(response).__name__.lower()


class RangeScript:
    """The ranges of one node, one clock, and the gateway's memory of each transaction."""

    def __init__(self, canaries: frozenset[str] = frozenset()) -> None:
        self.canaries = canaries
        self.lines: list[str] = []
        self.requests = 0

    def _do_range(self, command: Command) -> None:
        self.time = VirtualTime()
        self.clock = Clock(self.time, int(command.options.get("E", "0")))
        self.engine = MemoryEngine()
        replica = make_replica_id(NodeId(1), 1)
        batch = WriteBatch()
        descriptor = RangeDescriptor(RangeId(1), b"a", b"z", (replica,), 1, 2)
        birth_batch(batch, descriptor, replica, Timestamp(0))
        self.engine.write(batch)
        self.ranges: dict[int, ScriptRange] = {}
        self.spans: dict[str, list[tuple[bytes, bytes | None, bytes]]] = {}
        self.asked: dict[int, tuple[str, list[api.Span], bool]] = {}
        self.wakes: list[tuple[int, int]] = []
        self.handovers: dict[int, Handover | None] = {}
        self._begin(RangeId(1), None)

    def _begin(self, range_id: RangeId, handover: Handover | None) -> None:
        state = RangeState.load(self.engine, range_id, self.canaries)
        assert state is not None
        self.at = self.ranges[range_id] = ScriptRange(self, state)
        self.at.lead(handover)

    # -- what happens ----------------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        self.lines.append(line)

    def handle(self, command: Command) -> str:
        getattr(self, f"_do_{command.name}")(command)
        for each in self.ranges.values():
            each.leaseholder.validate()
            each.state.validate()
        lines, self.lines = self.lines, []
        return "\n".join(lines)

    def wake(self, at: ScriptRange, delay_us: int) -> None:
        self.wakes.append((self.time.now_us + delay_us, at.state.range_id))

    def on_answer(self, handle: int, response: api.Response) -> None:
        self.say(f"#{handle} {format_response(response)}")
        name, spans, reverse = self.asked[handle]
        if isinstance(response, api.Values | api.Rows) and name:
            if isinstance(response, api.Rows):
                ((start, end),) = spans
                spans = [(response.resume or start, end)] if reverse else [(start, response.resume or end)]
            self.spans.setdefault(name, []).extend((s, e, response.token) for s, e in spans)

    def _send(self, request: api.Request, name: str = "", spans: list[api.Span] | None = None) -> None:
        self.requests += 1
        handle = self.requests
        reverse = isinstance(request, api.Scan) and request.reverse
        self.asked[handle] = (name, spans or [], reverse)
        response = self.at.leaseholder.handle(request, handle)
        if response is None:
            self.say(f"#{handle} waits")
        else:
            self.on_answer(handle, response)

    def _txn(self, command: Command) -> tuple[str, api.TxnMeta, bytes]:
        name = command.args[0]
        age = int(command.options.get("age", "0")) or {"O": 10, "Y": 90}.get(name[0], ord(name[0]) - 45)
        txn = make_txn(name, age)
        here = self.at.state.descriptor
        held = [token for start, _, token in self.spans.get(name, []) if here.contains(start)]
        token = held[0] if held and command.options.get("token") != "none" else b""
        return name, txn, token

    @staticmethod
    def _writes(command: Command, *other: str) -> list[api.Write]:
        found: list[api.Write] = []
        for key, value in sorted(command.options.items()):
            if key not in other:
                found.append((key.encode(), None if value == "-" else value.encode()))
        return found

    # -- requests --------------------------------------------------------------------------------------------

    def _do_get(self, command: Command) -> None:
        name, txn, token = self._txn(command)
        mode = 2 if command.args[-1] == "x" else 1
        keys = [key.encode() for key in command.args[1:] if key != "x"]
        wait_us = int(command.options.get("wait", "0"))
        self._send(api.Get(txn, token, keys, mode, True, wait_us), name, [(key, None) for key in keys])

    def _do_scan(self, command: Command) -> None:
        name, txn, token = self._txn(command)
        start, end = (word.encode() for word in command.args[1:3])
        mode = 2 if "x" in command.args[3:] else 1
        limit, reverse = int(command.options.get("limit", "0")), "reverse" in command.options
        wait_us = int(command.options.get("wait", "0"))
        request = api.Scan(txn, token, start, end, mode, limit, reverse, b"", wait_us)
        self._send(request, name, [(start, end)])

    def _do_snapget(self, command: Command) -> None:
        keys = [key.encode() for key in command.args[1:]]
        self._send(api.SnapshotGet(stamp(int(command.args[0])), keys))

    def _do_snapscan(self, command: Command) -> None:
        start, end = (word.encode() for word in command.args[1:3])
        self._send(api.SnapshotScan(stamp(int(command.args[0])), start, end, 0, False, b""))

    def _do_onephase(self, command: Command) -> None:
        name, txn, token = self._txn(command)
        options = command.options
        writes = self._writes(command, "at", "before", "after", "age", "reads", "anchor", "token")
        spans: list[api.Span] = [(start, end) for start, end, _ in self.spans.get(name, [])]
        request = api.OnePhase(
            txn,
            token,
            [] if options.get("reads") == "no" else spans,
            writes,
            options["anchor"].encode() if "anchor" in options else writes[0][0],
            stamp(int(options.get("at", "0"))),
            stamp(int(options.get("before", "0"))),
            stamp(int(options.get("after", "1000000000"))),
        )
        self._send(request)

    def _do_prepare(self, command: Command) -> None:
        _, txn, token = self._txn(command)
        writes = self._writes(command, "at", "age", "anchor", "token")
        anchor = command.options["anchor"].encode()
        at = stamp(int(command.options.get("at", "0")))
        locks: list[api.Span] = [(key, None) for key, _ in writes]
        self._send(api.Prepare(txn, token, locks, writes, anchor, at))

    def _do_validate(self, command: Command) -> None:
        name, txn, token = self._txn(command)
        here = self.at.state.descriptor
        spans: list[api.Span] = [(s, e) for s, e, _ in self.spans[name] if here.contains(s)]
        if len(command.args) > 1:
            spans = []
            for word in command.args[1:]:
                start, dots, end = word.partition("..")
                spans.append((start.encode(), end.encode() if dots else None))
            token = self.spans[name][0][2]
        self._send(api.Validate(txn, token, spans, stamp(int(command.options["at"]))))

    def _do_decide(self, command: Command) -> None:
        _, txn, _ = self._txn(command)
        at = stamp(int(command.options["at"]))
        participants = [key.encode() for key in command.args[1:]]
        self._send(api.Decide(txn, command.options["anchor"].encode(), at, participants))

    def _do_resolve(self, command: Command) -> None:
        _, txn, _ = self._txn(command)
        keys = [key.encode() for key in command.args[1:]]
        self._send(api.Resolve(txn.attempt, stamp(int(command.options["at"])), keys))

    def _do_recover(self, command: Command) -> None:
        _, txn, _ = self._txn(command)
        self._send(api.Recover(txn.attempt, command.options["anchor"].encode()))

    def _do_forget(self, command: Command) -> None:
        _, txn, _ = self._txn(command)
        self._send(api.Forget(txn.attempt, command.options["anchor"].encode()))

    def _do_release(self, command: Command) -> None:
        name, txn, token = self._txn(command)
        self._send(api.Release(txn, token, self.spans[name][0][0] if name in self.spans else b"a"))

    def _do_check(self, command: Command) -> None:
        name, txn, _ = self._txn(command)
        spans: list[api.Span] = [(start, end) for start, end, _ in self.spans[name]]
        self._send(api.Validate(txn, self.spans[name][0][2], spans, Timestamp(0)))

    def _do_splitat(self, command: Command) -> None:
        self._send(api.SplitAt(command.args[0].encode(), RangeId(int(command.args[1]))))

    # -- the world -------------------------------------------------------------------------------------------

    def _do_apply(self, command: Command) -> None:
        at = self.at
        count = int(command.args[0]) if command.args else len(at.log)
        commands, at.log = at.log[:count], at.log[count:]
        entries = [log_entry(at.appended + 1 + i, at.term, each) for i, each in enumerate(commands)]
        at.appended += count
        effects = at.state.apply(entries, KIND_CONFIG, decode_voters)
        for effect in effects:
            if effect.verdict:
                self.say(f"verdict {effect.verdict.name}")
            if effect.right is not None:
                self.say(f"born {format_descriptor(effect.right)}")
                handover = (
                    at.leaseholder.on_split_applied(effect.right, 6) if at.leaseholder.serving else None
                )
                self.handovers[effect.right.range_id] = handover
            at.leaseholder.on_applied(effect)

    def _do_transfer(self, command: Command) -> None:
        payload = self.at.leaseholder.freeze()
        handover = decode_handover(payload, self.at.term + 1)
        assert handover is not None
        self.say("handed over " + (" ".join(name_of(entry) for entry in handover.entries) or "nothing"))
        self._do_newterm(command, handover)

    def _do_newterm(self, command: Command, handover: Handover | None = None) -> None:
        at = self.at
        at.leaseholder.stop()
        lost = int(command.options.get("lost", "0"))
        commands = at.log[: len(at.log) - lost]
        at.log = []
        for each in commands:
            at.appended += 1
            at.state.apply([log_entry(at.appended, at.term, each)], KIND_CONFIG, decode_voters)
        at.term += 1
        at.appended += 1
        at.lead(handover)

    def _do_birth(self, command: Command) -> None:
        range_id = RangeId(int(command.args[0]))
        handover = None if command.options.get("handover") == "no" else self.handovers[range_id]
        self._begin(range_id, handover)

    def _do_on(self, command: Command) -> None:
        self.at = self.ranges[int(command.args[0])]

    def _do_time(self, command: Command) -> None:
        end = self.time.now_us + int(command.args[0])
        while True:
            due = sorted(wake for wake in self.wakes if wake[0] <= end)
            if not due:
                break
            self.wakes.remove(due[0])
            self.time.now_us = max(self.time.now_us, due[0][0])
            each = self.ranges[due[0][1]]
            if not each.leaseholder.serving:
                each.serve()
            each.leaseholder.on_time()
        self.time.now_us = max(self.time.now_us, end)

    def _do_lease(self, command: Command) -> None:
        self.at.lease = command.args[0] == "on"
        self.at.accepts = command.options.get("proposals") != "no"
        if self.at.lease:
            self.at.leaseholder.on_lease()

    def _do_clockerror(self, command: Command) -> None:
        self.time.own_error_us = int(command.args[0])

    def _do_early(self, command: Command) -> None:
        number = self.at.state.range_id
        self.wakes = [wake for wake in self.wakes if wake[1] != number]
        self.at.leaseholder.on_time()

    def _do_ticks(self, command: Command) -> None:
        self.time.reading_us = int(command.args[0])

    def _do_drop(self, command: Command) -> None:
        _, txn, _ = self._txn(command)
        record = self.at.leaseholder.drop_dead(txn.attempt)
        if record is not None:
            self.say(f"to be recovered, anchor {record.anchor.decode()}")

    def _do_replicas(self, command: Command) -> None:
        self.at.log.append(Config(tuple(make_replica_id(NodeId(int(node)), 1) for node in command.args)))

    def _do_gc(self, command: Command) -> None:
        here = self.at.state.descriptor
        at = stamp(int(command.args[0]))
        self.at.propose(GcCommand(self.at.term, here.generation, at, here.start, here.end, 100))

    def _do_outcomegc(self, command: Command) -> None:
        here = self.at.state.descriptor
        before = Timestamp(int.from_bytes(command.args[0].encode().ljust(8, b"."), "big"))
        self.at.propose(OutcomeGcCommand(self.at.term, here.generation, before, here.start, here.end, 100))

    # -- looking ---------------------------------------------------------------------------------------------

    def _do_show(self, command: Command) -> None:
        holder = self.at.leaseholder
        serving = f"read_ts={format_stamp(holder.read_ts)}" if holder.serving else "not serving yet"
        self.say(f"{format_descriptor(self.at.state.descriptor)} term {self.at.term} {serving}")
        for entry in holder.locks.entries.values():
            bound = f" bound={format_stamp(entry.bound)}" if entry.bound else ""
            self.say(f"{name_of(entry)} {entry.state.name.lower()}{bound} {' '.join(items_of(entry))}")
        for waiter in holder.locks.waiters():
            self.say(f"waits: {name_of(waiter.entry)} {' '.join(format_item(item) for item in waiter.items)}")

    def _do_records(self, command: Command) -> None:
        state = self.at.state
        self.say(f"max_applied_ts={format_stamp(state.max_applied_ts)}")
        for record in state.prepares.values():
            writes = ",".join(key.decode() for key, _ in record.writes)
            name = record.txn.attempt.rstrip(b".").decode()
            self.say(
                f"prepared {name} {writes} bound={format_stamp(record.bound)} anchor={record.anchor.decode()}"
            )
        for decision in state.decisions.values():
            self.say(f"decided {decision.attempt.rstrip(b'.').decode()} at={format_stamp(decision.at)}")
