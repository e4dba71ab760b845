"""Which rounds a run is made of: workloads one after another, each with the nemeses that go together.

Not all nemeses do. Loss of packets needs network namespaces, delay needs the proxy where the kernel has no netem,
and under a clock that lies beyond its bound real-time order cannot be asked for, so the strict rounds do without
it. Three kinds of round come of that; with enough workloads each gets one of them in turn (another one with the
next seed), with fewer each gets all.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from txndb.testing.cluster import faketime_library
from txndb.testing.jepsen import disk, namespaces
from txndb.testing.jepsen.links import NETNS, PROXY
from txndb.testing.jepsen.run import Round


class Kind(msgspec.Struct, frozen=True):
    """A kind of round."""

    links: str
    nemesis: tuple[str, ...]


def unavailable(nemeses: Sequence[str]) -> dict[str, str]:
    """Those of the nemeses that cannot be had on this machine, and why."""
    missing: dict[str, str] = {}
    if "loss" in nemeses and (why := namespaces.why_not()):
        missing["loss"] = why
    if faketime_library() is None:
        for kind in ("clock", "clock-beyond"):
            if kind in nemeses:
                missing[kind] = "libfaketime is not installed (Debian: faketime)"
    if "disk-full" in nemeses and (why := disk.why_not()):
        missing["disk-full"] = why
    return missing


def kinds_of(nemeses: Sequence[str], has_namespaces: bool, has_netem: bool) -> list[Kind]:
    """The kinds of rounds that cover these nemeses; without any, one calm kind."""
    inside = tuple(n for n in nemeses if n != "delay" or has_netem)
    through = tuple(n for n in nemeses if n != "loss")
    strict_inside = tuple(n for n in inside if n != "clock-beyond")
    strict_through = tuple(n for n in through if n != "clock-beyond")
    kinds = []
    if has_namespaces and strict_inside:
        kinds.append(Kind(NETNS, strict_inside))
    if strict_through and (not has_namespaces or set(strict_through) - set(strict_inside)):
        kinds.append(Kind(PROXY, strict_through))
    if "clock-beyond" in nemeses:
        beyond = Kind(NETNS, inside) if has_namespaces else Kind(PROXY, through)
        kinds.append(
            msgspec.structs.replace(beyond, nemesis=tuple(n for n in beyond.nemesis if n != "clock"))
        )
    return kinds or [Kind(NETNS if has_namespaces else PROXY, ())]


def plan_rounds(
    workloads: Sequence[str],
    nemeses: Sequence[str],
    missing: dict[str, str],
    *,
    nodes: int,
    seconds: float,
    clients: int,
    seed: int,
) -> list[Round]:
    """The rounds; the seconds are divided among them."""
    wanted = tuple(n for n in nemeses if n not in missing)
    has_namespaces = not namespaces.why_not()
    kinds = kinds_of(wanted, has_namespaces, has_namespaces and not namespaces.why_no_netem())
    if len(workloads) >= len(kinds):
        pairs = [(workload, kinds[(seed + i) % len(kinds)]) for i, workload in enumerate(workloads)]
    else:
        pairs = [(workload, kind) for workload in workloads for kind in kinds]
    return [
        Round(
            workload=workload,
            nemesis=kind.nemesis,
            links=kind.links,
            nodes=nodes,
            clients=clients,
            seconds=seconds / len(pairs),
            seed=seed + number,
            skipped={**missing, **{n: "in another round" for n in wanted if n not in kind.nemesis}},
        )
        for number, (workload, kind) in enumerate(pairs)
    ]
