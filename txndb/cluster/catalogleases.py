"""Catalogue leases of one node: the right to use a catalogue version, bounded in commit time (rules D1–D6).

Each node holds one lease, a row of range 1: (number, expiry). While it lasts, statements bind against the cached
catalogue without asking anybody, and every user's final timestamp lies in [not_before, not_after], checked where it
becomes final. A DDL transaction revokes all leases as the last step of its commit: it takes the version row exclusively
(so no lease can be taken), asks each holder to return its lease, and commits above every returned `used_ts` and every
expiry not returned.

Invariants (`validate` looks at 1, 3 and 7):
1. A lease is usable only once its acquisition is known to be committed, and not if its number was asked back (D3, D5).
2. A returned lease has no user left that could commit at or above `used_ts`: they ended, were wounded, are snapshots
   at or below it, or their outcome is unknown and they end by `used_ts` (D2, D4).
3. An acquisition has the age of the oldest transaction that waits for it (D6).
4. Only the process that took a lease returns it: what an earlier one sent may yet commit, up to its expiry (D4).
5. A DDL commits on the version it was bound against: it compares the version under its exclusive lock (D2).
6. An older user never loses to a younger DDL: while one is left of a lease that was asked back, the lease is renewed
   with its age (D6). That needs the version row, so it wounds the DDL, which begins again and asks anew; the lease is
   then held as before, by all its users (D3: the version is unchanged). A DDL that is proposed is not wounded (C3): by
   then it has every return it waited for, or waited the expiry out.
7. At no timestamp two versions may be used: what was taken of a version ends before a later version was first read.

Clocks are compared with nothing here but to decide when to renew: what binds are timestamps (D1). An older transaction
that idles is waited for like the holder of any lock: meanwhile nobody younger than the DDL can take a lease, and the
DDL waits for as long as a request waits for a lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from txndb.cluster.host import NodeHost
from txndb.encoding.keys import CLUSTER, prefix_end
from txndb.errors import (
    InternalError,
    LockTimeoutError,
    OutcomeUnknownError,
    RetryError,
    SnapshotTooOldError,
    UnavailableError,
)
from txndb.ids import NodeId, Timestamp, make_timestamp, physical_us
from txndb.limits import CATALOG_LEASE_BOUNDS, CATALOG_LEASE_GIVE_UP_S
from txndb.sql.catalog.leases import ANY_TIME_MAX, Age, CatalogLease, DirectLeases
from txndb.sql.catalog.snapshot import Catalog
from txndb.sql.catalog.store import VERSION_KEY, decode_counter, load_catalog, raise_version
from txndb.txn.api import Lock, ReadView, Txn
from txndb.txn.commit import gather
from txndb.txn.coordinator import SnapshotReads, Transaction

LEASES: Final = CLUSTER + b"lease\0"
ASK_AGAIN_US: Final = 300_000
ACQUIRE_ATTEMPTS_MAX: Final = 100
USERS_POLL_S: Final = 0.002
NUMBER_MAX: Final = 1 << 62
WAITED_FOR_USERS: Final = "It waited for older transactions that use the catalogue as it is."
CHECK_TURNS: Final = 50
"""So often a waiting DDL asks whether it still has its locks: each time costs a request to every range it locked."""


def lease_key(node: NodeId) -> bytes:
    """A node's lease row."""
    return LEASES + node.to_bytes(4, "big")


class LeaseRow(msgspec.Struct, frozen=True, array_like=True):
    """A node's lease: its number, the timestamp it ends at, and the incarnation that took it."""

    number: int
    expiry: Timestamp
    incarnation: int = 0


class Revoke(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A DDL of this age asks back leases up to `number`."""

    request: int
    number: int
    age_ts: Timestamp
    age_id: bytes
    incarnation: int


class Returned(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """They are returned; no user of theirs ends above `used_ts`."""

    request: int
    used_ts: Timestamp


_encode = msgspec.msgpack.Encoder().encode
_decode_row = msgspec.msgpack.Decoder(LeaseRow).decode
_decode_message: Callable[[bytes], Revoke | Returned] = msgspec.msgpack.Decoder(Revoke | Returned).decode


class HeldLease:
    """The node's lease in memory, shared by its users."""

    __slots__ = ("catalog", "not_after", "not_before", "number", "used_us", "users")

    def __init__(self, catalog: Catalog, number: int, not_before: Timestamp, not_after: Timestamp) -> None:
        self.catalog = catalog
        self.number = number
        self.not_before = not_before
        self.not_after = not_after
        self.used_us = 0
        self.users: dict[Age, int] = {}
        """The read-write transactions that use it, by age; snapshots are not counted, their timestamps are (D4)."""


class UserLease(CatalogLease):
    """One user's share: grows with renewals of the same version (D3), is capped when the lease is returned (D4)."""

    __slots__ = ("age", "held", "leases")

    def __init__(self, leases: NodeLeases, held: HeldLease, age: Age | None) -> None:
        super().__init__(held.catalog, held.catalog.version, held.not_before, ANY_TIME_MAX)
        self.leases = leases
        self.held = held
        self.age = age

    @property
    def not_after(self) -> Timestamp:
        if "D1" in self.leases.canaries:
            return ANY_TIME_MAX
        return self.held.not_after

    def is_usable(self) -> bool:
        return self.leases.latest() <= self.not_after

    def note_use(self, at: Timestamp) -> None:
        if at > self.leases.used_ts:
            self.leases.used_ts = at


class NodeLeases:
    """The catalogue leases of one node (`txndb.sql.catalog.leases.CatalogLeases`)."""

    def __init__(self, node: NodeHost) -> None:
        self._node = node
        self._past = DirectLeases()
        self._held: HeldLease | None = None
        self.canaries = node.options.canaries
        self._shortest_us = node.options.catalog_lease_us
        self.used_ts = Timestamp(0)
        """The highest timestamp of a user that did no commit wait, or whose outcome is unknown (D4)."""
        self._asked_back = 0
        """The highest number asked for (D5)."""
        self._leaving: list[HeldLease] = []
        """Leases asked back that still have users, or snapshots that could still fix their timestamp."""
        self._revoking: dict[Age, None] = {}
        """DDL of this node that waits for leases to return: a user of its own lease that needs no renewal."""
        self._acquiring: asyncio.Task[None] | None = None
        self._acquiring_age: Age | None = None
        self._begun_age: Age | None = None
        """The age that the transaction of the acquisition under way has."""
        self._oldest_waiter: Age | None = None
        """The oldest transaction that has waited for this acquisition."""
        self._installed = 0
        """The number of the latest acquisition that came into use."""
        self._newest = (0, Timestamp(0))
        """The newest version that an acquisition found, and the first timestamp it was found at."""
        self._request = 0
        self._answers: dict[int, tuple[NodeId, asyncio.Future[Timestamp]]] = {}
        self._returning: dict[tuple[NodeId, int], None] = {}
        self.acquired_count = 0
        self._stopping = False

    @property
    def _lease_us(self) -> int:
        """How long a lease taken now lasts: long against E, which may have been raised since the node started."""
        return max(self._shortest_us, CATALOG_LEASE_BOUNDS * self._node.clock.latest_bound_us)

    # -- using ---------------------------------------------------------------------------------------------

    def cached(self, age: Age | None) -> CatalogLease | None:
        """A share of the lease held right now."""
        held = self._held
        if held is None or self._stopping:
            return None
        wall_us = self._node.body.time.wall_us()
        if physical_us(held.not_after) - wall_us < self._lease_us // 4:
            return None
        held.used_us = wall_us
        if age is not None:
            held.users[age] = held.users.get(age, 0) + 1
        return UserLease(self, held, age)

    async def acquire(self, age: Age | None, view: ReadView) -> CatalogLease:
        """A share, waiting for an acquisition if there is no lease."""
        while True:
            lease = self.cached(age)
            if lease is not None:
                return lease
            if self._stopping:
                raise UnavailableError("the node is stopping")
            await self._acquisition(age)

    def latest(self) -> Timestamp:
        """The highest value true time may have now."""
        return self._node.clock.latest()

    async def acquire_at(self, view: ReadView) -> CatalogLease:
        """The catalogue as of a view in the past (S2)."""
        return await self._past.acquire_at(view)

    def release(self, lease: CatalogLease, used_ts: Timestamp) -> None:
        """A user ended. `used_ts` counts where no commit wait pushed the clock past it (D4)."""
        lease.note_use(used_ts)
        if not isinstance(lease, UserLease) or lease.age is None:
            return
        users = lease.held.users
        count = users.get(lease.age, 0)
        if count > 1:
            users[lease.age] = count - 1
        else:
            users.pop(lease.age, None)

    def on_time(self) -> None:
        """Renew a lease that is in use before it ends (D3: renewal is an acquisition)."""
        if self._stopping:
            return
        oldest = self._oldest_leaving()
        if oldest is not None and (self._acquiring is None or self._is_older(oldest)):
            self._restart_acquiring(oldest)
        held = self._held
        if held is None or self._acquiring is not None:
            return
        in_use = bool(held.users) or self._node.body.time.wall_us() - held.used_us < self._lease_us
        if in_use and self._ends_soon(held):
            self._start_acquiring(None)

    def _ends_soon(self, lease: HeldLease) -> bool:
        return physical_us(lease.not_after) - self._node.body.time.wall_us() < self._lease_us // 2

    def _oldest_leaving(self) -> Age | None:
        """The oldest user of a lease that was asked back and ends soon; younger ones were wounded or are committing."""
        ages = [age for lease in self._leaving if self._ends_soon(lease) for age in lease.users]
        if not ages:
            return None
        alive = {attempt.age for attempt in self._waited_for() if not attempt.sealed}
        return min((age for age in ages if age in alive and age not in self._revoking), default=None)

    def _waited_for(self) -> list[Transaction]:
        """The attempts of this node that can still commit."""
        attempts = [a for a in self._node.transactions.values() if isinstance(a, Transaction)]
        return [a for a in attempts if not (a.over or a.is_dead)]

    # -- acquiring -----------------------------------------------------------------------------------------

    async def _acquisition(self, age: Age | None) -> None:
        """Wait for the acquisition under way, or begin one; an older joiner restarts it (D6)."""
        task = self._acquiring
        if task is None:
            task = self._start_acquiring(age)
        elif age is not None and self._is_older(age) and "D6" not in self.canaries:
            task = self._restart_acquiring(age)
        if age is not None:
            self._oldest_waiter = age if self._oldest_waiter is None else min(age, self._oldest_waiter)
        await asyncio.shield(asyncio.gather(task, return_exceptions=True))
        error = task.exception() if not task.cancelled() else None
        if isinstance(error, LockTimeoutError):
            raise LockTimeoutError(detail=error.detail)
        if isinstance(error, RetryError | UnavailableError):
            raise UnavailableError(
                "no catalogue lease could be taken", detail=error.message, hint="Range 1 must have a quorum."
            )
        if error is not None:
            raise error

    def _is_older(self, age: Age) -> bool:
        """Than whoever the acquisition under way is for."""
        return self._acquiring_age is None or age < self._acquiring_age

    def _restart_acquiring(self, age: Age) -> asyncio.Task[None]:
        if self._acquiring is not None:
            self._acquiring.cancel()
        return self._start_acquiring(age)

    def _start_acquiring(self, age: Age | None) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._node.spawn(self._acquire(age), "catalogue lease")
        self._acquiring, self._acquiring_age = task, age
        self._begun_age = self._oldest_waiter = None
        task.add_done_callback(self._on_acquired)
        return task

    def _on_acquired(self, task: asyncio.Task[None]) -> None:
        if self._acquiring is task:
            self._acquiring = self._acquiring_age = None

    async def _acquire(self, age: Age | None) -> None:
        """Take or renew the lease: number and expiry are fixed under the row's exclusive lock (D3)."""
        node = self._node
        # Just younger than the transaction that waits for it, older than all that are younger (K3, D6).
        own_age = None if age is None else (age[0], age[1] + b"\0")
        for _ in range(ACQUIRE_ATTEMPTS_MAX):
            if self._acquiring is not asyncio.current_task():
                return  # replaced while its commit was under way, which no cancellation ends (M7)
            txn = node.begin(own_age)
            own_age = self._begun_age = txn.age
            try:
                row, version = await self._write_row(txn)
                at = await txn.commit()
            except RetryError:
                await txn.rollback()
                continue
            except BaseException:
                await txn.rollback()
                raise
            try:
                await self._install(row, version, at)
            except SnapshotTooOldError:
                continue  # its outcome took so long to learn that the catalogue cannot be read as it was then
            return
        raise RetryError("the catalogue stayed locked")

    async def _write_row(self, txn: Txn) -> tuple[LeaseRow, int]:
        node = self._node
        (version,) = await txn.get([VERSION_KEY], Lock.SHARED)
        if version is None:
            raise InternalError("the catalogue has no version row: the cluster was not bootstrapped")
        key = lease_key(node.node)
        (old,) = await txn.get([key], Lock.EXCLUSIVE)
        before = _decode_row(old) if old is not None else LeaseRow(0, Timestamp(0))
        expiry = make_timestamp(node.body.time.wall_us() + self._lease_us)
        if before.incarnation != node.incarnation:
            # What the process before this one sent may commit up to there: our returns must cover it (invariant 4).
            self.used_ts = max(self.used_ts, before.expiry)
        row = LeaseRow(before.number + 1, max(expiry, before.expiry), node.incarnation)
        txn.put(key, _encode(row))
        return row, decode_counter(version)

    async def _install(self, row: LeaseRow, version: int, at: Timestamp) -> None:
        """The acquisition is known committed at `at`: use it, unless it was asked back meanwhile (D5)."""
        if version > self._newest[0]:
            self._newest = (version, at)
        if row.number <= self._installed:
            return  # its outcome was learned late: a later acquisition is in use
        held = self._held
        if held is None:
            held = next((lease for lease in self._leaving if lease.catalog.version == version), None)
        if held is not None and (held.catalog.version == version or "D3" in self.canaries):
            if row.number > self._asked_back:
                held.number, held.not_after = row.number, row.expiry
                self._installed = row.number
                if held in self._leaving:  # whoever asked for it back has lost (invariant 6)
                    self._leaving.remove(held)
                    self._held = held
            return
        catalog = await load_catalog(SnapshotReads(self._node, at), version)
        if row.number <= self._asked_back and "D5" not in self.canaries:
            return
        if row.number <= self._installed:
            return
        self._installed = row.number
        self.acquired_count += 1
        self._held = HeldLease(catalog, row.number, at, row.expiry)

    # -- being asked ---------------------------------------------------------------------------------------

    def on_message(self, sender: NodeId, payload: bytes) -> None:
        """A message of another node's leases."""
        message = _decode_message(payload)
        if isinstance(message, Revoke):
            if message.incarnation != self._node.incarnation:
                return  # taken by the process before this one: it runs out (invariant 4)
            key = (sender, message.request)
            if key not in self._returning:
                self._returning[key] = None
                self._node.spawn(self._answer(sender, message), "return lease")
        else:
            found = self._answers.get(message.request)
            if found is not None and found[0] == sender and not found[1].done():
                found[1].set_result(message.used_ts)

    async def _answer(self, sender: NodeId, message: Revoke) -> None:
        try:
            used_ts = await self._give_back(message.number, (message.age_ts, message.age_id), None)
            self._node.send_session(sender, _encode(Returned(message.request, used_ts)))
        finally:
            self._returning.pop((sender, message.request), None)

    async def _give_back(self, number: int, age: Age, ddl: Transaction | None) -> Timestamp:
        """D2: wound younger users that have not sent their decision, wait for the others; then nobody uses it."""
        self._asked_back = max(self._asked_back, number)
        held = self._held
        if held is not None and held.number <= self._asked_back:
            self._held = None
            self._leaving.append(held)
        turns = 0
        since_us = self._node.body.time.monotonic_us()
        while self._is_blocked(number, age, ddl):
            await asyncio.sleep(USERS_POLL_S)
            turns += 1
            if ddl is not None and turns % CHECK_TURNS == 0:
                self._must_not_wait_longer(ddl, since_us)
                await ddl.check()
        clock = self._node.clock
        used_ts = max(clock.latest(), clock.now(), self.used_ts)
        for lease in self._leaving:
            if lease.number <= number and "D2" not in self.canaries:
                lease.not_after = min(lease.not_after, used_ts)
        self._leaving = [lease for lease in self._leaving if lease.number > number]
        return used_ts

    async def give_up(self) -> None:
        """A graceful stop: users end, the row says when, and no DDL waits for the expiry. Best effort, bounded."""
        self._stopping = True
        giving = self._node.spawn(self._give_up(), "giving the catalogue lease up")
        try:
            # Not cancelled: a commit that was sent would be waited for. It ends with the node, if not before.
            await asyncio.wait_for(asyncio.shield(giving), CATALOG_LEASE_GIVE_UP_S)
        except TimeoutError:
            return  # then the lease runs out

    async def _give_up(self) -> None:
        node = self._node
        used_ts = await self._give_back(NUMBER_MAX, (Timestamp(0), b""), None)
        txn = node.begin()
        try:
            (old,) = await txn.get([lease_key(node.node)], Lock.EXCLUSIVE)
            before = _decode_row(old) if old is not None else None
            if before is not None and before.incarnation == node.incarnation and before.expiry > used_ts:
                row = LeaseRow(before.number + 1, used_ts, node.incarnation)
                txn.put(lease_key(node.node), _encode(row))
            await txn.commit()
        except (UnavailableError, RetryError, OutcomeUnknownError) as error:
            node.body.event(f"the catalogue lease runs out by itself: {error.message}")
        finally:
            await txn.rollback()

    def _is_blocked(self, number: int, age: Age, ddl: Transaction | None) -> bool:
        """Whether a user of a lease up to `number` is left that must be waited for; others are wounded."""
        ages: dict[Age, None] = {}
        earliest = self._node.clock.earliest()
        for lease in self._leaving:
            if (
                lease.number <= number and lease.not_after >= earliest
            ):  # else its users cannot commit any more (D1)
                ages.update(dict.fromkeys(lease.users))
        if not ages or "D2" in self.canaries:
            return False
        blocking = False
        for attempt in self._waited_for():
            if attempt is ddl or attempt.age not in ages:
                continue
            if attempt.age > age and not attempt.sealed:
                attempt.on_wound("the catalogue changed under it")
            else:
                blocking = True
        return blocking

    # -- watching ------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Raise `InternalError` if an invariant of the module docstring does not hold."""
        held = self._held
        if held is not None and held.number <= self._asked_back:
            raise InternalError(
                f"catalogue leases, invariant 1: number {held.number} was asked back, and is used"
            )
        begun, waiter = self._begun_age, self._oldest_waiter
        if self._acquiring is not None and begun and waiter and begun > (waiter[0], waiter[1] + b"\0"):
            raise InternalError(
                f"catalogue leases, invariant 3: one is taken at the age {begun}, and {waiter} waits for it"
            )
        version, at = self._newest
        for lease in self._leaving if held is None else [held, *self._leaving]:
            if lease.catalog.version < version and lease.not_after >= at:
                raise InternalError(
                    f"catalogue leases, invariant 7: version {lease.catalog.version} may be used until "
                    f"{lease.not_after}, and version {version} was there at {at}"
                )

    # -- revoking (DDL) ------------------------------------------------------------------------------------

    async def revoke(self, txn: Txn, lease: CatalogLease) -> None:
        """D2, the last step before a DDL's commit: nobody uses the old catalogue at or above its timestamp."""
        if not isinstance(txn, Transaction):
            raise InternalError("only a transaction of this node can revoke")
        version = await raise_version(txn)
        if version != lease.version + 1 and "D2-version" not in self.canaries:
            raise txn.dead("the catalogue changed before its own change of it")
        floor = lease.not_before
        rows: list[tuple[bytes, bytes]] = []
        async for batch in txn.scan(LEASES, prefix_end(LEASES)):
            rows += batch
        waits = [self._ask(txn, NodeId(int.from_bytes(k[-4:], "big")), _decode_row(v)) for k, v in rows]
        self._revoking[txn.age] = None
        try:
            for bound in await gather(waits):
                floor = max(floor, bound)
        finally:
            del self._revoking[txn.age]
        # T2: a bound of a faster clock, or of a user whose outcome is unknown, is waited for.
        while wait_us := self._node.clock.wait_us_until_allowed(floor):
            await asyncio.sleep(min(wait_us, ASK_AGAIN_US) / 1e6)
            await txn.check()
        txn.free_commit(Timestamp(floor + 1) if "D4" not in self.canaries else Timestamp(0))

    async def _ask(self, txn: Transaction, holder: NodeId, row: LeaseRow) -> Timestamp:
        """What the DDL's commit must exceed for one lease: its `used_ts` if returned, else its expiry (D4)."""
        node = self._node
        if holder == node.node and row.incarnation == node.incarnation:
            return await self._give_back(row.number, txn.age, txn)
        # Unique over restarts of this node: an answer to the process before it must not be taken for this one's.
        self._request += 1
        request = node.incarnation << 32 | self._request
        answer: asyncio.Future[Timestamp] = asyncio.get_running_loop().create_future()
        self._answers[request] = (holder, answer)
        message = _encode(Revoke(request, row.number, txn.age[0], txn.age[1], row.incarnation))
        since_us = node.body.time.monotonic_us()
        try:
            while node.clock.earliest() <= row.expiry:
                if "D4" in self.canaries:
                    return Timestamp(0)
                if holder != node.node:  # its own row of before a restart runs out (invariant 4)
                    node.send_session(holder, message)
                if await wait_briefly(answer, ASK_AGAIN_US):
                    return answer.result()
                self._must_not_wait_longer(txn, since_us)
                await txn.check()
            return row.expiry
        finally:
            self._answers.pop(request, None)

    def _must_not_wait_longer(self, ddl: Transaction, since_us: int) -> None:
        waited_us = self._node.body.time.monotonic_us() - since_us
        if ddl.lock_wait_us and waited_us >= ddl.lock_wait_us:
            raise LockTimeoutError(detail=WAITED_FOR_USERS)


async def wait_briefly(answer: asyncio.Future[Timestamp], timeout_us: int) -> bool:
    """Wait for an answer, or for the time to be over; whether it is there."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    timer = loop.call_later(timeout_us / 1e6, _wake, over)

    def on_answer(_: asyncio.Future[Timestamp]) -> None:
        _wake(over)

    answer.add_done_callback(on_answer)
    try:
        await over
    finally:
        timer.cancel()
        answer.remove_done_callback(on_answer)
    return answer.done()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
