"""The network between nodes, and what can be done to it: one protocol, two ways.

`ProxyLinks` sends every connection between nodes through a proxy (`txndb.testing.proxy`): it can block and delay,
works everywhere, and loses nothing, for it is TCP. `NamespaceLinks` (`txndb.testing.jepsen.namespaces`) gives every
node a network of its own: it can block and lose packets, and delay them where the kernel has netem.

A link is (node that sends, node that receives). Clients reach every node over links of their own, which stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec

from txndb.testing.cluster import HOST, free_port
from txndb.testing.proxy import FaultProxy, Link

PROXY: Final = "proxy"
NETNS: Final = "netns"


class Place(msgspec.Struct, frozen=True):
    """Where a node runs: its listeners, how others reach it, and what its command begins with."""

    rpc: str
    advertise: str
    sql: str = f"{HOST}:0"
    http: str = f"{HOST}:0"
    options: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()


class Links(Protocol):
    """The network between the nodes of one cluster. Methods block, and may be called from any thread but one at a
    time."""

    kind: str
    can_delay: bool
    can_lose: bool

    def place(self, node: int) -> Place:
        """Make a place for a node that does not run yet."""

    def block(self, links: Iterable[Link]) -> None:
        """Nothing passes these links until as many `unblock`s."""

    def unblock(self, links: Iterable[Link]) -> None:
        """The links pass packets again."""

    def delay(self, links: Iterable[Link], seconds: float) -> None:
        """What passes takes so much longer; 0 ends it."""

    def lose(self, links: Iterable[Link], percent: int) -> None:
        """Of every hundred packets so many (below 100) are dropped, by chance; 0 ends it."""

    def heal(self) -> None:
        """The network is whole again."""

    def close(self) -> None:
        """Remove everything."""


class ProxyLinks:
    """See the module. `pids` says which process each node is at the moment."""

    kind = PROXY
    can_delay = True
    can_lose = False

    def __init__(self, pids: Callable[[], dict[int, int]]) -> None:
        self._proxy = FaultProxy(pids)

    def place(self, node: int) -> Place:
        port = free_port()
        door = self._proxy.open_door(node, (HOST, port))
        return Place(rpc=f"{HOST}:{port}", advertise=f"{HOST}:{door}")

    def block(self, links: Iterable[Link]) -> None:
        self._proxy.block(links)

    def unblock(self, links: Iterable[Link]) -> None:
        self._proxy.unblock(links)

    def delay(self, links: Iterable[Link], seconds: float) -> None:
        self._proxy.delay(links, seconds)

    def lose(self, links: Iterable[Link], percent: int) -> None:
        raise ValueError("a proxy of TCP connections loses no packets")

    def heal(self) -> None:
        self._proxy.heal()

    def close(self) -> None:
        self._proxy.close()


def halves(one: Iterable[int], other: Iterable[int]) -> list[Link]:
    """The links between two groups, both ways."""
    others = list(other)
    return [link for a in one for b in others for link in ((a, b), (b, a))]
