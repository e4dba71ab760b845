"""What real psql shows of the catalogue: golden scripts, run through the wire server over one node's sessions."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types import TypeInfo

from tests.goldenlib import golden_paths, run_golden_text
from tests.sql.pgcatalog.world import make_services
from txndb.server.pg import PgServer
from txndb.sql.session.session import open_session

BOUND_S = 60


async def _serve() -> tuple[PgServer, int]:
    services = make_services()

    def new_session(user: str, database: str, options: dict[str, str]) -> Any:
        return open_session(services, user, database, options)

    server = PgServer(new_session)
    return server, await server.start("127.0.0.1", 0)


async def _psql(port: int, script: str) -> str:
    """What psql prints, errors included, without trailing blanks."""
    process = await asyncio.create_subprocess_exec(
        "psql",
        f"postgresql://root@127.0.0.1:{port}/defaultdb",
        "--no-psqlrc",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PGCONNECT_TIMEOUT": "10", "LC_ALL": "C.UTF-8"},
    )
    async with asyncio.timeout(BOUND_S):
        output, _ = await process.communicate(script.encode())
    return "\n".join(line.rstrip() for line in output.decode().splitlines())


@pytest.mark.parametrize("path", golden_paths("pgcatalog"), ids=lambda path: path.stem)
def test_psql(path: Path) -> None:
    if shutil.which("psql") is None:
        pytest.skip("psql is not installed (Debian: postgresql-client)")
    with asyncio.Runner() as runner:
        server, port = runner.run(_serve())
        try:
            run_golden_text(path, lambda script: runner.run(_psql(port, script + "\n")))
        finally:
            runner.run(server.close())


def test_psycopg_reads_types_and_describes_parameters() -> None:
    """What psycopg asks when a program registers adapters, and the extended protocol over catalogue queries."""

    async def story() -> list[Any]:
        server, port = await _serve()
        try:
            conn = await psycopg.AsyncConnection.connect(
                f"postgresql://root@127.0.0.1:{port}/defaultdb", autocommit=True
            )
            async with conn:
                uuid = await TypeInfo.fetch(conn, "uuid")
                missing = await TypeInfo.fetch(conn, "hstore")
                assert uuid is not None
                await conn.execute("create table t(a int primary key)")
                cursor = await conn.execute(
                    "select relname, relkind from pg_class where oid = %s::regclass", ("t",)
                )
                row = await cursor.fetchone()
                cursor = await conn.execute(
                    "select %s::regtype::oid, %s::regclass::text", ("int8", "t"), binary=True
                )
                return [uuid.oid, uuid.array_oid, missing, row, await cursor.fetchone()]
        finally:
            await server.close()

    assert asyncio.run(story()) == [2950, 2951, None, ("t", "r"), (20, "t")]
