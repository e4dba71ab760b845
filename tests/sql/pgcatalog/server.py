"""A PostgreSQL 15 of the test's own: the reference answers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.adapt import Loader

_BIN = Path("/usr/lib/postgresql/15/bin")
BOUND_S = 60


class _Text(Loader):
    """Every value as the server wrote it."""

    def load(self, data: bytes | bytearray | memoryview) -> str:
        return bytes(data).decode()


def _as_postgres(*command: str) -> list[str]:
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


def _run(*command: str) -> None:
    # (a server started by pg_ctl would keep a pipe open)
    done = subprocess.run(
        _as_postgres(*command),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, f"{command} failed with {done.returncode}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def postgres() -> Iterator[psycopg.Connection]:
    """A connection of `root` to the database `defaultdb` of a new server; values come as text."""
    if not (_BIN / "initdb").exists() or (os.geteuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("PostgreSQL 15 is not installed (Debian: postgresql-15)")
    with tempfile.TemporaryDirectory(prefix="txndb-reference-") as name:
        home = Path(name)
        if os.geteuid() == 0:
            shutil.chown(home, "postgres")
        data = str(home / "data")
        _run(
            str(_BIN / "initdb"),
            "-D",
            data,
            "-U",
            "root",
            "--locale=C.UTF-8",
            "-E",
            "UTF8",
            "-A",
            "trust",
            "-N",
        )
        port = _free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
        control = str(_BIN / "pg_ctl")
        _run(control, "-D", data, "-o", options, "-l", str(home / "log"), "-w", "start")
        try:
            with psycopg.connect(
                host="127.0.0.1", port=port, user="root", dbname="postgres", autocommit=True
            ) as first:
                first.execute("create database defaultdb")
            with psycopg.connect(
                host="127.0.0.1", port=port, user="root", dbname="defaultdb", autocommit=True
            ) as conn:
                conn.adapters.register_loader(0, _Text)
                for row in conn.execute(
                    "select oid from pg_type where typtype in ('b', 'p', 'd')"
                ).fetchall():
                    conn.adapters.register_loader(int(row[0]), _Text)
                yield conn
        finally:
            _run(control, "-D", data, "-m", "immediate", "-w", "stop")
