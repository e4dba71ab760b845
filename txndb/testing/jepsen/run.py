"""One round – one workload on a cluster of its own under some nemeses – from the first node to the verdict.

1. *start*: nodes come up and join; the workload makes its tables.
2. *safety*: clients work while the nemesis does harm. Nothing wrong may be seen.
3. *heal*: everything works again; within `PROGRESS_S` every client must complete an operation.
4. *rest*: clients stop; replicas must become equal byte by byte.
5. *verdict*: everything is read once more, nodes are stopped, and the checker judges the whole history.

The round's directory keeps `history.jsonl` (for `txndb check`), `nemesis.jsonl`, `plot.svg`, `report.json` and each
node's log.

A violation is what the checker finds, an acknowledged write that is gone, an outcome that a living gateway did not
know, no progress after healing, replicas that differ, a node that ended itself without cause, a traceback in a
node's log. That the cluster cannot be started at all, or the machinery fails, is a failure, not a violation.

Invariant: whatever happens, Ctrl-C included, no process, mount or namespace of the round is left.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from txndb.errors import StoreError, TxndbError
from txndb.server.demo import replicas_agree
from txndb.sim.history import History, Op
from txndb.sim.seeds import derive
from txndb.sim.workloads import MAKERS, Workload
from txndb.sim.workloads.api import ConnectionLostError, GaveUpError
from txndb.testing.jepsen import disk, namespaces
from txndb.testing.jepsen.client import Ambiguity, WireClient
from txndb.testing.jepsen.fleet import Fleet, Setup, State, tracebacks
from txndb.testing.jepsen.links import NETNS, Links, ProxyLinks
from txndb.testing.jepsen.nemesis import Journal, Nemesis
from txndb.testing.jepsen.plot import draw
from txndb.testing.jepsen.report import (
    FINAL_PROCESS,
    RoundReport,
    by_f,
    fault_counts,
    longest_gap_ms,
    lost_writes,
)

CLIENT_TIMEOUT_S: Final = 30.0
"""Longer than any fault lasts: a client that gives up learns nothing."""
PROGRESS_S: Final = 90.0
REST_S: Final = 45.0
AGREE_S: Final = 60.0
THINK_S: Final = 0.1
ERROR_US: Final = 20_000
"""What `--clock` vouches for where clocks are moved."""
_TOGETHER_US: Final = 2_000
"""And where they are not: all nodes read the same clock."""
_MAKING: Final = (StoreError, namespaces.ToolError, OSError)


class Round(msgspec.Struct, frozen=True):
    """What to do. `skipped`: nemeses that were asked for and cannot be had, with the reason."""

    workload: str
    nemesis: tuple[str, ...]
    links: str
    nodes: int
    clients: int
    seconds: float
    seed: int
    skipped: dict[str, str] = {}

    @property
    def real_time(self) -> bool:
        """Whether every clock stays within its bound."""
        return "clock-beyond" not in self.nemesis

    def setup(self) -> Setup:
        """How nodes are made for it."""
        moved = "clock" in self.nemesis or "clock-beyond" in self.nemesis
        small = derive(self.seed, "disk").randrange(2, self.nodes + 1) if "disk-full" in self.nemesis else 0
        return Setup(
            error_us=ERROR_US if moved else _TOGETHER_US,
            faked_clocks=moved,
            small_disks=frozenset({small} if small else ()),
        )


def make_links(kind: str, pids: Callable[[], dict[int, int]]) -> Links:
    """The network of a round."""
    return namespaces.NamespaceLinks() if kind == NETNS else ProxyLinks(pids)


def remove_leftovers() -> list[str]:
    """What runs that were killed have left behind, removed."""
    return [*disk.remove_leftovers(), *namespaces.remove_leftovers()]


class Runner:
    """One round. `say` is told what happens."""

    def __init__(self, plan: Round, directory: Path, say: Callable[[str], None]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.plan = plan
        self.directory = directory
        self.history = History()
        self.workload: Workload = MAKERS[plan.workload](derive(plan.seed, "workload"))
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self._say = say
        self._began_s = time.monotonic()
        self._journal = Journal(directory / "nemesis.jsonl", self._began_s)
        self._clients: list[WireClient] = []
        self._harm_s = (0.0, 0.0)
        self._stopping = False

    async def run(self) -> RoundReport:
        """Lead the round to its verdict; writes the directory's files in any case."""
        failure = ""
        try:
            with Fleet(
                self.directory, partial(make_links, self.plan.links), self.plan.setup(), self._journal.note
            ) as fleet:
                failure = await self._course(fleet)
                self.violations += fleet.problems
                self.violations += tracebacks(fleet.log_paths())
            if not failure:
                self._judge()
        except _MAKING as error:
            failure = f"{type(error).__name__}: {error}"
        finally:
            self._journal.close()
            self._write_files()
        report = self._report(failure)
        (self.directory / "report.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(report), indent=2)
        )
        return report

    # --- phases

    async def _course(self, fleet: Fleet) -> str:
        """All phases with nodes; what failed that is nobody's bug, or empty."""
        await asyncio.to_thread(fleet.start, self.plan.nodes)
        self._say(f"{self.plan.nodes} nodes serve ({fleet.links.kind}); setting up")
        client = self._client(fleet, -1)
        try:
            await self.workload.set_up(client)
        except (TxndbError, ConnectionLostError, GaveUpError) as error:
            return f"the workload could not be set up: {error}"
        finally:
            client.close()
        self._clients = [self._client(fleet, number) for number in range(self.plan.clients)]
        tasks = [asyncio.create_task(self._work(client)) for client in self._clients]
        try:
            failure = await self._harm(fleet)
            if not failure:
                await self._recover(fleet)
            self._stopping = True
            await self._stop(tasks)
        finally:
            for client, task in zip(self._clients, tasks, strict=True):
                client.close()
                task.cancel()
        if not failure and not self.violations:
            await self._rest(fleet)
        return failure

    async def _harm(self, fleet: Fleet) -> str:
        nemesis = Nemesis(fleet, self.plan.nemesis, self.plan.seed, self._journal)
        self._say(f"{self.plan.seconds:g} s of {', '.join(self.plan.nemesis) or 'calm'}")
        from_s = self._journal.now_s()
        nemesis.start()
        try:
            await asyncio.sleep(self.plan.seconds)
        finally:
            await asyncio.shield(asyncio.to_thread(nemesis.stop))
        self._harm_s = (from_s, self._journal.now_s())
        return (
            "" if nemesis.failure is None else f"nemesis: {type(nemesis.failure).__name__}: {nemesis.failure}"
        )

    async def _recover(self, fleet: Fleet) -> None:
        """Heal, and require that every node serves and every client gets on."""
        await asyncio.to_thread(fleet.heal)
        self._journal.note("healed")
        limit_s = time.monotonic() + PROGRESS_S
        while not await asyncio.to_thread(fleet.mend):
            if time.monotonic() > limit_s:
                down = fleet.numbers(State.DOWN, State.STARTING)
                self.violations.append(f"nodes {down} did not come up within {PROGRESS_S:g} s after healing")
                return
            await asyncio.sleep(0.5)
        before = [client.operations_ok for client in self._clients]
        limit_s = time.monotonic() + PROGRESS_S
        while stuck := [n for n, c in enumerate(self._clients) if c.operations_ok <= before[n]]:
            if time.monotonic() > limit_s:
                self.violations.append(
                    f"no progress of clients {stuck} within {PROGRESS_S:g} s after healing"
                )
                return
            await asyncio.sleep(0.1)
        self._journal.note("every client has made progress")

    async def _stop(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        _, waiting = await asyncio.wait(tasks, timeout=REST_S)
        if waiting and not self.violations:
            self.violations.append(f"{len(waiting)} clients still wait {REST_S:g} s after the end")
        for task in tasks:
            if task.done():
                task.result()

    async def _rest(self, fleet: Fleet) -> None:
        """Read everything once more, and compare replicas."""
        fleet.notice()
        client = self._client(fleet, FINAL_PROCESS)
        before = len(self.history.ops)
        await self.workload.read_all(client)
        client.close()
        bad = [op for op in self.history.ops[before:] if op.type in ("fail", "info")]
        if bad:
            self.violations.append(f"the last read failed on a healed cluster: {bad[0].error}")
        if not await replicas_agree(fleet.running(), AGREE_S, complete=False):
            self.violations.append(f"replicas differ, or did not settle within {AGREE_S:g} s")

    def _judge(self) -> None:
        self._say(f"judging {len(self.history.ops)} lines of history")
        self.violations += self.workload.check(self.history, real_time=self.plan.real_time)
        lost = lost_writes(self.workload.model, self.history.ops)
        if lost:
            self.violations.append(f"{lost} acknowledged writes are lost")
        for one in self._ambiguities():
            self.violations.append(f"{one.index}: node {one.node} lived and did not know: {one.error}")

    # --- clients

    def _client(self, fleet: Fleet, number: int) -> WireClient:
        return WireClient(
            number,
            fleet,
            derive(self.plan.seed, "client", number),
            self.history,
            self._count,
            clients=self.plan.clients,
            timeout_s=CLIENT_TIMEOUT_S,
            began_s=self._began_s,
            locking=not self.plan.real_time,
        )

    async def _work(self, client: WireClient) -> None:
        try:
            while not self._stopping:
                before = client.operations_ok
                await self.workload.operate(client)
                pause_s = client.rng.random() * 2 * THINK_S
                await asyncio.sleep(pause_s if client.operations_ok > before else pause_s + 0.1)
        finally:
            client.close()

    def _count(self, what: str) -> None:
        self.counts[what] += 1

    def _ambiguities(self) -> list[Ambiguity]:
        return [one for client in self._clients for one in client.ambiguities]

    # --- what is kept

    def _write_files(self) -> None:
        lines = b"".join(line_of(op) + b"\n" for op in self.history.ops)
        (self.directory / "history.jsonl").write_bytes(lines)
        title = f"{self.plan.workload} under {', '.join(self.plan.nemesis) or 'calm'}"
        picture = draw(title, self.history.ops, self._journal.happenings)
        (self.directory / "plot.svg").write_text(picture, "utf-8")

    def _report(self, failure: str) -> RoundReport:
        plan, ops = self.plan, self.history.ops
        return RoundReport(
            ok=not failure and not self.violations,
            workload=plan.workload,
            model=self.workload.model,
            nemesis=plan.nemesis,
            links=plan.links,
            nodes=plan.nodes,
            clients=plan.clients,
            seconds=plan.seconds,
            real_time=plan.real_time,
            operations=by_f(ops),
            faults=fault_counts(self._journal.happenings),
            violations=self.violations,
            lost_writes=lost_writes(self.workload.model, ops),
            ambiguous=self._ambiguities(),
            longest_gap_ms=longest_gap_ms(ops, *self._harm_s),
            skipped=plan.skipped,
            counts=dict(sorted(self.counts.items())),
            failure=failure,
        )


def line_of(op: Op) -> bytes:
    """An operation as a line of `history.jsonl`; `time` in nanoseconds, as Jepsen has it."""
    line: dict[str, Any] = {"index": op.index, "process": op.process, "type": op.type, "f": op.f}
    line["value"] = op.value
    if op.key is not None:
        line["key"] = op.key
    line["time"] = op.time_us * 1000
    if op.error is not None:
        line["error"] = op.error
    return msgspec.json.encode(line)
