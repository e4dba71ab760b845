"""The reference answers: a fresh database `defaultdb` of a real PostgreSQL 15, read as text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.adapt import Loader


class _Text(Loader):
    """Every value as the server wrote it."""

    def load(self, data: bytes | bytearray | memoryview) -> str:
        return bytes(data).decode()


@contextmanager
def reference_database(url: str) -> Iterator[psycopg.Connection]:
    """A connection to a new database of the server at `url`, dropped at the end; values come as text."""
    with psycopg.connect(url, autocommit=True) as first:
        first.execute("create database defaultdb")
        try:
            with psycopg.connect(url, dbname="defaultdb", autocommit=True) as conn:
                conn.adapters.register_loader(0, _Text)
                for row in conn.execute(
                    "select oid from pg_type where typtype in ('b', 'p', 'd')"
                ).fetchall():
                    conn.adapters.register_loader(int(row[0]), _Text)
                yield conn
        finally:
            first.execute("drop database defaultdb")
