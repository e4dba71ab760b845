"""The transaction coordinator at a gateway: reads under locks, buffered writes, one- and two-phase commit, snapshots.

Corbett et al., "Spanner" (OSDI 2012), §4.1–4.2; Gray and Lamport, "Consensus on Transaction Commit" (2006) for 2PC over
replicated participants. Rules K1, K2, K4, K7, M1–M5, M7, R5, T5, T6 and D1 of the transaction protocol are followed here.

One story, told in plain `async def`: an attempt reads under locks, buffers its writes, and at commit locks what it will
write, prepares or commits in one phase, validates what it only read at the final c, decides at the anchor, and resolves
in the background.

Invariants:
1. Every span read or locked is remembered with the token it was locked under (K1, R3).
2. The anchor is a key actually written, fixed when commit starts (M1).
3. Once a 1PC or a decision was sent, the caller learns nothing but the recorded outcome (M7).
4. After a lost token the attempt is dead: nothing but `rollback` does anything (K7).

A coordinator is used by one task at a time. Driven by SQL sessions through `txndb.txn.api`.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Protocol

from txndb.clock import Clock
from txndb.errors import LimitError, OutcomeUnknownError, RetryError, UnavailableError
from txndb.ids import NodeId, Timestamp, Token, make_attempt_id
from txndb.limits import TRANSACTION_BYTES_MAX
from txndb.ranges import api
from txndb.ranges.descriptor import RangeDescriptor
from txndb.txn import recovery
from txndb.txn.api import KeyValue, Lock, Predicate, ProgramCompiler
from txndb.txn.routing import Sender

FOREVER = Timestamp((1 << 63) - 1)
BACKGROUND_TIMEOUT_US = 600_000_000


class Gateway(Protocol):
    """What coordinators of one node share."""

    node: NodeId
    incarnation: int
    clock: Clock
    sender: Sender
    compile_program: ProgramCompiler

    def next_counter(self) -> int:
        """A number no attempt of this incarnation had at the same timestamp."""

    def register(self, txn: Transaction) -> None:
        """The attempt lives: the gateway says so when asked (K5), and passes wound notices on."""

    def unregister(self, txn: Transaction) -> None:
        """The attempt is over, every participant resolved or released."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> object:
        """Run in the background, owned by the node."""


class Reads:
    """What snapshots and transactions share: taking keys and spans apart by range."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sender = gateway.sender

    async def _by_range(
        self, keys: Sequence[bytes], deadline_us: int
    ) -> list[tuple[RangeDescriptor, list[bytes]]]:
        """Group keys by the range that holds them, in order of first appearance."""
        groups: dict[int, tuple[RangeDescriptor, list[bytes]]] = {}
        for key in keys:
            descriptor = await self._sender.route(key, deadline_us)
            group = groups.get(descriptor.range_id)
            if group is None:
                groups[descriptor.range_id] = (descriptor, [key])
            else:
                group[1].append(key)
        return list(groups.values())


class SnapshotReads(Reads):
    """A read-only transaction at one timestamp."""

    def __init__(self, gateway: Gateway, at: Timestamp | None) -> None:
        super().__init__(gateway)
        self._at = at

    @property
    def timestamp(self) -> Timestamp | None:
        """The snapshot's timestamp; None until the first read fixed it."""
        return self._at

    def _fix(self) -> Timestamp:
        at = self._at
        if at is None:
            clock = self._gateway.clock
            at = self._at = max(clock.latest(), clock.now())  # T6
        return at

    async def get(self, keys: Sequence[bytes], lock: Lock = Lock.NONE) -> list[bytes | None]:
        """Values at `keys`, as of the snapshot's timestamp."""
        at = self._fix()
        deadline_us = self._sender.deadline_us()
        if len(keys) == 1:
            return await self._get_from(list(keys), at, deadline_us)
        values: dict[bytes, bytes | None] = {}
        for _, part in await self._by_range(keys, deadline_us):
            values.update(zip(part, await self._get_from(part, at, deadline_us), strict=True))
        return [values[key] for key in keys]

    async def _get_from(self, keys: list[bytes], at: Timestamp, deadline_us: int) -> list[bytes | None]:
        while True:
            response = await self._sender.send(keys[0], api.SnapshotGet(at, keys), deadline_us)
            if isinstance(response, api.Values):
                return response.values
            if not isinstance(response, api.Moved):
                raise UnavailableError(f"a leaseholder answered {type(response).__name__} to a read")
            groups = await self._by_range(keys, deadline_us)
            if len(groups) > 1:
                return await self.get(keys)

    async def scan(
        self,
        start: bytes,
        end: bytes,
        *,
        lock: Lock = Lock.NONE,
        limit: int = 0,
        reverse: bool = False,
        program: bytes = b"",
    ) -> AsyncIterator[list[KeyValue]]:
        """Pairs in [start, end) that pass `program`, as of the snapshot's timestamp, in batches."""
        at = self._fix()
        left = limit
        while start < end:
            deadline_us = self._sender.deadline_us()
            descriptor = await route_end(self._sender, start, end, reverse, deadline_us)
            low, high = max(start, descriptor.start), min(end, descriptor.end)
            request = api.SnapshotScan(at, low, high, left, reverse, program)
            response = await self._sender.send(low, request, deadline_us)
            if isinstance(response, api.Moved):
                continue
            if not isinstance(response, api.Rows):
                raise UnavailableError(f"a leaseholder answered {type(response).__name__} to a scan")
            start, end = advance(start, end, low, high, response.resume, reverse)
            if response.rows:
                yield response.rows
                if limit:
                    left -= len(response.rows)
                    if left <= 0:
                        return


async def route_end(
    sender: Sender, start: bytes, end: bytes, reverse: bool, deadline_us: int
) -> RangeDescriptor:
    """The range at which a scan of [start, end) begins: that of `start`, or in reverse the one just below `end`."""
    if not reverse:
        return await sender.route(start, deadline_us)
    descriptor = await sender.route(start, deadline_us)
    while descriptor.end < end:
        descriptor = await sender.route(descriptor.end, deadline_us)
    return descriptor


def advance(
    start: bytes, end: bytes, low: bytes, high: bytes, resume: bytes, reverse: bool
) -> tuple[bytes, bytes]:
    """What is left of [start, end) after a page of [low, high) that stopped at `resume` (b"": it did not)."""
    if reverse:
        return start, (resume or low)
    return (resume or high), end


class Transaction(Reads):
    """One attempt of a read-write transaction (`txndb.txn.api.Txn`)."""

    def __init__(self, gateway: Gateway, age: tuple[Timestamp, bytes] | None) -> None:
        super().__init__(gateway)
        clock = gateway.clock
        start = clock.now()
        attempt = make_attempt_id(start, gateway.node, gateway.incarnation, gateway.next_counter())
        self._age = age if age is not None else (start, bytes(attempt))
        self.meta = api.TxnMeta(attempt, self._age[0], self._age[1], gateway.node, gateway.incarnation)
        self.attempt = attempt
        self._start = start
        self._tokens: dict[int, Token] = {}
        self._spans: list[tuple[bytes, bytes | None, Token]] = []
        self._exclusive: set[bytes] = set()
        self._writes: dict[bytes, bytes | None] = {}
        self._write_bytes = 0
        self._undo: list[tuple[bytes, bytes | None, bool]] = []
        self._sorted: list[bytes] | None = None
        self._newest = Timestamp(0)
        """The newest version read or overwritten (T5)."""
        self._not_before = Timestamp(0)
        self._not_after = FOREVER
        self._wound: str = ""
        self._over = False
        gateway.register(self)

    # -- what a session sees -------------------------------------------------------------------------------

    @property
    def start(self) -> Timestamp:
        """The attempt's start timestamp."""
        return self._start

    @property
    def age(self) -> tuple[Timestamp, bytes]:
        """(first start timestamp, id), kept over retries (K3)."""
        return self._age

    def put(self, key: bytes, value: bytes) -> None:
        """Buffer a write."""
        self._buffer(key, value)

    def delete(self, key: bytes) -> None:
        """Buffer a deletion."""
        self._buffer(key, None)

    def _buffer(self, key: bytes, value: bytes | None) -> None:
        self._write_bytes += len(key) + (len(value) if value is not None else 0)
        if self._write_bytes > TRANSACTION_BYTES_MAX:
            raise LimitError(
                f"a transaction may write at most {TRANSACTION_BYTES_MAX} bytes",
                hint="Split it into several transactions.",
            )
        self._undo.append((key, self._writes.get(key), key in self._writes))
        self._writes[key] = value
        self._sorted = None

    def savepoint(self) -> int:
        """A mark in the write buffer."""
        return len(self._undo)

    def rollback_to(self, savepoint: int) -> None:
        """Undo buffered writes after the mark; locks and read spans are kept (K2, K7)."""
        while len(self._undo) > savepoint:
            key, value, existed = self._undo.pop()
            if existed:
                self._writes[key] = value
            else:
                del self._writes[key]
        self._sorted = None

    def limit_commit(self, not_before: Timestamp, not_after: Timestamp) -> None:
        """Require not_before <= c <= not_after (D1); the narrowest wins."""
        self._not_before = max(self._not_before, not_before)
        self._not_after = min(self._not_after, not_after)

    def on_wound(self, reason: str) -> None:
        """A wound notice arrived; the next request fails at once."""
        if not self._over:
            self._wound = self._wound or reason

    # -- reads under locks ---------------------------------------------------------------------------------

    async def get(self, keys: Sequence[bytes], lock: Lock = Lock.SHARED) -> list[bytes | None]:
        """Newest values at `keys`, locked; own writes are seen."""
        self._must_live()
        writes = self._writes
        wanted = [key for key in keys if key not in writes] if writes else list(keys)
        values: dict[bytes, bytes | None] = {}
        if wanted:
            await self._lock_points(wanted, max(lock, Lock.SHARED), values)
        if not writes and len(keys) == len(values):
            return [values[key] for key in keys]
        return [writes[key] if key in writes else values[key] for key in keys]

    async def lock(self, keys: Sequence[bytes]) -> None:
        """Lock keys EXCLUSIVE without reading them."""
        self._must_live()
        missing = [key for key in keys if key not in self._exclusive]
        if missing:
            await self._lock_points(missing, Lock.EXCLUSIVE, None)

    async def _lock_points(
        self, keys: list[bytes], lock: Lock, values: dict[bytes, bytes | None] | None
    ) -> None:
        deadline_us = self._sender.deadline_us()
        todo = list(dict.fromkeys(keys))
        while todo:
            groups = await self._by_range(todo, deadline_us)
            todo = []
            for descriptor, part in groups:
                request = api.Get(self.meta, self._token(descriptor), part, int(lock), values is not None)
                response = await self._sender.send(part[0], request, deadline_us)
                if isinstance(response, api.Moved):
                    todo += part
                    continue
                if not isinstance(response, api.Values):
                    raise self._lost(response)
                self._remember(descriptor, response.token, [(key, None) for key in part])
                if lock is Lock.EXCLUSIVE:
                    self._exclusive.update(part)
                if response.newest > self._newest:
                    self._newest = response.newest
                if values is not None:
                    values.update(zip(part, response.values, strict=True))

    async def scan(
        self,
        start: bytes,
        end: bytes,
        *,
        lock: Lock = Lock.SHARED,
        limit: int = 0,
        reverse: bool = False,
        program: bytes = b"",
    ) -> AsyncIterator[list[KeyValue]]:
        """Newest pairs in [start, end), the spans read locked SHARED (rows EXCLUSIVE with `lock`); own writes seen."""
        left = limit
        mode = 2 if lock is Lock.EXCLUSIVE else 1
        while start < end:
            self._must_live()
            deadline_us = self._sender.deadline_us()
            descriptor = await route_end(self._sender, start, end, reverse, deadline_us)
            low, high = max(start, descriptor.start), min(end, descriptor.end)
            overlay = self._buffered(low, high)
            page_limit = left + len(overlay) if left else 0
            token = self._token(descriptor)
            request = api.Scan(self.meta, token, low, high, mode, page_limit, reverse, program)
            response = await self._sender.send(low, request, deadline_us)
            if isinstance(response, api.Moved):
                continue
            if not isinstance(response, api.Rows):
                raise self._lost(response)
            covered = (response.resume or low, high) if reverse else (low, response.resume or high)
            locked: list[api.Span] = [covered]
            if mode == 2:
                locked += [(key, None) for key, _ in response.rows]
                self._exclusive.update(key for key, _ in response.rows)
            self._remember(descriptor, response.token, locked)
            if response.newest > self._newest:
                self._newest = response.newest
            start, end = advance(start, end, low, high, response.resume, reverse)
            rows = response.rows
            if overlay:
                rows = self._merge(rows, covered, reverse, program)
            if left:
                rows = rows[:left]
                left -= len(rows)
            if rows:
                yield rows
            if limit and left <= 0:
                return

    def _buffered(self, low: bytes, high: bytes) -> list[bytes]:
        """The buffered keys in [low, high), ascending."""
        if not self._writes:
            return []
        if self._sorted is None:
            self._sorted = sorted(self._writes)
        return self._sorted[bisect_left(self._sorted, low) : bisect_left(self._sorted, high)]

    def _merge(
        self, rows: list[KeyValue], covered: tuple[bytes, bytes], reverse: bool, program: bytes
    ) -> list[KeyValue]:
        """Overlay the write buffer on a page."""
        predicate: Predicate | None = self._gateway.compile_program(program) if program else None
        merged = dict(rows)
        for key in self._buffered(*covered):
            value = self._writes[key]
            if value is None or (predicate is not None and not predicate(value)):
                merged.pop(key, None)
            else:
                merged[key] = value
        return sorted(merged.items(), reverse=reverse)

    # -- tokens --------------------------------------------------------------------------------------------

    def _token(self, descriptor: RangeDescriptor) -> Token:
        """The token to name at a range: that of any span held in it (R3); b"" before the first request."""
        token = self._tokens.get(descriptor.range_id)
        if token is None:
            token = Token(b"")
            for start, _, held in self._spans:
                if descriptor.start <= start < descriptor.end:
                    token = self._tokens[descriptor.range_id] = held
                    break
        return token

    def _remember(self, descriptor: RangeDescriptor, token: bytes, spans: Sequence[api.Span]) -> None:
        held = self._token(descriptor)
        if held and held != token:
            raise self._dead("its locks in one range were lost")  # K1: two entries of one attempt
        new = Token(token)
        self._tokens[descriptor.range_id] = new
        for start, end in spans:
            self._spans.append((start, end, new))

    def _must_live(self) -> None:
        if self._wound:
            raise self._dead(self._wound)

    def _dead(self, reason: str, key: bytes = b"") -> RetryError:
        """The attempt lost; K7: everything after this fails alike."""
        self._wound = self._wound or reason
        detail = f"Reason: {reason}."
        if key:
            detail += f" Key: {key.hex()}."
        return RetryError(
            "could not serialize access: the transaction lost its locks",
            detail=detail,
            hint="Replay the whole transaction.",
        )

    def _lost(self, response: api.Response) -> RetryError | UnavailableError:
        if isinstance(response, api.Wounded):
            return self._dead(response.reason, response.key)
        return UnavailableError(f"a leaseholder answered {type(response).__name__}")

    async def check(self) -> None:
        """K4: raise `RetryError` if any token was lost."""
        self._must_live()
        deadline_us = self._sender.deadline_us()
        checked: set[Token] = set()
        for start, _, token in list(self._spans):
            if token in checked:
                continue
            response = await self._sender.send(start, api.Check(self.meta, token, start), deadline_us)
            if isinstance(response, api.Wounded):
                raise self._dead(response.reason)
            checked.add(token)

    # -- ending --------------------------------------------------------------------------------------------

    async def rollback(self) -> None:
        """Drop the attempt and its locks, in the background; idempotent."""
        if self._over:
            return
        self._over = True
        if not self._spans:
            self._gateway.unregister(self)
            return
        self._gateway.spawn(self._release_all(), "release")

    async def _release_all(self) -> None:
        deadline_us = self._sender.deadline_us()
        try:
            released: set[Token] = set()
            for start, _, token in self._spans:
                if token not in released:
                    released.add(token)
                    await self._sender.send(start, api.Release(self.meta, token, start), deadline_us)
        except UnavailableError:
            return  # the leaseholder asks about the attempt and drops it (K5)
        finally:
            self._gateway.unregister(self)

    async def commit(self) -> Timestamp:
        """Commit; c, or 0 if nothing was written. Errors as `txndb.txn.api.Txn.commit`."""
        self._must_live()
        if not self._spans and not self._writes:
            self._over = True
            self._gateway.unregister(self)
            return Timestamp(0)
        return await Commit(self, self._gateway).run()


class Commit:
    """The commit of one attempt: from locking what it writes to answering its outcome."""

    def __init__(self, txn: Transaction, gateway: Gateway) -> None:
        self._txn = txn
        self._gateway = gateway
        self._sender = gateway.sender
        self._writes = txn._writes
        self._keys = sorted(txn._writes)
        self._anchor = self._keys[0] if self._keys else b""
        self._deadline_us = gateway.sender.deadline_us()
        self._prepared: list[recovery.SpanPair] = []
        self._prepare_sent = False

    async def run(self) -> Timestamp:
        """The whole story; every path ends the attempt."""
        txn = self._txn
        try:
            await txn.lock(self._keys)  # K2
            if not self._keys:
                at = self._candidate()
                await self._validate(at)
                await txn.rollback()
                return Timestamp(0)
            outcome = await self._one_phase()
            if outcome is None:
                outcome = await self._two_phase()
        except (RetryError, UnavailableError, asyncio.CancelledError):
            await self._give_up()
            raise
        return self._conclude(outcome)

    def _candidate(self) -> Timestamp:
        clock = self._gateway.clock
        return max(clock.latest(), clock.now(), Timestamp(self._txn._newest + 1), self._txn._not_before)

    def _conclude(self, outcome: api.Outcome) -> Timestamp:
        """M7: the recorded outcome, and nothing else, is what the caller learns."""
        txn = self._txn
        txn._over = True
        if outcome.status == api.COMMITTED:
            self._gateway.clock.observe(outcome.at)
            if self._prepared:
                self._gateway.spawn(self._finish(outcome), "resolve")
            else:
                self._gateway.unregister(txn)
            return outcome.at
        self._gateway.unregister(txn)
        if outcome.status == api.ABORTED:
            if self._prepared:
                self._gateway.spawn(self._abort(), "abort")
            raise txn._dead("it was aborted while its commit was under way")
        raise OutcomeUnknownError("the outcome of the commit is no longer recorded")

    async def _give_up(self) -> None:
        """Nothing irrevocable was sent: release, or abort what was prepared."""
        if not self._prepare_sent:
            await self._txn.rollback()
            return
        self._txn._over = True
        self._gateway.spawn(self._abort(), "abort")

    # -- one phase -----------------------------------------------------------------------------------------

    async def _one_phase(self) -> api.Outcome | None:
        """M2: all locks, read and write, in one range. None: they are not, or no longer."""
        txn = self._txn
        descriptor = await self._sender.route(self._anchor, self._deadline_us)
        if not self._all_inside(descriptor):
            return None
        spans: list[api.Span] = [(start, end) for start, end, _ in txn._spans]
        writes = [(key, self._writes[key]) for key in self._keys]
        request = api.OnePhase(
            txn.meta,
            txn._token(descriptor),
            spans,
            writes,
            self._anchor,
            self._candidate(),
            txn._not_before,
            txn._not_after,
        )
        return await self._decided(request, one_phase=True)

    def _all_inside(self, descriptor: RangeDescriptor) -> bool:
        if self._keys[0] < descriptor.start or self._keys[-1] >= descriptor.end:
            return False
        for start, end, _ in self._txn._spans:
            if start < descriptor.start or (start >= descriptor.end if end is None else end > descriptor.end):
                return False
        return True

    async def _decided(self, request: api.OnePhase | api.Decide, *, one_phase: bool) -> api.Outcome | None:
        """Send what decides, until there is an outcome (M7). A cancellation from here on only shortens nothing."""
        canceled = False
        ambiguous = False
        while True:
            try:
                sent = await self._sender.send_commit(self._anchor, request, self._deadline_us)
            except UnavailableError:
                return await self._ask()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or canceled:
                    raise
                task.uncancel()  # M7: no cancel answers "aborted" once it was sent
                canceled = True
                return await self._ask()
            response = sent.response
            ambiguous = ambiguous or sent.ambiguous
            if isinstance(response, api.Outcome):
                return response
            if isinstance(response, api.Moved):
                if one_phase and not ambiguous:
                    return None  # R5: certainly not proposed: 2PC of the same attempt
                if one_phase:
                    return await self._ask()
                continue
            if isinstance(response, api.Wounded) and one_phase and not ambiguous:
                raise self._txn._dead(response.reason, response.key)
            return await self._ask()

    async def _ask(self) -> api.Outcome:
        """Learn the definite outcome from the anchor."""
        deadline_us = self._sender.deadline_us()
        try:
            return await recovery.ask_outcome(self._sender, self._txn.attempt, self._anchor, deadline_us)
        except UnavailableError as error:
            self._txn._over = True
            self._gateway.unregister(self._txn)
            raise OutcomeUnknownError(
                "the commit was sent, and no quorum answers what became of it", detail=error.message
            ) from error

    # -- two phases ----------------------------------------------------------------------------------------

    async def _two_phase(self) -> api.Outcome:
        bounds = await self._prepare_all()
        at = max(bounds)
        if at < self._txn._not_before:
            at = self._txn._not_before
        await self._validate(at)
        if at > self._txn._not_after:  # D1, where c became final
            raise self._txn._dead("its catalogue lease ended before its commit timestamp")
        participants = recovery.flatten(self._prepared)
        decide = api.Decide(self._txn.meta, self._anchor, at, participants)
        outcome = await self._decided(decide, one_phase=False)
        assert outcome is not None
        return outcome

    async def _prepare_all(self) -> list[Timestamp]:
        """Prepare at every participant in parallel; a range that moved is grouped anew (R5)."""
        bounds: list[Timestamp] = []
        todo = self._keys
        candidate = self._candidate()
        while todo:
            groups = await self._txn._by_range(todo, self._deadline_us)
            self._prepare_sent = True
            answers = await gather([self._prepare(d, keys, candidate) for d, keys in groups])
            todo = []
            for (_, keys), bound in zip(groups, answers, strict=True):
                if bound is None:
                    todo += keys
                else:
                    bounds.append(bound)
                    self._prepared.append((keys[0], keys[-1]))
        return bounds

    async def _prepare(
        self, descriptor: RangeDescriptor, keys: list[bytes], candidate: Timestamp
    ) -> Timestamp | None:
        txn = self._txn
        request = api.Prepare(
            txn.meta,
            txn._token(descriptor),
            [(key, None) for key in keys],
            [(key, self._writes[key]) for key in keys],
            self._anchor,
            candidate,
        )
        response = await self._sender.send(keys[0], request, self._deadline_us)
        if isinstance(response, api.Prepared):
            return response.bound
        if isinstance(response, api.Moved):
            return None
        if isinstance(response, api.Outcome):
            raise txn._dead("it was aborted by recovery")
        raise txn._lost(response)

    async def _validate(self, at: Timestamp) -> None:
        """M4: everything read and not written is validated at the final c, at the ranges that hold it now."""
        todo = [(s, e, t) for s, e, t in self._txn._spans if e is not None or s not in self._writes]
        while todo:
            parts = await self._validation_parts(todo)
            answers = await gather([self._validate_one(token, spans, at) for token, spans in parts])
            todo = [
                (start, end, token)
                for (token, spans), moved in zip(parts, answers, strict=True)
                if moved
                for start, end in spans
            ]

    async def _validation_parts(
        self, spans: list[tuple[bytes, bytes | None, Token]]
    ) -> list[tuple[Token, list[api.Span]]]:
        """Clip spans at range borders and group them by (range, token)."""
        groups: dict[tuple[int, Token], tuple[Token, list[api.Span]]] = {}
        for start, end, token in spans:
            at: bytes = start
            while True:
                descriptor = await self._sender.route(at, self._deadline_us)
                _, group = groups.setdefault((descriptor.range_id, token), (token, []))
                if end is None or end <= descriptor.end:
                    group.append((at, end))
                    break
                group.append((at, descriptor.end))
                at = descriptor.end
        return list(groups.values())

    async def _validate_one(self, token: Token, spans: list[api.Span], at: Timestamp) -> bool:
        request = api.Validate(self._txn.meta, token, spans, at)
        response = await self._sender.send(spans[0][0], request, self._deadline_us)
        if isinstance(response, api.Ok):
            return False
        if isinstance(response, api.Moved):
            return True
        raise self._txn._lost(response)

    # -- afterwards ----------------------------------------------------------------------------------------

    async def _finish(self, outcome: api.Outcome) -> None:
        """Resolve the participants of a committed attempt, release what was only read."""
        deadline_us = self._sender.deadline_us(BACKGROUND_TIMEOUT_US)
        done = (outcome.start, outcome.end)
        txn = self._txn
        try:
            await recovery.finish_decided(
                self._sender, txn.attempt, self._anchor, outcome.at, self._prepared, done, deadline_us
            )
            await txn._release_all()
        except UnavailableError:
            return  # recovery by the leaseholders goes on: the gateway no longer vouches for the attempt
        finally:
            self._gateway.unregister(txn)

    async def _abort(self) -> None:
        """Record ABORTED at the anchor, drop what was prepared, release the rest."""
        txn = self._txn
        deadline_us = self._sender.deadline_us(BACKGROUND_TIMEOUT_US)
        try:
            outcome = await recovery.ask_outcome(self._sender, txn.attempt, self._anchor, deadline_us)
            if outcome.status == api.ABORTED:
                spans = [(key, key) for key in self._keys]
                await recovery.resolve(
                    self._sender, txn.attempt, Timestamp(0), spans, (b"", b""), deadline_us
                )
            await txn._release_all()
        except UnavailableError:
            return
        finally:
            self._gateway.unregister(txn)


async def gather(work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run in parallel, wait for all, then raise the first error in order; one alone needs no task."""
    if len(work) == 1:
        return [await work[0]]
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
