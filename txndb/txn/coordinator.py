"""The transaction coordinator at a gateway: reads under locks, buffered writes, one- and two-phase commit, snapshots.

Corbett et al., "Spanner" (OSDI 2012), §4.1–4.2; Gray and Lamport, "Consensus on Transaction Commit" (2006) for 2PC over
replicated participants. Rules K1, K2, K4, K7, M1–M5, M7, R5, T5, T6 and D1 are followed here.

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
from collections.abc import AsyncIterator, Sequence

from txndb.errors import AnswerTooLargeError, LimitError, RetryError, UnavailableError
from txndb.ids import Timestamp, Token, make_attempt_id
from txndb.limits import GET_KEYS_MAX
from txndb.ranges import api
from txndb.ranges.descriptor import RangeDescriptor
from txndb.txn.api import KeyValue, Lock, Predicate
from txndb.txn.commit import Commit
from txndb.txn.gateway import Gateway, must_be_bounded
from txndb.txn.routing import Sender

FOREVER = Timestamp((1 << 63) - 1)
BACKGROUND_TIMEOUT_US = 600_000_000


class Reads:
    """What snapshots and transactions share: taking keys and spans apart by range."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sender = gateway.sender

    async def by_range(
        self, keys: Sequence[bytes], deadline_us: int
    ) -> list[tuple[RangeDescriptor, list[bytes]]]:
        """Group keys by the range that holds them, in order of first appearance."""
        groups: dict[int, tuple[RangeDescriptor, list[bytes]]] = {}
        descriptor: RangeDescriptor | None = None
        for key in keys:
            if descriptor is None or not descriptor.start <= key < descriptor.end:  # mostly as the key before
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
            must_be_bounded(self._gateway)
            clock = self._gateway.clock
            at = max(clock.latest(), clock.now())  # T6
            if "snapshot-moment" not in self._gateway.canaries:
                self._at = at
        return at

    async def get(self, keys: Sequence[bytes], lock: Lock = Lock.NONE) -> list[bytes | None]:
        """Values at `keys`, as of the snapshot's timestamp."""
        at = self._fix()
        deadline_us = self._sender.deadline_us()
        if len(keys) == 1:
            return await self._get_from(list(keys), at, deadline_us)
        values: dict[bytes, bytes | None] = {}
        for _, part in await self.by_range(keys, deadline_us):
            values.update(zip(part, await self._get_from(part, at, deadline_us), strict=True))
        return [values[key] for key in keys]

    async def _get_from(self, keys: list[bytes], at: Timestamp, deadline_us: int) -> list[bytes | None]:
        while True:
            try:
                response = await self._sender.send(keys[0], api.SnapshotGet(at, keys), deadline_us)
            except AnswerTooLargeError:
                if len(keys) == 1:
                    raise
                middle = len(keys) // 2
                first = await self._get_from(keys[:middle], at, deadline_us)
                return first + await self._get_from(keys[middle:], at, deadline_us)
            if isinstance(response, api.Values):
                return response.values
            if not isinstance(response, api.Moved):
                raise UnavailableError(f"a leaseholder answered {type(response).__name__} to a read")
            groups = await self.by_range(keys, deadline_us)
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
                await asyncio.sleep(0)  # a local page suspends nobody: let others run between two
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
        self._tokens: dict[int, tuple[int, Token]] = {}
        """By range id: (generation, token) as last found; the truth is in `spans` (K1)."""
        self.spans: list[tuple[bytes, bytes | None, Token]] = []
        self._unanswered: dict[bytes, None] = {}
        """Keys of requests for locks that were given up: they may be granted yet, under a token nobody knows."""
        self._exclusive: set[bytes] = set()
        self.writes: dict[bytes, bytes | None] = {}
        self._write_bytes = 0
        self._undo: list[tuple[bytes, bytes | None, bool]] | None = None
        """What the buffer held before each write, from the first savepoint on."""
        self._sorted: list[bytes] | None = None
        self.newest = Timestamp(0)
        """The newest version read or overwritten (T5)."""
        self.not_before = Timestamp(0)
        self.not_after = FOREVER
        self._wound: str = ""
        self._wound_key = b""
        self._winner = b""
        self.sealed = False
        self.over = False
        self.lock_wait_us = gateway.limits.lock_wait_us
        """How long a request waits for its locks; 0: no bound."""
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
        bytes_max = self._gateway.limits.transaction_bytes
        if self._write_bytes > bytes_max:
            raise LimitError(
                f"a transaction may write at most {bytes_max} bytes",
                hint="Split it into several transactions.",
            )
        if self._undo is not None:
            self._undo.append((key, self.writes.get(key), key in self.writes))
        self.writes[key] = value
        self._sorted = None

    def savepoint(self) -> int:
        """A mark in the write buffer."""
        if self._undo is None:
            self._undo = []
        return len(self._undo)

    def rollback_to(self, savepoint: int) -> None:
        """Undo buffered writes after the mark; locks and read spans are kept (K2). A dead attempt stays dead (K7)."""
        if "K7" in self._gateway.canaries:
            self._wound = ""
            self._tokens.clear()
            self.spans.clear()
        self._must_live()
        undo = self._undo if self._undo is not None else []
        while len(undo) > savepoint:
            key, value, existed = undo.pop()
            if existed:
                self.writes[key] = value
            else:
                del self.writes[key]
        self._sorted = None

    def limit_commit(self, not_before: Timestamp, not_after: Timestamp) -> None:
        """Require not_before <= c <= not_after (D1); the narrowest wins."""
        self.not_before = max(self.not_before, not_before)
        self.not_after = min(self.not_after, not_after)

    def free_commit(self, not_before: Timestamp) -> None:
        """A DDL holds the catalogue exclusively: its own lease no longer bounds it (D2); only `not_before` does."""
        self.not_before = not_before
        self.not_after = FOREVER

    def on_wound(self, reason: str, key: bytes = b"", winner: bytes = b"") -> None:
        """A wound notice arrived; the next request fails at once, unless what decides was sent already (M7)."""
        if not self.over and not self.sealed and not self._wound:
            self._wound, self._wound_key, self._winner = reason, key, winner

    @property
    def is_dead(self) -> bool:
        """Whether the attempt has lost and can only be rolled back (K7)."""
        return bool(self._wound)

    def seal(self) -> None:
        """What decides is about to be sent: from here on only the recorded outcome counts (M7)."""
        self._must_live()
        self.sealed = True

    # -- reads under locks ---------------------------------------------------------------------------------

    async def get(self, keys: Sequence[bytes], lock: Lock = Lock.SHARED) -> list[bytes | None]:
        """Newest values at `keys`, locked; own writes are seen."""
        self._must_live()
        writes = self.writes
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
            mode = Lock.EXCLUSIVE if "K2" not in self._gateway.canaries else Lock.SHARED
            await self._lock_points(missing, mode, None)

    async def _lock_points(
        self, keys: list[bytes], lock: Lock, values: dict[bytes, bytes | None] | None
    ) -> None:
        """Page by page: one request for all keys of a bulk load would keep its leaseholder from its heartbeats."""
        deadline_us = self._sender.deadline_us()
        wanted = list(dict.fromkeys(keys))
        for first in range(0, len(wanted), GET_KEYS_MAX):
            if first:
                await asyncio.sleep(0)
            await self._lock_page(wanted[first : first + GET_KEYS_MAX], lock, values, deadline_us)

    async def _lock_page(
        self, todo: list[bytes], lock: Lock, values: dict[bytes, bytes | None] | None, deadline_us: int
    ) -> None:
        while todo:
            groups = await self.by_range(todo, deadline_us)
            todo = []
            for descriptor, part in groups:
                request = api.Get(
                    self.meta,
                    self.token_for(descriptor),
                    part,
                    int(lock),
                    values is not None,
                    self.lock_wait_us,
                )
                try:
                    response = await self._ask_for_locks(part[0], request, deadline_us)
                except AnswerTooLargeError:
                    if len(part) == 1:
                        raise
                    for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                        await self._lock_page(half, lock, values, deadline_us)
                    continue
                if isinstance(response, api.Moved):
                    todo += part
                    continue
                if not isinstance(response, api.Values):
                    raise self.lost(response)
                self._remember(descriptor, response.token, [(key, None) for key in part])
                if lock is Lock.EXCLUSIVE:
                    self._exclusive.update(part)
                if response.newest > self.newest:
                    self.newest = response.newest
                if values is not None:
                    values.update(zip(part, response.values, strict=True))

    async def _ask_for_locks(self, key: bytes, request: api.Get | api.Scan, deadline_us: int) -> api.Response:
        """Send a request for locks; whoever gives it up leaves it in the leaseholder's queue, or with its locks."""
        try:
            return await self._sender.send(key, request, deadline_us)
        except (asyncio.CancelledError, UnavailableError, AnswerTooLargeError):
            self._unanswered[key] = None
            raise

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
            token = self.token_for(descriptor)
            request = api.Scan(
                self.meta, token, low, high, mode, page_limit, reverse, program, self.lock_wait_us
            )
            response = await self._ask_for_locks(low, request, deadline_us)
            if isinstance(response, api.Moved):
                continue
            if not isinstance(response, api.Rows):
                raise self.lost(response)
            covered = (response.resume or low, high) if reverse else (low, response.resume or high)
            locked: list[api.Span] = [covered]
            if mode == 2:
                locked += [(key, None) for key, _ in response.rows]
                self._exclusive.update(key for key, _ in response.rows)
            self._remember(descriptor, response.token, locked)
            if response.newest > self.newest:
                self.newest = response.newest
            start, end = advance(start, end, low, high, response.resume, reverse)
            rows = response.rows
            if overlay:
                rows = self._merge(rows, covered, reverse, program)
            if left:
                rows = rows[:left]
                left -= len(rows)
            if rows:
                yield rows
                await asyncio.sleep(0)
            if limit and left <= 0:
                return

    def _buffered(self, low: bytes, high: bytes) -> list[bytes]:
        """The buffered keys in [low, high), ascending."""
        if not self.writes:
            return []
        if self._sorted is None:
            self._sorted = sorted(self.writes)
        return self._sorted[bisect_left(self._sorted, low) : bisect_left(self._sorted, high)]

    def _merge(
        self, rows: list[KeyValue], covered: tuple[bytes, bytes], reverse: bool, program: bytes
    ) -> list[KeyValue]:
        """Overlay the write buffer on a page."""
        predicate: Predicate | None = self._gateway.compile_program(program) if program else None
        merged = dict(rows)
        for key in self._buffered(*covered):
            value = self.writes[key]
            if value is None or (predicate is not None and not predicate(value)):
                merged.pop(key, None)
            else:
                merged[key] = value
        return sorted(merged.items(), reverse=reverse)

    # -- tokens --------------------------------------------------------------------------------------------

    def token_for(self, descriptor: RangeDescriptor) -> Token:
        """The token to name at a range: that of any span held in it (R3); b"" before the first request."""
        cached = self._tokens.get(descriptor.range_id)
        if cached is not None and cached[0] == descriptor.generation:
            return cached[1]
        for start, end, held in self.spans:
            if start < descriptor.end and (
                start >= descriptor.start if end is None else end > descriptor.start
            ):
                self._tokens[descriptor.range_id] = (descriptor.generation, held)
                return held
        return Token(b"")

    def _remember(self, descriptor: RangeDescriptor, token: bytes, spans: Sequence[api.Span]) -> None:
        held = self.token_for(descriptor)
        if held and held != token and "K1" not in self._gateway.canaries:
            raise self.dead("its locks in one range were lost")  # K1: two entries of one attempt
        new = Token(token)
        self._tokens[descriptor.range_id] = (descriptor.generation, new)
        for start, end in spans:
            self.spans.append((start, end, new))
        locks_max = self._gateway.limits.transaction_locks
        if len(self.spans) > locks_max:
            raise LimitError(
                f"a transaction may hold at most {locks_max} locks",
                hint="Split it into several transactions, or read with BEGIN READ ONLY, which locks nothing.",
            )

    def _must_live(self) -> None:
        if self._wound:
            raise self.dead(self._wound)

    def dead(self, reason: str, key: bytes = b"", winner: bytes = b"") -> RetryError:
        """The attempt lost; K7: everything after this fails alike, with the first reason."""
        if not self._wound:
            self._wound, self._wound_key, self._winner = reason, key, winner
        detail = f"Reason: {self._wound}."
        if self._winner:
            detail += f" The other transaction: {self._winner.hex()}."
        error = RetryError(
            "could not serialize access: the transaction lost its locks",
            detail=detail,
            hint="Replay the whole transaction.",
        )
        error.key = self._wound_key
        return error

    def lost(self, response: api.Response) -> RetryError | UnavailableError:
        if isinstance(response, api.Wounded):
            return self.dead(response.reason, response.key, response.winner)
        return UnavailableError(f"a leaseholder answered {type(response).__name__}")

    async def by_token(
        self, spans: Sequence[tuple[bytes, bytes | None, Token]], deadline_us: int
    ) -> list[tuple[RangeDescriptor, Token, list[api.Span]]]:
        """Clip spans at the borders of the present ranges and group them by (range, token)."""
        groups: dict[tuple[int, Token], tuple[RangeDescriptor, Token, list[api.Span]]] = {}
        for start, end, token in spans:
            at = start
            while True:
                descriptor = await self._sender.route(at, deadline_us)
                group = groups.setdefault((descriptor.range_id, token), (descriptor, token, []))[2]
                if end is None or end <= descriptor.end:
                    group.append((at, end))
                    break
                group.append((at, descriptor.end))
                at = descriptor.end
        return list(groups.values())

    async def check(self) -> None:
        """K4: raise `RetryError` if any token was lost, at any range that holds a part of what was locked under it."""
        self._must_live()
        deadline_us = self._sender.deadline_us()
        todo = list(self.spans)
        while todo:
            groups = await self.by_token(todo, deadline_us)
            todo = []
            for _, token, spans in groups:
                request = api.Validate(self.meta, token, spans, Timestamp(0))
                response = await self._sender.send(spans[0][0], request, deadline_us)
                if isinstance(response, api.Moved):
                    todo += [(start, end, token) for start, end in spans]
                elif not isinstance(response, api.Ok):
                    raise self.lost(response)

    # -- ending --------------------------------------------------------------------------------------------

    async def rollback(self) -> None:
        """Drop the attempt and its locks, in the background; idempotent."""
        if self.over:
            return
        self.over = True
        if not (self.spans or self._unanswered):
            self._gateway.unregister(self)
            return
        self._gateway.spawn(self.release_all(), "release")

    async def release_all(self, written: Sequence[bytes] = ()) -> None:
        """Release every lock, then unregister; `written`, sorted: ranges of these keys have ended the attempt."""
        deadline_us = self._sender.deadline_us()
        try:
            for descriptor, token, spans in await self.by_token(self.spans, deadline_us):
                position = bisect_left(written, descriptor.start)
                if position < len(written) and written[position] < descriptor.end:
                    continue
                key = spans[0][0]
                await self._sender.send(key, api.Release(self.meta, token, key), deadline_us)
            await self._release_unanswered(deadline_us)
        except UnavailableError:
            return  # the leaseholder asks about the attempt and drops it (K5)
        finally:
            self._gateway.unregister(self)

    async def _release_unanswered(self, deadline_us: int) -> None:
        for key in self._unanswered:
            await self._sender.send(key, api.Release(self.meta, Token(b""), key), deadline_us)

    async def commit(self) -> Timestamp:
        """Commit; c, or 0 if nothing was written. Errors as `txndb.txn.api.Txn.commit`."""
        self._must_live()
        if not self.spans and not self.writes:
            if self._gateway.clock.latest() > self.not_after:  # D1: what it bound may have been changed since
                raise self.dead("its catalogue lease ended before its commit timestamp")
            self.over = True
            self._gateway.unregister(self)
            at = Timestamp(0)
        else:
            at = await Commit(self, self._gateway).run()
        if self._unanswered:
            self._gateway.spawn(self._release_unanswered(self._sender.deadline_us()), "release")
        return at
