"""What tests of several packages stand on: a throw-away PostgreSQL 15, the model of every answer SQL gives."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")
START_ATTEMPTS_MAX = 5
BOUND_S = 60


def free_port() -> int:
    """A port nobody listened on a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of this test process; skips where it is not installed."""
    if not (POSTGRES_BIN / "initdb").exists():
        pytest.skip("PostgreSQL 15 is not installed (Debian: postgresql-15)")
    home = Path(tempfile.mkdtemp(prefix="txndb-postgres-"))  # below a path that another user may enter
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if user is not None:
        owner = pwd.getpwnam(user)
        os.chown(home, owner.pw_uid, owner.pw_gid)
    data = home / "data"

    def run(*command: str | Path) -> int:
        null = subprocess.DEVNULL
        return subprocess.run(
            command, user=user, cwd=home, timeout=BOUND_S, stdout=null, stderr=null
        ).returncode

    assert (
        run(POSTGRES_BIN / "initdb", "-D", data, "-A", "trust", "-U", "root", "-N", "--locale=C.UTF-8") == 0
    )
    for _ in range(START_ATTEMPTS_MAX):  # it cannot choose a port itself, so another process may be faster
        port = free_port()
        options = f"-F -p {port} -k {home} -c listen_addresses=127.0.0.1 -c timezone=UTC"
        if run(POSTGRES_BIN / "pg_ctl", "-D", data, "-w", "-o", options, "start") == 0:
            break
    else:
        pytest.fail("PostgreSQL did not start")
    yield f"postgresql://root@127.0.0.1:{port}/postgres"
    run(POSTGRES_BIN / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    shutil.rmtree(home)
