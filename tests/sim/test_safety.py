"""The watch over Raft's safety properties: it sees two leaders of a term, and an index applied twice over."""

from __future__ import annotations

from typing import cast

from txndb.sim.host import SimHost
from txndb.sim.safety import RaftWatch


class _Told:
    """A brain that says of Raft what it is told to."""

    def __init__(self, reigns: dict[int, int], log: dict[int, int]) -> None:
        self._reigns = reigns
        self.log = log

    def reigns(self) -> dict[int, int]:
        return self._reigns

    def leases(self) -> list[int]:
        return list(self._reigns)

    def applied(self, after: dict[int, int]) -> dict[int, list[tuple[int, int]]]:
        entries = [(index, term) for index, term in self.log.items() if index > after.get(7, 0)]
        return {7: entries} if entries else {}


class _Machine:
    """All of a host that the watch looks at."""

    def __init__(self, machine: int, reigns: dict[int, int], log: dict[int, int]) -> None:
        self.machine = machine
        self.ready = True
        self.brain: _Told | None = _Told(reigns, log)


def _host(machine: int, reigns: dict[int, int], log: dict[int, int]) -> SimHost:
    return cast(SimHost, _Machine(machine, reigns, log))


def test_one_leader_a_term_and_one_entry_an_index_are_fine() -> None:
    watch = RaftWatch()
    first, second = _host(1, {7: 3}, {10: 2, 11: 3}), _host(2, {7: 4}, {10: 2, 11: 3, 12: 4})
    assert [watch.look(host) for host in (first, second, first, second)] == [""] * 4


def test_two_leaders_of_one_term_are_seen_even_one_after_the_other() -> None:
    watch = RaftWatch()
    assert watch.look(_host(1, {7: 3}, {})) == ""
    watch.forget(1)
    assert watch.look(_host(2, {7: 3}, {})) == "election safety: n1 and n2 led range 7 in term 3"


def test_an_index_that_was_applied_as_something_else_is_seen_after_a_restart() -> None:
    watch = RaftWatch()
    assert watch.look(_host(1, {}, {10: 2, 11: 3})) == ""
    watch.forget(1)
    assert watch.look(_host(1, {}, {10: 2, 11: 4})).startswith(
        "state machine safety: range 7 has at index 11"
    )


def test_a_machine_without_a_process_says_nothing() -> None:
    host = _Machine(1, {7: 3}, {10: 2})
    host.brain = None
    assert RaftWatch().look(cast(SimHost, host)) == ""


def test_a_lease_held_twice_is_seen() -> None:
    apart = [_host(1, {7: 3}, {}), _host(2, {8: 3}, {})]
    assert RaftWatch.compare_leases(apart) == ""
    assert (
        RaftWatch.compare_leases([*apart, _host(3, {7: 4}, {})])
        == "leases: n1 and n3 both hold that of range 7"
    )
