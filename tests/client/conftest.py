"""The databases the driver is tested against: embedded, a node of its own process, and PostgreSQL where installed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from txndb.client import Connection, connect

Connect = Callable[..., Connection]


@pytest.fixture(scope="session")
def node_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node of its own process."""
    home = tmp_path_factory.mktemp("node")
    listen = [f"--{name}=127.0.0.1:0" for name in ("sql", "rpc", "http")]
    command = [sys.executable, "-m", "txndb.shell.cli", "start", f"--data={home / 'data'}", *listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = next((line for line in process.stdout if "postgresql://" in line), "")
            start = line.index("postgresql://")
            yield line[start:].split()[0].rstrip(",")
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()


@pytest.fixture(scope="session")
def embedded() -> Iterator[Connect]:
    """A database in this process."""
    with connect(autocommit=True) as first:

        def connect_embedded(autocommit: bool = False) -> Connection:
            made = first.clone()
            made.autocommit = autocommit
            return made

        yield connect_embedded


def _by_url(url: str) -> Connect:
    def connect_remote(autocommit: bool = False) -> Connection:
        return connect(url, autocommit=autocommit)

    return connect_remote


@pytest.fixture(params=["embedded", pytest.param("node", marks=pytest.mark.process), "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Opens connections to one database and leaves it without the test's tables."""
    if request.param == "embedded":
        opener: Connect = request.getfixturevalue("embedded")
    else:
        opener = _by_url(request.getfixturevalue(f"{request.param}_url"))
    opened: list[Connection] = []

    def open_another(autocommit: bool = False) -> Connection:
        opened.append(opener(autocommit=autocommit))
        return opened[-1]

    yield open_another
    for connection in opened:
        connection.close()
    with opener(autocommit=True) as cleaner:
        cleaner.execute("DROP TABLE IF EXISTS booze, everything")
