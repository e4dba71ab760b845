"""The databases the driver is tested against: embedded, a node of its own process, and PostgreSQL where installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from txndb.client import Connection, connect

POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")
BOUND_S = 60

Connect = Callable[..., Connection]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A throw-away PostgreSQL: the driver must speak the protocol as the original does."""
    if not (POSTGRES_BIN / "initdb").exists():
        pytest.skip("PostgreSQL 15 is not installed")
    home = Path(tempfile.mkdtemp(prefix="txndb-postgres-"))  # below a path that another user may enter
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if user is not None:
        owner = pwd.getpwnam(user)
        os.chown(home, owner.pw_uid, owner.pw_gid)
    data = home / "data"

    def run(*command: str | Path) -> None:
        null = subprocess.DEVNULL
        subprocess.run(command, check=True, user=user, cwd=home, timeout=BOUND_S, stdout=null, stderr=null)

    run(POSTGRES_BIN / "initdb", "-D", data, "-A", "trust", "-U", "root", "-N", "--locale=C.UTF-8")
    port = free_port()
    options = f"-F -p {port} -k {home} -c listen_addresses=127.0.0.1"
    run(POSTGRES_BIN / "pg_ctl", "-D", data, "-w", "-o", options, "start")
    yield f"postgresql://root@127.0.0.1:{port}/postgres"
    run(POSTGRES_BIN / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    shutil.rmtree(home)


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
