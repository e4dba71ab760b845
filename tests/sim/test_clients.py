"""What a simulated client claims to know: ok, fail or info, and never a transaction over two connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sim.toynode import Rangeless, ToyResult
from txndb.errors import OutcomeUnknownError, RetryError, TxndbError, UnavailableError
from txndb.sim.clients import Client
from txndb.sim.history import History
from txndb.sim.host import Brain, Machinery, Parts, SimBody
from txndb.sim.loop import VirtualLoop
from txndb.sim.network import Network, NetworkOptions
from txndb.sim.seeds import derive
from txndb.sim.trace import Trace
from txndb.sim.workloads.api import RefusedError


class Scripted(Rangeless):
    """A brain and session in one: statements are logged, and `on` says what goes wrong at which."""

    def __init__(self, log: list[str], on: dict[str, list[Callable[[], None]]]) -> None:
        self.log = log
        self.on = on
        self.status = "I"

    async def start(self, join: list[str], advertise: str) -> None:
        pass

    async def new_session(self, user: str, database: str) -> Scripted:
        self.log.append("login")
        return Scripted(self.log, self.on)

    async def execute(self, sql: str, params: tuple[Any, ...] = ()) -> ToyResult:
        self.log.append(sql)
        self.status = "I" if sql in ("COMMIT", "ROLLBACK") else "T" if sql == "BEGIN" else self.status
        await asyncio.sleep(0.001)
        happenings = self.on.get(sql)
        if happenings:
            happenings.pop(0)()
            await asyncio.sleep(0.001)
        return ToyResult(sql, [])

    def cancel(self) -> None:
        self.log.append("cancel")

    async def close(self) -> None:
        self.log.append("close")


class Setting:
    """One host with a scripted brain, and one client."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.log: list[str] = []
        self.on: dict[str, list[Callable[[], None]]] = {}
        self.history = History()

        async def open_brain(body: SimBody) -> Brain:
            return Scripted(self.log, self.on)

        network = Network(self.loop, derive(1, "net"), NetworkOptions(), Trace())
        (self.host,) = Machinery(network, Parts(open_brain), seed=1, machines=1).hosts()
        self.host.start()
        self.loop.run_until_us(1000)
        self.client = Client(
            0, [self.host], derive(1, "c"), self.history, lambda what: None, clients=4, timeout_us=1_000_000
        )

    async def _work(self) -> str:
        await self.client.statement("UPDATE")
        return "done"

    def transact(self) -> list[str]:
        task = self.loop.create_task(
            self.client.operation("f", "k", "v", lambda: self.client.transaction(self._work))
        )
        self.loop.run_until_us(self.loop.now_us + 5_000_000)
        task.result()
        return [op.type for op in self.history.ops]

    def single(self, *, writes: bool) -> list[str]:
        async def one() -> str:
            return (await self.client.single("SINGLE", writes=writes)).tag

        task = self.loop.create_task(self.client.operation("f", "k", "v", one))
        self.loop.run_until_us(self.loop.now_us + 5_000_000)
        task.result()
        return [op.type for op in self.history.ops]

    def happen(self, at: str, *what: Callable[[], None]) -> None:
        self.on[at] = list(what)


def _raise(error: TxndbError) -> Callable[[], None]:
    def happen() -> None:
        raise error

    return happen


@pytest.fixture
def setting() -> Iterator[Setting]:
    made = Setting()
    yield made
    made.loop.bury()


def test_an_acknowledged_commit_is_ok(setting: Setting) -> None:
    assert setting.transact() == ["invoke", "ok"]
    assert setting.log == ["login", "BEGIN", "UPDATE", "COMMIT"]
    assert setting.history.ops[-1].value == "done"


def test_a_lost_transaction_is_replayed_on_the_same_connection(setting: Setting) -> None:
    setting.happen("UPDATE", _raise(RetryError("lost")))
    setting.happen("COMMIT", _raise(RetryError("lost too")))
    assert setting.transact() == ["invoke", "ok"]
    assert setting.log == [
        *("login", "BEGIN", "UPDATE", "ROLLBACK"),
        *("BEGIN", "UPDATE", "COMMIT"),
        *("BEGIN", "UPDATE", "COMMIT"),
    ]


def test_a_crash_before_commit_is_a_failure_and_nothing_runs_on_another_connection(setting: Setting) -> None:
    setting.happen("UPDATE", setting.host.kill)
    assert setting.transact() == ["invoke", "fail"]
    assert setting.log == ["login", "BEGIN", "UPDATE"]


def test_a_crash_during_commit_is_unknown_and_retires_the_process(setting: Setting) -> None:
    setting.happen("COMMIT", setting.host.kill)
    assert setting.transact() == ["invoke", "info"]
    assert setting.client.process == 4


@pytest.mark.parametrize(
    ("error", "outcome"), [(OutcomeUnknownError("?"), "info"), (UnavailableError("no quorum"), "fail")]
)
def test_the_nodes_word_on_a_commit_is_believed(setting: Setting, error: TxndbError, outcome: str) -> None:
    setting.happen("COMMIT", _raise(error))
    assert setting.transact() == ["invoke", outcome]


def test_a_refusal_is_a_failure_and_the_connection_stays(setting: Setting) -> None:
    async def refuse() -> None:
        await setting.client.transaction(setting._work)
        raise RefusedError("nothing to do")

    for _ in range(2):
        task = setting.loop.create_task(setting.client.operation("f", "k", "v", refuse))
        setting.loop.run_until_us(setting.loop.now_us + 1_000_000)
        assert task.result() is False
    assert [op.type for op in setting.history.ops] == ["invoke", "fail"] * 2
    assert setting.log.count("login") == 1
    assert setting.client.operations_ok == 2


def test_a_client_that_leaves_logs_in_anew(setting: Setting) -> None:
    setting.transact()
    setting.loop.create_task(setting.client.leave())
    setting.transact()
    assert setting.log.count("login") == 2
    assert setting.log.count("close") == 1


def test_a_hanging_commit_is_given_up_as_unknown_and_hung_up(setting: Setting) -> None:
    def pause() -> None:
        assert setting.host.incarnation is not None
        setting.host.incarnation.pause()

    setting.happen("COMMIT", pause)
    assert setting.transact() == ["invoke", "info"]
    assert setting.host.incarnation is not None
    setting.host.incarnation.resume()
    setting.loop.run_until_us(setting.loop.now_us + 1_000_000)
    assert setting.log[-2:] == ["cancel", "close"]


@pytest.mark.parametrize(("writes", "outcome"), [(True, "info"), (False, "fail")])
def test_a_single_statement_under_way_is_unknown_only_if_it_writes(
    setting: Setting, writes: bool, outcome: str
) -> None:
    setting.happen("SINGLE", setting.host.kill)
    assert setting.single(writes=writes) == ["invoke", outcome]


def test_a_client_without_a_gateway_fails_and_comes_back(setting: Setting) -> None:
    setting.host.kill()
    assert setting.transact() == ["invoke", "fail"]
    setting.host.start()
    setting.loop.run_until_us(setting.loop.now_us + 1000)
    assert setting.transact() == ["invoke", "fail", "invoke", "ok"]


def test_a_bug_in_a_statement_is_a_problem_of_the_run(setting: Setting) -> None:
    def bug() -> None:
        raise KeyError("oops")

    setting.happen("UPDATE", bug)
    assert setting.transact() == ["invoke", "fail"]
    assert "KeyError: 'oops'" in setting.loop.problems[0]
