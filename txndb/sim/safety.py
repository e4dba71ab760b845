"""What Raft and its leases promise, watched over the whole cluster while it runs.

- *Election safety* (Raft paper §5.2): a term of a range has at most one leader.
- *State machine safety* (§5.4.3): what one replica applied at an index no other replica ever contradicts. By
  the log matching property, which is checked at the end of a run, an entry's term stands for its content.
- *Leases exclude each other* (dissertation §6.4.1, rule L3): at no instant do two nodes hold the lease of a range, each
  by its own clock. A paused process holds what it held: it will look at its clock before it answers (rule L2).

`look` is called ten times a second, and before a process ends. It reads what replicas have in memory: it costs a
simulated disk nothing, and takes none of the errors ordered there.

Invariant: what was seen once is remembered for the whole run, over restarts and changes of replicas.
"""

from __future__ import annotations

from txndb.sim.host import SimHost


class RaftWatch:
    """What was seen of the Raft groups of one world."""

    def __init__(self) -> None:
        self._leaders: dict[tuple[int, int], int] = {}
        """(range, term) -> the machine that led it."""
        self._terms: dict[tuple[int, int], tuple[int, int]] = {}
        """(range, index) -> (term of the applied entry, the machine that was first seen to have applied it)."""
        self._seen: dict[int, dict[int, int]] = {}
        """Machine -> range -> up to which index its process was looked at."""

    def look(self, host: SimHost) -> str:
        """Compare one machine with all that was seen; what is wrong, or an empty string."""
        brain = host.brain
        if brain is None:
            return ""
        for range_id, term in brain.reigns().items():
            first = self._leaders.setdefault((range_id, term), host.machine)
            if first != host.machine:
                return f"election safety: n{first} and n{host.machine} led range {range_id} in term {term}"
        seen = self._seen.setdefault(host.machine, {})
        for range_id, entries in brain.applied(seen).items():
            for index, term in entries:
                known = self._terms.setdefault((range_id, index), (term, host.machine))
                if known[0] != term:
                    return (
                        f"state machine safety: range {range_id} has at index {index} an entry of term {known[0]} "
                        f"on n{known[1]} and one of term {term} on n{host.machine}, both applied"
                    )
            seen[range_id] = entries[-1][0]
        return ""

    @staticmethod
    def compare_leases(hosts: list[SimHost]) -> str:
        """Whether two machines hold one lease at this instant; what is wrong, or an empty string."""
        holders: dict[int, int] = {}
        for host in hosts:
            if host.brain is None or not host.ready:
                continue
            for range_id in host.brain.leases():
                other = holders.setdefault(range_id, host.machine)
                if other != host.machine:
                    return f"leases: n{other} and n{host.machine} both hold that of range {range_id}"
        return ""

    def forget(self, machine: int) -> None:
        """A machine's process has ended: the next one is looked at from the beginning."""
        self._seen.pop(machine, None)
