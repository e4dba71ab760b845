"""The commit of one attempt, in one phase or two: from locking what it writes to answering its outcome.

Corbett et al., "Spanner" (OSDI 2012), §4.2.1; rules K2, M1–M5, M7, R5, T5 and D1. After the outcome is known the client
is answered; participants resolve in the background (`txndb.txn.recovery`).

Invariants:
1. The anchor is a key actually written, fixed when commit starts (M1).
2. Once a 1PC or a decision was sent, the caller learns nothing but the recorded outcome (M7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from txndb.errors import OutcomeUnknownError, TxndbError, UnavailableError
from txndb.ids import Timestamp, Token
from txndb.limits import ENTRY_WRITE_BYTES_MAX, ENTRY_WRITES_MAX
from txndb.ranges import api
from txndb.ranges.descriptor import RangeDescriptor
from txndb.txn import recovery
from txndb.txn.gateway import Attempt, Gateway, must_be_bounded
from txndb.txn.routing import raise_refusal

BACKGROUND_TIMEOUT_US = 600_000_000


class _Decided(Exception):
    """A prepare found that the attempt has its outcome."""

    def __init__(self, outcome: api.Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class Commit:
    """The commit of one attempt: from locking what it writes to answering its outcome."""

    def __init__(self, txn: Attempt, gateway: Gateway) -> None:
        self._txn = txn
        self._gateway = gateway
        self._sender = gateway.sender
        self._writes = txn.writes
        self._keys = sorted(txn.writes)
        self._anchor = self._keys[0] if self._keys else b""
        self._deadline_us = gateway.sender.deadline_us()
        self._prepared: list[recovery.SpanPair] = []
        self._asked: list[recovery.SpanPair] = []
        """Every part that a prepare was sent for."""

    async def run(self) -> Timestamp:
        """The whole story; every path ends the attempt."""
        txn = self._txn
        try:
            must_be_bounded(self._gateway)
            await txn.lock(self._keys)  # K2
            if not self._keys:
                at = self._candidate()
                if at > txn.not_after:  # D1
                    raise txn.dead("its catalogue lease ended before its commit timestamp")
                self._gateway.clock.observe(
                    at
                )  # D4: there is no commit wait, later timestamps here exceed it anyway
                await self._validate(at)
                await txn.rollback()
                return Timestamp(0)
            outcome = await self._one_phase()
            if outcome is None:
                outcome = await self._two_phase()
        except OutcomeUnknownError:
            raise
        except (TxndbError, asyncio.CancelledError):
            await self._give_up()
            raise
        return self._conclude(outcome)

    def _candidate(self) -> Timestamp:
        clock, canaries = self._gateway.clock, self._gateway.canaries
        if canaries & {"T4", "T5"}:  # the leaseholder's half alone keeps T5 of what the transaction has read
            return max(clock.latest(), self._txn.not_before)
        return max(clock.latest(), clock.now(), Timestamp(self._txn.newest + 1), self._txn.not_before)

    def _conclude(self, outcome: api.Outcome) -> Timestamp:
        """M7: the recorded outcome, and nothing else, is what the caller learns."""
        txn = self._txn
        txn.over = True
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
            raise txn.dead("it was aborted while its commit was under way")
        raise OutcomeUnknownError("the outcome of the commit is no longer recorded")

    async def _give_up(self) -> None:
        """Nothing irrevocable was sent: release, or abort what was prepared."""
        if not self._asked:
            await self._txn.rollback()
            return
        self._txn.over = True
        self._gateway.spawn(self._abort(), "abort")

    # -- one phase -----------------------------------------------------------------------------------------

    async def _one_phase(self) -> api.Outcome | None:
        """M2: all locks, read and write, in one range. None: they are not, or no longer."""
        txn = self._txn
        descriptor = await self._sender.route(self._anchor, self._deadline_us)
        if not self._all_inside(descriptor) or len(self._parts(self._keys)) > 1:
            return None
        spans: list[api.Span] = [(start, end) for start, end, _ in txn.spans]
        writes = [(key, self._writes[key]) for key in self._keys]
        request = api.OnePhase(
            txn.meta,
            txn.token_for(descriptor),
            spans,
            writes,
            self._anchor,
            self._candidate(),
            txn.not_before,
            txn.not_after,
        )
        txn.seal()
        outcome = await self._decided(request, one_phase=True)
        if outcome is None:
            txn.sealed = False
        return outcome

    def _all_inside(self, descriptor: RangeDescriptor) -> bool:
        if self._keys[0] < descriptor.start or self._keys[-1] >= descriptor.end:
            return False
        for start, end, _ in self._txn.spans:
            if start < descriptor.start or (start >= descriptor.end if end is None else end > descriptor.end):
                return False
        return True

    async def _decided(self, request: api.OnePhase | api.Decide, *, one_phase: bool) -> api.Outcome | None:
        """Send what decides, until there is an outcome (M7). A cancellation from here on only shortens nothing."""
        ambiguous = False
        while True:
            try:
                sent = await self._sender.send_commit(self._anchor, request, self._deadline_us)
            except UnavailableError:
                return await self._ask()
            except asyncio.CancelledError:
                return await self._ask_whatever_comes()
            response = sent.response
            ambiguous = ambiguous or sent.ambiguous
            if isinstance(response, api.Outcome):
                if response.status == api.UNKNOWN_TOO_OLD and not ambiguous:
                    raise self._txn.dead(api.OUTLIVED)  # M6: apply refused it, and it was sent once
                return response
            if isinstance(response, api.Moved):
                if one_phase and not ambiguous:
                    return None  # R5: certainly not proposed: 2PC of the same attempt
                if one_phase:
                    return await self._ask()
                continue
            if isinstance(response, api.Wounded) and one_phase and not ambiguous:
                raise self._txn.dead(response.reason, response.key, response.winner)
            if isinstance(response, api.Refused) and not ambiguous:
                raise_refusal(response)  # certainly not proposed
            outcome = await self._ask()
            if outcome.status == api.UNKNOWN_TOO_OLD and isinstance(response, api.Wounded) and not ambiguous:
                raise self._txn.dead(response.reason)  # M5, M6: refused, and what refuses it stays so
            return outcome

    async def _ask_whatever_comes(self) -> api.Outcome:
        """M7: no cancel answers "aborted" once what decides was sent; only the end of the node ends the asking."""
        caller = asyncio.current_task()
        asking = self._gateway.spawn(self._ask(), "ask outcome")
        while True:
            if caller is not None:
                caller.uncancel()
            try:
                outcome: api.Outcome = await asyncio.shield(asking)
                return outcome
            except asyncio.CancelledError:
                if asking.cancelled():
                    raise

    async def _ask(self) -> api.Outcome:
        """Learn the definite outcome from the anchor."""
        deadline_us = self._sender.deadline_us()
        try:
            return await recovery.ask_outcome(self._sender, self._txn.attempt, self._anchor, deadline_us)
        except TxndbError as error:
            self._txn.over = True
            self._gateway.unregister(self._txn)
            raise OutcomeUnknownError(
                "the commit was sent, and no quorum answers what became of it", detail=error.message
            ) from error

    # -- two phases ----------------------------------------------------------------------------------------

    async def _two_phase(self) -> api.Outcome:
        try:
            bounds = await self._prepare_all()
        except _Decided as decided:
            return decided.outcome
        at = max(bounds)
        if at < self._txn.not_before:
            at = self._txn.not_before
        await self._validate(at)
        if at > self._txn.not_after:  # D1, where c became final
            raise self._txn.dead("its catalogue lease ended before its commit timestamp")
        participants = recovery.flatten(self._prepared)
        decide = api.Decide(self._txn.meta, self._anchor, at, participants)
        self._txn.seal()
        outcome = await self._decided(decide, one_phase=False)
        assert outcome is not None
        return outcome

    async def _prepare_all(self) -> list[Timestamp]:
        """Prepare at every participant in parallel; a range that moved is grouped anew (R5)."""
        bounds: list[Timestamp] = []
        todo = self._keys
        candidate = self._candidate()
        while todo:
            groups = await self._txn.by_range(todo, self._deadline_us)
            moved: list[list[bytes]] = await gather(
                [self._prepare_parts(d, keys, candidate, bounds) for d, keys in groups]
            )
            todo = [key for keys in moved for key in keys]
        return bounds

    async def _prepare_parts(
        self, descriptor: RangeDescriptor, keys: list[bytes], candidate: Timestamp, bounds: list[Timestamp]
    ) -> list[bytes]:
        """Prepare one range, part by part; the keys that are elsewhere by now."""
        for part in self._parts(keys):
            self._asked.append((part[0], part[-1]))
            bound = await self._prepare(descriptor, part, candidate)
            if bound is None:
                return keys[keys.index(part[0]) :]
            bounds.append(bound)
            self._prepared.append((part[0], part[-1]))
        return []

    def _parts(self, keys: list[bytes]) -> list[list[bytes]]:
        """Keys in pieces whose writes fit one entry."""
        parts: list[list[bytes]] = [[]]
        size = 0
        for key in keys:
            value = self._writes[key]
            size += len(key) + (len(value) if value is not None else 0)
            if parts[-1] and (len(parts[-1]) >= ENTRY_WRITES_MAX or size > ENTRY_WRITE_BYTES_MAX):
                parts.append([])
                size = 0
            parts[-1].append(key)
        return parts

    async def _prepare(
        self, descriptor: RangeDescriptor, keys: list[bytes], candidate: Timestamp
    ) -> Timestamp | None:
        txn = self._txn
        request = api.Prepare(
            txn.meta,
            txn.token_for(descriptor),
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
            if response.status == api.COMMITTED:
                raise _Decided(response)  # in one phase, by a message that came again after its answer
            raise txn.dead("it was aborted by recovery")
        raise txn.lost(response)

    async def _validate(self, at: Timestamp) -> None:
        """M4: everything read and not written is validated at the final c, at the ranges that hold it now."""
        todo = [(s, e, t) for s, e, t in self._txn.spans if e is not None or s not in self._writes]
        while todo:
            parts = await self._txn.by_token(todo, self._deadline_us)
            answers = await gather([self._validate_one(token, spans, at) for _, token, spans in parts])
            todo = [
                (start, end, token)
                for (_, token, spans), moved in zip(parts, answers, strict=True)
                if moved
                for start, end in spans
            ]

    async def _validate_one(self, token: Token, spans: list[api.Span], at: Timestamp) -> bool:
        request = api.Validate(self._txn.meta, token, spans, at)
        response = await self._sender.send(spans[0][0], request, self._deadline_us)
        if isinstance(response, api.Ok):
            return False
        if isinstance(response, api.Moved):
            return True
        raise self._txn.lost(response)

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
            await txn.release_all(self._keys)
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
                await recovery.resolve(
                    self._sender, txn.attempt, Timestamp(0), self._asked, (b"", b""), deadline_us
                )
                await txn.release_all(self._keys)
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
