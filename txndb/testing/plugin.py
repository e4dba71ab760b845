"""The pytest plugin: clusters as fixtures, faults as method calls, seeds that repeat.

    def test_transfer_survives(txndb_world):
        connection = txndb_world.connect()
        ...
        txndb_world.crash(1)

`txndb_world` is a simulated cluster (`world`), `txndb_cluster` a real one of processes (`cluster`); both have three
nodes, or as many as the marker `@pytest.mark.txndb(nodes=5)` says. A run draws one base seed, prints it in its header
and takes another with `--txndb-seed`; each test's own seed follows from it and from the test's name, so a test that
failed in a suite fails alone as well. A failure's report ends with the line that repeats it and the end of the story.

Loaded by pytest through the entry point `txndb`; it imports the database only when a fixture is used.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import pytest

if TYPE_CHECKING:
    from txndb.testing.cluster import RealCluster
    from txndb.testing.world import SimulatedCluster

NODES: Final = 3
STORY_LINES: Final = 30
_SEED = pytest.StashKey[int]()
_STORY = pytest.StashKey[Sequence[str]]()
"""The end of a world's story, kept when its fixture closes before the report is made."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--txndb-seed`."""
    group = parser.getgroup("txndb", "clusters of txndb")
    group.addoption(
        "--txndb-seed", type=int, default=None, metavar="N", help="Base seed of clusters; drawn if not given."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed (once for all processes of a parallel run) and declare the marker."""
    if config.option.txndb_seed is None:
        config.option.txndb_seed = random.SystemRandom().randrange(1 << 31)
    config.addinivalue_line("markers", "txndb(nodes=3): the size of the test's cluster")


def pytest_report_header(config: pytest.Config) -> str:
    """The seed, so that every log of a run has it."""
    return f"txndb: --txndb-seed={config.option.txndb_seed}"


def seed_of(base: int, nodeid: str) -> int:
    """A test's own seed: the same alone and in any order."""
    return (base * 0x9E3779B1 + crc32(nodeid.encode())) % (1 << 31)


def _nodes(request: pytest.FixtureRequest) -> int:
    marker = request.node.get_closest_marker("txndb")
    return int(marker.kwargs.get("nodes", NODES)) if marker is not None else NODES


@pytest.fixture
def txndb_world(request: pytest.FixtureRequest) -> Iterator[SimulatedCluster]:
    """A simulated cluster: virtual time, faults on demand, the same course for the same seed."""
    from txndb.testing.world import SimulatedCluster

    base: int = request.config.option.txndb_seed
    with SimulatedCluster(_nodes(request), seed_of(base, request.node.nodeid)) as world:
        request.node.stash[_SEED] = base
        try:
            yield world
        finally:
            request.node.stash[_STORY] = world.story[-STORY_LINES:]


@pytest.fixture
def txndb_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealCluster]:
    """A cluster of real processes on this machine, below a temporary directory."""
    from txndb.testing.cluster import RealCluster

    base: int = request.config.option.txndb_seed
    directory = tmp_path_factory.mktemp("txndb")
    with RealCluster(directory, _nodes(request), seed_of(base, request.node.nodeid)) as cluster:
        request.node.stash[_SEED] = base
        try:
            yield cluster
        finally:
            request.node.stash[_STORY] = cluster.story[-STORY_LINES:]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add how to repeat it, and what happened, to a failed test's report."""
    report = yield
    if report.failed and _SEED in item.stash:
        lines = [f'repeat with: pytest "{item.nodeid}" --txndb-seed={item.stash[_SEED]}']
        story = item.stash[_STORY] if _STORY in item.stash else _story_so_far(item)
        lines += story
        report.sections.append(("txndb", "\n".join(lines)))
    return report


def _story_so_far(item: pytest.Item) -> list[str]:
    """The test's fixture is still open while the test itself is reported."""
    arguments: dict[str, Any] = getattr(item, "funcargs", {})
    for name in ("txndb_world", "txndb_cluster"):
        if name in arguments:
            story: list[str] = arguments[name].story[-STORY_LINES:]
            return story
    return []
